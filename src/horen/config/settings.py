"""What settings share: every field has a help text and limits, and is checked when it is made."""

from __future__ import annotations

import dataclasses
import difflib
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, get_type_hints

from horen.errors import ConfigError, MismatchError


def setting(default: Any, help: str, **limits: Any) -> Any:  # noqa: A002
    """Declare a field of settings.

    Args:
        default: its value unless another is given.
        help: its meaning, unit and source.
        limits: ``low`` and ``high``, ``open_low`` when ``low`` itself is excluded, ``choices``, or ``layer`` for a
            depth in [0, 1) or the number of a layer; and ``decides``, by which some of the settings are told apart.
    """
    return field(default=default, metadata={"help": help, **limits})


@dataclass(frozen=True)
class Described:
    """A setting as its users are told of it.

    Attributes:
        name: as it is given.
        type: true or false, text, a whole number or a number.
        default: its value unless another is given.
        value: its value in the preset that was asked for.
        allowed: which values it takes, in the words of the message that refuses another; empty for any of its type.
        decides: what it decides, in words; empty where that is told by the help alone.
        help: its meaning, unit and source.
    """

    name: str
    type: str
    default: Any
    value: Any
    allowed: str
    decides: str
    help: str


@dataclass(frozen=True)
class Settings:
    """Base of settings; fields are made with :func:`setting`.

    Attributes:
        decisions: in words, what ``decides`` of a field says in one.
        presets: for each preset the fields that differ from the defaults.
        search: fields that tuning may change, each with the values it may take; empty where there is nothing to tune.

    Raises:
        ConfigError: naming the field, what was given and what is allowed.
    """

    decisions: ClassVar[Mapping[str, str]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"default": {}, "paper": {}}
    search: ClassVar[Mapping[str, Sequence[Any]]] = {}

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for item in dataclasses.fields(self):
            object.__setattr__(self, item.name, _checked(item, hints[item.name], getattr(self, item.name)))

    @classmethod
    def from_preset(cls, name: str, **changes: Any) -> Self:
        """Return a preset with ``changes`` on top.

        Raises:
            ConfigError: also for an unknown preset, or a name that is no setting, with the nearest one that is.
        """
        if name not in cls.presets:
            raise ConfigError(f"Unknown preset {name!r}: use {' or '.join(map(repr, cls.presets))}.")
        return cls.from_dict(dict(cls.presets[name]) | changes)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Self:
        """Make settings of saved ones.

        Raises:
            ConfigError: also for a name that is no setting, with the nearest one that is.
        """
        known = [item.name for item in dataclasses.fields(cls)]
        for name in settings:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                names = ", ".join(known) or "none: there is nothing to set"
                hint = f"did you mean {near[0]!r}?" if near else f"the settings are {names}."
                raise ConfigError(f"Unknown setting {name!r}: {hint}")
        return cls(**settings)

    @classmethod
    def describe(cls, preset: str = "default") -> list[Described]:
        """Describe every setting, in the order in which they are defined.

        Args:
            preset: whose values are told.

        Raises:
            ConfigError: for an unknown preset.
        """
        hints, values = get_type_hints(cls), cls.from_preset(preset)
        return [
            Described(
                name=item.name,
                type=_TYPES[hints[item.name]],
                default=item.default,
                value=getattr(values, item.name),
                allowed=_allowed(item.metadata),
                decides=cls.decisions.get(item.metadata.get("decides", ""), ""),
                help=item.metadata["help"],
            )
            for item in dataclasses.fields(cls)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return every setting, as JSON takes it."""
        return dataclasses.asdict(self)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some settings changed and all of them checked again."""
        return type(self).from_dict(self.to_dict() | changes)


def check_same(place: object, saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Refuse saved settings that are not one's own.

    Args:
        place: where they were saved, for the message.
        saved: the settings there.
        own: the settings in use.

    Raises:
        MismatchError: naming the first one that differs.
    """
    for name in sorted({*saved, *own}):
        if saved.get(name) != own.get(name):
            raise MismatchError(
                f"{place} was made with {name}={saved.get(name)!r}, not {own.get(name)!r}: open it with the settings "
                "of the folder, or give another folder."
            )


_TYPES = {bool: "true or false", str: "text", int: "a whole number", float: "a number"}


def _allowed(limits: Mapping[str, Any]) -> str:
    """Return what the limits of a field allow, in words; empty for all of its type."""
    if "choices" in limits:
        return "one of " + ", ".join(limits["choices"])
    if limits.get("layer"):
        return "a depth in [0, 1) or a whole layer number"
    bounds = []
    if "low" in limits:
        bounds.append(f"{'more than' if limits.get('open_low') else 'at least'} {limits['low']}")
    if "high" in limits:
        bounds.append(f"at most {limits['high']}")
    return " and ".join(bounds)


def _checked(item: dataclasses.Field[Any], kind: type, given: Any) -> Any:
    limits = item.metadata

    def refuse(expected: str) -> ConfigError:
        return ConfigError(f"{item.name}={given!r} is not valid: expected {expected} ({limits['help']}).")

    if kind is bool or kind is str:
        if not isinstance(given, kind):
            raise refuse(_TYPES[kind])
        if "choices" in limits and given not in limits["choices"]:
            raise refuse(_allowed(limits))
        return given
    if isinstance(given, bool) or not isinstance(given, int | float) or not abs(given) <= sys.float_info.max:
        raise refuse(_TYPES[float])
    if kind is int and given != int(given):
        raise refuse(_TYPES[int])
    if limits.get("layer") and (given < 0 or (given > 1 and given != int(given))):
        raise refuse(_allowed(limits))
    low, high = limits.get("low", -math.inf), limits.get("high", math.inf)
    if not low <= given <= high or (limits.get("open_low") and given == low):
        raise refuse(_allowed(limits))
    return kind(given)
