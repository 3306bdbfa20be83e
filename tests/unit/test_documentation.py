"""The pages name what there is: messages, commands with their options, files. That examples are true, others test."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

import horen
from horen.cli.app import app
from horen.errors import HorenError
from support.documented import blocks

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]
ERRORS = [name for name in horen.__all__ if isinstance(getattr(horen, name), type) and name.endswith("Error")]
_TOLD = (DOCS / "errors" / "index.md").read_text(encoding="utf-8")
SECTIONS = {part.partition("\n")[0]: part for part in re.split(r"^## ", _TOLD, flags=re.MULTILINE)}


# --- messages ----------------------------------------------------------------------------------------------------


@cache
def templates() -> dict[str, list[re.Pattern[str]]]:
    """For each exception the messages that the source gives it, with what is filled in left open."""
    found: dict[str, list[re.Pattern[str]]] = {name: [] for name in ERRORS}
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in found and node.args:
                literal, pattern = _pattern(node.args[0])
                if literal > 12:
                    found[node.func.id].append(re.compile(pattern, re.DOTALL))
    return found


def _pattern(message: ast.expr) -> tuple[int, str]:
    """How much of a message stands in the source, and an expression for all of it."""
    parts = message.values if isinstance(message, ast.JoinedStr) else [message]
    texts = [str(part.value) if isinstance(part, ast.Constant) else None for part in parts]
    return sum(len(text or "") for text in texts), "".join(".+" if text is None else re.escape(text) for text in texts)


def messages(name: str) -> Iterator[str]:
    for found in re.finditer(r"^```text\n(.*?)\n```$", SECTIONS[name], re.MULTILINE | re.DOTALL):
        yield found[1]


@pytest.mark.parametrize("name", ERRORS)
def test_every_exception_has_a_section_with_its_messages(name: str):
    shown = list(messages(name))
    assert shown
    if getattr(horen, name) is HorenError:
        return
    for message in shown:
        assert any(pattern.fullmatch(message) for pattern in templates()[name]), message


def test_every_section_is_of_an_exception():
    assert set(SECTIONS) - {next(iter(SECTIONS))} == set(ERRORS)


# --- commands ----------------------------------------------------------------------------------------------------


def commands() -> Iterator[Any]:
    """What a reader is told to type, as page and words."""
    for page in PAGES:
        for block in blocks(page):
            if block.language not in {"sh", "console", "bash"}:
                continue
            for line in block.body.replace("\\\n", " ").splitlines():
                text = re.sub(r"^\$ ", "", line)
                if block.language == "console" and text == line and "$ " in block.body:
                    continue  # what a command prints
                for part in re.split(r"[|;]", text):
                    if part.split()[:1] == ["horen"]:
                        words = shlex.split(part, comments=True)[1:]
                        yield pytest.param(words, id=f"{page.relative_to(ROOT)}: {part.strip()}")


@pytest.mark.parametrize("words", list(commands()))
def test_commands_and_options_exist(words: list[str]):
    command: Any = typer.main.get_command(app)
    context = command.make_context("horen", [], resilient_parsing=True)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands
        command, words = command.commands[words[0]], words[1:]
        context = command.make_context(command.name, [], parent=context, resilient_parsing=True)
    known = {option for parameter in command.get_params(context) for option in parameter.opts}
    assert {word.partition("=")[0] for word in words if word.startswith("-")} <= known


# --- files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    generated = {
        DOCS / "reference" / name for name in ("commands.md", "settings.md", "extras.md", "editor.md", "exceptions.md")
    }
    for target in re.findall(r'\]\(([^)#\s]+)|src="([^"]+)"', text):
        link = target[0] or target[1]
        if not re.match(r"\w+:", link):
            place = (page.parent / link).resolve()
            assert place.exists() or place in generated, link


def test_the_stops_of_a_prompt_are_files_of_the_package():
    told = (DOCS / "architecture.md").read_text(encoding="utf-8")
    files = set(re.findall(r"`([\w/]+\.py)`", told))
    drawn = set(re.findall(r"[\w/]+\.py", (DOCS / "architecture.svg").read_text(encoding="utf-8")))
    assert drawn <= files
    assert not [file for file in sorted(files) if not (ROOT / "src" / "horen" / file).is_file()]
    assert len(re.findall(r"^\d+\. ", told, re.MULTILINE)) <= 15


def test_the_readme_is_for_newcomers():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    made = {line.split(":")[0] for line in (ROOT / "Makefile").read_text().splitlines() if re.match(r"\w+:", line)}
    told = re.findall(r"^make (\w+)", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert told[:2] == ["demo", "test"]
    assert set(told) <= made
