"""What acts on a shared model in the calling thread alone, while other threads run the same modules as they are."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

Forward = Callable[..., Any]

# Keeps torch.compile from looking into a function; typed here, which torch does not do.
not_compiled: Callable[..., Forward] = torch.compiler.disable

# Guards who installs and takes off; what a module computes is looked up without it.
_lock = threading.Lock()


class _Here(threading.local):
    """What modules compute in this thread in the place of their own forward."""

    def __init__(self) -> None:
        self.forwards: dict[nn.Module, Forward] = {}


_here = _Here()


class _Dispatch:
    """A module's forward in every thread: another function where a thread asked for one, else its own."""

    def __init__(self, module: nn.Module) -> None:
        own: Forward = module.forward
        functools.update_wrapper(self, own)
        self.module, self.own, self.users = module, own, 0
        # Accelerate replaces forwards too, and gets its own back.
        self.replaced = module.__dict__.get("forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _here.forwards.get(self.module, self.own)(*args, **kwargs)


@contextmanager
def instead(forwards: Mapping[nn.Module, Forward]) -> Iterator[None]:
    """Let modules compute other functions within the block, in this thread."""
    mine = _here.forwards
    before = {module: mine[module] for module in forwards if module in mine}
    held: list[_Dispatch] = []
    try:
        with _lock:
            for module in forwards:
                dispatch = module.__dict__.get("forward")
                if not isinstance(dispatch, _Dispatch):
                    dispatch = _Dispatch(module)
                    module.__dict__["forward"] = dispatch
                dispatch.users += 1
                held.append(dispatch)
        mine.update(forwards)
        yield
    finally:
        for module in forwards:
            mine.pop(module, None)
        mine.update(before)
        with _lock:
            for dispatch in held:
                dispatch.users -= 1
                if not dispatch.users and dispatch.replaced is None:
                    del dispatch.module.__dict__["forward"]
                elif not dispatch.users:
                    dispatch.module.__dict__["forward"] = dispatch.replaced


def here(hook: Forward) -> Forward:
    """Return a hook that does nothing in other threads than this one."""
    owner = threading.get_ident()

    def own(*args: Any, **kwargs: Any) -> Any:
        return hook(*args, **kwargs) if threading.get_ident() == owner else None

    return not_compiled(own)  # which thread this is cannot be traced
