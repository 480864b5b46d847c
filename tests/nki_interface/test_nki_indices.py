"""Index expressions of the older front end: affine ones are kept as start and steps, and give what arrays give."""

import operator
import tracemalloc

import numpy as np
import pytest

import mowich
import mowich.nki.beta1 as old
import mowich.nki.beta1.isa as oisa
import mowich.nki.beta1.language as onl
from mowich.neuroncore.access import element_places
from mowich.nki import hollow

COMPARE = (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne)


def both(random):
    """An index expression, and the same numbers as an array."""
    n = int(random.integers(1, 9))
    axis = int(random.integers(0, 3))
    key = tuple(slice(None) if d == axis else None for d in range(3))
    if random.integers(2):
        first = int(random.integers(-3, 4))
        return onl.arange(first, first + n)[key], np.arange(first, first + n)[key]
    return onl.mgrid[0:n, 0:n, 0:n][axis], np.mgrid[0:n, 0:n, 0:n][axis]


def grown(random):
    """An expression that a few random operators make of others."""
    symbol, array = both(random)
    for _ in range(int(random.integers(0, 5))):
        way, k = int(random.integers(6)), int(random.integers(-4, 5))
        if way == 0:
            symbol, array = symbol + k, array + k
        elif way == 1:
            symbol, array = np.int64(k) * symbol, k * array
        elif way == 2:
            symbol, array = k - symbol, k - array
        elif way == 3:
            symbol, array = -symbol, -array
        elif way == 4:
            other, same = both(random)
            try:
                np.broadcast_shapes(array.shape, same.shape)
            except ValueError:
                continue
            symbol, array = (symbol - other, array - same) if k % 2 else (symbol + other, array + same)
        else:
            symbol, array = symbol // 3, array // 3
    return symbol, array


@pytest.mark.parametrize("seed", range(8))
def test_expressions_are_what_arrays_are(seed):
    random = np.random.default_rng(seed)
    for _ in range(100):
        symbol, array = grown(random)
        assert symbol.shape == array.shape
        np.testing.assert_array_equal(np.asarray(symbol), array)
        k = int(random.integers(-20, 20))
        compare = COMPARE[int(random.integers(len(COMPARE)))]
        condition, want = compare(symbol, k), compare(array, k)
        np.testing.assert_array_equal(np.asarray(condition), want)
        other = COMPARE[int(random.integers(len(COMPARE)))]
        for joined, wanted in (
            (condition & other(symbol, 1), want & other(array, 1)),
            (condition | other(symbol, 1), want | other(array, 1)),
            (~condition, ~want),
        ):
            np.testing.assert_array_equal(np.asarray(joined), wanted)
        left = old.index.partial(condition)
        assert (left is None) == bool(want.all())


def _tensor(shape):
    core = mowich.neuroncore.core.Core(3)
    mowich.neuroncore.core.set_current(core)
    return onl.ndarray(shape, dtype="float32", buffer=onl.shared_hbm)


@pytest.mark.parametrize("seed", range(4))
def test_indices_choose_what_numpy_chooses(seed):
    """Views at affine indices, slices and numbers: the address of each element is NumPy's."""
    random = np.random.default_rng(seed)
    try:
        tensor = _tensor((12, 20, 9))
        places = np.arange(12 * 20 * 9).reshape(12, 20, 9)
        views = 0
        for _ in range(200):
            keys, plain = [], []
            for n in places.shape:
                way = int(random.integers(4))
                if way == 0:
                    low = int(random.integers(n))
                    key = slice(low, int(random.integers(low + 1, n + 1)), int(random.integers(1, 3)))
                    keys.append(key)
                    plain.append(key)
                elif way == 1:
                    keys.append(int(random.integers(n)))
                    plain.append(keys[-1])
                else:
                    symbol, array = grown(random)
                    keys.append(symbol)
                    plain.append(array)
            arrays = [a for a in plain if isinstance(a, np.ndarray)]
            try:
                np.broadcast_shapes(*(a.shape for a in arrays))
            except ValueError:
                continue
            if not arrays or any(isinstance(k, slice) for k in keys[1:]):  # NumPy moves those to other places
                continue
            inside = all(
                ((a >= 0) & (a < n)).all()
                for a, n in zip(plain, places.shape, strict=True)
                if isinstance(a, np.ndarray)
            )
            if not inside:
                continue
            got = tensor[tuple(keys)]
            want = places[tuple(plain)]
            np.testing.assert_array_equal(element_places(got.tile), want)
            views += got.is_box
        assert views > 10
    finally:
        mowich.neuroncore.core.set_current(None)


def test_an_access_by_indices_costs_no_memory_of_its_size():
    """128 x 32,768 elements: as an array, one index of each would take 33 MB."""

    @old.jit
    def through(x):
        out = onl.ndarray((128, 32768), dtype=x.dtype, buffer=onl.shared_hbm)
        p, f = onl.mgrid[0:128, 0:32768]
        t = onl.load(x[p, f], mask=p < 128)
        onl.store(out[p, 32767 - (32767 - f)], value=t, mask=(f < 32768) & (p >= 0))
        return out

    x = hollow((128, 32768), "float32")
    mowich.run_kernel(through, x, target="trn2", values=False)
    tracemalloc.start()
    try:
        result = mowich.run_kernel(through, x, target="trn2", values=False)
        assert tracemalloc.get_traced_memory()[1] < 36e6  # the tile and the result take 16.8 MB each
    finally:
        tracemalloc.stop()
    kinds = result.cores[0].trace.kinds
    assert [k.reads[0].shape for k in kinds] == [(128, 32768)] * 2
    assert [k.writes[0].strides for k in kinds] == [(32768, 1)] * 2


def test_numbers_out_of_indices_stay_index_expressions():
    """What is not affine is an array, and still an index or a predicate."""

    @old.jit
    def even(x):
        out = onl.ndarray((4, 8), dtype=x.dtype, buffer=onl.shared_hbm)
        p, f = onl.arange(4)[:, None], onl.arange(8)[None, :]
        t = onl.load(x[p, f // 2 * 2])
        onl.store(out[p, f], value=oisa.affine_select(pred=f % 2 == 0, on_true_tile=t, on_false_value=0.0))
        return out

    x = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    np.testing.assert_array_equal(even(x), np.where(np.arange(8) % 2 == 0, x, 0))


@pytest.mark.parametrize("seed", range(6))
def test_elements_without_a_pattern_are_reshaped_and_seen_in_another_format(seed):
    """Columns in a drawn order: their elements in another shape and in another format of the same size are NumPy's, and
    reach the device as they are."""
    random = np.random.default_rng(seed)
    n = int(random.integers(4, 12))
    step = int(random.choice([k for k in range(2, n) if np.gcd(k, n) == 1] or [1]))
    x = random.standard_normal((4, n)).astype(np.float32)
    shape = (4, 2, n // 2) if n % 2 == 0 else (2, 2, n)

    @old.jit
    def kernel(x):
        out = onl.ndarray((4, n), dtype=np.int32, buffer=onl.shared_hbm)
        p, f = onl.arange(4)[:, None], onl.arange(n)[None, :]
        chosen = x[p, (f * step) % n]
        onl.store(out, value=onl.load(chosen.reshape(shape).view(np.int32).reshape((4, n))))
        return out

    np.testing.assert_array_equal(kernel(x), x[:, np.arange(n) * step % n].view(np.int32))


@pytest.mark.parametrize("seed", range(4))
def test_one_element_repeated_by_its_index_is_copied(seed):
    """Indices that are all one number, of a tile and of a tensor in memory."""
    random = np.random.default_rng(seed)
    n, row, column = (int(random.integers(low, 5)) for low in (2, 0, 0))
    x = random.standard_normal((5, 6)).astype(np.float32)

    @old.jit
    def kernel(x):
        out = onl.ndarray((n, 2), dtype=np.float32, buffer=onl.shared_hbm)
        t, i = onl.load(x), onl.arange(n) * 0 + row
        onl.store(out[onl.arange(n), 0], value=onl.copy(t[i, column]))
        onl.store(out[onl.arange(n), 1], value=onl.load(x[i, column]))
        return out

    np.testing.assert_array_equal(kernel(x), np.full((n, 2), x[row, column]))
