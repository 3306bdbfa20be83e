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
# How often so many letters are mistyped, from one on.
_SLIPS = (5, 4, 1, 1, 1)
_WORD = re.compile(r"[A-Za-z]{4,}")


# Small changes that leave a question what it is: what is looked for, and what may stand in its place.
_LIGHT = tuple(
    (re.compile(pattern), others)
    for pattern, others in (
        (r"^What is\b", ("What's", "What exactly is", "What would be")),
        (r"^What's\b", ("What is", "What exactly is")),
        (r"^Who is\b", ("Who's", "Who exactly is", "Who would be")),
        (r"^Where is\b", ("Where's", "Where exactly is", "Where can I find")),
        (r"^When is\b", ("When's", "When exactly is")),
        (r"^How (much|many|long|far|old|big|high|often)\b", (r"Just how \1", r"Exactly how \1")),
        (r"^In which (\w+)\b", (r"In what \1",)),
        (r"^On which (\w+)\b", (r"On what \1",)),
        (r"^Which (\w+)\b", (r"What \1",)),
        (r"^What (\w+) (is|was|does|do|did)\b", (r"Which \1 \2",)),
        (r"^(?:What|Which) is (the [^?]+)\?$", (r"\1 is",)),
        (r"^What was (the [^?]+)\?$", (r"\1 was",)),
        (r"^(?:The|the) ([^?.]+) (is|was)$", (r"What \2 the \1?", r"So the \1 \2", r"the \1 \2:")),
        (r"\bdo I\b", ("should I", "can I", "do we", "must I")),
        (r"\bshould I\b", ("do I", "must I")),
        (r"\bcan I\b", ("may I", "could I", "can we")),
        (r"\bmay I\b", ("can I",)),
        (r"\bcalled\b", ("named",)),
        (r"\bnamed\b(?! after)", ("called",)),
        (r"\bbegin\b", ("start",)),
        (r"\bstart\b", ("begin",)),
        (r"\bbig\b", ("large",)),
        (r"\bbuy\b", ("get", "purchase")),
        (r"\b(tele)?phone number\b", ("number to call", "telephone number", "phone no.")),
        (r"\be-?mail address\b", ("e-mail", "mail address", "email address")),
        (r"\bdoes (.+) have (?:its|their) ([^?]+)\?$", (r"is the \2 of \1?",)),
        (r"^(Where|In which \w+) is the ([^?]+) of ([^?]+)\?$", (r"\1 does \3 have its \2?",)),
        (r"^How much is ([^?]+)\?$", (r"What does \1 cost?", r"What is the price of \1?")),
        (r"^What does ([^?]+) cost\?$", (r"How much is \1?", r"How much does \1 cost?")),
        (r"^When does\b", ("At what time does", "What time does", "When exactly does")),
        (r"^Who (painted|directed|founded|designed|built|composed|invented) ([^?]+)\?$", (r"By whom was \2 \1?",)),
        (r"^Who (wrote|made|runs|owns|leads|heads|plays|teaches)\b", (r"Who is it that \1", r"Which person \1")),
        (r"\bchief executive\b", ("CEO",)),
        (r"\bCEO\b", ("chief executive", "chief executive officer")),
        (r"\bin charge of\b", ("responsible for",)),
        (r"\bresponsible for\b", ("in charge of",)),
        (r"\?$", (", please?", "? Please.", "??", " ?")),
        (r"^(?=[A-Z][a-z]+ [^?]*\?$)", ("So: ", "Okay. ", "Well then: ", "Tell me: ")),
    )
)


def lightly(text: str, rng: random.Random) -> str:
    """Return the text with a small change or two that leave it what it is; as it was where none fits."""
    for _ in range(rng.choice((1, 1, 2))):
        fitting = [(pattern, others) for pattern, others in _LIGHT if pattern.search(text)]
        if fitting:
            pattern, others = rng.choice(fitting)
            text = pattern.sub(rng.choice(others), text, count=1)
            text = text[:1].upper() + text[1:]
    return text


def spoken(text: str, rng: random.Random, *, strength: float = 1.0) -> str:
    """Return the text as somebody might type it; often it stays as it is.

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
    """Return the text with one letter to five left out, doubled, exchanged or wrong."""
    for _ in range(rng.choices(range(1, len(_SLIPS) + 1), _SLIPS)[0]):
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
    """Return a name that looks like this one: another number, a word of one of ``others``, or half a word.

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
