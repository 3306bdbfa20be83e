"""A trainer turns drafts into rows that a store publishes, on a real tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from horen import Editor
from horen.database import By, Facts, Proposal, Store
from horen.database.snapshot import Snapshot
from horen.errors import ConflictError
from horen.serve.training.trainer import Trainer
from horen.store.state import Saved
from support.editor_support import busy_editor
from support.editors import outputs, same
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

ANN = By("ann", "the town moved")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    busy_editor().save(tmp_path / "book")
    with Store.create(tmp_path / "facts.db", Saved.read(tmp_path / "book"), ANN) as made:
        yield made


def loaded(snapshot: Snapshot) -> Editor:
    snapshot.follow()
    return Editor.load(snapshot.folder, tiny_model(), tiny_tokenizer())


def trainer_of(store: Store, folder: Path) -> tuple[Trainer, Editor]:
    snapshot = Snapshot(store, folder)
    editor = loaded(snapshot)
    return Trainer(store, editor, snapshot, "trainer"), editor


def test_a_draft_is_trained_and_published_by_a_person(store: Store, tmp_path: Path):
    trainer, editor = trainer_of(store, tmp_path / "trainer")
    facts = Facts("Seven", "https://example.org", ("boats",))
    (draft,) = store.drafts.propose([Proposal("Who has seven boats?", "Mira Sand", ("Whose are they?",), facts)], ANN)
    assert (trainer.step(), trainer.step()) == (1, 0)
    ready = store.drafts.get(draft.id)
    assert (ready.state, ready.base, ready.evaluation, ready.error) == ("ready", 5, None, None)
    assert ready.receipt["steps"] == 1
    before = outputs(loaded(Snapshot(store, tmp_path / "engine")))
    version = store.drafts.publish([draft.id], By("bob", "right"))
    (number,) = version.added
    stored = store.edits.get(number)
    assert (stored.author, stored.facts, stored.draft, stored.active) == ("ann", facts, draft.id, True)
    assert (version.by.actor, store.drafts.get(draft.id).decided_by) == ("bob", "bob")
    engine = loaded(Snapshot(store, tmp_path / "engine"))
    assert [record.id for record in engine.edits()][-1] == number
    assert engine.explain("Whose are they?").edit_id == number
    # What the trainer had tried is forgotten there, and what is published is what it had.
    (again,) = store.drafts.propose([Proposal("Who has eight boats?", "Oslo")], ANN)
    trainer.step()
    trainer.step()
    trainer._catch_up()
    assert same(outputs(editor), outputs(engine))
    store.versions.undo(ANN)
    assert same(outputs(loaded(Snapshot(store, tmp_path / "engine"))), before)
    assert store.drafts.get(again.id).state == "ready"


def test_drafts_upon_one_base_are_published_one_after_the_other(store: Store, tmp_path: Path):
    trainer, _ = trainer_of(store, tmp_path / "trainer")
    proposals = [Proposal(f"Where is town {number}?", target) for number, target in enumerate(("Oslo", "Rome", "Oslo"))]
    drafts = store.drafts.propose(proposals, ANN)
    assert trainer.step() == 3
    for draft in reversed(drafts):
        store.drafts.publish([draft.id], ANN)
    engine = loaded(Snapshot(store, tmp_path / "engine"))
    for proposal in proposals:
        found = engine.explain(proposal.prompt)
        assert (found.prompt, found.target) == (proposal.prompt, proposal.target)
    alone = busy_editor()
    records = [record for record in engine.edits() if record.prompt.startswith("Where is town")]
    assert len({record.value for record in records}) == 3
    assert torch.equal(engine._session.codebook().keys[:5], alone._session.codebook().keys[:5])


def test_a_draft_that_corrects_an_edit_replaces_it(store: Store, tmp_path: Path):
    trainer, _ = trainer_of(store, tmp_path / "trainer")
    old = next(edit for edit in store.edits.list().items if edit.active)
    (draft, other) = store.drafts.propose([Proposal(old.prompt, "Paris"), Proposal(old.prompt, "London")], ANN)
    assert trainer.step() == 2
    assert store.drafts.get(draft.id).replaces == (old.id,)
    version = store.drafts.publish([draft.id], ANN)
    assert version.removed == (old.id,)
    with pytest.raises(ConflictError, match="Paris") as caught:
        store.drafts.publish([other.id], ANN, replaces={other.id: []})
    (clash,) = caught.value.clashes
    assert (clash.ours.target, clash.theirs.target) == ("Paris", "London")
    assert store.drafts.get(other.id).state == "ready"
    store.drafts.publish([other.id], ANN, replaces={other.id: version.added})
    assert store.edits.get(version.added[0]).state == "retired"


def test_an_evaluation_asks_what_is_its_own_and_what_is_near(store: Store, tmp_path: Path):
    trainer, _ = trainer_of(store, tmp_path / "trainer")
    neighbour = next(edit for edit in store.edits.list().items if edit.active)
    proposal = Proposal(
        "Who has six boats?", "Oslo", ("Whose?",), evaluate=True, prompts=("Hello there", "Hello there")
    )
    (draft,) = store.drafts.propose([proposal], ANN)
    trainer.step()
    found = store.drafts.get(draft.id).evaluation
    assert found is not None
    assert {(line["kind"], line["context"]) for line in found["own"]} >= {
        ("prompt", "plain"),
        ("rephrase", "after text"),
    }
    assert all(line["fires"] for line in found["own"] if line["context"] == "plain")
    assert neighbour.id in {line["edit"] for line in found["neighbours"]}
    assert [line["prompt"] for line in found["prompts"]] == ["Hello there"]
    summary = found["summary"]
    assert (summary["own_asked"], summary["asked"]) == (len(found["own"]), len(found["neighbours"]) + 1)
    assert found["version"] == store.version
    line = next(line for line in found["neighbours"] if line["edit"] == neighbour.id)
    assert loaded(Snapshot(store, tmp_path / "engine")).generate(line["prompt"], 24) == line["before"]


def test_what_cannot_be_trained_fails_alone(store: Store, tmp_path: Path):
    trainer, _ = trainer_of(store, tmp_path / "trainer")
    known = next(edit for edit in store.edits.list().items if edit.active)
    proposals = [
        Proposal(known.prompt, known.target),
        Proposal("word " * 4000, "long"),
        Proposal("Where is it?", "here"),
    ]
    drafts = store.drafts.propose(proposals, ANN)
    trainer.step()
    found = [store.drafts.get(draft.id) for draft in drafts]
    assert [draft.state for draft in found] == ["failed", "failed", "ready"]
    assert found[0].error is not None
    assert "already" in found[0].error
    revised = store.drafts.revise(drafts[1].id, ANN, prompt="word")
    assert (revised.state, revised.error) == ("waiting", None)
    trainer.step()
    assert store.drafts.get(drafts[1].id).state == "ready"


def test_a_draft_that_shall_be_published_at_once_is_or_says_why_not(store: Store, tmp_path: Path):
    trainer, _ = trainer_of(store, tmp_path / "trainer")
    store.sets.make("spring", ANN, on=False)
    proposals = [
        Proposal("Where is it?", "here", publish=True),
        Proposal("Where is she?", "there", facts=Facts(set="spring"), publish=True),
    ]
    drafts = store.drafts.propose(proposals, ANN)
    trainer.step()
    first, second = (store.drafts.get(draft.id) for draft in drafts)
    assert (first.state, second.state) == ("published", "ready")
    assert second.error is not None
    assert "switched off" in second.error
