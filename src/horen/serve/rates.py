"""How many requests a client may send in a minute, and how many wrong keys."""

from __future__ import annotations

import ipaddress
import math
import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter


class Rates:
    """Counts requests and wrong keys in the minute that has just gone by; in memory, and by this process alone.

    Args:
        requests: a minute of one client.
        failures: wrong keys a minute of one address.
    """

    def __init__(self, requests: int, failures: int) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._requests = RateLimitItemPerMinute(requests, namespace="requests")
        self._failures = RateLimitItemPerMinute(failures, namespace="failures")

    def take(self, client: str) -> int | None:
        """Count a request; return None where it may go on, else after how many seconds to ask again."""
        return None if self._limiter.hit(self._requests, client) else self._wait(self._requests, client)

    def fail(self, address: str) -> None:
        """Count a wrong key."""
        self._limiter.hit(self._failures, network(address))

    def barred(self, address: str) -> int | None:
        """Return after how many seconds an address is listened to again; None where it is."""
        place = network(address)
        return None if self._limiter.test(self._failures, place) else self._wait(self._failures, place)

    def _wait(self, item: RateLimitItemPerMinute, client: str) -> int:
        stats = self._limiter.get_window_stats(item, client)
        return max(1, math.ceil(stats.reset_time - time.time()))


def network(address: str) -> str:
    """Return what one client can choose its address from: of IPv6 the first 64 bits, else the address itself."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address
    if known.version == 4:
        return address
    return str(ipaddress.ip_network((known, 64), strict=False))
