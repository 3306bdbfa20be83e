"""The folder of a network: written as a whole during training, read by the editor."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from horen.editors.common.gradients import Linear, mlp_linears
from horen.editors.mend.config import MendTraining
from horen.editors.mend.network import Network
from horen.errors import ConfigError, MismatchError, StoreError
from horen.model.devices import device_of
from horen.model.fingerprint import difference, fingerprint
from horen.model.layout import Layout
from horen.store import Folder, read_folder, write_folder
from horen.store.operations import now

_KIND = "network of MEND"
COMMAND = "horen bench train-mend --dataset NAME --path FILE --model MODEL --out FOLDER"


@dataclass(frozen=True)
class Stored:
    """What a network's folder holds.

    Attributes:
        training: its settings.
        lessons: digest of what it is trained on.
        made_for: fingerprint of the model.
        step: steps taken.
        history: for every tenth step or so the losses, see :class:`horen.editors.mend.training.Trainer`.
        tensors: of the network and, while training goes on, of the optimiser; on the CPU.
    """

    training: MendTraining
    lessons: str
    made_for: dict[str, Any]
    step: int
    history: list[dict[str, Any]]
    tensors: dict[str, Tensor]

    @property
    def finished(self) -> bool:
        """Whether all steps were taken."""
        return self.step >= self.training.steps

    @property
    def digest(self) -> str:
        """What tells this network from another one."""
        found = hashlib.sha256()
        for name, tensor in sorted(self.tensors.items()):
            found.update(f"{name}:{tuple(tensor.shape)};".encode() + tensor.contiguous().numpy().tobytes())
        return found.hexdigest()

    def check_model(self, folder: Path, model: PreTrainedModel) -> None:
        """Raise MismatchError unless the network was made for this model."""
        differs = difference(self.made_for, fingerprint(model))
        if differs:
            raise MismatchError(
                f"The network in {folder} was trained for another model ({differs}): train one for this model with "
                f"'{COMMAND}'."
            )

    def network(self, folder: Path, model: PreTrainedModel) -> tuple[Network, list[Linear]]:
        """Return the network on the model's device, and the modules it edits.

        Raises:
            StoreError: when its tensors do not fit.
        """
        network, linears = new_network(model, self.training)
        try:
            network.take(self.tensors)
        except (KeyError, ValueError, RuntimeError) as error:
            raise damaged(folder, error) from error
        return network, linears


def new_network(model: PreTrainedModel, training: MendTraining) -> tuple[Network, list[Linear]]:
    """Return a network as training starts with it, on the model's device, and the modules it edits.

    Raises:
        ConfigError: when the model has fewer layers than are to be changed.
        ModelError: when an MLP has no single down projection.
    """
    count = len(Layout.of(model).layers)
    if training.blocks > count:
        raise ConfigError(f"blocks={training.blocks} is not valid: this model has {count} layers.")
    linears = mlp_linears(model, range(count - training.blocks, count), training.modules)
    network = Network(linears, training.rank, training.step_size, training.seed)
    return network.to(device_of(model)), linears


def write_network(
    folder: Path,
    training: MendTraining,
    *,
    lessons: str,
    made_for: Mapping[str, Any],
    step: int,
    history: Sequence[Mapping[str, Any]],
    tensors: Mapping[str, Tensor],
) -> None:
    """Write what :class:`Stored` describes, as a whole or not at all.

    Raises:
        StoreError: when the folder cannot be written; what it held before is intact.
    """
    config = {
        "settings": training.to_dict(),
        "model": {"fingerprint": dict(made_for)},
        "lessons": lessons,
        "step": step,
        "saved": now(),
    }
    write_folder(folder, config=config, records=history, tensors=tensors, kind=_KIND)


def read_network(folder: Path) -> Stored:
    """Read a network's folder.

    Raises:
        StoreError: when it is missing, truncated, altered or holds something else.
        MismatchError: when it was made by a newer version.
    """
    found: Folder = read_folder(folder, kind=_KIND)
    config = found.config
    try:
        return Stored(
            training=MendTraining.from_dict(config["settings"]),
            lessons=str(config["lessons"]),
            made_for=dict(config["model"]["fingerprint"]),
            step=int(config["step"]),
            history=list(found.records),
            tensors=found.tensors,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(folder, error) from error


def damaged(folder: Path, error: Exception) -> StoreError:
    """Return what to raise for a folder whose parts do not belong together."""
    return StoreError(f"{folder} holds no whole network ({error}): restore the folder from a copy, or train it anew.")
