"""In which arithmetic values are trained: the model's own, or a faster one with the model's own as the judge."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from horen.config import TrainingSettings
from horen.model.alone import Forward
from horen.model.devices import device_of
from horen.model.linear import frozen_maps
from horen.model.partial import rates
from horen.model.partial.head import Head
from horen.model.partial.int8 import int8_maps
from horen.model.partial.shortlist import Shortlist

# What lies between the products costs the same in every arithmetic, and a rough one is checked: it has to be this much
# faster, in seconds of the products.
_FASTER = 0.8
_FASTER_INT8 = 0.6
_MANY_TOKENS = 64


class Arithmetic(StrEnum):
    """What linear maps multiply in while values are optimised, or while prompts are read."""

    MODEL = "model"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"


@dataclass(frozen=True)
class Fast:
    """What layers that are not trained compute in an arithmetic; the modules stay as they are.

    Attributes:
        arithmetic: which one.
        maps: what their linear maps compute.
        head: the output head, None where it is more than a linear map.
    """

    arithmetic: Arithmetic
    maps: Mapping[nn.Module, Forward]
    head: Head | None

    @staticmethod
    def of(arithmetic: Arithmetic, parts: Iterable[nn.Module], head: Head | None, *, tokens: int) -> Fast:
        """Make it for some layers and a head, of which so many tokens are asked at once at most."""
        if arithmetic is Arithmetic.INT8:
            # Rounding the head pays where many tokens are asked: for few a pass is but reading it. Without a list all
            # that is said comes of the pass.
            pays = head is not None and tokens >= _MANY_TOKENS and Shortlist.pays(head)
            return Fast(arithmetic, int8_maps(parts), head.in_bytes() if head is not None and pays else head)
        if arithmetic is Arithmetic.BFLOAT16:
            return Fast(arithmetic, bfloat16_maps(parts), head and head.to(torch.bfloat16))
        return Fast(arithmetic, {}, head)


def fastest(model: PreTrainedModel, settings: TrainingSettings, *, coarse: bool = False) -> Arithmetic | None:
    """Return in what values are optimised before they are checked; None where nothing is faster than what checks them.

    Args:
        model: that is edited.
        settings: whose ``precision`` is asked.
        coarse: whether it may be bytes, in which not every value comes to rest.

    Returns:
        Another one than the model's own where the settings leave it open and this machine is faster at it. With many
        words the model's own is made faster by a list of the likely ones.
    """
    if settings.precision != "auto":
        return None
    if coarse and device_of(model).type == "cpu":
        taken = rates.seconds()
        own = taken.get(str(model.dtype).removeprefix("torch."))
        best = taken["bfloat16"] if bfloat16_is_fast(model) else own
        if best is not None and taken.get("int8", best) < _FASTER_INT8 * best:
            return Arithmetic.INT8
    if bfloat16_is_fast(model):
        return Arithmetic.BFLOAT16
    return Arithmetic.MODEL if Shortlist.pays(Head.of(model)) else None


def for_reading(model: PreTrainedModel, settings: TrainingSettings) -> Arithmetic:
    """Return in what prompts before their last token are read, which a check takes as it is: in bytes they never are.

    It is another one than the model's own where the settings leave it open and this machine is faster at it: bfloat16
    for float32, or float32 for half precision, of which some processors have no products.
    """
    if settings.precision != "auto":
        return Arithmetic.MODEL
    if bfloat16_is_fast(model):
        return Arithmetic.BFLOAT16
    if device_of(model).type == "cpu" and model.dtype in (torch.bfloat16, torch.float16):
        taken = rates.seconds()
        if taken["float32"] < _FASTER * taken[str(model.dtype).removeprefix("torch.")]:
            return Arithmetic.FLOAT32
    return Arithmetic.MODEL


def bfloat16_is_fast(model: PreTrainedModel) -> bool:
    """Return whether this machine multiplies bfloat16 faster than the model's own float32."""
    if model.dtype != torch.float32:
        return False
    kind = device_of(model).type
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if kind != "cpu":
        return False
    taken = rates.seconds()
    return taken["bfloat16"] < _FASTER * taken["float32"]


def float32_maps(parts: Iterable[nn.Module]) -> dict[nn.Module, Forward]:
    """Return what linear maps of half precision in some parts compute in float32, without gradients.

    Their weights are widened as they are used, one at a time.
    """
    return {module: functools.partial(_widened, module) for module in frozen_maps(parts)}


def _widened(module: Any, given: Tensor) -> Tensor:
    weight = module.weight.float()
    bias = None if module.bias is None else module.bias.float()
    return linear(given.float(), weight.T if isinstance(module, Conv1D) else weight, bias).to(given.dtype)


def bfloat16_matrices(model: nn.Module, parts: Iterable[nn.Module]) -> dict[str, Tensor]:
    """Return what linear maps in some parts that are not trained multiply with, by its name in ``model``.

    Autocasting would make them anew at each step, because it remembers only weights that take a gradient.
    """
    maps = frozen_maps(parts)
    return {f"{name}.weight": module.weight.bfloat16() for name, module in model.named_modules() if module in maps}


def bfloat16_maps(parts: Iterable[nn.Module]) -> dict[nn.Module, Forward]:
    """Return what the same linear maps compute with such weights.

    The modules stay as they are, for other threads too.
    """
    maps: dict[nn.Module, Forward] = {}
    for module in frozen_maps(parts):
        other = copy.copy(module)
        other._parameters = {**module._parameters, "weight": nn.Parameter(module.weight.bfloat16(), False)}
        # Of its kind, not what accelerate may have put on the module: that belongs to the shared one.
        maps[module] = MethodType(type(module).forward, other)
    return maps
