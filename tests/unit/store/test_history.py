from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from horen import EditError, EditNotFoundError, EditRecord, StoreError
from horen.store.history import History

WORDINGS = ("a", "b", "c", "d d", "é")


def edit_record(number: int, prompt: str = "a", rephrases: Iterable[str] = (), **more: Any) -> EditRecord:
    fields: dict[str, Any] = {
        "id": number,
        "prompt": prompt,
        "target": f"target {number}",
        "rephrases": tuple(rephrases),
        "entries": (2 * number, 2 * number + 1),
        "value": number,
        "loss": 0.1,
        "steps": 3,
        "converged": True,
        "reused": False,
        "created": "2026-01-01T00:00:00.000+00:00",
    }
    return EditRecord(**(fields | more))


def through_json(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [json.loads(json.dumps(line)) for line in lines]


def state(history: History) -> tuple[Any, ...]:
    """All that a history tells."""
    return (
        history.operations,
        history.active(),
        len(history),
        history.next_id,
        [history.find(wording) for wording in WORDINGS],
        [history.owner(entry) for entry in range(2 * history.next_id + 2)],
    )


class Machine(RuleBasedStateMachine):
    """A history against a plain list of what was active before each operation."""

    def __init__(self) -> None:
        super().__init__()
        self.history = History()
        self.active: dict[int, EditRecord] = {}
        self.before: list[dict[int, EditRecord]] = []
        self.ever: set[int] = set()

    def make(self, wordings: list[list[str]], replaces: tuple[int, ...] = ()) -> list[EditRecord]:
        first = self.history.next_id
        return [
            edit_record(first + i, prompt, rephrases, replaces=replaces)
            for i, (prompt, *rephrases) in enumerate(wordings)
        ]

    def apply(self, name: str, added: list[EditRecord], removed: list[int]) -> None:
        self.history.record(name, added, removed)
        self.before.append(dict(self.active))
        for number in removed:
            del self.active[number]
        self.active |= {record.id: record for record in added}
        self.ever |= {record.id for record in added}

    texts = st.lists(st.sampled_from(WORDINGS), min_size=1, max_size=3, unique=True)

    @rule(wordings=st.lists(texts, min_size=1, max_size=3))
    def add(self, wordings: list[list[str]]) -> None:
        self.apply("edit", self.make(wordings), [])

    @precondition(lambda self: self.active)
    @rule(data=st.data(), wordings=texts)
    def supersede(self, data: st.DataObject, wordings: list[str]) -> None:
        numbers = data.draw(st.lists(st.sampled_from(sorted(self.active)), min_size=1, max_size=2, unique=True))
        self.apply("supersede", self.make([wordings], tuple(numbers)), numbers)

    @precondition(lambda self: self.active)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        numbers = data.draw(st.lists(st.sampled_from(sorted(self.active)), min_size=1, max_size=3, unique=True))
        self.apply("remove", [], numbers)

    @precondition(lambda self: self.before)
    @rule()
    def undo(self) -> None:
        previous = self.before.pop()
        operation, undone = self.history.undo()
        assert set(undone.removed) == self.active.keys() - previous.keys()
        assert set(undone.restored) == previous.keys() - self.active.keys()
        assert tuple(record.id for record in operation.added) == undone.removed
        assert operation.removed == undone.restored
        assert undone.operation == operation.name
        self.active = previous

    @precondition(lambda self: not self.before)
    @rule()
    def undo_of_nothing(self) -> None:
        before = state(self.history)
        with pytest.raises(EditError, match="nothing to undo"):
            self.history.undo()
        assert state(self.history) == before

    @rule()
    def compact(self) -> None:
        asleep = [record.id for record in self.history.stored() if record.id not in self.active]
        history, entries, values = self.history.compacted()
        assert (history is self.history) == (not asleep)
        if not asleep:
            return
        assert history.operations[-1].dropped == tuple(asleep)
        self.history, self.before = history, []
        for number, old in self.active.items():
            new = self.active[number] = history.get(number)
            assert tuple(entries[entry] for entry in new.entries) == old.entries
            assert values[new.value] == old.value
        named = [entry for record in history.stored() for entry in record.entries]
        assert sorted(named) == list(range(len(entries)))

    @invariant()
    def the_active_edits_are_those_of_the_model(self) -> None:
        assert self.history.active() == [self.active[number] for number in sorted(self.active)]
        assert len(self.history) == len(self.active)
        assert self.history.next_id == max(self.ever, default=0) + 1
        for number in range(self.history.next_id + 1):
            if number in self.active:
                assert self.history.get(number) is self.active[number]
            else:
                with pytest.raises(EditNotFoundError, match=str(number)):
                    self.history.get(number)

    @invariant()
    def every_wording_is_found(self) -> None:
        for wording in WORDINGS:
            asked = [record for record in self.active.values() if wording == record.prompt]
            also = [record for record in self.active.values() if wording in record.rephrases]
            found = self.history.find(wording)
            assert (found in (asked or also)) if asked or also else (found is None)

    @invariant()
    def entries_belong_to_active_edits(self) -> None:
        owners = {entry: record for record in self.active.values() for entry in record.entries}
        for entry in range(2 * self.history.next_id + 2):
            assert self.history.owner(entry) == owners.get(entry)

    @invariant()
    def it_comes_back_from_its_lines(self) -> None:
        lines = through_json(self.history.lines())
        again = History.from_lines(lines)
        assert state(again) == state(self.history)
        assert list(again.lines()) == list(self.history.lines())
        if self.before:
            again.undo()
            assert again.active() == [self.before[-1][number] for number in sorted(self.before[-1])]


Machine.TestCase.settings = settings(stateful_step_count=12, deadline=None)
TestHistory = Machine.TestCase


def test_a_new_history_is_empty():
    history = History()
    assert state(history)[:4] == ((), [], 0, 1)
    assert list(history.lines()) == []
    assert state(History.from_lines([])) == state(history)


def test_wordings_are_found_up_to_white_space_and_composition():
    history = History()
    history.record("edit", [edit_record(1, "Who  wrote\nthe café?")])
    assert history.find(" Who wrote the cafe\u0301? ") == history.get(1)
    assert history.find("who wrote the café?") is None


def test_messages_tell_a_gone_edit_from_an_unknown_one():
    history = History()
    history.record("edit", [edit_record(1)])
    history.record("remove", removed=[1])
    with pytest.raises(EditNotFoundError, match=r"Edit 1 was removed.*list the active edits"):
        history.get(1)
    with pytest.raises(EditNotFoundError, match=r"no edit 7: list the edits"):
        history.get(7)
    with pytest.raises(EditNotFoundError, match=r"Edit 1 was removed.*dropped its entries: write it anew"):
        history.compacted()[0].get(1)


def test_a_wording_that_two_edits_share_outlives_one_of_them():
    history = History()
    history.record("edit", [edit_record(1, "a"), edit_record(2, "b", ["a"])])
    assert history.find("a") == history.get(1)
    history.record("remove", removed=[1])
    assert history.find("a") == history.get(2)
    history.undo()
    assert history.find("a") == history.get(1)


def test_numbers_are_not_used_again():
    history = History()
    history.record("edit", [edit_record(1), edit_record(2, "b")])
    history.undo()
    assert history.next_id == 3
    assert History.from_lines(through_json(history.lines())).next_id == 3


# --- damage ----------------------------------------------------------------------------------------------------


def sample_lines() -> list[dict[str, Any]]:
    history = History()
    history.record("edit", [edit_record(1), edit_record(2, "b", ["c"])])
    history.record("supersede", [edit_record(3, "a", replaces=(1,))], [1])
    history.record("remove", removed=[2])
    history.undo()
    history.record("edit", [edit_record(4, "d d")])
    return through_json(history.lines())


def compacted_lines() -> list[dict[str, Any]]:
    history = History()
    history.record("edit", [edit_record(1), edit_record(2, "b", ["c"])])
    history.record("remove", removed=[2])
    history = history.compacted()[0]
    history.record("edit", [edit_record(3, "d d")])
    return through_json(history.lines())


def without(line: int, *path: str) -> Callable[[list[dict[str, Any]]], None]:
    def change(lines: list[dict[str, Any]]) -> None:
        place: Any = lines[line]
        for name in path[:-1]:
            place = place[name]
        del place[path[-1]]

    return change


def setting(value: Any, line: int, *path: str) -> Callable[[list[dict[str, Any]]], None]:
    def change(lines: list[dict[str, Any]]) -> None:
        place: Any = lines[line]
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value

    return change


def dropping(line: int) -> Callable[[list[dict[str, Any]]], None]:
    def change(lines: list[dict[str, Any]]) -> None:
        del lines[line]

    return change


def repeating(line: int) -> Callable[[list[dict[str, Any]]], None]:
    def change(lines: list[dict[str, Any]]) -> None:
        lines.append(lines[line])

    return change


DAMAGE = {
    "no sequence": without(0, "sequence"),
    "no operation": without(0, "operation"),
    "no time": without(0, "at"),
    "no id": without(0, "edit", "id"),
    "no prompt": without(0, "edit", "prompt"),
    "no entries": without(1, "edit", "entries"),
    "a field of another version": setting(1, 0, "edit", "colour"),
    "a sequence that is no number": setting("first", 0, "sequence"),
    "an endless sequence": setting(float("inf"), 0, "sequence"),
    "an edit that is no object": setting([1], 0, "edit"),
    "a prompt that is no text": setting(5, 0, "edit", "prompt"),
    "rephrases that are no texts": setting([5], 1, "edit", "rephrases"),
    "a removed edit that is not there": setting([9], 3, "removed"),
    "removed that is no list": setting(1, 3, "removed"),
    "an undo of another operation": setting(1, 5, "undoes"),
    "an undo of nothing": setting(77, 5, "undoes"),
    "a lost first operation": dropping(0),
    "a lost removal": dropping(4),
    "a lost undo": dropping(5),
    "a lost last operation but one": dropping(2),
    "an edit twice": repeating(0),
    "an undo twice": repeating(5),
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE)
def test_damaged_lines_are_refused(change: Callable[[list[dict[str, Any]]], None]):
    lines = sample_lines()
    assert len(lines) == 7
    change(lines)
    with pytest.raises(StoreError, match=r"edits\.jsonl.*restore the folder"):
        History.from_lines(lines)


@pytest.mark.parametrize(
    "change",
    [
        setting([1], 3, "dropped"),  # which is active
        setting([9], 3, "dropped"),
        setting(2, 3, "dropped"),
        setting([0], 1, "edit", "entries"),  # which is dropped
        repeating(3),
        dropping(2),
    ],
)
def test_damaged_compactions_are_refused(change: Callable[[list[dict[str, Any]]], None]):
    lines = compacted_lines()
    assert lines[3].keys() == {"sequence", "operation", "at", "dropped"}
    assert through_json(History.from_lines(lines).lines()) == lines
    change(lines)
    with pytest.raises(StoreError, match=r"edits\.jsonl.*restore the folder"):
        History.from_lines(lines)


@pytest.mark.parametrize("line", ["text", 5, None, [], ["sequence"]])
def test_a_line_that_is_no_object_is_refused(line: Any):
    with pytest.raises(StoreError, match=r"edits\.jsonl"):
        History.from_lines([line])


values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(st.data())
def test_whatever_stands_in_a_line_nothing_but_a_store_error_is_raised(data: st.DataObject):
    lines = data.draw(st.sampled_from([sample_lines(), compacted_lines()]))
    line = data.draw(st.sampled_from(lines))
    place = line["edit"] if "edit" in line and data.draw(st.booleans()) else line
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(values)
    try:
        history = History.from_lines(lines)
    except StoreError:
        return
    assert len(history) == len(history.active())
