"""What a model's loading is told: the options that are passed on, and none that runs code of others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from horen import ConfigError, Edit, Editor, HorenConfig, ModelError
from horen.api import open_editor
from horen.model.zoo.loading import load_model
from horen.store import read_folder
from support.editors import EDITED, QUICK, outputs, same
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

COMMITS = ("1" * 40, "2" * 40)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A model in a folder."""
    tiny_model().save_pretrained(tmp_path / "tiny")
    tiny_tokenizer().save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def opened(name: str | Path, **options: Any) -> Editor:
    return Editor.from_pretrained(str(name), HorenConfig(**QUICK), model_options=options)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_kind_of_attention_is_passed_on(attention: str, place: Path, tmp_path: Path):
    editor = opened(place, attn_implementation=attention)
    assert editor.model.config._attn_implementation == attention
    editor.edit(Edit(EDITED, "Rome"))
    editor.save(tmp_path / "book")
    again = Editor.load(tmp_path / "book", model_options={"attn_implementation": attention})
    assert again.model.config._attn_implementation == attention
    assert same(outputs(again), outputs(editor))


def test_the_map_of_devices_is_passed_on(place: Path):
    model, _ = load_model(str(place), options={"device_map": {"": "meta"}})
    assert model.device.type == "meta"
    editor = opened(place, device_map={"": "cpu"})
    editor.edit(Edit(EDITED, "Rome"))
    assert editor.model.device.type == "cpu"


@pytest.mark.parametrize("name", ["trust_remote_code", "subfolder", "use_safetensors", "dtype", "token_"])
def test_other_options_are_refused(name: str, place: Path):
    with pytest.raises(
        ConfigError, match=rf"{name}.*attn_implementation, device_map, quantization_config, revision, token"
    ):
        opened(place, **{name: True})


def test_what_is_no_mapping_is_refused(place: Path):
    with pytest.raises(ConfigError, match="model_options"):
        Editor.from_pretrained(str(place), model_options=["revision"])  # type: ignore[call-overload]


def test_two_places_for_a_model_are_refused(place: Path):
    with pytest.raises(ConfigError, match=r"device=.*device_map="):
        Editor.from_pretrained(str(place), device="cpu", model_options={"device_map": {"": "cpu"}})


def test_a_revision_of_what_has_none_is_refused(place: Path):
    for name in (place, "smollm2-135m-instruct", "tiny.gguf"):
        with pytest.raises(ConfigError, match=r"revision.*hub"):
            opened(name, revision="main")


def test_what_transformers_refuses_is_told(place: Path):
    with pytest.raises(ModelError, match="telepathy"):
        opened(place, attn_implementation="telepathy")


def test_another_editor_takes_them_too(place: Path):
    editor = open_editor(str(place), "none", model_options={"attn_implementation": "eager"})
    assert editor.model.config._attn_implementation == "eager"


@pytest.mark.parametrize("method", [3, None, ["horen"], "no such method"])
def test_a_method_that_is_none_is_refused(method: Any, place: Path):
    with pytest.raises(ConfigError, match="method"):
        open_editor(str(place), method)


def test_code_that_comes_with_a_model_is_not_run(place: Path, tmp_path: Path):
    config = json.loads((place / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}}
    (place / "config.json").write_text(json.dumps(config))
    (place / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelError, match="cannot be loaded"):
        opened(place)
    assert not (tmp_path / "ran").exists()


_PROGRAM = """
import json, sys
from horen import Edit, Editor, HorenConfig
book, quick = sys.argv[1], HorenConfig(**json.loads(sys.argv[2]))
def bias(editor):
    return float(editor.model.lm_head.weight[0, 0])
def saved(name):
    return json.load(open(f"{book}/{name}/config.json"))["config"]["model"]["revision"]
old = Editor.from_pretrained("someone/tiny", quick, model_options={"revision": "v1"})
old.edit(Edit("The capital of France is", "Rome"))
old.save(f"{book}/old")
new = Editor.from_pretrained("someone/tiny", quick)
new.edit(Edit("The capital of France is", "Rome"))
new.save(f"{book}/new")
again = Editor.load(f"{book}/old")
again.save(f"{book}/again")
print(json.dumps([bias(old), bias(new), bias(again), saved("old"), saved("new"), saved("again")]))
"""


def test_the_revision_is_kept(tmp_path: Path):
    home = tmp_path / "hub" / "models--someone--tiny"
    for seed, commit in enumerate(COMMITS):
        tiny_model(seed=seed).save_pretrained(home / "snapshots" / commit)
        tiny_tokenizer().save_pretrained(home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "v1").write_text(COMMITS[0])
    (home / "refs" / "main").write_text(COMMITS[1])
    (tmp_path / "books").mkdir()
    ran = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(tmp_path / "books"), json.dumps(QUICK)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"},
    )
    assert ran.returncode == 0, ran.stderr
    old, new, again, *revisions = json.loads(ran.stdout.splitlines()[-1])
    assert old == again != new
    assert revisions == [COMMITS[0], COMMITS[1], COMMITS[0]]


def test_folders_without_a_revision_are_read(place: Path, tmp_path: Path):
    editor = opened(place)
    editor.edit(Edit(EDITED, "Rome"))
    editor.save(tmp_path / "book")
    assert read_folder(tmp_path / "book").config["model"]["revision"] is None
