"""Errors for kernel authors: each says where in the kernel, which tile, the limit, and what to do."""

import re
import warnings

import numpy as np
import pytest

import mowich.nki as nki
import mowich.nki.collectives as ncc
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich.nki import NkiValidationError

F32, BF16, PSUM = nl.float32, nl.bfloat16, nl.psum


def zeros(*shape, dtype=F32, buffer=nl.sbuf, **k):
    t = nl.ndarray(shape, dtype=dtype, buffer=buffer, **k)
    nisa.memset(t, 0)
    return t


def psum(*shape, dtype=F32):
    return nl.ndarray(shape, dtype=dtype, buffer=PSUM)


def big(x):
    tiles = [zeros(128, 16384, name=f"big{i}") for i in range(5)]
    for t in tiles:
        nisa.tensor_copy(tiles[0], t)


def banks(x):
    sums = [psum(128, 512) for _ in range(7)]
    rest = [psum(128, 512) for _ in range(2)]
    for t in sums + rest:
        nisa.memset(t, 0)
    for t in sums + rest:
        nisa.tensor_copy(zeros(128, 512), t)


def huge(*shape):
    return lambda x: nl.ndarray(shape, dtype=F32, buffer=nl.shared_hbm)


def overlapping(x):
    first = zeros(128, 64, name="first", address=(0, 1024))
    second = zeros(128, 64, name="second", address=(0, 1152))
    nisa.tensor_tensor(zeros(128, 64), first, second, nl.add)


def half_written(x):
    t = nl.ndarray((4, 8), dtype=F32, buffer=nl.sbuf, name="half")
    nisa.memset(t[:, 0:4], 1)
    nisa.tensor_copy(zeros(4, 8), t)


def gathered(x):
    rows = zeros(4, 1, dtype=nl.int32)
    nisa.memset(rows, 99)
    nisa.dma_copy(dst=zeros(4, 4), src=x.ap([[4, 4], [1, 4]], vector_offset=rows, indirect_dim=0))


# what breaks -> target, kernel, then words of the tile, the limit and the remedy, in any order
CASES = {
    "partitions of an allocation": (
        "trn2",
        lambda x: nl.ndarray((256, 4), dtype=F32),
        [r"\[256, 4\] float32", "at most 128", "nl.tile_size.pmax"],
    ),
    "partition bytes": (
        "trn2",
        lambda x: nl.ndarray((128, 262144), dtype=F32),
        [r"\[128, 262144\]", "which has 229,376", "split"],
    ),
    "PSUM bank": (
        "trn2",
        lambda x: nisa.nc_matmul(psum(128, 1024)[:, 256:768], zeros(128, 128), zeros(128, 512)),
        [
            r"view \[128, 512\] float32 of tile \[128, 1024\] float32 in PSUM",
            "one bank of 2048 bytes",
            "at most 512 float32",
        ],
    ),
    "columns of a moving tile": (
        "trn2",
        lambda x: nisa.nc_matmul(psum(128, 1024), zeros(128, 128), zeros(128, 1024)),
        [r"tile \[128, 1024\]", "at most 512", "gemm_moving_fmax"],
    ),
    "SBUF over capacity": (
        "trn2",
        big,
        [
            "327,680 bytes per partition are live",
            "it has 229,376",
            r": 5 like big\d \[128, 16384\] float32 from test_nki_errors.py:\d+ \(65,536 B each\); use",
            "smaller tiles",
        ],
    ),
    "PSUM over capacity": (
        "trn2",
        banks,
        [
            "9 banks are live at once, it has 8 of 2,048 bytes",
            r": 9 like tile \[128, 512\] float32 from test_nki_errors.py:\d+ \(2,048 B each\); copy results to SBUF",
        ],
    ),
    "contraction of a stationary tile": (
        "trn2",
        lambda x: nisa.nc_matmul(psum(64, 512), zeros(64, 128), zeros(128, 512)),
        [
            "64 partitions and moving 128",
            "the same number of partitions",
            "if stationary has K along its free axis, transpose",
            "with K = 128 on partitions",
        ],
    ),
    "contraction of a moving tile": (
        "trn2",
        lambda x: nisa.nc_matmul(psum(128, 32), zeros(64, 128), zeros(32, 64)),
        [
            "64 partitions and moving 32",
            r"stationary \[64, 128\], moving \[32, 64\]",
            "if moving has K along its free axis, transpose",
            "with K = 64 on partitions",
        ],
    ),
    "HBM of the chip": (
        "trn2",
        huge(1 << 18, 1 << 17),
        ["tensor of 128 GiB exceeds the HBM of the chip", "at most 96 GiB", "split"],
    ),
    "overlap": (
        "trn2",
        overlapping,
        [r"'second' \[128, 64\] float32 at \(0, 1152\)", "'first'", "may start at byte 1280"],
    ),
    "alignment": (
        "trn2",
        lambda x: nl.ndarray((128, 4), dtype=F32, buffer=nl.sbuf, address=(0, 6)),
        ["address 6", "multiple of 4 bytes", "byte 4 or 8"],
    ),
    "alignment in PSUM": (
        "trn2",
        lambda x: nl.ndarray((128, 4), dtype=BF16, buffer=PSUM, address=(0, 6)),
        ["address 6", "multiple of 4 bytes", "byte 4 or 8"],
    ),
    "memory of an engine": (
        "trn2",
        lambda x: nisa.tensor_tensor(zeros(4, 4), x, zeros(4, 4), nl.add),
        [r"tile 'x' \[4, 4\]", "must be in SBUF or PSUM", "dma_copy"],
    ),
    "PSUM from GpSimd": (
        "trn2",
        lambda x: nisa.tensor_copy(zeros(4, 4), zeros(4, 4, buffer=PSUM), engine=nisa.engine.gpsimd),
        [r"in PSUM, allocated at", "cannot reach PSUM", "copy to SBUF"],
    ),
    "PSUM from DMA": (
        "trn2",
        lambda x: nisa.dma_copy(dst=x, src=zeros(4, 4, buffer=PSUM)),
        ["in PSUM, allocated at", "must be in SBUF or HBM", "tensor_copy"],
    ),
    "engine": (
        "trn2",
        lambda x: nisa.tensor_tensor(zeros(4, 4), zeros(4, 4), zeros(4, 4), nl.add, engine=nisa.engine.scalar),
        ["scalar", "vector, gpsimd"],
    ),
    "engine of a generation": (
        "trn1",
        lambda x: nisa.rng(zeros(4, 4, dtype=nl.uint32), engine=nisa.engine.gpsimd),
        ["gpsimd engine needs NeuronCore-v3", "v2", "use the vector engine"],
    ),
    "format of an operand": (
        "trn2",
        lambda x: nisa.nc_n_gather(zeros(4, 4), zeros(4, 4), zeros(4, 4, dtype=nl.int32)),
        [r"indices .*tile \[4, 4\] int32", "uint32", "tensor_copy"],
    ),
    "format of a generation": (
        "trn2",
        lambda x: nisa.nc_matmul(psum(4, 4), zeros(4, 4, dtype=nl.float8_e4m3fn), zeros(4, 4, dtype=nl.float8_e4m3fn)),
        ["float8_e4m3fn needs NeuronCore-v4", "use float8_e4m3"],
    ),
    "format of a result": (
        "trn2",
        lambda x: nisa.nc_matmul(psum(4, 4, dtype=BF16), zeros(4, 4), zeros(4, 4)),
        [r"tile \[4, 4\] bfloat16 in PSUM", "must be float32 on NeuronCore-v3", "tensor_copy"],
    ),
    "instruction of a generation": (
        "trn2",
        lambda x: nisa.exponential(zeros(4, 4), zeros(4, 4)),
        ["exponential needs NeuronCore-v4", "v3", "target='trn3'"],
    ),
    "mode of a generation": (
        "trn1",
        lambda x: nisa.nc_matmul(
            psum(4, 4),
            zeros(4, 2, 4, dtype=nl.float8_e4m3),
            zeros(4, 2, 4, dtype=nl.float8_e4m3),
            perf_mode=nisa.matmul_perf_mode.double_row,
        ),
        ["double_row needs NeuronCore-v3", r"tile \[4, 2, 4\]", "leave perf_mode out"],
    ),
    "tile of the array": (
        "trn1",
        lambda x: nisa.nc_matmul(psum(4, 4), zeros(4, 4), zeros(4, 4), tile_position=(32, 0), tile_size=(32, 128)),
        [r"position \(32, 0\)", "rows 64, 128"],
    ),
    "index": (
        "trn2",
        lambda x: nisa.tensor_copy(zeros(4, 4), zeros(4, 4)[:, 2:6]),
        [r"tile \[4, 4\] float32", r"\[2:6:1\] along dimension 1", r"0 .. 4", "bound the slice"],
    ),
    "run-time index": ("trn2", gathered, ["'x'", "99", r"0 .. 3", "oob_mode.skip"]),
    "start partition": (
        "trn2",
        lambda x: nisa.tensor_copy(zeros(4, 4), zeros(128, 4)[8:12]),
        [r"view \[4, 4\]", "0, 32, 64, 96", "dma_copy or nc_stream_shuffle"],
    ),
    "start partition of many": (
        "trn2",
        lambda x: nisa.tensor_copy(zeros(64, 4), zeros(128, 4)[32:96]),
        ["start at 0, 64", "quadrants of 32"],
    ),
    "partition stride": (
        "trn2",
        lambda x: nisa.tensor_copy(zeros(4, 4), zeros(8, 4)[::2]),
        ["do not follow one another", r"view \[4, 4\]", "dma_copy"],
    ),
    "long axis": (
        "trn3",
        lambda x: nisa.memset(nl.ndarray((1, 70000), dtype=nl.uint8), 0),
        [r"tile \[1, 70000\]", "at most 65,535", "split"],
    ),
    "uninitialised": ("trn2", half_written, ["'half'", "50%", "write the tile first"]),
    "register": ("trn2", lambda x: int(nisa.register_alloc()), ["never loaded", "register_load"]),
    "search": ("trn2", lambda x: nisa.max8(zeros(4, 8), zeros(4, 4)), [r"tile \[4, 4\]", "8 to 16,384", "parts"]),
    "MX columns": (
        "trn3",
        lambda x: nisa.quantize_mx(
            zeros(32, 1, dtype=nl.float8_e4m3fn_x4), zeros(32, 6, dtype=BF16), zeros(4, 1, dtype=nl.uint8)
        ),
        [r"tile \[32, 6\]", "columns of 4"],
    ),
    "sources of a DMA": (
        "trn2",
        lambda x: nisa.dma_compute(dst=zeros(4, 4), srcs=[x] * 17, reduce_op=nl.add),
        ["1 to 16 sources", "17"],
    ),
    "pair": ("trn2", lambda x: nisa.sendrecv(zeros(4, 4), zeros(4, 4), 0, 0, 0), ["needs two cores", r"kernel\[2\]"]),
}


@pytest.mark.parametrize("name", CASES)
def test_an_error_names_line_tile_limit_and_remedy(name):
    target, body, words = CASES[name]

    def kernel(x):
        body(x)

    with pytest.raises(NkiValidationError) as caught:
        nki.run_kernel(kernel, np.zeros((4, 4), np.float32), target=target)
    text = str(caught.value)
    assert re.match(r"\S*test_nki_errors\.py:\d+: ", text), text
    assert "\n" not in text
    for word in words:
        assert re.search(word, text), (word, text)


def test_gpsimd_dma_moves_few_bytes():
    @nki.jit
    def kernel(x):
        here, there = zeros(4, 300, dtype=nl.int8), zeros(4, 300, dtype=nl.int8)
        nisa.sendrecv(here, there, 1 - nl.program_id(0), 1 - nl.program_id(0), 0, dma_engine=nisa.dma_engine.gpsimd_dma)

    with pytest.raises(
        NkiValidationError, match=r"tile \[4, 300\] int8.*'300 bytes'; allowed: 256 bytes.*dma_engine.dma"
    ):
        nki.run_kernel(kernel[2], np.zeros((4, 4), np.float32), target="trn2")


def rank_kernel(body):
    def kernel(x):
        out = nl.ndarray((4, 4), dtype=F32, buffer=nl.hbm)
        body(x, out, int(ncc.rank_id()))
        return out

    return kernel


EVERYONE = ncc.ReplicaGroup([[0, 1]])
COLLECTIVES = {
    "kinds differ": (
        lambda x, out, r: (
            ncc.all_reduce([x], [out], replica_group=EVERYONE, op=nl.add)
            if r
            else ncc.all_gather([x], [out], replica_group=EVERYONE)
        ),
        ["all_gather", "all_reduce", "rank 0", "rank 1"],
    ),
    "operators differ": (
        lambda x, out, r: ncc.all_reduce([x], [out], replica_group=EVERYONE, op=nl.maximum if r else nl.add),
        ["all_reduce", "add", "maximum"],
    ),
    "one rank stays away": (
        lambda x, out, r: None if r else ncc.all_reduce([x], [out], replica_group=EVERYONE, op=nl.add),
        ["deadlock", "rank 0 waits for rank 1 in all_reduce number 0 at", "rank 1 has ended", "same order"],
    ),
}


@pytest.mark.parametrize("name", COLLECTIVES)
def test_collectives_that_do_not_match(name):
    body, words = COLLECTIVES[name]
    with pytest.raises(NkiValidationError) as caught:
        nki.run_kernel(rank_kernel(body), np.zeros((4, 4), np.float32), target="trn2", ranks=2)
    for word in words:
        assert re.search(word, str(caught.value)), (word, str(caught.value))
    assert "test_nki_errors.py" in str(caught.value)


def test_a_deadlock_of_many_ranks_is_a_short_line():
    everyone = ncc.ReplicaGroup([list(range(144))])

    def body(x, out, rank):
        if rank != 3:
            ncc.all_reduce([x], [out], replica_group=everyone, op=nl.add)

    with pytest.raises(NkiValidationError) as caught:
        nki.run_kernel(rank_kernel(body), np.zeros((4, 4), np.float32), target="trn2", ranks=144)
    text = str(caught.value)
    assert re.search(
        r"rank 0, rank 1, rank 2, rank 4 and 139 more wait for rank 3 in all_reduce number 0 at \S+:\d+; rank 3 has"
        r" ended",
        text,
    ), text
    assert len(text) < 400


@pytest.mark.parametrize("values", [True, False])
def test_a_collective_on_an_argument_is_a_warning(values):
    def kernel(x, copied):
        out = nl.ndarray((4, 4), dtype=F32, buffer=nl.shared_hbm)
        mine = nl.ndarray((4, 4), dtype=F32, buffer=nl.private_hbm)
        nisa.dma_copy(dst=mine, src=x)
        ncc.all_reduce([mine if copied else x], [out], replica_group=EVERYONE, op=nl.add)
        return out

    x = np.zeros((4, 4), np.float32) if values else nki.hollow((4, 4), "float32")
    for copied in (False, True):
        with warnings.catch_warnings(record=True):
            found = nki.run_kernel(kernel, x, copied, target="trn2", ranks=2, values=values)
        said = [w for r in found for w in r.warnings if "a collective cannot" in w]
        assert len(said) == (0 if copied else 2)
        for w in said:
            assert re.search(
                r"test_nki_errors.py:\d+: all_reduce reads tile 'x' \[4, 4\] float32 in HBM, an argument of the kernel:"
                r" on the chip a collective cannot .* dma_copy",
                w,
            ), w


def test_a_tensor_that_this_machine_cannot_hold(monkeypatch):
    from mowich.neuroncore import memory

    def empty(*_):
        raise MemoryError

    monkeypatch.setattr(memory.np, "empty", empty)
    with pytest.raises(
        NkiValidationError, match=r"test_nki_errors.py:\d+: this machine has no memory for a tensor of 64 GiB"
    ):
        nki.run_kernel(huge(1 << 17, 1 << 17), np.zeros((4, 4), np.float32), target="trn2")


def test_every_limit_is_a_fact():
    from dataclasses import fields

    from mowich.neuroncore.core import limits

    four = limits(4)
    assert [f.name for f in fields(four) if not getattr(four, f.name)] == ["mx_headroom"]
    assert limits(2).tile_rows == 64
    assert limits(2).mx_scale_rows == 0  # v2 has no MX
