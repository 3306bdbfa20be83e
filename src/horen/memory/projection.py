"""The unit hypersphere on a plane, seen from one of its points."""

from __future__ import annotations

import torch
from torch import Tensor


def azimuthal(centre: Tensor, points: Tensor) -> Tensor:
    """Project points so that the distance of each from the origin is its angle to the centre.

    That angle is what retrieval compares, and it is kept exactly. In which direction a point lies is not: of its
    direction in the tangent space the two principal components are left (uncentred PCA of all directions). The plane is
    turned so that the first point lies to the right and the second not below it.

    Args:
        centre: [d] unit vector.
        points: [n, d] unit rows.

    Returns:
        [n, 2] float64, in radians.
    """
    centre, points = centre.double(), points.double()
    cosines = points @ centre
    tangents = points - cosines[:, None] * centre
    lengths = tangents.norm(dim=-1, keepdim=True)
    directions = tangents / lengths.clamp_min(1e-12)
    axes = torch.linalg.svd(directions, full_matrices=False)[2][:2]
    flat = directions @ axes.T
    flat = torch.cat([flat, flat.new_zeros(len(flat), 2 - flat.shape[1])], dim=-1)
    sizes = flat.norm(dim=-1, keepdim=True)
    # What is at right angles to the plane has no direction in it: any will do.
    flat = torch.where(sizes > 1e-9, flat / sizes.clamp_min(1e-9), flat.new_tensor([0.0, 1.0]))
    if len(flat):
        x, y = flat[0].tolist()
        flat = flat @ flat.new_tensor([[x, -y], [y, x]])
    if len(flat) > 1 and float(flat[1, 1]) < 0:
        flat = flat * flat.new_tensor([1.0, -1.0])
    return flat * torch.atan2(lengths[:, 0], cosines)[:, None]
