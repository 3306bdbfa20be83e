"""The exception family of the package.

Every message names the input at fault, what was expected, and the way out. Each class also derives from
the built-in exception that a caller would expect, so ``except ValueError`` and ``except KeyError`` work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class HorenError(Exception):
    """Base class of every error that this package raises on purpose."""

    def __str__(self) -> str:
        # KeyError would print the repr of the message, quotes and escapes included.
        return str(self.args[0]) if self.args else ""


class ConfigError(HorenError, ValueError):
    """A setting is out of range, unknown, or contradicts another."""


class EditError(HorenError, ValueError):
    """An edit (or a list of edits) cannot be applied; nothing was changed."""


class ConflictError(EditError):
    """Two edits of one prompt disagree, in one list or with an edit that is already stored.

    Args:
        message: what disagrees, and the way out.
        clashes: both sides of each clash, where a store found them (:class:`horen.database.records.Clash`).
    """

    def __init__(self, message: str, clashes: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.clashes = tuple(clashes)


class ApprovalError(EditError):
    """Whoever asks may not decide this: another person has to."""


class EditNotFoundError(HorenError, KeyError):
    """No active edit has the given id."""


class ModelError(HorenError, RuntimeError):
    """The model cannot be loaded, fetched or wrapped."""


class StoreError(HorenError, RuntimeError):
    """A saved codebook cannot be written, read or trusted."""


class MismatchError(StoreError):
    """A saved codebook was made for another model, or by a newer version of this package."""


class MissingExtraError(HorenError, ImportError):
    """A package that only some users need is not installed; the message names the extra that brings it."""


class DataError(HorenError, ValueError):
    """A file of edits has a record that cannot be used."""
