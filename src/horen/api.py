"""One way to every editor: HoReN, and those that it is compared with."""

from __future__ import annotations

import os
from typing import Any, Literal, overload

import torch

from horen.config import HorenConfig
from horen.config.settings import Settings
from horen.editor import Editor
from horen.editors import MethodEditor
from horen.errors import ConfigError
from horen.model.zoo.loading import ModelOptions
from horen.store.calibration import Calibration


@overload
def open_editor(
    name: str,
    method: Literal["horen"] = "horen",
    config: HorenConfig | None = None,
    *,
    calibration: Calibration | str | os.PathLike[str] | None = None,
    dtype: torch.dtype | str = "auto",
    device: str | torch.device | None = None,
    progress: bool = False,
    model_options: ModelOptions | None = None,
) -> Editor: ...
@overload
def open_editor(
    name: str,
    method: str,
    config: Settings | None = None,
    *,
    calibration: Calibration | str | os.PathLike[str] | None = None,
    dtype: torch.dtype | str = "auto",
    device: str | torch.device | None = None,
    progress: bool = False,
    model_options: ModelOptions | None = None,
) -> Editor | MethodEditor: ...
def open_editor(
    name: str,
    method: str = "horen",
    config: Any = None,
    *,
    calibration: Calibration | str | os.PathLike[str] | None = None,
    dtype: torch.dtype | str = "auto",
    device: str | torch.device | None = None,
    progress: bool = False,
    model_options: ModelOptions | None = None,
) -> Editor | MethodEditor:
    """Load a model and open an editor on it.

    Args:
        name: an embedded name, a folder, a GGUF file (converted on first use), or a hub id.
        method: the editor, one of ``horen.editors.METHODS``. With another than "horen" what comes back is a
            :class:`horen.editors.MethodEditor`.
        config: the settings, of the method's own class; None for its default preset.
        calibration: see :class:`horen.Editor`; HoReN's own.
        dtype: of the weights; "auto" keeps the saved one, and takes bfloat16 for those of a GGUF file.
        device: where to put the model; None for the CPU.
        progress: show the fetching of an embedded model, or the conversion of a file, on standard error.
        model_options: what else transformers is told: :class:`horen.model.zoo.loading.ModelOptions`.

    Raises:
        ModelError: when the model cannot be loaded or wrapped.
        ConfigError: for an unknown method or option, or a calibration or settings that are not the method's.
    """
    if method == "horen":
        return Editor.from_pretrained(
            name,
            config,
            calibration=calibration,
            dtype=dtype,
            device=device,
            progress=progress,
            model_options=model_options,
        )
    if calibration is not None:
        raise ConfigError(f"A calibration is HoReN's: omit it, or omit method={method!r}.")
    return MethodEditor.from_pretrained(
        name, method, config, dtype=dtype, device=device, progress=progress, model_options=model_options
    )
