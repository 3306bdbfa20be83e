"""The plugin: what vLLM calls in each of its processes.

Importing this imports nothing else, because vLLM only logs a plugin that it cannot import and serves the model without
it. What goes wrong afterwards stops the process.
"""

from __future__ import annotations

import functools
from typing import Any

_DONE = "_horen_done"
#: Releases that the plugin was run with.
TESTED = ("0.32.0",)


def register() -> None:
    """Prepare this process of vLLM's for edits; nothing changes where no codebook is named.

    With a release that is not known an engine without a codebook starts as ever, and one with a codebook does not.
    """
    from horen.extras import require  # noqa: PLC0415

    require("vllm", "Edits in vLLM need")
    import vllm  # noqa: PLC0415
    from vllm.engine.arg_utils import EngineArgs  # noqa: PLC0415

    from horen.vllm import process  # noqa: PLC0415

    if getattr(EngineArgs, _DONE, False):
        return
    setattr(EngineArgs, _DONE, True)
    if vllm.__version__.partition("+")[0] in TESTED:
        _install()
        _around(EngineArgs, "create_engine_config", process.configured)
    else:
        _around(EngineArgs, "create_engine_config", process.refused(vllm.__version__, TESTED))


def _install() -> None:
    from horen.extras import require  # noqa: PLC0415

    require("vllm", "Edits in vLLM need")
    from vllm.entrypoints.common.offline import OfflineInferenceMixin  # noqa: PLC0415
    from vllm.entrypoints.generate.beam_search.utils import BeamSearchSequence  # noqa: PLC0415
    from vllm.v1.core import kv_cache_utils  # noqa: PLC0415
    from vllm.v1.core.kv_cache_manager import KVCacheManager  # noqa: PLC0415
    from vllm.v1.core.sched.scheduler import Scheduler  # noqa: PLC0415
    from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415
    from vllm.v1.engine.input_processor import InputProcessor  # noqa: PLC0415
    from vllm.v1.engine.output_processor import RequestState  # noqa: PLC0415
    from vllm.v1.worker.gpu_worker import Worker  # noqa: PLC0415

    from horen.vllm import blocks, process, worker  # noqa: PLC0415

    _around(KVCacheManager, "get_computed_blocks", blocks.read_anew)
    _around(Scheduler, "update_from_output", process.passed_on)
    kv_cache_utils.generate_block_hash_extra_keys = blocks.own_blocks(kv_cache_utils.generate_block_hash_extra_keys)
    _around(InputProcessor, "__init__", process.begins)
    _around(InputProcessor, "process_inputs", process.processed)
    _around(BeamSearchSequence, "get_prompt", process.beamed)
    _around(AsyncLLM, "__init__", _serves)
    _around(AsyncLLM, "add_request", process.added)
    _around(OfflineInferenceMixin, "_render_and_add_requests", process.together)
    _around(Worker, "load_model", worker.loaded)
    _around(RequestState, "from_new_request", process.remembered)
    _around(RequestState, "make_request_output", process.told)


def _serves(usual: Any) -> Any:
    """Let the answers of a server tell of edits; its classes are there only where one may be started."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        usual(self, *args, **kwargs)
        _install_serving()

    return __init__


def _install_serving() -> None:
    from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat  # noqa: PLC0415
    from vllm.entrypoints.openai.completion.serving import OpenAIServingCompletion  # noqa: PLC0415

    from horen.vllm import serving  # noqa: PLC0415

    if getattr(OpenAIServingChat, _DONE, False):
        return
    setattr(OpenAIServingChat, _DONE, True)
    _around(OpenAIServingCompletion, "request_output_to_completion_response", serving.completed)
    _around(OpenAIServingCompletion, "completion_stream_generator", serving.streamed)
    _around(OpenAIServingChat, "chat_completion_full_generator", serving.conversed)
    _around(OpenAIServingChat, "chat_completion_stream_generator", serving.streamed)


def _around(owner: Any, name: str, wrap: Any) -> None:
    usual = owner.__dict__[name]
    if isinstance(usual, classmethod):
        setattr(owner, name, classmethod(functools.wraps(usual.__func__)(wrap(usual.__func__))))
    else:
        setattr(owner, name, functools.wraps(usual)(wrap(usual)))
