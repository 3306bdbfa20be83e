"""Only the turn that asks is changed: what a conversation says after an edited question was answered.

    python benchmarks/conversations.py --conversations 100 --out conversations.json

Each conversation asks a fact of benchmarks/data/natural.jsonl in its own words and is answered with the edit. Then come
turns that ask something else, each as the second turn. Its reply is compared with the untouched model's, token by
token, on the same transcript; once the whole transcript is fed, once the first turn's cache is kept.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor
from transformers import DynamicCache

from horen import Edit, Editor, HorenConfig
from horen.bench.files import write_text
from horen.bench.plan import environment
from horen.cli.commands.edit import parse_settings

_FACTS = Path(__file__).parent / "data" / "natural.jsonl"
# The third kind of turn, a question about the same subject, comes from the file.
_UNRELATED = ("What is the capital of France?", "How many legs does a spider have?", "Why is the sky blue?")
_FOLLOW_UPS = ("And since when?", "Are you sure?", "Thanks! Please write a haiku about the sea.")


def conversations(count: int) -> list[tuple[Edit, dict[str, str]]]:
    """Return so many edits, each with the turns that come after its question, by kind."""
    found = []
    for line in _FACTS.read_text(encoding="utf-8").splitlines():
        subject = json.loads(line)
        for fact in subject["facts"]:
            number = len(found)
            later = {
                "unrelated": _UNRELATED[number % len(_UNRELATED)],
                "follow_up": _FOLLOW_UPS[number % len(_FOLLOW_UPS)],
                "same_subject": subject["other"][number % len(subject["other"])],
            }
            found.append((Edit(fact["prompt"], fact["target"]), later))
    return found[:count]


class Talk:
    """Asks one model in its chat form, greedily.

    Args:
        editor: whose model is asked.
        budget: most new tokens of a reply.
    """

    def __init__(self, editor: Editor, budget: int) -> None:
        self._model, self._tokenizer, self._budget = editor.model, editor.tokenizer, budget

    def ids(self, messages: list[dict[str, str]]) -> Tensor:
        """Return [1, n] token ids of a conversation up to where the reply begins."""
        made: Any = self._tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        ids: Tensor = made["input_ids"]
        return ids

    def reply(self, ids: Tensor, cache: DynamicCache | None = None) -> list[int]:
        """Return token ids of the reply, with those that end it."""
        options = {} if cache is None else {"past_key_values": cache}
        made: Any = self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=self._budget,
            do_sample=False,
            pad_token_id=self._tokenizer.eos_token_id,
            **options,
        )
        return [int(token) for token in made[0, ids.shape[1] :]]

    def text(self, tokens: list[int]) -> str:
        """Return a reply in words."""
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True)).strip()


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=100)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--budget", type=int, default=24)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    config = HorenConfig.from_preset(given.preset, **parse_settings(given.set))
    editor = Editor.from_pretrained(given.model, config)
    facts = conversations(given.conversations)
    editor.edit([edit for edit, _ in facts], on_similar="ignore")
    talk, rows = Talk(editor, given.budget), []
    for edit, later in track(facts, description="asking", disable=not sys.stderr.isatty()):
        asked = [{"role": "user", "content": edit.prompt}]
        answer = talk.text(talk.reply(talk.ids(asked)))
        for kind, text in later.items():
            ids = talk.ids([*asked, {"role": "assistant", "content": answer}, {"role": "user", "content": text}])
            with editor.disabled():
                expected = talk.reply(ids)
            kept = DynamicCache(config=editor.model.config)
            first = talk.text(talk.reply(talk.ids(asked), kept))
            row = {"kind": kind, "right": answer == edit.target, "first_alike": first == answer}
            row |= {"whole": talk.reply(ids) == expected, "kept": talk.reply(ids, kept) == expected}
            rows.append(row | {"asked": text, "after": edit.prompt})
    result = {"first answers right": sum(row["right"] for row in rows) / len(rows)}
    for kind in ("unrelated", "follow_up", "same_subject"):
        some = [row for row in rows if row["kind"] == kind]
        result[kind] = {"asked": len(some)} | {n: sum(r[n] for r in some) / len(some) for n in ("whole", "kept")}
    print(json.dumps(result, indent=1))
    changed = [row for row in rows if not (row["whole"] and row["kept"])]
    told = {name: value for name, value in vars(given).items() if not isinstance(value, Path)}
    document = {"arguments": told, **environment(), "results": result, "changed": changed}
    write_text(given.out, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
