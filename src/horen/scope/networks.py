"""The networks of a scope: two heads that say who and what a prompt is about, and a check of two prompts together.

Both stand on the layers of one sentence encoder; what they change of it is kept as a delta (:mod:`horen.scope.delta`).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

#: Length of a subject key and of a relation key.
SUBJECT, RELATION = 192, 192
_MOST_TOKENS = 96
# A fast tokenizer keeps the length to cut at, and is lent to one thread at a time.
_tokenizing = threading.Lock()


class Pooled(nn.Module):
    """One vector of a text: its token states, weighed by what a query vector finds in them, and mapped.

    Args:
        width: length of a state.
        size: length of the vector.
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.look = nn.Linear(width, 1)
        self.map = nn.Linear(width, size)
        nn.init.zeros_(self.look.weight)  # at first every token weighs alike

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return [B, size] unit vectors of [B, L, width] states with a [B, L] mask."""
        weights = self.look(states)[..., 0].float().masked_fill(mask == 0, -torch.inf).softmax(-1)
        pooled = torch.einsum("bl,bld->bd", weights, states.float())
        return normalize(self.map(pooled).float(), dim=-1)


class Heads(nn.Module):
    """Who and what a prompt is about, as two unit vectors.

    Args:
        encoder: a BERT-like transformers model, which becomes part of this.
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder
        width = int(encoder.config.hidden_size)
        self.subject = Pooled(width, SUBJECT)
        self.relation = Pooled(width, RELATION)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return [B, 192] subject keys and [B, 192] relation keys of [B, L] token ids and their mask."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.subject(states, attention_mask), self.relation(states, attention_mask)


class PairCheck(nn.Module):
    """Logits of what an asked prompt is to a stored one: own, about, other.

    Args:
        encoder: a BERT-like transformers model, which becomes part of this.
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder
        width = int(encoder.config.hidden_size)
        self.inner = nn.Linear(2 * width, width)
        self.outer = nn.Linear(width, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Return [B, 3] logits of [B, L] token ids of both prompts, the stored one first."""
        states = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state
        real = attention_mask[..., None].to(states)
        mean = (states * real).sum(1) / real.sum(1).clamp_min(1)
        hidden = nn.functional.gelu(self.inner(torch.cat([states[:, 0], mean], dim=-1)))
        logits: Tensor = self.outer(hidden).float()
        return logits


def encoded(tokenizer: Any, texts: Sequence[str], others: Sequence[str] | None = None) -> dict[str, Tensor]:
    """Return token ids, mask and, with ``others`` behind the texts, token types, padded to the longest."""
    length = _MOST_TOKENS if others is None else 2 * _MOST_TOKENS
    given = (list(texts),) if others is None else (list(texts), list(others))
    with _tokenizing:
        rows = tokenizer(
            *given,
            padding=True,
            truncation=True,
            max_length=length,
            return_tensors="pt",
            return_token_type_ids=others is not None,
        )
    names = ("input_ids", "attention_mask") if others is None else ("input_ids", "attention_mask", "token_type_ids")
    return {name: rows[name] for name in names}
