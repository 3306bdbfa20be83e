"""A tiny edited model behind the interface: in this process, and on a server of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from openai_support import MOST, PLACES, Service, edited, service_of

from horen import Editor
from horen.serve.openai.places import Limits
from support.servers import running


@pytest.fixture(scope="session")
def editor() -> Editor:
    return edited()


@pytest.fixture(scope="session")
def server(editor: Editor) -> Iterator[Service]:
    service = service_of(editor, Limits(answers=PLACES, at_once=PLACES), MOST)
    with running(service.app) as service.url:
        yield service


@pytest.fixture
def service(server: Service) -> Service:
    """The server, with nothing told yet."""
    server.events.clear()
    return server


@pytest.fixture(scope="session")
def local(editor: Editor) -> TestClient:
    """The application in this process; whatever it raises is raised here."""
    return TestClient(service_of(editor).app)
