"""What the pages show is what comes out. HOREN_DOCS=all runs the pages that take longer too, which is minutes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.documented import Block, blocks, differences

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
TASKS = sorted((ROOT / "docs" / "tasks").glob("*.md"))


def test_the_quickstart_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not "\n".join(differences(ROOT / "docs" / "quickstart.md", tmp_path))


def test_the_readme_shows_what_the_quickstart_shows() -> None:
    run = ("pycon", "console")
    shown = [block for block in blocks(ROOT / "README.md") if block.language in run and "$ horen" in block.body]
    shown += [block for block in blocks(ROOT / "README.md") if block.language == "pycon"]
    quick = blocks(ROOT / "docs" / "quickstart.md")
    assert shown
    for block in shown:
        assert any(_begins(whole, block) for whole in quick), block.body


@pytest.mark.skipif(os.environ.get("HOREN_DOCS") != "all", reason="takes minutes; HOREN_DOCS=all runs it")
@pytest.mark.parametrize("page", TASKS, ids=lambda page: page.stem)
def test_a_task_is_true(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not "\n".join(differences(page, tmp_path))


def _begins(whole: Block, part: Block) -> bool:
    return whole.language == part.language and whole.body.startswith(part.body)
