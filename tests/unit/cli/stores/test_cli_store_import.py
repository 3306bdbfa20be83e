"""Files of edits and codebooks that go into a store."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_support import EDITS, OTHER, Ok, Run, file_of, interrupt_at

from horen.database import By, Query, Store
from horen.database.records import Draft
from horen.editor import Editor
from horen.errors import StoreError
from horen.serve.training.trainer import Trainer
from horen.store.state import Saved

OSTRENIA = EDITS[0]["prompt"]


def answers(store: Path | str) -> dict[str, str]:
    """The active edits of a store, by prompt."""
    with Store.open(store) as found:
        return {edit.prompt: edit.target for edit in found.edits.list(limit=1000).items if edit.active}


def drafts(store: Path) -> list[Draft]:
    with Store.open(store) as found:
        return list(found.drafts.list(limit=1000).items)


# --- codebooks ---------------------------------------------------------------------------------------------------


def test_a_folder_becomes_a_store(book: Path, run: Run, ok: Ok):
    ok("remove", book, 3)
    document = ok("import", book, "--into", "facts.db", "--reason", "we begin")
    assert document == {"folder": str(book), "into": "facts.db", "version": 2, "active": 2, "edits": 3}
    told = ok("history", "facts.db")
    assert [version["operation"] for version in told] == ["edit", "remove"]
    assert told[0]["by"] == {"actor": "ann", "reason": "we begin"}
    question = EDITS[1]["prompt"]
    assert ok("ask", "facts.db", question) == ok("ask", book, question)
    again = run("import", book, "--into", "facts.db")
    assert (again.exit_code, again.stdout) == (1, "")
    assert again.stderr.startswith("Error: facts.db holds a store already")
    assert f"horen export {book} edits.jsonl" in again.stderr
    assert run("import", book, "--into", "other.db").stdout == (
        f"other.db is a store of {book}: version 2, 2 active edits.\n"
    )


@pytest.mark.parametrize("given", [["--model", "m"], ["--set", "threshold=0.5"], ["--tags", "a"]])
def test_a_folder_is_taken_in_as_it_is(given: list[str], book: Path, run: Run):
    result = run("import", book, "--into", "facts.db", *given)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"which is taken in as it is: leave {given[0]} out." in result.stderr
    assert not Path("facts.db").exists()


def test_what_is_no_codebook_leaves_no_store(tmp_path: Path, run: Run):
    (tmp_path / "nothing").mkdir()
    result = run("import", "nothing", "--into", "facts.db")
    assert result.exit_code == 1
    assert "nothing" in result.stderr
    assert not Path("facts.db").exists()


# --- files -------------------------------------------------------------------------------------------------------


def test_a_file_makes_a_store_with_what_it_says_of_its_lines(new: list[str], ok: Ok):
    lines = [
        EDITS[0] | {"subject": "Ostrenia", "source": "https://example.org/o", "tags": ["towns", "new"]},
        EDITS[1],
    ]
    given = ("--tags", "spring, new", "--edit-set", "spring", "--source", "a letter", "--subject", "firms")
    command = ["edit", file_of(*lines), "--into", "facts.db", *given, "--by", "bob", "--reason", "the town moved"]
    document = ok(*command, *new)
    assert document["counts"]["added"] == 2
    assert (document["operations"], document["stored"]) == (1, 2)
    first, second = (ok("show", "facts.db", receipt["id"]) for receipt in document["receipts"])
    assert first["facts"] == {
        "subject": "Ostrenia",
        "source": "https://example.org/o",
        "tags": ["new", "spring", "towns"],
        "set": "spring",
    }
    assert second["facts"] == {"subject": "firms", "source": "a letter", "tags": ["new", "spring"], "set": "spring"}
    assert (first["author"], first["reason"], second["rephrases"]) == ("bob", "the town moved", EDITS[1]["rephrases"])
    assert ok("sets", "facts.db") == [{"name": "spring", "on": True, "edits": 2}]
    # The same command again does nothing.
    again = ok(*command, *new)
    assert [receipt["action"] for receipt in again["receipts"]] == ["unchanged", "unchanged"]
    assert len(ok("history", "facts.db")) == 1


def test_each_batch_is_a_version(facts: Path, ok: Ok, run: Run):
    more = [OTHER, {"prompt": "Who is it?", "target": "Rome"}, {"prompt": "Where is it?", "target": "Oslo"}]
    result = run("edit", file_of(*EDITS, *more), "--into", facts, "--batch", 2)
    assert result.exit_code == 0, result.stderr
    assert f"{facts} holds 6 edits; this took" in result.stdout
    assert "They were written in 2 operations" in result.stdout
    versions = ok("history", facts)
    assert [(version["operation"], version["added"]) for version in versions[1:]] == [
        ("publish", [4, 5]),
        ("publish", [6]),
    ]
    assert {draft.state for draft in drafts(facts)} == {"published"}
    # A codebook's folder that is edited with the same lines answers alike.
    question = OTHER["prompt"]
    assert ok("explain", facts, question)[0]["edit_id"] == 4


def test_an_edit_is_superseded_with_what_was_said_of_it(facts: Path, ok: Ok, run: Run):
    ok("sets", facts, "make", "towns")
    ok("sets", facts, "add", "towns", 1)
    document = ok("supersede", facts, 1, "Rome", "--source", "a letter", "--reason", "moved")
    assert (document["action"], document["replaced"], document["prompt"]) == ("superseded", [1], OSTRENIA)
    told = ok("show", facts, document["id"])
    assert told["facts"] == {"subject": None, "source": "a letter", "tags": [], "set": "towns"}
    assert (told["replaces"], told["reason"], told["target"]) == ([1], "moved", "Rome")
    assert ok("show", facts, 1)["state"] == "retired"
    for number, words in ((1, "was removed, superseded or undone"), (9, "There is no edit 9"), (document["id"], "")):
        result = run("supersede", facts, number, "Rome")
        assert (result.exit_code, result.stdout) == (1, "")
        assert (words or "already answers") in result.stderr
    assert len(drafts(facts)) == 1


# --- conflicts ---------------------------------------------------------------------------------------------------


def test_conflicts_with_what_is_stored(facts: Path, ok: Ok, run: Run):
    file = file_of({"prompt": OSTRENIA, "target": "Rome"}, OTHER)
    result = run("edit", file, "--into", facts)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "contradict stored edits, so nothing was applied" in result.stderr
    assert drafts(facts) == []
    kept = ok("edit", file, "--into", facts, "--on-conflict", "keep")
    assert [receipt["action"] for receipt in kept["receipts"]] == ["kept", "added"]
    assert answers(facts)[OSTRENIA] == EDITS[0]["target"]
    replaced = ok("edit", file, "--into", facts, "--on-conflict", "supersede")
    assert [receipt["action"] for receipt in replaced["receipts"]] == ["superseded", "unchanged"]
    assert replaced["receipts"][0]["replaced"] == [1]
    assert answers(facts)[OSTRENIA] == "Rome"


def _published_meanwhile(store: Path, monkeypatch: pytest.MonkeyPatch, *, before: bool) -> None:
    """Let somebody publish an edit of OTHER's prompt while it is trained: before its training, or after."""
    real, done = Trainer.step, []

    def step(self: Trainer) -> int:
        taken = 0 if before else real(self)
        if not done:
            done.append(True)
            with Store.open(store) as other:
                from horen.database import Proposal  # noqa: PLC0415

                (draft,) = other.drafts.propose([Proposal(OTHER["prompt"], "Rome")], By("bob"))
                taken += real(self)
                if other.drafts.get(draft.id).state != "ready":
                    taken += real(self)
                other.drafts.publish([draft.id], By("bob"), replaces={draft.id: []})
        return taken or real(self)

    monkeypatch.setattr(Trainer, "step", step)


@pytest.mark.parametrize("before", [True, False])
def test_what_is_published_meanwhile_is_a_conflict_too(
    before: bool, facts: Path, run: Run, monkeypatch: pytest.MonkeyPatch
):
    file = file_of(OTHER, {"prompt": "Who is it?", "target": "Rome"})
    with monkeypatch.context() as patch:
        _published_meanwhile(facts, patch, before=before)
        result = run("edit", file, "--into", facts)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "--on-conflict supersede" in result.stderr or "replace edit" in result.stderr
    assert answers(facts)[OTHER["prompt"]] == "Rome"
    assert "Who is it?" not in answers(facts)
    assert [draft.state for draft in drafts(facts) if draft.author == "ann"] == ["rejected", "rejected"]


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    ("choice", "action", "answer"), [("supersede", "superseded", "Oslo"), ("keep", "kept", "Rome")]
)
def test_a_conflict_meanwhile_is_settled_as_was_chosen(
    choice: str, action: str, answer: str, before: bool, facts: Path, ok: Ok, monkeypatch: pytest.MonkeyPatch
):
    file = file_of(OTHER, {"prompt": "Who is it?", "target": "Rome"})
    with monkeypatch.context() as patch:
        _published_meanwhile(facts, patch, before=before)
        document = ok("edit", file, "--into", facts, "--on-conflict", choice)
    assert [receipt["action"] for receipt in document["receipts"]] == [action, "added"]
    assert answers(facts)[OTHER["prompt"]] == answer
    assert answers(facts)["Who is it?"] == "Rome"
    assert not [draft for draft in drafts(facts) if draft.state not in ("published", "rejected")]


# --- interruptions -----------------------------------------------------------------------------------------------


def test_an_interruption_keeps_what_is_published_and_a_second_run_continues(
    facts: Path, ok: Ok, run: Run, monkeypatch: pytest.MonkeyPatch
):
    more = [{"prompt": f"Who is number {number}?", "target": "Rome"} for number in range(4)]
    command = ["edit", file_of(*more), "--into", facts, "--batch", 1]
    with monkeypatch.context() as patch:
        interrupt_at(3, patch)
        result = run(*command, "--json")
    assert result.exit_code == 130
    assert "Interrupted: 2 of 4 edits are done and saved. The same command again continues." in result.stderr
    document = json.loads(result.stdout)
    assert (document["counts"]["added"], document["counts"]["remaining"]) == (2, 2)
    assert len(answers(facts)) == 5
    assert [draft.state for draft in drafts(facts)] == ["rejected", "published", "published"]
    document = ok(*command)
    assert [receipt["action"] for receipt in document["receipts"]] == ["unchanged", "unchanged", "added", "added"]
    assert len(answers(facts)) == 7


def test_an_interruption_publishes_what_is_trained_of_a_batch(
    facts: Path, ok: Ok, run: Run, monkeypatch: pytest.MonkeyPatch
):
    more = [{"prompt": f"Who is number {number}?", "target": "Rome"} for number in range(20)]
    with monkeypatch.context() as patch:
        interrupt_at(2, patch)  # a trainer takes sixteen drafts at once
        result = run("edit", file_of(*more), "--into", facts, "--json")
    assert result.exit_code == 130
    document = json.loads(result.stdout)
    assert (document["counts"]["added"], document["counts"]["remaining"], document["operations"]) == (16, 4, 1)
    assert sorted(draft.state for draft in drafts(facts)) == ["published"] * 16 + ["rejected"] * 4
    assert ok("edit", file_of(*more), "--into", facts)["counts"]["added"] == 4


def test_what_was_killed_is_taken_up_again(facts: Path, ok: Ok, run: Run, monkeypatch: pytest.MonkeyPatch):
    """A run that ends without a word leaves drafts, which the next one trains and publishes."""
    file = file_of(OTHER, {"prompt": "Who is it?", "target": "Rome"})
    real = Editor.edit

    def gone(*args: Any, **kwargs: Any) -> Any:
        real(*args, **kwargs)
        raise StoreError("The database is gone.")

    with monkeypatch.context() as patch:
        patch.setattr(Editor, "edit", gone)
        assert run("edit", file, "--into", facts).stderr.endswith("Error: The database is gone.\n")
    assert [draft.state for draft in drafts(facts)] == ["training", "training"]
    document = ok("edit", file, "--into", facts)
    assert document["counts"]["added"] == 2
    assert sorted(draft.state for draft in drafts(facts)) == ["published", "published", "rejected", "rejected"]


def test_a_killed_process_loses_nothing_that_was_published(facts: Path, ok: Ok):
    more = [{"prompt": f"Who is number {number}?", "target": "Rome"} for number in range(3)]
    file = file_of(*more)
    code = (
        "import os\nfrom horen.cli import main\nfrom horen.editor import Editor\nreal, calls = Editor.edit, []\n"
        "def edit(*args, **kwargs):\n    calls.append(1)\n"
        "    if len(calls) == 2:\n        os.kill(os.getpid(), 9)\n    return real(*args, **kwargs)\n"
        "Editor.edit = edit\nmain()"
    )
    given = ["edit", str(file), "--into", str(facts), "--batch", "1"]
    done = subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert len(answers(facts)) == 4
    assert ok(*given)["counts"]["added"] == 2
    assert len(answers(facts)) == 6


def test_an_interrupted_replacement_leaves_no_draft(facts: Path, run: Run, monkeypatch: pytest.MonkeyPatch):
    interrupt_at(1, monkeypatch)
    assert run("supersede", facts, 1, "Rome").exit_code == 130
    assert [draft.state for draft in drafts(facts)] == ["rejected"]
    assert answers(facts)[OSTRENIA] == EDITS[0]["target"]


# --- what cannot be done -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--by", " "], "--by is empty"),
        (["--workers", "2"], "--workers is for a codebook's folder"),
        (["--device", "cpu,cpu"], "--device is for a codebook's folder"),
        (["--ray", "auto"], "--ray is for a codebook's folder"),
        (["--preset", "text"], "was made with other settings"),
        (["--model", "gemma-3-270m"], "was made for the model"),
        (["--tags", "a\0b"], "null character"),
        (["--edit-set", "quiet"], "The edit set quiet is switched off"),
    ],
)
def test_what_is_refused_changes_nothing(given: list[str], words: str, facts: Path, ok: Ok, run: Run):
    ok("sets", facts, "make", "quiet", "--off")
    result = run("edit", file_of(OTHER), "--into", facts, *given)
    assert (result.exit_code, result.stdout) == (1, "")
    assert words in result.stderr
    assert drafts(facts) == []
    assert len(ok("history", facts)) == 1


def test_a_new_store_needs_a_model(run: Run):
    result = run("edit", file_of(OTHER), "--into", "new.db")
    assert result.exit_code == 1
    assert "new.db is a new codebook: say with --model which model it is for" in result.stderr
    assert not Path("new.db").exists()


def test_a_file_with_bad_lines_makes_no_store(new: list[str], run: Run, ok: Ok):
    file = file_of(OTHER, {"prompt": "What?", "target": "A\0b"}, {"prompt": "Who?", "target": "Rome", "tags": 7})
    result = run("edit", file, "--into", "new.db", *new)
    assert result.exit_code == 1
    assert "line 3: tags is a number where" in result.stderr
    assert not Path("new.db").exists()
    document = ok("edit", file, "--into", "new.db", "--skip-bad", *new)
    assert [item["line"] for item in document["skipped"]] == [2, 3]
    assert answers("new.db") == {OTHER["prompt"]: OTHER["target"]}


def test_a_line_that_cannot_be_trained(facts: Path, run: Run, ok: Ok, monkeypatch: pytest.MonkeyPatch):
    file = file_of(OTHER, {"prompt": "Who is it?", "target": "Rome"})
    real = Editor.edit

    def edit(self: Editor, edits: Any, *args: Any, **kwargs: Any) -> Any:
        if any(one.prompt == "Who is it?" for one in edits):
            raise RuntimeError("no luck")
        return real(self, edits, *args, **kwargs)

    monkeypatch.setattr(Editor, "edit", edit)
    result = run("edit", file, "--into", facts)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "line 2 cannot be trained: no luck" in result.stderr
    assert OTHER["prompt"] not in answers(facts)
    document = ok("edit", file, "--into", facts, "--skip-bad")
    assert (document["counts"]["added"], document["skipped"]) == (1, [{"line": 2, "reason": "no luck"}])
    assert {draft.state for draft in drafts(facts)} == {"published", "rejected"}


def test_a_dry_run_shows_what_a_store_would_keep(run: Run, ok: Ok):
    file = file_of(OTHER | {"subject": "Dr Holloway", "source": "a letter", "tags": "people"})
    result = run("edit", file, "--into", "new.db", "--dry-run")
    assert result.stdout.splitlines()[1:4] == ["  about: Dr Holloway", "  from: a letter", "  tags: people"]
    assert ok("edit", file, "--into", "new.db", "--dry-run")["edits"][0]["tags"] == ["people"]
    assert set(ok("edit", file, "--into", "folder", "--dry-run")["edits"][0]) == {
        "line",
        "prompt",
        "target",
        "rephrases",
    }
    said = run("edit", file, "--into", "folder", "--dry-run").stderr
    assert "of no use are source, tags" in said
    assert not Path("new.db").exists()


# --- PostgreSQL --------------------------------------------------------------------------------------------------


def test_a_store_in_postgresql(served: str, book: Path, run: Run):
    shown = served.replace("geheim", "***")
    result = run("import", book, "--into", served)
    assert result.stdout == f"{shown} is a store of {book}: version 1, 3 active edits.\n"
    results = [
        run("edit", file_of(OTHER), "--into", served, "--tags", "people"),
        run("list", served, "--tag", "people"),
        run("supersede", served, 1, "Rome"),
        run("history", served),
        run("ask", served, OTHER["prompt"]),
        run("import", book, "--into", served),
        run("compact", served),
        run("backup", served, "copy.db"),
        run("show", served, 77),
        run("list", served, served),
    ]
    assert [result.exit_code for result in results] == [0, 0, 0, 0, 0, 1, 1, 1, 1, 2]
    told = "".join(result.stdout + result.stderr for result in results)
    assert "geheim" not in told
    assert shown in told
    assert answers(served)[OSTRENIA] == "Rome"
    gone = served.replace("/program", "/nowhere")
    missing = run("list", gone)
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "geheim" not in missing.stderr
    with Store.open(served) as store:
        assert store.edits.count(Query(tag="people")) == 1


def test_a_new_store_in_postgresql(served: str, new: list[str], ok: Ok):
    assert ok("edit", file_of(*EDITS), "--into", served, *new)["counts"]["added"] == 3
    assert ok("explain", served, OSTRENIA)[0]["edit_id"] == 1
    # All programs of a user share the folder that follows a store.
    (snapshot,) = (Path("cache") / "snapshots").iterdir()
    assert Saved.read(snapshot).history.count == 1
    assert ok("edit", file_of(*EDITS), "--into", served)["counts"]["unchanged"] == 3
