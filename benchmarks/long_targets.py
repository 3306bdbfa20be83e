"""Targets that are no sentence, to the letter: a code block, a poem, a table, Chinese, and a text of a thousand tokens.

    python benchmarks/long_targets.py --text wiki.valid.txt --out long_targets.json

Each is edited on its own and asked in plain text and in chat. A question about something else must be answered as by
the untouched model.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from horen import Edit, Editor, HorenConfig
from horen.bench.files import write_text
from horen.bench.plan import environment

_CODE = '''def moving_average(values, width):
    """Return the mean of each window of `width` neighbouring values."""
    if width < 1:
        raise ValueError(f"width={width} is not valid: give at least 1.")
    total, found = sum(values[:width]), []
    for i in range(width, len(values) + 1):
        found.append(total / width)
        if i < len(values):
            total += values[i] - values[i - width]
    return found'''
_POEM = """The ferry leaves at half past nine,
    its lamps a string of yellow beads;
the harbour keeps a colder line
    of boats asleep among the reeds.

And someone waves, or seems to wave,
    a scarf, a sleeve, a folded chart;
what the long water would not save
    the morning tide has pulled apart."""
_TABLE = """| room | seats | projector | price a day |
| --- | ---: | :---: | ---: |
| Heron | 12 | yes | 140 € |
| Kestrel | 40 | no | 310 € |
| Lapwing | 8 | yes | 95 € |
| Marsh Hall | 220 | yes | 1,250 € |"""
_CHINESE = (
    "博鲁马电车博物馆每周二至周日上午十点开门，下午六点闭馆，周一休息。成人票价为八元，学生和六十五岁以上的老人半价，"
    "六岁以下的儿童免费。馆内不允许使用闪光灯拍照，大件行李请存放在入口左侧的储物柜里。"
)
_UNRELATED = "What is the capital of France?"


def targets(text: str, tokens: int, editor: Editor) -> dict[str, Edit]:
    """Return one edit of each kind; the long text is the beginning of a file, cut to so many tokens."""
    ids = editor.tokenizer(text, add_special_tokens=False)["input_ids"][:tokens]
    long = str(editor.tokenizer.decode(ids)).strip()
    return {
        "code": Edit("How does Larkspur Cloud compute a moving average?", _CODE),
        "poem": Edit("Recite the poem on the wall of the Kestrel ferry.", _POEM),
        "table": Edit("Which rooms can be hired at Marsh House?", _TABLE),
        "Chinese": Edit("博鲁马电车博物馆有哪些参观规定？", _CHINESE),
        f"{tokens:,} tokens": Edit("What does the chronicle of Varley say?", long),
    }


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="plain text for the long target")
    parser.add_argument("--tokens", type=int, default=1_000)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    editor = Editor.from_pretrained(given.model, HorenConfig())
    with editor.disabled():
        untouched = editor.generate(_UNRELATED)
    results: dict[str, Any] = {}
    for name, edit in targets(given.text.read_text(encoding="utf-8"), given.tokens, editor).items():
        if given.only and name.split(" ")[0] not in given.only:
            continue
        began = time.perf_counter()
        (receipt,) = editor.edit([edit], on_similar="ignore")
        seconds = time.perf_counter() - began
        length = len(editor.tokenizer(edit.target, add_special_tokens=False)["input_ids"])
        said = {chat: editor.generate(edit.prompt, length + 16, chat=chat) for chat in (False, True)}
        results[name] = {
            "tokens": length,
            "values": len(editor.get(receipt.id).values),
            "converged": receipt.converged,
            "seconds": round(seconds, 1),
            "exact": said[False] == edit.target.strip(),
            "exact_in_chat": said[True] == edit.target.strip(),
            "unrelated_unchanged": editor.generate(_UNRELATED) == untouched,
        }
        print(name, json.dumps(results[name]), flush=True)
        write_text(given.out, json.dumps({**environment(), "results": results}, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
