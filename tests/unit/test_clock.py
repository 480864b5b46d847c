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
from mowich.neuroncore.clock.costs import costs

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
