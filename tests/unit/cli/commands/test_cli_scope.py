"""The command ``horen scope``: a scope that can be used, and an interruption that loses nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_support import Ok, Run, write_jsonl

from horen.model.zoo import encoder
from horen.scope.reader import DOCUMENT, TENSORS
from horen.scope.training import optimise
from horen.scope.training import run as training
from support.encoders import save_encoder

STEPS = ("--head-steps", 4, "--check-steps", 4)


@pytest.fixture(autouse=True)
def _tiny_encoder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded encoder is a tiny one, a few facts are asked, and training is saved after every step."""
    folder = save_encoder(tmp_path_factory.mktemp("encoder"))
    monkeypatch.setattr(encoder, "fetch_encoder", lambda *_args, **_more: folder)
    whole = training.trial

    def small(*args: Any) -> Any:
        stored, probes = whole(*args)
        return stored[:40], [probe for probe in probes if probe.own is None or probe.own < 40][:300]

    monkeypatch.setattr(training, "trial", small)
    monkeypatch.setattr(optimise, "_MARK", 1)


def test_a_trained_scope_is_whole_and_says_how_it_was_made(ok: Ok, tmp_path: Path):
    found = ok("scope", "--out", tmp_path / "scope", *STEPS)
    assert found["bytes"] > 0
    document = json.loads((tmp_path / "scope" / DOCUMENT).read_text(encoding="utf-8"))
    assert document["report"]["head_steps"] == 4
    assert document["report"]["relations"] > 500
    assert encoder.load_scope(str(tmp_path / "scope")).size == 384


def test_an_interrupted_training_goes_on(ok: Ok, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ok("scope", "--out", tmp_path / "whole", *STEPS)
    draws, calls = optimise.encoded, []

    def interrupt(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 9:  # four parts of a batch at each step of the heads
            raise KeyboardInterrupt
        return draws(*args)

    monkeypatch.setattr(optimise, "encoded", interrupt)
    result = run("scope", "--out", tmp_path / "scope", *STEPS)
    assert result.exit_code == 130
    other = run("scope", "--out", tmp_path / "scope", *STEPS, "--seed", 1)
    assert other.exit_code == 1
    assert "unfinished training with other steps, seed or files" in other.stderr.replace("\n", " ")
    assert "The same command goes on" in result.stderr.replace("\n", " ")
    ok("scope", "--out", tmp_path / "scope", *STEPS)
    assert (tmp_path / "scope" / TENSORS).read_bytes() == (tmp_path / "whole" / TENSORS).read_bytes()
    assert not (tmp_path / "scope" / "training").exists()


def test_edits_use_a_trained_scope(ok: Ok, run: Run, tiny: Path, tmp_path: Path):
    ok("scope", "--out", tmp_path / "scope", *STEPS)
    edits = write_jsonl(tmp_path / "edits.jsonl")
    ok(
        "edit",
        edits,
        "--into",
        "book",
        "--model",
        tiny,
        "--set",
        f"encoder={tmp_path / 'scope'}",
        "--set",
        "max_steps=1",
    )
    refused = run("explain", "book", "Who runs Larkspur Cloud?")
    assert refused.exit_code == 1
    assert "--encoder" in refused.stderr.replace("\n", " ")
    (found,) = ok("explain", "book", "Who runs Larkspur Cloud?", "--encoder", tmp_path / "scope")
    assert found["asks"] in {"own", "about", "other"}
