"""DMA on the clock: who makes the descriptors, what that costs whom, and how the rings share the DMA engines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mowich
import mowich.nki as nki
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich import cli
from mowich.neuroncore.clock.costs import costs
from mowich.neuroncore.clock.records import ClockOptions
from mowich.neuroncore.instructions.dma import ring_of
from mowich.neuroncore.instructions.rates import SOFTWARE, STATIC_LOAD
from mowich.nki import hollow

US = 1_000_000
"""Picoseconds."""
X = hollow((128, 4096), "bfloat16")
SOFTMAX = str(Path(__file__).resolve().parents[2] / "kernels" / "softmax.py")


def run(kernel: Any, *arrays: Any, target: str = "trn2", **how: Any) -> Any:
    return mowich.run_kernel(kernel, *arrays, target=target, values=False, strict=False, **how)


def tile(columns: int = 256, dtype: Any = nl.bfloat16) -> Any:
    return nl.ndarray((128, columns), dtype=dtype, buffer=nl.sbuf)


def loads(count: int, columns: int = 64, **how: Any) -> Callable[[Any], None]:
    """A kernel of `count` loads, each into a tile of its own."""

    def kernel(x: Any) -> None:
        for i in range(count):
            nisa.dma_copy(dst=tile(columns), src=x[:, i * columns : (i + 1) * columns], **how)

    return kernel


# who makes the descriptors
# ----------------------------------------------------------------------------------------------------


def plain(x: Any, mode: Any) -> None:
    nisa.dma_copy(dst=tile(), src=x[:, 0:256], dge_mode=mode)


def at_a_scalar(x: Any, mode: Any) -> None:
    index = nl.ndarray((1, 1), dtype=nl.int32, buffer=nl.sbuf)
    nisa.memset(index, 0)
    nisa.dma_copy(dst=tile(), src=x.ap([[4096, 128], [1, 256]], 0, scalar_offset=index, indirect_dim=0), dge_mode=mode)


def at_a_vector(x: Any, mode: Any) -> None:
    index = nl.ndarray((128, 1), dtype=nl.int32, buffer=nl.sbuf)
    nisa.memset(index, 0)
    nisa.dma_copy(dst=tile(), src=x.ap([[4096, 128], [1, 256]], 0, vector_offset=index, indirect_dim=0), dge_mode=mode)


def to_another_format(x: Any, mode: Any) -> None:
    nisa.dma_copy(dst=tile(dtype=nl.float32), src=x[:, 0:256], dge_mode=mode)


def as_another_format(x: Any, mode: Any) -> None:
    """The bytes are copied as they are; the tensors differ, and the compiler goes by them."""
    nisa.dma_copy(dst=tile(512, nl.float8_e4m3), src=x[:, 0:256].view(nl.float8_e4m3), dge_mode=mode)


@pytest.mark.parametrize(
    ("kernel", "unknown", "software", "hardware", "none"),
    [
        (plain, "sync", "software", "sync", "static"),
        (at_a_scalar, "software", "software", "sync", "software"),
        (at_a_vector, "software", "software", "software", "software"),
        (to_another_format, "software", "software", "sync", "static"),
        (as_another_format, "software", "software", "sync", "static"),
    ],
)
@pytest.mark.parametrize("target", ["trn2", "trn3"])
def test_who_makes_the_descriptors(
    kernel: Any, unknown: str, software: str, hardware: str, none: str, target: str
) -> None:
    for mode, ring in ((0, unknown), (1, software), (2, hardware), (3, none)):
        r = run(kernel, X, mode, target=target)
        kind = r.cores[0].trace.kinds[r.cores[0].trace.kind[-1]]
        assert ring_of(costs(4 if target == "trn3" else 3), kind) == ring


def test_the_first_generation_has_no_hardware_descriptors() -> None:
    for kernel, ring in ((plain, "sync"), (to_another_format, "sync"), (at_a_scalar, "software")):
        trace = run(kernel, X, 0, target="trn1").cores[0].trace
        assert ring_of(costs(2), trace.kinds[trace.kind[-1]]) == ring


def test_hardware_descriptors_are_triggered_by_two_engines_only() -> None:
    with pytest.raises(nki.NkiValidationError, match="allowed: scalar, sync"):
        run(loads(1, dge_mode=nisa.dge_mode.hwdge, engine=nisa.engine.gpsimd), X)


# what they cost
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [32, 512])
def test_gpsimd_is_held_for_each_software_dma_whatever_its_descriptors(columns: int) -> None:
    """1.32 us each, of which a profile shows 0.83 us as work: eight DMAs are 6.64 us of GpSimd."""
    r = run(loads(8, columns, dge_mode=1), X)
    assert list(r.schedule.begin) == [round(i * 1.32 * US) for i in range(8)]
    assert r.profile.engines["gpsimd"].busy_s == pytest.approx(6.64e-6)
    assert run(loads(8, columns, dge_mode=2), X).profile.engines["gpsimd"].busy_s == 0


def test_the_first_byte_of_a_software_dma_comes_later() -> None:
    """1.32 us of GpSimd, 0.9 us to the first byte, and 1 us more: 3.22 us; by hardware 0.604 + 0.9 = 1.504 us."""
    software, hardware = (run(loads(1, dge_mode=mode), X).schedule for mode in (1, 2))
    assert software.data[0] == round(3.22 * US)
    assert hardware.data[0] == round(1.504 * US)


def test_a_descriptor_made_at_run_time_costs_its_dma_engine_18_ns() -> None:
    """Eight partitions on each engine, 512 bytes each: 8 x 18 ns + 4,096 B / 23 GB/s = 322.087 ns, against 8 x 5 ns +
    178.087 ns; on trn3 in proportion to the rate of its DMA engines 8 x 12.5 ns + 4,096 B / 33 GB/s."""
    software, hardware = (run(loads(1, 256, dge_mode=mode), X).schedule for mode in (1, 2))
    assert software.end[0] - software.data[0] == pytest.approx(322_087, abs=1)
    trn3 = run(loads(1, 256, dge_mode=1), X, target="trn3").schedule
    assert trn3.end[0] - trn3.data[0] == pytest.approx(100_000 + 4_096 / 33e9 * 1e12, abs=1)
    assert hardware.end[0] - hardware.data[0] == pytest.approx(218_087, abs=1)


def test_a_descriptor_takes_a_dma_engine_at_least_13_ns() -> None:
    """A load that transposes 2-byte elements makes a descriptor of each: 8 partitions x 64 x 13 ns = 6.656 us, although
    5 ns and 2 B / 23 GB/s would be 2.605 us."""

    def kernel(x: Any) -> None:
        nisa.dma_copy(dst=tile(64), src=x.ap([[1, 128], [128, 64]], 0))

    s = run(kernel, hollow((64, 128), "bfloat16")).schedule
    assert s.end[0] - s.data[0] == 6_656_000


def test_long_static_descriptors_move_at_25_6_GB_a_second() -> None:
    """8 rows of 8 KiB on each DMA engine: 65,536 B and one descriptor of 5 ns; from 2 KiB on at 25.6 GB/s, by hardware
    at 23. Rows of 32 parts, so that none waits in HBM."""
    wide = hollow((128, 4096), "bfloat16")
    static, hardware = (run(loads(1, 4096, dge_mode=mode), wide).schedule for mode in (3, 2))
    assert static.end[0] - static.data[0] == pytest.approx(5_000 + 65_536 / 25.6e9 * 1e12, abs=1)
    assert hardware.end[0] - hardware.data[0] == pytest.approx(5_000 + 65_536 / 23e9 * 1e12, abs=1)
    for columns, rate in ((512, 23e9), (1024, 25.6e9)):
        short = run(loads(1, columns, dge_mode=3), hollow((128, 32 * columns), "bfloat16")).schedule
        assert short.end[0] - short.data[0] == pytest.approx(8 * 5_000 + 16 * columns / rate * 1e12, abs=1)


@pytest.mark.parametrize(
    ("columns", "parts", "waits_ns"),
    [
        (512, 32, 0),
        (512, 24, 40),  # even, and no multiple of 16
        (512, 20, 40),
        (512, 19, 0),
        (512, 1, 0),  # rows that follow each other are one descriptor
        (64, 24, 0),  # 256 B: shorter than what the wait was seen at
        (684, 16, 8.7 * 1.5),  # multiples of 16 B: three of four begin, and end, inside a burst of 64 B
        (1368, 16, 8.7),  # multiples of 32 B
        (684, 12, 40 + 8.7 * 1.5),
    ],
)
def test_static_descriptors_of_parts_of_rows_wait_in_hbm(columns: int, parts: int, waits_ns: float) -> None:
    """A part of each row of a tensor in HBM, fp32, 8 rows on each DMA engine: by how many parts a row has, and by
    whether they end inside a burst. Descriptors of the hardware's generators do not wait."""
    x = hollow((128, parts * columns), "float32")

    def kernel(x: Any, mode: int) -> None:
        a = tile(columns, nl.float32)
        nisa.dma_copy(dst=a, src=x[:, 0:columns], dge_mode=mode)
        nisa.dma_copy(dst=x[:, 0:columns], src=a, dge_mode=mode)

    made = run(kernel, x, 3)
    descriptors = 1 if parts == 1 else 8
    rate = 25.6e9 if 4 * columns >= 2048 or (parts == 1 and 32 * columns >= 2048) else 23e9
    for i in (0, 1):
        taken = made.schedule.end[i] - made.schedule.data[i]
        assert taken == pytest.approx(descriptors * (5_000 + waits_ns * 1e3) + 32 * columns / rate * 1e12, abs=8)
        assert sum(made.schedule.cost_of(i).parts.values()) == taken
    plain = run(kernel, x, 2).schedule
    assert plain.end[0] - plain.data[0] == pytest.approx(descriptors * 5_000 + 32 * columns / 23e9 * 1e12, abs=1)


@pytest.mark.parametrize(("target", "issue_us"), [("trn2", 0.604), ("trn3", 0.529)])
def test_a_dma_transpose_holds_the_generator_for_2_5_us_more(target: str, issue_us: float) -> None:
    def kernel(x: Any) -> None:
        nisa.dma_transpose(dst=tile(128), src=x[:, 0:128])
        nisa.dma_copy(dst=tile(128), src=x[:, 0:128])

    s = run(kernel, X, target=target).schedule
    assert s.begin[1] == round((issue_us + 2.5) * US)
    assert s.data[0] == round((issue_us + 2.5 + 0.9) * US)


def test_gpsimd_writes_descriptors_in_turn_with_its_instructions() -> None:
    """A memset of 1,024 columns by GpSimd is (1,024 + 60) / 1.2 GHz = 0.903 us; the next DMA's descriptors come after
    it."""

    def kernel(x: Any) -> None:
        nisa.memset(tile(1024), 1.0, engine=nisa.gpsimd_engine)
        nisa.dma_copy(dst=tile(64), src=x[:, 0:64], dge_mode=1)

    s = run(kernel, X).schedule
    assert s.begin[1] == s.end[0] == pytest.approx(903_333, abs=1)


# rings
# ----------------------------------------------------------------------------------------------------


def test_software_dmas_do_not_hold_up_hardware_ones() -> None:
    """Neither the trigger, nor the bytes, which arrive first although the DMA comes last in the program."""

    def kernel(x: Any) -> None:
        for i in range(8):
            nisa.dma_copy(dst=tile(64), src=x[:, i * 64 : (i + 1) * 64], dge_mode=1)
        nisa.dma_copy(dst=tile(64), src=x[:, 0:64], dge_mode=2)

    s = run(kernel, X).schedule
    assert s.begin[8] == 0
    assert s.data[8] == round(1.504 * US)
    assert s.end[8] < s.data[0]


def test_a_dma_engine_takes_what_arrives_first() -> None:
    """A software DMA is issued at 0 and arrives at 3.22 us; a hardware DMA that is issued 0.6 us later finds the DMA
    engines free."""

    def kernel(x: Any) -> None:
        nisa.dma_copy(dst=tile(4096), src=x, dge_mode=1)
        for _ in range(2):
            nisa.dma_copy(dst=tile(64), src=x[:, 0:64], dge_mode=2)

    s = run(kernel, X).schedule
    assert [s.data[i] for i in range(3)] == [round(3.22 * US), round(1.504 * US), round(2.108 * US)]


def test_the_engine_that_triggers_a_dma_chooses_one_of_two_generators() -> None:
    """Sixteen loads by one generator are issued every 0.604 us; shared between two, the last one is issued half as
    late."""

    def alternating(x: Any) -> None:
        for i in range(16):
            engine = nisa.engine.scalar if i % 2 else nisa.engine.sync
            nisa.dma_copy(dst=tile(64), src=x[:, i * 64 : (i + 1) * 64], engine=engine)

    one = run(loads(16), X).schedule
    by_scalar = run(loads(16, engine=nisa.engine.scalar), X).schedule
    two = run(alternating, X).schedule
    assert one.begin[15] == by_scalar.begin[15] == round(15 * 0.604 * US)
    assert two.begin[14] == two.begin[15] == round(7 * 0.604 * US)


# --disable-dge
# ----------------------------------------------------------------------------------------------------


def test_disable_dge_makes_descriptors_before_the_launch() -> None:
    """All DMAs of --disable-dge are made ahead, and one is issued every 100 ns. Where the kernel itself asks for
    dge_mode=none it is 604 ns."""
    kernel = loads(16)
    static = run(loads(16, dge_mode=3), X).schedule
    assert static.begin[15] == round(15 * 0.604 * US)
    assert {k.queue for k in run(kernel, X).schedule.programs[0].costs}.isdisjoint({STATIC_LOAD})
    for made in (
        run(kernel, X, options=ClockOptions(dge=False)),
        run(nki.jit(additional_compile_opt="--model-type=transformer --disable-dge")(kernel), X),
        run(nki.jit(additional_compile_opt=["--disable-dge"])(kernel), X),
    ):
        assert {k.queue for k in made.schedule.programs[0].costs} == {STATIC_LOAD}
        assert made.schedule.begin[15] == 15 * US // 10
        assert list(made.schedule.end) < list(static.end)
    none = run(loads(16, dge_mode=3), X, options=ClockOptions(dge=False)).schedule
    assert list(none.end) == list(run(kernel, X, options=ClockOptions(dge=False)).schedule.end)
    # said at the run, it counts before what the kernel says
    again = run(nki.jit(additional_compile_opt="--disable-dge")(kernel), X, options=ClockOptions(dge=True))
    assert list(again.schedule.end) == list(run(kernel, X).schedule.end)


def test_a_run_time_index_needs_software_even_without_dge() -> None:
    made = run(at_a_scalar, X, 0, options=ClockOptions(dge=False)).schedule
    assert SOFTWARE in {k.queue for k in made.programs[0].costs}


def test_disable_dge_on_the_command_line(tmp_path: Path) -> None:
    queues = []
    for more in ([], ["--disable-dge"]):
        file = tmp_path / "trace.json"
        words = ["kernel", "profile", SOFTMAX, "-k", "softmax", "x=float32[128,256]", "--target", "trn2", "-q"]
        assert cli.run([*words, "--trace", str(file), *more]) == 0
        events = json.loads(file.read_text())["traceEvents"]
        queues.append({e["tid"] for e in events if e["name"] == "dma_copy"})
    assert STATIC_LOAD not in queues[0]
    assert STATIC_LOAD in queues[1]
