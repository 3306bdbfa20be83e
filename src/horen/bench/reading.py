"""Rows that a model has read once: what it answers and how it scores given continuations, from the same prefill.

Answers are greedy: at every step the most likely token, without any of the processors that a model's own generation
settings may add. A row that has ended leaves the batch.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from horen.editors.interface import Method
from horen.model.padding import left_padded
from horen.model.past import past_argument, past_of

# Rows are taken out once so many have ended; each time the cache of the others is copied.
_ENDED = 0.125


class Reading:
    """Prompts as the model holds them in its cache.

    Args:
        method: whose model reads; the edits act on the prompts' end and on nothing that follows.
        rows: token ids of n prompts.

    Attributes:
        log_p: [n, V] float32 log-probabilities of the token that follows each prompt.
    """

    def __init__(self, method: Method, rows: Sequence[Sequence[int]]) -> None:
        self._method = method
        ids, self._mask, positions = left_padded(rows, method.model)
        self._width = ids.shape[1]
        more = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(method.model.forward).parameters else {}
        logits, self._cache = self._fed(ids, self._mask, positions, None, **more)
        self.log_p = logits[:, -1].float().log_softmax(-1)

    def continued(self, targets: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        """Yield [T, V] log-probabilities for each row, of the tokens of its target given all before.

        Args:
            targets: token ids, at least one for each row.
        """
        most = max(map(len, targets)) - 1
        rest: Tensor | None = None
        if most:
            fed = [[*target[:-1], *[0] * (most + 1 - len(target))] for target in targets]
            real = [[1] * (len(target) - 1) + [0] * (most + 1 - len(target)) for target in targets]
            ids = torch.tensor(fed, device=self._mask.device)
            mask = torch.cat([self._mask, torch.tensor(real, device=ids.device)], dim=1)
            positions = (mask.cumsum(-1) - 1).clamp_min(0)[:, -most:]
            rest, _ = self._fed(ids, mask, positions, copy.deepcopy(self._cache))
        for row, target in enumerate(targets):
            first = self.log_p[row : row + 1]
            if rest is None or len(target) == 1:
                yield first
            else:
                yield torch.cat([first, rest[row, : len(target) - 1].float().log_softmax(-1)])

    def greedy(self, budget: int, ends: Collection[int]) -> list[list[int]]:
        """Return the most likely tokens of each row, at most ``budget``, up to and without the first of ``ends``.

        The cache grows with them, so nothing else can be asked afterwards.
        """
        answers: list[list[int]] = [[] for _ in self.log_p]
        tokens, mask, cache = self.log_p.argmax(-1), self._mask, self._cache
        rows = list(range(len(answers)))
        going = [True] * len(rows)
        for step in range(budget):
            for place, token in enumerate(tokens.tolist()):
                going[place] = going[place] and token not in ends
                if going[place]:
                    answers[rows[place]].append(token)
            if step + 1 == budget or not any(going):
                break
            if going.count(False) >= max(_ENDED * len(going), 1):
                kept = torch.tensor([place for place, goes in enumerate(going) if goes], device=mask.device)
                cache.batch_select_indices(kept)
                tokens, mask = tokens[kept], mask[kept]
                rows = [rows[place] for place in kept.tolist()]
                going = [True] * len(rows)
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            logits, cache = self._fed(tokens[:, None], mask, mask.sum(-1, keepdim=True) - 1, cache)
            tokens = logits[:, -1].argmax(-1)
        return answers

    def _fed(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any, **more: Any) -> tuple[Tensor, Any]:
        model: Any = self._method.model
        with torch.inference_mode(), self._method.boundary(self._width):
            out = model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                use_cache=True,
                **{past_argument(model): cache},
                **more,
            )
        return out.logits, past_of(out)
