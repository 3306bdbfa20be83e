"""The settings of the service, with their limits, and where it may be bound."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from horen.errors import ConfigError

if TYPE_CHECKING:
    from horen.database import Store

_NAME = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
#: Names that every machine has for itself.
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Settings:
    """How the service is run.

    Attributes:
        address: IP address that it is bound to, or "localhost".
        port: of that address; 0 for any that is free.
        root_path: path below which a proxy serves it; empty for none.
        trusted_hosts: further names that it is reached by, as "facts.example.org" or "*.example.org".
        proxies: addresses of proxies whose word for a client's address and scheme is taken, or networks of them, as
            "10.0.0.0/24".
        four_eyes: whether an edit is published by another person than who drafted or last revised it.
        log_prompts: whether the log has the text of prompts and answers.
        keep_prompts: whether the most frequent prompts are kept in memory, to evaluate drafts on.
        open_metrics: whether ``/metrics`` is told without a key.
        tracing: whether OpenTelemetry traces are sent where its environment variables say.
        mcp: whether tools for assistants are served at ``/mcp``.
        max_running: answers that are made or wait at once, beyond which further ones are refused.
        max_streams: streams of events that are open at once.
        max_body: bytes of a request's body.
        body_seconds: that a body may take to arrive.
        read_seconds: that a part of an answer may wait to be taken.
        stream_seconds: after which a stream of events ends, and its reader asks anew.
        rate: requests a minute of one key, or of one address without a key.
        failed_rate: wrong keys a minute of one address, beyond which it is not listened to.
        closing_seconds: that running answers have to finish when the service ends.
        drain_seconds: for which it still takes requests after it has said that it ends, so that a balancer sees that.

    Raises:
        ConfigError: when one is out of range or contradicts another.
    """

    address: str = "127.0.0.1"
    port: int = 8000
    root_path: str = ""
    trusted_hosts: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    four_eyes: bool = False
    log_prompts: bool = False
    keep_prompts: bool = False
    open_metrics: bool = False
    tracing: bool = False
    mcp: bool = False
    max_running: int = 256
    max_streams: int = 64
    max_body: int = 4 * 2**20
    body_seconds: float = 30.0
    read_seconds: float = 60.0
    stream_seconds: float = 900.0
    rate: int = 1200
    failed_rate: int = 10
    closing_seconds: float = 30.0
    drain_seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.address != "localhost":
            _ip(self.address, "address")
        for one in self.proxies:
            _network(one, "proxies")
        for name in self.trusted_hosts:
            if not _NAME.fullmatch(name):
                raise ConfigError(
                    f"trusted_hosts has {name!r}, which is no name of a host: write it in small letters and without "
                    'a port, as "facts.example.org" or "*.example.org".'
                )
        if self.root_path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", self.root_path):
            raise ConfigError(
                f'root_path={self.root_path!r} is no path: it begins with a slash and ends without, as "/facts".'
            )
        self._check_numbers()

    def _check_numbers(self) -> None:
        """Raise ConfigError for a number that is out of range."""
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            least, most = _RANGES.get(one.name, (1, 2**31 - 1))
            if not least <= value <= most:
                raise ConfigError(f"{one.name}={value!r} is out of range: give a number from {least} to {most}.")

    @property
    def loopback(self) -> bool:
        """Whether only programs of this machine can connect."""
        return self.address == "localhost" or ipaddress.ip_address(self.address).is_loopback

    @property
    def local(self) -> bool:
        """Whether whoever connects is taken for somebody on this machine, as long as there are no keys."""
        return self.loopback and not self.proxies and not self.root_path and not self.trusted_hosts


_RANGES: dict[str, tuple[float, float]] = {
    "port": (0, 65535),
    "max_body": (1024, 2**30),
    "body_seconds": (0.1, 3600),
    "read_seconds": (0.1, 3600),
    "stream_seconds": (0.1, 86400),
    "closing_seconds": (0, 3600),
    "drain_seconds": (0, 3600),
}


def check_binding(settings: Settings, store: Store) -> None:
    """Raise ConfigError where a service could be reached from elsewhere, and its store has no key.

    Args:
        settings: where it is bound, and how it is reached.
        store: whose keys are looked for.
    """
    if settings.local or store.keys.any():
        return
    where = f"address={settings.address}" if not settings.loopback else "a proxy or a host name"
    raise ConfigError(
        f"The service would be open to other machines ({where}), and its store has no key: make one with "
        "`horen keys STORE make NAME --scopes admin`, or bind it to 127.0.0.1 without a proxy in front of it."
    )


def _ip(text: str, name: str) -> None:
    """Raise ConfigError for what is no IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise ConfigError(
            f'{name} has {text!r}, which is no IP address: write one, as "127.0.0.1", or "0.0.0.0" for all addresses.'
        ) from None


def _network(text: str, name: str) -> None:
    """Raise ConfigError for what is neither an IP address nor a network of such."""
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise ConfigError(
            f'{name} has {text!r}, which is no IP address and no network ({error}): write one, as "10.0.0.7" or '
            '"10.0.0.0/24".'
        ) from None
