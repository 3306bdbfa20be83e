"""HoReN: lifelong model editing by normalized Hopfield retrieval (arXiv 2605.08143)."""

from typing import TYPE_CHECKING, Any

from horen._version import __version__
from horen.asking.diagnosis import Diagnosis, Finding, Reading
from horen.config import HorenConfig
from horen.edits import Answer, Compacted, Edit, EditRecord, Explanation, Near, Receipt, Similar, Undone
from horen.errors import (
    ConfigError,
    ConflictError,
    DataError,
    EditError,
    EditNotFoundError,
    HorenError,
    MismatchError,
    MissingExtraError,
    ModelError,
    StoreError,
)

if TYPE_CHECKING:
    from horen.editor import Editor

__all__ = [
    "Answer",
    "Compacted",
    "ConfigError",
    "ConflictError",
    "DataError",
    "Diagnosis",
    "Edit",
    "EditError",
    "EditNotFoundError",
    "EditRecord",
    "Editor",
    "Explanation",
    "Finding",
    "HorenConfig",
    "HorenError",
    "MismatchError",
    "MissingExtraError",
    "ModelError",
    "Near",
    "Reading",
    "Receipt",
    "Similar",
    "StoreError",
    "Undone",
    "__version__",
]


def __getattr__(name: str) -> Any:
    # The editor brings torch and transformers, which take seconds to import and which not every command needs.
    if name == "Editor":
        from horen.editor import Editor  # noqa: PLC0415

        globals()[name] = Editor
        return Editor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
