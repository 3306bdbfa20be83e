"""Where features come from: activations, read as a prompt runs through the layers, or a text encoder beside them.

A source knows neither keys nor edits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from horen.config import HorenConfig
from horen.model.alone import here
from horen.model.devices import device_of
from horen.model.layout import Layout, Site, first_tensor, joined, read_feature_sizes
from horen.model.padding import left_padded
from horen.model.pooling import Pooling
from horen.model.prompts import Placed, Prompt, PromptReader
from horen.model.zoo.encoder import ScopeEncoder, TextEncoder, load_encoder, load_scope
from horen.scope.reader import Scope

Span = tuple[int, int]


class ReadOnly(BaseException):
    """Stops a forward call once the read site is known; not an error, so nothing should catch it on the way."""


class FeatureSource(ABC):
    """Makes the features of prompts.

    Attributes:
        parts: how many activations of one forward call make up its states; with 0 the tokens alone say everything.
        weights: [V] float32, how much each token id counts in a feature; None where all count alike.
    """

    parts: int
    weights: Tensor | None = None

    @property
    def encoder(self) -> TextEncoder | None:
        """The text encoder, where features are its embeddings."""
        return None

    @property
    def scope(self) -> Scope | None:
        """What judges pairs of prompts, where features are subject and relation keys."""
        return self.encoder.scope if isinstance(self.encoder, ScopeEncoder) else None

    @property
    @abstractmethod
    def sizes(self) -> list[int]:
        """Lengths of what a feature is joined of; they sum to d_f."""

    @abstractmethod
    def read(self, rows: Sequence[Sequence[int]]) -> list[Tensor]:
        """Read the activations [B, S, d_i], one for each part, of rows of token ids padded on the left.

        Edits must be disabled. The model is run no further than to the last part; for none it is not run.
        """

    def of_rows(self, rows: Sequence[Sequence[int]], spans: Sequence[Sequence[Span]]) -> Tensor:
        """Return features [Σ spans, d_f] float32, in order, of rows of token ids without padding.

        Edits must be disabled.

        Args:
            rows: token ids.
            spans: the [start, stop) ranges to read in each row.
        """
        width = max(map(len, rows))
        places = [
            Placed(number, width - len(row), tuple(row), Prompt(len(row) - 1, tuple(own)))
            for number, (row, own) in enumerate(zip(rows, spans, strict=True))
        ]
        return self.of_call(places, self.read(rows))

    @abstractmethod
    def of_call(self, places: Sequence[Placed], states: Sequence[Tensor]) -> Tensor:
        """Return features [Σ candidate spans, d_f] float32 of the prompts of a forward call.

        Args:
            places: the prompts; ids below 0 stand for embeddings.
            states: the call's activations [B, S, d_i], one for each part.
        """

    def hook(self, take: Callable[[Tensor], None]) -> list[RemovableHandle]:  # noqa: ARG002
        """Have ``take`` called with each part's activation, in order, as the model runs."""
        return []


class Activations(FeatureSource):
    """Activations of some sites, pooled over a span's tokens; several sites' stand one behind the other.

    Args:
        model: whose activations are read.
        sites: where, in the order in which a forward call comes by.
        share: p of :class:`horen.model.pooling.Pooling`.
    """

    def __init__(self, model: PreTrainedModel, sites: Sequence[Site], share: float) -> None:
        self._model = model
        self._share = share
        self.sites = tuple(sites)
        self.parts = len(self.sites)

    @property
    def sizes(self) -> list[int]:
        """Lengths of one activation at each site, found by running one token."""
        return read_feature_sizes(self._model, self.sites)

    def states(self, rows: Sequence[Sequence[int]]) -> list[Tensor]:
        """Return what is pooled: the activations [n, d_f] of each row's n tokens, in the model's dtype."""
        whole = joined(self.read(rows))
        return [whole[i, whole.shape[1] - len(row) :] for i, row in enumerate(rows)]

    def read(self, rows: Sequence[Sequence[int]]) -> list[Tensor]:
        """See :meth:`FeatureSource.read`."""
        ids, mask, positions = left_padded(rows, self._model)
        width = ids.shape[1]
        seen: list[Tensor] = []

        def take(activation: Tensor) -> None:
            seen.append(activation.reshape(len(rows), width, -1))
            if len(seen) == self.parts:
                raise ReadOnly

        handles = self.hook(here(take))
        try:
            with torch.no_grad():
                self._model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
        except ReadOnly:
            pass
        finally:
            for handle in handles:
                handle.remove()
        return seen

    def of_call(self, places: Sequence[Placed], states: Sequence[Tensor]) -> Tensor:
        """See :meth:`FeatureSource.of_call`."""
        whole, pooling = joined(states), Pooling(self._share, self.weights)
        return torch.stack(
            [
                pooling(whole[p.row, p.offset + start : p.offset + stop], p.ids[start:stop])
                for p in places
                for start, stop in p.prompt.spans
            ]
        )

    def hook(self, take: Callable[[Tensor], None]) -> list[RemovableHandle]:
        """See :meth:`FeatureSource.hook`."""
        return [
            site.module.register_forward_pre_hook(lambda _module, inputs: take(inputs[0]))
            if site.side == "input"
            else site.module.register_forward_hook(lambda _module, _inputs, output: take(first_tensor(output)))
            for site in self.sites
        ]


class EncodedText(FeatureSource):
    """Embeddings of a span's words by a text encoder.

    Args:
        model: whose device the encoder follows.
        reader: of the same model, decodes the words.
        encoder: what embeds them.
    """

    parts = 0

    def __init__(self, model: PreTrainedModel, reader: PromptReader, encoder: TextEncoder) -> None:
        self._model = model
        self._reader = reader
        self._encoder = encoder

    @property
    def encoder(self) -> TextEncoder:
        """The text encoder."""
        return self._encoder

    @property
    def sizes(self) -> list[int]:
        """Length of an embedding."""
        return [self.encoder.size]

    def read(self, rows: Sequence[Sequence[int]]) -> list[Tensor]:  # noqa: ARG002
        """See :meth:`FeatureSource.read`; there is nothing to read."""
        return []

    def of_call(self, places: Sequence[Placed], states: Sequence[Tensor]) -> Tensor:  # noqa: ARG002
        """See :meth:`FeatureSource.of_call`; there are no states."""
        return self._embed([self._reader.text(p.ids, span) for p in places for span in p.prompt.spans])

    def _embed(self, texts: list[str]) -> Tensor:
        module, device = self.encoder.module, device_of(self._model)
        if next(module.parameters()).device != device:  # the model was moved; asking every module takes longer
            module.to(device)
        different = list(dict.fromkeys(texts))  # the rows of a beam search, and a chat's earlier turns, are alike
        place = {text: number for number, text in enumerate(different)}
        return self.encoder(different)[[place[text] for text in texts]]


def feature_source(model: PreTrainedModel, layout: Layout, reader: PromptReader, config: HorenConfig) -> FeatureSource:
    """Return the source that the settings name.

    Raises:
        ConfigError: when a configured site does not exist in this model, or is computed after the write site.
        ModelError: when the text encoder cannot be fetched or loaded.
    """
    if config.reads_text:
        load = load_scope if config.judges else load_encoder
        return EncodedText(model, reader, load(config.encoder, device=device_of(model)))
    sites = layout.read_sites(config)
    layout.check_order(sites[-1], layout.write_site(config))
    return Activations(model, sites, config.read_share)
