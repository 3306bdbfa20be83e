from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from horen import DataError
from horen.data import demo_facts
from horen.scope.training.corpus import CERTIFY, CHOOSE, FIT, Corpus, always, bank_corpus, packaged, parse, public
from horen.scope.training.draws import ABOUT, OTHER, OWN, Draws
from horen.scope.training.joining import trial
from horen.scope.training.speech import lightly, mistyped, renamed, spoken

KIND = {"type": "town", "names": ["Ulm", "Bern", "Oslo"], "alike": [["Ulm", "Ulmen"]], "aliases": [["Bern", "Berne"]]}
MAYOR = {
    "relation": "mayor",
    "type": "town",
    "ask": ["Who is the mayor of {x}?", "{x} mayor", "The mayor of {x} is", "Who governs {x}?"],
    "not": ["Who was the mayor of {x} before?", "Which river runs through {x}?"],
}
RIVER = {
    "relation": "river",
    "type": "town",
    "ask": ["Which river runs through {x}?", "The river of {x} is", "{x} river", "What flows past {x}?"],
    "q": [],
}


def corpus() -> Corpus:
    return parse("made", [json.dumps(line) for line in (KIND, MAYOR, RIVER)])


@pytest.mark.parametrize("name", [*FIT, *CHOOSE, *CERTIFY])
def test_every_packaged_file_is_whole(name: str):
    found = packaged([name])
    assert len(found.relations) >= 20
    for relation in found.relations:
        single = bool(found.kinds[relation.kind].universe)
        assert len(relation.ask) >= (5 if single else 8)
        assert len(set(relation.ask)) >= (5 if single else 8)
        for text in (*relation.ask, *relation.traps):
            assert text.count("{x}") == 1
            assert ("{q}" in text) == bool(relation.qualifiers)
    for kind in found.kinds.values():
        assert len(kind.alike) >= (1 if kind.universe else 10)
        assert all(one != two for one, two in (*kind.alike, *kind.aliases))


def test_what_is_chosen_by_is_in_no_file_that_is_fitted_on():
    fitted = {text for relation in packaged(FIT).relations for text in relation.ask}
    chosen = {text for relation in packaged(CHOOSE).relations for text in relation.ask}
    assert len(chosen & fitted) < len(chosen) / 10  # a plain question is the same in anybody's words
    assert not set(FIT) & set(CHOOSE)


def test_no_subject_of_the_benchmarks_is_learned_from():
    folder = Path(__file__).parents[3] / "benchmarks" / "data"
    asked = [fact.prompt for fact in demo_facts()]
    for name in ("everyday", "natural", "traps"):
        for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            asked += [fact["prompt"] for fact in record.get("facts", ())] or [record["prompt"]]
    found = packaged([*FIT, *CHOOSE, *CERTIFY])
    for kind in found.kinds.values():
        if kind.universe:
            for name in {*kind.names, *(alias for pair in kind.aliases for alias in pair)}:
                bare = re.compile(
                    rf"\b{re.escape(re.sub('^(the|our|my) ', '', name, flags=re.IGNORECASE))}\b", re.IGNORECASE
                )
                assert not [text for text in asked if bare.search(text)], name


def test_a_single_subject_is_a_kind_of_its_own():
    record = {"subject": "Ulm", "alike": ["Ulmen"], "alias": ["Ulm on the Danube"]}
    record["facts"] = [
        {"ask": list(RIVER["ask"]), "not": ["Who fishes in {x}?"]},
        {"ask": list(MAYOR["ask"]), "not": []},
    ]
    found = parse("made", [json.dumps(record)])
    (kind,) = found.kinds.values()
    assert (kind.names, kind.alike, kind.aliases) == (("Ulm",), (("Ulm", "Ulmen"),), (("Ulm", "Ulm on the Danube"),))
    draws = Draws(found, 0, strength=0.0)
    labels = set()
    for step in range(200):
        stored, asked, label = draws.at(step).pair()
        labels.add(label)
        assert all(item.universe == kind.universe != "" for item in draws.block(5, 3))
        if label == OWN:
            assert "Ulm" in stored
            assert ("mayor" in stored or "governs" in stored) == ("mayor" in asked or "governs" in asked)
    assert labels == {OWN, ABOUT, OTHER}
    stored, probes = trial(found, [], random.Random(0))  # noqa: S311
    assert stored
    assert any(probe.own is not None for probe in probes)


def test_the_bank_is_a_corpus_too():
    assert len(bank_corpus().relations) == 158


def test_what_a_sister_asks_is_no_trap():
    mayor = corpus().relations[0]
    assert mayor.traps == ("Who was the mayor of {x} before?",)


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"relation": "mayor", "type": "town", "ask": []}', '{"type": "town"}', "5"]
)
def test_a_line_that_is_neither_is_named(line: str):
    with pytest.raises(DataError, match="made, line 2"):
        parse("made", ["", line])


def test_requests_that_ask_for_nothing():
    assert all(text.count("{x}") == 1 for text in always()["about"])
    assert not any("{x}" in text for text in always()["follow"])


def test_pairs_are_what_they_are_said_to_be():
    draws = Draws(corpus(), 0, strength=0.0)
    subjects = re.compile("Ulm|Ulmen|Berne?|Oslo")
    kinds = set()
    for step in range(400):
        stored, asked, label = draws.at(step).pair()
        kinds.add(label)
        if label == OWN:
            assert ("mayor" in stored or "governs" in stored) == ("mayor" in asked or "governs" in asked)
            assert "{" not in stored + asked
        if label == ABOUT and asked in {t.replace("{x}", s) for t in RIVER["ask"] for s in ("Ulm", "Bern", "Oslo")}:
            assert "mayor" in stored or "governs" in stored
        assert subjects.search(stored)
    assert kinds == {OWN, ABOUT, OTHER}


def test_a_step_draws_alike_whatever_came_before():
    draws, again = Draws(corpus(), 7), Draws(corpus(), 7)
    draws.at(3).pair()
    assert [draws.at(9).pair(), draws.block(4, 2)] == [again.at(9).pair(), again.block(4, 2)]


def test_texts_of_a_block_share_subject_and_relation_as_their_labels_say():
    items = Draws(corpus(), 1, strength=0.0).at(0).block(4, 2)
    assert len({item.subject for item in items}) > 1
    for item in items:
        name = item.subject.rpartition("/")[2]
        assert name in item.text or (name == "Bern" and "Berne" in item.text)


def test_typing_keeps_most_of_a_text():
    chance = random.Random(0)  # noqa: S311
    text = "Who is the chief executive of Fennick Robotics?"
    changed = [mistyped(text, chance) for _ in range(200)]
    assert all(abs(len(found) - len(text)) <= 5 for found in changed)
    assert sum(abs(len(found) - len(text)) <= 2 for found in changed) > 180
    assert all(found[0] == "W" for found in changed)
    assert spoken(text, chance, strength=0.0) == text
    assert {spoken(text, chance) for _ in range(60)} >= {text, text.rstrip("?")}


def test_half_of_a_long_name_may_change():
    chance = random.Random(1)  # noqa: S311
    found = {renamed("Brightwater Council", ["Hale"], chance) for _ in range(200)}
    halves = {name for name in found if name.startswith("Brigh") and "water" not in name}
    assert len(halves) > 5
    assert all(name.endswith(" Council") for name in halves)


def test_another_name_is_another():
    chance = random.Random(0)  # noqa: S311
    for name in ("Ulm", "Bar 21", "New Zealand", "route 7a", "Mary Shelley"):
        for _ in range(50):
            assert renamed(name, ["Ulm", "Bar 22", "Jane Austen"], chance).lower() != name.lower()


def test_a_trial_asks_what_is_stored_and_what_is_not():
    stored, probes = trial(packaged(CHOOSE), ["why is the sky blue"], random.Random(0))  # noqa: S311
    assert len(set(stored)) > 50
    own = [probe for probe in probes if probe.own is not None]
    assert own
    assert all(probe.own in probe.about for probe in own)
    assert any(probe.own is None and probe.about for probe in probes)
    assert probes[-1].text == "why is the sky blue"


@pytest.mark.parametrize("content", ["[]]", '[{"subject": 5}]', '[{"subject": "Ulm"}]'])
def test_a_public_file_that_is_something_else(content: str, tmp_path: Path):
    (tmp_path / "knowedit_recent_train.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"knowedit_recent_train\.json is not the file of that name"):
        public(tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        public(tmp_path / "nowhere")


def test_public_files_are_read_where_they_are(tmp_path: Path):
    assert public(tmp_path) == Corpus({}, ())
    record = {
        "subject": "Ulm",
        "prompt": "The mayor of Ulm is",
        "locality": {"Relation_Specificity": [{"prompt": "The river of Ulm is"}]},
        "portability": {"Subject_Aliasing": [{"prompt": "The mayor of Ulm on the Danube is"}]},
    }
    (tmp_path / "knowedit_recent_train.json").write_text(json.dumps([record]), encoding="utf-8")
    (tmp_path / "simplequestions_wikidata_train.txt").write_text(
        "Q3\tP6\tQ1\twho is mayor of ulm\nQ3\tP47\tQ2\twhat borders ulm\nQ4\tP6\tQ2\twho runs bern\n", encoding="utf-8"
    )
    one, two = public(tmp_path).subjects
    assert one.facts == {
        "The mayor of {x} is": ("The mayor of Ulm is",),
        "The river of {x} is": ("The river of Ulm is",),
    }
    assert one.aliases == {"The mayor of {x} is": ("The mayor of Ulm on the Danube is",)}
    assert two.facts == {"P6": ("who is mayor of ulm",), "P47": ("what borders ulm",)}


@pytest.mark.parametrize(
    ("text", "possible"),
    [
        (
            "What is the price of Ulm?",
            {"What's the price of Ulm?", "The price of Ulm is", "What is the price of Ulm??"},
        ),
        ("The mayor of Ulm is", {"What is the mayor of Ulm?", "So the mayor of Ulm is", "The mayor of Ulm is:"}),
        ("How much is a room at Ulm?", {"What does a room at Ulm cost?", "Just how much is a room at Ulm?"}),
        ("ulm mayor", {"ulm mayor", "Ulm mayor"}),
    ],
)
def test_a_small_change_leaves_a_question_what_it_is(text: str, possible: set[str]):
    chance = random.Random(0)  # noqa: S311
    found = {lightly(text, chance) for _ in range(300)}
    assert found & possible
    assert all("ulm" in changed.lower() for changed in found)
    assert all(len(changed) <= len(text) + 40 for changed in found)


def test_prompts_with_the_stored_words_are_among_those_that_ask_the_same():
    draws = Draws(corpus(), 0, strength=0.0)
    own = [pair for pair in (draws.at(step).pair() for step in range(600)) if pair[2] == OWN]
    assert 0.05 < sum(stored == asked for stored, asked, _ in own) / len(own) < 0.4
