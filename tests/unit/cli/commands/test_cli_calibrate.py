"""The command ``horen calibrate``, and editing with what it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_support import EDITS, Ok, Run, write_jsonl
from safetensors.torch import load_file

from support.scopes import save_scope

SITES = "layer_output@0.3"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    lines = [
        {"prompt": f"Who runs town {n}?", "rephrases": [f"The boss of town {n} is"], "neighbours": [f"Who runs {n}?"]}
        for n in range(60)
    ]
    place.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return place


@pytest.fixture(scope="module")
def calibrated(pairs: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory, run: Run) -> Path:
    into = tmp_path_factory.mktemp("calibrated") / "calibration"
    result = run("calibrate", "--model", tiny, "--pairs", pairs, "--sites", SITES, "--out", into)
    assert result.exit_code == 0, result.stderr
    assert "* unrelated prompts" in result.stdout
    assert "Threshold" in result.stdout
    return into


def test_no_activations_are_left(calibrated: Path):
    assert sorted(place.suffix for place in calibrated.iterdir()) == [".json", ".safetensors"]


def settings(book: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((book / "config.json").read_text())["config"]["settings"]
    return found


def test_edits_use_the_calibration(calibrated: Path, tiny: Path, tmp_path: Path, ok: Ok):
    edits, book = write_jsonl(tmp_path / "edits.jsonl"), tmp_path / "book"
    threshold = json.loads((calibrated / "calibration.json").read_text())["settings"]["threshold"]
    first = ok("edit", edits, "--into", book, "--model", tiny, "--calibration", calibrated)
    assert settings(book)["threshold"] == threshold
    again = ok("edit", edits, "--into", book, "--calibration", calibrated)
    assert first["stored"] == again["stored"] == len(EDITS)


def test_the_gate_may_be_changed_and_the_key_space_may_not(
    calibrated: Path, tiny: Path, tmp_path: Path, ok: Ok, run: Run
):
    edits, book = write_jsonl(tmp_path / "edits.jsonl"), tmp_path / "book"
    given = ("edit", edits, "--into", book, "--model", tiny, "--calibration", calibrated, "--set")
    refused = run(*given, "feature_power=1")
    assert refused.exit_code == 1
    assert "feature_power cannot be changed" in refused.stderr.replace("\n", " ")
    assert not book.exists()
    ok(*given, "threshold=0.9")
    assert settings(book)["threshold"] == 0.9


def test_stored_edits_are_read_as_a_calibration_says(calibrated: Path, tiny: Path, tmp_path: Path, ok: Ok, run: Run):
    book, out = tmp_path / "book", tmp_path / "out"
    ok("edit", write_jsonl(tmp_path / "edits.jsonl"), "--into", book, "--model", tiny, "--preset", "activations")
    ok("rekey", book, "--calibration", calibrated, "--out", out, "--set", "threshold=0.4")
    direct = tmp_path / "direct"
    given = ("--preset", "activations", "--calibration", calibrated)
    ok("edit", tmp_path / "edits.jsonl", "--into", direct, "--model", tiny, *given)
    again, made = load_file(out / "codebook.safetensors"), load_file(direct / "codebook.safetensors")
    assert set(again) == set(made)
    for name in {"keys", "key_space.map", "key_space.mean", "token_weights"} & set(made):
        torch.testing.assert_close(again[name], made[name], atol=1e-5, rtol=1e-4)
    assert settings(out) == {**settings(direct), "threshold": 0.4}
    refused = run("rekey", book, "--calibration", calibrated, "--set", "feature_power=0.3")
    assert refused.exit_code == 1
    assert "feature_power cannot be changed" in refused.stderr.replace("\n", " ")


def test_json_names_what_is_promised(pairs: Path, tiny: Path, tmp_path: Path, ok: Ok):
    document = ok("calibrate", "--model", tiny, "--pairs", pairs, "--sites", SITES, "--out", tmp_path / "c")
    assert [item["kind"] for item in document["guarantees"]] == ["unrelated", "neighbour"]
    assert document["guarantees"][0]["held"] is True
    assert document["edits"] == 24


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--false-fire", "0"), "more than 0, below 1"),
        (("--neighbour-fire", "0.01"), "neighbour prompts cannot certify"),
        (("--confidence", "1"), "confidence=1.0 is not valid"),
        (("--sites", "layer_output"), "read_sites"),
        (("--same-subject-fire", "0.5"), "0 same_subject prompts"),
    ],
)
def test_what_cannot_be_promised(
    options: tuple[str, str], message: str, pairs: Path, tiny: Path, tmp_path: Path, run: Run
):
    into = tmp_path / "calibration"
    sites = () if "--sites" in options else ("--sites", "activations")
    result = run("calibrate", "--model", tiny, "--pairs", pairs, "--out", into, *options, *sites)
    assert result.exit_code == 1
    assert message in result.stderr.replace("\n", " ")
    assert not into.exists()


def test_the_default_gate_has_its_threshold_settled(
    pairs: Path, tiny: Path, tmp_path: Path, ok: Ok, run: Run, tmp_path_factory: pytest.TempPathFactory
):
    scope, into = save_scope(tmp_path_factory.mktemp("scope")), tmp_path / "calibration"
    result = run("calibrate", "--model", tiny, "--pairs", pairs, "--encoder", scope, "--out", into)
    assert result.exit_code == 0, result.stderr
    assert "Asks who and what" in result.stdout
    assert "of 60 rephrases of 60 edits" in result.stdout.replace("\n", " ")
    assert sorted(place.suffix for place in into.iterdir()) == [".json", ".safetensors"]
    edits, book = write_jsonl(tmp_path / "edits.jsonl"), tmp_path / "book"
    ok("edit", edits, "--into", book, "--model", tiny, "--calibration", into, "--encoder", scope)
    assert settings(book)["threshold"] == json.loads((into / "calibration.json").read_text())["settings"]["threshold"]
    assert settings(book)["key_space"] == "auto"


def test_a_calibration_of_nothing(tiny: Path, tmp_path: Path, run: Run):
    edits = write_jsonl(tmp_path / "edits.jsonl")
    result = run("edit", edits, "--into", tmp_path / "book", "--model", tiny, "--calibration", tmp_path / "none")
    assert result.exit_code == 1
    assert "holds no calibration" in result.stderr.replace("\n", " ")
    assert not (tmp_path / "book").exists()
