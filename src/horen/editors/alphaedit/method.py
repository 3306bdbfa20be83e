"""AlphaEdit as a method of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.editors.alphaedit.config import AlphaEditConfig
from horen.editors.common.locate import SpreadingMethod
from horen.editors.common.locate.solving import null_space, projected
from horen.errors import ConfigError


@dataclass(frozen=True)
class _Space:
    """The null space of one layer.

    Attributes:
        basis: [d_k, n] float64, U with P = U Uᵀ.
        ridge: ρ in the units of C.
    """

    basis: Tensor
    ridge: float


class AlphaEdit(SpreadingMethod):
    """AlphaEdit, null-space constrained knowledge editing (Fang et al. 2024, arXiv 2410.02355).

    Edits are spread over several layers as :class:`SpreadingMethod` says, but in each the change is projected onto the
    null space of K₀ K₀ᵀ, K₀ being the keys of running text: with P = U Uᵀ, U the eigenvectors of C = E[k kᵀ] whose
    eigenvalues are below a threshold, and K_p the keys of all edits before this call,

        Δ = R K₁ᵀ P (K_p K_pᵀ P + K₁ K₁ᵀ P + I)⁻¹

    with ρ I for I. K_p K_pᵀ is saved with the state; as published, it also holds a fact that is edited again near its
    old answer. C is measured once, on the text of the settings, and kept in the cache folder.

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
        ConfigError: when the settings name layers that the model does not have, or a text that cannot be read; from
            :meth:`edit`, when no eigenvalue is below the threshold.
    """

    name = "alphaedit"
    config: AlphaEditConfig

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: AlphaEditConfig | None = None,
        *,
        progress: bool = False,
    ) -> None:
        super().__init__(model, tokenizer, config or AlphaEditConfig(), progress=progress)
        self._spaces: dict[int, _Space] = {}
        self._earlier = [torch.zeros(p.key_size, p.key_size) for p in self._projections]

    def _change(self, number: int, keys: Tensor, residuals: Tensor) -> Tensor:
        space = self._space(number)
        keys, earlier = keys.to(space.basis), self._earlier[number]
        change = projected(space.basis, earlier.to(space.basis), keys, residuals.to(space.basis), space.ridge)
        self._earlier[number] = earlier + (keys.T @ keys).to(earlier)
        return change

    def _statistics(self) -> dict[str, Tensor]:
        """K_p K_pᵀ of each layer, [d_k, d_k] float32."""
        return {f"layer-{p.layer}": earlier for p, earlier in zip(self._projections, self._earlier, strict=True)}

    def _take_statistics(self, statistics: Mapping[str, Tensor]) -> None:
        taken = [statistics[name].clone() for name in self._statistics()]
        for given, own in zip(taken, self._earlier, strict=True):
            if (given.shape, given.dtype) != (own.shape, own.dtype):
                raise ValueError("the keys of earlier edits are of another size than the model's")
        self._earlier = taken

    def _space(self, number: int) -> _Space:
        if number not in self._spaces:
            relative = self.config.eigenvalue_unit == "median"
            basis, unit = null_space(self._moments()[number], self.config.threshold, relative=relative)
            if not basis.shape[1]:
                raise ConfigError(
                    f"threshold={self.config.threshold} (eigenvalue_unit={self.config.eigenvalue_unit}) leaves no null "
                    f"space in layer {self._projections[number].layer}: give a greater one."
                )
            self._spaces[number] = _Space(basis, self.config.ridge * unit)
        return self._spaces[number]
