from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from horen.memory import KeySpace
from horen.memory.keyspace import _principal


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def fitted(
    background: Tensor, groups: list[Tensor], *, dimension: int = 8, shrinkage: float = 0.1, nuisance: float = 0.5
) -> KeySpace:
    return KeySpace.whitened(background, groups, dimension=dimension, shrinkage=shrinkage, nuisance=nuisance)


def synthetic(size: int = 24, *, prompts: int = 60, wordings: int = 4) -> tuple[Tensor, list[Tensor]]:
    """Prompts that share a large mean, and wordings that differ along four strong directions of no meaning."""
    meaning = normal(prompts, size, seed=1) + 5.0
    directions = normal(4, size, seed=2)
    noise = normal(prompts, wordings, 4, seed=3) @ directions
    return meaning + noise[:, 0], [meaning[i] + noise[i] for i in range(prompts)]


def spread(keys: list[Tensor]) -> float:
    """Mean squared distance within groups over that between their centres."""
    centres = torch.stack([group.mean(0) for group in keys])
    within = torch.cat([group - group.mean(0) for group in keys]).square().sum(-1).mean()
    return float(within / (centres - centres.mean(0)).square().sum(-1).mean())


@given(st.integers(1, 6), st.integers(0, 100))
def test_raw_keys_are_features_of_unit_length(rows: int, seed: int):
    features = normal(rows, 10, seed=seed) * 7
    keys = KeySpace.identity(10)(features)
    torch.testing.assert_close(keys, features / features.norm(dim=-1, keepdim=True))
    assert KeySpace.identity(10).dimension == 10


@given(st.integers(1, 6), st.integers(0, 100))
def test_whitened_keys_have_unit_length(rows: int, seed: int):
    background, groups = synthetic()
    space = fitted(background, groups)
    keys = space(normal(rows, 24, seed=seed) * 3 + 5)
    assert keys.shape == (rows, space.dimension)
    assert keys.dtype == torch.float32
    torch.testing.assert_close(keys.norm(dim=-1), torch.ones(rows), atol=1e-5, rtol=0)


def test_half_precision_features_are_read():
    keys = KeySpace.identity(10)(normal(2, 10).bfloat16())
    assert keys.dtype == torch.float32
    torch.testing.assert_close(keys.norm(dim=-1), torch.ones(2))


def test_wordings_come_together():
    background, groups = synthetic()
    raw, space = KeySpace.identity(24), fitted(background, groups, dimension=24)
    assert spread([space(group) for group in groups]) < 0.5 * spread([raw(group) for group in groups])


def test_the_wordings_count_more_than_centring_alone():
    background, groups = synthetic()
    blind, seeing = fitted(background, groups, nuisance=0.0), fitted(background, groups, nuisance=0.5)
    assert spread([seeing(group) for group in groups]) < spread([blind(group) for group in groups])


def test_unseen_groups_come_together_too():
    background, groups = synthetic(prompts=120)
    space = fitted(background[:80], groups[:80], dimension=24)
    raw = KeySpace.identity(24)
    assert spread([space(group) for group in groups[80:]]) < 0.5 * spread([raw(group) for group in groups[80:]])


def test_unrelated_prompts_are_orthogonal_on_average():
    background, groups = synthetic()
    keys = fitted(background, groups, dimension=24)(background)
    cosines = keys @ keys.T
    others = cosines[~torch.eye(len(keys), dtype=torch.bool)]
    assert abs(float(others.mean())) < 0.05
    raw = KeySpace.identity(24)(background)
    assert float((raw @ raw.T).mean()) > 0.5


@pytest.mark.parametrize(("dimension", "expected"), [(3, 3), (24, 24), (1000, 24)])
def test_the_dimension_is_cut_to_the_features(dimension: int, expected: int):
    background, groups = synthetic()
    assert fitted(background, groups, dimension=dimension).dimension == expected


def test_the_dimension_is_cut_to_what_the_sample_spans():
    space = fitted(normal(6, 40), [normal(3, 40, seed=1)], dimension=100)
    assert space.dimension == 5
    assert space(normal(2, 40, seed=4)).isfinite().all()


def test_more_features_than_samples():
    background, groups = synthetic(size=300, prompts=20, wordings=3)
    space = fitted(background, groups, dimension=10)
    assert space.mean.shape == (300,)
    keys = [space(group) for group in groups]
    assert all(key.isfinite().all() for key in keys)
    assert spread(keys) < spread([KeySpace.identity(300)(group) for group in groups])


def test_fitting_is_deterministic():
    background, groups = synthetic()
    one, two = fitted(background, groups), fitted(background, groups)
    assert torch.equal(one.mean, two.mean)
    assert one.map is not None
    assert two.map is not None
    assert torch.equal(one.map, two.map)


def test_scale_of_the_features_does_not_matter():
    background, groups = synthetic()
    small = fitted(background, groups)(background)
    large = fitted(background * 1000, [group * 1000 for group in groups])(background * 1000)
    torch.testing.assert_close((small @ small.T), (large @ large.T), atol=1e-4, rtol=0)


def test_without_groups_it_whitens_the_background():
    background, _ = synthetic()
    space = fitted(background, [], dimension=24, shrinkage=1e-6)
    assert space.map is not None
    mapped = (background - space.mean) @ space.map
    covariance = mapped.T @ mapped
    torch.testing.assert_close(covariance / covariance.diagonal().mean(), torch.eye(24), atol=1e-2, rtol=0)


def test_wordings_that_read_alike_are_no_trouble():
    background, _ = synthetic()
    space = fitted(background, [background[:1].expand(3, -1)])
    assert space.map is not None
    assert space.map.isfinite().all()


def test_moving_keeps_the_space():
    background, groups = synthetic()
    space = fitted(background, groups)
    moved = space.to(torch.device("cpu"))
    assert torch.equal(moved(background), space(background))
    assert KeySpace.identity(4).to(torch.device("cpu")).map is None


def test_the_power_evens_out_large_coordinates_and_keeps_signs():
    space = KeySpace(torch.tensor([1.0, 0.0, 0.0]), None, 0.5)
    keys = space(torch.tensor([[16.0, -4.0, 0.0]]))
    torch.testing.assert_close(keys, torch.tensor([[3.0, -2.0, 0.0]]) / 13**0.5)


def test_a_space_is_fitted_on_what_the_power_makes_of_features():
    background, groups = synthetic()
    rooted = [group.sign() * group.abs().sqrt() for group in groups]
    direct = fitted(background.sign() * background.abs().sqrt(), rooted)
    options = {"dimension": 8, "shrinkage": 0.1, "nuisance": 0.5, "power": 0.5}
    space = KeySpace.whitened(background, groups, **options)
    torch.testing.assert_close(space(groups[0]), direct(rooted[0]))
    torch.testing.assert_close(space.to(torch.device("cpu"))(groups[0]), direct(rooted[0]))


def test_blocks_are_whitened_each_by_itself_and_weigh_alike():
    background, groups = synthetic()
    small, large = normal(60, 6, seed=8), [normal(4, 6, seed=20 + i) for i in range(60)]
    options = {"dimension": 40, "shrinkage": 0.1, "nuisance": 0.5}
    keys = []
    for scale in (1.0, 1000.0):
        space = KeySpace.whitened(
            torch.cat([background, scale * small], dim=-1),
            [torch.cat([group, scale * other], dim=-1) for group, other in zip(groups, large, strict=True)],
            blocks=[24, 6],
            **options,
        )
        assert space.dimension == 24 + 6
        keys.append(space(torch.cat([groups[3], scale * large[3]], dim=-1)))
    # Whatever the units of the second block, its part in a key is the same.
    torch.testing.assert_close(keys[0] @ keys[0].T, keys[1] @ keys[1].T, atol=1e-4, rtol=0)
    alone = KeySpace.whitened(background, groups, **options)(groups[3])
    assert not torch.allclose(keys[0] @ keys[0].T, alone @ alone.T, atol=1e-2)


@pytest.mark.parametrize("shape", [(5, 9), (40, 9), (9, 9)])
def test_principal_directions_of_few_and_of_many_rows(shape: tuple[int, int]):
    rows = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))
    variance, basis = _principal(rows)
    assert torch.equal(variance, variance.sort(descending=True).values)
    torch.testing.assert_close(basis @ basis.T, torch.eye(len(basis), dtype=torch.float64))
    torch.testing.assert_close(basis.T @ torch.diag(variance) @ basis, rows.T @ rows)
