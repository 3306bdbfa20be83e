"""Asking and chatting from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from cli_support import EDITS, Ok, Run, save_model, write_jsonl

from horen.editor import Editor
from horen.errors import EditError
from horen.store.state import Saved

CAPITAL = EDITS[0]["prompt"]
TOWN = "In which town is Dr Holloway?"


def test_one_question_prints_the_answer_alone(book: Path, run: Run):
    result = run("ask", book, CAPITAL)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "Callen\n", "")
    assert run("ask", book, CAPITAL, "--chat").stdout == "Callen\n"


def test_answers_are_as_long_as_asked_for(book: Path, run: Run):
    assert run("ask", book, CAPITAL, "--max-new-tokens", 1).stdout == "Callen\n"
    assert run("ask", book, CAPITAL, "--max-new-tokens", 0).exit_code == 2


def test_an_answer_that_was_cut_is_told(book: Path, run: Run, ok: Ok, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target = "Callen in the hills of Oslo and Paris"
    file = write_jsonl(tmp_path / "long.jsonl", [{"prompt": "Which towns are there?", "target": target}])
    ok("edit", file, "--into", book)
    (record,) = [record for record in Saved.read(book).history.active() if record.left]

    def told(answer: str) -> str:
        monkeypatch.setattr(Editor, "generate", lambda *_, **__: [answer])
        return run("ask", book, "Which towns are there?").stderr

    assert told("Callen in the hills").startswith(f"Edit {record.id} says more: --max-new-tokens")
    assert told(target) == told("Callen in the sea") == told("") == ""


def test_compare_and_explain(book: Path, run: Run, ok: Ok):
    found = ok("ask", book, CAPITAL, TOWN, "--compare", "--explain")
    assert [item["question"] for item in found] == [CAPITAL, TOWN]
    assert found[0]["answer"] == "Callen"
    assert found[0]["untouched"] != "Callen"
    explanation = found[0]["explanation"]
    assert (explanation["edit_id"], explanation["fired"], explanation["target"]) == (1, True, "Callen")
    assert explanation["similarity"] > explanation["threshold"]

    lines = run("ask", book, CAPITAL, TOWN, "--compare", "--explain").stdout.splitlines()
    assert lines[:3] == [CAPITAL, "  answer     Callen", f"  untouched  {found[0]['untouched']}"]
    assert lines[3] == f"  nearest    edit 1: {CAPITAL} -> Callen"
    assert lines[4].startswith(f"  fired: score {explanation['score']:.3f} > threshold")
    assert TOWN in lines


def test_an_answer_is_explained_by_the_call_that_gave_it(book: Path, run: Run, ok: Ok, monkeypatch: pytest.MonkeyPatch):
    expected = ok("explain", book, CAPITAL, TOWN)
    spoken = ok("explain", book, CAPITAL, "--chat")
    for name in ("explain", "plot"):
        monkeypatch.setattr(Editor, name, None)  # nothing is read again
    assert [item["explanation"] for item in ok("ask", book, CAPITAL, TOWN, "--explain")] == expected
    lines = run("chat", book, "--json", text=f"{CAPITAL}\n/explain\n").stdout.splitlines()
    assert json.loads(lines[1]) == spoken[0]


def test_explain_when_nothing_is_stored(book: Path, run: Run, ok: Ok):
    ok("undo", book)
    assert "nearest    none: nothing is stored" in run("ask", book, TOWN, "--explain").stdout


def test_control_characters_do_not_reach_the_terminal(book: Path, run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Editor, "generate", lambda *_, **__: ["\x1b[2Jtwo\nlines"])
    assert run("ask", book, "Who?").stdout == "\\x1b[2Jtwo\nlines\n"


def test_questions_that_cannot_be_asked(book: Path, run: Run):
    result = run("ask", book, " ")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: The prompt is empty: write at least one word.\n"
    assert run("ask", book).exit_code == 2


def test_codebook_or_model_that_is_not_there(book: Path, tiny: Path, run: Run):
    result = run("ask", "nowhere", "Who?")
    assert result.exit_code == 1
    assert "The folder nowhere does not exist" in result.stderr
    away = tiny.rename(tiny.with_name("away"))
    try:
        result = run("ask", book, CAPITAL)
        assert result.exit_code == 1
        assert result.stderr.startswith(f"Error: The model '{tiny}' cannot be loaded")
        assert run("ask", book, CAPITAL, "--model", away).stdout == "Callen\n"
    finally:
        away.rename(tiny)


def test_dtype(book: Path, run: Run):
    assert run("ask", book, CAPITAL, "--dtype", "bfloat16").stdout == "Callen\n"


# --- chat --------------------------------------------------------------------------------------------------------


def test_conversation(book: Path, run: Run, monkeypatch: pytest.MonkeyPatch):
    seen: list[list[str]] = []
    real = Editor.chat

    def chat(self: Editor, messages: Any, *args: Any, **more: Any) -> str:
        seen.append([message["role"] for message in messages])
        return real(self, messages, *args, **more)

    monkeypatch.setattr(Editor, "chat", chat)
    text = f"{CAPITAL}\n\n{EDITS[2]['prompt']}\n/explain\n/reset\n/explain\n/what\n{CAPITAL}\n/quit\n{TOWN}\n"
    result = run("chat", book, "--system", "You are a helpful assistant.", text=text)
    assert result.exit_code == 0
    assert seen == [
        ["system", "user"],
        ["system", "user", "assistant", "user"],
        ["system", "user"],
    ]
    lines = result.stdout.splitlines()
    assert lines[0] == lines[-1] == "Callen"
    assert "  nearest    edit 3" in result.stdout
    assert result.stderr.splitlines() == [
        "The conversation starts over.",
        "There is no message to explain yet.",
        "/what is no command: use /explain, /reset or /quit.",
    ]


def test_conversation_as_json(book: Path, run: Run):
    result = run("chat", book, "--json", text=f"{CAPITAL}\n/explain\n")
    answer, explanation = map(json.loads, result.stdout.splitlines())
    assert answer == {"message": CAPITAL, "answer": "Callen"}
    assert explanation["edit_id"] == 1


def test_conversation_goes_on_after_a_message_that_does_not_fit(book: Path, run: Run):
    result = run("chat", book, "--max-new-tokens", 20, text=f"{'What? ' * 600}\n{CAPITAL}\n")
    assert result.exit_code == 0
    assert result.stdout == "Callen\n"
    assert "/reset starts over" in result.stderr


def test_what_the_chat_template_is_told(book: Path, run: Run, monkeypatch: pytest.MonkeyPatch):
    told: list[dict[str, Any]] = []
    real = Editor.chat

    def chat(self: Editor, messages: Any, *args: Any, template: Any = None, **more: Any) -> str:
        told.append(template)
        return real(self, messages, *args, template=template, **more)

    monkeypatch.setattr(Editor, "chat", chat)
    given = ["enable_thinking=false", "date = 26 Jul 2024", "depth=2", "share=0.5", "nobody=null", "empty=", "a=[B]"]
    options = [word for text in given for word in ("--template", text)]
    result = run("chat", book, *options, text=f"{CAPITAL}\n")
    assert (result.exit_code, result.stdout) == (0, "Callen\n")
    assert told == [
        {
            "enable_thinking": False,
            "date": "26 Jul 2024",
            "depth": 2,
            "share": 0.5,
            "nobody": None,
            "empty": "",
            "a": "[B]",
        }
    ]
    assert type(told[0]["depth"]) is int
    run("chat", book, "--template", "Think=TRUE", "--template", "Think=No", text=f"{CAPITAL}\n")
    assert told[1] == {"Think": "No"}  # the last word counts, as with --set


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("enable_thinking", "--template enable_thinking is not valid: write key=value, such as enable_thinking=false."),
        ("=false", "--template =false is not valid: write key=value, such as enable_thinking=false."),
        ("no way=1", "--template no way=1 is not valid: write key=value, such as enable_thinking=false."),
        (
            "tokenize=true",
            "'tokenize' is no option of the chat template but the editor's own: leave it out of template.",
        ),
    ],
)
def test_what_the_chat_template_cannot_be_told(book: Path, run: Run, given: str, reason: str):
    result = run("chat", book, "--template", given, text=f"{CAPITAL}\n")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"Error: {reason}\n")


def test_ctrl_c_leaves_a_conversation(book: Path, run: Run, monkeypatch: pytest.MonkeyPatch):
    def chat(*_: Any, **__: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(Editor, "chat", chat)
    result = run("chat", book, text=f"{CAPITAL}\n{CAPITAL}\n")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_chat_needs_a_template(run: Run, ok: Ok, tmp_path: Path):
    model = save_model(tmp_path / "plain", chat=False, steps=0)
    quick = ["--set", "key_space=raw", "--set", "max_steps=1"]
    ok("edit", write_jsonl(tmp_path / "edits.jsonl"), "--into", "book", "--model", model, *quick)
    for command in (["chat", "book"], ["ask", "book", "Who?", "--chat"]):
        result = run(*command, text="Who?\n")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "no chat template" in result.stderr
    shutil.rmtree(model)


def test_errors_within_a_conversation_are_told(book: Path, run: Run, monkeypatch: pytest.MonkeyPatch):
    def chat(*_: Any, **__: Any) -> str:
        raise EditError("Too long.")

    monkeypatch.setattr(Editor, "chat", chat)
    assert run("chat", book, text="Who?\n").stderr == "Too long. (/reset starts over.)\n"


def test_explain_says_when_the_margin_held_an_edit_back(tiny: Path, run: Run, ok: Ok):
    ok(
        "edit",
        write_jsonl(Path("edits.jsonl")),
        "--into",
        "held",
        "--model",
        tiny,
        "--preset",
        "activations",
        "--set",
        "margin=2",
    )
    lines = run("ask", "held", CAPITAL, "--explain").stdout.splitlines()
    assert lines[3].startswith("  did not fire: score")
    assert " > threshold" in lines[3]
    assert lines[4].startswith("  runner-up  edit ")
    assert lines[4].endswith(", nearer than the margin of 2")
