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


WAITS = np.array([[0, 0, 1, 1], [1, 2, 1, 2], [3, 3, 3, 3], [4, 4, 4, 4], [0, 0, 0, 0]], np.uint8)
"""What the draws of a block wait for after a word, by what they waited for and by the kind of the word: 0 a row, 1 a
column, 2 the sign, 3 and 4 the words of random(). Kind: 2 where it gives a row, and 1 where it gives a column."""
LANES = 512
"""Parts of the words that are gone through side by side."""


def _after_four() -> np.ndarray:
    """`WAITS` after four words: by what was waited for and their kinds, the first in the lowest bits."""
    kinds = np.arange(256, dtype=np.uint8)
    after = np.repeat(np.arange(5, dtype=np.uint8)[:, None], 256, axis=1)
    for shift in range(0, 8, 2):
        after = WAITS[after, kinds >> shift & 3]
    return after


AFTER_FOUR = _after_four()


def waiting(kinds: np.ndarray) -> np.ndarray:
    """What the draws wait for before each word, from a row on. kinds: of the words, a multiple of 4 `LANES`.

    Every lane is gone through from all five beginnings at once, then once more from the one that the lane before it
    leads to."""
    fours = kinds.reshape(-1, 4)
    lanes = (fours[:, 0] | fours[:, 1] << 2 | fours[:, 2] << 4 | fours[:, 3] << 6).reshape(LANES, -1).T.copy()
    ends = np.repeat(np.arange(5, dtype=np.uint8)[:, None], LANES, axis=1)
    for four in lanes:
        ends = AFTER_FOUR[ends, four]
    begin = np.zeros(LANES, np.uint8)
    for lane in range(1, LANES):
        begin[lane] = ends[begin[lane - 1], lane - 1]
    before = np.empty(lanes.shape, np.uint8)
    for at, four in enumerate(lanes):
        before[at] = begin
        begin = AFTER_FOUR[begin, four]
    found = np.empty(fours.shape, np.uint8)
    found[:, 0] = before.T.reshape(-1)
    for k in range(3):
        found[:, k + 1] = WAITS[found[:, k], fours[:, k]]
    return found.reshape(-1)


def block_draws(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """randint(0, 7), randint(0, 3), randint(0, 2) and random() of NumPy's global generator, n times in this order: the
    same numbers, and the same state afterwards. A bounded integer takes words of 32 bits until their lowest bits are in
    range, random() the next two words."""
    state, size = np.random.get_state(), 4 * LANES * -(-(6 * n + 64) // (4 * LANES))
    while True:
        words = np.random.randint(0, 1 << 32, size=size, dtype=np.uint32)
        np.random.set_state(state)
        is_row, is_column = words & 7 < 7, words & 3 < 3
        waits = waiting(is_row.view(np.uint8) << 1 | is_column.view(np.uint8))
        j = np.flatnonzero((waits == 1) & is_column)[:n]
        if j.size == n and (not n or j[-1] + 4 <= size):
            break
        size *= 2
    i = np.flatnonzero((waits == 0) & is_row)[:n]
    np.random.randint(0, 1 << 32, size=j[-1] + 4 if n else 0, dtype=np.uint32)
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

    def drawn(*given: float, size: Any = None, **named: Any) -> Any:
        if len(given) > 2:
            *given, size = given
        shape = () if size is None else (size,) if np.ndim(size) == 0 else tuple(size)
        if named or int(np.prod(shape)) <= PIECE:
            return draw(*given, size=size, **named)
        return Drawn(lambda n: draw(*given, size=n), shape)

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
