"""How fast edits are made: against the published procedure, and against what the machine could do.

    python benchmarks/edit_speed.py --data zsre_mend_train_10000.json --skip 6000 --edits 1000 --out edit_speed.json

The yardstick is the procedure of arXiv 2605.08143 written down plainly: one edit at a time, 50 times the whole model
forwards and backwards on the prompt and its target, Adam over the table of all values. It makes a few of the edits, at
even distances in the stream and each with a table of the size that it has there; HoReN makes all of them. The limit is
what the taken steps need at least: the prompt once through the model, then for every step the target tokens forwards
and backwards through the layers after the write site, and the head at the first step and in the check, each at the rate
that this machine multiplies matrices of the shapes that occur in the arithmetic that is used.

With ``--stored 50000 200000`` the same edits are also written into codebooks that hold so many random ones already and
into an empty one, all of one model and in turn, 32 edits at a time. Reported is the median of the turns' ratios to the
empty one. The first turn is told apart: in it full tables are copied to where they can grow, once for as many edits as
they hold, and the int8 copy of the keys is made.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from edit_quality import records_of
from filling import fill
from horen import Edit, Editor, HorenConfig
from horen.bench.files import write_text
from horen.bench.plan import environment
from horen.model.contexts import Contexts
from horen.model.layout import Layout, first_tensor, with_first_tensor
from horen.model.partial.precision import Arithmetic, fastest, for_reading
from horen.model.partial.tail import Sample
from horen.model.zoo.loading import load_model

_STEPS = 50
_TURN = 32


def main() -> None:
    """Measure and write what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--edits", type=int, default=1000)
    parser.add_argument("--yardstick", type=int, default=10, help="how many of them the published procedure makes")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument(
        "--stored", type=int, nargs="+", default=[], help="also write into codebooks that hold so many edits already"
    )
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    records = records_of(given.data, given.edits, given.skip)
    edits = [Edit(record["src"].strip(), record["alt"].strip()) for record in records]
    some = range(0, len(edits), max(len(edits) // given.yardstick, 1))[: given.yardstick]
    result: dict[str, Any] = {
        "command": {**vars(given), "data": given.data.name, "out": given.out.name},
        **environment(),
        "load": os.getloadavg()[0],
        "products": products(given.model),
        "published": published(given.model, edits, some),
        "ours": {},
    }
    for name, config in {"default": HorenConfig(), "prompt alone": HorenConfig(contexts="prompt")}.items():
        ours = measured(given.model, edits, config, result["products"])
        ours["ratio"] = result["published"]["seconds"] / ours["seconds"]
        ours |= compared(ours.pop("losses"), result["published"]["losses"], some)
        result["ours"][name] = ours
        print(json.dumps({name: ours}, indent=1), flush=True)
    if given.stored:
        result["stored"] = into_full(given.model, edits, given.stored)
        print(json.dumps({"stored": result["stored"]}, indent=1), flush=True)
    write_text(given.out, json.dumps(result, indent=1) + "\n")


def products(name: str) -> dict[str, float]:
    """Return multiply-adds times two a second, by type, of products as large as those of a full batch."""
    editor = Editor.from_pretrained(name)
    layout = Layout.of(editor.model)
    shapes = {tuple(m.weight.shape) for m in layout.layers[0].modules() if isinstance(m, nn.Linear)}
    device = editor.model.device
    found = {}
    for dtype in (torch.float32, torch.bfloat16, torch.int8):
        work = seconds = 0.0
        for out, size in sorted(shapes):
            left, right = (torch.ones(n, size, dtype=dtype, device=device) for n in (1024, out))
            right = right.T.contiguous() if dtype is torch.int8 else right.T
            best = min(_timed(left, right, device) for _ in range(20))
            work, seconds = work + 2 * 1024 * out * size, seconds + best
        found[str(dtype).removeprefix("torch.")] = work / seconds
    return found


def _timed(left: Tensor, right: Tensor, device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    (torch._int_mm if left.dtype is torch.int8 else torch.mm)(left, right)
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def published(name: str, edits: Sequence[Edit], some: Sequence[int]) -> dict[str, Any]:
    """Return the seconds that an edit takes, and the losses it ends with, by the published procedure."""
    return published_on(*load_model(name), edits, some)


def published_on(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, edits: Sequence[Edit], some: Sequence[int]
) -> dict[str, Any]:
    """Return the same of a model, whose weights take no gradient from then on."""
    config = HorenConfig.paper()
    contexts, layout = Contexts(model, tokenizer, ["-"]), Layout.of(model)
    site = layout.write_site(config).module
    model.requires_grad_(False).eval()
    seconds, losses = [], []
    for number in some:
        (sample,) = contexts.samples(edits[number], config)
        start = time.perf_counter()
        losses.append(_edit(model, site, sample, number + 1, layout.hidden_size))
        _wait(model.device)
        seconds.append(time.perf_counter() - start)
        print(f"published, edit {number}: {seconds[-1]:.2f} s, loss {losses[-1]:.4f}", flush=True)
    return {
        "edits": len(seconds),
        "seconds": statistics.mean(seconds),
        "all_seconds": seconds,
        "steps": _STEPS,
        "losses": losses,
    }


def _edit(model: Any, site: nn.Module, sample: Sample, stored: int, size: int) -> float:
    """Train the last of ``stored`` values."""
    table = nn.Parameter(torch.rand(stored, size, device=model.device))
    optimizer = torch.optim.Adam([table], lr=1.0)
    ids = torch.tensor([[*sample.prompt, *sample.target]], device=model.device)
    labels = ids.clone()
    labels[:, : len(sample.prompt)] = -100

    def write(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        hidden = first_tensor(output).clone()
        hidden[:, len(sample.prompt) - 1] += table[-1].to(hidden.dtype)
        return with_first_tensor(output, hidden)

    handle = site.register_forward_hook(write)
    try:
        for _ in range(_STEPS):
            optimizer.zero_grad()
            model(input_ids=ids, labels=labels, use_cache=False).loss.backward()
            optimizer.step()
        with torch.no_grad():
            return float(model(input_ids=ids, labels=labels, use_cache=False).loss)
    finally:
        handle.remove()


def measured(name: str, edits: Sequence[Edit], config: HorenConfig, products: Mapping[str, float]) -> dict[str, Any]:
    """Return the seconds that an edit of HoReN takes, and the share of the limit."""
    editor = Editor.from_pretrained(name, config)
    editor.prepare()
    return measured_on(editor, edits, products)


def measured_on(editor: Editor, edits: Sequence[Edit], products: Mapping[str, float]) -> dict[str, Any]:
    """Return the same of an editor that is prepared.

    ``products`` is the machine's rate of them by dtype, as :func:`products` gives it.
    """
    config = editor.config
    _wait(editor.model.device)
    start = time.perf_counter()
    receipts = editor.edit(edits)
    _wait(editor.model.device)
    seconds = (time.perf_counter() - start) / len(edits)
    contexts = Contexts(editor.model, editor.tokenizer, ["-"])
    trained = [(edit, receipt) for edit, receipt in zip(edits, receipts, strict=True) if not receipt.reused]
    samples = [contexts.samples(edit, config) for edit, _ in trained]
    layout = Layout.of(editor.model)
    sizes = [
        sum(p.numel() for m in layer.modules() if isinstance(m, nn.Linear) for p in [m.weight])
        for layer in layout.layers
    ]
    above = sum(sizes[layout.write_site(config).layer + 1 :])
    head = editor.model.get_output_embeddings().weight.numel()
    prefix = sum(len(s.prompt) for group in samples for s in group)
    target = sum(
        receipt.steps * len(s.target) for (_, receipt), group in zip(trained, samples, strict=True) for s in group
    )
    once = sum(len(s.target) for group in samples for s in group)
    reading, steps = (
        _dtype(way, editor.model)
        for way in (for_reading(editor.model, config), fastest(editor.model, config, coarse=True))
    )
    # A pass over the vocabulary at the start and one at the end; between them steps need none.
    work = {"reading": 2 * prefix * sum(sizes), "steps": 4 * target * above, "ends": 2 * once * (above + 2 * head)}
    least = (work["reading"] + work["ends"]) / products[reading] + work["steps"] / products[steps]
    return {
        "seconds": seconds,
        "edits": len(edits),
        "reused": len(edits) - len(trained),
        "converged": sum(r.converged for r in receipts),
        "steps": statistics.mean(r.steps for _, r in trained),
        "arithmetic": {"reading": reading, "steps": steps},
        "least_flops": {name: flops / len(edits) for name, flops in work.items()},
        "share_of_limit": least / len(edits) / seconds,
        "losses": [r.loss for r in receipts],
    }


def _dtype(arithmetic: Arithmetic | None, model: PreTrainedModel) -> str:
    own = arithmetic in (None, Arithmetic.MODEL)
    return str(model.dtype).removeprefix("torch.") if own else str(arithmetic)


def into_full(name: str, edits: Sequence[Edit], counts: Sequence[int]) -> dict[str, Any]:
    """Return the seconds that an edit into codebooks with so many edits takes, and the ratios to an empty one."""
    assert len(edits) >= 2 * _TURN, f"{len(edits)} edits are too few: give {2 * _TURN} or more."
    model, tokenizer = load_model(name)
    editors = []
    for count in (0, *counts):
        editor = Editor(model, tokenizer, HorenConfig())
        editor.prepare()
        if count:
            fill(editor._session, count)
        editor.unwrap()
        editors.append(editor)
    seconds: list[list[float]] = [[] for _ in editors]
    for turn, start in enumerate(range(0, len(edits) - _TURN + 1, _TURN)):
        for number in range(len(editors)):
            # Each comes first in its turn: what runs later may find a warmer cache or a busier machine.
            place = (number + turn) % len(editors)
            editors[place]._session.wrap()
            began = time.perf_counter()
            editors[place].edit(edits[start : start + _TURN])
            _wait(model.device)
            seconds[place].append((time.perf_counter() - began) / _TURN)
            editors[place].unwrap()
    empty, *full = seconds
    found: dict[str, Any] = {"turns": len(empty) - 1, "edits_a_turn": _TURN}
    found["0"] = {"first_seconds": empty[0], "seconds": statistics.mean(empty[1:])}
    for count, own in zip(counts, full, strict=True):
        ratios = [mine / theirs for mine, theirs in zip(own[1:], empty[1:], strict=True)]
        found[str(count)] = {
            "first_seconds": own[0],
            "seconds": statistics.mean(own[1:]),
            "ratio": statistics.median(ratios),
            "ratios": ratios,
        }
    return found


def compared(losses: Sequence[float], published: Sequence[float], some: Sequence[int]) -> dict[str, Any]:
    """Return the end losses of the edits that both made."""
    pairs = [(losses[number], other) for number, other in zip(some, published, strict=True)]
    return {
        "losses": [mine for mine, _ in pairs],
        "no worse": sum(mine <= other for mine, other in pairs),
        "compared": len(pairs),
    }


if __name__ == "__main__":
    main()
