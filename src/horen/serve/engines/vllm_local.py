"""vLLM in processes of this one's own, with edits by its plugin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from horen.errors import ConfigError, HorenError, ModelError
from horen.extras import require
from horen.serve.engines import vllm_words
from horen.serve.engines.interface import Health, Piece, Request, Token
from horen.vllm import process


class LocalVllm:
    """An engine of vLLM's, started here: :class:`horen.serve.engines.interface.Engine`.

    It takes a minute to start, which blocks: make it before there is an event loop, or in a thread.

    Args:
        model: a folder or hub id.
        codebook: a codebook's folder, whose changes are followed; None for no edits.
        name: under which the model is asked; its folder or id unless given.
        options: of vLLM's ``AsyncEngineArgs``.

    Raises:
        MissingExtraError: when vLLM is not installed.
        StoreError: when the codebook cannot be read.
        ConfigError: for a codebook that no engine can serve.
        ModelError: when the engine does not start.
    """

    def __init__(self, model: str, codebook: str | None = None, *, name: str | None = None, **options: Any) -> None:
        require("vllm", "An engine of vLLM needs")
        from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415
        from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415

        if codebook is not None:
            given = options.get("additional_config") or {}
            options["additional_config"] = {**given, "horen": {"codebook": codebook}}
        try:
            self._engine: Any = AsyncLLM.from_engine_args(AsyncEngineArgs(model=model, **options))
        except HorenError:
            raise
        except Exception as error:
            raise ModelError(f"vLLM does not start with {model}: {error}") from error
        self.model = name or model
        self.context = int(self._engine.model_config.max_model_len)
        self._edits = process.version_of(self._engine.input_processor) is not None
        self._running: set[str] = set()

    def ask(self, request: Request) -> AsyncIterator[Piece]:
        """Yield the parts of the answers as they come; whoever stops iterating ends the request.

        Raises:
            ConfigError: for what vLLM does not take, or a version that is not there; before the first piece.
            ModelError: when the engine fails.
        """
        return vllm_words.copied(self._asked(request), request.sampling)

    async def health(self) -> Health:
        """Return how the engine is; what it has no room for at once waits."""
        if self._engine is None:
            return Health(False, why="vLLM was closed")
        if self._engine.errored:
            return Health(False, why=f"vLLM has ended: {self._engine.dead_error}")
        unfinished = int(self._engine.get_num_unfinished_requests())
        running = min(unfinished, int(self._engine.vllm_config.scheduler_config.max_num_seqs))
        version = await asyncio.to_thread(process.version_of, self._engine.input_processor)
        return Health(True, running, unfinished - running, version)

    async def close(self) -> None:
        """End the engine with all that it works at."""
        engine, self._engine = self._engine, None
        if engine is None:
            return
        if self._running and not engine.errored:
            # Whoever waits for an answer is told; of an engine that has been shut down they would hear no more.
            await engine.abort(self._running)
        await asyncio.to_thread(engine.shutdown)

    async def _asked(self, request: Request) -> AsyncGenerator[Piece, None]:
        require("vllm", "An engine of vLLM needs")
        from vllm.exceptions import VLLMClientError, VLLMError  # noqa: PLC0415
        from vllm.inputs import tokens_input  # noqa: PLC0415

        if self._engine is None:
            raise ModelError(f"{self.model} is asked of an engine that was closed: start another.")
        vllm_words.check(request.wanted.version, self._edits, self.model)
        counts = [0] * request.sampling.n
        self._running.add(request.id)
        try:
            prompt, params = tokens_input(list(request.prompt)), _params(request)
            async with aclosing(self._engine.generate(prompt, params, request.id)) as outputs:
                async for output in outputs:
                    fired = vllm_words.fired(getattr(output, "horen", None), request.wanted)
                    for one in output.outputs:
                        counts[one.index] += len(one.token_ids)
                        tokens = _tokens(one, request.sampling.logprobs)
                        finish = vllm_words.finish(one.finish_reason)
                        yield Piece(one.index, one.text, counts[one.index], tokens, finish, fired)
        except VLLMClientError as error:
            raise ConfigError(str(error)) from error
        except VLLMError as error:
            raise ModelError(f"vLLM failed: {error.__cause__ or error}") from error
        finally:
            self._running.discard(request.id)


def _params(request: Request) -> Any:
    require("vllm", "An engine of vLLM needs")
    from vllm import SamplingParams  # noqa: PLC0415
    from vllm.sampling_params import RequestOutputKind  # noqa: PLC0415

    sampling = vllm_words.each(request.sampling)
    return SamplingParams(
        n=sampling.n,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=sampling.seed,
        stop=list(sampling.stop),
        max_tokens=sampling.max_tokens,
        logprobs=sampling.logprobs,
        output_kind=RequestOutputKind.DELTA,
        extra_args=vllm_words.words(request.wanted) or None,
    )


def _tokens(output: Any, most: int | None) -> tuple[Token, ...]:
    if most is None or not output.logprobs:
        return ()
    return tuple(
        _token(found[number], found, most) for number, found in zip(output.token_ids, output.logprobs, strict=True)
    )


def _token(said: Any, found: Mapping[int, Any], most: int) -> Token:
    """Return a token with the likeliest; vLLM tells that which came beside them."""
    ranked = sorted(found.values(), key=lambda one: one.rank)[:most]
    likeliest = tuple((one.decoded_token or "", float(one.logprob)) for one in ranked)
    return Token(said.decoded_token or "", float(said.logprob), likeliest)
