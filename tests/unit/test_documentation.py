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


# --- decisions ---------------------------------------------------------------------------------------------------

_DECISIONS = (DOCS / "decisions.md").read_text(encoding="utf-8")
_DECIDED = dict(re.findall(r"^### ([^\n]+)\n(.*?)(?=^##|\Z)", _DECISIONS, re.MULTILINE | re.DOTALL))


def test_there_are_decisions_in_groups_and_a_table_of_contents_names_each():
    assert _DECIDED
    contents = _DECISIONS.partition("\n## ")[0]
    assert re.findall(r"^- \[(.+)\]\(#", contents, re.MULTILINE) == list(_DECIDED)
    groups = re.findall(r"^## (.+)$", _DECISIONS, re.MULTILINE)
    assert re.findall(r"^\*\*\[(.+)\]\(#", contents, re.MULTILINE) == groups


@pytest.mark.parametrize("heading", _DECIDED)
def test_a_decision_is_said_in_three_lines_and_then_shown(heading: str):
    said, mark, shown = _DECIDED[heading].partition("\n**Evidence.**\n")
    assert mark
    assert shown.strip()
    lines = said.strip().splitlines()
    assert 1 <= len(lines) <= 3
    assert not [line for line in lines if not line or len(line) > 128]


# --- one name for one thing --------------------------------------------------------------------------------------

# What others call a thing, and the glossary's term for it. Only names that mean nothing else in ordinary English.
_SECOND_NAMES = {
    r"paraphras(?:e|es|ed|ing)": "rephrase",
    r"tombston\w+": "asleep",
    r"vanilla": "untouched model",
    r"(?:base|unedited|original) models?": "untouched model",
    r"hard negatives?": "near miss",
    r"cross-encoders?": "pair check",
    r"deferral rad\w+": "threshold",
    r"activat(?:e|es|ed|ing)": "wake, fire",
    r"trigger(?:s|ed|ing)?": "wake, fire",
    r"false[- ]positives?": "false-fire rate",
    r"stored patterns?": "key",
    r"hook points?": "site",
    r"basins? of attraction": "basin",
    r"ripple effects?": "portability",
    r"edit success": "reliability",
    r"specificity|neighbou?rhood score": "locality",
    r"in-context retrieval": "recall",
    r"small cop(?:y|ies)|eight-bit (?:cop(?:y|ies)|keys?)": "int8 copy",
}
# In the code the class of the int8 copy is ``Sketch``, and an argument that takes one has its name.
_SECOND_ON_PAGES = {r"sketch(?:es|ed)?": "int8 copy"}
# Where it is another thing, or another's own word: page or module, what stands there, and why.
_OTHERS_WORDS = [
    ("docs/benchmarks.md", "deferral radii", "GRACE's own term, for what GRACE has"),
    ("docs/errors/index.md", "A base model cannot chat", "a model that was not tuned for chat"),
    ("docs/results.md", "(a base model;", "a model that was not tuned for chat"),
    ("src/horen/editors/grace/memory.py", "deferral radius", "GRACE's own term, for what GRACE has"),
    ("src/horen/editors/grace/method.py", "deferral radii", "GRACE's own term, for what GRACE has"),
]


def told() -> Iterator[tuple[str, str]]:
    """Yield every page but the glossary and every module's docstrings, with where it is."""
    for page in PAGES:
        if page.name != "glossary.md":
            yield str(page.relative_to(ROOT)), page.read_text(encoding="utf-8")
    for file in sorted((ROOT / "src").rglob("*.py")):
        nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        texts = [ast.get_docstring(node) or "" for node in nodes if isinstance(node, kinds)]
        yield str(file.relative_to(ROOT)), "\n".join(texts)


def test_a_thing_has_the_name_that_the_glossary_gives_it():
    found = []
    for place, text in told():
        own = text
        for words in (words for where, words, _ in _OTHERS_WORDS if where == place):
            assert words in own
            own = own.replace(words, "")
        names = _SECOND_NAMES | (_SECOND_ON_PAGES if place.endswith(".md") else {})
        for second, term in names.items():
            found += [f"{place}: {name}: say {term}" for name in re.findall(rf"\b(?:{second})\b", own, re.IGNORECASE)]
    assert not found, "\n".join(found)


def test_what_others_call_a_thing_stands_in_the_glossary():
    glossary = (DOCS / "glossary.md").read_text(encoding="utf-8")
    terms = {term for row in re.findall(r"^\| ([^|]+) \|", glossary, re.MULTILINE) for term in row.split(", ")}
    assert not {term for told in (_SECOND_NAMES | _SECOND_ON_PAGES).values() for term in told.split(", ")} - terms
