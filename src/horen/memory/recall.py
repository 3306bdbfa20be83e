"""How much an index misses, measured on queries that lie about the stored keys as rephrases do."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from horen.memory.keys import Keys

# Cosines of rephrases to the keys of what they rephrase.
_NEAR, _FAR = 0.95, 0.6


def about(keys: Keys, count: int, *, seed: int = 0) -> Tensor:
    """Return unit queries [count, d] in random directions from unit keys [N, d] drawn by chance.

    Their cosines to these are 0.6 to 0.95.
    """
    generator = torch.Generator().manual_seed(seed)
    own = keys[torch.randint(len(keys), (count,), generator=generator)].cpu()
    cosine = _FAR + (_NEAR - _FAR) * torch.rand(count, 1, generator=generator)
    noise = torch.randn(own.shape, generator=generator)
    across = normalize(noise - (noise * own).sum(-1, keepdim=True) * own, dim=-1)
    return normalize(cosine * own + (1 - cosine.square()).sqrt() * across, dim=-1)
