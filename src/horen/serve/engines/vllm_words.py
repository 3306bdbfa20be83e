"""What both engines of vLLM say and are told in the same words."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from horen.errors import ConfigError, ModelError
from horen.serve.engines.interface import Fired, Piece, Sampling, Wanted
from horen.vllm.asked import ASKED, ONLY, VERSION, WITHOUT

_FINISHES = ("stop", "length")


def words(wanted: Wanted) -> dict[str, Any]:
    """Return what a request to vLLM carries so that only the edits that are wanted may answer."""
    found: dict[str, Any] = {} if wanted.on else {ASKED: "off"}
    if wanted.version is not None:
        found[VERSION] = wanted.version
    if wanted.only is not None:
        found[ONLY] = sorted(wanted.only)
    if wanted.without:
        found[WITHOUT] = sorted(wanted.without)
    return found


def fired(told: Mapping[str, Any] | None, wanted: Wanted) -> Fired | None:
    """Return the edit that answers, as vLLM's plugin tells it.

    Raises:
        ModelError: for one that may not answer: a plugin of another release does not know all that is asked of it.
    """
    if told is None:
        return None
    edit = int(told["edit"])
    if not wanted.on or edit in wanted.without or (wanted.only is not None and edit not in wanted.only):
        raise ModelError(
            f"vLLM answers with edit {edit}, which may not answer: its horen is of another release. Install this one "
            "there too."
        )
    return Fired(edit, float(told["score"]), int(told["version"]))


def finish(given: str | None) -> str | None:
    """Return why an answer ended; None while it goes on.

    Raises:
        ModelError: for one that was broken off.
    """
    if given is None or given in _FINISHES:
        return given
    raise ModelError(f"vLLM broke an answer off ({given}): ask again.")


def each(sampling: Sampling) -> Sampling:
    """Return what vLLM is asked: where nothing is left to chance, one answer is all of them."""
    return replace(sampling, n=1) if sampling.temperature == 0 else sampling


async def copied(pieces: AsyncGenerator[Piece, None], sampling: Sampling) -> AsyncIterator[Piece]:
    """Yield the parts of answers, those of one for each that is wanted where :func:`each` asked for one."""
    async with aclosing(pieces):
        async for piece in pieces:
            if sampling.temperature != 0:
                yield piece
                continue
            for index in range(sampling.n):
                yield replace(piece, index=index)


def check(version: int | None, edits: bool, whose: str) -> None:
    """Raise ConfigError where a version is asked of an engine without edits."""
    if version and not edits:
        raise ConfigError(f"horen_version={version} is asked of {whose}, which serves no edits: leave it out.")
