"""ROME as a method of the benchmark."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.config import resolve_layer
from horen.editors.common.locate import LocateMethod
from horen.editors.common.locate.solving import factored, rank_one
from horen.editors.rome.config import RomeConfig
from horen.edits import Edit
from horen.model.layout import Layout


class Rome(LocateMethod):
    """ROME, rank-one model editing (Meng et al. 2022, arXiv 2202.05262).

    The down projection W of one layer is seen as an associative memory. A fact's key k* is W's input at the subject's
    last token, averaged over prefixes; its value is v* = W k* + δ with δ trained by
    :class:`horen.editors.common.locate.values.Located`. Of all Ŵ with Ŵ k* = v* the one that disturbs the keys of
    running text least is

        Ŵ = W + Λ (C⁻¹ k*)ᵀ,   Λ = (v* − W k*) / ((C⁻¹ k*)ᵀ k*),   C = E[k kᵀ]

    (equation 2 there). Edits are written one after another, each on the weights that the ones before it left. C is
    measured once, on the text of the settings, and kept in the cache folder.

    A rephrase is an edit of its own. An edit without a subject, or a wording in which its subject does not occur, is
    located at its last token, and trained without the KL term, which needs a subject.

    Args:
        model: a decoder-only transformers model, in memory as a whole.
        tokenizer: the model's own, a fast one.
        config: the settings; None for the default preset.
        progress: show a bar on stderr while C is measured.

    Raises:
        ModelError: when the layer has not one down projection, or another method holds the model's weights.
        ConfigError: when the settings name a layer that the model does not have, or a text that cannot be read.
    """

    name = "rome"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: RomeConfig | None = None,
        *,
        progress: bool = False,
    ) -> None:
        config = config or RomeConfig()
        layout = Layout.of(model)
        layer = resolve_layer(config.layer, len(layout.layers), "layer")
        self._factor: Tensor | None = None
        super().__init__(model, tokenizer, config, layout=layout, layers=[layer], progress=progress)

    def _write(self, edits: Sequence[Edit]) -> None:
        requests = self._requested(edits)
        if self._factor is None:
            self._factor = factored(*self._moments())
        (projection,) = self._projections
        for request in requests:
            keys, outputs = self._means([request], [projection.site, self._output])
            (value,) = self._train([request], outputs)
            change = rank_one(self._factor, keys[0].to(self._factor), value.to(self._factor))
            self._add({projection.name: projection.laid(change).float()})
