"""What is done around vLLM's own steps: routing where requests come in, and telling where answers go out."""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from horen.errors import ConfigError, ModelError
from horen.front.front import BATCH, Carried, Front
from horen.front.wish import Wish
from horen.vllm.asked import CARRIED, carried, wish_of, without_words
from horen.vllm.settings import Settings, named, settings_of
from horen.vllm.worker import TOLD

_FRONTS: weakref.WeakKeyDictionary[Any, Front] = weakref.WeakKeyDictionary()
_EXTENSION = "horen.vllm.extension.Extension"
_TOLD = "_horen_told"
# In a beam's prompt, the one that it goes on from; and in that, what it wakes.
_BEGAN, _WOKEN = "horen:began", "horen:woken"
# Rows of token ids that were routed before vLLM's own steps, by their identity, and what each wakes.
_KNOWN: ContextVar[Mapping[int, tuple[Any, Carried | None]]] = ContextVar("routed", default=MappingProxyType({}))


def configured(usual: Any) -> Any:
    """Let every worker be one that writes values: a worker that cannot be fails to start."""

    def create_engine_config(self: Any, *args: Any, **kwargs: Any) -> Any:
        config = usual(self, *args, **kwargs)
        codebook = named(config)
        if codebook is not None:
            settings = settings_of(codebook, config.model_config.model)
            settings.note(config)
            if settings.reads:
                _read_inside(config)
            given = config.parallel_config.worker_extension_cls
            if given not in ("", _EXTENSION):
                raise ConfigError(
                    f"worker_extension_cls is {given}, and edits need that of {_EXTENSION}: derive yours from it."
                )
            config.parallel_config.worker_extension_cls = _EXTENSION
        return config

    return create_engine_config


def _read_inside(config: Any) -> None:
    """Make an engine one whose workers route.

    Raises:
        ConfigError: where it takes states from elsewhere, which nobody has read.
    """
    if config.kv_transfer_config is not None:
        raise ConfigError(
            "The codebook reads activations, and kv_transfer_config lets states come from elsewhere, which have none: "
            "leave it out, or let edits be found by text with `horen rekey --preset default`."
        )
    compilation = config.compilation_config
    if compilation.splitting_ops:  # what routes must run, not be replayed: it lies between captured graphs
        compilation.splitting_ops = [*compilation.splitting_ops, "horen::route", "horen::read"]
    if compilation.cudagraph_mode is not None and compilation.cudagraph_mode.has_full_cudagraphs():
        compilation.cudagraph_mode = type(compilation.cudagraph_mode).PIECEWISE


def refused(release: str, tested: Sequence[str]) -> Any:
    """Return what stops an engine that names a codebook, for a release of vLLM that is not known."""

    def around(usual: Any) -> Any:
        def create_engine_config(self: Any, *args: Any, **kwargs: Any) -> Any:
            config = usual(self, *args, **kwargs)
            if named(config) is not None:
                raise ModelError(
                    f"This is vLLM {release}, and edits were run with {', '.join(tested)}: install that one, or serve "
                    "without a codebook."
                )
            return config

        return create_engine_config

    return around


def begins(usual: Any) -> Any:
    """Read the codebook when the front of an engine begins."""

    def __init__(self: Any, vllm_config: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        usual(self, vllm_config, *args, **kwargs)
        settings = Settings.of(vllm_config)
        if settings is not None:
            _FRONTS[self] = Front.load(Path(settings.codebook), vllm_config.model_config.model)

    return __init__


def version_of(input_processor: Any) -> int | None:
    """Return which version of its codebook an engine answers with now; None where it has no edits."""
    front = _FRONTS.get(input_processor)
    return None if front is None else front.version()


def processed(usual: Any) -> Any:
    """Route a request's prompt, and let the request carry what its edit writes."""

    def process_inputs(self: Any, request_id: str, prompt: Any, *args: Any, **kwargs: Any) -> Any:
        request = usual(self, request_id, prompt, *args, **kwargs)
        params = request.sampling_params
        if params is None:
            return request
        front, row = _FRONTS.get(self), request.prompt_token_ids
        wish = Wish() if front is None else wish_of(params)
        # Whatever a caller has put in the place of what is carried is thrown away.
        extra = without_words(params.extra_args)
        # The tokens of a session that goes on are not all in one request, so places in it would be wrong.
        if front is not None and row and _wanted(wish, request.lora_request) and not request.resumable:
            known = _KNOWN.get().get(id(row)) or _woken(prompt)
            writing = front.route([_row(prompt) or row], wish)[0] if known is None else known[1]
            _remember(prompt, row, writing)
            if writing is not None:
                extra[CARRIED] = writing.packed()
        params.extra_args = extra or None
        return request

    return process_inputs


def added(usual: Any) -> Any:
    """Route the prompt of a request off the event loop, together with others that wait."""

    async def add_request(self: Any, request_id: str, prompt: Any, params: Any, *args: Any, **kwargs: Any) -> Any:
        front, row = _FRONTS.get(self.input_processor), _row(prompt)
        if front is None or row is None:
            return await usual(self, request_id, prompt, params, *args, **kwargs)
        try:
            wish, known = wish_of(params), _woken(prompt)
            if not _wanted(wish, kwargs.get("lora_request")):
                return await usual(self, request_id, prompt, params, *args, **kwargs)
            known = known or (row, await asyncio.wrap_future(front.submit(row, wish)))
        except ConfigError as error:
            raise _refusal(error) from error
        token = _KNOWN.set({id(prompt["prompt_token_ids"]): known})
        try:
            return await usual(self, request_id, prompt, params, *args, **kwargs)
        finally:
            _KNOWN.reset(token)

    return add_request


def _refusal(error: ConfigError) -> Exception:
    """Return what a server of vLLM takes for a mistake of whoever asked."""
    from horen.extras import require  # noqa: PLC0415

    require("vllm", "Edits in vLLM need")
    from vllm.exceptions import VLLMValidationError  # noqa: PLC0415

    found: Exception = VLLMValidationError(str(error))
    return found


def together(usual: Any) -> Any:
    """Route prompts that are asked offline in batches, each just before the engine is given its first."""

    def _render_and_add_requests(self: Any, prompts: Iterable[Any], params: Any, *args: Any, **kwargs: Any) -> Any:
        front = _FRONTS.get(self.llm_engine.input_processor)
        if front is None:
            return usual(self, prompts, params, *args, **kwargs)
        known: dict[int, tuple[Any, Carried | None]] = {}
        token = _KNOWN.set(known)
        try:
            return usual(
                self, _ahead(front, prompts, params, kwargs.get("lora_requests"), known), params, *args, **kwargs
            )
        finally:
            _KNOWN.reset(token)

    return _render_and_add_requests


def _ahead(
    front: Front,
    prompts: Iterable[Any],
    params: Sequence[Any],
    loras: Sequence[Any] | None,
    known: dict[int, tuple[Any, Carried | None]],
) -> Iterator[Any]:
    """Yield prompts, of which it is known by then what they wake."""
    asked, first = iter(prompts), 0
    while some := list(islice(asked, BATCH)):
        known.clear()
        wanted: dict[Wish, list[Sequence[int]]] = {}
        for number, prompt in enumerate(some, first):
            row, wish = _row(prompt), wish_of(params[number])
            if row is not None and _woken(prompt) is None and _wanted(wish, None if loras is None else loras[number]):
                wanted.setdefault(wish, []).append(row)
        for wish, rows in wanted.items():
            known |= {id(row): (row, found) for row, found in zip(rows, front.route(rows, wish), strict=True)}
        first += len(some)
        yield from some


def beamed(usual: Any) -> Any:
    """Let a beam say which prompt it goes on from: that one is routed, once, not what was answered to it so far."""

    def get_prompt(self: Any) -> Any:
        prompt = usual(self)
        if "prompt_token_ids" in self.orig_prompt:
            prompt[_BEGAN] = self.orig_prompt
        return prompt

    return get_prompt


def _row(prompt: Any) -> Sequence[int] | None:
    """Return the token ids of what vLLM has made of a prompt; None where it has none yet."""
    if not isinstance(prompt, dict) or "type" not in prompt:
        return None
    return prompt.get(_BEGAN, prompt).get("prompt_token_ids") or None


def _woken(prompt: Any) -> tuple[Any, Carried | None] | None:
    """Return what an earlier step of a beam search has found its prompt to wake."""
    found: tuple[Any, Carried | None] | None = prompt.get(_BEGAN, {}).get(_WOKEN) if isinstance(prompt, dict) else None
    return found


def _remember(prompt: Any, row: Sequence[int], writing: Carried | None) -> None:
    if isinstance(prompt, dict) and _BEGAN in prompt:
        prompt[_BEGAN].setdefault(_WOKEN, (row, writing))


def _wanted(wish: Wish, lora: Any) -> bool:
    """Return whether edits may answer: not where a caller wants none, nor with weights that they were not made for."""
    return wish.on and lora is None


def remembered(usual: Any) -> Any:
    """Remember which edit a request wakes, in an engine with edits."""

    def from_new_request(cls: Any, tokenizer: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        state = usual(cls, tokenizer, request, *args, **kwargs)
        if not _FRONTS:
            return state
        written = carried(request.sampling_params)
        named = ("edit", "score", "version")
        told = None if written is None or "edit" not in written else {name: written[name] for name in named}
        setattr(state, _TOLD, told)
        return state

    return from_new_request


def passed_on(usual: Any) -> Any:
    """Let the outputs of a step say which edits its prompts have woken inside of the engine."""

    def update_from_output(self: Any, scheduled: Any, found: Any) -> Any:
        outputs = usual(self, scheduled, found)
        told: Mapping[str, Any] = getattr(found, TOLD, {})
        for output in (one for many in outputs.values() for one in many.outputs) if told else ():
            if output.request_id in told:
                # No other field of an output takes what vLLM does not know.
                output.kv_transfer_params = {**(output.kv_transfer_params or {}), TOLD: told[output.request_id]}
        return outputs

    return update_from_output


def told(usual: Any) -> Any:
    """Tell with an answer which edit it is of: its attribute ``horen``, None where none fired."""
    place = list(inspect.signature(usual).parameters).index("kv_transfer_params") - 1

    def make_request_output(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = kwargs.get("kv_transfer_params") if len(args) <= place else args[place]
        if given and TOLD in given:
            setattr(self, _TOLD, given[TOLD])
            rest = {name: value for name, value in given.items() if name != TOLD} or None
            args, kwargs = _with(args, kwargs, place, rest)
        output = usual(self, *args, **kwargs)
        if output is not None and hasattr(self, _TOLD):
            output.horen = getattr(self, _TOLD)
        return output

    return make_request_output


def _with(
    args: tuple[Any, ...], kwargs: dict[str, Any], place: int, rest: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return arguments with another ``kv_transfer_params``."""
    if len(args) > place:
        return (*args[:place], rest, *args[place + 1 :]), kwargs
    return args, {**kwargs, "kv_transfer_params": rest}
