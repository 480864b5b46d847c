"""The clock: times of small kernels against the documented formulas, and what every schedule keeps."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mowich
import mowich.nki
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich.errors import UserError
from mowich.neuroncore.clock.costs import costs
from mowich.neuroncore.clock.schedule import hbm_Bps

KERNELS = Path(__file__).resolve().parents[2] / "kernels"


def run(kernel: Any, *arrays: Any, **kwargs: Any) -> Any:
    return mowich.run_kernel(kernel, *arrays, **kwargs)


def copy_through(x: Any) -> Any:
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.load(x)
    nisa.dma_copy(dst=out, src=tile)
    return out


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
def test_a_load_and_a_store_take_their_latencies_and_their_bytes(target: str) -> None:
    x = np.zeros((128, 512), np.float32)
    r = run(copy_through, x, target=target)
    c = costs({"trn1": 2, "trn2": 3, "trn3": 4}[target])
    n = c.number
    one = n("dma.issue") + n("dma.first_byte") + n("dma.descriptor") + 8 * 2048 / n("dma.rate") + n("dma.completion")
    assert r.time_s.value == pytest.approx(2 * one, rel=0.12)
    assert r.time_s.low < r.time_s.value < r.time_s.high
    assert sum(r.time_s.breakdown.values()) == pytest.approx(r.time_s.value, rel=1e-9)


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
def test_every_kernel_of_the_project_has_a_time_that_does_not_depend_on_values(target: str) -> None:
    with mowich.nki.installed():
        made = runpy.run_path(str(KERNELS / "softmax.py"))
    given = made["inputs"](R=256, C=1024)
    with_values, without = (run(made["softmax"], target=target, values=v, **given) for v in (True, False))
    assert float(with_values.time_s) == float(without.time_s) > 0


def load_while_gpsimd_waits(x: Any, mode: Any) -> Any:
    """Core 1 comes to the barrier first, and its last load is ready while its GpSimd Engine still waits there."""
    out = nl.ndarray((2, 128, 512), dtype=x.dtype, buffer=nl.shared_hbm)
    t, u = (nl.ndarray((128, 512), dtype=x.dtype, buffer=nl.sbuf) for _ in range(2))
    me = nl.program_id(0)
    nisa.dma_copy(dst=t, src=x)
    for _ in range(60 if me == 0 else 0):
        nisa.tensor_scalar(dst=t, data=t, op0=nl.add, operand0=1.0, engine=nisa.vector_engine)
    nisa.dma_copy(dst=out[me], src=t)
    nisa.core_barrier(t, (0, 1))
    nisa.memset(u, 0.0, engine=nisa.vector_engine)
    for _ in range(20):
        nisa.tensor_scalar(dst=u, data=u, op0=nl.add, operand0=1.0, engine=nisa.vector_engine)
    nisa.dma_copy(dst=u, src=x, dge_mode=mode)
    nisa.dma_copy(dst=out[me], src=u)
    return out


def test_software_descriptors_are_written_while_gpsimd_waits_for_another_core() -> None:
    x = np.ones((128, 512), np.float32)
    hardware, software = (
        float(run(load_while_gpsimd_waits, x, mode, target="trn2", lnc=2).time_s)
        for mode in (nisa.dge_mode.hwdge, nisa.dge_mode.swdge)
    )
    # 4.6 million seconds once: the end of a wait that had no end yet
    assert hardware <= software <= 1.2 * hardware


@pytest.mark.parametrize(("generation", "cores"), [(2, 2), (3, 8), (4, 8)])
def test_no_more_cores_share_a_memory_than_a_chip_has(generation: int, cores: int) -> None:
    assert hbm_Bps(costs(generation), 1, cores) <= hbm_Bps(costs(generation), 1, 1)
    with pytest.raises(UserError, match=f"allowed: 1 to {cores} "):
        hbm_Bps(costs(generation), 1, cores + 1)
