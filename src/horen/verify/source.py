"""What is verified: a model by its name, and a codebook's edits or built-in ones."""

from __future__ import annotations

import os
from dataclasses import dataclass

from horen.config import ENCODER, HorenConfig
from horen.data import demo_facts
from horen.edits import Edit
from horen.errors import ConfigError, ModelError
from horen.model.zoo.embedded import full_name
from horen.model.zoo.loading import ModelOptions
from horen.store.state import Saved

DEFAULT_MODEL = "smollm2-135m-instruct"

#: So many of the facts that come with the package are written; the next one is written and taken back.
BUILT_IN = 4
_SAMPLE = 6


@dataclass(frozen=True)
class Source:
    """What is checked: a model by its name, with a saved codebook or with settings for built-in edits."""

    name: str
    saved: Saved | None
    config: HorenConfig

    @property
    def encoder(self) -> str | None:
        """The text encoder that is named to whoever loads the codebook."""
        own = self.config.reads_text and self.config.encoder != ENCODER
        return self.config.encoder if own else None

    @property
    def options(self) -> ModelOptions | None:
        """What else the loading of the model is told."""
        return self.saved.model_options() if self.saved is not None and self.name == self.saved.source else None

    def edits(self) -> dict[int, Edit]:
        """Return what is asked for, by id: built-in facts, or edits of the codebook from all over it."""
        if self.saved is None:
            return {number: Edit(fact.prompt, fact.target) for number, fact in enumerate(demo_facts()[:BUILT_IN], 1)}
        active = self.saved.history.active()
        taken = {round(i * (len(active) - 1) / max(_SAMPLE - 1, 1)) for i in range(_SAMPLE)} if active else set()
        return {active[i].id: Edit(active[i].prompt, active[i].target) for i in sorted(taken)}


def source_of(
    model: str | None,
    codebook: str | os.PathLike[str] | None,
    config: HorenConfig | None,
    encoder: str | os.PathLike[str] | None,
) -> Source:
    """Return what is meant by the arguments of :func:`horen.verify.verify`, which says what is raised."""
    if codebook is None:
        if encoder is not None:
            raise ConfigError(f"{encoder} was named as a codebook's text encoder, but no codebook was: leave it out.")
        return Source(full_name(model or DEFAULT_MODEL), None, config or HorenConfig())
    if config is not None:
        raise ConfigError(f"{codebook} has settings of its own: leave config out, or check built-in edits without it.")
    saved = Saved.read(codebook).with_encoder(encoder)
    name = model or saved.source
    if name is None:
        raise ModelError(f"{codebook} does not record where its model came from: say it with model=.")
    return Source(full_name(name), saved, saved.config)
