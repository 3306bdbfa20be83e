"""Quantized models: edited, saved and loaded, or refused in one sentence before anything happened."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from horen import Edit, Editor, HorenConfig, MismatchError, ModelError
from horen.model.fingerprint import difference, fingerprint
from support.editors import CAREFUL, EDITED, QUICK, REPHRASED, hooks_on, ids_of, logits
from support.quantized import Beside, Packing, with_coded_weights, with_modules
from support.tiny_models import taught_model, tiny_model
from support.tiny_tokenizers import tiny_tokenizer

Quantize = Callable[[Any], Any]


def beside(model: Any) -> Any:
    return with_modules(model, Beside)


def dynamic(model: Any) -> Any:
    """In torch's own eight bits, whose scales are found as it runs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it will move to another package
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


def torchao(model: Any) -> Any:
    quantization = pytest.importorskip("torchao.quantization")
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    return model


def quanto(kind: str) -> Quantize:
    def quantize(model: Any) -> Any:
        package = pytest.importorskip("optimum.quanto")
        package.quantize(model, weights=getattr(package, kind))
        package.freeze(model)
        return model

    return quantize


def bitsandbytes(bits: int) -> Quantize:
    def quantize(model: Any) -> Any:
        package = pytest.importorskip("bitsandbytes")
        kind = {4: package.nn.Linear4bit, 8: package.nn.Linear8bitLt}[bits]
        more: dict[str, Any] = {8: {"has_fp16_weights": False, "threshold": 6.0}}.get(bits, {})

        def made(plain: nn.Linear) -> Any:
            other = kind(plain.in_features, plain.out_features, bias=False, **more)
            other.load_state_dict(plain.state_dict())
            return other.requires_grad_(requires_grad=False).to("cpu")

        return with_modules(model, made)

    return quantize


SUPPORTED: dict[str, Quantize] = {
    "a tensor subclass": with_coded_weights,
    "buffers": beside,
    "torchao": torchao,
    "quanto int8": quanto("qint8"),
    "quanto int4": quanto("qint4"),
    "bitsandbytes int8": bitsandbytes(8),
}


@pytest.mark.parametrize("quantize", SUPPORTED.values(), ids=SUPPORTED)
def test_supported_models_are_edited_saved_and_loaded(quantize: Quantize, tmp_path: Path):
    editor = Editor(quantize(taught_model()), tiny_tokenizer(), HorenConfig(**CAREFUL))
    (receipt,) = editor.edit([Edit(EDITED, "Mira Sand", (REPHRASED,))])
    assert receipt.converged
    assert editor.generate([EDITED, REPHRASED]) == ["Mira Sand", "Mira Sand"]
    edited = logits(editor.model, ids_of(EDITED))
    assert editor._session.codebook().values.dtype == torch.bfloat16  # whatever the model's weights are
    editor.save(tmp_path / "book")
    editor.save(tmp_path / "book")  # a model that has run is what it was
    loaded = Editor.load(tmp_path / "book", quantize(taught_model()), tiny_tokenizer())
    assert torch.equal(logits(loaded.model, ids_of(EDITED)), edited)
    assert Editor.load(tmp_path / "book", editor.unwrap(), tiny_tokenizer()).edits() == loaded.edits()


def test_a_quantized_model_is_told_from_others(tmp_path: Path):
    Editor(with_coded_weights(tiny_model()), tiny_tokenizer(), HorenConfig(**QUICK)).save(tmp_path / "book")
    for other in (tiny_model(), with_coded_weights(tiny_model(seed=1)), beside(tiny_model())):
        with pytest.raises(MismatchError, match="made for another model"):
            Editor.load(tmp_path / "book", other, tiny_tokenizer())
        assert hooks_on(other) == 0


def test_the_print_of_a_tensor_subclass_is_what_saved_codebooks_hold():
    model = nn.Module()
    model.head = nn.Linear(3, 2, bias=False)
    model.head.weight.data = torch.tensor([[1.0, 2.0, 4.0], [0.5, -0.25, 0.125]])
    assert fingerprint(with_coded_weights(model)) == {
        "architecture": "1d9f3065872488ad26f93d813c44a747b61bb1146fbbe762bd09443c74b0e648",
        "dtype": "float32",
        "weights": "f06be9110ab647270c8bfa940432f7dbf5c26e681b241edb7673dddd4ecec706",
        "sample": [0.0314961, 0.003937],
    }


def test_one_changed_code_or_scale_differs():
    model = with_coded_weights(tiny_model())
    before = fingerprint(model)
    weight = model.model.layers[1].mlp.up_proj.weight
    for part, change in ((weight.codes, 1), (weight.scale, 1e-3)):
        part[2, 0] += change
        assert difference(before, fingerprint(model)) == "its weights differ"
        part[2, 0] -= change
    assert difference(before, fingerprint(model)) is None


def test_one_changed_code_or_scale_beside_the_parameters_differs():
    model = beside(tiny_model())
    before = fingerprint(model)
    module = model.model.layers[1].mlp.up_proj
    for part, change in ((module.codes, 1), (module.scale, 1e-3)):
        part[2, 0] += change
        assert difference(before, fingerprint(model)) == "its weights differ"
        part[2, 0] -= change
    assert difference(before, fingerprint(model)) is None
    older = {name: value for name, value in before.items() if name != "beside"}
    assert difference(older, before) is None  # earlier releases saved nothing of it


@pytest.mark.parametrize("quantize", [with_coded_weights, beside])
def test_changed_codes_are_refused_at_save(quantize: Quantize, tmp_path: Path):
    editor = Editor(quantize(tiny_model()), tiny_tokenizer(), HorenConfig(**QUICK))
    editor.edit(Edit(EDITED, "Rome"))
    module: Any = editor.model.model.layers[1].mlp.up_proj
    codes = module.codes if isinstance(module, Beside) else module.weight.codes
    codes[0, 0] += 1
    with pytest.raises(MismatchError, match="weights differ"):
        editor.save(tmp_path / "book")


REFUSED = {
    "torch's dynamic int8": (dynamic, r"torch\.ao\.nn\.quantized\.dynamic"),
    "packing": (lambda model: with_modules(model, Packing), r"support\.quantized\.Packing"),
    "bitsandbytes 4 bit": (bitsandbytes(4), r"bitsandbytes\.nn\.modules\.Linear4bit"),
}


@pytest.mark.parametrize(("quantize", "kind"), REFUSED.values(), ids=REFUSED)
def test_models_that_no_gradient_passes_are_refused(quantize: Quantize, kind: str):
    model = quantize(tiny_model(hidden_size=64, intermediate_size=128))
    if "bitsandbytes" in kind and not model.lm_head.support_avx512bf16_for_cpu:
        pytest.skip("packs its weights only on processors with products of bfloat16")
    with pytest.raises(ModelError, match=rf"no gradient passes model\.layers\.2\.\S+ \({kind}.*\) on cpu.*unquantized"):
        Editor(model, tiny_tokenizer(), HorenConfig(**QUICK))
    assert hooks_on(model) == 0


def test_a_head_that_no_gradient_passes_is_refused():
    model = dynamic(tiny_model("gpt2"))  # the other linear maps of this family are of a kind that torch leaves alone
    with pytest.raises(ModelError, match=r"no gradient passes lm_head \(torch\.ao"):
        Editor(model, tiny_tokenizer(), HorenConfig(**QUICK))


def test_what_no_value_is_trained_through_may_be_quantized_anyhow():
    model = tiny_model()
    for number in (0, 1):  # a value is written after the second layer
        model.model.layers[number].mlp = dynamic(model.model.layers[number].mlp)
    editor = Editor(model, tiny_tokenizer(), HorenConfig(**QUICK))
    before = logits(model, ids_of(EDITED))
    editor.edit(Edit(EDITED, "Rome"))
    assert not torch.equal(logits(model, ids_of(EDITED)), before)


class Broken(Beside):
    def forward(self, states: torch.Tensor) -> torch.Tensor:
        raise RuntimeError(f"shape {tuple(states.shape)} is invalid")


@pytest.mark.parametrize("reads", ["auto@0", "layer_output@0"])
def test_a_model_that_does_not_run_is_refused(reads: str):
    model = with_modules(tiny_model(), Broken)
    with pytest.raises(ModelError, match=r"LlamaForCausalLM cannot run a single token.*shape \(.*unquantized"):
        Editor(model, tiny_tokenizer(), HorenConfig(**{**QUICK, "read_sites": reads}))
    assert hooks_on(model) == 0
