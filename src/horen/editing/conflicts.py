"""When two edits contradict or repeat each other, and which of a list do. Knows no model."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from horen.editfiles.records import EditLike
from horen.edits import OnConflict, same_text

_APART = 64


class Relation(Enum):
    """What an edit is beside one before it, told by their wordings and targets as :func:`same_text` has them."""

    #: They share no wording.
    apart = "apart"
    #: They share a wording and have different targets.
    contradicts = "contradicts"
    #: They share a wording and the target, and have different prompts, so both can stay.
    agrees = "agrees"
    #: It has the prompt and the target of the earlier one, and a rephrase that this lacks.
    extends = "extends"
    #: It has the prompt and the target of the earlier one, and some of its rephrases.
    within = "within"
    #: It is the earlier one word for word, whatever the order of its rephrases.
    same = "same"

    @property
    def repeats(self) -> bool:
        """Whether prompt and target are there already."""
        return self in {Relation.extends, Relation.within, Relation.same}

    @property
    def clashes(self) -> bool:
        """Whether only one of the two can stay."""
        return self is Relation.contradicts or self.repeats


def relation(earlier: EditLike, later: EditLike) -> Relation:
    """Return what the later of two edits, given or stored, is beside the earlier one."""
    known, said = set(wordings(earlier)), set(wordings(later))
    if not known & said:
        return Relation.apart
    if same_text(earlier.target) != same_text(later.target):
        return Relation.contradicts
    if same_text(earlier.prompt) != same_text(later.prompt):
        return Relation.agrees
    if known == said:
        return Relation.same
    return Relation.within if said < known else Relation.extends


def wordings(edit: EditLike) -> list[str]:
    """Return the prompt and the rephrases of an edit, each once, in the form in which they are compared."""
    return list(dict.fromkeys(same_text(text) for text in (edit.prompt, *edit.rephrases)))


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
    """Find edits of which only one can stay, see :attr:`Relation.clashes`.

    Args:
        edits: what is to be written, in order.
        on_conflict: "supersede" lets the later of two stay, "keep" the earlier, and "error" none of them.
        repeats: whether an edit that is word for word an earlier one may simply be dropped.
    """
    shared = _shared(edits)
    holders: dict[str, list[int]] = {}
    found = Settled()
    for number, edit in enumerate(edits):
        texts = [text for text in wordings(edit) if hash(text) in shared]
        # Of several that clash the first wording found is the one that is told.
        met = {rival: text for text in texts[::-1] for rival in holders.get(text, ()) if rival not in found.dropped}
        related = {rival: relation(edits[rival], edit) for rival in met}
        rivals = {rival: text for rival, text in met.items() if related[rival].clashes}
        same = next((rival for rival in rivals if repeats and related[rival] is Relation.same), None)
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
    """Return hashes of wordings that several edits have.

    They are hashes, because the texts of a million edits take much memory; and those that may be equal are looked at
    apart from the others, because a set of all takes ten times the eight bytes of each.
    """
    apart = [array("q") for _ in range(_APART)]
    for edit in edits:
        for text in wordings(edit):
            found = hash(text)
            apart[found % _APART].append(found)
    shared: set[int] = set()
    for some in apart:
        seen: set[int] = set()
        for found in some:
            (shared if found in seen else seen).add(found)
    return shared
