"""The command that serves a store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from horen.cli.options import Device, Dtype, Preset, WeightType, model_option, set_option
from horen.errors import ConfigError, StoreError

_STORE, _FILE = "HOREN_STORE", "HOREN_STORE_FILE"
_DEMO_MODEL = "smollm2-135m-instruct"
_SERVICE = "The service"
_MODEL = "The model"
_NEW = "A new STORE"


def serve(
    place: Annotated[
        str | None,
        typer.Argument(
            metavar="STORE",
            help="A SQLite file, or postgresql://user@host/name.  [default: what HOREN_STORE says, or the file that "
            "HOREN_STORE_FILE names]",
            show_default=False,
        ),
    ] = None,
    demo: Annotated[
        bool,
        typer.Option("--demo", help="Serve a small model with the facts of `horen demo`, from a store of its own."),
    ] = False,
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            metavar="NAME",
            rich_help_panel=_MODEL,
            help="transformers, vllm (started here), or the URL of a server of vLLM's that follows STORE too.",
        ),
    ] = "transformers",
    engine_key_file: Annotated[
        Path | None,
        typer.Option("--engine-key-file", metavar="FILE", rich_help_panel=_MODEL, help="Key of that server."),
    ] = None,
    model: Annotated[
        str | None,
        model_option("Where the model is, if it has moved; for a new STORE: which model it is for."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", rich_help_panel=_MODEL, help="Name under which the model is asked."),
    ] = None,
    dtype: WeightType = Dtype.auto,
    device: Device = None,
    preset: Annotated[
        Preset | None,
        typer.Option("--preset", rich_help_panel=_NEW, help="The settings to start from.  [default: default]"),
    ] = None,
    settings: Annotated[list[str] | None, set_option("For a new STORE: change a setting; may be repeated.")] = None,
    address: Annotated[
        str, typer.Option("--address", metavar="IP", rich_help_panel=_SERVICE, help="Where to listen.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, rich_help_panel=_SERVICE, help="0 takes any that is free.")
    ] = 8000,
    trainer: Annotated[
        bool,
        typer.Option("--trainer/--no-trainer", rich_help_panel=_SERVICE, help="Train drafts beside the service."),
    ] = True,
    four_eyes: Annotated[
        bool,
        typer.Option("--four-eyes", rich_help_panel=_SERVICE, help="Who drafts an edit may not publish it."),
    ] = False,
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="NAME=VALUE",
            rich_help_panel=_SERVICE,
            help="A further setting of the service, such as rate=600 or trusted_hosts=facts.example.org; may be "
            "repeated. With `--option help` they are listed.",
        ),
    ] = None,
) -> None:
    """Serve a model with the edits of a store.

    Programs ask the model at /v1 as they ask OpenAI's; edits are proposed, evaluated, published and taken back at
    /edits, /drafts and /versions, /docs tells of all of it, and / is the page for people. Without a key only this
    machine is answered, and all is allowed; keys are made with "horen keys". Drafts are trained in a process beside the
    service. Ctrl-C ends it when what runs is done.

    \b
    Examples:
      horen serve --demo
      horen serve facts.db --model smollm2-135m-instruct
      horen serve postgresql://db/facts --engine http://gpu:8000 --address 0.0.0.0
    """
    from horen.extras import require  # noqa: PLC0415

    require("serve", "`horen serve` needs")
    from horen.cli.stores.serving import describe_options, opened, read_options  # noqa: PLC0415

    if options == ["help"]:
        describe_options()
        return
    given = read_options(options or [], address=address, port=port, four_eyes=four_eyes)
    where = _place(place, demo=demo)
    key = None if engine_key_file is None else engine_key_file.read_text(encoding="utf-8").strip()
    runs = {"name": name, "engine": engine, "engine_key": key, "dtype": dtype.value, "device": device}
    opened(
        where,
        given,
        demo=demo,
        new=(model or (_DEMO_MODEL if demo else None), preset, settings or []),
        how=runs | {"trains": trainer},
    )


def _place(given: str | None, *, demo: bool) -> str:
    """Return the address of the store that is named, here or in the environment."""
    if demo:
        if given is not None:
            raise ConfigError(f"--demo has a store of its own: leave {given} out, or --demo.")
        from horen.model.zoo.cache import cache_dir  # noqa: PLC0415

        folder = cache_dir()
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder / "demo.db")
    if given is not None:
        return given
    if file := os.environ.get(_FILE):
        try:
            return Path(file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise StoreError(f"{_FILE} names {file}, which cannot be read ({error.strerror}).") from error
    if address := os.environ.get(_STORE):
        return address
    raise typer.BadParameter("name a STORE, or set HOREN_STORE; `horen serve --demo` needs none.")
