"""What a worker on another machine does: it holds the model, trains runs of edits, and gives back what is new.

It is told everything as plain things (text, numbers, bytes) and needs no file of who tells it; what it writes lies in a
temporary folder of its own machine. It knows nothing of who brings the words to and fro.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from horen._version import __version__
from horen.cli.flow.applying import Batches, apply
from horen.cli.flow.opening import open_editor
from horen.cli.flow.outcomes import Outcome
from horen.cli.flow.receipts import receipts
from horen.cli.options import OnConflict
from horen.cli.terminal import note_progress
from horen.editfiles.records import FileRecord
from horen.errors import HorenError, MismatchError

if TYPE_CHECKING:
    from horen.editor import Editor
    from horen.store import Begun, Folder
    from horen.store.increments import Increment

_Result = TypeVar("_Result")


class Loading(TypedDict):
    """How the model is loaded; see :func:`horen.cli.flow.opening.open_editor`."""

    model: str | None
    encoder: str | None
    dtype: str
    device: str | None


class Told(TypedDict):
    """What a worker answers.

    Attributes:
        host: the machine that it is on.
        process: its number there.
        error: why it could not do it; None when it could.
        result: what came of it then, if anything.
    """

    host: str
    process: int
    error: str | None
    result: Any


class Trainer:
    """A worker that trains edits."""

    def __init__(self) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="horen-worker-")
        self._part = Path(self._place.name) / "part"
        self._progress = Path(self._place.name) / "progress"
        self._editor: Editor | None = None
        self._before: Begun | None = None

    def open(self, version: str, files: Mapping[str, bytes], loading: Loading) -> Told:
        """Load the model.

        Args:
            version: of the package where the edits are from.
            files: a codebook to which the edits are added, by the names of its files.
            loading: how the model is loaded.

        Returns:
            Nothing but where it is. It is an error when the package is of another release here, when the model or the
            text encoder cannot be loaded, and when one of them is another one than the codebook was made for.
        """

        def opened() -> None:
            if version != __version__:
                raise MismatchError(f"it has horen {__version__}, not {version}: install the same release there.")
            # As the program has it; read when torch is loaded.
            os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
            self._part.mkdir()
            for name, content in files.items():
                (self._part / Path(name).name).write_bytes(content)
            note_progress(self._progress)
            self._editor = self._opened(loading)

        return self._told(opened)

    def train(self, edits: Sequence[Mapping[str, Any]]) -> Told:
        """Train edits.

        Args:
            edits: as :class:`horen.editfiles.records.FileRecord` has them.

        Returns:
            What is new in the codebook, :class:`horen.store.increments.Increment`.
        """

        def trained() -> Increment:
            from horen.store.increments import increment  # noqa: PLC0415
            from horen.store.state import Saved  # noqa: PLC0415

            assert self._editor is not None  # noqa: S101
            assert self._before is not None  # noqa: S101
            records = [FileRecord(**{**edit, "rephrases": tuple(edit["rephrases"])}) for edit in edits]
            self._progress.unlink(missing_ok=True)
            # As `horen edit --on-conflict supersede --on-similar ignore` does it.
            batches = Batches(self._part, OnConflict.supersede, len(records))
            apply(batches, records, self._editor, Outcome("", receipts(), []))
            saved = Saved.read(self._part)
            found, self._before = increment(saved, self._before), _size(saved.folder)
            return found

        return self._told(trained)

    def done(self) -> int:
        """Return how many of the edits that are being trained are done; may be called meanwhile."""
        try:
            return int(self._progress.read_text())
        except (OSError, ValueError):  # not there yet, or being written
            return 0

    def close(self) -> None:
        """Delete what lies on the disk."""
        self._place.cleanup()

    def _opened(self, loading: Loading) -> Editor:
        from horen.store.state import Saved  # noqa: PLC0415

        saved = Saved.read(self._part)
        self._before = _size(saved.folder)
        try:
            return open_editor(
                self._part,
                loading["model"],
                loading["dtype"],
                loading["device"],
                saved=saved,
                encoder=loading["encoder"],
            )
        except MismatchError as error:
            cause = str(error).partition(": ")[0]
            raise MismatchError(
                f"its model or text encoder is another one than here ({cause}): put the same on each machine."
            ) from error

    def _told(self, do: Callable[[], Any]) -> Told:
        result, why = None, None
        try:
            result = do()
        except HorenError as error:
            why = str(error).replace(str(self._part), "the codebook")  # a folder that is of no use to who reads this
        return {"host": socket.gethostname(), "process": os.getpid(), "error": why, "result": result}


def as_plain(edits: Sequence[FileRecord]) -> list[dict[str, Any]]:
    """Return edits as :meth:`Trainer.train` takes them."""
    return [{**dataclasses.asdict(edit), "rephrases": list(edit.rephrases)} for edit in edits]


def _size(folder: Folder) -> Begun:
    from horen.store import Begun  # noqa: PLC0415

    return Begun.of(folder.records, folder.tensors)
