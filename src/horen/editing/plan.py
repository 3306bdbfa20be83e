"""Deciding what becomes of each edit of a list, before anything is trained or stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from horen.editing.conflicts import Relation, relation, wordings
from horen.editing.training import Trained
from horen.edits import Action, Edit, EditRecord, OnConflict, same_text
from horen.errors import ConflictError, EditError
from horen.model.partial.tail import Sample
from horen.store.history import History


@dataclass
class Part:
    """One value to train.

    Attributes:
        samples: its training contexts.
        seed: a text that says where it starts.
        earlier: those of the same edit whose values stand before it in the answer.
        trained: the result.
    """

    samples: list[Sample]
    seed: str
    earlier: tuple[Part, ...] = ()
    trained: Trained | None = None


@dataclass
class Plan:
    """What is to be done with one edit of a list.

    Attributes:
        edit: the edit.
        action: what will happen to it.
        stored: ids of the stored edits that it meets, if any: replaced, kept or unchanged.
        rows: token ids of its wordings.
        parts: what trains each of its values.
        left: see :class:`horen.edits.EditRecord`.
        keys: [wordings, d_k] keys of its wordings.
        source: where a value that may serve this edit too comes from: a stored value, or an earlier plan.
        reused: whether the value of ``source`` passed.
        resembles: id of the stored edit that the gate took it for, if any.
    """

    edit: Edit
    action: Action = "added"
    stored: tuple[int, ...] = ()
    rows: list[list[int]] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    left: tuple[int, ...] = ()
    keys: Tensor | None = None
    source: int | Plan | None = None
    reused: bool = False
    resembles: int | None = None

    @property
    def trained(self) -> bool:
        """Whether all its values are known."""
        return all(part.trained is not None for part in self.parts)

    @property
    def written(self) -> bool:
        """Whether the edit becomes an entry of the codebook."""
        return self.action in {"added", "superseded"}


def listed(edits: Sequence[Edit] | Edit) -> list[Edit]:
    """Return the edits as a list, one of them as a list of one.

    Raises:
        EditError: when something is no edit.
    """
    if not isinstance(edits, Edit | Iterable) or isinstance(edits, str):
        raise EditError(f"edits is {type(edits).__name__}: give Edit objects in a list.")
    given = [edits] if isinstance(edits, Edit) else list(edits)
    for number, edit in enumerate(given, 1):
        if not isinstance(edit, Edit):
            raise EditError(f"Item {number} of the list is {type(edit).__name__}, not an Edit: give Edit objects.")
    return given


def check_choice(on_conflict: object) -> None:
    """Raise EditError for what is no way to deal with a conflict."""
    if on_conflict not in {"error", "supersede", "keep"}:
        raise EditError(f"on_conflict={on_conflict!r} is not valid: use 'error', 'supersede' or 'keep'.")


def check_list(edits: Sequence[Edit]) -> None:
    """Raise EditError when a list repeats or contradicts itself."""
    seen: dict[str, int] = {}
    prompts: dict[str, int] = {}
    for number, edit in enumerate(edits):
        same = prompts.setdefault(same_text(edit.prompt), number)
        if same != number and relation(edits[same], edit).repeats:
            raise EditError(f"Edits {same + 1} and {number + 1} of the list are the same: {edit.prompt!r}. Keep one.")
        for text in wordings(edit):
            earlier = seen.setdefault(text, number)
            if earlier != number and relation(edits[earlier], edit) is Relation.contradicts:
                raise EditError(
                    f"Edits {earlier + 1} and {number + 1} of the list contradict each other: {text!r} shall be "
                    f"{edits[earlier].target!r} and {edit.target!r}. Keep one of them."
                )


def plan(
    edits: Sequence[Edit], history: History, on_conflict: OnConflict, replaced: Sequence[int | None] = ()
) -> list[Plan]:
    """Decide for each edit whether it is written, replaces a stored edit, or is left out.

    Args:
        edits: what to write.
        history: of what is stored.
        on_conflict: what to do about a stored edit of the same words that disagrees.
        replaced: for each edit the id of a stored one in other words that it replaces if it is written, or None;
            empty for none.

    Raises:
        ConflictError: when a stored edit disagrees and ``on_conflict`` is "error".
        EditNotFoundError: when an edit to replace is not active.
    """
    others = [None if number is None else history.get(number) for number in replaced or [None] * len(edits)]
    plans = [_plan_one(edit, history, on_conflict, other) for edit, other in zip(edits, others, strict=True)]
    gone = {number for item in plans if item.written for number in item.stored}
    # What was to stay is replaced by another edit of the list, so its own words are written anew.
    return [item if item.written or item.stored[0] not in gone else Plan(item.edit) for item in plans]


def plan_replacement(history: History, number: int, target: str, rephrases: Sequence[str] | None = None) -> list[Plan]:
    """Return the plan that gives the prompt of an edit another target; see :meth:`horen.Editor.supersede`.

    Raises:
        EditNotFoundError: when no such edit is active.
        EditError: when the target is the same.
    """
    old = history.get(number)
    edit = Edit(old.prompt, target, old.rephrases if rephrases is None else rephrases)
    plans = plan([edit], history, "supersede")
    if not plans[0].written:
        raise EditError(f"Edit {number} already answers {old.prompt!r} with {old.target!r}: give another target.")
    return plans


def _plan_one(edit: Edit, history: History, on_conflict: OnConflict, other: EditRecord | None) -> Plan:
    texts = (edit.prompt, *edit.rephrases)
    stored = {record.id: record for text in texts for record in history.find_all(text)}
    related = {number: relation(record, edit) for number, record in stored.items()}
    against = [record for number, record in stored.items() if related[number] is Relation.contradicts]
    if against and on_conflict == "keep":
        return Plan(edit, "kept", (against[0].id,))
    if against and on_conflict == "error":
        raise ConflictError(
            f"Edit {against[0].id} already answers {against[0].prompt!r} with {against[0].target!r}, not "
            f"{edit.target!r}: pass on_conflict='supersede' to replace it, or 'keep' to leave it."
        )
    same = next((record for number, record in stored.items() if related[number].repeats), None)
    if same is not None and not against and other is None and related[same.id] is not Relation.extends:
        return Plan(edit, "unchanged", (same.id,))
    replaced = dict.fromkeys(record.id for record in (*against, same, other) if record is not None)
    return Plan(edit, "superseded" if replaced else "added", tuple(replaced))
