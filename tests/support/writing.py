"""A process that changes a store: ``python -m support.writing ADDRESS NAME COUNT``.

Each change is a line, written when the store has acknowledged it. Lines are JSON: ``version``, ``operation``,
``added``, ``removed`` and ``restored`` of a version; ``conflict`` with what both sides answer; ``refused`` where
another process was faster; or ``error`` with what the database did not do.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable

from horen.database import By, Facts, Proposal, Store
from horen.database.records import Version
from horen.errors import ConflictError, EditError, EditNotFoundError, StoreError
from support.stores import Numbers, trained

PROMPTS = 40
SETS = ("red", "blue")


def say(**told: object) -> None:
    """Tell who started this process."""
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


class Writer:
    """Changes a store at random.

    Args:
        store: that is changed.
        name: unlike that of any other writer.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name, self._by = store, name, By(name)
        self._chance = random.Random(name)  # noqa: S311

    def change(self) -> None:
        """Change it once, and say what that came to."""
        ways: list[Callable[[], Version | None]] = [self._publish] * 6 + [self._remove] * 2 + [self._switch, self._undo]
        try:
            made = self._chance.choice(ways)()
        except ConflictError as error:
            clash = error.clashes[0]
            say(conflict=[clash.ours.target, clash.theirs.target])
        except (EditError, EditNotFoundError) as error:
            say(refused=str(error))
        except StoreError as error:
            say(error=str(error))
        else:
            if made is not None:
                ids = {"added": made.added, "removed": made.removed, "restored": made.restored}
                say(version=made.number, operation=made.operation, **ids)

    def _publish(self) -> Version | None:
        number = self._chance.randrange(PROMPTS)
        store, prompt, target = self._store, f"The capital of country {number} is", f"Town {self._chance.randrange(9)}"
        gone = []
        if self._chance.random() < 0.8:
            gone = [edit.id for edit in store.edits.list(limit=100).items if edit.active and edit.prompt == prompt]
        name = self._chance.choice((None, None, *SETS))
        facts = Facts(set=name if name in {one.name for one in store.sets.list() if one.on} else None)
        (draft,) = store.drafts.propose([Proposal(prompt, target, (), facts, gone)], self._by)
        numbers = Numbers.of(store)
        for job in store.training.take(self._name):  # what others have proposed too
            store.training.finish(job, self._name, trained(job, numbers))
        if store.drafts.get(draft.id).state != "ready":
            return None  # another is at it
        try:
            return store.drafts.publish([draft.id], self._by)
        except (ConflictError, EditNotFoundError):
            store.drafts.reject([draft.id], self._by)
            raise

    def _remove(self) -> Version | None:
        ids = sorted(self._store.edits.ids())
        return self._store.edits.remove([self._chance.choice(ids)], self._by) if ids else None

    def _switch(self) -> Version | None:
        sets = self._store.sets.list()
        one = self._chance.choice(sets) if sets else None
        return None if one is None else self._store.sets.switch(one.name, not one.on, self._by)

    def _undo(self) -> Version:
        return self._store.versions.undo(self._by)


def main() -> None:
    """Change the store that the command line names."""
    write(sys.argv[1], sys.argv[2], int(sys.argv[3]))


def write(address: str, name: str, count: int = 0) -> None:
    """Change a store so many times; forever with a count of 0."""
    with Store.open(address) as store:
        writer, done = Writer(store, name), 0
        say(ready=True)
        while not count or done < count:
            writer.change()
            done += 1


if __name__ == "__main__":
    main()
