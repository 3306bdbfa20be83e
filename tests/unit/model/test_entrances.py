"""Every way into a wrapped model gives what its own call gives, or is refused in a sentence."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from horen import Edit, Editor, HorenConfig, ModelError
from support.editors import EDITED, GREEDY, OTHER, QUICK, hooks_on, ids_of, logits, padded, quick_editor
from support.tiny_models import each_family, tiny_model
from support.tiny_tokenizers import tiny_tokenizer

pytestmark = pytest.mark.usefixtures("reading")


@each_family
def test_forward_is_the_call(family: str):
    editor, ids = quick_editor(family), ids_of(EDITED)
    expected = logits(editor.model, ids)
    given = torch.tensor([ids])
    with torch.no_grad():
        assert torch.equal(editor.model.forward(input_ids=given).logits[0], expected)
        assert torch.equal(editor.model.forward(given).logits[0], expected)
        with editor.disabled():
            base = editor.model.forward(input_ids=given).logits[0]
            assert torch.equal(base, logits(editor.model, ids))
    assert not torch.equal(base, expected)


@each_family
def test_the_inner_model_and_the_head(family: str):
    editor, ids = quick_editor(family), ids_of(EDITED)
    expected, given = logits(editor.model, ids), torch.tensor([ids])
    inner, head = editor.model.base_model, editor.model.get_output_embeddings()
    with torch.no_grad():
        for run in (inner, inner.forward):
            assert torch.equal(head(run(input_ids=given)[0])[0], expected)
        with editor.disabled():
            base = head(inner(input_ids=given)[0])[0]
            assert torch.equal(base, logits(editor.model, ids))
    assert not torch.equal(base, expected)


def test_the_inner_model_with_a_named_end():
    editor, ids = quick_editor(), [*ids_of(EDITED), *ids_of(" Mira Sand")]
    with editor.prompt_end(len(ids_of(EDITED))), torch.no_grad():
        found = editor.model.lm_head(editor.model.model(torch.tensor([ids]))[0])[0]
        assert torch.equal(found, logits(editor.model, ids))


def test_a_forward_of_the_callers_own_is_put_back():
    model = tiny_model()
    own, calls = model.forward, []

    def mine(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return own(*args, **kwargs)

    model.forward = mine
    editor = Editor(model, tiny_tokenizer())
    calls.clear()
    logits(model, ids_of(EDITED))
    assert calls == [1]
    editor.unwrap()
    assert model.__dict__["forward"] is mine


def test_a_forward_put_over_the_wrapped_one_stays():
    """What others laid around the model's forward goes on after unwrap, and is the untouched model then."""
    editor, ids = quick_editor(), ids_of(EDITED)
    model, inside = editor.model, editor.model.forward

    def mine(*args: Any, **kwargs: Any) -> Any:
        return inside(*args, **kwargs)

    with editor.disabled():
        base = logits(model, ids)
    edited = logits(model, ids)
    model.forward = mine
    assert torch.equal(logits(model, ids), edited)
    editor.unwrap()
    assert model.__dict__["forward"] is mine
    assert torch.equal(logits(model, ids), base)


@pytest.mark.parametrize("part", ["model", "inner model", "editor"])
def test_a_wrapped_model_is_not_copied(part: str):
    editor = quick_editor()
    given = {"model": editor.model, "inner model": editor.model.model, "editor": editor}[part]
    edited = logits(editor.model, ids_of(EDITED))
    for action in (copy.deepcopy, pickle.dumps, lambda whole: torch.save(whole, io.BytesIO())):
        with pytest.raises(ModelError, match=r"wrapped by an editor.*unwrap\(\)"):
            action(given)
    assert torch.equal(logits(editor.model, ids_of(EDITED)), edited)
    model = editor.unwrap()
    assert hooks_on(copy.deepcopy(model)) == 0
    pickle.dumps(model)


def test_the_weights_alone_are_saved_with_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    editor = quick_editor()
    with caplog.at_level("WARNING", logger="horen"):
        editor.model.save_pretrained(tmp_path / "model")
    assert "without its edits" in caplog.text
    assert "Editor.save" in caplog.text
    caplog.clear()
    model = quick_editor(edits=[]).model
    with caplog.at_level("WARNING", logger="horen"):
        model.save_pretrained(tmp_path / "plain")
        editor.unwrap().save_pretrained(tmp_path / "unwrapped")
    assert not caplog.records
    assert (tmp_path / "model" / "model.safetensors").is_file()


def batched(editor: Editor) -> dict[str, Any]:
    from transformers.generation import ContinuousBatchingConfig  # noqa: PLC0415 - not in every release

    return editor.model.generate_batch(
        [ids_of(EDITED), ids_of(OTHER)],
        generation_config=GenerationConfig(max_new_tokens=3, do_sample=False, eos_token_id=-1, pad_token_id=0),
        continuous_batching_config=ContinuousBatchingConfig(num_blocks=8, max_batch_tokens=64),
    )


def test_continuous_batching_is_refused():
    pytest.importorskip("transformers.generation.continuous_batching")
    editor = quick_editor()
    with pytest.raises(ModelError, match=r"[Cc]ontinuous batching.*generate\("):
        batched(editor)
    assert editor.model.config._attn_implementation == "sdpa"  # as it was
    editor.unwrap()
    found = batched(editor)
    assert all(len(one.generated_tokens) == 3 and one.error is None for one in found.values())


def test_a_batch_that_began_without_edits_fails_with_a_sentence():
    """A manager that was made while nothing was stored goes on; its requests say what is wrong."""
    editor = quick_editor()
    given = {
        "input_ids": torch.tensor([[*ids_of(EDITED), *ids_of(OTHER)]]),
        "position_ids": torch.tensor([[*range(len(ids_of(EDITED))), *range(len(ids_of(OTHER)))]]),
        "cu_seq_lens_q": torch.tensor([0, len(ids_of(EDITED)), len(ids_of(EDITED)) + len(ids_of(OTHER))]),
    }
    with pytest.raises(ModelError, match="packed"):
        editor.model(**given)
    with editor.disabled(), torch.no_grad():
        editor.model(**given)


def test_adapters_of_peft():
    peft = pytest.importorskip("peft")
    model, tokenizer = tiny_model(), tiny_tokenizer()
    lora = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"], r=2, init_lora_weights=False))
    with pytest.raises(ModelError, match=r"PeftModel.*get_base_model\(\)"):
        Editor(lora, tokenizer)
    assert hooks_on(model) == 0
    base = lora.get_base_model()
    editor = Editor(base, tokenizer, HorenConfig(**QUICK))
    editor.edit(Edit(EDITED, "Rome"))
    inputs, usual = padded([ids_of(EDITED)], left=True), GREEDY | {"max_new_tokens": 4}
    with torch.no_grad():
        expected = logits(base, ids_of(EDITED))
        assert torch.equal(lora(**inputs).logits[0], expected)
        assert torch.equal(lora.generate(**inputs, **usual), base.generate(**inputs, **usual))
        with editor.disabled():
            assert not torch.equal(lora(**inputs).logits[0], expected)
