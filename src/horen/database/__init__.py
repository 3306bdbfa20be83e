"""The store: edits in a SQL database, with who changed what, when and why; engines follow it.

This room knows no model. A store holds one codebook: its settings, its key space, and rows of keys and values to which
is only ever added, so that every version can be had again, bit for bit.
"""

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from horen.extras import require

require("store", "A store needs")

if TYPE_CHECKING:
    from horen.database.drafts import Proposal
    from horen.database.records import By, Facts, Query
    from horen.database.store import Store

__all__ = ["By", "Facts", "Proposal", "Query", "Store"]

_PLACES = MappingProxyType(
    {
        "By": "horen.database.records",
        "Facts": "horen.database.records",
        "Proposal": "horen.database.drafts",
        "Query": "horen.database.records",
        "Store": "horen.database.store",
    }
)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(_PLACES[name]), name)
    return found
