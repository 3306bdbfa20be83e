"""Generating with a wrapped model, and the same worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from horen import Editor
from support.editors import GREEDY, by_hand, padded

NEW = 6


def generated(editor: Editor, rows: list[list[int]], **options: Any) -> Tensor:
    """New tokens alone, [rows, NEW]; the model's own generate is called."""
    inputs = padded(rows, left=True)
    with torch.no_grad():
        found = editor.model.generate(**inputs, **(GREEDY | {"max_new_tokens": NEW} | options))
    return found[:, inputs["input_ids"].shape[1] :]


def greedy_by_hand(editor: Editor, ids: list[int], values: dict[int, Tensor], steps: int = NEW) -> list[int]:
    """The same without the adapter: the whole model at every step, with values at fixed positions."""
    grown = list(ids)
    for _ in range(steps):
        grown.append(int(by_hand(editor, grown, values)[-1].argmax()))
    return grown[len(ids) :]


@contextmanager
def counted(editor: Editor, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many prompts each call of the adapter's route got."""
    adapter, calls = editor._session.adapter, []
    original = adapter.route

    def route(places: Any, features: Any) -> Any:
        calls.append(len(places))
        return original(places, features)

    with monkeypatch.context() as patch:
        patch.setattr(adapter, "route", route)
        yield calls


def routed_by_hand(editor: Editor, ids: list[int]) -> dict[int, Tensor]:
    """The value that the last prompt of a conversation wakes, by position, where every prompt wakes one."""
    adapter, prompt = editor._session.adapter, editor._session.reader.read(ids, len(ids))
    keys = adapter.key_space(adapter.features([ids], [prompt.spans]))
    matches = adapter.codebook.match(keys, editor.config.retrieval())
    best = max(matches, key=lambda match: match.score)
    return {prompt.at: adapter.codebook.values[best.value]}
