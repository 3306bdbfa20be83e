"""What the parts of an editor share: the wrapped model, how it is read, its codebook and the history of edits."""

from __future__ import annotations

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.calibration.folder import Calibration
from horen.config import HorenConfig
from horen.data import load_bank
from horen.errors import ConfigError, ModelError
from horen.known import KnownValues
from horen.memory import Codebook, KeySpace
from horen.model.adapter import Adapter, quiet
from horen.model.contexts import Contexts
from horen.model.embedded import full_name
from horen.model.fitting import fit_key_space
from horen.model.layout import read_feature_sizes
from horen.model.pooling import Pooling
from horen.model.prompts import PromptReader
from horen.store.history import History


class Session:
    """State of one editor; see :class:`horen.Editor` for the arguments and what is raised."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        config: HorenConfig,
        calibration: Calibration | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        if calibration is not None:
            calibration.check_model(model)
            config = calibration.applied(config)
        self.config = config
        self._calibration = calibration
        name = getattr(model.config, "_name_or_path", "")
        self.source: str | None = full_name(name) if name else None
        self.reader = PromptReader(tokenizer, words_only=config.scope == "words")
        self.contexts = Contexts(model, tokenizer, load_bank().paragraphs)
        self.history = History()
        self.known: KnownValues | None = None
        self._adapter = Adapter(model, self.reader, config)

    @property
    def adapter(self) -> Adapter:
        """The adapter, while it is on the model.

        Raises:
            ModelError: after unwrap().
        """
        if not self._adapter.installed:
            raise ModelError("This editor was unwrapped: make a new one with Editor(model, tokenizer).")
        return self._adapter

    def unwrap(self) -> None:
        """Take every hook off the model; once more does nothing."""
        self._adapter.unwrap()

    @property
    def key_space(self) -> KeySpace:
        """The key space, fitted on first use."""
        self.codebook()
        assert self._adapter.key_space is not None  # noqa: S101
        return self._adapter.key_space

    def codebook(self) -> Codebook:
        """The codebook, made on first use."""
        adapter, given = self._adapter, self._calibration
        if adapter.codebook is None and given is not None:
            space = given.space.to(self.model.device)
            self.install(
                space, Codebook(space.dimension, self.value_size, device=space.mean.device), given.token_weights
            )
        if adapter.codebook is None:
            if self.config.read_weight == "rare":
                adapter.pooling = self.rare_pooling()
            with quiet(adapter):
                if self.config.key_space == "whitened":
                    space = fit_key_space(adapter, self.reader, self.contexts, load_bank(), self.config)
                else:
                    space = KeySpace.identity(self.feature_size).to(self.model.device)
            self.install(space, Codebook(space.dimension, self.value_size, device=space.mean.device))
        assert adapter.codebook is not None  # noqa: S101
        return adapter.codebook

    def install(self, space: KeySpace, codebook: Codebook, weights: Tensor | None = None) -> None:
        """Let the adapter use a key space and a codebook; weights of tokens replace those it has."""
        self._adapter.key_space, self._adapter.codebook = space, codebook
        if weights is not None:
            self._adapter.pooling = Pooling(self.config.read_share, weights)

    @property
    def token_weights(self) -> Tensor | None:
        """[V] float32, how much each token id counts in a feature; None where all count alike."""
        return self._adapter.pooling.weights

    def rare_pooling(self) -> Pooling:
        """Pooling that lets a token count the more the rarer it is in the bundled prompts."""
        texts = load_bank().sentences()
        return Pooling.of_rare_tokens(self.config.read_share, self.tokenizer, texts, self.vocabulary_size)

    @property
    def feature_size(self) -> int:
        """Length d_f of a feature of this model."""
        return sum(read_feature_sizes(self.model, self._adapter.reads))

    @property
    def vocabulary_size(self) -> int:
        """Number V of token ids that this model has an embedding for."""
        return int(self.model.config.get_text_config(decoder=True).vocab_size)

    @property
    def value_size(self) -> int:
        """Length P of a value of this model."""
        size = self._adapter.layout.hidden_size
        return size if self.config.value == "vector" else 2 * self.config.lora_rank * size


def check_parts(model: object, tokenizer: object, config: object) -> None:
    """Raise what :class:`horen.Editor` raises for what is no model, no fast tokenizer or no settings."""
    if not isinstance(model, PreTrainedModel):
        raise ModelError(
            f"The model is {type(model).__name__}, not a transformers model: pass one that was loaded, or use "
            "Editor.from_pretrained(name)."
        )
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"{type(tokenizer).__name__} is no fast tokenizer, which is needed to tell the user's words from the "
            "scaffold: load it with AutoTokenizer.from_pretrained(…)."
        )
    if config is not None and not isinstance(config, HorenConfig):
        raise ConfigError(f"config is {type(config).__name__}: give a HorenConfig, or None for the default.")
