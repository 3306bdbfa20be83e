"""Part 2: edits of a model of Llama-3-8B's shape, against the published procedure and what the device can do.

The weights are random, so that values converge in other numbers of steps than a trained model's. So seconds of a step
are told beside those of an edit, and with ``typical`` every edit takes as many steps as one of a trained model does.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from edit_speed import measured_on, published_on
from gpu.models import random_edits
from gpu.report import Report
from gpu.timing import products_a_second
from horen import Edit, Editor, HorenConfig
from horen.data import load_bank
from horen.model.contexts import Contexts
from horen.store.calibration import Calibration

#: Keys of activations, and values trained as by default.
BASE = HorenConfig.from_preset("activations")
# What an edit of ZsRE took on average of SmolLM2-135M (benchmarks/results/speed).
_TYPICAL = 11
_WARM = 16
GOALS = {"times_as_fast": 100.0, "share_of_limit": 0.3}


def measure(
    report: Report,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    calibrate: Callable[[], Calibration],
    *,
    count: int,
    yardstick: int,
    size: int,
) -> None:
    """Time so many edits in bulk and a few by the published procedure.

    Args:
        report: takes the findings.
        model: the model.
        tokenizer: its tokenizer.
        calibrate: measures how the model reads.
        count: edits in bulk.
        yardstick: edits by the published procedure, one more apart that warms up.
        size: of the squares by which the rate of products is measured.
    """
    device = model.device
    rate = products_a_second(device, size)
    report.note("bfloat16_products_a_second", rate)
    edits = random_edits(count, model.config.vocab_size)
    report.note("tokens", _lengths(model, tokenizer, edits))
    published_on(model, tokenizer, edits, [0])
    published = published_on(model, tokenizer, edits, range(1, yardstick + 1))
    published["seconds_a_step"] = published["seconds"] / published["steps"]
    report.note("published", published)
    began = time.perf_counter()
    calibration = calibrate()
    report.note("prepare_s", time.perf_counter() - began)
    with opened(model, tokenizer, BASE, calibration) as editor:
        editor.edit(random_edits(_WARM, model.config.vocab_size, seed=1), on_similar="ignore")
    plans = {
        "typical": BASE.replace(max_steps=_TYPICAL),
        "default": BASE,
        "prompt alone": BASE.replace(contexts="prompt"),
    }
    for name, config in plans.items():
        with opened(model, tokenizer, config, calibration) as editor:
            editor.prepare()
            ours = measured_on(editor, edits, dict.fromkeys(("float32", "float16", "bfloat16", "int8"), rate))
        del ours["losses"]
        report.note(name, ours | _compared(ours, published))


@contextmanager
def opened(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: HorenConfig, calibration: Calibration | None
) -> Iterator[Editor]:
    """Yield an editor, which is taken off the model in the end, also where the time is up."""
    editor = Editor(model, tokenizer, config, calibration=calibration)
    try:
        yield editor
    finally:
        editor.unwrap()


def calibrated(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Calibration:
    """Return how a model reads, measured once for all editors of it, with the preset's own settings."""
    with opened(model, tokenizer, BASE, None) as editor:
        editor.prepare()
    session = editor._session
    assert session.weights is not None
    return Calibration({}, session.key_space, session.token_weights, (), session.weights.first)


def _compared(ours: dict[str, Any], published: dict[str, Any]) -> dict[str, Any]:
    # A step of an edit's own batch: all of its contexts, the reading of its prompts shared out among them.
    a_step = ours["seconds"] / max(ours["steps"], 1)
    found = {
        "edits_a_second": 1 / ours["seconds"],
        "seconds_a_step": a_step,
        "times_as_fast": published["seconds"] / ours["seconds"],
        "times_as_fast_a_step": published["seconds_a_step"] / a_step,
    }
    told = ours | found
    return found | {"goals": {name: {"goal": goal, "met": told[name] >= goal} for name, goal in GOALS.items()}}


def _lengths(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, edits: Sequence[Edit]
) -> dict[str, list[float]]:
    """Return the mean number of tokens of prompts and targets in each training context."""
    contexts = Contexts(model, tokenizer, load_bank().paragraphs)
    samples = [contexts.samples(edit, HorenConfig()) for edit in edits]
    columns = list(zip(*samples, strict=True))
    return {
        "prompt": [statistics.mean(len(one.prompt) for one in column) for column in columns],
        "target": [statistics.mean(len(one.target) for one in column) for column in columns],
    }
