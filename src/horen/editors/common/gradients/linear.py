"""The linear modules of a model's MLPs, whichever way round they hold their weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from horen.config import resolve_layer
from horen.errors import ConfigError, ModelError
from horen.model.layout import Layout

MODULES = ("in", "out", "both")


@dataclass(frozen=True)
class Linear:
    """A linear module y = x·A + b, x in ℝ^d_in and y in ℝ^d_out.

    Attributes:
        name: of its weight, as ``model.named_parameters()`` has it.
        module: the module.
        d_in: size of an input.
        d_out: size of an output.
        transposed: whether the weight is A itself, [d_in, d_out], not [d_out, d_in].
    """

    name: str
    module: nn.Module
    d_in: int
    d_out: int
    transposed: bool

    def as_weight(self, change: Tensor) -> Tensor:
        """Return a [d_in, d_out] change of A in the weight's own shape."""
        return change if self.transposed else change.T


def layer_range(first: float, last: float, layout: Layout) -> range:
    """Return the numbers of the layers from one setting of a layer to another, both included.

    Raises:
        ConfigError: when the model has no such layers, or the last is before the first.
    """
    count = len(layout.layers)
    low, high = resolve_layer(first, count, "first_layer"), resolve_layer(last, count, "last_layer")
    if high < low:
        raise ConfigError(
            f"last_layer={last} is layer {high}, before first_layer={first} (layer {low}): exchange them."
        )
    return range(low, high + 1)


def mlp_linears(model: PreTrainedModel, layers: Sequence[int], modules: str) -> list[Linear]:
    """Return the linear modules of some layers' MLPs, in the order in which a forward call comes by.

    Args:
        model: a decoder-only transformers model.
        layers: numbers of layers, ascending.
        modules: "in" for those that take the hidden size in, "out" for the down projection, or "both".

    Raises:
        ModelError: when an MLP has no single down projection, as a mixture of experts has none.
    """
    layout = Layout.of(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = []
    for number in layers:
        down = layout.down_projection(number)
        if down is None:
            raise ModelError(
                f"The MLP of layer {number} ({type(layout.mlp(number)[1]).__name__}) has no single down projection, as "
                "in a mixture of experts: choose layers with a plain MLP, or a method that changes no weights."
            )
        ups = layout.up_projections(number)
        chosen = {"in": ups, "out": [down], "both": [*ups, down]}[modules]
        found += [_linear(names, module) for module in chosen]
    return found


def _linear(names: dict[int, str], module: Any) -> Linear:
    transposed = not hasattr(module, "out_features")
    rows, columns = module.weight.shape
    d_in, d_out = (rows, columns) if transposed else (columns, rows)
    return Linear(names[id(module.weight)], module, d_in, d_out, transposed)
