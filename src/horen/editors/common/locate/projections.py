"""The down projections that edits change, whichever way their weights lie."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from transformers import PreTrainedModel

from horen.errors import ModelError
from horen.model.layout import Layout, Site


@dataclass(frozen=True)
class Projection:
    """The linear module y = W k + b that ends a layer's MLP.

    Attributes:
        layer: its number.
        module: itself.
        name: of W among the model's parameters.
        transposed: whether the parameter is Wᵀ [d_k, d_v], as GPT-2's modules have it, and not W [d_v, d_k].
    """

    layer: int
    module: nn.Module
    name: str
    transposed: bool

    @staticmethod
    def of(model: PreTrainedModel, layout: Layout, layer: int, method: str) -> Projection:
        """Return the down projection of a layer.

        Raises:
            ModelError: where the layer's MLP has none or many, or it is no plain linear module.
        """
        module = layout.down_projection(layer)
        weight = getattr(module, "weight", None)
        name = next((name for name, parameter in model.named_parameters() if parameter is weight), None)
        if module is None or name is None:
            raise ModelError(
                f"{method!r} writes into one down projection, but the MLP of layer {layer} "
                f"({type(layout.mlp(layer)[1]).__name__}) has none or many, as in a mixture of experts: choose a layer "
                "whose MLP has one, or a method that needs none, such as 'horen' or 'grace'."
            )
        return Projection(layer, module, name, not hasattr(module, "out_features"))

    @property
    def site(self) -> Site:
        """Where its input is read."""
        return Site(self.layer, self.module, "input", "mlp_hidden")

    @property
    def key_size(self) -> int:
        """d_k: length of its input."""
        weight = self.module.get_parameter("weight")
        return int(weight.shape[0 if self.transposed else 1])

    def laid(self, change: Tensor) -> Tensor:
        """Return a change [d_v, d_k] of W, as the parameter lies."""
        return change.T if self.transposed else change
