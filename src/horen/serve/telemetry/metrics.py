"""What is counted, as Prometheus reads it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

from horen.database.records import About
from horen.serve.engines.interface import Fired, Health

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_SCORES = tuple(round(0.05 * step, 2) for step in range(21))
_DRAFTS = ("waiting", "training", "ready", "failed", "published", "rejected")


class Metrics:
    """Counts in a registry of its own, so that two services in one process do not count together."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        at = self.registry
        self._requests = Counter("horen_http_requests", "HTTP requests.", ("method", "route", "status"), registry=at)
        self._seconds = Histogram(
            "horen_http_request_seconds",
            "Seconds to the end of an answer.",
            ("method", "route"),
            registry=at,
            buckets=_SECONDS,
        )
        self._answers = Counter("horen_answers", "Answers, by whether an edit gave them.", ("edited",), registry=at)
        self._scores = Histogram("horen_edit_score", "Scores with which edits fired.", registry=at, buckets=_SCORES)
        self._first = Histogram(
            "horen_first_token_seconds", "Seconds to the first part of an answer.", registry=at, buckets=_SECONDS
        )
        self._whole = Histogram("horen_answer_seconds", "Seconds to an answer's end.", registry=at, buckets=_SECONDS)
        self._tokens = Counter("horen_answer_tokens", "Tokens of answers.", registry=at)
        self._failed = Counter("horen_answers_failed", "Answers that ended in an error.", registry=at)
        self._edits = Gauge("horen_edits", "Edits, by state.", ("state",), registry=at)
        self._version = Gauge("horen_store_version", "The store's last version.", registry=at)
        self._lag = Gauge(
            "horen_engine_lag_versions", "Versions of the store that the engine does not answer with yet.", registry=at
        )
        self._drafts = Gauge(
            "horen_drafts", "Drafts, by state: those that wait or train are jobs.", ("state",), registry=at
        )
        self._engine = Gauge("horen_engine_requests", "Requests in the engine, by state.", ("state",), registry=at)
        self._running = Gauge("horen_answers_running", "Prompts that are being answered.", registry=at)
        self._ready = Gauge("horen_engine_ready", "Whether the engine answers.", registry=at)
        self._trainer = Gauge("horen_trainer_alive", "Whether the service's own trainer works.", registry=at)

    def requested(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an HTTP request.

        Args:
            method: of the request.
            route: its template, which has no number or name of a thing in it.
            status: of the answer.
            seconds: to the answer's end.
        """
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def answered(self, fired: Fired | None, first: float, whole: float, tokens: int) -> None:
        """Count an answer that came to its end.

        Args:
            fired: the edit that gave it.
            first: seconds to its first part.
            whole: seconds to its end.
            tokens: how many it has.
        """
        self._answers.labels("no" if fired is None else "yes").inc()
        if fired is not None:
            self._scores.observe(fired.score)
        self._first.observe(first)
        self._whole.observe(whole)
        self._tokens.inc(tokens)

    def failed(self) -> None:
        """Count an answer that ended in an error."""
        self._failed.inc()

    def seen(self, about: About, health: Health, running: int, trainer: bool | None) -> None:
        """Note how store, engine and trainer are now.

        Args:
            about: the store.
            health: of the engine.
            running: how many prompts are being answered.
            trainer: whether it works; None where there is none here.
        """
        self._running.set(running)
        self._version.set(about.version)
        self._edits.labels("active").set(about.active)
        self._edits.labels("inactive").set(about.edits - about.active)
        for state in _DRAFTS:
            self._drafts.labels(state).set(about.drafts.get(state, 0))
        self._engine.labels("running").set(health.running)
        self._engine.labels("waiting").set(health.waiting)
        self._ready.set(health.ready)
        if health.version is not None:
            self._lag.set(max(0, about.version - health.version))
        if trainer is not None:
            self._trainer.set(trainer)

    def told(self, accept: str) -> tuple[bytes, str]:
        """Return everything as text, and the name of its format.

        Args:
            accept: formats that are understood, as an Accept header has them.
        """
        encode, kind = choose_encoder(accept)
        return encode(self.registry), kind
