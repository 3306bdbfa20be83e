"""What `horen verify --vllm` notices, with an engine that breaks one rule at a time; tests/engines has vLLM itself."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import select
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_support import EDITS, Run
from transformers import AutoTokenizer

from horen import ModelError
from horen.verify import Verification, verify_serving
from horen.verify.serving import checks, engine, run
from horen.verify.serving.engine import Engine, Said, Setting, environment
from support.engines import StandIn

no_vllm = pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
NAMES = ["starts", "fires", "answers", "chat", "off", "batch", "change", "prefix", "cost", "stock"]


@pytest.fixture
def stood_in(monkeypatch: pytest.MonkeyPatch, tiny: Path) -> Callable[..., None]:
    """Let engines be stand-ins, with faults of the one that serves edits and of the other."""
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny)
    monkeypatch.setattr(run, "require", lambda *_: None)
    monkeypatch.setattr(checks, "_SECONDS", 0)

    def stand_in(*faults: str, stock: str = "") -> None:
        def start(setting: Setting, _place: Path) -> StandIn:
            if setting.codebook is None:
                return StandIn(tokenizer, None, frozenset([stock]))
            return StandIn(tokenizer, Path(setting.codebook), frozenset(faults))

        monkeypatch.setattr(run, "Engine", start)

    stand_in()
    return stand_in


def failed(found: Verification) -> dict[str, str]:
    return {check.name: check.detail for check in found.checks if check.outcome != "pass"}


@no_vllm
def test_without_vllm_the_way_out_is_told(book: Path, run: Run):
    result = run("verify", book, "--vllm")
    assert result.exit_code == 1
    assert result.stderr.strip().endswith("packages that are not installed (vllm): pip install 'horen[vllm]'.")
    assert len(result.stderr.strip().splitlines()) == 1


def test_options_that_do_not_go_together(book: Path, run: Run):
    assert "give --vllm too" in run("verify", book, "--compiled").stderr
    assert "name one" in run("verify", book, "--codebook", book).stderr


def test_an_engine_that_keeps_the_rules(book: Path, stood_in: Any):  # noqa: ARG001
    before = {path.name: path.read_bytes() for path in book.iterdir()}
    found = verify_serving(codebook=book)
    assert [check.name for check in found.checks] == NAMES == list(checks.TITLES)
    assert failed(found) == {}
    assert found.passed
    assert {path.name: path.read_bytes() for path in book.iterdir()} == before
    assert found.facts["engine"] == "none, eager, blocks of 4 tokens"
    report = found.report()
    assert report.startswith("horen verify --vllm: passed\n")
    for secret in (str(book), str(Path.home()), *(edit["prompt"] for edit in EDITS)):
        assert secret not in report


@pytest.mark.parametrize(
    ("fault", "noticed", "told"),
    [
        ("deaf", "fires", "not woken by their own prompts|wake another edit than in transformers, or none"),
        ("misrouted", "fires", "3 of 3 edits .* wake another edit than in transformers"),
        ("misrouted", "chat", "wake another edit than in transformers"),
        ("babbling", "answers", "answered neither by their targets nor as in transformers"),
        ("forced", "off", "6 requests are answered by edits, though they are switched off"),
        ("forced", "batch", "1 answer though they are switched off"),
        ("mixing", "batch", "answered otherwise where edits of others are switched off"),
        ("stale", "change", "a removed edit still answers"),
        ("forgetful", "change", "a running request is told another edit"),
        ("leaking", "prefix", "from a cache that an edit was written into: log-probabilities differ by up to 1"),
    ],
)
def test_a_broken_rule_is_noticed(book: Path, stood_in: Any, fault: str, noticed: str, told: str):
    stood_in(fault)
    found = verify_serving(codebook=book)
    assert not found.passed
    detail = failed(found)[noticed]
    assert re.search(told, detail), detail


def test_an_engine_that_is_not_as_without_the_plugin(book: Path, stood_in: Any):
    stood_in(stock="other")
    found = verify_serving(codebook=book)
    assert list(failed(found)) == ["stock"]
    assert "log-probabilities differ by up to 1" in failed(found)["stock"]
    # Graphs that are compiled in float32 are exact.
    assert not verify_serving(codebook=book, compiled=True).passed
    half = verify_serving(codebook=book, dtype="bfloat16", compiled=True)
    assert {check.name: check.outcome for check in half.checks}["stock"] == "skipped"


def test_an_engine_that_does_not_start(book: Path, stood_in: Any, monkeypatch: pytest.MonkeyPatch):  # noqa: ARG001
    def start(_setting: Setting, _place: Path) -> StandIn:
        raise ModelError("/home/ada: no memory")

    monkeypatch.setattr(run, "Engine", start)
    found = verify_serving(codebook=book)
    assert not found.passed
    assert {check.name: check.outcome for check in found.checks} == {"starts": "fail"} | dict.fromkeys(
        NAMES[1:], "skipped"
    )
    assert "ada" not in found.report()


def test_a_codebook_without_edits(book: Path, stood_in: Any, ok: Any):  # noqa: ARG001
    ok("remove", book, *range(1, 1 + len(EDITS)))
    found = verify_serving(codebook=book)
    assert set(failed(found)) == {"fires", "answers", "chat", "batch", "change", "prefix", "cost"}
    assert set(failed(found).values()) == {"no edit is stored"}
    assert found.passed  # what wakes nothing is as without the plugin


def test_the_command_prints_a_table_and_a_document(book: Path, run: Run, stood_in: Any, monkeypatch: Any):
    monkeypatch.setattr("horen.extras.require", lambda *_: None)
    result = run("verify", book, "--vllm")
    assert (result.exit_code, result.stdout.count("PASS")) == (0, 2 * len(NAMES)), result.stdout
    stood_in("leaking")
    result = run("verify", book, "--vllm", "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["passed"]) == (1, False)
    assert [check["name"] for check in document["checks"] if check["outcome"] == "fail"] == ["prefix"]


def test_stock_vllm_loads_every_other_plugin():
    given = {"HOREN_CODEBOOK": "x", "HOREN_DISABLED": "1", "PATH": "p"}
    assert environment(given, stock=False) == {"PATH": "p"}
    found = environment(given, stock=True)
    assert found["HOREN_DISABLED"] == "1"
    assert "horen" not in found["VLLM_PLUGINS"].split(",")
    named = environment({"VLLM_PLUGINS": "one,horen,two"}, stock=True)
    assert named["VLLM_PLUGINS"] == "one,two"


SETTING = Setting(model="none", revision=None, dtype="float32", length=64, compiled=False, codebook=None)


@no_vllm
def test_a_process_that_cannot_start_says_why(tmp_path: Path):
    with pytest.raises(ModelError, match=r"MissingExtraError: An engine needs the package vllm"):
        Engine(SETTING, tmp_path)


def test_interruption_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    begun = []
    real = engine.subprocess.Popen

    def note(*args: Any, **kwargs: Any) -> Any:
        begun.append(real(*args, **kwargs))
        return begun[0]

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(engine.subprocess, "Popen", note)
    monkeypatch.setattr(select, "select", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Engine(SETTING, tmp_path)
    assert begun[0].poll() is not None


def test_difference_counts_up_to_where_tokens_part():
    def said(tokens: tuple[int, ...], *logprobs: float) -> Said:
        places = tuple({token: value} for token, value in zip(tokens, logprobs, strict=True))
        return Said("", (), tokens, places, None, None, 0, 0.0)

    one, other = said((1, 2, 3), -1.0, -2.0, -3.0), said((1, 2, 4), -1.5, -2.0, -9.0)
    assert one.apart(other) == 0.5
    assert not one.same(other)
    assert one.same(dataclasses.replace(one, seconds=9.0))


def test_what_came_as_json_has_numbers_again():
    told = {"text": "", "prompt": [1], "tokens": [2], "logprobs": [{"2": -0.5}], "edit": None, "revision": None}
    found = Said.of({**told, "cached": 0, "seconds": 0.0})
    assert found.logprobs == ({2: -0.5},)
