"""Training by workers of Ray, each of which holds the model and is given a batch of edits at a time.

What crosses is plain: edits as text, parts and what is new in them as bytes. A worker that is lost costs the batch that
it was at, which another one is given.
"""

from __future__ import annotations

import math
import os
import socket
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from horen._version import __version__
from horen.cli.flow.applying import uninterrupted
from horen.cli.flow.crew import KEPT, Place, shared_out
from horen.cli.flow.trainer import Loading, Told, Trainer, as_plain
from horen.cli.terminal import counted, edit_bar, say, status
from horen.editfiles.records import FileRecord
from horen.errors import ConfigError, EditError
from horen.extras import need

if TYPE_CHECKING:
    from horen.store.increments import Copy
    from horen.store.state import Saved

_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_TO_REACH = 5.0
_SECONDS_TO_CLOSE = 5.0
# So many workers lost at the same edits are not lost by chance.
_TRIES = 3
_LOCAL, _RUNNING = "local", "auto"
_ACCELERATOR = "cuda"
_NOBODY = f"start Ray on that machine with ray start --head, or give --ray {_LOCAL} for one of its own."
_NOT_TAKEN = (
    "this machine must be one of its cluster, with the same release of Ray and of Python; where it asks for a token, "
    "set RAY_AUTH_MODE=token."
)


@dataclass(frozen=True)
class RayWorkers:
    """Workers of Ray that train edits; a :class:`horen.cli.flow.crew.Staff`.

    Attributes:
        address: of Ray: HOST:PORT, "auto" for one that runs on this machine, "local" for one that is begun for this.
        count: how many there are; None for one a machine, or one an accelerator where they run on these.
        batch: edits that one is given at a time, at most.
        loading: how each loads the model.
    """

    address: str
    count: int | None
    batch: int
    loading: Loading

    def train(self, edits: Sequence[FileRecord], place: Place, begun: Saved, done: int) -> None:
        """Train edits; see :meth:`horen.cli.flow.crew.Staff.train`."""
        ray = _ray()
        total = done + len(edits)
        with connected(ray, self.address):
            team = self._team(ray, edits, place, begun)
            try:
                with edit_bar(total) as bar:
                    while team.work():
                        bar(done + team.done)
                    bar(total)
            finally:
                with uninterrupted(), status("Stopping the workers …"):
                    team.end()
        if team.lost:
            say(f"Ray lost {counted(team.lost, 'worker')}; {counted(team.repeated, 'edit')} went to other ones.")

    def _team(self, ray: Any, edits: Sequence[FileRecord], place: Place, begun: Saved) -> _Team:
        from horen.editing.merge import begin  # noqa: PLC0415
        from horen.store.increments import files_of  # noqa: PLC0415

        accelerated = self.loading["device"] == _ACCELERATOR
        count, cores = room([node["Resources"] for node in ray.nodes() if node["Alive"]], self.count, accelerated)
        batches = shared_out(edits, max(count, math.ceil(len(edits) / self.batch)))
        with status("Preparing …"):
            begin(begun, place.path / "begun")
            files = ray.put(files_of(place.path / "begun"))
        # A second thread tells how far the first one is.
        kind = ray.remote(max_concurrency=2, num_cpus=cores, num_gpus=int(accelerated), scheduling_strategy="SPREAD")
        return _Team(ray, kind(Trainer), (__version__, files, self.loading), batches, count, place, begun)


@dataclass
class _Worker:
    """A worker and what it is at.

    Attributes:
        actor: Ray's handle of it.
        part: where its work is kept.
        batch: the number of the edits that it is given; None when there are no more.
        task: what it is asked to do.
        told: what it answered last; None until it has loaded the model.
        seen: how many of its edits were done when it last told.
        asked: the question how many there are, which it has still to answer.
    """

    actor: Any
    part: Copy
    batch: int | None
    task: Any
    told: Told | None = None
    seen: int = 0
    asked: Any = None


class _Team:
    """Workers that share out edits among themselves.

    Args:
        ray: the module.
        kind: the workers' class, as Ray has it.
        opening: what each is told first.
        batches: edits that one is given at a time.
        count: how many workers there are, at most.
        place: of their parts.
        begun: what the parts begin with.

    Attributes:
        lost: workers that were lost.
        repeated: edits that they were at.
    """

    def __init__(
        self,
        ray: Any,
        kind: Any,
        opening: tuple[Any, ...],
        batches: Sequence[Sequence[FileRecord]],
        count: int,
        place: Place,
        begun: Saved,
    ) -> None:
        self._ray, self._kind, self._opening = ray, kind, opening
        self._batches, self._tries = batches, [0] * len(batches)
        self._waiting, self._finished = deque(range(len(batches))), 0
        self._count, self._place, self._begun = count, place, begun
        self._workers: list[_Worker] = []
        self.lost = self.repeated = 0

    @property
    def done(self) -> int:
        """How many edits are done."""
        return self._finished + sum(worker.seen for worker in self._workers)

    def work(self) -> bool:
        """Give out edits and take in what was made of them for a moment; return whether there is more to do.

        Raises:
            EditError: when a worker fails, or some edits lose one worker after another.
        """
        idle = [worker for worker in self._workers if worker.batch is None]
        while self._waiting and (idle or len(self._workers) < self._count):
            number = self._waiting.popleft()
            if idle:
                self._give(idle.pop(), number)
            else:
                self._workers.append(self._hired(number))
        tasks = {worker.task: worker for worker in self._workers if worker.batch is not None}
        if not tasks:
            return False
        ready, _ = self._ray.wait(list(tasks), timeout=_SECONDS_BETWEEN_LOOKS)
        for task in ready:
            self._take(tasks[task])
        for worker in self._workers:
            self._look(worker)
        return True

    def end(self) -> None:
        """Let every worker go, with what it is at."""
        closing = [worker.actor.close.remote() for worker in self._workers]
        with suppress(self._ray.exceptions.RayError):
            self._ray.wait(closing, num_returns=len(closing), timeout=_SECONDS_TO_CLOSE)
        for worker in self._workers:
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(worker.actor)

    def _hired(self, number: int) -> _Worker:
        """Return a further worker, which loads the model first."""
        from horen.editing.merge import begin  # noqa: PLC0415
        from horen.store.increments import Copy  # noqa: PLC0415

        path = self._place.part(self._place.next_number())
        begin(self._begun, path)
        actor = self._kind.remote()
        return _Worker(actor, Copy(path), number, actor.open.remote(*self._opening))

    def _give(self, worker: _Worker, number: int) -> None:
        worker.batch, worker.seen = number, 0
        worker.task = worker.actor.train.remote(as_plain(self._batches[number]))

    def _take(self, worker: _Worker) -> None:
        """Take what a worker has to tell of its task."""
        assert worker.batch is not None  # noqa: S101
        errors = self._ray.exceptions
        try:
            told = self._ray.get(worker.task)
        except errors.RayTaskError as error:
            raise self._failed(worker, f"{_last_line(error)}.") from error
        except errors.RayError as error:
            if getattr(error, "actor_init_failed", False):
                there = f"it cannot begin ({_last_line(error)}): install horen {__version__} on each machine."
                raise self._failed(worker, there) from error
            self._lose(worker, worker.batch, error)
            return
        opening, worker.told = worker.told is None, told
        if told["error"] is not None:
            raise self._failed(worker, told["error"])
        if opening:
            self._give(worker, worker.batch)
            return
        worker.part.add(told["result"])
        self._finished += len(self._batches[worker.batch])
        worker.batch, worker.seen = None, 0

    def _lose(self, worker: _Worker, number: int, error: Exception) -> None:
        self._workers.remove(worker)
        self._tries[number] += 1
        if self._tries[number] == _TRIES:
            raise EditError(
                f"Ray lost {_TRIES} workers at the same {counted(len(self._batches[number]), 'edit')} "
                f"({_last_line(error)}), perhaps for lack of memory: give fewer --workers or a smaller --batch. {KEPT}"
            ) from error
        self._waiting.appendleft(number)
        self.lost += 1
        if worker.told is not None:
            self.repeated += len(self._batches[number])

    def _look(self, worker: _Worker) -> None:
        """See how far a worker is, without waiting for it."""
        if worker.told is None or worker.batch is None:
            return
        if worker.asked is None:
            worker.asked = worker.actor.done.remote()
        elif self._ray.wait([worker.asked], timeout=0)[0]:
            with suppress(self._ray.exceptions.RayError):  # that it is gone shows in its task
                worker.seen = min(self._ray.get(worker.asked), len(self._batches[worker.batch]))
            worker.asked = None

    def _failed(self, worker: _Worker, why: str) -> EditError:
        at = worker.told
        where = "" if at is None else f" on {at['host']} (process {at['process']})"
        return EditError(f"A worker of Ray{where} failed: {why} {KEPT}")


def check_address(address: str) -> None:
    """Raise what would keep Ray from being reached, as far as that shows at once.

    Raises:
        ConfigError: for what is no address of Ray, and when nobody listens there.
        MissingExtraError: when Ray is not installed.
    """
    _ray()
    if address in (_LOCAL, _RUNNING):
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise ConfigError(
            f"--ray {address} is no address of Ray: give HOST:PORT of its head, {_RUNNING} for one that runs on this "
            f"machine, or {_LOCAL} for one of its own."
        )
    try:
        # Ray itself would try for minutes.
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_REACH).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"Ray cannot be reached at {address} ({_last_line(error)}): {_NOBODY}") from error


@contextmanager
def connected(ray: Any, address: str) -> Iterator[None]:
    """Be a program of Ray within the block.

    Raises:
        ConfigError: when Ray cannot be reached.
    """
    own = {"include_dashboard": False} if address == _LOCAL else {}
    try:
        with status("Connecting to Ray …"):
            ray.init(address=address, log_to_driver=False, configure_logging=False, logging_level="ERROR", **own)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".:") or type(error).__name__
        way = _NOBODY if address == _RUNNING else _NOT_TAKEN
        raise ConfigError(f"Ray at {address} cannot be used ({reason}): {way}") from error
    # Whatever is told of workers Ray prints among the results, though it was asked for no logs.
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        try:
            yield
        finally:
            ray.shutdown()


def room(nodes: Sequence[Mapping[str, float]], wanted: int | None, accelerated: bool) -> tuple[int, int]:
    """Return how many workers there will be, and how many cores each of them has.

    Args:
        nodes: what each machine has, as Ray tells it.
        wanted: how many were asked for; None for one a machine, or one an accelerator.
        accelerated: whether each needs an accelerator.

    Raises:
        ConfigError: when there is no room for so many.
    """
    if accelerated:
        there = sum(int(node.get("GPU", 0)) for node in nodes)
        if there >= (wanted or 1):
            return wanted or there, 1
        raise ConfigError(_no_room(there, "accelerator", wanted))
    cores = [int(node.get("CPU", 0)) for node in nodes]
    count = wanted or max(1, sum(1 for number in cores if number))
    for each in range(max(cores, default=0), 0, -1):
        if sum(number // each for number in cores) >= count:
            return count, each
    raise ConfigError(_no_room(sum(cores), "core", wanted))


def _last_line(error: BaseException) -> str:
    """Return what a trace of Ray's ends in, as part of a sentence."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip().rstrip(".")


def _no_room(there: int, unit: str, wanted: int | None) -> str:
    way = f"give --workers {there} or fewer" if there else "give another address, or leave --ray out"
    return f"Ray has {counted(there, unit)} for {counted(wanted or 1, 'worker')}: {way}."


def _ray() -> Any:
    # Nothing is told to Ray's makers, unless the user has said that they may be told.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray: Any = need("ray", "ray", "Editing on Ray needs", ", or leave --ray out")
    return ray
