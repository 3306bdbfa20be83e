"""Drafts in the page: seen, revised, checked, decided; and what a key may not do is not offered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from page_support import EVALUATION, Visit, quick_service, visit
from playwright.sync_api import Browser, expect

from horen.database import By, Facts, Proposal, Store
from support.page_services import Running
from support.services import KNOWN, copied, key, train

ANN = By("ann", "the board said so")


@pytest.fixture(scope="module")
def kept(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with copied(template, tmp_path_factory.mktemp("drafts")) as store:
        yield store


@pytest.fixture(scope="module")
def keys(kept: Store) -> dict[str, str]:
    """Keys by the names of who holds them."""
    return {
        "root": key(kept, "admin", name="root"),
        "ann": key(kept, "ask", "read", "edit", "publish", name="ann"),
        "bob": key(kept, "ask", "read", "edit", "publish", name="bob"),
        "eve": key(kept, "read", "edit", name="eve"),
        "reader": key(kept, "read", name="reader"),
        "asker": key(kept, "ask", name="asker"),
    }


@pytest.fixture(scope="module")
def server(kept: Store) -> Iterator[Running]:
    with quick_service(kept, four_eyes=True) as running:
        yield running


@pytest.fixture
def ann(browser: Browser, keys: dict[str, str], server: Running) -> Iterator[Visit]:
    with visit(browser, server.url, keys["ann"]) as found:
        yield found


@pytest.fixture
def bob(browser: Browser, server: Running, keys: dict[str, str]) -> Iterator[Visit]:
    with visit(browser, server.url, keys["bob"]) as found:
        yield found


def proposed(store: Store, prompt: str, target: str, **more: object) -> int:
    (draft,) = store.drafts.propose([Proposal(prompt, target, **more)], ANN)
    return draft.id


def test_a_draft_is_watched_checked_and_published_by_another(ann: Visit, bob: Visit, kept: Store):
    ann.go("add")
    ann.fill("Question", "Who has a lamp?")
    ann.fill("Answer", "Oslo")
    ann.fill("Other ways to ask", "Whose lamp is it?\n\nWho owns the lamp?")
    ann.fill("Tags", "lamps")
    ann.see("Here another person than its author publishes a fact.")
    ann.click("Make a draft")
    ann.see("It waits for a trainer.")
    draft = kept.drafts.list().items[0]
    assert draft.rephrases == ("Whose lamp is it?", "Who owns the lamp?")
    (job,) = kept.training.take("somebody", 1)
    kept.training.hold([job], "somebody", 3, 12)
    ann.see("In training: step 3 of 12.")
    expect(ann.page.get_by_role("progressbar")).to_have_js_property("value", 3)
    kept.drafts.revise(draft.id, ANN, target="Rome")
    kept.drafts.revise(draft.id, ANN, target="Oslo")
    train(kept, EVALUATION)
    ann.see("Ready to publish")
    for text in (
        "1 of 2",
        "own questions answered right",
        "✗ not right",
        "✗ the draft answers it",
        "✓ no",
        "(nothing)",
    ):
        ann.see(text)
    ann.see("You wrote this draft: here another person publishes it (four eyes).")
    expect(ann.page.get_by_role("button", name="Publish…")).to_have_count(0)
    bob.go("drafts?state=ready")
    bob.follow("Who has a lamp?")
    bob.click("Publish…")
    bob.dialog().get_by_label("Why").fill("checked")
    bob.dialog().get_by_role("button", name="Publish").click()
    bob.told("Published as fact")
    bob.see("checked")
    ann.see("Published")


def test_a_draft_that_contradicts_a_fact_shows_both_and_may_replace_it(bob: Visit, kept: Store):
    number = proposed(kept, KNOWN.prompt, "Paul Evers", facts=Facts(source="the minutes"))
    train(kept)
    bob.go(f"drafts/{number}")
    bob.click("Publish…")
    dialog = bob.dialog()
    dialog.get_by_role("button", name="Publish", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("Mira Sand")
    expect(dialog.locator(".side")).to_have_count(2)
    expect(dialog.locator(".side").first).to_contain_text("Mira Sand")
    expect(dialog.locator(".side").last).to_contain_text("Paul Evers")
    dialog.get_by_role("button", name="Publish and replace fact 1").click()
    bob.told("Published as fact")
    assert kept.edits.get(1).state == "retired"


def test_a_draft_is_revised_checked_again_and_rejected(ann: Visit, kept: Store):
    number = proposed(kept, "Where is the mill?", "Rome")
    train(kept)
    ann.go(f"drafts/{number}")
    ann.click("Revise…")
    ann.fill("Answer", "Oslo")
    ann.fill("Subject", "The mill")
    ann.click("Save")
    ann.told("revised")
    ann.see("It waits for a trainer.")
    train(kept)
    ann.see("Ready to publish")
    ann.see("The mill")
    ann.click("Check what it changes")
    ann.see("Waiting for training")
    train(kept, EVALUATION)
    ann.see("Check again")
    ann.click("Reject…")
    ann.dialog().get_by_label("Why").fill("it burnt down")
    ann.dialog().get_by_role("button", name="Reject").click()
    ann.told("is rejected")
    ann.see("it burnt down")
    expect(ann.page.get_by_role("button", name="Revise…")).to_have_count(0)


def test_why_a_draft_failed_is_told(ann: Visit, kept: Store):
    number = proposed(kept, "Where is the well?", "Rome")
    (job,) = kept.training.take("somebody", 1)
    kept.training.fail(job, "somebody", "The answer is too long: say it shorter.")
    ann.go(f"drafts/{number}")
    expect(ann.page.get_by_role("alert").filter(has_text="too long")).to_be_visible()
    ann.go("drafts?state=failed")
    ann.see("Where is the well?")


def test_what_a_key_may_not_do_is_not_offered(browser: Browser, server: Running, keys: dict[str, str], kept: Store):
    number = proposed(kept, "Where is the tower?", "Rome")
    train(kept)
    with visit(browser, server.url, keys["reader"]) as reader:
        reader.go("facts")
        places = reader.page.get_by_role("navigation", name="Main").get_by_role("link")
        assert [place.split()[0] for place in places.all_inner_texts()] == ["Facts", "Drafts", "History"]
        reader.go(f"drafts/{number}")
        reader.see("Somebody whose key may publish decides about it.")
        expect(reader.page.locator("article button")).to_have_count(0)
        reader.go("history")
        reader.see("Choose two versions")
        expect(reader.page.get_by_role("button", name="Roll back")).to_have_count(0)
        reader.page.goto(f"{server.url}/#/keys")
        reader.see("Keys needs the right “admin”, and your key (reader) does not have it.")
    with visit(browser, server.url, keys["eve"]) as eve:
        eve.go(f"drafts/{number}")
        eve.see("Revise…")
        expect(eve.page.get_by_role("button", name="Publish…")).to_have_count(0)
        expect(eve.page.get_by_role("button", name="Reject…")).to_have_count(0)
        eve.go("add")
        eve.see("Somebody whose key may publish decides about it.")
    with visit(browser, server.url, keys["asker"]) as asker:
        asker.page.goto(server.url)
        asker.heading("Ask")
        asker.see("You are")
        expect(asker.page.get_by_role("navigation", name="Main").get_by_role("link")).to_have_count(1)


def test_keys_are_made_renewed_and_taken_back(browser: Browser, server: Running, keys: dict[str, str], kept: Store):
    with visit(browser, server.url, keys["root"]) as root:
        root.go("keys")
        root.click("New key…")
        root.dialog().get_by_label("Name").fill("zoe")
        root.dialog().get_by_label("Propose facts").check()
        root.dialog().get_by_label("Until").fill("2199-01-31")
        root.click("Make the key")
        secret = root.page.locator(".secret").inner_text()
        found = kept.keys.find(secret)
        assert found is not None
        assert (found.name, found.scopes, found.expires[:4]) == ("zoe", ("ask", "read", "edit"), "2199")
        root.click("Done")
        root.click("Renew… zoe")
        root.dialog().get_by_role("button", name="Renew").click()
        renewed = root.page.locator(".secret").inner_text()
        assert kept.keys.find(secret) is None
        assert kept.keys.find(renewed) is not None
        root.page.keyboard.press("Escape")
        expect(root.page.locator("tr.asleep")).to_have_count(1)
        root.click("Take back… zoe")
        root.dialog().get_by_role("button", name="Take back").click()
        root.told("is taken back")
        assert kept.keys.find(renewed) is None
        root.go("audit?action=key.revoke")
        expect(root.page.locator("td code")).to_have_text(["key.revoke"])
        root.fill("What", "key.rotate")
        expect(root.page.locator("td code")).to_have_text(["key.rotate"])
        root.fill("Who", "nobody")
        root.see("Nothing is noted that is like that.")


def test_a_key_is_entered_once_and_wrong_ones_are_told(browser: Browser, server: Running, keys: dict[str, str]):
    with visit(browser, server.url) as guest:
        guest.page.goto(f"{server.url}/#/facts")
        dialog = guest.dialog()
        expect(dialog).to_contain_text("Enter your key")
        dialog.get_by_role("textbox").fill("hk_wrong")
        guest.click("Use this key")
        expect(dialog.get_by_role("alert")).to_contain_text("unknown, revoked or has expired")
        dialog.get_by_role("textbox").fill(keys["bob"])
        guest.click("Use this key")
        guest.heading("Facts")
        guest.see("bob")
        guest.page.reload()
        guest.heading("Facts")
        assert guest.page.evaluate("Object.keys(localStorage).length + document.cookie.length") == 0
        guest.click("Change key")
        guest.click("Forget the key")
        expect(guest.dialog()).to_contain_text("Enter your key")
