"""Telling one model from another: a codebook is good for the weights it was made for and for no others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from horen.model.devices import parameters_of, weights_of
from horen.model.linear import kept_beside, parts_of

# Same-size integers view a weight's bits, so that their sum is exact and knows no order.
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_SAMPLES = 4
_CACHED = 1 << 16


def fingerprint(model: nn.Module, lengths: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Return architecture, exact weights and a sample of them, as JSON takes it; the same wherever the weights lie.

    Args:
        model: whose weights they are.
        lengths: rows of each parameter that count; None for all.

    Returns:
        ``architecture``: digest of every parameter's name and shape; ``dtype``; ``weights``: digest of the sums of
        every parameter's bits along its rows and columns, of a quantized one those of its codes and scales;
        ``sample``: a few weights of each, for a model in another dtype; ``beside``, where there is something: digest
        of what linear modules keep beside their parameters.

    Raises:
        ModelError: when a parameter has no weights.
    """
    shapes, sums = hashlib.sha256(), hashlib.sha256()
    sample: list[float] = []
    for name, parameter in sorted(parameters_of(model).items()):
        rows = _length(parameter) if lengths is None else lengths[name]
        shapes.update(f"{name}:{(rows, *parameter.shape[1:]) if parameter.ndim else ()};".encode())
        if not parameter.numel():
            continue
        whole = weights_of(model, name)  # one at a time: what is offloaded does not fit into memory as a whole
        for part, weights in parts_of(name, whole):
            counted = weights[:rows] if weights is whole and whole.ndim else weights
            # Sums along rows and along columns, so that weights that change places are noticed too.
            for summed in _sums(_bits(counted)):
                sums.update(part.encode() + summed.cpu().numpy().tobytes())
            if counted.is_floating_point():
                sample.extend(round(x, 7) for x in _sampled(counted))
    kinds = [parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()]
    dtype = str(kinds[0] if kinds else torch.get_default_dtype()).removeprefix("torch.")
    found = {"architecture": shapes.hexdigest(), "dtype": dtype, "weights": sums.hexdigest(), "sample": sample}
    beside = hashlib.sha256()
    kept = kept_beside(model)
    for name, tensor in sorted(kept.items()):
        for summed in _sums(_bits(tensor)):
            beside.update(f"{name}:{tuple(tensor.shape)}".encode() + summed.cpu().numpy().tobytes())
    return found | ({"beside": beside.hexdigest()} if kept else {})


class Weights:
    """What a model's weights were when this was made, and whether they still are.

    All of them are read once, and again only where something may have written to them. Further rows, as those of tokens
    that were added to the vocabulary, are no change: what holds without them holds with them.

    Args:
        model: whose weights they are.

    Attributes:
        first: their fingerprint at that time, with the rows that came later.

    Raises:
        ModelError: when a parameter has no weights.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._seen = _traces(model)
        self._lengths = _lengths(model)
        self.first = self._last = fingerprint(model)

    def change(self) -> str | None:
        """Say in words how they differ from what they were; None when they are the same.

        A write that goes past torch's counters shows where it reaches one of a few weights of each parameter, and one
        to weights that accelerate has offloaded does not show.
        """
        seen = _traces(self._model)
        if seen != self._seen:
            self._last = fingerprint(self._model)
            self._seen = seen
            if self._has_grown():
                self.first, self._lengths = self._last, _lengths(self._model)
        return difference(self.first, self._last)

    def _has_grown(self) -> bool:
        """Return whether some parameters have further rows, and nothing else is another."""
        now, before = _lengths(self._model), self._lengths
        if now.keys() != before.keys() or now == before or any(now[name] < rows for name, rows in before.items()):
            return False
        return fingerprint(self._model, before) == self.first


def _lengths(model: nn.Module) -> dict[str, int]:
    """Return how many rows every parameter has."""
    return {name: _length(parameter) for name, parameter in parameters_of(model).items()}


def _length(parameter: Tensor) -> int:
    return len(parameter) if parameter.ndim else 1


def _bits(weights: Tensor) -> Tensor:
    """Return [n, m] integers that have the bits of n rows of weights."""
    rows = len(weights) if weights.ndim else 1
    return weights.detach().contiguous().view(_INTEGERS[weights.element_size()]).reshape(rows, -1)


def _traces(model: nn.Module) -> list[tuple[object, ...]]:
    """Return what tells, at little cost, that a parameter may have been written to or replaced."""
    found: list[tuple[object, ...]] = []
    for name, parameter in model.named_parameters():
        # Offloaded weights are moved to and fro by every call.
        found += [(name,)] if parameter.is_meta else [_trace(*part) for part in parts_of(name, parameter)]
    return found + [_trace(name, tensor) for name, tensor in kept_beside(model).items()]


def _trace(name: str, tensor: Tensor) -> tuple[object, ...]:
    version = None if tensor.is_inference() else tensor._version
    return name, tensor.data_ptr(), version, *_sampled(tensor)


def _sampled(weights: Tensor) -> list[float]:
    """Return a few of a parameter's weights, from all over it."""
    flat = weights.detach().flatten()
    stride = max(1, flat.numel() // _SAMPLES)
    sample: list[float] = flat[::stride][:_SAMPLES].float().cpu().tolist()
    return sample


def _sums(bits: Tensor) -> tuple[Tensor, Tensor]:
    """Return sums of [n, m] integers over the rows and over the columns, int64."""
    if bits.device.type != "cpu":
        return bits.sum(0, dtype=torch.int64), bits.sum(1, dtype=torch.int64)
    columns, rows = bits.new_zeros(bits.shape[1], dtype=torch.int64), []
    size = max(1, _CACHED // max(1, bits.shape[1]))
    # As much at a time as the cache holds of 64-bit integers: a fifteenth of the time that sum(dtype=int64) takes.
    for start in range(0, len(bits), size):
        wide = bits[start : start + size].long()
        columns += wide.sum(0)
        rows.append(wide.sum(1))
    return columns, torch.cat(rows)


def difference(made_for: dict[str, Any], model: dict[str, Any]) -> str | None:
    """Say in words how a model differs from the one a fingerprint was taken of; None when it is the same."""
    if made_for["architecture"] != model["architecture"]:
        return "its architecture differs"
    if made_for["dtype"] == model["dtype"]:
        # What earlier releases saved says nothing of what is kept beside parameters.
        beside = made_for.get("beside", model.get("beside")) == model.get("beside")
        return None if beside and made_for["weights"] == model["weights"] else "its weights differ"
    ours, theirs = torch.tensor(model["sample"]), torch.tensor(made_for["sample"])
    return None if len(ours) == len(theirs) and _alike(ours, theirs) else "its weights differ"


def _alike(ours: Tensor, theirs: Tensor) -> bool:
    # bfloat16 keeps 8 bits of a weight; the smallest weights of a sample may vanish in float16.
    return bool(torch.isclose(ours, theirs, rtol=2**-7, atol=1e-5).all())
