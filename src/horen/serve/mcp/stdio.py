"""The tools over standard input and output, for a program that starts them: they ask a service over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from horen.errors import ConfigError
from horen.serve.mcp.caller import Caller
from horen.serve.mcp.tools import server
from horen.serve.settings import LOOPBACK_NAMES


async def serve(url: str, key: str | None) -> None:
    """Serve the tools until standard input ends.

    Args:
        url: of the service.
        key: that it is asked with; None where it needs none.

    Raises:
        ConfigError: for an address that is none, or to which a key would go in the clear.
    """
    check_url(url, key)
    headers: Mapping[str, str] = {} if key is None else {"authorization": f"Bearer {key}"}
    await server(lambda _: Caller(url, headers)).run_stdio_async()


def check_url(url: str, key: str | None) -> None:
    """Raise ConfigError for an address that is none, or to which a key would go in the clear.

    Args:
        url: of the service.
        key: that it is asked with.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(f"{url!r} is no address of a service: write it as http://127.0.0.1:8000.")
    if key is not None and parts.scheme == "http" and parts.hostname not in LOOPBACK_NAMES:
        raise ConfigError(f"The key would go to {url} in the clear: use https, or a service on this machine.")
