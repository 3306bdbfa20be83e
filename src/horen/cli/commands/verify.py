"""The command that proves on the user's own model and machine that edits do what they should."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from horen.cli.flow.opening import check_device, make_ready, ready_model
from horen.cli.options import AsJson, Device, Dtype, EncoderPlace, Place, WeightType, model_option
from horen.cli.stores.opening import folder_at
from horen.cli.terminal import NUMBER, Phases, emit, show, show_table, table
from horen.config import HorenConfig
from horen.errors import ConfigError
from horen.model.zoo.embedded import full_name

if TYPE_CHECKING:
    from horen.verify import Check, Verification

_STYLES = {"pass": "green", "fail": "bold red", "skipped": "dim"}


def verify(
    place: Annotated[
        Place | None,
        typer.Argument(
            metavar="PLACE",
            help="Check edits of this codebook, a folder or a store, which is only read, not built-in ones.",
            parser=Place,
        ),
    ] = None,
    model: Annotated[
        str | None,
        model_option(
            "An embedded name, a folder, a GGUF file or a hub id.  [default: the codebook's own, else "
            "smollm2-135m-instruct]"
        ),
    ] = None,
    codebook: Annotated[Path | None, typer.Option("--codebook", metavar="DIR", help="The same as PLACE.")] = None,
    vllm: Annotated[
        bool, typer.Option("--vllm", help="Check how vLLM serves them, against transformers and against stock vLLM.")
    ] = False,
    compiled: Annotated[
        bool, typer.Option("--compiled", help="With --vllm: let it compile and capture graphs, as it does by default.")
    ] = False,
    encoder: EncoderPlace = None,
    dtype: WeightType = Dtype.auto,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Prove on your own model that edits work and change nothing else.

    Four facts are written into the model (or six edits of a codebook are looked at): they must fire and answer, alone
    and in batches, with and without a cache, in chat and streamed. Whatever wakes nothing, and the model after undo,
    must give the untouched model's logits to the last bit, and another process that loads the codebook the same ones.

    With --vllm an engine serves a copy of the codebook: its prompts must wake the same edits as in transformers, a
    mixed batch, a change of the folder and the prefix cache must mix nothing up, and where no edit answers, tokens and
    log-probabilities must be those of an engine without the plugin. What edits cost is measured and not judged.

    A check fails, passes, or is left out with the reason; after them stands a report to paste into a bug report, with
    neither paths nor prompts in it. The exit code is 1 when a check fails. Takes half a minute with the default model
    on two cores, and with --vllm some minutes.
    """
    codebook = _one(place, codebook)
    if not vllm and compiled:
        raise typer.BadParameter("--compiled is about graphs of vLLM: give --vllm too, or leave it out.")
    if vllm:
        from horen.extras import require  # noqa: PLC0415

        require("vllm", "--vllm needs")
        if encoder is not None:
            raise ConfigError("vLLM serves codebooks of the package's own text encoder alone: leave --encoder out.")
    name = _ready(model, codebook, encoder, dtype.value)
    check_device(device)
    with Phases() as phases:
        if vllm:
            from horen.verify import verify_serving  # noqa: PLC0415

            found = verify_serving(
                name, codebook=codebook, dtype=dtype.value, device=device, compiled=compiled, progress=phases.at
            )
        else:
            from horen.verify import verify as run  # noqa: PLC0415

            found = run(name, codebook=codebook, dtype=dtype.value, device=device, encoder=encoder, progress=phases.at)
    if as_json:
        emit(found.to_dict())
    else:
        _show(found)
    if not found.passed:
        raise typer.Exit(1)


def _one(place: Place | None, codebook: Path | None) -> Path | None:
    """Return the codebook that is named.

    Raises:
        BadParameter: where there are two.
    """
    if place is None:
        return codebook
    if codebook is not None:
        raise typer.BadParameter(f"{place} and --codebook {codebook} are two codebooks: name one.")
    return folder_at(place)


def _ready(model: str | None, codebook: Path | None, encoder: str | None, dtype: str) -> str:
    """Return the name of the model to check, which is fetched or converted where that is still to be done."""
    if codebook is None:
        name = full_name(model or "smollm2-135m-instruct")
        make_ready(name, HorenConfig(), dtype)
        return name
    from horen.store.state import Saved  # noqa: PLC0415

    saved = Saved.read(codebook).with_encoder(encoder)
    return ready_model(saved, model, saved.config, dtype)


def _show(found: Verification) -> None:
    headers: tuple[str | tuple[str, dict[str, Any]], ...] = (
        "check",
        "",
        ("s", NUMBER),
        ("what holds", {"ratio": 3}),
        ("found", {"ratio": 4}),
    )
    show_table(table(headers, (_row(check) for check in found.checks)))
    for check in found.checks:
        if check.outcome == "fail":
            show(f"\n{check.name}: {check.detail}", style="bold red")
    show("\nTo paste into a bug report:\n", style="bold")
    show(found.report())


def _row(check: Check) -> list[str | Text]:
    sign = Text(check.sign, style=_STYLES[check.outcome])
    return [check.name, sign, f"{check.seconds:.1f}", check.title, check.detail]
