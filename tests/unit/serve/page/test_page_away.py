"""The page where the network is slow, and where the service is gone for a while or says no."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from page_support import Visit, quick_service, visit
from playwright.sync_api import Browser, Route, expect

from horen.database import Store
from support.page_services import Running
from support.services import copied

_GONE = "The service cannot be reached."


@pytest.fixture
def own(template: Path, tmp_path: Path) -> Iterator[Store]:
    with copied(template, tmp_path) as store:
        yield store


@pytest.fixture
def server(own: Store) -> Iterator[Running]:
    with quick_service(own) as running:
        yield running


def test_nothing_is_lost_while_the_service_is_away(here: Visit, server: Running, own: Store):
    here.go("add")
    here.fill("Question", "Who keeps the light?")
    server.stop()
    here.fill("Answer", "Oslo")
    here.click("Make a draft")
    expect(here.page.get_by_role("alert").filter(has_text=_GONE).first).to_be_visible()
    expect(here.page.get_by_role("alert").filter(has_text="is kept").first).to_be_visible()
    expect(here.page.get_by_label("Question").first).to_have_value("Who keeps the light?")
    here.click("Try now")
    server.start()
    expect(here.page.get_by_role("alert").filter(has_text="It is tried again")).to_have_count(0)
    here.click("Make a draft")
    here.heading("Draft 1")
    assert own.drafts.get(1).target == "Oslo"
    here.go("add")
    expect(here.page.get_by_label("Question").first).to_have_value("")


def test_a_form_is_kept_over_views_and_reloads(here: Visit):
    here.go("add")
    here.fill("Question", "Half a question")
    here.go("facts/1")
    here.click("Change the answer…")
    here.fill("New answer", "Half an answer")
    here.page.reload()
    here.click("Change the answer…")
    expect(here.page.get_by_label("New answer")).to_have_value("Half an answer")
    here.go("add")
    expect(here.page.get_by_label("Question").first).to_have_value("Half a question")
    here.click("Clear")
    here.page.reload()
    expect(here.page.get_by_label("Question").first).to_have_value("")


def test_the_page_waits_for_a_service_that_is_not_there_yet(browser: Browser, server: Running):
    with visit(browser, server.url) as here:
        here.page.route(re.compile("/you$"), lambda route: route.abort())
        here.page.goto(f"{server.url}/#/facts")
        expect(here.page.get_by_role("alert").filter(has_text=_GONE)).to_be_visible()
        here.page.unroute(re.compile("/you$"))
        here.heading("Facts")
        here.see("Who leads Fennick Robotics?")


def test_a_list_that_cannot_be_read_is_told_and_tried_again(here: Visit):
    failing = {
        "error": {"message": "The store is full: make room.", "type": "server_error", "param": None, "code": "x"}
    }

    def fail(route: Route) -> None:
        route.fulfill(status=503, json=failing)

    here.go("add")
    here.page.route(re.compile("/versions"), fail)
    here.page.goto(f"{here.url}/#/history")
    expect(here.page.get_by_role("alert").filter(has_text="The store is full")).to_be_visible()
    here.page.unroute(re.compile("/versions"))
    here.click("Try again")
    here.see("Version 1")


def test_a_service_that_does_not_answer_is_not_waited_for_for_ever(here: Visit):
    here.go("add")
    here.page.clock.install()
    here.page.route(re.compile("/versions"), lambda _: None)
    here.page.goto(f"{here.url}/#/history")
    expect(here.page.locator(".waiting")).to_be_visible()
    here.page.clock.run_for(25_000)
    expect(here.page.get_by_role("alert").filter(has_text="has not answered in time")).to_be_visible()
    here.page.unroute(re.compile("/versions"))
    here.click("Try again")
    here.see("Version 1")


def test_who_asks_before_the_model_is_known_is_answered(browser: Browser, server: Running):
    with visit(browser, server.url) as here:
        here.page.route(re.compile("/v1/models"), lambda _: None)
        here.go("ask")
        here.page.get_by_role("textbox", name="Question").fill("Who?")
        here.click("Ask", exact=True)
        here.see("Waiting for the model…", 2)
        here.page.unroute(re.compile("/v1/models"))
        here.click("Ask again")
        expect(here.page.locator(".answers .answer").first).to_have_text("Mira Sand")


def test_an_answer_that_fails_on_its_way_is_told(here: Visit):
    broken = 'data: {"error": {"message": "The engine has stopped.", "type": "server_error"}}\n\n'
    here.page.route(
        re.compile("/v1/chat"), lambda route: route.fulfill(body=broken, content_type="text/event-stream", status=200)
    )
    here.go("ask")
    here.page.get_by_role("textbox", name="Question").fill("Who?")
    here.click("Ask", exact=True)
    expect(here.page.get_by_role("alert").filter(has_text="The engine has stopped.")).to_have_count(2)


def test_a_slow_network_shows_that_something_comes(browser: Browser, server: Running):
    with visit(browser, server.url) as here:
        slow = here.context.new_cdp_session(here.page)
        slow.send("Network.enable")
        slow.send(
            "Network.emulateNetworkConditions",
            {"offline": False, "latency": 300, "downloadThroughput": 100_000, "uploadThroughput": 50_000},
        )
        here.page.goto(f"{server.url}/#/facts")
        expect(here.page.locator(".waiting")).to_be_visible()
        here.see("Who leads Fennick Robotics?")
        loaded = here.page.evaluate(
            "performance.getEntriesByType('resource').filter((e) => e.name.includes('/assets/'))"
            ".map((e) => [e.name, e.responseEnd, e.encodedBodySize])"
        )
        assert sum(size for _, _, size in loaded) < 80_000
        assert max(end for _, end, _ in loaded) < 15_000
        here.go("add")
        here.fill("Question", "Who?")
        here.fill("Answer", "Oslo")
        here.page.get_by_role("button", name="Make a draft").click(no_wait_after=True)
        here.see("Sending…")
        here.heading("Draft 1")
