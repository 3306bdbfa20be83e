"""HoReN: lifelong model editing by normalized Hopfield retrieval (arXiv 2605.08143)."""

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from horen._version import __version__

if TYPE_CHECKING:
    from horen.asking.diagnosis import Diagnosis, Finding, Reading
    from horen.config import HorenConfig
    from horen.editor import Editor
    from horen.edits import Answer, Compacted, Edit, EditRecord, Explanation, Near, Receipt, Similar, Undone
    from horen.errors import (
        ApprovalError,
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

__all__ = [
    "Answer",
    "ApprovalError",
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


# Where the names are. The editor brings torch and transformers, which take seconds to import, and a program that prints
# a page and ends asks for a few of the others alone.
_PLACES = MappingProxyType(
    {
        "horen.asking.diagnosis": ("Diagnosis", "Finding", "Reading"),
        "horen.config": ("HorenConfig",),
        "horen.editor": ("Editor",),
        "horen.edits": (
            "Answer",
            "Compacted",
            "Edit",
            "EditRecord",
            "Explanation",
            "Near",
            "Receipt",
            "Similar",
            "Undone",
        ),
        "horen.errors": (
            "ApprovalError",
            "ConfigError",
            "ConflictError",
            "DataError",
            "EditError",
            "EditNotFoundError",
            "HorenError",
            "MismatchError",
            "MissingExtraError",
            "ModelError",
            "StoreError",
        ),
    }
)


def __getattr__(name: str) -> Any:
    for place, names in _PLACES.items():
        if name in names:
            module = import_module(place)
            globals().update({each: getattr(module, each) for each in names})
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
