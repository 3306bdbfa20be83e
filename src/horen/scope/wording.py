"""What two prompts have in common as words: names and numbers, which an embedding blurs."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_POSSESSIVE = re.compile(r"['’]s?$")
# A word of templates that is so rare counts as part of a name.
_RARE = 0.95
# From so many letters on a word may be misspelt, and from so many on twice.
_ONE_SLIP, _TWO_SLIPS = 4, 8
_ALIKE = 0.8

#: Names of the evidence, in order.
EVIDENCE = ("missing_name", "extra_name", "missing_number", "extra_number", "common_words")


@dataclass(frozen=True, eq=False)
class Words:
    """How much each word says: next to nothing where it occurs in many templates, 1 where in none.

    Attributes:
        weights: in (0, 1], by word in lower case.
    """

    weights: Mapping[str, float]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Words:
        """Count in how many texts each word occurs."""
        counts: Counter[str] = Counter()
        total = 0
        for text in texts:
            counts.update({word for word, _ in _words(text)})
            total += 1
        most = math.log(max(total, 2))
        return cls({word: round(1 - math.log(count) / most, 3) if count > 1 else 1.0 for word, count in counts.items()})

    def evidence(self, stored: str, asked: str) -> tuple[float, ...]:
        """Return what a stored and an asked prompt share, in the order of ``EVIDENCE``, each from 0 to 1.

        A name is what is capitalised within the text, holds a digit, or occurs in no template. A word is found again
        despite a typing mistake, a possessive or a plural; a number is not.
        """
        there, here = self._parts(stored), self._parts(asked)
        own, given = [word for word, _, _ in there], [word for word, _, _ in here]
        lacking = {word for word in own if not _found(word, given)}
        more = {word for word in given if not _found(word, own)}
        names = [(word, weight) for word, weight, name in there if name]
        missing = sum(weight for word, weight in names if word in lacking) / max(sum(w for _, w in names), 1e-9)
        extra = sum(weight for word, weight, name in here if name and word in more)
        whole = sum(weight for _, weight, _ in there) + sum(weight for word, weight, _ in here if word in more)
        shared = sum(weight for word, weight, _ in there if word not in lacking)
        return (
            missing,
            min(extra / 2, 1.0),
            float(any(word.isdigit() for word in lacking)),
            float(any(word.isdigit() for word in more)),
            shared / max(whole, 1e-9),
        )

    def _parts(self, text: str) -> list[tuple[str, float, bool]]:
        """Each word once: in lower case, its weight, and whether it belongs to a name."""
        return list(_parts(text, self))


@lru_cache(maxsize=4096)
def _parts(text: str, words: Words) -> tuple[tuple[str, float, bool], ...]:
    found: dict[str, tuple[float, bool]] = {}
    mixed = not text.isupper()
    for place, (word, capital) in enumerate(_words(text)):
        weight = words.weights.get(word, 1.0)
        known = word in words.weights and weight < _RARE
        name = (capital and mixed and place > 0) or not known or any(sign.isdigit() for sign in word)
        found[word] = (weight, name or found.get(word, (0.0, False))[1])
    return tuple((word, weight, name) for word, (weight, name) in found.items())


def _words(text: str) -> Iterable[tuple[str, bool]]:
    for match in _WORD.finditer(text):
        word = _POSSESSIVE.sub("", match.group())
        if word:
            yield word.lower(), word[0].isupper()


def _found(word: str, others: list[str]) -> bool:
    return word in others or (not word.isdigit() and len(word) >= _ONE_SLIP and any(_near(word, o) for o in others))


@lru_cache(maxsize=65536)
def _near(one: str, two: str) -> bool:
    """Whether two words are one, but for an ending or a slip or two."""
    if abs(len(one) - len(two)) > 2 or len(two) < _ONE_SLIP or two.isdigit():
        return False
    if any(sign.isdigit() for sign in one + two):
        return False
    return _slips(one, two) <= (2 if min(len(one), len(two)) >= _TWO_SLIPS else 1)


def _slips(one: str, two: str) -> int:
    """Letters to insert, leave out, replace or exchange with the next (Damerau and Levenshtein)."""
    before: list[int] = []
    row = list(range(len(two) + 1))
    for i, a in enumerate(one, 1):
        above, before, row = before, row, [i]
        for j, b in enumerate(two, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == two[j - 2] and one[i - 2] == b:
                cost = min(cost, above[j - 2] + 1)
            row.append(cost)
    return row[-1]
