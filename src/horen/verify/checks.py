"""The checks of a wrapped model, each by itself: what it returns says what was found, what it raises why not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor
from transformers import TextIteratorStreamer

from horen.data import load_bank
from horen.model.contexts import greedy
from horen.model.devices import device_of
from horen.model.fingerprint import difference, fingerprint
from horen.model.past import past_argument, past_of
from horen.verify.asking import (
    BATCH,
    FailedError,
    SkippedError,
    Subject,
    hooks_on,
    identical,
    interleaved,
    next_of,
    right,
    told,
    whole_logits,
)

# Of what takes longest fewer prompts are asked: without a cache every token runs all of them anew.
_SOME, _FEW = 4, 2


def fires(subject: Subject) -> str:
    """Check that every edit's prompt wakes that edit."""
    return _fires(subject, chat=False)


def answers(subject: Subject) -> str:
    """Check that every edit's prompt is answered by its target."""
    subject.need_edits()
    return _right(subject, subject.answers_alone())


def disabled(subject: Subject) -> str:
    """Check that with edits disabled the wrapped model is the untouched one, bit for bit."""
    editor, expected = subject.editor, subject.untouched.prompts
    with editor.disabled():
        found = next_of(editor.model, editor.tokenizer, list(expected))
    return identical(found, expected, list(expected))


def unrelated(subject: Subject) -> str:
    """Check that prompts that wake nothing are answered as by the untouched model, bit for bit."""
    editor, silent = subject.editor, subject.waking_nothing()
    found = {text: whole_logits(editor.model, editor.tokenizer, text) for text in silent}
    woken = len(subject.unrelated) - len(silent)
    said = identical(found, subject.untouched.whole, silent)
    return f"{said}; {woken} of {len(subject.unrelated)} woke an edit" if woken else said


def batches(subject: Subject) -> str:
    """Check that in a batch padded on the left prompts of edits and others do not disturb one another."""
    subject.need_edits()
    editor, silent = subject.editor, subject.waking_nothing()
    texts = interleaved(subject.prompts, subject.unrelated)
    found = next_of(editor.model, editor.tokenizer, texts, BATCH)
    identical(found, subject.untouched.mixed, silent)
    return subject.compare(subject.prompts, silent[:_SOME])


def no_cache(subject: Subject) -> str:
    """Check that without a cache the answers are the same."""
    subject.need_edits()
    return subject.compare(subject.prompts[:_FEW], subject.waking_nothing()[:_FEW], use_cache=False)


def kept_cache(subject: Subject) -> str:
    """Check that a kept cache changes nothing: edits answer as to the whole text, and the rest stays untouched."""
    subject.need_edits()
    editor = subject.editor
    edits = list(subject.edits.values())[:_FEW]
    kept = [_going_on(subject, edit.prompt, kept=True) for edit in edits]
    whole = [_going_on(subject, edit.prompt, kept=False) for edit in edits]
    silent = subject.waking_nothing(chat=editor._session.contexts.has_chat)[:_FEW]
    found = [_going_on(subject, text, kept=True) for text in silent]
    with editor.disabled():
        base = [_going_on(subject, text, kept=True) for text in silent]
    apart, changed = (sum(a != b for a, b in zip(*pair, strict=True)) for pair in ((kept, whole), (found, base)))
    if apart or changed:
        raise FailedError(
            f"{apart} of {len(edits)} edits are answered otherwise than in the whole text, {changed} of {len(silent)} "
            "unrelated prompts otherwise than by the untouched model"
        )
    return f"{len(edits)} edits as in the whole text, {len(silent)} unrelated prompts as untouched"


def chat(subject: Subject) -> str:
    """Check that in chat edits answer and other messages are left as they are."""
    subject.need_edits()
    if not subject.editor._session.contexts.has_chat:
        raise SkippedError("the tokenizer has no chat template that takes a message of the user")
    found = _right(subject, subject.ask(subject.prompts, chat=True))
    silent = subject.waking_nothing(chat=True)[:_SOME]
    now = subject.ask(silent, chat=True)
    with subject.editor.disabled():
        changed = sum(a != b for a, b in zip(now, subject.ask(silent, chat=True), strict=True))
    if changed:
        raise FailedError(f"{changed} of {len(silent)} unrelated messages are answered otherwise")
    return f"{found}, {len(silent)} unrelated messages as untouched"


def streaming(subject: Subject) -> str:
    """Check that an answer is the same when it is streamed from another thread."""
    subject.need_edits()
    texts, editor = subject.prompts[:2], subject.editor
    apart = 0
    for text, expected in zip(texts, subject.answers_alone(), strict=False):
        streamer: Any = TextIteratorStreamer(editor.tokenizer, skip_prompt=True, skip_special_tokens=True)
        with ThreadPoolExecutor(1) as other:
            # Read when it is done: a call that fails would never end its stream.
            other.submit(subject.ask, [text], streamer=streamer).result()
        apart += "".join(streamer).strip() != expected
    if apart:
        raise FailedError(f"{apart} of {len(texts)} streamed answers differ")
    return f"{len(texts)} streamed answers as at once"


def undo(subject: Subject) -> str:
    """Check that a further edit changes its prompt's logits, and that undoing it brings all back, bit for bit."""
    editor = subject.editor
    texts = list(subject.untouched.prompts)

    def now() -> dict[str, Tensor]:
        return next_of(editor.model, editor.tokenizer, texts)

    before = now()
    editor.edit(subject.extra, "supersede", on_similar="ignore")
    changed = not torch.equal(now()[subject.extra.prompt], before[subject.extra.prompt])
    editor.undo()
    said = identical(now(), before, texts)
    if not changed:
        raise FailedError("a further edit changed nothing at its own prompt")
    if not subject.whole:
        return said
    while editor.edits():
        editor.undo()
    return f"{identical(now(), subject.untouched.prompts, texts)}, also with every edit taken back"


def unwrapped(subject: Subject, made_for: dict[str, Any]) -> str:
    """Check that the unwrapped model is what it was: no hook, the same weights, the same logits.

    Args:
        subject: is unwrapped.
        made_for: the fingerprint of the model before it was wrapped.
    """
    model = subject.editor.unwrap()
    left = hooks_on(model) - subject.untouched.hooks
    if left:
        raise FailedError(f"{left} hooks are left on the model")
    changed = difference(made_for, fingerprint(model))
    if changed:
        raise FailedError(changed)
    expected = subject.untouched.prompts
    found = next_of(model, subject.editor.tokenizer, list(expected))
    return f"no hook is left, the weights are the same, {identical(found, expected, list(expected))}"


def _fires(subject: Subject, *, chat: bool) -> str:
    subject.need_edits()
    found = subject.editor.explain(subject.prompts, chat=chat, nearest=0, recall="off")
    missed = [
        number
        for (number, edit), seen in zip(subject.edits.items(), found, strict=True)
        # Another edit with the same target serves as well.
        if not (seen.fired and (seen.edit_id == number or seen.target == edit.target))
    ]
    if missed:
        raise FailedError(f"{told(missed, len(found))} not woken by their own prompts: horen doctor says why")
    scores = [seen.score for seen in found if seen.score is not None]
    return f"{len(found)} of {len(found)} edits, scores from {min(scores):.2f} ({found[0].threshold:g} needed)"


def _right(subject: Subject, found: Sequence[str]) -> str:
    edits, contexts = subject.edits, subject.editor._session.contexts
    wrong = []
    for (number, edit), answer in zip(edits.items(), found, strict=True):
        cut = len(contexts.plain(edit.target)) >= subject.budget
        if not right(answer, edit.target, cut=cut):
            wrong.append(number)
    if wrong:
        raise FailedError(f"{told(wrong, len(edits))} not answered by their targets: horen doctor says which are weak")
    return f"{len(edits)} of {len(edits)} edits"


def _going_on(subject: Subject, text: str, *, kept: bool) -> list[int]:
    """Token ids of the answer to a text that follows others, whose cache is kept or made anew."""
    editor = subject.editor
    row, before = _following(subject, text)
    model: Any = editor.model
    ids = torch.tensor([row], device=device_of(editor.model))
    options = greedy(editor._session.contexts.ends, editor.tokenizer, subject.budget)
    options |= {"attention_mask": torch.ones_like(ids)}
    with torch.inference_mode():
        if kept:
            cache = past_of(model(input_ids=ids[:, :before], use_cache=True))
            if cache is None:
                raise SkippedError("the model gives no cache")
            options[past_argument(model)] = cache
        found: list[int] = model.generate(ids, **options)[0, len(row) :].tolist()
    return found


def _following(subject: Subject, text: str) -> tuple[list[int], int]:
    """All token ids of a text after earlier turns (in plain text a paragraph), and how many of them those are."""
    editor, contexts = subject.editor, subject.editor._session.contexts
    if not contexts.has_chat:
        paragraph = load_bank().paragraphs[0]
        first, row = contexts.plain(paragraph), contexts.plain(f"{paragraph}\n\n{text}")
    else:
        turns = [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Hello! How can I help you?"}]
        row = contexts.chat([*turns, {"role": "user", "content": text}])
        rendered: Any = editor.tokenizer.apply_chat_template(turns, return_dict=True)
        first = list(rendered["input_ids"])
    before = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, row, strict=False)))
    if not before:
        raise SkippedError("the tokens of a text that goes on are others from the first one on")
    return row, before


#: In the order in which they run; what is written here and there is taken back by the last ones.
CHECKS: dict[str, Callable[[Subject], str]] = {
    "fires": fires,
    "answers": answers,
    "disabled": disabled,
    "unrelated": unrelated,
    "batches": batches,
    "no-cache": no_cache,
    "kept-cache": kept_cache,
    "chat": chat,
    "streaming": streaming,
    "undo": undo,
}

#: What holds where a check passes; also of those that need more than the model and its editor.
TITLES = {
    "stored": "edits are written and stay in the codebook",
    "fires": "every edit's prompt wakes that edit",
    "answers": "every edit's prompt is answered by its target",
    "disabled": "with edits disabled the model is the untouched one, bit for bit",
    "unrelated": "what wakes nothing is answered by the untouched model, bit for bit",
    "batches": "in padded batches edits and other prompts do not disturb one another",
    "no-cache": "without a cache the answers are the same",
    "kept-cache": "on a kept cache the answers are the same",
    "chat": "in chat edits answer, and other messages are left as they are",
    "streaming": "a streamed answer is the same",
    "undo": "undo restores every logit, bit for bit",
    "unwrap": "unwrapped, the model has no hook left and its weights and logits",
    "process": "another process loads the codebook and finds the same, bit for bit",
}
