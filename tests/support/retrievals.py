"""What a codebook and an editor on a tiny model answer, as JSON: a program for one copy of the package or another.

python retrievals.py OUT
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import normalize

from horen import ConfigError, Edit, HorenConfig
from horen.memory import Codebook, Gate, KeyStorage, aids
from horen.memory.recall import about
from horen.store.index import check_index
from support.editors import EDITED, GREEDY, OTHER, PROMPTS, REPHRASED, quick_editor

# So many that int8 copies of the keys and the compiled kernel are used where they are there.
KEYS, SIZE = 17_000, 64
TWICE = 3_000
BATCHES = (3, 18)


def codebook(storage: str) -> Codebook:
    """Random keys, few of a value, of which some are there twice with other values, and some are asleep."""
    draw = torch.Generator().manual_seed(0)
    keys = normalize(torch.randn(KEYS, SIZE, generator=draw), dim=-1)
    keys[KEYS // 2 : KEYS // 2 + TWICE] = keys[:TWICE]
    book, start = Codebook(SIZE, 1, key_storage=KeyStorage(storage)), 0
    with book.together():
        while start < KEYS:
            # One to three of a value where keys are there twice; the rest makes the codebook long.
            some = keys[start : start + (1 + start % 3 if start % (KEYS // 2) < TWICE else 100)]
            book.add_entries(some, book.add_value(torch.tensor([float(start)])))
            start += len(some)
    # Of some that are there twice the first ones sleep, of others the second ones, of others both.
    book.set_awake([*range(0, KEYS, 7), *range(500, 700), *range(KEYS // 2 + 600, KEYS // 2 + 900)], False)
    return book


def retrieved(book: Codebook) -> list[dict[str, Any]]:
    """What is found around queries like rephrases, by several gates."""
    keys = book.read_keys(range(KEYS))
    twice = about(keys[:TWICE], 20, seed=1)  # each at least twice in the codebook
    queries = torch.cat([about(keys, 20), twice, keys[KEYS - 5 :], keys[:5]])
    found = []
    for steps, contrast, margin in ((0, 0.4, 0.0), (1, 0.4, 0.0), (2, 0.0, 0.05)):
        gate = Gate(threshold=0.6, margin=margin, contrast=contrast, neighbours=8, alpha=0.1, beta=20.0, steps=steps)
        for size in BATCHES:
            for start in range(0, len(queries) if size < 10 else 1, 20):
                some = queries[start : start + size]
                prompts = torch.arange(len(some))
                near = book.candidates(some, gate, 6)
                assert near is not None
                around = book.surroundings(some[0], 12, gate)
                woken = [book.waking(some, gate), book.waking(some, gate, prompts=prompts)]
                found.append(
                    {
                        "match": [asdict(one) for one in book.match(some, gate)],
                        "nearest": book.nearest(some),
                        "woken": [
                            [one.entry if one is not None and one.fired else None for one in row] for row in woken
                        ],
                        "candidates": {name: part.tolist() for name, part in vars(near[0]).items()},
                        "surroundings": {name: part.tolist() for name, part in vars(around).items()},
                    }
                )
    return found


def answered() -> dict[str, Any]:
    """What an editor says and why, with an edit that was superseded and one that was removed."""
    editor = quick_editor(edits=[Edit(EDITED, "Rome", (REPHRASED,)), Edit(OTHER, "Paris"), Edit("Hello", "Oslo")])
    editor.supersede(1, "Mira Sand")
    editor.remove(3)
    texts = list(PROMPTS)
    routes = [asdict(found) for found in editor.explain(texts, nearest=3)]
    generated = editor.generate(texts, max_new_tokens=8, **GREEDY)
    return {"routes": routes, "generated": generated}


def main() -> None:
    """Write all of it."""
    refused = None
    try:
        check_index(HorenConfig(index="approximate"))
    except ConfigError as error:
        refused = str(error)
    document = {
        "room": aids.room() is not None,
        "refused": refused,
        "retrieved": [*retrieved(codebook("float32")), *retrieved(codebook("int8"))],
        "answered": answered(),
    }
    Path(sys.argv[1]).write_text(json.dumps(document))


if __name__ == "__main__":
    main()
