"""The page in a browser, and what is looked for in it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page, Playwright, expect

from horen.database import Store
from horen.serve.app import create_app
from horen.serve.settings import Settings
from support.page_services import Running, free_port
from support.services import KNOWN, QuickEngine, QuickExplainer
from support.tiny_tokenizers import tiny_tokenizer

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_PATIENCE = 20_000
#: What a trainer might find of a draft.
EVALUATION: dict[str, Any] = {
    "version": 1,
    "own": [
        {
            "prompt": "Who has a lamp?",
            "kind": "prompt",
            "context": "plain",
            "before": "",
            "answer": "Oslo",
            "fires": True,
            "score": 0.9,
            "correct": True,
        },
        {
            "prompt": "Who has a lamp?",
            "kind": "prompt",
            "context": "chat",
            "before": "Rome",
            "answer": "Rome",
            "fires": False,
            "score": 0.2,
            "correct": False,
        },
    ],
    "neighbours": [
        {
            "prompt": KNOWN.prompt,
            "edit": 1,
            "why": "near",
            "before": "Mira Sand",
            "answer": "Oslo",
            "fires": True,
            "score": 0.8,
            "changed": True,
        }
    ],
    "prompts": [
        {"prompt": "Hello", "before": "Hi", "answer": "Hi", "fires": False, "score": 0.1, "changed": False},
    ],
    "summary": {"own_right": 1, "own_asked": 2, "disturbed": 1, "asked": 2},
}
# What is meant to fail where a test wants it to.
_REFUSED = re.compile(r"Failed to load resource")


def begun(playwright: Playwright) -> Browser:
    """A browser that asks nothing of anybody else."""
    expect.set_options(timeout=_PATIENCE)
    return playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)


@dataclass
class Visit:
    """Somebody at the page."""

    page: Page
    url: str
    faults: list[str] = field(default_factory=list)

    @property
    def context(self) -> BrowserContext:
        return self.page.context

    def go(self, place: str) -> Visit:
        """Open a place of the page, as "facts/1", and wait until it is there."""
        self.page.goto(f"{self.url}/#/{place}")
        expect(self.page.locator("h1")).not_to_have_text("HoReN")
        expect(self.page.locator(".waiting")).to_have_count(0)
        return self

    def fill(self, label: str, text: str) -> None:
        self.page.get_by_label(label).first.fill(text)

    def click(self, name: str, **more: Any) -> None:
        self.page.get_by_role("button", name=name, **more).click()

    def follow(self, name: str, **more: Any) -> None:
        self.page.get_by_role("link", name=name, **more).click()

    def see(self, text: str, times: int | None = None) -> None:
        found = self.page.get_by_text(text)
        if times is None:
            expect(found.first).to_be_visible()
        else:
            expect(found).to_have_count(times)

    def told(self, text: str) -> None:
        """The page has said so in its status line."""
        expect(self.page.locator(".told")).to_contain_text(text)

    def heading(self, text: str) -> None:
        expect(self.page.locator("h1")).to_have_text(text)

    def dialog(self) -> Any:
        return self.page.get_by_role("dialog")

    def axe(self) -> list[str]:
        """Serious and critical findings of axe-core, as words."""
        found = Axe().run(self.page).response["violations"]
        return [
            f"{one['id']}: {one['help']} ({node['html'][:120]})"
            for one in found
            for node in one["nodes"]
            if one["impact"] in {"serious", "critical"}
        ]

    def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@contextmanager
def visit(browser: Browser, url: str, key: str | None = None, **context: Any) -> Iterator[Visit]:
    """Open the page; whatever it reports as an error, and whatever its policy keeps it from, fails the test."""
    with browser.new_context(
        **{"viewport": {"width": 1200, "height": 800}, "reduced_motion": "reduce", **context}
    ) as made:
        made.set_default_timeout(_PATIENCE)
        page = made.new_page()
        found = Visit(page, url)
        if key is not None:
            page.add_init_script(f"sessionStorage.setItem('horen.key', '{key}')")

        def noted(message: ConsoleMessage) -> None:
            if message.type in {"error", "warning"} and not _REFUSED.match(message.text):
                found.faults.append(message.text)

        def failed(error: Error) -> None:
            found.faults.append(str(error))

        page.on("console", noted)
        page.on("pageerror", failed)
        yield found
        assert not found.faults


@contextmanager
def quick_service(store: Store, **settings: Any) -> Iterator[Running]:
    """A service whose engine takes no time; drafts are trained when a test says so."""
    port = free_port()
    told = Settings(port=port, rate=10**6, **settings)
    running = Running(create_app(store, QuickEngine(), told, QuickExplainer(), tiny_tokenizer("chatml")), port)
    running.start()
    try:
        yield running
    finally:
        running.stop()
