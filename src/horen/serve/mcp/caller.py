"""Asking a service over HTTP, from elsewhere or from within."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx2

from horen.serve.refusals import RefusalError

# An answer may take long; a connection may not.
_PATIENCE = httpx2.Timeout(300.0, connect=10.0)


class Caller:
    """Asks a service.

    Args:
        url: of the service.
        headers: of each request, such as the key.
        transport: by which requests go; None for the network.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str], transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        self._url, self._headers, self._transport = url.rstrip("/"), dict(headers), transport

    async def get(self, path: str, **query: str | int | None) -> dict[str, Any]:
        """Return what a path answers.

        Raises:
            RefusalError: when it refuses, or cannot be reached.
        """
        return await self._ask("GET", path, params={name: value for name, value in query.items() if value is not None})

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a path answers to a body.

        Raises:
            RefusalError: when it refuses, or cannot be reached.
        """
        return await self._ask("POST", path, json=dict(body))

    async def _ask(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        try:
            async with httpx2.AsyncClient(
                headers=self._headers, transport=self._transport, timeout=_PATIENCE, trust_env=False
            ) as client:
                response = await client.request(method, self._url + path, **more)
            told: Any = response.json()
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise RefusalError(
                503,
                f"{self._url} does not answer as a service of this package does ({error}): start it with horen serve, "
                "or check the address.",
            ) from error
        if not isinstance(told, dict):
            raise RefusalError(503, f"{self._url}{path} answers with no object: check the address.")
        if response.is_error:
            raise RefusalError(response.status_code, _message(told, response.status_code))
        return told


def _message(told: Mapping[str, Any], status: int) -> str:
    """Return what a refusal says."""
    error = told.get("error")
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        return str(error["message"])
    return f"The service answers with status {status}: check the address."
