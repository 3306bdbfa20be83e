"""The command that calibrates a model: how it is read, and the threshold of its gate with a stated false-fire rate."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from horen.cli.flow.opening import make_ready
from horen.cli.options import AsJson, Device, Dtype, WeightType, model_option
from horen.cli.terminal import NUMBER, Phases, emit, interrupted, say, show, show_table, table
from horen.config import ENCODER, HorenConfig
from horen.model.zoo.embedded import full_name

if TYPE_CHECKING:
    from horen.store.calibration import Calibration, Guarantee

_NAMES = {
    "unrelated": "unrelated prompts",
    "neighbour": "same relation, another subject",
    "same_subject": "same subject, another relation",
}


def calibrate(
    model: Annotated[str, model_option('An embedded name ("horen models"), folder, GGUF file or hub id.')],
    into: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the calibration.")] = Path(
        "calibration"
    ),
    pairs: Annotated[
        Path | None,
        typer.Option("--pairs", metavar="FILE", help="Your own prompts with rephrases, as JSON Lines."),
    ] = None,
    false_fire: Annotated[
        float, typer.Option("--false-fire", metavar="RATE", help="Share of unrelated prompts that may fire.")
    ] = 0.01,
    neighbour_fire: Annotated[
        float | None,
        typer.Option("--neighbour-fire", metavar="RATE", help="The same for the relation of another subject."),
    ] = None,
    same_subject_fire: Annotated[
        float | None,
        typer.Option("--same-subject-fire", metavar="RATE", help="The same for another relation of the subject."),
    ] = None,
    confidence: Annotated[float, typer.Option("--confidence", metavar="P", help="Of what is promised.")] = 0.95,
    sites: Annotated[
        str | None,
        typer.Option(
            "--sites",
            metavar="SITES",
            help='Calibrate a gate that goes by a cosine: of "activations", of "text", or read sites to compare.',
        ),
    ] = None,
    encoder: Annotated[
        str, typer.Option("--encoder", metavar="DIR", help='A scope of your own, as "horen scope" writes it.')
    ] = ENCODER,
    dtype: WeightType = Dtype.auto,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Settle when an edit fires, with a stated rate of false fires.

    The gate of the preset default asks who and what, and only its threshold is settled, on FILE or on prompts that
    come with horen. With --sites it is a gate that goes by a cosine: read sites, weights, key space and retrieval are
    chosen too, on rephrases and near misses of FILE or of a bank that comes with horen. The threshold is certified on
    prompts that nothing was chosen by: with the stated confidence no more than RATE of prompts drawn alike wake an
    edit. What is not given is reported, not held. Use the folder with "horen edit --calibration DIR". After Ctrl-C the
    same command goes on, or with the preset's gate begins anew.

    A line of FILE has "prompt" and "rephrases", and may have the lists "neighbours", "same_subject" and "unrelated" of
    prompts that must not fire.

    \b
    Example:
      horen calibrate --model smollm2-135m-instruct --same-subject-fire 0.05
    """
    from horen.calibration.features import discard  # noqa: PLC0415
    from horen.calibration.judged import certify, held_back  # noqa: PLC0415
    from horen.calibration.material import KINDS, Material  # noqa: PLC0415
    from horen.calibration.pairs import read_pairs, read_trial  # noqa: PLC0415
    from horen.calibration.run import CANDIDATES, Wanted  # noqa: PLC0415
    from horen.calibration.run import calibrate as run  # noqa: PLC0415
    from horen.data import load_bank  # noqa: PLC0415
    from horen.model.zoo.loading import load_model  # noqa: PLC0415

    given = zip(KINDS, (false_fire, neighbour_fire, same_subject_fire), strict=True)
    rates, bank = {kind: rate for kind, rate in given if rate is not None}, load_bank()
    if sites is None:
        wanted = Wanted(rates, confidence, base=HorenConfig(encoder=encoder))
        asked = held_back() if pairs is None else read_trial(pairs, bank)
    else:
        wanted = Wanted(rates, confidence, CANDIDATES if sites == "activations" else sites)
        material = Material.of_bank(bank) if pairs is None else read_pairs(pairs, bank)
    make_ready(model, dtype=dtype.value)
    cache = into / "reading"
    try:
        with Phases() as phases:
            phases.at(f"Loading {model}", 0, 0)
            loaded, tokenizer = load_model(full_name(model), dtype=dtype.value, device=device)
            told: Any = {"source": full_name(model), "progress": phases.at}
            if sites is None:
                found = certify(loaded, tokenizer, asked, wanted, **told)
            else:
                found = run(loaded, tokenizer, material, wanted, cache=cache, **told)
    except KeyboardInterrupt:
        kept = f"what was read is kept in {cache}. The same command goes on." if sites else "nothing was written."
        raise interrupted(f"Interrupted: {kept}") from None
    found.save(into)
    discard(cache)
    if as_json:
        emit(_document(found, into))
    else:
        _show(found, into)


def _document(found: Calibration, into: Path) -> dict[str, object]:
    return {
        "folder": str(into),
        "settings": dict(found.settings),
        "guarantees": [dataclasses.asdict(item) for item in found.guarantees],
        **{name: value for name, value in found.report.items() if name != "tried"},
    }


def _show(found: Calibration, into: Path) -> None:
    report, settings = found.report, found.settings
    headers: list[str | tuple[str, dict[str, Any]]] = [
        "Prompts that must not fire",
        *((name, NUMBER) for name in ("Asked", "Fire", "At most", "Rate", "Needs threshold", "Finds", "Unproven")),
    ]
    show_table(table(headers, [_row(item) for item in found.guarantees]))
    if settings["key_space"] == "auto":
        show("Asks who and what (docs/scope.md); the threshold alone was settled.")
    else:
        gate = ", ".join(f"{name} {settings[name]:g}" for name in ("contrast", "neighbours", "alpha", "beta", "steps"))
        show(
            f"Reads {settings['read_sites']}; words count {settings['read_weight']}; "
            f"power {settings['feature_power']:g}; {settings['key_dimension']} dimensions; {gate}."
        )
    show(
        f"Threshold {settings['threshold']:.3f}: {report['generalization']:.3f} of {report['rephrases']:,} rephrases "
        f"of {report['edits']:,} edits wake their own edit; {report['top_1']:.3f} come nearest to it."
    )
    say(f"The calibration is in {into} ({report['seconds']:.0f} s).")


def _row(item: Guarantee) -> tuple[str, ...]:
    unknown = item.certified is None or item.certified_generalization is None
    return (
        ("* " if item.held else "") + _NAMES[item.kind],
        f"{item.negatives:,}",
        f"{item.fires:.2%}",
        f"{item.bound:.2%}",
        f"{item.rate:.1%}",
        "-" if unknown else f"{item.certified:.3f}",
        "-" if unknown else f"{item.certified_generalization:.3f}",
        f"{item.empirical_generalization:.3f}",
    )
