"""What a save holds of the lines that it writes."""

from __future__ import annotations

import hashlib
import tracemalloc
from pathlib import Path

from horen.edits import EditRecord
from horen.store.content import records_to_bytes
from horen.store.history import History

PROMPT = "Who was the chief executive of company number {}?"


def history(edits: int) -> History:
    made = History()
    made.record(
        "edit",
        [
            EditRecord(
                id=number,
                prompt=PROMPT.format(number),
                target="Ada Morrow",
                rephrases=(),
                entries=(number - 1,),
                value=number - 1,
                loss=0.5,
                steps=3,
                converged=True,
                reused=False,
                created="2026-01-01T00:00:00.000+00:00",
            )
            for number in range(1, edits + 1)
        ],
    )
    return made


def test_lines_are_made_as_they_are_written_and_not_kept():
    lines = history(5_000).lines()
    tracemalloc.start()
    try:
        content = records_to_bytes(Path("codebook"), lines)
        written = sum(map(len, content))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert written == content.size > 5_000 * len(PROMPT)
    assert peak < 500_000 < content.size


def test_content_is_the_same_each_time_and_may_begin_later():
    lines = history(500).lines()
    whole, rest = records_to_bytes(Path("codebook"), lines), records_to_bytes(Path("codebook"), lines, 490)
    assert b"".join(whole) == b"".join(whole)
    assert hashlib.sha256(b"".join(whole)).hexdigest() == whole.sha256
    assert b"".join(whole).endswith(b"".join(rest))
    assert b"".join(rest).count(b"\n") == 10
