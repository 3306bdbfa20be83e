"""Checking a whole store: every row against its seal, and what follows from other rows against those."""

from __future__ import annotations

from sqlalchemy import Connection, select

from horen.database.found import check_edit
from horen.database.rows import check_digest
from horen.database.schema import audit, block, codebook, draft, edit, edit_set, edit_tag, version
from horen.database.seals import check_seal, damaged
from horen.database.texts import words_of
from horen.errors import StoreError

# Rows that are in memory at a time.
_TOGETHER = 500


def check_whole(name: str, connection: Connection) -> None:
    """Read every row of a store.

    Args:
        name: of the database.
        connection: that reads.

    Raises:
        StoreError: when one is not as it was written, or the database's own check finds damage.
    """
    if connection.dialect.name == "sqlite":
        told = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
        if told != "ok":
            raise StoreError(f"{name}: the file is damaged ({told}); restore it from a backup.")
    connection = connection.execution_options(yield_per=_TOGETHER)
    on = {row.name: row.switched_on for row in connection.execute(select(edit_set))}
    for table in (codebook, version, draft, audit):
        for row in connection.execute(select(table)):
            check_seal(table, row)
    for row in connection.execute(select(block)):
        check_digest(row.content, row.digest, row.id)
    tags: dict[int, set[str]] = {}
    for row in connection.execute(select(edit_tag)):
        tags.setdefault(row.edit, set()).add(row.tag)
    count = 0
    for row in connection.execute(select(edit)):
        check_edit(row, on)
        words = words_of(row.prompt, row.target, row.rephrases, row.subject)
        if row.words != words or set(row.tags) != tags.get(row.id, set()):
            raise damaged(edit, row)
        count += 1
    told = connection.execute(select(codebook.c.edits)).scalar_one()
    if told != count:
        raise StoreError(f"{name} has {count} edits where {told} were written: restore it from a backup.")
