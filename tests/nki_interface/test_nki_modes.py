"""Enumerations of `nki.isa` given as a member, as a number (as kernels written before 2026 do) or as a word: one
meaning; anything else is refused."""

import numpy as np
import pytest

import mowich.nki as nki
import mowich.nki.beta1 as older
import mowich.nki.beta1.isa as older_isa
import mowich.nki.beta1.language as older_nl
import mowich.nki.isa as nisa
import mowich.nki.language as nl

X = np.arange(128 * 64, dtype=np.float32).reshape(128, 64)


def copied(mode):
    """A copy with this way to make descriptors."""

    def kernel(x):
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x, dge_mode=mode)
        nisa.dma_copy(dst=out, src=tile)
        return out

    return kernel


def transposed(mode):
    def kernel(x):
        out = nl.ndarray((64, 128), dtype=x.dtype, buffer=nl.shared_hbm)
        tile = nl.ndarray((64, 128), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_transpose(dst=tile, src=x, dge_mode=mode)
        nisa.dma_copy(dst=out, src=tile)
        return out

    return kernel


def older_copied(mode):
    @older.jit
    def kernel(x):
        out = older_nl.ndarray(x.shape, dtype=x.dtype, buffer=older_nl.shared_hbm)
        tile = older_nl.ndarray(x.shape, dtype=x.dtype, buffer=older_nl.sbuf)
        older_isa.dma_copy(dst=tile, src=x, dge_mode=mode)
        older_nl.store(out, tile)
        return out

    return kernel


def told(kernel, x=X, **how):
    """Time in picoseconds, how the first DMA gets its descriptors, and the output."""
    r = nki.run_kernel(kernel, x, target="trn3", **how)
    flags = r.cores[0].trace.records[0].flags or {}
    return round(float(r.time_s) * 1e12), flags.get("dge", "unknown"), r.outputs[0].tolist()


@pytest.mark.parametrize("make", [copied, transposed, older_copied])
def test_a_number_is_the_member(make):
    """The numbers are those of AWS's reference: unknown 0, swdge 1, hwdge 2, none 3."""
    found = {}
    for number, name in enumerate(("unknown", "swdge", "hwdge", "none")):
        found[name] = told(make(nisa.dge_mode[name]))
        assert told(make(number)) == told(make(name)) == found[name]
        assert found[name][1] == name
    assert found["swdge"][0] != found["hwdge"][0]  # the mode has an effect
    assert told(make(None)) == found["unknown"]


@pytest.mark.parametrize("mode", [4, -1, 1.5, "swgde", "SWDGE", True, nisa.engine.vector, []])
@pytest.mark.parametrize("make", [copied, transposed, older_copied])
def test_what_is_no_mode_is_refused(make, mode):
    with pytest.raises(nki.NkiValidationError) as error:
        told(make(mode))
    said = str(error.value)
    assert "no such dge_mode" in said
    assert "unknown (0), swdge (1), hwdge (2), none (3)" in said
    assert __file__ in said
    if mode == "swgde":
        assert "did you mean 'swdge'?" in said


def test_a_number_that_the_generation_lacks():
    with pytest.raises(nki.NkiValidationError, match="hardware descriptor generation needs NeuronCore-v3"):
        nki.run_kernel(copied(2), X, target="trn1")


def test_numbers_of_the_other_enumerations():
    def kernel(x, engine, cmd):
        out = nl.ndarray((128, 1), dtype=x.dtype, buffer=nl.shared_hbm)
        tile, total = (nl.ndarray(s, dtype=x.dtype, buffer=nl.sbuf) for s in (x.shape, (128, 1)))
        nisa.dma_copy(dst=tile, src=x)
        nisa.tensor_copy(dst=tile, src=tile, engine=engine)
        nisa.activation(dst=tile, op=nl.copy, data=tile, reduce_op=nl.add, reduce_res=total, reduce_cmd=cmd)
        nisa.dma_copy(dst=out, src=total)
        return out

    want = told_of(kernel, nisa.engine.gpsimd, nisa.reduce_cmd.reset_reduce)
    assert told_of(kernel, 3, 3) == told_of(kernel, "gpsimd", "reset_reduce") == want
    assert want[1] == "gpsimd"
    np.testing.assert_allclose(np.array(want[0]), X.sum(axis=1, keepdims=True))
    for engine, cmd, said in ((9, 3, "no such engine"), (3, 9, "no such reduce_cmd"), ("pool", 3, "no such engine")):
        with pytest.raises(nki.NkiValidationError, match=said):
            told_of(kernel, engine, cmd)


def told_of(kernel, engine, cmd):
    r = nki.run_kernel(kernel, X, engine=engine, cmd=cmd, target="trn3")
    return r.outputs[0].tolist(), r.cores[0].trace.records[1].engine


@pytest.mark.parametrize("mode", [nisa.oob_mode.skip, 1, "skip"])
def test_rows_out_of_bounds_are_left_out(mode):
    def kernel(x, rows, mode):
        out = nl.ndarray((2, x.shape[1]), dtype=x.dtype, buffer=nl.shared_hbm)
        index = nl.ndarray((2, 1), dtype=nl.uint32, buffer=nl.sbuf)
        tile = nl.zeros((2, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=index, src=rows)
        source = x.ap(pattern=[[x.shape[1], 2], [1, x.shape[1]]], vector_offset=index, indirect_dim=0)
        nisa.dma_copy(dst=tile, src=source, oob_mode=mode)
        nisa.dma_copy(dst=out, src=tile)
        return out

    rows = np.array([[5], [999]], np.uint32)
    got = nki.run_kernel(kernel, X, rows, mode, target="trn3").outputs[0]
    np.testing.assert_array_equal(got, np.stack([X[5], np.zeros(64, np.float32)]))
    with pytest.raises(nki.NkiValidationError, match="no such oob_mode"):
        nki.run_kernel(kernel, X, rows, 7, target="trn3")
