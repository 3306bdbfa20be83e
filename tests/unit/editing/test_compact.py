"""Compaction: what is active stays bit for bit, what is not is gone for good, and nothing happens by halves."""

from __future__ import annotations

import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.generation import BaseStreamer

from horen import Compacted, Edit, EditError, EditNotFoundError, Editor, ModelError
from support.compacted import TARGETS, WAYS, alike, each_way, loaded
from support.editor_support import busy_editor
from support.editors import EDITED, OTHER, PROMPTS, REPHRASED, hooks_on, ids_of, logits, outputs, quick_editor, same

# --- against a twin ------------------------------------------------------------------------------------------------

numbers = st.integers(0, 4)
steps = st.one_of(
    st.tuples(st.just("edit"), st.integers(0, 4), st.integers(0, 2)),
    st.tuples(st.just("edit"), st.integers(0, 4), st.integers(0, 2)),
    st.tuples(st.just("remove"), numbers, st.just(0)),
    st.tuples(st.just("supersede"), numbers, st.integers(0, 2)),
    st.tuples(st.just("undo"), st.just(0), st.just(0)),
    st.tuples(st.just("compact"), st.just(0), st.just(0)),
    st.tuples(st.just("load"), st.just(0), st.just(0)),
)


class Twins:
    """An editor that is compacted now and then, and one that never is."""

    def __init__(self, way: str, folder: Path) -> None:
        self.one, self.two = (quick_editor(edits=[], **WAYS[way]) for _ in range(2))
        self.encoder = WAYS[way].get("encoder")
        self.folder, self.depth = folder, 0

    def both(self, name: str, *arguments: Any, **options: Any) -> None:
        before = len(self.two.history())
        results = [getattr(editor, name)(*arguments, **options) for editor in (self.one, self.two)]
        if name in {"edit", "supersede"}:
            assert results[0] == results[1]
        self.depth += len(self.two.history()) - before

    def step(self, name: str, number: int, target: int) -> None:
        active = self.two.edits()
        if name == "edit":
            edit = Edit(PROMPTS[number], TARGETS[target], (f"{PROMPTS[number]} then",) if number % 2 else ())
            self.both("edit", edit, "supersede", on_similar="ignore")
        elif name == "undo":
            self.undo()
        elif name == "compact":
            asleep = {record.id for record in self.one._session.history.stored()} - {r.id for r in active}
            assert set(self.one.compact().edits) == asleep
            self.depth = 0 if asleep else self.depth
            assert len(self.one._session.codebook()) == self.one._session.codebook().entries
        elif name == "load":
            self.one.save(self.folder)
            self.one.unwrap()
            self.one = loaded(self.folder, encoder=self.encoder)
        elif active and name == "remove":
            self.both("remove", active[number % len(active)].id)
        elif active:
            record = active[number % len(active)]
            if record.target != TARGETS[target]:
                self.both("supersede", record.id, TARGETS[target])

    def undo(self) -> None:
        if self.depth:
            assert self.one.undo() == self.two.undo()
            self.depth -= 1
        else:
            with pytest.raises(EditError, match="nothing to undo"):
                self.one.undo()


@each_way
def test_everything_but_undo_goes_on_as_without_it(way: str):
    @settings(max_examples=5)
    @given(steps=st.lists(steps, min_size=4, max_size=10))
    def run(steps: list[tuple[str, int, int]]) -> None:
        with TemporaryDirectory() as place:
            twins = Twins(way, Path(place) / "facts")
            for step in steps:
                twins.step(*step)
            twins.step("compact", 0, 0)
            alike(twins.one, twins.two)
            assert twins.one._session.history.next_id == twins.two._session.history.next_id

    run()


# --- what is dropped -----------------------------------------------------------------------------------------------


def test_what_is_gone_and_what_is_told():
    editor = busy_editor()  # 1 superseded by 4, 2 removed, 5 undone
    size, before = editor.stored_bytes, outputs(editor)
    found = editor.compact()
    assert found == Compacted(edits=(1, 2, 5), entries=4, values=3, freed=size - editor.stored_bytes)
    key = editor._session.codebook().keys.shape[1]
    assert found.freed == 4 * (key + 8) + 3 * 2 * 32
    assert same(outputs(editor), before)
    assert [record.id for record in editor.edits()] == [3, 4]
    last = editor.history()[-1]
    assert (last.name, last.dropped, last.added, last.removed) == ("compact", (1, 2, 5), (), ())
    texts = [(r.id, r.prompt, r.target) for operation in editor.history() for r in operation.added]
    assert texts[:2] == [(1, EDITED, "Rome"), (2, OTHER, "Paris")]
    with pytest.raises(
        EditNotFoundError, match=r"Edit 2 was removed.*compaction has dropped its entries: write it anew"
    ):
        editor.get(2)
    assert editor.edit(Edit(OTHER, "Oslo"))[0].id == 6


def test_undo_ends_at_a_compaction():
    editor = busy_editor()
    editor.compact()
    before = outputs(editor)
    editor.edit(Edit(OTHER, "Oslo"))
    editor.remove([3])
    assert editor.undo().restored == (3,)
    assert editor.undo().removed == (6,)
    assert same(outputs(editor), before)
    with pytest.raises(EditError, match="nothing to undo since operation 6, which compacted"):
        editor.undo()
    assert same(outputs(editor), before)


def test_where_all_is_awake_nothing_is_done():
    editor = quick_editor()
    codebook, history = editor._session.codebook(), editor.history()
    assert editor.compact() == Compacted()
    assert editor._session.codebook() is codebook
    assert editor.history() == history
    editor.undo()
    assert editor.compact().edits == (1,)
    assert editor.compact() == Compacted()


def test_a_codebook_of_which_nothing_is_left(tmp_path: Path):
    editor = quick_editor()
    editor.remove(1)
    editor.compact()
    assert editor.stored_bytes == 0
    assert not editor.explain(EDITED).fired
    editor.save(tmp_path / "facts")
    again = loaded(tmp_path / "facts")
    assert again.doctor().edits == 0
    assert again.edit(Edit(EDITED, "Rome"))[0].id == 2
    assert again.explain(EDITED).fired


def test_a_value_that_an_active_edit_shares_stays():
    editor = quick_editor(edits=[Edit(EDITED, "Rome"), Edit(OTHER, "Paris")], threshold=-1.0)
    assert editor.edit(Edit(f"{EDITED}?", "Rome"), on_similar="ignore")[0].reused
    editor.remove([1, 2])
    before = outputs(editor)
    found = editor.compact()
    assert (found.edits, found.entries, found.values) == ((1, 2), 2, 1)
    assert same(outputs(editor), before)
    editor.remove(3)
    assert (editor.compact().values, editor.stored_bytes) == (1, 0)


def test_a_sequence_of_values_stays_whole():
    editor = quick_editor(edits=[Edit(OTHER, "Paris")], value_tokens=1)
    editor.edit(Edit(EDITED, TARGETS[2]))
    ids = ids_of(EDITED)
    said = [*ids, *editor._session.contexts.renderings(Edit(EDITED, TARGETS[2]))[0]]

    def whole() -> Tensor:
        with editor.prompt_end(len(ids)):
            return logits(editor.model, said)

    before, numbers = whole(), editor.get(2).values
    editor.remove(1)
    editor.compact()
    after = editor.get(2).values
    assert (after.start, len(after)) == (0, len(numbers))
    assert numbers.start > 0 < len(numbers) - 1
    assert torch.equal(whole(), before)


def test_the_index_is_made_anew():
    pytest.importorskip("faiss")
    editor = busy_editor(index="approximate")
    index = editor._session.codebook()._copies.index
    editor.compact()
    assert editor._session.codebook()._copies.index not in (None, index)


def test_routes_of_before_are_not_taken_for_those_of_after():
    editor = busy_editor()
    revision = editor._session.codebook().revision
    editor.compact()
    assert editor._session.codebook().revision > revision


# --- what comes after it -------------------------------------------------------------------------------------------


def test_rekeying_after_it():
    editor, other = busy_editor(), busy_editor()
    calls: list[tuple[int, int]] = []
    editor.compact()
    for one in (editor, other):
        one.rekey(one.config.replace(read_sites="layer_output@0+auto@0"), progress=lambda *counts: calls.append(counts))
    assert calls == [(2, 2), (5, 5)]
    alike(editor, other)


@pytest.mark.parametrize("compacted", ["the part", "the whole"])
def test_merging_after_it(compacted: str, tmp_path: Path):
    part, whole, usual = busy_editor(), quick_editor(edits=[Edit("Banana boats", "Oslo")]), quick_editor(edits=[])
    usual.edit([Edit("Banana boats", "Oslo")])
    part.save(tmp_path / "usual")
    for editor in (whole, usual):
        editor.supersede(1, "Paris")
    if compacted == "the part":
        part.compact()
    else:
        whole.compact()
    part.save(tmp_path / "part")
    whole.merge(tmp_path / "part")
    usual.merge(tmp_path / "usual")
    alike(whole, usual)


# --- folders -------------------------------------------------------------------------------------------------------


def test_history_and_codebook_change_together_or_not_at_all():
    editor = busy_editor()
    before, history, codebook = outputs(editor), editor.history(), editor._session.codebook()
    adapter = type(editor._session.adapter)

    class Interrupted(adapter):  # type: ignore[misc, valid-type]
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if name == "codebook" and value is not codebook:
                raise KeyboardInterrupt

    editor._session._adapter.__class__ = Interrupted
    with pytest.raises(KeyboardInterrupt):
        editor.compact()
    editor._session._adapter.__class__ = adapter
    assert editor._session.codebook() is codebook
    assert editor.history() == history
    assert same(outputs(editor), before)


class Compacting(BaseStreamer):
    """Compacts in the middle of an answer."""

    def __init__(self, editor: Editor) -> None:
        self.editor = editor

    def put(self, _value: object) -> None:
        self.editor.compact()

    def end(self) -> None:
        pass


def test_not_in_the_middle_of_an_answer():
    editor = busy_editor()
    with pytest.raises(ModelError, match="restore, rekey, compact or unwrap it when the answer is there"):
        editor.generate(EDITED, 3, streamer=Compacting(editor))
    assert editor.compact().edits == (1, 2, 5)


def test_who_asks_meanwhile_gets_the_same_answers():
    editor = quick_editor()
    expected = editor.generate([EDITED, REPHRASED], 3), [one.fired for one in editor.explain(list(PROMPTS))]
    over, wrong = threading.Event(), []

    def ask() -> None:
        while not over.is_set():
            found = editor.generate([EDITED, REPHRASED], 3), [one.fired for one in editor.explain(list(PROMPTS))]
            if found != expected:
                wrong.append(found)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(4):
        editor.edit(Edit(f"{number} banana boats live in", "Oslo"))
        editor.remove(editor.edits()[-1].id)
        assert len(editor.compact().edits) == 1
    over.set()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert editor._session.codebook().entries == 2


def test_an_unwrapped_editor_is_compacted_and_saved(tmp_path: Path):
    editor = busy_editor()
    before = outputs(editor)
    model = editor.unwrap()
    assert editor.compact().edits == (1, 2, 5)
    editor.save(tmp_path / "facts")
    assert hooks_on(model) == 0
    assert same(outputs(Editor.load(tmp_path / "facts", model, editor.tokenizer)), before)
