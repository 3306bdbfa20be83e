"""DEFER as a method of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.config import resolve_layer
from horen.editors.common.gated import GatedAdapter, GatedMethod
from horen.editors.common.samples import plain_samples
from horen.editors.defer.config import DeferConfig
from horen.editors.defer.gate import Deferral
from horen.editors.defer.training import Lessons, tails, train
from horen.edits import Edit
from horen.model.devices import device_of
from horen.model.layout import Layout
from horen.model.prompts import Placed, PromptReader
from horen.model.routed import Routed


@dataclass(frozen=True)
class Deferred(Routed):
    """A route with what o would add, [d_v]."""

    change: Tensor


class DeferAdapter(GatedAdapter[Deferral]):
    """Wraps ``model`` so that its own ``forward`` and ``generate`` let o answer where g says so."""

    def route(self, places: Sequence[Placed], features: Tensor) -> list[Routed]:
        """See :meth:`GatedAdapter.route`."""
        gate = self.placed(features.device)
        if gate is None:
            return []
        changes = gate.changes(features)
        return [
            Deferred(routed.place, routed.span, routed.match, change)
            for routed, change in zip(super().route(places, features), changes, strict=True)
        ]

    def values_of(self, fired: Sequence[Routed]) -> Tensor:
        """Return what o adds to the layer's output, [n, d_v]."""
        return torch.stack([routed.change for routed in fired if isinstance(routed, Deferred)])


class Defer(GatedMethod[Deferral]):
    """DEFER, the gated baseline of the GRACE paper (Hartvigsen et al. 2023, arXiv 2211.11031, section 3.1).

    It stands there for SERAC (Mitchell et al. 2022, arXiv 2206.06520): g is its scope classifier and o its
    counterfactual model, both small and beside one layer f of the frozen model. The papers describe it in words; the
    WISE paper (arXiv 2405.14768, appendix A.2) adds that o is a single linear layer and that both are tuned jointly.
    The formulation taken here, with h the layer's input at the prompt's last token:

        g(h) = σ(wᵀh + b),   output = o(h) if g(h) ≥ threshold, else f(h)

    f is the down projection of a layer's MLP, or the whole MLP where it has not one. o begins as a copy of f, so what
    is trained and kept is the linear o − f. o descends −log p(target | prompt), g the cross-entropy of the batch's
    wordings (1) against irrelevant prompts from the package's bank (0): without negatives g would learn to be 1
    everywhere. Each call of :meth:`edit` trains on its own edits alone, from where the last one ended. As in
    :class:`horen.editors.grace.Grace` the output is replaced at the prompt's last token and nowhere else.

    Args:
        model: a decoder-only transformers model with an MLP in its layers.
        tokenizer: the model's own, a fast one.
        config: the settings; None for the default preset.

    Raises:
        ModelError: when the model is wrapped already or has no layers with an MLP.
        ConfigError: when the settings name a layer that the model does not have.
    """

    name = "defer"

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: DeferConfig | None = None
    ) -> None:
        self.config = config or DeferConfig()
        layer = resolve_layer(self.config.layer, len(Layout.of(model).layers), "layer")
        reader = PromptReader(tokenizer, words_only=False)
        # Nothing is drawn at random: o and g start from zero.
        super().__init__(model, tokenizer, self.config, DeferAdapter(model, reader, self.config.sites(layer)), 0)

    def _trained(self, edits: Sequence[Edit]) -> Deferral:
        config, adapter = self.config, self._adapter
        gate = adapter.placed(device_of(self.model))
        for start in range(0, len(edits), config.batch_edits):
            own = edits[start : start + config.batch_edits]
            samples = plain_samples(self.contexts, own, end=self.config.train_end)
            edited = self._features([sample.prompt for sample in samples])
            lessons = Lessons(tails(adapter, samples, config), edited, self._background(config.irrelevant, own))
            if gate is None:
                gate = Deferral.untrained(
                    config.threshold, edited.shape[1], adapter.layout.hidden_size, device_of(self.model)
                )
            gate = train(gate, lessons, config)
        assert gate is not None  # noqa: S101 - there is at least one edit
        return gate

    def _restored(self, tensors: Mapping[str, Tensor]) -> Deferral:
        return Deferral.of(self.config.threshold, tensors)
