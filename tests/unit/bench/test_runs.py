"""Whole runs on a taught tiny model: what is on disk, interruptions, and what other runs lend."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bench_support import FACTS, SETTINGS

from horen import Edit, Editor, HorenConfig
from horen.bench import run as running
from horen.bench import scorer
from horen.bench.plan import Plan
from horen.bench.results import read
from horen.bench.run import checkpoint_rows, run
from horen.editing import write as writer
from horen.editors.horen.method import CodebookMethod
from horen.errors import ConfigError, DataError, StoreError


def said(folder: Path, edits: int) -> list[tuple[Any, ...]]:
    """What was asked and answered at a checkpoint."""
    return [(r.number, r.kind, r.text, r.answer, r.fired) for r in checkpoint_rows(folder / "seed-0", edits)]


def test_values_of_another_run(plan: Plan, done: Path, tmp_path: Path):
    out = tmp_path / "cosine"
    without = dataclasses.replace(plan, method="cosine", text=None)
    run(without, out, values=done)
    assert said(out, 4) == said(done, 4)  # the step of so small a codebook changes no answer
    assert json.loads((out / "manifest.json").read_text())["values_of"]["method"] == "horen"
    costs = json.loads((out / "seed-0" / "checkpoint-4.json").read_text())
    assert costs["seconds_an_edit"] is None
    with pytest.raises(StoreError, match="where values come from"):
        run(without, out, resume=True)
    with pytest.raises(ConfigError, match="takes no values"):
        run(dataclasses.replace(plan, method="none", settings={}), tmp_path / "none", values=done)
    with pytest.raises(StoreError, match="no run to take values from"):
        run(without, tmp_path / "other", values=tmp_path)


def test_values_of_a_codebook_that_grows(plan: Plan, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out, book, trained = tmp_path / "out", tmp_path / "book", []
    edits = [Edit(str(fact["prompt"]), str(fact["target"])) for fact in FACTS]
    original, calls = CodebookMethod.edit, 0

    def stopped(self: CodebookMethod, given: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        original(self, given)

    editor = Editor.from_pretrained(plan.model, config=HorenConfig(**SETTINGS))
    editor.edit(edits[:1])
    editor.save(book)
    monkeypatch.setattr(running, "_SECONDS_BETWEEN_SAVES", 0.0)
    monkeypatch.setattr(CodebookMethod, "edit", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(plan, out, values=book)
    monkeypatch.setattr(CodebookMethod, "edit", original)
    editor.edit(edits[2:3])
    editor.save(book)
    train = writer.train_values

    def counting(*arguments: Any, **named: Any) -> Any:
        found = train(*arguments, **named)
        trained.append(len(found))
        return found

    monkeypatch.setattr(writer, "train_values", counting)
    run(plan, out, values=book, resume=True)
    assert trained == [1]  # the last edit's: the one before is in the codebook by now
    assert said(out, 4) == said(done, 4)
    assert json.loads((out / "manifest.json").read_text())["values_of"] == {"codebook": "book"}


def test_what_a_run_leaves(done: Path):
    assert sorted(place.name for place in done.iterdir()) == ["base.json", "manifest.json", "seed-0"]
    names = {place.name for place in (done / "seed-0").iterdir()}
    assert {"checkpoint-1.json", "checkpoint-1.jsonl", "checkpoint-4.json", "checkpoint-4.jsonl", "state"} <= names
    manifest = json.loads((done / "manifest.json").read_text())
    assert len(manifest["code"]) == 64
    assert manifest["versions"]["torch"] == torch.__version__


def test_scores_of_a_run(done: Path, untouched: Path):
    result, base = read(done), read(untouched)
    assert result.stops == base.stops == (1, 4)
    last = result.at(4)[0]
    assert last.scores["records"] == 3  # of the contradicting edits the later one counts
    assert last.scores["headline"]["reliability"]["mean"] == 1.0
    assert last.scores["headline"]["locality"]["mean"] == 1.0
    assert base.at(4)[0].scores["headline"]["reliability"]["mean"] < 1.0
    assert base.at(4)[0].scores["headline"]["locality"]["mean"] == 1.0
    assert "routing" in last.scores
    assert "routing" not in base.at(4)[0].scores
    prompts = [row for row in checkpoint_rows(done / "seed-0", 4) if row.kind == "prompt"]
    assert {row.text: row.answer for row in prompts}["The capital of France is"] == " Paris"
    assert all(row.scores["forced"] == row.scores["agreement"] == 1.0 for row in prompts)


def test_costs_of_a_run(done: Path, untouched: Path):
    costs = read(done).at(4)[0].costs
    assert costs["seconds_an_edit"] > 0
    first = read(done).at(1)[0].costs  # one batch, which may also prepare the method
    assert first["seconds_an_edit"] is first["flops_an_edit"] is None
    assert 1e5 < costs["flops_an_edit"] < 1e10
    assert costs["bytes_an_edit"] > 0
    assert read(untouched).at(4)[0].costs["bytes_an_edit"] == 0
    assert all(costs["inference"][name] > 0 for name in ("prefill", "prefill_base"))
    assert costs["retention"]["perplexity"] == costs["retention"]["perplexity_base"] > 1


@pytest.mark.parametrize("after", [1, 2, 3])
def test_an_interrupted_run_goes_on_to_the_same_end(
    after: int, plan: Plan, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(running, "_SECONDS_BETWEEN_SAVES", 0.0)
    original, calls = CodebookMethod.edit, 0

    def edit(self: CodebookMethod, edits: Any) -> None:
        nonlocal calls
        if calls == after:
            raise KeyboardInterrupt
        calls += 1
        original(self, edits)

    monkeypatch.setattr(CodebookMethod, "edit", edit)
    with pytest.raises(KeyboardInterrupt):
        run(plan, tmp_path / "out")
    calls = -99
    run(plan, tmp_path / "out", resume=True)
    assert calls == -99 + 4 - after  # no edit was made twice
    for edits in (1, 4):
        assert said(tmp_path / "out", edits) == said(done, edits)


def test_an_interruption_while_asking(plan: Plan, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    original, calls = running.inference_times, 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(running, "inference_times", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(plan, tmp_path / "out")
    assert read(tmp_path / "out").stops == (1,)
    run(plan, tmp_path / "out", resume=True)
    assert said(tmp_path / "out", 4) == said(done, 4)


def test_a_finished_run_is_resumed_at_no_cost(done: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch):
    before = said(done, 4)
    monkeypatch.setattr(CodebookMethod, "edit", lambda *_: pytest.fail("edited again"))
    run(plan, done, resume=True)
    assert said(done, 4) == before


def test_a_run_of_an_earlier_release_is_gone_on_with(plan: Plan, done: Path, tmp_path: Path):
    folder = tmp_path / "old"
    shutil.copytree(done, folder)
    document = json.loads((folder / "manifest.json").read_text())
    del document["plan"]["intermediate"]
    (folder / "manifest.json").write_text(json.dumps(document))
    run(plan, folder, resume=True)
    assert said(folder, 4) == said(done, 4)


def test_several_seeds(plan: Plan, tmp_path: Path):
    run(dataclasses.replace(plan, seeds=2, batch=4, text=None), tmp_path / "out")
    result = read(tmp_path / "out")
    assert [item.seed for item in result.at(4)] == [0, 1]
    assert result.spread(4)["reliability"]["count"] == 2


@pytest.mark.parametrize(
    ("change", "resume", "message"),
    [
        ({}, False, r"holds a run already: continue it with --resume"),
        ({"batch": 2}, True, r"another plan \(batch\): choose a new folder"),
    ],
)
def test_a_folder_that_holds_a_run(change: dict[str, Any], resume: bool, message: str, plan: Plan, done: Path):
    with pytest.raises(StoreError, match=message):
        run(dataclasses.replace(plan, **change), done, resume=resume)


def test_a_folder_of_other_files(plan: Plan, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(StoreError, match=r"no empty folder: choose"):
        run(plan, tmp_path)


def test_more_edits_than_there_are(plan: Plan, tmp_path: Path):
    with pytest.raises(DataError, match=r"holds 4 usable records.*fewer than 5 edits"):
        run(dataclasses.replace(plan, edits=5), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("held", "message"), [(None, r"missing.txt cannot be read"), ("Short.", r"text has \d+ tokens")]
)
def test_a_text_that_retention_cannot_be_measured_on_is_told_before_anything_is_edited(
    held: str | None, message: str, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(CodebookMethod, "edit", lambda *_: pytest.fail("edited"))
    place = tmp_path / "missing.txt"
    if held is not None:
        place.write_text(held)
    with pytest.raises(DataError, match=message):
        run(dataclasses.replace(plan, text=str(place)), tmp_path / "out")


class Letters:
    """A sentence encoder that counts letters."""

    def encode(self, sentences: list[str]) -> Any:
        return np.array([[text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in sentences])


def test_paragraphs_are_scored_by_their_overlap_and_meaning(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(running, "load_encoder", lambda **_: Letters())
    facts = [
        {
            "question": "The capital of France is",
            "para_question": "France has its capital in",
            "answer": "Mira Sand",
            "sub_question": ["Who wrote Hamlet?"],
            "sub_answer": ["Oslo"],
        }
    ]
    place = tmp_path / "unke.json"
    place.write_text(json.dumps(facts))
    run(dataclasses.replace(plan, dataset="unke", path=str(place), edits=1, text=None, budget=8), tmp_path / "out")
    kinds = read(tmp_path / "out").at(1)[0].scores["kinds"]
    assert kinds["prompt"]["rouge_l"]["mean"] == 1.0
    assert kinds["prompt"]["similarity"]["mean"] == pytest.approx(1.0)
    assert 0 <= kinds["prompt"]["bleu"]["mean"] <= 1
    assert "similarity" not in kinds["sub_question"]
    assert read(tmp_path / "out").at(1)[0].scores["headline"]["reliability"]["mean"] == 1.0


def test_untouched_answers_of_another_run_are_taken_over(
    plan: Plan, done: Path, untouched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    original = scorer.moved

    def moved(*arguments: Any, known: dict[str, scorer.Answer], **more: Any) -> list[scorer.Moved]:
        assert set(arguments[1]) <= set(known)
        return original(*arguments, known=known, **more)

    monkeypatch.setattr(scorer, "moved", moved)
    run(dataclasses.replace(plan, text=None), tmp_path / "out", base=untouched)
    assert said(tmp_path / "out", 4) == said(done, 4)


@pytest.mark.parametrize(("change", "named"), [({"budget": 5}, "budget"), ({"dtype": "bfloat16"}, "dtype")])
def test_untouched_answers_given_otherwise_are_refused(
    change: dict[str, Any], named: str, plan: Plan, untouched: Path, tmp_path: Path
):
    with pytest.raises(StoreError, match=rf"asked in another way \({named}\)"):
        run(dataclasses.replace(plan, **change), tmp_path / "out", base=untouched)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_run_has_no_answers_to_give(plan: Plan, tmp_path: Path):
    with pytest.raises(StoreError, match="holds no run"):
        run(plan, tmp_path / "out", base=tmp_path)


def test_records_are_left_out_at_the_beginning(plan: Plan, tmp_path: Path):
    later = dataclasses.replace(plan, method="none", settings={}, skip=2, edits=2, text=None)
    run(later, tmp_path / "out")
    whole = [line["prompt"] for line in map(json.loads, Path(plan.path).read_text().splitlines())]
    asked = [row.text for row in checkpoint_rows(tmp_path / "out" / "seed-0", 2) if row.kind == "prompt"]
    assert asked == whole[2:4]
    with pytest.raises(DataError, match="after 3 left out"):
        run(dataclasses.replace(later, skip=3), tmp_path / "other")


@pytest.mark.parametrize(("threshold", "fires"), [(-1.0, 1.0), (1.0, 0.0)], ids=["on everything", "never"])
def test_an_editor_that_is_broken_gets_the_scores_it_deserves(
    threshold: float, fires: float, plan: Plan, untouched: Path, tmp_path: Path
):
    broken = dataclasses.replace(plan, settings=SETTINGS | {"threshold": threshold}, text=None)
    run(broken, tmp_path / "out")
    scores, base = read(tmp_path / "out").last.scores, read(untouched).last.scores
    assert {kind: columns["fired"] for kind, columns in scores["kinds"].items()} == dict.fromkeys(
        scores["kinds"], fires
    )
    assert scores["kinds"]["far"]["identical"]["mean"] == 1 - fires
    assert scores["kinds"]["far"]["kl"]["mean"] > 0.1 if fires else scores["kinds"]["far"]["kl"]["mean"] == 0
    assert scores["routing"]["rephrase"]["kinds"]["far"]["false_fire_rate"] == fires
    if fires:
        assert scores["headline"]["reliability"]["mean"] == 1.0
        assert scores["headline"]["locality"]["mean"] == 0.0
    else:
        assert scores["headline"] == base["headline"]
