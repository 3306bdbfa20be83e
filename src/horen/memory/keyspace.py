"""The key space: an affine map of features that ends on the unit hypersphere.

It is fitted on features alone and knows neither the model nor the text they came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize


@dataclass(frozen=True)
class KeySpace:
    """k = normalize((sign(f)·|f|^p − mean) · map): the space in which keys and queries are compared.

    Attributes:
        mean: [d_f] float32, subtracted from every feature; zeros in the published recipe.
        map: [d_f, d_k] float32, or None for the identity.
        power: p in (0, 1]; below 1 a few large coordinates do not outweigh the rest (power normalization, Perronnin
            et al. 2010). 1 is the published recipe.
    """

    mean: Tensor
    map: Tensor | None = None
    power: float = 1.0

    @property
    def dimension(self) -> int:
        """Length d_k of a key."""
        return int(self.mean.shape[0] if self.map is None else self.map.shape[1])

    def __call__(self, features: Tensor) -> Tensor:
        """Map [B, d_f] features to [B, d_k] float32 unit rows."""
        centred = _tempered(features.float(), self.power) - self.mean
        return normalize(centred if self.map is None else centred @ self.map, dim=-1)

    def to(self, device: torch.device) -> KeySpace:
        """Return the same space on another device."""
        return KeySpace(self.mean.to(device), None if self.map is None else self.map.to(device), self.power)

    @staticmethod
    def identity(dimension: int) -> KeySpace:
        """Return the published recipe's space: k = f / ‖f‖."""
        return KeySpace(torch.zeros(dimension))

    @staticmethod
    def whitened(
        background: Tensor,
        groups: list[Tensor],
        *,
        dimension: int,
        shrinkage: float,
        nuisance: float,
        power: float = 1.0,
        blocks: Sequence[int] = (),
    ) -> KeySpace:
        """Fit a space in which unrelated texts are orthogonal on average and rephrases coincide.

        The metric is S = (1 − ν) S_b + ν S_w, shrunk to (1 − λ) S + λ tr(S)/d · I: S_b is the covariance of unrelated
        prompts and S_w the scatter of rephrases within their group. Dividing by S's root removes what all prompts
        share and what changes when only the wording or the surroundings change (Mahalanobis whitening; within-class
        scatter as in Fisher's discriminant). The ``dimension`` directions of most background variance are kept.

        Args:
            background: [n, d_f] features of unrelated prompts, n ≥ 2.
            groups: each [m, d_f], m ≥ 2: features of one prompt in several wordings or surroundings.
            dimension: d_k, cut to what the sample supports.
            shrinkage: λ in (0, 1].
            nuisance: ν in [0, 1].
            power: p in (0, 1], applied to features before anything is measured on them.
            blocks: sizes of the parts that features are joined of, such as activations of several layers; each is
                whitened by itself, they weigh alike, and the directions are those of most variance in all of them.
        """
        device, sizes = background.device, list(blocks) or [background.shape[1]]
        # On the CPU, because not every device knows float64.
        of_rows = [torch.split(_tempered(rows.cpu(), power), sizes, dim=-1) for rows in (background, *groups)]
        means, maps, pieces = [], [], []
        for own, *wordings in zip(*of_rows, strict=True):
            mean, block_map = _whitening(own, wordings, dimension, shrinkage, nuisance)
            piece = (own.double() - mean) @ block_map
            size = piece.square().sum(-1).mean().sqrt()
            means.append(mean)
            maps.append(block_map / size)
            pieces.append(piece / size)
        if len(maps) > 1:
            axes = _principal(torch.cat(pieces, dim=-1))[1][:dimension]
            parts = torch.split(axes, [block_map.shape[1] for block_map in maps], dim=-1)
            maps = [block_map @ part.T for block_map, part in zip(maps, parts, strict=True)]
        return KeySpace(torch.cat(means).float(), torch.cat(maps).float(), power).to(device)


def _whitening(
    background: Tensor, groups: list[Tensor], dimension: int, shrinkage: float, nuisance: float
) -> tuple[Tensor, Tensor]:
    """Return mean [d] and map [d, k] of one block, float64."""
    mean = background.double().mean(0)
    between = background.double() - mean
    samples = [between * ((1 - nuisance) / max(len(between) - 1, 1)) ** 0.5]
    within = torch.cat([between[:0], *(group.double() - group.double().mean(0) for group in groups)])
    if nuisance > 0 and bool(within.any()):
        freedom = sum(len(group) - 1 for group in groups)
        # Scatter is scaled to the background's size, so that ν means the same for every model.
        scale = between.square().sum() / len(between) / (within.square().sum() / freedom)
        samples.append(within * (nuisance * scale / freedom) ** 0.5)
    stacked = torch.cat(samples)
    variance, basis = _principal(stacked)
    floor = shrinkage * variance.sum() / stacked.shape[1]
    root = ((1 - shrinkage) * variance + floor).rsqrt()
    _, axes = _principal((between @ basis.T) * root)
    kept = min(dimension, len(background) - 1, len(axes))
    return mean, (basis.T * root) @ axes[:kept].T


def _principal(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return squared singular values [k], descending, and right singular vectors [k, d] of [n, d] rows, float64."""
    if len(rows) <= rows.shape[1]:
        # They span at most n directions: d² numbers might not fit in memory.
        _, singular, basis = torch.linalg.svd(rows, full_matrices=False)
        return singular.square(), basis
    # Squaring loses what is below 1e-8 of the greatest, which the shrinkage swallows anyway, and is ten times as fast.
    variance, vectors = torch.linalg.eigh(rows.T @ rows)
    return variance.flip(0).clamp_min(0), vectors.T.flip(0)


def _tempered(features: Tensor, power: float) -> Tensor:
    return features if power == 1 else features.sign() * features.abs().pow(power)
