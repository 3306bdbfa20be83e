"""The command that names versions of a store."""

from __future__ import annotations

from typing import Annotated

import typer

from horen.cli.options import AsJson, Author, Reason, StorePlace
from horen.cli.stores.opening import by_whom, opened
from horen.cli.terminal import NUMBER, emit, show, show_list


def tag(
    store: StorePlace,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Of a version, such as v1.", show_default=False)
    ] = None,
    version: Annotated[
        str | None,
        typer.Argument(metavar="VERSION", help="Its number, or another tag.  [default: the last]", show_default=False),
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Take NAME from its version.")] = False,
    by: Author = None,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Name a version of a store, or list the names that there are.

    A name belongs to one version: given to another one, it moves there. Wherever a command takes a version, it takes
    its name too.

    \b
    Examples:
      horen tag facts.db released
      horen tag facts.db before-the-merger 12
      horen tag facts.db
    """
    if name is None:
        if delete:
            raise typer.BadParameter("--delete takes a NAME from its version: say which.")
        _list(store, as_json=as_json)
        return
    if delete and version is not None:
        raise typer.BadParameter(f"--delete takes {name} from its version, whichever that is: leave {version} out.")
    with opened(store) as database:
        versions, who = database.versions, by_whom(by, reason)
        if delete:
            versions.untag(name, who)
            number = None
        else:
            number = database.version if version is None else versions.number(version)
            versions.tag(name, number, who)
    if as_json:
        emit({"name": name, "version": number})
    else:
        show(f"No version is called {name} any more." if delete else f"Version {number} is called {name}.")


def _list(store: StorePlace, *, as_json: bool) -> None:
    with opened(store) as database:
        tags = database.versions.tags()
    if as_json:
        emit(tags)
    elif not tags:
        show(f"No version of {store} has a name yet.")
    else:
        show_list((("version", NUMBER), "name"), ((str(number), name) for name, number in tags.items()))
