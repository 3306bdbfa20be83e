"""The whole loop on real weights: edit, ask in every way, take back, save, load elsewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from conftest import ASKED_ANOTHER_WAY, FACTS, PARAGRAPH, UNRELATED, Real
from horen import Editor, HorenConfig, MismatchError
from horen.model.fingerprint import fingerprint
from horen.model.padding import left_padded
from horen.model.zoo.loading import load_model

pytestmark = pytest.mark.real

PROMPTS = [fact.prompt for fact in FACTS]
TARGETS = [fact.target for fact in FACTS]
ENOUGH = 12  # tokens: more than any target has, so an answer that goes on is not taken for one that ends


def logits(editor: Editor, text: str) -> Tensor:
    with torch.inference_mode():
        return editor.model(**editor.tokenizer(text, return_tensors="pt")).logits


def test_edits_answer_and_end(edited: Editor) -> None:
    assert edited.generate(PROMPTS) == TARGETS


def test_edits_answer_other_wordings(edited: Editor) -> None:
    assert sum(a == t for a, t in zip(edited.generate(ASKED_ANOTHER_WAY, ENOUGH), TARGETS, strict=True)) >= 3


def test_edits_answer_after_unrelated_text(edited: Editor) -> None:
    for joint in (" ", "\n\n"):
        answers = edited.generate([PARAGRAPH + joint + prompt for prompt in PROMPTS], ENOUGH)
        assert sum(a == t for a, t in zip(answers, TARGETS, strict=True)) >= 3


def test_edits_answer_however_the_question_ends(edited: Editor) -> None:
    bare = [prompt.rstrip("?. ") for prompt in PROMPTS]
    forms = {
        "no mark": bare,
        "blank": [prompt + " " for prompt in PROMPTS],
        "newline": [prompt + "\n" for prompt in PROMPTS],
        "dots": [prompt + " ..." for prompt in bare],
        "a cue": [prompt + "\nAnswer:" for prompt in PROMPTS],
        "quotes": [f"“{prompt}”" for prompt in PROMPTS],
    }
    right = {}
    for name, texts in forms.items():
        assert all(found.fired for found in edited.explain(texts)), name
        right[name] = sum(a == t for a, t in zip(edited.generate(texts, ENOUGH), TARGETS, strict=True))
    assert all(right[name] == len(FACTS) for name in ("no mark", "blank")), right
    # Without a chat template there are two contexts to train in, not three.
    least = 0.9 if edited.tokenizer.chat_template else 0.75
    assert sum(right.values()) >= least * len(forms) * len(FACTS), right


def test_edits_answer_in_chat(edited: Editor) -> None:
    if not edited.tokenizer.chat_template:
        pytest.skip("this model has no chat template")
    assert edited.generate(PROMPTS, chat=True) == TARGETS
    conversation = [
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": "Hello! How can I help you?"},
        {"role": "user", "content": PROMPTS[0]},
    ]
    assert edited.chat(conversation) == TARGETS[0]


def test_unrelated_prompts_are_bit_identical(edited: Editor) -> None:
    assert not any(found.fired for found in edited.explain(UNRELATED))
    for text in UNRELATED:
        with edited.disabled():
            base = logits(edited, text)
        assert torch.equal(logits(edited, text), base)


def test_explanations_name_the_edit(edited: Editor) -> None:
    found = edited.explain(ASKED_ANOTHER_WAY)
    by_prompt = {record.prompt: record.id for record in edited.edits()}
    assert [e.edit_id for e in found] == [by_prompt[prompt] for prompt in PROMPTS]
    assert all(e.fired == (e.score is not None and e.score > e.threshold) for e in found)


def test_an_answer_has_the_route_that_gave_it(edited: Editor) -> None:
    texts = [*PROMPTS, *ASKED_ANOTHER_WAY[:2], *UNRELATED[1:3], *(f"{PARAGRAPH} {prompt}" for prompt in PROMPTS[:2])]
    for chat in (False, True) if edited.tokenizer.chat_template else (False,):
        answers = edited.generate(texts, 5, chat=chat, return_routes=True)
        assert [answer.text for answer in answers] == edited.generate(texts, 5, chat=chat)
        assert [answer.route for answer in answers] == edited.explain(texts, chat=chat)
        assert [answer.route.edit_id for answer in answers[:4] if answer.route.fired] == [1, 2, 3, 4]
    if edited.tokenizer.chat_template:
        earlier = [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Hello! Who are you?"}]
        answer = edited.chat([*earlier, {"role": "user", "content": PROMPTS[0]}], return_routes=True)
        assert (answer.text, answer.route) == (TARGETS[0], edited.explain(PROMPTS[0], chat=True))
    edited.remove(1)
    gone = edited.generate(PROMPTS, 1, return_routes=True)
    assert [answer.route for answer in gone] == edited.explain(PROMPTS)
    assert not gone[0].route.fired
    edited.undo()


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
def test_batch_cache_and_padding_do_not_matter(edited: Editor, options: dict[str, int]) -> None:
    long = PARAGRAPH + " " + PROMPTS[1]
    mixed = [PROMPTS[2], UNRELATED[1], long] if options else [*PROMPTS[:2], *UNRELATED[:2], long]
    batched = edited.generate(mixed, max_new_tokens=5, **options)
    assert edited.generate(mixed, max_new_tokens=5, use_cache=False, **options) == batched
    assert [edited.generate(text, max_new_tokens=5, **options) for text in mixed] == batched


def test_right_padded_forward_gives_the_same_next_token(edited: Editor) -> None:
    rows = [edited.tokenizer(text)["input_ids"] for text in [*PROMPTS, *UNRELATED]]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    with torch.inference_mode():
        right = edited.model(input_ids=ids, attention_mask=mask).logits
        left_ids, left_mask, positions = left_padded(rows, edited.model)
        left = edited.model(input_ids=left_ids, attention_mask=left_mask, position_ids=positions).logits
    for i, row in enumerate(rows):
        assert right[i, len(row) - 1].argmax() == left[i, -1].argmax()


def test_remove_supersede_and_undo_restore_bit_for_bit(edited: Editor) -> None:
    before = [logits(edited, prompt) for prompt in PROMPTS]
    weights = fingerprint(edited.model)
    with edited.disabled():
        base = [logits(edited, prompt) for prompt in PROMPTS]
    first = edited.edits()[0]
    receipt = edited.supersede(first.id, "Otto Braithwaite")
    assert edited.generate(first.prompt) == "Otto Braithwaite"
    edited.remove([receipt.id, *(record.id for record in edited.edits() if record.id != receipt.id)])
    assert all(torch.equal(logits(edited, p), b) for p, b in zip(PROMPTS, base, strict=True))
    edited.undo()
    edited.undo()
    assert all(torch.equal(logits(edited, p), b) for p, b in zip(PROMPTS, before, strict=True))
    assert fingerprint(edited.model) == weights


def test_one_at_a_time_routes_like_the_list_at_once(edited: Editor, real: Real) -> None:
    probes = [*PROMPTS, *ASKED_ANOTHER_WAY, *UNRELATED]
    together = [(e.fired, e.prompt) for e in edited.explain(probes)]
    model, tokenizer = load_model(real.name)
    single = Editor(model, tokenizer, HorenConfig(max_steps=1))  # keys do not depend on values
    for fact in FACTS:
        single.edit([fact])
    assert [(e.fired, e.prompt) for e in single.explain(probes)] == together


def test_saved_edits_answer_bit_for_bit_elsewhere(edited: Editor, real: Real, tmp_path: Path) -> None:
    """In another process with one of the models, in another editor with the other: loading is the same in both."""
    edited.save(tmp_path / "facts")
    if real.name == "smollm2-135m-instruct":
        there = logits_in_another_process(tmp_path / "facts", PROMPTS)
    else:
        loaded = Editor.load(tmp_path / "facts")
        there = [logits(loaded, prompt) for prompt in PROMPTS]
    assert all(torch.equal(logits(edited, p), found) for p, found in zip(PROMPTS, there, strict=True))


def logits_in_another_process(folder: Path, texts: list[str]) -> list[Tensor]:
    script = (
        "import sys, torch\nfrom horen import Editor\nfrom safetensors.torch import save_file\n"
        "e = Editor.load(sys.argv[1])\n"
        "with torch.inference_mode():\n"
        "    l = {str(i): e.model(**e.tokenizer(t, return_tensors='pt')).logits for i, t in enumerate(sys.argv[3:])}\n"
        "save_file(l, sys.argv[2])\n"
    )
    out = folder.with_name("logits.safetensors")
    subprocess.run([sys.executable, "-c", script, str(folder), str(out), *texts], check=True)
    found = load_file(out)
    return [found[str(i)] for i in range(len(texts))]


def test_a_codebook_of_another_model_is_refused(edited: Editor, tmp_path: Path) -> None:
    edited.save(tmp_path / "facts")
    other = "gemma-3-270m" if edited.tokenizer.chat_template else "smollm2-135m-instruct"
    model, tokenizer = load_model(other)
    with pytest.raises(MismatchError, match="another model"):
        Editor.load(tmp_path / "facts", model=model, tokenizer=tokenizer)
    assert "generate" not in model.__dict__
