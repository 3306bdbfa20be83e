"""What training changed of an encoder, small enough to ship: four bits a weight, with a scale for every 32 of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

_BLOCK = 32
_LEVELS = 7  # codes are -7 to 7
_CODES, _SCALES = "#codes", "#scales"


def packed(base: Mapping[str, Tensor], tuned: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what a tuned state adds to a base one, as tensors to store; what is alike is left out.

    Args:
        base: float32 tensors by name.
        tuned: of the same shapes where the names are the same. What only this has is kept in float16.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tuned.items():
        if name not in base:
            found[name] = tensor.half()
        elif not torch.equal(base[name], tensor):
            change = tensor.float() - base[name].float()
            if change.ndim == 2 and change.shape[1] % _BLOCK == 0:
                found[name + _CODES], found[name + _SCALES] = _four_bits(change)
            else:
                found[name] = change.half()
    return found


def restored(base: Mapping[str, Tensor], stored: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """Return the tuned state that :func:`packed` was given, up to rounding.

    Args:
        base: the same as there.
        stored: what it gave.
        names: of all tensors of the tuned state.

    Raises:
        KeyError: when one is neither in ``base`` nor stored.
    """
    return {name: _restored(name, base, stored) for name in names}


def _restored(name: str, base: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> Tensor:
    if name + _CODES in stored:
        return base[name] + _from_four_bits(stored[name + _CODES], stored[name + _SCALES]).to(base[name])
    if name in stored:
        return stored[name].float() + base.get(name, torch.zeros(()))
    return base[name]


def _four_bits(change: Tensor) -> tuple[Tensor, Tensor]:
    """[n, d] float32 as [n, d / 2] uint8 codes and [n, d / 32] float16 scales."""
    blocks = change.reshape(len(change), -1, _BLOCK)
    scales = (blocks.abs().amax(-1) / _LEVELS).clamp_min(torch.finfo(torch.float16).tiny).half()
    codes = (blocks / scales.float()[..., None]).round().clamp(-_LEVELS, _LEVELS).to(torch.int16) + _LEVELS
    pairs = codes.reshape(len(codes), -1, 2)
    return (pairs[..., 0] * 16 + pairs[..., 1]).to(torch.uint8), scales


def _from_four_bits(codes: Tensor, scales: Tensor) -> Tensor:
    # Shifts and masks of bytes, which take a fraction of the time that quotients and remainders of them do.
    values = torch.stack([codes >> 4, codes & 15], dim=-1).flatten(1).float().sub_(_LEVELS)
    return (values.reshape(len(values), -1, _BLOCK) * scales.float()[..., None]).flatten(1)
