"""A report as one HTML page: no script, nothing fetched, readable on a laptop in both colour schemes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from horen.bench.files import write_text
from horen.bench.report.figures import key
from horen.bench.report.sections import INTRODUCTION, sections
from horen.bench.results import Result


def write_page(results: Sequence[Result], place: Path) -> None:
    """Write the report of runs into an HTML file.

    Raises:
        ModelError: when matplotlib, which draws the curves, is not installed.
        StoreError: when the file cannot be written.
    """
    environment = Environment(loader=PackageLoader("horen.bench.report"), autoescape=select_autoescape(["html"]))
    environment.filters["drawing"] = Markup  # matplotlib escapes what it writes
    page = environment.get_template("report.html").render(
        introduction=INTRODUCTION,
        names=[result.name for result in results],
        key=key(results),
        sections=sections(results),
    )
    write_text(place, page)
