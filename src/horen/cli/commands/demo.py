"""The command that shows what editing does."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from horen.cli.options import AsJson, model_option
from horen.cli.terminal import Phases, clean, emit, say, show, show_table, table
from horen.model.zoo.embedded import full_name

if TYPE_CHECKING:
    from horen.verify.demo import DemoReport, Probe, Score


def demo(
    model: Annotated[
        str, model_option("An embedded name, a folder, a GGUF file or a hub id.")
    ] = "smollm2-135m-instruct",
    keep: Annotated[
        Path | None, typer.Option("--keep", metavar="DIR", help="Keep the edited codebook in this new folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Teach a small model 40 new facts and show what that changes.

    The editor is given a prompt and a target for each fact. Then the model is asked the same prompts, rephrases it has
    not seen, the prompts in chat, and near misses that must not change; the edits are undone, and reloaded from disk.
    Takes a few minutes on two cores. The exit code is 1 when fewer than 90 % of the prompts are answered right.
    """
    from horen.cli.flow.opening import make_ready  # noqa: PLC0415

    make_ready(model)
    with Phases() as phases:
        from horen.verify.demo import run_demo  # noqa: PLC0415

        report = run_demo(full_name(model), keep=keep, progress=phases.at)
    if as_json:
        emit(report.to_dict())
    else:
        _show(report)
    if not report.passed:
        say("The demo failed: fewer than 90 % of the edit prompts are answered right.")
        raise typer.Exit(1)


def _show(report: DemoReport) -> None:
    show_table(_side_by_side(report))
    changed = [probe for probe in report.near_misses if not probe.good]
    if changed:
        show("\nNear misses that changed:", style="bold")
        headers = (("question", {"ratio": 4}), ("before", {"ratio": 3}), ("after", {"ratio": 3}), "fired")
        show_table(table(headers, ((p.text, _said(p.before), _said(p.after), _fired(p)) for p in changed)))
    show("")
    show_table(_summary(report))
    if report.folder:
        show(f'\nThe codebook is in {report.folder}: try horen ask {report.folder} "{report.facts[0].prompt}"')
    show(f"\nTo ask in a page, and add facts of your own: {_program()} serve --demo, then open http://127.0.0.1:8000")


def _program() -> str:
    """Return how this program is called again."""
    called = Path(sys.argv[0])
    found = shutil.which("horen")
    if called.name != "horen" or (found is not None and Path(found).samefile(called)):
        return "horen"
    return os.path.relpath(called)


def _side_by_side(report: DemoReport) -> Table:
    """Make a table with a row for each fact.

    It has the edit prompt (in chat, where there is one), a rephrase and a near miss.
    """
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    cut: dict[str, Any] = {"no_wrap": True, "overflow": "ellipsis"}
    made.add_column("edit", justify="right", no_wrap=True)
    asked = "prompt in chat" if report.chat else "prompt"
    made.add_column(f"{asked}, rephrase, near miss", ratio=5, **cut)
    made.add_column("before", ratio=3, **cut)
    made.add_column("after", ratio=3, **cut)
    made.add_column("fired", no_wrap=True)
    for number, receipt in enumerate(report.receipts):
        probes = [
            next(probe for probe in group if probe.fact == number)
            for group in (report.chat or report.prompts, report.rephrases, report.near_misses)
        ]
        made.add_row(
            str(receipt.id),
            Text("\n").join(Text(clean(probe.text), style="dim" if i == 2 else "") for i, probe in enumerate(probes)),
            Text("\n").join(Text("" if probe.before is None else _said(probe.before), style="dim") for probe in probes),
            Text("\n").join(_after(probe, near=i == 2) for i, probe in enumerate(probes)),
            "\n".join(_fired(probe) for probe in probes),
        )
    return made


def _after(probe: Probe, *, near: bool) -> Text:
    if near and probe.good:
        return Text("= unchanged", style="dim")
    return Text(("✓ " if probe.good else "✗ ") + _said(probe.after), style="green" if probe.good else "red")


def _said(answer: str | None) -> str:
    return clean(answer) if answer else "(nothing)"


def _fired(probe: Probe) -> str:
    if probe.score is None:
        return ""
    number = str(probe.edit_id) if probe.edit_id is not None else "-"
    return f"{number:>2} {probe.score:5.2f}"


def _summary(report: DemoReport) -> Table:
    counts = report.summary
    rows: list[tuple[str, Score]] = [
        ("edit prompts answered right", counts["edit_prompts_right"]),
        ("rephrases answered right (the editor never saw them)", counts["rephrases_right"]),
        ("edit prompts answered right in chat", counts["in_chat_right"]),
        ("near misses answered as before", counts["near_misses_unchanged"]),
        ("near misses that fired an edit", counts["near_misses_fired"]),
        ("prompts with bit-identical logits after undo", counts["undo_restores_logits"]),
        ("prompts answered as before after undo", counts["undo_restores_answers"]),
        ("prompts answered the same after reload from disk", counts["reload_same_answers"]),
    ]
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, title=None)
    made.add_column(report.model, no_wrap=True)
    made.add_column("", justify="right", no_wrap=True)
    for name, score in rows:
        made.add_row(name, f"{score.count} of {score.total}" if score.total else "no chat")
    made.add_row("seconds for an edit", f"{report.edit_seconds / max(len(report.receipts), 1):.2f}")
    made.add_row("seconds in all", f"{report.total_seconds:.0f}")
    return made
