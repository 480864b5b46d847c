"""Small loads of requests, drawn, for tests of serving."""

from __future__ import annotations

import numpy as np

from mowich.serving.arrivals import draw, lengths
from mowich.serving.traffic.requests import UserRequest


def drawn_load(
    rng: np.random.Generator, seed: int, *, rate: float, requests: int, prompt: str, output: str
) -> list[UserRequest]:
    """Requests of three priorities, `rate` a second, of which some share the beginning of their prompts, in blocks of
    32 tokens."""
    found = list(
        draw(
            rate=rate,
            requests=requests,
            prompt=lengths(prompt, ""),
            output=lengths(output, ""),
            seed=seed,
            priorities=3,
        )
    )
    for one in found:
        one.hashes = tuple(range(min(int(rng.integers(0, 4)), one.prompt // 32)))
    return found
