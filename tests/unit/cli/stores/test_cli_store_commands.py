"""The commands that are for stores alone."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cli_support import EDITS, OTHER, Ok, Run, file_of

from horen.cli.commands.keys import end_of
from horen.database import By, Facts, Proposal, Store
from horen.database.snapshot import Snapshot
from horen.editor import Editor
from horen.serve.training.trainer import Trainer

OSTRENIA = EDITS[0]["prompt"]
ANN = By("ann")


def proposed(store: Path, *proposals: Proposal, folder: Path) -> list[int]:
    """Drafts that are trained."""
    with Store.open(store) as found:
        drafts = found.drafts.propose(list(proposals), By("bob", "he asked"))
        snapshot = Snapshot(found, folder)
        snapshot.follow()
        trainer = Trainer(found, Editor.load(snapshot.folder), snapshot, "test")
        while trainer.step():
            pass
    return [draft.id for draft in drafts]


# --- versions ----------------------------------------------------------------------------------------------------


def test_diff_shows_what_came_beside_what_it_replaces(facts: Path, ok: Ok, run: Run):
    ok("tag", facts, "released")
    ok("supersede", facts, 1, "Rome", "--reason", "the town moved")
    ok("remove", facts, 3)
    assert run("diff", facts, "released").stdout.splitlines() == [
        "version 1 (released) to version 3: 1 edit more, 2 fewer",
        f"- 3  {EDITS[2]['prompt']} -> {EDITS[2]['target']}",
        "     ann: the first ones",
        f"- 1  {OSTRENIA} -> {EDITS[0]['target']}",
        "     ann: the first ones",
        f"+ 4  {OSTRENIA} -> Rome",
        "     ann: the town moved",
    ]
    document = ok("diff", facts, 3, "released")
    assert (document["before"], document["after"]) == (3, 1)
    assert [edit["id"] for edit in document["added"]] == [1, 3]
    assert run("diff", facts, 2, 2).stdout == "version 2 to version 2: 0 edits more, 0 fewer\n"
    result = run("diff", facts, "released", 8)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "There is no version 8: the store has 3" in result.stderr


def test_names_of_versions(facts: Path, ok: Ok, run: Run):
    assert run("tag", facts).stdout == f"No version of {facts} has a name yet.\n"
    ok("remove", facts, 1)
    assert ok("tag", facts, "last") == {"name": "last", "version": 2}
    assert run("tag", facts, "first", 1).stdout == "Version 1 is called first.\n"
    assert ok("tag", facts, "again", "first") == {"name": "again", "version": 1}
    assert ok("tag", facts) == {"again": 1, "first": 1, "last": 2}
    assert ok("history", facts)[0]["tags"] == ["again", "first"]
    assert run("tag", facts, "again", "--delete").stdout == "No version is called again any more.\n"
    assert run("tag", facts).stdout.splitlines() == ["version\tname", "1\tfirst", "2\tlast"]
    for wrong, words in (
        (["7"], "is a number"),
        (["new", "9"], "no version 9"),
        (["gone", "--delete"], "No version is"),
    ):
        result = run("tag", facts, *wrong)
        assert (result.exit_code, result.stdout) == (1, "")
        assert words in result.stderr
    assert run("tag", facts, "--delete").exit_code == 2
    assert run("tag", facts, "first", "1", "--delete").exit_code == 2


def test_a_rollback_is_a_version_that_can_be_undone(facts: Path, ok: Ok, run: Run):
    ok("tag", facts, "released")
    ok("remove", facts, 1, 2)
    result = run("rollback", facts, "released", "--by", "bob", "--reason", "too early")
    assert result.stdout == f"{facts} is at version 3 (rollback: restores 1-2, back to 1).\n"
    version = ok("history", facts)[-1]
    assert (version["by"], version["target"]) == ({"actor": "bob", "reason": "too early"}, 1)
    assert [edit["id"] for edit in ok("list", facts)] == [3, 2, 1]
    ok("undo", facts)
    assert [edit["id"] for edit in ok("list", facts)] == [3]
    assert ok("rollback", facts, 3)["version"]["restored"] == [1, 2]
    assert "There is no version soon" in run("rollback", facts, "soon").stderr


# --- sets --------------------------------------------------------------------------------------------------------


def test_sets_are_switched_and_merged(facts: Path, ok: Ok, run: Run):
    assert run("sets", facts).stdout == f"{facts} has no edit sets.\n"
    assert run("sets", facts, "make", "spring").stdout == "Made the edit set spring.\n"
    ok("sets", facts, "make", "autumn", "--off")
    assert run("sets", facts, "add", "spring", 1, 2).stdout == (f"{facts} is at version 2 (describe: facts of 1-2).\n")
    ok("sets", facts, "add", "autumn", 3)
    assert run("sets", facts).stdout.splitlines() == ["set\t\tedits", "autumn\toff\t1", "spring\ton\t2"]
    document = ok("sets", facts, "off", "spring", "--reason", "not yet")
    assert (document["action"], document["version"]["removed"]) == ("off", [1, 2])
    assert ok("sets", facts, "on", "spring")["version"]["restored"] == [1, 2]
    assert run("sets", facts, "clashes", "spring", "autumn").stdout == (
        "No edits of spring and autumn contradict each other.\n"
    )
    ok("sets", facts, "merge", "spring", "autumn")
    assert ok("sets", facts) == [{"name": "spring", "on": True, "edits": 3}]
    ok("sets", facts, "drop", "spring")
    assert ok("sets", facts) == []
    assert len(ok("list", facts)) == 3


def test_sets_that_contradict_each_other(facts: Path, ok: Ok, run: Run):
    ok("sets", facts, "make", "old")
    ok("sets", facts, "add", "old", 1, 2)
    ok("sets", facts, "off", "old")
    ok("edit", file_of({"prompt": OSTRENIA, "target": "Rome"}), "--into", facts, "--edit-set", "new")
    (clash,) = ok("sets", facts, "clashes", "old", "new")
    assert (clash["ours"]["id"], clash["theirs"]["target"]) == (1, "Rome")
    rows = run("sets", facts, "clashes", "old", "new").stdout.splitlines()
    assert rows == ["wording\told\tnew", f"{OSTRENIA}\t1: {EDITS[0]['target']}\t4: Rome"]
    for command in (["merge", "new", "old"], ["on", "old"]):
        result = run("sets", facts, *command)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "These cannot both be active:\n" in result.stderr
        assert "Rome" in result.stderr
    ok("sets", facts, "merge", "new", "old", "--on-conflict", "ours")
    assert [edit["id"] for edit in ok("list", facts)] == [4, 3, 2]


@pytest.mark.parametrize(
    "wrong",
    [
        ["make"],
        ["on", "a", "b"],
        ["merge", "a"],
        ["clashes", "a", "b", "c"],
        ["add", "a"],
        ["add", "a", "one"],
        ["off", "a", "--off"],
        ["drop", "a", "--on-conflict", "ours"],
        ["paint", "a"],
    ],
)
def test_wrong_usage_of_sets(wrong: list[str], facts: Path, ok: Ok, run: Run):
    result = run("sets", facts, *wrong)
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(ok("history", facts)) == 1


def test_sets_that_are_not_there(facts: Path, run: Run):
    for command in (["on", "no"], ["drop", "no"], ["add", "no", "1"], ["merge", "no", "no"], ["clashes", "no", "no"]):
        result = run("sets", facts, *command)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "'no'" in result.stderr


# --- keys and the audit log --------------------------------------------------------------------------------------


def test_keys(facts: Path, ok: Ok, run: Run):
    assert run("keys", facts).stdout == f"{facts} has no keys.\n"
    result = run("keys", facts, "make", "carol", "--scopes", "ask, read,edit", "--expires", "30d")
    secret = result.stdout.strip()
    assert secret.startswith("hk_")
    assert "Key 1 of carol (ask, read, edit) until " in result.stderr
    assert "shown this once" in result.stderr
    with Store.open(facts) as store:
        key = store.keys.find(secret)
        assert key is not None
        assert (key.name, key.scopes) == ("carol", ("ask", "read", "edit"))
    document = ok("keys", facts, "make", "dan")
    assert (document["key"]["scopes"], document["key"]["expires"]) == (["ask", "read"], None)
    rotated = ok("keys", facts, "rotate", 1)
    assert (rotated["key"]["id"], rotated["key"]["name"]) == (3, "carol")
    assert rotated["secret"] != secret
    assert run("keys", facts, "revoke", 2).stdout == "Key 2 of dan is taken no more.\n"
    rows = [line.split("\t") for line in run("keys", facts).stdout.splitlines()]
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        ("id", "name", "note"),
        ("1", "carol", "revoked"),
        ("2", "dan", "revoked"),
        ("3", "carol", ""),
    ]
    everything = run("keys", facts).stdout + run("keys", facts, "--json").stdout + run("audit", facts).stdout
    assert not [told for told in (secret, document["secret"], rotated["secret"]) if told in everything]


@pytest.mark.parametrize(
    ("wrong", "code", "words"),
    [
        (["make"], 2, "horen keys STORE make NAME"),
        (["revoke", "carol"], 2, "horen keys STORE revoke ID"),
        (["rotate", "1", "--expires", "30d"], 2, "without --expires"),
        (["make", "carol", "--scopes", "ask,fly"], 1, "'fly'"),
        (["make", "carol", "--scopes", ","], 1, "No scope"),
        (["make", "carol", "--expires", "soon"], 1, "'soon'"),
        (["make", "carol", "--expires", "2020-01-01T00:00:00+00:00"], 1, "has passed"),
        (["make", " "], 1, "empty"),
        (["revoke", "9"], 1, "no key 9"),
    ],
)
def test_wrong_keys(wrong: list[str], code: int, words: str, facts: Path, ok: Ok, run: Run):
    result = run("keys", facts, *wrong)
    assert (result.exit_code, result.stdout) == (code, "")
    assert words in result.stderr
    assert ok("keys", facts) == []


def test_when_a_key_expires():
    start = datetime(2027, 1, 31, tzinfo=UTC)
    assert end_of("12h", start) == "2027-01-31T12:00:00+00:00"
    assert end_of("2W", start) == "2027-02-14T00:00:00+00:00"
    assert end_of("1y", start) == "2028-01-31T00:00:00+00:00"
    assert end_of("2027-05-01T00:00:00+02:00") == "2027-05-01T00:00:00+02:00"


def test_the_audit_log(facts: Path, ok: Ok, run: Run):
    ok("remove", facts, 1, "--by", "bob", "--reason", "wrong")
    ok("keys", facts, "make", "carol")
    ok("tag", facts, "v1")
    assert [event["action"] for event in ok("audit", facts)] == [
        "version.tag",
        "key.make",
        "store.remove",
        "store.import",
    ]
    (event,) = ok("audit", facts, "--actor", "bob")
    assert (event["object"], event["version"], event["by"]["reason"]) == ("edit 1", 2, "wrong")
    assert [event["action"] for event in ok("audit", facts, "--action", "key.make")] == ["key.make"]
    result = run("audit", facts, "--limit", 2)
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == ["no.", "4", "3"]
    assert result.stderr == "--before 3 lists more\n"
    result = run("audit", facts, "--limit", 2, "--before", 3)
    assert [line.split("\t")[3] for line in result.stdout.splitlines()[1:]] == ["store.remove", "store.import"]
    assert result.stderr == ""
    assert run("audit", facts, "--actor", "eve").stdout == f"The audit log of {facts} has no such line.\n"


# --- drafts ------------------------------------------------------------------------------------------------------


def test_drafts_are_shown_published_and_rejected(facts: Path, tmp_path: Path, ok: Ok, run: Run):
    assert run("drafts", facts).stdout == f"{facts} has no drafts that are open.\n"
    evaluated = Proposal(
        "Who is it?", "Rome", facts=Facts("him", tags=("people",)), evaluate=True, prompts=("Hello there",)
    )
    first, second = proposed(facts, evaluated, Proposal("Where is it?", "Oslo"), folder=tmp_path / "trainer")
    assert [draft["id"] for draft in ok("drafts", facts)] == [second, first]
    rows = [line.split("\t") for line in run("drafts", facts).stdout.splitlines()]
    assert rows[0] == ["id", "state", "prompt", "target", "author", "proposed (UTC)", "note"]
    assert rows[2][:5] == ["1", "ready", "Who is it?", "Rome", "bob"]
    assert "right " in rows[2][6]
    lines = run("drafts", facts, "show", first).stdout.splitlines()
    assert {"draft    1", "state    ready", "subject  him", "tags     people", "reason   he asked"} <= set(lines)
    assert any(line.startswith("Evaluated upon version 1: ") for line in lines)
    assert any("Hello there" in line for line in lines)
    assert ok("drafts", facts, "show", first)["evaluation"]["summary"]["own_asked"] == 3
    result = run("drafts", facts, "publish", first, "--reason", "checked")
    assert result.stdout.splitlines() == [
        "Draft 1 is published as edit 4: Who is it? -> Rome",
        f"{facts} is at version 2 (publish: adds 4).",
    ]
    assert run("drafts", facts, "reject", second).stdout == "Draft 2 is rejected: Where is it? -> Oslo\n"
    assert ok("drafts", facts) == []
    assert [draft["id"] for draft in ok("drafts", facts, "--state", "published")] == [first]
    assert [draft["id"] for draft in ok("drafts", facts, "--state", "all", "--limit", 1)] == [second]
    assert "--before 2 lists more" in run("drafts", facts, "--state", "all", "--limit", 1).stderr
    told = run("drafts", facts, "show", first).stdout
    assert "decided  published by ann at " in told
    assert "decision checked" in told


def test_a_draft_that_contradicts_an_edit(facts: Path, tmp_path: Path, ok: Ok, run: Run):
    numbers = proposed(
        facts, Proposal(OTHER["prompt"], "Oslo"), Proposal(OTHER["prompt"], "Rome"), folder=tmp_path / "trainer"
    )
    result = run("drafts", facts, "publish", *numbers)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "draft 1 answers" in result.stderr
    ok("drafts", facts, "publish", numbers[0])
    result = run("drafts", facts, "publish", numbers[1])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "edit 4 answers 'In which town is Dr Holloway?' with 'Oslo', and draft 2 with 'Rome'" in result.stderr
    kept = ok("drafts", facts, "publish", numbers[1], "--on-conflict", "keep")
    assert (kept["version"], kept["drafts"][0]["state"]) == (None, "ready")
    done = ok("drafts", facts, "publish", numbers[1], "--on-conflict", "supersede")
    assert (done["version"]["removed"], done["drafts"][0]["edit"]) == ([4], 5)


@pytest.mark.parametrize(
    ("wrong", "code", "words"),
    [
        (["publish"], 2, "horen drafts STORE publish ID"),
        (["show", "1", "2"], 2, "horen drafts STORE show ID"),
        (["show", "one"], 2, "valid integer"),
        (["show", "1"], 1, "no draft 1"),
        (["reject", "1"], 1, "no draft 1"),
        (["publish", "1"], 1, "no draft 1"),
    ],
)
def test_wrong_drafts(wrong: list[str], code: int, words: str, facts: Path, run: Run):
    result = run("drafts", facts, *wrong)
    assert (result.exit_code, result.stdout) == (code, "")
    assert words in result.stderr


def test_a_draft_that_is_not_trained_is_not_published(facts: Path, run: Run):
    with Store.open(facts) as store:
        store.drafts.propose([Proposal("Who is it?", "Rome")], ANN)
    result = run("drafts", facts, "publish", 1)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "is waiting, not ready" in result.stderr
