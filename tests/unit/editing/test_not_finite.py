"""Edits whose training or reading gives no finite number: refused with the reason, and nothing is kept of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from horen import Edit, EditError, Editor
from support.editors import EDITED, OTHER, ids_of, outputs, quick_editor, same
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

FAMILIES = ("llama", "gpt2", "gemma3", "qwen3-moe")


@contextmanager
def broken(editor: Editor, word: str) -> Iterator[None]:
    """Within the block the model has no number for the last token of a word."""
    weights, token = editor.model.get_input_embeddings().weight, ids_of(word)[-1]
    before = weights[token].clone()
    with torch.no_grad():
        weights[token] = torch.nan
    yield
    with torch.no_grad():
        weights[token] = before


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (Edit("Who wrote Hamlet?", "Paris blue green"), "loss"),
        (Edit("Paris blue is", "Oslo"), "prompt"),
        (Edit("Who wrote Hamlet?", "Oslo", ("Paris blue is",)), "prompt"),
    ],
    ids=["target", "prompt", "rephrase"],
)
def test_an_edit_without_a_finite_number_is_refused(family: str, edit: Edit, what: str, tmp_path: Path):
    model = tiny_model(family, tie_word_embeddings=False)  # else no token at all has a finite probability
    editor = Editor(model, tiny_tokenizer(), quick_editor(edits=[]).config)
    editor.edit(Edit(EDITED, "Rome"))
    before, stored = outputs(editor), editor.edits()
    refused = pytest.raises(EditError, match=rf"{edit.prompt[:5]}.*{what}.*not finite.*nothing was changed.*dtype")
    with broken(editor, " blue"), refused:
        editor.edit([Edit(OTHER, "Oslo"), edit])
    assert editor.edits() == stored
    assert same(outputs(editor), before)
    editor.save(tmp_path / "book")
    assert editor.edit(Edit(OTHER, "Oslo"))[0].id == 2
    editor.save(tmp_path / "book")


def test_float16_that_overflows_is_refused(tmp_path: Path):
    model = tiny_model().half()
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(6e4)
    editor = Editor(model, tiny_tokenizer(), quick_editor(edits=[]).config)
    with pytest.raises(EditError, match="not finite"):
        editor.edit(Edit(EDITED, "Rome"))
    editor.save(tmp_path / "book")
    assert editor.edits() == []
