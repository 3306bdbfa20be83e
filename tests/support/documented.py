"""The examples of a page, run as a reader would run them: Python, commands, and the files that they read."""

from __future__ import annotations

import contextlib
import doctest
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from horen.cli.app import app

_FENCE = re.compile(r"^```(?P<language>\w+)(?P<rest>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r'title="([^"]+)"')
# What differs from run to run and from machine to machine.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.+]+")
_SECONDS = re.compile(r"took [\d.]+ (min|s)")
_FRACTION = re.compile(r"\d+\.\d{2,}")
# Columns of the terminal that pages show. Untold, a child process would find 80: readline, which pytest loads, puts
# that into the environment where this process does not see it.
_WIDTH = 140
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the name of the file that it stands for (or none), and what is in it."""

    language: str
    title: str | None
    body: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = []
    for fence in _FENCE.finditer(page.read_text(encoding="utf-8")):
        title = _TITLE.search(fence["rest"])
        found.append(Block(fence["language"], title[1] if title else None, fence["body"]))
    return found


def python_differences(block: Block, names: dict[str, Any]) -> Iterator[str]:
    """Run a session of Python; gives a report for each example whose output is not the one that is shown."""
    test = doctest.DocTestParser().get_doctest(block.body, names, "example", None, None)
    reports: list[str] = []
    doctest.DocTestRunner(optionflags=_FLAGS, verbose=False).run(test, out=reports.append, clear_globs=False)
    names.update(test.globs)
    yield from (report for report in reports if report.strip())


def command_differences(block: Block, folder: Path) -> Iterator[str]:
    """Run commands in a folder; gives a report for each whose output, errors included, is not the one that is shown."""
    for text in re.split(r"^\$ ", block.body, flags=re.MULTILINE)[1:]:
        command, _, wanted = text.partition("\n")
        printed = output_of(command, folder)
        if not doctest.OutputChecker().check_output(_settled(wanted), _settled(printed), _FLAGS):
            yield f"$ {command}\nshown:\n{wanted}\nprinted:\n{printed}"


def output_of(command: str, folder: Path) -> str:
    """What a command prints in a folder, errors included; one of this program alone is run in this process."""
    words = shlex.split(command)
    if words[0] == "horen" and not re.search(r"[|<>;&]", command):
        with contextlib.chdir(folder):
            return CliRunner(env={"COLUMNS": str(_WIDTH)}).invoke(app, words[1:]).output
    given = f'horen() {{ "{sys.executable}" -m horen.cli "$@"; }}; {command}'
    return subprocess.run(
        ["bash", "-c", given],  # noqa: S607
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"COLUMNS": str(_WIDTH)},
    ).stdout


def _settled(output: str) -> str:
    """Output without times, with fractions to one place."""
    output = _SECONDS.sub("took a while", _TIME.sub("then", output))
    return _FRACTION.sub(lambda found: f"{float(found[0]):.1f}", output)


def differences(page: Path, folder: Path) -> list[str]:
    """Run all examples of a page, in order and in an empty folder; gives a report for each that is not as shown.

    Blocks of ``pycon`` and ``console`` are run, and those with a title are written into the folder; others are text.
    """
    reports: list[str] = []
    names: dict[str, Any] = {}
    for block in blocks(page):
        if block.title is not None:
            (folder / block.title).write_text(block.body, encoding="utf-8")
        elif block.language == "pycon":
            reports += python_differences(block, names)
        elif block.language == "console":
            reports += command_differences(block, folder)
    return reports
