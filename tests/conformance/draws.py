"""Random numbers that nki-library's tests draw one by one, drawn at once: the same numbers, and the same generator afterwards."""

import numpy as np

BLOCKS = 1 << 18
"""MX blocks drawn at once; they take about 100 MB."""


def following(good: np.ndarray) -> np.ndarray:
    """For each word the first good one from it on; the end where there is none."""
    size = good.size
    at = np.append(np.where(good, np.arange(size), size), [size, size])
    return np.minimum.accumulate(at[::-1])[::-1]


def block_draws(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """randint(0, 7), randint(0, 3), randint(0, 2) and random() of NumPy's global generator, n times in this order: the same numbers, and the
    same state afterwards. A bounded integer takes words of 32 bits until their lowest bits are in range, random() the next two words."""
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
    """In each block of 8 x 4 elements one at random becomes +- (1 .. 1.5) * 2^largest, as the loop of `generate_stabilized_mx_data` does."""
    blocks = np.moveaxis(data.reshape(data.shape[0] // 8, 8, data.shape[1] // 4, 4), 1, 2)
    rows, columns = blocks.shape[:2]
    for start in range(0, rows * columns, BLOCKS):
        at = np.arange(start, min(start + BLOCKS, rows * columns))
        i, j, sign, part = block_draws(at.size)
        blocks[at // columns, at % columns, i, j] = (2.0 * sign - 1) * (1 + 0.5 * part) * 2.0**largest
