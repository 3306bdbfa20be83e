"""horen compact."""

from __future__ import annotations

from pathlib import Path

from cli_support import EDITS, Ok, Run, stored

from horen.store import read_folder


def test_what_is_asleep_goes_and_the_rest_answers(book: Path, run: Run, ok: Ok):
    ok("remove", book, 2, 3)
    size = (book / "codebook.safetensors").stat().st_size
    told = ok("ask", book, EDITS[0]["prompt"], "--explain")[0]
    assert "75% of the entries are asleep: horen compact drops them" in run("doctor", book).stdout
    found = ok("compact", book)
    assert {name: found[name] for name in ("edits", "entries", "values")} == {
        "edits": [2, 3],
        "entries": 3,
        "values": 2,
    }
    assert size - (book / "codebook.safetensors").stat().st_size >= found["freed"] > 0
    assert len(read_folder(book).tensors["keys"]) == 1
    assert ok("ask", book, EDITS[0]["prompt"], "--explain")[0] == told
    assert stored(book) == {EDITS[0]["prompt"]: EDITS[0]["target"]}
    assert "asleep" not in run("doctor", book).stdout


def test_what_is_printed(book: Path, run: Run, ok: Ok):
    ok("remove", book, 1)
    assert run("compact", book).stdout == (
        f"{book}: dropped 1 entry and 1 value of 1 edit (1), 328 bytes. What came before can no longer be undone.\n"
    )
    assert run("compact", book).stdout == f"{book}: all edits with entries are active, so nothing was changed.\n"


def test_history_lists_it_and_undo_ends_there(book: Path, run: Run, ok: Ok):
    ok("remove", book, 2)
    ok("compact", book)
    last = ok("history", book)[-1]
    assert (last["operation"], last["dropped"]) == ("compact", [2])
    assert ok("history", book)[0]["added"][1]["prompt"] == EDITS[1]["prompt"]
    assert run("history", book, columns=100).stdout.splitlines()[-1].split()[-3:] == ["compact", "drops", "2"]
    result = run("undo", book)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: There is nothing to undo since operation 3, which compacted the codebook")
    assert "a compaction has dropped its entries" in run("show", book, 2).stderr


def test_a_folder_that_is_none(tmp_path: Path, run: Run):
    result = run("compact", tmp_path / "nothing")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "does not exist" in result.stderr
    assert not (tmp_path / "nothing").exists()
