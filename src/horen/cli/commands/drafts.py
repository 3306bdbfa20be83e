"""The command that shows proposed edits, publishes and rejects them."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from horen.cli.options import AsJson, Author, Limit, OnConflict, Place, Reason, StorePlace
from horen.cli.stores.opening import by_whom, opened
from horen.cli.stores.telling import as_dict, drafts_of, is_draft, rows_of, say_clashes, version_line, when
from horen.cli.terminal import NUMBER, clean, counted, emit, ids_of, led_away, say, show, show_list
from horen.errors import ConflictError

if TYPE_CHECKING:
    from horen.database import By, Store
    from horen.database.records import Draft, Version

_OPEN = ("waiting", "training", "ready", "failed")


class Action(StrEnum):
    """What is done to drafts."""

    show = "show"
    publish = "publish"
    reject = "reject"


class Wanted(StrEnum):
    """Which drafts are listed."""

    open = "open"
    waiting = "waiting"
    training = "training"
    ready = "ready"
    failed = "failed"
    published = "published"
    rejected = "rejected"
    all = "all"


def drafts(
    store: StorePlace,
    action: Annotated[
        Action | None, typer.Argument(metavar="ACTION", help="See above; without it they are listed.")
    ] = None,
    numbers: Annotated[list[int] | None, typer.Argument(metavar="ID", help="Numbers of drafts.")] = None,
    state: Annotated[
        Wanted, typer.Option("--state", help="Which are listed; open are those that nobody has decided on.")
    ] = Wanted.open,
    limit: Limit = 50,
    before: Annotated[
        int | None, typer.Option("--before", min=1, metavar="ID", help="Begin before this draft.")
    ] = None,
    on_conflict: Annotated[
        OnConflict,
        typer.Option(
            "--on-conflict",
            help="With publish: what to do where a published edit answers otherwise; keep leaves the draft a draft.",
        ),
    ] = OnConflict.error,
    by: Author = None,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """List the drafts of a store, or decide on them.

    A draft is an edit that somebody proposed, to the service or with its page; a trainer beside the service trains it
    and, where that was asked for, finds out what it would change. It answers once it is published.

    \b
      horen drafts STORE                list them, the newest first
      horen drafts STORE show ID        show one, with its evaluation
      horen drafts STORE publish ID ID  publish some as one version
      horen drafts STORE reject ID ID   reject some

    \b
    Example:
      horen drafts facts.db publish 4 --reason "checked against the register"
    """
    if action is None:
        _list(store, state, before, limit, as_json=as_json)
        return
    if not numbers or (action is Action.show and len(numbers) > 1):
        raise typer.BadParameter(f"write: horen drafts STORE {action.value} ID")
    with opened(store) as database:
        if action is Action.show:
            draft = database.drafts.get(numbers[0])
            if as_json:
                emit(as_dict(draft))
            else:
                _show(draft)
            return
        who = by_whom(by, reason)
        version = _publish(database, numbers, who, on_conflict) if action is Action.publish else None
        if action is Action.reject:
            database.drafts.reject(numbers, who)
        told = [database.drafts.get(number) for number in dict.fromkeys(numbers)]
    _tell(store, action, told, version, as_json=as_json)


def _tell(store: Place, action: Action, told: list[Draft], version: Version | None, *, as_json: bool) -> None:
    if as_json:
        made = None if version is None else as_dict(version)
        emit({"action": action.value, "drafts": [as_dict(draft) for draft in told], "version": made})
        return
    for draft in told:
        edit = f" as edit {draft.edit}" if draft.edit is not None else ""
        show(f"Draft {draft.id} is {draft.state}{edit}: {clean(draft.prompt)} -> {clean(draft.target)}")
    if version is not None:
        show(f"{store} is at {version_line(version)}.")


def _publish(store: Store, numbers: list[int], who: By, on_conflict: OnConflict) -> Version | None:
    """Publish drafts as one version; None where all of them give way to what is published."""
    wanted = {number: list(store.drafts.get(number).replaces) for number in numbers}
    while wanted:
        try:
            return store.drafts.publish(list(wanted), who, replaces=wanted)
        except ConflictError as error:
            before = {number: list(gone) for number, gone in wanted.items()}
            for clash in error.clashes if on_conflict is not OnConflict.error else ():
                number = clash.theirs.id
                if not is_draft(clash.theirs) or number not in wanted:
                    continue
                if on_conflict is OnConflict.keep:
                    del wanted[number]
                elif not is_draft(clash.ours) and clash.ours.id not in wanted[number]:
                    wanted[number].append(clash.ours.id)
            if wanted == before:
                say_clashes(error.clashes)
                raise
    return None


def _list(store: Place, state: Wanted, before: int | None, limit: int, *, as_json: bool) -> None:
    with opened(store) as database:
        # Most that are decided lie far back, so those that are open are asked for by their state.
        states: tuple[Any, ...] = _OPEN if state is Wanted.open else (None if state is Wanted.all else state.value,)
        found = [draft for one in states for draft in drafts_of(database, one, before, limit + 1)]
    several = sorted(found, key=lambda draft: -draft.id)
    shown, rest = several[:limit], len(several) > limit
    if as_json:
        emit([as_dict(draft) for draft in shown])
        return
    if not shown:
        show(f"{store} has no drafts that are {state.value}." if state is not Wanted.all else f"{store} has no drafts.")
        return
    headers = (
        ("id", NUMBER),
        "state",
        ("prompt", {"ratio": 3}),
        ("target", {"ratio": 2}),
        "author",
        "proposed (UTC)",
        ("note", {"ratio": 2}),
    )
    rows = ((str(d.id), d.state, d.prompt, d.target, d.author, when(d.created), _note(d)) for d in shown)
    more = f"--before {shown[-1].id} lists more" if rest else ""
    show_list(headers, rows, more)
    if more and led_away():
        say(more)


def _note(draft: Draft) -> str:
    notes = []
    if draft.state == "training" and draft.total:
        notes.append(f"{draft.done} of {draft.total}")
    if draft.replaces:
        notes.append(f"replaces {ids_of(draft.replaces)}")
    if draft.similar is not None and draft.similar not in draft.replaces:
        notes.append(f"looks like edit {draft.similar}")
    if draft.evaluation is not None:
        told = draft.evaluation["summary"]
        notes.append(f"right {told['own_right']}/{told['own_asked']}, disturbs {told['disturbed']}/{told['asked']}")
    if draft.error:
        notes.append(draft.error)
    return "; ".join(notes)


def _show(draft: Draft) -> None:
    facts, receipt = draft.facts, draft.receipt
    loss = f"{receipt['loss']:.4f} after {receipt['steps']} steps" if "loss" in receipt else None
    decided = f"{draft.state} by {draft.decided_by} at {when(draft.decided_at)}" if draft.decided_by else None
    lines: list[tuple[str, str | None]] = [
        ("draft", str(draft.id)),
        ("state", draft.state),
        ("prompt", draft.prompt),
        ("target", draft.target),
        *(("rephrase", text) for text in draft.rephrases),
        ("wrong", draft.wrong),
        ("subject", facts.subject),
        ("source", facts.source),
        ("tags", ", ".join(facts.tags)),
        ("set", facts.set),
        ("author", draft.author),
        ("reason", draft.reason),
        ("proposed", draft.created),
        ("replaces", ids_of(draft.replaces)),
        ("similar", None if draft.similar is None else f"edit {draft.similar}"),
        ("loss", loss if loss is None or receipt.get("converged", True) else f"{loss}, not converged"),
        ("error", draft.error),
        ("edit", None if draft.edit is None else str(draft.edit)),
        ("decided", decided),
        ("decision", draft.decision),
    ]
    for line in rows_of(lines):
        show(line)
    if draft.evaluation is not None:
        _show_evaluation(draft.evaluation)


def _show_evaluation(found: Any) -> None:
    """Show what a draft would do: what its own questions are answered, and what else would change."""
    told = found["summary"]
    show("")
    show(
        f"Evaluated upon version {found['version']}: {told['own_right']} of {told['own_asked']} own questions right, "
        f"{told['disturbed']} of {counted(told['asked'], 'other prompt')} disturbed",
        style="bold",
    )
    for line in found["own"]:
        sign = "right" if line["correct"] else "WRONG"
        fires = "" if line["fires"] else ", does not fire"
        show(f"  {sign}  {clean(line['prompt'])} ({line['context']}{fires}): {clean(line['answer'])}")
    for line in (*found["neighbours"], *found["prompts"]):
        where = f"edit {line['edit']}: " if line.get("edit") is not None else ""
        if line["fires"] or line["changed"]:
            show(f"  CHANGED  {where}{clean(line['prompt'])}: {clean(line['before'])} -> {clean(line['answer'])}")
        else:
            show(f"  as before  {where}{clean(line['prompt'])}")
