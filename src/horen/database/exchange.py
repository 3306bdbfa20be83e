"""Edits of a store as a plain folder that can be kept under version control, and such a folder taken into a store."""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from sqlalchemy import Connection, Row, select
from torch import Tensor

from horen.config import HorenConfig
from horen.config.settings import check_same
from horen.database.changing import Addition, Change
from horen.database.drafts import Proposal, proposed
from horen.database.edits import where
from horen.database.found import check_edit, edits_of, parts, told
from horen.database.plain import Line, Plain, Rows, check_layout, mark_of, read_plain, write_plain
from horen.database.records import By, Clash, Draft, Facts, Query, StoredEdit, Version
from horen.database.rows import OF_VALUES, Head, Layout, check_digest
from horen.database.schema import block, codebook, edit, edit_set, wording
from horen.database.seals import check_seal
from horen.database.sets import OnClash
from horen.database.store import Store
from horen.database.texts import marks_of, now
from horen.editing.conflicts import Relation, relation, wordings
from horen.edits import EditRecord
from horen.errors import ConflictError, DataError, EditError, MismatchError


@dataclass(frozen=True)
class Taken:
    """What became of a folder's edits.

    Attributes:
        version: that has those which came with their rows; None where there were none.
        drafts: those that wait for a trainer.
        unchanged: how many were there already, word for word.
        left_out: how many gave way to an edit that is there.
        asleep: how many are retired, or in a set that is off, where they come from.
    """

    version: Version | None
    drafts: tuple[Draft, ...]
    unchanged: int = 0
    left_out: int = 0
    asleep: int = 0


def export(store: Store, folder: str | os.PathLike[str], query: Query | None = None) -> int:
    """Write edits into a plain folder, and return how many.

    Args:
        store: that has them.
        folder: made where there is none; what was exported into it before is replaced.
        query: which edits; None for all, retired ones too.

    Raises:
        StoreError: when the store cannot be read, or the folder not be written or holds something else.
    """
    with store.database.reading() as connection:
        head = check_seal(codebook, connection.execute(select(codebook)).one())
        on = {row.name: row.switched_on for row in connection.execute(select(edit_set))}
        found = connection.execute(where(select(edit), query or Query()).order_by(edit.c.id)).all()
        rows = [check_edit(row, on) for row in found]
        tables = _tables(connection, Layout.from_json(head.tables), rows)
    about = {
        "store": head.store,
        "version": head.version,
        "sets": {name: on[name] for name in sorted(on)},
        "key_space": _key_space(head),
        "config": head.config,
    }
    write_plain(Path(folder), about, map(_told, rows), tables)
    return len(rows)


def _told(row: Row[Any]) -> dict[str, Any]:
    receipt = told(row.receipt) | ({"left": row.receipt["left"]} if row.receipt["left"] else {})
    return {**row._mapping, "set": row.set_name, "receipt": receipt}


def _key_space(head: Row[Any]) -> str:
    tensors = load(head.fixed)
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _tables(connection: Connection, layout: Layout, rows: Sequence[Row[Any]]) -> Rows:
    """Return the rows of edits; a value that several share is there once."""
    entries: list[int] = []
    values: dict[int, int] = {}
    places: dict[bytes, tuple[int, int, int, int]] = {}
    # Of edits with the very same texts the last one counts, which is the one that can be active.
    last = {mark_of(row.prompt, row.rephrases, row.target): row.receipt for row in rows if row.receipt["entries"]}
    for mark, receipt in last.items():
        count = 1 + len(receipt["left"])
        for number in range(receipt["value"], receipt["value"] + count):
            values.setdefault(number, len(values))
        places[mark] = (len(entries), len(receipt["entries"]), values[receipt["value"]], count)
        entries += receipt["entries"]
    found = _picked(connection, layout, entries, list(values))
    return Rows(places, {name: tensor for name, tensor in found.items() if name != "value_of"})


def _picked(connection: Connection, layout: Layout, entries: list[int], values: list[int]) -> dict[str, Tensor]:
    """Return rows of the tables by their numbers, in the order that is asked for."""
    wanted = {name: values if name in OF_VALUES else entries for name in layout.rows}
    order = {name: sorted(set(numbers)) for name, numbers in wanted.items()}
    some: dict[str, list[Tensor]] = {name: [] for name in layout.rows}
    for row in connection.execution_options(yield_per=64).execute(select(block).order_by(block.c.id)):
        spans = dict.fromkeys(layout.rows, (row.first_entry, row.entries))
        spans |= {name: (row.first_value, row.number_of_values) for name in OF_VALUES if name in layout.rows}
        inside = {
            name: order[name][bisect_left(order[name], first) : bisect_right(order[name], first + count - 1)]
            for name, (first, count) in spans.items()
        }
        if not any(inside.values()):
            continue
        content = check_digest(row.content, row.digest, row.id)
        tables = layout.joined([layout.split(content, row.entries, row.number_of_values)])
        for name, numbers in inside.items():
            some[name].append(tables[name][[number - spans[name][0] for number in numbers]])
    found = {}
    for name, parts_ in some.items():
        dtype, shape = layout.rows[name]
        table = torch.cat(parts_) if parts_ else torch.empty(0, *shape, dtype=dtype)
        found[name] = table[[bisect_left(order[name], number) for number in wanted[name]]]
    return found


def take_from(store: Store, folder: str | os.PathLike[str], by: By, *, on_conflict: OnClash = "error") -> Taken:
    """Take a plain folder's edits into a store of the same model and settings, as one version.

    Edits that are there word for word are left out, and so are those that are retired where they come from, or in a set
    that is off there. Those without rows, which somebody has written by hand, become drafts.

    Args:
        store: that takes them.
        folder: that :func:`export` has written.
        by: who does it, and why.
        on_conflict: where an edit cannot stay beside one that is active: "error" takes none of the folder, "ours"
            leaves the folder's out, "theirs" retires the store's.

    Raises:
        StoreError: when the folder is damaged or no export, or the store cannot be written.
        MismatchError: when it is of another model, other settings or another key space, or a newer release wrote it.
        DataError: when a line is no edit.
        EditError: when a text cannot be stored, or a set is switched off.
        ConflictError: with ``on_conflict="error"``, with both sides of each clash.
    """
    if on_conflict not in {"error", "ours", "theirs"}:
        raise EditError(f"on_conflict={on_conflict!r} is not valid: use 'error', 'ours' or 'theirs'.")
    plain = read_plain(Path(folder))
    with store.database.writing() as connection:
        head = check_seal(codebook, connection.execute(select(codebook)).one())
        _check_fits(plain, head)
        return _Taking(connection, plain, by, on_conflict).take()


def _check_fits(plain: Plain, head: Row[Any]) -> None:
    from horen.model.fingerprint import difference  # noqa: PLC0415 - it imports transformers, which takes seconds

    try:
        there, own = plain.about["config"], head.config
        settings = [HorenConfig.from_saved(one["settings"]).of_edits() for one in (there, own)]
        differs = difference(there["model"]["fingerprint"], own["model"]["fingerprint"])
        if differs is None and "encoder" in own:
            differs = difference(there["encoder"]["fingerprint"], own["encoder"]["fingerprint"])
        space = plain.about["key_space"]
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{plain.path / 'store.json'} lacks {error}: take it from an export.") from error
    check_same(plain.path, *settings)
    if differs:
        raise MismatchError(
            f"{plain.path} is of another model ({differs}): write its prompts and targets anew for the store's."
        )
    if space != _key_space(head):
        raise MismatchError(
            f"The keys of {plain.path} are of another key space than the store's: propose its edits anew."
        )
    check_layout(plain.path, plain.rows, Layout.from_json(head.tables))


class _Taking:
    """One folder on its way into a store, in a writing transaction."""

    def __init__(self, connection: Connection, plain: Plain, by: By, on_conflict: OnClash) -> None:
        self._connection, self._plain, self._by, self._on_conflict = connection, plain, by, on_conflict
        self._clashes: list[Clash] = []
        self._unchanged = self._left_out = self._asleep = 0

    def take(self) -> Taken:
        """Take it in.

        Raises:
            ConflictError: when something clashes, and neither side is to give way.
        """
        sets = self._plain.about.get("sets", {})
        awake = []
        for line in self._plain.lines:
            if line.told["state"] == "retired" or (line.told["set"] and sets.get(line.told["set"]) is False):
                self._asleep += 1
            else:
                awake.append(line)
        there = self._active(awake)
        trained: list[tuple[Line, tuple[int, ...]]] = []
        waiting: list[tuple[Line, tuple[int, ...]]] = []
        for line in awake:
            gone = self._given_way(line, there)
            if gone is not None:
                (trained if line.mark in self._plain.rows.places else waiting).append((line, gone))
        if self._clashes:
            first = self._clashes[0]
            raise ConflictError(
                f"{self._plain.path} contradicts the store in {len(self._clashes)} edits, the first of which answer "
                f"{first.wording!r} with {first.ours.target!r} and {first.theirs.target!r}: take it with on_conflict "
                "'ours' or 'theirs', or remove one of each.",
                self._clashes,
            )
        version = self._publish(trained)
        drafts = tuple(self._propose(line, gone) for line, gone in waiting)
        return Taken(version, drafts, self._unchanged, self._left_out, self._asleep)

    def _active(self, lines: Iterable[Line]) -> dict[str, list[StoredEdit]]:
        """Return active edits of the store by the wordings that they share with lines."""
        marks = {mark for line in lines for mark in marks_of((line.told["prompt"], *line.told["rephrases"]))}
        numbers: set[int] = set()
        for some in parts(sorted(marks)):
            wanted = select(wording.c.edit).join(edit, edit.c.id == wording.c.edit)
            numbers |= set(self._connection.execute(wanted.where(wording.c.mark.in_(some), edit.c.active)).scalars())
        found: dict[str, list[StoredEdit]] = {}
        for one in edits_of(self._connection, sorted(numbers)).values():
            for text in wordings(one):
                found.setdefault(text, []).append(one)
        return found

    def _given_way(self, line: Line, there: Mapping[str, list[StoredEdit]]) -> tuple[int, ...] | None:
        """Return which edits give way to that of a line; None where it is not taken."""
        theirs = _draft(line, self._by)
        met = {one.id: one for text in wordings(theirs) for one in there.get(text, ())}
        related = {number: relation(one, theirs) for number, one in met.items()}
        if Relation.same in related.values():
            self._unchanged += 1
            return None
        rivals = [met[number] for number in sorted(related) if related[number].clashes]
        if rivals and self._on_conflict == "ours":
            self._left_out += 1
            return None
        if rivals and self._on_conflict == "error":
            for one in rivals:
                said = set(wordings(one))
                self._clashes.append(Clash(one, theirs, next(text for text in wordings(theirs) if text in said)))
        return tuple(one.id for one in rivals)

    def _publish(self, lines: Sequence[tuple[Line, tuple[int, ...]]]) -> Version | None:
        if not lines:
            return None
        change = Change(self._connection, "import", self._by)
        there = set(self._connection.execute(select(edit_set.c.name)).scalars())
        for name in dict.fromkeys(line.told["set"] for line, _ in lines):
            if name is not None and name not in there:
                change.switch(name, True)
        head, additions = change.head, []
        shared: dict[int, int] = {}
        for line, gone in lines:
            addition = self._addition(line, gone, head, shared)
            additions.append(addition)
            record = addition.record
            more = len(record.values) if record.value >= head.values else 0
            head = Head(head.version, head.edits + 1, head.entries + len(record.entries), head.values + more)
        change.publish(additions)
        return change.finish()

    def _addition(self, line: Line, gone: tuple[int, ...], base: Head, shared: dict[int, int]) -> Addition:
        """Return an edit with its rows; a value that an earlier one has brought is not brought again."""
        fields, rows = line.told, self._plain.rows
        _, entries, first, count = rows.places[line.mark]
        value = shared.setdefault(first, base.values)
        tables = {"keys": rows.entries(line.mark, "keys")}
        tables["value_of"] = torch.full((entries,), value, dtype=torch.int64)
        if value == base.values:
            tables |= {name: rows.values(line.mark, name) for name in OF_VALUES if name in rows.tensors}
        receipt = fields["receipt"] or {}
        try:
            record = EditRecord(
                id=base.edits + 1,
                prompt=fields["prompt"],
                target=fields["target"],
                rephrases=tuple(fields["rephrases"]),
                entries=tuple(range(base.entries, base.entries + entries)),
                value=value,
                loss=float(receipt["loss"]),
                steps=int(receipt["steps"]),
                converged=bool(receipt["converged"]),
                reused=value != base.values,
                created=fields["created"] or now(),
                left=tuple(map(int, receipt.get("left", ()))),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _wrong(self._plain, line, f"its receipt is not one ({error!r})") from error
        if len(record.left) != count - 1:
            raise _wrong(self._plain, line, "its receipt names other values than its rows have")
        proposal = _proposal(self._plain, line, gone)
        author = By(fields["author"] or self._by.actor, fields["reason"] or "")
        return Addition(record, base, tables, proposal.facts, author, gone)

    def _propose(self, line: Line, gone: tuple[int, ...]) -> Draft:
        proposal = _proposal(self._plain, line, gone)
        by = By(line.told["author"] or self._by.actor, line.told["reason"] or self._by.reason)
        return proposed(self._connection, proposal, by)


def _wrong(plain: Plain, line: Line, what: str) -> DataError:
    return DataError(f"{plain.path / 'edits.jsonl'}, line {line.number}: {what}; see the other lines.")


def _proposal(plain: Plain, line: Line, gone: tuple[int, ...]) -> Proposal:
    """Return what a line proposes.

    Raises:
        EditError: when one of its texts cannot be stored.
    """
    fields = line.told
    facts = Facts(fields["subject"], fields["source"], tuple(fields["tags"]), fields["set"])
    try:
        return Proposal(fields["prompt"], fields["target"], fields["rephrases"], facts, gone)
    except EditError as error:
        raise EditError(f"{plain.path / 'edits.jsonl'}, line {line.number}: {error}") from error


def _draft(line: Line, by: By) -> Draft:
    """Return a line as the side of a clash; as a draft it has no number yet."""
    fields = line.told
    facts = Facts(fields["subject"], fields["source"], tuple(fields["tags"]), fields["set"])
    texts = (fields["prompt"], fields["target"], tuple(fields["rephrases"]))
    return Draft(
        0, "waiting", *texts, facts, fields["author"] or by.actor, fields["reason"] or "", fields["created"] or ""
    )
