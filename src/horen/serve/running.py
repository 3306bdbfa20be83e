"""Running the application on a server, and ending it so that nobody notices."""

from __future__ import annotations

import math
import socket
import time
from types import FrameType

import uvicorn
from fastapi import FastAPI

from horen.errors import ConfigError
from horen.serve.service import Service
from horen.serve.settings import Settings


class Server(uvicorn.Server):
    """A server that says first that it ends, then takes nothing new, and lets what runs finish.

    A second signal ends it without waiting for balancers, and a third without waiting for answers.

    Args:
        app: as :func:`horen.serve.app.create_app` makes it.
    """

    def __init__(self, app: FastAPI) -> None:
        service: Service = app.state.service
        super().__init__(configuration(app, service.settings))
        self._life, self._drain = service.life, service.settings.drain_seconds
        self._until: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as it is called
        """Begin to end, as a signal asks for."""
        if self._until is None and self._drain:
            self._life.leave()
            self._until = time.monotonic() + self._drain
            return
        self._life.end()
        # The usual handler notes the signal and sends it again in the end, which would kill what is still to be closed.
        self.force_exit = self.should_exit
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Return whether to stop taking requests."""
        if self._until is not None and not self.should_exit and time.monotonic() >= self._until:
            self._life.end()
            self.should_exit = True
        return await super().on_tick(counter)


def configuration(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """Return how a server runs an application."""
    return uvicorn.Config(
        app,
        host=settings.address,
        port=settings.port,
        root_path=settings.root_path,
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=list(settings.proxies),
        server_header=False,
        access_log=False,
        log_config=None,
        ws="none",
        lifespan="on",
        timeout_keep_alive=15,
        timeout_graceful_shutdown=math.ceil(settings.closing_seconds),
    )


def bound(settings: Settings) -> socket.socket:
    """Return a socket where the settings say; bound already, so that an address in use is told of before a model loads.

    Raises:
        ConfigError: where that cannot be had.
    """
    family = socket.AF_INET6 if ":" in settings.address else socket.AF_INET
    found = socket.socket(family)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((settings.address, settings.port))
    except OSError as error:
        found.close()
        raise ConfigError(
            f"{settings.address}:{settings.port} cannot be had ({error.strerror}): name another port with --port, or "
            "end what uses it."
        ) from error
    return found


def run(app: FastAPI, place: socket.socket | None = None) -> None:
    """Serve an application until a signal ends it.

    Args:
        app: as :func:`horen.serve.app.create_app` makes it.
        place: where it is served; as its settings say where none is given.

    Raises:
        ConfigError: where the address cannot be had.
    """
    service: Service = app.state.service
    place = place or bound(service.settings)
    Server(app).run(sockets=[place])
