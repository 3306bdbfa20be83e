"""Whether vLLM answers as transformers does: the same edits fire, and where the models agree, the same tokens come.

    python benchmarks/vllm_agreement.py transformers --codebook DIR --data zsre.json --out told.json
    python benchmarks/vllm_agreement.py vllm --codebook DIR --told told.json --out agreement.json

The first is run where horen is, the second in the environment of `make test-vllm`. Asked are prompts and rephrases of
stored edits and unrelated questions as plain text, and rephrases through the chat template. vLLM answers them in
order, then in random order, with prompts read 32 tokens at a time and so few blocks that requests are put back.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from pathlib import Path
from typing import Any

_TOKENS = 8
_KINDS = ("prompt", "rephrase", "unrelated", "chat")


def asked(data: Path, edits: set[str], count: int) -> dict[str, list[str]]:
    """Return so many texts of each kind, of records whose prompts are stored."""
    records = [record for record in json.loads(data.read_text(encoding="utf-8")) if record["src"].strip() in edits]
    fields = {"prompt": "src", "rephrase": "rephrase", "unrelated": "loc", "chat": "rephrase"}
    return {kind: [record[fields[kind]].strip() for record in records[:count]] for kind in _KINDS}


def by_transformers(codebook: Path, data: Path, count: int) -> dict[str, Any]:
    """Return texts, and for each its answer's tokens with and without edits, and the edit that fired."""
    from horen import Editor  # noqa: PLC0415

    editor = Editor.load(codebook, dtype="float32")
    texts = asked(data, {record.prompt for record in editor.edits()}, count)
    told: dict[str, Any] = {"texts": texts}
    for kind, prompts in texts.items():
        found = editor.generate(prompts, _TOKENS, chat=kind == "chat", return_routes=True)
        told[kind] = [[answer.text, answer.route.edit_id if answer.route.fired else None] for answer in found]
        with editor.disabled():
            told[f"{kind}, no edits"] = editor.generate(prompts, _TOKENS, chat=kind == "chat")
    return told


def by_vllm(codebook: Path, model: str, told: dict[str, Any], count: int) -> dict[str, Any]:
    """Return shares of agreement, for each way in which vLLM is asked."""
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    from vllm import LLM  # noqa: PLC0415

    engine = LLM(
        model=model,
        additional_config={"horen": {"codebook": str(codebook)}},
        dtype="float32",
        enforce_eager=True,
        max_model_len=512,
        block_size=32,
        max_num_seqs=32,
        max_num_batched_tokens=32,
        num_gpu_blocks_override=48,
        disable_log_stats=False,
    )
    rows = [(kind, number) for kind in _KINDS for number in range(min(count, len(told["texts"][kind])))]
    plain = answers(engine, told, rows, off=True)
    found = {"in order": compared(told, plain, answers(engine, told, rows))}
    print(json.dumps(found), flush=True)
    random.Random(0).shuffle(rows)  # noqa: S311
    before = counted(engine)
    found["random order, few blocks"] = compared(told, plain, answers(engine, told, rows, ignore_end=True))
    found["random order, few blocks"]["put back"] = counted(engine) - before
    return found


def answers(
    engine: Any, told: dict[str, Any], rows: list[tuple[str, int]], *, off: bool = False, ignore_end: bool = False
) -> dict[tuple[str, int], tuple[str, int | None]]:
    """Return what is answered to texts, and which edit fired; with ``ignore_end`` answers are made longer and cut."""
    from vllm import SamplingParams, TokensPrompt  # noqa: PLC0415

    tokenizer = engine.get_tokenizer()
    params = SamplingParams(
        temperature=0,
        max_tokens=8 * _TOKENS if ignore_end else _TOKENS,
        ignore_eos=ignore_end,
        extra_args={"horen": "off"} if off else None,
    )
    given = []
    for kind, number in rows:
        text = told["texts"][kind][number]
        if kind == "chat":
            turn = [{"role": "user", "content": text}]
            ids = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=True)["input_ids"]
        else:
            ids = tokenizer(text)["input_ids"]
        given.append(TokensPrompt(prompt_token_ids=list(ids)))
    found = {}
    for row, output in zip(rows, engine.generate(given, params, use_tqdm=False), strict=True):
        tokens = list(output.outputs[0].token_ids)[:_TOKENS]
        ends = [place for place, token in enumerate(tokens) if token in tokenizer.all_special_ids]
        text = tokenizer.decode(tokens[: ends[0]] if ends else tokens, skip_special_tokens=True)
        found[row] = (text.strip(), None if output.horen is None else output.horen["edit"])
    return found


def compared(
    told: dict[str, Any], plain: dict[tuple[str, int], tuple[str, int | None]], found: dict[tuple[str, int], Any]
) -> dict[str, Any]:
    """Return the share of prompts with the same route, and of those where the models agree with the same answer."""
    routes, texts, agree, fired = 0, 0, 0, 0
    for (kind, number), (text, edit) in found.items():
        answer, expected = told[kind][number]
        routes += edit == expected
        fired += edit is not None
        if plain[kind, number][0] == told[f"{kind}, no edits"][number].strip():
            agree += 1
            texts += text == answer.strip()
    count = len(found)
    return {
        "prompts": count,
        "fired": fired,
        "same edit": routes / count,
        "models agree": agree,
        "same answer": texts / agree,
    }


def counted(engine: Any) -> int:
    """Return how often requests were put back."""
    return sum(int(one.value) for one in engine.get_metrics() if one.name == "vllm:num_preemptions")


def main() -> None:
    """Parse, ask, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=("transformers", "vllm"))
    parser.add_argument("--codebook", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="ZsRE with MEND's fields")
    parser.add_argument("--model", help="the model's folder, for vllm")
    parser.add_argument("--told", type=Path, help="what transformers told")
    parser.add_argument("--count", type=int, default=500, help="texts of each of the four kinds")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if given.engine == "transformers":
        found = by_transformers(given.codebook, given.data, given.count)
    else:
        told = json.loads(given.told.read_text(encoding="utf-8"))
        found = by_vllm(given.codebook, given.model, told, given.count)
        print(json.dumps(found, indent=1))
    given.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
