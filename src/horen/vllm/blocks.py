"""Cached blocks of an engine: those that hold what an edit changed are known by that edit's content, too."""

from __future__ import annotations

import functools
from typing import Any

from horen.vllm.writing import carried


def own_blocks(usual: Any) -> Any:
    """Return what makes the extra keys of a block's hash, with the digest of what was written in it.

    States before an edit's first value are those of any request and stay shared. A block's hash goes into the next
    one's, so the block in which the first value lies makes all later ones its own.
    """

    @functools.wraps(usual)
    def extra_keys(request: Any, start_token_idx: int, end_token_idx: int, start_mm_idx: int) -> Any:
        keys, following = usual(request, start_token_idx, end_token_idx, start_mm_idx)
        written = carried(request.sampling_params)
        if written is not None and start_token_idx <= written["first"] < end_token_idx:
            keys = (*(keys or ()), ("horen", written["digest"]))
        return keys, following

    return extra_keys
