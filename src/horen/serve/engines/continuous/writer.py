"""Values in a packed batch: what each request's edit writes, in the step that computes the token it is written at."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from horen.errors import ModelError
from horen.model.layout import Site, first_tensor, rewritten
from horen.serve.engines.continuous.batch import Run


class _Here(threading.local):
    """What is written in the step that this thread computes: rows of the packed batch and their values."""

    rows: tuple[int, ...] = ()
    values: tuple[Tensor, ...] = ()
    width: int = 0


class Writer:
    """Writes values by hooks, in steps of a packed batch alone: whoever else runs the model meets none of them.

    A value is written whenever the states of its token are computed, which is once, or once more where a request's
    states were given up meanwhile.

    Args:
        model: that is served.
        site: where values are written.
        runs: tells the requests of a step.
    """

    def __init__(
        self,
        model: nn.Module,
        site: Site,
        runs: Callable[[], list[Run]],
    ) -> None:
        self._site, self._runs = site, runs
        self._here = _Here()
        self._handles = [
            model.register_forward_pre_hook(self._plan, with_kwargs=True),
            site.module.register_forward_hook(self._write),
            model.register_forward_hook(self._forget, always_call=True),
        ]

    def take_off(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()

    def _plan(self, _module: nn.Module, _args: Any, kwargs: dict[str, Any]) -> None:
        if kwargs.get("cu_seq_lens_q") is None:  # no packed batch
            return
        runs, width = self._runs(), int(kwargs["input_ids"].shape[1])
        if sum(run.length for run in runs) != width:
            raise ModelError(f"A step has {width} rows, and its requests have others: edits would be written astray.")
        rows, values = [], []
        for run in runs:
            for write in () if run.writing is None else run.writing.writes:
                if run.done <= write.at < run.done + run.length and _stands(run, write.at, write.behind):
                    rows.append(run.row + write.at - run.done)
                    values.append(write.value)
        self._here.rows, self._here.values, self._here.width = tuple(rows), tuple(values), width

    def _write(self, _module: nn.Module, _inputs: Any, output: Any) -> Any:
        rows = self._here.rows
        if not rows:
            return None
        values = torch.stack(self._here.values).to(first_tensor(output).device)
        shape = (1, self._here.width)
        return rewritten(output, shape, [0] * len(rows), rows, lambda hidden: self._site.written(values, hidden))

    def _forget(self, _module: nn.Module, _inputs: Any, _output: Any) -> None:
        self._here.rows = self._here.values = ()


def _stands(run: Run, at: int, behind: tuple[int, ...]) -> bool:
    """Return whether the tokens before and at a place are those that a value is meant for."""
    return not behind or tuple(run.tokens()[at + 1 - len(behind) : at + 1]) == behind
