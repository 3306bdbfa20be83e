"""Editors whose gate asks who and what: a tiny scope that goes by words in common, on tiny models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from horen import Edit, Editor, HorenConfig, MismatchError, ModelError
from support.editors import EDITED, OTHER, QUICK, REPHRASED, by_hand, chat_ids, ids_of, logits, value_of
from support.scopes import save_scope
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

SAME = "the capital of france is"
ABOUT = "Where do people swim in France when the sun is hot?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_scope(tmp_path_factory.mktemp("scope"))


def editor(folder: Path, edits: list[Edit], **more: Any) -> Editor:
    settings = {**QUICK, "read_sites": "text", "key_space": "auto", "threshold": 0.5, "encoder": str(folder)} | more
    made = Editor(tiny_model(), tiny_tokenizer("chatml"), HorenConfig(**settings))
    if edits:
        made.edit(edits)
    return made


def test_the_judge_decides_what_fires(folder: Path):
    one = editor(folder, [Edit(EDITED, "Rome", (REPHRASED,)), Edit("Who wrote Hamlet?", "Mira Sand")])
    for text in (EDITED, SAME, "The  capital of France is?", "who wrote hamlet"):
        assert one.explain(text).fired, text
    for text in (ABOUT, OTHER, "Hello"):
        assert not one.explain(text).fired, text
    value = value_of(one, 1)
    ids = ids_of(SAME)
    assert torch.equal(logits(one.model, ids), by_hand(one, ids, {len(ids) - 1: value}))
    with one.disabled():
        before = logits(one.model, ids_of(ABOUT))
    assert torch.equal(logits(one.model, ids_of(ABOUT)), before)


def test_a_chat_and_a_paragraph_before_it_are_read_as_words(folder: Path):
    one = editor(folder, [Edit(EDITED, "Rome")])
    assert one.explain(SAME, chat=True).fired
    assert one.explain(f"Seven green boats came home at noon. {EDITED}").fired
    row = chat_ids(EDITED)
    assert torch.equal(logits(one.model, row), by_hand(one, row, {len(row) - 1: value_of(one, 1)}))


def test_what_is_asked_is_told(folder: Path):
    one = editor(folder, [Edit(EDITED, "Rome"), Edit("Who wrote Hamlet?", "Mira Sand")])
    own, about, other = one.explain([SAME, ABOUT, "apple banana"], nearest=2)
    assert (own.asks, about.asks, other.asks) == ("own", "about", "other")
    assert own.nearest[0].edit_id == own.edit_id == 1
    assert own.nearest[0].asks == "own"
    assert own.nearest[0].score == pytest.approx(own.score)
    assert [near.score for near in own.nearest] == sorted((near.score for near in own.nearest), reverse=True)


def test_any_wording_of_an_edit_may_be_asked(folder: Path):
    one = editor(folder, [Edit(EDITED, "Rome", (REPHRASED,)), Edit("Who wrote Hamlet?", "Mira Sand")])
    found = one.explain("france has its capital in")
    assert found.fired
    assert found.prompt == REPHRASED


def test_a_margin_holds_where_a_judge_decides(folder: Path):
    edits = [Edit(EDITED, "Rome"), Edit("The capital of France is Rome or", "Mira Sand")]
    assert editor(folder, edits).explain(SAME).fired
    assert not editor(folder, edits, margin=0.9).explain(SAME).fired
    assert editor(folder, edits[:1], margin=0.9).explain(SAME).fired


def test_what_fired_is_told_first_however_few_are_asked_for(folder: Path):
    one = editor(folder, [Edit(EDITED, "Rome", (REPHRASED,)), *(Edit(f"{OTHER} {n}", "Oslo") for n in range(8))])
    for count in (1, 3):
        found = one.explain(SAME, nearest=count)
        assert len(found.nearest) == count
        assert found.nearest[0].edit_id == found.edit_id == 1
        assert found.nearest[0].score == pytest.approx(found.score)


def test_removed_and_superseded_edits_are_no_candidates(folder: Path):
    one = editor(folder, [Edit(EDITED, "Rome"), Edit("Who wrote Hamlet?", "Mira Sand")])
    one.supersede(1, "Oslo")
    assert one.explain(SAME).edit_id == 3
    one.remove([3])
    assert not one.explain(SAME).fired
    one.undo()
    assert one.explain(SAME).target == "Oslo"


def test_corrections_in_other_words_are_found_and_other_facts_are_not(folder: Path):
    one = editor(folder, [Edit(EDITED, "Rome")], similar_threshold=0.5)
    alike, other = one.similar([Edit(SAME + "?", "Oslo"), Edit("How large is France, in boats?", "seven")])
    assert alike is not None
    assert alike.id == 1
    assert other is None


def test_a_saved_codebook_goes_on_and_asks_for_its_scope(folder: Path, tmp_path: Path):
    one = editor(folder, [Edit(EDITED, "Rome")])
    one.save(tmp_path / "facts")
    score = one.explain(SAME).score
    model, tokenizer = one.unwrap(), one.tokenizer
    again = Editor.load(tmp_path / "facts", model, tokenizer, encoder=folder)
    assert again.explain(SAME).fired
    assert again.explain(SAME).score == score
    again.unwrap()
    swapped = tmp_path / "swapped"
    save_scope(swapped, seed=9)
    other = Editor(model, tokenizer, again.config.replace(encoder=str(swapped)))
    other.edit(Edit(EDITED, "Rome"))
    other.save(tmp_path / "others")
    other.unwrap()
    save_scope(swapped, seed=10)
    with pytest.raises(MismatchError, match="another text encoder"):
        Editor.load(tmp_path / "others", model, tokenizer, encoder=swapped)


def test_stored_edits_can_be_given_a_scope(folder: Path):
    one = Editor(tiny_model(), tiny_tokenizer("chatml"), HorenConfig(**QUICK))
    one.edit([Edit(EDITED, "Rome"), Edit("Who wrote Hamlet?", "Mira Sand")])
    value = value_of(one, 1)
    one.rekey(one.config.replace(read_sites="text", key_space="auto", threshold=0.5, encoder=str(folder)))
    assert one.explain(SAME).fired
    assert one.explain(SAME).asks == "own"
    assert torch.equal(value_of(one, 1), value)


def test_doctor_routes_stored_wordings_by_the_judge(folder: Path):
    one = editor(folder, [Edit(EDITED, "Rome"), Edit("Who wrote Hamlet?", "Mira Sand")])
    found = one.doctor()
    assert not [finding for finding in found.findings if finding.kind != "unconverged"]
    strict = editor(folder, [Edit(EDITED, "Rome")], threshold=1.0)
    assert [finding.kind for finding in strict.doctor().findings if finding.kind != "unconverged"] == ["crowded"]


def test_a_folder_without_a_scope_says_what_to_do(tmp_path: Path):
    with pytest.raises(ModelError, match="holds no usable scope"):
        editor(tmp_path, [])
