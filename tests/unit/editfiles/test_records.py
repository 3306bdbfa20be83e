from __future__ import annotations

import errno
import io
import json
import os
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horen.editfiles.records import BadLine, FileRecord, check_file, iter_edits, write_edits
from horen.edits import Edit
from horen.errors import DataError

GOOD = {"prompt": "The capital of France is", "target": "Lyon"}
REPHRASED = GOOD | {"rephrases": ["France's capital is", "Capital of France:"]}


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def read(path: Path) -> tuple[list[FileRecord], list[BadLine]]:
    bad: list[BadLine] = []
    return list(iter_edits(path, on_bad=bad.append)), bad


def line_of(record: object) -> str:
    return json.dumps(record) + "\n"


# --- round trips -----------------------------------------------------------------------------------------------

TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    | st.sampled_from("\r\n\t\",|;\u2028\x85\ufeff'\\ {}"),
    min_size=1,
    max_size=12,
).filter(str.strip)
CELL = TEXT.filter(lambda text: "|" not in text and text == text.strip())


def edits(rephrase: st.SearchStrategy[str]) -> st.SearchStrategy[list[Edit]]:
    return st.lists(st.builds(Edit, TEXT, TEXT, st.lists(rephrase, max_size=3)), max_size=4)


@given(ending=st.sampled_from([".jsonl", ".ndjson", ".JSONL"]), given_edits=edits(TEXT))
def test_json_lines_round_trip(ending: str, given_edits: list[Edit]):
    check_round_trip(ending, given_edits)


@given(ending=st.sampled_from([".csv", ".tsv"]), given_edits=edits(CELL))
def test_table_round_trip(ending: str, given_edits: list[Edit]):
    check_round_trip(ending, given_edits)


def check_round_trip(ending: str, given_edits: list[Edit]) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / f"edits{ending}"
        assert write_edits(path, given_edits) == len(given_edits)
        found = list(iter_edits(path))
        assert [Edit(r.prompt, r.target, r.rephrases) for r in found] == given_edits
        # What was read is itself something to write.
        write_edits(path, iter(found), overwrite=True)
        assert list(iter_edits(path)) == found
        assert os.listdir(place) == [path.name]  # noqa: PTH208


@given(
    ending=st.sampled_from([".jsonl", ".json", ".csv", ".tsv"]), content=st.binary(max_size=80), header=st.booleans()
)
def test_any_bytes_give_records_or_a_data_error(ending: str, content: bytes, header: bool):
    with tempfile.TemporaryDirectory() as place:
        start = b"prompt,target\n" if ending == ".csv" else b"prompt\ttarget\trephrases\n" if ending == ".tsv" else b""
        path = write(Path(place) / f"x{ending}", (start if header else b"") + content)
        try:
            records, bad = read(path)
        except DataError:
            return
        lines = [item.line for item in (*records, *bad)]
        assert len(set(lines)) == len(lines)
        if bad:
            with pytest.raises(DataError, match=f"{bad[0].line}: "):
                list(iter_edits(path))


# --- reading ---------------------------------------------------------------------------------------------------


def test_json_lines(tmp_path: Path):
    content = "\ufeff" + line_of(GOOD) + "\n  \r\n" + line_of(REPHRASED | {"rephrases": "one", "questions": [1]})
    content += line_of(GOOD | {"rephrases": None}).strip()
    assert list(iter_edits(write(tmp_path / "x.jsonl", content))) == [
        FileRecord(1, GOOD["prompt"], "Lyon"),
        FileRecord(4, GOOD["prompt"], "Lyon", ("one",)),
        FileRecord(5, GOOD["prompt"], "Lyon"),
    ]


def test_json_list(tmp_path: Path):
    path = write(tmp_path / "x.json", "\ufeff" + json.dumps([GOOD, {"prompt": "a"}, REPHRASED], indent=2))
    records, bad = read(path)
    assert [record.line for record in records] == [1, 3]
    assert records[1].rephrases == tuple(REPHRASED["rephrases"])
    assert bad == [BadLine(2, "it has no target")]
    with pytest.raises(DataError, match=r"x\.json, record 2: it has no target; fix the record, or .*--skip-bad"):
        list(iter_edits(path))


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("ending", "separator"), [(".csv", ","), (".tsv", "\t")])
def test_table(tmp_path: Path, ending: str, separator: str, newline: str):
    rows = [
        ["id", " Target", "PROMPT ", "rephrases"],
        ["1", "Lyon", '"The capital, of\tFrance"', "a | b||c "],
        ["", "", "", ""],
        [],
        ["2", '"two\nlines"', '"say ""hi"""'],
        ["3", " kept ", "p", ""],
    ]
    content = newline.join(separator.join(row) for row in rows) + newline
    assert list(iter_edits(write(tmp_path / f"x{ending}", b"\xef\xbb\xbf" + content.encode()))) == [
        FileRecord(2, "The capital, of\tFrance", "Lyon", ("a", "b", "c")),
        FileRecord(5, 'say "hi"', "two\nlines"),
        FileRecord(7, "p", " kept "),
    ]


@pytest.mark.parametrize("ending", [".jsonl", ".ndjson"])
def test_an_empty_file_of_lines_has_no_records(tmp_path: Path, ending: str):
    assert list(iter_edits(write(tmp_path / f"x{ending}", ""))) == []


BAD_JSON = [
    ("[1]", "it is a list where an object"),
    ("null", "it is null where"),
    ('"text"', "it is text where"),
    ("{", "it is not JSON"),
    ("{}", "it has no prompt"),
    (line_of({"prompt": "a"}), "it has no target"),
    (line_of(GOOD | {"prompt": 3}), "prompt is a number where text"),
    (line_of(GOOD | {"target": None}), "target is null where"),
    (line_of(GOOD | {"target": True}), "target is true or false"),
    (line_of(GOOD | {"target": " \t"}), "target is empty"),
    (line_of(GOOD | {"prompt": "a\0b"}), "prompt holds a NUL"),
    (line_of(GOOD | {"prompt": "a\ud800"}), "prompt holds half a character"),
    (line_of(GOOD | {"prompt": "a" * 100_001}), "prompt has 100001 characters"),
    (line_of(GOOD | {"rephrases": 1}), "rephrases is a number"),
    (line_of(GOOD | {"rephrases": {}}), "rephrases is an object"),
    (line_of(GOOD | {"rephrases": ["a", 1]}), "rephrase 2 is a number"),
    (line_of(GOOD | {"rephrases": ["a", ""]}), "rephrase 2 is empty"),
    (line_of(GOOD | {"rephrases": ""}), "rephrase 1 is empty"),
    ("[" * 100_000, "it is not usable JSON"),
    ('{"prompt": ' + "1" * 5000 + "}", "it is not usable JSON"),
]


@pytest.mark.parametrize(("bad_line", "reason"), BAD_JSON)
def test_a_bad_line_of_json(tmp_path: Path, bad_line: str, reason: str):
    path = write(tmp_path / "x.jsonl", line_of(GOOD) + bad_line.strip() + "\n" + line_of(GOOD))
    records, bad = read(path)
    assert [record.line for record in records] == [1, 3]
    assert [item.line for item in bad] == [2]
    assert bad[0].reason.startswith(reason)
    assert check_file(path) == bad
    stream = iter_edits(path)
    assert next(stream).line == 1
    with pytest.raises(
        DataError, match=r"x\.jsonl, line 2: .*; fix the line, or skip bad lines with --skip-bad\."
    ) as e:
        next(stream)
    assert bad[0].reason in str(e.value)


def test_a_line_in_another_encoding(tmp_path: Path):
    latin = json.dumps(GOOD | {"prompt": "Zürich"}, ensure_ascii=False).encode("latin-1")
    records, bad = read(write(tmp_path / "x.jsonl", latin + b"\n" + line_of(GOOD).encode()))
    assert [record.line for record in records] == [2]
    assert bad == [BadLine(1, "it is not UTF-8 text (byte 14 of the line)")]
    records, bad = read(write(tmp_path / "x.csv", b"prompt,target\na,b\nZ\xfcrich,b\nc,d\n"))
    assert [record.line for record in records] == [2, 4]
    assert bad == [BadLine(3, "it is not UTF-8 text (byte 2 of the line)")]


def test_a_line_without_end(tmp_path: Path):
    huge = b'{"prompt": "' + b"a" * (17 * 2**20)
    for name, start in (("x.jsonl", b""), ("x.csv", b"prompt,target\n")):
        path = write(tmp_path / name, start + huge + b"\n" + huge)
        tracemalloc.start()
        try:
            records, bad = read(path)
            assert tracemalloc.get_traced_memory()[1] < 60 * 2**20
        finally:
            tracemalloc.stop()
        first = 1 + bool(start)
        assert not records
        assert bad == [BadLine(first, "it is longer than 16 MiB"), BadLine(first + 1, "it is longer than 16 MiB")]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a", "target is empty"),
        (",b", "prompt is empty"),
        ("a,b,c,d", "it has 4 values where the header row names 3"),
        ('"a"b,c', "it is not a row of the table"),
        ("a\0,b", "prompt holds a NUL"),
        ("a," + "b" * 131_073, "it is not a row of the table (field larger than field limit (131072))"),
    ],
)
def test_a_bad_row(tmp_path: Path, row: str, reason: str):
    path = write(tmp_path / "x.csv", f'prompt,target,rephrases\n"a\nb",c,\n{row}\na,b\n')
    records, bad = read(path)
    assert [record.line for record in records] == [2, 5]
    assert [item.line for item in bad] == [4]
    assert bad[0].reason.startswith(reason)
    with pytest.raises(DataError, match=r"x\.csv, line 4: "):
        list(iter_edits(path))


def test_a_quote_that_is_never_closed(tmp_path: Path):
    _, bad = read(write(tmp_path / "x.csv", 'prompt,target\na,b\n"a,b\nc,d\n'))
    assert bad == [BadLine(3, "it is not a row of the table (a quote is not closed)")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "", "has nothing; add prompt"),
        ("x.csv", "a,b\n", "has 'a,b'; add prompt"),
        ("x.csv", "prompt:target\na:b\n", "separated by commas, but has 'prompt:target'; add prompt"),
        ("x.tsv", "prompt,target\na,b\n", "separated by tabs"),
        ("x.csv", "prompt,goal\n", "add target"),
        ("x.csv", "prompt,target,Prompt\n", "names prompt twice"),
        ("x.csv", b"prompt,target,\xff\n", "the header row cannot be read"),
        ("x.csv", '"prompt,target\n', "the header row cannot be read"),
        ("x.json", "", "is not JSON"),
        (
            "x.json",
            '{"prompt": "a",\n"target" "b"}',
            r"is not JSON \(Expecting ':' delimiter, line 2, column 10\).*\.jsonl",
        ),
        ("x.json", "7", "holds a number where a list"),
        ("x.json", b'["\xff"]', r"is not UTF-8 text \(byte 3\)"),
        ("x.json", "[" * 100_000, "is not usable JSON"),
        ("x.jsonl", line_of(GOOD).encode("utf-16"), "UTF-16 text where UTF-8 is expected"),
        ("x.txt", "", r"must end in \.jsonl, \.ndjson, \.json, \.csv or \.tsv"),
        ("jsonl", "", "must end in"),
    ],
)
def test_a_file_that_cannot_be_used_at_all(tmp_path: Path, name: str, content: str | bytes, message: str):
    path = write(tmp_path / name, content)
    for attempt in (lambda: list(iter_edits(path)), lambda: check_file(path)):
        with pytest.raises(DataError, match=message) as caught:
            attempt()
        assert str(path) in str(caught.value)


def test_a_path_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # These show before the first record is asked for.
    with pytest.raises(DataError, match=r"nowhere\.jsonl does not exist"):
        iter_edits(tmp_path / "nowhere.jsonl")
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(DataError, match=r"x\.csv is a folder"):
        iter_edits(tmp_path / "x.csv")
    path = write(tmp_path / "x.jsonl", line_of(GOOD))
    stream = iter_edits(path)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(io, "open", refuse)
    with pytest.raises(DataError, match="Permission denied"):
        iter_edits(path)
    with pytest.raises(DataError, match="Permission denied"):
        next(stream)


def test_an_error_of_the_callback_passes_through(tmp_path: Path):
    def closed(_: BadLine) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        list(iter_edits(write(tmp_path / "x.jsonl", "{}\n"), on_bad=closed))


@pytest.mark.parametrize("ending", [".jsonl", ".csv"])
def test_reading_takes_constant_memory(tmp_path: Path, ending: str):
    path = tmp_path / f"x{ending}"
    write_edits(path, (Edit(f"prompt {i}", "t" * 400) for i in range(20_000)))
    assert path.stat().st_size > 8_000_000
    tracemalloc.start()
    try:
        assert sum(1 for _ in iter_edits(path)) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


# --- writing ---------------------------------------------------------------------------------------------------


def test_what_is_written_is_plain(tmp_path: Path):
    records = [Edit("Zürich is in", "Uri"), Edit("a", "b", ["c", "d"])]
    write_edits(tmp_path / "x.jsonl", records)
    write_edits(tmp_path / "x.csv", records)
    assert (tmp_path / "x.jsonl").read_bytes().decode() == (
        '{"prompt": "Zürich is in", "target": "Uri"}\n{"prompt": "a", "target": "b", "rephrases": ["c", "d"]}\n'
    )
    assert (tmp_path / "x.csv").read_bytes().decode() == ("prompt,target,rephrases\r\nZürich is in,Uri,\r\na,b,c|d\r\n")


def test_an_existing_file_is_kept_unless_allowed(tmp_path: Path):
    path = write(tmp_path / "x.jsonl", "mine")
    with pytest.raises(DataError, match="exists already"):
        write_edits(path, [Edit("a", "b")])
    assert path.read_text() == "mine"
    write_edits(path, [Edit("a", "b")], overwrite=True)
    assert list(iter_edits(path)) == [FileRecord(1, "a", "b")]

    def meanwhile() -> object:
        (tmp_path / "y.jsonl").write_text("mine")
        yield Edit("a", "b")

    with pytest.raises(DataError, match="exists already"):
        write_edits(tmp_path / "y.jsonl", meanwhile())  # type: ignore[arg-type]
    assert (tmp_path / "y.jsonl").read_text() == "mine"
    assert {entry.name for entry in tmp_path.iterdir()} == {"x.jsonl", "y.jsonl"}


@pytest.mark.parametrize(
    ("name", "rephrases", "message"),
    [
        ("x.csv", ["a|b"], r"record 2: rephrases do not fit.*\.jsonl"),
        ("x.csv", [" a"], "record 2: rephrases do not fit"),
        ("x.tsv", ["a" * 90_000, "b" * 90_000], "record 2: rephrases do not fit"),
        ("x.jsonl", ["a\0"], "record 2: rephrase 1 holds a NUL"),
        ("x.jsonl", ["\ud800"], "record 2: rephrase 1 holds half"),
        ("x.json", [], r"must end in \.jsonl, \.ndjson, \.csv or \.tsv"),
        ("x", [], "must end in"),
        ("nowhere/x.csv", [], "cannot be written"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, name: str, rephrases: list[str], message: str):
    with pytest.raises(DataError, match=message):
        write_edits(tmp_path / name, [FileRecord(1, "a", "b", ()), FileRecord(2, "c", "d", tuple(rephrases))])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_not_overwritten(tmp_path: Path):
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        write_edits(tmp_path / "x.csv", [], overwrite=True)


def full() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["fsync", "replace"])
@pytest.mark.parametrize(("fail", "error"), [(full, DataError), (interrupt, KeyboardInterrupt)])
def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, fail: Callable[[], None], error: type[BaseException]
):
    path = write(tmp_path / "x.jsonl", "mine")
    monkeypatch.setattr(os, name, lambda *_: fail())
    with pytest.raises(error):
        write_edits(path, [Edit("a", "b")], overwrite=True)
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]
