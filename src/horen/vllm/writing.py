"""What a request carries from the front to the workers: values, and the tokens at which they are written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: Where it lies in a request's ``extra_args``. Whatever a caller puts there is thrown away.
CARRIED = "horen:writing"
#: Where a caller says "off" for a request that no edit may answer.
ASKED = "horen"


@dataclass(frozen=True)
class Write:
    """A value for one token of a row.

    Attributes:
        at: number of the token, from the row's start.
        behind: token ids that must stand just before and at it; empty for the end of a prompt.
        value: [d] float32.
    """

    at: int
    behind: tuple[int, ...]
    value: Tensor


@dataclass(frozen=True)
class Writing:
    """What one request's edit writes.

    Attributes:
        edit: id of the edit.
        score: with which it fired.
        revision: number of the codebook's last operation when the prompt was routed.
        writes: one value, and those for later windows of a long answer.
        digest: of all that changes states: the values, and where they go.
    """

    edit: int
    score: float
    revision: int
    writes: tuple[Write, ...]
    digest: str

    @classmethod
    def of(cls, edit: int, score: float, revision: int, writes: Sequence[Write]) -> Writing:
        """Return what an edit writes, with its digest."""
        digest = hashlib.sha256()
        for write in writes:
            digest.update(repr((write.at, write.behind)).encode() + _packed(write.value))
        return cls(edit, score, revision, tuple(writes), digest.hexdigest())

    @property
    def first(self) -> int:
        """Number of the first token whose states are changed."""
        return min(write.at for write in self.writes)

    @property
    def told(self) -> dict[str, Any]:
        """What a caller is told: the edit, its score, and of which state of the codebook."""
        return {"edit": self.edit, "score": self.score, "revision": self.revision}

    def packed(self) -> dict[str, Any]:
        """Return it as MessagePack takes it."""
        writes = [[write.at, list(write.behind), _packed(write.value)] for write in self.writes]
        return {**self.told, "writes": writes, "digest": self.digest, "first": self.first}

    @classmethod
    def unpacked(cls, given: Mapping[str, Any]) -> Writing:
        """Return what :meth:`packed` gave."""
        writes = [
            Write(at, tuple(behind), torch.frombuffer(bytearray(value), dtype=torch.float32))
            for at, behind, value in given["writes"]
        ]
        return cls(given["edit"], given["score"], given["revision"], tuple(writes), given["digest"])


def carried(params: Any) -> Mapping[str, Any] | None:
    """Return what a request's sampling parameters carry, still packed; None where nothing is written."""
    extra = None if params is None else params.extra_args
    return None if not extra else extra.get(CARRIED)


def _packed(value: Tensor) -> bytes:
    return value.detach().float().cpu().contiguous().numpy().tobytes()
