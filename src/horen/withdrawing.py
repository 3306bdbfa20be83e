"""Taking edits back: removal and undo, neither of which trains anything."""

from __future__ import annotations

from collections.abc import Iterable

from horen.edits import EditRecord, Undone
from horen.session import Session
from horen.store.history import Operation


def remove(session: Session, numbers: Iterable[int]) -> list[EditRecord]:
    """Remove edits as one operation; see :meth:`horen.Editor.remove`."""
    history = session.history
    wanted = list(dict.fromkeys(numbers))
    records = [history.get(number) for number in wanted]
    if records:
        operation = history.record("remove", removed=wanted)
        # An interruption finds the history changed: the codebook must follow. Nothing may stand before the try.
        try:
            _settle(session, operation)
        except BaseException:
            _settle(session, operation)
            raise
    return records


def undo(session: Session) -> Undone:
    """Take back the last operation; see :meth:`horen.Editor.undo`."""
    operation, undone = session.history.undo()
    try:
        _settle(session, operation)
    except BaseException:
        _settle(session, operation)
        raise
    return undone


def _settle(session: Session, operation: Operation) -> None:
    """Wake the entries of an operation's edits or put them to sleep, as the history now has it."""
    history = session.history
    for number in (*(record.id for record in operation.added), *operation.removed):
        session.codebook().set_awake(history.entries(number), history.is_active(number))
