"""Making one codebook of several that were trained apart."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from horen import ConfigError, ConflictError, Edit, Editor, HorenConfig, MismatchError, StoreError
from horen.store import read_folder, write_folder
from support.editors import EDITED, FACTS, OTHER, PROMPTS, QUICK, REPHRASED, quick_editor, taught_editor, value_of
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

ONE = [Edit(EDITED, "Rome", (REPHRASED,)), Edit(OTHER, "Paris")]
TWO = [Edit(PROMPTS[3], "Bacon"), Edit("Seven green boats sail", "Paris"), Edit(PROMPTS[4], "World")]


def part(folder: Path, edits: list[Edit], editor: Editor | None = None, **settings: Any) -> Path:
    editor = editor or quick_editor(edits=[], **settings)
    editor.edit(edits)
    editor.save(folder)
    editor.unwrap()
    return folder


def records(editor: Editor, *without: str) -> list[dict[str, Any]]:
    left_out = {"created", *without}
    return [{k: v for k, v in dataclasses.asdict(r).items() if k not in left_out} for r in editor.edits()]


def tensor(folder: Path, name: str) -> Tensor:
    return read_folder(folder).tensors[name]


def never_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on nothing may be trained and no prompt read."""
    monkeypatch.setattr("horen.editing.write.train_values", None)
    monkeypatch.setattr("horen.editing.write.train_checked", None)
    monkeypatch.setattr("horen.session.pooled", None)


def test_parts_become_what_one_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    alone = quick_editor(edits=[], threshold=1.0)  # nothing is near enough to share a value
    alone.edit(ONE)
    alone.edit(TWO)
    one, two = part(tmp_path / "one", ONE, threshold=1.0), part(tmp_path / "two", TWO, threshold=1.0)
    merged = quick_editor(edits=[], threshold=1.0)
    never_run(monkeypatch)
    receipts = merged.merge(one, two)
    assert [receipt.action for receipt in receipts] == ["added"] * 5
    assert records(merged, "loss") == records(alone, "loss")
    assert len(merged.history()) == 1
    codebook, expected = merged._session.codebook(), alone._session.codebook()
    for name in ("keys", "values"):
        assert torch.equal(getattr(codebook, name), torch.cat([tensor(one, name), tensor(two, name)]))
        torch.testing.assert_close(getattr(codebook, name), getattr(expected, name))
    assert torch.equal(codebook.value_of, expected.value_of)
    monkeypatch.undo()
    merged.edit(Edit("Another fact", "Oslo"))  # taking values ended with the merge
    assert merged.edits()[-1].steps > 0


def test_values_are_shared_as_one_process_shares_them(tmp_path: Path):
    """What the second part trained for itself, and shared within, has a source in the first."""
    near = [Edit(f"{OTHER} sail", "Paris"), Edit(f"{OTHER} sail on", "Paris")]
    alone = quick_editor(edits=[], threshold=0.5)
    alone.edit(ONE)
    alone.edit(near)
    assert [record.reused for record in alone.edits()] == [False, False, True, True]
    parts = [part(tmp_path / "one", ONE, threshold=0.5), part(tmp_path / "two", near, threshold=0.5)]
    assert len(tensor(parts[1], "values")) == 1
    merged = quick_editor(edits=[], threshold=0.5)
    merged.merge(*parts)
    assert records(merged, "loss") == records(alone, "loss")
    assert torch.equal(merged._session.codebook().values, tensor(parts[0], "values"))


def test_an_edit_that_may_share_no_longer_is_trained(tmp_path: Path):
    taught = taught_editor(threshold=0.5)
    (prompt, target), *_ = FACTS.items()
    near = Edit(f"{prompt} now", target)
    taught.edit([Edit(prompt, target), near])
    assert taught.edits()[1].reused
    taught.remove(1)  # so that its source is not among what is merged
    taught.save(tmp_path / "one")
    taught.unwrap()
    merged = taught_editor(threshold=0.5)
    merged.merge(tmp_path / "one")
    assert [(record.prompt, record.reused) for record in merged.edits()] == [(near.prompt, False)]
    assert merged.edits()[0].steps > 0


def test_superseded_and_removed_edits_stay_behind(tmp_path: Path):
    editor = quick_editor(edits=ONE)
    editor.supersede(1, "Oslo")
    editor.remove(2)
    editor.save(tmp_path / "one")
    editor.unwrap()
    merged = quick_editor(edits=[])
    merged.merge(tmp_path / "one")
    assert [(record.id, record.prompt, record.target) for record in merged.edits()] == [(1, EDITED, "Oslo")]
    assert torch.equal(value_of(merged, 1), tensor(tmp_path / "one", "values")[2])


def test_contradictions(tmp_path: Path):
    parts = [part(tmp_path / "one", ONE), part(tmp_path / "two", [Edit(REPHRASED, "Lyon"), ONE[1]])]
    merged = quick_editor(edits=[])
    with pytest.raises(ConflictError) as told:
        merged.merge(*parts)
    assert f"edit 1 of {parts[0]} and edit 1 of {parts[1]}: {REPHRASED!r} shall be 'Rome' and 'Lyon'" in str(told.value)
    assert not merged.history()
    assert [receipt.id for receipt in merged.merge(*parts, on_conflict="keep")] == [1, 2]
    assert [record.target for record in merged.edits()] == ["Rome", "Paris"]
    merged.undo()
    merged.merge(*parts, on_conflict="supersede")
    assert [record.target for record in merged.edits()] == ["Paris", "Lyon"]


def test_contradictions_of_stored_edits(tmp_path: Path):
    theirs = part(tmp_path / "theirs", [Edit(EDITED, "Lyon"), *TWO[:1]])
    ours = quick_editor(edits=ONE)
    with pytest.raises(ConflictError, match="Edit 1 already answers"):
        ours.merge(theirs)
    assert len(ours.history()) == 1
    assert [receipt.action for receipt in ours.merge(theirs, on_conflict="keep")] == ["kept", "added"]
    assert [receipt.action for receipt in ours.merge(theirs, on_conflict="supersede")] == ["superseded", "unchanged"]


def test_an_editor_to_begin_with(tmp_path: Path):
    one = part(tmp_path / "one", ONE, key_space="whitened", key_dimension=8)
    empty = Editor.load(one, tiny_model(), tiny_tokenizer(), empty=True)
    assert empty.edits() == []
    assert not empty.history()
    empty.merge(one)
    empty.save(tmp_path / "again")
    for name, table in read_folder(one).tensors.items():
        assert torch.equal(table, tensor(tmp_path / "again", name))


def test_keys_of_another_key_space_are_read_anew(tmp_path: Path):
    one = part(tmp_path / "one", ONE, key_space="whitened", key_dimension=8)
    merged = Editor.load(one, tiny_model(), tiny_tokenizer(), empty=True)
    expected = tensor(one, "keys")
    folder = read_folder(one)
    other = folder.tensors | {"key_space.mean": folder.tensors["key_space.mean"] + 1, "keys": 0 * expected}
    write_folder(one, config=folder.config, records=folder.records, tensors=other)
    merged.merge(one)
    torch.testing.assert_close(merged._session.codebook().keys, expected)


def test_parts_that_do_not_belong(tmp_path: Path):
    one, two = part(tmp_path / "one", ONE), part(tmp_path / "two", TWO, learning_rate=0.123)
    merged = quick_editor(edits=[])
    with pytest.raises(ConfigError, match="nothing to merge"):
        merged.merge()
    with pytest.raises(ValueError, match="on_conflict='all' is not valid"):
        merged.merge(one, on_conflict="all")  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="does not exist"):
        merged.merge(one, tmp_path / "nowhere")
    with pytest.raises(MismatchError, match=r"learning_rate=0\.123"):
        merged.merge(one, two)
    assert not merged.history()
    other = Editor(tiny_model("gpt2"), tiny_tokenizer(), HorenConfig.from_dict(QUICK))
    with pytest.raises(MismatchError, match="another model"):
        other.merge(one)
    assert not other.history()


def test_tables_that_do_not_fit(tmp_path: Path):
    one = part(tmp_path / "one", ONE)
    folder = read_folder(one)
    short = {name: table[:1] if name == "values" else table for name, table in folder.tensors.items()}
    write_folder(one, config=folder.config, records=folder.records, tensors=short)
    with pytest.raises(StoreError, match="does not fit"):
        quick_editor(edits=[]).merge(one)


def test_an_error_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    one = part(tmp_path / "one", ONE)
    merged = quick_editor(edits=TWO[:1])

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("horen.store.history.History.record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        merged.merge(one)
    assert len(merged.edits()) == 1
    assert merged._session.codebook().entries == 1
    assert merged._known is None
