"""How values come about, what the settings do, and why an edit fires."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from horen import Edit, Editor, HorenConfig
from support.editors import (
    EDITED,
    FACTS,
    OTHER,
    PROMPTS,
    QUICK,
    REPHRASED,
    chat_ids,
    facts,
    ids_of,
    logits,
    outputs,
    quick_editor,
    same,
    taught_editor,
    value_of,
)
from support.tiny_models import answer_to, questions, tiny_model
from support.tiny_tokenizers import tiny_tokenizer


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
    editor = Editor(
        tiny_model(), tiny_tokenizer(), HorenConfig.paper(max_steps=5, write_layer=2, read_sites="mlp_hidden@2")
    )
    base = outputs(editor)
    receipts = editor.edit([Edit(EDITED, "Rome"), Edit(OTHER, "Paris")])
    assert [receipt.steps for receipt in receipts] == [5, 5]
    assert editor.explain(EDITED).fired
    assert editor.explain(EDITED).words == EDITED
    assert editor.explain([EDITED], chat=True)[0].words.startswith("user")
    assert not torch.equal(outputs(editor)[0], base[0])
    editor.undo()
    assert same(outputs(editor), base)


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
    assert {told.words, told.edit_id, told.prompt, told.target} == {None}
    assert {told.similarity, told.raw_similarity, told.score, told.runner_up, told.runner_up_similarity} == {None}
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


@pytest.mark.parametrize(
    "settings",
    [
        {"scope": "all"},
        {"read_share": 0.6},
        {"read_weight": "rare"},
        {"read_sites": "auto@0+layer_output@0"},
        {"steps": 0},
        {"alpha": 1.0, "steps": 3},
    ],
)
def test_settings_of_routing(settings: dict[str, Any]):
    editor = quick_editor(**settings)
    assert editor.explain(EDITED).fired
    assert not editor.explain("Who wrote Hamlet?").raw_similarity > 0.97


def test_a_margin_lets_a_prompt_that_two_edits_claim_pass():
    editor = quick_editor(edits=[Edit(EDITED, "Rome"), Edit(OTHER, "Paris")], margin=2.0)
    found = editor.explain(EDITED)
    assert found.score is not None
    assert found.score > found.threshold
    assert (found.edit_id, found.margin, found.fired) == (1, 2.0, False)
    changed = logits(editor.model, ids_of(EDITED))
    with editor.disabled():
        assert torch.equal(changed, logits(editor.model, ids_of(EDITED)))
    editor.remove(2)
    assert editor.explain(EDITED).fired
