"""What a command costs that starts, does one thing and ends, on a codebook of many edits; also beside an older build.

    OMP_NUM_THREADS=1 python benchmarks/starting.py --edits 50000 --against ../before --out starting.json

A folder is filled with edits that were never trained (:mod:`filling`). Then, a whole process each, in turn: the
commands ``horen list`` (a page, and all), ``show``, ``history`` and ``ask``, and a bare script that imports torch and
transformers, loads the same model and generates the same answer as ``ask``. With ``--against DIR``, a folder that has
an older ``src``, that build runs the same on the same folder within each turn; one without ``list --limit`` is given
no page. At last ``Editor.load`` beside a model that is loaded already, in one process of each build. Told are medians
of seconds on the clock and of processor seconds, and for ``ask`` those beyond the bare script of the same turn.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from filling import fill
from horen import Editor, HorenConfig
from horen.bench.files import write_text
from horen.bench.plan import environment
from horen.model.zoo.embedded import fetch

_HERE = Path(__file__).resolve().parent.parent
_PROMPT, _TOKENS, _PAGE, _LOADS = "The capital of France is", 24, 40, 5

_BARE = """
import sys, torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer
place, prompt, tokens = sys.argv[1:]
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
tokenizer = AutoTokenizer.from_pretrained(place)
model = AutoModelForCausalLM.from_pretrained(place, dtype="auto").eval()
inputs = tokenizer(prompt, return_tensors="pt")
with torch.inference_mode():
    found = model.generate(**inputs, max_new_tokens=int(tokens), do_sample=False)
print(tokenizer.decode(found[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())
"""

_LOAD = """
import json, sys, time
from horen import Editor
from horen.model.zoo.loading import load_model
folder, name, rounds = sys.argv[1:]
model, tokenizer = load_model(name)
times = []
for _ in range(int(rounds)):
    began, worked = time.perf_counter(), time.process_time()
    editor = Editor.load(folder, model, tokenizer)
    times.append((time.perf_counter() - began, time.process_time() - worked))
    editor.unwrap()
print(json.dumps(times))
"""


class Took(NamedTuple):
    """Seconds on the clock and processor seconds of a process, and what it printed."""

    seconds: float
    processor_s: float
    printed: str


def took(command: list[str], source: Path) -> Took:
    """Run python with a source of the package to its end.

    Raises:
        subprocess.CalledProcessError: when it fails.
    """
    told = {**os.environ, "PYTHONPATH": str(source), "TRANSFORMERS_VERBOSITY": "error"}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, *command], env=told, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Took(seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout)


def commands(folder: Path, *, pages: bool) -> dict[str, list[str]]:
    """Return what is run of each build, by name."""
    horen = ["-m", "horen.cli"]
    found = {
        "list": [*horen, "list", str(folder)],
        "show": [*horen, "show", str(folder), "7"],
        "history": [*horen, "history", str(folder)],
        "ask": [*horen, "ask", str(folder), "--max-new-tokens", str(_TOKENS), _PROMPT],
    }
    return {"list, a page": [*found["list"], "--limit", str(_PAGE)], **found} if pages else found


def has_pages(source: Path) -> bool:
    """Return whether a build lists pages."""
    return "--limit" in took(["-m", "horen.cli", "list", "--help"], source).printed


def measured(folder: Path, model: str, builds: dict[str, Path], turns: int) -> dict[str, Any]:
    """Run everything once a turn; the first turn, which reads files from the disk, does not count."""
    bare = ["-c", _BARE, str(fetch(model)), _PROMPT, str(_TOKENS)]
    todo = {build: commands(folder, pages=has_pages(source)) for build, source in builds.items()}
    found: dict[str, list[Took]] = {}
    for turn in range(turns + 1):
        done = {"bare script": took(bare, builds["this"])}
        for build, source in builds.items():
            done |= {f"{build}: {name}": took(command, source) for name, command in todo[build].items()}
        for name in ("list", "show", "history", "ask"):
            printed = {build: done[f"{build}: {name}"].printed for build in builds}
            assert len(set(printed.values())) == 1, f"{name} prints different things: {printed}"
        answers = {done[name].printed for name in ("bare script", *(f"{build}: ask" for build in builds))}
        assert len(answers) == 1, f"the answers differ: {answers}"
        if turn:
            for name, one in done.items():
                found.setdefault(name, []).append(one)
    for build in builds:
        pairs = zip(found[f"{build}: ask"], found["bare script"], strict=True)
        found[f"{build}: ask, beyond the bare script"] = [
            Took(ask.seconds - alone.seconds, ask.processor_s - alone.processor_s, "") for ask, alone in pairs
        ]
    return {name: medians([(one.seconds, one.processor_s) for one in some]) for name, some in found.items()}


def medians(times: list[Any]) -> dict[str, Any]:
    """Return medians of seconds and processor seconds, and all of the former."""
    seconds, processor = zip(*times, strict=True)
    return {
        "seconds": round(statistics.median(seconds), 3),
        "processor_s": round(statistics.median(processor), 3),
        "each": [round(one, 3) for one in seconds],
    }


def main() -> None:
    """Fill a folder, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edits", type=int, default=50_000)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--against", type=Path, help="folder with an older src, which reads what this one saves")
    parser.add_argument("--folder", type=Path, help="where to save for a while; a temporary folder unless given")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    builds = {"this": _HERE / "src"} | ({"older": given.against / "src"} if given.against else {})
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        folder = Path(place) / "saved"
        editor = Editor.from_pretrained(given.model, HorenConfig())
        fill(editor._session, given.edits)
        editor.save(folder)
        size = sum(file.stat().st_size for file in folder.iterdir())
        del editor
        results = measured(folder, given.model, builds, given.turns)
        for build, source in builds.items():
            times = json.loads(took(["-c", _LOAD, str(folder), given.model, str(_LOADS)], source).printed)
            results[f"{build}: Editor.load beside a loaded model"] = medians(times)
    results["bytes an edit"] = round(size / given.edits)
    print(json.dumps(results, indent=1))
    told = {"edits": given.edits, "model": given.model, "turns": given.turns}
    threads = os.environ.get("OMP_NUM_THREADS")
    write_text(
        given.out,
        json.dumps({"arguments": told, "threads": threads, **environment(), "results": results}, indent=1) + "\n",
    )


if __name__ == "__main__":
    main()
