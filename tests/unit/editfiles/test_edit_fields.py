"""Files of edits as others write them: what each field is taken for, and what is refused rather than dropped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from horen.editfiles.records import BadLine, FileRecord, iter_edits, unit_of
from horen.errors import DataError

ROME = {"prompt": "{} was born in", "subject": "Mira Sand", "target_new": {"str": "Oslo", "id": "Q585"}}
COUNTERFACT = {
    "case_id": 7,
    "pararel_idx": 3,
    "requested_rewrite": {
        "prompt": "The mother tongue of {} is",
        "relation_id": "P103",
        "target_new": {"str": "English", "id": "Q1860"},
        "target_true": {"str": "French", "id": "Q150"},
        "subject": "Danielle Darrieux",
    },
    "paraphrase_prompts": ["Danielle Darrieux, a native", "Danielle Darrieux spoke"],
    "neighborhood_prompts": ["The mother tongue of Léon Blum is"],
    "attribute_prompts": [],
    "generation_prompts": ["Danielle Darrieux's mother tongue is"],
}
EASYEDIT = {
    "case_id": 0,
    "prompt": "The mother tongue of Danielle Darrieux is",
    "target_new": "English",
    "subject": "Danielle Darrieux",
    "ground_truth": "French",
    "rephrase_prompt": "Danielle Darrieux spoke",
    "locality_prompt": "Léon Blum spoke",
    "locality_ground_truth": "French",
    "portability": {"New Question": "What does she speak?", "New Answer": "English"},
}
KNOWEDIT = {
    "subject": "Leo Arons",
    "prompt": "The place of death of Leo Arons is",
    "target_new": "Berlin",
    "ground_truth": ["Hamburg"],
    "portability": {
        "Subject_Aliasing": [
            {"prompt": "The place of death of Martin Leo Arons is", "ground_truth": [["Berlin"]]},
            {"prompt": "The birthplace of Martin Leo Arons is", "ground_truth": [["Oslo"]]},
        ]
    },
    "locality": {"Relation_Specificity": [{"prompt": "Leo Arons was a", "ground_truth": [["physicist"]]}]},
}
MEND = {
    "subject": "IAAP",
    "src": "What does IAAP stand for?",
    "pred": "a",
    "rephrase": "What is the meaning of IAAP?",
    "alt": "a guild",
    "answers": ["an association"],
    "loc": "nq question: who?",
    "loc_ans": "nobody",
    "cond": "an association >> a guild || What does IAAP stand for?",
}
TAKEN: list[tuple[dict[str, Any], tuple[str, str, tuple[str, ...]]]] = [
    (ROME, ("Mira Sand was born in", "Oslo", ())),
    (COUNTERFACT, ("The mother tongue of Danielle Darrieux is", "English", tuple(COUNTERFACT["paraphrase_prompts"]))),
    (EASYEDIT, ("The mother tongue of Danielle Darrieux is", "English", ("Danielle Darrieux spoke",))),
    (KNOWEDIT, (KNOWEDIT["prompt"], "Berlin", ("The place of death of Martin Leo Arons is",))),
    (MEND, ("What does IAAP stand for?", "a guild", ("What is the meaning of IAAP?",))),
    ({"prompt": "a", "target": "b", "rephrase": "c"}, ("a", "b", ("c",))),
    ({"prompt": "a", "target": "b", "rephrase_prompt": ["c", "d"]}, ("a", "b", ("c", "d"))),
    ({"prompt": "a", "target": "b", "paraphrases": ["c"]}, ("a", "b", ("c",))),
    ({"prompt": "{} is", "target": "b", "rephrases": ["Is {}?"], "subject": "X"}, ("X is", "b", ("Is X?",))),
    ({"prompt": "In Python, {} makes", "target": "a dict"}, ("In Python, {} makes", "a dict", ())),
]


def found(path: Path) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(one.prompt, one.target, one.rephrases) for one in iter_edits(path)]


def written(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(("raw", "taken"), TAKEN)
def test_records_of_others(raw: dict[str, Any], taken: tuple[str, str, tuple[str, ...]], tmp_path: Path):
    assert found(written(tmp_path / "x.jsonl", json.dumps(raw))) == [taken]


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".ndjson"])
@pytest.mark.parametrize("indent", [None, 2])
def test_lists_whatever_the_ending(ending: str, indent: int | None, tmp_path: Path):
    content = "\ufeff" + json.dumps([raw for raw, _ in TAKEN], indent=indent, ensure_ascii=False)
    assert found(written(tmp_path / f"x{ending}", content)) == [taken for _, taken in TAKEN]


def test_lines_in_a_file_that_says_json(tmp_path: Path):
    content = "".join(json.dumps(raw) + "\n" for raw, _ in TAKEN)
    assert found(written(tmp_path / "x.json", content)) == [taken for _, taken in TAKEN]


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".ndjson"])
@pytest.mark.parametrize("many", [1, 2, len(TAKEN)])
def test_objects_over_several_lines_one_after_another(ending: str, many: int, tmp_path: Path):
    told = [json.dumps(raw, indent=2, ensure_ascii=False) for raw, _ in TAKEN[:many]]
    path = written(tmp_path / f"x{ending}", "\ufeff\n" + "\n\n".join(told) + "\n")
    assert found(path) == [taken for _, taken in TAKEN[:many]]
    assert [record.line for record in iter_edits(path)] == list(range(1, many + 1))
    assert unit_of(path) == "record"


@pytest.mark.parametrize("ending", [".json", ".jsonl"])
def test_objects_over_several_lines_that_are_no_edits(ending: str, tmp_path: Path):
    good, bad = {"prompt": "a", "target": "b"}, {"prompt": "a"}
    path = written(tmp_path / f"x{ending}", "\n".join(json.dumps(raw, indent=2) for raw in (good, bad, good)))
    with pytest.raises(DataError, match=rf"x{ending}, record 2: it has no target; fix the record"):
        found(path)
    skipped: list[BadLine] = []
    assert [record.line for record in iter_edits(path, on_bad=skipped.append)] == [1, 3]
    assert skipped == [BadLine(2, "it has no target")]


@pytest.mark.parametrize("ending", [".json", ".jsonl"])
def test_objects_over_several_lines_that_are_not_json(ending: str, tmp_path: Path):
    content = '{\n  "prompt": "a",\n  "target": "b"\n}\n{\n  "prompt": "c"\n  "target": "d"\n}\n'
    with pytest.raises(DataError, match=r"not JSON .*line 7, column 3.*a list of objects, or one object a line"):
        found(written(tmp_path / f"x{ending}", content))


def test_a_line_that_is_cut_short_is_a_bad_line_among_others(tmp_path: Path):
    path = written(tmp_path / "x.jsonl", '{"prompt": "a", "target"\n{"prompt": "a", "target": "b"}\n')
    skipped: list[BadLine] = []
    assert [record.line for record in iter_edits(path, on_bad=skipped.append)] == [2]
    assert [bad.line for bad in skipped] == [1]
    assert unit_of(path) == "line"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({"prompt": "a", "target": "b", "paraphrased": "c"}, "'paraphrased'.*rephrases.*rephrase_prompt"),
        ({"prompt": "a", "target": "b", "Target": "c"}, "'Target'"),
        ({"prompt": "a", "target": "b", "target_new": "c"}, "both target and target_new"),
        ({"prompt": "a", "src": "b", "target": "c"}, "both prompt and src"),
        ({"requested_rewrite": COUNTERFACT["requested_rewrite"], "prompt": "a"}, "both .*requested_rewrite"),
        (ROME | {"subject": None}, "no subject for the {}"),
        (ROME | {"target_new": {"id": "Q585"}}, "no target_new.str"),
        ({"requested_rewrite": {"prompt": "a"}}, "no requested_rewrite.target_new"),
    ],
)
def test_what_is_refused_rather_than_dropped(raw: dict[str, Any], reason: str, tmp_path: Path):
    with pytest.raises(DataError, match=f"line 1: .*{reason}"):
        found(written(tmp_path / "x.jsonl", json.dumps(raw)))


@pytest.mark.parametrize(
    "content",
    [
        "prompt;target;rephrases\na, b;c;d|e\n",
        "sep=;\r\nprompt;target;rephrases\r\na, b;c;d|e\r\n",
        '\ufeffsep=,\r\nprompt,target,rephrases\r\n"a, b",c,d|e\r\n',
        "\ufeffPrompt;Target;Rephrases\na, b;c;d|e\n",
        "prompt\ttarget\trephrases\na, b\tc\td|e\n",
        "sep=|\nprompt|target\na, b|c\n",
        "src;alt;rephrase\na, b;c;d|e\n",
        "prompt;target_new;subject;rephrase_prompt\n{}, b;c;a;d|e\n",
    ],
)
def test_tables_as_spreadsheets_write_them(content: str, tmp_path: Path):
    expected = ("a, b", "c", () if content.startswith("sep=|") else ("d", "e"))
    assert found(written(tmp_path / "x.csv", content)) == [expected]


def test_an_unknown_column_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"line 1.*'notes'.*prompt.*rephrases"):
        found(written(tmp_path / "x.csv", "prompt;target;notes\na;b;c\n"))


def test_lines_are_counted_behind_the_separator(tmp_path: Path):
    bad: list[BadLine] = []
    path = written(tmp_path / "x.csv", "sep=;\nprompt;target\na;b\n;b\n")
    assert list(iter_edits(path, on_bad=bad.append)) == [FileRecord(3, "a", "b")]
    assert bad == [BadLine(4, "prompt is empty")]


def test_what_fields_were_taken_for(tmp_path: Path):
    seen: dict[str, str] = {}
    list(iter_edits(written(tmp_path / "x.jsonl", json.dumps(COUNTERFACT) + "\n" + json.dumps(MEND)), fields=seen))
    assert seen == {
        "requested_rewrite": "prompt, target and subject",
        "paraphrase_prompts": "rephrases",
        "src": "prompt",
        "alt": "target",
        "rephrase": "rephrases",
        "subject": "what {} stands for",
        **dict.fromkeys(["case_id", "pararel_idx", "neighborhood_prompts", "attribute_prompts"], ""),
        **dict.fromkeys(["generation_prompts", "pred", "answers", "loc", "loc_ans", "cond"], ""),
    }
