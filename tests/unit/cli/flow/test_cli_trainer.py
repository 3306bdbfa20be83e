"""What a worker on another machine does, and what is made of what it gives back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_support import EDITS, FLOATS, OTHER, Ok, check_same, file_of, save_model

from horen._version import __version__
from horen.cli import terminal
from horen.cli.flow.ray_workers import room
from horen.cli.flow.trainer import Loading, Trainer, as_plain
from horen.editfiles.records import FileRecord
from horen.editing.merge import begin
from horen.errors import ConfigError, StoreError
from horen.store.additions import Begun
from horen.store.increments import Copy, files_of, increment
from horen.store.state import Saved

RECORDS = [
    FileRecord(line, edit["prompt"], edit["target"], tuple(edit.get("rephrases", ())))
    for line, edit in enumerate([*EDITS, OTHER], 1)
]


@pytest.fixture
def trainer() -> Iterator[Trainer]:
    made = Trainer()
    yield made
    made.close()
    terminal._noted.clear()


def loading(model: Path) -> Loading:
    return {"model": str(model), "encoder": None, "dtype": "auto", "device": None}


def result(told: Any) -> Any:
    assert told["error"] is None
    return told["result"]


def test_what_it_trains_is_what_a_process_would(trainer: Trainer, tiny: Path, ok: Ok):
    options = ["--model", tiny, "--preset", "activations", "--set", "precision=model", "--set", "max_steps=3", *FLOATS]
    ok("edit", file_of(*EDITS, OTHER), "--into", "alone", "--batch", 2, *options)
    begin(Saved.read("alone"), Path("begun"))
    begin(Saved.read("alone"), Path("part"))
    copy = Copy(Path("part"))

    opened = trainer.open(__version__, files_of(Path("begun")), loading(tiny))
    assert (opened["error"], opened["process"]) == (None, os.getpid())
    for start in (0, 2):
        copy.add(result(trainer.train(as_plain(RECORDS[start : start + 2]))))
        assert trainer.done() == 2
        assert len(Saved.read("part").history) == start + 2  # whatever happens next
    check_same(Path("part"), Path("alone"))
    assert Saved.read("part").folder.config["edits"] == 4


def test_what_was_trained_before_is_not_given_again(trainer: Trainer, book: Path, tiny: Path):
    """The same edits twice, as one that was lost after it had told would have them."""
    begin(Saved.read(book), Path("begun"))
    result(trainer.open(__version__, files_of(Path("begun")), loading(tiny)))
    first, second = (result(trainer.train(as_plain(RECORDS[:1]))) for _ in range(2))
    assert [len(found["records"]) for found in (first, second)] == [1, 0]
    assert [found["edits"] for found in (first, second)] == [1, 1]


def test_another_release_is_refused(trainer: Trainer):
    told = trainer.open("0.0.0", {}, loading(Path("nowhere")))
    assert told["error"] == f"it has horen {__version__}, not 0.0.0: install the same release there."


def test_another_model_is_refused(trainer: Trainer, book: Path, tmp_path: Path):
    other = save_model(tmp_path / "other", seed=1)
    begin(Saved.read(book), Path("begun"))
    told = trainer.open(__version__, files_of(Path("begun")), loading(other))
    assert told["error"].startswith("its model or text encoder is another one than here (the codebook was made for")
    assert "its weights differ" in told["error"]
    assert told["error"].endswith(": put the same on each machine.")


def test_a_model_that_is_not_there_is_told(trainer: Trainer, book: Path):
    begin(Saved.read(book), Path("begun"))
    told = trainer.open(__version__, files_of(Path("begun")), loading(Path("/no/such/model")))
    assert "/no/such/model" in told["error"]


def test_an_edit_that_cannot_be_made_is_told(trainer: Trainer, book: Path, tiny: Path):
    begin(Saved.read(book), Path("begun"))
    result(trainer.open(__version__, files_of(Path("begun")), loading(tiny)))
    told = trainer.train(as_plain([FileRecord(1, "Who runs it? " * 400, "Rome")]))
    assert "context" in told["error"]


def test_what_does_not_fit_a_copy_leaves_it(book: Path):
    saved = Saved.read(book)
    begin(saved, Path("part"))
    copy, everything = Copy(Path("part")), increment(saved, Begun.of([], Saved.read("part").folder.tensors))
    with pytest.raises(StoreError, match="does not fit it"):
        copy.add({**everything, "tensors": b"nothing"})
    assert len(Saved.read("part").history) == 0
    copy.add(everything)
    check_same(Path("part"), book)


def test_what_changed_in_other_ways_is_no_increment(book: Path):
    saved = Saved.read(book)
    tensors = saved.folder.tensors
    with pytest.raises(StoreError, match="has changed in more than what was added"):
        increment(saved, Begun.of([], {**tensors, "key_space.mean": tensors["key_space.mean"][:-1]}))


@pytest.mark.parametrize(
    ("nodes", "wanted", "accelerated", "found"),
    [
        ([{"CPU": 8}], None, False, (1, 8)),
        ([{"CPU": 8}], 3, False, (3, 2)),
        ([{"CPU": 4}, {"CPU": 2}, {}], None, False, (2, 2)),
        ([{"CPU": 3}, {"CPU": 3}], 3, False, (3, 1)),
        ([{"CPU": 8, "GPU": 2}, {"CPU": 8, "GPU": 1}], None, True, (3, 1)),
        ([{"CPU": 8, "GPU": 2}], 1, True, (1, 1)),
    ],
)
def test_workers_have_room(nodes: list[dict[str, float]], wanted: int, accelerated: bool, found: tuple[int, int]):
    assert room(nodes, wanted, accelerated) == found


@pytest.mark.parametrize(
    ("nodes", "wanted", "accelerated", "told"),
    [
        ([{"CPU": 2}], 3, False, "Ray has 2 cores for 3 workers: give --workers 2 or fewer."),
        ([{"CPU": 2}], None, True, "Ray has 0 accelerators for 1 worker: give another address, or leave --ray out."),
        ([], None, False, "Ray has 0 cores for 1 worker: give another address, or leave --ray out."),
    ],
)
def test_no_room_is_told(nodes: list[dict[str, float]], wanted: int | None, accelerated: bool, told: str):
    with pytest.raises(ConfigError) as caught:
        room(nodes, wanted, accelerated)
    assert str(caught.value) == told
