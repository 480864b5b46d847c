"""How much of the prompts a prefix cache finds at any size of it, from one pass over the requests.

The least recently used block is the first to go, and a request uses all blocks of its prompt and answer in one moment,
the end of them first. So a block is found where the cache holds as many blocks as were used since its last use, and
itself (Mattson's stack distance), and what is found begins at the beginning of the prompt. Blocks that were last used
by one request lie together in the stack, so that the work follows requests and their branches, not blocks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mowich.arrays import Floats
from mowich.serving.traffic.requests import UserRequest


@dataclass(frozen=True, slots=True, eq=False)
class HitCurve:
    """Share of the prompt tokens that are found in a cache. tokens: sizes of it, rising; shares: at these sizes, no
    less at a larger one; requests: that it was made of; prompt, output: their mean tokens.

    Units: tokens; shares.

    Example:
        >>> asked = [UserRequest(str(i), i, 64, 1, (0, 1 + i % 2)) for i in range(4)]
        >>> curve = hit_curve(asked, 32)
        >>> [float(curve.at(32.0 * blocks)) for blocks in (0, 1, 2, 3)]  # the last token of a prompt is computed
        [0.0, 0.375, 0.375, 0.6171875]
    """

    tokens: Floats
    shares: Floats
    requests: int
    prompt: float
    output: float

    def at(self, tokens: Floats | float) -> Floats:
        """The share at a size of the cache."""
        i = np.searchsorted(self.tokens, np.asarray(tokens) * (1.0 + 1e-12), side="right")
        return np.asarray(np.append(0.0, self.shares)[i])


class _Counts:
    """Numbers by place, changed one at a time and summed from a place on (Fenwick's tree)."""

    def __init__(self, most: int) -> None:
        self._sums, self.total = [0] * (most + 1), 0

    def add(self, place: int, number: int) -> None:
        self.total += number
        sums, i = self._sums, place + 1
        while i < len(sums):
            sums[i] += number
            i += i & -i

    def after(self, place: int) -> int:
        """The sum of those after a place."""
        sums, i, out = self._sums, place + 1, self.total
        while i:
            out -= sums[i]
            i -= i & -i
        return out


def hit_curve(requests: Iterable[UserRequest], block: int) -> HitCurve:
    """The curve of requests in this order. block: tokens that a name of theirs stands for."""
    asked = list(requests)
    last: dict[int, int] = {}
    held = _Counts(len(asked))
    weight: dict[int, int] = {}  # tokens that are found from so many blocks on
    for now, r in enumerate(asked):
        names = r.hashes[: r.prompt // block]
        before, nearer, k = -1, 0, 0
        for k, name in enumerate(names, 1):
            used = last.get(name, -1)
            if used < 0:
                break
            if used != before:
                before, nearer = used, held.after(used)
            nearer += 1
            weight[nearer] = weight.get(nearer, 0) + block - (k * block == r.prompt)
        chain = (*names, *r.later)
        gone: dict[int, int] = {}
        for name in chain:
            used = last.get(name, -1)
            if used >= 0:
                gone[used] = gone.get(used, 0) + 1
            last[name] = now
        for used, number in gone.items():
            held.add(used, -number)
        held.add(now, len(dict.fromkeys(chain)))
    sizes = np.array(sorted(weight), dtype=np.float64)
    prompts = sum(r.prompt for r in asked)
    found = np.cumsum([weight[int(size)] for size in sizes], dtype=np.float64)
    return HitCurve(
        tokens=sizes * block,
        shares=found / max(1, prompts),
        requests=len(asked),
        prompt=prompts / max(1, len(asked)),
        output=sum(r.output for r in asked) / max(1, len(asked)),
    )
