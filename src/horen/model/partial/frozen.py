"""A model that stands still while something beside it is trained."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class _Still:
    """What a model was before it was frozen, and the threads that have it so."""

    def __init__(self, model: nn.Module) -> None:
        self.threads: list[int] = []
        self.training = [module for module in model.modules() if module.training]
        # By module and name: an offloaded module has other parameters after it has run.
        self.learnable = [
            (module, name)
            for module in model.modules()
            for name, parameter in module.named_parameters(recurse=False)
            if parameter.requires_grad
        ]

    @property
    def shows(self) -> bool:
        """Whether a call of another thread would compute another thing than on the model as it was."""
        return bool(self.training or (self.learnable and torch.is_grad_enabled()))


_changes = threading.Condition()
_still: dict[nn.Module, _Still] = {}


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Keep the model without dropout and with weights that take no gradient within the block; then it is as it was.

    The flags are the model's own: of several threads the first sets them and the last one puts them back.
    """
    threads: list[int] = []
    try:
        with _changes:
            state = _still.get(model) or _Still(model)
            _still[model] = state
            if not state.threads:
                model.eval()
                for module, name in state.learnable:
                    getattr(module, name).requires_grad_(False)
            threads = state.threads
            threads.append(threading.get_ident())
        yield
    finally:
        with _changes:
            if threading.get_ident() in threads:
                threads.remove(threading.get_ident())
            still = _still.get(model)
            if still is not None and not still.threads:
                for module, name in still.learnable:
                    getattr(module, name).requires_grad_(True)
                for module in still.training:
                    module.training = True
                del _still[model]
            _changes.notify_all()


def await_thaw(model: nn.Module) -> None:
    """Wait while other threads have a model frozen that this one would run with dropout or gradients."""
    if model not in _still:
        return
    with _changes:
        while (state := _still.get(model)) is not None and threading.get_ident() not in state.threads and state.shows:
            _changes.wait()
