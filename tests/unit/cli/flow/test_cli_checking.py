"""Checking a file as a whole."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from cli_support import write_jsonl

from horen.cli.flow.checking import read_file
from horen.cli.options import OnConflict


def test_long_files_take_little_more_memory_than_their_texts(tmp_path: Path):
    lines = 20_000
    prompts = [f"Who was the chief executive of company number {number:06}?" for number in range(lines)]
    edits = [{"prompt": prompt, "target": "Ada Morrow", "rephrases": [prompt[8:]]} for prompt in prompts]
    file = write_jsonl(tmp_path / "edits.jsonl", edits)
    del edits
    tracemalloc.start()
    try:
        kept, skipped = read_file(file, OnConflict.error, skip_bad=False)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (len(kept), skipped) == (lines, [])
    texts = sum(3 * 49 + len(prompt) + len(prompt) - 8 + len("Ada Morrow") for prompt in prompts)
    assert after < texts + 180 * lines
    assert peak < texts + 400 * lines
