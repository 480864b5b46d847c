"""All-reduces of engines as they were measured: which table holds, and what a step makes of it."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mowich.facts import Facts, load_facts
from mowich.machines.system import System, machines, resolve
from mowich.models import load_model
from mowich.plans.plan import ServePlan, ServePlans
from mowich.plans.shapes import shapes
from mowich.plans.workers import worker_plans
from mowich.serving.engines import Served, constant_columns
from mowich.serving.step import step
from mowich.software.all_reduce import FILE, measured_all_reduce, release_order
from mowich.software.engine import EngineCosts

with FILE.open(encoding="utf-8") as _file:
    ROWS = list(csv.DictReader(_file))
CLASSES = sorted({(r["chip"], r["engine"]) for r in ROWS})
RELEASES = st.builds(
    lambda numbers, after: ".".join(map(str, numbers)) + after,
    st.tuples(st.integers(0, 1), st.integers(0, 30), st.integers(0, 16)),
    st.sampled_from(["", "rc1", "rc20", ".post1"]),
)
FACTS = load_facts()


def costs_of(system: System, engine: str, release: str, tp: int) -> EngineCosts:
    model = load_model("llama-3.1-8b")
    one = Served(model=model, arch="dense", system=system, engine=engine, plan=ServePlan(tp=tp), release=release)
    return constant_columns([one]).constants(FACTS.number)[0]


def wire_s(system: System, engine: str, release: str, tp: int, data_B: float) -> float:
    """Seconds of an all-reduce of a step without what ranks wait for each other: tokens that move data_B."""
    model, costs = load_model("llama-3.1-8b"), costs_of(system, engine, release, tp)
    costs = replace(costs, tp_latency=np.zeros(1))
    s = shapes(model, ServePlans.of([ServePlan(tp=tp)]))
    parts = step(s, costs, n=np.array([data_B / (2.0 * s.d[0])]), context=1.0)
    return float(parts["tp"][0] / (2.0 * s.L[0]))


@pytest.mark.parametrize(
    ("on", "engine", "release", "tp", "data_B", "measured_us"),
    [
        ("rtx-pro-6000:8", "vllm", "vllm 0.19.0", 2, 2**20, 91.5),
        ("rtx-pro-6000:8", "vllm", "vllm 0.24.0", 2, 2**20, 30.1),
        ("rtx-pro-6000:8", "vllm", "vllm 0.24.0", 8, 2**14, 27.5),
        ("rtx-pro-6000:8", "sglang", "sglang 0.5.14", 4, 2**22, 248.7),
        ("l40s:8", "vllm", "vllm 0.14.0", 8, 2**20, 582.6),
        ("l40s:8", "sglang", "sglang 0.5.12", 8, 2**20, 193.8),
        ("gb300:72", "vllm", "vllm 0.27.0", 16, 2**14, 50.0),
    ],
)
def test_a_step_has_the_measured_time(
    on: str, engine: str, release: str, tp: int, data_B: float, measured_us: float
) -> None:
    assert wire_s(resolve(FACTS, on), engine, release, tp, data_B) * 1e6 == pytest.approx(measured_us, rel=0.1)


@given(st.sampled_from(CLASSES), RELEASES, st.integers(2, 16))
def test_the_nearest_older_release_holds(which: tuple[str, str], release: str, ranks: int) -> None:
    """Of the tables with as many ranks; the oldest where none is older, the newest where no release is said."""
    own = [r for r in ROWS if (r["chip"], r["engine"]) == which]
    most = max(int(r["ranks"]) for r in own)
    mine = [r for r in own if ranks <= int(r["ranks"]) < 2 * ranks or int(r["ranks"]) == most < ranks]
    found = measured_all_reduce(*which, release, ranks)
    newest = measured_all_reduce(*which, "", ranks)
    if not mine:
        assert found is None
        assert newest is None
        return
    assert found is not None
    assert newest is not None
    order = sorted({release_order(r["release"]) for r in mine})
    older = [x for x in order if x <= release_order(release)]
    assert release_order(found.release) == (older[-1] if older else order[0])
    assert release_order(newest.release) == order[-1]
    assert found.ranks == min(int(r["ranks"]) for r in mine if r["release"] == found.release)


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_more_ranks_of_a_rack_never_take_less_latency(engine: str) -> None:
    """Also beyond the most that were measured, so that no search flees there from what was measured."""
    system = resolve(FACTS, "gb300:72")
    taken = [wire_s(system, engine, "", tp, 4096.0) for tp in (8, 16, 32, 64)]
    assert taken == sorted(taken)


@given(st.sampled_from(ROWS), st.floats(5.0, 30.0), st.floats(1.0, 3.0))
def test_more_bytes_never_take_less_time(row: dict[str, str], log2_B: float, more: float) -> None:
    found = measured_all_reduce(row["chip"], row["engine"], row["release"], int(row["ranks"]))
    assert found is not None
    assert 0.0 < found.seconds(2.0**log2_B) <= found.seconds(2.0**log2_B * more) * (1 + 1e-3)  # four digits are kept


def test_links_of_ones_own_move_the_bytes(facts: Facts) -> None:
    """Twice the rate of the links halves the part of the bytes, and faster links never take longer."""
    path = "chips.l40s.scale_up.pcie_bandwidth_per_direction"
    fast = resolve(facts.with_values({path: 2.0 * facts.number(path)}), "l40s:8")
    usual = resolve(facts, "l40s:8")
    for data_B in 2.0 ** np.arange(10.0, 28.0, 3.0):
        assert wire_s(fast, "vllm", "", 8, data_B) <= wire_s(usual, "vllm", "", 8, data_B)
    L, b = (x[0] for x in costs_of(usual, "vllm", "", 8).wires.lines.taken(np.array([1e8])))
    assert wire_s(fast, "vllm", "", 8, 1e8) == pytest.approx(L + b * 1e8 / 2.0)


@pytest.mark.parametrize("on", ["l40s:8", "rtx-pro-6000:8"])
def test_workers_may_share_a_layer_over_pcie(on: str) -> None:
    """As engines do within a server; never beyond it, where no table reaches."""
    system, model = resolve(FACTS, on), load_model("llama-3.1-8b")
    plans = worker_plans(model, system, weights=["bf16"], kv=["bf16"], fixed={}, long_prompt=False)
    assert {plan.tp for plan in plans} == {1, 2, 4, 8}
    for tp in (2, 4, 8):
        assert costs_of(system, "vllm", "", tp).wires.lines.is_measured.all()
    assert not costs_of(resolve(FACTS, on.replace(":8", ":16")), "vllm", "", 16).wires.lines.is_measured.any()


def test_no_table_is_no_change(facts: Facts) -> None:
    """On NVLink within a tray the library's law holds for every engine and release."""
    for name in machines(facts):
        system = resolve(facts, name)
        has = {r["chip"] for r in ROWS}
        if system.chip not in has:
            assert not costs_of(system, "vllm", "vllm 0.19.0", 4).wires.lines.is_measured.any()
    assert not costs_of(resolve(facts, "gb300"), "vllm", "", 4).wires.lines.is_measured.any()
