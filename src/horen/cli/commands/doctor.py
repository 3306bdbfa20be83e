"""The command that checks a codebook."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from horen.cli.options import AnyPlace, AsJson, Device, Dtype, EncoderPlace, ModelPlace, WeightType
from horen.cli.stores.opening import open_place
from horen.cli.terminal import Phases, clean, counted, emit, show

if TYPE_CHECKING:
    from horen.asking.diagnosis import Diagnosis, Finding, Reading

_SHOWN = 5
# The share of entries asleep from which it is told.
_MUCH = 0.5


def doctor(
    place: AnyPlace,
    plain: Annotated[bool, typer.Option("--plain", help="Leave chat out: check plain text alone.")] = False,
    model: ModelPlace = None,
    encoder: EncoderPlace = None,
    dtype: WeightType = Dtype.auto,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Check which stored edits would misroute now, and say what to do.

    Every prompt and rephrase is routed anew, in plain text and in chat. Four things are found:

    \b
      shadowed     an edit with another target is nearer to its own prompt
      crowded      its own prompt does not fire, for other edits are too near
      unreached    its prompt works, but a rephrase or a reading in chat does not
      unconverged  training ended before its target was likely enough

    Where an index is used, its recall is measured on queries about the stored keys. Where half of the entries or more
    are asleep, of superseded, removed or undone edits, that is told too: "horen compact DIR" drops them.

    Nothing is changed. To change a setting such as threshold, export the edits and import them into a new DIR with
    --set. The exit code is 0 when nothing is found and 1 when something is.
    """
    editor = open_place(place, model, dtype.value, device, encoder=encoder)
    with Phases() as phases:
        found = editor.doctor(chat=not plain, progress=lambda done, total: phases.at("Reading", done, total))
    if as_json:
        emit({"healthy": found.healthy, **dataclasses.asdict(found)})
    else:
        _show(found)
        if found.asleep >= _MUCH and not place.is_store:
            show(
                f"{found.asleep:.0%} of the entries are asleep: horen compact drops them, and no undo wakes them then."
            )
    if not found.healthy:
        raise typer.Exit(1)


def _show(found: Diagnosis) -> None:
    for finding in found.findings:
        show(f"edit {finding.edit_id} is {finding.kind}", style="bold")
        show(f"  {clean(finding.prompt)} -> {clean(finding.target)}")
        for reading in finding.readings[:_SHOWN]:
            show(f"  {_outcome(reading, finding, found.threshold)}")
        if len(finding.readings) > _SHOWN:
            show(f"  … and {counted(len(finding.readings) - _SHOWN, 'reading')} more")
        show(f"  {finding.advice}\n")
    kinds = [finding.kind for finding in found.findings]
    summary = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)) or "nothing found"
    show(f"{counted(found.edits, 'edit')}, {counted(found.readings, 'reading')}: {summary}.")
    if found.recall is not None:
        show(f"The index finds the nearest entry of {found.recall:.1%} of 1,000 queries about stored keys.")


def _outcome(reading: Reading, finding: Finding, threshold: float) -> str:
    where = "in chat" if reading.chat else "plain"
    went = "" if reading.nearest == finding.edit_id else f"edit {reading.nearest} "
    done = "fires" if reading.fired else "does not fire"
    sign = ">" if reading.score > threshold else "<="
    close = ", within the margin" if not reading.fired and reading.score > threshold else ""
    return f"{where}: {clean(reading.text)}: {went}{done}, score {reading.score:.3f} {sign} {threshold:g}{close}"
