"""A text encoder as the source of features: what it is given to read, and that the model is left alone meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from generation_support import generated
from torch import Tensor

from horen import Edit, Editor
from horen.model.sources import EncodedText
from horen.model.zoo.encoder import SentenceEncoder
from support.editors import EDITED, OTHER, REPHRASED, chat_ids, hooks_on, ids_of, logits, quick_editor
from support.encoders import text_settings


@pytest.fixture
def editor() -> Editor:
    return quick_editor(**text_settings())


@pytest.fixture
def editor_and_read(monkeypatch: pytest.MonkeyPatch) -> tuple[Editor, list[list[str]]]:
    """An editor, and the texts of each later call of its encoder."""
    editor = quick_editor(**text_settings())
    calls: list[list[str]] = []
    original = SentenceEncoder.__call__

    def note(self: SentenceEncoder, texts: list[str]) -> Tensor:
        calls.append(list(texts))
        return original(self, texts)

    monkeypatch.setattr(SentenceEncoder, "__call__", note)
    return editor, calls


def test_keys_are_embeddings_of_the_wordings():
    editor = quick_editor(**text_settings(key_storage="float32"))
    encoder = editor._session.encoder
    assert encoder is not None
    codebook, (record,) = editor._session.codebook(), editor.edits()
    expected = encoder([EDITED, REPHRASED])
    torch.testing.assert_close(codebook.keys[list(record.entries)], expected)


@pytest.mark.parametrize("text", [EDITED, f"  {EDITED}\n"])
def test_the_words_are_read_in_plain_text_and_in_chat(editor_and_read: tuple[Editor, list[list[str]]], text: str):
    editor, read = editor_and_read
    logits(editor.model, ids_of(text))
    logits(editor.model, chat_ids(text))
    assert read == [[EDITED], [EDITED]]


def test_a_long_text_is_read_as_a_whole_and_by_its_last_sentences(editor_and_read: tuple[Editor, list[list[str]]]):
    editor, read = editor_and_read
    assert editor.explain(f"{OTHER}. {EDITED}").words == EDITED
    assert read == [[f"{OTHER}. {EDITED}", EDITED]]


def test_scope_all_reads_the_scaffold_too(monkeypatch: pytest.MonkeyPatch):
    editor, seen = quick_editor(**text_settings(scope="all")), []
    original = SentenceEncoder.__call__
    monkeypatch.setattr(SentenceEncoder, "__call__", lambda self, texts: seen.extend(texts) or original(self, texts))
    logits(editor.model, chat_ids(EDITED))
    assert seen == [f"user\n{EDITED}\nassistant"]


def test_alike_texts_are_read_once(editor_and_read: tuple[Editor, list[list[str]]]):
    editor, read = editor_and_read
    generated(editor, [ids_of(EDITED)] * 3 + [ids_of(OTHER)])
    assert read == [[EDITED, OTHER]]
    read.clear()
    generated(editor, [ids_of(EDITED)], num_beams=3, use_cache=False)
    assert read == [[EDITED]]


def test_no_layer_is_hooked_for_reading(editor: Editor):
    assert hooks_on(editor.model) == hooks_on(quick_editor().model) - 1


def test_the_layers_run_after_the_words_were_read(editor: Editor, monkeypatch: pytest.MonkeyPatch):
    order: list[str] = []
    original = EncodedText.of_call
    monkeypatch.setattr(EncodedText, "of_call", lambda *args: order.append("read") or original(*args))
    editor.model.model.layers[0].register_forward_pre_hook(lambda *_: order.append("layer"))
    logits(editor.model, ids_of(EDITED))
    assert order == ["read", "layer"]


def test_reading_does_not_run_the_model(editor: Editor, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the model was run")

    monkeypatch.setattr(type(editor.model), "forward", refuse)
    assert editor.explain(EDITED).fired


def test_an_encoder_that_fails_leaves_a_working_model(editor: Editor, monkeypatch: pytest.MonkeyPatch):
    expected = logits(editor.model, ids_of(EDITED))

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SentenceEncoder, "__call__", fail)
        with pytest.raises(KeyboardInterrupt):
            logits(editor.model, ids_of(EDITED))
    assert torch.equal(logits(editor.model, ids_of(EDITED)), expected)


def test_gradients_flow_through_an_edited_call(editor: Editor):
    ids = ids_of(EDITED)
    labels = torch.tensor([[*[-100] * len(ids), 7]])
    editor.model(input_ids=torch.tensor([[*ids, 7]]), labels=labels).loss.backward()
    assert editor.model.get_input_embeddings().weight.grad.any()


def test_tokens_are_not_weighed_and_shares_do_not_count():
    one = quick_editor(**text_settings(read_weight="rare", read_share=0.3))
    two = quick_editor(**text_settings())
    assert one._session.token_weights is None
    assert torch.equal(one._session.codebook().keys, two._session.codebook().keys)


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_the_whitened_space_is_fitted_on_embeddings(power: float):
    editor = quick_editor(**text_settings(key_space="whitened", feature_power=power, threshold=0.9), edits=[])
    editor.edit(Edit(EDITED, "Rome"))
    space = editor._session.key_space
    assert space.power == power
    assert len(space.mean) == 16
    assert editor.explain(EDITED).fired
    assert not editor.explain(OTHER).fired
