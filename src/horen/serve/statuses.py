"""Which status an error of the package has over HTTP."""

from __future__ import annotations

from horen.errors import (
    ApprovalError,
    ConfigError,
    ConflictError,
    DataError,
    EditError,
    EditNotFoundError,
    HorenError,
    MissingExtraError,
    ModelError,
    StoreError,
)
from horen.serve.refusals import RefusalError

#: The first that fits counts.
_STATUS: tuple[tuple[type[HorenError], int, str], ...] = (
    (EditNotFoundError, 404, "not_found"),
    (ConflictError, 409, "conflict"),
    (ApprovalError, 403, "four_eyes"),
    (EditError, 400, "invalid_edit"),
    (ConfigError, 400, "invalid_setting"),
    (DataError, 400, "invalid_data"),
    (StoreError, 503, "store_unavailable"),
    (ModelError, 503, "model_unavailable"),
    (MissingExtraError, 501, "not_installed"),
)


def refusal(error: HorenError) -> RefusalError:
    """Return an error of the package as the refusal of a request."""
    if isinstance(error, RefusalError):
        return error
    status, code = next(((status, code) for kind, status, code in _STATUS if isinstance(error, kind)), (500, "error"))
    headers = {"retry-after": "5"} if status == 503 else {}
    return RefusalError(status, str(error), code=code, headers=headers)
