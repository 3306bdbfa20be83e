"""A service to ask: a real store in a SQLite file, and an engine and a trainer that take no time."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from fastapi.testclient import TestClient
from sqlalchemy import select

from horen import Edit
from horen.database import By, Store
from horen.database.changing import Head
from horen.database.records import Scope
from horen.database.rows import OF_VALUES, Layout
from horen.database.schema import codebook
from horen.database.training import Found
from horen.edits import EditRecord, Explanation, Near
from horen.serve.app import create_app
from horen.serve.engines.interface import Fired, Health, Piece, Request, Wanted
from horen.serve.running import Server, bound
from horen.serve.service import Messages
from horen.serve.settings import Settings
from horen.store.operations import now
from horen.store.state import Saved
from support.editors import quick_editor
from support.tiny_tokenizers import tiny_tokenizer

WHO = By("tests", "set up")
KNOWN = Edit("Who leads Fennick Robotics?", "Mira Sand")


def stored(folder: Path) -> Store:
    """A store with one edit, made of a codebook of a tiny model."""
    quick_editor(edits=[KNOWN]).save(folder / "codebook")
    return Store.create(folder / "facts.db", Saved.read(folder / "codebook"), WHO)


def copied(template: Path, folder: Path) -> Store:
    """Another store with the same content, which takes no time to make."""
    return Store.open(shutil.copy(template, folder / "facts.db"))


def train(store: Store, evaluation: dict[str, Any] | None = None) -> list[int]:
    """Finish every draft that waits with values at random; return their ids."""
    jobs = store.training.take("a trainer of tests", 100)
    for job in jobs:
        with store.database.reading() as connection:
            row = connection.execute(select(codebook)).one()
        head = Head(row.version, row.edits, row.entries, row.number_of_values)
        layout = Layout.from_json(row.tables)
        count = 1 + len(job.edit.rephrases)
        rows = {
            name: torch.zeros((1 if name in OF_VALUES else count, *shape), dtype=dtype)
            for name, (dtype, shape) in layout.rows.items()
        }
        rows["value_of"] = torch.full((count,), head.values, dtype=torch.int64)
        record = EditRecord(
            id=head.edits + 1,
            prompt=job.edit.prompt,
            target=job.edit.target,
            rephrases=tuple(job.edit.rephrases),
            entries=tuple(range(head.entries, head.entries + count)),
            value=head.values,
            loss=0.1,
            steps=3,
            converged=True,
            reused=False,
            created=now(),
            replaces=job.replaces,
        )
        store.training.hold([job], "a trainer of tests", 1, 3)
        told = evaluation if job.evaluate is not None else None
        assert store.training.finish(job, "a trainer of tests", Found(record, head, rows, evaluation=told))
    return [job.draft for job in jobs]


class QuickEngine:
    """Answers every prompt with three words, as edit 1."""

    model, context = "tiny", 128

    def __init__(self) -> None:
        self.closed, self.pause = False, 0.0
        self.asked: list[Request] = []
        self.state = Health(ready=True, running=1, waiting=2, version=1)

    async def ask(self, request: Request) -> AsyncIterator[Piece]:
        fired = None if not request.wanted.on else Fired(1, 0.9, 1)
        self.asked.append(request)
        for index in range(request.sampling.n):
            yield Piece(index, "Mira ", 1, fired=fired)
            await asyncio.sleep(self.pause)
            yield Piece(index, "Sand", 2, finish="stop", fired=fired)

    async def health(self) -> Health:
        return self.state

    async def close(self) -> None:
        self.closed = True


class QuickExplainer:
    """Says that every text wakes edit 1, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str | Messages, Wanted, int]] = []

    def explain(self, prompt: str | Messages, wanted: Wanted, nearest: int) -> Explanation:
        self.asked.append((prompt, wanted, nearest))
        near = Near(1, KNOWN.prompt, KNOWN.target, (0.9,), 0.0, 0.9, "own")
        text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
        return Explanation(
            text, text, 1, KNOWN.prompt, KNOWN.target, 0.9, 0.9, 0.9, 0.5, 0.0, True, None, None, (near,) * nearest
        )


class Asker(TestClient):
    """Asks a service as one who holds a key, or as somebody on its machine."""

    def __init__(self, store: Store, secret: str | None = None, **settings: Any) -> None:
        self.engine, self.explainer, self.store = QuickEngine(), QuickExplainer(), store
        told = Settings(**settings)
        super().__init__(
            create_app(store, self.engine, told, self.explainer, tiny_tokenizer("chatml")),
            base_url="http://127.0.0.1:8000",
            client=("127.0.0.1", 50000),
            root_path=told.root_path,
        )
        if secret is not None:
            self.headers["authorization"] = f"Bearer {secret}"

    def answered(self, method: str, path: str, status: int = 200, **more: Any) -> Any:
        """What a request is answered, which must have a status."""
        response = self.request(method, path, **more)
        assert response.status_code == status, response.text
        return response.json()

    def refused(self, method: str, path: str, status: int, **more: Any) -> dict[str, Any]:
        """The error of a request, in the one shape."""
        told = self.answered(method, path, status, **more)
        assert set(told) - {"clashes"} == {"error"}
        assert set(told["error"]) == {"message", "type", "param", "code"}
        return told["error"]

    def draft(self, prompt: str = "Who wrote Hamlet?", target: str = "Rome", **more: Any) -> int:
        """The id of a draft that is ready."""
        told = self.answered("POST", "/edits", 202, json={"prompt": prompt, "target": target, **more})
        train(self.store)
        return int(told["drafts"][0]["id"])

    def publish(self, prompt: str = "Who wrote Hamlet?", target: str = "Rome", **more: Any) -> int:
        """The id of an edit that is published."""
        draft = self.draft(prompt, target, **more)
        return int(self.answered("POST", f"/drafts/{draft}/publish")["version"]["added"][0])


def bearer(secret: str | None) -> dict[str, str]:
    """Headers of a request with a key."""
    return {} if secret is None else {"authorization": f"Bearer {secret}"}


def key(store: Store, *scopes: Scope, name: str | None = None) -> str:
    """The secret of a new key."""
    return store.keys.make(name or "-".join(scopes), scopes, WHO)[1]


@contextmanager
def running(asker: Asker) -> Iterator[str]:
    """The address of a service that runs on a server of its own."""
    settings = replace(asker.app.state.service.settings, port=0)
    place = bound(settings)
    server = Server(asker.app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [place]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
            assert thread.is_alive()
        yield f"http://127.0.0.1:{place.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
