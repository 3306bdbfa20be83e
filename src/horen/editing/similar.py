"""Finding the stored edit that a new one corrects in other words, by the gate that decides what a prompt wakes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from horen.asking.explain import explain
from horen.editing.plan import Plan, plan
from horen.edits import Edit, Explanation, OnConflict, OnSimilar, Similar, same_text
from horen.errors import EditError
from horen.model.quiet import quiet
from horen.session import Session


def find_similar(session: Session, edits: Sequence[Edit]) -> list[Similar | None]:
    """Find for each edit the stored one that it looks like; see :meth:`horen.Editor.similar`."""
    return _found(session, plan(edits, session.history, "keep"))


def plan_with_similar(
    session: Session, edits: Sequence[Edit], on_conflict: OnConflict, on_similar: OnSimilar
) -> list[Plan]:
    """Return plans in which what ``on_similar`` says is settled; see :meth:`horen.Editor.edit`.

    Raises:
        EditError: when ``on_similar`` is nothing that it may be.
        EditNotFoundError: when it names an edit that is not active.
        ConflictError: when a stored edit disagrees and ``on_conflict`` is "error".
    """
    history = session.history
    if isinstance(on_similar, Sequence) and not isinstance(on_similar, str):
        if len(on_similar) != len(edits):
            raise EditError(
                f"on_similar lists {len(on_similar)} ids for {len(edits)} edits: give one or None for each."
            )
        found = list(on_similar)
        plans = plan(edits, history, on_conflict, found)
    elif on_similar in ("ignore", "warn", "supersede"):
        plans = plan(edits, history, on_conflict)
        if on_similar == "ignore":
            return plans
        found = [item.id if item is not None else None for item in _found(session, plans)]
        if on_similar == "supersede":
            plans = plan(edits, history, on_conflict, found)
    else:
        raise EditError(
            f"on_similar={on_similar!r} is not valid: use 'ignore', 'warn', 'supersede', or a list that gives for each "
            "edit the id of the stored one that it replaces, or None."
        )
    for item, number in zip(plans, found, strict=True):
        item.resembles = number if item.written else None
    return plans


def _found(session: Session, plans: Sequence[Plan]) -> list[Similar | None]:
    """Return what new prompts look like.

    Prompts that are stored word for word, and what they meet, are settled already.
    """
    fresh = [item for item in plans if item.action == "added"]
    threshold = session.config.similar_threshold
    if not fresh or not len(session.history) or threshold == 1:
        return [None] * len(plans)
    texts = {id(item): list(dict.fromkeys((item.edit.prompt, *item.edit.rephrases))) for item in fresh}
    with quiet(session.adapter):
        asked = [text for some in texts.values() for text in some]
        seen = iter(explain(session, asked, chat=False, nearest=0, above=threshold))
    met = {number for item in plans for number in item.stored}
    found: list[Similar | None] = []
    for item in plans:
        routes = [next(seen) for _ in texts.get(id(item), ())]
        alike = (_alike(item.edit, route, threshold) for route in routes if route.edit_id not in met)
        found.append(_nearest(alike))
    return found


def _alike(edit: Edit, route: Explanation, threshold: float) -> Similar | None:
    if route.edit_id is None or route.words is None or route.prompt is None or route.target is None:
        return None
    if route.score is None or route.score <= threshold or same_text(route.target) == same_text(edit.target):
        return None
    # Names that differ in a number alone (HD 168443, HD 176527) are read as nearly the same, and are not.
    if _numbers(route.words) != _numbers(route.prompt):
        return None
    return Similar(route.edit_id, route.prompt, route.target, route.score)


def _nearest(found: Iterable[Similar | None]) -> Similar | None:
    return max((item for item in found if item is not None), key=lambda item: item.score, default=None)


def _numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+", text))
