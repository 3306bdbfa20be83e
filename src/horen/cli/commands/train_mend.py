"""The command that trains the network of MEND."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from horen.cli.flow.opening import make_ready
from horen.cli.options import AsJson, Device, Dtype, Preset, WeightType, model_option, parse_settings, set_option
from horen.cli.terminal import Phases, emit, interrupted, say
from horen.model.zoo.embedded import full_name

if TYPE_CHECKING:
    from horen.bench.records import Record
    from horen.editors.mend import Lesson


def train_mend(
    dataset: Annotated[str, typer.Option("--dataset", metavar="NAME", help='A format ("horen bench datasets").')],
    path: Annotated[str, typer.Option("--path", metavar="FILE", help="Its training split, or a hub id.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the network.")],
    preset: Annotated[Preset, typer.Option("--preset", help="Settings of the training.")] = Preset.default,
    settings: Annotated[list[str] | None, set_option("Change a setting; may be repeated.")] = None,
    edits: Annotated[int, typer.Option("--edits", min=0, help="Most edits to train on; 0: all.")] = 0,
    skip: Annotated[int, typer.Option("--skip", min=0, help="Usable records left out at the file's beginning.")] = 0,
    model: Annotated[str, model_option("An embedded name, folder, GGUF file or hub id.")] = "smollm2-135m-instruct",
    dtype: WeightType = Dtype.auto,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Train the network that the editor "mend" needs.

    It is trained on edits that no benchmark asks about: their rephrases, and prompts of the file that they must leave
    alone (other edits' prompts where it has none). Training is saved once a minute: after Ctrl-C the same command goes
    on, and ends with the very same network. Then: horen bench run --method mend --set network=DIR.

    \b
    Example:
      horen bench train-mend --dataset zsre --path zsre_train.json --out mend
    """
    from horen.bench.datasets import load  # noqa: PLC0415
    from horen.editors.mend import MendTraining, train_network  # noqa: PLC0415
    from horen.model.zoo.loading import load_model  # noqa: PLC0415

    training = MendTraining.from_preset(preset.value, **parse_settings(settings or []))
    data = load(dataset, path, limit=skip + edits if edits else None)
    lessons = [_lesson(record) for record in data.records[skip:]]
    make_ready(model, dtype=dtype.value)
    try:
        with Phases() as phases:
            phases.at(f"Loading {model}", 0, 0)
            loaded, tokenizer = load_model(full_name(model), dtype=dtype.value, device=device)
            found = train_network(loaded, tokenizer, lessons, training, out, progress=phases.at)
    except KeyboardInterrupt:
        raise interrupted(f"Interrupted: what was saved is in {out}. The same command goes on.") from None
    if as_json:
        emit({"folder": str(out), "edits": len(lessons), "steps": found.step, "history": found.history})
        return
    if found.history:
        last = found.history[-1]
        say(f"Edit loss {last['edit_loss']:.3f}, KL {last['kl']:.4f} nats a token over the last steps.")
    say(f"The network is in {out}: horen bench run --method mend --set network={out} …")


def _lesson(record: Record) -> Lesson:
    from horen.editors.mend import Lesson  # noqa: PLC0415
    from horen.edits import Edit  # noqa: PLC0415

    edit = Edit(record.prompt, record.target, record.rephrases, record.subject)
    return Lesson(edit, tuple(negative.text for negative in record.negatives))
