"""Who asks, and how much one address may ask: requests at once, and requests a minute.

uvicorn finds the client for whom a trusted proxy asks (`run.server_of`).

We count requests a minute ourselves, in 14 lines. The library `limits` (5.8) was read and run for it, and cannot take
their place. Its store in memory reads the clock of the wall: put back an hour, it refuses a client for an hour more. It
keeps any number of addresses. Every 10 ms of use it starts a thread that looks at all of them: with 60,000, one request
waited 0.24 s (ours: 0.007 s). It has no bucket that fills evenly, from which our Retry-After follows.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from mowich.web.turns import refusal_of

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MOST_ADDRESSES = 20_000
"""Addresses whose last minute is remembered. Whoever comes from more of them than this is not held by it."""


def network(text: str) -> Network:
    """An address or a network: 10.0.0.7, 10.0.0.0/8. Raises ValueError."""
    return ipaddress.ip_network(text.strip(), strict=False)


def is_in(address: str, networks: Sequence[Network]) -> bool:
    try:
        one = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(one in n for n in networks)


def counted_as(address: str) -> str:
    """What an address is counted as: an IPv6 client has all of its /64, and IPv4 stays so inside IPv6.

    >>> counted_as("2001:db8::1:2:3:4"), counted_as("::ffff:10.0.0.1"), counted_as("10.0.0.1")
    ('2001:db8::/64', '10.0.0.1', '10.0.0.1')
    """
    try:
        one = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(one, ipaddress.IPv4Address):
        return address
    if one.ipv4_mapped is not None:
        return str(one.ipv4_mapped)
    return str(ipaddress.ip_network((one, 64), strict=False))


class ClientLimits:
    """What one address may ask. at_once: requests under way (0: any number); a_minute: requests a minute, as many of
    them at a time (0: any number)."""

    def __init__(self, *, at_once: int = 0, a_minute: int = 0, now: Callable[[], float] = time.monotonic) -> None:
        self.at_once, self.a_minute, self._now = at_once, a_minute, now
        self.refusals: Counter[str] = Counter()
        self._under_way: Counter[str] = Counter()
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Address -> (requests that it may still make, at what time), by when it asked last."""

    @contextmanager
    def request(self, client: str, *, is_light: bool = False) -> Iterator[None]:
        """A request of an address. is_light: it is answered at once, and counts a minute only: a browser asks for all
        files of the page together. Raises RefusedRequestError (429)."""
        if self.a_minute:
            self._count(client)
        if is_light:
            yield
            return
        if self.at_once and self._under_way[client] >= self.at_once:
            self.refusals["at once"] += 1
            raise refusal_of(429, f"{self.at_once} requests of this address are under way; wait for one", 1)
        self._under_way[client] += 1
        try:
            yield
        finally:
            self._under_way[client] -= 1
            if not self._under_way[client]:
                del self._under_way[client]

    def _count(self, client: str) -> None:
        now, per_s = self._now(), self.a_minute / 60
        left, then = self._left.pop(client, (float(self.a_minute), now))
        left = min(float(self.a_minute), left + (now - then) * per_s)
        self._left[client] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > MOST_ADDRESSES:
            self._left.popitem(last=False)
        if left < 1:
            self.refusals["a minute"] += 1
            raise refusal_of(
                429, f"at most {self.a_minute} requests a minute of one address", max(1, math.ceil((1 - left) / per_s))
            )
