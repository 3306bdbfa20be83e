"""Checking a file as a whole."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from cli_support import write_jsonl

from horen.cli.flow.checking import read_file
from horen.cli.options import OnConflict


def test_long_files_take_a_few_bytes_a_line_whatever_their_texts(tmp_path: Path):
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
    # A megabyte lies in memory before there is a temporary file; of each wording the hash is held for a while.
    assert after < (1 << 20) + 32 * lines
    assert peak < (3 << 20) + 120 * lines
