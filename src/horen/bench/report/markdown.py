"""A report as Markdown, with its drawings as SVG files in a folder beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from horen.bench.files import write_text
from horen.bench.report.figures import key
from horen.bench.report.sections import INTRODUCTION, sections
from horen.bench.report.tables import Table
from horen.bench.results import Result
from horen.errors import StoreError

# An image does not see the page's colours: this grey is read on white and on black.
_INK = "#7d8590"


def write_markdown(results: Sequence[Result], place: Path) -> None:
    """Write the report of runs into a Markdown file, and its drawings into ``PLACE-files``.

    Raises:
        ModelError: when matplotlib, which draws the curves, is not installed.
        StoreError: when something cannot be written.
    """
    folder = place.with_name(f"{place.stem}-files")
    found = sections(results)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder} cannot be made ({error.strerror}): choose another place.") from error

    def image(title: str, drawing: str, name: str) -> str:
        write_text(folder / name, drawing.replace("currentColor", _INK))
        return f"![{_escaped(title)}]({folder.name}/{name})"

    lines = ["# Model editing benchmark", "", INTRODUCTION, "", image(*key(results), "key.svg")]
    for section in found:
        lines += ["", f"## {section.title}", ""]
        lines += [section.text, ""] if section.text else []
        lines += [*_table(section.table), ""] if section.table is not None else []
        for number, (title, drawing) in enumerate(section.drawings, start=1):
            lines.append(image(title, drawing, f"{section.title.lower().replace(' ', '-')}-{number}.svg"))
    write_text(place, "\n".join(lines).rstrip() + "\n")


def _table(table: Table) -> list[str]:
    rules = ["---"] * table.words + ["---:"] * (len(table.headers) - table.words)
    rows = [table.headers, tuple(rules), *(tuple(map(_escaped, row)) for row in table.rows)]
    return ["| " + " | ".join(row) + " |" for row in rows]


def _escaped(text: str) -> str:
    for character in "\\`*_[]<>|#":
        text = text.replace(character, f"\\{character}")
    return text
