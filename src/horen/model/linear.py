"""Linear maps, plain and quantized: what their weights are made of, and whether gradients pass them.

A kind of quantization is told by what it does (parts of a tensor, state of a module, gradients), never by its name.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from horen.errors import ModelError
from horen.model.alone import here
from horen.model.devices import run_token


def projection_out(module: nn.Module) -> int | None:
    """Return the output size of a linear module; None for anything else."""
    for name in ("out_features", "nf"):
        size = getattr(module, name, None)
        if isinstance(size, int):
            return size
    return None


def is_plain(module: nn.Module | None) -> bool:
    """Return whether a module is torch's or transformers' linear map, with a weight that is a tensor like any other."""
    weight: object = getattr(module, "weight", None)
    return type(module) in (nn.Linear, Conv1D) and type(weight) in (nn.Parameter, Tensor)


def frozen_maps(parts: Iterable[nn.Module]) -> dict[Any, None]:
    """Return the plain linear modules in some parts whose weights are in memory and not trained, in order."""
    return {
        module: None
        for part in parts
        for module in part.modules()
        if is_plain(module) and not module.weight.is_meta and not module.weight.requires_grad
    }


def parts_of(name: str, weights: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield the plain tensors that weights are made of, by name.

    They are the weights, or the codes and scales of quantized ones.
    """
    flatten = getattr(weights, "__tensor_flatten__", None)
    parts = {} if flatten is None else {part: getattr(weights, part) for part in sorted(flatten()[0])}
    # What consists of one tensor of its own type, such as a shard, behaves as a whole.
    if not parts or (len(parts) == 1 and next(iter(parts.values())).dtype == weights.dtype):
        yield name, weights
        return
    for part, tensor in parts.items():
        yield from parts_of(f"{name}.{part}", tensor)


def kept_beside(model: nn.Module) -> dict[str, Tensor]:
    """Return what linear modules keep that are no parameters, by name, such as scales of quantized weights."""
    # Parts of a parameter, which some modules save one by one, are known with it.
    parameters = model.named_parameters(remove_duplicate=False)
    known = {part for name, weights in parameters for part in (name, *(part for part, _ in parts_of(name, weights)))}
    found: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if projection_out(module) is not None and not is_plain(module):
            state: dict[str, Any] = module.state_dict(prefix=f"{name}." if name else "", keep_vars=True)
            kept = {key: value for key, value in state.items() if isinstance(value, Tensor) and not value.is_meta}
            found |= {key: value.detach() for key, value in kept.items() if key not in known}
    return found


def check_gradients(model: PreTrainedModel, parts: Iterable[nn.Module | None]) -> None:
    """Raise ModelError for a model with linear maps that no gradient passes, in parts that values are trained through.

    Plain ones need no look. The others are called once with what one token gives them, and taken backward.

    Raises:
        ModelError: naming the first one, and how it is quantized; or when the model does not run.
    """
    unsure = {
        module: None
        for part in parts
        if part is not None
        for module in part.modules()
        if projection_out(module) is not None and not is_plain(module)
    }
    if not unsure:
        return
    given: dict[nn.Module, Tensor] = {}

    def note(module: nn.Module, inputs: Any) -> None:
        if inputs:
            given[module] = inputs[0].detach()

    handles = [module.register_forward_pre_hook(here(note)) for module in unsure]
    try:
        # Without gradients first: some modules pack their weights for inference then, for good.
        run_token(model)
    finally:
        for handle in handles:
            handle.remove()
    names = {module: name for name, module in model.named_modules()}
    for module, hidden in given.items():
        if not _passes(module, hidden):
            raise ModelError(
                f"{type(model).__name__} cannot be edited as it is quantized: no gradient passes {names[module]} "
                f"({_kind(module)}) on {hidden.device.type}, and the values of edits are trained by gradients, so load "
                "it unquantized, or with int8 weights of torchao, optimum-quanto or bitsandbytes (docs/editors.md)."
            )


def _passes(module: nn.Module, hidden: Tensor) -> bool:
    """Return whether a gradient comes back through a module from what it makes of its input."""
    with torch.inference_mode(False), torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch says of a kernel without a way back is said in the error
        start = hidden.clone().requires_grad_()
        try:
            output = module(start)
            return output.requires_grad and bool(torch.autograd.grad(output.float().sum(), start)[0].isfinite().all())
        except (RuntimeError, NotImplementedError):  # whatever a kernel has to say: it has no way back
            return False


def _kind(module: nn.Module) -> str:
    """Return what a linear module is, and what its weight is where that is no plain tensor."""
    weight = getattr(module, "weight", None)
    kinds: list[type] = [type(module)]
    if isinstance(weight, Tensor) and type(weight) not in (Tensor, nn.Parameter):
        kinds.append(type(weight))
    return " of ".join(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
