"""Embedded engines that come to an end: by an error, by being closed, with the process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from horen import Edit, Editor, ModelError
from horen.serve.engines.interface import Sampling
from support.editors import EDITED, ids_of, quick_editor
from support.embedded import ask, greedy, serving

DRAWN = Sampling(max_tokens=12, temperature=1.0, seed=3, logprobs=0)
OTHER = ids_of("Who wrote Hamlet?")


@pytest.fixture(scope="module")
def editor() -> Editor:
    return quick_editor(edits=[Edit(EDITED, "Rome")])


@pytest.fixture(scope="module")
def plain(editor: Editor) -> list[str]:
    return greedy(editor, OTHER)


def test_an_error_in_the_thread(editor: Editor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    editor.save(tmp_path / "codebook")
    with serving(editor, tmp_path / "codebook") as engine:

        def broken() -> None:
            raise RuntimeError("no more rows")

        async def fails() -> None:
            running = asyncio.create_task(ask(engine, OTHER, replace(DRAWN, max_tokens=400)))
            await asyncio.sleep(0.1)
            assert not running.done()
            monkeypatch.setattr(engine._writer, "_runs", broken)
            with pytest.raises(ModelError, match="no more rows"):
                await running
            for _ in range(100):
                health = await engine.health()
                if not health.ready:
                    break
                await asyncio.sleep(0.02)
            assert not health.ready
            assert "RuntimeError: no more rows" in health.why
            with pytest.raises(ModelError, match=r"has stopped .*no more rows"):
                await ask(engine, OTHER)

        asyncio.run(fails())


def test_the_end_of_an_engine(editor: Editor, plain: list[str], tmp_path: Path):
    editor.save(tmp_path / "codebook")
    with serving(editor, tmp_path / "codebook") as engine:

        async def closes() -> None:
            running = asyncio.create_task(ask(engine, OTHER, replace(DRAWN, max_tokens=400)))
            await asyncio.sleep(0.1)
            await engine.close()
            with pytest.raises(ModelError):
                await running
            health = await engine.health()
            assert (health.ready, health.why) == (False, "The engine was closed.")
            with pytest.raises(ModelError, match="was closed"):
                await ask(engine, OTHER)
            await engine.close()

        asyncio.run(closes())
        assert not engine._thread.is_alive()
        assert not engine._batch.runs_on
    assert greedy(editor, OTHER) == plain


def test_a_process_ends_though_its_engine_was_not_closed():
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from horen.serve.engines.embedded import Embedded\n"
        "from horen.serve.engines.continuous.room import Room\n"
        "from support.tiny_models import tiny_model\n"
        "from support.tiny_tokenizers import tiny_tokenizer\n"
        "engine = Embedded(tiny_model(), tiny_tokenizer('chatml'), room=Room(tokens=512))\n"
        "print('made')"
    )
    root = Path(__file__).parents[4]
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=root)
    assert (found.returncode, found.stdout.strip()) == (0, "made"), found.stderr
    assert "Traceback" not in found.stderr
