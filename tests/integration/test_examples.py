"""The examples run, and the one that shows the method routes prompts as the package does."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from horen import Edit, Editor, HorenConfig
from horen.model.zoo.embedded import fetch
from horen.model.zoo.loading import load_model

pytestmark = pytest.mark.real

MODEL = "smollm2-135m-instruct"
EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # where dataclasses look for their module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def minimal() -> ModuleType:
    return example("minimal_horen")


@pytest.fixture(scope="module")
def small(minimal: ModuleType) -> Any:
    """The model of the single file, with its facts."""
    made = minimal.Horen(str(fetch(MODEL)))
    made.edit([(prompt, target) for prompt, _, target in minimal.FACTS])
    return made


def test_the_single_file_answers_what_it_was_taught(minimal: ModuleType, small: Any) -> None:
    assert [small.ask(prompt)[0] for prompt, _, _ in minimal.FACTS] == [target for _, _, target in minimal.FACTS]


def test_the_single_file_leaves_other_prompts_alone(minimal: ModuleType, small: Any) -> None:
    for text in minimal.UNRELATED[:2]:
        ids = small.tokenizer(text, return_tensors="pt").input_ids
        found = small.model(ids).logits
        assert not small.match.fired
        keys, small.keys = small.keys, small.keys[:0]
        assert torch.equal(small.model(ids).logits, found)
        small.keys = keys


def test_the_single_file_routes_as_the_package(minimal: ModuleType, small: Any) -> None:
    """With the settings that the file implements: raw keys of one site, the gate by threshold alone."""
    config = HorenConfig.paper(
        read_sites=f"mlp_hidden@{minimal.READ}",
        read_share=minimal.SHARE,
        write_layer=minimal.WRITE,
        threshold=minimal.THRESHOLD,
        alpha=minimal.ALPHA,
        beta=minimal.BETA,
        steps=minimal.STEPS,
        epsilon=minimal.EPSILON,
        max_steps=1,  # keys do not depend on values
    )
    editor = Editor(*load_model(MODEL), config)
    editor.edit([Edit(prompt, target) for prompt, _, target in minimal.FACTS])
    texts = [text for prompt, rephrase, _ in minimal.FACTS for text in (prompt, rephrase)] + minimal.UNRELATED
    fired = 0
    for text, expected in zip(texts, editor.explain(texts, nearest=0), strict=True):
        small.model(small.tokenizer(text, return_tensors="pt").input_ids)
        found = small.match
        assert (found.entry + 1, found.fired) == (expected.edit_id, expected.fired), text
        assert found.score == pytest.approx(expected.score, abs=1e-4)
        fired += found.fired
    assert fired == 2 * len(minimal.FACTS)


def test_the_single_file_is_short() -> None:
    assert len((EXAMPLES / "minimal_horen.py").read_text().splitlines()) <= 200
    others = [path for path in EXAMPLES.glob("*.py") if path.name != "minimal_horen.py"]
    assert len(others) == 3
    assert all(len(path.read_text().splitlines()) <= 60 for path in others)


def test_edit_and_chat(capsys: pytest.CaptureFixture[str]) -> None:
    example("edit_and_chat").main()
    said = capsys.readouterr().out.splitlines()
    assert said[:4] == [
        "in other words: Ada Morrow",
        "in chat: a blue heron",
        "corrected: Jonas Beck",
        "taken back: Ada Morrow",
    ]
    assert "Ada Morrow" not in said[4]


def test_edit_from_file(capsys: pytest.CaptureFixture[str]) -> None:
    example("edit_from_file").main()
    said = capsys.readouterr().out
    assert "edit 3: added" in said
    assert "loaded: ['Perpetua Oduya', 'Bruma', '4471']" in said
    assert "undone: (3,) left: ['Perpetua Oduya', 'Bruma']" in said


def test_explain_and_check(capsys: pytest.CaptureFixture[str]) -> None:
    example("explain_and_check").main()
    said = capsys.readouterr().out.splitlines()
    assert [line.rstrip().endswith("fires") for line in said[:5]] == [True, True, False, False, False]
    assert said[5] == "healthy: True"
    assert said[6].startswith("at 0.9 these fire: ['What is the mascot of Varley College?'")
