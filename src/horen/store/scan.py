"""What the scan of a file's lines has found, kept beside the file, so that the next reader need not scan it again.

It is no part of what a folder holds: who finds none, or one of another file, or a damaged one, scans the lines.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from array import array
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from horen.store.content import why

_log = logging.getLogger(__name__)

#: The file, beside the first two of a folder.
SCAN = "edits.scan"
_DRAFT = SCAN + ".draft"
# Beside the arrays: the digest of all that is kept, and of the file that was scanned.
_CHECK = "check"


@dataclass
class Scan:
    """What lines say of edits and operations, in arrays.

    Attributes:
        ends: byte behind each line, after a 0.
        places: line of each edit.
        entries: codebook entries of all edits, one edit's behind the other's.
        entry_ends: where those of each edit end, after a 0.
        begins: line at which each operation begins, and the one behind the last.
        lasts: id of the last edit after each operation, after a 0.
        below: number of the operation that can be taken back once that of each is; 0 for none.
        plain: for each operation whether it adds edits and does no more.
        active: for each number from 0 whether the edit of that id is active.
        undoable: number of the operation that an undo takes back, alone; 0 for none.
        last_value: largest number of a value, alone; -1 for none.
    """

    ends: array[int] = dataclasses.field(default_factory=lambda: array("Q", [0]))
    places: array[int] = dataclasses.field(default_factory=lambda: array("Q"))
    entries: array[int] = dataclasses.field(default_factory=lambda: array("q"))
    entry_ends: array[int] = dataclasses.field(default_factory=lambda: array("Q", [0]))
    begins: array[int] = dataclasses.field(default_factory=lambda: array("Q", [0]))
    lasts: array[int] = dataclasses.field(default_factory=lambda: array("Q", [0]))
    below: array[int] = dataclasses.field(default_factory=lambda: array("Q"))
    plain: array[int] = dataclasses.field(default_factory=lambda: array("B"))
    active: array[int] = dataclasses.field(default_factory=lambda: array("B"))
    undoable: array[int] = dataclasses.field(default_factory=lambda: array("Q", [0]))
    last_value: array[int] = dataclasses.field(default_factory=lambda: array("q", [-1]))

    def fits(self, size: int) -> bool:
        """Return whether the arrays are as long as those of a file of so many bytes are."""
        edits, operations = len(self.places), len(self.below)
        return (
            self.ends[-1:] == array("Q", [size])
            and self.begins[-1:] == array("Q", [len(self.ends) - 1])
            and self.lasts[-1:] == array("Q", [edits])
            and self.entry_ends[-1:] == array("Q", [len(self.entries)])
            and len(self.entry_ends) - 1 == edits
            and len(self.begins) - 1 == len(self.lasts) - 1 == len(self.plain) == operations
            and len(self.undoable) == len(self.last_value) == 1
        )


def write_scan(path: Path, of: str, scan: Scan) -> None:
    """Keep the scan of a folder's first file of edits; where that is not possible, nothing is kept.

    Args:
        path: the folder.
        of: digest of that file.
        scan: what its lines say.
    """
    import numpy as np  # noqa: PLC0415 - it takes a tenth of a second, which a small folder's reader need not wait
    from safetensors.numpy import save  # noqa: PLC0415

    arrays = {name: np.frombuffer(part, part.typecode) for name, part in _parts(scan).items()}
    arrays[_CHECK] = np.frombuffer(_check(of, scan), "B")
    try:
        (path / _DRAFT).write_bytes(save(arrays))
        (path / _DRAFT).replace(path / SCAN)
    except OSError as error:
        _log.info("%s keeps no scan of its edits: %s", path, why(error))
        with suppress(OSError):
            (path / _DRAFT).unlink(missing_ok=True)


def read_scan(path: Path, of: str, size: int) -> Scan | None:
    """Return the scan of a folder's first file of edits, whose digest and bytes are given; None where none is kept."""
    try:
        content = (path / SCAN).read_bytes()
    except OSError:
        return None
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.numpy import load  # noqa: PLC0415

    scan = Scan()
    try:
        arrays = load(content)
        for name, part in _parts(scan).items():
            del part[:]
            part.frombytes(arrays[name].tobytes())
        kept = arrays[_CHECK].tobytes()
    except (SafetensorError, KeyError, ValueError, TypeError):
        return None
    return scan if kept == _check(of, scan) and scan.fits(size) else None


def _parts(scan: Scan) -> dict[str, array[int]]:
    return {field.name: getattr(scan, field.name) for field in dataclasses.fields(scan)}


def _check(of: str, scan: Scan) -> bytes:
    digest = hashlib.sha256(of.encode())
    for name, part in _parts(scan).items():
        digest.update(f"{name} {part.typecode} {len(part)}".encode())
        digest.update(part)
    return digest.digest()
