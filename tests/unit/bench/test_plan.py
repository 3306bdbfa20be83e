"""Streams, batches, checkpoints, and which edits are in force."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench_support import full_record, record
from hypothesis import given
from hypothesis import strategies as st

from horen.bench.asking import Stored, questions
from horen.bench.plan import Plan, batches, environment, in_force, manifest, stream
from horen.bench.records import Dataset, Record, Rejected
from horen.errors import DataError

RECORDS = st.lists(st.integers(0, 6), min_size=1, max_size=30).map(
    lambda prompts: [record(i + 1, f"Prompt {p}", f"Target {i}") for i, p in enumerate(prompts)]
)


@pytest.mark.parametrize(
    ("edits", "expected"),
    [(1, (1,)), (5, (1, 5)), (10, (1, 10)), (1000, (1, 10, 100, 1000)), (2500, (1, 10, 100, 1000, 2500))],
)
def test_checkpoints_are_powers_of_ten_and_the_end(edits: int, expected: tuple[int, ...]):
    assert Plan("jsonl", "file", "none", edits=edits).checkpoints == expected
    assert Plan("jsonl", "file", "none", edits=edits, intermediate=False).checkpoints == expected[-1:]


@pytest.mark.parametrize("wrong", [{"edits": 0}, {"batch": 0}, {"seeds": 0}, {"sample": -1}, {"budget": -1}])
def test_numbers_out_of_range(wrong: dict[str, int]):
    with pytest.raises(DataError, match=f"{next(iter(wrong))}=.*at least"):
        Plan("jsonl", "file", "none", **wrong)


def test_budget_of_an_answer():
    assert Plan("unke", "f", "none").answer_budget(unstructured=True) > 200
    assert 24 < Plan("unke", "f", "none").detail_budget(unstructured=True) < 200
    assert Plan("zsre", "f", "none").answer_budget(unstructured=False) == 24
    assert Plan("zsre", "f", "none").detail_budget(unstructured=False) == 24
    assert Plan("zsre", "f", "none", budget=7).answer_budget(unstructured=False) == 7


@given(records=RECORDS, seed=st.integers(0, 3))
def test_every_seed_edits_the_same_facts(records: list[Record], seed: int):
    count = max(len(records) // 2, 1)
    made = stream(records, count, seed)
    assert sorted(item.number for item in made) == [item.number for item in records[:count]]
    assert made == stream(records, count, seed)
    if seed == 0:
        assert list(made) == records[:count]


@given(records=RECORDS, size=st.integers(1, 8), start=st.integers(0, 30), stop=st.integers(1, 30))
def test_batches_keep_the_order_and_hold_each_prompt_once(records: list[Record], size: int, start: int, stop: int):
    start = min(start, len(records))
    made = list(batches(records, size, [stop], start))
    assert [item for batch in made for item in batch] == records[start:]
    ends = start
    for batch in made:
        assert 1 <= len(batch) <= size
        assert len({item.prompt for item in batch}) == len(batch)
        assert not ends < stop < ends + len(batch)
        ends += len(batch)


@given(records=RECORDS, count=st.integers(1, 30))
def test_the_latest_of_contradicting_edits_is_in_force(records: list[Record], count: int):
    held = in_force(records, count, 0, 0)
    latest = {item.prompt: item for item in records[:count]}
    assert {item.record.prompt: item.record for item in held} == latest
    assert all(records[item.position] is item.record for item in held)
    assert [item.position for item in held] == sorted(item.position for item in held)


def test_a_sample_is_drawn_by_the_seed_alone():
    records = [record(i + 1) for i in range(50)]
    held = in_force(records, 50, 10, 1)
    assert len(held) == 10
    assert held == in_force(records, 50, 10, 1)
    assert held != in_force(records, 50, 10, 2)
    assert len(in_force(records, 5, 10, 1)) == 5


def test_manifest_says_what_was_run_on_what():
    dataset = Dataset("jsonl", "file", "ab" * 32, (record(1),), (Rejected(2, "no prompt"),))
    told = json.loads(json.dumps(manifest(Plan("jsonl", "file", "none"), dataset)))
    assert told["plan"]["method"] == "none"
    assert told["dataset"]["sha256"] == "ab" * 32
    assert (told["dataset"]["usable"], told["dataset"]["rejected"]) == (1, 1)
    assert told["dataset"]["first_rejected"] == [{"number": 2, "reason": "no prompt"}]
    assert told["versions"]["torch"]
    assert told["machine"]["cpus"] >= 1


_X86 = "processor\t: 0\nmodel name\t: Some Processor 7\nflags\t\t: fpu avx2 avx512f avx512_vnni amx_bf16 other\n"
_ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp bf16\n"


@pytest.mark.parametrize(
    ("text", "name", "features"),
    [
        (_X86 + "\n" + _X86, "Some Processor 7", ["avx2", "avx512f", "avx512_vnni", "amx_bf16"]),
        (_ARM, None, ["asimddp", "bf16"]),
        (None, None, []),
    ],
)
def test_the_processor_is_told_where_the_system_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, name: str | None, features: list[str]
):
    place = tmp_path / "cpuinfo"
    if text is not None:
        place.write_text(text)
    monkeypatch.setattr("horen.bench.plan._CPUINFO", place)
    machine = environment()["machine"]
    assert (machine["cpu"], machine["features"]) == (name, features)


def test_a_negative_that_was_edited_itself_is_none():
    first = full_record(1)
    asked = questions([Stored(first, 0)], {"Other fact 1"})
    assert [item.text for item in asked if not item.answers] == ["Hello"]
    assert [item.kind for item in asked] == ["prompt", "rephrase", "rephrase", "far", "one_hop"]
