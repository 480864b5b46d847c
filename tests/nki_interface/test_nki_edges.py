"""What enters a kernel and what leaves it: formats that the chip does not have are refused, and so are outputs in
memories that nobody can read."""

import numpy as np
import pytest

import mowich.nki as nki
import mowich.nki.beta1 as older
import mowich.nki.beta1.language as older_nl
import mowich.nki.isa as nisa
import mowich.nki.language as nl

X = np.ones((4, 4), np.float32)


def moved(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=out, src=x)
    return out


@older.jit
def earlier(x):
    out = older_nl.ndarray(x.shape, dtype=x.dtype, buffer=older_nl.shared_hbm)
    older_nl.store(out, older_nl.load(x))
    return out


HOST_ONLY = {"float64": "float32", "int64": "int32", "uint64": "uint32"}
WAYS = {
    "run_kernel": lambda k, x: nki.run_kernel(k, x, target="trn3"),
    "without values": lambda k, x: nki.run_kernel(k, x, target="trn3", values=False),
    "simulate": lambda k, x: nki.simulate(k)(x),
    "ranks": lambda k, x: nki.simulate_ranks(k, [{"x": x}]),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", HOST_ONLY)
def test_an_argument_of_64_bits_is_refused(dtype, way):
    with pytest.raises(nki.NkiValidationError) as error:
        WAYS[way](moved, np.ones((4, 4), dtype))
    said = str(error.value)
    to = HOST_ONLY[dtype]
    assert said.startswith(f"argument 'x': a kernel cannot take {dtype}")
    assert f"[4, 4] {dtype}" in said
    assert "int32, uint8, uint16, uint32, float16, float32" in said
    assert f"x.astype(np.{to})" in said
    assert f"x.to(torch.{to})" in said
    assert "\n" not in said
    assert WAYS[way](moved, np.ones((4, 4), to)) is not None  # the remedy works


@pytest.mark.parametrize("dtype", HOST_ONLY)
def test_the_older_interface_refuses_the_same(dtype):
    """Its table of formats ends at 32 bits too."""
    for launch in (earlier, lambda x: older.simulate_kernel(earlier, x)):
        with pytest.raises(nki.NkiValidationError, match=f"cannot take {dtype}"):
            launch(np.ones((4, 4), dtype))


def test_numbers_and_lists_are_no_arrays():
    """A Python number stays a number, whatever its size, and an array in a list is named."""

    @older.jit
    def scaled(x, factor, rows):
        out = older_nl.ndarray(x.shape, dtype=x.dtype, buffer=older_nl.shared_hbm)
        older_nl.store(out, older_nl.load(x[0:rows]) * factor)
        return out

    np.testing.assert_array_equal(scaled(X, np.float64(2.5), np.int64(4)), 2.5 * X)
    with pytest.raises(nki.NkiValidationError, match=r"argument 'x': a kernel cannot take float64"):
        nki.run_kernel(lambda x: moved(x[0]), [np.ones((4, 4))], target="trn3")


@pytest.mark.parametrize("dtype", [np.float64, "int64", np.dtype(np.uint64)])
@pytest.mark.parametrize(
    "make",
    [
        lambda x, d: nl.ndarray((4, 4), dtype=d, buffer=nl.sbuf),
        lambda x, d: nl.ndarray((4, 4), dtype=d, buffer=nl.shared_hbm),
        lambda x, d: nl.zeros((4, 4), dtype=d, buffer=nl.sbuf),
        lambda x, d: nl.copy(nl.load(x), dtype=d),
        lambda x, d: x.view(d),
    ],
)
def test_a_tile_of_64_bits_is_refused(make, dtype):
    def kernel(x):
        make(x, dtype)
        return moved(x)

    for launch in (lambda: nki.run_kernel(kernel, X, target="trn3"), lambda: nki.simulate(kernel)(X)):
        with pytest.raises(
            nki.NkiValidationError, match=r"cannot be u?(int|float)64: the NeuronCore has no format of 64 bits"
        ) as error:
            launch()
        assert str(error.value).startswith(__file__)


# what a kernel returns
# --------------------------------------------------------------------------------------------------------


def returning(buffer):
    def kernel(x):
        held = nl.ndarray(x.shape, dtype=x.dtype, buffer=buffer)
        if buffer is nl.psum:
            nisa.tensor_copy(dst=held, src=nl.load(x))
        else:
            nisa.dma_copy(dst=held, src=x)
        return held

    return kernel


@pytest.mark.parametrize("values", [True, False])
@pytest.mark.parametrize("how", [{}, {"lnc": 2}, {"ranks": 2}])
@pytest.mark.parametrize(("buffer", "name"), [(nl.sbuf, "sbuf"), (nl.psum, "psum")])
def test_a_strict_run_refuses_what_the_host_cannot_read(buffer, name, how, values):
    with pytest.raises(nki.NkiValidationError) as error:
        nki.run_kernel(returning(buffer), X, target="trn3", values=values, **how)
    said = str(error.value)
    assert said.startswith(__file__)
    assert f"its buffer is nl.{name}" in said
    assert "allowed: a tensor in HBM (nl.shared_hbm), or an argument of the kernel" in said
    assert "[4, 4] float32" in said


@pytest.mark.filterwarnings("ignore:.*its buffer is")
@pytest.mark.parametrize("how", [{}, {"lnc": 2}, {"ranks": 2}])
@pytest.mark.parametrize("buffer", [nl.hbm, nl.private_hbm])
def test_a_tensor_in_any_hbm_is_returned_with_a_warning(buffer, how):
    """Published kernels return `nl.hbm` and run on hardware; AWS's documentation asks for `nl.shared_hbm`."""
    found = nki.run_kernel(returning(buffer), X, target="trn3", **how)
    for one in found if isinstance(found, list) else [found]:
        np.testing.assert_array_equal(one.outputs[0], X)
        said = [w for w in one.warnings if "its buffer is nl.private_hbm" in w]
        assert len(said) == 1
        assert "asks for nl.shared_hbm" in said[0]


@pytest.mark.filterwarnings("ignore:.*its buffer is")
@pytest.mark.parametrize("buffer", [nl.sbuf, nl.psum])
def test_a_simulation_returns_it_with_a_warning(buffer):
    """AWS's simulator gives it back, and published kernels count on that."""
    for kernel in (returning(buffer), nki.jit(returning(buffer))):
        np.testing.assert_array_equal(nki.simulate(kernel)(X), X)
    found = nki.jit(returning(buffer)).launch((X,), {})
    assert len(found.warnings) == 1
    assert "which AWS's compiler refuses" in found.warnings[0]


@pytest.mark.filterwarnings("error")
def test_shared_hbm_and_arguments_may_be_returned():
    def both(x):
        return x, moved(x), {"part": x[0:2]}

    for kernel in (moved, both):
        assert nki.run_kernel(kernel, X, target="trn3").warnings == []
        assert nki.run_kernel(kernel, nki.hollow((4, 4), "float32"), target="trn3", values=False).warnings == []


@pytest.mark.filterwarnings("error")
def test_outputs_of_the_older_interface_lie_in_any_hbm():
    def kernel(buffer):
        @older.jit
        def k(x):
            out = older_nl.ndarray(x.shape, dtype=x.dtype, buffer=buffer)
            out[...] = older_nl.load(x)
            return out

        return k

    for buffer in (older_nl.hbm, older_nl.shared_hbm, older_nl.private_hbm):
        assert nki.run_kernel(kernel(buffer), X, target="trn3").warnings == []
    with pytest.raises(nki.NkiValidationError, match=r"allowed: a tensor in HBM \(nl.shared_hbm\)"):
        nki.run_kernel(kernel(older_nl.sbuf), X, target="trn3")
