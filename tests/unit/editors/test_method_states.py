"""What every method keeps in a folder, and what it takes up again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from method_support import EDITS, answers, each_method, each_method_of_each_family, fed, opened, same

from horen import Edit, Editor, MismatchError, StoreError
from horen.editors import METHODS
from horen.store import read_folder, write_folder
from support.editors import EDITED, OTHER, PROMPTS
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer


@each_method_of_each_family
def test_a_restored_method_answers_alike(name: str, family: str, tmp_path: Path):
    model = tiny_model(family)
    method = opened(name, model)
    method.edit([*EDITS, Edit(OTHER, "Rome")])
    method.edit([Edit(OTHER, "Oslo")])
    before, routes, given = fed(method), method.routes(PROMPTS), answers(method, PROMPTS)
    method.save(tmp_path / "state")
    method.close()
    again = opened(name, model)
    again.edit([Edit("Hello", "Paris")])  # what it held gives way
    again.restore(tmp_path / "state")
    assert same(fed(again), before)
    assert answers(again, PROMPTS) == given
    assert again.routes(PROMPTS) == routes
    method, other = again, opened(name, family=family)
    for one in (method, other):
        one.restore(tmp_path / "state")
        one.edit([Edit(EDITED, "green apple"), Edit("Hello", "blue")])
    assert same(fed(method), fed(other))
    assert name == "none" or not same(fed(method), before)


@each_method
def test_an_empty_state(name: str, tmp_path: Path):
    method, base = opened(name), opened("none")
    method.save(tmp_path / "state")
    method.edit(EDITS)
    method.restore(tmp_path / "state")
    assert same(fed(method), fed(base))
    method.edit(EDITS)
    assert name == "none" or not same(fed(method), fed(base))


@each_method
def test_a_state_is_written_as_a_whole(name: str, tmp_path: Path):
    method = opened(name)
    method.save(tmp_path / "state")
    method.edit(EDITS)
    method.save(tmp_path / "state")
    files = {path.name for path in (tmp_path / "state").iterdir()} - {".lock"}
    card = {"README.md"} if name in {"horen", "cosine"} else set()  # every saved codebook has one
    assert files == {"config.json", "edits.jsonl", "codebook.safetensors"} | card
    before = fed(method)
    tensors = tmp_path / "state" / "codebook.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    with pytest.raises(StoreError, match="truncated or was altered"):
        method.restore(tmp_path / "state")
    assert same(fed(method), before)


@each_method
def test_a_state_of_another_model_or_method_is_refused(name: str, tmp_path: Path):
    method = opened(name)
    method.edit(EDITS)
    method.save(tmp_path / "state")
    other = opened(name, tiny_model(seed=1))
    with pytest.raises(MismatchError, match="another model"):
        other.restore(tmp_path / "state")
    with pytest.raises(StoreError, match="does not exist"):
        other.restore(tmp_path / "nowhere")
    for rival in set(METHODS) - {name}:
        with pytest.raises(StoreError):
            opened(rival).restore(tmp_path / "state")


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("horen", {"threshold": 0.5}),
        ("cosine", {"threshold": 0.5}),
        ("grace", {"eps_init": 2.0}),
        ("ft", {"layer": 2}),
        ("lora", {"rank": 3}),
        ("rome", {"kl_weight": 1.0}),
        ("memit", {"covariance_weight": 2.0}),
        ("alphaedit", {"ridge": 2.0}),
        ("wise", {"mask_ratio": 0.3}),
        ("defer", {"threshold": 0.9}),
        ("retrieval", {"threshold": 0.5}),
        ("ultraedit", {"learning_rate": 0.5}),
        ("ike", {"count": 4}),
        ("unke", {"weight_steps": 3}),
    ],
)
def test_a_state_of_other_settings_is_refused(name: str, changes: dict[str, Any], tmp_path: Path):
    method = opened(name)
    method.edit(EDITS)
    method.save(tmp_path / "state")
    with pytest.raises(MismatchError, match=next(iter(changes))):
        opened(name, **changes).restore(tmp_path / "state")


def test_the_editors_folder_is_its_own(tmp_path: Path):
    method = opened("horen")
    method.edit(EDITS)
    method.save(tmp_path / "book")
    editor = Editor.load(tmp_path / "book", tiny_model(), tiny_tokenizer())
    assert [record.prompt for record in editor.edits()] == [edit.prompt for edit in EDITS]


@pytest.mark.parametrize("name", ["grace", "retrieval", "ike"])
def test_a_folder_whose_records_and_tensors_differ(name: str, tmp_path: Path):
    method = opened(name)
    method.edit(EDITS)
    method.save(tmp_path / "state")
    kind = f"state of the method {name}"
    found = read_folder(tmp_path / "state", kind=kind)
    for records in (found.records[:1], [{}] * 2, [{"members": [], "target": "a", "radius": 1.0}] * 2):
        write_folder(tmp_path / "bad", config=found.config, records=records, tensors=found.tensors, kind=kind)
        with pytest.raises(StoreError, match=r"does not fit edits\.jsonl"):
            method.restore(tmp_path / "bad")
        shutil.rmtree(tmp_path / "bad")
    write_folder(tmp_path / "bad", config={}, records=found.records, tensors=found.tensors, kind=kind)
    with pytest.raises(StoreError, match="records no settings"):
        method.restore(tmp_path / "bad")
