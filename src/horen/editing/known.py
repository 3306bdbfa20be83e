"""Values (and keys) that other codebooks of the same model hold already, so that they need not be made again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from horen.config import KEY_SETTINGS, VALUE_SETTINGS
from horen.config.settings import check_same
from horen.editing.training import Trained
from horen.edits import Edit, EditRecord, same_text
from horen.errors import MismatchError, StoreError
from horen.memory import Packed
from horen.model.devices import device_of
from horen.session import Session
from horen.store.state import Saved

# How keys are made and stored and the threshold decide which edits share a value.
_MUST_AGREE = (*KEY_SETTINGS, "key_storage", *VALUE_SETTINGS, "threshold")


class KnownValues:
    """Trained values by edit, and where asked for keys by wordings.

    Args:
        parts: saved codebooks; of several that hold an edit the first counts.
        session: of the editor that will use them.
        keys: whether keys are taken as well, from those parts whose key space is bit for bit the session's.

    Raises:
        StoreError: when the tables of a part do not fit its history.
        MismatchError: when a part is of another model or text encoder, or of settings with which a value comes out
            otherwise; with ``keys`` of any other settings.
    """

    def __init__(self, parts: Sequence[Saved], session: Session, *, keys: bool = False) -> None:
        self._session = session
        self._values: dict[tuple[str, ...], tuple[Packed, EditRecord]] = {}
        self._keys: dict[tuple[str, ...], tuple[Tensor, tuple[int, ...]]] = {}
        checked = []
        for saved in parts:
            made_for = saved.folder.config["model"].get("fingerprint")
            if made_for not in checked:  # every weight of the model is read for it
                saved.check_model(session.model)
                checked.append(made_for)
            if keys:
                check_same(saved.path, saved.config.of_edits(), session.config.of_edits())
                saved.check_encoder(session.config.encoder, session.encoder_print)
            else:
                _check_training(saved, session)
        for saved in reversed(parts):
            self._take(saved, keys=keys and _same_space(saved, session))

    def find(self, edit: Edit, left: tuple[int, ...]) -> list[Trained] | None:
        """Return the values of the very same edit, or None; ``left`` is :attr:`horen.edits.EditRecord.left`."""
        found = self._values.get(_key(edit.prompt, edit.target, edit.rephrases))
        if found is None or found[1].left != left:
            return None
        values, record = found
        rows = values[list(record.values)].floats().to(device_of(self._session.model))
        return [Trained(value, record.loss, record.steps, record.converged) for value in rows]

    def keys(self, edit: Edit, count: int) -> Tensor | None:
        """Return the keys [count, d_k] of the very same wordings, or None."""
        found = self._keys.get((edit.prompt, *edit.rephrases))
        if found is None or len(found[1]) != count:
            return None
        numbers = found[0][list(found[1])].to(device_of(self._session.model))
        return self._session.config.of_keys().read(numbers)

    def _take(self, saved: Saved, *, keys: bool) -> None:
        tensors = saved.folder.tensors
        records = saved.history.stored()
        rows = max((entry for record in records for entry in record.entries), default=-1)
        values = max((record.values[-1] for record in records), default=-1)
        if not ("keys" in tensors and "values" in tensors):
            raise StoreError(f"{saved.path} lacks keys or values: restore the folder from a copy.")
        stored, made = saved.values(tensors), saved.keys(tensors)
        if rows >= len(made) or values >= len(stored):
            raise StoreError(
                f"{saved.path}: codebook.safetensors does not fit edits.jsonl: restore the folder from a copy."
            )
        for record in records:
            if not record.reused:
                self._values[_key(record.prompt, record.target, record.rephrases)] = (stored, record)
            if keys:
                self._keys[record.prompt, *record.rephrases] = (made, record.entries)


def _check_training(saved: Saved, session: Session) -> None:
    theirs, ours = saved.config.to_dict(), session.config.to_dict()
    for name in sorted(_MUST_AGREE):
        if theirs[name] != ours[name]:
            raise MismatchError(
                f"{saved.path} holds values that were trained with {name}={theirs[name]!r}, not {ours[name]!r}: "
                "use the same settings, or train anew."
            )


def _same_space(saved: Saved, session: Session) -> bool:
    space, tensors = session.key_space, saved.folder.tensors
    own = {"key_space.mean": space.mean, "key_space.map": space.map, "token_weights": session.token_weights}
    return all(_equal(tensor, tensors.get(name)) for name, tensor in own.items())


def _equal(one: Tensor | None, two: Tensor | None) -> bool:
    if one is None or two is None:
        return one is two
    return torch.equal(one.cpu(), two.cpu())


def _key(prompt: str, target: str, rephrases: Sequence[str]) -> tuple[str, ...]:
    return (same_text(prompt), same_text(target), *rephrases)
