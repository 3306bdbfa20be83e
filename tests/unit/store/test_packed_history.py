"""A history keeps older records packed, and an operation costs what it adds: neither shows in what it tells."""

from __future__ import annotations

import math
import random
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from horen import EditRecord, StoreError
from horen.edits import unread
from horen.store.content import records_to_bytes
from horen.store.history import History
from horen.store.lookup import Numbers, Wordings

MANY = 700


def record(number: int, **more: Any) -> EditRecord:
    fields: dict[str, Any] = {
        "id": number,
        "prompt": f"Who was the {number}th «mayor»?",
        "target": f"name {number % 7}",
        "rephrases": (f"Mayor {number}?",),
        "entries": (2 * number - 2, 2 * number - 1),
        "value": number - 1,
        "loss": 1 / number,
        "steps": number % 5,
        "converged": number % 2 == 0,
        "reused": False,
        "created": "2026-01-01T00:00:00.000+00:00",
        "left": (number % 3,) if number % 4 == 0 else (),
    }
    return EditRecord(**(fields | more))


def filled(count: int, each: int = 60) -> History:
    history = History()
    for first in range(1, count + 1, each):
        history.record("edit", [record(number) for number in range(first, min(first + each, count + 1))])
    return history


def test_packed_records_are_what_was_recorded():
    history = filled(MANY)
    assert unread(history.active()[0])
    assert not unread(history.active()[-1])
    assert history.active() == [record(number) for number in range(1, MANY + 1)]
    assert [one for step in history.operations for one in step.added] == history.active()
    for number in random.Random(0).sample(range(1, MANY + 1), 100):  # noqa: S311
        found = record(number)
        assert history.get(number) == history.owner(2 * number - 1) == history.find(found.rephrases[0]) == found
        assert (history.get(number).left, hash(history.get(number))) == (found.left, hash(found))


def test_lines_are_the_same_bytes_packed_or_not():
    history = filled(MANY)
    history.record("remove", removed=[3, 400])
    history.undo()
    again = History.from_lines(history.lines())  # which packs nothing
    assert not any(map(unread, again.active()))
    for begin in (0, 1, 59, 60, 299, 300, 301, MANY - 1, MANY, MANY + 1, MANY + 2):
        packed, plain = (b"".join(records_to_bytes(Path("f"), one.lines(), begin)) for one in (history, again))
        assert packed == plain
        assert packed.count(b"\n") == MANY + 2 - begin


@pytest.mark.parametrize("more", [{"loss": math.nan}, {"prompt": "half \ud800"}, {"target": b"bytes"}])
def test_what_cannot_be_saved_is_told_when_it_is_saved(more: dict[str, Any]):
    history = History()
    for number in range(1, MANY):
        history.record("edit", [record(number, **(more if number == 5 else {}))])
    assert not unread(history.active()[4])
    with pytest.raises(StoreError, match="record 5 is not a JSON object"):
        records_to_bytes(Path("f"), history.lines())


def test_what_an_interrupted_operation_has_left_is_no_part_of_the_next():
    history = filled(100)
    before = list(history.lines())
    history._steps.append(history._steps[0])
    history._records.add(100, [record(number, prompt="left") for number in range(101, 140)])
    assert list(history.lines()) == before
    assert history.find("left") is None
    history.record("edit", [record(101), record(102)])
    assert history.active() == [record(number) for number in range(1, 103)]
    assert (history.count, history.next_id, history.find("left")) == (3, 103, None)


def test_an_operation_that_does_not_fit_changes_nothing():
    history = filled(20)
    before = list(history.lines())
    for added, removed in ([record(22)], []), ([record(21)], [99]), ([], [5, 5]), ([], [-1]), ([], [0]):
        with pytest.raises((KeyError, ValueError)):
            history.record("edit", added, removed)
    assert list(history.lines()) == before
    assert len(history) == 20


def test_an_edit_takes_few_bytes():
    filled(10)
    tracemalloc.start()
    try:
        small = filled(2_000)
        few = tracemalloc.get_traced_memory()[0]
        large = filled(10_000)
        more = tracemalloc.get_traced_memory()[0] - few
    finally:
        tracemalloc.stop()
    for history in small, large:
        assert len(list(history.lines())) == len(history)
    assert (more - few) / 8_000 < 150  # 1,000 and more as objects


def test_readers_see_an_operation_whole_while_others_are_added():
    history, wrong, done = History(), list[str](), threading.Event()

    def read() -> None:
        while not done.is_set():
            active = history.active()
            if len(active) % 20:
                wrong.append(f"{len(active)} are active")
            for one in active[:: max(1, len(active) // 5)]:
                if (
                    one != record(one.id)
                    or history.holder(one.entries[0]) != one
                    or one not in history.find_all(one.prompt)
                ):
                    wrong.append(f"{one.id} is another")

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for first in range(1, 2_001, 20):
        history.record("edit", [record(number) for number in range(first, first + 20)])
        if first % 100 == 1:
            history.record("remove", removed=range(first, first + 20))
            history.undo()
    done.set()
    for reader in readers:
        reader.join()
    assert not wrong


def test_numbers_are_a_set_that_never_changes():
    numbers, model, draw = Numbers(), set[int](), random.Random(1)  # noqa: S311
    for _ in range(30):
        removed = draw.sample(sorted(model), min(len(model), 100))
        added = draw.sample(sorted(set(range(1, 10_000)) - model), 400)
        before, numbers = numbers, numbers.changed(removed, added)
        assert set(before) == model
        model = model - set(removed) | set(added)
        assert list(numbers) == sorted(model)
        assert len(numbers) == len(model)
        assert list(numbers.absent(9_999)) == sorted(set(range(1, 10_000)) - model)
    assert not any(number in numbers for number in (0, -1, 10**9, "1", None, 1.5))


def test_a_wording_is_found_however_many_there_are():
    records = {number: record(number, rephrases=(f"shared {number % 50}",)) for number in range(1, 2_001)}
    index = Wordings()
    for last in (1, 100, 2_000):
        for number in range(1, last + 1):
            assert number in index.find(records[number].prompt, last, records.__getitem__)
        found = index.find("shared 1", last, records.__getitem__)
        assert set(range(1, last + 1, 50)) <= set(found) <= set(range(1, last + 1))
    assert len(index.find("shared 1", 60, records.__getitem__)) == 2
