"""Why a request is not answered, in the shape in which OpenAI's interface says so; knows no framework."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from horen.errors import HorenError

INVALID = "invalid_request_error"
_TYPES: Mapping[int, str] = MappingProxyType(
    {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
)


class RefusalError(HorenError):
    """A request that is not answered, and how that is said over HTTP.

    Args:
        status: of the answer.
        message: names the input at fault, what was expected, and the way out.
        param: the field at fault, as ``messages[0].content``.
        code: a word for programs.
        headers: that the answer has too.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code
        self.headers = dict(headers or {})

    @property
    def type(self) -> str:
        """The kind of error, as OpenAI's interface names it."""
        return "server_error" if self.status >= 500 else _TYPES.get(self.status, INVALID)

    @property
    def shaped(self) -> dict[str, Any]:
        """What the answer's body says."""
        return {"error": {"message": str(self), "type": self.type, "param": self.param, "code": self.code}}

    @property
    def body(self) -> bytes:
        """The answer's body: JSON of ASCII characters alone."""
        return json.dumps(self.shaped).encode()
