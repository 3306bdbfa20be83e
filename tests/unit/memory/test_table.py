from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor

from horen.memory import Codebook, Gate
from horen.memory.table import Table

CPU = torch.device("cpu")


def test_what_a_reader_holds_stays_while_rows_are_forgotten_and_others_come():
    table = Table((2,), torch.float32, CPU)
    table.append(torch.arange(20.0).view(10, 2))
    held = table.rows
    table.truncate(4)
    table.append(torch.full((30, 2), -1.0))
    assert torch.equal(held, torch.arange(20.0).view(10, 2))
    assert torch.equal(table.rows[:4], held[:4])
    assert len(table) == 34


def test_a_table_that_grew_in_inference_mode_grows_outside_it():
    table = Table((2,), torch.float32, CPU)
    with torch.inference_mode():
        table.append(torch.ones(3, 2))
    table.append(torch.zeros(2, 2))
    with torch.inference_mode():
        table.append(torch.full((1, 2), 2.0))
    assert table.rows[:, 0].tolist() == [1, 1, 1, 0, 0, 2]


def test_adopted_rows_are_not_copied_and_not_written_behind():
    whole = torch.arange(20.0).view(10, 2)
    table = Table((2,), torch.float32, CPU)
    table.adopt(whole[:6])
    assert table.rows.data_ptr() == whole.data_ptr()
    table.append(torch.full((1, 2), -1.0))
    assert torch.equal(whole, torch.arange(20.0).view(10, 2))
    assert torch.equal(table.rows[:6], whole[:6])
    with pytest.raises(RuntimeError):
        table.adopt(whole)
    with pytest.raises(RuntimeError):
        Table((3,), torch.float32, CPU).adopt(whole)


def test_growing_copies_each_row_a_bounded_number_of_times():
    table, moved, seen = Table((1,), torch.float32, CPU), 0, 0
    for number in range(5000):
        table.append(torch.tensor([[float(number)]]))
        if table._buffer.data_ptr() != seen:
            moved, seen = moved + number, table._buffer.data_ptr()
    assert moved < 2 * 5000
    assert torch.equal(table.rows[:, 0], torch.arange(5000.0))


def _one_hot(number: int) -> Tensor:
    key = torch.zeros(1, 64)
    key[0, number % 64] = 1.0
    return key


@pytest.mark.parametrize("steps", [0, 1])
def test_readers_see_whole_entries_while_a_writer_adds_removes_and_takes_back(steps: int):
    """A value says which key it belongs to, so a half-written entry would show."""
    book, gate = Codebook(64, 1), Gate(threshold=0.5, alpha=0.1, beta=20.0, steps=steps)
    failures: list[object] = []
    done = threading.Event()

    def read() -> None:
        queries = torch.eye(64)
        try:
            while not done.is_set():
                for query, match in zip(range(64), book.match(queries, gate), strict=False):
                    if match.fired and int(book.values[match.value, 0]) % 64 != query:
                        failures.append((query, match))
        except Exception as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for number in range(1200):
            # A value is there before the entries that name it.
            value = book.add_value(torch.tensor([float(number)]))
            entries = book.add_entries(_one_hot(number), value)
            if number % 3 == 0:
                book.set_awake(entries, False)
            if number % 7 == 0:
                book.add_entries(_one_hot(number), value)
                book.truncate(entries=book.entries - 1, values=value + 1)
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert failures == []
    assert book.entries == 1200


def test_a_table_that_was_moved_in_inference_mode_is_written_outside_it():
    """The device "meta" stands for another one that every machine has."""
    table = Table((2,), torch.float32, torch.device("meta"))
    table.append(torch.ones(3, 2, device="meta"))
    with torch.inference_mode():
        table.to(torch.device("meta", 0))
        table.to(torch.device("meta"))
    assert not table.rows.is_inference()
    book = Codebook(2, 1)
    with torch.inference_mode():
        book.add_value(torch.ones(1))
        book.add_entries(torch.eye(2), 0)
        book._keys._numbers._rows = book._keys._numbers._rows.clone()
        book._awake._buffer = book._awake._rows = book._awake._rows.clone()
    assert book._awake.rows.is_inference()
    book.set_awake([0], False)
    assert len(book) == 1
    book.add_entries(torch.eye(2)[:1], 0)
    book.set_awake([0], True)
    assert len(book) == 3
    assert not book._awake.rows.is_inference()


def test_who_looks_while_entries_are_put_to_sleep_sees_all_or_none_of_them():
    """A list of entries that go together go from one reading to the next."""
    book, gate = Codebook(4, 1), Gate(threshold=0.5, alpha=0.1, beta=20.0, steps=0)
    book.add_value(torch.zeros(1))
    book.add_entries(torch.eye(4).repeat(64, 1), 0)
    stand = book._stand
    with book.together():
        book.set_awake(range(0, 256, 2), False)
        book.set_awake(range(1, 256, 2), False)
        assert len(book.match(torch.eye(4), gate)) == 4
        assert book._stand is stand
        assert len(book) == 256
    assert len(book) == 0
    assert stand.awake is None
    assert book.match(torch.eye(4), gate) == []
    book.set_awake([3, 5], True)
    held = book._stand.awake
    book.set_awake([5], False)
    assert held is not None
    assert held.nonzero()[:, 0].tolist() == [3, 5]
