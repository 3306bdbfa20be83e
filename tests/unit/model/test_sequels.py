"""Edits whose targets take several values: where each is written, however the answer comes about."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from horen import Edit, Editor
from horen.model.partial.tail import Sample
from horen.model.partial.windows import cut
from horen.model.past import past_argument, past_of
from support.editors import EDITED, GREEDY, OTHER, by_hand, chat_ids, ids_of, padded, quick_editor
from support.tiny_models import each_family

LONG = "Seven green boats sailed to Oslo and to Paris, which is blue. Mira Sand wrote it. Why not?"
WINDOW = 4

pytestmark = pytest.mark.usefixtures("reading")


def long_editor(family: str = "llama", target: str = LONG, **settings: Any) -> Editor:
    """One edit of a long target."""
    return quick_editor(family, edits=[Edit(EDITED, target)], value_tokens=WINDOW, **settings)


def answer(editor: Editor) -> list[int]:
    """The tokens of the edit's own text behind its plain prompt."""
    return list(editor._session.contexts.renderings(editor.get(1))[0])


def values(editor: Editor, ids: list[int], said: list[int]) -> dict[int, Tensor]:
    """Values by position while ``said`` is being answered to a prompt, told without the code that is tested."""
    record, own = editor.get(1), answer(editor)
    table = editor._session.codebook().values
    found = {len(ids) - 1: table[record.value]}
    for number, left in enumerate(record.left, record.value + 1):
        place = len(own) - left
        if said[:place] == own[:place]:
            found[len(ids) - 1 + place] = table[number]
    return found


def forced(editor: Editor, ids: list[int], said: list[int], **options: Any) -> Tensor:
    """[steps, V] logits of generate where every token is given by hand."""

    def only(_batch: int, sent: Tensor) -> list[int]:
        return [said[len(sent) - len(ids)]]

    with torch.no_grad():
        found = editor.model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=len(said),
            prefix_allowed_tokens_fn=only,
            return_dict_in_generate=True,
            output_logits=True,
            **(GREEDY | options),
        )
    assert found.sequences[0, len(ids) :].tolist() == said
    return torch.stack(found.logits)[:, 0]


def expected(editor: Editor, ids: list[int], said: list[int]) -> Tensor:
    return by_hand(editor, [*ids, *said[:-1]], values(editor, ids, said))[len(ids) - 1 :]


@pytest.fixture(params=["llama", "gemma3", "gpt2", "mixtral"])
def editor(request: pytest.FixtureRequest) -> Editor:
    return long_editor(request.param)


def test_a_long_target_takes_several_values(editor: Editor):
    record = editor.get(1)
    assert len(record.left) == -(-len(answer(editor)) // WINDOW) - 1 > 2
    assert len(editor._session.codebook().values) == len(record.values) == 1 + len(record.left)
    assert len({tuple(row.tolist()) for row in editor._session.codebook().values}) == len(record.values)
    editor.edit(Edit(OTHER, "Rome"))
    assert editor.get(2).left == ()


@pytest.mark.parametrize("options", [{}, {"use_cache": False}, {"cache_implementation": "static"}], ids=str)
def test_each_value_is_written_where_its_window_begins(editor: Editor, options: dict[str, Any]):
    if options.get("cache_implementation") and editor.model.config.model_type == "gpt2":
        pytest.skip("its cache is made without a window")
    ids, said = ids_of(EDITED), answer(editor)
    torch.testing.assert_close(forced(editor, ids, said, **options), expected(editor, ids, said), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("leaves", [1, WINDOW - 1, WINDOW, 2 * WINDOW + 1])
def test_nothing_more_is_written_once_the_answer_is_another(leaves: int):
    editor = long_editor()
    ids, said = ids_of(EDITED), answer(editor)
    said[leaves] = ids_of("Hello")[0]
    assert len(values(editor, ids, said)) == 1 + leaves // WINDOW
    for cached in (True, False):
        found = forced(editor, ids, said, use_cache=cached)
        torch.testing.assert_close(found, expected(editor, ids, said), atol=1e-4, rtol=1e-4)


def test_a_call_on_prompt_and_answer():
    editor = long_editor()
    ids, said = ids_of(EDITED), answer(editor)
    with torch.no_grad(), editor.prompt_end(len(ids)):
        found = editor.model(torch.tensor([[*ids, *said]])).logits[0]
    torch.testing.assert_close(found, by_hand(editor, [*ids, *said], values(editor, ids, said)), atol=1e-4, rtol=1e-4)


def test_steps_by_hand_on_a_cache_that_the_model_makes():
    editor = long_editor()
    ids, said, model = ids_of(EDITED), answer(editor), editor.model
    with torch.no_grad():
        out = model(torch.tensor([ids]), use_cache=True)
        cache, found = past_of(out), [out.logits[0, -1]]
        kept = {past_argument(model): cache, "use_cache": True}
        found += [model(torch.tensor([[token]]), **kept).logits[0, -1] for token in said[:-1]]
    torch.testing.assert_close(torch.stack(found), expected(editor, ids, said), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize(
    ("method", "given", "row"),
    [
        ("batch_select_indices", torch.tensor([1]), 0),
        ("reorder_cache", torch.tensor([1, 0]), 0),
        ("batch_repeat_interleave", 2, 2),
    ],
)
def test_rows_of_a_kept_cache_may_be_chosen_anew(method: str, given: Any, row: int, copied: bool):
    editor = long_editor()
    ids, said, model = ids_of(EDITED), answer(editor), editor.model
    with torch.no_grad():
        out = model(torch.tensor([ids[::-1], ids]), use_cache=True)
        cache = copy.deepcopy(past_of(out)) if copied else past_of(out)
        getattr(cache, method)(given)
        rows = cache.layers[0].keys.shape[0]
        kept = {past_argument(model): cache, "use_cache": True}
        found = [model(torch.tensor([[token]] * rows), **kept).logits[row, -1] for token in said[:-1]]
    torch.testing.assert_close(torch.stack(found), expected(editor, ids, said)[1:], atol=1e-4, rtol=1e-4)
    if copied:
        assert past_of(out).layers[0].keys.shape[0] == 2


def test_rows_of_a_batch_are_at_windows_of_their_own():
    """Rows of other lengths, one that wakes nothing, one in chat, whose answer begins without a blank."""
    editor = long_editor(scope="words")
    chat = editor._session.contexts.renderings(editor.get(1))[-1]
    rows = [ids_of(EDITED), ids_of(OTHER), ids_of(f"{OTHER}. {EDITED}")]
    said = [answer(editor)] * 3
    with torch.no_grad():
        inputs = padded(rows, left=True)
        width = inputs["input_ids"].shape[1]
        found = editor.model.generate(
            **inputs,
            max_new_tokens=len(chat),
            prefix_allowed_tokens_fn=lambda row, sent: [said[row][len(sent) - width]],
            return_dict_in_generate=True,
            output_logits=True,
            **GREEDY,
        )
    for number, ids in enumerate(rows):
        alone = forced(editor, ids, said[number])
        torch.testing.assert_close(torch.stack(found.logits)[:, number], alone[: len(chat)], atol=1e-4, rtol=1e-4)
    with editor.disabled():
        untouched = forced(editor, rows[1], said[1])
    assert torch.equal(forced(editor, rows[1], said[1]), untouched)


def test_an_answer_in_chat():
    editor = long_editor(threshold=-1.0)
    ids, said = chat_ids(EDITED), list(editor._session.contexts.renderings(editor.get(1))[-1])
    assert said != answer(editor)
    record, table = editor.get(1), editor._session.codebook().values
    places = {len(ids) - 1 + len(said) - left: table[n] for n, left in enumerate(record.left, record.value + 1)}
    by = by_hand(editor, [*ids, *said[:-1]], {len(ids) - 1: table[record.value]} | places)[len(ids) - 1 :]
    torch.testing.assert_close(forced(editor, ids, said), by, atol=1e-4, rtol=1e-4)


class Branching(LogitsProcessor):
    """Lets beams go on as the edit's own text does; at a step another token is likelier, at the next the own text is.

    So that text is first, then second, then first again: its row changes twice.
    """

    def __init__(self, own: list[int], prompt: int, other: int, at: int) -> None:
        self._own, self._prompt, self._other, self._at = own, prompt, other, at

    def __call__(self, sent: Tensor, scores: Tensor) -> Tensor:
        step = sent.shape[1] - self._prompt
        left = sent[:, -1] == self._other
        scores = torch.full_like(scores, -torch.inf)
        scores[:, self._own[step]] = torch.where(left, -2.0, -1.0)
        if step in {self._at, self._at + 1}:
            scores[:, self._other] = -0.5 if step == self._at else -3.0
        return scores


def test_beams_trade_rows():
    editor = long_editor()
    ids, own = ids_of(EDITED), answer(editor)
    inputs = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
    third = len(own) - editor.get(1).left[1]
    options = {"num_beams": 4, "max_new_tokens": third + 3, "return_dict_in_generate": True, "output_logits": True}
    with torch.no_grad():
        one, two = (
            editor.model.generate(
                **inputs,
                logits_processor=LogitsProcessorList([Branching(own, len(ids), ids_of("Hello")[0], third - 3)]),
                **(GREEDY | options | {"use_cache": cached}),
            )
            for cached in (True, False)
        )
    alone = expected(editor, ids, own)
    for step, (cached, anew) in enumerate(zip(one.logits, two.logits, strict=True)):
        torch.testing.assert_close(cached, anew, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(cached[1 if step == third - 2 else 0], alone[step], atol=1e-4, rtol=1e-4)
        assert step < third or not torch.allclose(cached[0], cached[1], atol=1e-2)


def test_an_answer_that_goes_on_in_another_call():
    editor = long_editor(threshold=-1.0)
    ids, said = chat_ids(EDITED), list(editor._session.contexts.renderings(editor.get(1))[-1])
    whole = forced(editor, ids, said)

    def sent(given: list[int], cache: Any, count: int) -> Any:
        kept = {} if cache is None else {past_argument(editor.model): cache}
        with torch.no_grad():
            return editor.model.generate(
                torch.tensor([given]),
                attention_mask=torch.ones(1, len(given), dtype=torch.long),
                max_new_tokens=count,
                prefix_allowed_tokens_fn=lambda _row, sent: [said[len(sent) - len(ids)]],
                return_dict_in_generate=True,
                output_logits=True,
                **kept,
                **GREEDY,
            )

    one = sent(ids, None, WINDOW + 1)
    two = sent(one.sequences[0].tolist(), past_of(one), len(said) - WINDOW - 1)
    found = torch.cat([torch.stack(part.logits)[:, 0] for part in (one, two)])
    torch.testing.assert_close(found, whole, atol=1e-4, rtol=1e-4)
    anew = sent(one.sequences[0].tolist(), None, len(said) - WINDOW - 1)
    torch.testing.assert_close(torch.stack(anew.logits)[:, 0], whole[WINDOW + 1 :], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("storage", ["float32", "int8"])
def test_saved_undone_removed_and_restored(tmp_path: Path, storage: str):
    editor = long_editor(value_storage=storage)
    ids, said = ids_of(EDITED), answer(editor)
    before = forced(editor, ids, said)
    editor.edit(Edit(OTHER, LONG))
    editor.save(tmp_path / "book")
    assert editor.get(2).values == range(editor.get(1).values[-1] + 1, 2 * len(editor.get(1).values))
    editor.unwrap()
    encoder = editor.config.encoder if editor.config.reads_text else None
    again = Editor.load(tmp_path / "book", editor.model, editor.tokenizer, encoder=encoder)
    assert again.get(1) == editor.get(1)
    assert torch.equal(forced(again, ids, said), before)
    again.remove(1)
    with again.disabled():
        untouched = forced(again, ids, said)
    assert torch.equal(forced(again, ids, said), untouched)
    again.undo()
    assert torch.equal(forced(again, ids, said), before)


def test_keys_made_anew_keep_every_value():
    editor = long_editor()
    ids, said = ids_of(EDITED), answer(editor)
    before = forced(editor, ids, said)
    editor.rekey(editor.config.replace(key_space="whitened"))
    assert len(editor.get(1).left) > 2
    assert torch.equal(forced(editor, ids, said), before)


def test_merged_values_are_not_trained_again(tmp_path: Path):
    editor = long_editor()
    ids, said = ids_of(EDITED), answer(editor)
    before = forced(editor, ids, said)
    editor.save(tmp_path / "one")
    editor.unwrap()
    other = quick_editor(edits=[Edit(OTHER, "Rome")], value_tokens=WINDOW)
    other.merge(tmp_path / "one")
    assert len(other.get(2).values) == len(editor.get(1).values)
    assert torch.equal(forced(other, ids, said), before)


def test_another_edit_of_the_same_text_gets_values_of_its_own():
    editor = long_editor(contexts="prompt", threshold=-1.0)
    receipt = editor.edit(Edit(f"{EDITED} not", LONG))[0]
    assert not receipt.reused


def test_texts_that_begin_alike_are_trained_as_if_each_were_alone():
    """Behind the same paragraph the tokens before their second windows are the same, and the values there are not."""
    how: dict[str, Any] = {"value_tokens": WINDOW, "contexts": "several", "max_steps": 8}
    alone = quick_editor(edits=[Edit(EDITED, LONG)], **how)
    contexts = alone._session.contexts
    alike = contexts.unasked(Edit(EDITED, LONG), alone.config)
    assert alike is not None
    others = (Edit(f"{EDITED} {number}", LONG.replace("Mira Sand", "Sand Mira")) for number in range(1_000))
    found = ((edit, contexts.unasked(edit, alone.config)) for edit in others)
    other = next(edit for edit, sample in found if sample is not None and sample.prompt == alike.prompt)
    both = quick_editor(edits=[Edit(EDITED, LONG), other], **how)
    assert both.get(2).left == alone.get(1).left
    expected, got = (editor._session.codebook().values[list(editor.get(1).values)] for editor in (alone, both))
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=0)


@each_family
def test_training_lowers_every_windows_loss(family: str):
    before = long_editor(family, max_steps=1).get(1).loss
    assert long_editor(family, max_steps=8, learning_rate=1.0).get(1).loss < before


tokens = st.lists(st.integers(3, 9), min_size=1, max_size=40).map(tuple)


@given(tokens, tokens, st.integers(0, 12), st.booleans(), st.booleans())
def test_windows_make_the_target_again(
    body: tuple[int, ...], start: tuple[int, ...], most: int, end: bool, unasked: bool
):
    """Whatever its length, and where another context renders its beginning otherwise."""
    ends = (1,) if end else ()
    other = (*start[:2], *body[1:])
    samples = [Sample((5, 6), (*body, *ends)), Sample((7,), (*other, *ends))]
    alone = Sample((8, 9), (*other, *ends)) if unasked else None
    parts, left = cut(samples, lambda: alone, most, {1})
    assert len(parts) == len(left) + 1
    assert list(left) == sorted(set(left), reverse=True)
    assert all(len(part) == (2 if not left or alone is None else 3) for part in parts)
    for number, sample in enumerate(samples if not left or alone is None else [*samples, alone]):
        windows = [part[number if len(part) > 1 else 0] for part in parts]
        assert sum((w.target for w in windows), ()) == sample.target
        assert all(w.prompt == sample.prompt + sample.target[: len(w.prompt) - len(sample.prompt)] for w in windows)
        assert [len(sample.target) - len(ends) - (len(w.prompt) - len(sample.prompt)) for w in windows[1:]] == list(
            left
        )
    if not most or max(len(body), len(other)) <= most:
        assert parts == [samples]
