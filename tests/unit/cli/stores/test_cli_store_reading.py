"""What the commands that are for folders too tell of a store, and that folders need no database."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_support import EDITS, OTHER, Ok, Run, file_of

from horen.cli.options import Place
from horen.errors import ConfigError

OSTRENIA = EDITS[0]["prompt"]


@pytest.fixture
def told(facts: Path, ok: Ok) -> Path:
    """A store in which more has been done: edit 4 of bob's in the set spring, edit 3 removed."""
    ok("sets", facts, "make", "spring")
    given = ["--tags", "people,towns", "--edit-set", "spring", "--by", "bob", "--reason", "he asked"]
    ok("edit", file_of(OTHER | {"subject": "Dr Holloway"}), "--into", facts, *given)
    ok("remove", facts, 3, "--reason", "wrong")
    return facts


def ids(found: list[dict[str, Any]]) -> list[int]:
    return [edit["id"] for edit in found]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ([], [4, 2, 1]),
        (["--state", "all"], [4, 3, 2, 1]),
        (["--state", "retired"], [3]),
        (["--search", "LARKSPUR boss"], [2]),
        (["--search", "holloway"], [4]),
        (["--tag", "towns"], [4]),
        (["--set-name", "spring"], [4]),
        (["--author", "ann"], [2, 1]),
        (["--author", "ann", "--tag", "towns"], []),
        (["--limit", "2"], [4, 2]),
        (["--limit", "2", "--before", "2"], [1]),
    ],
)
def test_list(given: list[str], wanted: list[int], told: Path, ok: Ok, run: Run):
    assert ids(ok("list", told, *given)) == wanted
    rows = run("list", told, *given).stdout.splitlines()
    if wanted:
        assert rows[0].split("\t") == ["id", "prompt", "target", "author", "set", "tags", "note"]
        assert [int(row.split("\t")[0]) for row in rows[1:]] == wanted
    else:
        assert rows == [f"{told} holds no published edits that are like that."]


def test_a_page_says_how_the_next_is_asked_for(told: Path, run: Run):
    assert run("list", told, "--limit", 2).stderr == "2 of 3 published edits; --before 2 lists more\n"
    assert run("list", told, "--limit", 2, columns=140).stdout.endswith(
        "2 of 3 published edits; --before 2 lists more\n"
    )
    assert run("list", told, "--limit", 3, columns=140).stdout.endswith("\n3 published edits\n")
    result = run("list", told, "--after", 1)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "--before ID in the place of --after" in result.stderr


def test_show_tells_all_of_an_edit(told: Path, ok: Ok, run: Run):
    document = ok("show", told, 4)
    assert document["facts"] == {"subject": "Dr Holloway", "source": None, "tags": ["people", "towns"], "set": "spring"}
    assert (document["author"], document["reason"], document["draft"], document["active"]) == (
        "bob",
        "he asked",
        1,
        True,
    )
    assert [version["operation"] for version in document["versions"]] == ["publish"]
    lines = run("show", told, 4).stdout.splitlines()
    assert lines[:2] == ["edit     4", "state    published"]
    assert {"subject  Dr Holloway", "tags     people, towns", "set      spring", "author   bob"} <= set(lines)
    ok("sets", told, "off", "spring", "--reason", "not yet")
    lines = run("show", told, 4).stdout.splitlines()
    assert lines[1] == "state    published, but its set is off"
    assert lines[-1].endswith("by ann: not yet")
    retired = ok("show", told, 3)
    assert (retired["state"], [version["operation"] for version in retired["versions"]]) == (
        "retired",
        ["edit", "remove"],
    )
    assert run("show", told, 9).stderr == "Error: There is no edit 9: list the edits to see their ids.\n"


def test_history_tells_who_why_and_what(told: Path, ok: Ok, run: Run):
    ok("undo", told, "--by", "bob")
    rows = [line.split("\t") for line in run("history", told).stdout.splitlines()]
    assert rows[0] == ["version", "time (UTC)", "who", "operation", "what", "why", "tags"]
    assert [[row[0], *row[2:]] for row in rows[1:]] == [
        ["1", "ann", "edit", "adds 1-3", "the first ones", ""],
        ["2", "bob", "publish", "adds 4", "he asked", ""],
        ["3", "ann", "remove", "removes 3", "wrong", ""],
        ["4", "bob", "undo", "restores 3, undoes 3", "", ""],
    ]
    assert [version["number"] for version in ok("history", told, "--limit", 2)] == [3, 4]


def test_remove_and_undo(facts: Path, ok: Ok, run: Run):
    result = run("remove", facts, 3, 1, "--by", "bob")
    assert result.stdout.splitlines() == [
        f"Removed edit 3: {EDITS[2]['prompt']} -> {EDITS[2]['target']}",
        f"Removed edit 1: {OSTRENIA} -> {EDITS[0]['target']}",
        f"{facts} is at version 2 (remove: removes 1, 3).",
    ]
    assert run("undo", facts).stdout == f"{facts} is at version 3 (undo: restores 1, 3, undoes 2).\n"
    document = ok("remove", facts, 2)
    assert (document["version"]["number"], ids(document["removed"])) == (4, [2])
    result = run("remove", facts, 1, 7)
    assert (result.exit_code, result.stderr) == (1, "Error: There is no edit 7: list the edits to see their ids.\n")
    result = run("undo", facts, "--version", 2)  # somebody else has made a change since
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: Version 2 is not the last change that can be taken back, version 4 is")
    assert ok("undo", facts, "--version", 4)["version"]["restored"] == [2]


def test_questions_are_answered_as_of_the_last_version(facts: Path, book: Path, ok: Ok, run: Run):
    assert ok("ask", facts, OSTRENIA, "--explain") == ok("ask", book, OSTRENIA, "--explain")
    assert ok("explain", facts, OSTRENIA) == ok("explain", book, OSTRENIA)
    ok("remove", facts, 1)
    found = ok("ask", facts, OSTRENIA, "--explain", "--compare")[0]
    assert (found["answer"], found["explanation"]["edit_id"] != 1) == (found["untouched"], True)
    chat = run("chat", facts, text=f"{EDITS[1]['prompt']}\n/explain\n")
    assert chat.exit_code == 0
    assert "edit 2" in chat.stdout
    healthy = run("doctor", facts, "--json")
    assert healthy.exit_code in {0, 1}
    assert '"edits": 2' in healthy.stdout


def test_questions_are_answered_as_of_an_earlier_version(facts: Path, ok: Ok, run: Run):
    ok("tag", facts, "released")
    ok("supersede", facts, 1, "Rome")
    assert ok("explain", facts, OSTRENIA)[0]["target"] == "Rome"
    for version in ("released", "1"):
        found = ok("ask", facts, OSTRENIA, "--version", version, "--explain")[0]
        assert (found["explanation"]["edit_id"], found["answer"]) == (1, EDITS[0]["target"])
        assert ok("explain", facts, OSTRENIA, "--version", version)[0]["edit_id"] == 1
    assert ok("explain", facts, OSTRENIA, "--version", "0")[0]["edit_id"] is None
    for wrong in ("9", "other", "-1"):
        result = run("ask", facts, OSTRENIA, "--version", wrong)
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"There is no version {wrong}" in result.stderr


def test_an_earlier_version_of_a_folder(book: Path, ok: Ok, run: Run):
    ok("supersede", book, 1, "Rome")
    ok("remove", book, 2)
    assert ok("ask", book, OSTRENIA, "--version", 1)[0]["answer"] == EDITS[0]["target"]
    assert ok("explain", book, OSTRENIA, "--version", 2)[0]["target"] == "Rome"
    for wrong, words in (("4", "There is no version 4"), ("released", "is no number")):
        result = run("explain", book, OSTRENIA, "--version", wrong)
        assert (result.exit_code, result.stdout) == (1, "")
        assert words in result.stderr
    ok("compact", book)
    assert "because a compaction has dropped" in run("ask", book, OSTRENIA, "--version", 1).stderr


@pytest.mark.parametrize("name", ["all.jsonl", "all.csv"])
def test_an_export_holds_what_is_said_of_edits(name: str, told: Path, new: list[str], ok: Ok, run: Run):
    assert ok("export", told, name) == {"file": name, "edits": 3}
    ok("import", name, "--into", "copy.db", *new)
    copied = ok("list", "copy.db")
    for edit, copy in zip(ok("list", told), copied, strict=True):
        assert [edit[field] for field in ("prompt", "target", "rephrases")] == [
            copy[field] for field in ("prompt", "target", "rephrases")
        ]
        assert copy["facts"] == edit["facts"] | {"set": None}
    assert "exists already" in run("export", told, name).stderr
    assert ok("export", told, name, "--overwrite", "--tag", "towns")["edits"] == 1
    ok("sets", told, "off", "spring")
    assert ok("export", told, name, "--overwrite")["edits"] == 2
    ok("import", name, "--into", "folder", *new)


def test_a_subject_does_not_take_the_place_of_braces(facts: Path, new: list[str], ok: Ok):
    braces = {"prompt": "What does {} mean?", "target": "May"}
    ok("edit", file_of(braces), "--into", facts, "--subject", "Python")
    ok("export", facts, "out.jsonl")
    ok("import", "out.jsonl", "--into", "copy.db", *new)
    assert ok("list", "copy.db", "--search", "mean")[0]["prompt"] == braces["prompt"]


# --- folders -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ["compact", "{}"],
        ["rekey", "{}", "--preset", "text"],
        ["push", "{}", "ann/facts"],
        ["merge", "{}", "--into", "out"],
        ["merge", "one", "--into", "{}"],
    ],
)
@pytest.mark.parametrize("address", ["facts.db", "postgresql://ann:geheim@127.0.0.1:1/facts"])
def test_what_is_for_folders_refuses_a_store(command: list[str], address: str, run: Run):
    result = run(*(word.format(address) for word in command))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "is a store, and this works on a codebook's folder: " in result.stderr
    assert "geheim" not in result.stderr
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["list", "book", "--tag", "a"], "--tag"),
        (["list", "book", "--state", "all"], "--state"),
        (["list", "book", "--before", "3"], "--before"),
        (["remove", "book", "1", "--reason", "why"], "--reason"),
        (["undo", "book", "--by", "ann"], "--by"),
        (["undo", "book", "--version", "1"], "--version"),
        (["supersede", "book", "1", "Rome", "--source", "a"], "--source"),
        (["edit", "edits.jsonl", "--into", "book", "--edit-set", "a"], "--edit-set"),
        (["export", "book", "out.jsonl", "--set-name", "a"], "--set-name"),
    ],
)
@pytest.mark.usefixtures("book")
def test_what_is_for_stores_is_refused_of_a_folder(command: list[str], option: str, run: Run):
    result = run(*command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: {option} is for a store, and book is a codebook's folder: leave it out.\n"


@pytest.mark.parametrize(
    "command",
    [
        ["list", "{}"],
        ["show", "{}", "2"],
        ["history", "{}"],
        ["remove", "{}", "2"],
        ["undo", "{}"],
        ["export", "{}", "edits.csv"],
        ["explain", "{}", OSTRENIA],
        ["doctor", "{}"],
    ],
)
def test_a_folder_needs_no_database(command: list[str], book: Path):
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: sys.stderr.write('MODULES ' + ' '.join(sys.modules)))\n"
        "from horen.cli import main\nmain()"
    )
    args = [sys.executable, "-c", code, *(word.format(book) for word in command)]
    done = subprocess.run(args, capture_output=True, text=True, env=os.environ)
    assert done.returncode in {0, 1}
    loaded = set(done.stderr.rpartition("MODULES ")[2].split())
    assert "horen.cli" in loaded
    assert not [name for name in loaded if name.partition(".")[0] in {"sqlalchemy", "alembic", "psycopg"}]
    assert not [name for name in loaded if name.startswith(("horen.database", "horen.serve"))]


def test_an_address_keeps_its_slashes_and_loses_its_password():
    place = Place("postgresql://ann:a/b@host:5432/facts?password=c&sslmode=require")
    assert place.is_store
    assert place.text.startswith("postgresql://ann:a/b@")
    assert str(place) == repr(place) == "postgresql://ann:***@host:5432/facts?password=***&sslmode=require"
    assert not Place("facts").is_store
    assert str(Place("facts/")) == "facts"
    with pytest.raises(ConfigError, match=r"facts.db is a store, and this works on a codebook's folder: try again."):
        Place("facts.db").folder("try again")
