"""What trainers of values share: how much is optimised at once, and where a value starts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import torch

# A model that scales or caps its logits makes a table of them: half a gigabyte of float32, a few times over.
_MOST_LOGITS = 2**27
# A batch this large keeps a machine busy, so that it need not take in edits whose targets are far longer.
_ENOUGH = 512
_ALIKE = 1.25


def packed(lengths: Sequence[Sequence[int]], tokens: int, vocabulary: int) -> Iterator[list[int]]:
    """Yield numbers of edits of like target length together, each batch as large as memory and likeness allow.

    Args:
        lengths: for each edit the number of target tokens in each of its training contexts.
        tokens: most padded target positions of a batch; an edit that has more is a batch of its own.
        vocabulary: size V; a batch has no more positions than its logits [positions, V] have room.
    """
    most = min(tokens, max(_MOST_LOGITS // vocabulary, 1))
    batch: list[int] = []
    rows = longest = 0
    for number in sorted(range(len(lengths)), key=lambda i: max(lengths[i])):
        length = max(lengths[number])
        full = (rows + len(lengths[number])) * max(longest, length) > most
        unlike = rows * longest >= min(_ENOUGH, most) and length > _ALIKE * max(lengths[batch[0]])
        if batch and (full or unlike):
            yield batch
            batch, rows, longest = [], 0, 0
        batch.append(number)
        rows, longest = rows + len(lengths[number]), max(longest, length)
    if batch:
        yield batch


def seeded(text: str) -> torch.Generator:
    """Make a generator seeded by a text, so that where a value starts does not depend on its neighbours in a list."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 2**63
    return torch.Generator().manual_seed(seed)
