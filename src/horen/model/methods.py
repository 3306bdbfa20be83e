"""Methods of a model that are put in front of its own while it is wrapped."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NoReturn, Protocol

from torch import Tensor
from transformers import PreTrainedModel

from horen.errors import ModelError
from horen.model.askers import Askers
from horen.model.calls import Boundary, State, Watch
from horen.model.past import past_of

_log = logging.getLogger("horen")

_PACKED = (
    "This model is wrapped by an editor, which does not take prompts that are packed into one row, as continuous "
    "batching (generate_batch) makes them: use generate(…), or call unwrap() for answers without the edits."
)


def wrapped() -> ModelError:
    """Return what is raised where a model would be wrapped once more."""
    return ModelError(
        "This model is wrapped by an editor already, or served by an engine: call unwrap() on that editor, or close "
        "the engine, first."
    )


class Wrapping(Protocol):
    """What the methods need of the adapter."""

    @property
    def model(self) -> PreTrainedModel:
        """The wrapped model."""

    @property
    def state(self) -> State:
        """What is going on in this thread."""

    @property
    def askers(self) -> Askers:
        """Those who ask: who calls ``generate`` is one of them."""

    @property
    def installed(self) -> bool:
        """Whether these methods are on the model."""

    @property
    def awake(self) -> bool:
        """Whether anything is stored that a prompt could wake."""

    def bounded(self, boundary: Boundary) -> AbstractContextManager[None]:
        """Return a context in which a caller's word about the prompt holds."""

    def disabled(self) -> AbstractContextManager[None]:
        """Return a context in which the model is the untouched one."""


def methods(wrapping: Wrapping) -> dict[str, Callable[..., Any]]:
    """Return what each method is replaced by; those that this release of transformers lacks are left out."""
    made = {
        "generate": _generate,
        "prepare_inputs_for_generation": _prepare,
        "init_continuous_batching": _batching,
        "save_pretrained": _saving,
    }
    model = wrapping.model
    return {name: make(wrapping, getattr(model, name)) for name, make in made.items() if hasattr(model, name)}


def refuse_copy(*_: Any) -> NoReturn:
    """Raise what is said to a copy: its hooks would be those of the model that it was made of.

    Raises:
        ModelError: always.
    """
    raise ModelError(
        "This model is wrapped by an editor, and a copy of it (deepcopy, pickle, torch.save) would have no edits of "
        "its own: copy what unwrap() returns, save the edits with Editor.save(folder) and load them with "
        "Editor.load(folder, copy, tokenizer)."
    )


def check_unpacked(given: dict[str, Any]) -> None:
    """Raise unless every row of a call is one prompt.

    Args:
        given: the call's arguments by name.

    Raises:
        ModelError: when several are packed into one.
    """
    past, lengths = past_of(given), given.get("cu_seq_lens_q")
    if lengths is not None or (past is not None and not hasattr(past, "get_seq_length")):
        raise ModelError(_PACKED)


def _generate(wrapping: Wrapping, own: Callable[..., Any]) -> Callable[..., Any]:
    def installed() -> bool:
        return wrapping.installed

    @functools.wraps(own)
    def generate(*args: Any, **kwargs: Any) -> Any:
        if not installed():  # what somebody has laid over it still calls it
            return own(*args, **kwargs)
        with wrapping.askers.asking():
            if not installed():  # it is another editor's by now, or the model's own
                current: Any = wrapping.model
                return current.generate(*args, **kwargs)
            # Who waits to be told of this call is not told of one that a streamer makes in the middle of it.
            watch, wrapping.state.watch = wrapping.state.watch, None
            # One that begins while nothing is stored ends as it began, whatever other threads write.
            with wrapping.bounded(_boundary(args, kwargs, watch)) if wrapping.awake else wrapping.disabled():
                return own(*args, **kwargs)

    return generate


def _boundary(args: tuple[Any, ...], kwargs: dict[str, Any], watch: Watch | None) -> Boundary:
    given = [args[0] if args else None, *(kwargs.get(k) for k in ("inputs_embeds", "inputs", "input_ids"))]
    width = next((int(value.shape[1]) for value in given if isinstance(value, Tensor)), 1)
    mask, past = kwargs.get("attention_mask"), past_of(kwargs)
    plain = mask if isinstance(mask, Tensor) and mask.ndim == 2 else None
    ids = next((v for v in given if isinstance(v, Tensor) and not v.is_floating_point()), None)
    cached = int(past.get_seq_length()) if hasattr(past, "get_seq_length") else 0
    # As generate tells it: ids of the same width as the mask are the whole conversation, others what is new in it.
    whole = width if plain is None else plain.shape[1]
    if cached and kwargs.get("inputs_embeds") is None and (width <= cached if plain is None else whole != width):
        return Boundary(cached + width, plain, partial=True, answering=True, watch=watch)
    return Boundary(width, plain, ids, answering=True, watch=watch)


def _prepare(wrapping: Wrapping, own: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(own)
    def prepare(input_ids: Tensor, *args: Any, **kwargs: Any) -> Any:
        boundary = wrapping.state.boundary
        if boundary is not None and not boundary.partial:
            boundary.current = input_ids
        return own(input_ids, *args, **kwargs)

    return prepare


def _batching(wrapping: Wrapping, own: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(own)
    def init_continuous_batching(*args: Any, **kwargs: Any) -> Any:
        if wrapping.awake:  # a manager runs in a thread of its own, where no block without edits reaches
            raise ModelError(_PACKED)
        return own(*args, **kwargs)

    return init_continuous_batching


def _saving(wrapping: Wrapping, own: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(own)
    def save_pretrained(*args: Any, **kwargs: Any) -> Any:
        if wrapping.awake:
            _log.warning(
                "The model is saved without its edits, which are not in its weights: save them with "
                "Editor.save(folder), and load them with Editor.load(folder, model, tokenizer)."
            )
        return own(*args, **kwargs)

    return save_pretrained
