"""Keeping a method's state in a durable folder, and taking it up again on the model that it was made for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from horen.config.settings import check_same
from horen.errors import MismatchError, StoreError
from horen.model.fingerprint import difference, fingerprint
from horen.store import Folder, read_folder, write_folder
from horen.store.operations import now


def write_state(
    folder: Path,
    name: str,
    model: PreTrainedModel,
    settings: Mapping[str, Any],
    *,
    records: Sequence[Mapping[str, Any]] = (),
    tensors: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a method's state, as a whole or not at all.

    Args:
        folder: where to.
        name: of the method.
        model: that the state belongs to.
        settings: of the method, as JSON takes them.
        records: one JSON object for each thing that is stored.
        tensors: what belongs to the records.

    Raises:
        StoreError: when the folder cannot be written; what it held before is intact.
    """
    config = {"settings": dict(settings), "model": {"fingerprint": fingerprint(model)}, "saved": now()}
    write_folder(folder, config=config, records=records, tensors=tensors or {}, kind=_kind(name))


def read_state(folder: Path, name: str, model: PreTrainedModel, settings: Mapping[str, Any]) -> Folder:
    """Read what :func:`write_state` wrote for the same method, settings and model; tensors are on the CPU.

    Raises:
        StoreError: when the folder is missing, truncated, altered or holds something else.
        MismatchError: when it was made with other settings, for another model or by a newer version.
    """
    found = read_folder(folder, kind=_kind(name))
    try:
        check_same(folder, found.config["settings"], settings)
        differs = difference(found.config["model"]["fingerprint"], fingerprint(model))
    except (KeyError, TypeError) as error:
        raise StoreError(f"{folder} records no settings or model: restore the folder from a copy.") from error
    if differs:
        raise MismatchError(f"{folder} was made for another model ({differs}): open the method on that model.")
    return found


def _kind(name: str) -> str:
    return f"state of the method {name}"
