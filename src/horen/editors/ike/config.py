"""The settings of IKE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from horen.config.settings import setting
from horen.editors.retrieval import RetrievalConfig
from horen.errors import ConfigError


@dataclass(frozen=True)
class IkeConfig(RetrievalConfig):
    """Settings of IKE (arXiv 2305.12740).

    ``default`` leaves a prompt alone that no fact is near to, and shows eight demonstrations, which small context
    windows hold. ``paper`` shows the published 32 and puts the nearest fact before every prompt.
    """

    preset: str = setting("default", "name of the preset these settings started from")
    threshold: float = setting(
        0.7,
        "a fact is put before a question when their cosine exceeds this; -1 puts the nearest before every question",
        low=-1,
        high=1,
    )
    template: str = setting(
        "New Fact: {prompt} {target}\nPrompt: {question}",
        "how a fact and a question are written: {prompt} and {target} of the fact, and the {question}, which is last "
        "because its answer follows",
    )
    count: int = setting(
        8,
        "k: demonstrations before the fact, one to copy for three to update and four to retain (published: 32); the "
        "farthest are left out where the context does not hold them",
        low=0,
    )
    demonstrations: str = setting(
        "",
        "file of facts to demonstrate with, one JSON object a line with prompt, target, rephrase, unrelated_prompt and "
        "unrelated_answer; empty: the 32 that come with the package",
    )
    room: int = setting(64, "tokens of the context that demonstrations leave free for an answer", low=0)

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"default": {}, "paper": {"preset": "paper", "threshold": -1.0, "count": 32}}
    )

    search: ClassVar[Mapping[str, Sequence[Any]]] = MappingProxyType(
        {**RetrievalConfig.search, "count": (0, 4, 8, 16, 32)}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.template.endswith("{question}"):
            raise ConfigError(
                f"template={self.template!r} is not valid: expected {{question}} at its end, because "
                "demonstrations show the answer there."
            )
