"""What a request to vLLM says of edits: a caller's words, and what the front has put there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from horen.errors import ConfigError
from horen.front.wish import Among, Wish

#: Where it lies in a request's ``extra_args``. Whatever a caller puts there is thrown away.
CARRIED = "horen:writing"
#: Where a caller says "off" for a request that no edit may answer.
ASKED = "horen"
#: Where a caller names the version that a request is to be answered with.
VERSION = "horen_version"
#: Where a caller lists the ids of the only edits that may answer.
ONLY = "horen_only"
#: Where a caller lists the ids of edits that may not answer.
WITHOUT = "horen_without"


def wish_of(params: Any) -> Wish:
    """Return what a request's sampling parameters ask for.

    Raises:
        ConfigError: for what is not understood.
    """
    extra = getattr(params, "extra_args", None) or {}
    asked, version = extra.get(ASKED, "on"), extra.get(VERSION)
    if asked not in ("on", "off", 0, 1):
        raise ConfigError(f"{ASKED}={asked!r} is not understood: say 'off' for no edits, or leave it out.")
    if version is not None and (not _whole(version) or version < 0):
        raise ConfigError(f"{VERSION}={version!r} is no version: give the number of operations, 0 or more.")
    only, without = _ids(extra, ONLY), _ids(extra, WITHOUT)
    return Wish(asked in ("on", 1), version, Among(only, without or frozenset()))


def without_words(extra: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a request's ``extra_args`` without a caller's words about edits, and without what only a front may say."""
    words = (CARRIED, ASKED, VERSION, ONLY, WITHOUT)
    return {name: value for name, value in (extra or {}).items() if name not in words}


def carried(params: Any) -> Mapping[str, Any] | None:
    """Return what a request's sampling parameters carry, still packed; None where nothing is written."""
    extra = None if params is None else params.extra_args
    return None if not extra else extra.get(CARRIED)


def _ids(extra: Mapping[str, Any], name: str) -> frozenset[int] | None:
    """Return the ids that a caller lists under a name; None where it lists none."""
    given = extra.get(name)
    if given is None:
        return None
    if not isinstance(given, list | tuple) or not all(_whole(number) and number > 0 for number in given):
        raise ConfigError(f"{name}={given!r} is no list of edits: give their ids, such as [1, 4].")
    return frozenset(given)


def _whole(given: Any) -> bool:
    return isinstance(given, int) and not isinstance(given, bool)
