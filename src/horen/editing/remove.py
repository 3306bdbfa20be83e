"""Taking edits back: operations that put entries of the codebook to sleep or wake them, and train nothing."""

from __future__ import annotations

from collections.abc import Iterable

from horen.edits import EditRecord, Undone
from horen.session import Session
from horen.store.operations import Operation


def remove(session: Session, numbers: int | Iterable[int]) -> list[EditRecord]:
    """Remove edits as one operation; see :meth:`horen.Editor.remove`.

    Raises:
        EditNotFoundError: when one of them is not active; then none is removed.
    """
    wanted = [numbers] if isinstance(numbers, int) else list(dict.fromkeys(numbers))
    records = [session.history.get(number) for number in wanted]
    if records:
        operation = session.history.record("remove", removed=wanted)
        # Here and in undo rather than in _settle: an interruption may also come on the way into a function.
        try:
            _settle(session, operation)
        except BaseException:
            _settle(session, operation)
            raise
    return records


def undo(session: Session) -> Undone:
    """Take back the last operation that has not been taken back; see :meth:`horen.Editor.undo`.

    Raises:
        EditError: when there is nothing left to undo.
    """
    operation, undone = session.history.undo()
    try:
        _settle(session, operation)
    except BaseException:
        _settle(session, operation)
        raise
    return undone


def _settle(session: Session, operation: Operation) -> None:
    """Wake the entries of an operation's edits or put them to sleep, as the history now has it."""
    history, codebook = session.history, session.codebook()
    numbers = [*(record.id for record in operation.added), *operation.removed]
    with codebook.together():
        for awake in (False, True):
            some = (number for number in numbers if history.is_active(number) == awake)
            codebook.set_awake((entry for number in some for entry in history.entries(number)), awake)
