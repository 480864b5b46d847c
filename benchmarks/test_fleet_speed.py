"""How fast fleets solve: 20 workloads x 8 systems x 12 periods, the size of a large planning exercise. `make bench`.

The problem is drawn at random with a fixed seed: serving, training, batch and RL in turn, buying and renting, one
capped site, three stacks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mowich import facts
from mowich.economics.money import RATE
from mowich.estimate import Estimate, exact, unknown_estimate
from mowich.fleets.answer import solve_fleet
from mowich.fleets.problem import (
    CLOUD,
    GOALS,
    LENGTHS,
    Choice,
    FleetProblem,
    FleetSite,
    FleetTask,
    Offer,
    Rate,
    TaskRates,
    Workload,
)
from mowich.fleets.programme import formulate
from mowich.fleets.robustness import robustness
from mowich.fleets.solve import optimise
from mowich.machines.system import resolve
from mowich.software.vendors import ported_stack

SLACK = 2.5
"""Machines of continuous integration are slower and shared."""

SYSTEMS = ("trn2", "trn3-gen2", "trn3-gen1", "ironwood", "gb300", "h200", "b200", "tpu-v6e")


def large_problem(workloads: int = 20, periods: int = 12, seed: int = 0) -> tuple[FleetProblem, TaskRates]:
    """A problem of the stated size with the speeds of every task on every system."""
    rng = np.random.default_rng(seed)
    known = facts.load_facts()
    quarter = LENGTHS["quarter"]

    def about(value: float, ratio: float, unit: str) -> Estimate:
        return Estimate(value=value, unit=unit, low=value / ratio, high=value * ratio, grade="C")

    def site(name: str, cap_W: float) -> FleetSite:
        return FleetSite(
            name=name,
            cap_W=np.full(periods, cap_W),
            pue=exact(1.1, "1"),
            electricity=exact(0.08 / 3.6e6, "USD/J"),
            idle_share=0.3,
            systems=(),
        )

    choices = []
    for name in SYSTEMS:
        system = resolve(known, name, chips=None)
        price = rng.uniform(1, 4)
        chips = system.chips_per_unit if system.chips_per_unit < 200 else 64
        buy = Offer(
            system=name,
            kind="buy",
            site="iowa",
            price=about(price * chips * 8766 * 2.2, 1.2, "USD"),
            price_label="drawn",
            term=16,
            supply=np.full(periods, float(rng.integers(5, 60)) * 64 // chips),
            delay=int(rng.integers(0, 3)),
        )
        rent = Offer(
            system=name,
            kind="rent",
            site=CLOUD,
            price=about(price / 3600, 1.2, RATE),
            price_label="drawn",
            term=int(rng.choice([1, 4])),
            supply=np.full(periods, 40.0 * 64 // chips),
            delay=0,
        )
        choices.append(
            Choice(
                name=name,
                system=system,
                stack=ported_stack(known, system.vendor),
                unit_chips=chips,
                power_W=exact(rng.uniform(500, 2000), "W"),
                have={},
                committed=np.zeros(periods),
                committed_price=exact(0.0, RATE),
                offers=(buy, rent),
            )
        )
    works, speeds = [], {}
    for i in range(workloads):
        name, kind = f"w{i}", ("train", "serve", "batch", "rl")[i % 4]
        first, last = (
            (0, periods - 1)
            if kind == "serve"
            else (int(rng.integers(0, periods // 2)), int(rng.integers(periods // 2, periods)))
        )
        chips = rng.uniform(500, 3000)
        tokens = chips * 1000 * quarter * (last - first + 1)
        none = np.zeros(periods)
        if kind == "serve":
            tasks = (
                FleetTask(
                    name=name,
                    workload=name,
                    kind=kind,
                    tokens=0.0,
                    tokens_per_s=chips * 1000 * 1.05 ** np.arange(periods),
                    ask={},
                ),
            )
        elif kind == "rl":
            tasks = tuple(
                FleetTask(name=f"{name}.{part}", workload=name, kind=part, tokens=tokens / 2, tokens_per_s=none, ask={})
                for part in ("rollouts", "updates")
            )
        else:
            tasks = (FleetTask(name=name, workload=name, kind=kind, tokens=tokens, tokens_per_s=none, ask={}),)
        works.append(
            Workload(
                name=name,
                kind=kind,
                tasks=tasks,
                first=first,
                last=last,
                one_system=i % 8 == 0,
                systems=(),
                porting_usd={k: rng.uniform(1e6, 1e7) for k in ("neuron", "tpu", "cuda")},
                max_chips=0.0,
            )
        )
        for task in tasks:
            for system_name in SYSTEMS:
                speed = 1000 * rng.uniform(0.5, 2.5)
                runs = rng.random() > 0.1
                speeds[task.name, system_name] = Rate(
                    task=task.name,
                    system=system_name,
                    tokens_per_s_per_chip=about(speed, 1.5, "1/s") if runs else unknown_estimate("1/s", "does not fit"),
                )
    problem = FleetProblem(
        name="large",
        labels=tuple(f"p{i}" for i in range(periods)),
        length_s=quarter,
        periods_per_year=4,
        workloads=tuple(works),
        choices=tuple(choices),
        sites=(site("iowa", 60e6 * workloads / 4), site(CLOUD, np.inf)),
        budget_usd=np.inf,
        budget_per_period=np.full(periods, np.inf),
        stack_usd=2e6,
        discount=0.08,
        goals=GOALS,
    )
    return problem, speeds


def test_linear_programme(benchmark: Any) -> None:
    """The relaxation, formulated and solved."""
    problem, rates = large_problem()
    benchmark.pedantic(lambda: optimise(formulate(problem, rates), integer=False), rounds=5, warmup_rounds=1)
    benchmark.extra_info |= {"limit_s": 0.2}
    assert benchmark.stats.stats.median < 0.2 * SLACK


def test_integer_programme(benchmark: Any) -> None:
    """Whole units to a gap of 0.5%, then energy, then stacks."""
    problem, rates = large_problem()
    programme = formulate(problem, rates)
    found = benchmark.pedantic(lambda: optimise(programme, goals=GOALS, gap=0.005), rounds=1)
    benchmark.extra_info |= {"limit_s": 20.0, "gap": round(found.gap, 5)}
    assert found.gap <= 0.005
    assert benchmark.stats.stats.median < 20.0 * SLACK


def test_two_hundred_draws(benchmark: Any) -> None:
    """Every draw: the optimum, the plan kept, and each of three stacks alone."""
    problem, rates = large_problem()
    answer = solve_fleet(problem, rates, relaxed=True)
    found = benchmark.pedantic(lambda: robustness(problem, rates, answer, draws=200), rounds=1)
    benchmark.extra_info |= {"limit_s": 60.0}
    assert found.draws == 200
    assert benchmark.stats.stats.median < 60.0 * SLACK
