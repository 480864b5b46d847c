"""One law: before software, an operator takes the same time in training and in serving, and none passes the published
rates of its chip."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest

from mowich.arrays import Floats
from mowich.facts import Facts
from mowich.machines import collectives
from mowich.machines.device import DEVICE_FIELDS
from mowich.machines.system import PRECISIONS, machines, resolve
from mowich.models import builtin
from mowich.operators.law import Sides, fused_attention, gemm_s, passes
from mowich.operators.rates import rates
from mowich.operators.tables.schema import FORMAT_B
from mowich.plans.plan import WEIGHTS, ServePlan, ServePlans
from mowich.plans.shapes import Shapes, shapes
from mowich.serving.engines import Served, constant_columns, has_own, stated_facts
from mowich.serving.step import step
from mowich.software.engine import EngineCosts, engine_for
from mowich.software.stack import Platform, with_stack

SHAPES = 500
BOTH = sorted(set(WEIGHTS) & set(PRECISIONS) - {"int8"})
"""Formats that training and serving both multiply in: an engine widens 8-bit integers."""
ENGINE = (
    *("products", "attention_kernels", "expert_compute", "expand", "reads_linear", "reads_expert"),
    *("tp_graph", "tp_wires", "ep_wires"),
)
"""What an engine makes of operators: 1 before software."""


def systems(facts: Facts) -> list[str]:
    """All systems of the facts: with constants of a family of chips, and of a chip."""
    return sorted(machines(facts))


@cache
def trained(facts: Facts, name: str) -> Platform:
    """A system on which training software takes nothing from an operator."""
    system = with_stack(facts, resolve(facts, name))
    return replace(system, efficiency=replace(system.efficiency, sustained=1.0, attention_kernels=1.0))


@cache
def served(facts: Facts, name: str, plan: ServePlan) -> tuple[Shapes, EngineCosts]:
    """A worker on that system whose engine takes nothing from an operator."""
    system = trained(facts, name)
    model, engine = builtin.builtin("llama-3.1-8b"), engine_for(facts, system, None)
    case = Served(
        model=model,
        arch="dense",
        system=system,
        engine=engine,
        plan=plan,
        has_own=has_own(facts, system),
        stated=stated_facts(facts, engine, system),
    )
    costs = constant_columns([case]).constants(facts.number)[0]
    one = np.ones(1)
    alone = {**dict.fromkeys(ENGINE, one), "kernel_tables": 0.0 * one}
    return shapes(model, ServePlans.of([plan])), replace(costs, **alone)


def of_one_product(s: Shapes, n: float, k: float) -> Shapes:
    """A model whose layers are one product."""
    sides = Sides.of(np.array([n]), np.array([k]))
    return replace(
        s,
        W_linear=sides.total("weights"),
        **{f"linear_{f.name}": getattr(sides, f.name) for f in fields(Sides)},
    )


def drawn(facts: Facts, seed: int) -> list[tuple[str, str, Floats]]:
    """(system, format, numbers in 0 to 1) of `SHAPES` cases."""
    rng = np.random.default_rng(seed)
    names = systems(facts)
    out: list[tuple[str, str, Floats]] = []
    while len(out) < SHAPES:
        name, fmt = names[int(rng.integers(len(names)))], BOTH[int(rng.integers(len(BOTH)))]
        if trained(facts, name).peak_flops.get(fmt):
            out.append((name, fmt, rng.uniform(size=4)))
    return out


def test_a_product_takes_one_time(facts: Facts) -> None:
    """Alone, in the format of the recipe and of the weights; sides that are whole lines of memory and that are not."""
    seen = set()
    for name, fmt, (a, b, c, d) in drawn(facts, 1):
        m, n, k = np.rint(2.0 ** (14.0 * a)), np.rint(2.0 ** (6 + 9 * b)), np.rint(2.0 ** (6 + 9 * c))
        if d < 0.5:
            n, k = 64.0 * np.ceil(n / 64.0), 64.0 * np.ceil(k / 64.0)
        system = trained(facts, name)
        r = rates(system, np.array([float(PRECISIONS.index(fmt))]))
        m1, n1, k1 = (np.array([x]) for x in (m, n, k))
        training = gemm_s(m1, n1, k1, r)
        s, costs = served(facts, name, ServePlan(weights=fmt))
        serving = step(of_one_product(s, n, k), costs, n=m1, context=1.0)["linear"]
        assert serving == pytest.approx(training, rel=1e-9), (name, fmt, m, n, k)
        seconds = float(training[0])
        assert 2.0 * m * n * k / seconds <= system.peak_flops[fmt] * (1 + 1e-9)
        assert (FORMAT_B[fmt] * (m * k + k * n) + 2.0 * m * n) / seconds <= system.hbm_Bps * (1 + 1e-9)
        seen.add(name)
    assert len(seen) == len(systems(facts))


def test_an_all_reduce_takes_one_time(facts: Facts) -> None:
    """And an exchange, and a transfer: groups inside a domain and beyond it."""
    for name, _, (a, b, c, _) in drawn(facts, 2):
        system = trained(facts, name)
        tp = float(2 ** int(1 + 4 * a))
        dp = float(2 ** int(3 * b))
        data_B = np.array([np.rint(2.0 ** (10 + 20 * c))])
        _, costs = served(facts, name, ServePlan(tp=int(tp), dp=int(dp)))
        one = np.ones(1)
        reduce = collectives.all_reduce_s(system, data_B, tp * one, one)
        assert costs.wires.reduce.seconds(data_B) == pytest.approx(reduce, rel=1e-9), (name, tp, data_B)
        exchange = collectives.all_to_all_s(system, data_B, tp * dp * one, one)
        assert costs.wires.inside.seconds(data_B) == pytest.approx(exchange.inside_s, rel=1e-9)
        assert costs.wires.outside.seconds(data_B) == pytest.approx(exchange.outside_s, rel=1e-9)
        transfer = collectives.transfer_s(system, data_B, tp * dp * one)
        assert costs.wires.stage.seconds(data_B) == pytest.approx(transfer, rel=1e-9)
        fastest = sum(level.bandwidth_Bps for level in system.levels)
        # the data of a sum inside a switch crosses the link of a rank once, not twice
        assert (tp - 1.0) / tp * data_B[0] / float(reduce[0]) <= fastest * (1 + 1e-9)


def test_attention_and_a_pass_take_one_time(facts: Facts) -> None:
    for name, _, (a, b, c, _) in drawn(facts, 3):
        system = trained(facts, name)
        e = system.efficiency
        s, costs = served(facts, name, ServePlan())
        prompt = np.rint(2.0 ** (5 + 12 * a)) * np.ones(1)
        parts = step(s, costs, n=0.0, context=0.0, prompt=prompt, prompt_context=prompt / 2.0)
        flop = np.sum(s.att_layers * s.f_pre * prompt / 2.0, axis=0) * prompt
        r = rates(system, np.zeros(1))
        training = fused_attention(flop, prompt, e.attention_half, e.attention, r.P16)
        assert parts["prefill_attention"] == pytest.approx(training, rel=1e-9), name
        assert flop / training <= system.peak_flops["bf16"] * (1 + 1e-9)
        bytes_ = 2.0 ** (20 + 10 * b) * np.ones(1)
        times = 1.0 + 9.0 * c
        moved = passes(bytes_, times, costs.hbm_Bps * costs.memory)
        assert moved == pytest.approx(passes(bytes_, times, r.B), rel=1e-12)
        assert bytes_ * times / moved <= system.hbm_Bps * (1 + 1e-9)


def test_no_share_of_a_device_passes_the_published_rate(facts: Facts) -> None:
    """Also at the high ends of their ranges."""
    shares = [
        name for name in DEVICE_FIELDS if name.startswith(("product_", "weights_")) or name in ("memory", "attention")
    ]
    assert len(shares) == 8
    for device in facts.ids("devices"):
        for name in shares:
            fact = facts.get(f"devices.{device}.{name}")
            assert fact is None or max(float(fact.value or 0.0), fact.high or 0.0) <= 1.0, (device, name)
