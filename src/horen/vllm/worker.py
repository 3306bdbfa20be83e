"""A worker: writes what requests carry into the rows of a flat batch."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from horen.errors import ConfigError, ModelError
from horen.front.writing import Gathering, Writing
from horen.vllm.asked import carried
from horen.vllm.inside import Gathered, Inside
from horen.vllm.operator import Buffers, Seen, hook, reads, routes
from horen.vllm.settings import Settings

_KEPT = "_horen_kept"
_NEEDED = ("input_batch", "requests", "query_start_loc", "max_num_tokens", "_model_forward", "sample_tokens")
#: Where a step's output tells which edits its prompts have woken inside of the engine.
TOLD = "_horen_told"


class _Kept:
    """What a worker knows of one request that carries something, for as long as it runs.

    Attributes:
        writing: what is written; None where nothing is, and while it is not known.
        gathered: what is read of its prompt until it is known what it wakes; None from then on.
        tokens: those computed so far, by their place, where later ones are to be told by them.
    """

    def __init__(self, given: Mapping[str, Any], request: Any) -> None:
        inside = "prompt" in given
        self.writing = None if inside else Writing.unpacked(given)
        self.gathered = Gathered(Gathering.unpacked(given), request.prompt_token_ids) if inside else None
        self.tokens: dict[int, int] = {}

    @property
    def follows(self) -> bool:
        """Whether tokens are to be told apart."""
        return self.gathered is not None or (self.writing is not None and len(self.writing.writes) > 1)


class _Run(NamedTuple):
    """A request's tokens in a step: its place in the batch, the row of the first, how many came before, how many are.

    Attributes:
        name: of the request.
        kept: what is known of it.
        place: its number in the batch.
        row: of the flat batch at which the run begins.
        done: how many of its tokens were computed before.
        length: of the run.
    """

    name: str
    kept: _Kept
    place: int
    row: int
    done: int
    length: int


class Writer:
    """Tells of each step which rows are written.

    Args:
        runner: vLLM's model runner, with its model loaded.
        settings: which codebook, and where it reads and writes.

    Attributes:
        site: where values are written by this worker; None where another stage of a pipeline holds the module.

    Raises:
        ModelError: when the model has no such module, or the runner keeps its batch in another way than is known.
        ConfigError: when activations are read on another stage of a pipeline than values are written.
    """

    def __init__(self, runner: Any, settings: Settings) -> None:
        self._runner = runner
        missing = [name for name in _NEEDED if not hasattr(runner, name)]
        if missing:
            raise ModelError(
                f"{type(runner).__name__} has no {missing[0]}: edits need vLLM's first model runner, so set "
                "VLLM_USE_V2_MODEL_RUNNER=0."
            )
        model = runner.get_model()
        module, read = _module(model, settings.site), [(_module(model, name), side) for name, side in settings.reads]
        self.site: str | None = None
        self._seen: list[Seen] = []
        if read and any((module is None) is not (one is None) for one, _ in read):
            raise ConfigError(
                f"{settings.codebook} reads activations on one stage of the pipeline and writes values on another: let "
                "workers share heads instead of layers, or edits be found by text with `horen rekey --preset default`."
            )
        if module is None:
            return  # another stage of a pipeline holds it
        self._inside = Inside(settings.codebook, runner.model_config.model, runner.device) if read else None
        self._install(module, read, replaces=settings.replaces)
        self.site = settings.site

    def _install(self, module: nn.Module, read: Sequence[tuple[Any, str]], *, replaces: bool) -> None:
        """Put hooks on the modules that are read and written, and a plan before each step."""
        runner = self._runner
        config = runner.model_config
        hidden, like = config.get_hidden_size(), torch.empty(0, dtype=config.dtype, device=runner.device)
        for number, (one, side) in enumerate(read):
            size = getattr(one, "input_size", hidden) if side == "input" else hidden
            shards = getattr(one, "tp_size", 1) if side == "input" and getattr(one, "input_is_parallel", False) else 1
            self._seen.append(Seen(runner.max_num_tokens, size, like))
            one.add_module(f"horen_seen_{number}", self._seen[-1])
            reads(one, side, self._seen[-1], shards)
        self._buffers = Buffers(runner.max_num_tokens, hidden, like)
        # Compiled graphs take a module's buffers as they are, and follow what is written into them.
        module.add_module("horen", self._buffers)
        module.register_forward_hook(hook(self._buffers, replaces=replaces, seen=self._seen))
        self._runs: list[_Run] = []
        usual = runner._model_forward

        @functools.wraps(usual)
        def forward(*args: Any, **kwargs: Any) -> Any:
            self._plan(kwargs.get("input_ids", args[0] if args else None))
            try:
                return usual(*args, **kwargs)
            finally:
                self._plan_nothing()

        runner._model_forward = forward
        if self._inside is not None:
            routes(self._buffers, self._route)
            self._told: dict[str, dict[str, Any]] = {}
            runner.sample_tokens = self._telling(runner.sample_tokens)

    def _plan(self, input_ids: Any) -> None:
        """Set what the forward call that comes reads and writes."""
        runner = self._runner
        batch, begins = runner.input_batch, runner.query_start_loc.np
        self._runs = []
        for place, name in enumerate(batch.req_ids):
            kept = _kept(runner.requests[name])
            if kept is None:
                continue
            begin, done = int(begins[place]), int(batch.num_computed_tokens_cpu[place])
            length = int(begins[place + 1]) - begin
            if kept.follows and input_ids is not None:
                run = input_ids[begin : begin + length].tolist()
                kept.tokens.update(zip(range(done, done + length), run, strict=True))
            self._runs.append(_Run(name, kept, place, begin, done, length))
        wanted = any(run.kept.gathered is not None and run.kept.gathered.wants(*run[4:]) for run in self._runs)
        for seen in self._seen:
            seen.wanted.fill_(int(wanted))
        self._fill()

    def _fill(self) -> None:
        """Set what is written as far as it is known."""
        rows, values = [], []
        for run in self._runs:
            for write in () if run.kept.writing is None else run.kept.writing.writes:
                if run.done <= write.at < run.done + run.length and self._stands(run, write.at, write.behind):
                    rows.append(run.row + write.at - run.done)
                    values.append(write.value)
        self._buffers.fill(rows, values)

    def _route(self) -> None:
        """Take what was read in this step, and find what the prompts wake whose end is in it."""
        settled = False
        for run in self._runs:
            gathered = run.kept.gathered
            if gathered is None:
                continue
            if gathered.wants(run.done, run.length):
                gathered.take([seen.states for seen in self._seen], run.row, run.done, run.length)
            if run.done <= gathered.gathering.first < run.done + run.length:
                assert self._inside is not None  # noqa: S101 - who gathers routes
                writing = run.kept.writing = self._inside.route(gathered)
                run.kept.gathered, settled = None, True
                if writing is not None:
                    self._told[run.name] = writing.told
        if settled:
            self._fill()

    def _telling(self, usual: Any) -> Any:
        """Return a step's end whose output tells what was routed in it."""

        @functools.wraps(usual)
        def sample_tokens(*args: Any, **kwargs: Any) -> Any:
            found = usual(*args, **kwargs)
            output = getattr(found, "_model_runner_output", found)
            if self._told and hasattr(output, "req_ids"):
                told, self._told = self._told, {}
                setattr(output, TOLD, told)
            return found

        return sample_tokens

    def _plan_nothing(self) -> None:
        """Set that nothing is written, as in calls that answer no request."""
        self._runs = []
        self._buffers.fill((), ())
        for seen in self._seen:
            seen.wanted.fill_(0)

    def _stands(self, run: _Run, at: int, behind: tuple[int, ...]) -> bool:
        """Return whether the tokens before and at a place are those that a value is meant for."""
        known = self._runner.input_batch.token_ids_cpu[run.place]
        first = at + 1 - len(behind)
        return all(run.kept.tokens.get(n, int(known[n])) == token for n, token in enumerate(behind, first))


def _kept(request: Any) -> _Kept | None:
    kept: _Kept | None = getattr(request, _KEPT, None)
    if kept is None:
        given: Mapping[str, Any] | None = carried(request.sampling_params)
        if given is None:
            return None
        kept = _Kept(given, request)
        setattr(request, _KEPT, kept)
    return kept


def _module(model: nn.Module, site: str) -> nn.Module | None:
    """Return the module of a name, by the end of it that begins with the layers' list; None where it lies elsewhere."""
    modules = dict(model.named_modules())
    parts = site.split(".")
    for first in range(len(parts)):
        found = _named(modules, ".".join(parts[first:]))
        if len(found) == 1:
            return None if _is_missing(found[0]) else found[0]
        # Of a layer that another stage of a pipeline holds, nothing is here but something in its place.
        for stop in range(first + 2, len(parts)):
            if any(map(_is_missing, _named(modules, ".".join(parts[first:stop])))):
                return None
        if found:
            break
    raise ModelError(f"The model that is served has no module {site}, at which the codebook's values are written.")


def _named(modules: Mapping[str, nn.Module], end: str) -> list[nn.Module]:
    return [module for name, module in modules.items() if name == end or name.endswith("." + end)]


def _is_missing(module: nn.Module) -> bool:
    return type(module).__name__ == "PPMissingLayer"


def loaded(usual: Any) -> Any:
    """Make a worker write values once its model is loaded, before anything is compiled."""

    def load_model(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = usual(self, *args, **kwargs)
        settings = Settings.of(self.vllm_config)
        if settings is not None:
            self.horen_writer = Writer(self.model_runner, settings)
        return found

    return load_model
