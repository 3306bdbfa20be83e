"""A model hub on this machine: as much of the hub's interface as huggingface_hub uses to push and to load files."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class LocalHub:
    """What the hub holds: for each repository its commits, oldest first, each with all its files.

    Attributes:
        endpoint: its address.
        repositories: commits by repository.
        created: what repositories were asked for with.
        fetched: names of files in the order in which they were asked for.
    """

    endpoint: str = ""
    repositories: dict[str, list[dict[str, bytes]]] = field(default_factory=dict)
    created: list[dict[str, Any]] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)

    def put(self, repository: str, files: dict[str, bytes]) -> str:
        """Add a commit with further files, and give its name."""
        commits = self.repositories.setdefault(repository, [{}])
        commits.append(commits[-1] | files)
        return name_of(repository, len(commits) - 1)

    def at(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The name and the files of a commit."""
        commits = self.repositories.get(repository, [])
        names = [name_of(repository, number) for number in range(len(commits))]
        if revision == "main" and commits:
            return names[-1], commits[-1]
        return (revision, commits[names.index(revision)]) if revision in names else None


def name_of(repository: str, number: int) -> str:
    """The name of a commit, as git has it."""
    return hashlib.sha1(f"{repository} {number}".encode()).hexdigest()  # noqa: S324


@contextmanager
def local_hub() -> Iterator[LocalHub]:
    """A hub that answers while the block runs."""
    hub = LocalHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: LocalHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._get(body=False)

    def do_GET(self) -> None:
        self._get(body=True)

    def do_POST(self) -> None:
        parts = self._parts()
        given = self._given()
        if parts == ["api", "repos", "create"]:
            name = "/".join(filter(None, (given.get("organization"), given["name"])))
            name = name if "/" in name else f"me/{name}"
            self.hub.created.append(given)
            if name in self.hub.repositories:
                self._json({"url": f"{self.hub.endpoint}/{name}"}, 409)
                return
            self.hub.repositories[name] = [{}]
            self._json({"url": f"{self.hub.endpoint}/{name}"})
        elif parts == ["api", "validate-yaml"]:
            self._json({"errors": [], "warnings": []})
        elif parts[:2] == ["api", "models"] and parts[4] == "preupload":
            files = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in given["files"]]
            self._json({"files": files})
        elif parts[:2] == ["api", "models"] and parts[4] == "commit":
            self._commit("/".join(parts[2:4]), given)
        else:
            self._json({"error": "unknown"}, 404)

    def _commit(self, repository: str, lines: list[dict[str, Any]]) -> None:
        files = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
        }
        name = self.hub.put(repository, files)
        address = f"{self.hub.endpoint}/{repository}/commit/{name}"
        self._json({"success": True, "commitOid": name, "commitUrl": address, "hookOutput": ""})

    def _get(self, *, body: bool) -> None:
        parts = self._parts()
        if parts[:2] == ["api", "models"]:
            self._described("/".join(parts[2:4]), *parts[4:6])
            return
        found = self.hub.at("/".join(parts[:2]), parts[3]) if parts[2:3] == ["resolve"] else None
        if found is None:
            self._missing("RevisionNotFound" if "/".join(parts[:2]) in self.hub.repositories else "RepoNotFound")
            return
        commit, files = found
        name = "/".join(parts[4:])
        if name not in files:
            self._missing("EntryNotFound", commit)
            return
        if body:
            self.hub.fetched.append(name)
        digest = hashlib.sha256(files[name]).hexdigest()
        self._answer(files[name], 200, {"ETag": f'"{digest}"', "X-Repo-Commit": commit}, body=body)

    def _described(self, repository: str, what: str = "revision", revision: str = "main") -> None:
        found = self.hub.at(repository, revision)
        if found is None:
            self._missing("RevisionNotFound" if repository in self.hub.repositories else "RepoNotFound")
            return
        commit, files = found
        if what == "tree":
            self._json(
                [{"type": "file", "path": name, "size": len(data), "oid": "0" * 40} for name, data in files.items()]
            )
            return
        siblings = [{"rfilename": name} for name in files]
        self._json({"id": repository, "sha": commit, "siblings": siblings, "private": False, "tags": []})

    def _parts(self) -> list[str]:
        return [unquote(part) for part in urlsplit(self.path).path.split("/") if part]

    def _given(self) -> Any:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "ndjson" in self.headers.get("Content-Type", ""):
            return [json.loads(line) for line in data.splitlines()]
        return json.loads(data) if data else {}

    def _missing(self, code: str, commit: str | None = None) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": code}
        if commit is not None:
            headers["X-Repo-Commit"] = commit
        self._answer(b"", 404, headers)

    def _json(self, document: Any, status: int = 200) -> None:
        self._answer(json.dumps(document).encode(), status, {"Content-Type": "application/json"})

    def _answer(self, data: bytes, status: int, headers: dict[str, str], *, body: bool = True) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body and self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass
