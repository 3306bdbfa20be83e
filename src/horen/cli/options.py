"""Arguments and options that several commands share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import typer

from horen.errors import ConfigError
from horen.store.places import is_store, without_passwords


@dataclass(frozen=True)
class Place:
    """Where edits are: a codebook's folder or a store.

    As a path, an address would lose one of its slashes. As text, a place has no password.

    Attributes:
        text: as the user wrote it.
    """

    text: str

    def __str__(self) -> str:
        return without_passwords(self.text) if self.is_store else str(Path(self.text))

    __repr__ = __str__  # a traceback too shows no password

    @cached_property
    def is_store(self) -> bool:
        """Whether it is a store."""
        return is_store(self.text)

    def folder(self, instead: str) -> Path:
        """Return the folder.

        Args:
            instead: what to do about a store: "as a sentence goes on, …".

        Raises:
            ConfigError: when it is a store.
        """
        if self.is_store:
            raise ConfigError(f"{self} is a store, and this works on a codebook's folder: {instead}.")
        return Path(self.text)

    def without(self, given: Mapping[str, object]) -> Path:
        """Return the folder, for which some options are nothing.

        Args:
            given: values of options that are for stores alone, by name.

        Raises:
            ConfigError: when one of them has a value.
        """
        for name, value in given.items():
            if value:
                raise ConfigError(f"{name} is for a store, and {self} is a codebook's folder: leave it out.")
        return Path(self.text)


class Preset(StrEnum):
    """Names of the presets."""

    default = "default"
    activations = "activations"
    paper = "paper"
    text = "text"


class OnConflict(StrEnum):
    """What to do with an edit that contradicts another."""

    error = "error"
    supersede = "supersede"
    keep = "keep"


class State(StrEnum):
    """Which edits of a store are meant."""

    published = "published"
    retired = "retired"
    all = "all"


class OnSimilar(StrEnum):
    """What to do with an edit that looks like a stored one in other words, with another answer."""

    ignore = "ignore"
    warn = "warn"
    supersede = "supersede"
    ask = "ask"


class Dtype(StrEnum):
    """Types of a model's weights."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Recall(StrEnum):
    """Whether facts that a prompt is about are put before it."""

    related = "related"
    off = "off"


def model_option(help: str) -> Any:  # noqa: A002
    """Return the option for the model that a command loads anew."""
    return typer.Option("--model", metavar="NAME", help=help)


def set_option(help: str) -> Any:  # noqa: A002
    """Return the option for settings, which :func:`parse_settings` reads."""
    return typer.Option("--set", metavar="NAME=VALUE", help=help)


def parse_settings(given: list[str]) -> dict[str, Any]:
    """Read settings from the form name=value.

    Raises:
        ConfigError: when one has another form.
    """
    settings: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ConfigError(f"--set {text} is not valid: write name=value, such as threshold=0.6.")
        if name == "preset":
            raise ConfigError(f"--set {text} is not valid: choose a preset with --preset.")
        try:
            settings[name] = json.loads(value.strip().lower())
        except ValueError:
            settings[name] = value.strip()
    return settings


def parse_template(given: list[str] | None) -> dict[str, Any]:
    """Read what a chat template is told, from the form key=value; true, false, null and numbers are read as such.

    Raises:
        ConfigError: when one has another form.
    """
    told: dict[str, Any] = {}
    for text in given or []:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not key.isidentifier():
            raise ConfigError(f"--template {text} is not valid: write key=value, such as enable_thinking=false.")
        try:
            read = json.loads(value.lower())
        except ValueError:
            read = value
        told[key] = value if isinstance(read, str | list | dict) else read
    return told


def calibration_option(help: str) -> Any:  # noqa: A002
    """Return the option for a calibration's folder or name."""
    return typer.Option("--calibration", metavar="PLACE", help=help)


Conflict = Annotated[
    OnConflict,
    typer.Option("--on-conflict", help="When edits of one prompt disagree: refuse, take the later or the earlier."),
]
Batch = Annotated[
    int, typer.Option("--batch", min=1, metavar="N", help="Edits written as one operation; Ctrl-C loses no more.")
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        metavar="N",
        help="Train in so many processes, which share the cores; each holds the model, and so does the one that starts "
        "them.  [default: one a device; with --ray one a machine, or one an accelerator]",
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Train by workers of Ray: HOST:PORT of its head, auto for one that runs on this machine, local for one of "
        "its own. They need the same horen and the model, but no files of this machine.",
    ),
]
Devices = Annotated[
    str | None,
    typer.Option(
        "--device", metavar="NAMES", help="Where to run the model, such as cuda or cuda:0,cuda:1.  [default: cpu]"
    ),
]
Similarity = Annotated[
    OnSimilar,
    typer.Option(
        "--on-similar",
        help="When a line looks like a stored edit in other words but answers otherwise: write it without a word, "
        "write it and say so, replace the stored edit, or ask (on a terminal; elsewhere say so).",
    ),
]
AnyPlace = Annotated[
    Place,
    typer.Argument(
        metavar="PLACE",
        help="Folder of the codebook, or a store: facts.db or postgresql://user@host/name.",
        parser=Place,
        show_default=False,
    ),
]
Folder = Annotated[
    Place, typer.Argument(metavar="DIR", help="Folder of the codebook.", parser=Place, show_default=False)
]
StorePlace = Annotated[
    Place,
    typer.Argument(
        metavar="STORE", help="A store: facts.db or postgresql://user@host/name.", parser=Place, show_default=False
    ),
]
Author = Annotated[
    str | None,
    typer.Option("--by", metavar="NAME", help="In a store: who does this.  [default: the user of this machine]"),
]
Reason = Annotated[
    str | None, typer.Option("--reason", metavar="TEXT", help="In a store: why this is done, in your own words.")
]
Tags = Annotated[
    str | None, typer.Option("--tags", metavar="A,B", help="In a store: words to find the edits by, beside their own.")
]
IntoSet = Annotated[
    str | None,
    typer.Option("--edit-set", metavar="NAME", help="In a store: the edit set of the edits, which may be new."),
]
Source = Annotated[
    str | None,
    typer.Option("--source", metavar="TEXT", help="In a store: where it is from, for edits that do not say so."),
]
Subject = Annotated[
    str | None,
    typer.Option("--subject", metavar="TEXT", help="In a store: what it is about, for edits that do not say so."),
]
Limit = Annotated[int, typer.Option("--limit", min=1, metavar="N", help="List no more than N.")]
AtVersion = Annotated[
    str | None,
    typer.Option("--version", metavar="N", help="As PLACE was after so many changes; of a store a tag will do too."),
]
EditId = Annotated[int, typer.Argument(metavar="ID", help="Number of the edit.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
TokenBudget = Annotated[int, typer.Option(min=1, metavar="N", help="Most tokens of an answer.")]
WeightType = Annotated[Dtype, typer.Option("--dtype", help="Type of the weights; auto keeps the saved one.")]
Recalls = Annotated[
    Recall | None,
    typer.Option(
        "--recall",
        help="Put facts before a question that is about them without asking for one.  [default: as DIR is set]",
    ),
]
TemplateOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--template",
        metavar="KEY=VALUE",
        help="Tell the model's chat template something, such as enable_thinking=false; may be repeated.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option("--device", metavar="NAME", help="Where to run the model, such as cuda.  [default: cpu]"),
]
ModelPlace = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="NAME", help="Folder or GGUF file of the model, if it has moved since the codebook was made."
    ),
]
EncoderPlace = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        metavar="NAME",
        help="Text encoder or scope that DIR was made with, if not the package's own. DIR's own word for it does not "
        "count: to load one could run or fetch what its maker chose.",
    ),
]
