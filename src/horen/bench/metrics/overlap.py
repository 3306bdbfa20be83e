"""Long free text against its target: n-gram overlap, and cosine of sentence embeddings. All scores lie in [0, 1]."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import sacrebleu
from rouge_score import rouge_scorer

from horen.errors import ModelError
from horen.extras import need

_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Overlap:
    """How much of a target's wording an answer has.

    Attributes:
        rouge_1: F-measure of words (Lin 2004), without stemming.
        rouge_2: F-measure of pairs of neighbouring words.
        rouge_l: F-measure of the longest common subsequence of words.
        bleu: sentence BLEU of up to four words (Papineni et al. 2002), mixed case, sacrebleu's 13a tokens, exponential
            smoothing, and only the orders of n-gram that the answer is long enough for.
    """

    rouge_1: float
    rouge_2: float
    rouge_l: float
    bleu: float


def overlap(answer: str, target: str) -> Overlap:
    """Return ROUGE and BLEU of one answer against one target; texts without a word score 0."""
    rouge = _rouge().score(target, answer)
    bleu = sacrebleu.sentence_bleu(answer, [target]).score / 100
    f1, f2, f_l = (float(rouge[name].fmeasure) for name in ("rouge1", "rouge2", "rougeL"))
    # The geometric mean behind BLEU can end a rounding error above 1.
    return Overlap(f1, f2, f_l, min(1.0, float(bleu)))


class _Words:
    """rouge-score's own tokens on ASCII text; that one would take every other letter for a blank."""

    def tokenize(self, text: str) -> list[str]:
        return _WORD.findall(text.lower())


@cache
def _rouge() -> Any:
    return rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=_Words())


class Encoder(Protocol):
    """What makes sentence embeddings, such as ``sentence_transformers.SentenceTransformer``."""

    def encode(self, sentences: list[str]) -> Any:
        """Return one row [d] of numbers for each of n sentences, [n, d] in all."""
        ...


class Similarity:
    """Cosine of the embeddings of answer and target (Reimers & Gurevych 2019); negative ones count as 0.

    Args:
        encoder: the name or folder of a sentence-transformers model, or anything with its ``encode``.
        device: where to put a model that is loaded here; None leaves it to sentence-transformers.

    Raises:
        MissingExtraError: when sentence-transformers is not installed.
        ModelError: when nothing loadable goes by that name.
    """

    def __init__(self, encoder: str | Path | Encoder, *, device: str | None = None) -> None:
        self._encoder = _load(str(encoder), device) if isinstance(encoder, str | Path) else encoder

    def __call__(self, answers: Sequence[str], targets: Sequence[str]) -> list[float]:
        """One similarity for each pair of an answer and the target in the same place."""
        if isinstance(answers, str) or isinstance(targets, str) or len(answers) != len(targets):
            raise ValueError("answers and targets must be two sequences of texts, equally long.")
        if not answers:
            return []
        left, right = self._embed(answers), self._embed(targets)
        lengths = np.linalg.norm(left, axis=-1) * np.linalg.norm(right, axis=-1)
        products = (left * right).sum(axis=-1)
        cosines = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
        return [float(cosine) for cosine in cosines.clip(0.0, 1.0)]

    def _embed(self, texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.asarray(self._encoder.encode(list(texts)), dtype=np.float64)


def _load(name: str, device: str | None) -> Encoder:
    library = need("encoder", "sentence_transformers", "Sentence similarity needs", ", or leave the similarity out")
    try:
        encoder: Encoder = library.SentenceTransformer(name, device=device)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{name!r} cannot be loaded as a sentence encoder ({reason}): give a folder in the format of "
            "sentence-transformers, or the id of a hub model that you can reach."
        ) from error
    return encoder
