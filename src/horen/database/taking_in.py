"""Taking a saved codebook into a store: its edits, its operations as versions, its rows."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from safetensors.torch import save
from sqlalchemy import Connection, Table, insert, select
from torch import Tensor

from horen.database.audit import logged
from horen.database.changing import receipt_of
from horen.database.checks import check_text
from horen.database.records import By
from horen.database.rows import OF_ENTRIES, OF_VALUES, Layout, digest_of
from horen.database.schema import block, codebook, edit, touched, version, wording
from horen.database.seals import sealed
from horen.database.texts import marks_of, words_of
from horen.errors import StoreError
from horen.store.history import History
from horen.store.operations import Operation
from horen.store.state import Saved

# So many rows of entries or values are in one block.
_ROWS = 4096


def take_in(connection: Connection, saved: Saved, by: By) -> int:
    """Fill the empty tables of a store with a saved codebook, and return the number of its last version.

    Raises:
        StoreError: when the tables are not empty, or the codebook has lost its keys.
        EditError: when a text cannot be stored.
    """
    if connection.execute(select(codebook.c.id)).first() is not None:
        raise StoreError("There is a store already: name another place.")
    if "keys" not in saved.folder.tensors:
        raise StoreError(f"{saved.path} has lost its keys: make them anew with horen rekey.")
    history, tensors = saved.history, saved.folder.tensors
    operations = history.operations
    layout = Layout.of(tensors)
    _fill(connection, edit, _edit_rows(history, operations, by))
    _fill(connection, wording, _wording_rows(operations))
    versions = list(_version_rows(operations, by))
    _fill(connection, version, (row for row, _ in versions))
    touches = sorted({(number, row["number"]) for row, also in versions for number in also})
    _fill(connection, touched, ({"edit": number, "version": at} for number, at in touches))
    _fill(connection, block, _block_rows(layout, tensors), 1)
    config = {name: told for name, told in saved.folder.config.items() if name not in ("saved", "edits", "store")}
    fixed = {name: tensor.contiguous() for name, tensor in tensors.items() if name not in layout.rows}
    told = {
        "id": 1,
        "store": str(uuid.uuid4()),
        "config": config,
        "fixed": save(fixed),
        "tables": layout.to_json(),
        "version": history.count,
        "edits": history.next_id - 1,
        "entries": len(tensors["keys"]),
        "number_of_values": len(tensors["values"]),
    }
    connection.execute(insert(codebook).values(sealed(codebook, told)))
    logged(connection, by, "store.import", "store", version=history.count, detail={"edits": len(history)})
    return history.count


def _fill(connection: Connection, table: Table, rows: Iterator[dict[str, Any]], size: int = 5000) -> None:
    some: list[dict[str, Any]] = []
    for row in rows:
        some.append(row)
        if len(some) == size:
            connection.execute(insert(table), some)
            some = []
    if some:
        connection.execute(insert(table), some)


def _edit_rows(history: History, operations: Sequence[Operation], by: By) -> Iterator[dict[str, Any]]:
    for operation in operations:
        for record in operation.added:
            active = history.is_active(record.id)
            for name, text in (("prompt", record.prompt), ("target", record.target)):
                check_text(text, name)
            told = {
                "id": record.id,
                "version": operation.sequence,
                "state": "published" if active else "retired",
                "active": active,
                "prompt": record.prompt,
                "target": record.target,
                "rephrases": list(record.rephrases),
                "subject": None,
                "source": None,
                "set_name": None,
                "author": by.actor,
                "reason": by.reason,
                "created": record.created,
                "replaces": list(record.replaces),
                "draft": None,
                "receipt": receipt_of(record, record.entries, record.value),
                "tags": [],
                "words": words_of(record.prompt, record.target, record.rephrases, None),
            }
            yield sealed(edit, told)


def _wording_rows(operations: Sequence[Operation]) -> Iterator[dict[str, Any]]:
    for operation in operations:
        for record in operation.added:
            for mark in marks_of((record.prompt, *record.rephrases)):
                yield {"mark": mark, "edit": record.id}


def _version_rows(operations: Sequence[Operation], by: By) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """Yield versions, each with the edits that it changed after their publication."""
    for operation in operations:
        gone, back = list(operation.removed), list(operation.restored)
        if operation.undoes is not None:
            target = operations[operation.undoes - 1]
            gone = [*target.restored, *(record.id for record in target.added)]
            back = list(target.removed)
        states = {key: ["published", "retired"] for key in map(str, gone)}
        states |= {key: ["retired", "published"] for key in map(str, back)}
        row = {
            "number": operation.sequence,
            "operation": operation.name,
            "at": operation.at,
            "actor": by.actor,
            "reason": by.reason,
            "removed": gone,
            "restored": back,
            "dropped": list(operation.dropped),
            "changes": {"edits": {number: {"state": state} for number, state in states.items()}} if states else {},
            "undoes": operation.undoes,
            "target": None,
        }
        yield sealed(version, row), [*gone, *back]


def _block_rows(layout: Layout, tensors: dict[str, Tensor]) -> Iterator[dict[str, Any]]:
    entries, values = len(tensors["keys"]), len(tensors["values"])
    for start in range(0, max(entries, values), _ROWS):
        counts = [max(0, min(_ROWS, whole - start)) for whole in (entries, values)]
        rows = {name: tensors[name][start : start + _ROWS] for name in (*OF_ENTRIES, *OF_VALUES) if name in tensors}
        content = layout.pack({name: some for name, some in rows.items() if len(some)})
        yield {
            "first_entry": min(start, entries),
            "entries": counts[0],
            "first_value": min(start, values),
            "number_of_values": counts[1],
            "content": content,
            "digest": digest_of(content),
        }
