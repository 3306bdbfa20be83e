"""The application: everything put together."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from transformers import PreTrainedTokenizerBase

from horen._version import __version__
from horen.extras import require
from horen.serve import guards
from horen.serve.api import routes
from horen.serve.api.errors import handle_errors
from horen.serve.auth import Admission, Doorkeeper, Principal, needs
from horen.serve.describing import TAGS, describe, operation
from horen.serve.engines.interface import Engine
from horen.serve.life import Life
from horen.serve.limits import BodySize, BodyTime, ReadTime
from horen.serve.openai.places import Limits
from horen.serve.openai.prompts import Served
from horen.serve.openai.routes import openai_router
from horen.serve.page import add_page
from horen.serve.prompts import Prompts
from horen.serve.reference import reference
from horen.serve.service import Explainer, Service, Trainer
from horen.serve.settings import Settings, check_binding
from horen.serve.telemetry.metrics import Metrics
from horen.serve.telemetry.observed import ObservedEngine
from horen.serve.telemetry.requests import Requests
from horen.serve.telemetry.tracing import Tracing, traced
from horen.serve.wanting import resolver

if TYPE_CHECKING:
    from horen.database import Store

_log = logging.getLogger(__name__)
_DESCRIPTION = """
Correct what a language model knows, one fact after another: propose edits, see what they change, publish them, take
them back.

Every request but those for the page carries a key, whose scopes say what it may do: **ask** the model, **read** edits,
drafts and versions, **edit**: propose and revise drafts, **publish**: decide, remove, roll back, **admin**: all,
and keys.
"""
#: What needs no key: nothing of the store is in it.
_PUBLIC = frozenset({"/", "/healthz", "/readyz", "/openapi.json", "/docs", "/favicon.ico"})
_PUBLIC_BELOW = ("/assets/", "/docs/")


def create_app(
    store: Store,
    engine: Engine,
    settings: Settings,
    explainer: Explainer | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    trainer: Trainer | None = None,
) -> FastAPI:
    """Return the application that serves a store.

    When it ends, running answers are finished first, for so long as the settings say; then trainer and engine are
    closed. The store stays open: who has opened it closes it.

    Args:
        store: its edits.
        engine: what answers.
        settings: how it is run.
        explainer: what says where prompts go; None where nothing can.
        tokenizer: of the model.
        trainer: what trains drafts; None where another process does.

    Raises:
        ConfigError: where it could be reached from elsewhere, and the store has no key.
        MissingExtraError: where what the settings ask for is not installed.
        StoreError: when the store cannot be read.
    """
    check_binding(settings, store)
    if settings.mcp:
        require("mcp", "Tools for assistants need")
    service = _service(store, engine, settings, explainer, tokenizer, trainer)
    app = FastAPI(
        title="HoReN",
        version=__version__,
        summary="Edits of a language model, and the model with its edits.",
        description=_DESCRIPTION,
        openapi_tags=[{"name": name, "description": words} for name, words in TAGS],
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=operation,
        lifespan=_lifespan(service),
        **_untraced(),
    )
    app.state.service = service
    describe(app)
    handle_errors(app)
    _route(app, service)
    _guard(app, service)
    return app


def _untraced() -> dict[str, Any]:
    """Return what FastAPI is told, so that a release which makes spans itself makes none: ours have no queries."""
    if "telemetry" not in inspect.signature(FastAPI.__init__).parameters:
        return {}
    return {"telemetry": dict.fromkeys(("tracing", "metrics", "logs", "operation_spans", "auto_configure"), False)}


def _service(
    store: Store,
    engine: Engine,
    settings: Settings,
    explainer: Explainer | None,
    tokenizer: PreTrainedTokenizerBase | None,
    trainer: Trainer | None,
) -> Service:
    """Return what the service is made of, with an engine that tells what it does."""
    metrics, life, prompts = Metrics(), Life(), Prompts()
    tracing = traced() if settings.tracing else Tracing()
    observed = ObservedEngine(engine, settings, metrics, life, prompts, tracing, tokenizer)
    return Service(store, observed, settings, explainer, tokenizer, trainer, prompts, metrics, life, tracing)


def _route(app: FastAPI, service: Service) -> None:
    """Add every route: what the model is asked by, the service's own interface, and its description."""
    if service.tokenizer is not None:
        most = service.settings.max_running
        app.include_router(
            openai_router(
                [Served(service.engine, service.tokenizer)],
                resolve=resolver(service.store),
                principal=_asker,
                limits=Limits(answers=min(128, most), at_once=most),
            )
        )
    app.include_router(routes())
    app.include_router(reference())
    add_page(app)


def _asker(who: Annotated[Principal, needs("ask")]) -> Principal:
    """Return who asks the model, if they may."""
    return who


def _guard(app: FastAPI, service: Service) -> None:
    """Put the guards around an application; the last that is added is the first that a request comes to."""
    doorkeeper, settings = Doorkeeper(service.store, service.settings), service.settings
    app.add_middleware(BodySize, most=settings.max_body)
    app.add_middleware(BodyTime, seconds=settings.body_seconds)
    app.add_middleware(ReadTime, seconds=settings.read_seconds)
    app.add_middleware(Admission, doorkeeper=doorkeeper, public=_public(settings))
    app.add_middleware(guards.JsonBody)
    app.add_middleware(guards.SameSite, settings=settings, pages=("/", "/docs"))
    app.add_middleware(guards.PlainPath)
    app.add_middleware(Requests, metrics=service.metrics, tracing=service.tracing)
    app.add_middleware(guards.SafeHeaders)


def _public(settings: Settings) -> Callable[[str], bool]:
    """Return what says whether a path is for everybody."""
    alone = _PUBLIC | {"/metrics"} if settings.open_metrics else _PUBLIC
    return lambda path: path in alone or path.startswith(_PUBLIC_BELOW)


def _lifespan(service: Service) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Return what runs around an application's life."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.enter_context(service.tracing.database(service.store.database.engine))
            if service.settings.mcp:
                # The room needs a package that only those have who want tools.
                mounting = import_module("horen.serve.mcp.mounted")
                await stack.enter_async_context(mounting.mount(app))
            stack.push_async_callback(_end, service)
            yield
        await run_in_threadpool(service.tracing.close)

    return life


async def _end(service: Service) -> None:
    """Let running answers finish, then close what the service has."""
    service.life.end()
    if not await service.life.finished(service.settings.closing_seconds):
        seconds = service.settings.closing_seconds
        _log.warning("%d answers were not finished after %g s, and are broken off.", service.life.running, seconds)
    if service.trainer is not None:
        await run_in_threadpool(service.trainer.close)
    await service.engine.close()
