"""Putting the adapter on, switching it off, taking it off, and what it reads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch
from generation_support import generated
from torch import Tensor

from horen import Edit, Editor, HorenConfig, ModelError
from horen.model.adapter import Adapter
from horen.model.padding import left_padded
from horen.model.prompts import PromptReader
from horen.model.quiet import quiet
from support.editors import (
    EDITED,
    OTHER,
    PROMPTS,
    QUICK,
    REPHRASED,
    checksums,
    hooks_on,
    ids_of,
    logits,
    quick_editor,
    same_weights,
)
from support.tiny_models import each_family, tiny_model
from support.tiny_tokenizers import tiny_tokenizer


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

    prepare = model.prepare_inputs_for_generation
    model.generate = mine
    model.prepare_inputs_for_generation = prepare
    editor = quick_like(model)
    generated(editor, [ids_of(EDITED)])
    assert calls == [1]
    editor.unwrap()
    assert model.generate is mine
    assert model.__dict__["prepare_inputs_for_generation"] is prepare


def test_wrapping_twice_is_refused():
    editor = quick_editor()
    before = hooks_on(editor.model)
    for make in (
        lambda: Editor(editor.model, tiny_tokenizer()),
        lambda: Adapter(editor.model, PromptReader(tiny_tokenizer(), words_only=True), HorenConfig()).wrap(),
    ):
        with pytest.raises(ModelError, match=r"wrapped by an editor already, .*: call unwrap\(\)"):
            make()
    assert hooks_on(editor.model) == before


def test_settings_that_do_not_fit_leave_no_hook():
    model = tiny_model()
    with pytest.raises(ValueError, match="read_sites"):
        Editor(model, tiny_tokenizer(), HorenConfig(read_sites="auto@9"))
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
@pytest.mark.parametrize("site", ["auto", "mlp_input", "mlp_output", "layer_output"])
def test_features_are_the_pooled_activations(family: str, site: str):
    editor = quick_editor(family, edits=[], write_layer=2, read_sites=f"{site}@1")
    adapter, rows = editor._session.adapter, [ids_of(text) for text in PROMPTS]
    seen: list[Tensor] = []

    def note(activation: Tensor) -> None:
        seen.append(activation)

    if adapter.reads.sites[0].side == "input":
        handle = adapter.reads.sites[0].module.register_forward_pre_hook(lambda _module, inputs: note(inputs[0]))
    else:
        handle = adapter.reads.sites[0].module.register_forward_hook(
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


@each_family
def test_features_of_several_sites_stand_one_behind_the_other(family: str):
    rows = [ids_of(text) for text in PROMPTS]
    spans = [[(0, len(ids)), (1, len(ids))] for ids in rows]
    found = {}
    for sites in ("auto@0", "layer_output@1", "layer_output@1+auto@0"):
        adapter = quick_editor(family, edits=[], write_layer=2, read_sites=sites)._session.adapter
        found[sites] = adapter.features(rows, spans)
    first, second, both = found.values()
    torch.testing.assert_close(both, torch.cat([first, second], dim=-1))


def test_left_padding():
    ids, mask, positions = left_padded([[5, 6, 7], [8]], tiny_model())
    assert ids.tolist() == [[5, 6, 7], [0, 0, 8]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert positions.tolist() == [[0, 1, 2], [0, 0, 0]]
