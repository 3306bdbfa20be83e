"""An editor whose codebook has an index: it answers alike, and goes together with those that have none."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from horen import Edit, Editor, HorenConfig, MissingExtraError
from horen.asking import doctor
from horen.editing.rekey import rekey_folder
from horen.memory.search import index, sketch
from horen.session import Session
from support.editor_support import busy_editor
from support.editors import EDITED, QUICK, REPHRASED, outputs, quick_editor, same
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

pytest.importorskip("faiss")

MANY = [Edit(EDITED, "Rome", (REPHRASED,)), *(Edit("very " * n + "blue", "Oslo") for n in range(30))]


@pytest.fixture(autouse=True)
def proposed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let codes begin with few keys; how many candidates were asked for."""
    monkeypatch.setattr(index, "FROM", 24)
    monkeypatch.setattr(sketch, "FROM", 24)
    monkeypatch.setattr(index, "BESIDE", 3)
    monkeypatch.setattr(doctor, "_SAMPLE", 20)
    asked: list[int] = []
    propose = index.Index.propose
    monkeypatch.setattr(
        index.Index, "propose", lambda own, queries, count: asked.append(count) or propose(own, queries, count)
    )
    return asked


def many(**settings: object) -> Editor:
    return quick_editor(edits=MANY, **settings)


def test_it_answers_as_the_exact_editor_through_all_that_is_done_to_it(tmp_path: Path, proposed: list[int]):
    one, other = many(index="approximate", index_candidates=20), many()
    actions: list[Callable[[Editor], object]] = [
        Editor.edits,
        lambda editor: editor.edit(Edit("It is blue", "Oslo")),
        lambda editor: editor.supersede(1, "Mira Sand"),
        lambda editor: editor.remove([2, 3, 32]),
        Editor.undo,
    ]
    for action in actions:
        action(one)
        action(other)
        proposed.clear()
        assert same(outputs(one), outputs(other))
        assert proposed
    one.save(tmp_path)
    again = Editor.load(tmp_path, tiny_model(), tiny_tokenizer())
    proposed.clear()
    assert same(outputs(again), outputs(other))
    assert proposed


def test_rekeying_to_another_search_keeps_the_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    editor = busy_editor()
    keys, before = editor._session.codebook().keys.clone(), outputs(editor)
    editor.save(tmp_path)
    monkeypatch.setattr(Session, "keys", lambda *_: pytest.fail("keys were read"))
    editor.rekey(editor.config.replace(index="approximate"))
    assert torch.equal(editor._session.codebook().keys, keys)
    assert same(outputs(editor), before)
    model, tokenizer = tiny_model(), tiny_tokenizer()
    rekey_folder(tmp_path, model, tokenizer, editor.config)
    again = Editor.load(tmp_path, model, tokenizer)
    assert again.config.index == "approximate"
    assert same(outputs(again), before)


def test_codebooks_that_are_searched_otherwise_go_together(tmp_path: Path):
    quick_editor().save(tmp_path)
    editor = quick_editor(edits=[Edit("It is blue", "Paris")], index="approximate", index_candidates=32)
    editor.merge(tmp_path)
    assert len(editor.edits()) == 2
    editor.restore(tmp_path)
    assert len(editor.edits()) == 1
    assert editor.config.index == "approximate"


def test_the_check_up_measures_recall():
    assert many(index="approximate", index_candidates=30).doctor(chat=False).recall == 1.0
    assert many().doctor(chat=False).recall is None
    assert quick_editor(index="approximate").doctor().recall is None


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    quick_editor(index="approximate").save(tmp_path)
    monkeypatch.setitem(sys.modules, "faiss", None)
    model = tiny_model()
    with pytest.raises(MissingExtraError, match=r"horen\[index\]"):
        Editor(model, tiny_tokenizer(), HorenConfig(**(dict(QUICK) | {"index": "approximate"})))
    with pytest.raises(MissingExtraError, match=r"horen\[index\]"):
        Editor.load(tmp_path, model, tiny_tokenizer())
    editor = quick_editor()
    with pytest.raises(MissingExtraError, match=r"horen\[index\]"):
        editor.rekey(editor.config.replace(index="approximate"))
    assert editor.explain(EDITED).fired
