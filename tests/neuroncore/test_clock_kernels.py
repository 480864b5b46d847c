"""Measured kernels on the clock. Structures of our own always; the published kernels where NEURON_SDK names a checkout
of aws-neuron-sdk."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import mowich
import mowich.nki
from mowich.neuroncore.clock.records import ClockOptions
from mowich.nki import hollow

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fixtures"))
import clock_kernels

SDK = Path(os.environ.get("NEURON_SDK", "/nonexistent"))
TUTORIAL = SDK / "nki/guides/tutorials/kernel-optimization.rst"
MAMBA = SDK / "nki/examples/fused_mamba/mamba_nki_kernels.py"
near = pytest.approx


def run(kernel: Any, *shapes: tuple[int, ...], target: str = "trn2", **how: Any) -> Any:
    return mowich.run_kernel(kernel, *(hollow(s, "float32") for s in shapes), target=target, values=False, **how)


def test_a_tiled_matmul_is_bound_by_the_issue_of_two_dma_per_product() -> None:
    """Measured in the large: 39.89 ms for 32,768 products, 1.217 us each."""
    p = run(clock_kernels.tiled, (1024, 512), (1024, 1024)).profile
    products = 8 * 4 * 2
    assert p.total_s == near((2 * products + 8) * 0.604e-6, rel=0.15)
    assert p.engines["dma"].busy_s > 0.95 * p.total_s
    assert p.top[0].cause.endswith("issue of dma_copy (262,144 B each)") or "issue" in p.top[0].cause


def test_a_blocked_matmul_is_bound_by_the_tensor_engine() -> None:
    """Measured in the large: 859 ns per fp32 product, 99.5% of the time."""
    p = run(clock_kernels.blocked, (2048, 1024), (2048, 1024)).profile
    products = 16 * 8 * 2
    assert p.engines["tensor"].busy_s == near(products * 859e-9, rel=0.05)
    assert p.engines["tensor"].busy_s > 0.8 * p.total_s
    assert "float32" in p.top[0].cause


def test_a_recurrence_of_256_channels_on_trainium1() -> None:
    """mamba v1 as profiled: 172.93 us, of which about 17 us are start-up; Vector Engine 98.71% of its window."""
    r = run(clock_kernels.recurrence, (256, 512), (256, 512), (256, 16), (16, 512), (16, 512), target="trn1")
    assert r.device_s == near(172.93e-6, rel=0.15)
    assert float(r.time_s) == near(156e-6, rel=0.15)
    assert r.profile.engines["vector"].busy_s > 0.9 * float(r.time_s)


def test_tiles_that_do_not_fit_are_an_error_or_spill() -> None:
    shapes = ((4096, 512), (4096, 16384))

    def many(lhs_t: Any, rhs: Any) -> Any:
        import mowich.nki.isa as nisa
        import mowich.nki.language as nl

        tiles = [nl.load(rhs[128 * i : 128 * (i + 1), :]) for i in range(8)]
        out = nl.ndarray((128, 16384), dtype=rhs.dtype, buffer=nl.shared_hbm)
        for t in (*tiles, *tiles):
            nisa.tensor_scalar(dst=t, data=t, op0=mowich.nki.language.multiply, operand0=2.0)
        nisa.dma_copy(dst=out, src=tiles[0])
        return out

    with pytest.raises(mowich.nki.NkiValidationError, match="over capacity"):
        run(many, *shapes, spill=False)
    r = run(many, *shapes)
    assert r.profile.spill_B > 0
    assert any("timed with spills" in w for w in r.warnings)
    assert float(r.time_s) > float(run(many, *shapes, options=ClockOptions(rotate=False)).time_s)


# published kernels
# ----------------------------------------------------------------------------------------------------


def module(path: Path, name: str) -> Any:
    with mowich.nki.installed(replace=True):
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        made = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made)
    return made


def ladder(nth: int, folder: Path) -> Any:
    blocks = [
        textwrap.dedent(b) for b in re.findall(r"\.\. code-block:: python\n\n((?:[ ]+.*\n|\n)+)", TUTORIAL.read_text())
    ]
    kernels = [b for b in blocks if "@nki.jit" in b]
    path = folder / f"ladder{nth}.py"
    path.write_text(kernels[nth])
    return module(path, f"ladder{nth}").matrix_multiply_kernel


published = pytest.mark.skipif(not TUTORIAL.is_file(), reason="needs NEURON_SDK, a checkout of aws-neuron-sdk")


@published
def test_the_matmul_tutorial(tmp_path: Path) -> None:
    """Trainium2, 4096 x 8192 x 8192 fp32: the tiled version calibrates the issue, the final one is a prediction."""
    shapes = ((8192, 4096), (8192, 8192))
    first, last = (run(ladder(n, tmp_path), *shapes).profile for n in (1, 4))
    assert first.total_s == near(39.89e-3, rel=0.01)
    assert first.engines["tensor"].busy_s == near(34.82e-3, rel=0.05)
    assert (100 * first.mfu, 100 * first.mbu) == (near(17.52, rel=0.01), near(38.06, rel=0.01))
    assert last.total_s == near(28.30e-3, rel=0.03)
    assert last.engines["tensor"].busy_s == near(28.16e-3, rel=0.10)
    assert last.engines["dma"].busy_s == near(6.10e-3, rel=0.10)
    assert last.engines["vector"].busy_s == near(2.99e-3, rel=0.10)


@published
def test_mamba_v1_as_published() -> None:
    """Channels outside, unlike the version that was profiled: each repeated row has one reader, which may read PSUM."""
    kernels = module(MAMBA, "mamba")
    r = run(kernels.mamba_v1, (1, 256, 512), (1, 256, 512), (256, 16), (1, 16, 512), (1, 16, 512), target="trn1")
    assert r.device_s == near(172.93e-6, rel=0.15)


OLDER = """
from neuronxcc import nki
import neuronxcc.nki.isa as nisa
import neuronxcc.nki.language as nl

@nki.jit
def kernel(x, row):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nl.store(out, nisa.tensor_tensor(nl.load(x), nl.load(row).broadcast_to(x.shape), op=nl.multiply))
    return out
"""


def test_a_row_repeated_over_partitions_costs_the_same_in_both_interfaces(tmp_path: Path) -> None:
    """No engine reads another partition: the older interface's view of a row is made by the Tensor Engine too."""

    def kernel(x: Any, row: Any) -> Any:
        import mowich.nki.isa as nisa
        import mowich.nki.language as nl

        a, b = nl.load(x), nl.broadcast_to(nl.load(row), x.shape)
        c = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
        nisa.tensor_tensor(dst=c, data1=a, data2=b, op=nl.multiply)
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=c)
        return out

    (tmp_path / "older.py").write_text(OLDER)
    older = module(tmp_path / "older.py", "older").kernel
    found = [run(k, (128, 512), (1, 512), target="trn1").profile for k in (older, kernel)]
    assert sorted(c.opcode for c in found[0].cost) == sorted(c.opcode for c in found[1].cost)
    assert found[0].engines["tensor"].busy_s == near(found[1].engines["tensor"].busy_s, rel=1e-9)
    assert found[0].total_s == near(found[1].total_s, rel=1e-9)


def test_random_tiles_of_the_convenience_layer_have_a_time() -> None:
    def kernel(x: Any) -> Any:
        import mowich.nki.language as nl

        t = nl.rand((128, 64), dtype=nl.float32, buffer=nl.sbuf)
        return nl.store(nl.ndarray((128, 64), dtype=nl.float32, buffer=nl.shared_hbm), nl.exp(t))

    r = mowich.run_kernel(kernel, hollow((1, 1), "float32"), target="trn2", values=False)
    assert not isinstance(r, list)
    assert 0 < float(r.time_s) < 5e-6


def test_ranks_on_several_chips_have_an_hbm_each() -> None:
    def stream(x: Any) -> Any:
        import mowich.nki.isa as nisa
        import mowich.nki.language as nl

        for i in range(4):
            t = nl.ndarray((128, 8192), dtype=nl.float32, buffer=nl.sbuf)
            nisa.dma_copy(dst=t, src=x[128 * i : 128 * (i + 1), :])
        return x

    times = [float(run(stream, (512, 8192), ranks=n)[0].time_s) for n in (8, 24)]
    assert times[1] == near(times[0], rel=0.01)


def test_no_reorder_keeps_the_order_of_an_engine() -> None:
    def kernel(ordered: bool) -> Any:
        def body(x: Any) -> Any:
            import contextlib

            import mowich.nki.isa as nisa
            import mowich.nki.language as nl

            late = nl.load(x)
            early = nl.ndarray((128, 2048), dtype=nl.float32, buffer=nl.sbuf)
            with nl.no_reorder() if ordered else contextlib.nullcontext():
                nisa.tensor_scalar(dst=late, data=late, op0=nl.multiply, operand0=2.0, engine=nisa.engine.vector)
                nisa.memset(early, 1.0, engine=nisa.engine.vector)
            return x

        return body

    begins = [run(kernel(o), (128, 2048)).schedule.begin for o in (True, False)]
    assert begins[0][1] < begins[0][2]
    assert begins[1][2] < begins[1][1]
