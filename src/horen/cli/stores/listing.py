"""What horen list, show, history, remove and undo do on a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from horen.cli.options import Place, State
from horen.cli.stores.opening import by_whom, opened
from horen.cli.stores.telling import as_dict, first, note_of, pages, rows_of, version_line, what_of, when
from horen.cli.terminal import NUMBER, clean, counted, emit, ids_of, led_away, say, show, show_list

if TYPE_CHECKING:
    from horen.database.records import EditState, Version


@dataclass(frozen=True)
class Search:
    """Which edits are listed.

    Attributes:
        text: words that they contain.
        tag: one of their tags.
        set: the name of their set.
        author: who proposed them.
        state: published, retired or all.
        before: id of the edit that they come before.
        limit: at most so many.
    """

    text: str | None
    tag: str | None
    set: str | None
    author: str | None
    state: State
    before: int | None
    limit: int | None


def list_stored(place: Place, search: Search, *, as_json: bool) -> None:
    """List the edits of a store, the newest first."""
    from horen.database import Query  # noqa: PLC0415

    query = Query(
        search.text or None,
        cast("EditState | None", None if search.state is State.all else search.state.value),
        search.tag,
        search.set,
        search.author,
    )
    with opened(place) as store:
        edits, rest = first(
            lambda at, most: store.edits.list(query, before=at, limit=most), search.before, search.limit
        )
        whole = store.edits.count(query) if search.limit is not None else len(edits)
    if as_json:
        emit([as_dict(edit) for edit in edits])
        return
    named = "edit" if search.state is State.all else f"{search.state.value} edit"
    if not edits:
        earlier = f" before {search.before}" if search.before is not None else ""
        show(f"{place} holds no {named}s{earlier} that are like that.")
        return
    told = counted(whole, named) if len(edits) == whole else f"{len(edits)} of {counted(whole, named)}"
    more = [f"--before {edits[-1].id} lists more"] if rest else []
    headers = (
        ("id", NUMBER),
        ("prompt", {"ratio": 3}),
        ("target", {"ratio": 2}),
        "author",
        "set",
        ("tags", {"ratio": 1}),
        "note",
    )
    rows = (
        (str(e.id), e.prompt, e.target, e.author, e.facts.set or "", ", ".join(e.facts.tags), note_of(e)) for e in edits
    )
    show_list(headers, rows, "; ".join([told, *more]))
    if len(edits) < whole and led_away():
        say("; ".join([told, *more]))


def show_stored(place: Place, number: int, *, as_json: bool) -> None:
    """Show everything that a store knows of an edit, whatever its state."""
    with opened(place) as store:
        edit = store.edits.get(number)
        versions = store.versions.of_edit(number)
    if as_json:
        emit(as_dict(edit) | {"versions": [as_dict(version) for version in versions]})
        return
    state: str = edit.state
    if edit.state == "published" and not edit.active:
        state = "published, but its set is off"
    receipt, facts = edit.receipt, edit.facts
    loss = f"{receipt['loss']:.4f} after {receipt['steps']} steps" if "loss" in receipt else None
    if loss and not receipt.get("converged", True):
        loss += ", not converged"
    lines: list[tuple[str, str | None]] = [
        ("edit", str(edit.id)),
        ("state", state),
        ("prompt", edit.prompt),
        ("target", edit.target),
        *(("rephrase", text) for text in edit.rephrases),
        ("subject", facts.subject),
        ("source", facts.source),
        ("tags", ", ".join(facts.tags)),
        ("set", facts.set),
        ("author", edit.author),
        ("reason", edit.reason),
        ("draft", None if edit.draft is None else str(edit.draft)),
        ("loss", loss),
        ("value", "shared with an earlier edit" if receipt.get("reused") else None),
        ("written", edit.created),
        ("replaces", ids_of(edit.replaces)),
        *(("version", _touch(version)) for version in versions),
    ]
    for line in rows_of(lines):
        show(line)


def _touch(version: Version) -> str:
    why = f": {version.by.reason}" if version.by.reason else ""
    return f"{version.number} ({version.operation}) {when(version.at)} by {version.by.actor}{why}"


def history_of(place: Place, limit: int | None, *, as_json: bool) -> None:
    """List the versions of a store, the oldest first; of a limit the last ones."""
    with opened(place) as store:
        versions = list(pages(lambda at, most: store.versions.list(before=at, limit=most), limit=limit))[::-1]
    if as_json:
        emit([as_dict(version) for version in versions])
        return
    if not versions:
        show(f"Nothing has been done in {place} yet.")
        return
    headers = (
        ("version", NUMBER),
        "time (UTC)",
        "who",
        "operation",
        ("what", {"ratio": 2}),
        ("why", {"ratio": 2}),
        "tags",
    )
    rows = (
        (str(v.number), when(v.at), v.by.actor, v.operation, what_of(v), v.by.reason, ", ".join(v.tags))
        for v in versions
    )
    show_list(headers, rows)


def remove_stored(place: Place, numbers: list[int], actor: str | None, reason: str | None, *, as_json: bool) -> None:
    """Retire edits of a store, all of them or none."""
    with opened(place) as store:
        version = store.edits.remove(numbers, by_whom(actor, reason))
        edits = [store.edits.get(number) for number in dict.fromkeys(numbers)]
    if as_json:
        emit({"version": as_dict(version), "removed": [as_dict(edit) for edit in edits]})
        return
    for edit in edits:
        show(f"Removed edit {edit.id}: {clean(edit.prompt)} -> {clean(edit.target)}")
    show(f"{place} is at {version_line(version)}.")


def undo_stored(place: Place, number: int | None, actor: str | None, reason: str | None, *, as_json: bool) -> None:
    """Take back the last version of a store that was not taken back, where that is the one that is meant."""
    with opened(place) as store:
        version = store.versions.undo(by_whom(actor, reason), number)
    if as_json:
        emit({"version": as_dict(version)})
        return
    show(f"{place} is at {version_line(version)}.")
