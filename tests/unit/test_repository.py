"""What files beside the code say about versions is what the package says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from horen import __version__

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def oldest(project: dict[str, Any], package: str) -> str:
    found = next(line for line in project["dependencies"] if re.match(rf"{package}\W", line))
    return re.search(r">=([\d.]+)", found)[1]


def test_citation_names_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == __version__
    assert any("2605.08143" in reference["url"] for reference in cited["references"])


def test_matrix_begins_with_the_oldest_releases(project: dict[str, Any]):
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    first = next(one for one in jobs["test"]["strategy"]["matrix"]["include"] if one["name"] == "oldest")
    assert f">={first['python']}" == project["requires-python"]
    assert first["torch"].startswith(f"torch=={oldest(project, 'torch')}")
    assert first["transformers"].startswith(f"transformers=={oldest(project, 'transformers')}")


def test_workflow_and_hooks_run_what_make_runs():
    made = (ROOT / "Makefile").read_text(encoding="utf-8")
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    for target in (command.split()[1] for command in commands if command.startswith("make ")):
        assert re.search(rf"^{target}:", made, re.MULTILINE)
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    for hook in hooks:
        assert f"$(BIN)/{hook['entry'].removeprefix('.venv/bin/').split()[0]}" in made
