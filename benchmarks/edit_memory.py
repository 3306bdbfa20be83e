"""How much memory `horen edit` takes for files of many edits; also beside an older build.

    OMP_NUM_THREADS=1 python benchmarks/edit_memory.py --edits 1 5000 20000 --against ../before --out edit_memory.json

A tiny random model is saved (4 layers of 32 numbers, a token a byte), so that the file, the history and the receipts
count and not the model. Each file has questions with a rephrase and an answer, as long as those of ZsRE: those of
``--questions`` (a JSON list with ``src``, ``rephrase`` and ``alt``), each with its number before it. ``horen edit``
writes it with the preset ``activations``, one step an edit and the prompt as its only context, a whole process each,
the builds in turn. Told are the greatest resident memory of each process, processor seconds, and bytes and processor
seconds a line between the two largest files; bytes a line include what the codebook keeps.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from horen.bench.files import write_text
from horen.bench.plan import environment

_HERE = Path(__file__).resolve().parent.parent
_MEBI = 1 << 20
_SPECIAL = ("<s>", "</s>")

# Runs a command and prints the greatest resident memory of it, in KiB on Linux, and its processor seconds.
_MEASURED = """
import json, resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([used.ru_maxrss * 1024, used.ru_utime + used.ru_stime]))
"""


def make_model(place: Path) -> None:
    """Save a tiny random model whose tokens are bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({text: number for number, text in enumerate([*_SPECIAL, *alphabet])}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    begin, end = _SPECIAL
    made: Any = PreTrainedTokenizerFast  # which says no types
    tokenizer = made(tokenizer_object=inner, bos_token=begin, eos_token=end, pad_token=end)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(place)
    tokenizer.save_pretrained(place)


def make_file(place: Path, questions: Path, count: int) -> None:
    """Write a file of so many edits."""
    rows = json.loads(questions.read_text(encoding="utf-8"))
    with place.open("w", encoding="utf-8") as handle:
        for number in range(count):
            row = rows[number % len(rows)]
            prompt, rephrase, target = row["src"], row["rephrase"], row["alt"].strip() or "nobody"
            edit = {"prompt": f"{number}: {prompt}", "target": target, "rephrases": [f"{number}: {rephrase}"]}
            handle.write(json.dumps(edit) + "\n")


def measured(source: Path, file: Path, model: Path, folder: Path) -> dict[str, float]:
    """Write a file of edits into a new folder with a build of the package."""
    command = [sys.executable, "-m", "horen.cli", "edit", str(file), "--into", str(folder), "--model", str(model)]
    command += ["--preset", "activations", "--set", "max_steps=1", "--set", "contexts=prompt"]
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", _MEASURED, *command],
        env={**os.environ, "PYTHONPATH": str(source)},
        stdout=subprocess.PIPE,
        check=True,
    )
    peak, processor = json.loads(done.stdout)
    size = sum(place.stat().st_size for place in folder.iterdir())
    return {
        "peak_mib": round(peak / _MEBI, 1),
        "processor_s": round(processor, 1),
        "folder_mib": round(size / _MEBI, 1),
    }


def per_line(found: dict[str, dict[str, float]], sizes: list[int]) -> dict[str, float]:
    """Return what a line takes between the two largest files."""
    few, many = sizes[-2:]
    more = {name: found[str(many)][name] - found[str(few)][name] for name in found[str(many)]}
    return {
        "bytes_a_line": round(more["peak_mib"] * _MEBI / (many - few)),
        "folder_bytes_a_line": round(more["folder_mib"] * _MEBI / (many - few)),
        "processor_s_a_line": round(more["processor_s"] / (many - few), 6),
    }


def main() -> None:
    """Make a model and files, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edits", type=int, nargs="+", default=[1, 20_000, 50_000], help="lines of the files, rising")
    parser.add_argument("--questions", type=Path, required=True, help="JSON list with src, rephrase and alt")
    parser.add_argument("--against", type=Path, help="folder with an older src")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    builds = {"this": _HERE / "src"} | ({"older": given.against / "src"} if given.against else {})
    results: dict[str, Any] = {build: {} for build in builds}
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        make_model(place / "model")
        for count in given.edits:
            file = place / f"{count}.jsonl"
            make_file(file, given.questions, count)
            for build, source in builds.items():
                folder = place / f"{build}-{count}"
                results[build][str(count)] = measured(source, file, place / "model", folder)
                print(build, count, results[build][str(count)], flush=True)
    for build in builds:
        results[build]["between the last two"] = per_line(results[build], given.edits)
    told = {"edits": given.edits, "questions": given.questions.name}
    threads = os.environ.get("OMP_NUM_THREADS")
    write_text(
        given.out,
        json.dumps({"arguments": told, "threads": threads, **environment(), "results": results}, indent=1) + "\n",
    )


if __name__ == "__main__":
    main()
