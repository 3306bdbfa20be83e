"""Keys stored as integers: nothing about undo, saving, merging or rekeying changes; old folders stay as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from horen import ConfigError, Edit, Editor, MismatchError, StoreError
from horen.memory import KeyStorage
from horen.store import read_folder, write_folder
from horen.store.recorded import Recorded
from horen.store.state import Saved
from support.editor_support import EDITS, busy_editor
from support.editors import EDITED, OTHER, PROMPTS, REPHRASED, outputs, quick_editor, same
from support.encoders import text_settings
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

INT8 = KeyStorage("int8")
FLOATS = {"key_storage": "float32"}


def keys(editor: Editor) -> Tensor:
    return editor._session.codebook().keys


def test_keys_are_those_in_float32_rounded():
    one, two = quick_editor(edits=EDITS), quick_editor(edits=EDITS, **FLOATS)
    assert keys(one).dtype == torch.int8
    assert torch.equal(keys(one), INT8.pack(keys(two)))
    assert torch.equal(one._session.codebook().read_keys([0, 1]), INT8.rounded(keys(two)[:2]))
    assert [route.edit_id for route in one.explain(list(PROMPTS))] == [r.edit_id for r in two.explain(list(PROMPTS))]


def test_saving_loading_and_undo_keep_every_bit(tmp_path: Path):
    editor = busy_editor()
    editor.save(tmp_path / "book")
    again = Editor.load(tmp_path / "book", tiny_model(), tiny_tokenizer())
    assert again.config.key_storage == "int8"
    assert torch.equal(keys(again), keys(editor))
    for _ in range(3):
        editor.undo()
        again.undo()
        assert same(outputs(again), outputs(editor))
        assert again.explain(list(PROMPTS)) == editor.explain(list(PROMPTS))
    again.save(tmp_path / "again")
    assert torch.equal(*(read_folder(tmp_path / name).tensors["keys"] for name in ("book", "again")))


def test_a_list_at_once_is_as_one_edit_after_another():
    """Also where whether a value is shared hangs on a key that was rounded."""
    at_once, in_turn = (quick_editor(edits=[], threshold=-1.0) for _ in range(2))
    edits = [Edit(EDITED, "Rome", (REPHRASED,)), Edit(OTHER, "Rome"), Edit("Hello", "Rome"), Edit("Hello you", "Rome")]
    receipts = at_once.edit(edits)
    singles = [in_turn.edit(edit)[0] for edit in edits]
    assert [receipt.reused for receipt in receipts] == [receipt.reused for receipt in singles]
    assert torch.equal(keys(at_once), keys(in_turn))


def test_bytes(tmp_path: Path):
    editor = quick_editor(edits=[Edit(EDITED, "Rome", (REPHRASED,)), Edit(OTHER, "Paris")])
    floats = quick_editor(edits=[Edit(EDITED, "Rome", (REPHRASED,)), Edit(OTHER, "Paris")], **FLOATS)
    width = keys(editor).shape[1]
    assert floats.stored_bytes - editor.stored_bytes == 3 * (4 * width - width)
    editor.save(tmp_path / "book")
    recorded, sizes = Recorded.read_with_sizes(tmp_path / "book")
    assert sizes.of(recorded.history.get(1))["keys"] == 2 * width
    assert read_folder(tmp_path / "book").tensors["keys"].nbytes == 3 * width


@pytest.mark.parametrize("storage", ["float32", "int8"])
def test_tables_of_another_storage_are_refused(storage: str, tmp_path: Path):
    busy_editor(key_storage=storage).save(tmp_path)
    folder = read_folder(tmp_path)
    folder.tensors["keys"] = INT8.read(folder.tensors["keys"]) if storage == "int8" else folder.tensors["keys"].char()
    write_folder(tmp_path, config=folder.config, records=folder.records, tensors=folder.tensors)
    editor = quick_editor(edits=[], key_storage=storage)
    for way in (editor.restore, editor.take_values, lambda path: Saved.read(path).state()):
        with pytest.raises(StoreError, match=f"the keys are not stored as {storage}: restore the folder from a copy"):
            way(tmp_path)


def test_merging_keeps_every_bit(tmp_path: Path):
    for number, edits in enumerate((EDITS[:1], EDITS[1:])):
        part = quick_editor(edits=edits)
        part.save(tmp_path / str(number))
        part.unwrap()
    merged = quick_editor(edits=[])
    merged.merge(tmp_path / "0", tmp_path / "1")
    assert torch.equal(keys(merged), torch.cat([read_folder(tmp_path / str(n)).tensors["keys"] for n in (0, 1)]))


def test_another_storage_is_refused_and_rekeying_gives_it(tmp_path: Path):
    floats = busy_editor(**FLOATS)
    floats.save(tmp_path / "book")
    expected = INT8.pack(keys(floats))
    editor = quick_editor(edits=[])
    for take in (editor.merge, editor.take_values, editor.restore):
        with pytest.raises(MismatchError, match="key_storage='float32', not 'int8'"):
            take(tmp_path / "book")
    space = floats._session.key_space
    floats.rekey(floats.config.replace(key_storage="int8"))
    assert torch.equal(keys(floats), expected)
    assert torch.equal(floats._session.key_space.mean, space.mean)
    floats.save(tmp_path / "book")
    editor.restore(tmp_path / "book")
    assert same(outputs(editor), outputs(floats))
    floats.rekey(floats.config.replace(key_storage="float32"))
    assert keys(floats).dtype == torch.float32
    with pytest.raises(ConfigError, match=r"value_storage='float32' cannot be: rekeying keeps the values"):
        floats.rekey(floats.config.replace(value_storage="float32"))


def test_compaction_keeps_integers(tmp_path: Path):
    editor = busy_editor()
    editor.save(tmp_path / "book")
    left = [entry for record in editor.edits() for entry in record.entries]
    expected = keys(editor)[left]
    editor.compact()
    assert torch.equal(keys(editor), expected)


def test_what_a_text_encoder_makes_is_stored_so_too():
    one, two = (quick_editor(edits=EDITS, **text_settings(key_storage=name)) for name in ("int8", "float32"))
    assert torch.equal(keys(one), INT8.pack(keys(two)))
    assert [route.edit_id for route in one.explain(list(PROMPTS))] == [r.edit_id for r in two.explain(list(PROMPTS))]
