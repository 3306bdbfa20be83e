"""Short answers against the targets that count as right, as SQuAD compares them (Rajpurkar et al. 2016).

Every score takes one answer and at least one target, is the best over the targets, and lies in [0, 1].

What is compared are the words of the normalised texts. A target of which normalisation leaves nothing is compared in
the first of these forms that holds a word of it: with its articles ("A", the blood type), or as it stands, casefolded
("?"). The answer is brought into the same form.
"""

from __future__ import annotations

import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

_ARTICLES = frozenset({"a", "an", "the"})
_ASCII_PUNCTUATION = frozenset(string.punctuation)


def normalised(text: str) -> str:
    """Return the text as SQuAD normalises it: lower case, no punctuation, no articles, one blank between words.

    On ASCII text it is that of the SQuAD evaluation script. Beyond ASCII, compatible forms of a character become one
    (Unicode NFKC: composed accents, full-width digits), lower case is Unicode case folding, and punctuation is every
    character of a Unicode category P (’ “ – … 。) besides ASCII's, among which are the symbols $+<=>^`|~; other symbols
    (€, °) stay. Punctuation is removed without a blank in its place: "U.S." is "us".
    """
    return " ".join(_content_words(text))


def exact_match(answer: str, targets: Sequence[str]) -> float:
    """Return 1 if the answer is one of the targets after normalisation, else 0."""
    return _best(_equal, answer, targets)


def containment(answer: str, targets: Sequence[str]) -> float:
    """Return 1 if the words of a target stand side by side in the answer after normalisation, else 0.

    Words are what white space separates, so this says little of languages written without it. A blank target is in no
    answer but a blank one.
    """
    return _best(_contained, answer, targets)


def token_f1(answer: str, targets: Sequence[str]) -> float:
    """Return F1 = 2 |A ∩ T| / (|A| + |T|) of the words A and T of answer and target, as multisets; the best of all."""
    return _best(_f1, answer, targets)


def _best(score: Callable[[list[str], list[str]], float], answer: str, targets: Sequence[str]) -> float:
    if isinstance(targets, str) or not targets:
        raise ValueError(f"targets={targets!r} must be a sequence of at least one text.")
    return max(score(*_comparable(answer, target)) for target in targets)


def _comparable(answer: str, target: str) -> tuple[list[str], list[str]]:
    for words in (_content_words, _words):
        if expected := words(target):
            return words(answer), expected
    return answer.casefold().split(), target.casefold().split()


def _content_words(text: str) -> list[str]:
    return [word for word in _words(text) if word not in _ARTICLES]


def _words(text: str) -> list[str]:
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(character for character in folded if not _is_punctuation(character))
    # Accents may only now stand beside the letter that they compose with.
    return unicodedata.normalize("NFKC", kept).split()


def _is_punctuation(character: str) -> bool:
    return character in _ASCII_PUNCTUATION or unicodedata.category(character).startswith("P")


def _equal(answer: list[str], target: list[str]) -> float:
    return float(answer == target)


def _contained(answer: list[str], target: list[str]) -> float:
    if not target:
        return _equal(answer, target)
    width = len(target)
    return float(any(answer[start : start + width] == target for start in range(len(answer) - width + 1)))


def _f1(answer: list[str], target: list[str]) -> float:
    if not answer and not target:
        return 1.0
    common = (Counter(answer) & Counter(target)).total()
    return 2 * common / (len(answer) + len(target))
