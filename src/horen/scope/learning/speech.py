"""How people type: capitals, typing mistakes, missing marks, and politeness around a question."""

from __future__ import annotations

import random
import re

_BEFORE = (
    "Hi! ",
    "Hello, quick question: ",
    "Hey, ",
    "Sorry to bother you, but ",
    "One more thing: ",
    "Please help me out here. ",
    "I hope you can help. ",
    "For my notes: ",
    "Just checking. ",
    "Good morning. ",
    "Question: ",
    "Q: ",
    "A colleague wants to know: ",
    "My son asked me this today: ",
    "Before I forget: ",
    "I was wondering, ",
    "Quick one. ",
    "By the way, ",
    "Could you look this up for me? ",
    "I need this for a report. ",
)
_AFTER = (
    " Thanks!",
    " Thank you in advance.",
    " Please answer briefly.",
    " thx",
    " It's for a quiz.",
    " I keep forgetting.",
    " Many thanks for your help!",
    " Just the answer, please.",
    " I have a meeting in five minutes.",
    " Cheers",
    " Answer:",
    " Any idea?",
    " pls",
)
_ENDS = ".?! "
# Second halves of names, and how long a word is whose own may be exchanged.
_HALVES = ("bury", "combe", "dorf", "er", "haven", "ine", "inger", "lund", "mere", "mont", "more", "ova", "port", "sen")
_COMPOUND = 7
_WORD = re.compile(r"[A-Za-z]{4,}")


def spoken(text: str, rng: random.Random, *, strength: float = 1.0) -> str:
    """The text as somebody might type it; often it stays as it is.

    Args:
        text: a question, or a statement to complete.
        rng: decides.
        strength: 0 changes nothing, 1 changes about half of all texts.
    """
    chance = rng.random() / strength if strength else 1.0
    asks = text.endswith("?")
    if chance < 0.10:
        text = mistyped(text, rng)
    elif chance < 0.22 and asks:
        text = _wrapped(text, rng)
    if rng.random() < 0.15 * strength and (asks or text.endswith(".")):
        text = text.rstrip(_ENDS)
    case = rng.random() / strength if strength else 1.0
    if case < 0.15:
        return text.lower()
    return text.upper() if case < 0.18 else text


def mistyped(text: str, rng: random.Random) -> str:
    """The text with one or two letters left out, doubled, exchanged or wrong."""
    for _ in range(rng.randint(1, 2)):
        words = list(_WORD.finditer(text))
        if not words:
            return text
        word = rng.choice(words)
        at = rng.randrange(word.start() + 1, word.end() - 1)
        kind = rng.randrange(4)
        if kind == 0:
            text = text[:at] + text[at + 1 :]
        elif kind == 1:
            text = text[:at] + text[at] + text[at:]
        elif kind == 2:
            text = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
        else:
            text = text[:at] + rng.choice("aeioutnrsl") + text[at + 1 :]
    return text


def _wrapped(text: str, rng: random.Random) -> str:
    place = rng.random()
    if place < 0.6:
        text = rng.choice(_BEFORE) + text
    if place > 0.4:
        text += rng.choice(_AFTER)
    return text


def renamed(name: str, others: list[str], rng: random.Random) -> str:
    """Another name that looks like this one: a number changed, a word taken from one of ``others``, or half a word.

    Typing mistakes keep a name, so what changes here is a whole word, its second half, or a number.
    """
    numbers = list(re.finditer(r"\d+", name))
    if numbers and rng.random() < 0.7:
        number = rng.choice(numbers)
        value = int(number.group())
        other = max(0, value + rng.choice((-10, -2, -1, 1, 2, 10)))
        if other != value:
            return name[: number.start()] + str(other) + name[number.end() :]
    words = name.split()
    long = [
        place for place, word in enumerate(words) if len(word) >= _COMPOUND and word.isalpha() and word[0].isupper()
    ]
    if long and rng.random() < 0.3:
        place = rng.choice(long)
        words[place] = words[place][: len(words[place]) // 2] + rng.choice(_HALVES)
        return " ".join(words)
    donor = rng.choice(others).split() if others else []
    if len(words) > 1 and donor:
        place = rng.choice((0, -1)) if rng.random() < 0.8 else rng.randrange(len(words))
        words[place] = donor[place if abs(place) < len(donor) else 0]
    elif donor:
        extra = donor[-1] if len(donor) > 1 else rng.choice(("North", "Junior", "II", "House", "West", "Minor", "Plus"))
        words = [*words, extra] if rng.random() < 0.6 else [extra, *words]
    changed = " ".join(words)
    return changed if changed.lower() != name.lower() else f"{name} {rng.choice(('II', 'Minor', 'East', 'Senior'))}"
