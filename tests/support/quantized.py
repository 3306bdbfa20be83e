"""Quantized weights made by hand, as packages for that make them: codes and scales in a tensor or beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

_LEVELS = 127


def coded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """[m, n] int8 codes and [m, 1] scales of a matrix."""
    scale = weight.abs().amax(1, keepdim=True) / _LEVELS
    return (weight / scale).round().to(torch.int8), scale


class Coded(Tensor):
    """A matrix as codes and scales, which knows how to multiply and nothing else."""

    codes: Tensor
    scale: Tensor

    @staticmethod
    def __new__(cls: Any, codes: Tensor, scale: Tensor) -> Coded:
        made: Any = Tensor._make_wrapper_subclass(cls, codes.shape, dtype=scale.dtype, device=codes.device)
        made.codes, made.scale = codes, scale
        return made

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["codes", "scale"], None

    @classmethod
    def __tensor_unflatten__(cls, parts: dict[str, Tensor], _context: None, _size: Any, _stride: Any) -> Coded:
        return cls(parts["codes"], parts["scale"])

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is linear:
            states, weight, *bias = args
            return linear(states, weight.codes.to(weight.scale) * weight.scale, *bias, **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func: Any, _types: Any, args: Any = (), _kwargs: Any = None) -> Any:
        if func is torch.ops.aten.detach.default:
            return cls(args[0].codes, args[0].scale)
        raise NotImplementedError(f"{cls.__name__} knows no {func}")


class Beside(nn.Module):
    """A linear map with codes and scales as buffers, and no parameter at all."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        self.out_features = plain.out_features
        codes, scale = coded(plain.weight.detach())
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)

    def forward(self, states: Tensor) -> Tensor:
        return linear(states, self.codes.to(self.scale) * self.scale)


class Packing(Beside):
    """One that packs its weights for inference when it is first called without gradients, and takes none from then."""

    packed = False

    def forward(self, states: Tensor) -> Tensor:
        self.packed |= not states.requires_grad
        return super().forward(states.detach() if self.packed else states)


def with_coded_weights(model: Any) -> Any:
    """A model whose linear maps, head and all, have :class:`Coded` weights."""
    for module in list(model.modules()):
        if type(module) is nn.Linear:
            module.weight = nn.Parameter(Coded(*coded(module.weight.detach())), requires_grad=False)
    return model


def with_modules(model: Any, make: Callable[[nn.Linear], nn.Module]) -> Any:
    """A model with other modules in the place of its linear maps, head and all."""
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            if type(module) is nn.Linear:
                setattr(parent, name, make(module))
    return model.eval()
