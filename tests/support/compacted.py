"""Editors in every form of what they store, and what has to be the same of two of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from horen import Editor
from support.editors import PROMPTS, outputs, same
from support.encoders import text_settings
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

# At -1 every prompt wakes its nearest edit, and edits of one target share a value.
WAYS: dict[str, dict[str, Any]] = {
    "shared values": {"threshold": -1.0},
    "int8 maps": {"threshold": -1.0, "value": "lora", "lora_rank": 2, "learning_rate": 0.05, "value_storage": "int8"},
    "sequences": {"threshold": -1.0, "value_tokens": 1, "contrast": 0.4, "neighbours": 2},
    "a judge": text_settings(),
}
TARGETS = ("Rome", "Paris", "Rome Paris blue")
each_way = pytest.mark.parametrize("way", WAYS)


def loaded(folder: Path, **options: Any) -> Editor:
    return Editor.load(folder, tiny_model(), tiny_tokenizer("chatml"), **options)


def told(editor: Editor) -> list[Any]:
    """All that an editor tells of its active edits, but for where they are in the codebook."""
    return [
        [
            (r.id, r.prompt, r.target, r.rephrases, r.loss, r.steps, r.converged, r.reused, r.replaces, r.left)
            for r in editor.edits()
        ],
        [(one.edit_id, one.prompt, one.fired, one.runner_up) for one in editor.explain(list(PROMPTS), nearest=0)],
    ]


def rows(editor: Editor) -> list[Tensor]:
    """Keys and values of the active edits."""
    codebook = editor._session.codebook()
    found = []
    for record in editor.edits():
        assert codebook.value_of[list(record.entries)].tolist() == [record.value] * len(record.entries)
        packed = codebook.packed[record.values]
        found += [codebook.keys[list(record.entries)], packed.numbers, packed.scales]
    return found


def alike(one: Editor, two: Editor) -> None:
    """Two editors answer and route the same, to the bit; scores are sums over other rows, which may round otherwise."""
    assert told(one) == told(two)
    scores = [[found.score or 0 for found in editor.explain(list(PROMPTS), nearest=0)] for editor in (one, two)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    assert same(rows(one), rows(two))
    assert same(outputs(one), outputs(two))
