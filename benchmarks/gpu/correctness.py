"""Part 1: edited models route and answer on the device as on the processor.

Edits are made on the processor, saved, and loaded beside the same weights on the device; and made anew there.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from edit_quality import tokens
from gpu.models import Fact, facts, tiny_model, word_tokenizer
from gpu.report import Report
from horen import Edit, Editor, HorenConfig
from horen.data import load_bank
from horen.edits import Explanation
from horen.model.zoo.loading import load_model

# How far scores in float32 may be apart, and from the threshold for what fires to be sure.
_SCORE = 1e-3
_NEW = 6
_BATCH = 32
_THREADS = 4
_PRESETS = ("activations", "paper")


def check(report: Report, device: torch.device, *, families: Sequence[str], model: str | None, count: int) -> None:
    """Compare every family, and a real model where one is named; fail in the end if float32 differs anywhere."""
    bad = []
    tokenizer = word_tokenizer()
    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, _THREADS))  # tiny tensors are slower on many
    for family in families:
        for dtype in (torch.float32, torch.bfloat16):
            for preset in _PRESETS if family == "llama" else _PRESETS[:1]:
                pair = tiny_model(family).to(dtype), tokenizer
                # Of random weights a value reaches the word that it stands before, and hardly any later one.
                config = HorenConfig.from_preset(preset, train_end=False)
                bad += _noted(report, f"tiny {family}", pair, device, config, count)
    torch.set_num_threads(threads)
    if model is not None:
        for dtype in (torch.float32, torch.bfloat16):
            bad += _noted(
                report, "model", load_model(model, dtype=dtype), device, HorenConfig.from_preset("activations"), count
            )
    assert not bad, f"float32 differs from the processor: {', '.join(bad)}."


def _noted(
    report: Report,
    name: str,
    pair: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    device: torch.device,
    config: HorenConfig,
    count: int,
) -> list[str]:
    dtype = str(pair[0].dtype).removeprefix("torch.")
    found = {"model": name, "dtype": dtype, "preset": config.preset, **compared(*pair, device, config, facts(count))}
    report.add("models", found)
    exact = (
        found["routed_alike"] == 1
        and found["greatest_difference_of_a_score"] <= _SCORE
        and found["answers_alike"]["prompts"] == 1
    )
    return [] if exact or dtype != "float32" else [f"{name}, {config.preset}"]


def compared(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    device: torch.device,
    config: HorenConfig,
    some: Sequence[Fact],
) -> dict[str, Any]:
    """Return how alike routes and answers are, and what edits that are made on the device give."""
    edits = [fact.edit for fact in some]
    texts = {
        "prompts": [edit.prompt for edit in edits],
        "rephrases": [fact.rephrase for fact in some],
        "unrelated": load_bank().unrelated(len(some), seed=1),
    }
    there: Any = copy.deepcopy(model)
    there = there.to(device)
    here = Editor(model, tokenizer, config)
    receipts = here.edit(edits, on_similar="ignore")
    with tempfile.TemporaryDirectory() as place:
        here.save(Path(place) / "edits")
        loaded = Editor.load(Path(place) / "edits", there, tokenizer)
    routes = [_routes(editor, texts) for editor in (here, loaded)]
    answers = [_answers(editor, texts) for editor in (here, loaded)]
    loaded.unwrap()
    anew = Editor(there, tokenizer, config)
    made = anew.edit(edits, on_similar="ignore")
    own = _answers(anew, texts)
    scores = [abs((a.score or 0) - (b.score or 0)) for a, b in zip(*routes, strict=True)]
    return {
        "edits": len(edits),
        "fired": sum(route.fired for route in routes[0]),
        "routed_alike": _share([_alike(*two) for two in zip(*routes, strict=True)]),
        "greatest_difference_of_a_score": max(scores),
        "answers_alike": _alike_answers(*answers),
        "converged": sum(receipt.converged for receipt in receipts),
        "right": _right(loaded, answers[1], edits),
        "made_there": {
            "converged": sum(receipt.converged for receipt in made),
            "right": _right(anew, own, edits),
            "answers_alike": _alike_answers(answers[0], own),
        },
    }


def _routes(editor: Editor, texts: dict[str, list[str]]) -> list[Explanation]:
    return editor.explain([text for some in texts.values() for text in some])


def _alike(one: Explanation, other: Explanation) -> bool:
    """Return whether the same edit fires or none, or the score lies so near to the threshold that rounding decides."""
    same = (one.fired and one.edit_id) == (other.fired and other.edit_id)
    return same or abs((one.score or 0) - one.threshold) <= _SCORE


def _answers(editor: Editor, texts: dict[str, list[str]]) -> dict[str, list[list[int]]]:
    return {kind: tokens(editor, some, _NEW, _BATCH) for kind, some in texts.items()}


def _right(editor: Editor, answers: dict[str, list[list[int]]], edits: Sequence[Edit]) -> float:
    """Return the share of the prompts' answers that begin with the target."""
    said = [str(editor.tokenizer.decode(row)).strip() for row in answers["prompts"]]
    return _share([text.startswith(edit.target) for text, edit in zip(said, edits, strict=True)])


def _alike_answers(one: dict[str, list[list[int]]], other: dict[str, list[list[int]]]) -> dict[str, float]:
    return {kind: _share([a == b for a, b in zip(one[kind], other[kind], strict=True)]) for kind in one}


def _share(same: Sequence[bool]) -> float:
    return sum(same) / len(same)
