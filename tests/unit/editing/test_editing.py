"""What an edit does, and how it is taken back."""

from __future__ import annotations

import logging

import pytest
import torch
from transformers import GenerationConfig

from horen import Edit, EditError, EditNotFoundError
from support.editors import (
    EDITED,
    FACTS,
    OTHER,
    PROMPTS,
    REPHRASED,
    facts,
    ids_of,
    outputs,
    quick_editor,
    same,
    taught_editor,
)
from support.tiny_models import answer_to, questions, seeded
from support.tiny_tokenizers import tiny_tokenizer


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


def test_what_is_generated_is_one_text_for_each_prompt():
    editor = quick_editor()
    several = GenerationConfig(num_beams=3, num_return_sequences=2)
    for options in ({"num_beams": 3, "num_return_sequences": 2}, {"generation_config": several}):
        with pytest.raises(EditError, match=r"num_return_sequences=2.*model\.generate"):
            editor.generate([OTHER, EDITED], 4, **options)
        with pytest.raises(EditError, match="num_return_sequences=2"):
            editor.chat([{"role": "user", "content": EDITED}], 4, **options)
    told = editor.generate([OTHER, EDITED], 4, return_dict_in_generate=True, num_return_sequences=1)
    assert told == editor.generate([OTHER, EDITED], 4)
    assert all(told)


def test_a_generation_config_is_honoured():
    editor = quick_editor()
    usual = editor.generate(OTHER, 30, eos_token_id=None)
    longer, ids = GenerationConfig(max_new_tokens=30, eos_token_id=-1), ids_of(OTHER)
    assert editor.generate(OTHER, generation_config=longer) == usual
    assert editor.generate(OTHER, 5, generation_config=longer) == editor.generate(OTHER, 5, eos_token_id=None)
    with torch.no_grad():
        first = int(editor.model.generate(torch.tensor([ids]), max_new_tokens=1, do_sample=False)[0, -1])
    assert editor.generate(OTHER, 9, generation_config=GenerationConfig(eos_token_id=first)) == editor.generate(
        OTHER, 1
    )
    open_ = GenerationConfig(temperature=0.5)  # asks for no sampling
    assert editor.generate([OTHER, EDITED], 6, generation_config=open_) == editor.generate([OTHER, EDITED], 6)
    found = set()
    for seed in range(5):
        with seeded(seed):
            found.add(editor.generate(OTHER, generation_config=GenerationConfig(do_sample=True, temperature=5.0)))
    assert len(found) > 1


def test_many_prompts_are_asked_in_batches():
    editor = quick_editor()
    texts = [*(f"{OTHER} {i}" for i in range(70)), EDITED]
    found = editor.generate(texts, 3)
    assert len(found) == 71
    for number in (0, 33, 69, 70):
        assert found[number] == editor.generate(texts[number], 3)


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


def test_removing_and_undoing_restore_every_bit():
    editor = quick_editor(edits=[])
    base = outputs(editor)
    editor.edit([Edit(EDITED, "Rome", (REPHRASED,)), Edit(OTHER, "Paris")])
    edited = outputs(editor)
    assert not same(edited, base)
    (gone,) = editor.remove(1)
    assert gone.id == 1
    assert [record.id for record in editor.edits()] == [2]
    assert torch.equal(outputs(editor)[0], base[0])
    assert torch.equal(outputs(editor)[1], edited[1])
    undone = editor.undo()
    assert (undone.operation, undone.removed, undone.restored) == ("remove", (), (1,))
    assert same(outputs(editor), edited)
    undone = editor.undo()
    assert (undone.operation, undone.removed, undone.restored) == ("edit", (1, 2), ())
    assert same(outputs(editor), base)
    assert editor.edits() == []


def test_superseding_and_undoing_restore_every_bit():
    editor = quick_editor()
    editor.edit(Edit(OTHER, "Paris"))
    before, records = outputs(editor), editor.edits()
    receipt = editor.supersede(1, "Oslo")
    assert (receipt.id, receipt.action, receipt.replaced) == (3, "superseded", (1,))
    assert editor.get(3).target == "Oslo"
    assert editor.get(3).rephrases == (REPHRASED,)
    assert editor.get(3).replaces == (1,)
    assert editor.explain(REPHRASED).edit_id == 3
    assert not torch.equal(outputs(editor)[0], before[0])
    undone = editor.undo()
    assert (undone.operation, undone.removed, undone.restored) == ("supersede", (3,), (1,))
    assert same(outputs(editor), before)
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
    states = [(outputs(editor), editor.edits())]
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
        states.append((outputs(editor), editor.edits()))
    for expected, records in reversed(states[:-1]):
        editor.undo()
        assert same(outputs(editor), expected)
        assert editor.edits() == records
    with pytest.raises(EditError, match="nothing to undo"):
        editor.undo()
