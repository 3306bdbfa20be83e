"""The methods of the benchmark by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.config import HorenConfig
from horen.config.settings import Settings
from horen.editors.alphaedit import AlphaEdit, AlphaEditConfig
from horen.editors.common.base import Untouched
from horen.editors.defer import Defer, DeferConfig
from horen.editors.ft import FT, FTConfig
from horen.editors.grace import Grace, GraceConfig
from horen.editors.horen.method import CodebookMethod
from horen.editors.ike import Ike, IkeConfig
from horen.editors.interface import Method
from horen.editors.lora import LoRA, LoRAConfig
from horen.editors.memit import Memit, MemitConfig
from horen.editors.mend import Mend, MendConfig
from horen.editors.retrieval import Encoder, Retrieval, RetrievalConfig
from horen.editors.rome import Rome, RomeConfig
from horen.editors.ultraedit import UltraEdit, UltraEditConfig
from horen.editors.unke import Unke, UnkeConfig
from horen.editors.wise import Wise, WiseConfig
from horen.errors import ConfigError
from horen.model.devices import device_of
from horen.model.zoo.encoder import load_encoder

C = TypeVar("C", bound=Settings)


@dataclass(frozen=True)
class _Given:
    """What a method may use beside the model and its settings."""

    seed: int
    encoder: Encoder | None


_Opener = Callable[[PreTrainedModel, PreTrainedTokenizerBase, C, _Given], Method]


@dataclass(frozen=True)
class _Entry(Generic[C]):
    """A method: what it is, the class of its settings, and how it is opened with them."""

    description: str
    settings: type[C]
    open: _Opener[C]


def _plain(kind: Callable[[PreTrainedModel, PreTrainedTokenizerBase, C], Method]) -> _Opener[C]:
    """Return a method that needs its settings alone."""
    return lambda model, tokenizer, config, _given: kind(model, tokenizer, config)


def _drawing(kind: Callable[..., Method]) -> _Opener[Any]:
    """Return a method that draws at random."""
    return lambda model, tokenizer, config, given: kind(model, tokenizer, config, seed=given.seed)


def _finding(kind: Callable[[PreTrainedModel, PreTrainedTokenizerBase, Encoder, C], Method]) -> _Opener[C]:
    """Return a method that finds facts by a sentence encoder."""
    return lambda model, tokenizer, config, given: kind(
        model, tokenizer, given.encoder or load_encoder(device=device_of(model)), config
    )


def _horen(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: HorenConfig, _given: _Given) -> Method:
    return CodebookMethod("horen", model, tokenizer, config)


def _cosine(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: HorenConfig, _given: _Given) -> Method:
    return CodebookMethod("cosine", model, tokenizer, config.replace(steps=0))


_ENTRIES: Mapping[str, _Entry[Any]] = MappingProxyType(
    {
        "none": _Entry("the untouched model", Settings, lambda model, tokenizer, *_: Untouched(model, tokenizer)),
        "horen": _Entry("HoReN: a codebook with normalized Hopfield retrieval", HorenConfig, _horen),
        "cosine": _Entry(
            "the same codebook with plain nearest-neighbour retrieval (no Hopfield step)", HorenConfig, _cosine
        ),
        "grace": _Entry(
            "GRACE (arXiv 2211.11031): a codebook with deferral radii at one layer, values replace its output",
            GraceConfig,
            _drawing(Grace),
        ),
        "defer": _Entry(
            "DEFER (arXiv 2211.11031, after SERAC): a classifier says when a linear layer answers for one layer",
            DeferConfig,
            _plain(Defer),
        ),
        "wise": _Entry(
            "WISE (arXiv 2405.14768): a side memory beside one down projection, chosen by its activation score",
            WiseConfig,
            _drawing(Wise),
        ),
        "retrieval": _Entry(
            "in-context editing: the fact that a sentence encoder finds is put before the question",
            RetrievalConfig,
            _finding(Retrieval),
        ),
        "ike": _Entry(
            "IKE (arXiv 2305.12740): the fact that a sentence encoder finds, after demonstrations of how to use it",
            IkeConfig,
            _finding(Ike),
        ),
        "ft": _Entry(
            "FT-L (arXiv 2012.00363): one layer's down projection fine-tuned within a norm of its weights",
            FTConfig,
            _plain(FT),
        ),
        "lora": _Entry(
            "LoRA (arXiv 2106.09685): low-rank adapters in every layer, trained on one batch of edits after another",
            LoRAConfig,
            _drawing(LoRA),
        ),
        "rome": _Entry(
            "ROME (arXiv 2202.05262): a rank-one change of one down projection for each edit, at its subject",
            RomeConfig,
            _plain(Rome),
        ),
        "memit": _Entry(
            "MEMIT (arXiv 2210.07229): a batch of edits in one least-squares change of several down projections",
            MemitConfig,
            _plain(Memit),
        ),
        "alphaedit": _Entry(
            "AlphaEdit (arXiv 2410.02355): MEMIT's edits projected onto the null space of keys that are preserved",
            AlphaEditConfig,
            _plain(AlphaEdit),
        ),
        "ultraedit": _Entry(
            "UltraEdit (arXiv 2505.14679): normalised inputs and gradients give weight changes in closed form",
            UltraEditConfig,
            _plain(UltraEdit),
        ),
        "mend": _Entry(
            "MEND (arXiv 2110.11309): a trained network turns gradients into weight changes; needs network=FOLDER",
            MendConfig,
            _plain(Mend),
        ),
        "unke": _Entry(
            "UnKE (arXiv 2405.15349): a whole layer is trained to give the hidden state that generates the target",
            UnkeConfig,
            _drawing(Unke),
        ),
    }
)

#: What can be opened: name and description.
METHODS: Mapping[str, str] = MappingProxyType({name: entry.description for name, entry in _ENTRIES.items()})


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
        settings: changes to the preset: of :class:`horen.HorenConfig` for ``horen`` and ``cosine``, for others of the
            configuration in their folder; ``none`` has none.
        seed: of what a method draws at random (the start of GRACE's values, LoRA's adapters, WISE's masks, UnKE's
            texts); no global generator is touched.
        encoder: for ``retrieval`` and ``ike`` a sentence encoder, from n texts to [n, d] float32 unit rows; None
            fetches the embedded one on first use.

    Raises:
        ConfigError: for an unknown name, preset or setting, or a setting that the model does not allow.
        ModelError: when the model cannot be wrapped, or the encoder cannot be fetched.
    """
    entry = _entry(name)
    changes = dict(settings or {})
    if name == "cosine" and changes.get("steps", 0) != 0:
        raise ConfigError(f"steps={changes['steps']!r} is not valid: 'cosine' is the method without steps; omit it.")
    return entry.open(model, tokenizer, entry.settings.from_preset(preset, **changes), _Given(seed, encoder))


def settings_of(name: str) -> type[Settings]:
    """Return the class of a method's settings.

    Raises:
        ConfigError: for an unknown name.
    """
    return _entry(name).settings


def _entry(name: str) -> _Entry[Any]:
    if not isinstance(name, str):
        raise ConfigError(f"method is {type(name).__name__} ({name!r}): give a name, one of {', '.join(METHODS)}.")
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"the methods are {', '.join(METHODS)}."
        raise ConfigError(f"Unknown method {name!r}: {hint}")
    return _ENTRIES[name]
