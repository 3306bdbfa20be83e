"""Writing a file by several processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_support import EDITS, FLOATS, MANY, OTHER, Ok, Run, check_same, file_of, interrupt_at, stored

from horen.cli.flow import crew, processes
from horen.store import read_folder
from horen.store.state import Saved

WORK = Path(".book.edits.jsonl.workers")


@contextmanager
def interrupted_by_progress() -> Iterator[None]:
    """Ctrl-C in the process that started the others, as soon as one of them has done something."""
    real = processes.edit_bar

    @contextmanager
    def edit_bar(total: int) -> Iterator[Callable[[int], None]]:
        with real(total):

            def show(done: int) -> None:
                if done > 4:  # with batches of two one worker at least has written one
                    raise KeyboardInterrupt

            yield show

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "edit_bar", edit_bar)
        patch.setattr(processes, "_SECONDS_BETWEEN_LOOKS", 0.01)
        yield


def test_as_one_process_would(ok: Ok, tiny: Path):
    # Few steps: what rounding makes of one that does not converge grows with each.
    options = ["--model", tiny, "--batch", 3, "--set", "precision=model", "--set", "max_steps=3", *FLOATS]
    file = file_of(*EDITS, OTHER, {"prompt": "In which town is Dr. Holloway?", "target": "Oslo"})
    document = ok("edit", file, "--into", "book", "--workers", 2, *options)
    assert (document["counts"]["added"], document["stored"], document["operations"]) == (5, 5, 2)
    assert [item["line"] for item in document["receipts"]] == [1, 2, 3, 4, 5]
    assert not WORK.exists()
    ok("edit", file, "--into", "alone", *options)
    check_same(Path("book"), Path("alone"))
    assert {part.name for part in Path.cwd().iterdir()} == {"edits.jsonl", "book", "alone"}


def test_values_in_fewer_bytes(ok: Ok, new: list[str]):
    file, options = file_of(*EDITS, OTHER), [*new, "--set", "precision=model", "--set", "value_storage=int8"]
    ok("edit", file, "--into", "book", "--workers", 2, *options)
    ok("edit", file, "--into", "alone", *options)
    one, two = (Saved.read(Path(name)) for name in ("book", "alone"))
    assert one.config == two.config
    found, expected = (saved.values(saved.folder.tensors) for saved in (one, two))
    assert (found.numbers.dtype, found.scales.shape) == (torch.int8, (4, 1))
    step = float(expected.scales.max())
    torch.testing.assert_close(found.floats(), expected.floats(), rtol=0.01, atol=1.01 * step)


def test_into_a_codebook_that_holds_edits(book: Path, ok: Ok):
    key_space = read_folder(book).tensors["key_space.map"]
    rival = {"prompt": "What is the capital of Ostrenia?", "target": "Rome"}
    options = ["--workers", 2, "--on-conflict", "supersede"]
    document = ok("edit", file_of(EDITS[1], rival, OTHER), "--into", book, *options)
    assert [item["action"] for item in document["receipts"]] == ["unchanged", "superseded", "added"]
    assert stored(book)[rival["prompt"]] == "Rome"
    assert torch.equal(read_folder(book).tensors["key_space.map"], key_space)
    assert ok("edit", file_of(EDITS[1], rival, OTHER), "--into", book, *options)["counts"]["unchanged"] == 3


def test_interruption_and_going_on(run: Run, ok: Ok, new: list[str], monkeypatch: pytest.MonkeyPatch):
    file = file_of(*MANY)
    new += ["--set", "precision=model"]
    command = ["edit", file, "--into", "book", "--batch", 2, *new, *FLOATS]
    with interrupted_by_progress():
        result = run(*command, "--workers", 2, "--json")
    assert result.exit_code == 130
    counts = json.loads(result.stdout)["counts"]
    assert (counts["added"], counts["remaining"]) == (0, 200)
    assert 0 < counts["trained"] < 200
    assert f"Interrupted: {counts['trained']} of 200 edits are trained and saved, but not in the codebook yet." in (
        result.stderr
    )
    assert not Path("book").exists()
    assert sum(len(Saved.read(part).history) for part in WORK.glob("part-*")) == counts["trained"]

    shares: list[int] = []
    real = processes.Processes._start

    def start(self: Any, place: Any, number: int, share: Sequence[Any], count: int) -> Any:
        shares.append(len(share))
        return real(self, place, number, share, count)

    monkeypatch.setattr(processes.Processes, "_start", start)
    assert ok(*command)["counts"]["added"] == 200  # also without --workers
    assert shares == [200 - counts["trained"]]
    assert not WORK.exists()
    ok("edit", file, "--into", "alone", *new, *FLOATS)
    check_same(Path("book"), Path("alone"))


def test_interruption_while_merging(run: Run, ok: Ok, new: list[str], monkeypatch: pytest.MonkeyPatch):
    for part, edits in (("part-2", EDITS[:2]), ("part-7", [EDITS[2], OTHER])):
        ok("edit", file_of(*edits), "--into", WORK / part, *new)
    monkeypatch.setattr(processes.Processes, "_start", lambda *_: pytest.fail("nothing was left to train"))
    command = ["edit", file_of(*EDITS, OTHER), "--into", "book", "--batch", 1, "--workers", 2, *new]
    with monkeypatch.context() as patch:
        interrupt_at(2, patch)
        result = run(*command)
    assert result.exit_code == 130
    assert "Interrupted: 1 of 4 edits are done and saved." in result.stderr
    assert ok(*command)["counts"]["added"] == 3
    assert list(stored(Path("book"))) == [edit["prompt"] for edit in [*EDITS, OTHER]]
    assert not WORK.exists()
    WORK.mkdir()  # as a kill right before the end would leave it
    assert ok(*command)["counts"]["unchanged"] == 4
    assert not WORK.exists()


def test_nothing_done_leaves_nothing(run: Run, new: list[str], monkeypatch: pytest.MonkeyPatch):
    def look(*_: Any) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(processes.Processes, "_look", look)
    result = run("edit", file_of(*EDITS), "--into", "book", "--workers", 2, *new)
    assert result.exit_code == 130
    assert "no edits were done" in result.stderr
    assert [place.name for place in Path.cwd().iterdir()] == ["edits.jsonl"]


def test_a_worker_that_fails_stops_the_others(run: Run, new: list[str]):
    result = run("edit", file_of(*MANY), "--into", "book", "--batch", 1, "--device", "cpu,sofa", *new)
    assert result.exit_code == 1
    assert "Worker 2 of 2 failed: The device 'sofa' cannot be used here" in result.stderr
    assert "the same command continues" in result.stderr
    assert not Path("book").exists()


def test_parts_of_other_settings_are_refused(run: Run, ok: Ok, new: list[str]):
    file = file_of(*EDITS)
    ok("edit", file, "--into", WORK / "part-1", *new)
    result = run("edit", file, "--into", "book", "--workers", 2, *new, "--set", "learning_rate=0.123")
    assert result.exit_code == 1
    assert "learning_rate" in result.stderr
    assert f"{WORK.resolve()} is what an interrupted run with --workers or --ray has left" in result.stderr
    assert len(stored(WORK / "part-1")) == 3


def test_one_worker_is_the_program_itself(ok: Ok, new: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processes.Processes, "_start", lambda *_: pytest.fail("a worker was started"))
    options = ["--workers", 1, "--device", "cpu,sofa"]
    assert ok("edit", file_of(*EDITS), "--into", "book", *options, *new)["counts"]["added"] == 3


def test_a_worker_stops_when_its_input_ends(new: list[str]):
    """So none is left when the process that started it is killed; interrupts that a background job ignores count."""
    file = file_of(*[{"prompt": f"Who runs firm {number}?", "target": "Rome"} for number in range(2000)])
    code = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nfrom horen.cli.worker import run\nrun()"
    command = [sys.executable, "-c", code, "done", "edit", str(file), "--into", "book", "--batch", "1", *new]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stderr is not None
    while not (Path("done").exists() and int(Path("done").read_text() or 0) > 1):
        assert process.poll() is None
    process.stdin.close()
    told = process.stderr.read().decode()
    assert process.wait() == 130
    assert "edits are done and saved" in told
    assert "Traceback" not in told
    assert 0 < len(stored(Path("book"))) < 2000


def test_workers_of_ray_without_ray(run: Run, new: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    result = run("edit", file_of(*EDITS), "--into", "book", "--ray", "auto", *new)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: Editing on Ray needs the package ray, which cannot be imported (")
    assert result.stderr.endswith("): pip install 'horen[ray]', or leave --ray out.\n")


def test_cores_are_shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    show = [sys.executable, "-c", "import os; print(os.environ['OMP_NUM_THREADS'])"]
    for given, count, expected in (("8", 3, "2"), ("1", 4, "1")):
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        with (tmp_path / "log").open("wb") as log:
            assert processes._start(show, log, count).wait() == 0
        assert (tmp_path / "log").read_text().strip() == expected
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert 1 <= processes._cores() <= (os.cpu_count() or 1)


def test_what_a_worker_died_of(tmp_path: Path):
    log = tmp_path / "log"
    assert "killed by signal 9" in processes.why_ended(-9, log)
    for said, why in (
        ("Loading\nError: no room.\nlater\n", "no room."),
        ("Loading\nSegmentation fault\n", "Segmentation fault"),
        ("", "it said nothing."),
    ):
        log.write_text(said)
        assert processes.why_ended(1, log) == why


@pytest.mark.parametrize(("edits", "count", "sizes"), [(5, 2, [2, 3]), (3, 8, [1, 1, 1]), (7, 3, [2, 2, 3])])
def test_shares_are_runs_of_like_length(edits: int, count: int, sizes: list[int]):
    given: Any = list(range(edits))
    shares = crew.shared_out(given, count)
    assert [len(share) for share in shares] == sizes
    assert [edit for share in shares for edit in share] == given
