"""MEND as a method of the benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.editors.common.gradients import capture
from horen.editors.common.samples import plain_samples
from horen.editors.common.weights import WeightMethod
from horen.editors.mend.config import MendConfig
from horen.editors.mend.folder import COMMAND, new_network, read_network
from horen.edits import Edit
from horen.errors import ConfigError, StoreError


class Mend(WeightMethod):
    """MEND (Mitchell et al. 2022, arXiv 2110.11309): a trained network turns an edit's gradient into a weight change.

    For a linear module with A [d_in, d_out], ∂L/∂A = Σ uᵀδ over the tokens of an edit, u being the module's input, δ
    the gradient with respect to its output and L = −log p(target | prompt). The network
    (:class:`horen.editors.mend.network.Transform`) makes (ũ, δ̃) of each (u, δ), and A ← A − α·Σ ũᵀδ̃ with a step
    size α learned for each module. Edits of one call are added up; so are those of several. Wordings of one edit count
    for 1/k each.

    Args:
        model: a decoder-only transformers model, the one that the network was trained for.
        tokenizer: the model's own, a fast one.
        config: the settings, which name the network's folder.

    Raises:
        ConfigError: without a network.
        StoreError: when its folder is missing, damaged, or its training is not finished.
        MismatchError: when it was trained for another model.
        ModelError: see :class:`WeightMethod`.
    """

    name = "mend"

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: MendConfig | None = None
    ) -> None:
        config = config or MendConfig()
        if not config.network:
            raise ConfigError(f"'mend' needs a trained network: make one with '{COMMAND}' and set network=FOLDER.")
        folder = Path(config.network)
        found = read_network(folder)
        if not found.finished:
            raise StoreError(
                f"The training of the network in {folder} stopped at step {found.step:,} of {found.training.steps:,}: "
                f"run the same command ('horen bench train-mend') again, it goes on."
            )
        _, self._linears = new_network(model, found.training)
        super().__init__(model, tokenizer, config, [linear.name for linear in self._linears])
        try:
            found.check_model(folder, model)  # not before it is known that no other method has changed the model
            self._network, self._linears = found.network(folder, model)
        except BaseException:
            self.close()
            raise
        self._train_end = found.training.train_end
        self._digest = found.digest

    def _write(self, edits: Sequence[Edit]) -> None:
        groups = [plain_samples(self.contexts, [edit], end=self._train_end) for edit in edits]
        samples = [sample for group in groups for sample in group]
        shares = torch.tensor([1 / len(group) for group in groups for _ in group])
        found = capture(self.model, self._linears, samples)
        with torch.no_grad():
            share = shares.to(found.sample.device)[found.sample][:, None]
            changes = {
                linear.name: linear.as_weight((left * share).T @ right)
                for linear, (left, right) in zip(self._linears, self._network(found), strict=True)
            }
        self._add(changes)

    def _saved_settings(self) -> dict[str, Any]:
        # Not where the network lies, but which one it is.
        return {"network": self._digest}
