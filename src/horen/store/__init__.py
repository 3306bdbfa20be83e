"""Durable storage: a folder that is either in its old state or in its new one, whatever happens between."""

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from horen.store.additions import Begun, Known
    from horen.store.folder import Folder, read_folder, write_folder
    from horen.store.lock import lock_folder

__all__ = ["Begun", "Folder", "Known", "lock_folder", "read_folder", "write_folder"]

# Where the names are. Tensors bring torch, which takes seconds to import, and what a folder says in words needs none.
_PLACES = MappingProxyType(
    {
        "Begun": "horen.store.additions",
        "Folder": "horen.store.folder",
        "Known": "horen.store.additions",
        "lock_folder": "horen.store.lock",
        "read_folder": "horen.store.folder",
        "write_folder": "horen.store.folder",
    }
)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(_PLACES[name]), name)
    return found
