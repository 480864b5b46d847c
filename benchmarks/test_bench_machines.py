"""Speed of fabrics, faults and long runs. Targets: an all-reduce over a million chips in 10 ms on every fabric; a
failed link, or an all-to-all of 144, in 1 s; 90 days on a million chips a thousand times in 10 s on one core."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from mowich.facts import load_facts
from mowich.machines import collectives, flows
from mowich.machines.topology import per_chip
from mowich.software.stack import equip
from mowich.training import faults

FACTS = load_facts()
ONE_GIB = np.array([2.0**30])


@pytest.mark.parametrize(
    "name", ["trn1", "trn2", "trn3-gen1", "trn3-gen2", "trn4", "tpu-v5p", "ironwood", "h100", "gb300"]
)
def test_all_reduce_over_a_million_chips(benchmark, name):
    system = replace(per_chip(equip(FACTS, name)), chips=1_000_000)
    n, one = np.array([1e6]), np.ones(1)
    benchmark(lambda: collectives.choose(system, "all-reduce", ONE_GIB, n, one))
    assert benchmark.stats["median"] < 0.010


@pytest.mark.parametrize("kind", ["all-reduce", "all-to-all"])
def test_a_failed_link_among_144(benchmark, kind):
    system = per_chip(equip(FACTS, "trn3-gen2"))
    benchmark(lambda: flows.asymmetric(system, kind, ONE_GIB, range(144), faults={3: 0.0}))
    assert benchmark.stats["min"] < 1.0  # the machine may be busy


def test_ninety_days_on_a_million_chips():
    job = faults.Job(chips=1_000_000, step_s=5.0, days=90.0, spare_share=0.02, unit_chips=4, replica_chips=1024)
    start = time.process_time()
    faults.simulate_runs(
        job, faults.read_fault_rates(FACTS, "gpu"), faults.read_strategy(FACTS, "elastic"), samples=1000
    )
    seconds = time.process_time() - start
    print(f"\n90 days x 1,000,000 chips x 1,000 samples: {seconds:.2f} s of one core")
    assert seconds < 10.0


def test_a_million_plans(benchmark):
    """What a plan search asks: a million (bytes, group, stride) columns on one machine."""
    system = equip(FACTS, "trn3-gen2", chips=16384)
    rng = np.random.default_rng(0)
    data, n, stride = (
        rng.uniform(1e5, 1e9, 1_000_000),
        2.0 ** rng.integers(1, 10, 1_000_000),
        2.0 ** rng.integers(0, 4, 1_000_000),
    )
    benchmark.pedantic(lambda: collectives.all_reduce_s(system, data, n, stride), rounds=3)
