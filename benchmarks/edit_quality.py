"""Edit quality on a real model: many edits of a question-answering file, scored by free generation.

    python benchmarks/edit_quality.py --data zsre_mend_edit.json --edits 1000 --preset default --out result.json

The file is a list of records with src, alt (the new answer), rephrase and loc (an unrelated prompt), as the ZsRE files
of MEND have them. Of records with one prompt the last is used. Nothing but prompt and target is given to the editor.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from safetensors.torch import save_file

from horen import Edit, Editor, HorenConfig
from horen.bench.metrics.answers import normalised
from horen.model.padding import left_padded


def records_of(path: Path, count: int, skip: int) -> list[dict[str, str]]:
    """Return ``count`` distinct prompts that have every field, after ``skip``; a prompt's last record counts."""
    usable: dict[str, dict[str, str]] = {}
    for record in json.loads(path.read_text()):
        if all(str(record.get(name) or "").strip() for name in ("src", "alt", "rephrase", "loc")):
            usable[" ".join(record["src"].split())] = record
    return list(usable.values())[skip : skip + count]


def matches(answers: list[str], targets: list[str]) -> dict[str, float]:
    """Return the share of answers that are the target, to the letter and after normalisation."""
    pairs = list(zip(answers, targets, strict=True))
    return {
        "exact": sum(a == t.strip() for a, t in pairs) / len(pairs),
        "normalised": sum(normalised(a) == normalised(t) for a, t in pairs) / len(pairs),
    }


def tokens(editor: Editor, prompts: list[str], budget: int, batch: int) -> list[list[int]]:
    """Return new token ids of greedy continuations."""
    new: list[list[int]] = []
    for start in range(0, len(prompts), batch):
        rows = [editor.tokenizer(text)["input_ids"] for text in prompts[start : start + batch]]
        ids, mask, _ = left_padded(rows, editor.model)
        model: Any = editor.model
        out = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=budget, do_sample=False, pad_token_id=0)
        new.extend(row[ids.shape[1] :].tolist() for row in out)
    return new


def paragraphs_of(path: Path | None) -> list[str]:
    """Return paragraphs of at most 60 words that end with a full stop."""
    if path is None:
        return [
            "The museum reopened in March after two years of repairs. Entry is free on the first Sunday of a month."
        ]
    lines = [line.strip() for line in path.read_text().splitlines() if len(line.split()) > 60]
    cut = [" ".join(re.sub(r" ([.,;'])", r"\1", line).split()[:60]) for line in lines[:200]]
    return [text[: text.rfind(".") + 1] if "." in text[20:] else text + "." for text in cut]


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Edit, ask in every way, undo; returns all that was measured and leaves in the file what is known so far."""
    records = records_of(arguments.data, arguments.edits, arguments.skip)
    changes = dict(pair.split("=", 1) for pair in arguments.set)
    config = HorenConfig.from_preset(arguments.preset, **{k: json.loads(v) for k, v in changes.items()})
    editor = Editor.from_pretrained(arguments.model, config, device=arguments.device)
    prompts, targets = [r["src"] for r in records], [r["alt"] for r in records]
    rephrases, unrelated = [r["rephrase"] for r in records], [r["loc"] for r in records]
    result: dict[str, Any] = {"manifest": manifest(arguments, editor, len(records))}
    before = tokens(editor, unrelated, arguments.budget, arguments.batch)
    started = time.perf_counter()
    receipts = []
    for start in track(range(0, len(records), arguments.chunk), description="editing"):
        part = records[start : start + arguments.chunk]
        receipts += editor.edit([Edit(r["src"], r["alt"]) for r in part], on_conflict="supersede")
    result["editing"] = {
        "seconds_an_edit": (time.perf_counter() - started) / len(records),
        "steps": sum(r.steps for r in receipts) / len(receipts),
        "converged": sum(r.converged for r in receipts) / len(receipts),
        "reused": sum(r.reused for r in receipts),
        "loss": sum(r.loss for r in receipts) / len(receipts),
    }
    write(arguments.out, result)
    paragraphs = paragraphs_of(arguments.corpus)
    led = [f"{paragraphs[i % len(paragraphs)]} {text}" for i, text in enumerate(prompts)]
    asked = {"prompt": (prompts, False), "rephrase": (rephrases, False), "after_paragraph": (led, False)}
    if editor.tokenizer.chat_template:
        asked |= {"chat_prompt": (prompts, True), "chat_rephrase": (rephrases, True)}
    failures: dict[str, list[dict[str, str]]] = {}
    for name, (texts, chat) in asked.items():
        answers = editor.generate(texts, max_new_tokens=arguments.budget, chat=chat)
        result[name] = matches(answers, targets)
        found = editor.explain(texts, chat=chat)
        by_id = {receipt.id: number for number, receipt in enumerate(receipts)}
        right = [e.edit_id is not None and by_id.get(e.edit_id) == i for i, e in enumerate(found)]
        result[name]["routed"] = sum(r and e.fired for r, e in zip(right, found, strict=True)) / len(found)
        result[name]["nearest"] = sum(right) / len(found)
        rows = zip(texts, answers, targets, found, strict=True)
        failures[name] = [
            {
                "text": t,
                "answer": a,
                "target": g,
                "fired": str(e.fired and e.prompt),
                "similarity": f"{e.similarity:.3f}",
            }
            for t, a, g, e in rows
            if normalised(a) != normalised(g)
        ]
        write(arguments.out, result)
    after = tokens(editor, unrelated, arguments.budget, arguments.batch)
    fired = [e.fired for e in editor.explain(unrelated)]
    chat_fired = [e.fired for e in editor.explain(unrelated, chat=True)] if editor.tokenizer.chat_template else []
    result["unrelated"] = {
        "identical": sum(a == b for a, b in zip(after, before, strict=True)) / len(after),
        "fired": sum(fired) / len(fired),
        "fired_in_chat": sum(chat_fired) / max(len(chat_fired), 1),
    }
    result["failures"] = failures
    write(arguments.out, result)
    if arguments.checks:
        result["checks"] = checks(editor, prompts, unrelated, arguments)
        write(arguments.out, result)
    if arguments.singly:
        result["one_at_a_time"] = one_at_a_time(records[: arguments.singly], config, arguments)
    return result


def one_at_a_time(
    records: list[dict[str, str]], config: HorenConfig, arguments: argparse.Namespace
) -> dict[str, float]:
    """Return the share of prompts, rephrases and unrelated ones that a list and single edits route alike."""
    found = []
    edits = [Edit(record["src"], record["alt"]) for record in records]
    texts = [record[name] for record in records for name in ("src", "rephrase", "loc")]
    for lists in ([edits], [[edit] for edit in edits]):
        editor = Editor.from_pretrained(arguments.model, config, device=arguments.device)
        for part in track(lists, description="in one list" if len(lists) == 1 else "one at a time"):
            editor.edit(part, on_conflict="supersede")
        asked = editor.explain(texts)
        if editor.tokenizer.chat_template:
            asked += editor.explain(texts, chat=True)
        found.append([(answer.edit_id, answer.fired) for answer in asked])
    together, singly = found
    return {"prompts": len(singly), "same": sum(a == b for a, b in zip(together, singly, strict=True)) / len(singly)}


def write(path: Path, result: dict[str, Any]) -> None:
    """Put a result, whole or not, into its file."""
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False))


def checks(editor: Editor, prompts: list[str], unrelated: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """Check batches, padding, cache, saving, and the way back to the untouched model."""
    mixed = [text for pair in zip(prompts[:48], unrelated[:48], strict=True) for text in pair]
    single = editor.generate(mixed[:1], max_new_tokens=12) + [
        editor.generate(text, max_new_tokens=12) for text in mixed[1:]
    ]
    batched = editor.generate(mixed, max_new_tokens=12)
    uncached = editor.generate(mixed, max_new_tokens=12, use_cache=False)
    found: dict[str, Any] = {
        "batched_equals_single": sum(a == b for a, b in zip(batched, single, strict=True)) / len(mixed),
        "uncached_equals_cached": sum(a == b for a, b in zip(batched, uncached, strict=True)) / len(mixed),
        "right_padded_equals_single": right_padded(editor, mixed) / len(mixed),
    }
    ids = editor.tokenizer(mixed[0], return_tensors="pt").to(editor.model.device)
    model: Any = editor.model
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        editor.save(folder)
        here = model(**ids).logits.cpu()
        save_file({"logits": here}, Path(folder) / "logits.safetensors")
        script = (
            "import sys, torch; from horen import Editor; from safetensors.torch import load_file; "
            "e = Editor.load(sys.argv[1], device=sys.argv[2]); "
            "i = e.tokenizer(sys.argv[3], return_tensors='pt').to(e.model.device); torch.set_grad_enabled(False); "
            "there = e.model(**i).logits.cpu(); here = load_file(sys.argv[1] + '/logits.safetensors'); "
            "print(torch.equal(here['logits'], there))"
        )
        command = [sys.executable, "-c", script, folder, str(arguments.device or "cpu"), mixed[0]]
        out = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
        found["reloaded_logits_identical"] = out.stdout.strip() == "True"
        with editor.disabled():
            disabled = [model(**_encoded(editor, text)).logits for text in mixed]
        while editor.edits():
            editor.undo()
        undone = [model(**_encoded(editor, text)).logits for text in mixed]
        editor.unwrap()
        base = [model(**_encoded(editor, text)).logits for text in mixed]
    found["disabled_logits_identical"] = all(torch.equal(a, b) for a, b in zip(disabled, base, strict=True))
    found["undone_logits_identical"] = all(torch.equal(a, b) for a, b in zip(undone, base, strict=True))
    return found


def _encoded(editor: Editor, text: str) -> Any:
    return editor.tokenizer(text, return_tensors="pt").to(editor.model.device)


def right_padded(editor: Editor, texts: list[str]) -> int:
    """Return how many rows of a right-padded forward call have the next token that they have alone."""
    rows = [editor.tokenizer(text)["input_ids"] for text in texts]
    width = max(len(row) for row in rows)
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=editor.model.device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=editor.model.device)
    model: Any = editor.model
    with torch.inference_mode():
        together = model(input_ids=ids, attention_mask=mask).logits
        alone = [model(input_ids=ids[i : i + 1, : len(row)]).logits[0, -1].argmax() for i, row in enumerate(rows)]
    return sum(int(together[i, len(row) - 1].argmax() == alone[i]) for i, row in enumerate(rows))


def manifest(arguments: argparse.Namespace, editor: Editor, count: int) -> dict[str, Any]:
    """Return what was run, on what."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {
        "arguments": {name: str(value) for name, value in vars(arguments).items()},
        "records": count,
        "settings": editor.config.to_dict(),
        "versions": {name: version(name) for name in ("horen", "torch", "transformers")},
        "dtype": str(editor.model.dtype),
        "device": f"{editor.model.device} ({device})",
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    """Parse, run, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, help="text file whose paragraphs go before prompts")
    parser.add_argument("--edits", type=int, default=1000)
    parser.add_argument("--skip", type=int, default=0, help="usable records left out at the file's beginning")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--device")
    parser.add_argument("--chunk", type=int, default=1000, help="edits in one call")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--budget", type=int, default=24, help="most new tokens of an answer")
    parser.add_argument("--checks", action="store_true")
    parser.add_argument("--singly", type=int, default=0, metavar="N", help="compare one list of N edits with N calls")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    result = run(arguments)
    write(arguments.out, result)
    sys.stdout.write(json.dumps({k: v for k, v in result.items() if k != "failures"}, indent=1) + "\n")


if __name__ == "__main__":
    main()
