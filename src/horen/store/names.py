"""What the files of a folder are called: the first two, and the additions to them by number."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from horen.store.content import CONFIG, EDITS, TENSORS, damaged

#: The files that every folder has, the additions to which are named by number: edits.added-1.jsonl and so on.
FIRST = (EDITS, TENSORS)
#: What the names of all files of a folder match, as shells match them.
PATTERNS = (CONFIG, *FIRST, "edits.added-*.jsonl", "codebook.added-*.safetensors")
#: What a name ends in while its file waits for a write to be committed; and the mark that one is.
NEXT = ".next"
MARKER = CONFIG + NEXT
_ADDED = re.compile(r"(edits|codebook)\.added-([1-9][0-9]{0,8})\.(jsonl|safetensors)")


def listed(path: Path, document: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the names of a folder's files, each of :data:`FIRST` with its additions in order.

    Raises:
        StoreError: when the folder's configuration names others.
    """
    files = document.get("files")
    found: dict[str, list[tuple[int, str]]] = {name: [(0, name)] for name in FIRST}
    for name in files if isinstance(files, dict) else ():
        if name in FIRST:
            continue
        match = _ADDED.fullmatch(name)
        first = next((first for first in FIRST if match and name == added_name(first, int(match[2]))), None)
        if match is None or first is None:
            raise damaged(path, CONFIG, f"it describes {name!r}")
        found[first].append((int(match[2]), name))
    return {first: [name for _, name in sorted(names)] for first, names in found.items()}


def is_addition(name: str) -> bool:
    """Return whether a file of this name is an addition, or one on its way."""
    return _ADDED.fullmatch(name.removesuffix(NEXT)) is not None


def added_name(first: str, number: int) -> str:
    """Return the name of an addition to one of the first files."""
    stem, ending = first.split(".")
    return f"{stem}.added-{number}.{ending}"


def added_number(name: str) -> int:
    """Return the number of an addition by its name; 0 of a first file."""
    match = _ADDED.fullmatch(name)
    return 0 if match is None else int(match[2])
