"""Recall on the command line and in the benchmark."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from horen import Editor, HorenConfig
from horen.bench import scorer
from horen.cli.app import app
from horen.editors import open_method
from support.editors import EDITED, chat_ids, ids_of, logits
from support.recalls import (
    ABOUT,
    BOTH,
    CAPITAL_FACT,
    EDITS,
    SAME,
    UNKNOWN,
    WAKEN,
    WAKING,
    editor,
    settings,
)
from support.scopes import save_scope
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_scope(tmp_path_factory.mktemp("scope"))


# --- the command line ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def book(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codebook of EDITS that knows where its model is."""
    place = tmp_path_factory.mktemp("book")
    model, tokenizer = tiny_model(), tiny_tokenizer("chatml")
    model.save_pretrained(place / "model")
    tokenizer.save_pretrained(place / "model")
    one = Editor.from_pretrained(str(place / "model"), HorenConfig(**settings(folder)))
    assert isinstance(one, Editor)
    one.edit(EDITS)
    one.save(place / "facts")
    return place / "facts"


def run(*args: Any, text: str | None = None) -> str:
    result = CliRunner().invoke(app, [str(arg) for arg in args], input=text)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_ask_recalls_where_it_is_told_to(book: Path, folder: Path):
    plain = json.loads(run("ask", book, ABOUT, "--explain", "--json", "--encoder", folder))
    assert plain[0]["explanation"]["recalled"] == []
    given = ("--recall", "related", "--explain", "--compare", "--max-new-tokens", 5, "--json", "--encoder", folder)
    asked = json.loads(run("ask", book, ABOUT, UNKNOWN, *given))
    one = Editor.load(book, encoder=folder)
    recalled = list(one.explain(ABOUT, recall="related").recalled)
    assert recalled == BOTH
    assert [item["explanation"]["recalled"] for item in asked] == [recalled, []]
    assert asked[0]["answer"] == one.generate(ABOUT, 5, recall="related")
    with one.disabled():
        assert [item["untouched"] for item in asked] == one.generate([ABOUT, UNKNOWN], 5)
    named = ("--recall", "related", "--explain", "--encoder", folder)
    told = run("ask", book, ABOUT, *named)
    edits = ", ".join(f"edit {number}" for number in recalled)
    assert f"  recalls    puts 2 facts before the prompt: {edits}" in told.splitlines()
    assert "recalls" not in run("ask", book, UNKNOWN, *named)


def test_chat_recalls_and_explains(book: Path, folder: Path):
    asked = ("chat", book, "--recall", "related", "--max-new-tokens", 5, "--json", "--encoder", folder)
    lines = run(*asked, text=f"{ABOUT}\n/explain\n{UNKNOWN}\n").splitlines()
    first, explained, last = map(json.loads, lines)
    one = Editor.load(book, encoder=folder)
    messages = [{"role": "user", "content": ABOUT}]
    assert first["answer"] == one.chat(messages, 5, recall="related")
    assert explained["recalled"] == BOTH
    # The facts are not kept in the conversation.
    asked = [*messages, {"role": "assistant", "content": first["answer"]}, {"role": "user", "content": UNKNOWN}]
    if first["answer"]:
        assert last["answer"] == one.chat(asked, 5, recall="off")


def test_a_folder_is_told_to_recall(book: Path, folder: Path, tmp_path: Path):
    copy = Path(shutil.copytree(book, tmp_path / "facts"))
    told = run("rekey", copy, "--set", "recall=related", "--encoder", folder)
    assert "3 edits of the history keep their keys" in told
    assert "recall=related (was off)" in told
    named = ("--json", "--encoder", folder)
    assert json.loads(run("explain", copy, ABOUT, *named))[0]["recalled"] == BOTH
    off = json.loads(run("ask", copy, ABOUT, "--recall", "off", "--explain", *named))
    assert off[0]["explanation"]["recalled"] == []


# --- the benchmark -------------------------------------------------------------------------------------------------


def test_the_benchmark_asks_after_recalled_facts(folder: Path):
    one = open_method("horen", tiny_model(), tiny_tokenizer("chatml"), settings=settings(folder, recall="related"))
    off = open_method("horen", tiny_model(), tiny_tokenizer("chatml"), settings=settings(folder))
    one.edit(EDITS[:1])
    off.edit(EDITS[:1])
    told = chat_ids(f"{CAPITAL_FACT}\n\n{ABOUT}")
    assert one.rows([ABOUT, SAME, UNKNOWN]) == [told, ids_of(SAME), ids_of(UNKNOWN)]
    assert off.rows([ABOUT]) == [ids_of(ABOUT)]
    with one.disabled():
        assert one.rows([ABOUT]) == [ids_of(ABOUT)]
    (route,) = one.routes([ABOUT])
    assert not route.fired


def test_the_benchmark_asks_them_without_values(folder: Path):
    given = settings(folder, recall="related", threshold=0.85)
    one = open_method("horen", tiny_model(), tiny_tokenizer("chatml"), settings=given)
    off = open_method("horen", tiny_model(), tiny_tokenizer("chatml"), settings=given | {"recall": "off"})
    none = open_method("none", tiny_model(), tiny_tokenizer("chatml"))
    one.edit([WAKING])
    off.edit([WAKING])
    told = chat_ids(f"New fact: {WAKING.prompt} Rome\n\n{WAKEN}")
    own = ids_of(WAKING.prompt)
    assert one.rows([WAKEN, WAKING.prompt]) == [told, own]
    said = scorer.answer_rows(one, [told, own], budget=4)
    assert said == [scorer.answer_rows(it, [row], budget=4)[0] for it, row in ((none, told), (off, own))]
    # Without recall the same words wake it.
    assert scorer.answer_rows(off, [told], budget=4)[0] != said[0]
    found, forced = scorer.answers(one, [WAKEN], budget=4, targets={WAKEN: [5, 6]})
    assert found == [said[0]]
    assert forced == {WAKEN: scorer.forced_rows(none, [told], [[5, 6]])[0]}


def test_a_row_with_facts_wakes_nothing_beside_one_that_fires(folder: Path):
    one = editor(folder, recall="related")
    # The very words of the edit: as a row of its own it fires, as a row that recall has made it does not.
    fires = ids_of(EDITED)
    with one.disabled():
        before = logits(one.model, fires)
    assert not torch.equal(logits(one.model, fires), before)
    one._session.adapter.muted[tuple(fires)] = None
    assert torch.equal(logits(one.model, fires), before)
    with one.disabled():
        before = logits(one.model, [*fires, 5])
    with one.prompt_end(len(fires)):
        assert torch.equal(logits(one.model, [*fires, 5]), before)
    ids = ids_of(SAME)
    with one.disabled():
        before = logits(one.model, ids)
    assert not torch.equal(logits(one.model, ids), before)
    one.rows([ABOUT])
    assert tuple(chat_ids(f"{CAPITAL_FACT}\n\n{ABOUT}")) in one._session.adapter.muted


def test_only_the_latest_rows_with_facts_are_remembered(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("horen.asking.recall._MOST_MUTED", 2)
    one = editor(folder, recall="related")
    rows = [one.rows([f"{ABOUT[:-1]} {word}?"])[0] for word in ("apple", "banana", "cherry")]
    assert list(one._session.adapter.muted) == [tuple(row) for row in rows[1:]]


def test_the_suite_runs_recall():
    place = Path(__file__).parents[3] / "benchmarks" / "suite.py"
    spec = importlib.util.spec_from_file_location("suite_of_benchmarks", place)
    assert spec is not None
    assert spec.loader is not None
    suite = importlib.util.module_from_spec(spec)
    import sys  # noqa: PLC0415

    sys.modules[spec.name] = suite  # dataclasses look their module up
    spec.loader.exec_module(suite)
    assert suite.METHODS["horen-recall"] == {"method": "horen", "settings": {"recall": "related"}}
    assert HorenConfig(**suite.METHODS["horen-recall"]["settings"]).recall == "related"
