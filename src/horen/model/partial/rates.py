"""How long a processor takes for what training steps are made of, in each arithmetic.

What a processor says it can do does not tell: some have instructions for bfloat16 that are half as fast as float32's.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from horen.model.partial.int8 import int8_maps

# A product of a few milliseconds: large enough to show what a processor is good at.
_ROWS, _IN, _OUT = 256, 768, 1024
_TURNS = 5


def seconds() -> Mapping[str, float]:
    """Return the seconds that a linear map and its gradient take on the CPU, by the name of the arithmetic.

    ``float32``, ``float16`` and ``bfloat16`` are products in that dtype, ``int8`` those of
    :func:`horen.model.partial.int8.int8_maps`, where there are any. Each is the least of five turns, measured once for
    a process and its number of threads.
    """
    return _seconds(torch.get_num_threads())


@functools.cache
def _seconds(_threads: int) -> Mapping[str, float]:
    weight, given = (torch.ones(size, _IN) for size in (_OUT, _ROWS))
    ways: dict[str, Callable[[], Tensor]] = {}
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        some, rows = weight.to(dtype), given.to(dtype).requires_grad_()
        ways[str(dtype).removeprefix("torch.")] = functools.partial(_both, functools.partial(linear, weight=some), rows)
    if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call] # others multiply bytes one by one
        module = nn.Linear(_IN, _OUT, bias=False).requires_grad_(False)
        ways["int8"] = functools.partial(_both, int8_maps([module])[module], given.clone().requires_grad_())
    least = dict.fromkeys(ways, float("inf"))
    for turn in range(_TURNS + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if turn:  # the first one sets up
                least[name] = min(least[name], time.perf_counter() - began)
    return MappingProxyType(least)


def _both(function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    with torch.enable_grad():
        found = function(rows)
    return torch.autograd.grad(found.sum(), rows)[0]
