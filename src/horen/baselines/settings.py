"""What the settings of the methods share: every field has a help text and limits, and is checked when it is made."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, get_type_hints

from horen.config import _checked, _setting
from horen.errors import ConfigError

setting = _setting


@dataclass(frozen=True)
class Settings:
    """Base of a method's settings; fields are made with :func:`setting`.

    Attributes:
        presets: for each preset the fields that differ from the defaults.

    Raises:
        ConfigError: naming the field, what was given and what is allowed.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"default": {}, "paper": {}}

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for item in dataclasses.fields(self):
            object.__setattr__(self, item.name, _checked(item, hints[item.name], getattr(self, item.name)))

    @classmethod
    def from_preset(cls, name: str, **changes: Any) -> Self:
        """A preset with ``changes`` on top.

        Raises:
            ConfigError: also for an unknown preset, or a name that is no setting, with the nearest one that is.
        """
        check_preset(name)
        known = [item.name for item in dataclasses.fields(cls)]
        for given in changes:
            if given not in known:
                near = difflib.get_close_matches(given, known, 1)
                names = ", ".join(known) or "none: this method has nothing to set"
                hint = f"did you mean {near[0]!r}?" if near else f"the settings are {names}."
                raise ConfigError(f"Unknown setting {given!r}: {hint}")
        return cls(**(dict(cls.presets[name]) | changes))

    def to_dict(self) -> dict[str, Any]:
        """Every setting, as JSON takes it."""
        return dataclasses.asdict(self)


def check_preset(name: str) -> None:
    """Raise ConfigError for a name that is no preset."""
    if name not in Settings.presets:
        raise ConfigError(f"Unknown preset {name!r}: use {' or '.join(map(repr, Settings.presets))}.")
