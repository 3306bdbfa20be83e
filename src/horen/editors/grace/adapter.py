"""GRACE's adaptor: HoReN's hooks, with another way of finding an entry and of applying its value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor
from transformers import PreTrainedModel

from horen.config import HorenConfig
from horen.editors.grace.memory import Memory
from horen.memory import Match
from horen.model.adapter import Adapter
from horen.model.prompts import Placed, PromptReader
from horen.model.routed import Routed


class GraceAdapter(Adapter):
    """Wraps ``model`` so that its own ``forward`` and ``generate`` apply the entries of a memory.

    A prompt is routed once, at its last token (scaffold included); how prompts, padding, caches and the boundary are
    dealt with is :class:`horen.model.adapter.Adapter`'s.

    Args:
        model: a decoder-only transformers model.
        reader: finds prompts in token ids; one that reads all tokens.
        config: with read and write site in the adapted layer.

    Raises:
        ModelError: when the model has no layers with an MLP.
    """

    def __init__(self, model: PreTrainedModel, reader: PromptReader, config: HorenConfig) -> None:
        super().__init__(model, reader, config)
        self.write = replace(self.write, replaces=True)
        self.memory: Memory | None = None

    def install(self, memory: Memory) -> None:
        """Let the model answer with a memory from now on."""
        self.memory, self.codebook = memory, memory.codebook

    def route(self, places: Sequence[Placed], features: Tensor) -> list[Routed]:
        """Return the nearest key to each prompt.

        Args:
            places: the prompts, each with one reading.
            features: [B, d_k] queries, one for each prompt.

        Returns:
            Matches with ε − d as ``similarity``, fired unless it is negative, and −d as ``raw_similarity``.
        """
        if self.memory is None:
            return []
        if self.memory.codebook.keys.device != features.device:  # the model was moved since the last call
            self.memory.codebook.to(features.device)
        routed = []
        for place, (number, distance) in zip(places, self.memory.nearest(features), strict=True):
            margin = self.memory.ball(number).radius - distance
            match = Match(number, number, margin, -distance, margin, margin >= 0, None, None)
            routed.append(Routed(place, place.prompt.spans[0], match))
        return routed
