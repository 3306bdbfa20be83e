"""HoReN: lifelong model editing by normalized Hopfield retrieval (arXiv 2605.08143)."""

from horen._version import __version__
from horen.config import HorenConfig
from horen.editor import Editor
from horen.edits import Edit, EditRecord, Explanation, Receipt, Undone
from horen.errors import (
    ConfigError,
    ConflictError,
    DataError,
    EditError,
    EditNotFoundError,
    HorenError,
    MismatchError,
    ModelError,
    StoreError,
)

__all__ = [
    "ConfigError",
    "ConflictError",
    "DataError",
    "Edit",
    "EditError",
    "EditNotFoundError",
    "EditRecord",
    "Editor",
    "Explanation",
    "HorenConfig",
    "HorenError",
    "MismatchError",
    "ModelError",
    "Receipt",
    "StoreError",
    "Undone",
    "__version__",
]
