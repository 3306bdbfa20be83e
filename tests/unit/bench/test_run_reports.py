"""What is made of runs: pages, comparisons and the commands."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bench_support import SETTINGS, write_facts
from typer.testing import CliRunner

from horen.bench.plan import Plan
from horen.bench.report import write_markdown, write_page
from horen.bench.results import compare, read
from horen.bench.run import run
from horen.cli.app import app
from horen.errors import DataError, StoreError

SECTIONS = (
    "Scores by number of edits",
    "Scores by age",
    "Every kind of question",
    "Routing",
    "How near prompts come to an edit",
    "Costs",
    "Where it fails",
    "What was run",
)


def test_scores_that_were_kept_in_a_file(done: Path, tmp_path: Path):
    place = tmp_path / "scores.json"
    place.write_text(json.dumps(read(done).to_dict()))
    kept = read(place)
    assert kept.to_dict() == read(done).to_dict() | {"folder": str(place)}
    write_page([kept], tmp_path / "page.html")
    headings = re.findall("<h2>(.*?)</h2>", (tmp_path / "page.html").read_text())
    assert headings == [
        title for title in SECTIONS if title not in {"How near prompts come to an edit", "Where it fails"}
    ]
    with pytest.raises(DataError, match=r"holds scores alone.*give its folder"):
        compare(kept, read(done))
    place.write_text("{}")
    with pytest.raises(DataError, match=r"holds no scores of a run"):
        read(place)


def test_comparing_two_runs(done: Path, untouched: Path):
    found = compare(read(done), read(untouched))
    ahead = found["difference"]["reliability"]
    assert (found["edits"], found["seeds"]) == (4, [0])
    assert ahead["count"] == 3
    assert ahead["mean"] > 0
    assert found["difference"]["locality"]["mean"] == 0
    assert compare(read(done), read(done))["difference"]["reliability"]["mean"] == 0


def test_runs_on_other_data_are_not_compared(plan: Plan, done: Path, tmp_path: Path):
    other = write_facts(tmp_path / "other.jsonl", [{"prompt": "Hello", "target": "Rome"}])
    run(dataclasses.replace(plan, path=str(other), edits=1, text=None), tmp_path / "out")
    with pytest.raises(DataError, match=r"about other data"):
        compare(read(done), read(tmp_path / "out"))


def test_what_is_no_run(tmp_path: Path):
    with pytest.raises(DataError, match=r"holds no run: give the folder"):
        read(tmp_path)


def test_page(done: Path, untouched: Path, tmp_path: Path):
    place = tmp_path / "report.html"
    write_page([read(done), read(untouched)], place)
    text = place.read_text()
    headings = re.findall("<h2>(.*?)</h2>", text)
    assert headings == list(SECTIONS)
    # the key; four curves, two by age, one kind of negatives, one histogram, four costs
    assert text.count("<svg") == 1 + 4 + 2 + 1 + 1 + 4
    assert "prefers-color-scheme: dark" in text
    assert "horen default" in text
    assert "the edit prompt is not answered with the target" in text
    assert "<script" not in text
    links = set(re.findall(r"(?:https?:)?//[\w.]+", text))
    named = {"http://www.w3.org", "http://purl.org", "http://creativecommons.org", "https://matplotlib.org"}
    assert links <= named  # names of vocabularies in the drawings; nothing is fetched


def test_markdown(done: Path, untouched: Path, tmp_path: Path):
    place = tmp_path / "report.md"
    write_markdown([read(done), read(untouched)], place)
    text = place.read_text()
    assert re.findall("^## (.*)$", text, flags=re.MULTILINE) == list(SECTIONS)
    images = re.findall(r"^!\[.*\]\((.*)\)$", text, flags=re.MULTILINE)
    assert len(images) == 13
    assert all((tmp_path / image).read_text().startswith("<svg") for image in images)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert "| run | edits | reliability | generalization | locality | overall |" in lines
    assert any(line.startswith("| horen default") for line in lines)


def test_a_report_that_cannot_be_written(done: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    for write in (write_page, write_markdown):
        with pytest.raises(StoreError, match=r"cannot be (written|made)"):
            write([read(done)], tmp_path / "file" / "report")


def test_commands(plan: Plan, done: Path, untouched: Path, tmp_path: Path):
    def call(*arguments: Any) -> str:
        result = CliRunner().invoke(app, ["bench", *map(str, arguments)])
        assert result.exit_code == 0, result.output
        return result.stdout

    settings = [part for item in SETTINGS.items() for part in ("--set", "=".join(map(str, item)))]
    out = tmp_path / "out"
    options = ["--dataset", "jsonl", "--path", plan.path, "--model", plan.model, "--edits", 4, "--out", out]
    document = json.loads(call("run", *options, *settings, "--json"))
    assert document["checkpoints"][-1]["scores"]["headline"]["reliability"]["mean"] == 1.0
    assert "horen default" in call("report", out, untouched)
    call("report", out, "--html", tmp_path / "r.html", "--markdown", tmp_path / "r.md")
    assert (tmp_path / "r.html").exists()
    assert (tmp_path / "r.md").exists()
    assert json.loads(call("report", done, "--json"))[0]["over_seeds"]["4"]["reliability"]["mean"] == 1.0
    assert "reliability" in call("compare", done, untouched)
    assert json.loads(call("compare", done, untouched, "--json"))["edits"] == 4
    assert "zsre" in call("datasets")
    assert "grace" in json.loads(call("datasets", "--json"))["methods"]


def test_a_wrong_method_is_one_clear_line(plan: Plan, tmp_path: Path):
    arguments = ["--dataset", "jsonl", "--path", plan.path, "--model", plan.model, "--edits", "1"]
    result = CliRunner().invoke(app, ["bench", "run", *arguments, "--method", "hroen", "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "Unknown method 'hroen': did you mean 'horen'?" in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 2


def test_benchmarks_without_their_packages():
    program = "import sys; sys.modules['sacrebleu'] = None; from horen.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", program, "bench", "datasets"], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "Error: Benchmarks need packages that are not installed (sacrebleu): pip install 'horen[bench]'.\n"
    )
