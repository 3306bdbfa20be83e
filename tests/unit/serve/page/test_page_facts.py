"""Facts, sets and history in the page: looked for, described, superseded, removed, taken back."""

from __future__ import annotations

import re

import pytest
from page_support import Visit
from playwright.sync_api import expect

from horen.database import By, Facts, Proposal, Store
from support.services import train

MIRA = By("mira", "the first facts")


@pytest.fixture(scope="module", autouse=True)
def facts(kept: Store) -> None:
    """Thirty facts in two sets, by two people."""
    for name in ("boats", "autumn"):
        kept.sets.make(name, MIRA)
    proposals = [
        Proposal(f"Who has {number} boats?", f"Town {number}", facts=Facts("Boats", None, ("harbour",), "boats"))
        for number in range(1, 28)
    ]
    drafts = kept.drafts.propose(proposals, MIRA)
    train(kept)
    kept.drafts.publish([draft.id for draft in drafts], MIRA)
    (draft,) = kept.drafts.propose([Proposal("<b>Who</b> & why?", "<img src=x onerror=alert(1)>")], By("jonas", ""))
    train(kept)
    kept.drafts.publish([draft.id], By("jonas", "odd signs"))


def rows(here: Visit) -> list[str]:
    return here.page.locator("table.facts a.row").all_inner_texts()


def test_facts_are_found_by_words_tag_set_and_author(here: Visit):
    here.go("facts")
    here.see("29 facts")
    here.fill("Search", "town 27")
    here.see("1 fact", 1)
    assert rows(here) == ["Who has 27 boats?"]
    assert here.page.url.endswith("?text=town+27")
    here.fill("Search", "")
    here.page.get_by_label("By", exact=True).select_option("jonas")
    here.see("1 fact", 1)
    here.page.get_by_label("By", exact=True).select_option("")
    here.page.get_by_label("Tag", exact=True).select_option("harbour")
    here.see("27 facts")
    here.fill("Search", "nobody says this")
    here.see("No fact is like that.")
    here.follow("Show all")
    here.see("29 facts")


def test_a_long_list_has_parts(here: Visit):
    here.go("facts?set=boats")
    expect(here.page.locator("table.facts a.row")).to_have_count(25)
    first = rows(here)
    here.click("Older →")
    expect(here.page.locator("table.facts a.row")).to_have_count(2)
    assert not set(rows(here)) & set(first)
    here.click("← Newer")
    expect(here.page.locator("table.facts a.row")).to_have_count(25)
    assert rows(here) == first


def test_texts_of_the_store_are_never_read_as_html(here: Visit):
    here.go("facts?author=jonas")
    here.follow("<b>Who</b> & why?")
    expect(here.page.locator(".question")).to_have_text("<b>Who</b> & why?")
    expect(here.page.locator(".reply")).to_have_text("<img src=x onerror=alert(1)>")
    expect(here.page.locator("main :is(b, img)")).to_have_count(0)


def test_what_is_noted_is_changed_in_place_and_taken_back(here: Visit):
    here.go("facts/2")
    here.click("Change what is noted…")
    here.fill("Subject", "The harbour")
    here.fill("Source", "https://example.org/boats")
    here.fill("Tags", "harbour, old, old")
    here.page.get_by_label("Set", exact=False).last.select_option("autumn")
    here.fill("Why", "as the harbour master says")
    here.click("Save")
    here.told("is changed")
    expect(here.page.get_by_role("link", name="https://example.org/boats")).to_have_attribute(
        "rel", re.compile("noopener")
    )
    for text in ("The harbour", "old", "autumn", "as the harbour master says"):
        here.see(text)
    here.click("Undo")
    here.told("Took version")
    here.see("Boats")
    expect(here.page.get_by_text("The harbour", exact=True)).to_have_count(0)


def test_another_answer_is_a_draft(here: Visit, kept: Store):
    here.go("facts/3")
    here.click("Change the answer…")
    here.fill("New answer", "Bruma")
    here.click("Make a draft")
    here.page.wait_for_url("**/drafts/*")
    draft = kept.drafts.list().items[0]
    assert (draft.target, draft.replaces) == ("Bruma", (3,))
    train(kept)
    here.see("Ready to publish")
    here.click("Publish…")
    here.fill("Why", "new harbour master")
    here.click("Publish", exact=True)
    here.told("Published as fact")
    here.see("Published")
    here.go("facts/3")
    here.see("It does not answer any more.")
    here.see("in place of fact 3")


def test_a_fact_is_removed_and_comes_back(here: Visit, kept: Store):
    here.go("facts/4")
    here.click("Remove…")
    here.dialog().get_by_label("Why").fill("sunk")
    here.dialog().get_by_role("button", name="Remove").click()
    here.told("Fact 4 is removed.")
    here.see("retired")
    assert kept.versions.list().items[0].by.reason == "sunk"
    here.click("Undo")
    here.told("Took version")
    here.see("answers")
    assert kept.edits.get(4).active


def test_undo_takes_back_nobody_elses_change(here: Visit, kept: Store):
    here.go("facts/5")
    here.click("Remove…")
    here.dialog().get_by_role("button", name="Remove").click()
    here.told("Fact 5 is removed.")
    kept.edits.describe([6], By("jonas", "meanwhile"), source="a letter")
    here.click("Undo")
    here.told("is not the last change that can be taken back")
    assert not kept.edits.get(5).active
    assert kept.edits.get(6).facts.source == "a letter"
    for _ in range(2):
        kept.versions.undo(MIRA)
    assert kept.edits.get(5).active


def test_sets_are_made_switched_merged_and_dropped(here: Visit):
    here.go("sets")
    here.fill("Name of a new set", "Winter & ice")
    here.click("Make the set")
    here.told("is there")
    switch = here.page.get_by_role("switch", name="Set boats")
    switch.click()
    here.told("switched off for everybody")
    expect(switch).to_have_attribute("aria-checked", "false")
    here.go("facts?set=boats")
    here.see("its set is off")
    here.page.get_by_role("switch", name="Set boats").click()
    here.told("switched on for everybody")
    here.go("sets")
    here.click("Merge… autumn")
    here.dialog().get_by_label("Set that stays").select_option("boats")
    here.see("They do not contradict each other.")
    here.dialog().get_by_role("button", name="Merge").click()
    here.click("Drop… Winter & ice")
    here.dialog().get_by_role("button", name="Drop the set").click()
    here.told("is gone")
    expect(here.page.get_by_role("switch", name="Set Winter & ice")).to_have_count(0)


def test_versions_are_compared_named_and_gone_back_to(here: Visit, kept: Store):
    number = kept.edits.remove([10], By("mira", "gone")).number
    here.go("history")
    here.see("Removed fact 10")
    here.page.get_by_label(f"Choose version {number - 1} to compare").check()
    here.page.get_by_label(f"Choose version {number} to compare").check()
    here.click("Compare")
    here.heading(f"Version {number - 1} and version {number}")
    here.see("Answer no more")
    here.see("Who has 9 boats?")
    here.follow("← History")
    here.click(f"Name… version {number - 1}")
    here.dialog().get_by_label("Name").fill("before the storm")
    here.click("Give the name")
    here.told("is called")
    here.see("before the storm")
    here.click(f"Roll back… to version {number - 1}")
    here.see("1 fact would answer again")
    here.dialog().get_by_label("Why").fill("a mistake")
    here.dialog().get_by_role("button", name="Roll back").click()
    here.told("is what answers now")
    assert kept.edits.get(10).active
    here.click("Take the last change back…")
    here.dialog().get_by_role("button", name="Take it back").click()
    here.told("Took version")
    assert not kept.edits.get(10).active
    here.click(f"Name… version {number - 1}")
    here.click("Take the name “before the storm” back")
    here.told("any more")
