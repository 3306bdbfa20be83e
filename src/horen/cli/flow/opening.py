"""Loading models and saved codebooks for the commands that need them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from horen.cli.flow.staying import made_to_stay
from horen.cli.terminal import status
from horen.config import ENCODER, HorenConfig
from horen.errors import ModelError
from horen.model.zoo.embedded import EMBEDDED, fetch, full_name, is_cached
from horen.model.zoo.local_gguf import WEIGHTS, convert, is_gguf

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from horen.editor import Editor
    from horen.store.calibration import Calibration
    from horen.store.state import Saved


def _check_there(saved: Saved, name: str) -> None:
    """Raise ModelError when the folder or file of a codebook's model is gone."""
    if name == saved.source and Path(name).is_absolute() and not Path(name).exists():
        raise ModelError(
            f"The model {name!r} cannot be loaded: {saved.path} was made for it, and it is not there any more: say "
            "with --model where it is now."
        )


def make_ready(model: str, config: HorenConfig | None = None, dtype: str = "auto") -> None:
    """Fetch an embedded model and text encoder, or convert a GGUF file, where that is still to be done; show how far.

    Transformers is told to be quiet.
    """
    if model in EMBEDDED and not is_cached(model):
        fetch(model, progress=True)
    elif is_gguf(model):
        convert(model, WEIGHTS if dtype == "auto" else dtype, progress=True)
    if config is not None and config.reads_text and config.encoder == ENCODER:
        from horen.model.zoo.encoder import fetch_encoder  # noqa: PLC0415

        fetch_encoder(progress=True)  # shows nothing where it is there
    import transformers  # noqa: PLC0415

    logging: Any = transformers.logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def new_editor(
    model: str, config: HorenConfig, dtype: str, device: str | None, *, calibration: Calibration | None = None
) -> Editor:
    """Load a model for a new codebook, and measure its key space."""
    make_ready(model, config, dtype)
    with status(f"Loading {model} …"):
        from horen.editor import Editor  # noqa: PLC0415

        check_device(device)
        editor = Editor.from_pretrained(full_name(model), config, calibration=calibration, dtype=dtype, device=device)
    with status("Measuring how the model reads (once for each codebook) …"):
        editor.prepare()
    return editor


def open_editor(
    folder: Path,
    model: str | None,
    dtype: str,
    device: str | None,
    *,
    saved: Saved | None = None,
    empty: bool = False,
    encoder: str | None = None,
) -> Editor:
    """Load a saved codebook and its model.

    Args:
        folder: where the codebook is.
        model: the user's name for its model; None for where it came from.
        dtype: of the weights.
        device: where to put the model.
        saved: what the folder holds, where the caller has read it.
        empty: whether its edits are left out.
        encoder: the user's name for its text encoder; None for the package's own.

    Raises:
        ModelError: when ``model`` is the name of another one, or none can be loaded, or the text encoder must be named.
    """
    with made_to_stay():
        from horen.store.state import Saved  # noqa: PLC0415

        saved = (saved or Saved.read(folder)).with_encoder(encoder)
        name = ready_model(saved, model, saved.config, dtype)
        with status(f"Loading {name} …"):
            from horen.editor import Editor  # noqa: PLC0415
            from horen.model.zoo.loading import load_model  # noqa: PLC0415

            check_device(device)
            if name == saved.source:
                return Editor.load(saved, dtype=dtype, device=device, empty=empty, encoder=encoder)
            return Editor.load(saved, *load_model(name, dtype=dtype, device=device), empty=empty, encoder=encoder)


def open_model(
    saved: Saved, model: str | None, config: HorenConfig, dtype: str, device: str | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the model of a saved codebook for other settings; see :func:`open_editor`."""
    name = ready_model(saved, model, config, dtype)
    with status(f"Loading {name} …"):
        from horen.model.zoo.loading import load_model  # noqa: PLC0415

        check_device(device)
        options = saved.model_options() if name == saved.source else None
        return load_model(name, dtype=dtype, device=device, options=options)


def ready_model(saved: Saved, model: str | None, config: HorenConfig, dtype: str) -> str:
    """Return the name of a saved codebook's model, which is fetched or converted where that is still to be done.

    Raises:
        ModelError: when ``model`` is the name of another one, or none is there.
    """
    name = model_of(saved, model)
    _check_there(saved, name)
    make_ready(name, config, dtype)
    return name


def model_of(saved: Saved, given: str | None) -> str:
    """Return the model to load for a saved codebook.

    It is its own, or the folder or file to which the user says it has moved.

    Raises:
        ModelError: when the user names another one, or none is known.
    """
    source = saved.source
    if given is None:
        if source is None:
            raise ModelError(f"{saved.path} does not record where its model came from: say it with --model.")
        return source
    wanted = full_name(given)
    if source is not None and wanted in {source, full_name(source)}:
        return source
    # Whether a folder or file holds the same weights is seen when it is loaded.
    if source is None or Path(wanted).is_dir() or is_gguf(wanted):
        return wanted
    raise ModelError(
        f"{saved.path} was made for the model {source!r}, not {given!r}: leave --model out, or choose another folder "
        "for the edits of that model."
    )


def check_device(device: str | None) -> None:
    """Raise ModelError for a device that cannot be used here."""
    if device is None:
        return
    import torch  # noqa: PLC0415

    try:
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise ModelError(
            f"The device {device!r} cannot be used here ({reason}): leave --device out for cpu."
        ) from error
