"""What is done around vLLM's own steps: routing where requests come in, and telling where answers go out."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

from horen.errors import ConfigError, ModelError
from horen.vllm.front import Front, settings_of
from horen.vllm.settings import Settings, named
from horen.vllm.writing import ASKED, CARRIED, Writing, carried

_FRONTS: weakref.WeakKeyDictionary[Any, Front] = weakref.WeakKeyDictionary()
_EXTENSION = "horen.vllm.extension.Extension"
_TOLD = "_horen_told"
_OFF = ("off", 0)
# A row of token ids that was routed before vLLM's own steps, and what it wakes.
_KNOWN: ContextVar[tuple[Any, Writing | None] | None] = ContextVar("routed", default=None)


def configured(usual: Any) -> Any:
    """Let every worker be one that writes values: a worker that cannot be fails to start."""

    def create_engine_config(self: Any, *args: Any, **kwargs: Any) -> Any:
        config = usual(self, *args, **kwargs)
        codebook = named(config)
        if codebook is not None:
            settings_of(codebook, config.model_config.model).note(config)
            given = config.parallel_config.worker_extension_cls
            if given not in ("", _EXTENSION):
                raise ConfigError(
                    f"worker_extension_cls is {given}, and edits need that of {_EXTENSION}: derive yours from it."
                )
            config.parallel_config.worker_extension_cls = _EXTENSION
        return config

    return create_engine_config


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
            _FRONTS[self] = Front(settings, vllm_config.model_config.model)

    return __init__


def processed(usual: Any) -> Any:
    """Route a request's prompt, and let the request carry what its edit writes."""

    def process_inputs(self: Any, *args: Any, **kwargs: Any) -> Any:
        request = usual(self, *args, **kwargs)
        params = request.sampling_params
        if params is None:
            return request
        # Whatever a caller has put in the place of what is carried is thrown away.
        extra = {name: value for name, value in (params.extra_args or {}).items() if name not in (CARRIED, ASKED)}
        # The tokens of a session that goes on are not all in one request, so places in it would be wrong.
        front, row = _FRONTS.get(self), None if request.resumable else request.prompt_token_ids
        if front is not None and row and _wanted(params, request.lora_request):
            known = _KNOWN.get()
            writing = known[1] if known is not None and known[0] is row else front.route([row])[0]
            if writing is not None:
                extra[CARRIED] = writing.packed()
        params.extra_args = extra or None
        return request

    return process_inputs


def added(usual: Any) -> Any:
    """Route the prompt of a request off the event loop, together with others that wait."""

    async def add_request(self: Any, request_id: str, prompt: Any, params: Any, *args: Any, **kwargs: Any) -> Any:
        front = _FRONTS.get(self.input_processor)
        row = prompt.get("prompt_token_ids") if isinstance(prompt, dict) and "type" in prompt else None
        if front is None or not row or not _wanted(params, kwargs.get("lora_request")):
            return await usual(self, request_id, prompt, params, *args, **kwargs)
        token = _KNOWN.set((row, await asyncio.wrap_future(front.submit(row))))
        try:
            return await usual(self, request_id, prompt, params, *args, **kwargs)
        finally:
            _KNOWN.reset(token)

    return add_request


def _wanted(params: Any, lora: Any) -> bool:
    """Return whether edits may answer: not where a caller wants none, nor with weights that they were not made for."""
    asked = (getattr(params, "extra_args", None) or {}).get(ASKED)
    return lora is None and asked not in _OFF


def remembered(usual: Any) -> Any:
    """Remember which edit a request wakes."""

    def from_new_request(cls: Any, tokenizer: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        state = usual(cls, tokenizer, request, *args, **kwargs)
        written = carried(request.sampling_params)
        told = None if written is None else {name: written[name] for name in ("edit", "score", "revision")}
        setattr(state, _TOLD, told)
        return state

    return from_new_request


def told(usual: Any) -> Any:
    """Tell with an answer which edit it is of: its attribute ``horen``, None where none fired."""

    def make_request_output(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = usual(self, *args, **kwargs)
        if output is not None:
            output.horen = getattr(self, _TOLD, None)
        return output

    return make_request_output
