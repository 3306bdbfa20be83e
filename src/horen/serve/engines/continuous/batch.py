"""The manager of transformers' continuous batching, and all that is known here of its insides."""

from __future__ import annotations

import atexit
import copy
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import ContinuousBatchingConfig, GenerationConfig, LogitsProcessorList, PreTrainedModel
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessor,
    ContinuousBatchingLogitsProcessorList,
)
from transformers.generation.continuous_batching.model_runner import infer_max_single_request_tokens

from horen.errors import ModelError
from horen.front.writing import Writing
from horen.serve.engines.continuous.chooser import Draws, chosen

# Under which name a request carries what is its own; transformers hands it on with the request wherever that goes.
_OWN = "own"


@dataclass(eq=False)
class Own:
    """What a request carries while it is answered.

    Attributes:
        draws: how its tokens are chosen.
        writing: what its edit writes; None where none fired.
    """

    draws: Draws
    writing: Writing | None = None

    def __deepcopy__(self, _memo: Any) -> Own:
        """Stay the same for a request that begins anew, because its states were given up."""
        return self


@dataclass(frozen=True)
class Run:
    """A request's tokens in one step.

    Attributes:
        writing: what its edit writes.
        row: of the packed batch at which they begin.
        done: how many of its tokens were computed before.
        length: how many are computed in this step.
    """

    writing: Writing | None
    row: int
    done: int
    length: int
    _state: Any

    def tokens(self) -> list[int]:
        """Return the request's token ids so far, those of its answer included."""
        return _tokens_of(self._state)


class Batch:
    """Requests that are answered together by one model, in a thread of their own.

    Args:
        model: in evaluation mode, with no editor's hooks on it.
        config: the room for requests.

    Attributes:
        longest: how many tokens one request has at most, with its answer.

    Raises:
        ModelError: for a model that transformers does not batch so, or for which there is no memory.
    """

    def __init__(self, model: PreTrainedModel, config: ContinuousBatchingConfig) -> None:
        make: Any = GenerationConfig
        untyped: Any = model
        usual = make(do_sample=False, eos_token_id=-1)
        self._model, self._attention = untyped, untyped.config._attn_implementation
        try:
            manager: Any = untyped.init_continuous_batching(usual, config)
            self._choosing = _Choosing()
            manager.logit_processor = ContinuousBatchingLogitsProcessorList(LogitsProcessorList([self._choosing]))
            manager.logit_processor.tensors_required = 1
            manager.warmup()  # makes all that the thread works with
            self._processor: Any = manager.batch_processor
            _separate(self._processor)
            self.longest = int(infer_max_single_request_tokens(self._processor.cache))
        except (ValueError, AttributeError, MemoryError, RuntimeError) as error:
            if untyped.config._attn_implementation != self._attention:
                untyped.set_attn_implementation(self._attention)
            raise ModelError(
                f"{type(model).__name__} cannot be served by transformers' continuous batching ({error}): serve it "
                "with vLLM, give the engine other room, or ask an Editor."
            ) from error
        self._manager = manager
        # The manager's thread is of the same kind as the one that starts it: it shall keep no process from its end.
        starting = threading.Thread(target=manager.start, daemon=True)
        starting.start()
        starting.join()
        atexit.register(self.end)

    def add(self, name: str, prompt: Sequence[int], own: Own, most: int, ends: Sequence[int] = ()) -> bool:
        """Let a request be answered, and return whether it will be.

        Args:
            name: unlike that of any other.
            prompt: token ids.
            own: what it carries.
            most: tokens that its answer has.
            ends: tokens that end it.
        """
        given = self._manager.add_request(
            list(prompt), name, most, streaming=True, eos_token_id=list(ends) or -1, **{_OWN: own}
        )
        return given is not None

    def cancel(self, name: str) -> None:
        """Give up a request; what is kept of it is freed before the next step."""
        self._manager.cancel_request(name)

    def result(self, timeout: float) -> Any:
        """Return what there is of one request by now, when there is something new; None after so many seconds."""
        return self._manager.get_result(timeout=timeout)

    def runs(self) -> list[Run]:
        """Return the requests of the step that is computed, in the order of their rows."""
        found, row = [], 0
        for one in self._processor.inputs_and_outputs.requests_in_batch:
            length = int(one.query_length)
            found.append(Run(_own(one.state).writing, row, one.state.position_offset - length, length, one.state))
            row += length
        return found

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Compute no step within the block, for whoever runs the model beside it.

        Two threads must not run it at once: for the time of a step transformers notes in the model's configuration that
        its mask is not causal, which the other one would go by. Within the block the model's attention is its own: that
        for packed rows has no causal mask for others.

        Raises:
            RuntimeError: when the thread is gone.
        """
        model, packed = self._model, self._model.config._attn_implementation
        with self._manager.pause():
            if packed != self._attention:
                model.set_attn_implementation(self._attention)
            try:
                yield
            finally:
                if packed != self._attention:
                    model.set_attn_implementation(packed)

    def count(self) -> int:
        """Return how many requests are being computed."""
        return len(self._processor.scheduler.active_requests)

    def step(self) -> float:
        """Return how many seconds the last step took; 0 where none is computed now, or will be any more."""
        processor = self._processor
        return self._choosing.step if processor is not None and processor.scheduler.active_requests else 0.0

    def free(self) -> float:
        """Return the share of the room that no request holds; what is kept for equal beginnings counts as free."""
        cache = self._processor.cache
        kept = sum(len(each.ledger.cached_blocks) * each.bytes_per_block for each in cache.cache_allocators.values())
        return float(cache.compute_free_capacity() + kept / (cache.num_sectors * cache.bytes_per_sector))

    @property
    def runs_on(self) -> bool:
        """Whether the thread is there."""
        return bool(self._manager.is_running())

    @property
    def why(self) -> str:
        """What has ended the thread; empty where nothing has."""
        error = self._manager.background_thread_status.fatal_error
        return "" if error is None else f"{type(error).__name__}: {error}"

    def end(self) -> None:
        """End the thread at once; what runs fails. The model's attention is then what it was."""
        atexit.unregister(self.end)
        self._manager.stop(hard_stop=True)
        self._processor = None  # what it holds is given back while there is an interpreter to do so


class _Choosing(ContinuousBatchingLogitsProcessor):
    """Lets the tokens of each request be chosen as it asks.

    Attributes:
        step: seconds between the last two choices.
    """

    def __init__(self) -> None:
        self.supported_kwargs, self.ignored_kwargs = {_OWN: Own}, ()
        self._draws: list[Draws] = []
        self.step, self._last = 0.0, time.monotonic()

    def fill_defaults(self, int32_tensor: Tensor) -> None:
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: Sequence[Any]) -> Tensor:
        self._draws = [_own(one.state).draws for one in requests_with_new_token]
        last, self._last = self._last, time.monotonic()
        self.step = self._last - last
        return torch.zeros(len(self._draws), dtype=torch.int32)

    def __call__(self, scores: Tensor, tensor_arg: Tensor) -> Tensor:  # noqa: ARG002
        own = scores[: len(self._draws)]  # rows behind theirs are of nobody
        chosen(own, self._draws)
        return scores


def _own(state: Any) -> Own:
    own: Own = state.logit_processor_kwargs[_OWN]
    return own


def _tokens_of(state: Any) -> list[int]:
    return [*state.initial_tokens, *state.generated_tokens]


def _first(state: Any) -> int | None:
    """Return the number of a request's first token whose states its edit changes."""
    writing = _own(state).writing
    return None if writing is None else writing.first


def _separate(processor: Any) -> None:
    """Let no request share cached blocks that hold what an edit has changed; those before it stay shared."""
    cache, scheduler = processor.cache, processor.scheduler
    search, mark = cache.search_prefix_match, cache.mark_complete_blocks

    def search_prefix_match(request_id: str, prompt_ids: list[int]) -> int:
        at = _first(scheduler.waiting_requests[request_id])
        # The block in which the last of these tokens lies is never shared.
        found: int = search(request_id, prompt_ids if at is None else prompt_ids[: at + 1])
        return found

    def mark_complete_blocks(state: Any, complete_blocks: Any) -> None:
        at = _first(state)
        if at is not None:
            tokens, state = _tokens_of(state)[:at], copy.copy(state)
            state.initial_tokens, state.generated_tokens = tokens, []
        mark(state, complete_blocks)

    cache.search_prefix_match, cache.mark_complete_blocks = search_prefix_match, mark_complete_blocks
