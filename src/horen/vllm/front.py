"""The front: knows the codebook, and where each prompt goes."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

from horen.editor import Editor
from horen.errors import ConfigError, HorenError
from horen.memory import Codebook
from horen.model.layout import Layout
from horen.model.prompts import Placed
from horen.model.routed import Routed
from horen.model.zoo.loading import load_model
from horen.store.content import CONFIG
from horen.store.history import History
from horen.store.state import Saved
from horen.store.tables import Sizes
from horen.vllm.settings import Settings, shape_of
from horen.vllm.versions import Versions, mark
from horen.vllm.writing import Gathering, Writing, written

_log = logging.getLogger(__name__)
# A folder is looked at for changes no more often than this, in seconds.
_LOOK = 0.5
#: So many prompts are routed at once.
BATCH = 32
#: What a request carries to the workers.
Carried = Writing | Gathering


class Front:
    """Routes rows of token ids as a wrapped model would, or says where workers read them.

    The model is loaded once, so that the codebook is checked against its very weights, and then without them: only its
    shape is needed to tell where values go. One thread at a time routes.

    Args:
        settings: which codebook.
        model: the folder or hub id of the model that is served.

    Raises:
        StoreError: when the folder is missing, truncated or altered.
        MismatchError: when it was made for another model.
    """

    def __init__(self, settings: Settings, model: str) -> None:
        self._codebook = Path(settings.codebook)
        self._turn, self._starting = threading.Lock(), threading.Lock()
        self._waiting: queue.SimpleQueue[tuple[Sequence[int], int | None, Future[Carried | None]]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._mark, self._looked = _mark(self._codebook), time.monotonic()
        self._refused = self._mark  # the last that was tried
        loaded, tokenizer = load_model(model)
        self._editor = Editor.load(self._codebook, loaded, tokenizer)
        self._older, session = Versions(self._codebook), self._editor._session
        tokens = session.vocabulary_size if session.config.weighs_tokens else None
        self._sizes = Sizes(session.value_size, session.feature_size, tokens)  # which may need the weights
        for parameter in loaded.parameters():  # shapes and a device are asked for, weights no more
            parameter.data = parameter.new_zeros(()).expand(parameter.shape)

    def route(self, rows: Sequence[Sequence[int]], version: int | None = None) -> list[Carried | None]:
        """Return what requests carry for rows of token ids, each a prompt.

        That is what is written, None where no edit fires; or, where activations tell, what is read.

        Raises:
            ConfigError: when the codebook has no such version, or a compaction has dropped it.
        """
        with self._turn:
            self._follow()
            session = self._editor._session
            wanted = None if version is None else self._at(version)
            before = session.history, session.codebook()
            try:
                session.history, session.adapter.codebook = wanted or before
                count = session.history.count
                if not session.config.reads_text:
                    marked = mark(session.history, count)
                    return [Gathering(session.reader.read(row, len(row)), count, marked) for row in rows]
                found = _Noted(session.config.threshold)
                for first in range(0, len(rows), BATCH):
                    found.first = first
                    session.adapter.look(rows[first : first + BATCH], found)
                return [written(session, found.routed.get(number), count) for number in range(len(rows))]
            finally:
                session.history, session.adapter.codebook = before

    def version(self) -> int:
        """Return how many operations the codebook has had with which prompts are routed now."""
        with self._turn:
            self._follow()
            return self._editor._session.history.count

    def submit(self, row: Sequence[int], version: int | None = None) -> Future[Carried | None]:
        """Have a row routed by another thread, together with others that come meanwhile."""
        future: Future[Carried | None] = Future()
        self._waiting.put((row, version, future))
        with self._starting:  # not the turn: an event loop calls this, and routing may take a while
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="horen", daemon=True)
                self._thread.start()
        return future

    def _serve(self) -> None:
        while True:
            some = [self._waiting.get()]
            with suppress(queue.Empty):
                while len(some) < BATCH:
                    some.append(self._waiting.get_nowait())
            wanted: dict[int | None, list[tuple[Sequence[int], Future[Carried | None]]]] = {}
            for row, version, future in some:
                if future.set_running_or_notify_cancel():
                    wanted.setdefault(version, []).append((row, future))
            for version, own in wanted.items():
                self._settle(own, version)

    def _settle(self, some: Sequence[tuple[Sequence[int], Future[Carried | None]]], version: int | None) -> None:
        try:
            found = self.route([row for row, _ in some], version)
        except Exception as error:
            for _, future in some:
                future.set_exception(error)
        else:
            for (_, future), writing in zip(some, found, strict=True):
                future.set_result(writing)

    def _at(self, version: int) -> tuple[History, Codebook]:
        """Return the history and the codebook as they were after so many operations."""
        session = self._editor._session
        if version > session.history.count:
            self._looked = -_LOOK  # whoever asks for it may just have saved it
            self._follow()
        if version == session.history.count:
            return session.history, session.codebook()
        return self._older.at(session.state(), version)

    def _follow(self) -> None:
        """Take up what the folder holds now, where that has changed; what cannot be read is not taken up."""
        if time.monotonic() - self._looked < _LOOK:
            return
        self._looked = time.monotonic()
        try:
            mark = _mark(self._codebook)
            if mark not in (self._mark, self._refused):
                self._refused = mark
                self._take_up()
                self._mark = mark
        except (HorenError, OSError) as error:
            _log.warning("Requests go on with the edits that were read last: %s", error)

    def _take_up(self) -> None:
        session = self._editor._session
        saved = Saved.read(self._codebook)
        if saved.config.replace(encoder=session.config.encoder) != session.config:
            raise ConfigError(f"{saved.path} has other settings than when the engine began: start the engine anew.")
        assert session.weights is not None  # noqa: S101 - a codebook that was loaded has them
        saved.check_made_for(session.weights.first)
        saved.check_encoder(session.config.encoder, session.encoder_print)
        session.take(*saved.whole(session.codebook().keys.device, self._sizes), session.weights)
        self._older.forget()


class _Noted:
    """Notes where rows went: :class:`horen.model.calls.Watch`."""

    surveys = False

    def __init__(self, least: float) -> None:
        self.least: float | None = least
        self.first = 0
        self.routed: dict[int, Routed] = {}

    def take(self, places: Sequence[Placed], rows: int, route: Callable[[], list[Routed]]) -> list[Routed]:  # noqa: ARG002
        found = route()
        self.routed |= {self.first + one.place.row: one for one in found}
        return found


def settings_of(codebook: str, model: str) -> Settings:
    """Return what the processes of an engine are told of a codebook.

    Raises:
        StoreError: when the folder is missing, truncated or altered.
        ConfigError: for a codebook that no engine can serve, or a site that the model does not have.
        ModelError: for a model whose layers are not found.
    """
    saved = Saved.read(codebook)
    _check(saved)
    shape = shape_of(model)
    layout = Layout.of(shape)
    site = layout.write_site(saved.config)
    names = {module: name for name, module in shape.named_modules()}
    reads = () if saved.config.reads_text else layout.read_sites(saved.config)
    return Settings(
        str(Path(codebook).resolve()),
        names[site.module],
        site.replaces,
        tuple((names[read.module], read.side) for read in reads),
    )


def _mark(codebook: Path) -> tuple[int, int, int]:
    """Return what differs once a folder was written to."""
    found = (codebook / CONFIG).stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _check(saved: Saved) -> None:
    """Raise ConfigError for a codebook whose values are no vectors, or that tells facts in words."""
    config = saved.config
    if config.value == "lora":
        raise ConfigError(f"{saved.path} has lora values, which no engine writes: write its edits with value=state.")
    if config.recall != "off":
        raise ConfigError(f"{saved.path} recalls facts in words (recall={config.recall}), which no engine does.")
