"""Single calls of a wrapped model: prompts, batches, labels, named ends, embeddings."""

from __future__ import annotations

import pytest
import torch
from generation_support import NEW, counted, generated, greedy_by_hand, routed_by_hand
from torch.nn.functional import cross_entropy

from horen import Edit, Editor
from horen.model.past import NAMES, past_argument, past_of
from support.editors import (
    EDITED,
    GREEDY,
    OTHER,
    PROMPTS,
    REPHRASED,
    by_hand,
    chat_ids,
    ids_of,
    logits,
    padded,
    quick_editor,
    value_of,
)
from support.tiny_models import each_family

pytestmark = pytest.mark.usefixtures("reading")


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
    assert list(values) == [len(prompt) - 1]
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


@pytest.mark.filterwarnings("ignore:.past_key_values. is deprecated:FutureWarning")
@pytest.mark.parametrize("name", NAMES)
def test_decoding_by_hand_with_a_named_end(name: str, monkeypatch: pytest.MonkeyPatch):
    editor, ids = quick_editor(), ids_of(EDITED)
    if NAMES.index(name) < NAMES.index(past_argument(editor.model)):
        pytest.skip(f"this release of transformers takes no {name}")
    expected = greedy_by_hand(editor, ids, {len(ids) - 1: value_of(editor, 1)})
    for named in (True, False):
        with torch.no_grad(), counted(editor, monkeypatch) as calls:
            out = decode(editor, ids, name, named=named)
        assert out == expected
        assert calls == [1]


def decode(editor: Editor, ids: list[int], name: str, *, named: bool) -> list[int]:
    def loop() -> list[int]:
        out = editor.model(input_ids=torch.tensor([ids]), use_cache=True)
        new = [int(out.logits[0, -1].argmax())]
        while len(new) < NEW:
            out = editor.model(input_ids=torch.tensor([new[-1:]]), **{name: past_of(out)}, use_cache=True)
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
        past = past_of(editor.model(input_ids=torch.tensor([ids]), use_cache=True))
        found = editor.model(input_ids=torch.tensor([answer]), **{past_argument(editor.model): past}).logits[0]
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
def test_embeddings_in_place_of_tokens(family: str, reading: str):
    # Without tokens, scaffold and special tokens cannot be told from words: the whole input is read, where activations
    # are; a text encoder has nothing to read.
    editor, ids = quick_editor(family), ids_of(EDITED)
    embeds = editor.model.get_input_embeddings()(torch.tensor([ids])).detach()
    values = {len(ids) - 1: value_of(editor, 1)} if reading == "activations" else {}
    expected = by_hand(editor, ids, values)
    with torch.no_grad():
        found = editor.model(inputs_embeds=embeds).logits[0]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        wanted = greedy_by_hand(editor, ids, values)
        for cached in (True, False):
            new = editor.model.generate(inputs_embeds=embeds, use_cache=cached, max_new_tokens=NEW, **GREEDY)
            assert new[0].tolist() == wanted


def test_embeddings_of_a_padded_batch(reading: str):
    editor = quick_editor()
    rows = [ids_of(EDITED), ids_of(OTHER)]
    inputs = padded(rows, left=True)
    embeds = editor.model.get_input_embeddings()(inputs.pop("input_ids")).detach()
    with torch.no_grad():
        found = editor.model.generate(inputs_embeds=embeds, **inputs, max_new_tokens=NEW, **GREEDY)
    for row, ids in zip(found, rows, strict=True):
        if reading == "activations":
            assert torch.equal(row, generated(editor, [ids])[0])
        else:
            with editor.disabled():
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
