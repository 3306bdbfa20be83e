"""A snapshot: a codebook's folder that follows a store, so that engines map it and read whole versions only."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from sqlalchemy import Connection, Row, select
from torch import Tensor

from horen.database.rows import Layout, check_digest
from horen.database.schema import block, codebook, edit, version
from horen.database.seals import check_seal
from horen.database.store import Store
from horen.edits import EditRecord
from horen.errors import StoreError
from horen.store import Known, lock_folder, write_folder
from horen.store.content import FOLLOWS, uncollected
from horen.store.folder import mark_of
from horen.store.history import History
from horen.store.operations import Operation, now
from horen.store.reading import settled
from horen.store.state import GROWS, Saved

_log = logging.getLogger(__name__)


@dataclass
class _Held:
    """What a folder holds, as it was read or written last.

    Attributes:
        history: every operation.
        tensors: every table.
        block: number of the last block whose rows are in them.
        known: see :func:`horen.store.write_folder`.
    """

    history: History
    tensors: dict[str, Tensor]
    block: int
    known: Known


class Snapshot:
    """A folder with what a store holds, opened like any other codebook's.

    Any number of processes may bring one folder up to date. What others write into it is refused, not overwritten.

    Args:
        store: that is followed.
        folder: made where there is none.

    Attributes:
        folder: of the snapshot.
    """

    def __init__(self, store: Store, folder: str | os.PathLike[str]) -> None:
        self._store, self.folder = store, Path(folder)
        self._held: _Held | None = None

    def follow(self) -> int:
        """Bring the folder to the store's last version, and return its number.

        Raises:
            StoreError: when the database cannot be read, the folder not be written, or it holds something else.
        """
        with lock_folder(self.folder), uncollected():
            with self._store.database.reading() as connection:
                head = check_seal(codebook, connection.execute(select(codebook)).one())
                if self._held is None and self._is_current(head, connection):
                    return int(head.version)
                held = self._at_hand()
                if held is not None and not _is_before(held.history, head, connection):
                    _log.warning("%s is made anew: the store has been put back to an earlier state.", self.folder)
                    held = None
                if held is not None and held.history.count == head.version:
                    return int(head.version)
                after = _grown(held, connection, head) if held else _whole(connection, head)
            config = {**head.config, "saved": now(), "edits": len(after.history)}
            config[FOLLOWS] = {
                "id": self._store.id,
                "version": head.version,
                "block": after.block,
                "at": after.history.made_at(head.version) if head.version else "",
            }
            self._held = None  # until it is written
            write_folder(
                self.folder,
                config=config,
                records=after.history.lines(),
                tensors=after.tensors,
                known=after.known,
                grows=GROWS,
            )
            self._held = after
            return int(head.version)

    def keep(self, told: Callable[[int], None], stop: Callable[[], bool], patience: float = 1.0) -> None:
        """Follow until it is to stop; what fails is tried again.

        Args:
            told: called with each version that the folder has come to.
            stop: asked at least every ``patience`` seconds whether to end.
            patience: in seconds.
        """
        last, told_of = -1, ""
        while not stop():
            try:
                at = self.follow()
            except StoreError as error:
                if str(error) != told_of:  # not each second that the database is away
                    told_of = str(error)
                    _log.warning("%s stays at what it holds: %s", self.folder, error)
                # The feed may know a newer version, and would let go at once.
                time.sleep(patience)
                continue
            if told_of:
                _log.warning("%s follows its store again, at version %d.", self.folder, at)
                told_of = ""
            if at != last:
                told(at)
                last = at
            self._store.feed.wait(last, patience)

    def _is_current(self, head: Row[Any], connection: Connection) -> bool:
        """Return whether the folder says that it holds the last version: whoever opens it compares its digests."""
        try:
            config = settled(self.folder, "codebook", lambda _, opened: opened.config)
        except StoreError:
            return False  # there is none yet; or it is damaged, which is told where it is read
        at = connection.execute(select(version.c.at).where(version.c.number == head.version)).scalar()
        held = config.get(FOLLOWS)
        return isinstance(held, dict) and (held.get("id"), held.get("version"), held.get("at")) == (
            self._store.id,
            head.version,
            at or "",
        )

    def _at_hand(self) -> _Held | None:
        """Return what the folder holds; None where nothing is there yet."""
        mark = mark_of(self.folder)
        if mark is None:
            return None
        if self._held is not None and mark in self._held.known:
            return self._held
        saved = Saved.read(self.folder)
        follows = saved.folder.config.get(FOLLOWS)
        if not isinstance(follows, dict) or follows.get("id") != self._store.id:
            what = "another store" if isinstance(follows, dict) else "no store"
            raise StoreError(f"{self.folder} follows {what}: choose another folder, or move this one away.")
        if follows.get("version") != saved.history.count:
            raise StoreError(
                f"{self.folder} was changed by something else than the store that it follows: move it away, and take "
                "what was changed into the store."
            )
        return _Held(saved.history, dict(saved.folder.tensors), int(follows["block"]), saved.known())


def _is_before(history: History, head: Row[Any], connection: Connection) -> bool:
    """Return whether a history is the beginning of a store's."""
    if history.count > head.version:
        return False
    if not history.count:
        return True
    wanted = select(version.c.at).where(version.c.number == history.count)
    return bool(connection.execute(wanted).scalar() == history.made_at(history.count))


def _whole(connection: Connection, head: Row[Any]) -> _Held:
    history = History.from_operations(_operations(connection, 0))
    layout = Layout.from_json(head.tables)
    rows, last = _blocks(connection, layout, 0)
    return _Held(history, load(head.fixed) | rows, last, {})


def _grown(held: _Held, connection: Connection, head: Row[Any]) -> _Held:
    operations = list(_operations(connection, held.history.count))
    for operation in operations:
        held.history.append(operation)
    rows, last = _blocks(connection, Layout.from_json(head.tables), held.block)
    more = {name: torch.cat([held.tensors[name], some]) for name, some in rows.items() if len(some)}
    return _Held(held.history, held.tensors | more, max(last, held.block), held.known)


def _blocks(connection: Connection, layout: Layout, beyond: int) -> tuple[dict[str, Tensor], int]:
    wanted = select(block).where(block.c.id > beyond).order_by(block.c.id)
    parts, last = [], beyond
    for row in connection.execution_options(yield_per=64).execute(wanted):
        content = check_digest(row.content, row.digest, row.id)
        parts.append(layout.split(content, row.entries, row.number_of_values))
        last = row.id
    return layout.joined(parts), last


def _operations(connection: Connection, beyond: int) -> Iterator[Operation]:
    """Yield the versions beyond a number as operations of a history."""
    wanted = select(edit).where(edit.c.version > beyond).order_by(edit.c.id)
    edits = iter(connection.execution_options(yield_per=1000).execute(wanted))
    ahead = next(edits, None)
    for row in connection.execute(select(version).where(version.c.number > beyond).order_by(version.c.number)).all():
        check_seal(version, row)
        added = []
        while ahead is not None and ahead.version == row.number:
            added.append(_record(check_seal(edit, ahead)))
            ahead = next(edits, None)
        lists = ((), ()) if row.undoes is not None else (row.removed, row.restored)
        yield Operation(
            row.number,
            row.operation,
            row.at,
            tuple(added),
            tuple(lists[0]),
            row.undoes,
            tuple(row.dropped),
            tuple(lists[1]),
        )


def _record(row: Row[Any]) -> EditRecord:
    told: Mapping[str, Any] = {
        **row.receipt,
        "id": row.id,
        "prompt": row.prompt,
        "target": row.target,
        "rephrases": row.rephrases,
        "created": row.created,
        "replaces": row.replaces,
    }
    return EditRecord.of(told)
