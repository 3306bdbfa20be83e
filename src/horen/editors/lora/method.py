"""Low-rank adapters as a method of the benchmark; the library peft has the layers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.editing.training import seeded
from horen.editors.common.finetuning import descend, target_losses
from horen.editors.common.samples import plain_samples
from horen.editors.common.weights import WeightMethod
from horen.editors.lora.config import LoRAConfig
from horen.edits import Edit
from horen.errors import ModelError
from horen.extras import need
from horen.model.layout import Layout

_ADAPTER = "horen"


class LoRA(WeightMethod):
    """Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685), trained on one batch of edits after another.

    A projection W of every layer gets an adapter, with A [r, d_in] and B [d_out, r]:

        h = W x + (α / r) B A x

    A starts random and B at zero. Each call of :meth:`edit` trains the same adapters on by Adam, on the mean over its
    edits of −log p(target | prompt), the mean over the target's tokens, until it is low enough; W stays as it is. Each
    rephrase counts as another prompt. What earlier batches taught is kept by nothing but the adapters themselves.

    Args:
        model: a decoder-only transformers model without adapters.
        tokenizer: the model's own, a fast one.
        config: the settings; None for the default preset.
        seed: of the random start.

    Raises:
        MissingExtraError: when peft is not installed.
        ModelError: when another method holds the model's weights or they are not in memory, the
            model has none of the projections or has adapters, or it trains with gradient checkpointing.
    """

    name = "lora"
    config: LoRAConfig

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: LoRAConfig | None = None,
        *,
        seed: int = 0,
    ) -> None:
        config = config or LoRAConfig()
        library = need("baselines", "peft", "The editor 'lora' needs")
        _check_plain(model)
        bases = _projections(model, config.targets)
        super().__init__(model, tokenizer, config, ())
        self._learnable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        known = set(map(id, model.parameters()))
        try:
            self._wrapped = _wrapped(library, model, bases, config)
        except BaseException:
            _take_off(model, bases)
            self._let_learn()
            super().close()
            raise
        self._adapter = {name: p for name, p in model.named_parameters() if id(p) not in known}
        self._layers = [(*_place(model, name), model.get_submodule(name)) for name in bases]
        for name, parameter in self._adapter.items():
            _start(name, parameter, seed)
        self._freeze()

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Leave the model untouched within the block, in every thread.

        Raises:
            ModelError: after :meth:`close`.
        """
        self._check_open()
        try:
            with self._wrapped.disable_adapter():
                yield
        finally:
            self._freeze()  # turned on again, adapters take gradients

    def close(self) -> None:
        """Take the adapters off the model, which has its own modules again; once more does nothing."""
        if self._is_open():
            self._wrapped.unload()
            vars(self.model).pop("peft_config", None)  # some releases of peft leave it
            self._let_learn()
        super().close()

    def _write(self, edits: Sequence[Edit]) -> None:
        samples = plain_samples(self.contexts, edits, end=self.config.train_end)
        weights = list(self._adapter.values())
        try:
            for weight in weights:
                weight.requires_grad_()
            descend(
                lambda some, others: target_losses(self.model, some, others),
                *(samples, weights, self.config.learning_rate, self.config),
                model=self.model,
            )
        finally:
            self._freeze()

    def _statistics(self) -> dict[str, Tensor]:
        return {name: parameter.data for name, parameter in self._adapter.items()}

    def _take_statistics(self, statistics: Mapping[str, Tensor]) -> None:
        if {name: t.shape for name, t in statistics.items()} != {name: p.shape for name, p in self._adapter.items()}:
            raise ValueError("other adapters than this method's")
        for name, tensor in statistics.items():
            self._adapter[name].data.copy_(tensor)

    @contextmanager
    def _bare(self) -> Iterator[None]:
        self._check_open()
        try:
            for parent, child, layer in self._layers:
                setattr(parent, child, layer.base_layer)
            yield
        finally:
            for parent, child, layer in self._layers:
                setattr(parent, child, layer)

    def _freeze(self) -> None:
        for parameter in self._adapter.values():
            parameter.requires_grad_(False).grad = None

    def _let_learn(self) -> None:
        for parameter in self._learnable:
            parameter.requires_grad_()


def _check_plain(model: PreTrainedModel) -> None:
    if hasattr(model, "peft_config"):
        raise ModelError(f"{type(model).__name__} has adapters of peft already: unload or merge them first.")
    if any(parameter.is_meta for parameter in model.parameters()):
        raise ModelError(f"Weights of {type(model).__name__} are not in memory: load the model without offloading.")
    # peft would leave a hook on it.
    if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        raise ModelError("The model is set to train with gradient checkpointing: switch that off first.")


def _projections(model: PreTrainedModel, targets: str) -> list[str]:
    """Names of the modules that get an adapter."""
    layout = Layout.of(model)
    found: list[nn.Module] = []
    for number in range(len(layout.layers)):
        if targets == "attention":
            found += layout.query_and_value(number)
        elif (down := layout.down_projection(number)) is not None:
            found.append(down)
    if not found:
        other = "attention" if targets == "down" else "down"
        raise ModelError(
            f"No layer of {type(model).__name__} has the projections of targets={targets!r} (a mixture of experts has "
            f"not one down projection): set targets to {other!r}, or take another model."
        )
    wanted = set(map(id, found))
    return [name for name, module in model.named_modules() if id(module) in wanted]


def _wrapped(library: Any, model: PreTrainedModel, names: Sequence[str], config: LoRAConfig) -> Any:
    """Return the model with adapters in its modules, inside peft's wrapper."""
    settings = library.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules=list(names),
        lora_dropout=0.0,
        bias="none",
        # GPT-2's layers hold their weights transposed.
        fan_in_fan_out=not isinstance(model.get_submodule(names[0]), nn.Linear),
    )
    try:
        with torch.random.fork_rng(devices=[]):  # peft draws a start, which is drawn anew
            return library.get_peft_model(model, settings, adapter_name=_ADAPTER)
    except ValueError as error:
        raise ModelError(f"peft cannot adapt {type(model).__name__} ({error}): take another model.") from error


def _take_off(model: PreTrainedModel, names: Sequence[str]) -> None:
    """Give the model its own modules back where adapters were put into some of them only."""
    for name in names:
        layer: Any = model.get_submodule(name)
        if hasattr(layer, "base_layer"):
            setattr(*_place(model, name), layer.base_layer)
    vars(model).pop("peft_config", None)


def _start(name: str, parameter: nn.Parameter, seed: int) -> None:
    """U(−1/√d_in, 1/√d_in) for A, as linear layers start, and zero for B."""
    if ".lora_B." in name:
        parameter.data.zero_()
        return
    drawn = torch.rand(parameter.shape, generator=seeded(f"{seed}:{name}")) * 2 - 1
    parameter.data.copy_(drawn / math.sqrt(parameter.shape[1]))


def _place(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """Return a module's parent, and what the parent calls it."""
    parent, _, child = name.rpartition(".")
    return model.get_submodule(parent), child
