"""Values that another codebook of the same model holds already, so that they need not be trained again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from torch import Tensor

from horen.config import GATE_SETTINGS
from horen.edits import Edit, same_text
from horen.errors import MismatchError
from horen.saving import Saved
from horen.training import Trained

if TYPE_CHECKING:
    from horen.session import Session

# The threshold and how keys are made are not among them: they decide which edits share a value.
_NOT_OF_VALUES = {"preset", "similar_threshold", *GATE_SETTINGS} - {"threshold"}


class KnownValues:
    """Trained values by edit.

    Args:
        path: a folder written by :meth:`horen.Editor.save`.
        session: of the editor that will use them.

    Raises:
        StoreError: when the folder is missing, truncated or altered.
        MismatchError: when it is of another model, or of settings with which a value comes out otherwise.
    """

    def __init__(self, path: str | os.PathLike[str], session: Session) -> None:
        saved = Saved.read(path)
        saved.check_model(session.model)
        theirs, ours = saved.config.to_dict(), session.config.to_dict()
        for name in sorted(set(ours) - _NOT_OF_VALUES):
            if theirs[name] != ours[name]:
                raise MismatchError(
                    f"{path} holds values that were trained with {name}={theirs[name]!r}, not {ours[name]!r}: "
                    "use the same settings, or train anew."
                )
        self._values: Tensor = saved.folder.tensors["values"]
        self._records = {
            _key(record.prompt, record.target, record.rephrases): record
            for operation in saved.history.operations
            for record in operation.added
            if not record.reused
        }

    def find(self, edit: Edit) -> Trained | None:
        """The value of the very same edit, or None."""
        record = self._records.get(_key(edit.prompt, edit.target, tuple(edit.rephrases)))
        if record is None:
            return None
        return Trained(self._values[record.value].clone(), record.loss, record.steps, record.converged)


def _key(prompt: str, target: str, rephrases: tuple[str, ...]) -> tuple[str, ...]:
    return (same_text(prompt), same_text(target), *rephrases)
