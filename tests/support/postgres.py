"""A PostgreSQL server of the tests' own, on a port of this machine alone, which ends with them."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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

    def database(self, name: str) -> str:
        """Make an empty database and return its address."""
        self._run("createdb", "-h", "127.0.0.1", "-p", self.port, "-U", "horen", name)
        return f"postgresql://horen@127.0.0.1:{self.port}/{name}"


@contextmanager
def postgres(*, hasty: bool = False) -> Iterator[Server]:
    """Run a server while the block lasts."""
    folder = Path(tempfile.mkdtemp(prefix="horen-postgres-"))
    server = Server(folder, hasty=hasty)
    try:
        yield server
    finally:
        server.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)
