"""What a request must be before it is looked at: a plain path, from this site, with a body of JSON; as plain ASGI.

Each guard raises RefusalError, which whoever stands around them all turns into an answer.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from types import MappingProxyType

from horen.serve import asgi
from horen.serve.auth import own_path
from horen.serve.refusals import RefusalError
from horen.serve.settings import LOOPBACK_NAMES, Settings

# What another reader of the path could take for something else: an encoded slash, backslash, dot or control sign; a
# backslash; two slashes; a segment of dots.
_TRICKS = re.compile(rb"%(2f|5c|2e|7f|[01][0-9a-f])|[\\\x00-\x1f\x7f]|//|/\.{1,2}(/|$)", re.IGNORECASE)
_BAD_PERCENT = re.compile(rb"%(?![0-9a-f]{2})", re.IGNORECASE)
_LONGEST_PATH, _LONGEST_QUERY = 2048, 8192
_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[^\[\]:@/?#\s]+)(:(?P<port>\d{1,5}))?")
_WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})

#: What each answer carries.
HEADERS = MappingProxyType(
    {
        "content-security-policy": (
            "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
            "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
        ),
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=()",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
    }
)


class PlainPath:
    """Refuses paths that one reader takes for another than the next: status 400.

    Args:
        app: what is called.
    """

    def __init__(self, app: asgi.ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """Call the application, or refuse the request."""
        if scope["type"] == "http":
            check_path(scope.get("raw_path") or scope["path"].encode(), scope.get("query_string", b""))
        await self._app(scope, receive, send)


def check_path(path: bytes, query: bytes) -> None:
    """Raise RefusalError for a path or a query that is not plain.

    Args:
        path: as it was sent.
        query: likewise.
    """
    path = path.partition(b"?")[0]
    if len(path) > _LONGEST_PATH or len(query) > _LONGEST_QUERY:
        raise RefusalError(
            414, f"The path has at most {_LONGEST_PATH} bytes, and the query {_LONGEST_QUERY}.", code="uri_too_long"
        )
    if not path.startswith(b"/") or _TRICKS.search(path) or _BAD_PERCENT.search(path) or not _utf8(path):
        raise RefusalError(
            400,
            "The path has an encoded slash, dot or control sign, two slashes, or a segment of dots: write it plainly.",
            code="invalid_path",
        )
    if b"\x00" in query or re.search(rb"%00", query) or not _utf8(query):
        raise RefusalError(400, "The query has a null byte, or is no UTF-8: write it without.", code="invalid_query")


def _utf8(quoted: bytes) -> bool:
    """Return whether what is quoted by percent signs is text in UTF-8."""
    plain = re.sub(rb"%([0-9a-fA-F]{2})", lambda found: bytes([int(found[1], 16)]), quoted)
    try:
        plain.decode()
    except UnicodeDecodeError:
        return False
    return True


class SameSite:
    """Refuses requests to another host's name, and those that a page of another site makes a browser send: status 403.

    The first keeps names off that are made to point here (DNS rebinding), the second forged requests.

    Args:
        app: what is called.
        settings: by which names the service is reached.
        pages: paths that a link of another site may lead to.
    """

    def __init__(self, app: asgi.ASGIApp, settings: Settings, pages: Sequence[str] = ("/",)) -> None:
        self._app, self._pages = app, frozenset(pages)
        self._hosts = Hosts(settings)

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """Call the application, or refuse the request."""
        if scope["type"] == "http":
            host = asgi.header(scope, "host")
            if host is None or not self._hosts.known(host):
                raise RefusalError(
                    403,
                    f"The host {(host or '')[:100]!r} is not one that this service is reached by: name it with "
                    "--trusted-host if it is.",
                    code="unknown_host",
                )
            if not self._own(scope, host):
                raise RefusalError(
                    403,
                    "This request is from a page of another site, and such ones are not answered: open this service's "
                    "own page, or ask from a program.",
                    code="cross_site",
                )
        await self._app(scope, receive, send)

    def _own(self, scope: asgi.Scope, host: str) -> bool:
        """Return whether no page of another site makes a browser send a request."""
        site, mode = asgi.header(scope, "sec-fetch-site"), asgi.header(scope, "sec-fetch-mode")
        if site not in {None, "same-origin", "none"}:
            followed = scope["method"] == "GET" and mode == "navigate"
            document = asgi.header(scope, "sec-fetch-dest") == "document"
            return followed and document and own_path(scope) in self._pages
        origin = asgi.header(scope, "origin")
        return origin is None or same_place(origin, host)


class Hosts:
    """Knows the names that a service is reached by.

    Args:
        settings: where it is bound, and what it is called beside that.
    """

    def __init__(self, settings: Settings) -> None:
        self._names = LOOPBACK_NAMES | {settings.address} | set(settings.trusted_hosts)
        self._ends = tuple(name[1:] for name in settings.trusted_hosts if name.startswith("*."))
        self._anywhere = settings.address != "localhost" and ipaddress.ip_address(settings.address).is_unspecified

    def known(self, host: str) -> bool:
        """Return whether a Host header is one of them; of one bound to all addresses, also any address.

        An address as such cannot be made to point elsewhere.
        """
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found["name"].strip("[]").lower().removesuffix(".")
        if name in self._names or (self._ends and name.endswith(self._ends)):
            return True
        return self._anywhere and _is_address(name)


def same_place(origin: str, host: str) -> bool:
    """Return whether an Origin header names what a Host header names; either may leave out its scheme's port."""
    scheme, _, place = origin.partition("://")
    if scheme not in {"http", "https"}:
        return False
    usual = ":443" if scheme == "https" else ":80"
    return place.lower().removesuffix(usual) == host.lower().removesuffix(usual)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class JsonBody:
    """Refuses bodies that are not called JSON: status 415. No form of a web page can send that.

    Args:
        app: what is called.
    """

    def __init__(self, app: asgi.ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """Call the application, or refuse the request."""
        if scope["type"] == "http" and scope["method"] in _WRITING:
            length, encoding = asgi.header(scope, "content-length"), asgi.header(scope, "transfer-encoding")
            kind = (asgi.header(scope, "content-type") or "").partition(";")[0].strip().lower()
            empty = encoding is None and length in {None, "0"}
            if kind != "application/json" and not (empty and not kind):
                raise RefusalError(
                    415,
                    f'The body is called {kind[:100]!r}: send JSON, with the header "Content-Type: application/json".',
                    code="unsupported_media_type",
                )
        await self._app(scope, receive, send)


class SafeHeaders:
    """Gives each answer the headers that tell a browser what its page may do.

    Args:
        app: what is called.
    """

    def __init__(self, app: asgi.ASGIApp) -> None:
        self._app = app
        self._headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """Call the application."""

        async def told(message: asgi.Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                added = [pair for pair in self._headers if pair[0] not in present]
                if b"cache-control" not in present and b"etag" not in present:
                    added.append((b"cache-control", b"no-store"))
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self._app(scope, receive, told if scope["type"] == "http" else send)
