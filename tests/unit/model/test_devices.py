"""Models whose weights do not lie where they compute."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from horen import Edit, Editor, HorenConfig, MismatchError, ModelError
from horen.model.devices import device_of
from horen.model.fingerprint import fingerprint
from support.editors import CAREFUL, EDITED, OTHER, QUICK, REPHRASED, facts, outputs
from support.tiny_models import each_family, taught_model, tiny_model
from support.tiny_tokenizers import tiny_tokenizer

CPU = torch.device("cpu")
ENDS = ("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head")


def whole() -> PreTrainedModel:
    return copy.deepcopy(taught_model())


def offloaded(_: Path) -> PreTrainedModel:
    return accelerate.cpu_offload(whole(), execution_device=CPU)


def offloaded_by_layers(_: Path) -> PreTrainedModel:
    model = whole()
    return accelerate.cpu_offload(model, CPU, preload_module_classes=[type(model.model.layers[0]).__name__])


def on_disk(folder: Path) -> PreTrainedModel:
    return accelerate.disk_offload(whole(), folder, execution_device=CPU)


def places(model: PreTrainedModel, *on_disk: str) -> dict[str, str]:
    """A device map with the modules named on the disk."""
    names = [*ENDS, *(f"model.layers.{i}" for i in range(model.config.num_hidden_layers))]
    return {name: "disk" if name in on_disk else "cpu" for name in names}


def upper_layers_on_disk(folder: Path) -> PreTrainedModel:
    model = whole()
    count = model.config.num_hidden_layers
    upper = [f"model.layers.{i}" for i in range(count // 2, count)]
    return accelerate.dispatch_model(model, places(model, *upper), main_device="cpu", offload_dir=folder)


def ends_on_disk(folder: Path) -> PreTrainedModel:
    model = whole()
    ends = places(model, "model.embed_tokens", "lm_head")
    return accelerate.dispatch_model(model, ends, main_device="cpu", offload_dir=folder)


def words_on_disk(folder: Path) -> PreTrainedModel:
    """Of two tied ends one lies on the disk."""
    model = whole()
    return accelerate.dispatch_model(model, places(model, "model.embed_tokens"), main_device="cpu", offload_dir=folder)


def loaded_onto_disk(folder: Path) -> PreTrainedModel:
    model = whole()
    model.save_pretrained(folder / "model")
    there = places(model, "model.embed_tokens", "lm_head", "model.layers.1", "model.layers.2")
    found: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder / "model", device_map=there, offload_folder=folder / "offloaded"
    )
    return found


SPREADS = (
    offloaded,
    offloaded_by_layers,
    on_disk,
    upper_layers_on_disk,
    ends_on_disk,
    words_on_disk,
    loaded_onto_disk,
)
each_spread = pytest.mark.parametrize("spread", SPREADS)


def values_and_answers(model: PreTrainedModel) -> tuple[torch.Tensor, list[str]]:
    editor = Editor(model, tiny_tokenizer("chatml"), HorenConfig(**CAREFUL))
    receipts = editor.edit(facts())
    assert all(receipt.converged for receipt in receipts)
    answers = [editor.generate(edit.prompt) for edit in facts()]
    values = editor._session.codebook().values.clone()
    editor.unwrap()
    return values, answers


def editor_on(model: PreTrainedModel, **settings: Any) -> Editor:
    return Editor(model, tiny_tokenizer("chatml"), HorenConfig(**(dict(QUICK) | settings)))


@each_spread
def test_an_offloaded_model_is_edited_like_any_other(spread: Callable[[Path], PreTrainedModel], tmp_path: Path):
    values, answers = values_and_answers(whole())
    model = spread(tmp_path)
    assert device_of(model) == CPU
    found, told = values_and_answers(model)
    assert any(parameter.is_meta for parameter in model.parameters())
    torch.testing.assert_close(found.cpu(), values, atol=1e-4, rtol=1e-4)
    assert told == answers


def test_a_model_in_memory_computes_where_it_lies():
    assert device_of(whole()) == CPU


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="two GPUs are needed")
def test_a_model_over_two_devices_is_edited_like_any_other():
    values, answers = values_and_answers(whole())
    model = whole()
    before = fingerprint(model)
    count = model.config.num_hidden_layers
    spread = {"model.embed_tokens": 0, "model.rotary_emb": 0, "model.norm": 1, "lm_head": 1}
    spread |= {f"model.layers.{i}": int(2 * i >= count) for i in range(count)}
    found, told = values_and_answers(accelerate.dispatch_model(model, spread))
    assert fingerprint(model) == before
    torch.testing.assert_close(found.cpu(), values, atol=1e-3, rtol=1e-3)
    assert told == answers


# --- which model it is -----------------------------------------------------------------------------------------------


@each_spread
def test_an_offloaded_model_is_the_same_model(spread: Callable[[Path], PreTrainedModel], tmp_path: Path):
    expected = fingerprint(whole())
    model = spread(tmp_path)
    assert fingerprint(model) == expected
    with torch.no_grad():
        model(input_ids=torch.ones(1, 3, dtype=torch.long))
    assert fingerprint(model) == expected  # running moves weights about
    assert any(parameter.is_meta for parameter in model.parameters())


@each_family
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_offloaded_model_of_any_family_is_the_same_model(family: str, dtype: torch.dtype, tmp_path: Path):
    expected = fingerprint(tiny_model(family).to(dtype))
    assert fingerprint(accelerate.cpu_offload(tiny_model(family).to(dtype), CPU)) == expected
    assert fingerprint(accelerate.disk_offload(tiny_model(family).to(dtype), tmp_path, CPU)) == expected


def test_offloaded_weights_that_could_be_tied_and_are_not(tmp_path: Path):
    def untied() -> PreTrainedModel:
        model = whole()
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach() + 1)
        return model

    expected = fingerprint(untied())
    assert expected["architecture"] != fingerprint(whole())["architecture"]
    assert fingerprint(accelerate.cpu_offload(untied(), CPU)) == expected
    assert fingerprint(accelerate.disk_offload(untied(), tmp_path, CPU)) == expected


def test_a_model_without_weights_is_refused():
    with accelerate.init_empty_weights():
        model = tiny_model()
    with pytest.raises(ModelError, match=r"lm_head\.weight is on the meta device and nothing holds its weights: load"):
        fingerprint(model)
    half = accelerate.cpu_offload(whole(), CPU, state_dict={"model.norm.weight": torch.ones(64)})
    with pytest.raises(ModelError, match="nothing holds its weights"):
        fingerprint(half)


def test_files_that_are_gone_are_named(tmp_path: Path):
    model = on_disk(tmp_path)
    (tmp_path / "model.layers.1.mlp.up_proj.weight.dat").unlink()
    with pytest.raises(
        ModelError, match=r"model\.layers\.1\.mlp\.up_proj\.weight, which were offloaded.*put the files"
    ):
        fingerprint(model)


# --- saved codebooks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spread", "reading"),
    [*((spread, {}) for spread in SPREADS), (loaded_onto_disk, {"key_space": "whitened", "threshold": 0.8})],
)
def test_a_codebook_fits_a_model_wherever_its_weights_lie(
    spread: Callable[[Path], PreTrainedModel], reading: dict[str, Any], tmp_path: Path
):
    edits = [Edit(EDITED, "Rome", (REPHRASED,)), Edit(OTHER, "Paris")]
    for number, (first, second) in enumerate([(whole(), spread(tmp_path / "a")), (spread(tmp_path / "b"), whole())]):
        editor = editor_on(first, **reading)
        editor.edit(edits)
        editor.save(tmp_path / f"book {number}")
        again = Editor.load(tmp_path / f"book {number}", second, tiny_tokenizer("chatml"))
        assert again.edits() == editor.edits()
        for one, two in zip(outputs(again), outputs(editor), strict=True):
            torch.testing.assert_close(one, two)
        again.edit(Edit("Hello", "Oslo"))
        again.save(tmp_path / f"book {number}")
        assert len(Editor.load(tmp_path / f"book {number}", editor.unwrap(), tiny_tokenizer("chatml")).edits()) == 3


def test_an_offloaded_model_with_another_weight_is_refused(tmp_path: Path):
    editor = editor_on(whole())
    editor.edit(Edit(EDITED, "Rome"))
    editor.save(tmp_path / "book")
    weights = whole().state_dict()
    weights["model.layers.2.mlp.down_proj.weight"][3, 4] += 1e-3
    in_memory = accelerate.cpu_offload(whole(), CPU, state_dict=weights)
    disk = on_disk(tmp_path / "offloaded")
    file = tmp_path / "offloaded" / "model.layers.2.mlp.down_proj.weight.dat"
    np.memmap(file, dtype="float32", mode="r+")[17] += 1e-3
    for other in (in_memory, disk):
        with pytest.raises(MismatchError, match=r"made for another model .*its weights differ"):
            Editor.load(tmp_path / "book", other, tiny_tokenizer("chatml"))
        other_editor = editor_on(other)
        with pytest.raises(MismatchError, match="its weights differ"):
            other_editor.take_values(tmp_path / "book")
        with pytest.raises(MismatchError, match="its weights differ"):
            other_editor.merge(tmp_path / "book")
        assert not other_editor.edits()


@each_spread
def test_parts_are_merged_on_an_offloaded_model(
    spread: Callable[[Path], PreTrainedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    parts = []
    for number, edit in enumerate([Edit(EDITED, "Rome", (REPHRASED,)), Edit(OTHER, "Paris")]):
        editor = editor_on(whole())
        editor.edit(edit)
        editor.save(tmp_path / f"part {number}")
        parts.append(editor)
    monkeypatch.setattr("horen.editing.write.train_values", None)
    monkeypatch.setattr("horen.editing.write.train_checked", None)
    merged = editor_on(spread(tmp_path / "offloaded"))
    merged.merge(tmp_path / "part 0", tmp_path / "part 1")
    found, expected = merged._session.codebook(), [part._session.codebook() for part in parts]
    assert found.values.device == found.keys.device == CPU
    assert torch.equal(found.values, torch.cat([codebook.values for codebook in expected]))
    assert torch.equal(found.keys, torch.cat([codebook.keys for codebook in expected]))
    merged.undo()
    merged.take_values(tmp_path / "part 1")
    merged.edit(Edit(OTHER, "Paris"))
    assert torch.equal(found.values[-1:], expected[1].values)


@each_spread
def test_weights_that_could_be_trained_still_can(spread: Callable[[Path], PreTrainedModel], tmp_path: Path):
    model = spread(tmp_path)
    frozen = model.model.layers[0].mlp.up_proj.weight.requires_grad_(False)
    assert not frozen.requires_grad
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters(remove_duplicate=False)}
    editor = editor_on(model)
    editor.edit(Edit(EDITED, "Rome"))
    editor.unwrap()
    now = {name: parameter.requires_grad for name, parameter in model.named_parameters(remove_duplicate=False)}
    assert now == before
