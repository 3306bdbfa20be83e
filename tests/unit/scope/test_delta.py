from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from horen.scope.delta import packed, restored


def made(seed: int, *shape: int, size: float = 1.0) -> Tensor:
    return size * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_what_is_alike_is_left_out():
    base = {"same": made(0, 8, 64), "other": made(1, 8, 64)}
    stored = packed(base, base | {"other": base["other"] + 0.1})
    assert all(name.startswith("other") for name in stored)


@given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.sampled_from([(3, 32), (8, 64), (5, 96)]))
def test_a_matrix_comes_back_to_a_fourteenth_of_its_greatest_change(seed: int, size: float, shape: tuple[int, int]):
    base = {"w": made(seed, *shape)}
    change = made(seed + 1, *shape, size=size)
    tuned = {"w": base["w"] + change}
    found = restored(base, packed(base, tuned), tuned)["w"]
    change = tuned["w"] - base["w"]
    allowed = change.unflatten(1, (-1, 32)).abs().amax(-1, keepdim=True).expand(-1, -1, 32).flatten(1) / 14
    # The scale has the eleven bits of float16, and base and change are added in float32.
    assert ((found - tuned["w"]).abs() <= 1.01 * allowed + 1e-6 * tuned["w"].abs() + 1e-6).all()


def test_vectors_and_what_is_new_are_kept_in_half_precision():
    base = {"bias": made(0, 48)}
    tuned = {"bias": base["bias"] + made(1, 48, size=0.01), "head": made(2, 4, 48)}
    stored = packed(base, tuned)
    assert stored["bias"].dtype == stored["head"].dtype == torch.float16
    found = restored(base, stored, tuned)
    for name, tensor in tuned.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-4, rtol=1e-3)


def test_a_matrix_takes_four_bits_and_a_scale():
    base = {"w": torch.zeros(16, 128)}
    stored = packed(base, {"w": made(0, 16, 128)})
    assert sum(tensor.nbytes for tensor in stored.values()) == 16 * 128 // 2 + 2 * 16 * 4


def test_what_is_nowhere_is_told():
    with pytest.raises(KeyError, match="w"):
        restored({}, {}, ["w"])
