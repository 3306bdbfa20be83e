"""Commands that measure editors: bench run, tune, report, compare, datasets, train-mend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from horen.cli.commands.train_mend import train_mend
from horen.cli.commands.tune import chosen, tune
from horen.cli.flow.opening import make_ready
from horen.cli.options import AsJson, Device, Dtype, Preset, WeightType, model_option, parse_settings, set_option
from horen.cli.terminal import NUMBER, Phases, emit, interrupted, say, show, show_table, table
from horen.model.zoo.embedded import full_name

if TYPE_CHECKING:
    from horen.bench.results import Result

bench = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    help="Measure editors on streams of edits, and compare them.",
)

Folders = Annotated[
    list[Path], typer.Argument(metavar="DIR…", help="Folders of runs, or files of scores.", show_default=False)
]


@bench.command("run")
def run(
    dataset: Annotated[str, typer.Option("--dataset", metavar="NAME", help='A format ("horen bench datasets").')],
    path: Annotated[str, typer.Option("--path", metavar="FILE", help="The data set's file, or its hub id.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="New folder for the results.")],
    method: Annotated[
        str | None, typer.Option("--method", metavar="NAME", help="The editor.  [default: horen]")
    ] = None,
    preset: Annotated[
        Preset | None, typer.Option("--preset", help="Its settings, where it has presets.  [default: default]")
    ] = None,
    settings: Annotated[list[str] | None, set_option("Change a setting; may be repeated.")] = None,
    tuned: Annotated[
        Path | None,
        typer.Option("--settings", metavar="FILE", help='Editor and settings that "horen bench tune" has chosen.'),
    ] = None,
    edits: Annotated[int, typer.Option("--edits", min=1, help="Length of the stream.")] = 1000,
    skip: Annotated[int, typer.Option("--skip", min=0, help="Usable records left out at the file's beginning.")] = 0,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Edits applied in one call.")] = 1,
    model: Annotated[str, model_option("An embedded name, folder, GGUF file or hub id.")] = "smollm2-135m-instruct",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Orders of the stream; the first is the file's.")] = 1,
    sample: Annotated[int, typer.Option("--sample", min=0, help="Most edits scored at a checkpoint; 0: all.")] = 0,
    budget: Annotated[
        int,
        typer.Option("--max-new-tokens", min=0, help="Budget of an answer; 0: 24; long targets 256, their details 64."),
    ] = 0,
    text: Annotated[Path | None, typer.Option("--text", metavar="FILE", help="Held-aside text for retention.")] = None,
    base: Annotated[
        Path | None,
        typer.Option("--base", metavar="DIR", help="Take the untouched model's answers over from another run."),
    ] = None,
    values: Annotated[
        Path | None,
        typer.Option(
            "--values",
            metavar="DIR",
            help="Take trained values over from another run of the same stream, or a codebook.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run of the same plan.")] = False,
    dtype: WeightType = Dtype.auto,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Apply a stream of edits and ask everything about them.

    Everything is asked after 1, 10, 100, 1,000, … edits and at the end. Answers are generated freely and end where the
    model ends them; teacher-forced scores are columns of their own. All answers stay in DIR. After Ctrl-C
    the same command with --resume goes on: edits are saved between batches, every two minutes, and whole checkpoints.

    \b
    Example:
      horen bench run --dataset zsre --path zsre.json --edits 100 --out runs/zsre
    """
    from horen.bench.plan import Plan  # noqa: PLC0415
    from horen.bench.results import read  # noqa: PLC0415
    from horen.bench.run import run as run_plan  # noqa: PLC0415

    name, start, changes, found = chosen(method, preset, parse_settings(settings or []), tuned)
    plan = Plan(
        dataset=dataset,
        path=path,
        method=name,
        model=full_name(model),
        preset=start,
        settings=changes,
        edits=edits,
        skip=skip,
        batch=batch,
        sample=sample,
        seeds=seeds,
        budget=budget,
        text=None if text is None else str(text),
        dtype=dtype.value,
        device=device,
    )
    if found is not None and (shared := found.shared(plan)):
        say(f"Note: {shared} of these edits are among those that {tuned} was tuned on; leave them out with --skip.")
    make_ready(model, dtype=dtype.value)
    try:
        with Phases() as phases:
            run_plan(plan, out, resume=resume, base=base, values=values, progress=phases.at)
    except KeyboardInterrupt:
        raise interrupted(
            f"Interrupted: what was scored is in {out}. The same command with --resume goes on."
        ) from None
    result = read(out)
    if as_json:
        emit(result.to_dict())
    else:
        _show([result], every=True)


bench.command("tune")(tune)


@bench.command("report")
def report(
    folders: Folders,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write it all as one page.")] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Write it all as Markdown, drawings beside it.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every checkpoint, not the last alone.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the scores of runs side by side.

    A written report has everything: curves over the stream, scores by age, routing, costs and examples of failures.
    """
    from horen.bench.report import write_markdown, write_page  # noqa: PLC0415
    from horen.bench.results import read  # noqa: PLC0415

    results = [read(folder) for folder in folders]
    for place, write in ((html, write_page), (markdown, write_markdown)):
        if place is not None:
            write(results, place)
            say(f"The report is in {place}")
    if as_json:
        emit([result.to_dict() for result in results])
    elif html is None and markdown is None:
        _show(results, every=every)


@bench.command("compare")
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Folder of a run.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="B", help="Folder of another one.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Show how far run A is ahead of run B.

    They are compared on the records that both have, with 95 % intervals by the paired bootstrap.
    """
    from horen.bench.report.tables import number  # noqa: PLC0415
    from horen.bench.results import compare as differ  # noqa: PLC0415
    from horen.bench.results import read  # noqa: PLC0415

    found = differ(read(first), read(second))
    if as_json:
        emit(found)
        return
    show(f"{found['first']} against {found['second']}, after {found['edits']} edits", style="bold")
    rows = [
        (name, _signed(d["mean"]), f"{_signed(d['low'])} to {_signed(d['high'])}", number(d["p"]), str(d["count"]))
        for name, d in found["difference"].items()
    ]
    headers = ("score", ("difference", NUMBER), "95 % interval", ("p", NUMBER), ("records", NUMBER))
    show_table(table(headers, rows))


@bench.command("datasets")
def datasets(as_json: AsJson = False) -> None:
    """List the data sets and the editors."""
    from horen.bench.datasets import FORMATS  # noqa: PLC0415
    from horen.editors import METHODS  # noqa: PLC0415

    if as_json:
        told = ("title", "description", "source", "hub", "licence", "fields", "unstructured")
        formats = {name: {key: getattr(item, key) for key in told} for name, item in FORMATS.items()}
        emit({"datasets": formats, "methods": dict(METHODS)})
        return
    for name, item in FORMATS.items():
        show(f"{name}: {item.title}", style="bold")
        show(f"  {item.description}")
        places = [place for place in (item.source, item.hub and f"hub id {item.hub}") if place]
        show(f"  {', '.join(places) or 'your own file'} ({item.licence})")
    show("\nEditors (--method):", style="bold")
    for name, description in METHODS.items():
        show(f"  {name}: {description}")


bench.command("train-mend")(train_mend)


def _show(results: list[Result], *, every: bool) -> None:
    from horen.bench.report import tables  # noqa: PLC0415

    for made in (tables.headline(results, every=every), tables.last_columns(results)):
        headers = [name if place < made.words else (name, NUMBER) for place, name in enumerate(made.headers)]
        show_table(table(headers, made.rows))


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"
