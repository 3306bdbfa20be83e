"""A service with everything behind its page: a store, a trainer in a thread, and an engine that follows the store."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from horen import Edit, Editor
from horen.database import By, Store
from horen.database.snapshot import Snapshot
from horen.edits import Explanation
from horen.errors import StoreError
from horen.serve.app import create_app
from horen.serve.engines.interface import Health, Piece, Request, Wanted
from horen.serve.service import Messages
from horen.serve.settings import Settings
from horen.serve.training.trainer import Trainer
from horen.store.state import Saved
from support.generating import Generating
from support.servers import within

WHO = By("mira", "the first facts")
#: Loads an editor from a snapshot's folder, with a model of its own.
Loading = Callable[[Path], Editor]


class Following(Generating):
    """An engine that answers with what the store holds now, and says where prompts go."""

    def __init__(self, store: Store, folder: Path, load: Loading, model: str = "tiny", pause: float = 0.0) -> None:
        self.snapshot = Snapshot(store, folder)
        self._at = self.snapshot.follow()
        super().__init__(load(folder), model, pause=pause)

    async def ask(self, request: Request) -> AsyncIterator[Piece]:
        with self._turn:
            self._follow()
        async for piece in super().ask(request):
            yield piece

    async def health(self) -> Health:
        return replace(await super().health(), version=self._at)

    def explain(self, prompt: str | Messages, wanted: Wanted, nearest: int) -> Explanation:
        with self._turn:
            self._follow()
            text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
            found = self.editor.explain(text, nearest=nearest)
        may = [near for near in found.nearest if near.edit_id not in wanted.without]
        may = [near for near in may if wanted.only is None or near.edit_id in wanted.only] if wanted.on else []
        fires = found.fired and any(near.edit_id == found.edit_id for near in may)
        return replace(found, nearest=tuple(may), fired=fires)

    def _follow(self) -> None:
        at = self.snapshot.follow()
        if at != self._at:
            self.editor.restore(self.snapshot.folder)
            self._at = at


class Training:
    """A trainer in a thread."""

    def __init__(self, store: Store, folder: Path, load: Loading) -> None:
        snapshot = Snapshot(store, folder)
        snapshot.follow()
        self._trainer = Trainer(store, load(folder), snapshot, "a trainer of tests")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        self._over.set()
        self._thread.join(30)

    def _keep(self) -> None:
        while not self._over.is_set():
            try:
                taken = self._trainer.step()
            except StoreError:
                taken = 0
            if not taken:
                self._over.wait(0.1)


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass
class Running:
    """A server that can be taken away and put back at the same address."""

    app: FastAPI
    port: int
    engine: Any = None
    server: uvicorn.Server | None = None
    thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        config = uvicorn.Config(
            self.app, "127.0.0.1", self.port, log_level="error", lifespan="off", timeout_graceful_shutdown=1
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        assert within(30, lambda: self.server is not None and self.server.started)

    def stop(self) -> None:
        if self.server is not None and self.thread is not None:
            self.server.should_exit = True
            self.thread.join(30)
        self.server = self.thread = None


def store_with(folder: Path, editor: Editor, edits: Sequence[Edit]) -> Store:
    """A store of an editor's codebook, with edits."""
    if edits:
        editor.edit(list(edits))
    editor.save(folder / "codebook")
    return Store.create(folder / "facts.db", Saved.read(folder / "codebook"), WHO)


@contextmanager
def page_service(store: Store, folder: Path, load: Loading, pause: float = 0.0, **settings: Any) -> Iterator[Running]:
    """The whole service on this machine alone, with its page."""
    engine = Following(store, folder / "engine", load, pause=pause)
    trainer = Training(store, folder / "trainer", load)
    port = settings.pop("port", None) or free_port()
    app = create_app(store, engine, Settings(port=port, **settings), engine, engine.editor.tokenizer, trainer)
    running = Running(app, port, engine)
    running.start()
    try:
        yield running
    finally:
        running.stop()
        trainer.close()
