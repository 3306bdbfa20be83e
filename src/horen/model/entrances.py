"""The ways into a model, and what is laid over them while it is wrapped."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from horen.model.alone import not_compiled
from horen.model.askers import Askers
from horen.model.calls import Call, State

_COMPILED = "_compiled_call_impl"
_CHECKPOINT = "_gradient_checkpointing_func"


class Overlay:
    """Attributes laid over modules' own, until they are taken off again."""

    def __init__(self) -> None:
        self._laid: list[tuple[nn.Module, str, Any, Any]] = []

    def lay(self, module: nn.Module, name: str, value: Any) -> None:
        """Let ``value`` be the module's attribute of that name."""
        # Noted first, so that an interruption leaves nothing that is not taken off.
        self._laid.append((module, name, value, module.__dict__.get(name)))
        module.__dict__[name] = value

    def take_off(self) -> None:
        """Put back what was there; what somebody has laid over it meanwhile stays."""
        while self._laid:
            module, name, value, before = self._laid.pop()
            if module.__dict__.get(name) is not value:
                continue
            del module.__dict__[name]
            if before is not None:
                module.__dict__[name] = before


def holding(model: nn.Module, layers: nn.Module) -> list[nn.Module]:
    """Return the modules that a call may begin with, outermost first.

    They are ``model`` and those in it that hold its layers.
    """
    return [m for m in model.modules() if m is not layers and any(part is layers for part in m.modules())]


@dataclass(frozen=True)
class Entering:
    """What is done around a call of a model.

    Attributes:
        state: what is going on in this thread.
        askers: those who ask; a call is one of them, unless edits are disabled.
        installed: tells whether this is still what lies around the model.
        before: called before a call.
        after: called after it, with None in the place of the output where it does not come to its end.
        wait: called first, also where edits are disabled.
    """

    state: State
    askers: Askers
    installed: Callable[[], bool]
    before: Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]
    after: Callable[[nn.Module, tuple[Any, ...], Any], None]
    wait: Callable[[], None]


def around(module: nn.Module, entering: Entering) -> Callable[..., Any]:
    """Return a ``forward`` of a module with something done before and after it, whatever calls it.

    It is done once, however many such modules lie within each other.
    """
    state = entering.state
    own = module.forward
    # Compiled code knows nothing of hooks that come and go, as those do that read prompts and train values.
    plain = not_compiled(own)
    # The function below is not compiled, but what it calls would be.
    first, last = not_compiled(entering.before), not_compiled(entering.after)
    still, installed = not_compiled(entering.wait), not_compiled(entering.installed)
    enter, leave = not_compiled(entering.askers.enter), not_compiled(entering.askers.leave)

    @functools.wraps(own)
    def forward(*args: Any, **kwargs: Any) -> Any:
        if not state.running:
            still()
        if state.disabled:
            return plain(*args, **kwargs)
        if state.running:
            return own(*args, **kwargs)
        if not installed():  # what somebody has laid over it still calls it
            return own(*args, **kwargs)
        enter()
        try:
            # What was done alone meanwhile may have put another editor's forward in the place of this one.
            return inside(*args, **kwargs) if installed() else module.forward(*args, **kwargs)
        finally:
            leave()

    def inside(*args: Any, **kwargs: Any) -> Any:
        output, state.running = None, True
        try:
            first(module, args, kwargs)
            output = own(*args, **kwargs)
            return output
        finally:
            state.running = False
            last(module, args, output)

    inside = not_compiled(inside, recursive=False)

    # What is within may be compiled; this itself, which decides about a prompt's words, may not.
    return not_compiled(forward, recursive=False)


class Uncompiled:
    """Lets the compiled parts of a model run as they are, for a while."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._lock = threading.Lock()
        self._inside = 0
        self._kept: dict[nn.Module, Any] = {}

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Run no compiled code within the block, which several threads may be in."""
        with self._lock:
            self._inside += 1
            for module in self._model.modules():
                if module.__dict__.get(_COMPILED) is not None:
                    self._kept[module] = module.__dict__.pop(_COMPILED)
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    for module, compiled in self._kept.items():
                        module.__dict__.setdefault(_COMPILED, compiled)
                    self._kept = {}


def replay(overlay: Overlay, module: nn.Module, state: State) -> None:
    """Let what a module computes again for its gradients be computed with the values of the first time.

    With gradient checkpointing a layer runs once more when a loss is taken backward, long after its call has ended.
    """
    own = module.__dict__.get(_CHECKPOINT)
    if own is not None and not getattr(own, "replays", False):
        overlay.lay(module, _CHECKPOINT, _replaying(own, state))


def _replaying(own: Callable[..., Any], state: State) -> Callable[..., Any]:
    @functools.wraps(own)
    def checkpoint(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        call = state.call
        return own(function if call is None else _with(call, function, state), *args, **kwargs)

    checkpoint.__dict__["replays"] = True
    return checkpoint


def _with(call: Call, function: Callable[..., Any], state: State) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        if state.call is call:  # the first time
            return function(*args, **kwargs)
        before, state.call = state.call, call.again()
        try:
            return function(*args, **kwargs)
        finally:
            state.call = before

    return run
