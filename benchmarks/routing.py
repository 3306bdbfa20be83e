"""Routing without training: which settings send rephrases to their own edit and leave negatives alone.

    python benchmarks/routing.py --dataset zsre --data zsre_mend_eval.json --edits 1000 --preset paper \
        --set alpha=0 --set alpha=0.5 --set beta=40 --set read_sites=mlp_hidden@0.1 --out routing.json

Each --set is a variant of the preset by itself; the preset as it is comes first. Keys are made of the edit prompts as
an edit makes them, and queries are matched as a prompt is; no value is trained, since none is needed to route.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import track

from horen import Editor, HorenConfig
from horen.bench.datasets import load
from horen.bench.files import write_text
from horen.bench.metrics.routing import NegativeRoute, PositiveRoute, routing
from horen.bench.plan import circumstances
from horen.bench.records import Record
from horen.cli.commands.edit import parse_settings
from horen.config import GATE_SETTINGS
from horen.edits import same_text
from horen.memory import Codebook, Match
from horen.model.quiet import quiet
from horen.store.calibration import Calibration

_BATCH = 32


class Router:
    """An editor's way from texts to entries, with keys but no values."""

    def __init__(self, editor: Editor) -> None:
        self._session = editor._session
        editor.prepare()

    def features(self, texts: list[str], *, chat: bool = False) -> list[torch.Tensor]:
        """Return [candidate readings, d_k] unit queries of each text."""
        contexts, reader, adapter = self._session.contexts, self._session.reader, self._session.adapter
        rows = [contexts.chat([{"role": "user", "content": t}]) if chat else contexts.plain(t) for t in texts]
        spans = [list(reader.read(row, len(row)).spans) for row in rows]
        found: list[torch.Tensor] = []
        with quiet(adapter):
            for start in range(0, len(rows), _BATCH):
                part = slice(start, start + _BATCH)
                made = self._session.key_space(adapter.features(rows[part], spans[part]))
                found += torch.split(made, [len(some) for some in spans[part]])
        return found

    def store(self, keys: torch.Tensor) -> Codebook:
        """Return a codebook of these keys."""
        codebook = Codebook(keys.shape[1], 1)
        for key in keys:
            codebook.add_entries(key[None], codebook.add_value(torch.zeros(1)))
        return codebook


def best(codebook: Codebook, queries: list[torch.Tensor], config: HorenConfig) -> list[Match]:
    """Return the best match over each text's readings."""
    matches = [codebook.match(query, config.retrieval()) for query in queries]
    return [max(found, key=lambda match: match.score) for found in matches]


@dataclass(frozen=True)
class Read:
    """Records as a key space sees them.

    Attributes:
        codebook: the edit prompts.
        rephrases: the first one of each record that has any: its record, and its readings.
        negatives: their kind and their readings.
    """

    codebook: Codebook
    rephrases: list[tuple[int, torch.Tensor]]
    negatives: list[tuple[str, torch.Tensor]]


def read(router: Router, records: list[Record], *, chat: bool) -> Read:
    """Make keys and queries; negatives that were themselves edited are left out."""
    keys = torch.cat([rows[:1] for rows in router.features([record.prompt for record in records])])
    edited = {same_text(record.prompt) for record in records}
    rephrases = [(i, record.rephrases[0]) for i, record in enumerate(records) if record.rephrases]
    negatives = [n for record in records for n in record.negatives if same_text(n.text) not in edited]
    asked = router.features([text for _, text in rephrases], chat=chat)
    others = router.features([n.text for n in negatives], chat=chat)
    return Read(
        router.store(keys),
        [(i, query) for (i, _), query in zip(rephrases, asked, strict=True)],
        [(n.kind, query) for n, query in zip(negatives, others, strict=True)],
    )


def measured(found: Read, config: HorenConfig) -> dict[str, Any]:
    """Measure how the records' rephrases are routed, against every kind of negative."""
    matches = best(found.codebook, [query for _, query in found.rephrases], config)
    positives = [
        PositiveRoute(match.score, match.entry == i, match.fired)
        for (i, _), match in zip(found.rephrases, matches, strict=True)
    ]
    others = best(found.codebook, [query for _, query in found.negatives], config)
    routes = [
        NegativeRoute(match.score, kind, match.fired) for (kind, _), match in zip(found.negatives, others, strict=True)
    ]
    result = routing(positives, routes).to_dict()
    for kind in result["kinds"].values():
        del kind["curve"]
    return result


def main() -> None:
    """Parse, run, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="zsre")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--edits", type=int, default=1000)
    parser.add_argument("--skip", type=int, default=0, help="usable records left out at the file's beginning")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE[,NAME=VALUE]")
    parser.add_argument("--calibration", help="folder or name of a calibration; --set then changes its gate")
    parser.add_argument("--chat", action="store_true", help="ask through the chat template")
    parser.add_argument("--device")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    dataset = load(arguments.dataset, arguments.data, limit=arguments.skip + arguments.edits)
    latest = {same_text(record.prompt): record for record in dataset.records[arguments.skip :]}
    told = {name: given for name, given in vars(arguments).items() if name not in {"data", "out", "set", "calibration"}}
    manifest = {"arguments": told, **circumstances(dataset, arguments.device)}
    results: dict[str, Any] = {}
    known: dict[str, Read] = {}
    for variant in track(["", *arguments.set], description="variants", disable=not sys.stderr.isatty()):
        changes = parse_settings(variant.split(",") if variant else [])
        calibration = Calibration.load(arguments.calibration).with_gate(**changes) if arguments.calibration else None
        config = HorenConfig.from_preset(arguments.preset, **changes)
        config = config if calibration is None else calibration.applied(config)
        made = json.dumps({name: value for name, value in config.to_dict().items() if name not in GATE_SETTINGS})
        if made not in known:
            editor = Editor.from_pretrained(arguments.model, config, calibration=calibration, device=arguments.device)
            router = Router(editor)
            known[made] = read(router, list(latest.values()), chat=arguments.chat)
        found = measured(known[made], config)
        name = variant or ("calibrated" if arguments.calibration else arguments.preset)
        results[name] = found
        write_text(arguments.out, json.dumps({"manifest": manifest, "results": results}, indent=1) + "\n")
        kinds = {
            kind: {f"{p['rate']:g}": p["generalization"] for p in item["points"]} | {"fires": item["false_fire_rate"]}
            for kind, item in found["kinds"].items()
        }
        line = {"variant": name, "top_1": found["top_1"], "found": found["right_fire_rate"]}
        sys.stdout.write(json.dumps(line | kinds) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
