"""Editors on tiny models, and what a wrapped model should compute, worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from horen import Edit, Editor, HorenConfig
from horen.memory import delta
from horen.model.layout import Layout, first_tensor, with_first_tensor
from support.tiny_models import taught_model, tiny_model
from support.tiny_tokenizers import tiny_tokenizer

EDITED = "The capital of France is"
REPHRASED = "France has its capital in"
OTHER = "Seven green boats"
PROMPTS = (EDITED, OTHER, REPHRASED, "Who wrote Hamlet?", "Hello")

# One coarse step of training: a value that changes every answer, for tests that care where it goes, not what it says.
QUICK: Mapping[str, Any] = {
    "read_sites": "auto@0",
    "write_layer": 1,
    "read_weight": "equal",
    "key_space": "raw",
    "threshold": 0.97,
    "contrast": 0.0,
    "similar_threshold": 1.0,
    "contexts": "prompt",
    "max_steps": 1,
    "stop_probability": 1.0,
    "learning_rate": 5.0,
    "learning_rate_unit": "absolute",
    "precision": "model",
}
# Enough training for an edit to hold on the taught model.
CAREFUL: Mapping[str, Any] = {
    "read_sites": "auto@0",
    "write_layer": 0,
    "read_weight": "equal",
    "key_space": "raw",
    "threshold": 0.97,
    "contrast": 0.0,
    "similar_threshold": 1.0,
    "contexts": "prompt",
    "max_steps": 150,
    "stop_probability": 0.9,
    "learning_rate": 0.5,
    "learning_rate_unit": "site",
    "precision": "model",
}
# To the last token that is asked for, whatever would end an answer.
GREEDY: dict[str, Any] = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}

# What the taught model can be taught anew within a few steps.
FACTS: Mapping[str, str] = {
    "The capital of France is": "Mira Sand",
    "Who wrote Danielle Darrieux?": "Oslo",
    "The mother tongue of Toko Yasuda is": "banana boats",
    "What colour is Daniel?": "Paris",
}


def facts() -> list[Edit]:
    """``FACTS`` as edits."""
    return [Edit(prompt, target) for prompt, target in FACTS.items()]


def quick_editor(
    family: str = "llama", style: str = "chatml", edits: Sequence[Edit] | None = None, **settings: Any
) -> Editor:
    """An editor on a random model, with the edit of ``EDITED`` unless others are given."""
    editor = Editor(tiny_model(family, style), tiny_tokenizer(style), HorenConfig(**(dict(QUICK) | settings)))
    given = [Edit(EDITED, "Rome", (REPHRASED,))] if edits is None else edits
    if given:
        editor.edit(given)
    return editor


def taught_editor(**settings: Any) -> Editor:
    """An editor on the taught model, still without edits."""
    return Editor(taught_model(), tiny_tokenizer("chatml"), HorenConfig(**(dict(CAREFUL) | settings)))


def ids_of(text: str, style: str = "chatml") -> list[int]:
    """Token ids of plain text."""
    return list(tiny_tokenizer(style)(text)["input_ids"])


def chat_ids(*contents: str, style: str = "chatml", answer: bool = True) -> list[int]:
    """Token ids of a conversation of user and assistant in turn, the user first."""
    roles = ("user", "assistant")
    turns = [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]
    return list(tiny_tokenizer(style).apply_chat_template(turns, add_generation_prompt=answer)["input_ids"])


def logits(model: PreTrainedModel, ids: Sequence[int], **inputs: Any) -> Tensor:
    """Logits of one row, [length, vocabulary]."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([list(ids)]), **inputs).logits[0]


def outputs(editor: Editor) -> list[Tensor]:
    """Logits of ``PROMPTS``, in plain text and in chat."""
    rows = [ids_of(text) for text in PROMPTS] + [chat_ids(text) for text in PROMPTS]
    return [logits(editor.model, row) for row in rows]


def same(one: Sequence[Tensor], two: Sequence[Tensor]) -> bool:
    """Whether two lists of tensors are equal, bit for bit."""
    return len(one) == len(two) and all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def padded(rows: Sequence[Sequence[int]], *, left: bool, fill: int = 0) -> dict[str, Tensor]:
    """Ids and attention mask of rows."""
    width = max(len(row) for row in rows)
    ids, mask = [], []
    for row in rows:
        space = [fill] * (width - len(row))
        kept = [1] * len(row)
        ids.append([*space, *row] if left else [*row, *space])
        mask.append([*(0 for _ in space), *kept] if left else [*kept, *(0 for _ in space)])
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


@contextmanager
def written_by_hand(
    module: nn.Module, written: Mapping[tuple[int, int], Tensor], shape: tuple[int, int], *, replace: bool = False
) -> Iterator[None]:
    """Add values to what a module gives at (row, column) of a batch, or put them there instead, within the block."""

    def add(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        hidden = first_tensor(output)
        states = hidden.reshape(*shape, -1).clone()
        for (row, column), value in written.items():
            here = states[row, column][None].float()
            there = value if replace else (here + delta(value[None], here))[0]
            states[row, column] = there.to(states.dtype)
        return with_first_tensor(output, states.reshape(hidden.shape))

    handle = module.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def by_hand(editor: Editor, ids: Sequence[int], values: Mapping[int, Tensor]) -> Tensor:
    """Logits of one row of the untouched model with values at some positions."""
    site = Layout.of(editor.model).write_site(editor.config)
    places = {(0, position): value for position, value in values.items()}
    replace = editor.config.value == "state"
    with editor.disabled(), written_by_hand(site.module, places, (1, len(ids)), replace=replace):
        return logits(editor.model, ids)


def value_of(editor: Editor, number: int) -> Tensor:
    """The value of an edit, as its codebook holds it, in float32."""
    return editor._session.codebook().read_values([editor.get(number).value])[0]


def checksums(model: PreTrainedModel) -> dict[str, Tensor]:
    """A copy of every weight and buffer."""
    return {name: tensor.detach().clone() for name, tensor in (*model.named_parameters(), *model.named_buffers())}


def same_weights(model: PreTrainedModel, before: Mapping[str, Tensor]) -> bool:
    """Whether every weight and buffer is bit for bit what it was."""
    now = checksums(model)
    return now.keys() == before.keys() and all(torch.equal(now[name], before[name]) for name in now)


def hooks_on(model: PreTrainedModel) -> int:
    """Number of forward hooks and replaced methods anywhere on a model."""
    return sum(
        len(module._forward_hooks)
        + len(module._forward_pre_hooks)
        + sum(name in module.__dict__ for name in ("forward", "generate"))
        for module in model.modules()
    )
