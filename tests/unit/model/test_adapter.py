from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from horen import Edit, Editor, HorenConfig, ModelError
from horen.model.adapter import Adapter, quiet
from horen.model.padding import left_padded
from horen.model.prompts import PromptReader
from support.editors import (
    EDITED,
    OTHER,
    QUICK,
    REPHRASED,
    by_hand,
    chat_ids,
    checksums,
    hooks_on,
    ids_of,
    logits,
    padded,
    quick_editor,
    same_weights,
    value_of,
)
from support.tiny_models import FAMILIES, HIDDEN, seeded, tiny_model
from support.tiny_tokenizers import tiny_tokenizer

NEW = 6
PROMPTS = (EDITED, OTHER, REPHRASED, "Who wrote Hamlet?", "Hello")
each_family = pytest.mark.parametrize("family", FAMILIES)


def generated(editor: Editor, rows: list[list[int]], **options: Any) -> Tensor:
    """New tokens alone, [rows, NEW]; the model's own generate is called."""
    inputs = padded(rows, left=True)
    usual = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    with torch.no_grad():
        found = editor.model.generate(**inputs, **(usual | options))
    return found[:, inputs["input_ids"].shape[1] :]


def greedy_by_hand(editor: Editor, ids: list[int], values: dict[int, Tensor], steps: int = NEW) -> list[int]:
    """The same without the adapter: the whole model at every step, with values at fixed positions."""
    grown = list(ids)
    for _ in range(steps):
        grown.append(int(by_hand(editor, grown, values)[-1].argmax()))
    return grown[len(ids) :]


@contextmanager
def counted(editor: Editor, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many prompts each call of the adapter's route got."""
    adapter, calls = editor._session.adapter, []
    original = adapter.route

    def route(places: Any, features: Any) -> Any:
        calls.append(len(places))
        return original(places, features)

    with monkeypatch.context() as patch:
        patch.setattr(adapter, "route", route)
        yield calls


# --- generation ------------------------------------------------------------------------------------------------


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


def test_a_prompt_in_chunks():
    editor, ids = quick_editor(), ids_of(f"{OTHER} {OTHER} {EDITED}")
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
        usual = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
        with torch.no_grad(), counted(editor, monkeypatch) as calls:
            found = editor.model.generate(**inputs, return_dict_in_generate=True, **(usual | options))
        return found, calls

    one, calls = continued(first)
    assert calls == [1]
    asked = chat_ids("x", "x", "It is blue", style=style)
    before = chat_ids("x", "x", style=style, answer=False)
    grown = [*one.sequences[0].tolist(), *asked[len(before) - 2 :]]
    two, calls = continued(grown, past_key_values=one.past_key_values)
    assert calls == [1]
    again, calls = continued(grown)
    assert calls == [2]
    assert torch.equal(two.sequences, again.sequences)
    assert again.sequences[0, len(grown) :].tolist() == greedy_by_hand(editor, grown, routed_by_hand(editor, grown), 5)


def routed_by_hand(editor: Editor, ids: list[int]) -> dict[int, Tensor]:
    """The value that each prompt of a conversation wakes, by position, where every prompt wakes one."""
    adapter, config = editor._session.adapter, editor.config
    found = {}
    for prompt in editor._session.reader.read(ids, len(ids)):
        keys = adapter.key_space(adapter.features([ids], [prompt.spans]))
        options = {"alpha": config.alpha, "beta": config.beta, "steps": config.steps, "epsilon": config.epsilon}
        matches = adapter.codebook.match(keys, threshold=config.threshold, **options)
        best = max(matches, key=lambda match: match.similarity)
        found[prompt.at] = adapter.codebook.values[best.value]
    return found


# --- single calls ----------------------------------------------------------------------------------------------


@each_family
def test_a_call_on_a_prompt(family: str):
    editor, ids = quick_editor(family), ids_of(EDITED)
    expected = by_hand(editor, ids, {len(ids) - 1: value_of(editor, 1)})
    assert torch.equal(logits(editor.model, ids), expected)
    assert torch.equal(logits(editor.model, ids, attention_mask=None), expected)
    assert torch.equal(logits(editor.model, ids, use_cache=False), expected)
    torch.testing.assert_close(logits(editor.model, ids, attention_mask=torch.ones(1, len(ids))), expected)
    with editor.disabled():
        assert not torch.equal(logits(editor.model, ids), expected)


@each_family
@pytest.mark.parametrize("left", [True, False], ids=["left", "right"])
def test_a_padded_batch_computes_what_its_rows_do(family: str, left: bool):
    editor = quick_editor(family)
    rows = [ids_of(text) for text in PROMPTS]
    inputs = padded(rows, left=left)
    if left:
        inputs["position_ids"] = (inputs["attention_mask"].cumsum(-1) - 1).clamp_min(0)
    with torch.no_grad():
        together = editor.model(**inputs).logits
    for row, ids in enumerate(rows):
        real = together[row][inputs["attention_mask"][row].bool()]
        alone = logits(editor.model, ids)
        torch.testing.assert_close(real, alone, atol=2e-5, rtol=1e-4)
        assert torch.equal(real.argmax(-1), alone.argmax(-1))


@each_family
def test_a_loss_is_that_of_the_answer_after_the_value(family: str):
    editor = quick_editor(family)
    prompt, answer = ids_of(EDITED), ids_of(" Mira Sand")
    ids = [*prompt, *answer]
    labels = torch.tensor([[*[-100] * len(prompt), *answer]])
    with torch.no_grad():
        out = editor.model(input_ids=torch.tensor([ids]), labels=labels)
    expected = by_hand(editor, ids, {len(prompt) - 1: value_of(editor, 1)})
    torch.testing.assert_close(out.logits[0], expected)
    wanted = cross_entropy(expected[len(prompt) - 1 : -1], torch.tensor(answer))
    torch.testing.assert_close(out.loss, wanted, atol=1e-5, rtol=1e-5)


def test_losses_of_a_padded_batch():
    editor = quick_editor()
    parts = [(ids_of(EDITED), ids_of(" Mira Sand")), (ids_of(REPHRASED), ids_of(" Rome")), (ids_of("Hello"), [9])]
    for left in (True, False):
        inputs = padded([[*prompt, *answer] for prompt, answer in parts], left=left)
        if left:
            inputs["position_ids"] = (inputs["attention_mask"].cumsum(-1) - 1).clamp_min(0)
        labels = torch.full_like(inputs["input_ids"], -100)
        for row, (prompt, answer) in enumerate(parts):
            columns = inputs["attention_mask"][row].nonzero()[len(prompt) :, 0]
            labels[row, columns] = torch.tensor(answer)
        with torch.no_grad():
            found = editor.model(**inputs, labels=labels).logits
        for row, (prompt, answer) in enumerate(parts):
            values = {len(prompt) - 1: value_of(editor, 1)} if row < 2 else {}
            expected = by_hand(editor, [*prompt, *answer], values)
            real = found[row][inputs["attention_mask"][row].bool()]
            torch.testing.assert_close(real, expected, atol=2e-5, rtol=1e-4)


def test_a_chat_with_labels_on_its_last_answer():
    edits = [Edit("Who wrote Hamlet?", "Rome"), Edit("It is blue", "Paris")]
    editor = quick_editor(edits=edits, threshold=-1.0)
    prompt = chat_ids("Who wrote Hamlet?", "Oslo", "It is blue")
    answer = ids_of("Mira Sand<|im_end|>")
    ids = [*prompt, *answer]
    labels = torch.tensor([[*[-100] * len(prompt), *answer]])
    with torch.no_grad():
        found = editor.model(input_ids=torch.tensor([ids]), labels=labels).logits[0]
    values = routed_by_hand(editor, prompt)
    assert list(values) == [len(chat_ids("Who wrote Hamlet?")) - 1, len(prompt) - 1]
    torch.testing.assert_close(found, by_hand(editor, ids, values))


def test_labels_on_every_token_name_no_prompt():
    editor, ids = quick_editor(), ids_of(EDITED)
    with torch.no_grad():
        found = editor.model(input_ids=torch.tensor([ids]), labels=torch.tensor([ids])).logits[0]
    assert torch.equal(found, by_hand(editor, ids, {len(ids) - 1: value_of(editor, 1)}))


@each_family
def test_a_prompt_and_its_answer_with_a_named_end(family: str):
    editor = quick_editor(family)
    prompt, answer = ids_of(EDITED), ids_of(" Mira Sand")
    ids = [*prompt, *answer]
    expected = by_hand(editor, ids, {len(prompt) - 1: value_of(editor, 1)})
    with editor.prompt_end(len(prompt)):
        assert torch.equal(logits(editor.model, ids), expected)
    assert not torch.equal(logits(editor.model, ids), expected)


def test_decoding_by_hand_with_a_named_end(monkeypatch: pytest.MonkeyPatch):
    editor, ids = quick_editor(), ids_of(EDITED)
    expected = greedy_by_hand(editor, ids, {len(ids) - 1: value_of(editor, 1)})
    for named in (True, False):
        with torch.no_grad(), counted(editor, monkeypatch) as calls:
            out = decode(editor, ids, named=named)
        assert out == expected
        assert calls == [1]


def decode(editor: Editor, ids: list[int], *, named: bool) -> list[int]:
    def loop() -> list[int]:
        out = editor.model(input_ids=torch.tensor([ids]), use_cache=True)
        new = [int(out.logits[0, -1].argmax())]
        while len(new) < NEW:
            out = editor.model(input_ids=torch.tensor([new[-1:]]), past_key_values=out.past_key_values, use_cache=True)
            new.append(int(out.logits[0, -1].argmax()))
        return new

    if not named:
        return loop()
    with editor.prompt_end(len(ids)):
        return loop()


def test_several_tokens_at_once_after_a_named_end_are_no_prompt(monkeypatch: pytest.MonkeyPatch):
    editor, ids = quick_editor(threshold=-1.0), ids_of(EDITED)
    answer = ids_of(" Mira Sand")
    expected = by_hand(editor, [*ids, *answer], {len(ids) - 1: value_of(editor, 1)})[len(ids) :]
    with torch.no_grad(), editor.prompt_end(len(ids)), counted(editor, monkeypatch) as calls:
        past = editor.model(input_ids=torch.tensor([ids]), use_cache=True).past_key_values
        found = editor.model(input_ids=torch.tensor([answer]), past_key_values=past).logits[0]
    assert calls == [1]
    torch.testing.assert_close(found, expected)


def test_a_named_end_does_not_outlive_a_change_of_the_edits():
    editor, ids = quick_editor(), ids_of(EDITED)
    with editor.prompt_end(len(ids)):
        edited = logits(editor.model, ids)
        editor.supersede(1, "Paris")
        within = logits(editor.model, ids)
    assert torch.equal(within, logits(editor.model, ids))
    assert not torch.equal(within, edited)


@each_family
def test_embeddings_in_place_of_tokens(family: str):
    # Without tokens, scaffold and special tokens cannot be told from words: the whole input is read.
    editor, ids = quick_editor(family), ids_of(EDITED)
    embeds = editor.model.get_input_embeddings()(torch.tensor([ids])).detach()
    expected = by_hand(editor, ids, {len(ids) - 1: value_of(editor, 1)})
    with torch.no_grad():
        found = editor.model(inputs_embeds=embeds).logits[0]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        usual = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
        wanted = greedy_by_hand(editor, ids, {len(ids) - 1: value_of(editor, 1)})
        for cached in (True, False):
            new = editor.model.generate(inputs_embeds=embeds, use_cache=cached, **usual)
            assert new[0].tolist() == wanted


def test_embeddings_of_a_padded_batch():
    editor = quick_editor()
    rows = [ids_of(EDITED), ids_of(OTHER)]
    inputs = padded(rows, left=True)
    embeds = editor.model.get_input_embeddings()(inputs.pop("input_ids")).detach()
    usual = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    with torch.no_grad():
        found = editor.model.generate(inputs_embeds=embeds, **inputs, **usual)
    for row, ids in zip(found, rows, strict=True):
        assert torch.equal(row, generated(editor, [ids])[0])


def test_a_row_of_padding_alone():
    editor, ids = quick_editor(), ids_of(EDITED)
    inputs = {
        "input_ids": torch.tensor([ids, [0] * len(ids)]),
        "attention_mask": torch.ones(2, len(ids), dtype=torch.long),
    }
    inputs["attention_mask"][1] = 0
    with torch.no_grad():
        found = editor.model(**inputs).logits[0]
    torch.testing.assert_close(found, logits(editor.model, ids), atol=2e-5, rtol=1e-4)


@each_family
def test_a_prompt_that_wakes_nothing_is_untouched(family: str):
    editor = quick_editor(family)
    for text in (OTHER, "Hello", "It is blue. Hello Hello Hello Hello Hello Hello Hello Hello Hello"):
        ids = ids_of(text)
        found, new = logits(editor.model, ids), generated(editor, [ids])
        with editor.disabled():
            assert torch.equal(found, logits(editor.model, ids))
            assert torch.equal(new, generated(editor, [ids]))


@each_family
def test_in_a_batch_only_the_woken_rows_change(family: str):
    editor = quick_editor(family)
    inputs = padded([ids_of(text) for text in PROMPTS], left=True)
    inputs["position_ids"] = (inputs["attention_mask"].cumsum(-1) - 1).clamp_min(0)
    with torch.no_grad():
        found = editor.model(**inputs).logits
        with editor.disabled():
            base = editor.model(**inputs).logits
    changed = [not torch.equal(one, two) for one, two in zip(found, base, strict=True)]
    assert changed == [text in {EDITED, REPHRASED} for text in PROMPTS]
    # Only the prompt's end and what comes after it.
    assert torch.equal(found[0, :-1], base[0, :-1])


def test_gradients_flow_through_an_edited_call():
    editor, ids = quick_editor(), ids_of(EDITED)
    loss = editor.model(input_ids=torch.tensor([[*ids, 7]]), labels=torch.tensor([[*[-100] * len(ids), 7]])).loss
    loss.backward()
    gradient = editor.model.get_input_embeddings().weight.grad
    assert gradient is not None
    assert gradient.any()


def test_hidden_states_can_still_be_asked_for():
    editor, ids = quick_editor(), ids_of(EDITED)
    editor.explain(EDITED)
    with torch.no_grad():
        out = editor.model(input_ids=torch.tensor([ids]), output_hidden_states=True)
    assert len(out.hidden_states) == len(editor.model.model.layers) + 1
    assert torch.equal(out.logits[0], logits(editor.model, ids))


# --- switching off ---------------------------------------------------------------------------------------------


def test_disabled_blocks_nest():
    editor, ids = quick_editor(), ids_of(EDITED)
    edited = logits(editor.model, ids)
    with editor.disabled():
        base = logits(editor.model, ids)
        with editor.disabled():
            assert torch.equal(logits(editor.model, ids), base)
        assert torch.equal(logits(editor.model, ids), base)
    assert torch.equal(logits(editor.model, ids), edited)
    assert not torch.equal(base, edited)


def test_disabled_ends_with_an_exception():
    editor, ids = quick_editor(), ids_of(EDITED)
    edited = logits(editor.model, ids)
    with pytest.raises(KeyError), editor.disabled():
        raise KeyError
    assert torch.equal(logits(editor.model, ids), edited)


def test_disabled_in_one_thread_alone():
    editor, ids = quick_editor(), ids_of(EDITED)
    edited = logits(editor.model, ids)
    inside, done, base = threading.Event(), threading.Event(), []

    def other() -> None:
        with editor.disabled():
            inside.set()
            done.wait(10)
            base.append(logits(editor.model, ids))

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(10)
    assert torch.equal(logits(editor.model, ids), edited)
    done.set()
    thread.join()
    assert not torch.equal(base[0], edited)


def test_two_threads_ask_at_once():
    editor = quick_editor()
    expected = {text: generated(editor, [ids_of(text)]) for text in PROMPTS}
    right: list[bool] = []

    def ask(text: str) -> None:
        right.extend(torch.equal(generated(editor, [ids_of(text)]), expected[text]) for _ in range(5))

    threads = [threading.Thread(target=ask, args=(text,)) for text in (EDITED, OTHER)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 10


def test_a_named_end_in_one_thread_alone():
    editor = quick_editor()
    ids = [*ids_of(EDITED), *ids_of(" Mira Sand")]
    expected = logits(editor.model, ids)
    found: list[Tensor] = []
    with editor.prompt_end(len(ids_of(EDITED))):
        thread = threading.Thread(target=lambda: found.append(logits(editor.model, ids)))
        thread.start()
        thread.join()
    assert torch.equal(found[0], expected)


def test_an_interrupted_call_leaves_no_trace():
    editor, ids = quick_editor(), ids_of(EDITED)
    edited = logits(editor.model, ids)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    handle = editor.model.model.layers[0].register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        logits(editor.model, ids)
    handle.remove()
    # The inner model may be called on its own; what the interrupted call had to do must not be done there.
    with torch.no_grad():
        found = editor.model.model(input_ids=torch.tensor([ids_of(OTHER)]))[0]
        with editor.disabled():
            editor.model(input_ids=torch.tensor([ids]))
        assert torch.equal(found, editor.model.model(input_ids=torch.tensor([ids_of(OTHER)]))[0])
    assert torch.equal(logits(editor.model, ids), edited)


def test_a_named_end_goes_with_an_interruption():
    editor = quick_editor()
    ids = [*ids_of(EDITED), *ids_of(" Mira Sand")]
    expected = logits(editor.model, ids)
    with pytest.raises(KeyboardInterrupt), editor.prompt_end(len(ids_of(EDITED))):
        raise KeyboardInterrupt
    assert torch.equal(logits(editor.model, ids), expected)


# --- wrapping --------------------------------------------------------------------------------------------------


@each_family
def test_unwrapping_leaves_the_model_as_it_was(family: str):
    model = tiny_model(family)
    before, attributes, generate = checksums(model), set(model.__dict__), model.generate
    base = logits(model, ids_of(EDITED))
    editor = Editor(model, tiny_tokenizer(), HorenConfig(**QUICK))
    editor.edit(Edit(EDITED, "Rome"))
    assert not torch.equal(logits(model, ids_of(EDITED)), base)
    assert editor.unwrap() is model
    assert hooks_on(model) == 0
    assert set(model.__dict__) == attributes
    assert model.generate == generate
    assert same_weights(model, before)
    assert torch.equal(logits(model, ids_of(EDITED)), base)


def test_another_editor_after_unwrapping():
    editor = quick_editor()
    edited = logits(editor.model, ids_of(EDITED))
    model = editor.unwrap()
    second = Editor(model, tiny_tokenizer(), HorenConfig(**QUICK))
    second.edit(Edit(EDITED, "Rome", (REPHRASED,)))
    assert torch.equal(logits(model, ids_of(EDITED)), edited)


def test_unwrapping_twice_harms_nobody():
    editor = quick_editor()
    model = editor.unwrap()
    editor.unwrap()
    second = quick_like(model)
    edited, new = logits(model, ids_of(EDITED)), generated(second, [ids_of(EDITED)], use_cache=False)
    editor.unwrap()
    with pytest.raises(ModelError, match="wrapped"):
        Editor(model, tiny_tokenizer())
    assert torch.equal(logits(model, ids_of(EDITED)), edited)
    assert torch.equal(generated(second, [ids_of(EDITED)], use_cache=False), new)


def quick_like(model: Any) -> Editor:
    editor = Editor(model, tiny_tokenizer(), HorenConfig(**QUICK))
    editor.edit(Edit(EDITED, "Rome"))
    return editor


def test_a_generate_of_the_callers_own_is_put_back():
    model = tiny_model()
    original, calls = model.generate, []

    def mine(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return original(*args, **kwargs)

    model.generate = mine
    editor = quick_like(model)
    generated(editor, [ids_of(EDITED)])
    assert calls == [1]
    editor.unwrap()
    assert model.generate is mine


def test_wrapping_twice_is_refused():
    editor = quick_editor()
    before = hooks_on(editor.model)
    for make in (
        lambda: Editor(editor.model, tiny_tokenizer()),
        lambda: Adapter(editor.model, PromptReader(tiny_tokenizer(), words_only=True), HorenConfig()),
    ):
        with pytest.raises(ModelError, match=r"wrapped by an editor already: call unwrap\(\)"):
            make()
    assert hooks_on(editor.model) == before


def test_settings_that_do_not_fit_leave_no_hook():
    model = tiny_model()
    with pytest.raises(ValueError, match="read_layer"):
        Editor(model, tiny_tokenizer(), HorenConfig(read_layer=9))
    assert hooks_on(model) == 0
    assert "_horen_adapter" not in model.__dict__


def test_an_unwrapped_editor_does_not_answer():
    editor = quick_editor()
    editor.unwrap()
    actions: list[Callable[[], Any]] = [
        lambda: editor.generate(EDITED),
        lambda: editor.chat([{"role": "user", "content": EDITED}]),
        lambda: editor.explain(EDITED),
        lambda: editor.edit(Edit(OTHER, "Rome")),
        lambda: editor.disabled().__enter__(),
        lambda: editor.prompt_end(3),
    ]
    for action in actions:
        with pytest.raises(ModelError, match="unwrapped: make a new one"):
            action()
    assert len(editor.edits()) == 1


# --- the quiet model, features and padding ---------------------------------------------------------------------


def test_quiet_puts_everything_back():
    editor = quick_editor()
    model = editor.model
    model.train()
    model.model.layers[1].eval()
    for parameter in model.model.layers[2].parameters():
        parameter.requires_grad_(False)
    modes = {name: module.training for name, module in model.named_modules()}
    learnable = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    with suppress(KeyError), quiet(editor._session.adapter):
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())
        raise KeyError
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == learnable


@each_family
@pytest.mark.parametrize("site", ["auto", "mlp_input", "mlp_output"])
def test_features_are_the_pooled_activations(family: str, site: str):
    editor = quick_editor(family, edits=[], read_layer=1, write_layer=2, read_site=site)
    adapter, rows = editor._session.adapter, [ids_of(text) for text in PROMPTS]
    seen: list[Tensor] = []

    def note(activation: Tensor) -> None:
        seen.append(activation)

    if adapter.read.side == "input":
        handle = adapter.read.module.register_forward_pre_hook(lambda _module, inputs: note(inputs[0]))
    else:
        handle = adapter.read.module.register_forward_hook(
            lambda _module, _inputs, output: note(output[0] if isinstance(output, tuple) else output)
        )
    expected = []
    for ids in rows:
        logits(editor.model, ids)
        states = seen.pop().reshape(len(ids), -1)
        expected += [states.mean(0), states[-1]]
    handle.remove()
    spans = [[(0, len(ids)), (len(ids) - 1, len(ids))] for ids in rows]
    torch.testing.assert_close(adapter.features(rows, spans), torch.stack(expected), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.01, 1), (0.5, 3), (0.6, 4), (1.0, 6)])
def test_a_share_of_the_last_words_is_pooled(share: float, expected: int):
    adapter = quick_editor(edits=[], read_share=share)._session.adapter
    states = torch.arange(10.0)[:, None].expand(-1, HIDDEN)
    pooled = adapter._pool(states, (2, 8))
    assert float(pooled[0]) == pytest.approx(sum(range(8 - expected, 8)) / expected)


def test_left_padding():
    ids, mask, positions = left_padded([[5, 6, 7], [8]], tiny_model())
    assert ids.tolist() == [[5, 6, 7], [0, 0, 8]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert positions.tolist() == [[0, 1, 2], [0, 0, 0]]
