"""Comparisons and references of large arrays a piece after the other, by the functions that take them whole."""

from collections.abc import Callable
from typing import Any

import numpy as np


def in_pieces(compare: Callable[..., bool], size: int = 1 << 20) -> Callable[..., bool]:
    """nki-library's `maxAllClose`, whose tolerance follows from the reference's largest element: each piece is given
    that element too. The verdict is the same, without five copies of all in float64."""

    def compared(a: Any, b: Any, *tolerances: Any, **options: Any) -> bool:
        alike = a.shape == b.shape and a.dtype == b.dtype and len(tolerances) <= 2
        if not alike or b.size <= size or options.get("mode", "max") != "max" or options.get("min_pass_rate", 1.0) < 1:
            return compare(a, b, *tolerances, **options)
        pairs = [(a.reshape(-1)[k : k + size], b.reshape(-1)[k : k + size]) for k in range(0, b.size, size)]
        largest = max(np.abs(y[np.isfinite(y)]).max(initial=-1) for _, y in pairs)
        if largest < 0:  # nothing is finite
            return compare(a, b, *tolerances, **options)
        return all(compare(np.append(x, largest), np.append(y, largest), *tolerances, **options) for x, y in pairs)

    return compared


def by_rows(reference: Callable[..., Any], size: int = 1 << 20) -> Callable[..., Any]:
    """A reference `f(x [B, S, H], ...)` that looks at each of B x S rows alone and gives arrays [B, S, .] or None: some
    of S at a time."""

    def whole(x: Any, *given: Any) -> Any:
        step = max(1, size // (x.shape[0] * x.shape[2]))
        parts = [reference(x[:, k : k + step], *given) for k in range(0, x.shape[1], step)]
        return tuple(None if p[0] is None else np.concatenate(p, axis=1) for p in zip(*parts, strict=True))

    return whole
