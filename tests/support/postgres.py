"""A PostgreSQL server of the tests' own, on a port of this machine alone, which ends with them."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def programs() -> Path | None:
    """Where the server's programs are; None where it is not installed."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return places[-1].parent if places else None


class Server:
    """A server that can be stopped, killed and started again; what was committed is still there then.

    Args:
        folder: an empty one for what it stores.
        hasty: do not wait for the disk, so that a power cut would lose what was committed.
    """

    def __init__(self, folder: Path, *, hasty: bool = False) -> None:
        found = programs()
        assert found is not None
        self._programs, self._data = found, folder / "data"
        self._log, self._sockets, self._hasty = folder / "log", folder, hasty
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        # The server does not run as root.
        self._user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        if self._user:
            entry = pwd.getpwnam("postgres")
            os.chown(folder, entry.pw_uid, entry.pw_gid)
        self._run("initdb", "-D", self._data, "-U", "horen", "--auth=trust", "-E", "UTF8", "--no-sync", "--locale=C")
        self.start()

    def _run(self, program: str, *args: object) -> None:
        done = subprocess.run(
            [self._programs / program, *map(str, args)],
            capture_output=True,
            text=True,
            cwd="/",
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            **self._user,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self._sockets} -c max_connections=60"
        if self._hasty:
            options += " -c fsync=off -c synchronous_commit=off"
        self._run("pg_ctl", "-D", self._data, "-l", self._log, "-w", "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it; with the mode "immediate" as a crash would."""
        self._run("pg_ctl", "-D", self._data, "-w", "-m", mode, "stop")

    def kill(self) -> None:
        """Kill the server and all that serve for it, as if the machine had lost its power but for what disks keep."""
        main = self._main
        os.kill(main, signal.SIGSTOP)  # so that it starts none behind our back, which would hold on to its memory
        pids = [main, *self._children()]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + 30
        while any(Path(f"/proc/{pid}/stat").exists() and _state(pid) != "Z" for pid in pids):
            assert time.monotonic() < end
            time.sleep(0.02)
        # Where nobody waits for it the dead process keeps its number, and would pass for a server that runs.
        for lock in (self._data / "postmaster.pid", Path(self._sockets) / f".s.PGSQL.{self.port}.lock"):
            lock.unlink(missing_ok=True)

    def kill_backend(self, number: int) -> bool:
        """Kill one of those that serve a client, if there is one; the server starts all others anew then."""
        found = [pid for pid in self._children() if b" horen " in Path(f"/proc/{pid}/cmdline").read_bytes()]
        if not found:
            return False
        os.kill(found[number % len(found)], signal.SIGKILL)
        return True

    @property
    def _main(self) -> int:
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def _children(self) -> list[int]:
        main = self._main
        return [int(pid) for pid in Path(f"/proc/{main}/task/{main}/children").read_text().split()]

    def database(self, name: str) -> str:
        """Make an empty database and return its address."""
        self._run("createdb", "-h", "127.0.0.1", "-p", self.port, "-U", "horen", name)
        return f"postgresql://horen@127.0.0.1:{self.port}/{name}"


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


@contextmanager
def postgres(*, hasty: bool = False, place: Path | None = None) -> Iterator[Server]:
    """Run a server while the block lasts; what it stores is in a place that is named, or in the system's."""
    folder = Path(tempfile.mkdtemp(prefix="horen-postgres-", dir=place))
    server = Server(folder, hasty=hasty)
    try:
        yield server
    finally:
        server.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)
