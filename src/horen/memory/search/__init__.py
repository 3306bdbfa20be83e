"""The same answers faster: products a block at a time, candidates from int8 copies of the keys, kernels.

The memory is complete without this room and asks it by :mod:`horen.memory.aids` alone. Only an index, which may miss
what is near, is nowhere else.
"""

from horen.memory.search.blocks import readout, table
from horen.memory.search.copies import Copies
from horen.memory.search.index import Index
from horen.memory.search.nearest import attempts
from horen.memory.search.waking import waking

__all__ = ["Copies", "Index", "attempts", "readout", "table", "waking"]
