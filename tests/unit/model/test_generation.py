"""Generation with a wrapped model: cached, uncached, padded, chunked, over several turns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from generation_support import counted, generated, greedy_by_hand, routed_by_hand
from transformers import StaticCache

from horen import Edit, Editor
from horen.model.past import past_argument, past_of
from support.editors import EDITED, GREEDY, OTHER, PROMPTS, chat_ids, ids_of, padded, quick_editor, value_of
from support.tiny_models import each_family, seeded

pytestmark = pytest.mark.usefixtures("reading")


@each_family
@pytest.mark.parametrize("cached", [True, False], ids=["cache", "no cache"])
def test_greedy_generation_is_the_model_with_the_value_at_the_prompts_end(family: str, cached: bool):
    editor, ids = quick_editor(family), ids_of(EDITED)
    expected = greedy_by_hand(editor, ids, {len(ids) - 1: value_of(editor, 1)})
    assert generated(editor, [ids], use_cache=cached)[0].tolist() == expected
    with editor.disabled():
        base = generated(editor, [ids], use_cache=cached)[0].tolist()
    assert base == greedy_by_hand(editor, ids, {})
    assert base != expected


@each_family
@pytest.mark.parametrize(
    "options",
    [{"do_sample": True}, {"do_sample": True, "num_return_sequences": 3}, {"num_beams": 3}],
    ids=["sampling", "several samples", "beams"],
)
def test_every_way_of_generating_is_the_same_without_a_cache(family: str, options: dict[str, Any]):
    editor, ids = quick_editor(family), ids_of(EDITED)
    found = []
    for cached in (True, False):
        with seeded(3):
            found.append(generated(editor, [ids, ids_of(OTHER)], use_cache=cached, **options))
    assert torch.equal(*found)


@each_family
def test_a_padded_batch_generates_what_its_rows_do(family: str):
    editor = quick_editor(family)
    rows = [ids_of(text) for text in PROMPTS]
    for options in ({"use_cache": True}, {"use_cache": False}):
        together = generated(editor, rows, **options)
        for row, ids in zip(together, rows, strict=True):
            assert torch.equal(row, generated(editor, [ids], **options)[0])


@pytest.mark.parametrize("family", ["llama", "gemma3", "mixtral"])
def test_a_batch_in_a_static_cache(family: str):
    editor = quick_editor(family)
    rows = [ids_of(text) for text in PROMPTS]
    expected = generated(editor, rows)
    assert torch.equal(generated(editor, rows, cache_implementation="static"), expected)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_a_prompt_longer_than_the_window(family: str):
    editor = quick_editor(family, edits=[Edit(f"{OTHER}. It is blue. Hello Hello Hello. {EDITED}", "Rome")])
    ids = ids_of(editor.get(1).prompt)
    assert len(ids) > 16
    expected = greedy_by_hand(editor, ids, {len(ids) - 1: value_of(editor, 1)})
    for cached in (True, False):
        assert generated(editor, [ids], use_cache=cached)[0].tolist() == expected


def test_a_prompt_of_one_token():
    editor, ids = quick_editor(edits=[Edit("The", "Rome")]), ids_of("The")
    assert len(ids) == 1
    expected = greedy_by_hand(editor, ids, {0: value_of(editor, 1)})
    for cached in (True, False):
        assert generated(editor, [ids], use_cache=cached)[0].tolist() == expected


@pytest.mark.parametrize("settings", [{}, {"read_sites": "auto@0+layer_output@0"}])
def test_a_prompt_in_chunks(settings: dict[str, Any]):
    editor, ids = quick_editor(**settings), ids_of(f"{OTHER} {OTHER} {EDITED}")
    editor.edit(Edit(f"{OTHER} {OTHER} {EDITED}", "Paris"))
    assert torch.equal(generated(editor, [ids], prefill_chunk_size=5), generated(editor, [ids]))


@each_family
def test_a_prompt_is_routed_once(family: str, monkeypatch: pytest.MonkeyPatch):
    editor = quick_editor(family)
    rows = [ids_of(text) for text in PROMPTS]
    for options in ({}, {"do_sample": True}, {"use_cache": False}):
        with counted(editor, monkeypatch) as calls, seeded(0):
            generated(editor, rows, **options)
        assert calls == [len(rows)]
    with counted(editor, monkeypatch) as calls:
        generated(editor, rows[:1], num_beams=3)
    assert len(calls) == 1


def test_generated_words_are_no_prompt():
    """What the model writes itself may read like an edited prompt; it is not edited, with a cache or without."""
    editor, ids = quick_editor(threshold=-1.0), ids_of("Hello")
    expected = greedy_by_hand(editor, ids, {len(ids) - 1: value_of(editor, 1)})
    assert generated(editor, [ids], use_cache=False)[0].tolist() == expected
    assert generated(editor, [ids], use_cache=True)[0].tolist() == expected


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "mixtral"])
@pytest.mark.parametrize("style", ["chatml", "qwen", "llama3", "gemma"])
def test_a_second_turn_on_the_cache_of_the_first(family: str, style: str, monkeypatch: pytest.MonkeyPatch):
    edits = [Edit("Who wrote Hamlet?", "Rome"), Edit("It is blue", "Paris")]
    editor = quick_editor(family, style, edits, threshold=-1.0)
    first = chat_ids("Who wrote Hamlet?", style=style)

    def continued(ids: list[int], **options: Any) -> Any:
        inputs = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
        usual = GREEDY | {"max_new_tokens": 5}
        with torch.no_grad(), counted(editor, monkeypatch) as calls:
            found = editor.model.generate(**inputs, return_dict_in_generate=True, **(usual | options))
        return found, calls

    one, calls = continued(first)
    assert calls == [1]
    asked = chat_ids("x", "x", "It is blue", style=style)
    before = chat_ids("x", "x", style=style, answer=False)
    grown = [*one.sequences[0].tolist(), *asked[len(before) - 2 :]]
    two, calls = continued(grown, **{past_argument(editor.model): past_of(one)})
    assert calls == [1]
    again, calls = continued(grown)
    assert calls == [1]
    assert torch.equal(two.sequences, again.sequences)
    assert again.sequences[0, len(grown) :].tolist() == greedy_by_hand(editor, grown, routed_by_hand(editor, grown), 5)


def going_on(editor: Editor, ids: list[int], cache: Any = None, **options: Any) -> Any:
    inputs = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
    kept = {} if cache is None else {past_argument(editor.model): cache}
    usual = GREEDY | {"max_new_tokens": 5, "return_dict_in_generate": True}
    with torch.no_grad():
        return editor.model.generate(**inputs, **kept, **(usual | options))


@pytest.fixture
def one_edit(request: pytest.FixtureRequest) -> Editor:
    """Wakes for "Who wrote Hamlet?" alone."""
    edits, asked = [Edit("Who wrote Hamlet?", "Rome")], ["Who wrote Hamlet?", "It is blue"]
    own, other = (e.score for e in quick_editor(request.param, "chatml", edits).explain(asked, chat=True))
    assert own > other
    return quick_editor(request.param, "chatml", edits, threshold=(own + other) / 2)


LATER = [19, 20, 5]  # any tokens: the rest of an answer


@pytest.mark.parametrize("one_edit", ["llama", "gemma3", "gpt2", "mixtral"], indirect=True)
@pytest.mark.parametrize("static", [False, True], ids=["growing", "static"])
def test_a_later_turn_is_the_untouched_models(one_edit: Editor, static: bool):
    """Given the same transcript, whether the cache of the answered turn is kept or not."""
    config = one_edit.model.config
    if static and config.model_type == "gpt2":
        pytest.skip("its cache is made without a window")
    cache = StaticCache(config=config, max_cache_len=64) if static else None
    one = going_on(one_edit, chat_ids("Who wrote Hamlet?"), cache)
    with one_edit.disabled():
        assert not torch.equal(going_on(one_edit, chat_ids("Who wrote Hamlet?")).sequences, one.sequences)
    asked, before = chat_ids("x", "x", "It is blue"), chat_ids("x", "x", answer=False)
    grown = [*one.sequences[0].tolist(), *asked[len(before) - 2 :]]
    with one_edit.disabled():
        untouched = going_on(one_edit, grown)
    assert torch.equal(going_on(one_edit, grown).sequences, untouched.sequences)
    two = going_on(one_edit, grown, past_of(one))
    assert torch.equal(two.sequences, untouched.sequences)


@pytest.mark.parametrize("one_edit", ["llama", "gemma3"], indirect=True)
def test_a_later_turn_by_hand(one_edit: Editor):
    """Steps that a caller takes alone, on a cache that the model makes."""
    model, first = one_edit.model, chat_ids("Who wrote Hamlet?")
    grown = [*first, *LATER, *chat_ids("x", "x", "It is blue")[len(chat_ids("x", "x", answer=False)) - 2 :]]
    with torch.no_grad():
        cache = past_of(model(torch.tensor([first]), use_cache=True))
        for token in LATER:
            model(torch.tensor([[token]]), **{past_argument(model): cache}, use_cache=True)
        rest = grown[len(first) + len(LATER) :]
        found = model(torch.tensor([rest]), **{past_argument(model): cache}, use_cache=True).logits[0, -1]
        with one_edit.disabled():
            expected = model(torch.tensor([grown])).logits[0, -1]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert int(cache.get_seq_length()) == len(grown)


@pytest.mark.parametrize("one_edit", ["llama", "gemma3"], indirect=True)
def test_an_answer_that_goes_on_keeps_its_edit(one_edit: Editor):
    """Another call on the kept cache without another turn continues what was being said."""
    whole = going_on(one_edit, chat_ids("Who wrote Hamlet?"), max_new_tokens=8).sequences
    begun = going_on(one_edit, chat_ids("Who wrote Hamlet?"), max_new_tokens=3)
    again = going_on(one_edit, begun.sequences[0].tolist(), past_of(begun)).sequences
    assert torch.equal(again, whole)


@pytest.mark.parametrize("one_edit", ["llama"], indirect=True)
def test_a_later_turn_of_a_padded_batch(one_edit: Editor):
    editor = one_edit
    rows = [chat_ids("Who wrote Hamlet?"), chat_ids("It is blue. Why not green?")]
    inputs = padded(rows, left=True)
    usual = GREEDY | {"max_new_tokens": 4, "min_new_tokens": 4, "return_dict_in_generate": True}
    with torch.no_grad():
        one = editor.model.generate(**inputs, **usual)
    tail = torch.tensor([chat_ids("x", "x", "It is blue")[len(chat_ids("x", "x", answer=False)) - 2 :]] * 2)
    ids = torch.cat([one.sequences, tail], dim=1)
    mask = torch.cat([inputs["attention_mask"], torch.ones(2, ids.shape[1] - inputs["input_ids"].shape[1])], 1).long()
    with torch.no_grad():
        kept = editor.model.generate(ids, attention_mask=mask, **{past_argument(editor.model): past_of(one)}, **usual)
        with editor.disabled():
            untouched = editor.model.generate(ids, attention_mask=mask, **usual)
    assert torch.equal(kept.sequences, untouched.sequences)
