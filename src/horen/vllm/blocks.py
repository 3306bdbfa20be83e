"""Cached blocks of an engine: those that hold what an edit changed are known by that edit's content, too."""

from __future__ import annotations

import functools
from typing import Any

from horen.vllm.asked import carried


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


def read_anew(usual: Any) -> Any:
    """Return the look-up of cached blocks, which finds none of the tokens that workers must read of a prompt."""

    @functools.wraps(usual)
    def get_computed_blocks(self: Any, request: Any) -> Any:
        given = carried(request.sampling_params)
        if given is None or "begin" not in given:
            return usual(self, request)
        hashes = request.block_hashes
        request.block_hashes = hashes[: given["begin"] // self.block_pool.hash_block_size]
        try:
            return usual(self, request)
        finally:
            request.block_hashes = hashes

    return get_computed_blocks
