from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize

from horen.memory import azimuthal


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(2, 9))
def test_the_angle_to_the_centre_is_kept(seed: int, count: int, dimension: int):
    generator = torch.Generator().manual_seed(seed)
    centre, *points = normalize(torch.randn(count + 1, dimension, generator=generator).double(), dim=-1)
    rows = torch.stack(points)
    flat = azimuthal(centre, rows)
    assert flat.shape == (count, 2)
    torch.testing.assert_close(flat.norm(dim=-1), torch.acos((rows @ centre).clamp(-1, 1)), atol=1e-6, rtol=0)
    assert float(flat[0, 0]) > 0
    assert float(flat[0, 1]) == pytest.approx(0, abs=1e-9)
    if count > 1:
        assert float(flat[1, 1]) >= 0


def test_what_lies_on_a_plane_keeps_its_directions():
    turns = torch.tensor([0.0, 1.0, 2.5, 4.0]).double()
    tilt = 0.7
    points = torch.stack(
        [
            torch.sin(torch.tensor(tilt)) * turns.cos(),
            torch.sin(torch.tensor(tilt)) * turns.sin(),
            turns * 0 + 0.7648422,
        ],
        dim=-1,
    )
    flat = azimuthal(torch.tensor([0.0, 0.0, 1.0]), normalize(points, dim=-1))
    torch.testing.assert_close(flat, tilt * torch.stack([turns.cos(), turns.sin()], dim=-1), atol=1e-6, rtol=0)


def test_the_centre_itself_and_what_has_no_direction():
    centre = torch.tensor([1.0, 0.0, 0.0, 0.0])
    assert azimuthal(centre, centre[None]).abs().max() == 0
    # Four points in a plane outweigh one at right angles to it, which has no direction there but keeps its angle.
    eye = torch.eye(4)
    flat = azimuthal(centre, torch.stack([eye[1], eye[2], eye[1], eye[2], eye[3]]))
    torch.testing.assert_close(flat.norm(dim=-1), torch.full((5,), torch.pi / 2).double())
