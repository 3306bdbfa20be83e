"""The command that chooses a method's settings, and what a run takes of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from horen.cli.flow.opening import make_ready
from horen.cli.options import AsJson, Device, Dtype, Preset, WeightType, model_option, parse_settings, set_option
from horen.cli.terminal import NUMBER, Phases, counted, emit, interrupted, say, show, show_table, table
from horen.errors import ConfigError
from horen.model.zoo.embedded import full_name

if TYPE_CHECKING:
    from horen.bench.tune import Trial, Tuned


def tune(
    method: Annotated[str, typer.Option("--method", metavar="NAME", help="The editor.")],
    dataset: Annotated[str, typer.Option("--dataset", metavar="NAME", help='A format ("horen bench datasets").')],
    path: Annotated[str, typer.Option("--path", metavar="FILE", help="The data set's file, or its hub id.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="New folder for the trials and settings.json.")],
    edits: Annotated[int, typer.Option("--edits", min=1, help="Length of each trial's stream.")] = 100,
    skip: Annotated[int, typer.Option("--skip", min=0, help="Usable records left out at the file's beginning.")] = 0,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Settings tried, the preset's own among them.")] = 12,
    preset: Annotated[Preset, typer.Option("--preset", help="Where the search starts.")] = Preset.default,
    settings: Annotated[list[str] | None, set_option("Fix a setting in all trials; may be repeated.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the draw of settings.")] = 0,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Edits applied in one call.")] = 1,
    model: Annotated[str, model_option("An embedded name, folder, GGUF file or hub id.")] = "smollm2-135m-instruct",
    sample: Annotated[int, typer.Option("--sample", min=0, help="Most edits scored at a checkpoint; 0: all.")] = 0,
    budget: Annotated[
        int,
        typer.Option("--max-new-tokens", min=0, help="Budget of an answer; 0: 24; long targets 256, their details 64."),
    ] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted search.")] = False,
    dtype: WeightType = Dtype.auto,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Choose an editor's settings on records kept for that.

    Settings are drawn from those that the editor names for a search, the preset's own among them. Each is run as "horen
    bench run" does and ranked by reliability times overall at the end, so that to change nothing does not win. With
    the same numbers of trials and edits every editor has the same budget. The best go into DIR/settings.json, for
    "horen bench run --settings". After Ctrl-C the same command with --resume goes on; with a greater --trials it goes
    further.

    \b
    Example:
      horen bench tune --method ft --dataset zsre --path zsre.json \\
        --skip 1000 --edits 100 --trials 12 --out tuned/ft
      horen bench run --settings tuned/ft/settings.json --dataset zsre \\
        --path zsre.json --edits 1000 --out runs/ft
    """
    from horen.bench.plan import Plan  # noqa: PLC0415
    from horen.bench.tune import SETTINGS  # noqa: PLC0415
    from horen.bench.tune import tune as search  # noqa: PLC0415

    plan = Plan(
        dataset=dataset,
        path=path,
        method=method,
        model=full_name(model),
        preset=preset.value,
        settings=parse_settings(settings or []),
        edits=edits,
        skip=skip,
        batch=batch,
        sample=sample,
        budget=budget,
        dtype=dtype.value,
        device=device,
    )
    make_ready(model, dtype=dtype.value)
    try:
        with Phases() as phases:
            found = search(plan, out, trials=trials, seed=seed, resume=resume, progress=phases.at)
    except KeyboardInterrupt:
        raise interrupted(f"Interrupted: what was run is in {out}. The same command with --resume goes on.") from None
    if as_json:
        emit(asdict(found))
    else:
        _show(found)
        if len(found.trials) < trials:
            say(f"The search has only {counted(len(found.trials), 'setting')}: all were tried.")
        say(f"The best settings are in {out / SETTINGS}")


def chosen(
    method: str | None, preset: Preset | None, changes: dict[str, Any], file: Path | None
) -> tuple[str, str, dict[str, Any], Tuned | None]:
    """Return name, preset and settings of the method that a run is told to use, and what tuned it.

    Raises:
        ConfigError: when the file was tuned for another method or preset; DataError when it holds no settings.
    """
    if file is None:
        return method or "horen", (preset or Preset.default).value, changes, None
    from horen.bench.tune import read_tuned  # noqa: PLC0415

    tuned = read_tuned(file)
    for option, given, known in (("--method", method, tuned.method), ("--preset", preset, tuned.preset)):
        if given is not None and given != known:
            raise ConfigError(f"{file} was tuned for {option} {known}, not {given}: leave {option} out.")
    return tuned.method, tuned.preset, tuned.settings | changes, tuned


def _show(found: Tuned) -> None:
    from horen.bench.report.tables import number  # noqa: PLC0415
    from horen.bench.results import HEADLINE  # noqa: PLC0415

    names = list(found.trials[0].settings)
    own = f"of {found.method} {found.preset} over {counted(found.budget['edits'], 'edit')}, the best first"
    show(f"{counted(len(found.trials), 'trial')} {own}", style="bold")

    def row(trial: Trial) -> tuple[str, ...]:
        place = found.trials.index(trial)
        settings = [str(trial.settings[name]) for name in names]
        scores = [number(trial.scores.get(name)) for name in HEADLINE]
        return f"{place + 1}{'' if place else ' (preset)'}", *settings, *scores, number(trial.seconds_an_edit)

    headers: tuple[str | tuple[str, dict[str, Any]], ...]
    headers = ("trial", *names, *((name, NUMBER) for name in HEADLINE), ("s/edit", NUMBER))
    show_table(table(headers, map(row, found.ranked)))
    for trial in found.ranked:
        if trial.failed:
            say(f"Trial {found.trials.index(trial) + 1} could not run: {trial.failed}")
