"""A worker: writes what requests carry into the rows of a flat batch."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from horen.errors import ModelError
from horen.vllm.operator import Buffers, hook
from horen.vllm.settings import Settings
from horen.vllm.writing import Writing, carried

_KEPT = "_horen_kept"
_NEEDED = ("input_batch", "requests", "query_start_loc", "max_num_tokens", "_model_forward")


class _Kept:
    """What a worker knows of one request that carries something, for as long as it runs."""

    def __init__(self, writing: Writing) -> None:
        self.writing = writing
        self.follows = len(writing.writes) > 1
        self.tokens: dict[int, int] = {}


class Writer:
    """Tells of each step which rows are written.

    Args:
        runner: vLLM's model runner, with its model loaded.
        site: see :class:`horen.vllm.settings.Settings`.
        replaces: see there.

    Attributes:
        site: where values are written by this worker; None where another stage of a pipeline holds the module.

    Raises:
        ModelError: when the model has no such module, or the runner keeps its batch in another way than is known.
    """

    def __init__(self, runner: Any, site: str, *, replaces: bool) -> None:
        self._runner = runner
        missing = [name for name in _NEEDED if not hasattr(runner, name)]
        if missing:
            raise ModelError(
                f"{type(runner).__name__} has no {missing[0]}: edits need vLLM's first model runner, so set "
                "VLLM_USE_V2_MODEL_RUNNER=0."
            )
        module = _module(runner.get_model(), site)
        self.site: str | None = None
        self._buffers: Buffers | None = None
        if module is None:
            return  # another stage of a pipeline holds it
        config = runner.model_config
        like = torch.empty(0, dtype=config.dtype, device=runner.device)
        self._buffers = Buffers(runner.max_num_tokens, config.get_hidden_size(), like)
        # Compiled graphs take a module's buffers as they are, and follow what is written into them.
        module.add_module("horen", self._buffers)
        module.register_forward_hook(hook(self._buffers, replaces=replaces))
        self.site = site
        usual = runner._model_forward

        @functools.wraps(usual)
        def forward(*args: Any, **kwargs: Any) -> Any:
            self._plan(kwargs.get("input_ids", args[0] if args else None))
            try:
                return usual(*args, **kwargs)
            finally:
                self._plan_nothing()

        runner._model_forward = forward

    def _plan(self, input_ids: Any) -> None:
        """Set what the forward call that comes writes."""
        assert self._buffers is not None  # noqa: S101 - only then is this asked
        runner = self._runner
        batch, begins = runner.input_batch, runner.query_start_loc.np
        rows, values = [], []
        for place, name in enumerate(batch.req_ids):
            kept = _kept(runner.requests[name])
            if kept is None:
                continue
            begin, done = int(begins[place]), int(batch.num_computed_tokens_cpu[place])
            length = int(begins[place + 1]) - begin
            if kept.follows and input_ids is not None:
                run = input_ids[begin : begin + length].tolist()
                kept.tokens.update(zip(range(done, done + length), run, strict=True))
            for write in kept.writing.writes:
                if done <= write.at < done + length and self._stands(kept, write.at, write.behind, place):
                    rows.append(begin + write.at - done)
                    values.append(write.value)
        self._buffers.fill(rows, values)

    def _plan_nothing(self) -> None:
        """Set that nothing is written, as in calls that answer no request."""
        assert self._buffers is not None  # noqa: S101 - only then is this asked
        self._buffers.fill((), ())

    def _stands(self, kept: _Kept, at: int, behind: tuple[int, ...], place: int) -> bool:
        """Return whether the tokens before and at a place are those that a value is meant for."""
        known = self._runner.input_batch.token_ids_cpu[place]
        first = at + 1 - len(behind)
        return all(kept.tokens.get(n, int(known[n])) == token for n, token in enumerate(behind, first))


def _kept(request: Any) -> _Kept | None:
    kept: _Kept | None = getattr(request, _KEPT, None)
    if kept is None:
        given: Mapping[str, Any] | None = carried(request.sampling_params)
        if given is None:
            return None
        kept = _Kept(Writing.unpacked(given))
        setattr(request, _KEPT, kept)
    return kept


def _module(model: nn.Module, site: str) -> nn.Module | None:
    """Return the module of a name, by the end of it that begins with the layers' list; None where it lies elsewhere."""
    modules = dict(model.named_modules())
    parts = site.split(".")
    for first in range(len(parts)):
        end = ".".join(parts[first:])
        found = [name for name in modules if name == end or name.endswith("." + end)]
        if len(found) == 1:
            module = modules[found[0]]
            return None if type(module).__name__ == "PPMissingLayer" else module
        if len(found) > 1:
            break
    raise ModelError(f"The model that is served has no module {site}, at which the codebook's values are written.")


def loaded(usual: Any) -> Any:
    """Make a worker write values once its model is loaded, before anything is compiled."""

    def load_model(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = usual(self, *args, **kwargs)
        settings = Settings.of(self.vllm_config)
        if settings is not None:
            self.horen_writer = Writer(self.model_runner, settings.site, replaces=settings.replaces)
        return found

    return load_model
