"""The values of locate-then-edit methods: what is to be added at a subject's last token."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from horen.editing.training import packed, train_checked, train_values
from horen.editors.common.locate.config import LocateConfig
from horen.editors.common.locate.requests import Request
from horen.model.layout import Layout, Site
from horen.model.partial.precision import Arithmetic, fastest
from horen.model.partial.tail import Tail


class Located:
    """The objective of ROME (arXiv 2202.05262, equation 4) for values δ that are added to an output m.

        L(δ) = mean_j −log p(target | x_j + p; m + δ) + λ_KL KL(p(· | p'; m + δ) ‖ p(· | p')) + λ ‖δ‖ / (‖m‖ u)

    x_j + p are an edit's training contexts and p' is "{subject} is a". u is 1, or ‖m‖ with absolute learning rates.
    Every target token's log-probability is lowered by the two penalties, so that the mean over an edit's contexts is
    L. A value that is longer than ``max_norm`` ‖m‖ counts as one of that length.

    Args:
        tail: of all B training contexts, one request's after the other's, and after them the K prompts p'.
        owner: [B] int64, the request of each training context, 0 to E − 1.
        known: [K] int64, the request of each prompt p', ascending.
        lengths: [E] float32, ‖m‖.
        config: the weights of the penalties.
    """

    def __init__(self, tail: Tail, owner: Tensor, known: Tensor, lengths: Tensor, config: LocateConfig) -> None:
        self._tail, self._owner, self._known, self._lengths, self._config = tail, owner, known, lengths, config
        with torch.no_grad():
            nothing = torch.zeros(len(known), tail.value_size, device=lengths.device)
            self._unedited = self._essences().scored(nothing, torch.ones(len(known)).bool())[2] if len(known) else None

    def __len__(self) -> int:
        return len(self._owner)

    @property
    def scale(self) -> Tensor:
        """Root mean square of the write site's output, [B] float32."""
        return self._tail.scale[: len(self)]

    def keep(self, rows: Tensor) -> Located:
        """Return the same for all rows of some of the requests; [b] int64 indices."""
        other = copy.copy(self)
        rows = rows.to(self._owner.device)
        owner = self._owner[rows]
        kept = torch.tensor(sorted(set(owner.tolist())), device=owner.device)
        among = torch.isin(self._known, kept).nonzero()[:, 0]
        other._tail = self._tail.keep(torch.cat([rows, len(self) + among]))
        other._owner = torch.searchsorted(kept, owner)
        other._lengths = self._lengths[kept]
        other._known = torch.searchsorted(kept, self._known[among])
        other._unedited = None if self._unedited is None else self._unedited[among.to(self._unedited.device)]
        return other

    def rough(self, arithmetic: Arithmetic) -> Located:
        """Return the same in a faster arithmetic."""
        other = copy.copy(self)
        other._tail = self._tail.rough(self._tail.fast(arithmetic))
        return other

    def log_probabilities(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return [B, T] log-probabilities of target tokens less the penalties, and the [B, T] mask of tokens."""
        values = bounded(values, self._config.max_norm * self._lengths[self._owner])
        first = torch.searchsorted(self._owner, torch.arange(len(self._lengths), device=self._owner.device))
        one = values[first]
        whole = torch.arange(len(self._tail)) >= len(self)
        found, real, edited = self._tail.scored(torch.cat([values, one[self._known]]), whole)
        found, real = found[: len(self)], real[: len(self)]
        return (found - self._penalties(one, edited)[self._owner][:, None]).masked_fill(~real, 0.0), real

    def _essences(self) -> Tail:
        return self._tail.keep(torch.arange(len(self), len(self._tail)))

    def _penalties(self, values: Tensor, edited: Tensor) -> Tensor:
        """[E] nats, from the values [E, d] of the requests and log-probabilities [K, V] of what follows p'."""
        unit = self._lengths if self._config.learning_rate_unit == "absolute" else 1.0
        decay: Tensor = self._config.weight_decay * torch.linalg.vector_norm(values, dim=-1) / (self._lengths * unit)
        if self._unedited is None:
            return decay
        gap: Tensor = (edited.exp() * (edited - self._unedited.to(edited.device))).sum(-1).to(decay.device)
        return decay + torch.zeros_like(decay).index_add(0, self._known, self._config.kl_weight * gap)


def bounded(values: Tensor, lengths: Tensor) -> Tensor:
    """Return values [n, d], each shortened to at most its length [n]."""
    norms: Tensor = torch.linalg.vector_norm(values, dim=-1)
    return values * (lengths / norms.clamp_min(torch.finfo(norms.dtype).tiny)).clamp_max(1.0)[:, None]


def train(
    model: PreTrainedModel,
    layout: Layout,
    site: Site,
    requests: Sequence[Request],
    lengths: Tensor,
    config: LocateConfig,
) -> Tensor:
    """Return values δ for requests, each as if it were alone.

    Args:
        model: that stands still, see :func:`horen.model.partial.frozen.frozen`.
        layout: where its layers are.
        site: where δ is added.
        requests: E of them.
        lengths: [E] float32, ‖m‖ of what each is added to.
        config: the settings.

    Returns:
        [E, d_v] float32.
    """
    vocabulary = int(model.config.get_text_config(decoder=True).vocab_size)
    fast = fastest(model, config)
    sizes = [[len(sample.target) for sample in request.samples] for request in requests]
    values = torch.zeros(len(requests), layout.hidden_size, device=lengths.device)
    for batch in packed(sizes, config.batch_tokens, vocabulary):
        chosen = sorted(batch)
        samples = [(place, sample) for place, i in enumerate(chosen) for sample in requests[i].samples]
        essences = [(place, essence) for place, i in enumerate(chosen) if (essence := requests[i].essence) is not None]
        essences = essences if config.kl_weight else []
        owner, known = ([place for place, _ in rows] for rows in (samples, essences))
        objective = Located(
            Tail(model, layout, site, [sample for _, sample in (*samples, *essences)]),
            torch.tensor(owner, device=lengths.device),
            torch.tensor(known, dtype=torch.int64, device=lengths.device),
            lengths[chosen],
            config,
        )
        start = torch.zeros(len(chosen), layout.hidden_size)
        if fast is not None:
            trained = train_checked(objective.rough(fast), objective, owner, start, config)
        else:
            trained = train_values(objective, owner, start, config)
        values[chosen] = torch.stack([item.value for item in trained]).to(values)
    return bounded(values, config.max_norm * lengths)
