"""What every locate-then-edit method does: locate, read keys, train values, know the covariances."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.editors.common.locate.config import LocateConfig
from horen.editors.common.locate.covariance import covariances
from horen.editors.common.locate.openings import text_rows
from horen.editors.common.locate.projections import Projection
from horen.editors.common.locate.requests import Request, Requests
from horen.editors.common.locate.values import train
from horen.editors.common.weights import WeightMethod
from horen.edits import Edit
from horen.model.batching import read_in_batches
from horen.model.contexts import Contexts
from horen.model.layout import Layout, Site
from horen.model.sources import Activations

_BATCH = 64


class LocateMethod(WeightMethod, ABC):
    """A method that writes a fact into down projections, as what the subject's last token is answered with.

    Args:
        model: a decoder-only transformers model, in memory as a whole.
        tokenizer: the model's own, a fast one.
        config: the settings.
        layout: where the model's layers are.
        layers: numbers of the layers whose down projections are changed, ascending.
        progress: show a bar on stderr while covariances are measured.

    Raises:
        ModelError: when a layer has not one down projection, or another method holds the model's weights.
        ConfigError: when the text of the settings cannot be read.
    """

    config: LocateConfig

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: LocateConfig,
        *,
        layout: Layout,
        layers: Sequence[int],
        progress: bool = False,
    ) -> None:
        projections = [Projection.of(model, layout, layer, self.name) for layer in layers]
        contexts = Contexts(model, tokenizer, ())
        self._text = text_rows(contexts, config.text, config.tokens)
        self._requests = Requests(contexts, tokenizer, config.prefixes, train_end=config.train_end)
        self._layout, self._projections, self._progress = layout, projections, progress
        self._covariances: list[Tensor] | None = None
        super().__init__(model, tokenizer, config, [projection.name for projection in projections])

    def _requested(self, edits: Sequence[Edit]) -> list[Request]:
        return [request for edit in edits for request in self._requests.of(edit)]

    def _moments(self) -> list[Tensor]:
        """C of each projection, [d_k, d_k] float64, measured on the untouched model when it is first needed."""
        if self._covariances is None:
            with self.disabled():
                sites = [projection.site for projection in self._projections]
                self._covariances = covariances(self.model, sites, self._text, progress=self._progress)
        return self._covariances

    def _means(self, requests: Sequence[Request], sites: Sequence[Site]) -> list[Tensor]:
        """Activations [E, d] float32 at each site at the subjects' last tokens, averaged over a request's contexts."""
        source = Activations(self.model, sites, 0.0)
        rows = [sample.prompt for request in requests for sample in request.samples]
        read = read_in_batches(
            rows, _BATCH, lambda b: source.of_rows([rows[i] for i in b], [[(0, len(rows[i]))] for i in b])
        )
        counts = [len(request.samples) for request in requests]
        means = torch.stack([part.mean(0) for part in read.split_with_sizes(counts)])
        return list(means.split_with_sizes(source.sizes, dim=-1))

    @property
    def _output(self) -> Site:
        """Where values are trained: the output of the last layer's MLP."""
        last = self._projections[-1].layer
        return Site(last, self._layout.mlp(last)[1], "output", "mlp_output")

    def _train(self, requests: Sequence[Request], onto: Tensor) -> Tensor:
        """Values [E, d_v] float32, from what they are measured against, [E, d_v]."""
        lengths = torch.linalg.vector_norm(onto, dim=-1)
        return train(self.model, self._layout, self._output, requests, lengths, self.config)
