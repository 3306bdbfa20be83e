"""The methods of the benchmark by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.baselines.base import Untouched
from horen.baselines.codebook import CodebookMethod
from horen.baselines.grace import Grace, GraceConfig
from horen.baselines.retrieval import Encoder, Retrieval, RetrievalConfig
from horen.bench.method import Method
from horen.config import HorenConfig
from horen.errors import ConfigError
from horen.model.devices import device_of
from horen.model.encoder import load_encoder
from horen.settings import Settings

#: What can be opened: name and description.
METHODS: Mapping[str, str] = MappingProxyType(
    {
        "none": "the untouched model",
        "horen": "HoReN: a codebook with normalized Hopfield retrieval",
        "cosine": "the same codebook with plain nearest-neighbour retrieval (no Hopfield step)",
        "grace": "GRACE (arXiv 2211.11031): a codebook with deferral radii at one layer, values replace its output",
        "retrieval": "in-context editing: the fact that a sentence encoder finds is put before the question",
    }
)


def open_method(
    name: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    preset: str = "default",
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    encoder: Encoder | None = None,
) -> Method:
    """Open a method on a model; ``close()`` leaves the model as it was.

    Args:
        name: one of ``METHODS``.
        model: a decoder-only transformers model that no other method or editor wraps.
        tokenizer: the model's own, a fast one.
        preset: ``default``, or ``paper`` for a method's published recipe; ``none`` and ``retrieval`` have but one.
        settings: changes to the preset: of :class:`horen.HorenConfig` for ``horen`` and ``cosine``, of
            :class:`~horen.baselines.grace.GraceConfig` and :class:`~horen.baselines.retrieval.RetrievalConfig`;
            ``none`` has none.
        seed: of what a method draws at random (the start of GRACE's values); no global generator is touched.
        encoder: for ``retrieval`` a sentence encoder, from n texts to [n, d] float32 unit rows; None fetches the
            embedded one on first use.

    Raises:
        ConfigError: for an unknown name, preset or setting, or a setting that the model does not allow.
        ModelError: when the model cannot be wrapped, or the encoder cannot be fetched.
    """
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"the methods are {', '.join(METHODS)}."
        raise ConfigError(f"Unknown method {name!r}: {hint}")
    changes = dict(settings or {})
    if name == "none":
        Settings.from_preset(preset, **changes)
        return Untouched(model, tokenizer)
    if name == "grace":
        return Grace(model, tokenizer, GraceConfig.from_preset(preset, **changes), seed=seed)
    if name == "retrieval":
        config = RetrievalConfig.from_preset(preset, **changes)
        return Retrieval(model, tokenizer, encoder or load_encoder(device=device_of(model)), config)
    if name == "cosine":
        if changes.get("steps", 0) != 0:
            raise ConfigError(
                f"steps={changes['steps']!r} is not valid: 'cosine' is the method without steps; omit it."
            )
        changes["steps"] = 0
    return CodebookMethod(name, model, tokenizer, HorenConfig.from_preset(preset, **changes))
