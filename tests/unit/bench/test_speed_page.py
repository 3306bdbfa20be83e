"""docs/speed.md is what the script makes of the results, whichever files a machine has."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
ENVIRONMENT: dict[str, Any] = {
    "code": "0123456789abcdef",
    "versions": {"torch": "2.13.0"},
    "machine": {
        "processor": "x86_64",
        "cpu": "Intel(R) Xeon(R) Processor",
        "features": ["avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16"],
        "cpus": 2,
        "threads": 2,
        "device": "cpu",
        "gpu": None,
    },
}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("speed_page")


def written(folder: Path, **files: dict[str, Any]) -> Path:
    folder.mkdir(parents=True)
    for name, found in files.items():
        (folder / f"{name}.json").write_text(json.dumps(found))
    return folder.parent


def test_the_page_is_what_the_script_makes(script: ModuleType):
    assert script.PAGE.read_text(encoding="utf-8") == script.page(), "run python benchmarks/speed_page.py"


def test_a_machine_is_named_by_its_results(script: ModuleType, tmp_path: Path):
    saving, told = {"seconds": 0.0111, "bytes": 7484}, "11.1 ms, 7,484 bytes"
    kinds = [f"an edit {what}, {how}" for what in ("more", "less") for how in ("known", "all anew")]
    found = {**ENVIRONMENT, "entries": 50_000, **dict.fromkeys(kinds, saving)}
    made = script.page(written(tmp_path / "one", saving=found))
    assert "\n## Intel Xeon Processor, 2 cores: AVX-512 bfloat16, AVX-512 VNNI\n" in made
    assert f"| saving one edit more, 50,000 stored | {told} | all files anew {told} |" in made
    assert "code 01234567: saving" in made


def test_what_the_results_do_not_say_a_file_of_the_folder_does(script: ModuleType, tmp_path: Path):
    machine = {"processor": "x86_64", "cpus": 2, "threads": 2, "device": "cpu", "gpu": None}
    results = {"results": {"edits": 9, "load_s": 0.5, "save_s": 1.0, "bytes_an_edit": 4000.0}}
    start = {**ENVIRONMENT, "machine": machine, **results}
    place = written(tmp_path / "old", start=start, machine={"name": "An old one", "note": "Long ago."})
    made = script.page(place)
    assert "\n## An old one\n" in made
    assert "Long ago." in made
    assert "| An old one | 0.5 s | 4,000 |" in made


def test_every_kind_of_file_makes_rows(script: ModuleType, tmp_path: Path):
    folder = tmp_path / "all"
    folder.mkdir()
    for path in sorted(script.RESULTS.glob("*/*.json")):
        if path.name != "machine.json":
            shutil.copy(path, folder / path.name)
    size = {"on disk": {"all": 2100.5, "keys": 512}, "in memory": {"all": 3100.0}}
    (folder / "size.json").write_text(json.dumps({**ENVIRONMENT, "edits": 20_000, "now": size, "before": size}))
    made = script.page(tmp_path)
    for start in (
        "an edit beside 50,000",
        "a look-up of 16",
        "`index=approx",
        "the first token",
        "`Editor.load`",
        "`horen c",
    ):
        assert f"| {start}" in made
    assert "| an edit on disk, 20,000 stored | 2,100 bytes | 2,100 bytes before; keys 512 bytes |" in made


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.317, "4.32 s"), (0.1, "0.1 s"), (0.0111, "11.1 ms"), (5.56e-5, "55.6 µs"), (1234, "1,234 s")],
)
def test_durations_are_told_in_the_unit_that_reads_best(script: ModuleType, seconds: float, text: str):
    assert script.duration(seconds) == text
