"""What holds for every test: one thread for tiny models, no deadline for Hypothesis, and which tests are slow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Several workers fill the cores: threads of torch would wait for one another, in them and in what they start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from hypothesis import settings

# Other examples at every run: a few each time, and many with --hypothesis-profile=deep.
settings.register_profile("horen", deadline=None, max_examples=30)
settings.register_profile("deep", deadline=None, max_examples=300)
settings.load_profile("horen")

_UNIT = Path(__file__).parent / "unit"


_LISTED = [line for line in (Path(__file__).parent / "slow.txt").read_text().splitlines() if not line.startswith("#")]
_BUT_FIRST = ": but its first case"
#: The tests that are slow, by their ids or those of all their cases; and those of which the first case is not.
SLOW = frozenset(line for line in _LISTED if not line.endswith(_BUT_FIRST))
SLOW_BUT_FIRST = frozenset(line.removesuffix(_BUT_FIRST) for line in _LISTED if line.endswith(_BUT_FIRST))


# Of what is tested with every family of models, these are not slow: three that have little in common.
_QUICK = frozenset({"llama", "gemma3", "gpt2"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    begun: set[str] = set()
    for item in items:
        case = getattr(item, "callspec", None)
        family = None if case is None else case.params.get("family")
        name = item.nodeid.partition("[")[0]
        slow = item.nodeid in SLOW or name in SLOW or name in begun
        if slow or (isinstance(family, str) and family not in _QUICK):
            item.add_marker("slow")
        elif name in SLOW_BUT_FIRST:
            begun.add(name)


@pytest.fixture(autouse=True)
def one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tiny tensors are slower on two threads than on one, and a hundred times so beside another process."""
    before = torch.get_num_threads()
    if _UNIT in request.path.parents:
        torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
