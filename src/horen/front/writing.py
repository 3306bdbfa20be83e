"""What a request carries from the front to what runs the model: values, and the tokens at which they are written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from horen.front.wish import ALL, Among
from horen.model.prompts import Prompt
from horen.model.routed import Routed
from horen.session import Session


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
        version: how many operations the codebook that the prompt was routed by had had.
        writes: one value, and those for later windows of a long answer.
        digest: of all that changes states: the values, and where they go.
    """

    edit: int
    score: float
    version: int
    writes: tuple[Write, ...]
    digest: str

    @classmethod
    def of(cls, edit: int, score: float, version: int, writes: Sequence[Write]) -> Writing:
        """Return what an edit writes, with its digest."""
        digest = hashlib.sha256()
        for write in writes:
            digest.update(repr((write.at, write.behind)).encode() + _packed(write.value))
        return cls(edit, score, version, tuple(writes), digest.hexdigest())

    @property
    def first(self) -> int:
        """Number of the first token whose states are changed."""
        return min(write.at for write in self.writes)

    @property
    def told(self) -> dict[str, Any]:
        """What a caller is told: the edit, its score, and of which state of the codebook."""
        return {"edit": self.edit, "score": self.score, "version": self.version}

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
        return cls(given["edit"], given["score"], given["version"], tuple(writes), given["digest"])


@dataclass(frozen=True)
class Gathering:
    """Where workers read a prompt whose edit only its activations tell.

    Attributes:
        prompt: the prompt's places in the row.
        version: how many operations the codebook that the prompt is to be routed by has had.
        mark: of that version; see :func:`horen.front.versions.mark`.
        among: the edits that may answer.
    """

    prompt: Prompt
    version: int
    mark: str
    among: Among = ALL

    @property
    def first(self) -> int:
        """Number of the first token whose states may be changed: by then all that is read was computed."""
        asked = self.prompt.asked
        return self.prompt.at if asked is None else min(asked, self.prompt.at)

    @property
    def begin(self) -> int:
        """Number of the first token that is read."""
        return min(start for start, _ in self.prompt.spans)

    def packed(self) -> dict[str, Any]:
        """Return it as MessagePack takes it.

        Of equal tokens and an equal version come equal states, if values are written from the same token on.
        """
        prompt = [self.prompt.at, [list(span) for span in self.prompt.spans], self.prompt.asked]
        told = {"prompt": prompt, "version": self.version, "mark": self.mark, "among": self.among.packed()}
        digest = f"{self.mark} {told['among']} {prompt}"
        return {**told, "digest": digest, "first": self.first, "begin": self.begin}

    @classmethod
    def unpacked(cls, given: Mapping[str, Any]) -> Gathering:
        """Return what :meth:`packed` gave."""
        at, spans, asked = given["prompt"]
        prompt = Prompt(at, tuple((start, stop) for start, stop in spans), asked)
        return cls(prompt, given["version"], given["mark"], Among.unpacked(given["among"]))


def written(session: Session, routed: Routed | None, version: int) -> Writing | None:
    """Return what is written for a prompt; None where no edit fires.

    Args:
        session: whose history and codebook those of the version are.
        routed: where the prompt went.
        version: by which it was routed.
    """
    if routed is None or not routed.match.fired:
        return None
    record, codebook = session.history.holder(routed.match.entry), session.codebook()
    if record is None:
        return None
    sequel = session.sequel(routed.match.entry)
    places = [routed] if sequel is None else sequel.places(routed)
    at = places[-1].place.prompt.at
    writes = [Write(at, (), codebook.read_values([routed.match.value])[0])]
    if sequel is not None and sequel.values:
        values = codebook.read_values(list(sequel.values))
        for target in sequel.renderings:
            for value, left in zip(values, sequel.left, strict=True):
                said = target[: len(target) - left]
                writes.append(Write(at + len(said), said, value))
    return Writing.of(record.id, routed.match.score, version, writes)


def _packed(value: Tensor) -> bytes:
    return value.detach().float().cpu().contiguous().numpy().tobytes()
