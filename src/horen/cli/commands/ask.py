"""Commands that ask the edited model: ask and chat."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from horen.cli.commands.explain import show_decision
from horen.cli.options import (
    AnyPlace,
    AsJson,
    AtVersion,
    Device,
    Dtype,
    EncoderPlace,
    ModelPlace,
    Recalls,
    TemplateOptions,
    TokenBudget,
    WeightType,
    parse_template,
)
from horen.cli.stores.opening import open_place
from horen.cli.terminal import clean, emit, say, show, status
from horen.edits import Explanation, same_text
from horen.errors import EditError, ModelError

if TYPE_CHECKING:
    from horen.editor import Editor


def ask(
    place: AnyPlace,
    questions: Annotated[list[str], typer.Argument(metavar="QUESTION", help="What to ask.", show_default=False)],
    chat: Annotated[bool, typer.Option("--chat", help="Ask as a user of a chat.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say which edit is nearest, and whether it fired.")
    ] = False,
    compare: Annotated[bool, typer.Option("--compare", help="Show the untouched model's answer too.")] = False,
    version: AtVersion = None,
    recall: Recalls = None,
    max_new_tokens: TokenBudget = 24,
    model: ModelPlace = None,
    encoder: EncoderPlace = None,
    dtype: WeightType = Dtype.auto,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Ask the edited model.

    \b
    Examples:
      horen ask facts "What is the capital of Ostrenia?"
      horen ask facts --compare --explain "Who runs Larkspur Cloud?"
      horen ask facts --recall related "Is Larkspur Cloud run by a woman?"
      horen ask facts.db --version v1 "What is the capital of Ostrenia?"
    """
    editor = open_place(place, model, dtype.value, device, encoder=encoder, version=version)
    with status("Answering …"):
        answers, routes = _answered(editor, questions, max_new_tokens, chat=chat, recall=recall, explain=explain)
        untouched: list[str] | None = None
        if compare:
            with editor.disabled():
                untouched = editor.generate(questions, max_new_tokens, chat=chat)
    if as_json:
        found: list[dict[str, Any]] = []
        for i, question in enumerate(questions):
            item: dict[str, Any] = {"question": question, "answer": answers[i]}
            if untouched is not None:
                item["untouched"] = untouched[i]
            if routes is not None:
                item["explanation"] = dataclasses.asdict(routes[i])
            found.append(item)
        emit(found)
        return
    if len(questions) == 1 and not compare and not explain:
        show(clean(answers[0], lines=True))
        _say_what_is_cut(editor, answers)
        return
    for i, question in enumerate(questions):
        if i:
            show("")
        show(clean(question), style="bold")
        show(f"  answer     {_indented(answers[i])}")
        if untouched is not None:
            show(f"  untouched  {_indented(untouched[i])}")
        if routes is not None:
            show_decision(routes[i], editor.config)
    _say_what_is_cut(editor, answers)


def _answered(
    editor: Editor, questions: list[str], max_new_tokens: int, *, chat: bool, recall: str | None, explain: bool
) -> tuple[list[str], list[Explanation] | None]:
    """Return answers to questions and, to ``explain`` them, the routes that gave them."""
    if not explain:
        return editor.generate(questions, max_new_tokens, chat=chat, recall=recall), None
    found = editor.generate(questions, max_new_tokens, chat=chat, recall=recall, return_routes=True)
    return [one.text for one in found], [one.route for one in found]


def _say_what_is_cut(editor: Editor, answers: list[str]) -> None:
    """Say which answers are the beginning of what an edit says, and how many tokens all of it takes."""
    long = [(record, same_text(record.target)) for record in editor.edits() if record.left]
    for answer in dict.fromkeys(same_text(answer) for answer in answers):
        cut = next((record for record, text in long if answer and text != answer and text.startswith(answer)), None)
        if cut is not None:
            tokens = len(editor.tokenizer(cut.target)["input_ids"]) + 1
            say(f"Edit {cut.id} says more: --max-new-tokens {tokens} shows all of it.")


def chat(
    place: AnyPlace,
    system: Annotated[
        str | None, typer.Option("--system", metavar="TEXT", help="System message to begin with.")
    ] = None,
    template: TemplateOptions = None,
    recall: Recalls = None,
    max_new_tokens: TokenBudget = 256,
    model: ModelPlace = None,
    encoder: EncoderPlace = None,
    dtype: WeightType = Dtype.auto,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Talk with the edited model.

    The model sees the whole conversation. In it, /explain says what the last message woke, /reset starts over, and
    /quit (or Ctrl-D) leaves. Messages may also come from a pipe, one a line. With --json every answer is one JSON
    document on a line of its own.

    \b
    Examples:
      horen chat facts --system "Answer in one sentence."
      horen chat facts --template enable_thinking=false
    """
    from horen.asking.generate import template_of  # noqa: PLC0415

    told = template_of(None, parse_template(template))
    editor = open_place(place, model, dtype.value, device, encoder=encoder)
    if not editor.tokenizer.chat_template:
        raise ModelError("This model's tokenizer has no chat template, so it cannot chat: use horen ask.")
    if sys.stdin.isatty():
        say("Type a message; /explain, /reset and /quit are commands.")
    options = {"max_new_tokens": max_new_tokens, "recall": recall, "template": told}
    conversation = _Conversation(editor, system, options, as_json)
    # Ctrl-C is a way to leave, also while the model answers.
    with suppress(KeyboardInterrupt):
        for line in _lines():
            if line in {"/quit", "/exit"}:
                break
            conversation.take(line)


class _Conversation:
    def __init__(self, editor: Editor, system: str | None, options: dict[str, Any], as_json: bool) -> None:
        self._editor, self._options, self._as_json = editor, options, as_json
        self._start = [{"role": "system", "content": system}] if system else []
        self._messages = list(self._start)
        self._last: Explanation | None = None

    def take(self, line: str) -> None:
        """Answer a message or carry out a command."""
        if line == "/reset":
            self._messages, self._last = list(self._start), None
            say("The conversation starts over.")
        elif line == "/explain":
            if self._last is None:
                say("There is no message to explain yet.")
            else:
                self._explain(self._last)
        elif line.startswith("/"):
            say(f"{line.split(maxsplit=1)[0]} is no command: use /explain, /reset or /quit.")
        elif line:
            self._answer(line)

    def _answer(self, message: str) -> None:
        asked = [*self._messages, {"role": "user", "content": message}]
        try:
            with status("…"):
                answer = self._editor.chat(asked, **self._options, return_routes=True)
        except EditError as error:  # the conversation has outgrown the model's context
            say(f"{error} (/reset starts over.)")
            return
        self._messages = [*asked, {"role": "assistant", "content": answer.text}]
        self._last = answer.route
        if self._as_json:
            emit({"message": message, "answer": answer.text}, indent=None)
        else:
            show(clean(answer.text, lines=True))

    def _explain(self, explanation: Explanation) -> None:
        if self._as_json:
            emit(dataclasses.asdict(explanation), indent=None)
        else:
            show_decision(explanation, self._editor.config)


def _lines() -> Iterator[str]:
    """Yield the user's lines, without outer white space."""
    if not sys.stdin.isatty():
        for line in sys.stdin:
            yield line.strip()
        return
    with suppress(ImportError):
        import readline  # noqa: F401, PLC0415 - its import lets input() edit lines and remember them
    while True:
        try:
            line = input("> ")
        except (EOFError, KeyboardInterrupt):
            say("")
            return
        yield line.strip()


def _indented(answer: str) -> str:
    return clean(answer, lines=True).replace("\n", "\n" + 13 * " ")
