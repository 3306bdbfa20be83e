"""The plain folder of a store's edits: text that people read, compare and send in, beside the rows of trained edits.

``edits.jsonl`` has an edit a line, in the order of their ids and always with the same order of fields, so that a change
of a few edits is a change of a few lines. ``rows.safetensors`` has their keys and values, and ``store.json`` says of
which model and settings they are. A line that somebody has written by hand has no rows; one whose texts were changed
by hand has none either.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from horen._version import __version__
from horen.database.rows import Layout
from horen.errors import DataError, MismatchError, StoreError
from horen.store.content import why
from horen.store.disk import make_folder, sync_directory, write_file

EDITS, ROWS, STORE = "edits.jsonl", "rows.safetensors", "store.json"
#: The newest form of such a folder that is known.
FORMAT = 1
_KIND = "edits of a store"
#: The fields of a line, in their order.
FIELDS = (
    *("id", "prompt", "rephrases", "target", "subject", "tags", "set", "author", "reason", "source", "created"),
    *("state", "replaces", "receipt"),
)
_NEEDED = ("prompt", "target")
_TEXTS = ("prompt", "target", "subject", "set", "author", "reason", "source", "created", "state")
_STATES = (None, "published", "retired")
_MARK = 16


@dataclass(frozen=True)
class Line:
    """An edit of a plain folder.

    Attributes:
        number: of its line, from 1.
        told: its fields; those that are not there are None or empty.
    """

    number: int
    told: Mapping[str, Any]

    @property
    def mark(self) -> bytes:
        """What tells its texts from others, so that rows are not taken for those of changed texts."""
        return mark_of(self.told["prompt"], self.told["rephrases"], self.told["target"])


@dataclass(frozen=True)
class Rows:
    """Rows of edits, each of which has some in ``tensors``.

    Attributes:
        places: by an edit's mark the number of its first entry and how many, of its first value and how many.
        tensors: of entries and of values, by name.
    """

    places: Mapping[bytes, tuple[int, int, int, int]] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def entries(self, mark: bytes, name: str) -> Tensor:
        """Return an edit's rows of a table of entries."""
        first, count, _, _ = self.places[mark]
        return self.tensors[name][first : first + count]

    def values(self, mark: bytes, name: str) -> Tensor:
        """Return an edit's rows of a table of values."""
        _, _, first, count = self.places[mark]
        return self.tensors[name][first : first + count]


@dataclass(frozen=True)
class Plain:
    """What a plain folder holds.

    Attributes:
        path: the folder.
        about: what it says of the store that it is from.
        lines: the edits.
        rows: of those that are trained.
    """

    path: Path
    about: Mapping[str, Any]
    lines: tuple[Line, ...]
    rows: Rows


def mark_of(prompt: str, rephrases: Sequence[str], target: str) -> bytes:
    """Return the mark of an edit's texts."""
    said = json.dumps([prompt, list(rephrases), target])
    return hashlib.blake2b(said.encode(), digest_size=_MARK).digest()


def write_plain(path: Path, about: Mapping[str, Any], lines: Iterable[Mapping[str, Any]], rows: Rows) -> None:
    """Write a plain folder; what one held before is replaced.

    Raises:
        StoreError: when it cannot be written, or holds something else.
    """
    _check_target(path)
    places = list(rows.places.items())
    tensors = {name: tensor.contiguous() for name, tensor in rows.tensors.items()}
    tensors["mark"] = torch.tensor([list(mark) for mark, _ in places], dtype=torch.uint8).reshape(-1, _MARK)
    tensors["place"] = torch.tensor([place for _, place in places], dtype=torch.int64).reshape(-1, 4)
    content = save(tensors)
    told = {"kind": _KIND, "format": FORMAT, "horen_version": __version__, **about}
    told["rows"] = hashlib.sha256(content).hexdigest()
    text = "".join(json.dumps({name: line[name] for name in FIELDS}, ensure_ascii=False) + "\n" for line in lines)
    files = {
        ROWS: content,
        EDITS: text.encode(),
        STORE: (json.dumps(told, ensure_ascii=False, indent=2) + "\n").encode(),
    }
    make_folder(path)
    try:
        for name, data in files.items():
            write_file(path / (name + ".part"), [data])
        for name in files:
            (path / (name + ".part")).replace(path / name)
        sync_directory(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({why(error)}): remove the cause, and export again.") from error


def read_plain(path: Path) -> Plain:
    """Read a plain folder.

    Raises:
        StoreError: when it is none, is incomplete, or its rows are damaged.
        MismatchError: when a newer release wrote it.
        DataError: when a line is no edit.
    """
    about = _about(path)
    content = _read(path, ROWS)
    if hashlib.sha256(content).hexdigest() != about.get("rows"):
        raise StoreError(f"{path / ROWS} is not what was written beside {STORE}: take both from the same export.")
    try:
        text = _read(path, EDITS).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path / EDITS} is not UTF-8 text ({error}): save it as that.") from error
    lines = tuple(_line(path, number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())
    seen: dict[int, int] = {}
    for line in lines:
        number = line.told["id"]
        if number is not None and seen.setdefault(number, line.number) != line.number:
            raise DataError(
                f"{path / EDITS}: lines {seen[number]} and {line.number} both have the id {number}: leave the id of a "
                "new edit out."
            )
    return Plain(path, about, lines, _rows(path, content))


def _check_target(path: Path) -> None:
    if (path / STORE).exists():
        _about(path)
        return
    for name in (EDITS, ROWS, "config.json"):
        if (path / name).exists():
            raise StoreError(f"{path} holds a file {name} that is of no export: choose another folder.")


def _about(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(_read(path, STORE))
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path / STORE} is not JSON ({error}): take it from an export.") from error
    if not isinstance(told, dict) or told.get("kind") != _KIND or type(told.get("format")) is not int:
        raise StoreError(f"{path / STORE} is of no export of a store: give the folder that horen export wrote.")
    if told["format"] > FORMAT:
        raise MismatchError(
            f"{path} was written by a newer release (form {told['format']}). Upgrade with: pip install --upgrade horen"
        )
    return told


def _read(path: Path, name: str) -> bytes:
    try:
        return (path / name).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(f"{path} has no {name}: give the folder that horen export wrote.") from error
    except OSError as error:
        raise StoreError(f"{path / name} cannot be read ({why(error)}): check its permissions.") from error


def _line(path: Path, number: int, text: str) -> Line:
    where = f"{path / EDITS}, line {number}"
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON ({error}): write one object, as the other lines have it.") from error
    if not isinstance(told, dict):
        raise DataError(f"{where} is no object: write one, as the other lines have it.")
    unknown = [name for name in told if name not in FIELDS]
    missing = [name for name in _NEEDED if not told.get(name)]
    if unknown or missing:
        what = f"has the unknown field {unknown[0]!r}" if unknown else f"lacks {missing[0]!r}"
        raise DataError(f"{where} {what}: fields are {', '.join(FIELDS)}, and prompt and target are needed.")
    told = {name: told.get(name) for name in FIELDS}
    for name in ("rephrases", "tags", "replaces"):
        told[name] = [] if told[name] is None else told[name]
    wrong = [name for name in _TEXTS if not isinstance(told[name], str | None)]
    wrong += [name for name in ("rephrases", "tags") if not _is_list(told[name], str)]
    wrong += [] if _is_list(told["replaces"], int) else ["replaces"]
    wrong += [] if told["id"] is None or (type(told["id"]) is int and told["id"] > 0) else ["id"]
    wrong += [] if isinstance(told["receipt"], dict | None) else ["receipt"]
    wrong += [] if told["state"] in _STATES else ["state"]
    if wrong:
        raise DataError(f"{where}: {wrong[0]}={told[wrong[0]]!r} is not what that field can be; see the other lines.")
    return Line(number, told)


def _is_list(found: object, kind: type) -> bool:
    return isinstance(found, list) and all(isinstance(one, kind) and not isinstance(one, bool) for one in found)


def _rows(path: Path, content: bytes) -> Rows:
    try:
        tensors = load(content)
        marks, places = tensors.pop("mark"), tensors.pop("place")
        found = {bytes(mark): (a, b, c, d) for mark, (a, b, c, d) in zip(marks.tolist(), places.tolist(), strict=True)}
        ends = [(first + count, value + more) for first, count, value, more in found.values()]
        entries, values = len(tensors["keys"]), len(tensors["values"])
        if any(end > entries or last > values for end, last in ends) or bool((places < 0).any()):
            raise ValueError("it has fewer rows than it says")
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path / ROWS} holds no rows of edits ({error}): take it from an export.") from error
    return Rows(found, tensors)


def check_layout(path: Path, rows: Rows, layout: Layout) -> None:
    """Raise MismatchError when rows are not of the form of a store's."""
    own = Layout.of(rows.tensors).rows
    if own != {name: kept for name, kept in layout.rows.items() if name != "value_of"}:
        raise MismatchError(f"{path / ROWS} has rows of another form than the store: take it from one of its settings.")
