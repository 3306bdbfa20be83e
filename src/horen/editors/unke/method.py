"""UnKE as a method of the benchmark."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.config import resolve_layer
from horen.data import load_bank
from horen.editfiles.textfiles import BadRecordError, decode_line, numbered_lines, unreadable
from horen.editors.common.samples import plain_samples
from horen.editors.common.weights import WeightMethod
from horen.editors.unke.config import UnkeConfig
from horen.editors.unke.layer import Call, record, train_layer
from horen.editors.unke.states import find_shifts
from horen.edits import Edit
from horen.errors import DataError
from horen.model.layout import Layout, Site

# Tokens of a preserved text that are looked at: enough to see a paragraph, few enough for any context.
_LONGEST = 256


class Unke(WeightMethod):
    """UnKE, unstructured knowledge editing (Deng et al. 2025, arXiv 2405.15349).

    A key is what the layers up to l make of a prompt x of N tokens: the hidden states h_1, …, h_N that layer l gives
    for it. Stage one finds the state of the last token with which the model generates the whole target y:

        δ = argmin_δ −log P(y | x, h_N := h_N + δ)

    Stage two trains the weights θ of layer l alone, f_θ with f the layer and its inputs as they are, so that it gives
    that state, and gives all other tokens of the prompt, and those of unrelated texts u, what it gave before (θ_0):

        L(θ) = 1/T Σ_i [Σ_{t<N_i} ‖f_θ(x_i)_t − h_{i,t}‖² + ‖f_θ(x_i)_{N_i} − (h_{i,N_i} + δ_i)‖²]
             + λ/T' Σ_j Σ_t ‖f_θ(u_j)_t − f_{θ_0}(u_j)_t‖²

    T and T' are the tokens of the prompts and of the unrelated texts. All edits of one call are trained together.

    δ is written in the output of the layer's MLP, where it reaches h_N through the layer's own residual (and norm,
    where it has one); what h_N becomes is then read off, so any layer's structure will do. The released code also
    shrinks δ and clips it to four times ‖h_N‖; here its steps are what bounds it. A rephrase of an edit is a prompt of
    its own, with a δ of its own. The subject is not asked for.

    Args:
        model: a decoder-only transformers model with an MLP in its layers, in memory as a whole.
        tokenizer: the model's own, a fast one.
        config: the settings; None for the default preset.
        seed: of the draw of unrelated texts.

    Raises:
        ModelError: when another method holds the model's weights, or it has no layers with an MLP.
        ConfigError: when the settings name a layer that the model does not have.
        DataError: when the file of unrelated texts cannot be used.
    """

    name = "unke"
    config: UnkeConfig

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: UnkeConfig | None = None,
        *,
        seed: int = 0,
    ) -> None:
        given = config or UnkeConfig()
        self._layout = Layout.of(model)
        number = resolve_layer(given.layer, len(self._layout.layers), "layer")
        first, last = self._layout.mlp(number)
        self._site = Site(number, last, "output", "mlp_output")
        self._layer = self._layout.layers[number]
        trained = [self._layer] if given.scope == "layer" else [first, last]
        members = {id(parameter) for module in trained for parameter in module.parameters()}
        names = {id(parameter): name for name, parameter in model.named_parameters() if id(parameter) in members}
        #: the model's name of each trained parameter by the layer's own.
        self._names = {own: names[id(p)] for own, p in self._layer.named_parameters() if id(p) in members}
        self._texts = _drawn(given, seed) if given.preserve_weight else []
        super().__init__(model, tokenizer, given, self._names.values())

    def _write(self, edits: Sequence[Edit]) -> None:
        samples = plain_samples(self.contexts, edits, end=self.config.train_end)
        shifts = torch.stack(
            [item.value for item in find_shifts(self.model, self._layout, self._site, samples, self.config)]
        )
        wanted = record(self.model, self._layer, [sample.prompt for sample in samples], self._site.module, shifts)
        changes = train_layer(
            *(self._layer, list(self._names), wanted, self._preserved()),
            steps=self.config.weight_steps,
            rate=self.config.weight_rate,
            weight=self.config.preserve_weight,
        )
        self._add({self._names[own]: change for own, change in changes.items()})

    def _preserved(self) -> list[Call]:
        longest = min(_LONGEST, self.contexts.limit or _LONGEST)
        rows = [row for row in (self.contexts.plain(text)[:longest] for text in self._texts) if row]
        return record(self.model, self._layer, rows)


def _drawn(config: UnkeConfig, seed: int) -> list[str]:
    draw = random.Random(seed)  # noqa: S311
    if config.texts:
        texts = _lines(Path(config.texts))
        return draw.sample(texts, min(config.preserve_count, len(texts)))
    bank = load_bank()
    mixed = [*draw.sample(bank.paragraphs, len(bank.paragraphs)), *draw.sample(bank.plain, len(bank.plain))]
    return mixed[: config.preserve_count]


def _lines(path: Path) -> list[str]:
    texts = []
    try:
        with path.open("rb") as handle:
            for number, raw in numbered_lines(handle):
                try:
                    if isinstance(raw, BadRecordError):
                        raise raw
                    texts.append(decode_line(raw).strip())
                except BadRecordError as error:
                    raise DataError(f"{path}, line {number}: {error}; write one text a line, in UTF-8.") from error
    except OSError as error:
        raise unreadable(path, error) from error
    texts = [text for text in texts if text]
    if not texts:
        raise DataError(f"{path} holds no text: write one a line, or set preserve_count=0.")
    return texts
