"""Who asks, and what they may: keys with scopes, and everybody on this machine as long as there is no key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer, SecurityScopes
from starlette.concurrency import run_in_threadpool

from horen.database.records import SCOPES, By, Scope
from horen.errors import StoreError
from horen.serve import asgi
from horen.serve.rates import Rates
from horen.serve.refusals import RefusalError
from horen.serve.settings import Settings

if TYPE_CHECKING:
    from horen.database import Store

#: Who is on this machine, as long as there is no key.
LOCAL = "local"
#: What a proxy adds to the requests that it hands on.
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
_LONGEST_KEY = 256
_REALM = 'Bearer realm="horen"'


@dataclass(frozen=True)
class Principal:
    """Who asks.

    Attributes:
        actor: name of the key; what the audit log calls them.
        scopes: what they may do.
        key: id of the key; None for everybody on this machine.
    """

    actor: str
    scopes: tuple[Scope, ...]
    key: int | None = None

    def may(self, scope: Scope) -> bool:
        """Return whether they may do a thing."""
        return scope in self.scopes or "admin" in self.scopes

    def check(self, scope: Scope, what: str = "This") -> None:
        """Raise RefusalError where they may not do a thing.

        Args:
            scope: that it needs.
            what: names it, at the beginning of a sentence.
        """
        if self.may(scope):
            return
        raise RefusalError(
            403,
            f'{what} needs the scope "{scope}", and the key {self.actor!r} has {_listed(self.scopes)}: use a key that '
            "has it.",
            code="insufficient_scope",
            headers={"www-authenticate": f'{_REALM}, error="insufficient_scope", scope="{scope}"'},
        )

    def by(self, reason: str | None = None) -> By:
        """Return what a store is told of who does something, and why."""
        return By(self.actor, reason or "")


class Doorkeeper:
    """Finds out who sends a request, and whether they send too many.

    Args:
        store: whose keys are taken.
        settings: whether those on this machine need one, and the limits.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self._rates = Rates(settings.rate, settings.failed_rate)

    async def admit(self, scope: asgi.Scope) -> Principal:
        """Return who sends a request.

        Raises:
            RefusalError: with 401 for no key or one that does not hold, with 429 for too many requests.
        """
        place = asgi.address(scope)
        if (wait := self._rates.barred(place)) is not None:
            raise _too_many(f"{place} has sent too many wrong keys", wait)
        principal, told = await run_in_threadpool(self._find, scope)
        if principal is None and told:
            self._rates.fail(place)
        counted = f"key {principal.key}" if principal and principal.key is not None else f"address {place}"
        if (wait := self._rates.take(counted)) is not None:
            raise _too_many(f"The {counted} has sent more than {self._settings.rate} requests in a minute", wait)
        if principal is None:
            raise _unknown(told)
        return principal

    def _find(self, scope: asgi.Scope) -> tuple[Principal | None, bool]:
        """Return who sends a request, and whether a key came with it."""
        if self._settings.local and not self._store.keys.any():
            proxied = any(asgi.header(scope, name) is not None for name in _FORWARDED)
            return (None, False) if proxied else (Principal(LOCAL, SCOPES), False)
        told = asgi.header(scope, "authorization")
        if told is None:
            return None, False
        kind, _, secret = told.partition(" ")
        secret = secret.strip()
        if kind.lower() != "bearer" or not secret.isascii() or not 0 < len(secret) <= _LONGEST_KEY:
            return None, True
        key = self._store.keys.find(secret)
        return (None if key is None else Principal(key.name, key.scopes, key.id)), True


class Admission:
    """Lets no request through whose sender is not known, but to what is public; before any of its body is read.

    Args:
        app: what is called; it finds a :class:`Principal` in the request's state.
        doorkeeper: who knows the senders.
        public: whether a path is for everybody.
    """

    def __init__(self, app: asgi.ASGIApp, doorkeeper: Doorkeeper, public: Callable[[str], bool]) -> None:
        self._app, self._doorkeeper, self._public = app, doorkeeper, public

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """Call the application, or refuse the request."""
        if scope["type"] == "http" and not self._public(own_path(scope)):
            state = scope.setdefault("state", {})
            try:
                state["principal"] = await self._doorkeeper.admit(scope)
            except StoreError as error:
                state["error"] = error  # for the log: whoever has no key yet is not told where the store is
                raise _no_store() from error
        await self._app(scope, receive, send)


def own_path(scope: asgi.Scope) -> str:
    """Return a request's path without that below which a proxy serves this."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(root) if root and path.startswith(root + "/") else path


_bearer = HTTPBearer(
    scheme_name="key",
    bearerFormat="hk_…",
    description="A key of this service. Without any key in the store, everybody on its machine may do everything.",
    auto_error=False,
)


def principal_of(request: Request) -> Principal:
    """Return who sends a request.

    Raises:
        RefusalError: with 401 where nobody was admitted.
    """
    found = getattr(request.state, "principal", None)
    if not isinstance(found, Principal):
        raise _unknown(told=False)
    return found


def _scoped(request: Request, scopes: SecurityScopes, _: Annotated[Any, Depends(_bearer)]) -> Principal:
    """Return who sends a request, if they have every scope that its route needs."""
    principal = principal_of(request)
    for scope in SCOPES:
        if scope in scopes.scopes:
            principal.check(scope)
    return principal


def needs(*scopes: Scope) -> Any:
    """Return a dependency of FastAPI: a :class:`Principal` who has these scopes; without any, one who has any key."""
    return Security(_scoped, scopes=list(scopes))


def _unknown(told: bool) -> RefusalError:
    """Return the refusal of a request whose sender is not known."""
    if told:
        message = "This key is unknown, revoked or has expired: ask whoever runs this service for another."
        return RefusalError(
            401, message, code="invalid_api_key", headers={"www-authenticate": f'{_REALM}, error="invalid_token"'}
        )
    message = 'This needs a key: send it as the header "Authorization: Bearer hk_…".'
    return RefusalError(401, message, code="missing_api_key", headers={"www-authenticate": _REALM})


def _no_store() -> RefusalError:
    """Return the refusal of a request whose key cannot be looked up."""
    message = "The store, which has the keys too, cannot be read now: ask again in 5 s."
    return RefusalError(503, message, code="store_unavailable", headers={"retry-after": "5"})


def _too_many(what: str, wait: int) -> RefusalError:
    return RefusalError(
        429, f"{what}: ask again in {wait} s.", code="rate_limit_exceeded", headers={"retry-after": str(wait)}
    )


def _listed(scopes: tuple[Scope, ...]) -> str:
    return ", ".join(f'"{one}"' for one in scopes) or "none"
