"""MEMIT as a method of the benchmark."""

from __future__ import annotations

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.editors.common.locate import SpreadingMethod
from horen.editors.common.locate.solving import least_squares
from horen.editors.memit.config import MemitConfig


class Memit(SpreadingMethod):
    """MEMIT, mass-editing memory in a transformer (Meng et al. 2023, arXiv 2210.07229).

    A call of :meth:`edit` is one batch, written into several layers as :class:`SpreadingMethod` says, each by

        Δ = R K₁ᵀ (λ C + K₁ K₁ᵀ)⁻¹,   C = E[k kᵀ]

    (equation 14 there, with C₀ = λ C). C is measured once, on the text of the settings, and kept in the cache folder.

    A rephrase is an edit of its own. An edit without a subject, or a wording in which its subject does not occur, is
    located at its last token, and trained without the KL term, which needs a subject.

    Args:
        model: a decoder-only transformers model, in memory as a whole.
        tokenizer: the model's own, a fast one.
        config: the settings; None for the default preset.
        progress: show a bar on stderr while C is measured.

    Raises:
        ModelError: when a layer has not one down projection, or, of several layers, adds something else than its MLP's
            output to the hidden state; or when another method holds the model's weights.
        ConfigError: when the settings name layers that the model does not have, or a text that cannot be read.
    """

    name = "memit"
    config: MemitConfig

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: MemitConfig | None = None,
        *,
        progress: bool = False,
    ) -> None:
        super().__init__(model, tokenizer, config or MemitConfig(), progress=progress)

    def _change(self, number: int, keys: Tensor, residuals: Tensor) -> Tensor:
        moment = self._moments()[number]
        unit = len(moment) if self.config.covariance_unit == "width" else 1
        weight = self.config.covariance_weight * unit
        return least_squares(moment, keys.to(moment), residuals.to(moment), weight)
