"""The list of slow tests names tests that are there."""

from __future__ import annotations

import collections
import re
from pathlib import Path

import pytest

LIST = Path(__file__).parents[1] / "slow.txt"
NAMED = [line for line in LIST.read_text().splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("path", sorted({name.partition("::")[0] for name in NAMED}))
def test_the_list_names_tests(path: str):
    content = (LIST.parents[1] / path).read_text()
    for name in NAMED:
        if name.startswith(f"{path}::"):
            function = re.split(r"[\[:]", name.rpartition("::")[2])[0]
            assert f"def {function}(" in content, name


def test_the_list_is_in_order():
    assert sorted(NAMED) == sorted(set(NAMED))


def test_those_of_the_list_are_marked(request: pytest.FixtureRequest):
    quick = collections.Counter[str]()
    for item in request.session.items:
        name, slow = item.nodeid.partition("[")[0], item.get_closest_marker("slow")
        if item.nodeid in NAMED or name in NAMED:
            assert slow, item.nodeid
        quick[name] += not slow
    for name in NAMED:
        if name.endswith(": but its first case"):
            assert quick[name.removesuffix(": but its first case")] <= 1, name
