"""The committed results: every method on one stream, each by its own resumable run.

    python benchmarks/suite.py zsre --path zsre_mend_train_10000.json --text wiki.valid.txt --out runs

A run goes to OUT/STREAM/METHOD and is gone on with where it was interrupted; its scores and its manifest, without the
rows, are written to benchmarks/results/STREAM/METHOD.json. The untouched model is asked once for all methods. Editors
of which benchmarks/tuning.py has chosen the settings run with these, and as METHOD-paper with the published ones.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from horen.bench.files import write_text
from horen.bench.plan import Plan
from horen.bench.results import read
from horen.bench.run import run
from horen.bench.tune import read_tuned

RESULTS = Path(__file__).parent / "results"
TUNED = RESULTS / "tuned"


@dataclass(frozen=True)
class Stream:
    """What of a data set is edited, how many edits are scored at a checkpoint (0: all), and the type of the weights.

    Without ``intermediate`` everything is asked at the end alone.
    """

    dataset: str
    edits: int
    skip: int = 0
    sample: int = 0
    dtype: str = "auto"
    intermediate: bool = True


STREAMS = {
    # The first records of this file were used to choose the default threshold.
    "zsre": Stream("zsre", 1_000, skip=5_000, sample=500),
    # The edits that benchmarks/tuning.py chooses settings by, for settings as published.
    "zsre-30": Stream("zsre", 30, skip=7_000, intermediate=False),
    # For editors of which a thousand edits take hours.
    "zsre-100": Stream("zsre", 100, skip=5_000, intermediate=False),
    "wikibigedit-100": Stream("wikibigedit", 100, intermediate=False),
    "zsre-10000": Stream("zsre", 9_965, sample=500),
    "zsre-eval": Stream("zsre", 1_000, sample=500),
    "counterfact": Stream("counterfact", 1_000, sample=500),
    "wikibigedit": Stream("wikibigedit", 1_000, sample=500),
    # What benchmarks/mixed_stream.py makes of ZsRE, CounterFact and EntityQuestions.
    "mixed-50000": Stream("jsonl", 50_000, sample=500),
    # What benchmarks/subjects_stream.py makes: other questions about the subject of every edit.
    "subjects": Stream("jsonl", 100, intermediate=False),
    # Paragraphs take long to train and to answer with: here the model runs in the type it was published in, asked once.
    "unke": Stream("unke", 200, dtype="bfloat16", intermediate=False),
    "unke-24": Stream("unke", 24, dtype="bfloat16", intermediate=False),
    # In float32, for processors that have no instructions for bfloat16.
    "unke-100": Stream("unke", 100, intermediate=False),
}
METHODS: dict[str, dict[str, Any]] = {
    "none": {"method": "none"},
    "horen-default": {"method": "horen"},
    # What was the default before a judge decided.
    "horen-activations": {"method": "horen", "preset": "activations"},
    # The same values found by a sentence encoder.
    # With --values of what "horen rekey --preset text" makes of horen-default's codebook, nothing is trained again.
    "horen-text": {"method": "horen", "preset": "text"},
    # Values trained on the prompt alone, as published; found as the default finds them.
    "horen-prompt": {"method": "horen", "settings": {"contexts": "prompt"}},
    # The values of horen-default; facts that a question is about, without asking for one, are put before it.
    "horen-recall": {"method": "horen", "settings": {"recall": "related"}},
    "horen-paper": {"method": "horen", "preset": "paper"},
    # The learning rate of the paper's text; the other is that of the configuration released with it.
    "horen-paper-text": {"method": "horen", "preset": "paper", "settings": {"learning_rate": 0.1}},
    "cosine": {"method": "cosine"},
    "grace": {"method": "grace"},
    "retrieval": {"method": "retrieval"},
    # After a plain question this model often ends at once, whatever comes before it.
    "retrieval-cued": {
        "method": "retrieval",
        "settings": {"template": "New fact: {prompt} {target}\nQuestion: {question}\nAnswer:"},
    },
}
OTHERS = ("ft", "lora", "rome", "memit", "alphaedit", "ultraedit", "mend", "defer", "wise", "ike", "unke")
METHODS |= {name: {"method": name} for name in OTHERS} | {"grace-tuned": {"method": "grace"}}
METHODS |= {f"{name}-paper": {"method": name, "preset": "paper"} for name in ("grace", *OTHERS)}


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stream", choices=STREAMS)
    parser.add_argument("--path", type=Path, required=True, help="the data set's file")
    parser.add_argument("--text", help="held-aside text for retention")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--values", type=Path, help="a codebook that others fill: not trained again")
    parser.add_argument("--network", help="what 'horen bench train-mend' trained, for mend")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    stream, folder = STREAMS[given.stream], given.out / given.stream
    for name in given.methods:
        how = dict(METHODS[name])
        tuned = TUNED / f"{how['method']}.json"
        if name in (*OTHERS, "grace-tuned") and tuned.exists():
            how["settings"] = read_tuned(tuned).settings
        if how["method"] == "mend":
            how["settings"] = {"network": given.network}
        plan = Plan(
            dataset=stream.dataset,
            path=str(given.path),
            edits=stream.edits,
            skip=stream.skip,
            sample=stream.sample,
            batch=given.batch,
            text=given.text,
            dtype=stream.dtype,
            intermediate=stream.intermediate,
            **how,
        )
        base = folder / "none"
        known = base if name != "none" and (base / "base.json").exists() else None
        # The same values are retrieved in another way.
        trained = folder / "horen-default"
        values = (
            trained if name in {"cosine", "horen-recall"} and (trained / "manifest.json").exists() else given.values
        )
        run(plan, folder / name, resume=True, base=known, values=values, progress=Log(f"{given.stream} {name}"))
        write(folder / name, given.results / given.stream / f"{name}.json")


class Log:
    """A line whenever a run enters another phase, and each minute within one."""

    def __init__(self, title: str) -> None:
        self._title, self._phase, self._told = title, "", 0.0

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Take a step of a run in."""
        now = time.monotonic()
        if phase != self._phase or now - self._told > 60:
            print(f"{time.strftime('%H:%M:%S')} {self._title}: {phase} {done}/{total}", flush=True)
            self._phase, self._told = phase, now


def write(folder: Path, place: Path) -> None:
    """Keep a run's scores and manifest where they are committed."""
    result = read(folder).to_dict()
    result.pop("folder")
    result["manifest"]["plan"]["path"] = Path(result["manifest"]["plan"]["path"]).name
    text = result["manifest"]["plan"]["text"]
    result["manifest"]["plan"]["text"] = text and Path(text).name
    network = result["manifest"]["plan"]["settings"].get("network")
    if network:
        result["manifest"]["plan"]["settings"]["network"] = Path(network).name
        result["name"] = result["name"].replace(network, Path(network).name)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_text(place, json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
