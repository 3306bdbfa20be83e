"""Checking a file of edits as a whole before any of it is applied."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from horen.cli.flow.receipts import Receipts, receipts
from horen.cli.options import OnConflict
from horen.cli.terminal import clean, counted, listed, say, short
from horen.editfiles.fields import FACTS
from horen.editfiles.records import BadLine, FileRecord, iter_edits, unit_of
from horen.editfiles.spool import chosen, spooled
from horen.editing.conflicts import Clash, Relation, relation, settle
from horen.edits import Edit, EditRecord, Receipt
from horen.errors import ConflictError, DataError, EditError

if TYPE_CHECKING:
    from horen.editor import Editor
    from horen.store.history import History


@dataclass(frozen=True)
class Skipped:
    """A line of the file that is not applied, and why."""

    line: int
    reason: str


@dataclass(frozen=True)
class Sorted:
    """Lines of a file by what a codebook holds already."""

    pending: Sequence[FileRecord]
    settled: Receipts


@dataclass(frozen=True)
class Words:
    """What messages call edits that are to be written.

    Attributes:
        unit: one of them.
        source: all of them.
        place: the one of a line.
    """

    unit: str
    source: str
    place: Callable[[int], str]


LINES = Words("line", "the file", "line {}".format)


def as_edit(record: FileRecord) -> Edit:
    """Return the edit that a line describes."""
    return Edit(record.prompt, record.target, record.rephrases)


def read_file(
    file: Path, on_conflict: OnConflict, *, skip_bad: bool, stored: bool = False
) -> tuple[Sequence[FileRecord], list[Skipped]]:
    """Read every line of a file; what is wrong with any of them is said before the error.

    Args:
        file: of edits.
        on_conflict: what to do about lines that disagree.
        skip_bad: whether lines that cannot be used are left out.
        stored: whether they are for a store, which has a use for more of their fields.

    Returns:
        The lines to apply, as they were read: they are kept in a temporary file. And those that are left out.

    Raises:
        DataError: when a line cannot be used, or lines contradict or repeat each other, and no option allows it.
    """
    bad: list[BadLine] = []
    fields: dict[str, str] = {}
    records = spooled(iter_edits(file, on_bad=bad.append, fields=fields))
    # A folder keeps no source and no tags; a store keeps the subject too.
    fields |= {name: name if stored else "" for name in FACTS if name in fields}
    if stored and "subject" in fields:
        fields["subject"] = "subject"
    refuse_bad(file, bad, skip_bad=skip_bad)
    if any(what != name for name, what in fields.items()):
        say(f"Of {file} {told(fields)}.")
    found = settle(records, on_conflict.value)
    if found.clashes:
        say(f"Lines of {file} that contradict or repeat each other:")
        listed([_told(records, clash, unit_of(file)) for clash in found.clashes])
        raise DataError(
            f"{file} contradicts or repeats itself in {counted(len(found.clashes), 'place')}, so nothing was applied. "
            "Correct it, or let --on-conflict supersede take the later line each time, or keep the first."
        )
    if not found.kept:
        raise DataError(f"{file} holds no edits: nothing was applied.")
    skipped = [Skipped(item.line, item.reason) for item in bad]
    for dropped, stays in found.dropped.items():
        skipped.append(Skipped(records[dropped].line, f"gives way to {unit_of(file)} {records[stays].line}"))
    return chosen(records, found.kept), sorted(skipped, key=lambda item: item.line)


def sort_by_history(
    records: Sequence[FileRecord], history: History, on_conflict: OnConflict, words: Words = LINES
) -> Sorted:
    """Tell lines that are still to be written from those that are stored already or are left out.

    Args:
        records: of a file, or of something else that has lines.
        history: of what is stored.
        on_conflict: what to do about stored edits that disagree.
        words: what a message calls them.

    Raises:
        ConflictError: when stored edits have other targets and ``on_conflict`` is error; all are said before.
    """
    from horen.editing.plan import plan  # noqa: PLC0415

    settled, pending = receipts(), array("Q")
    conflicts: list[tuple[FileRecord, EditRecord]] = []
    for number, record in enumerate(records):
        planned = plan([as_edit(record)], history, "keep")[0]
        if planned.action == "kept" and on_conflict is OnConflict.error:
            conflicts.append((record, history.get(planned.stored[0])))
        elif planned.action == "unchanged" or (planned.action == "kept" and on_conflict is OnConflict.keep):
            stored = history.get(planned.stored[0])
            receipt = Receipt(
                stored.id, stored.loss, stored.steps, stored.converged, stored.reused, action=planned.action
            )
            settled.append((record, receipt))
        else:
            pending.append(number)
    if conflicts:
        say("Stored edits answer otherwise:")
        listed(
            [
                f"{words.place(record.line)}: edit {stored.id} answers {short(stored.prompt)!r} with "
                f"{short(stored.target)!r}, not {short(record.target)!r}"
                for record, stored in conflicts
            ]
        )
        raise ConflictError(
            f"{counted(len(conflicts), words.unit)} of {words.source} contradict stored edits, so nothing was "
            "applied. Replace those with --on-conflict supersede, or leave them with --on-conflict keep."
        )
    return Sorted(chosen(records, pending), settled)


def check_encodable(
    file: Path, records: Sequence[FileRecord], editor: Editor, *, skip_bad: bool
) -> tuple[Sequence[FileRecord], list[Skipped]]:
    """Find lines that this very model cannot take, such as one longer than its context.

    Raises:
        DataError: when there are some and they are not to be skipped; all are said before.
    """
    fine = array("Q")
    bad: list[BadLine] = []
    for number, record in enumerate(records):
        try:
            editor.check(as_edit(record))
        except EditError as error:
            bad.append(BadLine(record.line, str(error).rstrip(".")))
        else:
            fine.append(number)
    refuse_bad(file, bad, skip_bad=skip_bad)
    return chosen(records, fine), [Skipped(item.line, item.reason) for item in bad]


def refuse_bad(file: Path, bad: Sequence[BadLine], *, skip_bad: bool) -> None:
    """Say which lines cannot be used.

    Raises:
        DataError: unless they are to be skipped.
    """
    if not bad:
        return
    say(f"{'Skipped' if skip_bad else 'Bad'} lines of {file}:")
    listed([f"{unit_of(file)} {item.line}: {item.reason}" for item in bad])
    if not skip_bad:
        raise DataError(
            f"{file} has {counted(len(bad), unit_of(file))} that cannot be used, so nothing was applied. "
            "Correct the file, or skip what is bad with --skip-bad."
        )


def told(fields: Mapping[str, str]) -> str:
    """Say in words what the fields of a file are taken for."""
    used = [f"{clean(name)} is read as {what}" for name, what in fields.items() if what]
    unused = [clean(name) for name, what in fields.items() if not what]
    return "; ".join([", ".join(used), *([f"of no use are {', '.join(unused)}"] if unused else [])])


def _told(records: Sequence[FileRecord], clash: Clash, unit: str) -> str:
    rival, record = records[clash.earlier], records[clash.later]
    places = f"{unit}s {rival.line} and {record.line}"
    if relation(rival, record) is not Relation.contradicts:
        return f"{places} are the same edit: {short(clash.wording)!r}"
    return f"{places} disagree: {short(clash.wording)!r} shall be {short(rival.target)!r} and {short(record.target)!r}"
