"""Taking what an edit left in a kept cache out of it before the next turn of a conversation is answered.

A value that was written stays in a cache: in what its own token keeps and in what every later token, which has seen it,
keeps. A later turn would be answered by a model that is still under its influence, and not as the untouched model
answers the same transcript. So the transcript is read once more, without the value, when another turn comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from horen.model.calls import Call, Feeding
from horen.model.past import past_argument
from horen.model.routed import Routed

# On a cache: what is known of it.
_TRACE = "_horen_trace"


@dataclass
class _Trace:
    """What a cache was fed.

    Attributes:
        parts: token ids, each [B, s], of its first ``width`` columns.
        width: how many columns that are.
        written: whether it holds what a value left.
        woken: prompts in it whose edits have further values.
    """

    parts: list[Tensor] = field(default_factory=list)
    width: int = 0
    written: bool = False
    woken: list[Routed] = field(default_factory=list)

    def add(self, ids: Tensor | None, before: int) -> None:
        """Take up [B, S] ids that were fed behind ``before`` columns; what was fed elsewhere leaves a gap for good."""
        if ids is None or before > self.width or any(len(part) != len(ids) for part in self.parts[:1]):
            return
        if before < self.width:  # a cache that was cropped, as speculation does
            self.parts, self.width = [torch.cat(self.parts, dim=1)[:, :before]], before
        self.parts.append(ids)
        self.width += ids.shape[1]

    def rows(self, choose: Callable[[Tensor], Tensor]) -> None:
        """Follow a cache whose rows were chosen anew."""
        self.parts = [choose(part) for part in self.parts]


def _selected(cache: Any, indices: Tensor) -> None:
    type(cache).batch_select_indices(cache, indices)
    getattr(cache, _TRACE).rows(lambda part: part[indices.to(part.device)])


def _reordered(cache: Any, beam_idx: Tensor) -> None:
    type(cache).reorder_cache(cache, beam_idx)
    getattr(cache, _TRACE).rows(lambda part: part.index_select(0, beam_idx.to(part.device)))


def _repeated(cache: Any, repeats: int) -> None:
    type(cache).batch_repeat_interleave(cache, repeats)
    getattr(cache, _TRACE).rows(lambda part: part.repeat_interleave(repeats, dim=0))


# Methods of a cache that choose its rows anew; what it was fed must follow. Bound to it, they are copied with it.
_ROWS: Mapping[str, Callable[..., None]] = {
    "batch_select_indices": _selected,
    "reorder_cache": _reordered,
    "batch_repeat_interleave": _repeated,
}


def note(cache: Any, feeding: Feeding, call: Call | None) -> None:
    """Remember what a cache was fed.

    Args:
        cache: of the call that has just ended; nothing is noted where there is none.
        feeding: what that was given.
        call: what was done in it, if anything.
    """
    if not hasattr(cache, "get_seq_length"):
        return
    trace: _Trace | None = getattr(cache, _TRACE, None)
    if trace is None:
        trace = _Trace()
        setattr(cache, _TRACE, trace)
        for name, follow in _ROWS.items():
            if hasattr(type(cache), name):
                setattr(cache, name, MethodType(follow, cache))
    trace.add(feeding.ids, feeding.cached)
    if call is not None:
        trace.written |= call.wrote
        trace.woken = call.woken


def woken(cache: Any) -> list[Routed]:
    """Return prompts in a cache whose edits have further values."""
    trace: _Trace | None = getattr(cache, _TRACE, None)
    return [] if trace is None else trace.woken


def fed(feeding: Feeding) -> Tensor | None:
    """Return all token ids [B, cached + S] that a call's cache holds after it; None where they are not known."""
    trace: _Trace | None = getattr(feeding.cache, _TRACE, None)
    if trace is None or feeding.ids is None or trace.width < feeding.cached:
        return None
    before = torch.cat(trace.parts, dim=1)[:, : feeding.cached]
    return torch.cat([before, feeding.ids], dim=1) if len(before) == len(feeding.ids) else None


def is_written(cache: Any) -> bool:
    """Return whether a cache holds what an edit's value left."""
    trace: _Trace | None = getattr(cache, _TRACE, None)
    return trace is not None and trace.written


def clean(model: PreTrainedModel, cache: Any, given: Tensor | None, mask: Tensor | None) -> None:
    """Make a cache what it would be without any value, where its tokens are known; else leave it as it is.

    Args:
        model: that it belongs to; no edit may be applied meanwhile.
        cache: that was noted; emptied and filled again, in place.
        given: [b, S] token ids of the conversation, the cache's columns first; None to go by what was noted.
        mask: [B, S] of real tokens; None where all are.
    """
    trace: _Trace = getattr(cache, _TRACE)
    length = int(cache.get_seq_length())
    if given is not None and given.shape[1] >= length:
        ids = given[:, :length]
    elif trace.width >= length:
        ids = torch.cat(trace.parts, dim=1)[:, :length]
    else:
        return
    real = torch.ones_like(ids) if mask is None else mask[:, :length].to(ids)
    rows = max(len(real), len(ids))
    ids, real = (part.repeat_interleave(rows // len(part), dim=0) for part in (ids, real))
    _empty(model, cache)
    inner = model.base_model
    arguments = {"input_ids": ids, "attention_mask": real, "position_ids": (real.cumsum(-1) - 1).clamp_min(0)}
    with torch.no_grad():
        inner(**arguments, **{past_argument(inner): cache}, use_cache=True)
    setattr(cache, _TRACE, _Trace([ids], length))


def _empty(model: PreTrainedModel, cache: Any) -> None:
    if isinstance(cache, DynamicCache):  # earlier releases zero what has grown instead of dropping it
        cache.layers = DynamicCache(config=model.config.get_text_config(decoder=True)).layers
    else:
        cache.reset()
