"""The command that gives a service's tools to an assistant."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from horen.errors import ConfigError

_KEY = "HOREN_KEY"


def mcp(
    url: Annotated[str, typer.Argument(metavar="URL", help="Address of the service, as http://127.0.0.1:8000.")],
    key_file: Annotated[
        Path | None,
        typer.Option("--key-file", metavar="FILE", help=f"Holds a key of the service.  [default: what {_KEY} says]"),
    ] = None,
) -> None:
    """Serve the tools of a running service to an assistant.

    By the Model Context Protocol, over standard input and output. An assistant starts this as a program of its own. It
    can ask the model, see why an edit answers, list drafts and draft an edit; it cannot publish one. A service that
    runs with --option mcp=true has the same tools at /mcp.

    \b
    Example, in an assistant's settings:
      {"mcpServers": {"horen": {
        "command": "horen", "args": ["mcp", "http://127.0.0.1:8000"]}}}
    """
    from horen.extras import require  # noqa: PLC0415

    require("mcp", "`horen mcp` needs")
    import asyncio  # noqa: PLC0415

    from horen.serve.mcp.stdio import serve  # noqa: PLC0415

    asyncio.run(serve(url, _key(key_file)))


def _key(file: Path | None) -> str | None:
    """Return the key that a file holds, or that the environment says."""
    if file is None:
        return os.environ.get(_KEY) or None
    try:
        return file.read_text(encoding="utf-8").strip() or None
    except OSError as error:
        raise ConfigError(f"--key-file {file} cannot be read ({error.strerror}): check the path.") from error
