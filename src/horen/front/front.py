"""The front: knows the codebook, and where each prompt goes."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import NamedTuple, Self

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.asking.explain import explaining, unrouted
from horen.asking.routes import looked_up
from horen.config import HorenConfig
from horen.edits import Explanation
from horen.errors import ConfigError, HorenError
from horen.front.versions import Versions, mark
from horen.front.wish import Wish
from horen.front.writing import Gathering, Writing, written
from horen.memory import Codebook, Packed
from horen.model.prompts import Placed
from horen.model.routed import Routed
from horen.model.zoo.loading import load_model
from horen.session import Session, check_parts
from horen.store.content import CONFIG
from horen.store.growing import More, digests_of, read_more
from horen.store.history import History
from horen.store.state import Saved
from horen.store.tables import Sizes

_log = logging.getLogger(__name__)
# A folder is looked at for changes no more often than this, in seconds.
_LOOK = 0.1
#: So many prompts are routed at once.
BATCH = 32
#: What a request carries to what runs the model.
Carried = Writing | Gathering


class _Waiting(NamedTuple):
    """A prompt that waits to be routed."""

    row: Sequence[int]
    wish: Wish
    future: Future[Carried | None]


class Front:
    """Routes rows of token ids as a wrapped model would, or says where they are to be read.

    One thread at a time routes. The folder is followed: it is looked at ten times a second at most, and of what was
    added to it only that is read.

    Args:
        folder: the codebook's.
        session: of the model that is served, without hooks on it, and with the codebook in it.
        elsewhere: whether prompts whose activations tell their edit are read by others, where their answers are made.

    Attributes:
        alone: opens a context in which nobody else runs the model, for as long as it is run to read prompts.
        patience: gives the seconds that a submitted prompt may wait for others now. Together they cost far less than
            one by one; who has nothing else to do gives 0.
    """

    def __init__(self, folder: Path, session: Session, *, elsewhere: bool = False) -> None:
        self._codebook, self._session, self._elsewhere = folder, session, elsewhere
        self.alone: Callable[[], AbstractContextManager[None]] = nullcontext
        self.patience: Callable[[], float] = float
        self._turn, self._starting = threading.Lock(), threading.Lock()
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._mark, self._looked = _mark(folder), time.monotonic()
        self._refused = self._mark  # the last that was tried
        tokens = session.vocabulary_size if session.config.weighs_tokens else None
        self._sizes = Sizes(session.value_size, session.feature_size, tokens)  # which may need the weights
        self._older = Versions(folder)
        self._digests: dict[str, str] = {}  # of the files that were read; none where that is not known

    @classmethod
    def of(cls, folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Self:
        """Return the front of a model that is loaded, to read prompts with it.

        Raises:
            StoreError: when the folder is missing, truncated or altered.
            MismatchError: when it was made for another model.
            ModelError: when a text encoder cannot be loaded.
            ConfigError: for a codebook that tells facts in words.
        """
        before, digests = _mark(folder), digests_of(folder)
        front = cls(folder, _session(folder, model, tokenizer))
        front._mark = front._refused = before  # what was written meanwhile is taken up
        front._digests = digests
        return front

    @classmethod
    def load(cls, folder: Path, model: str) -> Self:
        """Return the front of an engine that loads its model elsewhere, and reads activations there.

        The model is loaded once, so that the codebook is checked against its very weights, and then without them: only
        its shape is needed to tell where values go.

        Args:
            folder: the codebook's.
            model: the folder or hub id of the model that is served.

        Raises:
            StoreError: when the folder is missing, truncated or altered.
            MismatchError: when it was made for another model.
        """
        before, digests = _mark(folder), digests_of(folder)
        loaded, tokenizer = load_model(model)
        front = cls(folder, _session(folder, loaded, tokenizer), elsewhere=True)
        front._mark = front._refused = before
        front._digests = digests
        for parameter in loaded.parameters():  # shapes and a device are asked for, weights no more
            parameter.data = parameter.new_zeros(()).expand(parameter.shape)
        return front

    @property
    def session(self) -> Session:
        """The model with its codebook."""
        return self._session

    def version(self) -> int:
        """Return how many operations the codebook has had that answers now."""
        with self._turn:
            self._follow()
            return self._session.history.count

    def route(self, rows: Sequence[Sequence[int]], wish: Wish = Wish()) -> list[Carried | None]:  # noqa: B008 - immutable
        """Return what requests carry for rows of token ids, each a prompt.

        That is what is written, None where no edit fires; or what is read, where that is done elsewhere.

        Raises:
            ConfigError: when the codebook has no such version, or a compaction has dropped it.
        """
        if not wish.on:
            return [None] * len(rows)
        with self._turned_to(wish) as session:
            count = session.history.count
            if self._elsewhere and not session.config.reads_text:
                marked = mark(session.history, count)
                return [Gathering(session.reader.read(row, len(row)), count, marked, wish.among) for row in rows]
            found = _Noted(session.config.threshold)
            with self._reading():
                for first in range(0, len(rows), BATCH):
                    found.first = first
                    session.adapter.look(rows[first : first + BATCH], found)
            return [written(session, found.routed.get(number), count) for number in range(len(rows))]

    def explain(self, row: Sequence[int], text: str, wish: Wish, nearest: int) -> Explanation:
        """Return where a row of token ids goes, and why.

        Args:
            row: a prompt.
            text: what is told of it.
            wish: which edits may answer.
            nearest: how many of the nearest edits are told.

        Raises:
            ConfigError: when the codebook has no such version, or activations are read where answers are made.
        """
        if self._elsewhere and not self._session.config.reads_text:
            raise ConfigError(
                "The codebook reads activations, which only the engine that answers has: it does not say where prompts "
                "go. Ask for an answer, which tells the edit that fired, or use `horen explain`."
            )
        if not wish.on:
            return unrouted(self._session, text)
        with self._turned_to(wish) as session, self._reading():
            return looked_up(session, [row], explaining(session, [text], nearest))[0] or unrouted(session, text)

    def _reading(self) -> AbstractContextManager[object]:
        """Have the model alone within the block, where prompts are read with it."""
        return nullcontext() if self._session.config.reads_text else self.alone()

    @contextmanager
    def _turned_to(self, wish: Wish) -> Iterator[Session]:
        """Give the session with what is wanted in the place of what it has now, to one at a time."""
        with self._turn:
            self._follow()
            session = self._session
            wanted = self._at(wish)
            before = session.history, session.codebook()
            try:
                session.history, session.adapter.codebook = wanted
                yield session
            finally:
                session.history, session.adapter.codebook = before

    def submit(self, row: Sequence[int], wish: Wish = Wish()) -> Future[Carried | None]:  # noqa: B008 - immutable
        """Have a row routed by another thread, together with others that come meanwhile."""
        future: Future[Carried | None] = Future()
        self._waiting.put(_Waiting(row, wish, future))
        with self._starting:  # not the turn: an event loop calls this, and routing may take a while
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="horen", daemon=True)
                self._thread.start()
        return future

    def close(self) -> None:
        """End the thread that :meth:`submit` has begun, once what waits is routed."""
        with self._starting:
            if self._thread is not None:
                self._waiting.put(None)
                self._thread.join()
                self._thread = None

    def _serve(self) -> None:
        ends = False
        while not (ends and self._waiting.empty()):
            some = self._gathered()
            ends = ends or None in some
            wanted: dict[Wish, list[_Waiting]] = {}
            for one in some:
                if one is not None and one.future.set_running_or_notify_cancel():
                    wanted.setdefault(one.wish, []).append(one)
            for wish, own in wanted.items():
                self._settle(own, wish)

    def _gathered(self) -> list[_Waiting | None]:
        """Return what waits to be routed, once something does; None among it where there will be no more."""
        some = [self._waiting.get()]
        until = time.monotonic() + self.patience()
        with suppress(queue.Empty):
            while some[-1] is not None and len(some) < BATCH:
                some.append(self._waiting.get(timeout=max(0.0, until - time.monotonic())))
        return some

    def _settle(self, some: Sequence[_Waiting], wish: Wish) -> None:
        try:
            found = self.route([one.row for one in some], wish)
        except Exception as error:
            for one in some:
                one.future.set_exception(error)
        else:
            for one, writing in zip(some, found, strict=True):
                one.future.set_result(writing)

    def _at(self, wish: Wish) -> tuple[History, Codebook]:
        """Return the history and the codebook that a wish is for."""
        session, version = self._session, wish.version
        if version is not None and version > session.history.count:
            self._looked = -_LOOK  # whoever asks for it may just have saved it
            self._follow()
        now = version is None or version == session.history.count
        if now and wish == Wish(version=version):
            return session.history, session.codebook()
        return self._older.at(session.state(), session.history.count if version is None else version, wish.among)

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
        """Take up what the folder has more; where that is not all that has changed, everything."""
        try:
            more = read_more(self._codebook, self._digests) if self._digests else None
            if more is not None:
                self._check_settings(HorenConfig.from_saved(more.config["settings"]))
                self._add(more)
                self._digests = dict(more.digests)
                return
        except (HorenError, KeyError, RuntimeError) as error:
            _log.info("%s is read anew: %s", self._codebook, error)
        self._digests = {}
        digests = digests_of(self._codebook)  # older than what is read next, if it changes now: then that is read again
        self._take_all()
        self._digests = digests

    def _add(self, more: More) -> None:
        """Let the codebook go on to what its folder has more."""
        session, codebook = self._session, self._session.codebook()
        rows = {name: tensor.to(codebook.keys.device) for name, tensor in more.tensors.items()}
        with codebook.together():
            if "value_of" in rows:
                values = (
                    Packed.of(rows["values"], rows.get("value_scales")) if "values" in rows else codebook.packed[[]]
                )
                codebook.extend(rows["keys"], values, rows["value_of"])
            wakes: dict[bool, list[int]] = {True: [], False: []}
            for number in more.record(session.history):
                wakes[session.history.is_active(number)] += session.history.entries(number)
            for awake, entries in wakes.items():
                codebook.set_awake(entries, awake)

    def _check_settings(self, config: HorenConfig) -> None:
        if config.replace(encoder=self._session.config.encoder) != self._session.config:
            raise ConfigError(f"{self._codebook} has other settings than when the engine began: start the engine anew.")

    def _take_all(self) -> None:
        session = self._session
        saved = Saved.read(self._codebook)
        self._check_settings(saved.config)
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


def check_told(saved: Saved) -> None:
    """Raise ConfigError for a codebook that tells facts in words: an engine answers token ids as they are."""
    if saved.config.recall != "off":
        raise ConfigError(
            f"{saved.path} recalls facts in words (recall={saved.config.recall}), which no engine does: save it with "
            "recall=off, or ask an Editor."
        )


def _session(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Session:
    saved = Saved.read(folder).with_encoder(None)
    check_parts(model, tokenizer, saved.config)
    check_told(saved)
    session = Session(model, tokenizer, saved.config)
    session.read_only = True
    session.restore(saved)
    return session


def _mark(codebook: Path) -> tuple[int, int, int]:
    """Return what differs once a folder was written to."""
    try:
        found = (codebook / CONFIG).stat()
    except FileNotFoundError:  # whoever reads it says so
        return 0, 0, 0
    return found.st_ino, found.st_mtime_ns, found.st_size
