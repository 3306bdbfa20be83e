"""The check-up of a codebook: every stored wording is routed anew, and what does not come to its own edit is told.

The key of a wording is what its plain text reads as, so most of plain text is checked without running the model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from horen.asking.diagnosis import Diagnosis, Finding, Kind, Reading
from horen.asking.routes import looked_up
from horen.edits import EditRecord, Progress, same_text
from horen.memory import Match
from horen.model.routed import Routed
from horen.session import Session, wording

_BATCH = 32
# Similarities held at once, one for each query and key: 16 MiB of them.
_SIMILARITIES = 2**22
# Queries by which the recall of an index is measured.
_SAMPLE = 1000
# Keys that are nearer than this are of prompts that the model reads alike.
_ALIKE = 0.999
_DRIFTED = "The Hopfield steps take its prompt to that edit: choose smaller or fewer of them (settings alpha, steps)."


@dataclass(frozen=True)
class _Asked:
    """A wording of an edit as it is read.

    Attributes:
        record: the edit.
        entry: of the wording.
        chat: whether it is read in chat.
        keyed: whether the entry's key is made of this reading.
        ids: its token ids; None where the key is the reading, bit for bit.
    """

    record: EditRecord
    entry: int
    chat: bool
    keyed: bool
    ids: tuple[int, ...] | None = None


def diagnose(session: Session, *, chat: bool, progress: Progress | None = None) -> Diagnosis:
    """Check every active edit; see :meth:`horen.Editor.doctor`."""
    records = session.history.active()
    asked = [item for record in records for item in _readings(session, record, chat)]
    failed: dict[int, list[tuple[_Asked, Match]]] = {}
    for done, (item, match) in enumerate(_routed(session, asked), 1):
        if not (match.fired and _serves(session, item.record, match)):
            failed.setdefault(item.record.id, []).append((item, match))
        if progress is not None:
            progress(done, len(asked))
    findings: list[Finding] = []
    for record in records:
        if record.id in failed:
            findings.append(_misrouted(session, record, failed[record.id]))
        # Without early stopping no training is ever said to have converged.
        if not record.converged and session.config.stop_probability < 1:
            findings.append(_unconverged(record))
    recall = session.codebook().recall(_SAMPLE) if records else None
    found = tuple(findings)
    return Diagnosis(len(records), len(asked), session.config.threshold, found, recall, _asleep(session))


def _asleep(session: Session) -> float:
    """Return the share of the entries that no active edit has."""
    stored = sum(len(record.entries) for record in session.history.stored())
    awake = sum(len(record.entries) for record in session.history.active())
    return 1 - awake / stored if stored else 0.0


def _readings(session: Session, record: EditRecord, chat: bool) -> Iterator[_Asked]:
    contexts, exact = session.contexts, session.config.of_keys().exact
    for entry in record.entries:
        text = wording(record, entry)
        ids = contexts.plain(text)
        # A judge reads words, so there a key is not enough.
        alone = not session.config.judges and len(session.reader.read(ids, len(ids)).spans) == 1
        # Of a text of several sentences the last ones are read by themselves too, and they have no key.
        yield _Asked(record, entry, False, alone, None if alone and exact else tuple(ids))
        if chat and contexts.has_chat:
            ids = contexts.chat([{"role": "user", "content": text}])
            if contexts.limit is None or len(ids) <= contexts.limit:
                yield _Asked(record, entry, True, False, tuple(ids))


def _routed(session: Session, asked: Sequence[_Asked]) -> Iterator[tuple[_Asked, Match]]:
    """Yield every reading and where it goes, a block at a time, the stored keys first."""
    if not asked:
        return
    session.adapter  # noqa: B018 - an unwrapped editor is not checked by halves
    codebook, gate = session.codebook(), session.config.retrieval()
    stored = [item for item in asked if item.ids is None]
    block = max(1, _SIMILARITIES // codebook.entries)
    for start in range(0, len(stored), block):
        batch = stored[start : start + block]
        yield from zip(batch, codebook.match(codebook.read_keys([item.entry for item in batch]), gate), strict=True)
    read = sorted((item for item in asked if item.ids is not None), key=lambda item: len(item.ids or ()))
    for start in range(0, len(read), _BATCH):
        batch = read[start : start + _BATCH]
        for item, match in zip(batch, looked_up(session, [item.ids or () for item in batch], _matches), strict=True):
            if match is not None:
                yield item, match


def _matches(routed: Mapping[int, Routed]) -> dict[int, Match]:
    """Return what is told of readings: where each one goes."""
    return {number: one.match for number, one in routed.items()}


def _serves(session: Session, record: EditRecord, match: Match) -> bool:
    """Return whether the entry that came out nearest answers with an edit's target."""
    nearest = session.history.holder(match.entry)
    return match.value == record.value or (
        nearest is not None and same_text(nearest.target) == same_text(record.target)
    )


def _misrouted(session: Session, record: EditRecord, failed: list[tuple[_Asked, Match]]) -> Finding:
    """Return what is told of an edit of which some readings do not come home."""
    # The prompt in plain text is the first: what it shows counts before what other readings show.
    failed = sorted(failed, key=lambda pair: (pair[0].entry, pair[0].chat))
    first, match = failed[0]
    astray = [found for _, found in failed if not _serves(session, record, found)]
    kind: Kind = "unreached"
    if first.entry == record.entries[0] and not first.chat:
        kind = "crowded" if _serves(session, record, match) else "shadowed"
        astray = astray if kind == "shadowed" else []
    # Where its key is made of the reading, only the steps can bring another edit nearer than its own.
    drifted = kind == "shadowed" and first.keyed and match.raw_similarity < _ALIKE
    in_the_way = astray[0].entry if astray else match.runner_up
    other = None if in_the_way is None else session.history.holder(in_the_way)
    return Finding(
        edit_id=record.id,
        prompt=record.prompt,
        target=record.target,
        kind=kind,
        other=None if other is None else other.id,
        readings=tuple(_reading(session, item, found) for item, found in failed),
        advice=_DRIFTED if drifted else _advice(record, kind, other, astray, _lower(session, failed)),
    )


def _reading(session: Session, item: _Asked, match: Match) -> Reading:
    nearest = session.history.holder(match.entry)
    assert nearest is not None  # noqa: S101 - only awake entries are matched
    return Reading(wording(item.record, item.entry), item.chat, match.score, match.fired, nearest.id)


def _advice(record: EditRecord, kind: Kind, other: EditRecord | None, astray: Sequence[Match], lower: str) -> str:
    again = "write it again with a further rephrase"
    if astray and other is not None:
        if kind == "shadowed":
            return (
                f"Edit {other.id} reads alike: remove the one that does not hold, or put their prompts further apart."
            )
        fired = [match.score for match in astray if match.fired]
        higher = f", or choose a threshold of at least {math.ceil(max(fired) * 100) / 100:g}" if fired else ""
        return f"Edit {other.id} is nearer: remove it if it does not hold, {again}{higher}."
    if kind == "crowded" and other is not None:
        if same_text(other.target) == same_text(record.target):
            return (
                f"Edit {other.id} says the same and raises the hubness correction: remove one of the two, or {lower}."
            )
        return f"Edit {other.id} and others are close: remove what does not hold, or {lower}."
    return f"{again[0].upper()}{again[1:]}, or {lower}."


def _lower(session: Session, failed: Sequence[tuple[_Asked, Match]]) -> str:
    """Return which setting would let these readings fire."""
    scores = [match.score for _, match in failed if match.score <= session.config.threshold]
    if not scores:
        return f"choose a smaller margin than {session.config.margin:g}"
    # Rounded down, so that the lowest score exceeds it.
    return f"choose a threshold of {math.floor(min(scores) * 100) / 100:g} or less"


def _unconverged(record: EditRecord) -> Finding:
    advice = (
        f"Its loss is {record.loss:.2f} after {record.steps} steps: write it anew with more of them (setting "
        "max_steps), or give it a shorter target."
    )
    return Finding(record.id, record.prompt, record.target, "unconverged", None, (), advice)
