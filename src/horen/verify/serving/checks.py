"""The checks of a codebook that an engine serves: what each returns says what was found, what it raises why not.

Bit for bit can be compared what an engine computes in batches of the same shape: rows of a batch do not read one
another. Between shapes (alone and in a batch, from a cold cache and from a warm one) vLLM itself may round otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from horen.edits import Edit
from horen.store.state import remove_from_folder, undo_in_folder
from horen.verify.asking import FailedError, SkippedError, right, told
from horen.verify.serving.costs import cost
from horen.verify.serving.engine import Engine, Request, Said
from horen.verify.serving.reference import Reference

# Tokens that are compared where answers do not end by themselves.
_TOKENS = 8
_RUNNING = 64
# An engine looks at the codebook's folder ten times a second at most.
_SECONDS = 1.0


@dataclass
class Served:
    """A codebook in an engine.

    Attributes:
        engine: that serves it.
        reference: what transformers says.
        folder: that is served, a copy which may be changed.
        plain: what was said to the edits' prompts, by the edits' ids; asked once.
        unedited: what was asked one by one that no edit may answer, and what was said.
        mixed: the same of a batch in which edits answer some; what was said to them is left out.
    """

    engine: Engine
    reference: Reference
    folder: Path
    plain: dict[int, Said] = field(default_factory=dict)
    unedited: list[tuple[Request, Said]] = field(default_factory=list)
    mixed: list[tuple[Request, Said | None]] = field(default_factory=list)

    @property
    def edits(self) -> Mapping[int, Edit]:
        """The edits that are asked for, by id."""
        return self.reference.edits

    def need_edits(self) -> None:
        """Raise SkippedError where nothing is stored."""
        if not self.edits:
            raise SkippedError("no edit is stored")

    def asked(self, *, chat: bool = False) -> dict[int, Said]:
        """Return what is said to the edits' prompts, each asked alone."""
        requests = [Request(edit.prompt, self.reference.budget, chat=chat) for edit in self.edits.values()]
        return dict(zip(self.edits, self.engine.alone(requests), strict=True))

    def plain_asked(self) -> dict[int, Said]:
        """Return what is said to the edits' prompts as plain texts."""
        self.plain = self.plain or self.asked()
        return self.plain

    def silent(self) -> list[str]:
        """Return unrelated prompts that wake nothing.

        Raises:
            FailedError: when none does.
        """
        found = [text for text, edit in self.reference.unrelated.items() if edit is None]
        if not found:
            raise FailedError(
                "all unrelated prompts wake an edit, so nothing is left as it was: horen verify says more"
            )
        return found


def fires(served: Served) -> str:
    """Check that the edits' prompts wake their edits, and that every prompt wakes what it wakes in transformers."""
    served.need_edits()
    found, reference = served.plain_asked(), served.reference
    _same_routes(found, reference.plain)
    asked = served.engine.alone([Request(text, 1) for text in reference.unrelated])
    wrong = sum(said.edit != edit for said, edit in zip(asked, reference.unrelated.values(), strict=True))
    if wrong:
        raise FailedError(f"{wrong} of {len(asked)} unrelated prompts wake another edit than in transformers, or none")
    return f"{len(found)} of {len(found)} edits, {len(asked)} unrelated prompts, as in transformers"


def answers(served: Served) -> str:
    """Check that edits answer with their targets or, where they are weak, as in transformers."""
    served.need_edits()
    return _answered(served, served.plain_asked(), served.reference.plain)


def chat(served: Served) -> str:
    """Check the same through the chat template."""
    served.need_edits()
    expected = served.reference.chat
    if expected is None:
        raise SkippedError("the tokenizer has no chat template that takes a message of the user")
    found = served.asked(chat=True)
    _same_routes(found, expected)
    return _answered(served, found, expected)


def batch(served: Served) -> str:
    """Check that in a batch no request feels another's edit, bit for bit, and that edits answer as alone."""
    served.need_edits()
    silent = [Request(text, _TOKENS, through=True) for text in served.silent()]
    edited = [Request(edit.prompt, _TOKENS, through=True) for edit in served.edits.values()]
    some_off = [Request(one.prompt, _TOKENS, off=number % 2 == 1, through=True) for number, one in enumerate(edited)]
    alone = served.engine.alone([*edited, *silent])
    every, some = (served.engine.together([*these, *silent]) for these in (edited, some_off))
    served.mixed = [
        (request, None if said.edit is not None else said)
        for request, said in zip([*some_off, *silent], some, strict=True)
    ]
    count = len(edited)
    disturbed = sum(
        not one.same(other) or one.edit != other.edit
        for request, one, other in zip([*some_off, *silent], every, some, strict=True)
        if not request.off
    )
    if disturbed:
        raise FailedError(f"{disturbed} requests are answered otherwise where edits of others are switched off")
    other = [n for n, one, two in zip(served.edits, every, alone, strict=False) if one.edit != two.edit]
    on = [said.edit for request, said in zip(some_off, some, strict=False) if request.off and said.edit is not None]
    if other or on:
        raise FailedError(
            f"{told(other, count)} wake another edit than alone, {len(on)} answer though they are switched off"
        )
    apart = [n for n, one, two in zip(served.edits, every, alone, strict=False) if one.tokens != two.tokens]
    rounded = sum(not one.same(two) for one, two in zip(every[count:], alone[count:], strict=True))
    if apart and not rounded:
        raise FailedError(f"{told(apart, count)} are answered otherwise than alone")
    said = f"{count} edits and {len(silent)} unrelated prompts, bit for bit whatever edits of others do"
    if rounded:
        return f"{said}; {count - len(apart)} edits with the tokens they have alone (a batch rounds otherwise here)"
    return f"{said}; {count} edits with the tokens they have alone"


def change(served: Served) -> str:
    """Check that an edit that is removed while another request runs is gone for the next one, and then comes back."""
    served.need_edits()
    found, engine = served.plain_asked(), served.engine
    own = [number for number, said in found.items() if said.edit == number]
    if not own:
        raise SkippedError("no edit is woken by its own prompt")
    # The longest target, since an edit writes again where a long answer goes on.
    number = max(own, key=lambda number: len(found[number].tokens))
    prompt, before = served.edits[number].prompt, found[number]
    request = Request(prompt, served.reference.budget)
    engine.hold(Request(prompt, _RUNNING, through=True))
    remove_from_folder(served.folder, [number])
    time.sleep(_SECONDS)
    held, after = engine.together([request], warm=True)
    off, (gone,) = engine.alone([Request(prompt, served.reference.budget, off=True)])[0], engine.alone([request])
    undo_in_folder(served.folder)
    time.sleep(_SECONDS)
    (back,) = engine.alone([request])
    length = len(before.tokens)
    faults = {
        "a removed edit still answers": number in (after.edit, gone.edit),
        "a removed edit leaves something": gone.edit is None and not gone.same(off),
        "a running request is told another edit": (held.edit, held.revision) != (number, before.revision),
        "a running request is answered otherwise": held.tokens[:length] != before.tokens,
        "an edit that is brought back does not answer as before": back.edit != number or not back.same(before),
    }
    if any(faults.values()):
        raise FailedError("; ".join(fault for fault, there in faults.items() if there))
    return "an edit is removed, a running request keeps it, the next one does not, undone it is back bit for bit"


def prefix(served: Served) -> str:
    """Check that a second turn reads no state that the edit of the first one changed."""
    served.need_edits()
    engine, block = served.engine, int(served.engine.facts["block"])
    first = _first_turn(served, block)
    row = [*first.prompt, *first.tokens, *served.reference.going_on]
    following = Request(row, _TOKENS, through=True)
    (warm,) = engine.alone([following], warm=True)
    if not warm.cached:
        raise SkippedError("nothing of the first turn is in the prefix cache")
    (cold,) = engine.alone([following])
    # The same tokens without an edit leave a cache of the same length, so that all is computed in the same shapes.
    engine.alone([Request([*row[: warm.cached], row[0]], 1, off=True)])
    (clean,) = engine.alone([following], warm=True)
    if clean.cached != warm.cached:
        raise SkippedError(f"{warm.cached} tokens are cached behind an edit and {clean.cached} without one")
    if not warm.same(clean) or not warm.edit == clean.edit == cold.edit:
        raise FailedError(
            "a second turn is answered otherwise from a cache that an edit was written into: log-probabilities differ "
            f"by up to {warm.apart(clean):.2g}"
        )
    tokens = "the same" if cold.tokens == warm.tokens else "other"
    empty = "too" if warm.same(cold) else f"{tokens} tokens, log-probabilities within {warm.apart(cold):.2g}"
    return f"{warm.cached} tokens from the cache, bit for bit as from a clean one; from an empty one {empty}"


def off(served: Served) -> str:
    """Check that no edit answers a request that wants none; what unrelated prompts are answered is kept, too."""
    ways = (False,) if served.reference.chat is None else (False, True)
    asked = [(edit.prompt, chat, True) for chat in ways for edit in served.edits.values()]
    asked += [(text, chat, False) for chat in ways for text in served.reference.unrelated]
    requests = [Request(text, _TOKENS, chat=chat, off=off, through=True) for text, chat, off in asked]
    found = list(zip(requests, served.engine.alone(requests), strict=True))
    served.unedited = [(request, said) for request, said in found if said.edit is None]
    on = sum(request.off and said.edit is not None for request, said in found)
    if on:
        raise FailedError(f"{on} requests are answered by edits, though they are switched off")
    return f"{sum(request.off for request, _ in found)} requests for what edits answer else"


def stock(served: Served, other: Engine, *, exact: bool) -> str:
    """Check that another engine, without the plugin, says the same bit for bit where no edit answers.

    Args:
        served: what was asked and said.
        other: the engine without the plugin.
        exact: whether both compute in the same way, so that a difference is a fault.
    """
    alone = other.alone([request for request, _ in served.unedited])
    pairs = [(said, found) for (_, said), found in zip(served.unedited, alone, strict=True)]
    if served.mixed:
        found = other.together([request for request, _ in served.mixed])
        pairs += [(said, one) for (_, said), one in zip(served.mixed, found, strict=True) if said is not None]
    apart = [(said, found) for said, found in pairs if not said.same(found)]
    if apart:
        most = max(said.apart(found) for said, found in apart)
        tokens = sum(said.tokens != found.tokens for said, found in apart)
        differ = (
            f"{len(apart)} of {len(pairs)} requests are answered otherwise, {tokens} of them with other tokens; "
            f"log-probabilities differ by up to {most:.2g}"
        )
        if exact:
            raise FailedError(differ)
        raise SkippedError(f"{differ}: in half precision graphs that are compiled with the plugin round otherwise")
    off = sum(request.off for request, _ in served.unedited)
    return (
        f"{len(alone) - off} requests that wake nothing, {off} with edits off and {len(pairs) - len(alone)} in a batch "
        "with edited ones, tokens and log-probabilities to the last bit"
    )


def _same_routes(found: Mapping[int, Said], expected: Mapping[int, tuple[int | None, str]]) -> None:
    missed = [number for number, said in found.items() if said.edit is None and expected[number][0] is None]
    wrong = [number for number, said in found.items() if said.edit != expected[number][0]]
    if missed:
        raise FailedError(f"{told(missed, len(found))} not woken by their own prompts: horen doctor says why")
    if wrong:
        raise FailedError(f"{told(wrong, len(found))} wake another edit than in transformers, or none")


def _answered(served: Served, found: Mapping[int, Said], expected: Mapping[int, tuple[int | None, str]]) -> str:
    targets = [
        number
        for number, said in found.items()
        if right(said.text, served.edits[number].target, cut=number in served.reference.cut)
    ]
    wrong = [n for n, said in found.items() if n not in targets and said.text != expected[n][1].strip()]
    if wrong:
        raise FailedError(f"{told(wrong, len(found))} answered neither by their targets nor as in transformers")
    weak = f", {len(found) - len(targets)} otherwise but as in transformers" if len(targets) < len(found) else ""
    return f"{len(targets)} of {len(found)} edits{weak}"


def _first_turn(served: Served, block: int) -> Said:
    """Return what is said to the prompt of an edit behind so long a text that the answer fills the edit's own block."""
    opening = served.reference.opening(2 * block)
    room = served.reference.length - block - 3 * _TOKENS - len(served.reference.going_on)
    for edit in served.edits.values():
        text = f"{opening}\n{edit.prompt}"
        if len(served.reference.ids(text)) > room:
            raise SkippedError(f"two cached blocks, of {block} tokens each, are more than what is asked here")
        (said,) = served.engine.alone([Request(text, block + _TOKENS, through=True)])
        if said.edit is not None:
            return said
    raise SkippedError("no edit is woken behind a long text")


#: In the order in which they run, while the engine is there.
CHECKS: Mapping[str, Callable[[Served], str]] = {
    "fires": fires,
    "answers": answers,
    "chat": chat,
    "off": off,
    "batch": batch,
    "change": change,
    "prefix": prefix,
    "cost": lambda served: cost(served.engine, served.edits.values(), served.silent()),
}

#: What holds where a check passes; also of those that need more than the engine.
TITLES: Mapping[str, str] = {
    "starts": "an engine starts with the codebook, and its workers write",
    "fires": "every prompt wakes the edit that it wakes in transformers",
    "answers": "every edit's prompt is answered by its target, or as in transformers",
    "chat": "the same in chat",
    "off": "no edit answers a request that wants none",
    "batch": "in a mixed batch no request is changed by another's edit, bit for bit",
    "change": "a change of the folder is followed by the next request, not by a running one",
    "prefix": "a second turn reads no cached state that an edit changed",
    "cost": "what edits cost, measured and not judged",
    "stock": "where no edit answers the engine is one without the plugin, bit for bit",
}


def started(facts: Mapping[str, Any]) -> str:
    """Return in words what started.

    Raises:
        FailedError: where no worker writes.
    """
    sites: Sequence[str | None] = facts["sites"]
    writing = [site for site in sites if site is not None]
    if not writing:
        raise FailedError("no worker holds the module that values are written at")
    return f"vLLM {facts['vllm']}, {len(writing)} of {len(sites)} workers write at {writing[0]}"
