"""The README.md of a saved codebook: what it holds and how to load it, for people and for the hub.

It repeats no prompt and no target. Nothing reads it back, and one that somebody else wrote or changed is left alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from horen._version import __version__
from horen.config import HorenConfig
from horen.editfiles.atomic import write_whole
from horen.errors import HorenError

CARD = "README.md"

_TAGS = ("horen", "model-editing", "knowledge-editing", "hopfield")
_DIGITS = 12
# A card whose digest is not that of what stands before it was changed by somebody.
_SEAL = re.compile(r"<!-- horen wrote this card; a changed one is kept: ([0-9a-f]{64}) -->\n?\Z")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_WORD = re.compile(r"[\w.:+-]+")


def write_card(folder: Path, config: Mapping[str, Any]) -> None:
    """Put the card of what a folder's configuration says into the folder, unless somebody else's is there.

    A folder whose configuration is not that of an editor's codebook gets none. A card that cannot be written is no
    error: the codebook is there without it.
    """
    place = folder / CARD
    with suppress(OSError, HorenError, KeyError, TypeError):
        if is_ours(place):
            write_whole(place, sealed(_card(config)).encode())


def is_ours(place: Path) -> bool:
    """Return whether a card may be replaced: there is none, or it is as this package wrote it.

    Raises:
        OSError: when it cannot be read.
    """
    try:
        text = place.read_bytes().decode("utf-8", "replace").replace("\r\n", "\n")
    except FileNotFoundError:
        return not place.is_symlink()
    seal = _SEAL.search(text)
    return seal is not None and seal[1] == _digest(text[: seal.start()])


def sealed(text: str) -> str:
    """Return a card with the line by which it is known again."""
    return f"{text}<!-- horen wrote this card; a changed one is kept: {_digest(text)} -->\n"


def settings_in_words(config: HorenConfig) -> str:
    """Return the preset and the settings that differ from it; free text, which may name places, is left out."""
    preset = config.preset if config.preset in HorenConfig.presets else "default"
    usual = HorenConfig.from_preset(preset).to_dict()
    changed = {name: value for name, value in config.to_dict().items() if value != usual[name]}
    for name, own in (("preset", "another name"), ("encoder", "one of the user's own")):
        if name in changed:
            changed[name] = own
    return ", ".join([f"preset {preset}", *(f"{name}={value}" for name, value in changed.items())])


def shown_source(source: object) -> str | None:
    """Return a model's name that may be told to others: an embedded one or an id of the hub.

    It is None for a place on a disk.
    """
    if not isinstance(source, str) or Path(source).is_absolute():
        return None
    return source if _WORD.fullmatch(source) or _HUB_ID.fullmatch(source) else None


def _card(config: Mapping[str, Any]) -> str:
    """Return the card without its seal.

    Raises:
        KeyError: when the configuration is not a codebook's.
        TypeError: likewise.
        ConfigError: likewise.
    """
    model = config["model"]
    source, made_for = shown_source(model["source"]), model["fingerprint"]
    settings = settings_in_words(HorenConfig.from_saved(config["settings"]))
    revision = f" at revision `{_word(model['revision'])}`" if source and model.get("revision") else ""
    rows = {
        "edits": str(int(config["edits"])),
        "model": f"`{source}`{revision}" if source else "one of which no public name is known",
        "fingerprint": f"weights `{_word(made_for['weights'])[:_DIGITS]}`, architecture "
        f"`{_word(made_for['architecture'])[:_DIGITS]}`, {_word(made_for['dtype'])}",
        "settings": settings,
        "saved": f"{_word(config['saved'])}, by horen {__version__}",
    }
    head = ["---", "library_name: horen"]
    if source and _HUB_ID.fullmatch(source):
        head += [f"base_model: {json.dumps(source)}"]
    head += ["tags:", *(f"- {tag}" for tag in _TAGS), "---"]
    given = "" if source else ", model, tokenizer"
    return "\n".join(
        [
            *head,
            "",
            "# A codebook of HoReN",
            "",
            "Corrections of what a language model says, which lie beside the model: its weights stay as they are.",
            "",
            "| | |",
            "| --- | --- |",
            *(f"| {name} | {value} |" for name, value in rows.items()),
            "",
            "```python",
            "from horen import Editor",
            "",
            f'editor = Editor.load("this-folder"{given})  # checks that the model is the one above, by its weights',
            'editor.generate("…")',
            "```",
            "",
            "Prompts and targets are in `edits.jsonl`, also those that were replaced or removed. Tensors are",
            "safetensors, all else is text, and nothing in this folder is run.",
            "",
            "",
        ]
    )


def _word(given: Any) -> str:
    """Return what a folder says in one word: a folder of others may say anything, and a card is shown as Markdown."""
    return given if isinstance(given, str) and _WORD.fullmatch(given) else "unknown"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
