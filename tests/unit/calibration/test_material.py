"""What a calibration learns from: the bundled bank's parts, and files of the user's own pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from horen.calibration.material import KINDS, Material, Trial
from horen.calibration.pairs import read_pairs
from horen.data import load_bank
from horen.errors import DataError


def texts_of(trial: Trial) -> set[str]:
    return set(trial.texts())


def test_the_bank_gives_thousands_of_pairs_of_many_relations():
    material = Material.of_bank(load_bank())
    assert material.pairs >= 5_000
    assert material == Material.of_bank(load_bank())
    assert len(material.texts()) == len(set(material.texts()))


def test_parts_of_the_bank_share_no_text():
    material = Material.of_bank(load_bank())
    fitted = {text for group in material.groups for text in group} | set(material.background)
    chosen, certified = texts_of(material.choose), texts_of(material.certify)
    assert not fitted & chosen
    assert not fitted & certified
    assert not chosen & certified


def test_negatives_of_the_bank_are_no_edits_and_of_every_kind():
    material = Material.of_bank(load_bank())
    for trial in (material.choose, material.certify):
        edited = {text for fact in trial.facts for text in (fact.prompt, *fact.rephrases)}
        assert not edited & {text for _, text in trial.negatives}
        assert {kind for kind, _ in trial.negatives} == set(KINDS)
        assert len({fact.prompt for fact in trial.facts}) == len(trial.facts)


def write(place: Path, lines: list[dict[str, Any]]) -> Path:
    place.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return place


def line(number: int, **more: Any) -> dict[str, Any]:
    return {"prompt": f"What is fact {number}?", "rephrases": [f"Tell fact {number}"], **more}


def test_a_file_is_split_and_its_negatives_keep_their_kind(tmp_path: Path):
    lines = [line(n, neighbours=[f"What is fact {n + 500}?"], same_subject=[f"Who likes {n}?"]) for n in range(100)]
    material = read_pairs(write(tmp_path / "pairs.jsonl", [*lines, lines[0]]), load_bank())
    assert (len(material.groups), len(material.choose.facts), len(material.certify.facts)) == (40, 20, 40)
    kinds = [kind for kind, _ in material.certify.negatives]
    assert (kinds.count("neighbour"), kinds.count("same_subject")) == (40, 40)
    assert kinds.count("unrelated") > 300  # of the bank


def test_a_negative_that_is_an_edit_is_none(tmp_path: Path):
    lines = [line(n, neighbours=[f"What is fact {m}?" for m in range(100)]) for n in range(100)]
    lines += [line(n) | {"prompt": text} for n, text in enumerate(load_bank().unrelated(3000))]
    material = read_pairs(write(tmp_path / "pairs.jsonl", lines), load_bank())
    for trial in (material.choose, material.certify):
        assert not {fact.prompt for fact in trial.facts} & {text for _, text in trial.negatives}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"prompt": "What?"}, "no rephrases"),
        ({"prompt": "What?", "rephrases": "one text"}, "rephrases is text where a list"),
        ({"prompt": " ", "rephrases": ["x"]}, "prompt is empty"),
        ({"prompt": "What?", "rephrases": ["x"], "neighbours": [3]}, "neighbours is a number"),
        ({"rephrases": ["x"]}, "prompt is null"),
    ],
)
def test_unusable_lines_are_named(tmp_path: Path, bad: dict[str, Any], message: str):
    place = write(tmp_path / "pairs.jsonl", [*(line(n) for n in range(60)), bad])
    with pytest.raises(DataError, match=f"line 61: .*{message}"):
        read_pairs(place, load_bank())


def test_files_that_are_missing_or_too_short(tmp_path: Path):
    with pytest.raises(DataError, match="cannot be read"):
        read_pairs(tmp_path / "none.jsonl", load_bank())
    with pytest.raises(DataError, match="holds 3 facts"):
        read_pairs(write(tmp_path / "pairs.jsonl", [line(n) for n in range(3)]), load_bank())
    (tmp_path / "half.jsonl").write_text('{"prompt": ')
    with pytest.raises(DataError, match="line 1: it is not JSON"):
        read_pairs(tmp_path / "half.jsonl", load_bank())
