"""What is asked of the model under test, before and after it is wrapped, and how answers are compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.editor import Editor
from horen.edits import Edit
from horen.model.devices import device_of
from horen.model.logits import next_logits
from horen.verify.demo import normalised

#: Rows of a batch in which prompts of edits and unrelated ones take turns.
BATCH = 8
_SHORTEST, _LONGEST = 8, 48  # tokens of an answer


class FailedError(Exception):
    """A check found something else than it should; says what in counts and numbers of edits alone."""


class SkippedError(Exception):
    """A check cannot be made here; says why."""


@dataclass
class Subject:
    """The model under test, and what it said before it was wrapped.

    Attributes:
        editor: around it.
        edits: what is asked for, by the ids of the edits that hold it; empty where nothing is stored.
        extra: a fact that is written and taken back.
        unrelated: prompts that should wake nothing.
        budget: most tokens of an answer.
        untouched: of the model before it was wrapped.
        whole: whether everything that is stored was written here, so that it may all be taken back.
        folder: where the codebook is or, of one that was written here, will be.
        alone: answers to the edits' prompts, each asked by itself.
    """

    editor: Editor
    edits: dict[int, Edit]
    extra: Edit
    unrelated: list[str]
    budget: int
    untouched: Untouched
    whole: bool
    folder: Path
    alone: list[str] = field(default_factory=list)

    @property
    def prompts(self) -> list[str]:
        """The edits' prompts."""
        return [edit.prompt for edit in self.edits.values()]

    def need_edits(self) -> None:
        """Raise SkippedError where nothing is stored."""
        if not self.edits:
            raise SkippedError("no edit is stored")

    def waking_nothing(self, *, chat: bool = False) -> list[str]:
        """Return the unrelated prompts that indeed wake nothing.

        Raises:
            FailedError: when none does.
        """
        found = self.editor.explain(self.unrelated, chat=chat, nearest=0, recall="off")
        silent = [seen.text for seen in found if not seen.fired]
        if not silent:
            raise FailedError(
                f"all {len(self.unrelated)} unrelated prompts wake an edit, so nothing is left as it was: choose a "
                "higher threshold, or let horen calibrate choose it"
            )
        return silent

    def ask(self, texts: Sequence[str], *, chat: bool = False, **options: Any) -> list[str]:
        """Return answers to texts that are run as batches."""
        said: list[str] = self.editor.generate(list(texts), self.budget, chat=chat, recall="off", **options)
        return said

    def answers_alone(self) -> list[str]:
        """Return the answers to the edits' prompts, each asked by itself; asked once."""
        if not self.alone:
            self.alone = [self.ask([text])[0] for text in self.prompts]
        return self.alone

    def compare(self, prompts: Sequence[str], silent: Sequence[str], **options: Any) -> str:
        """Check that a mixed batch is answered as each edit is alone, and unrelated ones as by the untouched model.

        Raises:
            FailedError: when it is not.
        """
        texts = interleaved(prompts, silent)
        found = dict(zip(texts, self.ask(texts, **options), strict=True))
        with self.editor.disabled():
            base = dict(zip(texts, self.ask(texts, **options), strict=True))
        wrong = [
            number
            for number, text, answer in zip(self.edits, self.prompts, self.answers_alone(), strict=True)
            if text in found and found[text] != answer
        ]
        changed = sum(found[text] != base[text] for text in silent)
        if wrong or changed:
            raise FailedError(
                f"{told(wrong, len(prompts))} answered otherwise than alone; {changed} of {len(silent)} unrelated "
                "prompts are answered otherwise than by the untouched model"
            )
        return f"{len(prompts)} edits as alone, {len(silent)} unrelated prompts as untouched"


@dataclass(frozen=True)
class Untouched:
    """What a model says without an editor around it; logits [V] are of the token that follows.

    Attributes:
        prompts: by prompt, each fed by itself: those of the edits, the further fact's and two unrelated ones.
        whole: by unrelated prompt the logits [n, V] at all its tokens.
        mixed: by prompt, in batches of edits' and unrelated prompts, padded on the left.
        hooks: how many are on it.
    """

    prompts: dict[str, Tensor]
    whole: dict[str, Tensor]
    mixed: dict[str, Tensor]
    hooks: int

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[str],
        extra: str,
        unrelated: Sequence[str],
    ) -> Untouched:
        """Ask a model that nothing is around."""
        mixed = interleaved(prompts, unrelated)
        return cls(
            prompts=next_of(model, tokenizer, [*prompts, extra, *unrelated[:2]]),
            whole={text: whole_logits(model, tokenizer, text) for text in unrelated},
            mixed=next_of(model, tokenizer, mixed, BATCH),
            hooks=hooks_on(model),
        )


def hooks_on(model: PreTrainedModel) -> int:
    """Return how many hooks are on a model's parts, and methods of theirs that were replaced."""
    return sum(
        len(part._forward_hooks)
        + len(part._forward_pre_hooks)
        + sum(name in part.__dict__ for name in ("forward", "generate"))
        for part in model.modules()
    )


def next_of(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], batch: int = 1
) -> dict[str, Tensor]:
    """Return logits [V] of the token that follows each text, by text."""
    rows = [list(tokenizer(text)["input_ids"]) for text in texts]
    return dict(zip(texts, next_logits(model, rows, batch), strict=True))


def whole_logits(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str) -> Tensor:
    """Return logits [n, V] at all n tokens of a text, on the CPU."""
    untyped: Any = model
    ids = torch.tensor([list(tokenizer(text)["input_ids"])], device=device_of(model))
    with torch.inference_mode():
        found: Tensor = untyped(input_ids=ids).logits[0]
    return found.cpu().clone()


def interleaved(some: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return the texts of two lists in turn; what one list has more goes last."""
    pairs = zip(some, others, strict=False)
    both = [text for pair in pairs for text in pair]
    return [*both, *some[len(others) :], *others[len(some) :]]


def identical(found: dict[str, Tensor], expected: dict[str, Tensor], texts: Sequence[str]) -> str:
    """Check that logits are equal bit for bit; in words how many are.

    Raises:
        FailedError: when some are not, with the greatest difference.
    """
    apart = [text for text in texts if not torch.equal(found[text], expected[text])]
    if apart:
        most = max(float((found[text].float() - expected[text].float()).abs().max()) for text in apart)
        raise FailedError(f"logits of {len(apart)} of {len(texts)} prompts differ, by up to {most:.2g}")
    return f"logits of {len(texts)} prompts are equal to the last bit"


def budget_of(tokenizer: PreTrainedTokenizerBase, edits: Iterable[Edit]) -> int:
    """Return a number of tokens in which every target and its end have room, within limits."""
    sizes = (len(tokenizer(f" {edit.target}")["input_ids"]) + 2 for edit in edits)
    return min(_LONGEST, max(_SHORTEST, *sizes, _SHORTEST))


def right(answer: str, target: str, *, cut: bool) -> bool:
    """Return whether an answer is the target or, of one that was cut short, its beginning."""
    if normalised(answer) == normalised(target):
        return True
    begun = normalised(answer.rstrip("\ufffd"))
    return cut and bool(begun) and normalised(target).startswith(begun)


def told(numbers: Sequence[int], total: int) -> str:
    """Return which of some edits, by number."""
    which = f" ({', '.join(map(str, numbers))})" if numbers else ""
    return f"{len(numbers)} of {total} edits{which}"
