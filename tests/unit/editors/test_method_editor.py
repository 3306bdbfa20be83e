"""Editing and asking by any method, with the editor's verbs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from method_support import EDITS, each_editing, opened, taught, texts

from horen import ConfigError, Edit, EditError, Editor, HorenConfig, ModelError
from horen.api import open_editor
from horen.editors import MethodEditor
from horen.editors.grace import GraceConfig
from support.editors import EDITED, FACTS, OTHER, QUICK, checksums, facts, hooks_on, same_weights
from support.tiny_models import taught_model, tiny_model
from support.tiny_tokenizers import tiny_tokenizer


def editor(name: str, **settings: Any) -> MethodEditor:
    method: Any = opened(name, **settings)
    return MethodEditor(method)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    place = tmp_path / "model"
    taught_model().save_pretrained(place)
    tiny_tokenizer().save_pretrained(place)
    return str(place)


@each_editing
def test_every_method_has_the_verbs(name: str, tmp_path: Path):
    model = tiny_model()
    before, hooks = checksums(model), hooks_on(model)
    found = editor(name, model=model)
    base = found.generate([EDITED, OTHER], 5)
    found.edit(EDITS)
    found.edit(Edit(OTHER, "Oslo"))
    edited = found.generate([EDITED, OTHER], 5)
    assert found.generate(EDITED, 5) == edited[0]
    assert found.method == name
    assert found.stored_bytes > 0
    found.save(tmp_path / "state")
    with found.disabled():
        assert found.generate([EDITED, OTHER], 5) == base
    assert found.unwrap() is model
    found.unwrap()
    assert same_weights(model, before)
    assert hooks_on(model) == hooks
    again = editor(name, model=model)
    again.restore(tmp_path / "state")
    assert again.generate([EDITED, OTHER], 5) == edited
    with pytest.raises(EditError, match="empty"):
        again.generate(" ")
    again.unwrap()


@pytest.mark.parametrize("name", ["horen", "grace", "ft", "defer"])
def test_it_answers_as_the_benchmark_does(name: str):
    method: Any = taught(name)
    found = MethodEditor(method)
    found.edit(facts())
    assert found.generate(list(FACTS), 12) == texts(method, list(FACTS)) == list(FACTS.values())


def test_the_editor_opens_methods_by_name(folder: str):
    found = open_editor(folder, "grace", GraceConfig(layer=0, precision="model"))
    assert isinstance(found, MethodEditor)
    found.edit([Edit(EDITED, "Rome")])
    assert found.generate(EDITED) == "Rome"
    plain = open_editor(folder, "ft")
    assert isinstance(plain, MethodEditor)
    assert plain.method == "ft"
    own = open_editor(folder, "horen", HorenConfig(**QUICK))
    assert isinstance(own, Editor)
    assert own.config == HorenConfig(**QUICK)


def test_what_cannot_be_opened(folder: str):
    with pytest.raises(ConfigError, match="did you mean 'grace'"):
        open_editor(folder, "grase")
    with pytest.raises(ConfigError, match="settings of 'grace' are GraceConfig"):
        open_editor(folder, "grace", HorenConfig())
    calibrated: Any = {"calibration": "smollm2-135m-instruct"}
    with pytest.raises(ConfigError, match="calibration is HoReN's"):
        open_editor(folder, "grace", **calibrated)


def test_the_editor_says_what_opens_others(folder: str):
    options: Any = {"method": "grace"}
    with pytest.raises(ConfigError, match=r"call horen\.api\.open_editor"):
        Editor.from_pretrained(folder, **options)
    unknown: Any = {"colour": "blue"}
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        Editor.from_pretrained(folder, **unknown)


def test_undo_where_weights_change_and_nowhere_else():
    found = editor("ft")
    before = checksums(found.model)
    found.edit(EDITS)
    assert not same_weights(found.model, before)
    found.undo()
    assert same_weights(found.model, before)
    with pytest.raises(ModelError, match="no edit to take back"):
        found.undo()
    other = editor("grace")
    other.edit(EDITS)
    with pytest.raises(ModelError, match=r"cannot take an edit back: save\(\)"):
        other.undo()


def test_chat():
    found = editor("ft")
    with found.disabled():
        base = found.generate(EDITED, 5, chat=True)
    found.edit(EDITS)
    assert found.generate([EDITED], 5, chat=True) != [base]
    with pytest.raises(ModelError, match="ask without chat"):
        editor("ike").generate(EDITED, chat=True)
