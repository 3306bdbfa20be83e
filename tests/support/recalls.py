"""Editors that recall facts, and what is given to their models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from horen import Edit, Editor, HorenConfig
from support.editors import EDITED, GREEDY, QUICK, REPHRASED
from support.tiny_models import tiny_model
from support.tiny_tokenizers import tiny_tokenizer

SAME = "the capital of france is"
ABOUT = "Where do people swim in France when the sun is hot?"
UNKNOWN = "apple banana"
SWIMMERS = "Where in France do two cats swim?"
CAPITAL_FACT = f"New fact: {EDITED} Rome"
SWIMMERS_FACT = f"New fact: {SWIMMERS} Mira Sand"
EDITS = [Edit(EDITED, "Rome", (REPHRASED,)), Edit(SWIMMERS, "Mira Sand"), Edit("Who wrote Hamlet?", "Oslo")]
# An edit, and a question about it after whose fact the edit would fire, at a threshold of 0.85.
WAKING = Edit("Seven green boats and two cats swim in France when it is", "Rome")
WAKEN = "Do seven green boats and cats swim in France?"
# Facts that ABOUT is about; that with more words in common comes first.
BOTH = [2, 1]


def settings(folder: Path, **more: Any) -> dict[str, Any]:
    return {**QUICK, "read_sites": "text", "key_space": "auto", "threshold": 0.5, "encoder": str(folder)} | more


def editor(folder: Path, edits: list[Edit] | None = None, style: str = "chatml", **more: Any) -> Editor:
    made = Editor(tiny_model("llama", style), tiny_tokenizer(style), HorenConfig(**settings(folder, **more)))
    made.edit(EDITS[:1] if edits is None else edits)
    return made


@contextmanager
def fed(one: Editor) -> Iterator[list[tuple[list[int], bool]]]:
    """Within the block every row that is given to the model's generate, and whether edits were disabled for it."""
    real, seen = one.model.generate, []

    def spy(input_ids: torch.Tensor, attention_mask: torch.Tensor, **more: Any) -> Any:
        for ids, mask in zip(input_ids, attention_mask, strict=True):
            seen.append((ids[mask.bool()].tolist(), one._session.adapter.silent))
        return real(input_ids=input_ids, attention_mask=attention_mask, **more)

    one.model.__dict__["generate"] = spy
    try:
        yield seen
    finally:
        one.model.__dict__["generate"] = real


def plainly(one: Editor, row: list[int], new: int = 5) -> str:
    """What the untouched model says to a row of token ids."""
    with one.disabled(), torch.inference_mode():
        ids = torch.tensor([row])
        said = one.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, **GREEDY, use_cache=True
        )
    return str(one.tokenizer.decode(said[0, len(row) :], skip_special_tokens=True)).strip()
