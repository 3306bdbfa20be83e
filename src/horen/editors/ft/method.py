"""Constrained fine-tuning as a method of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.config import resolve_layer
from horen.editors.common.finetuning import descend, target_losses
from horen.editors.common.samples import plain_samples
from horen.editors.common.weights import WeightMethod
from horen.editors.ft.config import FTConfig
from horen.edits import Edit
from horen.errors import ModelError
from horen.model.layout import Layout
from horen.model.partial.tail import Sample


class FT(WeightMethod):
    """Fine-tuning of one layer's down projection θ under a norm constraint (FT-L).

    Zhu et al. 2020 (arXiv 2012.00363) write facts by

        min_θ mean −log p_θ(target | prompt)   subject to   ‖θ − θ₀‖∞ ≤ ε

    with all other weights fixed. Meng et al. 2022 (arXiv 2202.05262) choose one MLP projection as θ, run Adam until the
    loss is low, and clamp θ to θ₀ ± ε after every step. Here a loss is the mean over the target's tokens, a batch of
    edits is trained together, and each rephrase counts as another prompt.

    Args:
        model: a decoder-only transformers model, in memory as a whole.
        tokenizer: the model's own, a fast one.
        config: the settings; None for the default preset.

    Raises:
        ModelError: when another method holds the model's weights, or the layer has not one down projection.
        ConfigError: when the settings name a layer that the model does not have.
    """

    name = "ft"
    config: FTConfig

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: FTConfig | None = None
    ) -> None:
        config = config or FTConfig()
        super().__init__(model, tokenizer, config, [_projection(model, config.layer)])

    def _write(self, edits: Sequence[Edit]) -> None:
        samples = plain_samples(self.contexts, edits, end=self.config.train_end)
        ((name, parameter),) = self._altered.items()
        dtype = torch.promote_types(parameter.dtype, torch.float32)
        original = self._originals[name].to(dtype)
        start = parameter.data.to(dtype)
        middle = original if self.config.norm_from == "original" else start
        unit = float(original.square().mean().sqrt()) if self.config.unit == "weight" else 1.0
        weight = start.clone().requires_grad_()

        def losses(some: Sequence[Sample], others: Mapping[str, Tensor]) -> Tensor:
            return target_losses(self.model, some, {**others, name: weight.to(parameter.dtype)})

        @torch.no_grad()
        def constrain() -> None:
            if self.config.norm:
                weight.clamp_(middle - self.config.norm * unit, middle + self.config.norm * unit)

        rate = self.config.learning_rate * unit
        descend(losses, samples, [weight], rate, self.config, model=self.model, constrain=constrain)
        self._point({name: weight.detach().to(parameter.dtype)})


def _projection(model: PreTrainedModel, layer: float) -> str:
    """Name of the weight of a layer's down projection."""
    layout = Layout.of(model)
    number = resolve_layer(layer, len(layout.layers), "layer")
    weight = getattr(layout.down_projection(number), "weight", None)
    name = next((name for name, parameter in model.named_parameters() if parameter is weight), None)
    if name is None:
        raise ModelError(
            f"Layer {number} of {type(model).__name__} has not one down projection to train (a mixture of experts has "
            "many): set layer to one that has, or take a model without experts."
        )
    return name
