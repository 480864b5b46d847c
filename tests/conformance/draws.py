"""Random numbers of nki-library's tests, drawn otherwise: the same numbers, and the same generator afterwards. What it
draws one by one is drawn at once; what it draws as whole arrays of float64, to cast them, is drawn and cast a piece
after the other."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

PIECE = 1 << 18
"""Numbers that are drawn and cast at a time; as many are drawn whole."""

BLOCKS = 1 << 18
"""MX blocks drawn at once; they take about 100 MB."""


def following(good: np.ndarray) -> np.ndarray:
    """For each word the first good one from it on; the end where there is none."""
    size = good.size
    at = np.append(np.where(good, np.arange(size), size), [size, size])
    return np.minimum.accumulate(at[::-1])[::-1]


def block_draws(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """randint(0, 7), randint(0, 3), randint(0, 2) and random() of NumPy's global generator, n times in this order: the
    same numbers, and the same state afterwards. A bounded integer takes words of 32 bits until their lowest bits are in
    range, random() the next two words."""
    state, size = np.random.get_state(), 6 * n + 64
    while True:
        words = np.random.randint(0, 1 << 32, size=size, dtype=np.uint32)
        np.random.set_state(state)
        first, second = following(words & 7 < 7), following(words & 3 < 3)
        second = second[np.minimum(first + 1, size)]
        after = np.minimum(second + 4, size).tolist()
        starts, at = [], 0
        for _ in range(n):
            starts.append(at)
            at = after[at]
        if second[starts[-1]] + 4 <= size:
            break
        size *= 2
    np.random.randint(0, 1 << 32, size=at, dtype=np.uint32)
    i, j = first[starts], second[starts]
    double = (words[j + 2] >> 5) * 2.0**26 + (words[j + 3] >> 6)
    return words[i] & 7, words[j] & 3, words[j + 1] & 1, double / 2.0**53


def raise_blocks(data: np.ndarray, largest: int) -> None:
    """In each block of 8 x 4 elements one at random becomes +- (1 .. 1.5) * 2^largest, as the loop of
    `generate_stabilized_mx_data` does."""
    blocks = np.moveaxis(data.reshape(data.shape[0] // 8, 8, data.shape[1] // 4, 4), 1, 2)
    rows, columns = blocks.shape[:2]
    for start in range(0, rows * columns, BLOCKS):
        at = np.arange(start, min(start + BLOCKS, rows * columns))
        i, j, sign, part = block_draws(at.size)
        blocks[at // columns, at % columns, i, j] = (2.0 * sign - 1) * (1 + 0.5 * part) * 2.0**largest


class Drawn:
    """Numbers of a generator that are drawn when they are cast, before anything else is drawn: `rng.normal(size=shape)
    * std + mean` of which only the cast is kept."""

    def __init__(self, draw: Callable[[int], np.ndarray], shape: tuple[int, ...], steps: tuple[Any, ...] = ()) -> None:
        self.draw, self.shape, self.steps = draw, shape, steps

    def then(self, step: Any, x: Any) -> Any:
        return step(np.asarray(self), x) if np.ndim(x) else Drawn(self.draw, self.shape, (*self.steps, (step, x)))

    def __mul__(self, x: Any) -> Any:
        return self.then(operator.mul, x)

    def __add__(self, x: Any) -> Any:
        return self.then(operator.add, x)

    def astype(self, dtype: Any) -> np.ndarray:
        out = np.empty(self.shape, dtype)
        flat = out.reshape(-1)
        for k in range(0, flat.size, PIECE):
            part = self.draw(flat[k : k + PIECE].size)
            for step, x in self.steps:
                part = step(part, x)
            flat[k : k + PIECE] = part.astype(dtype)
        return out

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.astype(np.float64 if dtype is None else dtype)


def later(draw: Callable[..., Any]) -> Callable[..., Any]:
    """`normal` or `uniform` of a generator, that gives large arrays as `Drawn`."""

    def drawn(first: float = 0.0, second: float = 1.0, size: Any = None, **named: Any) -> Any:
        shape = () if size is None else (size,) if np.ndim(size) == 0 else tuple(size)
        if named or int(np.prod(shape)) <= PIECE:
            return draw(first, second, size=size, **named)
        return Drawn(lambda n: draw(first, second, n), shape)

    return drawn


class Instead:
    """A module or an object with other things in place of some of its own."""

    def __init__(self, whole: Any, **others: Any) -> None:
        self._whole = whole
        vars(self).update(others)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)


def piecewise(numpy: Any) -> Instead:
    """NumPy for a module that casts what it draws in the same expression."""

    def default_rng(seed: Any = None) -> Instead:
        rng = numpy.random.default_rng(seed)
        return Instead(rng, normal=later(rng.normal), uniform=later(rng.uniform))

    return Instead(numpy, random=Instead(numpy.random, default_rng=default_rng, normal=later(numpy.random.normal)))
