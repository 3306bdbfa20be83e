"""A browser, a service of its own for each module, and somebody who visits its page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from page_support import CHROMIUM, Visit, begun, quick_service, visit
from playwright.sync_api import Browser, sync_playwright

from horen.database import Store
from support.page_services import Running
from support.services import copied


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """For one module and no longer: while Playwright runs, its event loop counts as running in this thread."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        found = begun(playwright)
        yield found
        found.close()


@pytest.fixture(scope="module")
def kept(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store that the tests of a module share, with one edit."""
    with copied(template, tmp_path_factory.mktemp("page")) as store:
        yield store


@pytest.fixture(scope="module")
def server(kept: Store) -> Iterator[Running]:
    with quick_service(kept) as running:
        yield running


@pytest.fixture
def here(browser: Browser, server: Running) -> Iterator[Visit]:
    """Somebody on the service's own machine."""
    with visit(browser, server.url) as found:
        yield found
