"""A tiny scope in a folder: random heads, and a judge that goes by the words in common alone."""

from __future__ import annotations

from pathlib import Path

from horen.model.zoo.encoder import encoder_parts
from horen.scope.judging import FIRST, WHOLE, Judge, Logistic
from horen.scope.networks import Heads, PairCheck
from horen.scope.reader import Scope
from horen.scope.wording import Words
from support.encoders import save_encoder
from support.tiny_models import seeded
from support.tiny_tokenizers import SENTENCES

#: Prompts that share more than half of their words ask the same.
WORDS_DECIDE = Judge(
    first=Logistic(tuple(12.0 if name == "common_words" else 0.0 for name in FIRST), -6.0),
    whole=Logistic(tuple(12.0 if name == "common_words" else 0.0 for name in WHOLE), -6.0),
    subject=Logistic(tuple(-20.0 if name == "missing_name" else 0.0 for name in FIRST), 10.0),
    unlikely=0.01,
)


def save_scope(folder: Path, *, judge: Judge = WORDS_DECIDE, seed: int = 0) -> Path:
    """A folder with a tiny encoder and a scope on it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_encoder(
        folder, seed=seed, more_words=tuple(sorted({w.lower() for s in SENTENCES for w in s.split()} - known()))
    )
    tokenizer, base = encoder_parts(folder)
    with seeded(seed):
        heads, check = Heads(base), PairCheck(encoder_parts(folder)[1])
    scope = Scope(tokenizer, heads, check, Words({}), judge)
    scope.save(folder, encoder_parts(folder)[1], {})
    return folder


def known() -> set[str]:
    """Words that the tiny encoder has anyway."""
    from support.encoders import WORDS  # noqa: PLC0415

    return set(WORDS)
