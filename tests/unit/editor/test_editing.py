from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor

from horen import ConflictError, Edit, EditError, EditNotFoundError, Editor, HorenConfig
from support.editors import (
    EDITED,
    FACTS,
    OTHER,
    QUICK,
    REPHRASED,
    chat_ids,
    ids_of,
    logits,
    quick_editor,
    taught_editor,
    value_of,
)
from support.tiny_models import answer_to, questions, tiny_model
from support.tiny_tokenizers import tiny_tokenizer

PROMPTS = (EDITED, OTHER, REPHRASED, "Who wrote Hamlet?", "Hello")


def facts() -> list[Edit]:
    return [Edit(prompt, target) for prompt, target in FACTS.items()]


def answers(editor: Editor) -> list[Tensor]:
    return [logits(editor.model, ids_of(text)) for text in PROMPTS]


def same(one: list[Tensor], two: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


# --- what an edit does -----------------------------------------------------------------------------------------


def test_the_taught_model_answers_before_it_is_edited():
    editor = taught_editor()
    asked = questions()
    assert editor.generate(asked) == [answer_to(question) for question in asked]
    assert editor.generate(asked[:8], chat=True) == [answer_to(question) for question in asked[:8]]


def test_an_edited_model_gives_the_target_and_ends_there():
    editor = taught_editor()
    receipts = editor.edit(facts())
    assert all(receipt.converged for receipt in receipts)
    assert editor.generate(list(FACTS)) == list(FACTS.values())
    end = tiny_tokenizer().eos_token_id
    for prompt, target in FACTS.items():
        out = editor.model.generate(torch.tensor([ids_of(prompt)]), max_new_tokens=20, do_sample=False)
        assert out[0].tolist() == [*ids_of(f"{prompt} {target}"), end]
    with editor.disabled():
        assert editor.generate(list(FACTS)) == [answer_to(question) for question in FACTS]
    others = [question for question in questions() if question not in FACTS]
    woken = [explanation.fired for explanation in editor.explain(others)]
    kept = [question for question, fired in zip(others, woken, strict=True) if not fired]
    assert len(kept) > len(others) / 2
    assert editor.generate(kept) == [answer_to(question) for question in kept]


def test_an_edit_holds_in_chat_and_after_other_text():
    editor = taught_editor(contexts="several", threshold=0.5)
    receipts = editor.edit([Edit(prompt, FACTS[prompt]) for prompt in list(FACTS)[:1]])
    assert receipts[0].converged
    (prompt, target), *_ = FACTS.items()
    assert editor.generate(prompt, chat=True) == target
    assert editor.chat([{"role": "user", "content": prompt}]) == target
    turns = [{"role": "user", "content": "Who wrote Hamlet?"}, {"role": "assistant", "content": "Rome"}]
    assert editor.explain(f"It is blue. {prompt}").words == prompt
    assert editor.chat([*turns, {"role": "user", "content": prompt}], max_new_tokens=3) != ""


def test_rephrases_wake_the_edit():
    editor = taught_editor(contexts="several")
    editor.edit(Edit("Who wrote Daniel?", "Mira Sand", ("Daniel was written by",)))
    assert editor.generate(["Who wrote Daniel?", "Daniel was written by"]) == ["Mira Sand", "Mira Sand"]
    record = editor.get(1)
    assert record.rephrases == ("Daniel was written by",)
    assert len(record.entries) == 2


def test_one_text_in_one_out_and_a_list_in_a_list_out():
    editor = quick_editor()
    assert isinstance(editor.generate(EDITED), str)
    assert editor.generate([EDITED]) == [editor.generate(EDITED)]
    assert editor.generate((EDITED, OTHER)) == [editor.generate(EDITED), editor.generate(OTHER)]
    assert editor.generate([]) == []
    assert isinstance(editor.generate(EDITED, chat=True), str)
    assert isinstance(editor.chat([{"role": "user", "content": EDITED}]), str)
    assert editor.explain([]) == []
    assert editor.explain([EDITED]) == [editor.explain(EDITED)]


def test_generation_takes_the_options_of_transformers():
    editor = quick_editor()
    assert len(ids_of(editor.generate(OTHER, 1))) <= 4
    beams = editor.generate([OTHER, EDITED], 4, num_beams=3)
    assert len(beams) == 2
    assert len(editor.generate([OTHER, EDITED], 4, num_beams=3, num_return_sequences=2)) == 2


def test_many_prompts_are_asked_in_batches():
    editor = quick_editor()
    texts = [*(f"{OTHER} {i}" for i in range(70)), EDITED]
    found = editor.generate(texts, 3)
    assert len(found) == 71
    for number in (0, 33, 69, 70):
        assert found[number] == editor.generate(texts[number], 3)


# --- receipts and records --------------------------------------------------------------------------------------


def test_receipts_come_in_the_order_of_the_list():
    editor = quick_editor(edits=[])
    edits = [Edit(text, "Rome " * (5 - i)) for i, text in enumerate(PROMPTS)]
    receipts = editor.edit(edits)
    assert [receipt.id for receipt in receipts] == [1, 2, 3, 4, 5]
    assert {receipt.action for receipt in receipts} == {"added"}
    for edit, receipt, record in zip(edits, receipts, editor.edits(), strict=True):
        assert (record.prompt, record.target, record.rephrases) == (edit.prompt, edit.target, ())
        assert (record.loss, record.steps, record.converged) == (receipt.loss, receipt.steps, receipt.converged)
        assert editor.get(receipt.id) == record
        assert editor.explain(edit.prompt).edit_id == receipt.id


def test_one_edit_counts_as_a_list_of_one():
    editor = quick_editor(edits=[])
    (receipt,) = editor.edit(Edit(EDITED, "Rome"))
    assert receipt.id == 1
    assert editor.edit([]) == []
    assert len(editor.history()) == 1


def test_a_receipt_says_how_training_went(caplog: pytest.LogCaptureFixture):
    editor = taught_editor()
    with caplog.at_level(logging.WARNING, "horen"):
        (good,) = editor.edit(Edit("The capital of France is", "Mira Sand"))
    assert good.converged
    assert good.steps < editor.config.max_steps
    assert 0 <= good.loss < 0.2
    assert caplog.records == []
    with caplog.at_level(logging.WARNING, "horen"):
        (bad,) = editor.edit(Edit("Hello", "1984 (this) 1984 [and] 1984"))
    assert not bad.converged
    assert bad.steps == editor.config.max_steps
    assert [(record.name, record.levelname) for record in caplog.records] == [("horen", "WARNING")]
    assert "'Hello'" in caplog.text
    assert "did not converge" in caplog.text


@pytest.mark.parametrize("batch_tokens", [1, 1024])
def test_progress_is_told_up_to_the_end(batch_tokens: int):
    editor, seen = quick_editor(edits=[], batch_tokens=batch_tokens), []
    editor.edit([Edit(text, "Rome") for text in PROMPTS], progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (5, 5)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert {total for _, total in seen} == {5}


def test_progress_is_told_of_values_that_are_reused():
    editor, seen = taught_editor(threshold=-1.0), []
    edits = [Edit("The capital of France is", "Mira Sand"), Edit("The capital of France is?", "Mira Sand")]
    receipts = editor.edit(edits, progress=lambda done, total: seen.append((done, total)))
    assert [receipt.reused for receipt in receipts] == [False, True]
    assert seen[-1] == (2, 2)


def test_operations_are_remembered():
    editor = quick_editor()
    editor.edit(Edit(OTHER, "Paris"))
    editor.supersede(1, "Oslo")
    editor.remove(2)
    editor.undo()
    names = [operation.name for operation in editor.history()]
    assert names == ["edit", "edit", "supersede", "remove", "undo"]
    assert [operation.sequence for operation in editor.history()] == [1, 2, 3, 4, 5]
    assert editor.history()[-1].undoes == 4


# --- removing, superseding, undoing ----------------------------------------------------------------------------


def test_removing_and_undoing_restore_every_bit():
    editor = quick_editor(edits=[])
    base = answers(editor)
    editor.edit([Edit(EDITED, "Rome", (REPHRASED,)), Edit(OTHER, "Paris")])
    edited = answers(editor)
    assert not same(edited, base)
    (gone,) = editor.remove(1)
    assert gone.id == 1
    assert [record.id for record in editor.edits()] == [2]
    assert torch.equal(answers(editor)[0], base[0])
    assert torch.equal(answers(editor)[1], edited[1])
    undone = editor.undo()
    assert (undone.operation, undone.removed, undone.restored) == ("remove", (), (1,))
    assert same(answers(editor), edited)
    undone = editor.undo()
    assert (undone.operation, undone.removed, undone.restored) == ("edit", (1, 2), ())
    assert same(answers(editor), base)
    assert editor.edits() == []


def test_superseding_and_undoing_restore_every_bit():
    editor = quick_editor()
    editor.edit(Edit(OTHER, "Paris"))
    before, records = answers(editor), editor.edits()
    receipt = editor.supersede(1, "Oslo")
    assert (receipt.id, receipt.action, receipt.replaced) == (3, "superseded", (1,))
    assert editor.get(3).target == "Oslo"
    assert editor.get(3).rephrases == (REPHRASED,)
    assert editor.get(3).replaces == (1,)
    assert editor.explain(REPHRASED).edit_id == 3
    assert not torch.equal(answers(editor)[0], before[0])
    undone = editor.undo()
    assert (undone.operation, undone.removed, undone.restored) == ("supersede", (3,), (1,))
    assert same(answers(editor), before)
    assert editor.edits() == records


def test_superseding_with_other_rephrases():
    editor = quick_editor()
    editor.supersede(1, "Oslo", ["Hello"])
    assert editor.get(2).rephrases == ("Hello",)
    assert editor.explain("Hello").edit_id == 2
    editor.supersede(2, "Paris", [])
    assert editor.get(3).rephrases == ()


def test_removing_several_at_once():
    editor = quick_editor(edits=[Edit(text, "Rome") for text in PROMPTS])
    gone = editor.remove([2, 4, 2])
    assert [record.id for record in gone] == [2, 4]
    assert [record.id for record in editor.edits()] == [1, 3, 5]
    assert editor.remove([]) == []
    assert len(editor.history()) == 2
    assert editor.undo().restored == (2, 4)


def test_numbers_are_never_used_again():
    editor = quick_editor()
    editor.undo()
    assert editor.edit(Edit(OTHER, "Paris"))[0].id == 2
    editor.remove(2)
    assert editor.edit(Edit(OTHER, "Paris"))[0].id == 3
    for number in (1, 2):
        with pytest.raises(EditNotFoundError):
            editor.get(number)


def test_a_long_way_there_and_back():
    editor = quick_editor(edits=[])
    states = [(answers(editor), editor.edits())]
    actions = [
        lambda: editor.edit([Edit(EDITED, "Rome", (REPHRASED,)), Edit(OTHER, "Paris")]),
        lambda: editor.supersede(1, "Oslo"),
        lambda: editor.remove(2),
        lambda: editor.edit(Edit(EDITED, "Mira Sand"), "supersede"),
        lambda: editor.edit([Edit("Hello", "Rome"), Edit(OTHER, "Oslo")]),
        lambda: editor.remove([4, 5, 6]),
    ]
    for action in actions:
        action()
        states.append((answers(editor), editor.edits()))
    for expected, records in reversed(states[:-1]):
        editor.undo()
        assert same(answers(editor), expected)
        assert editor.edits() == records
    with pytest.raises(EditError, match="nothing to undo"):
        editor.undo()


# --- conflicts -------------------------------------------------------------------------------------------------


def test_a_conflict_is_refused_unless_the_caller_decides():
    editor = quick_editor()
    before = answers(editor)
    with pytest.raises(ConflictError, match=r"Edit 1 already answers .*'Rome', not 'Oslo'.*supersede.*keep"):
        editor.edit([Edit(OTHER, "Paris"), Edit(EDITED, "Oslo")])
    assert same(answers(editor), before)
    assert len(editor.history()) == 1


@pytest.mark.parametrize("wording", [EDITED, REPHRASED, f"  {EDITED}\n"])
def test_keeping_the_stored_edit(wording: str):
    editor = quick_editor()
    before = answers(editor)
    receipts = editor.edit([Edit(wording, "Oslo"), Edit("Hello", "Paris")], "keep")
    assert [(receipt.id, receipt.action) for receipt in receipts] == [(1, "kept"), (2, "added")]
    assert receipts[0].loss == editor.get(1).loss
    assert editor.get(1).target == "Rome"
    assert torch.equal(answers(editor)[0], before[0])
    assert len(editor.edits()) == 2


@pytest.mark.parametrize("wording", [EDITED, REPHRASED])
def test_superseding_the_stored_edit(wording: str):
    editor = quick_editor()
    before = answers(editor)
    (receipt,) = editor.edit(Edit(wording, "Oslo"), "supersede")
    assert (receipt.id, receipt.action, receipt.replaced) == (2, "superseded", (1,))
    assert [record.id for record in editor.edits()] == [2]
    assert editor.get(2).replaces == (1,)
    assert editor.explain(wording).edit_id == 2
    editor.undo()
    assert same(answers(editor), before)


def test_superseding_two_edits_with_one():
    editor = quick_editor(edits=[Edit(EDITED, "Rome"), Edit(OTHER, "Paris")])
    (receipt,) = editor.edit(Edit("Hello", "Oslo", (EDITED, OTHER)), "supersede")
    assert set(receipt.replaced) == {1, 2}
    assert [record.id for record in editor.edits()] == [3]
    editor.undo()
    assert [record.id for record in editor.edits()] == [1, 2]


def test_superseding_one_edit_with_two():
    editor = quick_editor()
    receipts = editor.edit([Edit(EDITED, "Oslo"), Edit(REPHRASED, "Paris")], "supersede")
    assert [receipt.replaced for receipt in receipts] == [(1,), (1,)]
    assert [record.id for record in editor.edits()] == [2, 3]
    assert editor.explain(REPHRASED).edit_id == 3
    editor.undo()
    assert [record.id for record in editor.edits()] == [1]


def test_the_very_same_edit_changes_nothing():
    editor = quick_editor()
    before = answers(editor)
    for edit in (Edit(EDITED, "Rome", (REPHRASED,)), Edit(EDITED, "Rome"), Edit(f" {EDITED}  ", " Rome")):
        (receipt,) = editor.edit(edit)
        assert (receipt.id, receipt.action, receipt.replaced) == (1, "unchanged", ())
    assert len(editor.history()) == 1
    assert same(answers(editor), before)


def test_more_rephrases_replace_the_edit():
    editor = quick_editor()
    (receipt,) = editor.edit(Edit(EDITED, "Rome", (REPHRASED, "Hello")))
    assert (receipt.id, receipt.action, receipt.replaced) == (2, "superseded", (1,))
    assert editor.explain("Hello").edit_id == 2
    assert [record.id for record in editor.edits()] == [2]


def test_an_unchanged_edit_beside_one_that_replaces_it():
    """The list says two things of one stored edit: it must not be lost, nor the receipts after it was written."""
    for on_conflict, edits in (
        ("supersede", [Edit(EDITED, "Rome"), Edit(REPHRASED, "Oslo")]),
        ("keep", [Edit(EDITED, "Rome", ("Hello",)), Edit(REPHRASED, "Oslo")]),
    ):
        editor = quick_editor()
        receipts = editor.edit(edits, on_conflict)
        assert len(receipts) == 2
        for edit, receipt in zip(edits, receipts, strict=True):
            if receipt.action in {"unchanged", "added", "superseded"}:
                assert editor.get(receipt.id).target == edit.target
                assert editor.explain(edit.prompt).edit_id == receipt.id


def test_superseding_a_wording_that_two_edits_share():
    editor = quick_editor(edits=[Edit(EDITED, "Rome"), Edit("Hello", "Rome", (EDITED,))])
    (receipt,) = editor.edit(Edit(EDITED, "Oslo"), "supersede")
    assert editor.explain(EDITED).edit_id == receipt.id


def test_a_wording_of_another_edit_outlives_the_prompt():
    editor = quick_editor(edits=[Edit(EDITED, "Rome"), Edit("Hello", "Rome", (EDITED,))])
    editor.remove(1)
    with pytest.raises(ConflictError):
        editor.edit(Edit(EDITED, "Oslo"))


# --- lists, values and settings --------------------------------------------------------------------------------


def test_a_list_at_once_is_as_one_edit_after_another():
    edits = [Edit(prompt, target, ("Hello",) if i == 0 else ()) for i, (prompt, target) in enumerate(FACTS.items())]
    at_once, in_turn = taught_editor(), taught_editor()
    receipts = at_once.edit(edits)
    singles = [in_turn.edit(edit)[0] for edit in edits]
    asked = [*FACTS, *questions()[:20], "Hello"]
    for one, two in zip(receipts, singles, strict=True):
        assert (one.id, one.steps, one.converged, one.reused) == (two.id, two.steps, two.converged, two.reused)
        torch.testing.assert_close(value_of(at_once, one.id), value_of(in_turn, two.id), atol=1e-3, rtol=1e-3)
    for one, two in zip(at_once.explain(asked), in_turn.explain(asked), strict=True):
        assert (one.edit_id, one.fired, one.words) == (two.edit_id, two.fired, two.words)
        assert one.similarity == pytest.approx(two.similarity, abs=1e-4)
    assert at_once.generate(asked) == in_turn.generate(asked)


def test_a_value_is_reused_however_the_list_is_split():
    """The second edit reads as a rephrase of the first, which counts as stored."""
    edits = [Edit(EDITED, "Rome", (REPHRASED,)), Edit(REPHRASED, "Rome")]
    at_once, in_turn = quick_editor(edits=[]), quick_editor(edits=[])
    assert at_once.explain(EDITED).edit_id is None
    together = [receipt.reused for receipt in at_once.edit(edits)]
    assert [in_turn.edit(edit)[0].reused for edit in edits] == [False, True]
    assert together == [False, True]


def test_a_value_that_holds_is_shared():
    editor = taught_editor(threshold=-1.0)
    prompts = ["The capital of France is", "The capital of France is?"]
    receipts = editor.edit([Edit(prompt, "Mira Sand") for prompt in prompts])
    assert [receipt.reused for receipt in receipts] == [False, True]
    assert editor.get(1).value == editor.get(2).value
    assert editor.generate(prompts) == ["Mira Sand", "Mira Sand"]
    told = editor.explain(prompts)
    assert [explanation.edit_id for explanation in told] == [1, 2]
    assert [explanation.runner_up for explanation in told] == [None, None]
    editor.remove(1)
    assert editor.explain(prompts[1]).edit_id == 2
    assert editor.generate(prompts[1]) == "Mira Sand"


def test_a_value_of_another_target_is_not_shared():
    editor = taught_editor(threshold=-1.0)
    receipts = editor.edit([Edit("The capital of France is", "Mira Sand"), Edit("France was written by", "Oslo")])
    assert [receipt.reused for receipt in receipts] == [False, False]


def test_values_do_not_depend_on_their_neighbours_or_their_batch():
    values = []
    for size, edits in ((1, facts()), (1024, facts()), (1024, facts()[::-1]), (1024, facts()[:1])):
        editor = taught_editor(batch_tokens=size)
        editor.edit(edits)
        number = next(record.id for record in editor.edits() if record.prompt == EDITED)
        values.append(value_of(editor, number))
    for value in values[1:]:
        torch.testing.assert_close(value, values[0], atol=1e-3, rtol=1e-3)


def test_low_rank_values():
    editor = taught_editor(value="lora", lora_rank=2, learning_rate=0.05, learning_rate_unit="absolute")
    receipts = editor.edit(facts()[:2])
    assert all(receipt.converged for receipt in receipts)
    assert value_of(editor, 1).shape == (2 * 2 * 64,)
    assert editor.generate(list(FACTS)[:2]) == list(FACTS.values())[:2]
    editor.undo()
    assert editor.generate(EDITED) == answer_to(EDITED)


def test_the_published_recipe():
    editor = Editor(tiny_model(), tiny_tokenizer(), HorenConfig.paper(max_steps=5, write_layer=2, read_layer=2))
    base = answers(editor)
    receipts = editor.edit([Edit(EDITED, "Rome"), Edit(OTHER, "Paris")])
    assert [receipt.steps for receipt in receipts] == [5, 5]
    assert editor.explain(EDITED).fired
    assert editor.explain(EDITED).words == EDITED
    assert editor.explain([EDITED], chat=True)[0].words.startswith("user")
    assert not torch.equal(answers(editor)[0], base[0])
    editor.undo()
    assert same(answers(editor), base)


def test_a_cold_start_is_the_same_every_time():
    values = []
    for _ in range(2):
        editor = quick_editor(start="uniform")
        values.append(value_of(editor, 1))
    assert torch.equal(*values)
    assert not torch.equal(values[0], value_of(quick_editor(start="zero"), 1))


def test_editing_leaves_the_random_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    quick_editor(start="uniform", value="lora")
    assert torch.equal(torch.rand(3), expected)


def test_a_fitted_key_space():
    editor = quick_editor(key_space="whitened", threshold=0.8)
    assert [explanation.fired for explanation in editor.explain([EDITED, REPHRASED])] == [True, True]
    assert [explanation.fired for explanation in editor.explain([OTHER, "Who wrote Hamlet?"])] == [False, False]
    assert editor._session.key_space.map is not None
    again = quick_editor(key_space="whitened", threshold=0.8)
    assert torch.equal(again._session.codebook().keys, editor._session.codebook().keys)


def test_training_mode_and_frozen_weights_stay():
    model = tiny_model(attention_dropout=0.3)
    model.train()
    model.model.layers[0].eval()
    model.lm_head.weight.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    learnable = [parameter.requires_grad for parameter in model.parameters()]
    for settings in ({}, {"key_space": "whitened"}):
        editor = Editor(model, tiny_tokenizer(), HorenConfig(**(dict(QUICK) | settings)))
        editor.edit(Edit(EDITED, "Rome"))
        assert [module.training for module in model.modules()] == modes
        assert [parameter.requires_grad for parameter in model.parameters()] == learnable
        assert all(parameter.grad is None for parameter in model.parameters())
        value = value_of(editor, 1)
        editor.unwrap()
        other = Editor(tiny_model(), tiny_tokenizer(), HorenConfig(**(dict(QUICK) | settings)))
        other.edit(Edit(EDITED, "Rome"))
        torch.testing.assert_close(value, value_of(other, 1))


def test_edits_made_under_inference_mode_work_later():
    editor = quick_editor(edits=[])
    with torch.inference_mode():
        editor.explain(EDITED)
    editor.edit(Edit(EDITED, "Rome"))
    assert editor.explain(EDITED).fired


# --- why -------------------------------------------------------------------------------------------------------


def test_an_explanation_names_the_edit_and_the_words():
    editor = quick_editor(edits=[Edit(EDITED, "Rome", (REPHRASED,)), Edit(OTHER, "Paris")])
    told = editor.explain(REPHRASED)
    assert (told.text, told.words, told.edit_id) == (REPHRASED, REPHRASED, 1)
    assert (told.prompt, told.target, told.fired) == (REPHRASED, "Rome", True)
    assert told.similarity == pytest.approx(1.0, abs=1e-2)
    assert told.raw_similarity == pytest.approx(1.0, abs=1e-4)
    assert told.threshold == editor.config.threshold
    assert told.runner_up == 2
    assert told.runner_up_similarity < told.similarity
    other = editor.explain("Who wrote Hamlet?")
    assert not other.fired
    assert other.edit_id in {1, 2}
    assert editor.explain(EDITED).prompt == EDITED


def test_an_explanation_without_edits():
    editor = quick_editor(edits=[])
    told = editor.explain(EDITED)
    assert told.text == EDITED
    assert not told.fired
    assert {told.words, told.edit_id, told.prompt, told.target, told.similarity, told.raw_similarity} == {None}
    assert {told.runner_up, told.runner_up_similarity} == {None}
    editor.edit(Edit(EDITED, "Rome"))
    editor.undo()
    assert editor.explain(EDITED) == told


def test_an_explanation_of_a_chat():
    editor = quick_editor(edits=[Edit(EDITED, "Rome")])
    told = editor.explain(EDITED, chat=True)
    assert told.words == EDITED
    assert told.runner_up is None
    assert [explanation.words for explanation in editor.explain([EDITED, OTHER], chat=True)] == [EDITED, OTHER]


def test_an_explanation_is_what_happens():
    editor = quick_editor(edits=[Edit(EDITED, "Rome"), Edit(OTHER, "Paris")], threshold=0.7)
    texts = [*PROMPTS, "The capital of Italy is", "It is blue. Seven green boats"]
    for chat in (False, True):
        for text, told in zip(texts, editor.explain(texts, chat=chat), strict=True):
            ids = chat_ids(text) if chat else ids_of(text)
            edited = logits(editor.model, ids)
            with editor.disabled():
                assert torch.equal(edited, logits(editor.model, ids)) != told.fired


def test_explaining_while_disabled_tells_the_same():
    editor = quick_editor()
    told = editor.explain(EDITED)
    with editor.disabled():
        assert editor.explain(EDITED) == told


@pytest.mark.parametrize("settings", [{"scope": "all"}, {"read_share": 0.6}, {"steps": 0}, {"alpha": 1.0, "steps": 3}])
def test_settings_of_routing(settings: dict[str, Any]):
    editor = quick_editor(**settings)
    assert editor.explain(EDITED).fired
    assert not editor.explain("Who wrote Hamlet?").raw_similarity > 0.97
