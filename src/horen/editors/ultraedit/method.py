"""UltraEdit as a method of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.editors.common.gradients import Moments, capture, layer_range, mlp_linears
from horen.editors.common.samples import plain_samples
from horen.editors.common.weights import WeightMethod
from horen.editors.ultraedit.config import UltraEditConfig
from horen.edits import Edit
from horen.model.layout import Layout


class UltraEdit(WeightMethod):
    """UltraEdit (Gu et al. 2025, arXiv 2505.14679): one closed-form shift for each call, without training.

    At every token i where a target token is predicted, in every wording of an edit, a module gives the feature
    z = [h ‖ δ] of its input h and δ = ∂L/∂(its output), L = −log p(target | prompt). Then, for each module:

    1. Lifelong normalisation: mean μ and deviation σ of all features so far, this call's among them
       (:class:`horen.editors.common.gradients.Moments`), and z̃ = (z − μ)/(σ + ε) = [h̃ ‖ δ̃].
    2. The wanted change of the output is v = −η·‖h̃‖²·δ̃.
    3. With H and V, the h and v of this call as rows, ΔA = argmin ‖H·ΔA − V‖² + ‖ΔA‖² = (HᵀH + I)⁻¹·Hᵀ·V. H has the
       inputs as the module gets them, since that is what ΔA will be multiplied with; the released code has it so too.

    The edits of one call share one shift, and all modules are shifted at once. Neither the subject nor earlier edits
    are asked for: of those only μ, σ and their number are kept. The very first feature of all equals its mean, so a
    first edit of one token alone changes nothing.

    Args:
        model: a decoder-only transformers model.
        tokenizer: the model's own, a fast one.
        config: the settings; None for the defaults.

    Raises:
        ConfigError: when the settings name a layer that the model does not have.
        ModelError: when an MLP has no single down projection, or see :class:`WeightMethod`.
    """

    name = "ultraedit"

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: UltraEditConfig | None = None
    ) -> None:
        self._settings = config or UltraEditConfig()
        layers = layer_range(self._settings.first_layer, self._settings.last_layer, Layout.of(model))
        self._linears = mlp_linears(model, layers, self._settings.modules)
        self._moments = {
            f"{linear.name}.{part}": Moments(size)
            for linear in self._linears
            for part, size in (("inputs", linear.d_in), ("gradients", linear.d_out))
        }
        super().__init__(model, tokenizer, self._settings, [linear.name for linear in self._linears])

    def _write(self, edits: Sequence[Edit]) -> None:
        end = self._settings.train_end
        samples = plain_samples(self.contexts, edits, end=end)
        found = capture(self.model, self._linears, samples)
        changes = {}
        for linear, inputs, gradients in zip(self._linears, found.inputs, found.gradients, strict=True):
            keys = inputs[found.asked.to(inputs.device)].cpu().double()
            lengths = self._normalised(f"{linear.name}.inputs", keys).square().sum(-1, keepdim=True)
            slopes = self._normalised(f"{linear.name}.gradients", gradients[found.asked.to(gradients.device)])
            wanted = -self._settings.learning_rate * lengths * slopes
            changes[linear.name] = linear.as_weight(ridge(keys, wanted)).float()
        self._add(changes)

    def _normalised(self, name: str, rows: Tensor) -> Tensor:
        """Rows among all rows so far, float64 on the CPU."""
        rows = rows.cpu().double()
        self._moments[name].update(rows)
        return self._moments[name].normalised(rows)

    def _statistics(self) -> dict[str, Tensor]:
        return {f"{name}.{part}": t for name, moments in self._moments.items() for part, t in moments.to_dict().items()}

    def _take_statistics(self, statistics: Mapping[str, Tensor]) -> None:
        for name, moments in self._moments.items():
            moments.take({part: statistics[f"{name}.{part}"] for part in moments.to_dict()})


def ridge(inputs: Tensor, values: Tensor) -> Tensor:
    """Return (HᵀH + I)⁻¹·Hᵀ·V.

    Args:
        inputs: H, [n, d_in] float64.
        values: V, [n, d_out] float64.

    Returns:
        [d_in, d_out] float64.
    """
    count, size = inputs.shape
    # (HᵀH + I)⁻¹·Hᵀ = Hᵀ·(HHᵀ + I)⁻¹: the smaller of both systems is solved.
    if count <= size:
        gram = inputs @ inputs.T + torch.eye(count, dtype=inputs.dtype)
        return inputs.T @ torch.cholesky_solve(values, torch.linalg.cholesky(gram))
    gram = inputs.T @ inputs + torch.eye(size, dtype=inputs.dtype)
    return torch.cholesky_solve(inputs.T @ values, torch.linalg.cholesky(gram))
