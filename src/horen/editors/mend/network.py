"""The editor network of MEND: from pairs (u, δ) to pseudo-pairs (ũ, δ̃) whose product changes a weight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from horen.editors.common.gradients import Captured, Linear, Moments

_INPUTS, _GRADIENTS = "inputs", "gradients"


class Transform(nn.Module):
    """g for the weights of one shape, which share it; d = d_in + d_out.

    With z = [u ‖ δ] normalised and σ(x) = max(x, 0):

    h = z + σ(s₁ ⊙ (U₁·V₁·z + b) + o₁)
    g(z) = h + σ(s₂ ⊙ (U₂·V₂·h) + o₂)

    U [d, r], V [r, d] and b [d] are shared; each weight has its own s and o, [d]. As U, b and o start at 0, s at 1 and
    V as Glorot and Bengio (2010) have it, g starts as the identity.

    Args:
        count: how many weights share it.
        size: d.
        rank: r; at most d is used.
        generator: of V.
    """

    def __init__(self, count: int, size: int, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        rank = min(rank, size)
        spread = (2 / (rank + size)) ** 0.5
        self.up = nn.Parameter(torch.zeros(2, size, rank))
        self.down = nn.Parameter(torch.randn(2, rank, size, generator=generator) * spread)
        self.bias = nn.Parameter(torch.zeros(size))
        self.scale = nn.Parameter(torch.ones(count, 2, size))
        self.offset = nn.Parameter(torch.zeros(count, 2, size))

    def forward(self, pairs: Tensor, place: int) -> Tensor:
        """Return transformed pairs [N, d] float32 of the weight with number ``place`` among those of its shape."""
        for layer in range(2):
            low = pairs @ self.down[layer].T @ self.up[layer].T
            if layer == 0:
                low = low + self.bias
            # At the start all of this is 0, where clamp passes a gradient on and torch's relu does not.
            pairs = pairs + (self.scale[place, layer] * low + self.offset[place, layer]).clamp(min=0)
        return pairs


class Network(nn.Module):
    """Transforms for all weights that are changed, a step size α for each, and what pairs are normalised by.

    Args:
        linears: the modules whose weights are changed.
        rank: see :class:`Transform`.
        step_size: α to start with.
        seed: of what is drawn.
    """

    def __init__(self, linears: Sequence[Linear], rank: int, step_size: float, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        shapes = [(linear.d_in, linear.d_out) for linear in linears]
        distinct = list(dict.fromkeys(shapes))
        self._owner = [distinct.index(shape) for shape in shapes]
        self._place = [shapes[:number].count(shape) for number, shape in enumerate(shapes)]
        self.transforms = nn.ModuleList(
            Transform(shapes.count(shape), sum(shape), rank, generator) for shape in distinct
        )
        self.step_sizes = nn.Parameter(torch.full((len(linears),), step_size))
        self.moments = [{_INPUTS: Moments(linear.d_in), _GRADIENTS: Moments(linear.d_out)} for linear in linears]

    def learn_moments(self, found: Captured) -> None:
        """Count captured pairs among those that pairs are normalised by; those without a gradient are left out."""
        for moments, inputs, gradients in zip(self.moments, found.inputs, found.gradients, strict=True):
            alive = gradients.any(-1)
            if alive.any():
                moments[_INPUTS].update(inputs[alive.to(inputs.device)])
                moments[_GRADIENTS].update(gradients[alive])

    def forward(self, found: Captured) -> list[tuple[Tensor, Tensor]]:
        """Return ũ [N, d_in] and −α·δ̃ [N, d_out] of each module, float32: ΔA of a token is their outer product.

        A token without a gradient changes nothing.
        """
        changes, device = [], self.step_sizes.device
        for number, moments in enumerate(self.moments):
            inputs, gradients = found.inputs[number].to(device), found.gradients[number].to(device)
            alive = gradients.any(-1, keepdim=True)
            parts = moments[_INPUTS].normalised(inputs), moments[_GRADIENTS].normalised(gradients)
            pairs = self.transforms[self._owner[number]](torch.cat(parts, dim=-1), self._place[number])
            left, right = pairs.tensor_split([inputs.shape[-1]], dim=-1)
            changes.append((left, -self.step_sizes[number] * right * alive))
        return changes

    def tensors(self) -> dict[str, Tensor]:
        """Return all that :meth:`take` needs."""
        found = {f"network.{name}": parameter.detach() for name, parameter in self.named_parameters()}
        for number, parts in enumerate(self.moments):
            for part, moments in parts.items():
                found |= {f"moments.{number}.{part}.{name}": tensor for name, tensor in moments.to_dict().items()}
        return found

    def take(self, tensors: dict[str, Tensor]) -> None:
        """Take up what :meth:`tensors` gave.

        Raises:
            KeyError: when a tensor is missing.
            ValueError: when one is of another size.
        """
        for name, parameter in self.named_parameters():
            saved = tensors[f"network.{name}"]
            if saved.shape != parameter.shape:
                raise ValueError(f"{name} is of another size")
            parameter.data.copy_(saved)
        for number, parts in enumerate(self.moments):
            for part, moments in parts.items():
                moments.take({name: tensors[f"moments.{number}.{part}.{name}"] for name in moments.to_dict()})


@contextmanager
def edited(
    linears: Sequence[Linear], changes: Sequence[tuple[Tensor, Tensor]], sample: Tensor, count: int
) -> Iterator[None]:
    """Let each row of a batch meet its own edit within the block: y + Σ (x·ũ)·(−α·δ̃) over the edit's tokens.

    Args:
        linears: the modules.
        changes: what the network gave for them.
        sample: [N] the row that each token's change is for.
        count: rows of the batch.
    """
    sizes = torch.bincount(sample, minlength=count).tolist()

    def hook(number: int) -> Any:
        left, right = (pad_sequence(list(torch.split(part, sizes)), batch_first=True) for part in changes[number])

        def add(_module: nn.Module, given: Any, output: Tensor) -> Tensor:
            x: Tensor = given[0].reshape(count, -1, left.shape[-1]).float()
            change = x @ left.to(x.device).mT @ right.to(x.device)
            return output + change.reshape(output.shape).to(output.dtype)

        return add

    with ExitStack() as stack:
        for number, linear in enumerate(linears):
            stack.callback(linear.module.register_forward_hook(hook(number)).remove)
        yield
