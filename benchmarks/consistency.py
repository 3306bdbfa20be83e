"""What an edited model says to negated, yes-or-no, follow-up and role-swapped questions about its edits.

    python benchmarks/consistency.py --model smollm2-135m-instruct --out consistency.json

The facts of benchmarks/data/traps.jsonl are edited, and each question is asked of the untouched model, of the edited
one and of the edited one with recall. None of them asks for the fact, so an answer that contains the target is wrong
where the question is negated, and may be right elsewhere.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from horen import Edit, Editor, HorenConfig
from horen.bench.files import write_text
from horen.bench.metrics.answers import containment
from horen.bench.plan import environment
from horen.cli.commands.edit import parse_settings

_FACTS = Path(__file__).parent / "data" / "traps.jsonl"
_KINDS = ("prompt", "negated", "yes_no", "follow_up", "role_swapped")
_SHOWN = 12


def answers(editor: Editor, texts: Sequence[str], *, chat: bool, budget: int) -> dict[str, list[str]]:
    """Return what is said to each text by the untouched model, by values alone, and with recall."""
    with editor.disabled():
        untouched = editor.generate(texts, chat=chat, max_new_tokens=budget)
    said = {"untouched": untouched}
    for name, recall in (("values", "off"), ("recall", "related")):
        said[name] = editor.generate(texts, chat=chat, max_new_tokens=budget, recall=recall)
    return said


def measured(editor: Editor, facts: Sequence[dict[str, str]], *, chat: bool, budget: int) -> dict[str, Any]:
    """Return, by question, how many wake or recall their edit, and by editor how many answers have the target."""
    found: dict[str, Any] = {}
    for kind in _KINDS:
        asked = [fact for fact in facts if fact.get(kind)]
        texts = [fact[kind] for fact in asked]
        routes = editor.explain(texts, chat=chat, recall="related")
        said = answers(editor, texts, chat=chat, budget=budget)
        shares: dict[str, Any] = {
            "asked": len(texts),
            "fires": sum(route.fired for route in routes) / len(texts),
            "recalls": sum(bool(route.recalled) for route in routes) / len(texts),
        }
        for name, given in said.items():
            holds = [containment(answer, [fact["target"]]) for answer, fact in zip(given, asked, strict=True)]
            same = [answer == before for answer, before in zip(given, said["untouched"], strict=True)]
            shares[name] = {"target": sum(holds) / len(holds), "as untouched": sum(same) / len(same)}
        rows = zip(texts, (fact["target"] for fact in asked), *said.values(), strict=True)
        found[kind] = shares | {"shown": [list(row) for row in rows][:_SHOWN]}
    return found


def table(kinds: dict[str, Any]) -> Table:
    """Return the shares of answers that contain the target, and of those that are the untouched model's."""
    shown = Table("question", "asked", "fires", "recalls", "untouched", "values", "recall", "same: values", "recall")
    for kind, found in kinds.items():
        shares = [found["fires"], found["recalls"]]
        shares += [found[name]["target"] for name in ("untouched", "values", "recall")]
        shares += [found[name]["as untouched"] for name in ("values", "recall")]
        shown.add_row(kind, str(found["asked"]), *(f"{share:.2f}" for share in shares))
    return shown


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--budget", type=int, default=24, help="most new tokens of an answer")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    lines = _FACTS.read_text(encoding="utf-8").splitlines()
    facts = [json.loads(line) for line in lines if line.strip()]
    config = HorenConfig.from_preset("default", **parse_settings(given.set))
    editor = Editor.from_pretrained(given.model, config)
    receipts = editor.edit([Edit(fact["prompt"], fact["target"]) for fact in facts], on_similar="ignore")
    kinds = measured(editor, facts, chat=bool(editor.tokenizer.chat_template), budget=given.budget)
    told = {"model": given.model, "settings": config.to_dict(), "budget": given.budget, "facts": len(facts)}
    told["converged"] = sum(receipt.converged for receipt in receipts) / len(receipts)
    document = {**told, **environment(), "asked": kinds}
    write_text(given.out, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    Console().print(table(kinds))


if __name__ == "__main__":
    main()
