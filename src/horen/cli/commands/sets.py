"""The command that groups edits of a store and switches the groups on and off."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from horen.cli.options import AsJson, Author, Place, Reason, StorePlace
from horen.cli.stores.opening import by_whom, opened
from horen.cli.stores.telling import as_dict, say_clashes, version_line
from horen.cli.terminal import NUMBER, counted, emit, show, show_list
from horen.errors import ConflictError

if TYPE_CHECKING:
    from horen.database import By, Store
    from horen.database.records import Version
    from horen.database.sets import Sets


class Action(StrEnum):
    """What is done to sets."""

    make = "make"
    on = "on"
    off = "off"
    add = "add"
    merge = "merge"
    drop = "drop"
    clashes = "clashes"


class Stays(StrEnum):
    """Which of two edits that contradict each other stays, where sets are merged."""

    error = "error"
    ours = "ours"
    theirs = "theirs"


# How many names each takes; None for edits' numbers after a name.
_NAMES = {
    Action.make: ("NAME",),
    Action.on: ("NAME",),
    Action.off: ("NAME",),
    Action.add: ("NAME", "ID"),
    Action.merge: ("INTO", "OTHER"),
    Action.drop: ("NAME",),
    Action.clashes: ("ONE", "OTHER"),
}


def sets(
    store: StorePlace,
    action: Annotated[
        Action | None, typer.Argument(metavar="ACTION", help="See above; without it they are listed.")
    ] = None,
    names: Annotated[list[str] | None, typer.Argument(metavar="NAMES", help="Of sets, see above.")] = None,
    off: Annotated[bool, typer.Option("--off", help="With make: switched off to begin with.")] = False,
    on_conflict: Annotated[
        Stays, typer.Option("--on-conflict", help="With merge: whose edit stays where two contradict each other.")
    ] = Stays.error,
    by: Author = None,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """List the edit sets of a store, or change them.

    An edit is in one set or in none. Those of a set that is switched off do not answer, all at once, until it is
    switched on. Each change is a version, so it can be undone.

    \b
      horen sets STORE                    list them
      horen sets STORE make NAME          make an empty one (--off)
      horen sets STORE add NAME ID ID     put edits into one
      horen sets STORE on NAME            let its edits answer
      horen sets STORE off NAME           let them be silent
      horen sets STORE clashes ONE OTHER  edits of two that contradict each other
      horen sets STORE merge INTO OTHER   put the edits of OTHER into INTO
      horen sets STORE drop NAME          take a set away; its edits stay

    \b
    Example:
      horen edit spring.jsonl --into facts.db --edit-set spring
      horen sets facts.db off spring --reason "until it is announced"
    """
    if action is None:
        _list(store, as_json=as_json)
        return
    given = _checked(action, names or [], off=off, on_conflict=on_conflict)
    with opened(store) as database:
        if action is Action.clashes:
            _show_clashes(database.sets, given, as_json=as_json)
            return
        who = by_whom(by, reason)
        try:
            version = _done(database, action, given, who, off=off, on_conflict=on_conflict)
        except ConflictError as error:
            say_clashes(error.clashes)
            raise
    if as_json:
        emit({"action": action.value, "names": given, "version": None if version is None else as_dict(version)})
    elif version is None:
        done = "Made" if action is Action.make else "Dropped"
        show(f"{done} the edit set {given[0]}.")
    else:
        show(f"{store} is at {version_line(version)}.")


def _checked(action: Action, names: list[str], *, off: bool, on_conflict: Stays) -> list[str]:
    """Return the names that an action takes.

    Raises:
        BadParameter: when there are more or fewer, or an option is for another action.
    """
    wanted = _NAMES[action]
    enough = len(names) >= len(wanted) if action is Action.add else len(names) == len(wanted)
    if not enough:
        raise typer.BadParameter(f"write: horen sets STORE {action.value} {' '.join(wanted)}")
    if action is Action.add and not all(name.isascii() and name.isdigit() for name in names[1:]):
        raise typer.BadParameter("edits are named by their numbers: horen sets STORE add NAME ID …")
    if off and action is not Action.make:
        raise typer.BadParameter(
            f"--off is for make: horen sets STORE off NAME switches a set off, not {action.value}."
        )
    if on_conflict is not Stays.error and action is not Action.merge:
        raise typer.BadParameter(f"--on-conflict is for merge, not for {action.value}: leave it out.")
    return names


def _done(store: Store, action: Action, names: list[str], who: By, *, off: bool, on_conflict: Stays) -> Version | None:
    """Do it, and return the version that it made, if any."""
    found = store.sets
    if action is Action.make:
        found.make(names[0], who, on=not off)
        return None
    if action is Action.add:
        return store.edits.describe([int(name) for name in names[1:]], who, set=names[0])
    if action is Action.merge:
        return found.merge(names[0], names[1], who, on_conflict=on_conflict.value)
    if action is Action.drop:
        return found.drop(names[0], who)
    return found.switch(names[0], action is Action.on, who)


def _list(store: Place, *, as_json: bool) -> None:
    with opened(store) as database:
        found = database.sets.list()
    if as_json:
        emit([as_dict(one) for one in found])
    elif not found:
        show(f"{store} has no edit sets.")
    else:
        rows = ((one.name, "on" if one.on else "off", str(one.edits)) for one in found)
        show_list(("set", "", ("edits", NUMBER)), rows)


def _show_clashes(found: Sets, names: list[str], *, as_json: bool) -> None:
    clashes = found.clashes(names[0], names[1])
    if as_json:
        emit([as_dict(clash) for clash in clashes])
    elif not clashes:
        show(f"No edits of {names[0]} and {names[1]} contradict each other.")
    else:
        headers: list[Any] = [("wording", {"ratio": 2}), (names[0], {"ratio": 1}), (names[1], {"ratio": 1})]
        rows = (
            (clash.wording, f"{clash.ours.id}: {clash.ours.target}", f"{clash.theirs.id}: {clash.theirs.target}")
            for clash in clashes
        )
        show_list(headers, rows, counted(len(clashes), "contradiction"))
