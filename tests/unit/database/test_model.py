"""Any sequence of changes: the store beside a model of it in plain Python."""

from __future__ import annotations

import shutil
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from horen.database import Facts, Proposal
from horen.database.snapshot import Snapshot
from horen.errors import ConflictError, EditError, EditNotFoundError
from horen.store.state import Saved
from support.stores import ANN, MEMORY, empty_book, made, publish, same_tables

PROMPTS, TARGETS, SETS, TAGS = ("p", "q", "r", "s"), ("x", "y", "z"), ("red", "blue"), ("t", "u", "v")
WORDS = st.sampled_from(PROMPTS)

State = dict[str, Any]


class Stores(RuleBasedStateMachine):
    """Rules that change a store, and what must hold after each."""

    book: Saved

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(dir=MEMORY))
        self.store = made(self.place / "facts.db", self.book)
        self.snapshot = Snapshot(self.store, self.place / "snapshot")
        # What is so now: facts of each edit by id, and whether each set is on. Then the same of each version.
        self.now: State = {"edits": {}, "sets": {}}
        self.then: list[State] = [deepcopy(self.now)]
        self.set_changes: list[dict[str, bool | None]] = [{}]
        self.undoable: list[int] = []

    def teardown(self) -> None:
        fresh = Snapshot(self.store, self.place / "fresh")
        fresh.follow()
        self.snapshot.follow()
        one, two = Saved.read(self.snapshot.folder), Saved.read(fresh.folder)
        assert one.folder.records == two.folder.records
        assert same_tables(one.folder.tensors, two.folder.tensors)
        self.store.close()
        shutil.rmtree(self.place)

    # --- the model ---------------------------------------------------------------------------------------------

    @staticmethod
    def active(state: State) -> frozenset[int]:
        edits, sets = state["edits"], state["sets"]
        return frozenset(
            n for n, e in edits.items() if e["state"] == "published" and (e["set"] is None or sets[e["set"]])
        )

    def clash(self, after: State) -> bool:
        """Whether something that wakes cannot stay beside what else is active."""
        active = self.active(after)
        edits = after["edits"]
        for new in active - self.active(self.now):
            mine = {edits[new]["prompt"], *edits[new]["rephrases"]}
            for old in active - {new}:
                shared = mine & {edits[old]["prompt"], *edits[old]["rephrases"]}
                other = edits[new]["target"] != edits[old]["target"] or edits[new]["prompt"] == edits[old]["prompt"]
                if shared and other:
                    return True
        return False

    def settle(self, after: State, change: Any, *, undoable: bool = True) -> None:
        """Change the store, and the model likewise if it may be; else see that it is refused."""
        if after == self.now:
            with pytest.raises((EditError, EditNotFoundError)):
                change()
        elif self.clash(after):
            with pytest.raises(ConflictError) as caught:
                change()
            assert caught.value.clashes
        else:
            number = change().number
            assert number == len(self.then)
            names = {*after["sets"], *self.now["sets"]}
            was, shall = self.now["sets"], after["sets"]
            self.set_changes.append({n: was.get(n) for n in names if was.get(n) != shall.get(n)})
            self.now = after
            self.then.append(deepcopy(after))
            if undoable:
                self.undoable.append(number)
        assert self.store.version == len(self.then) - 1

    def back(self, number: int) -> State:
        """What is so once everything beyond a version is taken back."""
        after, then = deepcopy(self.now), self.then[number]
        for key, edit in after["edits"].items():
            if key in then["edits"]:
                edit.update(deepcopy(then["edits"][key]))
            else:
                edit["state"] = "retired"
        sets = after["sets"]
        for change in reversed(self.set_changes[number + 1 :]):
            sets |= change
        inside = {edit["set"] for edit in after["edits"].values()}
        after["sets"] = {name: on for name, on in sets.items() if on is not None}
        for name in inside - {None} - after["sets"].keys():
            after["sets"][name] = self.now["sets"][name]
        return after

    def published(self) -> list[int]:
        return [number for number, edit in self.now["edits"].items() if edit["state"] == "published"]

    # --- rules -------------------------------------------------------------------------------------------------

    @rule(
        texts=st.lists(
            st.tuples(st.sampled_from(PROMPTS), st.sampled_from(TARGETS), st.sets(WORDS, max_size=2)),
            min_size=1,
            max_size=2,
        ),
        name=st.none() | st.sampled_from(SETS),
        tags=st.sets(st.sampled_from(TAGS)),
        replace=st.booleans(),
    )
    def publish(self, texts: Any, name: str | None, tags: set[str], replace: bool) -> None:
        if name is not None and not self.now["sets"].get(name):
            name = None
        after, given = deepcopy(self.now), []
        for prompt, target, others in texts:
            said = {prompt, *others}
            gone = [
                n
                for n in self.published()
                if replace and said & {self.now["edits"][n]["prompt"], *self.now["edits"][n]["rephrases"]}
            ]
            for number in gone:
                after["edits"][number]["state"] = "retired"
            after["edits"][len(after["edits"]) + 1] = {
                "prompt": prompt,
                "target": target,
                "rephrases": tuple(sorted(others - {prompt})),
                "state": "published",
                "set": name,
                "tags": tuple(sorted(tags)),
                "subject": None,
            }
            facts = Facts(tags=tuple(tags), set=name)
            given.append(Proposal(prompt, target, tuple(sorted(others - {prompt})), facts, gone))
        self.settle(after, lambda: publish(self.store, given))

    @precondition(lambda self: self.now["edits"])
    @rule(data=st.data())
    def remove(self, data: Any) -> None:
        numbers = data.draw(st.sets(st.sampled_from(sorted(self.now["edits"])), min_size=1, max_size=2))
        after = deepcopy(self.now)
        for number in numbers:
            after["edits"][number]["state"] = "retired"
        if numbers <= set(self.published()):
            self.settle(after, lambda: self.store.edits.remove(numbers, ANN))
        else:
            with pytest.raises(EditNotFoundError):
                self.store.edits.remove(numbers, ANN)

    @precondition(lambda self: self.now["edits"])
    @rule(data=st.data())
    def describe(self, data: Any) -> None:
        numbers = data.draw(st.sets(st.sampled_from(sorted(self.now["edits"])), min_size=1, max_size=2))
        facts: dict[str, Any] = data.draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "subject": st.none() | st.sampled_from(("France", "Italy")),
                    "tags": st.sets(st.sampled_from(TAGS)).map(lambda tags: tuple(sorted(tags))),
                    "set": st.sampled_from((None, *self.now["sets"])),
                },
            )
        )
        after = deepcopy(self.now)
        for number in numbers:
            after["edits"][number].update(facts)
        self.settle(after, lambda: self.store.edits.describe(sorted(numbers), ANN, **facts))

    @rule(name=st.sampled_from(SETS), on=st.booleans())
    def make_set(self, name: str, on: bool) -> None:
        if name in self.now["sets"]:
            with pytest.raises(EditError):
                self.store.sets.make(name, ANN, on=on)
        else:
            self.store.sets.make(name, ANN, on=on)
            self.now["sets"][name] = on

    @rule(name=st.sampled_from(SETS), on=st.booleans())
    def switch(self, name: str, on: bool) -> None:
        after = deepcopy(self.now)
        if name in after["sets"]:
            after["sets"][name] = on
        self.settle(after, lambda: self.store.sets.switch(name, on, ANN))

    @rule(name=st.sampled_from(SETS))
    def drop(self, name: str) -> None:
        after = deepcopy(self.now)
        after["sets"].pop(name, None)
        for edit in after["edits"].values():
            edit["set"] = None if edit["set"] == name else edit["set"]
        self.settle(after, lambda: self.store.sets.drop(name, ANN))

    @precondition(lambda self: len(self.now["sets"]) == 2)
    @rule(choice=st.sampled_from(("error", "ours", "theirs")))
    def merge(self, choice: Any) -> None:
        into, other = SETS
        found = self.store.sets.clashes(into, other)
        if found and choice == "error":
            with pytest.raises(ConflictError):
                self.store.sets.merge(into, other, ANN)
            return
        after = deepcopy(self.now)
        for edit in after["edits"].values():
            edit["set"] = into if edit["set"] == other else edit["set"]
        for clash in found:
            after["edits"][(clash.theirs if choice == "ours" else clash.ours).id]["state"] = "retired"
        del after["sets"][other]
        self.settle(after, lambda: self.store.sets.merge(into, other, ANN, on_conflict=choice))

    @rule()
    def undo(self) -> None:
        if not self.undoable:
            with pytest.raises(EditError, match="nothing to undo"):
                self.store.versions.undo(ANN)
            return
        number = self.undoable[-1]
        before = len(self.then)
        # All beyond it is taken back already, so that is the same as going back to what was before it.
        after = self.back(number - 1)
        after["sets"] |= {name: on for name, on in self.now["sets"].items() if name not in self.set_changes[number]}
        self.settle(after, lambda: self.store.versions.undo(ANN), undoable=False)
        if len(self.then) > before:
            self.undoable.pop()

    @rule(data=st.data())
    def rollback(self, data: Any) -> None:
        number = data.draw(st.integers(0, len(self.then) - 1))
        self.settle(self.back(number), lambda: self.store.versions.rollback(number, ANN))
        assert self.active(self.now) == self.active(self.then[number])

    # --- what must hold ----------------------------------------------------------------------------------------

    @invariant()
    def the_edits_are_as_the_model_says(self) -> None:
        edits = {edit.id: edit for edit in self.store.edits.list(limit=1000).items}
        assert edits.keys() == self.now["edits"].keys()
        active = self.active(self.now)
        for number, told in self.now["edits"].items():
            edit = edits[number]
            assert (edit.prompt, edit.target, edit.rephrases) == (told["prompt"], told["target"], told["rephrases"])
            assert (edit.state, edit.active) == (told["state"], number in active)
            assert (edit.facts.set, edit.facts.tags) == (told["set"], told["tags"])
            assert edit.facts.subject == told["subject"]
        assert {one.name: one.on for one in self.store.sets.list()} == self.now["sets"]
        facets, shown = self.store.edits.facets(), [self.now["edits"][n] for n in self.published()]
        assert facets.tags == {t: n for t in TAGS if (n := sum(t in e["tags"] for e in shown))}
        assert facets.sets == {s: n for s in SETS if (n := sum(e["set"] == s for e in shown))}

    @invariant()
    def every_version_is_still_known(self) -> None:
        for number, state in enumerate(self.then):
            assert self.store.versions.active(number) == self.active(state)
        a, b = len(self.then) // 2, len(self.then) - 1
        one, two = self.active(self.then[a]), self.active(self.then[b])
        difference, reverse = self.store.versions.diff(a, b), self.store.versions.diff(b, a)
        assert {edit.id for edit in difference.added} == two - one == {edit.id for edit in reverse.removed}
        assert {edit.id for edit in difference.removed} == one - two == {edit.id for edit in reverse.added}

    @invariant()
    def the_snapshot_follows(self) -> None:
        assert self.snapshot.follow() == len(self.then) - 1
        history = Saved.read(self.snapshot.folder).history
        assert {record.id for record in history.active()} == self.active(self.now)


def test_any_sequence_of_changes(tmp_path: Path):
    Stores.book = empty_book(tmp_path / "book")
    run_state_machine_as_test(Stores, settings=settings(settings.default, stateful_step_count=25))
