"""What the methods share that keep a gate beside one layer: a prompt passes it, or the model answers as it is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.config import HorenConfig
from horen.config.settings import Settings, setting
from horen.data import load_bank
from horen.editors.common.base import latest
from horen.editors.common.hooked import HookedMethod
from horen.editors.common.states import read_state, write_state
from horen.editors.interface import Route
from horen.edits import Edit, same_text
from horen.errors import StoreError
from horen.memory import Match
from horen.model.adapter import Adapter
from horen.model.batching import read_in_batches
from horen.model.devices import device_of
from horen.model.prompts import Placed, PromptReader
from horen.model.quiet import quiet
from horen.model.routed import Routed

_BATCH = 32


@dataclass(frozen=True)
class GatedSettings(Settings):
    """How what is behind a gate is trained, together with the gate."""

    stop_probability: float = setting(
        0.9,
        "a batch is done when every target token has this probability and the gate is right throughout; 1 never stops "
        "early",
        low=0,
        high=1,
        open_low=True,
    )
    batch_edits: int = setting(50, "edits trained together (paper: 1)", low=1)
    batch_tokens: int = setting(2048, "most target positions that are computed at once", low=1)
    train_end: bool = setting(True, "train the end token after the target, so that the answer ends where it should")

    def reading(self, site: str, share: float) -> HorenConfig:
        """Return what the gate reads, in the words of :class:`horen.HorenConfig`.

        Args:
            site: NAME@LAYER, in the layer that is written too, with the layer as a number.
            share: of a prompt's tokens that is pooled; 0 is the last one alone.
        """
        return HorenConfig(
            read_sites=site,
            read_share=share,
            read_weight="equal",
            key_space="raw",
            scope="all",
            write_layer=float(site.partition("@")[2]),
            value="vector",
            contexts="prompt",
        )


class Gate(Protocol):
    """What edits have made: it says which prompts they are for. It is never changed, only replaced."""

    @property
    def threshold(self) -> float:
        """A prompt passes when its score is not below this."""

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""

    def to(self, device: torch.device) -> Self:
        """Return the same on a device."""

    def scores(self, features: Tensor) -> Tensor:
        """Return [B, M] scores of [B, d_k] features, one for each of M things that a prompt may be sent to."""

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that the method's settings do not say."""

    @property
    def nbytes(self) -> int:
        """Bytes that answering and further edits need."""


G = TypeVar("G", bound=Gate)


class GatedAdapter(Adapter, Generic[G]):
    """Wraps ``model`` so that a gate decides once a prompt; what passing does is left to the method.

    Args:
        model: a decoder-only transformers model.
        reader: finds prompts in token ids; one that reads all tokens.
        config: with read and write site in the adapted layer.
    """

    def __init__(self, model: PreTrainedModel, reader: PromptReader, config: HorenConfig) -> None:
        super().__init__(model, reader, config)
        self.gate: G | None = None
        self._revision = 0

    @property
    def awake(self) -> bool:
        """Whether there is a gate."""
        return self.gate is not None

    @property
    def revision(self) -> int:
        """A number that changes with the gate."""
        return self._revision

    def install(self, gate: G | None) -> None:
        """Let the model answer with a gate from now on, or as it is."""
        self.gate = gate
        self._revision += 1

    def placed(self, device: torch.device) -> G | None:
        """Return the gate, moved to a device if it is elsewhere."""
        if self.gate is not None and self.gate.device != device:  # the model was moved since the last call
            self.gate = self.gate.to(device)
        return self.gate

    def route(self, places: Sequence[Placed], features: Tensor) -> list[Routed]:
        """Return what the gate says to each prompt.

        Args:
            places: the prompts, each with one reading.
            features: [B, d_k], one for each prompt.

        Returns:
            Matches with the greatest score and the number of what has it.
        """
        gate = self.placed(features.device)
        if gate is None:
            return []
        matches = judged(gate, features)
        return [Routed(place, place.prompt.spans[0], match) for place, match in zip(places, matches, strict=True)]


def judged(gate: Gate, features: Tensor) -> list[Match]:
    """Return what a gate says to [B, d_k] features."""
    best, numbers = gate.scores(features).max(dim=-1)
    return [
        Match(number, number, score, score, score, score >= gate.threshold, None, None)
        for number, score in zip(numbers.tolist(), best.tolist(), strict=True)
    ]


class GatedMethod(HookedMethod[GatedAdapter[G]], ABC):
    """A method whose edits are in a gate and in what lies behind it; the model's own weights stay as they are.

    An edit that is stored already is left as it is; one with another target is trained as a new one. A rephrase counts
    as another wording of its edit. Which edit a prompt is nearest to is no part of such a method: for reports it is
    told by the cosine of features, which decides nothing and is not counted among the stored bytes.

    Args:
        model: a decoder-only transformers model.
        tokenizer: the model's own, a fast one.
        config: the method's settings.
        adapter: of the model, not yet wrapped.
        seed: of what the method draws at random.

    Raises:
        ModelError: when the model is wrapped already.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: Settings,
        adapter: GatedAdapter[G],
        seed: int,
    ) -> None:
        super().__init__(model, tokenizer, adapter)
        self._config, self._seed = config, seed
        self._edits: dict[str, Edit] = {}
        self._units: dict[str, Tensor] = {}
        self._irrelevant: tuple[list[str], Tensor] | None = None

    @abstractmethod
    def _trained(self, edits: Sequence[Edit]) -> G:
        """Return the gate with edits whose prompts differ; leave the present one as it is. The model is quiet."""

    @abstractmethod
    def _restored(self, tensors: Mapping[str, Tensor]) -> G:
        """Return the gate that gave ``tensors``. Raises KeyError or ValueError when they are no gate's."""

    def edit(self, edits: Sequence[Edit]) -> None:
        """Write the edits in order: all of them or, on an error or interruption, none.

        Raises:
            EditError: for a list whose rephrases contradict it, or an edit that cannot be encoded.
            ModelError: after :meth:`close`.
        """
        adapter = self._wrapped()
        fresh = [edit for edit in latest(edits) if self._edits.get(same_text(edit.prompt)) != edit]
        if not fresh:
            return
        with quiet(adapter):
            gate = self._trained(fresh)
        self._edits = self._edits | {same_text(edit.prompt): edit for edit in fresh}
        adapter.install(gate)

    def routes(self, prompts: Sequence[str]) -> list[Route]:
        """Return what the gate says to prompts; the score is −inf before the first edit.

        Raises:
            ModelError: after :meth:`close`.
        """
        gate = self._wrapped().placed(device_of(self.model))
        if not prompts or gate is None:
            return [Route(None, -math.inf, False) for _ in prompts]
        features = self._features(self.rows(prompts))
        nearest = self._nearest(features)
        return [
            Route(prompt, match.score, match.fired)
            for prompt, match in zip(nearest, judged(gate, features), strict=True)
        ]

    def stored_bytes(self) -> int:
        """Return the bytes of what the edits are kept in."""
        return 0 if self._adapter.gate is None else self._adapter.gate.nbytes

    def save(self, folder: Path) -> None:
        """Write the gate into a folder.

        Raises:
            StoreError: when the folder cannot be written; what it held before is intact.
        """
        gate = self._adapter.gate
        tensors = {} if gate is None else {name: tensor.cpu() for name, tensor in gate.tensors().items()}
        records = [
            {"prompt": edit.prompt, "target": edit.target, "rephrases": list(edit.rephrases), "subject": edit.subject}
            for edit in self._edits.values()
        ]
        write_state(folder, self.name, self.model, self._settings(), records=records, tensors=tensors)

    def restore(self, folder: Path) -> None:
        """Take up what :meth:`save` wrote in place of what is stored.

        Raises:
            StoreError: when the folder is missing, truncated or altered.
            MismatchError: when it was made with other settings, for another model or by a newer version.
        """
        found = read_state(folder, self.name, self.model, self._settings())
        try:
            edits = [Edit(**record) for record in found.records]
            gate = self._restored(found.tensors).to(device_of(self.model)) if edits else None
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise StoreError(f"{folder} holds no whole state ({error}): restore the folder from a copy.") from error
        self._edits = {same_text(edit.prompt): edit for edit in edits}
        self._adapter.install(gate)

    def _settings(self) -> dict[str, object]:
        return self._config.to_dict() | {"seed": self._seed}

    def _features(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Return what the gate reads of rows of token ids, [B, d_k] float32."""
        spans = [self._adapter.reader.read(row).spans for row in rows]
        return read_in_batches(
            rows, _BATCH, lambda batch: self._adapter.features([rows[i] for i in batch], [spans[i] for i in batch])
        )

    def _background(self, count: int, edits: Sequence[Edit]) -> Tensor:
        """Features of prompts that come with the package and are no wording of an edit, [R, d_k], read once."""
        if self._irrelevant is None:
            texts = load_bank().unrelated(count)
            self._irrelevant = texts, self._features(self.rows(texts))
        texts, features = self._irrelevant
        said = {same_text(text) for edit in edits for text in (edit.prompt, *edit.rephrases)}
        kept = [i for i, text in enumerate(texts) if same_text(text) not in said]
        return features.to(device_of(self.model))[kept]

    def _nearest(self, features: Tensor) -> list[str]:
        """Prompt of the edit with the wording of the greatest cosine to each of [B, d_k] features."""
        owners = {text: edit.prompt for edit in self._edits.values() for text in (edit.prompt, *edit.rephrases)}
        unread = [text for text in owners if text not in self._units]
        if unread:
            self._units |= dict(zip(unread, normalize(self._features(self.rows(unread))), strict=True))
        units = torch.stack([self._units[text].to(features.device) for text in owners])
        prompts = list(owners.values())
        return [prompts[number] for number in (features @ units.T).argmax(-1).tolist()]
