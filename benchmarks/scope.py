"""One edit, one question: which prompts wake an edit that is theirs, and which wake one that is not.

    python benchmarks/scope.py --presets default activations text --out scope.json \
        --wikibigedit wikibigedit.json --counterfact counterfact-train.json \
        --zsre zsre_mend_train_10000.json --skip 5000 \
        --questions NQ-open.dev.jsonl --entities entity_questions.jsonl --sizes 1 1000 50000

The sets in benchmarks/data are written by hand and nothing was fitted or chosen on them; the others are public files.
Prompts are stored without values, since none is needed to route. With --sizes so many EntityQuestions prompts are
stored, and questions that have nothing to do with them are asked. With --beside so many of them are stored beside
each set.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import track

from horen import Editor, HorenConfig
from horen.bench.datasets import load
from horen.bench.files import write_text
from horen.bench.plan import environment
from horen.bench.records import Record
from horen.calibration.guarantee import upper_bound
from horen.cli.commands.edit import parse_settings
from horen.data import demo_facts
from horen.edits import Explanation, same_text
from superseding import store

_HERE = Path(__file__).parent / "data"
_BATCH = 64
_RATES = (0.01, 0.05)
_SHOWN, _TIMED = 12, 60


@dataclass(frozen=True)
class Asked:
    """A prompt that is asked.

    Attributes:
        text: the prompt.
        kind: "own" where a stored prompt is what it asks for, else the kind of negative.
        own: number of that stored prompt, from 0; of a negative the one that it is a negative of.
    """

    text: str
    kind: str
    own: int


@dataclass(frozen=True)
class Trial:
    """Stored prompts, each with its target, and what is asked."""

    stored: list[tuple[str, str]]
    asked: list[Asked]


def _lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (_HERE / name).read_text(encoding="utf-8").splitlines() if line.strip()]


def everyday() -> Trial:
    """Return everyday facts: contacts, rules, prices, people, dates, well-known things."""
    facts = _lines("everyday.jsonl")
    kinds = ("own", "same_subject", "like_name", "other_famous", "traps")
    asked = [Asked(text, kind, i) for i, fact in enumerate(facts) for kind in kinds for text in fact[kind]]
    # Of subjects with two facts stored some questions about the one ask for the other.
    place = {fact["prompt"]: i for i, fact in enumerate(facts)}
    asked += [Asked(text, "own", place[other]) for f in facts for text, other in f.get("second_fact", {}).items()]
    return Trial([(fact["prompt"], fact["target"]) for fact in facts], asked)


def natural() -> Trial:
    """Return subjects with two facts each, and other questions about them."""
    stored: list[tuple[str, str]] = []
    asked: list[Asked] = []
    for subject in _lines("natural.jsonl"):
        asked += [Asked(text, "same_subject", len(stored)) for text in subject["other"]]
        for fact in subject["facts"]:
            asked += [Asked(text, "own", len(stored)) for text in fact["rephrases"]]
            stored.append((fact["prompt"], fact["target"]))
    return Trial(stored, asked)


def traps() -> Trial:
    """Return negated, yes-or-no, follow-up and role-swapped questions."""
    facts = _lines("traps.jsonl")
    kinds = ("negated", "yes_no", "follow_up", "role_swapped")
    return Trial(
        [(fact["prompt"], fact["target"]) for fact in facts],
        [Asked(fact[kind], kind, i) for i, fact in enumerate(facts) for kind in kinds],
    )


def demo() -> Trial:
    """Return the facts of ``horen demo``."""
    facts = demo_facts()
    own = [Asked(text, "own", i) for i, fact in enumerate(facts) for text in fact.rephrases]
    near = [Asked(text, "near_miss", i) for i, fact in enumerate(facts) for text in fact.near_misses]
    return Trial([(fact.prompt, fact.target) for fact in facts], own + near)


def of_records(records: Iterable[Record]) -> Trial:
    """Return a public data set: its first rephrase and its negatives."""
    latest = list({same_text(record.prompt): record for record in records}.values())
    edited = {same_text(record.prompt) for record in latest}
    asked = [Asked(record.rephrases[0], "own", i) for i, record in enumerate(latest) if record.rephrases]
    asked += [
        Asked(n.text, n.kind, i) for i, r in enumerate(latest) for n in r.negatives if same_text(n.text) not in edited
    ]
    return Trial([(record.prompt, record.target) for record in latest], asked)


def routes(editor: Editor, texts: Sequence[str], what: str) -> list[Explanation]:
    """Return where texts are routed."""
    starts = range(0, len(texts), _BATCH)
    shown = track(starts, description=what, disable=not sys.stderr.isatty())
    return [found for start in shown for found in editor.explain(texts[start : start + _BATCH], nearest=0)]


def measured(editor: Editor, trial: Trial, what: str, beside: Sequence[str] = ()) -> dict[str, Any]:
    """Return the shares by kind at the threshold in force, and rephrases found where a share of each kind fires."""
    store(editor, [_Stored(*pair) for pair in (*trial.stored, *((text, "nothing") for text in beside))])
    found = routes(editor, [asked.text for asked in trial.asked], what)
    kinds: dict[str, list[tuple[Asked, Explanation]]] = {}
    for pair in zip(trial.asked, found, strict=True):
        kinds.setdefault(pair[0].kind, []).append(pair)
    own = kinds.pop("own", [])
    right = [(e.score or 0.0) if e.edit_id == a.own + 1 else -1.0 for a, e in own]
    woken = sum(e.fired and e.edit_id == a.own + 1 for a, e in own)
    astray = sum(e.fired and e.edit_id != a.own + 1 for a, e in own)
    result: dict[str, Any] = {"stored": len(trial.stored), "beside": len(beside), "kinds": {}}
    if own:
        result["own"] = {"asked": len(own), "woken": woken / len(own), "wake_another": astray / len(own)}
        result["own"]["missed"] = [
            [trial.stored[a.own][0], a.text, round(e.score or 0.0, 3)] for a, e in own if not e.fired
        ][:_SHOWN]
    for kind, pairs in kinds.items():
        fired = [(a, e) for a, e in pairs if e.fired]
        scores = sorted(((e.score or 0.0) for _, e in pairs), reverse=True)
        result["kinds"][kind] = {
            "asked": len(pairs),
            "fire": len(fired) / len(pairs),
            "at_most": upper_bound(len(fired), len(pairs), 0.95),
            "found_where_fire": {
                str(rate): sum(s > scores[min(int(rate * len(scores)), len(scores) - 1)] for s in right) / len(own)
                for rate in _RATES
                if own
            },
            "fired": [[e.prompt, a.text, round(e.score or 0.0, 3)] for a, e in fired][:_SHOWN],
        }
    return result


@dataclass(frozen=True)
class _Stored:
    """What :func:`superseding.store` reads of a record."""

    prompt: str
    target: str


def by_size(editor: Editor, prompts: list[str], questions: list[str]) -> dict[str, Any]:
    """Measure unrelated questions with so many prompts stored."""
    store(editor, [_Stored(text, "nothing") for text in prompts])
    found = routes(editor, questions, f"{len(prompts)} edits")
    fired = [e for e in found if e.fired]
    return {
        "stored": len(prompts),
        "asked": len(found),
        "fire": len(fired) / len(found),
        "at_most": upper_bound(len(fired), len(found), 0.95),
        "fired": [[e.prompt, e.text, round(e.score or 0.0, 3)] for e in fired][:_SHOWN],
        "milliseconds": {
            "near": costs(editor, prompts[: min(len(prompts), _TIMED)]),
            "far": costs(editor, questions[:_TIMED]),
        },
    }


def costs(editor: Editor, texts: list[str]) -> dict[str, float]:
    """Return the medians of what one prompt takes, a part at a time; empty where no judge decides."""
    session = editor._session
    source, gate = session.adapter.reads, session.adapter.scoped
    if gate is None or source.encoder is None:
        return {}
    read, searched, judged = [], [], []
    for text in texts:
        began = time.perf_counter()
        queries = source.encoder([text])
        read.append(time.perf_counter() - began)
        began = time.perf_counter()
        session.codebook().candidates(queries, session.config.retrieval(), 6)
        searched.append(time.perf_counter() - began)
        began = time.perf_counter()
        gate.matches(session.codebook(), queries, [text])
        judged.append(time.perf_counter() - began)
    times = {"encoder": read, "candidates": searched, "candidates_and_judge": judged}
    return {name: round(1000 * statistics.median(some), 2) for name, some in times.items()}


def trials(given: argparse.Namespace) -> dict[str, Trial]:
    """Return the sets that are asked for, by name."""
    found = {"everyday": everyday(), "natural": natural(), "traps": traps(), "demo": demo()}
    for name, path in (("wikibigedit", given.wikibigedit), ("counterfact", given.counterfact), ("zsre", given.zsre)):
        if path is not None:
            skip = given.skip if name == "zsre" else 0
            found[name] = of_records(load(name, path, limit=skip + given.edits).records[skip:])
    return {name: trial for name, trial in found.items() if not given.only or name in given.only}


def main() -> None:
    """Parse, run, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["default"])
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    for name in ("wikibigedit", "counterfact", "zsre", "questions", "entities"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--edits", type=int, default=1000)
    parser.add_argument("--skip", type=int, default=0, help="usable ZsRE records left out at the file's beginning")
    parser.add_argument("--sizes", type=int, nargs="*", default=[])
    parser.add_argument("--beside", type=int, default=0, help="EntityQuestions prompts stored beside each set")
    parser.add_argument("--only", nargs="*", default=[], help="names of sets; all where none is given")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    results: dict[str, Any] = {}
    most = max([given.beside, *given.sizes])
    entities = load("entity_questions", given.entities, limit=most).records if most else []
    prompts = list(dict.fromkeys(record.prompt for record in entities))
    random.Random(0).shuffle(prompts)  # noqa: S311
    for preset in given.presets:
        config = HorenConfig.from_preset(preset, **parse_settings(given.set))
        results[preset] = {"threshold": config.threshold}
        for name, trial in trials(given).items():
            editor = Editor.from_pretrained(given.model, config)
            results[preset][name] = measured(editor, trial, f"{preset} {name}", prompts[: given.beside])
            _tell(preset, name, results[preset][name])
        if given.sizes:
            results[preset]["unrelated"] = []
            lines = given.questions.read_text(encoding="utf-8").splitlines()
            questions = [json.loads(line)["question"] for line in lines]
            for size in given.sizes:
                editor = Editor.from_pretrained(given.model, config)
                results[preset]["unrelated"].append(by_size(editor, prompts[:size], questions))
                print(preset, results[preset]["unrelated"][-1], flush=True)
        told = {name: value for name, value in vars(given).items() if not isinstance(value, Path)}
        write_text(given.out, json.dumps({"arguments": told, **environment(), "results": results}, indent=1) + "\n")


def _tell(preset: str, name: str, found: dict[str, Any]) -> None:
    own = f"own {found['own']['woken']:.3f}" if "own" in found else ""
    kinds = ", ".join(
        f"{kind} {told['fire']:.3f} (found at 1/5 %: {'/'.join(f'{v:.2f}' for v in told['found_where_fire'].values())})"
        for kind, told in found["kinds"].items()
    )
    print(f"{preset} {name}: {own}; {kinds}", flush=True)


if __name__ == "__main__":
    main()
