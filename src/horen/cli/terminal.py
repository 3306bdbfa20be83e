"""How the commands speak: results go to standard output, everything else to standard error."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import typer
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from horen.store.places import without_passwords

#: A column's name, and what else rich is told of it.
Header = str | tuple[str, dict[str, Any]]

_INTERRUPTED = 130  # as shells have it: 128 and the number of the signal
# Tables that go into a file or another program are not cut to the width of a terminal that is not there.
_NO_TERMINAL_WIDTH = 10_000
_NARROW = 40  # columns of a terminal
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(0x7F, 0xA0))}
_KEPT = {9: "\t", 10: "\n"}


def clean(text: str, *, lines: bool = False) -> str:
    """Return text without control characters, which could rewrite the terminal.

    ``lines`` keeps line breaks and tabs.
    """
    return text.translate(_CONTROLS | _KEPT) if lines else " ".join(text.split()).translate(_CONTROLS)


def short(text: str, width: int = 60) -> str:
    """Return text on one line of at most ``width`` characters."""
    line = clean(text)
    return line if len(line) <= width else line[: width - 1] + "…"


def out() -> Console:
    """Return standard output as it is now."""
    return _console(sys.stdout)


def err() -> Console:
    """Return standard error as it is now."""
    return _console(sys.stderr)


def _console(stream: TextIO) -> Console:
    width = _NO_TERMINAL_WIDTH if _led_away(stream) else None
    return Console(file=stream, markup=False, highlight=False, emoji=False, width=width)


def led_away() -> bool:
    """Return whether results go into a file or another program."""
    return _led_away(sys.stdout)


def _led_away(stream: TextIO) -> bool:
    """Return whether a stream goes into a file or another program, and nobody says how wide that is."""
    return not stream.isatty() and "COLUMNS" not in os.environ


def show(text: str | Text, style: str | None = None) -> None:
    """Print a result as text, which is left to the terminal to wrap."""
    out().print(text, style=style, soft_wrap=True)


def show_table(made: Table) -> None:
    """Print a table at its natural width, or fitted to the terminal: then columns with a ratio share what is left.

    On a terminal that is too narrow for columns each row is told line by line.
    """
    console = out()
    if console.width < _NARROW:
        for row in zip(*(column.cells for column in made.columns), strict=True):
            for column, cell in zip(made.columns, row, strict=True):
                if str(cell):
                    console.print(Text(f"{column.header}: {cell}"), overflow="fold")
            console.print()
        return
    natural = console.measure(made, options=console.options.update_width(_NO_TERMINAL_WIDTH)).maximum
    made.expand = natural > console.width
    console.print(made)


def show_list(headers: Sequence[Header], rows: Iterable[Sequence[str]], below: str = "") -> None:
    """Print records, a cell each column: as a table and a line below it, or for another program a line each with tabs.

    The first line names the columns then. Nothing is cut or padded, however long a cell is.
    """
    if not led_away():
        show_table(table(headers, rows))
        if below:
            show(below)
        return
    names = [header if isinstance(header, str) else header[0] for header in headers]
    # Whatever is wrong with a row shows before the first is written. Not through a console, which would make blanks of
    # the tabs.
    lines = ["\t".join(map(clean, row)) + "\n" for row in (names, *rows)]
    sys.stdout.write("".join(lines))
    sys.stdout.flush()


def say(message: str, style: str | None = None) -> None:
    """Print a message that is no result."""
    err().print(clean(message, lines=True), style=style, soft_wrap=True)


def fail(message: str) -> None:
    """Print an error as one line, without passwords."""
    told = without_passwords(clean(message))
    text = Text("Error: ", style="bold red").append(told, style="not bold default")
    err().print(text, soft_wrap=True)


class OutputError(OSError):
    """Standard output cannot be written to."""


class Output(io.TextIOWrapper):
    """Standard output that tells its own failures from those of other files."""

    def write(self, text: str, /) -> int:
        """Write a text."""
        with _told():
            return super().write(text)

    def flush(self) -> None:
        """Let everything through."""
        with _told():
            super().flush()


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # whoever reads has enough, which is no error
        raise
    except OSError as error:
        # What is held back would be tried, and told of, once more when the program ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        raise OutputError(error.errno, error.strerror) from error


def interrupted(message: str) -> typer.Exit:
    """Say what an interruption leaves; gives what is to be raised then."""
    say(message)
    return typer.Exit(_INTERRUPTED)


def emit(document: Any, *, indent: int | None = 2) -> None:
    """Print one JSON document."""
    escaped = not (sys.stdout.encoding or "").lower().startswith("utf")
    sys.stdout.write(json.dumps(document, ensure_ascii=escaped, indent=indent) + "\n")
    sys.stdout.flush()


def listed(lines: Sequence[str], most: int = 20, *, count: int | None = None) -> None:
    """Print the first of many messages, and how many more there are; ``count`` in all, where ``lines`` are not all."""
    for line in lines[:most]:
        say(f"  {line}")
    count = len(lines) if count is None else count
    if count > most:
        say(f"  … and {count - most} more")


def table(headers: Iterable[Header], rows: Iterable[Sequence[str | Text]]) -> Table:
    """Return a table in which each cell is one line, unless its column wraps.

    It may have rows of plain text, which is cleaned.
    """
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for header in headers:
        name, options = header if isinstance(header, tuple) else (header, {})
        made.add_column(name, **{"no_wrap": True, "overflow": "ellipsis", **options})
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(clean(cell)) for cell in row))
    return made


NUMBER: dict[str, Any] = {"justify": "right"}


def counted(number: int, noun: str) -> str:
    """Return a number and what it counts."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def ids_of(numbers: Sequence[int]) -> str:
    """Write numbers with runs as ranges: 1-3, 7."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


@contextmanager
def status(message: str) -> Iterator[None]:
    """Show that something takes a while, where standard error is a terminal."""
    console = err()
    if not console.is_terminal:
        yield
        return
    with console.status(message):
        yield


class _Rate(ProgressColumn):
    """Edits a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.2g} edits/s" if speed else "", style="progress.data.speed")


def _bars(*columns: ProgressColumn, **options: Any) -> Progress:
    console = err()
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *columns,
        console=console,
        disable=not console.is_terminal,
        redirect_stdout=False,
        redirect_stderr=False,
        **options,
    )


_noted: list[Path] = []


def note_progress(file: Path) -> None:
    """Write from now on into a file how many edits are done."""
    _noted[:] = [file]


@contextmanager
def edit_bar(total: int, doing: str = "Editing") -> Iterator[Callable[[int], None]]:
    """Show a bar of edits on standard error; give the function that sets how many are done."""

    def show_done(done: int) -> None:
        bars.update(task, completed=done)
        for file in _noted:
            file.write_text(str(done))

    # A window as long as a batch or two: edits are done in batches, and a shorter one would see bursts alone.
    bars = _bars(_Rate(), TimeRemainingColumn(compact=True), TextColumn("left"), speed_estimate_period=120)
    with bars:
        task = bars.add_task(doing, total=total)
        yield show_done


class Phases:
    """The phases of a longer run: one bar that makes room for the next, or a line each where there is no terminal."""

    def __init__(self) -> None:
        self._bars = _bars(transient=True)
        self._task = self._bars.add_task("Starting", total=None)
        self._phase = ""

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def at(self, phase: str, done: int, total: int) -> None:
        """Note how far a phase is."""
        if phase != self._phase:
            self._phase = phase
            self._bars.reset(self._task)
            if not self._bars.console.is_terminal:
                say(f"{phase} …")
        self._bars.update(self._task, description=phase, completed=done, total=total)
