"""The page for everybody: keyboards alone, screen readers, both schemes, small screens, nothing that jumps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_support import EVALUATION, Visit, quick_service, visit
from playwright.sync_api import Browser, Page, expect

from horen.database import By, Facts, Proposal, Store
from support.page_services import Running
from support.services import KNOWN, copied, train

ANN = By("ann", "a long reason, which needs more than one line on a small screen, and then some more words")
LONG = "Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichenverordnung" * 2
PLACES = (
    "ask",
    "add",
    "facts",
    "facts/1",
    "sets",
    "drafts",
    "drafts/1",
    "drafts/2",
    "history",
    "history/1/diff/2",
    "keys",
    "audit",
)


@pytest.fixture(scope="module")
def kept(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with copied(template, tmp_path_factory.mktemp("access")) as store:
        store.sets.make("boats", ANN)
        facts = Facts("Boats", "https://example.org/" + "a" * 90, ("harbour", "old"), "boats")
        store.drafts.propose([Proposal(f"Who has {LONG}?", LONG, facts=facts, evaluate=True)], ANN)
        train(store, EVALUATION)
        store.drafts.publish([1], ANN)
        store.drafts.propose([Proposal(KNOWN.prompt, "Paul Evers", evaluate=True, wrong=LONG)], ANN)
        train(store, EVALUATION)
        yield store


@pytest.fixture(scope="module")
def server(kept: Store) -> Iterator[Running]:
    with quick_service(kept) as running:
        yield running


def asked(here: Visit) -> None:
    here.page.get_by_role("textbox", name="Question").fill("Who leads it?")
    here.click("Ask", exact=True)
    here.see("Fact 1 answers")
    expect(here.page.locator(".answers .answer").first).to_have_text("Mira Sand")
    expect(here.page.locator('[aria-busy="true"]')).to_have_count(0)


def test_what_keeps_people_out_would_be_found(here: Visit):
    here.go("facts")
    here.page.evaluate("document.querySelector('main').append(document.createElement('button'))")
    assert [finding.split(":")[0] for finding in here.axe()] == ["button-name"]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 320)])
def test_no_view_keeps_anybody_out(browser: Browser, server: Running, scheme: Any, width: int):
    with visit(browser, server.url, color_scheme=scheme, viewport={"width": width, "height": 800}) as here:
        for place in PLACES:
            here.go(place)
            if place == "ask":
                asked(here)
            here.page.locator("summary").click()
            assert here.axe() == [], place
            assert here.overflow() <= 0, place
            expect(here.page.locator("h1")).to_have_count(1)
            expect(here.page.locator("main")).to_have_count(1)
            assert here.page.title().endswith("· HoReN")


DIALOGS = (
    ("ask", "This answer is wrong…"),
    ("facts/1", "Remove…"),
    ("drafts/2", "Publish…"),
    ("history", "Roll back… to version 1"),
    ("history", "Name… version 1"),
    ("keys", "New key…"),
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_dialog_keeps_anybody_out(browser: Browser, server: Running, scheme: Any):
    with visit(browser, server.url, color_scheme=scheme, viewport={"width": 320, "height": 800}) as here:
        for place, button in DIALOGS:
            here.go(place)
            if place == "ask":
                asked(here)
            here.click(button)
            assert here.axe() == [], button
            assert here.overflow() <= 0, button
            here.page.keyboard.press("Escape")
        for place, button in (("facts/1", "Change what is noted…"), ("drafts/2", "Revise…")):
            here.go(place)
            here.click(button)
            assert here.axe() == [], button


def focused(page: Page) -> str:
    """What has the focus, by its name."""
    return str(
        page.evaluate(
            "(e => e.getAttribute('aria-label') || (e.labels && e.labels[0] ? e.labels[0].textContent : e.textContent))"
            "(document.activeElement)"
        )
    ).strip()


def tab_to(page: Page, name: str, most: int = 60) -> None:
    """Press Tab until something has the focus, which must be seen to have it."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if focused(page).startswith(name):
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", name
            return
    raise AssertionError(f"Tab does not lead to {name!r}")


def test_a_keyboard_is_enough(here: Visit, kept: Store):
    page = here.page
    here.go("history")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.reload()
    here.heading("History")
    tab_to(page, "Add a fact")
    page.keyboard.press("Enter")
    here.heading("Add a fact")
    assert focused(page) == "Add a fact"
    tab_to(page, "Question")
    page.keyboard.type("Who rings the bell?")
    tab_to(page, "Answer")
    page.keyboard.type("Oslo")
    page.keyboard.press("Control+Enter")
    here.see("It waits for a trainer.")
    train(kept)
    here.see("Ready to publish")
    tab_to(page, "Reject…")
    page.keyboard.press("Enter")
    expect(here.dialog()).to_be_visible()
    for _ in range(12):
        page.keyboard.press("Tab")
        assert page.evaluate(
            "document.activeElement === document.body || document.activeElement.closest('dialog') !== null"
        )
    page.keyboard.press("Escape")
    expect(here.dialog()).to_have_count(0)
    assert focused(page) == "Reject…"
    page.keyboard.press("Shift+Tab")
    tab_to(page, "Reject…")
    page.keyboard.press("Space")
    tab_to(page, "Reject")
    page.keyboard.press("Enter")
    here.told("is rejected")


def test_sets_and_menus_work_with_a_keyboard_on_a_small_screen(browser: Browser, server: Running, kept: Store):
    with visit(browser, server.url, viewport={"width": 320, "height": 700}) as here:
        here.go("facts")
        tab_to(here.page, "Menu")
        here.page.keyboard.press("Enter")
        expect(here.page.get_by_role("button", name="Menu")).to_have_attribute("aria-expanded", "true")
        tab_to(here.page, "Facts")
        here.page.keyboard.press("Enter")
        here.heading("Facts")
        tab_to(here.page, "Set boats")
        here.page.keyboard.press("Space")
        here.told("switched off")
        tab_to(here.page, "Undo")
        here.page.keyboard.press("Enter")
        here.told("Took version")
        assert all(found.on for found in kept.sets.list())


def test_answers_are_announced_when_they_are_whole(here: Visit):
    here.go("ask")
    asked(here)
    for answer in here.page.locator(".answers .answer").all():
        expect(answer).to_have_attribute("aria-live", "polite")
        expect(answer).to_have_attribute("aria-busy", "false")


def test_nothing_moves_where_motion_is_not_wanted_and_nothing_jumps(browser: Browser, server: Running):
    watch = """
    window.jumps = [];
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.jumps.push(entry.value);
    }).observe({type: 'layout-shift', buffered: true});
    """
    with visit(browser, server.url) as here:
        here.page.add_init_script(watch)
        for place in PLACES:
            here.page.goto("about:blank")
            here.go(place)
            here.page.wait_for_timeout(200)
            assert sum(here.page.evaluate("window.jumps")) < 0.1, place
            assert here.page.evaluate("document.getAnimations().length") == 0
