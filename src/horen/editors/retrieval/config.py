"""The settings of retrieval in context."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from horen.config.settings import Settings, setting
from horen.errors import ConfigError

_FIELDS = {"prompt", "target", "question"}


@dataclass(frozen=True)
class RetrievalConfig(Settings):
    """Settings of retrieval in context; both presets are the same."""

    threshold: float = setting(0.7, "a fact is put before a question when their cosine exceeds this", low=-1, high=1)
    template: str = setting(
        "New fact: {prompt} {target}\n{question}",
        "what the model is fed: {prompt} and {target} of the fact, and the {question} that is asked",
    )

    search: ClassVar[Mapping[str, Sequence[Any]]] = MappingProxyType(
        {"threshold": (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            found = [(name, spec, how) for _, name, spec, how in string.Formatter().parse(self.template) if name]
        except ValueError as error:
            raise ConfigError(f"template={self.template!r} is not valid: {error}.") from error
        if sorted(name for name, _, _ in found) != sorted(_FIELDS) or any(spec or how for _, spec, how in found):
            raise ConfigError(
                f"template={self.template!r} is not valid: expected {{prompt}}, {{target}} and {{question}}, each once "
                "and nothing else in braces."
            )
