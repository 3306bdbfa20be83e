"""What changes where keys and values are stored in fewer bytes, or fewer pairs are checked: decisions, and answers.

    python benchmarks/storage.py keys --part zsre zsre_mend_train_10000.json 0:1000 --preset default --out keys.json
    python benchmarks/storage.py keys --part counterfact counterfact_one_hop.json 0:200 --preset text --out keys.json
    python benchmarks/storage.py keys --sets everyday natural traps demo people events conversations --out keys.json
    python benchmarks/storage.py checks --part zsre zsre_mend_train_10000.json 0:1000 --out checks.json
    python benchmarks/storage.py values --part zsre zsre_mend_train_10000.json 7000:7048 --out values.json

``keys`` routes prompts through a codebook of their set's keys, once stored in float32 and once in int8, as a user's
prompt is routed, judge included. No value is trained, since none is needed to route. A part of a file is a set: its
prompts, rephrases, negatives and questions are asked. The other sets are those of benchmarks/scope.py; ``people`` and
``events``, prompts of the package that no network was trained on; and ``conversations``, turns that follow a question
that was answered with its edit (benchmarks/conversations.py). A decision is which edit is nearest and whether it fires.
It is right where a prompt asks for a stored fact and fires that, and false where it fires another, or asks for none and
fires. Where a judge decides, what is recalled is compared too.

``checks`` routes the same prompts twice with the same keys: as where all is told, and as where only what fires matters,
which checks no more pairs than decide. Only what fires, and its score, is of interest then.

``values`` trains edits with each storage of values, the settings otherwise those of the preset, and asks prompt and
rephrase in plain text and in chat: how many steps it took, how many converged, how many answers are right to the
letter, and how many are not the words that values in float32 give.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from conversations import conversations
from horen import Edit, Editor, Explanation, HorenConfig
from horen.asking.explain import explaining
from horen.asking.recall import _related
from horen.bench.datasets import load
from horen.bench.files import write_text
from horen.bench.metrics.answers import exact_match
from horen.bench.plan import circumstances, environment
from horen.bench.records import ALIAS, PERSONAS, Record
from horen.edits import EditRecord, same_text
from horen.memory import Codebook, KeyStorage
from horen.model.prompts import Placed
from horen.model.routed import Routed
from horen.model.zoo.loading import load_model
from horen.scope.training.corpus import packaged
from horen.scope.training.joining import trial
from horen.store.operations import now
from scope import Asked, Trial, demo, everyday, natural, traps

_BATCH = 32
_CONVERSATIONS = 200
_PACKAGED = ("people", "events")
_SETS = ("everyday", "natural", "traps", "demo", *_PACKAGED, "conversations")
# What asks for the fact of its edit.
_OWN = ("prompts", "rephrases", "own", ALIAS, PERSONAS)


def of_records(records: Iterable[Record]) -> Trial:
    """Return the latest record of each prompt, and all that is asked about it but what is another's prompt."""
    latest = list({same_text(record.prompt): record for record in records}.values())
    edited = {same_text(record.prompt) for record in latest}
    asked = [Asked(record.prompt, "prompts", i) for i, record in enumerate(latest)]
    for i, record in enumerate(latest):
        others = [(text, "rephrases") for text in record.rephrases]
        others += [(negative.text, negative.kind) for negative in record.negatives]
        others += [(question.text, question.kind) for question in record.questions]
        asked += [Asked(text, kind, i) for text, kind in others if same_text(text) not in edited]
    return Trial([(record.prompt, record.target) for record in latest], asked)


def of_package(name: str) -> Trial:
    """Return prompts of the package with what is asked of them: for them, about their subject, and of no stored one."""
    prompts, probes = trial(packaged((name,)), (), random.Random(0))  # noqa: S311
    asked = []
    for probe in probes:
        if probe.own is None:
            asked.append(Asked(probe.text, "same_subject" if probe.about else "other", (*probe.about, 0)[0]))
        else:
            asked.append(Asked(probe.text, "own", probe.own))
    return Trial([(text, "nothing") for text in prompts], asked)


def of_conversations() -> Trial:
    """Return facts, and the turns that follow a question for each."""
    found = conversations(_CONVERSATIONS)
    asked = [Asked(text, kind, i) for i, (_, later) in enumerate(found) for kind, text in later.items()]
    return Trial([(edit.prompt, edit.target) for edit, _ in found], asked)


def named(name: str) -> Trial:
    """Return a set that comes with the repository."""
    if name in _PACKAGED:
        return of_package(name)
    made = {"everyday": everyday, "natural": natural, "traps": traps, "demo": demo, "conversations": of_conversations}
    return made[name]()


class Both:
    """An editor without trained values, with the same keys in both storages; it routes with each in turn.

    A call of the model or of the encoder reads a prompt once, and what it reads is compared with both.

    Args:
        editor: an empty one, whose keys are stored in float32.
        pairs: prompts and targets of its edits.
        checks: keep float32 keys, and ask the second time for what fires alone.
    """

    def __init__(self, editor: Editor, pairs: Sequence[tuple[str, str]], *, checks: bool = False) -> None:
        editor.prepare()
        self._session = session = editor._session
        #: Whether a judge tells of all facts that a prompt is about, which recall asks for.
        self.surveys = editor.config.judges and not checks
        #: What a score must exceed for its prompt to be told of, in each turn: horen.model.calls.Watch.
        self._leasts = (None, editor.config.threshold if checks else None)
        self.least: float | None = None
        book = session.codebook()
        storage = KeyStorage("float32" if checks else "int8")
        other = Codebook(book.keys.shape[1], session.value_size, key_storage=storage)
        self._books, edits = (book, other), []
        for number, (prompt, target) in enumerate(pairs):
            keys = session.keys(session.contexts.wordings(Edit(prompt, target)))
            for some in self._books:
                value = some.add_value(torch.zeros(session.value_size))
                entries = tuple(some.add_entries(keys, value))
            edits.append(EditRecord(number + 1, prompt, target, (), entries, value, 0.0, 0, True, False, now()))
        session.history.record("edit", edits)
        self._texts: list[str] = []
        self._found: list[dict[int, Explanation]] = []

    def take(self, places: Sequence[Placed], rows: int, route: Callable[[], list[Routed]]) -> list[Routed]:
        """Route prompts with the keys of each storage, and note where they went."""
        del places, rows
        adapter, settled = self._session.adapter, list[Routed]()
        for book, found, least in zip(self._books, self._found, self._leasts, strict=True):
            adapter.codebook, self.least = book, least
            settled = route()
            told = explaining(self._session, self._texts, 0)({one.place.row: one for one in settled})
            for one in settled:
                recalled = tuple(record.id for record in _related(self._session, one)) if self.surveys else ()
                found[one.place.row] = replace(told[one.place.row], recalled=recalled)
        adapter.codebook = self._books[0]
        return settled

    def routed(self, texts: Sequence[str], rows: Sequence[list[int]]) -> list[tuple[Explanation, Explanation]]:
        """Return where texts go with float32 keys and with int8 ones, given their token ids as they are fed."""
        pairs: list[tuple[Explanation, Explanation]] = []
        for start in range(0, len(rows), _BATCH):
            self._texts, self._found = list(texts[start : start + _BATCH]), [{}, {}]
            self._session.adapter.look(rows[start : start + _BATCH], self)
            pairs += [(self._found[0][i], self._found[1][i]) for i in range(len(self._texts))]
        return pairs


def fed(editor: Editor, made: Trial, *, follows: bool) -> list[list[int]]:
    """Return token ids of what is asked: as plain text, or as the turn after a question for a fact and its answer."""
    contexts = editor._session.contexts
    if not follows:
        return [contexts.plain(asked.text) for asked in made.asked]
    rows = []
    for asked in made.asked:
        prompt, target = made.stored[asked.own]
        turns = [("user", prompt), ("assistant", target), ("user", asked.text)]
        rows.append(contexts.chat([{"role": role, "content": content} for role, content in turns]))
    return rows


def compared(pairs: Sequence[tuple[Explanation, Explanation]], own: list[int], *, asks: bool) -> dict[str, Any]:
    """Return how many decisions of two storages differ, and which way.

    Args:
        pairs: where each text goes with the one storage and with the other.
        own: id of the edit that each text belongs to.
        asks: whether each text asks for the fact of that edit.
    """
    fired = [tuple(found.edit_id if found.fired else None for found in pair) for pair in pairs]
    right = [tuple(asks and one == number for one in pair) for pair, number in zip(fired, own, strict=True)]
    false = [tuple(one is not None and not (asks and one == n) for one in f) for f, n in zip(fired, own, strict=True)]
    scores = [(a.score or 0.0, b.score or 0.0) for a, b in pairs]
    told: dict[str, Any] = {
        "texts": len(pairs),
        "fired": _both((one is not None for one in pair) for pair in fired),
        "another edit is nearest": sum(a.edit_id != b.edit_id for a, b in pairs),
        "fires in one alone": sum(a.fired != b.fired for a, b in pairs),
        "another edit fires": sum(a != b for a, b in fired),
        **({"own edit fired": _both(right)} if asks else {}),
        "lost right": sum(a and not b for a, b in right),
        "gained right": sum(b and not a for a, b in right),
        "new false fire": sum(b and not a for a, b in false),
        "removed false fire": sum(a and not b for a, b in false),
        "recalls other facts": sum(a.recalled != b.recalled for a, b in pairs),
        "greatest difference of a score": max(abs(a - b) for a, b in scores),
        "mean difference of a score": sum(b - a for a, b in scores) / len(scores),
    }
    told["which"] = [
        {"text": a.text, "own": number, "edits": [a.edit_id, b.edit_id], "scores": [a.score, b.score]}
        for (a, b), fires, number in zip(pairs, fired, own, strict=True)
        if fires[0] != fires[1]
    ]
    return told


def _both(pairs: Iterable[Iterable[bool]]) -> list[int]:
    """Return how many hold with the one storage and with the other."""
    return [sum(some) for some in zip(*pairs, strict=True)]


def keys(made: Trial, given: argparse.Namespace, *, follows: bool) -> dict[str, Any]:
    """Return which decisions differ between storages of keys, or with fewer checks, by kind of question.

    Args:
        made: what is stored and asked.
        given: names the model and the preset.
        follows: whether what is asked is the turn after a question for a stored fact and its answer.
    """
    editor = Editor(*load_model(given.model), HorenConfig.from_preset(given.preset, key_storage="float32"))
    both, rows = Both(editor, made.stored, checks=given.what == "checks"), fed(editor, made, follows=follows)
    found = both.routed([asked.text for asked in made.asked], rows)
    told: dict[str, Any] = {"stored": len(made.stored)}
    for kind in dict.fromkeys(asked.kind for asked in made.asked):
        some = [i for i, asked in enumerate(made.asked) if asked.kind == kind]
        own = [made.asked[i].own + 1 for i in some]
        told[kind] = compared([found[i] for i in some], own, asks=kind in _OWN)
    return told


def summed(sets: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return counts of all kinds of some sets together, and the greatest difference of a score."""
    kinds = [found for told in sets for found in told.values() if isinstance(found, dict)]
    counted = [name for name, count in kinds[0].items() if isinstance(count, int)]
    greatest = "greatest difference of a score"
    return {name: sum(found[name] for found in kinds) for name in counted} | {
        greatest: max(found[greatest] for found in kinds)
    }


def values(records: Sequence[Record], given: argparse.Namespace) -> dict[str, Any]:
    """Return what editing costs and what is answered with each storage of values."""
    answers: dict[str, list[str]] = {}
    told: dict[str, Any] = {}
    for storage in given.storages:
        editor = Editor(*load_model(given.model), HorenConfig.from_preset(given.preset, value_storage=storage))
        editor.prepare()
        began = time.process_time()
        receipts = editor.edit([Edit(record.prompt, record.target) for record in records])
        found: dict[str, Any] = {
            "steps": sum(receipt.steps for receipt in receipts) / len(receipts),
            "converged": sum(receipt.converged for receipt in receipts),
            "editing_processor_s": round(time.process_time() - began, 1),
        }
        answers[storage] = []
        for kind, texts in (
            ("prompt", [record.prompt for record in records]),
            ("rephrase", [record.rephrases[0] for record in records]),
        ):
            for chat in (False, True):
                batches = [texts[start : start + 8] for start in range(0, len(texts), 8)]
                said = [text for batch in batches for text in editor.generate(batch, 24, chat=chat)]
                right = [exact_match(text, [record.target]) for text, record in zip(said, records, strict=True)]
                found[f"{kind} in chat" if chat else kind] = int(sum(right))
                answers[storage] += said
        first = answers[given.storages[0]]
        found["other answers"] = sum(a != b for a, b in zip(answers[storage], first, strict=True))
        told[storage] = found
        print(storage, json.dumps(found), flush=True)
    return told


def main() -> None:
    """Measure and write what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("keys", "checks", "values"))
    parser.add_argument(
        "--part", nargs=3, action="append", default=[], metavar=("FORMAT", "FILE", "FROM:TO"), help="of its usable ones"
    )
    parser.add_argument("--sets", nargs="+", choices=_SETS, default=[], help="that come with the repository")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--storages", nargs="+", default=["float32", "bfloat16"], help="of values")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    datasets, parts = [], {}
    for name, path, span in given.part:
        first, end = map(int, span.split(":"))
        dataset = load(name, path, limit=end)
        datasets.append({"part": span, **circumstances(dataset, None)["dataset"]})
        parts[f"{Path(path).name} {span}"] = dataset.records[first:]
    head = {"datasets": datasets, **environment(), "model": given.model, "preset": given.preset}
    if given.what == "values":
        told = values([record for records in parts.values() for record in records], given)
        write_text(given.out, json.dumps({**head, **told}, indent=2) + "\n")
        return
    sets = {name: of_records(records) for name, records in parts.items()} | {name: named(name) for name in given.sets}
    found: dict[str, Any] = {}
    for name, made in sets.items():
        found[name] = keys(made, given, follows=name == "conversations")
        print(name, json.dumps(summed([found[name]])), flush=True)
        write_text(given.out, json.dumps({**head, "all": summed(found.values()), "sets": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
