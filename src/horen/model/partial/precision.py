"""Where bfloat16 is the faster arithmetic, and the weights that it multiplies with."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from horen.config import TrainingSettings
from horen.model.alone import Forward
from horen.model.devices import device_of
from horen.model.linear import is_plain


def bfloat16_matrices(model: nn.Module, parts: Iterable[nn.Module]) -> dict[str, Tensor]:
    """Return what linear maps in some parts that are not trained multiply with, by its name in ``model``.

    Autocasting would make them anew at each step, because it remembers only weights that take a gradient.
    """
    linear = set(_matrices(parts))
    return {f"{name}.weight": module.weight.bfloat16() for name, module in model.named_modules() if module in linear}


def bfloat16_maps(parts: Iterable[nn.Module]) -> dict[nn.Module, Forward]:
    """Return what the same linear maps compute with such weights.

    The modules stay as they are, for other threads too.
    """
    maps: dict[nn.Module, Forward] = {}
    for module in _matrices(parts):
        other = copy.copy(module)
        other._parameters = {**module._parameters, "weight": nn.Parameter(module.weight.bfloat16(), False)}
        # Of its kind, not what accelerate may have put on the module: that belongs to the shared one.
        maps[module] = MethodType(type(module).forward, other)
    return maps


def _matrices(parts: Iterable[nn.Module]) -> dict[Any, None]:
    """Return the linear modules in memory that are not trained."""
    return {
        module: None
        for part in parts
        for module in part.modules()
        if is_plain(module) and not module.weight.is_meta and not module.weight.requires_grad
    }


def trains_roughly(model: PreTrainedModel, settings: TrainingSettings) -> bool:
    """Return whether values are optimised in bfloat16.

    They are where the settings leave it open and this machine is faster at it.
    """
    return settings.precision == "auto" and bfloat16_is_fast(model)


def bfloat16_is_fast(model: PreTrainedModel) -> bool:
    """Return whether this machine multiplies bfloat16 faster than the model's own float32."""
    if model.dtype != torch.float32:
        return False
    if device_of(model).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    known: Any = getattr(torch.cpu, "get_capabilities", dict)
    capabilities = known() if device_of(model).type == "cpu" else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
