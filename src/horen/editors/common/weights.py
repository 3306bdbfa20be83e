"""What the methods that change weights share: the originals are kept, so the model can be had back bit for bit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.config.settings import Settings
from horen.editors.common.base import Untouched, latest
from horen.editors.common.states import read_state, write_state
from horen.edits import Edit, same_text
from horen.errors import ModelError, StoreError
from horen.model.partial.frozen import frozen

_OPEN = "_horen_weights"


class WeightMethod(Untouched, ABC):
    """A method that writes edits into weights.

    A prompt whose stored target an edit repeats is not written again. There is no way to take one edit out of many:
    :meth:`undo` takes back the last call of :meth:`edit`, ``close()`` all of them.

    Args:
        model: a decoder-only transformers model, in memory as a whole.
        tokenizer: the model's own, a fast one.
        config: the method's settings.
        names: of the parameters that edits may change, as ``model.named_parameters()`` has them.

    Raises:
        ModelError: when another method of this kind is open on the model, a name is unknown, or a parameter's
            weights are not in memory.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: Settings, names: Iterable[str]
    ) -> None:
        super().__init__(model, tokenizer)
        if getattr(model, _OPEN, None) is not None:
            raise ModelError(f"Another method holds this model's weights: close it before you open {self.name!r}.")
        self.config = config
        self._altered = _parameters(model, names)
        self._originals = {name: parameter.data for name, parameter in self._altered.items()}
        self._targets: dict[str, Edit] = {}
        self._before: tuple[dict[str, Tensor], dict[str, Edit], dict[str, Tensor]] | None = None
        setattr(model, _OPEN, self)

    @abstractmethod
    def _write(self, edits: Sequence[Edit]) -> None:
        """Change the weights for edits whose prompts differ, by ``_add`` or ``_point``.

        Never in place: the tensors that parameters have may be the originals. The model is in evaluation mode and its
        parameters take no gradient meanwhile.
        """

    def _statistics(self) -> dict[str, Tensor]:
        """Return what the method has gathered of earlier edits, beyond the weights; by default nothing."""
        return {}

    def _take_statistics(self, statistics: Mapping[str, Tensor]) -> None:
        """Take up what ``_statistics`` gave. Raises KeyError or ValueError when it does not fit."""

    def _saved_settings(self) -> dict[str, Any]:
        """Return what a saved state must agree in with the method that takes it up."""
        return self.config.to_dict()

    def edit(self, edits: Sequence[Edit]) -> None:
        """Write the edits, in order, as one batch: all of them or, on an error or interruption, none.

        Raises:
            EditError: for a list whose rephrases contradict it, or an edit that cannot be encoded.
            ModelError: after :meth:`close`.
        """
        self._check_open()
        fresh = [edit for edit in latest(edits) if self._targets.get(same_text(edit.prompt)) != edit]
        if not fresh:
            return
        before = self._snapshot()
        try:
            with frozen(self.model):
                self._write(fresh)
            self._targets |= {same_text(edit.prompt): edit for edit in fresh}
        except BaseException:
            self._return_to(before)
            raise
        self._before = before

    def undo(self) -> None:
        """Take back the last call of :meth:`edit` that wrote something, bit for bit.

        Raises:
            ModelError: when there is none, because nothing was written or it was taken back already.
        """
        self._check_open()
        if self._before is None:
            raise ModelError(f"{self.name!r} has no edit to take back: only the last call of edit() is kept.")
        self._return_to(self._before)
        self._before = None

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Leave the model untouched within the block, in every thread.

        Raises:
            ModelError: after :meth:`close`.
        """
        self._check_open()
        edited = {name: parameter.data for name, parameter in self._altered.items()}
        try:
            self._point(self._originals)
            yield
        finally:
            self._point(edited)

    def stored_bytes(self) -> int:
        """Return the bytes of the weights that edits change, and of what was gathered of earlier edits."""
        kept = [*self._originals.values(), *self._statistics().values()] if self._targets else []
        return sum(tensor.nbytes for tensor in kept)

    def save(self, folder: Path) -> None:
        """Write the changed weights into a folder.

        Raises:
            StoreError: when the folder cannot be written; what it held before is intact.
        """
        weights = {f"weights.{name}": parameter.detach().cpu() for name, parameter in self._altered.items()}
        others = {f"statistics.{name}": tensor.cpu() for name, tensor in self._statistics().items()}
        records = [
            {"prompt": edit.prompt, "target": edit.target, "rephrases": list(edit.rephrases), "subject": edit.subject}
            for edit in self._targets.values()
        ]
        with self._bare():
            write_state(
                *(folder, self.name, self.model, self._saved_settings()), records=records, tensors=weights | others
            )

    def restore(self, folder: Path) -> None:
        """Take up what :meth:`save` wrote in place of the present weights.

        Raises:
            StoreError: when the folder is missing, truncated or altered.
            MismatchError: when it was made with other settings, for another model or by a newer version.
        """
        with self._bare():
            found = read_state(folder, self.name, self.model, self._saved_settings())
        before = self._snapshot()
        try:
            weights = _within(found.tensors, "weights.")
            if {n: (w.shape, w.dtype) for n, w in weights.items()} != {
                n: (w.shape, w.dtype) for n, w in self._originals.items()
            }:
                raise ValueError("other weights than this method's")
            edits = [Edit(**record) for record in found.records]
            self._take_statistics(_within(found.tensors, "statistics."))
            self._point({name: w.to(self._originals[name].device, copy=True) for name, w in weights.items()})
            self._targets = {same_text(edit.prompt): edit for edit in edits}
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            self._return_to(before)
            raise StoreError(f"{folder} holds no whole state ({error}): restore the folder from a copy.") from error
        self._before = None

    def close(self) -> None:
        """Put the original weights back; once more does nothing."""
        if self._is_open():
            self._point(self._originals)
            delattr(self.model, _OPEN)

    def _bare(self) -> AbstractContextManager[None]:
        """Make the model within the block what its fingerprint is taken of: without anything of this method."""
        return self.disabled()

    def _add(self, changes: Mapping[str, Tensor]) -> None:
        """Add float32 changes to weights, in new tensors, so that no snapshot changes with them."""
        self._point(
            {
                name: (self._altered[name].data.float() + change.to(self._altered[name].device)).to(
                    self._altered[name].dtype
                )
                for name, change in changes.items()
            }
        )

    def _snapshot(self) -> tuple[dict[str, Tensor], dict[str, Edit], dict[str, Tensor]]:
        weights = {name: parameter.data for name, parameter in self._altered.items()}
        return weights, dict(self._targets), {name: tensor.clone() for name, tensor in self._statistics().items()}

    def _return_to(self, snapshot: tuple[dict[str, Tensor], dict[str, Edit], dict[str, Tensor]]) -> None:
        weights, self._targets, statistics = snapshot
        self._point(weights)
        self._take_statistics(statistics)

    def _point(self, weights: Mapping[str, Tensor]) -> None:
        """Let parameters have these tensors as they are; what they had is left alone."""
        for name, tensor in weights.items():
            self._altered[name].data = tensor

    def _is_open(self) -> bool:
        return getattr(self.model, _OPEN, None) is self

    def _check_open(self) -> None:
        if not self._is_open():
            raise ModelError(f"{self.name!r} was closed: open it again.")


def _within(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _parameters(model: PreTrainedModel, names: Iterable[str]) -> dict[str, nn.Parameter]:
    known: dict[str, Any] = dict(model.named_parameters())
    found: dict[str, nn.Parameter] = {}
    for name in names:
        parameter = known.get(name)
        if parameter is None:
            raise ModelError(f"{type(model).__name__} has no parameter {name!r}: name one of named_parameters().")
        if parameter.device.type == "meta":
            raise ModelError(f"The weights of {name!r} are not in memory: load the model without offloading.")
        if not parameter.dtype.is_floating_point or parameter.dtype.itemsize < torch.float16.itemsize:
            raise ModelError(f"{name!r} holds {parameter.dtype} weights: load the model in a floating type of 16 bits.")
        found[name] = parameter
    return found
