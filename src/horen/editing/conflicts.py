"""Telling which edits of a list contradict or repeat each other, before any of them is applied. Knows no model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from horen.editfiles.records import EditLike
from horen.edits import OnConflict, same_text


@dataclass(frozen=True)
class Clash:
    """Two edits of a list that cannot both stay.

    Attributes:
        earlier: number of the first one, from 0.
        later: number of the other.
        wording: a text that they share.
    """

    earlier: int
    later: int
    wording: str


@dataclass(frozen=True)
class Settled:
    """What becomes of the edits of a list.

    Attributes:
        kept: numbers of those that stay, in order.
        dropped: by number of each that gives way the number of the one that it gives way to.
        clashes: for which no way out was chosen.
    """

    kept: list[int] = field(default_factory=list)
    dropped: dict[int, int] = field(default_factory=dict)
    clashes: list[Clash] = field(default_factory=list)


def settle(edits: Sequence[EditLike], on_conflict: OnConflict, *, repeats: bool = False) -> Settled:
    """Find edits that share a wording and have different targets, or the same prompt.

    Args:
        edits: what is to be written, in order.
        on_conflict: "supersede" lets the later of two stay, "keep" the earlier, and "error" none of them.
        repeats: whether an edit that is word for word an earlier one may simply be dropped.
    """
    shared = _shared(edits)
    holders: dict[str, list[int]] = {}
    found = Settled()
    for number, edit in enumerate(edits):
        texts = [text for text in _wordings(edit) if hash(text) in shared]
        # Of several that clash the first wording found is the one that is told.
        rivals = {
            rival: text
            for text in texts[::-1]
            for rival in holders.get(text, ())
            if rival not in found.dropped and _clash(edits[rival], edit)
        }
        same = next((rival for rival in rivals if repeats and _is_same(edits[rival], edit)), None)
        if same is not None:
            found.dropped[number] = same
            continue
        if rivals and on_conflict == "error":
            first = min(rivals)
            found.clashes.append(Clash(first, number, rivals[first]))
            continue
        if rivals and on_conflict == "keep":
            found.dropped[number] = min(rivals)
            continue
        found.dropped.update(dict.fromkeys(rivals, number))
        for text in texts:
            holders.setdefault(text, []).append(number)
    clashing = {clash.later for clash in found.clashes}
    found.kept.extend(i for i in range(len(edits)) if i not in found.dropped and i not in clashing)
    return found


def _shared(edits: Iterable[EditLike]) -> set[int]:
    """Hashes of wordings that several edits have; hashes, because the texts of a million edits take much memory."""
    seen: set[int] = set()
    shared: set[int] = set()
    for edit in edits:
        for text in _wordings(edit):
            (shared if hash(text) in seen else seen).add(hash(text))
    return shared


def _wordings(edit: EditLike) -> list[str]:
    return list(dict.fromkeys(same_text(text) for text in (edit.prompt, *edit.rephrases)))


def _clash(rival: EditLike, edit: EditLike) -> bool:
    return same_text(rival.target) != same_text(edit.target) or same_text(rival.prompt) == same_text(edit.prompt)


def _is_same(rival: EditLike, edit: EditLike) -> bool:
    return (
        same_text(rival.target) == same_text(edit.target)
        and same_text(rival.prompt) == same_text(edit.prompt)
        and set(_wordings(rival)) == set(_wordings(edit))
    )
