"""Giving stored edits keys in another key space, while their values and their history stay as they are."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.config import KEY_SETTINGS, HorenConfig
from horen.edits import Edit, EditRecord, Progress
from horen.errors import ConfigError, StoreError
from horen.memory import KeySpace
from horen.model.fingerprint import Weights, difference
from horen.model.quiet import quiet
from horen.session import Session
from horen.store import lock_folder
from horen.store.state import CodebookState, Saved

_EDITS_TOGETHER = 256


def rekeyed(
    before: CodebookState,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: HorenConfig,
    *,
    weights: Weights | None = None,
    key_space: KeySpace | None = None,
    token_weights: Tensor | None = None,
    progress: Progress | None = None,
) -> Session:
    """Make a session, not wrapped yet, whose codebook has keys of its own settings and everything else as it was.

    Every wording of every edit that has entries is read, of removed and superseded ones too, so undo goes on working.

    Args:
        before: the codebook so far, of which values and history stay; its keys need not be there.
        model: the one that the values were trained for; edits on it must be disabled.
        tokenizer: the model's own.
        config: the new settings.
        weights: the model's when the codebook began; None for as they are.
        key_space: what to make keys in; None keeps the one so far, which may be a calibrated one, where no setting
            changes that keys are made with, and else measures the model as a new codebook does.
        token_weights: [V] float32, how much each token counts; None counts them where the settings want it.
        progress: called with (edits done, edits to do).

    Raises:
        ConfigError: when a setting differs with which values are trained, or a site does not fit the model.
        ModelError: when a text encoder cannot be loaded.
        StoreError: when history and tables do not fit each other or the model.
    """
    check_same_values(before.config, config)
    session = Session(model, tokenizer, config)
    records = before.history.stored()
    _check_tables(before, records, session)
    alike = key_space is None and _reads_alike(before, session)
    if alike:
        key_space, token_weights = before.space, before.token_weights
    space = session.prepare(key_space, token_weights)
    device = space.mean.device
    shape = (len(before.value_of), space.dimension)
    if alike and before.keys is not None and before.keys.shape == shape and _keeps_keys(before, session):
        keys = before.keys.to(device)
    else:
        keys = _read(
            session, records, torch.empty(shape, dtype=session.config.of_keys().dtype, device=device), progress
        )
    after = dataclasses.replace(
        before,
        config=session.config,
        encoder=session.encoder_print,
        keys=keys,
        values=before.values.to(device),
        value_of=before.value_of.to(device),
        space=space,
        token_weights=session.token_weights,
    )
    session.take(after, after.codebook(), weights)
    return session


def renewed(session: Session, config: HorenConfig, progress: Progress | None) -> Session:
    """Return what takes the place of an editor's session, with other settings; see :func:`rekeyed`."""
    with quiet(session.adapter):
        new = rekeyed(
            session.state(), session.model, session.tokenizer, config, weights=session.weights, progress=progress
        )
    # What they hold is keys of the other space.
    new.folders = {path: dict.fromkeys(known) for path, known in session.folders.items()}
    return new


def _read(session: Session, records: list[EditRecord], keys: Tensor, progress: Progress | None) -> Tensor:
    """Fill [n, d_k] stored keys with those of every wording of every edit."""
    storage = session.config.of_keys()
    for start in range(0, len(records), _EDITS_TOGETHER):
        some = records[start : start + _EDITS_TOGETHER]
        keys[[entry for record in some for entry in record.entries]] = storage.pack(
            session.keys([row for record in some for row in _wordings(session, record)])
        )
        if progress is not None:
            progress(start + len(some), len(records))
    return keys


def swap(old: Session, new: Session) -> None:
    """Take one session's hooks off the model and put another's on; on an error the old ones are there again."""
    try:
        old.unwrap()
        new.wrap()
    except BaseException:
        new.unwrap()
        old.unwrap()  # what an interruption left of it
        old.wrap()
        raise


def rekey_folder(
    path: str | os.PathLike[str],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: HorenConfig,
    *,
    key_space: KeySpace | None = None,
    token_weights: Tensor | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> None:
    """Give the edits of a saved codebook keys in another key space, as a whole or not at all.

    The present keys are not needed, so a codebook whose text encoder is lost can be given another one.

    Args:
        path: a folder written by :meth:`horen.Editor.save`.
        model: the one that it was made for, not wrapped.
        tokenizer: the model's own.
        config: see :func:`rekeyed`, like what follows.
        key_space: a ready key space.
        token_weights: ready weights of tokens.
        out: a folder that does not exist yet or is empty, for the result; None replaces what ``path`` holds.
        progress: called with (edits done, edits to do).

    Raises:
        StoreError: when a folder cannot be read or written, or ``out`` holds something.
        MismatchError: when the codebook was made for another model or by a newer version.
        ConfigError: see :func:`rekeyed`, like what follows.
        ModelError: when a text encoder cannot be loaded.
    """
    check_empty(out)
    with lock_folder(Path(path), create=False):
        saved = Saved.read(path)
        saved.check_model(model)
        session = rekeyed(
            saved.state(),
            model,
            tokenizer,
            config,
            key_space=key_space,
            token_weights=token_weights,
            progress=progress,
        )
        session.save(path if out is None else out)


def check_empty(out: str | os.PathLike[str] | None) -> None:
    """Raise StoreError when a folder for the result holds something."""
    place = None if out is None else Path(out)
    if place is not None and place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise StoreError(f"{place} is there already and holds something: name a new folder for the result.")


def changed_settings(old: HorenConfig, preset: str | None, changes: Mapping[str, Any]) -> HorenConfig:
    """Return settings for new keys: the old ones, those of a preset that no value is trained with, and changes on top.

    Raises:
        ConfigError: for a setting or preset that is not valid.
    """
    settings = old.to_dict()
    if preset is not None:
        settings |= HorenConfig.from_preset(preset).to_dict() | old.of_values()
    return HorenConfig.from_dict(settings | dict(changes))


def check_same_values(old: HorenConfig, new: HorenConfig) -> None:
    """Raise ConfigError when settings differ with which values are trained."""
    for name, value in old.of_values().items():
        wanted = getattr(new, name)
        if wanted != value:
            raise ConfigError(
                f"{name}={wanted!r} cannot be: rekeying keeps the values, which were trained with {name}={value!r}. "
                "Leave it as it is, or write the edits anew (horen export and horen import)."
            )


def _reads_alike(before: CodebookState, session: Session) -> bool:
    """Return whether a session makes features as they were made.

    The folder of a text encoder may hold another by now.
    """
    if any(getattr(before.config, name) != getattr(session.config, name) for name in KEY_SETTINGS):
        return False
    if before.encoder is None or session.encoder_print is None:
        return before.encoder is None and session.encoder_print is None
    return difference(before.encoder, session.encoder_print) is None


def _keeps_keys(before: CodebookState, session: Session) -> bool:
    """Return whether settings of search or recall change and no others."""
    return before.config != session.config and before.config.of_edits() == session.config.of_edits()


def _check_tables(before: CodebookState, records: list[EditRecord], session: Session) -> None:
    named = sorted(entry for record in records for entry in record.entries)
    if named != list(range(len(before.value_of))):
        raise StoreError("The history does not name every entry of the codebook once: restore it from a copy.")
    size = before.values.numbers.shape[1]
    if len(before.values) and size != session.value_size:
        raise StoreError(
            f"The codebook's values have {size} numbers and the model's {session.value_size}: restore it from a copy."
        )


def _wordings(session: Session, record: EditRecord) -> list[list[int]]:
    rows = session.contexts.wordings(Edit(record.prompt, record.target, record.rephrases))
    if len(rows) != len(record.entries):
        raise StoreError(
            f"Edit {record.id} has {len(record.entries)} entries for {len(rows)} wordings: restore it from a copy."
        )
    return rows
