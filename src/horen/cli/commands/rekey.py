"""The command that gives a codebook keys of another kind: rekey."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from horen.cli.options import (
    AsJson,
    Device,
    Dtype,
    EncoderPlace,
    Folder,
    ModelPlace,
    Preset,
    WeightType,
    calibration_option,
    parse_settings,
    set_option,
)
from horen.cli.terminal import counted, edit_bar, emit, show
from horen.config import RECALL_SETTINGS, SEARCH_SETTINGS
from horen.errors import ConfigError

REKEY_HELP = """Give the edits of a codebook new keys, without training.

What is read to make keys, and when an edit fires, may change: read_sites, encoder, threshold and so on. Values and
history stay bit for bit, so undo goes on as before. The folder is replaced as a whole, or left as it was. Where only
the search or recall changes (index, index_candidates, recall, recall_tokens), the keys stay as well.

\b
Examples:
  horen rekey facts --preset text
  horen rekey facts --calibration smollm2-135m-instruct
  horen rekey facts --set threshold=0.6 --out stricter
"""


def rekey(
    place: Folder,
    settings: Annotated[
        list[str] | None, set_option("Change a setting of the keys, the gate, the search or recall; may be repeated.")
    ] = None,
    preset: Annotated[
        Preset | None, typer.Option("--preset", help="Take the settings of the keys and the gate from a preset.")
    ] = None,
    calibration: Annotated[
        str | None,
        calibration_option(
            'Read as a folder of "horen calibrate" says, or the calibration of an embedded model by its name.'
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="NEW", help="Write a new folder and leave DIR as it is.")
    ] = None,
    model: ModelPlace = None,
    encoder: EncoderPlace = None,
    dtype: WeightType = Dtype.auto,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Make keys anew; see REKEY_HELP."""
    from horen.cli.flow.opening import open_model  # noqa: PLC0415
    from horen.editing.rekey import changed_settings, check_empty, check_same_values, rekey_folder  # noqa: PLC0415
    from horen.model.zoo.embedded import named_encoder  # noqa: PLC0415
    from horen.store import lock_folder  # noqa: PLC0415
    from horen.store.calibration import Calibration  # noqa: PLC0415
    from horen.store.state import Saved  # noqa: PLC0415

    if not settings and preset is None and calibration is None:
        raise ConfigError("Nothing is to change: say with --set, --preset or --calibration how keys shall be made.")
    folder = place.folder(
        f"write a folder with horen follow {place} NEW --once, rekey that with --out REKEYED, and take it into a new "
        "store with horen import REKEYED --into …"
    )
    started = time.monotonic()
    changes = parse_settings(settings or [])
    if encoder is not None:
        changes["encoder"] = encoder
    named = changes.get("encoder")
    gate = {name: value for name, value in changes.items() if name != "encoder"}
    found = None if calibration is None else Calibration.load(calibration, encoder=named).changed(gate)
    with lock_folder(folder, create=False):
        saved = Saved.read(folder)
        config = changed_settings(saved.config, preset, {**({} if found is None else found.settings), **changes})
        if config.reads_text:
            named_encoder(folder, config.encoder, named)
        check_same_values(saved.config, config)  # what cannot be shows before the model is loaded
        check_empty(out)
        loaded = open_model(saved, model, config, dtype.value, device)
        if found is not None:
            found.check_model(loaded[0])
        total = len(saved.history.stored())
        with edit_bar(total, "Reading") as bar:
            rekey_folder(
                folder,
                *loaded,
                config,
                key_space=None if found is None else found.space,
                token_weights=None if found is None else found.token_weights,
                out=out,
                progress=lambda done, _: bar(done),
            )
    before = saved.config.to_dict()
    changed = {name: value for name, value in config.to_dict().items() if value != before[name]}
    document = {
        "folder": str(out or folder),
        "edits": total,
        "active": len(saved.history),
        "changed": changed,
        "seconds": round(time.monotonic() - started, 3),
    }
    if as_json:
        emit(document)
        return
    be, have, keep = ("is", "has", "keeps its") if total == 1 else ("are", "have", "keep their")
    if changed and changed.keys() <= {*SEARCH_SETTINGS, *RECALL_SETTINGS}:
        done = f"{be} searched otherwise" if changed.keys() & set(SEARCH_SETTINGS) else f"{keep} keys"
    else:
        done = f"{have} new keys"
    show(f"{document['folder']}: {counted(total, 'edit')} of the history {done}; {document['seconds']:.1f} s.")
    for name, value in changed.items():
        show(f"  {name}={value} (was {before[name]})")
