"""A codebook from elsewhere cannot have a text encoder of its choice loaded: the caller names it, or it is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from horen import ConfigError, Editor, MismatchError, ModelError
from horen.store import read_folder, write_folder
from support.editor_support import busy_editor
from support.editors import outputs, same
from support.encoders import save_encoder, text_settings
from support.scopes import save_scope
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer


def loaded(path: Path, **more: Any) -> Editor:
    return Editor.load(path, tiny_model(), tiny_tokenizer(), **more)


def named(path: Path, encoder: str) -> None:
    """Let a saved codebook name another encoder, as its sender may."""
    folder = read_folder(path)
    folder.config["settings"]["encoder"] = folder.config["encoder"]["name"] = encoder
    write_folder(path, config=folder.config, records=folder.records, tensors=folder.tensors)


@pytest.fixture
def book(tmp_path: Path) -> Path:
    busy_editor(**text_settings()).save(tmp_path / "book")
    return tmp_path / "book"


@pytest.mark.parametrize("kind", ["id", "folder", "modules"])
def test_what_only_the_folder_names_is_not_loaded(kind: str, book: Path, tmp_path: Path):
    place = tmp_path / "theirs"
    if kind == "folder":
        save_encoder(place)
    elif kind == "modules":
        place.mkdir()
        (place / "modules.json").write_text('[{"idx": 0, "name": "0", "path": "", "type": "evil.Module"}]')
        (place / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    name = "someone/encoder" if kind == "id" else str(place)
    named(book, name)
    with pytest.raises(ModelError, match=rf"{name}.*not the package's own.*encoder=.*--encoder") as error:
        loaded(book)
    assert str(book) in str(error.value)
    assert not (tmp_path / "ran").exists()


def test_nothing_is_loaded_before_the_encoder_is_refused(book: Path):
    folder = read_folder(book)
    folder.config["model"]["source"] = "no such model"
    write_folder(book, config=folder.config, records=folder.records, tensors=folder.tensors)
    with pytest.raises(ModelError, match="encoder="):
        Editor.load(book)


@pytest.mark.parametrize("scoped", [False, True], ids=["whole texts", "who and what"])
def test_what_the_caller_names_is_loaded_wherever_it_has_moved(scoped: bool, tmp_path: Path):
    first = save_scope(tmp_path / "first") if scoped else save_encoder(tmp_path / "first", more_words=("who",))
    settings = {"read_sites": "text", "encoder": str(first)}
    settings |= {"key_space": "auto", "threshold": 0.5} if scoped else {}
    editor = busy_editor(**settings)
    editor.save(tmp_path / "book")
    expected = outputs(editor)
    moved = Path(shutil.move(first, tmp_path / "second"))
    with pytest.raises(ModelError, match="encoder="):
        loaded(tmp_path / "book")
    again = loaded(tmp_path / "book", encoder=moved)
    assert same(outputs(again), expected)
    assert again.config == editor.config.replace(encoder=str(moved))
    again.save(tmp_path / "book")
    assert read_folder(tmp_path / "book").config["encoder"]["name"] == str(moved)


def test_another_one_than_the_keys_were_made_by_is_refused(book: Path, tmp_path: Path):
    with pytest.raises(MismatchError, match="another text encoder"):
        loaded(book, encoder=save_encoder(tmp_path / "other"))


@pytest.mark.parametrize("empty", [False, True])
def test_an_encoder_where_none_is_read_is_refused(empty: bool, tmp_path: Path):
    busy_editor().save(tmp_path / "book")
    with pytest.raises(ConfigError, match=r"reads no text encoder.*leave encoder out"):
        loaded(tmp_path / "book", encoder=tmp_path, empty=empty)
