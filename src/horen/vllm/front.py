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
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from horen.editor import Editor
from horen.errors import ConfigError, HorenError
from horen.model.layout import Layout
from horen.model.prompts import Placed
from horen.model.routed import Routed
from horen.model.zoo.loading import load_model
from horen.session import Session
from horen.store.content import CONFIG
from horen.store.state import Saved
from horen.store.tables import Sizes
from horen.vllm.settings import Settings
from horen.vllm.writing import Write, Writing

_log = logging.getLogger(__name__)
# A folder is looked at for changes no more often than this, in seconds.
_LOOK = 0.5
_BATCH = 32


class Front:
    """Routes rows of token ids as a wrapped model would.

    The model is loaded once, so that the codebook is checked against its very weights, and then without them: only its
    shape is needed to tell where values go. One thread at a time routes.

    Args:
        settings: which codebook.
        model: the folder or hub id of the model that is served.

    Raises:
        StoreError: when the folder is missing, truncated or altered.
        MismatchError: when it was made for another model.
        ConfigError: for a codebook that reads activations, which only the engine has.
    """

    def __init__(self, settings: Settings, model: str) -> None:
        self._codebook = Path(settings.codebook)
        self._turn, self._starting = threading.Lock(), threading.Lock()
        self._waiting: queue.SimpleQueue[tuple[Sequence[int], Future[Writing | None]]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._mark, self._looked = _mark(self._codebook), time.monotonic()
        self._refused = self._mark  # the last that was tried
        loaded, tokenizer = load_model(model)
        self._editor = Editor.load(self._codebook, loaded, tokenizer)
        for parameter in loaded.parameters():  # shapes and a device are asked for, weights no more
            parameter.data = parameter.new_zeros(()).expand(parameter.shape)

    def route(self, rows: Sequence[Sequence[int]]) -> list[Writing | None]:
        """Return what is written for rows of token ids, each a prompt; None where no edit fires."""
        with self._turn:
            self._follow()
            session, found = self._editor._session, _Noted(self._editor.config.threshold)
            for first in range(0, len(rows), _BATCH):
                found.first = first
                session.adapter.look(rows[first : first + _BATCH], found)
            return [self._writing(session, found.routed.get(number)) for number in range(len(rows))]

    def submit(self, row: Sequence[int]) -> Future[Writing | None]:
        """Have a row routed by another thread, together with others that come meanwhile."""
        future: Future[Writing | None] = Future()
        self._waiting.put((row, future))
        with self._starting:  # not the turn: an event loop calls this, and routing may take a while
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="horen", daemon=True)
                self._thread.start()
        return future

    def _serve(self) -> None:
        while True:
            some = [self._waiting.get()]
            with suppress(queue.Empty):
                while len(some) < _BATCH:
                    some.append(self._waiting.get_nowait())
            some = [(row, future) for row, future in some if future.set_running_or_notify_cancel()]
            try:
                found = self.route([row for row, _ in some])
            except Exception as error:
                for _, future in some:
                    future.set_exception(error)
            else:
                for (_, future), writing in zip(some, found, strict=True):
                    future.set_result(writing)

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
        sizes = Sizes(session.value_size, session.feature_size, None)
        session.take(*saved.whole(session.codebook().keys.device, sizes), session.weights)

    def _writing(self, session: Session, routed: Routed | None) -> Writing | None:
        if routed is None or not routed.match.fired:
            return None
        record = session.history.holder(routed.match.entry)
        if record is None:
            return None
        sequel = session.sequel(routed.match.entry)
        places = [routed] if sequel is None else sequel.places(routed)
        at = places[-1].place.prompt.at
        writes = [Write(at, (), session.adapter.values_of([routed])[0])]
        if sequel is not None and sequel.values:
            values = session.codebook().read_values(list(sequel.values))
            for target in sequel.renderings:
                for value, left in zip(values, sequel.left, strict=True):
                    said = target[: len(target) - left]
                    writes.append(Write(at + len(said), said, value))
        return Writing.of(record.id, routed.match.score, session.history.count, writes)


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
    # Its shape says where values go; nothing of its weights is read.
    maker: Any = AutoModelForCausalLM
    with torch.device("meta"):
        shape: PreTrainedModel = maker.from_config(AutoConfig.from_pretrained(model))
    site = Layout.of(shape).write_site(saved.config)
    name = next(name for name, module in shape.named_modules() if module is site.module)
    return Settings(str(Path(codebook).resolve()), name, site.replaces)


def _mark(codebook: Path) -> tuple[int, int, int]:
    """Return what differs once a folder was written to."""
    found = (codebook / CONFIG).stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _check(saved: Saved) -> None:
    """Raise ConfigError for a codebook that a front cannot route, or whose values are no vectors."""
    config = saved.config
    if not config.reads_text:
        raise ConfigError(
            f"{saved.path} reads a model's activations, which only the engine has: let its edits be found by text "
            f"with `horen rekey {saved.path} --preset default`."
        )
    if config.value == "lora":
        raise ConfigError(f"{saved.path} has lora values, which no engine writes: write its edits with value=state.")
    if config.recall != "off":
        raise ConfigError(f"{saved.path} recalls facts in words (recall={config.recall}), which no engine does.")
