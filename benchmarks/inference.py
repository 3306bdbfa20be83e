"""What a codebook adds to the time of a model's answers: to the first token, and to each one after it.

    python benchmarks/inference.py --edits 50000 --out inference.json

The codebook is filled with random unit keys of the key space's own dimension and random values, so that prompts are
routed among as many entries as a real one has and wake none. Then each prompt gets an edit that asks it in other words,
which it wakes. Where a judge decides, it reads a prompt beside the nearest edits' own words both times.
The untouched model (no hook on it) and the wrapped one are timed in turn on the same prompts, and what is reported is
the median of the pairs' ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from filling import fill, record
from horen import Editor, HorenConfig
from horen.bench.files import write_text
from horen.bench.plan import environment

_OTHERWISE = "Please tell me: "
_WORDS = (
    "Who was the first person to cross the northern strait in a small wooden boat without any help from the shore, and "
    "in which year did the town put up a statue of that sailor beside the old lighthouse near the market square today?"
)


def wake(editor: Editor, ids: Tensor) -> None:
    """Add an edit in other words for each prompt, all with one value, which changes nothing."""
    session = editor._session
    codebook, history = session.codebook(), session.history
    asked = editor.tokenizer.batch_decode(ids, skip_special_tokens=True)
    worded = [_OTHERWISE + text for text in asked]
    keys = session.keys([session.contexts.plain(text) for text in worded])
    value = codebook.add_value(torch.zeros_like(codebook.values[0]))
    entries = codebook.add_entries(session.config.of_keys().rounded(keys), value)
    first = history.next_id - 1
    records = [replace(record(first + n), prompt=text, value=value) for n, text in enumerate(worded)]
    history.record("edit", [replace(one, entries=(entry,)) for one, entry in zip(records, entries, strict=True)])
    assert all(explained.fired for explained in editor.explain(asked))


def prompts(editor: Editor, tokens: int, batch: int) -> Tensor:
    """Return [batch, tokens] ids that differ from row to row, so that no row is routed for another."""
    ids = editor.tokenizer(_WORDS, return_tensors="pt")["input_ids"][0, :tokens]
    assert len(ids) == tokens, f"The text has only {len(ids)} tokens."
    return torch.stack([ids.roll(shift) for shift in range(batch)]).to(editor.model.device)


def seconds(action: Callable[[], Any]) -> float:
    """Return wall-clock seconds of an action, accelerator included."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    began = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def generation(editor: Editor, ids: Tensor, count: int) -> float:
    """Return the seconds to answer a batch with exactly ``count`` tokens each."""
    options = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False}
    mask = torch.ones_like(ids)
    with torch.inference_mode():
        return seconds(lambda: editor.model.generate(input_ids=ids, attention_mask=mask, pad_token_id=0, **options))


def measured(editor: Editor, ids: Tensor, new: int, pairs: int) -> dict[str, Any]:
    """Return the medians of the untouched and the wrapped model's times in milliseconds, and of the pairs' ratios."""
    found: dict[str, Any] = {"batch": len(ids)}

    def further() -> float:
        return (generation(editor, ids, new) - generation(editor, ids, 1)) / (new - 1)

    # A first token is short against what else a machine does, so it is timed ten times as often.
    for name, action, count in (
        ("first_token", lambda: generation(editor, ids, 1), 10 * pairs),
        ("further_token", further, pairs),
    ):
        plain, with_edits = in_turn(editor, action, count)
        ratios = [b / a for a, b in zip(plain, with_edits, strict=True)]
        found[name] = {
            "untouched_ms": 1e3 * statistics.median(plain),
            "wrapped_ms": 1e3 * statistics.median(with_edits),
            "fastest_ms": [1e3 * min(plain), 1e3 * min(with_edits)],
            "added": statistics.median(ratios) - 1,
            "added_quartiles": [quartile - 1 for quartile in statistics.quantiles(ratios)],
        }
    return found


def in_turn(editor: Editor, action: Callable[[], float], count: int) -> tuple[list[float], list[float]]:
    """Return the seconds of an action on the untouched and on the wrapped model, so many of each."""
    session, times = editor._session, {True: [], False: []}
    for number in range(count + 1):
        # Each comes first every other time: what runs second may find a warmer cache or a busier machine.
        for wrapped in (True, False) if number % 2 else (False, True):
            if not wrapped:
                session.unwrap()
            took = action()
            if not wrapped:
                session.wrap()
            if number:
                times[wrapped].append(took)
    return times[False], times[True]


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--calibration", help="folder or name of a calibration, in the place of the preset's reading")
    parser.add_argument("--edits", type=int, default=50_000)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--new", type=int, default=9)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--device")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    config = HorenConfig.from_preset(given.preset)
    editor = Editor.from_pretrained(given.model, config, calibration=given.calibration, device=given.device)
    editor.model.eval()
    fill(editor._session, given.edits)
    batches = [prompts(editor, given.tokens, batch) for batch in given.batches]
    results = []
    for woken in (False, True):
        if woken:  # smaller batches are the beginning of the largest
            wake(editor, max(batches, key=len))
        results += [{"woken": woken, **measured(editor, ids, given.new, given.pairs)} for ids in batches]
    told = {name: value for name, value in vars(given).items() if name != "out"}
    print(json.dumps(results, indent=1))
    write_text(given.out, json.dumps({"arguments": told, **environment(given.device), "results": results}, indent=1))


if __name__ == "__main__":
    main()
