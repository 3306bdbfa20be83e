"""The commands of the program, a file each or a few in one; what is not called is not even imported."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, NamedTuple

import typer


class Place(NamedTuple):
    """Where a command is found.

    Attributes:
        module: one of this folder.
        name: of a function there, or of a group of commands.
        help: name of its help there; None where the function's own docstring is that.
    """

    module: str
    name: str
    help: str | None = None


#: Every command by name, in the order in which the help has them.
ON_DEMAND: Mapping[str, Place] = MappingProxyType(
    {
        "demo": Place("demo", "demo"),
        "edit": Place("edit", "edit", "EDIT_HELP"),
        "ask": Place("ask", "ask"),
        "chat": Place("ask", "chat"),
        "explain": Place("explain", "explain"),
        "doctor": Place("doctor", "doctor"),
        "verify": Place("verify", "verify"),
        "list": Place("stored", "list_edits"),
        "show": Place("stored", "show_edit"),
        "supersede": Place("edit", "supersede"),
        "remove": Place("stored", "remove"),
        "undo": Place("stored", "undo"),
        "history": Place("stored", "history"),
        "compact": Place("compact", "compact"),
        "export": Place("stored", "export"),
        "import": Place("edit", "edit", "IMPORT_HELP"),
        "merge": Place("merge", "merge", "MERGE_HELP"),
        "follow": Place("follow", "follow"),
        "drafts": Place("drafts", "drafts"),
        "diff": Place("diff", "diff"),
        "tag": Place("tag", "tag"),
        "rollback": Place("rollback", "rollback"),
        "sets": Place("sets", "sets"),
        "audit": Place("audit", "audit"),
        "keys": Place("keys", "keys"),
        "backup": Place("backup", "backup"),
        "upgrade": Place("upgrade", "upgrade"),
        "push": Place("push", "push"),
        "calibrate": Place("calibrate", "calibrate"),
        "rekey": Place("rekey", "rekey", "REKEY_HELP"),
        "scope": Place("scope", "train_scope"),
        "models": Place("models", "models"),
        "settings": Place("settings", "settings"),
        "bench": Place("bench", "bench"),
        "serve": Place("serve", "serve"),
        "mcp": Place("mcp", "mcp"),
    }
)


class Commands(UserDict[str, Any]):
    """Commands by name; one is imported and made when it is looked up.

    Args:
        places: where they are.
    """

    def __init__(self, places: Mapping[str, Place]) -> None:
        super().__init__(places)

    def __getitem__(self, name: str) -> Any:
        if isinstance(self.data[name], Place):
            self.data[name] = made(name, self.data[name])
        return self.data[name]


def made(name: str, place: Place) -> Any:
    """Import a command and return it as typer runs it."""
    module = import_module(f"{__name__}.{place.module}")
    found = getattr(module, place.name)
    if not isinstance(found, typer.Typer):
        alone = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)
        alone.command(name, help=place.help and getattr(module, place.help))(found)
        found = alone
    command = typer.main.get_command(found)
    command.name = name
    return command
