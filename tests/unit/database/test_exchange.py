"""The plain folder: written, read again by another store, changed by hand, damaged."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horen.database import By, Facts, Proposal, Query, Store
from horen.database.exchange import export, take_from
from horen.database.plain import FIELDS
from horen.database.snapshot import Snapshot
from horen.errors import ConflictError, DataError, EditError, MismatchError, StoreError
from horen.store.state import Saved
from support.stores import ANN, BOB, MEMORY, Numbers, empty_book, made, publish, same_tables, train, trained

GIT = By("git", "pull request")


@pytest.fixture
def source(store: Store) -> Store:
    """A store with a bit of everything: sets, tags, a value of two and one of three, retired edits."""
    store.sets.make("red", ANN)
    publish(store, [Proposal("France", "Rome", ("the capital",), Facts("France", "a book", ("b", "a"), "red"))])
    publish(store, {"Hello": "Oslo"}, BOB)
    store.drafts.propose([Proposal("Hi", "Oslo"), Proposal("long", "a long target")], ANN)
    base = Numbers.of(store)
    shared, long = store.training.take("t")
    store.training.finish(shared, "t", trained(shared, base, reused=base.base.values - 1))
    store.training.finish(long, "t", trained(long, base, values=3))
    store.drafts.publish([shared.draft, long.draft], ANN)
    publish(store, {"gone": "away"})
    store.edits.remove([5], ANN)
    return store


@pytest.fixture
def target(place: Path, book: Saved) -> Iterator[Store]:
    with made(place / "target.db", book) as found:
        yield found


@pytest.fixture
def folder(source: Store, place: Path) -> Path:
    assert export(source, place / "plain") == 5
    return place / "plain"


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "edits.jsonl").read_text(encoding="utf-8").splitlines()]


def write(folder: Path, told: list[dict[str, Any]]) -> None:
    (folder / "edits.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told), encoding="utf-8")


def test_the_folder_is_text_in_a_fixed_order(source: Store, folder: Path):
    told = lines(folder)
    assert [list(line) for line in told] == [list(FIELDS)] * 5
    assert [line["id"] for line in told] == [1, 2, 3, 4, 5]
    created = source.edits.get(1).created
    assert told[0] == {
        "id": 1,
        "prompt": "France",
        "rephrases": ["the capital"],
        "target": "Rome",
        "subject": "France",
        "tags": ["a", "b"],
        "set": "red",
        "author": "ann",
        "reason": "because",
        "source": "a book",
        "created": created,
        "state": "published",
        "replaces": [],
        "receipt": {"loss": 0.0125, "steps": 7, "converged": True, "reused": False},
    }
    assert told[3]["receipt"]["left"] == [1, 2]
    assert told[4]["state"] == "retired"
    before = (folder / "edits.jsonl").read_text(encoding="utf-8").splitlines()
    publish(source, {"new": "line"})
    export(source, folder)
    after = (folder / "edits.jsonl").read_text(encoding="utf-8").splitlines()
    assert after[:-1] == before  # one line more, and no other changed
    assert sorted(path.name for path in folder.iterdir()) == ["edits.jsonl", "rows.safetensors", "store.json"]


def test_some_edits_are_exported(source: Store, place: Path):
    assert export(source, place / "some", Query(tag="a")) == 1
    assert export(source, place / "some", Query(state="published")) == 4
    assert export(source, place / "none", Query(tag="nothing")) == 0
    assert lines(place / "none") == []


def test_another_store_takes_it_in_as_one_version(source: Store, folder: Path, target: Store, tmp_path: Path):
    publish(target, {"before": "all"})
    taken = take_from(target, folder, GIT)
    assert taken.version is not None
    assert (taken.version.number, taken.version.operation, taken.version.by) == (2, "import", GIT)
    assert (taken.version.added, taken.drafts, taken.unchanged, taken.asleep) == ((2, 3, 4, 5), (), 0, 1)
    for one, two in ((1, 2), (2, 3), (3, 4), (4, 5)):
        mine, theirs = source.edits.get(one), target.edits.get(two)
        assert (mine.prompt, mine.target, mine.rephrases, mine.facts) == (
            *(theirs.prompt, theirs.target, theirs.rephrases, theirs.facts),
        )
        assert (mine.author, mine.reason, mine.created) == (theirs.author, theirs.reason, theirs.created)
    assert [(one.name, one.on) for one in target.sets.list()] == [("red", True)]
    for store, name in ((source, "source"), (target, "target")):
        Snapshot(store, tmp_path / name).follow()
    one, two = Saved.read(tmp_path / "source"), Saved.read(tmp_path / "target")
    for mine, theirs in zip(one.history.active(), two.history.active()[1:], strict=True):
        for name, numbers in (("keys", "entries"), ("values", "values")):
            rows = [s.folder.tensors[name][list(getattr(r, numbers))] for s, r in ((one, mine), (two, theirs))]
            assert (rows[0] == rows[1]).all()
    assert len(two.folder.tensors["values"]) == 1 + 5  # the shared value came once
    target.check()


def test_what_is_there_already_is_left_out(folder: Path, target: Store):
    take_from(target, folder, GIT)
    again = take_from(target, folder, GIT)
    assert (again.version, again.drafts, again.unchanged, again.asleep) == (None, (), 4, 1)
    assert target.version == 1
    target.edits.remove([2], ANN)
    assert take_from(target, folder, GIT).version.added == (5,)  # it is there, but not active


def test_a_set_that_is_off_where_edits_come_from_stays_out(source: Store, place: Path, target: Store):
    source.sets.switch("red", False, ANN)
    export(source, place / "plain")
    taken = take_from(target, place / "plain", GIT)
    assert (taken.asleep, len(taken.version.added)) == (2, 3)
    target.sets.make("red", ANN, on=False)
    source.sets.switch("red", True, ANN)
    export(source, place / "plain")
    with pytest.raises(EditError, match="The set 'red' is switched off: switch it on"):
        take_from(target, place / "plain", GIT)


@pytest.mark.parametrize("choice", ["error", "ours", "theirs"])
def test_conflicts_are_told_or_settled(folder: Path, target: Store, choice: Any):
    publish(target, {"the capital": "Paris", "Hi": "Oslo"})
    write(folder, [*lines(folder), {"prompt": "the  capital", "target": "Madrid"}])
    if choice == "error":
        with pytest.raises(ConflictError, match="contradicts the store in 2 edits") as caught:
            take_from(target, folder, GIT)
        assert [(c.ours.id, c.theirs.target, c.wording) for c in caught.value.clashes] == [
            (1, "Rome", "the capital"),
            (1, "Madrid", "the capital"),
        ]
        assert (target.version, target.drafts.list("waiting").items, target.sets.list()) == (1, (), ())
        return
    taken = take_from(target, folder, GIT, on_conflict=choice)
    assert taken.unchanged == 1
    if choice == "ours":
        assert (taken.left_out, taken.version.added, taken.version.removed, taken.drafts) == (2, (3, 4), (), ())
    else:
        assert (taken.left_out, taken.version.added, taken.version.removed) == (0, (3, 4, 5), (1,))
        assert target.edits.get(3).replaces == (1,)
        assert [draft.replaces for draft in taken.drafts] == [(1,)]


def test_lines_that_contradict_each_other_are_refused(folder: Path, target: Store, source: Store):
    publish(source, {"Hello": "Rome"}, replaces=[2])
    export(source, folder)
    told = lines(folder)
    told[1]["state"] = "published"
    write(folder, told)
    with pytest.raises(ConflictError) as caught:
        take_from(target, folder, GIT, on_conflict="theirs")
    assert caught.value.clashes[0].wording == "Hello"
    assert target.version == 0


def test_lines_written_by_hand_wait_for_a_trainer(folder: Path, target: Store):
    told = lines(folder)
    told[1]["target"] = "Paris"  # by hand, so its rows are those of other words
    told += [
        {"prompt": "new", "target": "fact"},
        {"id": 77, "prompt": "n", "target": "t", "tags": ["x"], "author": "eve"},
    ]
    write(folder, told)
    taken = take_from(target, folder, GIT)
    assert taken.version.added == (1, 2, 3)
    assert [(d.prompt, d.target, d.author, d.reason, d.state) for d in taken.drafts] == [
        ("Hello", "Paris", "bob", "pull request", "waiting"),
        ("new", "fact", "git", "pull request", "waiting"),
        ("n", "t", "eve", "pull request", "waiting"),
    ]
    assert taken.drafts[2].facts.tags == ("x",)
    train(target)
    assert target.drafts.publish([draft.id for draft in taken.drafts], ANN).added == (4, 5, 6)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 6 is not JSON"),
        ("[]", "line 6 is no object"),
        ('{"prompt": "a"}', "line 6 lacks 'target'"),
        ('{"prompt": "a", "target": ""}', "line 6 lacks 'target'"),
        ('{"prompt": "a", "target": "b", "tag": "c"}', "line 6 has the unknown field 'tag'"),
        ('{"prompt": 1, "target": "b"}', "line 6: prompt=1 is not what"),
        ('{"prompt": "a", "target": "b", "rephrases": "c"}', "line 6: rephrases='c' is not what"),
        ('{"prompt": "a", "target": "b", "tags": [1]}', r"line 6: tags=\[1\] is not what"),
        ('{"prompt": "a", "target": "b", "id": true}', "line 6: id=True is not what"),
        ('{"prompt": "a", "target": "b", "id": 1}', "lines 1 and 6 both have the id 1"),
        ('{"prompt": "a", "target": "b", "state": "x"}', "line 6: state='x' is not what"),
        ('{"prompt": "a", "target": "b\\u0000"}', "line 6: The target .* holds a null character"),
        ('{"prompt": "a", "target": "\\ud800"}', "line 6: The target .* half a character"),
        ('{"prompt": "a", "target": " "}', "line 6: The target .* is empty"),
        ('{"prompt": "a", "target": "b", "tags": [""]}', "line 6: The tag is empty"),
        ('{"prompt": "a", "target": "b", "set": "nothing"}', "There is no set 'nothing'"),
        ("\ud800", "is not UTF-8"),
    ],
)
def test_a_line_that_is_no_edit_is_named(folder: Path, target: Store, line: str, words: str):
    with (folder / "edits.jsonl").open("ab") as file:
        file.write(line.encode("utf-8", "surrogatepass") + b"\n")
    with pytest.raises((DataError, EditError), match=words):
        take_from(target, folder, GIT)
    assert (target.version, target.drafts.list().items) == (0, ())


def test_a_receipt_that_was_changed_by_hand_is_refused(folder: Path, target: Store):
    for receipt in (
        {},
        {"loss": "x", "steps": 1, "converged": True},
        {"loss": 1, "steps": 1, "converged": 1, "left": [1]},
    ):
        told = lines(folder)
        told[0]["receipt"] = receipt
        write(folder, told)
        with pytest.raises(DataError, match="line 1: its receipt"):
            take_from(target, folder, GIT)
    assert target.version == 0


def test_damaged_and_foreign_folders_are_refused(folder: Path, target: Store, source: Store, place: Path, book: Saved):
    content = (folder / "rows.safetensors").read_bytes()
    (folder / "rows.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(StoreError, match=r"is not what was written beside store\.json"):
        take_from(target, folder, GIT)
    (folder / "rows.safetensors").unlink()
    with pytest.raises(StoreError, match=r"has no rows\.safetensors: give the folder"):
        take_from(target, folder, GIT)
    (folder / "rows.safetensors").write_bytes(content)
    about = json.loads((folder / "store.json").read_text())
    for change, error, words in (
        ({"kind": "other"}, StoreError, "is of no export"),
        ({"format": 2}, MismatchError, "was written by a newer release"),
        ({"key_space": "other"}, MismatchError, "are of another key space"),
        ({"config": {}}, DataError, "lacks 'settings'"),
        (
            {"config": _changed(about, "settings", "threshold", 0.5)},
            MismatchError,
            "was made with threshold=0.5, not 0.97",
        ),
        ({"config": _changed(about, "model", "fingerprint", _other(about))}, MismatchError, "is of another model"),
    ):
        (folder / "store.json").write_text(json.dumps({**about, **change}))
        with pytest.raises(error, match=words):
            take_from(target, folder, GIT)
    (folder / "store.json").write_text("{")
    with pytest.raises(StoreError, match="is not JSON"):
        take_from(target, folder, GIT)
    with pytest.raises(StoreError, match=r"has no store\.json"):
        take_from(target, book.path, GIT)
    with pytest.raises(EditError, match="on_conflict='x' is not valid"):
        take_from(target, folder, GIT, on_conflict="x")  # type: ignore[arg-type]
    shutil.copytree(book.path, place / "book")
    with pytest.raises(StoreError, match="is of no export: choose another folder"):
        export(source, place / "book")
    assert target.version == 0


def _changed(about: dict[str, Any], part: str, name: str, value: object) -> dict[str, Any]:
    return about["config"] | {part: about["config"][part] | {name: value}}


def _other(about: dict[str, Any]) -> dict[str, Any]:
    return about["config"]["model"]["fingerprint"] | {"architecture": "another"}


def test_bytes_of_the_rows_anywhere(folder: Path, target: Store):
    """Even with a digest that fits."""
    content, chance = (folder / "rows.safetensors").read_bytes(), random.Random(2)  # noqa: S311
    about = json.loads((folder / "store.json").read_text())
    for _ in range(60):
        found = bytearray(content)
        found[chance.randrange(min(len(found), 700))] ^= 1 << chance.randrange(8)
        (folder / "rows.safetensors").write_bytes(found)
        about["rows"] = hashlib.sha256(found).hexdigest()
        (folder / "store.json").write_text(json.dumps(about))
        with contextlib.suppress(StoreError, DataError):
            take_from(target, folder, GIT, on_conflict="theirs")
    target.check()


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12).filter(str.strip)


class Books:
    """A codebook without edits that examples share."""

    saved: Saved | None = None

    @classmethod
    def get(cls) -> Saved:
        if cls.saved is None:
            cls.saved = empty_book(Path(tempfile.mkdtemp(dir=MEMORY)) / "book")
        return cls.saved


@given(
    edits=st.dictionaries(TEXT, st.tuples(TEXT, st.lists(TEXT, max_size=2), st.sets(TEXT, max_size=2)), max_size=4),
    gone=st.sets(st.integers(1, 4)),
)
def test_any_edits_come_back_as_they_were(edits: dict[str, Any], gone: set[int]):
    with tempfile.TemporaryDirectory(dir=MEMORY) as place:
        root = Path(place)
        with made(root / "one.db", Books.get()) as one, made(root / "two.db", Books.get()) as two:
            for prompt, (target, others, tags) in edits.items():
                try:
                    publish(one, [Proposal(prompt, target, others, Facts(tags=tuple(tags)))])
                except ConflictError:
                    continue
            if numbers := gone & one.edits.ids():
                one.edits.remove(numbers, ANN)
            export(one, root / "plain")
            take_from(two, root / "plain", GIT)
            active = [[edit for edit in store.edits.list(limit=100).items if edit.active] for store in (one, two)]
            told = [[(e.prompt, e.target, e.rephrases, e.facts, e.created) for e in some] for some in active]
            assert told[0] == told[1]
            assert take_from(two, root / "plain", GIT).unchanged == len(active[0])
            export(two, root / "again", Query(state="published"))
            export(one, root / "once", Query(state="published"))
            with made(root / "three.db", Books.get()) as three:
                take_from(three, root / "again", GIT)
                for store, name in ((two, "b"), (three, "c")):
                    Snapshot(store, root / name).follow()
                tables = [Saved.read(root / name).folder.tensors for name in ("b", "c")]
                assert same_tables(*tables)
