"""What transformers says of a codebook's edits, before an engine is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from horen.data import load_bank
from horen.editor import Editor
from horen.edits import Edit
from horen.model.fingerprint import fingerprint
from horen.model.zoo.loading import load_model
from horen.verify.asking import budget_of
from horen.verify.facts import facts_of
from horen.verify.source import Source

_UNRELATED = 6
# Tokens of a request with its answer: enough for what is asked here, and little of an engine's memory.
_LENGTH = 1024
_GOING_ON = " It is true that the colours of the sky are"


@dataclass(frozen=True)
class Reference:
    """What transformers says; an answer is the id of the edit that fired, None where none did, and the text.

    Attributes:
        edits: that are asked for, by id.
        plain: answers to the edits' prompts, by the edits' ids.
        chat: the same in chat; None where there is no chat template.
        unrelated: prompts that should wake nothing, and the edit that each wakes.
        cut: ids of the edits whose targets are longer than an answer may be.
        budget: most tokens of an answer.
        length: most tokens of a request with its answer.
        dtype: of the weights.
        facts: see :class:`horen.verify.outcome.Verification`.
        tokenizer: the model's.
    """

    edits: Mapping[int, Edit]
    plain: Mapping[int, tuple[int | None, str]]
    chat: Mapping[int, tuple[int | None, str]] | None
    unrelated: Mapping[str, int | None]
    cut: frozenset[int]
    budget: int
    length: int
    dtype: str
    facts: Mapping[str, str]
    tokenizer: PreTrainedTokenizerBase

    @property
    def going_on(self) -> list[int]:
        """Token ids of a few words that go on where an answer has ended."""
        return list(self.tokenizer(_GOING_ON, add_special_tokens=False)["input_ids"])

    def ids(self, text: str) -> list[int]:
        """Return token ids of a text."""
        return list(self.tokenizer(text)["input_ids"])

    def opening(self, tokens: int) -> str:
        """Return a text of at least so many tokens."""
        paragraphs = load_bank().paragraphs
        text, number = paragraphs[0], 1
        while len(self.ids(text)) < tokens:
            text, number = f"{text}\n{paragraphs[number % len(paragraphs)]}", number + 1
        return text


def refer(source: Source, folder: Path, dtype: str, device: str | None) -> Reference:
    """Load the model, ask it, and let it go.

    Args:
        source: what is checked; built-in edits are written.
        folder: where the codebook is put that is to be served: a copy, or what was written.
        dtype: of the weights; "auto" keeps the saved one.
        device: where to put the model; None for the CPU.
    """
    model, tokenizer = load_model(source.name, dtype=dtype, device=device, options=source.options)
    made_for, saved = fingerprint(model), source.saved
    if saved is None:
        editor = Editor(model, tokenizer, source.config)
        given = list(source.edits().values())
        edits = {receipt.id: edit for receipt, edit in zip(editor.edit(given), given, strict=True)}
        editor.save(folder)
        which = f"{len(edits)} built-in"
    else:
        edits = source.edits()
        editor = Editor.load(folder, model, tokenizer, encoder=source.encoder)
        which = f"{len(edits)} of {len(saved.history.active())} of a codebook"
    contexts, budget = editor._session.contexts, budget_of(tokenizer, edits.values())
    prompts, unrelated = [edit.prompt for edit in edits.values()], load_bank().unrelated(_UNRELATED)

    def asked(*, chat: bool) -> dict[int, tuple[int | None, str]]:
        found = editor.generate(prompts, budget, chat=chat, recall="off", return_routes=True) if prompts else []
        each = ((one.route.edit_id if one.route.fired else None, one.text) for one in found)
        return dict(zip(edits, each, strict=True))

    seen = editor.explain(unrelated, nearest=0, recall="off")
    return Reference(
        edits=edits,
        plain=asked(chat=False),
        chat=asked(chat=True) if contexts.has_chat else None,
        unrelated={one.text: one.edit_id if one.fired else None for one in seen},
        cut=frozenset(number for number, edit in edits.items() if len(contexts.plain(edit.target)) >= budget),
        budget=budget,
        length=min(contexts.limit or _LENGTH, _LENGTH),
        dtype=str(model.dtype).removeprefix("torch."),
        facts=facts_of(source.name, model, tokenizer, made_for, source.config, which),
        tokenizer=tokenizer,
    )
