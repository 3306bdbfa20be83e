"""What `horen serve` does before it serves: its settings, a store where there is none, and what is said of it."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import sys
from typing import Any

from rich.table import Table

from horen.cli.flow.opening import make_ready
from horen.cli.options import Place, Preset, parse_settings
from horen.cli.stores.making import is_there
from horen.cli.terminal import say, show_table, status, table
from horen.config import HorenConfig
from horen.database.records import By
from horen.database.store import Store
from horen.errors import ConfigError
from horen.serve.opening import Order, make_store, propose_demo, serve
from horen.serve.settings import Settings
from horen.serve.telemetry.logs import write_logs
from horen.store.places import without_passwords


def read_options(given: list[str], **chosen: Any) -> Settings:
    """Return the settings of a service: those that have options of their own, and others of the form name=value.

    Raises:
        ConfigError: for one that is not known, or a value that is none for it.
    """
    fields = {field.name: field for field in dataclasses.fields(Settings)}
    values = dict(chosen)
    for text in given:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or name not in fields:
            raise ConfigError(
                f"--option {text} is not known: write one of {', '.join(sorted(fields))}, =, and a value."
            )
        values[name] = _value(text, fields[name].default, value)
    return Settings(**values)


def _value(text: str, default: Any, given: str) -> Any:
    if isinstance(default, tuple):
        return tuple(part for part in re.split(r"[,\s]+", given) if part)
    if isinstance(default, str):
        return given
    try:
        found = json.loads(given.lower())
    except ValueError:
        found = None
    wanted = bool if isinstance(default, bool) else (int, float) if isinstance(default, float) else int
    if not isinstance(found, wanted) or (isinstance(found, bool) and not isinstance(default, bool)):
        kind = "true or false" if isinstance(default, bool) else "a number"
        raise ConfigError(f"--option {text} is not valid: give {kind}.")
    return found


def describe_options() -> None:
    """List the settings of a service."""
    told = _attributes(Settings.__doc__ or "")
    rows = [(field.name, _shown(field.default), told.get(field.name, "")) for field in dataclasses.fields(Settings)]
    made: Table = table(("option", "default", ("what it is", {"ratio": 1})), rows)
    show_table(made)


def _attributes(text: str) -> dict[str, str]:
    """Return what a docstring says of each attribute."""
    found = re.findall(r"^        (\w+): (.+(?:\n            .+)*)", text, flags=re.MULTILINE)
    return {name: " ".join(words.split()) for name, words in found}


def _shown(value: Any) -> str:
    return (
        ", ".join(value) if isinstance(value, tuple) else json.dumps(value) if isinstance(value, bool) else str(value)
    )


def opened(
    place: str,
    settings: Settings,
    *,
    demo: bool,
    new: tuple[str | None, Preset | None, list[str]],
    how: dict[str, Any],
) -> None:
    """Serve a store, which is made where there is none yet.

    Args:
        place: address of the store.
        settings: of the service.
        demo: whether the demo's facts are proposed to a store without any.
        new: model, preset and settings of a store that is made.
        how: what else :class:`horen.serve.opening.Order` is told.
    """
    model, preset, changed = new
    made = _made(place, model, preset, changed, how)
    if demo:
        with Store.open(place) as store:
            propose_demo(store)
    # Where the model of a store came from is known; a name is for one that has moved.
    order = Order(place, settings, model=None if made or demo else model, **how)
    # A person at a terminal wants to see what goes wrong, a program that keeps the log all of it.
    write_logs(level=logging.WARNING if sys.stderr.isatty() else logging.INFO, private=settings.log_prompts)

    def ready(address: str, port: int) -> None:
        host = f"[{address}]" if ":" in address else address
        say(f"Serving {without_passwords(place)} at http://{host}:{port}{settings.root_path}")
        say("  /       the page: ask, add facts, approve drafts, look back")
        say("  /v1     as OpenAI's interface    /docs  all that can be asked    Ctrl-C ends it")
        if demo:
            say("The demo's facts are being trained; they answer as they are published.")

    with Store.open(place) as store:
        snapshot_model = store.about().model
    make_ready(order.model or snapshot_model or "", HorenConfig(), order.dtype)
    serve(order, say, ready)


def _made(place: str, model: str | None, preset: Preset | None, changed: list[str], how: dict[str, Any]) -> bool:
    """Make a store where there is none yet, and say whether that was so."""
    shown = Place(place)
    if is_there(shown):
        if preset is not None or changed:
            raise ConfigError(f"{shown} has its settings already: leave --preset and --set out.")
        return False
    if model is None:
        raise ConfigError(f"There is no store {shown}: say with --model which model a new one is for.")
    config = HorenConfig.from_preset(preset.value if preset else "default").replace(**parse_settings(changed))
    make_ready(model, config, how["dtype"])
    with status(f"Making {shown} for {model} …"):
        make_store(place, model, config, how["dtype"], how["device"], By("horen serve", "a new store"))
    return True
