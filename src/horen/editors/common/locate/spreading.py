"""What MEMIT and AlphaEdit share: a batch's residual is spread over several layers (arXiv 2210.07229)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.config import resolve_layer
from horen.config.settings import setting
from horen.editors.common.locate.config import LocateConfig
from horen.editors.common.locate.covariance import exact
from horen.editors.common.locate.method import LocateMethod
from horen.edits import Edit
from horen.errors import ConfigError, ModelError
from horen.model.layout import Layout, Site, first_tensor, with_first_tensor
from horen.model.partial.frozen import frozen
from horen.model.sources import Activations

_PLAIN = 0.02  # bfloat16 keeps 8 bits


@dataclass(frozen=True)
class SpreadingConfig(LocateConfig):
    """Settings of a method that spreads edits over several layers; all depths are those of layers 4 to 8 of 32."""

    first_layer: float = setting(0.125, "first of the layers that edits change: a depth or a number", layer=True)
    last_layer: float = setting(
        0.25, "last of them, where values are trained: a depth or a number; all between are changed", layer=True
    )
    max_norm: float = setting(
        0.75,
        "a value is at most this many times as long as the hidden state it is added to; 0.75 is the released "
        "configurations'",
        low=0,
        open_low=True,
    )


class SpreadingMethod(LocateMethod, ABC):
    """A method that writes a batch of edits into the down projections of the layers ℛ = first, …, L.

    With h_i^L the output of layer L at a subject's last token, values δ_i are trained there, z_i = h_i^L + δ_i, and
    then for l ∈ ℛ in order, h_i^L and the keys K₁ = [k_1 … k_u] being read anew:

        R^l = [z_i − h_i^L] / (L − l + 1),   W^l ← W^l + Δ(K₁, R^l)

    Keys and hidden states are means over a request's contexts.

    Args:
        model: a decoder-only transformers model, in memory as a whole.
        tokenizer: the model's own, a fast one.
        config: the settings.
        progress: show a bar on stderr while covariances are measured.

    Raises:
        ModelError: when a layer has not one down projection, or, of several layers, adds something else than its MLP's
            output to the hidden state; or when another method holds the model's weights.
        ConfigError: when the settings name layers that the model does not have, or a text that cannot be read.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: SpreadingConfig,
        *,
        progress: bool = False,
    ) -> None:
        layout = Layout.of(model)
        count = len(layout.layers)
        first = resolve_layer(config.first_layer, count, "first_layer")
        last = resolve_layer(config.last_layer, count, "last_layer")
        if first > last:
            raise ConfigError(
                f"first_layer={config.first_layer} is layer {first} and last_layer={config.last_layer} layer {last} of "
                f"{count}: the first must not come after the last."
            )
        layers = range(first, last + 1)
        for layer in layers if first < last else ():
            _check_residual(model, layout, layer, self.name)
        super().__init__(model, tokenizer, config, layout=layout, layers=layers, progress=progress)

    @abstractmethod
    def _change(self, number: int, keys: Tensor, residuals: Tensor) -> Tensor:
        """Δ [d_v, d_k] for the projection with this number, counted from the first layer's 0.

        Args:
            number: which one.
            keys: [u, d_k] float64, K₁ᵀ.
            residuals: [u, d_v] float64, Rᵀ.
        """

    def _write(self, edits: Sequence[Edit]) -> None:
        requests = self._requested(edits)
        last = self._projections[-1].layer
        end = Site(last, self._layout.layers[last], "output", "layer_output")
        (hidden,) = self._means(requests, [end])
        targets = hidden + self._train(requests, hidden)
        for number, projection in enumerate(self._projections):
            keys, now = self._means(requests, [projection.site, end])
            residuals = (targets - now) / (len(self._projections) - number)
            change = self._change(number, exact(keys), exact(residuals))
            self._add({projection.name: projection.laid(change).float()})


def _check_residual(model: PreTrainedModel, layout: Layout, layer: int, method: str) -> None:
    """Raise ModelError unless what is added to a layer's MLP output is added to the layer's output."""
    module = layout.mlp(layer)[1]
    source = Activations(model, [Site(layer, layout.layers[layer], "output", "layer_output")], 0.0)
    with frozen(model):
        (plain,) = source.states([[0]])

        def lift(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            states = first_tensor(output)
            return with_first_tensor(output, states + plain.reshape(states.shape).to(states))

        handle = module.register_forward_hook(lift)
        try:
            (lifted,) = source.states([[0]])
        finally:
            handle.remove()
    gap = torch.linalg.vector_norm((lifted - 2 * plain).float())
    if not gap <= _PLAIN * torch.linalg.vector_norm(plain.float()):
        raise ModelError(
            f"Layer {layer} ({type(layout.layers[layer]).__name__}) does not add its MLP's output to the hidden state "
            f"as it is, so {method!r} cannot spread an edit over layers of this model: let first_layer and last_layer "
            "name one layer, or use 'rome'."
        )
