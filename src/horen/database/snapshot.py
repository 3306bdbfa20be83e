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
from horen.store.folder import add_to_folder, configuration, mark_of
from horen.store.history import History
from horen.store.operations import Operation, now
from horen.store.recorded import keep_scan
from horen.store.state import GROWS, Saved
from horen.store.steps import lines_of

_log = logging.getLogger(__name__)


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

    def follow(self) -> int:
        """Bring the folder to the store's last version, and return its number.

        What is new is added to it, in time that grows with that alone, and nothing of the rest is read but the
        configuration. A folder is written as a whole where it holds nothing yet, is small, has had many additions, or
        was changed by somebody else.

        Raises:
            StoreError: when the database cannot be read, the folder not be written, or it holds something else.
        """
        with lock_folder(self.folder), uncollected():
            with self._store.database.reading() as connection:
                head = check_seal(codebook, connection.execute(select(codebook)).one())
                held = self._told(head, connection)
                if held is not None and held.version == head.version:
                    return held.version
                news = None if held is None else _News.beyond(held, head, connection)
            if held is not None and news is not None and self._added(held, news, head):
                return int(head.version)
            return self._written()

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

    def _told(self, head: Row[Any], connection: Connection) -> _Told | None:
        """Return how far the folder says it has come; None where that is unknown, or was another store's past.

        Whoever opens it compares its digests.
        """
        try:
            mark, config = configuration(self.folder)
        except StoreError:
            return None  # there is none yet; or it is damaged, which is told where it is read
        follows = config.get(FOLLOWS)
        # Another program's change gives it another time, and says nothing of the store.
        same = {"id": self._store.id, "saved": config.get("saved"), "tables": head.tables}
        if not isinstance(follows, dict) or any(follows.get(name) != told for name, told in same.items()):
            return None
        at = connection.execute(select(version.c.at).where(version.c.number == follows["version"])).scalar()
        if follows["at"] != (at or ""):
            return None
        return _Told(mark, config["edits"], follows["version"], follows["block"])

    def _added(self, held: _Told, news: _News, head: Row[Any]) -> bool:
        """Add what is new, and return whether that was done."""
        config = self._config(head, held.edits + news.more, news.block, news.operations[-1].at)
        records = [line for operation in news.operations for line in lines_of(operation)]
        rows = {name: some for name, some in news.rows.items() if len(some)}
        return add_to_folder(self.folder, held.mark, config=config, records=records, rows=rows)

    def _written(self) -> int:
        """Write the folder anew, and return its version: of its own files where they are the store's past."""
        saved, known = self._saved(), Known()
        with self._store.database.reading() as connection:
            head = check_seal(codebook, connection.execute(select(codebook)).one())
            if saved is not None and not _is_before(saved.history, head, connection):
                _log.warning("%s is made anew: the store has been put back to an earlier state.", self.folder)
                saved = None
            history, tensors, block = History(), load(head.fixed), 0
            if saved is not None:
                history, tensors, known = saved.history, dict(saved.folder.tensors), saved.known()
                block = saved.folder.config[FOLLOWS]["block"]
            for operation, _ in _operations(connection, history.count):
                history.append(operation)
            rows, block = _blocks(connection, Layout.from_json(head.tables), block)
        for name, some in rows.items():
            tensors[name] = torch.cat([tensors[name], some]) if name in tensors else some
        at = history.made_at(head.version) if head.version else ""
        config = self._config(head, len(history), block, at)
        write_folder(self.folder, config=config, records=history.lines(), tensors=tensors, known=known, grows=GROWS)
        keep_scan(self.folder)
        return int(head.version)

    def _config(self, head: Row[Any], edits: int, block: int, at: str) -> dict[str, Any]:
        """Return a configuration that says what the folder follows, and how far it has come."""
        saved = now()
        follows = {"id": self._store.id, "version": head.version, "block": block, "at": at}
        follows |= {"saved": saved, "tables": head.tables}
        return {**head.config, "saved": saved, "edits": edits, FOLLOWS: follows}

    def _saved(self) -> Saved | None:
        """Return what the folder holds; None where nothing is there yet.

        Raises:
            StoreError: when it cannot be read, or is of something else than the store.
        """
        if mark_of(self.folder) is None:
            return None
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
        return saved


@dataclass(frozen=True)
class _Told:
    """What a folder says of itself.

    Attributes:
        mark: of all that it holds.
        edits: how many are active.
        version: of the store.
        block: number of the last block whose rows it has.
    """

    mark: str
    edits: int
    version: int
    block: int


@dataclass(frozen=True)
class _News:
    """What a store has more than a folder.

    Attributes:
        operations: further versions.
        rows: further rows of the tables.
        block: number of the last block whose rows there are by now.
        more: how many more edits are active; fewer, below 0.
    """

    operations: list[Operation]
    rows: dict[str, Tensor]
    block: int
    more: int

    @classmethod
    def beyond(cls, told: _Told, head: Row[Any], connection: Connection) -> _News:
        """Return what there is beyond what a folder has, of which there is something."""
        operations, more = zip(*_operations(connection, told.version), strict=True)
        rows, last = _blocks(connection, Layout.from_json(head.tables), told.block)
        return cls(list(operations), rows, last, sum(more))


def _is_before(history: History, head: Row[Any], connection: Connection) -> bool:
    """Return whether a history is the beginning of a store's."""
    if history.count > head.version:
        return False
    if not history.count:
        return True
    wanted = select(version.c.at).where(version.c.number == history.count)
    return bool(connection.execute(wanted).scalar() == history.made_at(history.count))


def _blocks(connection: Connection, layout: Layout, beyond: int) -> tuple[dict[str, Tensor], int]:
    wanted = select(block).where(block.c.id > beyond).order_by(block.c.id)
    parts, last = [], beyond
    for row in connection.execution_options(yield_per=64).execute(wanted):
        content = check_digest(row.content, row.digest, row.id)
        parts.append(layout.split(content, row.entries, row.number_of_values))
        last = row.id
    return layout.joined(parts), last


def _operations(connection: Connection, beyond: int) -> Iterator[tuple[Operation, int]]:
    """Yield the versions beyond a number as operations of a history, and how many more edits are active after each."""
    # Ids rise with the version; in the order of ids alone SQLite would look at every edit.
    wanted = select(edit).where(edit.c.version > beyond).order_by(edit.c.version, edit.c.id)
    edits = iter(connection.execution_options(yield_per=1000).execute(wanted))
    ahead = next(edits, None)
    for row in connection.execute(select(version).where(version.c.number > beyond).order_by(version.c.number)).all():
        check_seal(version, row)
        added = []
        while ahead is not None and ahead.version == row.number:
            added.append(_record(check_seal(edit, ahead)))
            ahead = next(edits, None)
        lists = ((), ()) if row.undoes is not None else (row.removed, row.restored)
        operation = Operation(
            row.number,
            row.operation,
            row.at,
            tuple(added),
            tuple(lists[0]),
            row.undoes,
            tuple(row.dropped),
            tuple(lists[1]),
        )
        yield operation, len(added) + len(row.restored) - len(row.removed)


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
