"""Answers that hold however the question ends: one edit asked in sixteen forms, in plain text and in chat.

    python benchmarks/endings.py --dataset jsonl --data subjects.jsonl --edits 100 --out endings.json

An answer counts as right if it is the target to the letter, white space around it aside. Whether a form wakes its own
edit is the gate's matter, and counted apart: what a value is good for shows where it fired.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from horen import Edit, Editor, HorenConfig
from horen.bench.datasets import load
from horen.bench.files import write_text
from horen.bench.plan import circumstances
from horen.bench.records import Record
from horen.cli.commands.edit import parse_settings

_MARKS = " ?!."


def _bare(prompt: str) -> str:
    return prompt.rstrip(_MARKS)


def misspelt(prompt: str) -> str:
    """Return the text with two neighbouring letters exchanged in each of its three longest words, always the same."""
    words = prompt.split(" ")
    draw = random.Random(prompt)  # noqa: S311 - nothing is kept secret by it
    for number in sorted(range(len(words)), key=lambda i: -len(words[i]))[:3]:
        word = words[number]
        if len(word) > 3:
            at = draw.randrange(1, len(word) - 2)
            words[number] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)


#: What a prompt is asked as.
FORMS: dict[str, Callable[[str], str]] = {
    "as it is": lambda p: p,
    "no mark": _bare,
    "blank": lambda p: p + " ",
    "newline": lambda p: p + "\n",
    "two newlines": lambda p: p + "\n\n",
    "tab": lambda p: p + "\t",
    "Answer:": lambda p: f"{p}\nAnswer:",
    "Q: A:": lambda p: f"Q: {p}\nA:",
    "quotes": lambda p: f"“{p}”",
    "upper case": str.upper,
    "lower case": str.lower,
    "three typos": misspelt,
    "polite before": lambda p: f"Sorry to bother you, but I have a question. {p}",
    "polite after": lambda p: f"{p} Thank you!",
    "dots": lambda p: _bare(p) + " ...",
    "statement": lambda p: f"The answer to the question “{p}” is",
}


def asked(
    editor: Editor, records: Sequence[Record], receipts: Sequence[int], budget: int, *, chat: bool
) -> dict[str, Any]:
    """Return of each form how many wake their own edit, how many of these are right, and some that are not."""
    found: dict[str, Any] = {}
    for name, form in FORMS.items():
        texts = [form(record.prompt) for record in records]
        answers = editor.generate(texts, max_new_tokens=budget, chat=chat)
        routes = editor.explain(texts, chat=chat)
        own = [route.fired and route.edit_id == number for route, number in zip(routes, receipts, strict=True)]
        right = [a.strip() == record.target.strip() for a, record in zip(answers, records, strict=True)]
        fired = [hit for hit, woken in zip(right, own, strict=True) if woken]
        wrong = [
            {"text": text, "answer": answer, "target": record.target}
            for text, answer, record, hit, woken in zip(texts, answers, records, right, own, strict=True)
            if woken and not hit
        ]
        found[name] = {"fired": len(fired), "right": sum(fired), "wrong": wrong[:5]}
    return found


def table(result: dict[str, Any]) -> Table:
    """Return the shares that are right among those that fired."""
    shown = Table("form", *result["asked"])
    for name in FORMS:
        cells = [forms[name] for forms in result["asked"].values()]
        shown.add_row(name, *(f"{c['right'] / max(c['fired'], 1):.3f} of {c['fired']}" for c in cells))
    shown.add_row("mean", *(f"{mean(forms):.3f}" for forms in result["asked"].values()))
    return shown


def mean(forms: dict[str, Any]) -> float:
    """Return the forms' shares, averaged; a form that woke nothing has none."""
    shares = [form["right"] / form["fired"] for form in forms.values() if form["fired"]]
    return sum(shares) / len(shares)


def main() -> None:
    """Parse, run, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="jsonl")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--edits", type=int, default=100)
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--budget", type=int, default=24, help="most new tokens of an answer")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    dataset = load(given.dataset, given.data, limit=given.skip + given.edits)
    records = dataset.records[given.skip :]
    config = HorenConfig.from_preset(given.preset, **parse_settings(given.set))
    editor = Editor.from_pretrained(given.model, config)
    receipts = editor.edit([Edit(r.prompt, r.target) for r in records], on_conflict="supersede", on_similar="ignore")
    result: dict[str, Any] = {
        "edits": len(records),
        "skip": given.skip,
        "model": given.model,
        "settings": config.to_dict(),
        "steps": sum(r.steps for r in receipts) / len(receipts),
        "converged": sum(r.converged for r in receipts) / len(receipts),
        "circumstances": circumstances(dataset, None),
        "asked": {},
    }
    numbers = [receipt.id for receipt in receipts]
    for name, chat in (("plain", False), ("chat", True)):
        if not chat or editor.tokenizer.chat_template:
            result["asked"][name] = asked(editor, records, numbers, given.budget, chat=chat)
    write_text(given.out, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    Console().print(table(result))


if __name__ == "__main__":
    main()
