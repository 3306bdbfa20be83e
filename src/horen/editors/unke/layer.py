"""Stage two of UnKE: one decoder layer alone, trained to give wanted outputs for inputs that are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PreTrainedModel

from horen.errors import ModelError
from horen.model.batching import batches
from horen.model.layout import first_tensor, with_first_tensor
from horen.model.padding import left_padded
from horen.model.sources import ReadOnly

_ROWS = 32


@dataclass(frozen=True)
class Call:
    """A batch of rows as a layer meets it.

    Attributes:
        args: what the layer is called with.
        kwargs: the same, by name.
        real: [B, S] bool, tokens that are no padding.
        outputs: [B, S, d] float32, what the layer shall give.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    real: Tensor
    outputs: Tensor

    def errors(self, layer: nn.Module, weights: Mapping[str, Tensor]) -> Tensor:
        """Return the squared error of what the layer gives with other weights, for M real tokens, [M] float32."""
        given = first_tensor(functional_call(layer, dict(weights), self.args, dict(self.kwargs)))
        return (given.float() - self.outputs)[self.real].square().sum(-1)


def record(
    model: PreTrainedModel,
    layer: nn.Module,
    rows: Sequence[Sequence[int]],
    shifted: nn.Module | None = None,
    shifts: Tensor | None = None,
) -> list[Call]:
    """Return the calls of a layer for rows of token ids, with the outputs that it gives now.

    Args:
        model: in evaluation mode.
        layer: one of its decoder layers.
        rows: of at least one token each.
        shifted: a module in the layer whose output at each row's last token is to be shifted, or None.
        shifts: [B, d] float32, by how much. Under causal attention no other token's output changes with it.
    """
    found = []
    for batch in batches(rows, _ROWS):
        ids, mask, positions = left_padded([rows[i] for i in batch], model)
        calls: list[Call] = []

        def note(
            _module: nn.Module,
            args: tuple[Any, ...],
            kwargs: dict[str, Any],
            output: Any,
            calls: list[Call] = calls,
            mask: Tensor = mask,
        ) -> None:
            states = first_tensor(output)
            calls.append(Call(args, kwargs, mask.bool().to(states.device), states.float()))
            raise ReadOnly

        with ExitStack() as stack, torch.no_grad():
            stack.callback(layer.register_forward_hook(note, with_kwargs=True).remove)
            if shifted is not None and shifts is not None:
                stack.callback(shifted.register_forward_hook(_shift(shifts[batch], len(batch))).remove)
            try:
                model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
            except ReadOnly:
                found += calls
    return found


def train_layer(
    layer: nn.Module,
    names: Sequence[str],
    edits: Sequence[Call],
    preserved: Sequence[Call],
    *,
    steps: int,
    rate: float,
    weight: float,
) -> dict[str, Tensor]:
    """Return changes of weights that bring a layer's outputs near the wanted ones; leave the layer as it is.

    Args:
        layer: in evaluation mode.
        names: of the parameters that are trained, as ``layer.named_parameters()`` has them.
        edits: calls with the wanted outputs, at least one.
        preserved: calls whose outputs are to stay.
        steps: of Adam (Kingma and Ba 2015), each over all calls.
        rate: its step size.
        weight: λ of the preserved calls; see :class:`horen.editors.unke.method.Unke`.

    Returns:
        float32 changes by name.

    Raises:
        ModelError: when a weight is no longer a number.
    """
    starts = {name: layer.get_parameter(name).detach() for name in names}
    weights = {name: start.float().clone().requires_grad_() for name, start in starts.items()}
    optimizer = torch.optim.Adam(weights.values(), lr=rate)
    terms = [*_shared(edits, 1.0), *_shared(preserved, weight)]
    for _ in range(steps):
        optimizer.zero_grad()
        with torch.enable_grad():
            for call, share in terms:
                used = {name: value.to(starts[name].dtype) for name, value in weights.items()}
                (share * call.errors(layer, used).sum()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    changes = {name: value.detach() - starts[name].float() for name, value in weights.items()}
    if not all(bool(change.isfinite().all()) for change in changes.values()):
        raise ModelError(
            f"Training the layer with weight_rate={rate} ended in weights that are no numbers: give a smaller "
            "weight_rate, or load the model in float32."
        )
    return changes


def _shift(shifts: Tensor, rows: int) -> Any:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        hidden = first_tensor(output)
        states = hidden.reshape(rows, -1, hidden.shape[-1]).clone()
        states[:, -1] = (states[:, -1].float() + shifts.to(states.device)).to(states.dtype)
        return with_first_tensor(output, states.reshape(hidden.shape))

    return hook


def _shared(calls: Sequence[Call], weight: float) -> list[tuple[Call, float]]:
    """Return calls, each with what a token of theirs weighs."""
    tokens = sum(int(call.real.sum()) for call in calls)
    return [(call, weight / tokens) for call in calls]
