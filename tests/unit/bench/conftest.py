"""Runs that several files of tests look at; none changes them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from bench_support import SETTINGS, save_taught_model, write_facts

from horen.bench.plan import Plan
from horen.bench.run import run


@pytest.fixture(scope="session")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("bench")
    text = folder / "text.txt"
    text.write_text("Seven green boats went out to sea and came back with the capital of France. " * 60)
    return Plan(
        dataset="jsonl",
        path=str(write_facts(folder / "facts.jsonl")),
        method="horen",
        model=str(save_taught_model(folder / "model")),
        settings=SETTINGS,
        edits=4,
        text=str(text),
    )


@pytest.fixture(scope="session")
def done(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "horen"
    run(plan, out)
    return out


@pytest.fixture(scope="session")
def untouched(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "none"
    run(dataclasses.replace(plan, method="none", settings={}), out)
    return out
