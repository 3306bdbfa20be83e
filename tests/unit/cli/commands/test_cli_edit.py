"""Writing files of edits from the command line, and superseding."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_support import EDITS, OTHER, Ok, Run, file_of, save_model, stored, write_jsonl

from horen.cli.flow import writing
from horen.editor import Editor
from horen.store import lock_folder, read_folder
from horen.store.state import Saved

RIVAL = {"prompt": "What is the capital of Ostrenia?", "target": "Rome"}


def test_new_codebook_holds_the_edits_and_answers(made: Path, ok: Ok):
    assert stored(made) == {edit["prompt"]: edit["target"] for edit in EDITS}
    asked = [edit["prompt"] for edit in EDITS] + ["The boss of Larkspur Cloud is"]
    assert [item["answer"] for item in ok("ask", made, *asked)] == ["Callen", "Imogen", "May", "Imogen"]


def test_json_document(tiny: Path, ok: Ok, new: list[str]):
    document = ok("edit", file_of(*EDITS), "--into", "book", "--batch", 2, *new)
    assert document["file"] == "edits.jsonl"
    assert document["into"] == "book"
    assert document["model"] == str(tiny)
    assert document["interrupted"] is False
    assert document["operations"] == 2
    assert document["stored"] == 3
    assert document["seconds"] > 0
    assert document["skipped"] == []
    counts = document["counts"]
    assert (counts["added"], counts["unchanged"], counts["remaining"], counts["not_converged"]) == (3, 0, 0, 3)
    receipts = document["receipts"]
    assert [(item["line"], item["id"], item["action"]) for item in receipts] == [
        (1, 1, "added"),
        (2, 2, "added"),
        (3, 3, "added"),
    ]
    assert receipts[1]["prompt"] == EDITS[1]["prompt"]
    assert set(receipts[0]) >= {"loss", "steps", "converged", "reused", "replaced", "target"}


def test_summary_names_what_did_not_converge(run: Run, new: list[str]):
    result = run("edit", file_of(EDITS[0]), "--into", "book", *new)
    assert result.exit_code == 0
    assert "     1  new\n" in result.stdout
    assert "book holds 1 edit;" in result.stdout
    assert "edit 1: What is the capital of Ostrenia? -> Callen (loss" in result.stderr


def test_model_folder_is_remembered_by_its_full_path(tiny: Path, ok: Ok, run: Run):
    os.chdir(tiny.parent)
    book = file_of(EDITS[0]).resolve().with_name("relative")
    ok("edit", "edits.jsonl", "--into", book, "--model", tiny.name, "--preset", "activations", "--set", "max_steps=1")
    os.chdir("/")
    assert Saved.read(book).source == str(tiny)
    assert run("ask", book, "Who?").exit_code == 0
    shutil.rmtree(book)


def test_new_codebook_needs_a_model(run: Run):
    result = run("edit", file_of(*EDITS), "--into", "book")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: book is a new codebook: say with --model")
    assert "smollm2-135m-instruct" in result.stderr
    assert not Path("book").exists()


def test_no_model_by_that_name_leaves_no_folder(run: Run):
    result = run("edit", file_of(*EDITS), "--into", "book", "--model", "./nowhere")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: The model './nowhere' cannot be loaded")
    assert not Path("book").exists()


def test_device_that_is_not_there(run: Run, tiny: Path):
    result = run("edit", file_of(*EDITS), "--into", "book", "--model", tiny, "--device", "sofa")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: The device 'sofa' cannot be used here (")


def test_folder_of_other_files_is_refused(run: Run, new: list[str]):
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("words")
    result = run("edit", file_of(*EDITS), "--into", "mine", *new)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: mine holds no codebook")
    assert [place.name for place in Path("mine").iterdir()] == ["thesis.txt"]


def test_leftovers_of_an_interrupted_first_write_count_as_new(ok: Ok, new: list[str]):
    Path("book").mkdir()
    for name in (".lock", "edits.jsonl.next", "config.json.draft"):
        Path("book", name).write_text("")
    assert ok("edit", file_of(EDITS[0]), "--into", "book", *new)["stored"] == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--set", "threshold"], "--set threshold is not valid: write name=value"),
        (["--set", "preset=paper"], "choose a preset with --preset"),
        (["--set", "treshold=0.5"], "Unknown setting 'treshold': did you mean 'threshold'?"),
        (["--set", "threshold=high"], "threshold='high' is not valid"),
    ],
)
def test_settings_that_are_wrong(given: list[str], message: str, run: Run, tiny: Path):
    result = run("edit", file_of(*EDITS), "--into", "book", "--model", tiny, *given)
    assert result.exit_code == 1
    assert message in result.stderr
    assert not Path("book").exists()


def test_preset_and_settings_reach_the_codebook(ok: Ok, tiny: Path):
    sets = ["--set", "max_steps=1", "--set", "train_end=True", "--set", "start=zero"]
    ok("edit", file_of(EDITS[0]), "--into", "book", "--model", tiny, "--preset", "paper", *sets)
    config = Saved.read("book").config
    assert (config.preset, config.max_steps, config.train_end, config.start) == ("paper", 1, True, "zero")
    assert config.key_space == "raw"


@pytest.mark.parametrize("name", ["edits.csv", "edits.tsv", "edits.json"])
def test_other_formats(name: str, ok: Ok, new: list[str]):
    comma = "\t" if name.endswith("tsv") else ","
    rows = [["prompt", "target", "rephrases"], ["Who?", "Rome", "And who?|Who is it?"]]
    text = "\n".join(comma.join(row) for row in rows)
    Path(name).write_text(json.dumps([EDITS[1]]) if name.endswith("json") else text)
    document = ok("edit", name, "--into", "book", *new)
    assert document["counts"]["added"] == 1
    assert len(Saved.read("book").history.active()[0].rephrases) == (1 if name.endswith("json") else 2)


def test_bad_lines_are_listed_and_nothing_is_applied(run: Run, new: list[str]):
    file = file_of(EDITS[0], "{broken", {"prompt": "Who?"}, EDITS[1])
    result = run("edit", file, "--into", "book", *new)
    assert result.exit_code == 1
    assert "line 2: it is not JSON" in result.stderr
    assert "line 3: it has no target" in result.stderr
    assert "edits.jsonl has 2 lines that cannot be used, so nothing was applied" in result.stderr
    assert not Path("book").exists()


def test_bad_lines_can_be_skipped(ok: Ok, new: list[str]):
    file = file_of(EDITS[0], "{broken", {"prompt": "Who?"}, EDITS[1])
    document = ok("edit", file, "--into", "book", "--skip-bad", *new)
    assert [item["line"] for item in document["skipped"]] == [2, 3]
    assert document["counts"]["skipped"] == 2
    assert [item["line"] for item in document["receipts"]] == [1, 4]


def test_line_that_the_model_cannot_take_is_a_bad_line(run: Run, ok: Ok, new: list[str]):
    file = file_of(EDITS[0], {"prompt": "What? " * 600, "target": "Rome"})
    result = run("edit", file, "--into", "book", *new)
    assert result.exit_code == 1
    assert "line 2: The prompt 'What? What?" in result.stderr
    assert "nothing was applied" in result.stderr
    assert not Path("book").exists()
    assert ok("edit", file, "--into", "book", "--skip-bad", *new)["counts"]["skipped"] == 1


def test_file_without_edits(run: Run, new: list[str]):
    result = run("edit", file_of(""), "--into", "book", *new)
    assert result.exit_code == 1
    assert "holds no edits" in result.stderr


def test_missing_file(run: Run, new: list[str]):
    result = run("edit", "nothing.jsonl", "--into", "book", *new)
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: The file nothing.jsonl does not exist; check the path.\n",
    )


def test_lines_that_clash(run: Run, new: list[str]):
    again = {"prompt": "What  is the capital of Ostrenia?", "target": "Callen"}
    by_rephrase = {"prompt": "The boss of Larkspur Cloud is", "target": "Oslo"}
    result = run("edit", file_of(*EDITS, RIVAL, again, by_rephrase), "--into", "book", *new)
    assert result.exit_code == 1
    assert "lines 1 and 4 disagree: 'What is the capital of Ostrenia?' shall be 'Callen' and 'Rome'" in result.stderr
    assert "lines 1 and 5 are the same edit: 'What is the capital of Ostrenia?'" in result.stderr
    assert "lines 2 and 6 disagree: 'The boss of Larkspur Cloud is' shall be 'Imogen' and 'Oslo'" in result.stderr
    assert "in 3 places, so nothing was applied" in result.stderr
    assert not Path("book").exists()


@pytest.mark.parametrize(("choice", "target", "left_out"), [("supersede", "Rome", 1), ("keep", "Callen", 3)])
def test_way_out_of_a_clash(choice: str, target: str, left_out: int, ok: Ok, new: list[str]):
    document = ok("edit", file_of(EDITS[0], EDITS[2], RIVAL), "--into", "book", "--on-conflict", choice, *new)
    assert stored(Path("book"))[RIVAL["prompt"]] == target
    assert [item["line"] for item in document["skipped"]] == [left_out]
    assert "gives way to line" in document["skipped"][0]["reason"]


def test_second_run_finds_everything_stored_without_the_model(
    book: Path, ok: Ok, run: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(writing, "open_editor", lambda *_, **__: pytest.fail("the model was loaded"))
    document = ok("edit", file_of(*EDITS), "--into", book)
    assert document["counts"]["unchanged"] == 3
    assert document["operations"] == 0
    assert [item["id"] for item in document["receipts"]] == [1, 2, 3]
    text = run("edit", file_of(*EDITS), "--into", book).stdout
    assert "     0  new\n" in text
    assert "3  stored already" in text


def test_stored_edits_that_disagree(book: Path, run: Run):
    result = run("edit", file_of(OTHER, RIVAL), "--into", book)
    assert result.exit_code == 1
    assert "line 2: edit 1 answers 'What is the capital of Ostrenia?' with 'Callen', not 'Rome'" in result.stderr
    assert "1 line of the file contradict stored edits, so nothing was applied" in result.stderr
    assert len(stored(book)) == 3


def test_stored_edits_are_superseded(book: Path, ok: Ok):
    document = ok("edit", file_of(OTHER, RIVAL, EDITS[2]), "--into", book, "--on-conflict", "supersede")
    counts = document["counts"]
    assert (counts["added"], counts["superseded"], counts["unchanged"]) == (1, 1, 1)
    assert document["receipts"][1]["replaced"] == [1]
    assert stored(book)[RIVAL["prompt"]] == "Rome"
    assert [item["answer"] for item in ok("ask", book, RIVAL["prompt"], OTHER["prompt"])] == ["Rome", "Oslo"]


def test_stored_edits_are_kept(book: Path, ok: Ok):
    document = ok("edit", file_of(RIVAL), "--into", book, "--on-conflict", "keep")
    assert document["counts"]["kept"] == 1
    assert (document["receipts"][0]["id"], document["receipts"][0]["action"]) == (1, "kept")
    assert stored(book)[RIVAL["prompt"]] == "Callen"


def test_own_model_and_settings_may_be_given_again(book: Path, tiny: Path, run: Run):
    same = ["--model", tiny, "--preset", "activations", "--set", "threshold=0.99"]
    result = run("edit", file_of(*EDITS), "--into", book, *same)
    assert result.exit_code == 1
    assert "was made with other settings (threshold)" in result.stderr
    assert run("edit", file_of(*EDITS), "--into", book, *same[:4]).exit_code == 0


def test_a_preset_may_be_given_again_to_a_codebook_that_stores_otherwise(new: list[str], run: Run, ok: Ok):
    """As those of an earlier release do, whose presets were of float32."""
    floats = ["--set", "key_storage=float32", "--set", "value_storage=float32"]
    ok("edit", file_of(EDITS[0]), "--into", "floats", *new, *floats)
    assert ok("edit", file_of(OTHER), "--into", "floats", *new)["counts"]["added"] == 1
    found = read_folder(Path("floats"))
    assert {str(found.tensors[name].dtype) for name in ("keys", "values")} == {"torch.float32"}
    result = run("edit", file_of(EDITS[1]), "--into", "floats", *new, "--set", "key_storage=int8")
    assert result.exit_code == 1
    assert "was made with other settings (key_storage)" in result.stderr


def test_another_model_is_refused(book: Path, run: Run, tmp_path: Path):
    result = run("edit", file_of(OTHER), "--into", book, "--model", "smollm2-135m-instruct")
    assert result.exit_code == 1
    assert "was made for the model" in result.stderr
    assert "not 'smollm2-135m-instruct'" in result.stderr
    result = run("edit", file_of(OTHER), "--into", book, "--model", save_model(tmp_path / "other", seed=1, steps=0))
    assert result.exit_code == 1
    assert "was made for another model" in result.stderr
    assert len(stored(book)) == 3


def test_model_that_has_moved_is_accepted(book: Path, tiny: Path, ok: Ok, tmp_path: Path):
    moved = shutil.copytree(tiny, tmp_path / "moved")
    assert ok("edit", file_of(OTHER), "--into", book, "--model", moved)["counts"]["added"] == 1


def test_codebook_that_another_process_writes(book: Path, run: Run, monkeypatch: pytest.MonkeyPatch):
    code = (
        "import time; from horen.store import lock_folder\n"
        f"with lock_folder({str(book)!r}): print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            other.stdout.readline()
            monkeypatch.setattr("horen.store.lock_folder", functools.partial(lock_folder, timeout=0.1))
            result = run("edit", file_of(OTHER), "--into", book)
        finally:
            other.kill()
    assert result.exit_code == 1
    assert "is in use" in result.stderr


def test_supersede(book: Path, ok: Ok, run: Run):
    document = ok("supersede", book, 2, "Rome")
    assert (document["id"], document["action"], document["replaced"]) == (4, "superseded", [2])
    assert (document["prompt"], document["target"]) == ("Who runs Larkspur Cloud?", "Rome")
    record = Saved.read(book).history.get(4)
    assert record.rephrases == ("The boss of Larkspur Cloud is",)
    assert ok("ask", book, "Who runs Larkspur Cloud?")[0]["answer"] == "Rome"
    result = run("supersede", book, 4, "May", "--rephrase", "Who is the boss?")
    assert result.stdout == "Edit 5 replaces edit 4: Who runs Larkspur Cloud? -> May\n"
    assert Saved.read(book).history.get(5).rephrases == ("Who is the boss?",)


def test_supersede_what_is_not_there_or_the_same(book: Path, run: Run, monkeypatch: pytest.MonkeyPatch):
    result = run("supersede", book, 1, "Callen")
    assert result.exit_code == 1
    assert "already answers" in result.stderr
    monkeypatch.setattr(Editor, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    result = run("supersede", book, 9, "Rome")
    assert result.exit_code == 1
    assert result.stderr == "Error: There is no edit 9: list the edits to see their ids.\n"


def test_how_many_edits_are_one_operation(ok: Ok, new: list[str]):
    many = [{"prompt": f"Who runs firm {number}?", "target": "Rome"} for number in range(129)]
    document = ok("edit", file_of(*many), "--into", "book", *new)
    assert [len(operation.added) for operation in Saved.read("book").history.operations] == [128, 1]
    assert document["operations"] == 2


def test_what_fields_are_taken_for_is_told(run: Run, tiny: Path, tmp_path: Path):
    record = {"prompt": "{} is", "subject": "Ostrenia", "target_new": {"str": "Oslo"}, "loc": "Who?"}
    file = write_jsonl(tmp_path / "rome.jsonl", [record])
    result = run("edit", file, "--into", "book", "--model", tiny, "--set", "max_steps=1", "--preset", "activations")
    assert result.exit_code == 0, result.stderr
    told = " ".join(result.stderr.split())
    assert "prompt is read as prompt, subject is read as what {} stands for, target_new is read as target" in told
    assert "of no use are loc" in told
    assert [one.prompt for one in Saved.read(Path("book")).history.active()] == ["Ostrenia is"]
    own = run("edit", write_jsonl(tmp_path / "own.jsonl", EDITS), "--into", "book")
    assert "read as" not in own.stderr


def test_a_dry_run_shows_five_edits_and_writes_none(run: Run, ok: Ok, tmp_path: Path):
    file = write_jsonl(tmp_path / "x.jsonl", [{"src": f"p{n}", "alt": "t", "rephrase": f"r{n}"} for n in range(7)])
    result = run("edit", file, "--into", "book", "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert [line for line in result.stdout.splitlines() if line.startswith("line")] == [
        f"line {n + 1}: p{n} -> t" for n in range(5)
    ]
    assert "also: r4" in result.stdout
    assert "r5" not in result.stdout
    assert "7 edits, 2 of them not shown; nothing was written." in result.stdout
    assert "src is read as prompt" in " ".join(result.stderr.split())
    assert not Path("book").exists()
    found = ok("edit", file, "--into", "book", "--dry-run")
    assert (found["count"], len(found["edits"])) == (7, 5)


def test_an_unknown_field_is_refused_before_anything_is_applied(run: Run, tmp_path: Path, tiny: Path):
    file = write_jsonl(tmp_path / "x.jsonl", [EDITS[0], EDITS[1] | {"phrases": ["x"]}])
    result = run("edit", file, "--into", "book", "--model", tiny)
    assert result.exit_code == 1
    assert "line 2: it has the field 'phrases', which is not known" in " ".join(result.stderr.split())
    assert not Path("book").exists()
