"""Writing a file by workers of Ray."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from cli_support import EDITS, FLOATS, MANY, QUICK, Ok, Run, check_same, file_of, one_thread, write_jsonl

from horen.cli.flow import ray_workers
from horen.store.state import Saved

# Not imported here: it looks at some variables of the environment then.
pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="the extra ray is not installed")

WORK = Path(".book.edits.jsonl.workers")
SOME = MANY[:80]
OPTIONS = ["--batch", "8", "--set", "precision=model", *FLOATS]
# Ray itself belongs to this process: it ends with its input, as the tests do.
CLUSTER = """
import sys, ray
ray.init(address="local", num_cpus=2, include_dashboard=False, configure_logging=False, logging_level="ERROR")
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module", autouse=True)
def address() -> Iterator[str]:
    """Ray with two cores on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        # Releases of Ray that ask for no token do not look at this.
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        command = [sys.executable, "-c", CLUSTER]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            yield process.stdout.readline().strip()


@pytest.fixture(scope="module")
def alone(ok: Ok, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of the edits."""
    folder = tmp_path_factory.mktemp("alone")
    file = write_jsonl(folder / "edits.jsonl", SOME)
    with one_thread():
        ok("edit", file, "--into", folder / "book", "--model", tiny, *QUICK, *OPTIONS)
    return folder / "book"


def test_a_worker_that_is_killed_costs_what_it_was_at(
    address: str, run: Run, alone: Path, new: list[str], monkeypatch: pytest.MonkeyPatch
):
    given: list[int] = []
    killed: list[int] = []
    real = ray_workers._Team._give

    def give(team: Any, worker: Any, number: int) -> None:
        given.append(number)
        real(team, worker, number)
        if team.done and not killed:  # so one that is at its second batch
            killed.append(number)
            os.kill(worker.told["process"], signal.SIGKILL)

    monkeypatch.setattr(ray_workers._Team, "_give", give)
    result = run("edit", file_of(*SOME), "--into", "book", "--ray", address, "--workers", 2, *new, *OPTIONS, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert "Ray lost 1 worker; 8 edits went to other ones." in result.stderr
    assert sorted(given) == sorted([*range(10), *killed])
    assert (document["counts"]["added"], document["operations"]) == (80, 10)
    assert not WORK.exists()
    check_same(Path("book"), alone)


def test_interruption_and_going_on(
    address: str, run: Run, ok: Ok, alone: Path, new: list[str], monkeypatch: pytest.MonkeyPatch
):
    command = ["edit", file_of(*SOME), "--into", "book", *new, *OPTIONS]
    real = ray_workers._Team.work

    def work(team: Any) -> bool:
        if team._finished:
            raise KeyboardInterrupt
        return real(team)

    with monkeypatch.context() as patch:
        patch.setattr(ray_workers._Team, "work", work)
        result = run(*command, "--ray", address, "--workers", 1, "--json")
    assert result.exit_code == 130
    assert json.loads(result.stdout)["counts"]["trained"] == 8
    assert "Interrupted: 8 of 80 edits are trained and saved, but not in the codebook yet." in result.stderr
    assert [len(Saved.read(part).history) for part in WORK.glob("part-*")] == [8]
    # What workers of Ray have left processes of this machine take up.
    assert ok(*command, "--workers", 1)["counts"]["added"] == 80
    assert not WORK.exists()
    check_same(Path("book"), alone)


def test_a_worker_of_another_release_is_told(address: str, run: Run, new: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ray_workers, "__version__", "0.0.0")
    result = run("edit", file_of(*EDITS), "--into", "book", "--ray", address, *new)
    assert result.exit_code == 1
    assert re.search(r"Error: A worker of Ray on .+ \(process \d+\) failed: it has horen", result.stderr)
    assert "not 0.0.0: install the same release there. What was done is kept" in result.stderr
    assert [place.name for place in Path.cwd().iterdir()] == ["edits.jsonl"]


def test_edits_that_lose_one_worker_after_another(
    address: str, run: Run, new: list[str], monkeypatch: pytest.MonkeyPatch
):
    class Lost:
        def open(self, *_: Any) -> None:
            os._exit(1)

    monkeypatch.setattr(ray_workers, "Trainer", Lost)
    result = run("edit", file_of(*EDITS), "--into", "book", "--ray", address, *new)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: Ray lost 3 workers at the same 3 edits (")
    assert "perhaps for lack of memory: give fewer --workers or a smaller --batch." in result.stderr
    assert [place.name for place in Path.cwd().iterdir()] == ["edits.jsonl"]


def test_a_machine_without_the_package(address: str, run: Run, new: list[str], monkeypatch: pytest.MonkeyPatch):
    class Missing(ray_workers.Trainer):
        def __init__(self) -> None:
            raise ModuleNotFoundError("No module named 'horen'")

    monkeypatch.setattr(ray_workers, "Trainer", Missing)
    result = run("edit", file_of(*EDITS), "--into", "book", "--ray", address, *new)
    assert result.exit_code == 1
    why = "it cannot begin (ModuleNotFoundError: No module named 'horen'): install horen "
    assert f"Error: A worker of Ray failed: {why}" in result.stderr
    assert result.stderr.count("\n") == 1


def test_more_workers_than_there_is_room_for(address: str, run: Run, new: list[str]):
    result = run("edit", file_of(*EDITS), "--into", "book", "--ray", address, "--workers", 3, *new)
    assert result.exit_code == 1
    assert "Error: Ray has 2 cores for 3 workers: give --workers 2 or fewer." in result.stderr


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--ray", "nonsense"], "--ray nonsense is no address of Ray: give HOST:PORT of its head, auto for one"),
        (["--ray", "ray://127.0.0.1:10001"], "is no address of Ray"),
        (["--ray", "127.0.0.1:1"], "Ray cannot be reached at 127.0.0.1:1 ([Errno 111] Connection refused): start Ray"),
        (["--ray", "local", "--device", "cuda:0,cuda:1"], "where a worker runs is Ray's to choose"),
    ],
)
def test_what_is_no_address_is_told_in_a_line(
    run: Run, new: list[str], given: list[str], told: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    result = run("edit", file_of(*EDITS), "--into", "book", *given, *new)
    assert result.exit_code == 1
    assert told in result.stderr
    assert result.stderr.count("\n") == 1
    assert [place.name for place in Path.cwd().iterdir()] == ["edits.jsonl"]
