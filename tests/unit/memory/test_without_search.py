"""The memory without its room search/: a copy of the package that lacks it gives the same answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import horen
from horen.memory import aids, plain
from horen.memory.search import nearest
from support.reference import clustered

TESTS = Path(__file__).parents[2]


def told(source: Path, out: Path) -> Any:
    """What the package in a folder answers, see ``support/retrievals.py``."""
    environment = os.environ | {"PYTHONPATH": f"{source}{os.pathsep}{TESTS}"}
    subprocess.run([sys.executable, TESTS / "support" / "retrievals.py", out], env=environment, check=True, timeout=600)
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Answers of the whole package and of a copy without the room."""
    place, package = tmp_path_factory.mktemp("copy"), Path(horen.__file__).parent
    shutil.copytree(package, place / "horen", ignore=shutil.ignore_patterns("search", "__pycache__"))
    assert not (place / "horen" / "memory" / "search").exists()
    return told(package.parent, place / "whole.json"), told(place, place / "without.json")


def assert_alike(one: Any, other: Any, place: str = "") -> None:
    """Numbers within rounding, and all else the same."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for name in one:
            assert_alike(one[name], other[name], f"{place}.{name}")
    elif isinstance(one, list):
        assert len(one) == len(other), place
        for number, parts in enumerate(zip(one, other, strict=True)):
            assert_alike(*parts, f"{place}[{number}]")
    elif isinstance(one, float):
        assert other == pytest.approx(one, abs=3e-6), place
    else:
        assert one == other, place


def test_the_room_is_there_in_one_and_missing_in_the_other(both: tuple[Any, Any]):
    assert [document["room"] for document in both] == [True, False]


def test_what_is_retrieved_is_the_same(both: tuple[Any, Any]):
    assert_alike(both[0]["retrieved"], both[1]["retrieved"])
    matches = [match for part in both[0]["retrieved"] for match in part["match"]]
    assert {match["fired"] for match in matches} == {True, False}
    runners = [match["runner_up_similarity"] for match in matches]
    assert any(match["similarity"] == runner for match, runner in zip(matches, runners, strict=True))


def test_what_an_editor_answers_is_the_same(both: tuple[Any, Any]):
    assert_alike(both[0]["answered"], both[1]["answered"])
    assert {route["fired"] for route in both[0]["answered"]["routes"]} == {True, False}


def test_an_index_is_refused_without_the_room(both: tuple[Any, Any]):
    refused = both[1]["refused"]
    assert refused.startswith("index='approximate' needs horen.memory.search, which")
    assert refused.endswith("or choose index='exact', which misses nothing.")


@pytest.mark.parametrize("awake", [False, True])
def test_the_plain_ranking_is_that_of_the_room_to_the_last_bit(awake: bool):
    keys, queries = clustered(300, 0, 24, spread=0.4), clustered(5, 1, 24, spread=0.4)
    keys[100:150] = keys[:50]
    mask = torch.arange(300) % 3 != 0 if awake else None
    found, expected = plain.ranking(queries, keys, awake=mask), nearest.ranking(queries, keys, 300, awake=mask)
    there = ~expected.similarity.isneginf()
    assert torch.equal(found.similarity, expected.similarity)
    assert torch.equal(found.index[there], expected.index[there])
    assert torch.equal(found.known, expected.known)


def test_a_fault_within_the_room_is_not_taken_for_its_absence(monkeypatch: pytest.MonkeyPatch):
    aids.room.cache_clear()
    monkeypatch.setitem(sys.modules, "horen.memory.search.nearest", None)
    monkeypatch.delitem(sys.modules, "horen.memory.search")
    with pytest.raises(ModuleNotFoundError, match="nearest"):
        aids.room()
    monkeypatch.undo()
    aids.room.cache_clear()
    assert aids.room() is not None
