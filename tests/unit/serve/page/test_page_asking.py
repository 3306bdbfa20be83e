"""Asking in the page, with a real tiny model behind it: answers with facts and without, why, and a new fact."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_support import Visit, visit
from playwright.sync_api import Browser, expect

from horen import Edit, Editor
from horen.database import By, Store
from support.editors import FACTS, taught_editor
from support.page_services import Running, page_service, store_with
from support.tiny_models import taught_model
from support.tiny_tokenizers import tiny_tokenizer

PROMPT, TARGET = next(iter(FACTS.items()))
NEW, ANSWER = list(FACTS.items())[2]
ANN = By("ann", "set up")
BASH = "/bin/bash"


def load(folder: Path) -> Editor:
    return Editor.load(folder, taught_model(), tiny_tokenizer("chatml"))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("asked")
    with store_with(folder, taught_editor(threshold=0.9), [Edit(PROMPT, TARGET)]) as store:
        store.sets.make("capitals", ANN)
        store.edits.describe([1], ANN, set="capitals")
        yield store


@pytest.fixture(scope="module")
def server(kept: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with page_service(kept, tmp_path_factory.mktemp("engine"), load, pause=0.05, rate=10**6) as running:
        yield running


def asked(here: Visit, text: str = PROMPT) -> Visit:
    here.go("ask")
    here.click("Plain text")
    here.page.get_by_role("textbox", name="Question").fill(text)
    here.page.get_by_role("textbox", name="Question").press("Control+Enter")
    return here


def sides(here: Visit) -> tuple[Any, Any]:
    answers = here.page.locator(".answers article")
    return answers.nth(0), answers.nth(1)


def done(here: Visit) -> None:
    expect(here.page.locator('[aria-busy="true"]')).to_have_count(0)


def test_a_question_is_answered_with_facts_and_without_and_why(here: Visit):
    asked(here)
    one, other = sides(here)
    expect(one).to_contain_text(TARGET)
    expect(one).to_contain_text("Fact 1 · 1.00")
    done(here)
    expect(other).not_to_contain_text(TARGET)
    here.see("Fact 1 answers: its score, 1.00, is above the threshold.")
    table = here.page.get_by_role("table", name="Facts that came nearest")
    expect(table.get_by_role("row", name="1.00 , above the threshold")).to_contain_text("answers")
    expect(table.locator("svg.score-bar rect.fires")).to_have_count(1)


def test_answers_come_as_they_are_made_and_can_be_stopped(
    here: Visit, server: Running, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(server.engine, "pause", 0.7)
    asked(here, "The capital of Italy is")
    expect(here.page.locator(".answers .caret").first).to_be_visible()
    some = here.page.locator(".answers .answer").all_inner_texts()
    here.click("Stop")
    here.see("Stopped.")
    assert any(text and "Waiting" not in text for text in some)
    here.see("No fact answers")


def test_a_fact_and_a_set_are_left_out_for_one_question(here: Visit, kept: Store):
    asked(here)
    done(here)
    here.page.get_by_role("switch", name="Use fact 1 for this question").click()
    here.page.locator("section").get_by_role("button", name="Ask again").click()
    one, other = sides(here)
    expect(one).to_contain_text("no fact answered")
    done(here)
    assert one.locator(".answer").inner_text() == other.locator(".answer").inner_text()
    here.see("left out")
    here.page.get_by_role("switch", name="Use fact 1 for this question").click()
    here.page.get_by_role("switch", name="Use set capitals for this question").click()
    here.page.locator("form").get_by_role("button", name="Ask again").click()
    expect(one).to_contain_text("no fact answered")
    done(here)
    here.page.get_by_role("switch", name="Use set capitals for this question").click()
    here.page.locator("form").get_by_role("button", name="Ask again").click()
    expect(one).to_contain_text(TARGET)
    assert kept.edits.get(1).active


def test_answers_stay_while_one_looks_elsewhere(here: Visit):
    asked(here)
    done(here)
    here.follow("Fact 1")
    here.heading("Fact 1")
    here.follow("Ask", exact=True)
    expect(here.page.get_by_role("textbox", name="Question")).to_have_value(PROMPT)
    expect(sides(here)[0]).to_contain_text(TARGET)


def test_a_wrong_answer_becomes_a_draft(here: Visit, kept: Store):
    asked(here, "The capital of Italy is")
    done(here)
    wrong = sides(here)[0].locator(".answer").inner_text()
    here.click("This answer is wrong…")
    dialog = here.dialog()
    expect(dialog).to_contain_text(wrong)
    dialog.get_by_label("Right answer").fill("Rome")
    dialog.get_by_label("Source").fill("an atlas")
    here.page.keyboard.press("Escape")
    here.click("This answer is wrong…")
    expect(dialog.get_by_label("Right answer")).to_have_value("Rome")
    dialog.get_by_role("button", name="Send").click()
    here.told("Thank you: it is draft")
    draft = kept.drafts.list().items[0]
    assert (draft.prompt, draft.target, draft.wrong) == ("The capital of Italy is", "Rome", wrong)
    here.click("Look at it")
    here.heading(f"Draft {draft.id}")
    here.see("Answered before")
    here.see("Ready to publish")


def test_a_new_fact_is_trained_checked_published_and_answers(here: Visit):
    here.go("add")
    here.fill("Question", NEW)
    here.fill("Answer", ANSWER)
    here.click("Make a draft")
    here.see("Ready to publish")
    here.see("What it changes")
    expect(here.page.get_by_role("region", name="Its own questions").get_by_role("row").nth(1)).to_contain_text(
        "✓ right"
    )
    expect(here.page.get_by_role("region", name="Facts near to it")).to_contain_text(PROMPT)
    here.click("Publish…")
    here.dialog().get_by_role("button", name="Publish").click()
    here.told("it answers from now on")
    asked(here, NEW)
    expect(sides(here)[0]).to_contain_text(ANSWER)
    here.go("add")
    here.fill("Question", NEW)
    here.see("answers this question already")


def test_the_calls_behind_it_do_what_the_page_does(here: Visit, server: Running):
    asked(here)
    done(here)
    here.page.locator("summary").click()
    calls = here.page.locator(".calls")
    environment = {**os.environ, "NO_PROXY": "127.0.0.1"}
    for number, expected in enumerate((TARGET, "", '"fired":true')):
        calls.get_by_label("Call", exact=True).select_option(str(number))
        shell = calls.locator("code").inner_text()
        assert server.url in shell
        ran = subprocess.run([BASH, "-c", shell], capture_output=True, text=True, timeout=60, env=environment)
        assert expected.split()[0] in ran.stdout if expected else TARGET.split()[0] not in ran.stdout
    here.click("Python")
    for number, expected in enumerate((TARGET, "", "'fired': True")):
        calls.get_by_label("Call", exact=True).select_option(str(number))
        program = calls.locator("code").inner_text().replace("import httpx\n", "import httpx2 as httpx\n")
        ran = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=environment
        )
        assert ran.returncode == 0, ran.stderr
        assert expected in ran.stdout if expected else TARGET not in ran.stdout


def test_what_is_copied_has_no_key_in_it(browser: Browser, server: Running, kept: Store):
    _, secret = kept.keys.make("root", ["admin"], ANN)
    with visit(browser, server.url, secret, permissions=["clipboard-read", "clipboard-write"]) as here:
        here.go("facts")
        here.page.locator("summary").click()
        here.click("Copy")
        here.told("Copied.")
        text = here.page.evaluate("navigator.clipboard.readText()")
        assert '"Authorization: Bearer $HOREN_KEY"' in text
        assert secret not in text
        ran = subprocess.run(
            [BASH, "-c", text], capture_output=True, text=True, timeout=60, env={**os.environ, "HOREN_KEY": secret}
        )
        assert PROMPT in ran.stdout
