"""What the parts of an editor share: the wrapped model, how it is read, its codebook and the history of edits."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from horen.config import HorenConfig
from horen.data import load_bank
from horen.edits import Edit, EditRecord
from horen.errors import ConfigError, MismatchError, ModelError
from horen.memory import Codebook, KeySpace
from horen.model.adapter import Adapter
from horen.model.askers import Askers
from horen.model.contexts import Contexts
from horen.model.devices import device_of
from horen.model.fingerprint import Weights, fingerprint
from horen.model.linear import check_gradients
from horen.model.pooling import for_vocabulary, rare_weights
from horen.model.prompts import PromptReader
from horen.model.quiet import quiet
from horen.model.sequels import Sequel
from horen.model.whitening import fit_key_space, pooled
from horen.model.zoo.embedded import full_encoder_name, full_name
from horen.model.zoo.encoder import TextEncoder
from horen.store import Known
from horen.store.calibration import Calibration
from horen.store.history import History
from horen.store.index import check_index, give_index
from horen.store.state import CodebookState, Saved, save
from horen.store.tables import Sizes


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
        check_index(config)
        self.config = config = config.replace(encoder=full_encoder_name(config.encoder))
        self._calibration = calibration
        name = getattr(model.config, "_name_or_path", "")
        self.source: str | None = full_name(name) if name else None
        self.revision: str | None = None  # the commit of a model of the hub
        self.reader = PromptReader(tokenizer, words_only=config.scope == "words")
        self.contexts = Contexts(model, tokenizer, load_bank().paragraphs)
        self.history = History()
        self.weights: Weights | None = None  # the model's, since the codebook began
        self.read_only = False  # whether prompts are read without hooks on the model, which answers elsewhere
        #: Folders that this was loaded from or saved in, and the marks of what they held then.
        self.folders: dict[Path, Known] = {}
        self._sequels: dict[EditRecord, Sequel] = {}
        self._adapter = Adapter(model, self.reader, config)
        self._adapter.wording, self._adapter.sequel = self.wording, self.sequel
        if calibration is not None:
            calibration.check_encoder(None if self.encoder is None else self.encoder.module)

    @property
    def adapter(self) -> Adapter:
        """The adapter, while it is on the model.

        Raises:
            ModelError: after unwrap().
        """
        if not self._adapter.installed and not self.read_only:
            raise ModelError("This editor was unwrapped: make a new one with Editor(model, tokenizer).")
        return self._adapter

    @property
    def askers(self) -> Askers:
        """Those who ask the model."""
        return self._adapter.askers

    def follow(self, other: Session) -> None:
        """Take over, before this is on the model, who asks another session and where its edits are disabled."""
        self._adapter.follow(other._adapter)

    def wrap(self) -> None:
        """Put the hooks on the model.

        Raises:
            ModelError: when it is wrapped already, or no gradient passes the layers that values are trained through.
        """
        untyped: Any = self.model
        above = self._adapter.layout.layers[self._adapter.write.layer + 1 :]
        check_gradients(self.model, (*above, untyped.get_output_embeddings()))
        self._adapter.wrap()

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
        """Return the codebook, made on first use."""
        if self._adapter.codebook is None:
            given = self._calibration
            space = self.prepare() if given is None else self.prepare(given.space, given.token_weights)
            values, keys = self.config.storage(), self.config.of_keys()
            sizes, device = (space.dimension, self.value_size), space.mean.device
            self.install(space, Codebook(*sizes, device=device, storage=values, key_storage=keys))
        assert self._adapter.codebook is not None  # noqa: S101
        return self._adapter.codebook

    def prepare(self, space: KeySpace | None = None, weights: Tensor | None = None) -> KeySpace:
        """Settle how prompts are read: with a key space and weights of tokens where given, else as this model asks for.

        Raises:
            ConfigError: when what is given does not fit the model.
        """
        adapter = self._adapter
        if weights is None and self.config.weighs_tokens:
            weights = self.rare_weights
        adapter.reads.weights = weights
        with quiet(adapter):
            if space is None and self.config.whitens:
                space = fit_key_space(adapter, self.reader, self.contexts, load_bank(), self.config)
            size = self.feature_size
        space = (KeySpace.identity(size) if space is None else space).to(device_of(self.model))
        if len(space.mean) != size:
            raise ConfigError(
                f"The key space is one of features of {len(space.mean)} numbers, and {self.config.read_sites} gives "
                f"{size}: give one that was made for this model and these settings."
            )
        adapter.key_space = space
        return space

    def keys(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Return unit keys [B, d_k] of the user's words in B ≥ 1 rows of token ids; edits do not matter."""
        space = self._adapter.key_space
        assert space is not None  # noqa: S101
        with quiet(self._adapter):
            return space(pooled(self._adapter, self.reader, rows))

    def install(self, space: KeySpace, codebook: Codebook, weights: Tensor | None = None) -> None:
        """Let the adapter use a key space and a codebook; weights of tokens replace those it has.

        The codebook is given the index that the settings want, and begins with the model's weights as they are, unless
        the attribute ``weights`` says what they were.
        """
        give_index(codebook, self.config)
        if self.weights is None:
            self.weights = Weights(self.model)
        self._adapter.key_space, self._adapter.codebook = space, codebook
        if weights is not None:
            self._adapter.reads.weights = weights

    def state(self) -> CodebookState:
        """Return all that the codebook is, with the fingerprint of the model that it began with.

        What the model is now does not matter.
        """
        codebook, space = self.codebook(), self.key_space
        assert self.weights is not None  # noqa: S101
        return CodebookState(
            config=self.config,
            source=self.source,
            revision=self.revision,
            made_for=self.weights.first,
            encoder=self.encoder_print,
            history=self.history,
            keys=codebook.keys,
            values=codebook.packed,
            value_of=codebook.value_of,
            space=space,
            token_weights=self.token_weights,
        )

    def take(self, state: CodebookState, codebook: Codebook, weights: Weights | None) -> None:
        """Go on with a state and the codebook of it.

        Args:
            state: of the settings, the model and the text encoder that are here.
            codebook: with the state's tables.
            weights: the model's when the codebook began; None for as they are.
        """
        self._forget_folders()
        self.history, self.weights = state.history, weights
        self.source, self.revision = state.source, state.revision
        self.install(state.space, codebook, state.token_weights)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a folder, as a whole or not at all; see :meth:`horen.Editor.save`."""
        self.check_weights()
        state = self.state()
        save(state, path, self.folders.setdefault(Path(path).resolve(), {}))

    def restore(self, saved: Saved) -> None:
        """Take up what was saved in the place of what is here.

        Raises:
            MismatchError: when it was made for another model or text encoder.
            StoreError: when its tables fit neither its history nor the model.
        """
        weights = Weights(self.model)
        saved.check_made_for(weights.first)
        saved.check_encoder(self.config.encoder, self.encoder_print)
        tokens = self.vocabulary_size if self.config.weighs_tokens else None
        state, codebook = saved.whole(device_of(self.model), Sizes(self.value_size, self.feature_size, tokens))
        self.take(state, codebook, weights)
        self.folders[saved.path.resolve()] = saved.known()

    def renumber(self, history: History, codebook: Codebook) -> None:
        """Go on with a history and a codebook that fit each other, both or neither; nobody may ask meanwhile."""
        give_index(codebook, self.config)
        # What was looked up before must not pass for what this one finds.
        codebook.revision += self.codebook().revision
        self._forget_folders()
        before = self.history, self._adapter.codebook, self._sequels
        try:
            self.history, self._adapter.codebook, self._sequels = history, codebook, {}
        except BaseException:
            self.history, self._adapter.codebook, self._sequels = before
            raise

    def _forget_folders(self) -> None:
        """Take nothing that folders hold for a part of what is stored from now on; their marks are still known."""
        for known in self.folders.values():
            known.update(dict.fromkeys(known))

    def wording(self, entry: int) -> str | None:
        """Return the prompt or rephrase that an entry was made of; None where no edit has it."""
        record = self.history.holder(entry)
        return None if record is None else wording(record, entry)

    def sequel(self, entry: int) -> Sequel | None:
        """Return the text and the further values of the edit that an entry belongs to; None where no edit has it."""
        record = self.history.holder(entry)
        if record is None:
            return None
        if record not in self._sequels:
            targets = self.contexts.renderings(Edit(record.prompt, record.target))
            self._sequels[record] = Sequel(tuple(record.values[1:]), record.left, targets)
        return self._sequels[record]

    @property
    def token_weights(self) -> Tensor | None:
        """[V] float32, how much each token id counts in a feature; None where all count alike."""
        weights = self._adapter.reads.weights
        return None if weights is None else for_vocabulary(weights, self.vocabulary_size)

    @cached_property
    def rare_weights(self) -> Tensor:
        """[V] float32, the greater the rarer a token is in the bundled prompts."""
        return rare_weights(self.tokenizer, load_bank().sentences(), self.vocabulary_size)

    @property
    def encoder(self) -> TextEncoder | None:
        """The text encoder that makes keys and queries; None where activations do."""
        return self._adapter.reads.encoder

    def check_weights(self) -> None:
        """Raise MismatchError when the model's weights have changed since the codebook began."""
        self.codebook()
        assert self.weights is not None  # noqa: S101
        differs = self.weights.change()
        if differs:
            raise MismatchError(
                f"The model is not what it was ({differs} since this codebook began), and an edit is good for the "
                "weights that it was made with. Put them back to save, or write the edits anew with a new Editor."
            )

    @cached_property
    def encoder_print(self) -> dict[str, Any] | None:
        """The fingerprint of the text encoder; None where activations make keys."""
        return None if self.encoder is None else fingerprint(self.encoder.module)

    @property
    def feature_size(self) -> int:
        """Length d_f of a feature of this model."""
        return sum(self._adapter.reads.sizes)

    @property
    def vocabulary_size(self) -> int:
        """Number V of token ids that this model has an embedding for."""
        return int(self.model.config.get_text_config(decoder=True).vocab_size)

    @property
    def value_size(self) -> int:
        """Length P of a value of this model."""
        size = self._adapter.layout.hidden_size
        return 2 * self.config.lora_rank * size if self.config.value == "lora" else size


def wording(record: EditRecord, entry: int) -> str:
    """Return the prompt or rephrase that an entry of an edit was made of."""
    wordings = list(dict.fromkeys((record.prompt, *record.rephrases)))
    return wordings[record.entries.index(entry)]


def check_parts(model: object, tokenizer: object, config: object) -> None:
    """Raise what :class:`horen.Editor` raises for what is no model, no fast tokenizer or no settings."""
    if not isinstance(model, PreTrainedModel) and isinstance(_inner(model), PreTrainedModel):
        raise ModelError(
            f"The model is {type(model).__name__}, which lies around a transformers model: pass "
            "model.get_base_model(), which has the adapters in it; what lies around it then answers with the edits too."
        )
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


def _inner(model: object) -> object:
    """Return the model that peft's adapters lie around; None for any other."""
    inner = getattr(model, "get_base_model", None)
    return inner() if callable(inner) else None
