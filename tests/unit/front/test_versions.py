"""Views of a codebook: earlier versions, and some edits alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from horen import ConfigError, Edit
from horen.front.versions import Versions, mark
from horen.front.wish import Among
from horen.store.state import CodebookState, Saved
from support.editor_support import busy_editor


def test_versions_are_what_the_codebook_was(tmp_path: Path):
    editor = busy_editor()
    editor.save(tmp_path / "codebook")
    saved = Saved.read(tmp_path / "codebook")
    versions, state = Versions(tmp_path), saved.state()
    count = state.history.count
    assert count > 2
    for version in range(count + 1):
        history, codebook = versions.at(state, version)
        assert history.count == version
        awake = {entry for record in history.active() for entry in record.entries}
        assert len(codebook) == len(awake)
        assert versions.at(state, version)[1] is codebook
    assert len({mark(state.history, version) for version in range(count + 1)}) == count + 1
    assert mark(state.history, count + 1) == ""
    with pytest.raises(ConfigError, match=f"no version {count + 1} .* has had {count} operations"):
        versions.at(state, count + 1)


def test_a_compacted_version_is_gone(tmp_path: Path):
    editor = busy_editor()
    editor.remove(editor.edits()[0].id)
    before = editor.operation_count - 1
    editor.compact()
    editor.edit(Edit("Who keeps the seventh lighthouse?", "Odile"))
    editor.save(tmp_path / "codebook")
    state = Saved.read(tmp_path / "codebook").state()
    versions = Versions(tmp_path)
    assert versions.at(state, editor.operation_count - 1)[0].operations[-1].name == "compact"
    with pytest.raises(ConfigError, match="a compaction has dropped its entries"):
        versions.at(state, before)


@pytest.fixture
def state(tmp_path: Path) -> CodebookState:
    busy_editor().save(tmp_path / "codebook")
    return Saved.read(tmp_path / "codebook").state()


def awake(view: tuple, state: CodebookState) -> set[int]:
    """Ids of the edits that have an entry awake."""
    _, codebook = view
    rows = codebook._awake.rows.tolist()
    return {record.id for record in state.history.stored() for entry in record.entries if rows[entry]}


def test_some_edits_alone(state: CodebookState):
    versions, count = Versions(Path("folder")), state.history.count
    all_of_them = {record.id for record in state.history.active()}
    assert len(all_of_them) > 1
    one = min(all_of_them)
    for among, expected in (
        (Among(frozenset({one})), {one}),
        (Among(without=frozenset({one})), all_of_them - {one}),
        (Among(frozenset({one, 99}), frozenset({one})), set()),
        (Among(frozenset(all_of_them)), all_of_them),
    ):
        view = versions.at(state, count, among)
        assert awake(view, state) == expected == {number for number in all_of_them if among.has(number)}
        assert view[1].keys.data_ptr() == state.keys.data_ptr()
        assert view[1].values.data_ptr() == state.values.numbers.data_ptr()
        assert versions.at(state, count, Among(among.only, among.without))[1] is view[1]


def test_an_edit_that_was_not_active_then_is_not_woken(state: CodebookState):
    versions = Versions(Path("folder"))
    gone = next(record.id for record in state.history.stored() if not state.history.is_active(record.id))
    assert awake(versions.at(state, state.history.count, Among(frozenset({gone}))), state) == set()
    assert awake(versions.at(state, 1, Among(frozenset({1}))), state) == {1}


def test_the_last_views_are_kept(state: CodebookState):
    versions, count = Versions(Path("folder")), state.history.count
    views = [versions.at(state, count, Among(frozenset({number})))[1] for number in range(4)]
    assert versions.at(state, count, Among(frozenset({0})))[1] is views[0]
    versions.at(state, count, Among(frozenset({9})))
    assert versions.at(state, count, Among(frozenset({0})))[1] is views[0]
    assert versions.at(state, count, Among(frozenset({1})))[1] is not views[1]
    versions.forget()
    assert versions.at(state, count, Among(frozenset({0})))[1] is not views[0]
