"""GRACE's codebook: keys with a radius each, and how they make room for one another. Knows no model.

Rules: Hartvigsen et al. 2023 (arXiv 2211.11031).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from horen.edits import same_text
from horen.memory import Codebook

# A radius that is expanded to a query must hold it again when the query is computed in a batch of another shape.
_COVER = 1.01


@dataclass(frozen=True)
class Member:
    """A wording that an entry answers for, and the prompt of its edit (the same, or what the wording rephrases)."""

    prompt: str
    wording: str


@dataclass(frozen=True)
class Ball:
    """What an entry has besides its key and value.

    Attributes:
        target: its label y.
        radius: its deferral radius ε.
        members: the wordings it answers for; the key is that of the first.
    """

    target: str
    radius: float
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Orphan:
    """A wording whose entry was founded by another one that is gone; ``value`` is [d_v]."""

    member: Member
    target: str
    value: Tensor


@dataclass(frozen=True)
class Mark:
    """A state of the memory that can be gone back to, as long as it has only grown since."""

    balls: tuple[Ball | None, ...]


class Memory:
    """Entries (key, value, label, radius); a query wakes the nearest key if it lies within that key's radius.

    Args:
        key_dimension: d_k.
        value_dimension: d_v.
        eps_init: ε_init, the radius of an entry that has no neighbours.
        device: where the tables live.

    Attributes:
        codebook: keys and values; entry and value have the same number.
        balls: the rest of each entry; None where it was superseded.
    """

    def __init__(self, key_dimension: int, value_dimension: int, *, eps_init: float, device: torch.device) -> None:
        self.codebook = Codebook(key_dimension, value_dimension, device=device)
        self.balls: list[Ball | None] = []
        self._eps_init = eps_init

    def nearest(self, queries: Tensor) -> list[tuple[int, float]]:
        """Return number and Euclidean distance of each [B, d_k] query's nearest key; nothing without entries."""
        if not len(self.codebook):
            return []
        keys = self.codebook.keys
        # Through a matrix product a distance of two near points would cancel to noise and depend on the batch.
        distances = torch.cdist(queries.to(keys), keys, compute_mode="donot_use_mm_for_euclid_dist")
        asleep = [number for number, ball in enumerate(self.balls) if ball is None]
        distances[:, asleep] = torch.inf
        distance, number = distances.min(dim=-1)
        return list(zip(number.tolist(), distance.tolist(), strict=True))

    def ball(self, number: int) -> Ball:
        """Return what is known of an entry that was not superseded."""
        found = self.balls[number]
        assert found is not None  # noqa: S101 - such an entry is never the nearest
        return found

    def place(self, key: Tensor, member: Member, target: str) -> int | None:
        """Find room for a key [d_k]: the published rule, with K the nearest key, ε its radius and d its distance.

        Add: d > ε + ε_init, so that two balls of those radii would not touch: a new entry with ε_init.
        Expand: they touch and have the same label: K's radius grows to hold the query, ε ← max(ε, d), and no entry is
        made (1% is added for rounding).
        Split: they touch and have different labels: ε ← d/2, and a new entry with d/2.

        Returns:
            The number of the new entry, whose value is zero until :meth:`set_value`; None where K took it in.
        """
        found = self.nearest(key[None])
        if found:
            number, distance = found[0]
            ball = self.ball(number)
            if distance <= ball.radius + self._eps_init:
                if same_text(ball.target) == same_text(target):
                    radius = max(ball.radius, _COVER * distance)
                    self.balls[number] = replace(ball, radius=radius, members=(*ball.members, member))
                    return None
                self.balls[number] = replace(ball, radius=distance / 2)
                return self.add(key, Ball(target, distance / 2, (member,)))
        return self.add(key, Ball(target, self._eps_init, (member,)))

    def add(self, key: Tensor, ball: Ball, value: Tensor | None = None) -> int:
        """Store an entry as it is; its value is zero until :meth:`set_value` unless one is given."""
        empty = torch.zeros(self.codebook.values.shape[1], device=key.device)
        number = self.codebook.add_value(empty if value is None else value)
        self.codebook.add_entries(key[None], number)
        self.balls.append(ball)
        return number

    def set_value(self, number: int, value: Tensor) -> None:
        """Give an entry its value [d_v]."""
        self.codebook.values[number] = value.to(self.codebook.values)

    def labels(self) -> dict[tuple[str, str], str]:
        """Return the label of every (prompt, wording) that is answered for, white space normalised throughout."""
        return {
            (same_text(member.prompt), same_text(member.wording)): same_text(ball.target)
            for ball in self.balls
            if ball is not None
            for member in ball.members
        }

    def drop(self, prompts: Collection[str], wordings: Collection[str]) -> list[Orphan]:
        """Forget the edits of some prompts, and some wordings of others, up to white space.

        The published method cannot do this: with the old key at distance 0 its split leaves two balls of radius 0.
        An entry sleeps once its first wording is gone, because its key goes with it.

        Returns:
            Wordings that are left without an entry, to be placed anew with the value they had.
        """
        gone, said = {same_text(text) for text in prompts}, {same_text(text) for text in wordings}
        orphans: list[Orphan] = []
        for number, ball in enumerate(self.balls):
            if ball is None:
                continue
            kept = tuple(
                m for m in ball.members if same_text(m.prompt) not in gone and same_text(m.wording) not in said
            )
            if kept == ball.members:
                continue
            if kept and kept[0] == ball.members[0]:
                self.balls[number] = replace(ball, members=kept)
                continue
            self.balls[number] = None
            self.codebook.set_awake([number], False)
            orphans.extend(Orphan(m, ball.target, self.codebook.values[number].clone()) for m in kept)
        return orphans

    def mark(self) -> Mark:
        """Return the present state, for :meth:`reset`."""
        return Mark(tuple(self.balls))

    def reset(self, mark: Mark) -> None:
        """Go back to a state: what was added since is forgotten, and what was dropped is there again."""
        self.codebook.truncate(entries=len(mark.balls), values=len(mark.balls))
        self.codebook.set_awake((number for number, ball in enumerate(mark.balls) if ball is not None), True)
        self.balls = list(mark.balls)
