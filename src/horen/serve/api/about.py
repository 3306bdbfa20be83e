"""What this service is, and how it is."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from horen._version import __version__
from horen.errors import HorenError
from horen.serve.api.answers import AboutTold, Alive, EngineTold, Ready, Rules, You
from horen.serve.api.errors import documented
from horen.serve.api.fields import Here
from horen.serve.auth import Principal, needs, principal_of
from horen.serve.engines.interface import Health
from horen.serve.service import Service

router = APIRouter(tags=["service"])
# An engine that does not say how it is within this time, in seconds, is not ready.
_PATIENCE = 5.0


async def health_of(here: Service) -> Health:
    """Return how the engine is; not ready where it does not say so in time."""
    try:
        async with asyncio.timeout(_PATIENCE):
            return await here.engine.health()
    except TimeoutError:
        return Health(ready=False, why=f"The engine has not said how it is for {_PATIENCE:g} s.")
    except HorenError as error:
        return Health(ready=False, why=str(error))


@router.get("/about", summary="The service", responses=documented())
async def about(here: Here, who: Annotated[Principal, needs("read")]) -> AboutTold:
    """Return what the store is, what answers, how the service is run, and who asks."""
    health, store = await health_of(here), await run_in_threadpool(here.store.about)
    engine = EngineTold(
        model=here.engine.model,
        context=here.engine.context,
        ready=health.ready,
        running=health.running,
        waiting=health.waiting,
        version=health.version,
        why=health.why,
    )
    rules = Rules(
        four_eyes=here.settings.four_eyes,
        keep_prompts=here.settings.keep_prompts,
        explains=here.explainer is not None,
        trains=None if here.trainer is None else here.trainer.alive,
    )
    asker = You(actor=who.actor, scopes=who.scopes)
    return AboutTold(horen=__version__, store=store, engine=engine, service=rules, you=asker)


@router.get("/you", summary="Who asks", responses=documented())
async def you(who: Annotated[Principal, needs()]) -> You:
    """Return who asks and what they may; any key is enough."""
    return You(actor=who.actor, scopes=who.scopes)


@router.get("/healthz", summary="Whether the process runs")
async def healthz() -> Alive:
    """Say that the process runs."""
    return Alive()


@router.get("/readyz", summary="Whether requests are answered", responses={503: {"model": Ready}})
async def readyz(here: Here, response: Response) -> Ready:
    """Say whether the store can be read and the engine answers; with status 503 where they do not."""
    why = await _unready(here)
    response.status_code = 503 if why else 200
    return Ready(ready=not why, why=why)


async def _unready(here: Service) -> str:
    """Return why requests are not answered; nothing where they are. It names nothing that only keys may know."""
    if here.life.leaving:
        return "The service ends."
    try:
        await run_in_threadpool(lambda: here.store.version)
    except HorenError:
        return "The store cannot be read."
    return "" if (await health_of(here)).ready else "The engine is not ready."


@router.get(
    "/metrics",
    summary="What is counted",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "As Prometheus reads it."}, **documented()},
)
async def metrics(here: Here, request: Request) -> Response:
    """Return what is counted, as Prometheus reads it; needs the scope read, unless the service tells everybody."""
    if not here.settings.open_metrics:
        principal_of(request).check("read")
    health, store = await health_of(here), await run_in_threadpool(here.store.about)
    here.metrics.seen(store, health, here.life.running, None if here.trainer is None else here.trainer.alive)
    content, kind = here.metrics.told(request.headers.get("accept", ""))
    return Response(content, media_type=kind)
