"""What random arrivals do to a plan whose times are those of a steady load: a closed form, from the times at every
number of requests inside.

Requests come at random (Poisson) and share the workers, so the number inside is a birth-death chain: one more at the
rate of arrivals, one less at the rate that so many are answered at. What each request asks for plays no part in it (a
processor that is shared is insensitive to it). Workers count as one pool, as a router that knows the fewest makes them.
Not in it: prompts that meet by chance, which are most of the tail of a first token.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mowich.arrays import Floats

ARRIVING = 0.95
"""Share of a plan's rate at which requests are taken to arrive."""


@dataclass(frozen=True, slots=True)
class RandomLoad:
    """A pool under Poisson arrivals. inside: requests, on average; ttft_s, tpot_s: means; tpot_at_p99_s: of the load
    that 99 of 100 requests meet at most."""

    inside: float
    ttft_s: float
    tpot_s: float
    tpot_at_p99_s: float


def random_load(rate: float, users: Floats, ttft_s: Floats, tpot_s: Floats, output: float) -> RandomLoad | None:
    """A pool at `rate` requests per second; None where it does not keep up. users: requests inside, rising from 1;
    ttft_s, tpot_s: steady times there; output: tokens of an answer.

    The chain is p(n) = p(n - 1) * rate / answered(n), with answered(n) = n / (ttft(n) + (output - 1) * tpot(n)). An
    arrival meets n with the share p(n), and tokens are made in proportion to p(n) * n / tpot(n). Numbers between those
    given are interpolated.

    Units: rate 1/s, ttft_s s, tpot_s s.

    >>> users = np.array([1.0, 1000.0])
    >>> alone = random_load(2.0, users, np.full(2, 0.5), np.full(2, 0.01), 51.0)  # times do not hang on the load
    >>> round(alone.inside, 6), round(alone.ttft_s, 6), round(alone.tpot_s, 6)
    (2.0, 0.5, 0.01)
    """
    n = np.arange(1.0, np.floor(users[-1]) + 1.0)
    ttft, tpot = (np.interp(n, users, times) for times in (ttft_s, tpot_s))
    answered = n / (ttft + max(output - 1.0, 1.0) * tpot)
    if rate >= answered[-1]:
        return None
    steps = np.append(0.0, np.cumsum(np.log(rate) - np.log(answered)))
    share = np.exp(steps - steps.max())
    share /= share.sum()
    met = share[:-1]  # an arrival finds n - 1 inside
    tokens = share[1:] * n / tpot
    tail = np.interp(0.99, np.cumsum(met) / met.sum(), n)  # between two numbers, so that no last bit moves it by one
    return RandomLoad(
        inside=float((share[1:] * n).sum()),
        ttft_s=float((met * ttft).sum() / met.sum()),
        tpot_s=float((share[1:] * n).sum() / tokens.sum()),
        tpot_at_p99_s=float(np.interp(tail, n, tpot)),
    )
