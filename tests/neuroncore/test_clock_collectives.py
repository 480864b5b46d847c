"""Collectives inside a chip on the clock, beside those rows of `facts/published/trainium_collectives.csv` whose ranks
are on one chip, and what always holds of them.

Calls of a framework and launches of a kernel have a floor of 0.1 to 0.4 ms, which is dispatch and not the chip. So a
row of a series counts by its time beyond the smallest size of the series.
"""

from __future__ import annotations

import csv
import random
import statistics
from dataclasses import dataclass

import pytest

import mowich
import mowich.nki.collectives as ncc
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich.evidence.collective_rows import read_collective_row
from mowich.evidence.row_checks import RefusedError
from mowich.facts.load import shipped_folder
from mowich.machines.system import DEVICE_LAYER
from mowich.neuroncore.clock.costs import costs
from mowich.neuroncore.instructions.rates import COLLECTIVE_QUEUE, PS, Cost
from mowich.neuroncore.trace import Kind, Operand
from mowich.nki import hollow
from shared_facts import SHARED_FACTS

GENERATIONS = {"trn1": 2, "trn2": 3, "trn3": 4}
KINDS = {"all-reduce": "all_reduce", "all-gather": "all_gather", "send-recv": "collective_permute"}


@dataclass(frozen=True, kw_only=True)
class Point:
    """A measured row and the clock's time, s, both beyond the smallest size of their series (`beyond_B`; None: a row of
    no series)."""

    row: dict[str, str]
    beyond_B: int | None
    measured_s: float
    predicted_s: float

    @property
    def error(self) -> float:
        return self.predicted_s / self.measured_s - 1


def cost(kind: str, sent_B: int, ranks: int, cores: int = 1, generation: int = 3) -> Cost:
    """Of a collective in which each rank of `cores` cores gives `sent_B` bytes."""
    side = Operand("H", (sent_B,), (1,), 1, "uint8", 0, "")
    made = Kind("collective", "dma", (("kind", kind), ("cores", cores)), (side,), (side,))
    return costs(generation).of(made, ranks)


def seconds(row: dict[str, str]) -> float:
    """The clock's time of a row."""
    made = cost(KINDS[row["kind"]], int(row["bytes"]), int(row["ranks"]), int(row["cores"]), GENERATIONS[row["chip"]])
    return (made.occupancy + made.latency) / PS


def in_chip_rows() -> list[dict[str, str]]:
    """Rows of ranks on one chip. cores: of a rank; series: rows with the same floor of dispatch; layer: what was
    measured, a call of a framework, a launch of a kernel, nccom-test, or a profile of the device."""
    with (shipped_folder() / "published" / "trainium_collectives.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    out = []
    for row in rows:
        try:
            case = read_collective_row(row, SHARED_FACTS)
        except RefusedError:
            continue
        if case.is_peak or case.runs_on.chips > 1:
            continue
        on_device = "nccom-test" if "nccom" in row["layer"] else "profile"
        layer = on_device if case.runs_on.layer == DEVICE_LAYER else case.runs_on.layer
        series = "" if case.runs_on.layer == DEVICE_LAYER else row["id"].rpartition("_")[0]
        own = {"series": series, "cores": str(case.runs_on.lnc), "time_us": row["measured_us"], "layer": layer}
        out.append({**row, **own})
    return out


def points() -> list[Point]:
    """Every row that says something of the chip."""
    rows = in_chip_rows()
    first = {r["series"]: r for r in reversed(rows) if r["series"]}
    out = []
    for r in rows:
        zero = first.get(r["series"])
        if zero is r:
            continue
        measured, predicted, beyond = float(r["time_us"]) * 1e-6, seconds(r), None
        if zero is not None:
            measured, predicted = measured - float(zero["time_us"]) * 1e-6, predicted - seconds(zero)
            beyond = int(zero["bytes"])
            if int(r["bytes"]) < 1 << 20 or measured <= 0:  # noise of the dispatch
                continue
        out.append(Point(row=r, beyond_B=beyond, measured_s=measured, predicted_s=predicted))
    return out


def test_measured_collectives_inside_a_chip() -> None:
    found = points()
    assert len(found) >= 20
    kernels = [p for p in found if p.row["layer"] == "kernel"]
    assert statistics.median(abs(p.error) for p in kernels) < 0.05
    assert max(abs(p.error) for p in kernels) < 0.35
    large = [p for p in found if p.row["layer"] == "framework" and int(p.row["bytes"]) >= 1 << 26]
    assert statistics.median(abs(p.error) for p in large) < 0.25  # what a framework adds per byte is not the chip's
    (inside,) = (p for p in found if p.row["layer"] == "profile")
    assert abs(inside.error) < 0.35
    moved = next(p for p in found if p.row["kind"] == "send-recv" and int(p.row["bytes"]) > 1 << 20)
    assert abs(moved.error) < 0.02


SEEDS = range(200)


def drawn(seed: int) -> tuple[str, int, int, int]:
    """(kind, bytes, ranks, cores of a rank) of a collective inside a chip."""
    r = random.Random(seed)
    kind = r.choice(
        [
            "all_reduce",
            "all_gather",
            "reduce_scatter",
            "all_to_all",
            "all_to_all_v",
            "collective_permute",
            "collective_permute_implicit",
        ]
    )
    cores = r.choice([1, 2])
    return kind, int(2 ** r.uniform(2, 28)) * 8, r.randint(2, 8 // cores), cores


def test_more_bytes_and_more_ranks_never_take_less() -> None:
    for seed in SEEDS:
        kind, size, ranks, cores = drawn(seed)
        for generation in (3, 4):
            now = cost(kind, size, ranks, cores, generation).occupancy
            assert cost(kind, 2 * size, ranks, cores, generation).occupancy > now
            for more in range(ranks + 1, 20):
                later = cost(kind, size, more, cores, generation).occupancy
                assert later >= now, (kind, size, more)
                now = later


def test_the_parts_of_a_collective_sum_and_are_facts() -> None:
    for seed in SEEDS:
        kind, size, ranks, cores = drawn(seed)
        for n in (ranks, 40):
            made = cost(kind, size, n, cores)
            assert made.queue == COLLECTIVE_QUEUE
            assert sum(made.parts.values()) == made.occupancy
            assert sum(made.latency_parts.values()) == made.latency
            for name in made.parts:
                assert costs(3).facts.fact(f"neuroncore.timing-v3.{name}").value


def test_an_all_reduce_is_a_scatter_and_a_gather() -> None:
    for seed in SEEDS:
        _, size, ranks, cores = drawn(seed)
        size -= size % ranks
        both = (
            cost("reduce_scatter", size, ranks, cores).occupancy
            + cost("all_gather", size // ranks, ranks, cores).occupancy
        )
        one_start = costs(3).ps("links.base")
        assert abs(cost("all_reduce", size, ranks, cores).occupancy - (both - one_start)) <= 4


def test_a_rank_of_two_cores_moves_twice_the_bytes() -> None:
    rest = {n: cost("all_reduce", 1 << 26, 4, n).parts["links.bandwidth"] for n in (1, 2)}
    assert rest[1] == pytest.approx(2 * rest[2], rel=1e-6)


def test_a_kernel_pays_for_it_and_its_range_says_how_sure_that_is() -> None:
    def kernel(x):
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        ncc.all_reduce([x], [out], [[0, 1, 2, 3]], nl.add)
        return out

    one = mowich.run_kernel(kernel, hollow((1 << 20,), "float32"), target="trn2", ranks=4, values=False)
    two = mowich.run_kernel(kernel, hollow((1 << 20,), "float32"), target="trn2", ranks=4, values=False)
    assert isinstance(one, list)
    assert isinstance(two, list)
    time = one[0].time_s
    assert float(time) == pytest.approx(
        (cost("all_reduce", 1 << 22, 4).occupancy + cost("all_reduce", 1 << 22, 4).latency) / PS
    )
    assert time.low is not None
    assert time.high is not None
    assert time.high / time.low > 1.3
    assert one[-1].time_s == time


def test_two_cores_of_a_pair_run_a_rank_of_two() -> None:
    from mowich.nki.runtime import run_ranks

    def kernel(x):
        out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
        ncc.all_reduce([x], [out], [[0, 1]], nl.add)
        return out

    found = run_ranks(kernel, [(hollow((1 << 22,), "float32"),)] * 2, generation=3, lnc=2, values=False)
    kinds = {k for r in found for c in r.cores for k in c.trace.kinds}
    assert {k.flag("cores") for k in kinds} == {2}


@pytest.mark.parametrize("what", ["sendrecv", "core_barrier"])
def test_the_signal_of_a_pair_is_a_range_from_0_to_2_us(what: str) -> None:
    fact = costs(3).facts.fact("neuroncore.timing-v3.links.pair")
    assert (fact.low, fact.high) == (0.0, 2e-6)

    def kernel(x):
        a, b = (nl.ndarray((128, 64), dtype=nl.float32, buffer=nl.sbuf) for _ in range(2))
        nisa.memset(a, 0)
        if what == "sendrecv":
            other = 1 - nl.program_id(0)
            nisa.sendrecv(src=a, dst=b, send_to_rank=other, recv_from_rank=other, pipe_id=0)
            nisa.tensor_copy(a, b)
        else:
            nisa.core_barrier(a, (0, 1))
            nisa.tensor_copy(b, a)
        return x

    r = mowich.run_kernel(kernel, hollow((1, 1), "float32"), target="trn2", lnc=2, values=False, strict=False)
    assert not isinstance(r, list)
    time = r.time_s
    assert time.breakdown["links.pair"] == pytest.approx(0.7e-6)
    assert time.low <= float(time) - 0.6e-6
    assert time.high >= float(time) + 1.2e-6
