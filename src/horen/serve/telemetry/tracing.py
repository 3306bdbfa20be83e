"""Traces, as OpenTelemetry has them; nothing of it is imported where none are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from sqlalchemy import event

from horen.extras import need

_NAME = "horen"


class Tracing:
    """Makes spans, or none.

    Args:
        provider: of tracers, as OpenTelemetry's SDK makes one; None for no spans.
    """

    def __init__(self, provider: Any = None) -> None:
        self.provider = provider
        self._tracer = None if provider is None else provider.get_tracer(_NAME)

    @contextmanager
    def request(self, method: str, headers: Mapping[str, str]) -> Iterator[Callable[[str, int], None]]:
        """Give a function that notes the route and the status of a request; what its block does is below its span.

        Its path and its query are in no span: people look edits up by their words.

        Args:
            method: of the request.
            headers: of the request, which may name a span that it is below.
        """
        if self._tracer is None:
            yield _nothing
            return
        propagate, trace = import_module("opentelemetry.propagate"), import_module("opentelemetry.trace")
        with self._tracer.start_as_current_span(
            method,
            context=propagate.extract(headers),
            kind=trace.SpanKind.SERVER,
            attributes={"http.request.method": method},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:

            def told(route: str, status: int) -> None:
                span.update_name(f"{method} {route}")
                span.set_attributes({"http.route": route, "http.response.status_code": status})
                if status >= 500:
                    span.set_status(trace.StatusCode.ERROR)

            yield told

    @contextmanager
    def span(self, name: str, **attributes: Any) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        """Give a function that notes attributes of a span, which ends with the block.

        The span is below that of the request, and nothing comes below it: a block of a generator may end elsewhere
        than it began.

        Args:
            name: of the span.
            attributes: that it has from its beginning.
        """
        if self._tracer is None:
            yield _nothing
            return
        span = self._tracer.start_span(name, attributes=attributes)

        def told(further: Mapping[str, Any]) -> None:
            span.set_attributes({key: value for key, value in further.items() if value is not None})

        try:
            yield told
        except Exception as error:
            told({"error.type": type(error).__name__})  # its message may repeat a prompt
            raise
        finally:
            span.end()

    @contextmanager
    def database(self, engine: Any) -> Iterator[None]:
        """Make a span of each statement that a database is told within the block.

        Args:
            engine: SQLAlchemy's, of the database.
        """
        if self._tracer is None:
            yield
            return
        tracer = self._tracer

        def before(_: Any, __: Any, statement: str, ___: Any, context: Any, ____: Any) -> None:
            # The statement has places for what it is given, and no text of a prompt.
            attributes = {"db.system.name": engine.dialect.name, "db.query.text": statement}
            context.horen_span = tracer.start_span(statement.split(None, 1)[0], attributes=attributes)

        def after(_: Any, __: Any, ___: Any, ____: Any, context: Any, _____: Any) -> None:
            context.horen_span.end()

        def failed(told: Any) -> None:
            span = getattr(told.execution_context, "horen_span", None)
            if span is not None:
                span.set_attribute("error.type", type(told.original_exception).__name__)
                span.end()

        listeners = (("before_cursor_execute", before), ("after_cursor_execute", after), ("handle_error", failed))
        for name, listener in listeners:
            event.listen(engine, name, listener)
        try:
            yield
        finally:
            for name, listener in listeners:
                event.remove(engine, name, listener)

    def close(self) -> None:
        """Send what is not sent yet."""
        if self.provider is not None:
            self.provider.shutdown()


def _nothing(*_: Any) -> None:
    """Note nothing."""


def traced(exporter: Any = None) -> Tracing:
    """Return what makes spans and sends them.

    Args:
        exporter: where to; where none is given, an OTLP one that OpenTelemetry's environment variables tell about.

    Raises:
        MissingExtraError: where the extra "tracing" is not installed.
    """
    sdk = need("tracing", "opentelemetry.sdk.trace", "Traces need")
    export = need("tracing", "opentelemetry.sdk.trace.export", "Traces need")
    resources = need("tracing", "opentelemetry.sdk.resources", "Traces need")
    if exporter is None:
        otlp = need("tracing", "opentelemetry.exporter.otlp.proto.http.trace_exporter", "Traces need")
        exporter = otlp.OTLPSpanExporter()
    provider = sdk.TracerProvider(resource=resources.Resource.create({"service.name": _NAME}), shutdown_on_exit=False)
    provider.add_span_processor(export.BatchSpanProcessor(exporter))
    return Tracing(provider)
