"""The equations by which weights are changed, in float64. A change is Δ [d_v, d_k]; keys and residuals are rows."""

from __future__ import annotations

import torch
from torch import Tensor

# A text of fewer tokens than keys have coordinates leaves C singular: so much of its mean eigenvalue is added to all.
_RIDGE = 1e-6


def factored(moment: Tensor) -> Tensor:
    """Return the Cholesky factor [d, d] of C, after 10⁻⁶ of its mean eigenvalue was added to all of them."""
    return _cholesky(moment, _RIDGE * moment.trace() / len(moment))


def rank_one(factor: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return Δ = δ (C⁻¹ k)ᵀ / ((C⁻¹ k)ᵀ k), so that Δ k = δ.

    Args:
        factor: [d_k, d_k] Cholesky factor of C.
        key: [d_k], k.
        value: [d_v], δ.
    """
    direction = torch.cholesky_solve(key[:, None], factor)[:, 0]
    return torch.outer(value, direction / (direction @ key))


def least_squares(moment: Tensor, keys: Tensor, residuals: Tensor, weight: float) -> Tensor:
    """Return Δ = R K₁ᵀ (λ C + K₁ K₁ᵀ)⁻¹, which minimises ‖Δ K₁ − R‖² + λ E‖Δ k‖².

    Args:
        moment: [d_k, d_k], C.
        keys: [u, d_k], K₁ᵀ.
        residuals: [u, d_v], Rᵀ.
        weight: λ, more than 0.
    """
    factor = _cholesky(weight * moment + keys.T @ keys, _RIDGE * weight * moment.trace() / len(moment))
    return torch.cholesky_solve(keys.T @ residuals, factor).T


def null_space(moment: Tensor, threshold: float, *, relative: bool) -> tuple[Tensor, float]:
    """Return the null space of C as far as numbers have one, and the unit in which eigenvalues are measured.

    Args:
        moment: [d, d], C.
        threshold: eigenvalues below it belong to the null space.
        relative: in units of the median eigenvalue (of 10⁻⁶ of the mean, where the median is less), and not of 1.

    Returns:
        U [d, n], orthonormal eigenvectors, so that P = U Uᵀ; and the unit.
    """
    eigenvalues, vectors = torch.linalg.eigh(moment)
    unit = max(float(eigenvalues.median()), _RIDGE * float(eigenvalues.mean())) if relative else 1.0
    return vectors[:, eigenvalues < threshold * unit], unit


def projected(basis: Tensor, earlier: Tensor, keys: Tensor, residuals: Tensor, ridge: float) -> Tensor:
    """Return Δ = R K₁ᵀ P (K_p K_pᵀ P + K₁ K₁ᵀ P + ρ I)⁻¹, computed in P's own coordinates.

    As P = U Uᵀ, it is R K₁ᵀ U (Uᵀ (K_p K_pᵀ + K₁ K₁ᵀ) U + ρ I)⁻¹ Uᵀ.

    Args:
        basis: [d_k, n], U.
        earlier: [d_k, d_k], K_p K_pᵀ of earlier edits.
        keys: [u, d_k], K₁ᵀ.
        residuals: [u, d_v], Rᵀ.
        ridge: ρ, more than 0.
    """
    inner = keys @ basis
    factor = _cholesky(basis.T @ earlier @ basis + inner.T @ inner, ridge)
    return torch.cholesky_solve(inner.T @ residuals, factor).T @ basis.T


def _cholesky(matrix: Tensor, ridge: float | Tensor) -> Tensor:
    identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    factor: Tensor = torch.linalg.cholesky(matrix + ridge * identity)
    return factor
