"""Fitting a key space on a device that knows no float64, such as Apple's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

from horen.memory import KeySpace


class Elsewhere(Tensor):
    """A tensor on a device of its own, which computes as the CPU does but refuses float64 as MPS does."""

    @staticmethod
    def __new__(cls: type[Elsewhere], inner: Tensor) -> Elsewhere:
        if inner.dtype == torch.float64:
            raise TypeError("the MPS framework doesn't support float64")
        made = Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, device="meta")
        made.inner = inner
        return made

    def __repr__(self) -> str:
        return f"Elsewhere({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given, _ = tree_flatten((args, kwargs or {}))
        stray = [item for item in given if type(item) is Tensor and item.ndim]
        assert not stray, f"{func} mixes devices"
        wanted = dict(kwargs or {})
        device = wanted.pop("device", None)
        args, wanted = tree_map_only(Elsewhere, lambda item: item.inner, (args, wanted))
        result = func(*args, **wanted)
        if device is not None and torch.device(device).type == "cpu":
            return result
        return tree_map_only(Tensor, cls, result)


class Moves(TorchDispatchMode):
    """Lets tensors of the CPU be moved there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._to_copy.default and str((kwargs or {}).get("device")) == "meta":
            return Elsewhere(args[0].clone())
        return func(*args, **(kwargs or {}))


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("blocks", [(), (10, 14)], ids=["one", "two"])
@pytest.mark.parametrize("prompts", [16, 60], ids=["fewer rows than columns", "more"])
def test_nothing_is_float64_where_the_model_is(prompts: int, blocks: tuple[int, ...]):
    background, groups = normal(prompts, 24, seed=0), [normal(3, 24, seed=i) for i in range(1, 5)]
    options: dict[str, Any] = {"dimension": 8, "shrinkage": 0.1, "nuisance": 0.5, "power": 0.5, "blocks": blocks}
    here = KeySpace.whitened(background, groups, **options)
    with Moves():
        there = KeySpace.whitened(Elsewhere(background), [Elsewhere(group) for group in groups], **options)
    assert type(there.mean) is type(there.map) is Elsewhere
    assert torch.equal(there.mean.cpu(), here.mean)
    assert torch.equal(there.map.cpu(), here.map)
