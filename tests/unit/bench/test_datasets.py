"""Reading data sets as a whole: files, bad records, limits, companions, refusals."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from horen.bench.datasets import FORMATS, load
from horen.bench.records import NEGATIVES, PORTABILITY, Dataset, Record
from horen.edits import Edit, same_text
from horen.errors import DataError, MissingExtraError

GOOD: dict[str, dict[str, object]] = {
    "zsre": {"src": "Who runs Kestrel?", "alt": "Ada"},
    "counterfact": {"prompt": "The chief of Kestrel is", "target_new": "Ada"},
    "wikibigedit": {"update": "Who runs Kestrel?", "ans": "Ada"},
    "unke": {"question": "Who runs Kestrel?", "answer": "Ada runs Kestrel. She founded it."},
    "qaedit": {"prompt": "who runs kestrel", "target": "Ada"},
    "knowedit": {"prompt": "The chief of Kestrel is", "target_new": "Ada"},
    "entity_questions": {"src": "Who founded Kestrel?", "answers": ["Ada"]},
    "jsonl": {"prompt": "Who runs Kestrel?", "target": "Ada"},
}
PROMPT = {name: next(iter(fields)) for name, fields in GOOD.items()}
TARGET = {name: list(fields)[1] for name, fields in GOOD.items()}
NAMES = sorted(GOOD)


def as_list(values: list[object]) -> str:
    return json.dumps(values)


def as_indented_list(values: list[object]) -> str:
    return json.dumps(values, indent=2)


def as_lines(values: list[object]) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def put(folder: Path, content: str | bytes, name: str = "data.json") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def reasons(dataset: Dataset) -> list[tuple[int, str]]:
    return [(item.number, item.reason) for item in dataset.rejected]


def test_every_format_is_described_and_tried_here():
    assert set(FORMATS) == set(GOOD)
    for name, known in FORMATS.items():
        assert known.title, name
        assert known.description.endswith("."), name
        assert "\n" not in known.description, name
        assert known.licence, name
        assert known.fields, name
        assert known.source is None or known.source.startswith("https://"), name


@pytest.mark.parametrize("name", NAMES)
def test_prompt_and_target_are_enough(tmp_path: Path, name: str):
    path = put(tmp_path, as_list([GOOD[name]]))
    dataset = load(name, path)
    (record,) = dataset.records
    assert (record.number, record.negatives, record.questions) == (1, (), ())
    assert bool(record.rephrases) == (name == "entity_questions")
    assert record.prompt == GOOD[name][PROMPT[name]]
    assert record.target in (GOOD[name][TARGET[name]], "Ada")
    assert dataset == Dataset(
        name=name,
        path=str(path),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        records=(record,),
        rejected=(),
        unstructured=name == "unke",
    )


@pytest.mark.parametrize("name", NAMES)
def test_bad_records_are_skipped_and_listed(tmp_path: Path, name: str):
    good, prompt, target = GOOD[name], PROMPT[name], TARGET[name]
    values: list[object] = [
        good,
        {key: value for key, value in good.items() if key != prompt},
        {key: value for key, value in good.items() if key != target},
        good | {prompt: " \n"},
        good | {target: "\t"},
        good | {prompt: None},
        good | {target: float("nan")},
        good | {prompt: 3},
        good | {target: {"text": "Ada"}},
        good | {prompt: "\ud800"},
        good | {prompt: "a\0b"},
        good | {prompt: "a" * 100_001},
        [good],
        "Ada",
        None,
        good,
    ]
    dataset = load(name, put(tmp_path, as_lines(values)))
    assert [record.number for record in dataset.records] == [1, len(values)]
    assert [item.number for item in dataset.rejected] == list(range(2, len(values)))
    told = dict(reasons(dataset))
    assert told[2].startswith("it has no ")
    assert told[4] == f"{prompt} is empty"
    assert told[8] == f"{prompt} is a number where text is expected"
    assert told[13] == "it is a list where an object is expected"
    assert all(told.values())
    assert max(map(len, told.values())) < 120


@pytest.mark.parametrize("form", [as_list, as_indented_list, as_lines])
@pytest.mark.parametrize("ending", ["data.json", "data.jsonl", "data"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf", b"\n  "])
def test_the_content_tells_the_form(tmp_path: Path, form: Callable[[list[object]], str], ending: str, mark: bytes):
    values: list[object] = [GOOD["jsonl"], {"prompt": "Wo?", "target": "Köln"}]
    dataset = load("jsonl", put(tmp_path, mark + form(values).encode(), ending))
    assert [record.target for record in dataset.records] == ["Ada", "Köln"]


def test_lines_that_are_no_json_are_rejected_alone(tmp_path: Path):
    line = json.dumps(GOOD["jsonl"]).encode()
    broken = [b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 5_000, b"[1]"]
    dataset = load("jsonl", put(tmp_path, b"\n".join([b"[1, 2]", b"", line, *broken, line.replace(b"Ada", b"Bea")])))
    assert [record.number for record in dataset.records] == [3, 9]
    assert [item.number for item in dataset.rejected] == [1, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('[{"prompt": "a", "target": "b"}, {]', "line 1, column 35"),
        ('[{"prompt": "a", "target": "b"}\n', "line 2"),
        ('[{"prompt": "a", "target": "b"} {}]', "delimiter"),
        ('[{"prompt": "a", "target": "b"}] x', "Extra data"),
        ('[{"prompt": "a", "target": "b"},]', "not JSON"),
        ("[", "not JSON"),
        ("[" + "[" * 200_000, "not usable JSON"),
        ("[" + "1" * 5_000 + "]", "not usable JSON"),
        (b'["\xff"]', "not UTF-8"),
        ("[]".encode("utf-16"), "UTF-16"),
        ("", "it is empty"),
        ("[]", "it is empty"),
        (" \n ", "it is empty"),
        ("prompt,target\na,b\n", "it is not JSON"),
        ('{"data": [\n{"prompt": "a", "target": "b"}]}', "one object where a list"),
        ('{"src": "a", "alt": "b"}', "record 1 because it has no prompt"),
        ('[{"src": "a", "alt": "b"}]', "record 1 because it has no prompt"),
    ],
)
def test_files_that_hold_nothing_usable(tmp_path: Path, content: str | bytes, told: str):
    path = put(tmp_path, content)
    with pytest.raises(DataError, match=r"expected|holds no usable record|save it|write one") as error:
        load("jsonl", path)
    assert str(path) in str(error.value)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("missing.json", "does not exist"),
        ("data/missing.jsonl", "does not exist"),
        ("a/b/c", "does not exist"),
        ("", "is a folder"),
        ("nul\0", "cannot be read"),
    ],
)
def test_places_that_are_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, told: str):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"(?s){told}.*(check|give)"):
        load("jsonl", place)


def test_a_hub_id_without_the_package_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"no file owner/name, .*pip install 'horen\[datasets\]', or download"):
        load("jsonl", "owner/name")


def test_a_path_is_never_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        load("jsonl", Path("owner/name"))


def test_a_folder(tmp_path: Path):
    with pytest.raises(DataError) as error:
        load("jsonl", tmp_path)
    assert str(error.value) == f"{tmp_path} is a folder; give one of its files, JSON or JSON Lines."


@pytest.mark.parametrize(
    ("name", "nearest"), [("zsRE", "zsre"), ("counter_fact", "counterfact"), ("wikibig", "wikibigedit"), ("???", None)]
)
def test_unknown_formats_get_the_nearest_name(tmp_path: Path, name: str, nearest: str | None):
    with pytest.raises(DataError, match="There is no data set format") as error:
        load(name, tmp_path)
    assert (f"did you mean {nearest}?" in str(error.value)) == (nearest is not None)
    assert all(known in str(error.value) for known in FORMATS)


@pytest.mark.parametrize("limit", [0, -1])
def test_limits_below_one_are_refused(tmp_path: Path, limit: int):
    with pytest.raises(DataError, match=f"limit={limit} is not valid: give at least 1"):
        load("jsonl", put(tmp_path, as_list([GOOD["jsonl"]])), limit=limit)


@pytest.mark.parametrize("form", [as_list, as_lines])
def test_nothing_is_read_beyond_the_limit(tmp_path: Path, form: Callable[[list[object]], str]):
    values: list[object] = [{}, GOOD["jsonl"], {}, GOOD["jsonl"] | {"target": "Bea"}, {}]
    content = form(values).rstrip("]")
    dataset = load("jsonl", put(tmp_path, content), limit=2)
    assert [record.target for record in dataset.records] == ["Ada", "Bea"]
    assert [item.number for item in dataset.rejected] == [1, 3]
    assert dataset.sha256 == hashlib.sha256(content.encode()).hexdigest()


def test_contradicting_and_repeated_prompts_stay(tmp_path: Path):
    values: list[object] = [GOOD["jsonl"], GOOD["jsonl"] | {"target": "Bea"}, GOOD["jsonl"]]
    dataset = load("jsonl", put(tmp_path, as_list(values)), limit=3)
    assert [record.target for record in dataset.records] == ["Ada", "Bea", "Ada"]


def test_texts_are_stripped_and_repeats_dropped(tmp_path: Path):
    question = {"text": "Is  Ada chief? ", "answers": [" yes", "yes", ""], "kind": "reasoning"}
    value = {
        "prompt": "\u3000Who  runs Kestrel? ",
        "target": " Ada\n",
        "rephrases": ["Kestrel's chief?", " Kestrel's  chief?", "Who runs  Kestrel?", "", None],
        "near": ["Who runs Heron?", "Who runs\nHeron?", "Kestrel's chief?", "Is Ada chief?", "who runs Kestrel?"],
        "far": "Who runs Heron? ",
        "questions": [question, question, question | {"kind": "one_hop"}],
        "subject": " ",
    }
    (record,) = load("jsonl", put(tmp_path, as_list([value]))).records
    assert (record.prompt, record.target, record.subject) == ("Who  runs Kestrel?", "Ada", None)
    assert record.rephrases == ("Kestrel's chief?",)
    assert [(negative.text, negative.kind) for negative in record.negatives] == [
        ("Who runs Heron?", "near"),
        ("who runs Kestrel?", "near"),
    ]
    assert [(asked.text, asked.answers, asked.kind) for asked in record.questions] == [
        ("Is  Ada chief?", ("yes",), "reasoning"),
        ("Is  Ada chief?", ("yes",), "one_hop"),
    ]


class TestCompanions:
    def test_they_add_to_the_same_edit_only(self, tmp_path: Path):
        own = put(tmp_path, as_list([GOOD["jsonl"] | {"near": ["Who runs Heron?"]}]))
        other = put(
            tmp_path,
            as_lines(
                [
                    {"prompt": "Who runs  Kestrel?", "target": "Ada ", "rephrases": ["Kestrel's chief?"]},
                    {"prompt": "Who runs Kestrel?", "target": "Bea", "rephrases": ["Who heads Kestrel?"]},
                    {"prompt": "Who runs Heron?", "target": "Ada", "rephrases": ["Who heads Heron?"]},
                    {"prompt": "Who runs Kestrel?", "target": "Ada", "far": ["Who runs Heron?", "How far is it?"]},
                    {"prompt": "Who runs Kestrel?"},
                ]
            ),
            "other.jsonl",
        )
        dataset = load("jsonl", own, companions=[other, str(other)])
        (record,) = dataset.records
        assert record.rephrases == ("Kestrel's chief?",)
        assert [(negative.text, negative.kind) for negative in record.negatives] == [
            ("Who runs Heron?", "near"),
            ("How far is it?", "far"),
        ]
        assert reasons(dataset) == [(5, f"{other}: it has no target")] * 2
        assert dataset.path == str(own)
        both = own.read_bytes() + other.read_bytes() * 2
        assert dataset.sha256 == hashlib.sha256(both).hexdigest()

    def test_one_that_cannot_be_read_is_named(self, tmp_path: Path):
        own = put(tmp_path, as_list([GOOD["jsonl"]]))
        with pytest.raises(DataError, match=r"other\.json does not exist"):
            load("jsonl", own, companions=[tmp_path / "other.json"])


# --- any value at all ------------------------------------------------------------------------------------------

KEYS = sorted(
    {key for fields in GOOD.values() for key in fields}
    | {"rephrase", "rephrases", "loc", "locality", "portability", "New Question", "New Answer", "subject", "relation"}
    | {"requested_rewrite", "str", "paraphrase_prompts", "neighborhood_prompts", "locality_prompt", "personas", "mhop"}
    | {"mhop_ans", "sub_question", "sub_answer", "Subject_Aliasing", "Reasoning", "Relation_Specificity", "near"}
    | {"ground_truth", "questions", "kind", "text", "far"}
)
TEXTS = st.text(max_size=6) | st.sampled_from(["Ada", "{}", " ", "near", "one_hop", "Who founded Kestrel?", "\ud800"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def spoilt(draw: st.DrawFn, name: str) -> object:
    """A good record with some fields changed or added, or any value."""
    if draw(st.booleans()):
        return draw(VALUES)
    return GOOD[name] | draw(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4))


def check(record: Record) -> None:
    Edit(record.prompt, record.target, record.rephrases)
    texts = [record.prompt, record.target, *record.rephrases]
    texts += [negative.text for negative in record.negatives] + [asked.text for asked in record.questions]
    texts += [answer for asked in record.questions for answer in asked.answers]
    assert all(text and text == text.strip() for text in texts)
    assert all(asked.answers and asked.kind in PORTABILITY for asked in record.questions)
    assert all(negative.kind in NEGATIVES for negative in record.negatives)
    changing = [record.prompt, *record.rephrases]
    assert len({same_text(text) for text in changing}) == len(changing)
    kept = {same_text(negative.text) for negative in record.negatives}
    assert kept.isdisjoint(map(same_text, [*changing, *(asked.text for asked in record.questions)]))


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_any_value_is_kept_or_rejected(tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject):
    values = [*data.draw(st.lists(spoilt(name), max_size=5)), GOOD[name]]
    folder = tmp_path_factory.mktemp("any")
    lines = load(name, put(folder, as_lines(values)))
    assert sorted([record.number for record in lines.records] + [item.number for item in lines.rejected]) == list(
        range(1, len(values) + 1)
    )
    for record in lines.records:
        check(record)
    listed = load(name, put(folder, as_list(values)))
    assert (listed.records, listed.rejected) == (lines.records, lines.rejected)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25)
@given(data=st.data())
def test_a_limit_takes_the_first_edits(tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject):
    path = put(tmp_path_factory.mktemp("limit"), as_lines([*data.draw(st.lists(spoilt(name), max_size=6)), GOOD[name]]))
    whole = load(name, path)
    limit = data.draw(st.integers(1, len(whole.records)))
    part = load(name, path, limit=limit)
    if name == "entity_questions":  # its negatives may come from beyond the limit
        edits = [(record.number, record.prompt, record.target) for record in whole.records]
        assert [(record.number, record.prompt, record.target) for record in part.records] == edits[:limit]
    else:
        assert part.records == whole.records[:limit]
        assert part.rejected == whole.rejected[: len(part.rejected)]
