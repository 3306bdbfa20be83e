"""WISE's adaptor: a routed prompt and its answer go through a side memory, all other rows through the layer alone."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from horen.config import HorenConfig
from horen.editors.common.gated import GatedAdapter
from horen.editors.wise.memory import Side
from horen.errors import ModelError
from horen.model.layout import first_tensor, with_first_tensor
from horen.model.past import past_of
from horen.model.prompts import PromptReader
from horen.model.sources import Activations

# On a cache: the memory of each row of the prompt in it.
_ROUTES = "_horen_side_routes"
_MAIN = -1


class _Here(threading.local):
    """What one forward call needs: number of its rows, the memory of each, and the down projection's input."""

    batch: int = 0
    routes: tuple[int, ...] = ()
    activation: Tensor | None = None


class WiseAdapter(GatedAdapter[Side]):
    """Wraps ``model`` so that its own ``forward`` and ``generate`` answer with side memories.

    A prompt is routed once. Without a cache its tokens come by at every step, and the boundary remembers its route;
    with one the route is kept with the cache, which the answer's tokens come with. A prompt that is fed in chunks is
    routed in the last: the side memory answers from there on.

    Args:
        model: a decoder-only transformers model.
        reader: finds prompts in token ids; one that reads all tokens.
        config: with read and write site in the adapted layer.
        down: that layer's down projection.
    """

    def __init__(self, model: PreTrainedModel, reader: PromptReader, config: HorenConfig, down: nn.Module) -> None:
        super().__init__(model, reader, config)
        self.down = down
        self._here = _Here()

    def wrap(self) -> None:
        """Put the hooks on the model.

        Raises:
            ModelError: when the model is wrapped already.
        """
        super().wrap()
        self._handles.append(self.down.register_forward_pre_hook(self._keep))

    def inputs(self, rows: Sequence[Sequence[int]]) -> list[Tensor]:
        """Return what the down projection is given for the n tokens of each row of ids, [n, d_k] float32."""
        with self.disabled(), self.uncompiled():
            return [
                states.float()
                for states in Activations(self.model, self.layout.read_sites(self.config), 1.0).states(rows)
            ]

    def _keep(self, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._here.activation = inputs[0] if self._here.batch else None

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super()._before(module, args, kwargs)
        here, state = self._here, self._state
        here.batch, here.routes, here.activation = 0, (), None
        if state.disabled or not self.awake:
            return
        given = self._given(module, args, kwargs)
        source = given.get("input_ids") if given.get("input_ids") is not None else given.get("inputs_embeds")
        if source is None:
            return
        here.batch = int(source.shape[0])
        if state.call is None:  # a step of an answer
            here.routes = getattr(past_of(given), _ROUTES, ())

    def _write(self, _module: nn.Module, _inputs: Any, output: Any) -> Any:
        here, call = self._here, self._state.call
        if call is not None and not call.gathers:
            found = {r.place.row: r.match.value for r in call.routed if r.match.fired}
            here.routes = tuple(found.get(row, _MAIN) for row in range(here.batch))
        activation, here.activation = here.activation, None
        hidden = first_tensor(output)
        side = self.placed(hidden.device)
        if side is None or activation is None or not here.routes:
            return None
        spread = here.batch // len(here.routes)  # a cache may have been repeated for several answers to each prompt
        rows = [route for route in here.routes for _ in range(spread)]
        states, seen = (
            hidden.reshape(here.batch, -1, hidden.shape[-1]),
            activation.reshape(here.batch, -1, activation.shape[-1]),
        )
        states = states.clone()
        for number, memory in enumerate(side.memories):
            own = torch.tensor([row for row, route in enumerate(rows) if route == number], device=hidden.device)
            if len(own):
                states[own] = (states[own].float() + seen[own].float() @ memory.T).to(states.dtype)
        return with_first_tensor(output, states.reshape(hidden.shape))

    def _after(self, *given: Any) -> None:
        super()._after(*given)
        here, output = self._here, given[-1]
        parts = output if isinstance(output, tuple) else (output or {}).values()  # none after an error
        if here.routes:
            for cache in parts:
                if hasattr(cache, "get_seq_length"):
                    setattr(cache, _ROUTES, here.routes)
        here.batch, here.routes = 0, ()


def needs_down_projection(down: nn.Module | None, layer: int) -> nn.Module:
    """Return the module, if there is one.

    Raises:
        ModelError: when there is none, as in a mixture of experts.
    """
    if down is None:
        raise ModelError(
            f"WISE copies one down projection, but the MLP of layer {layer} has none or many (a mixture of experts): "
            "choose another layer, or a method that takes any MLP, such as 'grace' or 'defer'."
        )
    return down
