"""Part 5: what 50,000 edits add to the first token of a model of Llama-3-8B's shape, and to those after it."""

from __future__ import annotations

import torch

from filling import fill
from gpu.models import random_edits
from gpu.report import Report
from horen import Editor
from inference import measured, wake


def measure(
    report: Report, editor: Editor, *, edits: int, tokens: int, batches: list[int], pairs: int, new: int
) -> None:
    """Time pairs of the untouched and the wrapped model; see ``benchmarks/inference.py``.

    Args:
        report: takes the findings.
        editor: of the model, without edits.
        edits: in the codebook, with random keys and values.
        tokens: of each prompt.
        batches: numbers of prompts.
        pairs: of further tokens; ten times as many of first ones.
        new: tokens of an answer from which further ones are timed.
    """
    fill(editor._session, edits)
    texts = [edit.prompt for edit in random_edits(max(batches) * tokens, editor.model.config.vocab_size, seed=2)]
    row = torch.tensor([i for text in texts for i in editor.tokenizer(text)["input_ids"]], device=editor.model.device)
    prompts = row[: max(batches) * tokens].view(max(batches), tokens)
    for woken in (False, True):
        if woken:
            wake(editor, prompts)
        for batch in batches:
            report.add(
                "answers",
                {"woken": woken, "edits": edits, "tokens": tokens, **measured(editor, prompts[:batch], new, pairs)},
            )
