"""Values stored in fewer bytes: what is stored is what fires, and nothing about undo, saving or merging changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from horen import ConfigError, Edit, Editor, HorenConfig, MismatchError, StoreError
from horen.store import read_folder, write_folder
from horen.store.recorded import Recorded
from horen.store.state import Saved
from support.arithmetics import fastest_in
from support.editor_support import EDITS, busy_editor
from support.editors import (
    EDITED,
    FACTS,
    OTHER,
    PROMPTS,
    REPHRASED,
    by_hand,
    facts,
    ids_of,
    logits,
    outputs,
    quick_editor,
    same,
    taught_editor,
    value_of,
)
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int8": torch.int8}
KINDS: dict[str, dict[str, Any]] = {"vector": {}, "lora": {"value": "lora", "lora_rank": 2}}
each_storage = pytest.mark.parametrize("name", TYPES)
each_kind = pytest.mark.parametrize("kind", KINDS)


def tables(editor: Editor) -> list[Tensor]:
    stored = editor._session.codebook().packed
    return [stored.numbers.clone(), stored.scales.clone()]


@each_storage
@each_kind
def test_what_is_stored_is_what_fires(name: str, kind: str):
    editor = quick_editor(value_storage=name, **KINDS[kind])
    assert editor._session.codebook().values.dtype == TYPES[name]
    ids = ids_of(EDITED)
    assert torch.equal(logits(editor.model, ids), by_hand(editor, ids, {len(ids) - 1: value_of(editor, 1)}))


@each_storage
@each_kind
def test_saving_loading_and_undo_keep_every_bit(name: str, kind: str, tmp_path: Path):
    editor = busy_editor(value_storage=name, **KINDS[kind])
    editor.save(tmp_path / "book")
    again = Editor.load(tmp_path / "book", tiny_model(), tiny_tokenizer())
    assert again.config.value_storage == name
    assert same(tables(again), tables(editor))
    assert same(outputs(again), outputs(editor))
    base = outputs(quick_editor(edits=[]))
    for _ in range(3):
        editor.undo()
        again.undo()
        assert same(outputs(again), outputs(editor))
    assert same(outputs(again), base)
    again.save(tmp_path / "again")
    assert same(*([f.tensors["values"]] for f in map(read_folder, (tmp_path / "book", tmp_path / "again"))))


@each_storage
@each_kind
def test_the_same_edits_give_the_same_bits(name: str, kind: str):
    one, two = (busy_editor(value_storage=name, **KINDS[kind]) for _ in range(2))
    assert same(tables(one), tables(two))


@each_storage
def test_a_list_at_once_is_as_one_edit_after_another(name: str):
    at_once, in_turn = taught_editor(value_storage=name), taught_editor(value_storage=name)
    receipts = at_once.edit(facts())
    singles = [in_turn.edit(edit)[0] for edit in facts()]
    step = 1e-3 if name == "float32" else float(value_of(at_once, 1).abs().max()) / 64
    for one, two in zip(receipts, singles, strict=True):
        assert (one.steps, one.converged, one.reused) == (two.steps, two.converged, two.reused)
        torch.testing.assert_close(value_of(at_once, one.id), value_of(in_turn, two.id), atol=step, rtol=1e-3)
    assert at_once.generate(list(FACTS)) == in_turn.generate(list(FACTS)) == list(FACTS.values())


@each_storage
@each_kind
@pytest.mark.parametrize(("precision", "machine"), [("auto", "bfloat16"), ("auto", "int8"), ("model", "int8")])
def test_receipts_speak_of_the_stored_value(
    name: str, kind: str, precision: str, machine: str, monkeypatch: pytest.MonkeyPatch
):
    fastest_in(machine, monkeypatch)
    rates = {"vector": {}, "lora": {"learning_rate": 0.05, "learning_rate_unit": "absolute"}}
    editor = taught_editor(value_storage=name, precision=precision, **KINDS[kind], **rates[kind])
    receipts = editor.edit(facts())
    assert all(receipt.converged for receipt in receipts)
    for record, (prompt, target) in zip(editor.edits(), FACTS.items(), strict=True):
        (sample,) = editor._session.contexts.samples(Edit(prompt, target), editor.config)
        ids = [*sample.prompt, *sample.target]
        with editor.prompt_end(len(sample.prompt)):
            log = logits(editor.model, ids).log_softmax(-1)[len(sample.prompt) - 1 : -1]
        found = log[range(len(sample.target)), list(sample.target)]
        assert record.loss == pytest.approx(-float(found.mean()), abs=2e-3)
        assert found.exp().min() >= editor.config.stop_probability - 1e-3


@each_storage
def test_a_shared_value_is_the_stored_one(name: str):
    editor = taught_editor(threshold=-1.0, value_storage=name)
    (prompt, target), *_ = FACTS.items()
    assert [receipt.reused for receipt in editor.edit([Edit(prompt, target), Edit(f"{prompt}?", target)])] == [
        False,
        True,
    ]
    before = tables(editor)
    assert editor.edit(Edit(f"{prompt}:", target))[0].reused
    assert same(tables(editor), before)


@pytest.mark.parametrize(("name", "size"), [("float32", 128), ("float16", 64), ("bfloat16", 64), ("int8", 34)])
def test_bytes(name: str, size: int, tmp_path: Path):
    """A value of 32 numbers, the scale of int8 two bytes more."""
    editor = quick_editor(edits=[Edit(EDITED, "Rome", (REPHRASED,)), Edit(OTHER, "Paris")], value_storage=name)
    width = editor._session.codebook().keys.shape[1]
    assert editor.stored_bytes == 3 * (width + 8) + 2 * size
    editor.save(tmp_path / "book")
    saved = Saved.read(tmp_path / "book")
    recorded, sizes = Recorded.read_with_sizes(tmp_path / "book")
    assert sizes.of(recorded.history.get(1)) == {"keys": 2 * width, "value": size}
    assert (
        sum(saved.folder.tensors[n].nbytes for n in ("values", "value_scales") if n in saved.folder.tensors) == 2 * size
    )


@each_storage
def test_without_edits(name: str, tmp_path: Path):
    quick_editor(edits=[], value_storage=name).save(tmp_path)
    editor = Editor.load(tmp_path, tiny_model(), tiny_tokenizer())
    editor.edit(EDITS)
    assert same(tables(editor), tables(quick_editor(edits=EDITS, value_storage=name)))


def test_rows_of_a_low_rank_map_have_their_own_scales():
    editor = quick_editor(value_storage="int8", **KINDS["lora"])
    stored = editor._session.codebook().packed
    assert stored.numbers.shape[1] == 4 * 32
    assert stored.scales.shape[1] == 4


def test_a_folder_without_the_setting_holds_float32(tmp_path: Path):
    editor = busy_editor(value_storage="float32")
    editor.save(tmp_path)
    folder = read_folder(tmp_path)
    assert set(folder.tensors) == {"keys", "values", "value_of", "key_space.mean"}
    del folder.config["settings"]["value_storage"]
    write_folder(tmp_path, config=folder.config, records=folder.records, tensors=folder.tensors)
    assert "value_storage" not in json.loads((tmp_path / "config.json").read_text())["config"]["settings"]
    again = Editor.load(tmp_path, tiny_model(), tiny_tokenizer())
    assert again.config.value_storage == "float32"
    assert same(outputs(again), outputs(editor))


@pytest.mark.parametrize("lost", ["value_scales", "values"])
def test_tables_of_another_storage_are_refused(lost: str, tmp_path: Path):
    busy_editor(value_storage="int8").save(tmp_path)
    folder = read_folder(tmp_path)
    if lost == "values":
        folder.tensors["values"] = folder.tensors["values"].float()
    else:
        del folder.tensors[lost]
    write_folder(tmp_path, config=folder.config, records=folder.records, tensors=folder.tensors)
    editor = quick_editor(edits=[], value_storage="int8")
    ways = (editor.restore, editor.take_values, lambda path: Saved.read(path).state())
    for way in ways:
        with pytest.raises(StoreError, match="not stored as int8: restore the folder from a copy"):
            way(tmp_path)


@each_storage
def test_merging_keeps_every_bit(name: str, tmp_path: Path):
    expected = []
    for number, edits in enumerate((EDITS[:1], EDITS[1:])):
        part = quick_editor(edits=edits, value_storage=name)
        part.save(tmp_path / str(number))
        expected.append(part._session.codebook().packed)
        part.unwrap()
    merged = quick_editor(edits=[], value_storage=name)
    merged.merge(tmp_path / "0", tmp_path / "1")
    for place, table in enumerate(tables(merged)):
        assert torch.equal(table, torch.cat([(stored.numbers, stored.scales)[place] for stored in expected]))
    empty = Editor.load(tmp_path / "0", tiny_model(), tiny_tokenizer(), empty=True)
    empty.merge(tmp_path / "0", tmp_path / "1")
    assert same(tables(empty), tables(merged))


def test_another_storage_is_refused(tmp_path: Path):
    busy_editor(value_storage="float32").save(tmp_path / "book")
    editor = quick_editor(edits=[], value_storage="int8")
    for take in (editor.merge, editor.take_values, editor.restore):
        with pytest.raises(MismatchError, match="value_storage='float32', not 'int8'"):
            take(tmp_path / "book")
    with pytest.raises(ConfigError, match=r"value_storage='float16' cannot be: rekeying keeps the values"):
        editor.rekey(editor.config.replace(value_storage="float16"))


@each_storage
def test_rekeying_keeps_every_bit(name: str):
    editor = busy_editor(value_storage=name)
    before = tables(editor)
    editor.rekey(editor.config.replace(read_sites="layer_output@0"))
    assert same(tables(editor), before)
    assert editor.explain(list(PROMPTS))[-1].edit_id is not None


def test_the_setting():
    assert HorenConfig().value_storage == HorenConfig.from_preset("text").value_storage == "bfloat16"
    assert HorenConfig.paper().value_storage == "float32"
    with pytest.raises(ConfigError, match="float32, float16, bfloat16, int8"):
        HorenConfig(value_storage="float64")
