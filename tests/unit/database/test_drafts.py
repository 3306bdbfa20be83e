"""Drafts: proposed, taken by trainers, trained, revised, published or rejected."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sqlalchemy import update

from horen.database import By, Facts, Proposal, Store
from horen.database.schema import draft as drafts_table
from horen.database.snapshot import Snapshot
from horen.database.training import HELD
from horen.errors import ApprovalError, EditError, EditNotFoundError, StoreError
from horen.store.state import Saved
from support.stores import ANN, BOB, Numbers, publish, train, trained

HELLO = Proposal("Hello", "Oslo", ("Hi",), Facts("greetings", "a book", ("b", "a")), wrong="Rome")
HELLO_FACTS = Facts("greetings", "a book", ("a", "b"))


def test_a_draft_goes_from_proposal_to_publication(either: Store):
    (draft,) = either.drafts.propose([HELLO], ANN)
    assert (draft.id, draft.state, draft.prompt, draft.target, draft.rephrases) == (
        1,
        "waiting",
        "Hello",
        "Oslo",
        ("Hi",),
    )
    assert (draft.author, draft.reason, draft.wrong) == ("ann", "because", "Rome")
    assert draft.facts == Facts("greetings", "a book", ("a", "b"))
    assert (draft.done, draft.total, draft.base, draft.receipt, draft.edit) == (0, 0, None, {}, None)
    (job,) = either.training.take("t")
    assert (job.edit.prompt, job.edit.rephrases, job.subject, job.evaluate) == ("Hello", ("Hi",), "greetings", None)
    either.training.hold([job], "t", 3, 10)
    draft = either.drafts.get(1)
    assert (draft.state, draft.done, draft.total) == ("training", 3, 10)
    assert either.training.finish(job, "t", trained(job, Numbers.of(either), similar=None))
    draft = either.drafts.get(1)
    assert (draft.state, draft.base, draft.receipt["steps"], draft.error) == ("ready", 0, 7, None)
    made = either.drafts.publish([1], By("bob", "checked"))
    draft = either.drafts.get(1)
    assert (draft.state, draft.edit, draft.decided_by, draft.decision) == ("published", 1, "bob", "checked")
    assert draft.decided_at is not None
    edit = either.edits.get(1)
    assert (edit.author, edit.reason, edit.draft, edit.version, edit.facts) == (*("ann", "because", 1, 1), HELLO_FACTS)
    assert made.by == By("bob", "checked")


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": " "},
        {"target": ""},
        {"rephrases": ["a", ""]},
        {"rephrases": "a"},
        {"prompt": "\ud800"},
        {"target": "a\0"},
        {"rephrases": ["a\0"]},
        {"wrong": "\0"},
        {"facts": Facts(tags=("",))},
        {"facts": Facts(subject=" ")},
        {"facts": Facts(source="x" * 4001)},
        {"facts": Facts(set="\ud800")},
    ],
)
def test_what_cannot_be_stored_is_refused_at_once(wrong: dict[str, object]):
    with pytest.raises(EditError):
        Proposal(**({"prompt": "a", "target": "b"} | wrong))


def test_all_proposals_are_made_or_none(store: Store):
    with pytest.raises(EditError, match="There is no set 'red'"):
        store.drafts.propose([HELLO, Proposal("a", "b", facts=Facts(set="red"))], ANN)
    assert store.drafts.list().items == ()
    for actor, reason in (("", ""), (" ", ""), ("a\0", ""), ("a", "\0"), ("a", "\ud800")):
        with pytest.raises(EditError):
            By(actor, reason)


def test_what_waits_is_taken_once(either: Store):
    either.drafts.propose([HELLO, Proposal("a", "b"), Proposal("c", "d")], ANN)
    assert [job.draft for job in either.training.take("one", limit=2)] == [1, 2]
    assert [job.draft for job in either.training.take("two")] == [3]
    assert either.training.take("three") == []
    assert either.about().drafts == {"training": 3}


def test_what_a_dead_trainer_held_is_taken_by_another(store: Store, monkeypatch: pytest.MonkeyPatch):
    clock = 1000.0
    monkeypatch.setattr("horen.database.training.time.time", lambda: clock)
    store.drafts.propose([HELLO], ANN)
    (old,) = store.training.take("dead")
    clock += HELD - 1
    assert store.training.take("other") == []
    store.training.hold([old], "dead", 1, 2)
    clock += HELD - 1
    assert store.training.take("other") == []
    clock += 2
    (new,) = store.training.take("other")
    found = trained(old, Numbers.of(store))
    assert not store.training.finish(old, "dead", found)  # it was not dead after all, and too late
    store.training.hold([old], "dead", 9, 9)
    store.training.fail(old, "dead", "late")
    draft = store.drafts.get(1)
    assert (draft.state, draft.done, draft.error) == ("training", 0, None)
    assert store.training.finish(new, "other", found)
    assert store.drafts.get(1).state == "ready"


def test_a_clock_that_is_put_back_holds_nothing_forever(store: Store, monkeypatch: pytest.MonkeyPatch):
    clock = 1_000_000.0
    monkeypatch.setattr("horen.database.training.time.time", lambda: clock)
    store.drafts.propose([HELLO], ANN)
    store.training.take("dead")
    clock -= 86_400
    assert [job.draft for job in store.training.take("other")] == [1]


def test_what_was_trained_for_other_words_is_thrown_away(store: Store):
    store.drafts.propose([HELLO], ANN)
    (old,) = store.training.take("t")
    revised = store.drafts.revise(1, BOB, target="Rome")
    assert (revised.state, revised.target, revised.rephrases) == ("waiting", "Rome", ("Hi",))
    assert not store.training.finish(old, "t", trained(old, Numbers.of(store)))
    (new,) = store.training.take("t")
    assert (new.revision, new.edit.target) == (2, "Rome")
    assert store.training.finish(new, "t", trained(new, Numbers.of(store)))


def test_facts_are_revised_without_training_anew(store: Store):
    store.sets.make("red", ANN)
    publish(store, {"Hi": "there"})
    store.drafts.propose([HELLO], ANN)
    store.training.take("t")
    store.drafts.revise(2, BOB, facts=Facts(set="red"), replaces=[1, 1], publish=True)
    draft = store.drafts.get(2)
    assert (draft.state, draft.facts, draft.replaces, draft.publish) == ("training", Facts(set="red"), (1,), True)


def test_what_it_replaces_may_be_said_while_it_is_trained(store: Store):
    publish(store, {"Hi": "there", "Ho": "there"})
    store.drafts.propose([HELLO], ANN)
    (job,) = store.training.take("t")
    store.drafts.revise(3, BOB, replaces=[1])
    assert store.training.finish(job, "t", trained(job, Numbers.of(store), replaces=(2,), similar=2))
    draft = store.drafts.get(3)
    assert (draft.replaces, draft.similar) == ((1, 2), 2)
    assert store.drafts.publish([3], ANN).removed == (1, 2)


def test_a_failed_draft_says_why_and_is_tried_again_when_it_is_revised(store: Store):
    store.drafts.propose([HELLO], ANN)
    (job,) = store.training.take("t")
    store.training.fail(job, "t", "too long\0\ud800")
    draft = store.drafts.get(1)
    assert (draft.state, draft.error) == ("failed", "too long ?")
    with pytest.raises(EditError, match=r"^Draft 1 is failed \(too long \?\), not ready"):
        store.drafts.publish([1], ANN)
    assert store.drafts.revise(1, ANN).state == "waiting"
    assert train(store) == [1]
    (job,) = (replace(job, revision=2),)
    store.training.remark(job, "contradicts edit 7")
    assert (store.drafts.get(1).error, store.drafts.get(1).publish) == ("contradicts edit 7", False)


def test_an_evaluation_is_asked_for_at_any_time(store: Store):
    store.drafts.propose([replace(HELLO, evaluate=True, prompts=("a",))], ANN)
    (job,) = store.training.take("t")
    assert job.evaluate == ("a",)
    store.drafts.evaluate(1, BOB, ["b"])  # and what is being trained does not know of it
    assert not store.training.finish(job, "t", trained(job, Numbers.of(store)))
    (job,) = store.training.take("t")
    assert job.evaluate == ("b",)
    assert store.training.finish(job, "t", trained(job, Numbers.of(store), evaluation={"summary": {"own_right": 1}}))
    assert store.drafts.get(1).evaluation == {"summary": {"own_right": 1}}
    again = store.drafts.evaluate(1, BOB)
    assert (again.state, again.evaluation) == ("waiting", None)


def test_four_eyes(store: Store):
    store.drafts.propose([HELLO, Proposal("a", "b")], ANN)
    store.drafts.revise(2, BOB, target="c")
    train(store)
    for numbers, by in (([1], ANN), ([2], ANN), ([2], BOB), ([1, 2], BOB)):
        with pytest.raises(ApprovalError, match="another has to publish it: four eyes"):
            store.drafts.publish(numbers, by, four_eyes=True)
    assert store.version == 0
    assert store.drafts.publish([1, 2], By("eve"), four_eyes=True).added == (1, 2)


def test_what_is_settled_stays_so(store: Store):
    store.drafts.propose([HELLO, Proposal("a", "b"), Proposal("c", "d")], ANN)
    train(store)
    store.drafts.publish([1, 1], ANN)
    (rejected,) = store.drafts.reject([2], By("bob", "wrong"))
    assert (rejected.state, rejected.decided_by, rejected.decision) == ("rejected", "bob", "wrong")
    for number, word in ((1, "published by ann"), (2, "rejected by bob")):
        for call in (
            lambda number=number: store.drafts.revise(number, ANN, target="x"),
            lambda number=number: store.drafts.evaluate(number, ANN),
            lambda number=number: store.drafts.reject([3, number], ANN),
        ):
            with pytest.raises(EditError, match=f"^Draft {number} was {word}: propose another"):
                call()
        with pytest.raises(EditError, match=f"^Draft {number} is {word.split()[0]}, not ready"):
            store.drafts.publish([3, number], ANN)
    assert store.drafts.get(3).state == "ready"
    for number in (4, 0, -1, 10**30):
        for call in (
            lambda number=number: store.drafts.get(number),
            lambda number=number: store.drafts.revise(number, ANN),
            lambda number=number: store.drafts.reject([number], ANN),
            lambda number=number: store.drafts.publish([number], ANN),
            lambda number=number: store.drafts.evaluate(number, ANN),
        ):
            with pytest.raises(EditNotFoundError, match=f"There is no draft {number}: list"):
                call()


def test_two_drafts_on_one_base_go_on_from_each_other(either: Store, tmp_path: Path):
    """Both were trained as if they came next; the rows of the second move behind those of the first."""
    publish(either, {"old": "value"})
    either.drafts.propose([HELLO, Proposal("a", "b", ("c",)), Proposal("long", "target")], ANN)
    base, jobs = Numbers.of(either), either.training.take("t")
    found = [trained(job, base, values=values) for job, values in zip(jobs, (1, 1, 3), strict=True)]
    for job, one in zip(jobs, found, strict=True):
        assert either.training.finish(job, "t", one)
    assert {one.record.entries[0] for one in found} == {1}
    for number in (4, 3, 2):
        either.drafts.publish([number], ANN)
    snapshot = Snapshot(either, tmp_path / "snapshot")
    snapshot.follow()
    saved = Saved.read(tmp_path / "snapshot")
    records = saved.history.active()
    assert [record.entries for record in records] == [(0,), (1,), (2, 3), (4, 5)]
    assert [list(record.values) for record in records] == [[0], [1, 2, 3], [4], [5]]
    tables = saved.folder.tensors
    assert tables["value_of"].tolist() == [0, 1, 4, 4, 5, 5]
    for record, one in zip(records[1:], (found[2], found[1], found[0]), strict=True):
        assert torch.equal(tables["keys"][list(record.entries)], one.rows["keys"])
        assert torch.equal(tables["values"][list(record.values)], one.rows["values"])


def test_a_draft_may_use_a_value_that_is_there(store: Store, tmp_path: Path):
    publish(store, {"old": "Oslo"})
    store.drafts.propose([HELLO, Proposal("a", "b")], ANN)
    base, jobs = Numbers.of(store), store.training.take("t")
    assert store.training.finish(jobs[0], "t", trained(jobs[0], base, reused=0))
    assert store.training.finish(jobs[1], "t", trained(jobs[1], base))
    store.drafts.publish([3], ANN)
    store.drafts.publish([2], ANN)
    Snapshot(store, tmp_path / "snapshot").follow()
    saved = Saved.read(tmp_path / "snapshot")
    assert saved.folder.tensors["value_of"].tolist() == [0, 1, 0, 0]
    assert len(saved.folder.tensors["values"]) == 2
    assert [record.value for record in saved.history.active()] == [0, 1, 0]
    assert store.edits.get(3).receipt["reused"]


def test_rows_that_do_not_fit_are_refused(store: Store):
    publish(store, {"old": "Oslo"})
    store.drafts.propose([HELLO], ANN)
    (job,) = store.training.take("t")
    good = trained(job, Numbers.of(store))
    keys = good.rows["keys"]
    for name, wrong in {
        "keys": replace(good, rows={**good.rows, "keys": keys[:1]}),
        "value": replace(good, record=replace(good.record, value=2)),
        "entries": replace(good, record=replace(good.record, entries=(0, 1))),
        "values": replace(good, rows={**good.rows, "values": good.rows["values"].double()}),
        "more": replace(good, rows={**good.rows, "more": keys}),
        "value_of": replace(good, rows={name: rows for name, rows in good.rows.items() if name != "value_of"}),
    }.items():
        with pytest.raises(StoreError, match=rf"^What was trained for 'Hello' does not fit the store \({name}"):
            store.training.finish(job, "t", wrong)
    ahead = good.base._replace(entries=7)
    record = replace(good.record, entries=(7, 8))
    assert store.training.finish(job, "t", replace(good, base=ahead, record=record))
    with pytest.raises(StoreError, match="goes on from what the store never was"):
        store.drafts.publish([2], ANN)
    assert store.version == 1


def test_rows_that_were_altered_are_not_published(store: Store):
    store.drafts.propose([HELLO], ANN)
    train(store)
    with store.database.writing() as connection:
        connection.execute(update(drafts_table).values(trained=b"something else"))
    with pytest.raises(StoreError, match=r"^The row 1 of the table draft is damaged: restore"):
        store.drafts.publish([1], ANN)
