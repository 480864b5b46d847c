"""Fleet problems for tests: built directly, with round numbers, so that their optimum can be computed by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mowich import facts
from mowich.economics.money import RATE
from mowich.estimate import Estimate, exact, unknown_estimate
from mowich.fleets.problem import (
    CLOUD,
    GOALS,
    Choice,
    FleetProblem,
    FleetSite,
    FleetTask,
    Offer,
    Rate,
    TaskRates,
    Workload,
)
from mowich.machines.system import resolve

LENGTH_S = 1e6
"""Seconds in a period of these problems."""


def site(name: str, periods: int, *, cap_W: float = np.inf, usd_per_J: float = 0.0) -> FleetSite:
    return FleetSite(
        name=name,
        cap_W=np.full(periods, cap_W),
        pue=exact(1.0, "1"),
        electricity=exact(usd_per_J, "USD/J"),
        idle_share=0.0,
        systems=(),
    )


def offer(
    system: str,
    kind: str,
    usd: float,
    periods: int,
    *,
    supply: float = np.inf,
    term: int = 1,
    delay: int = 0,
    where: str = CLOUD,
    low: float | None = None,
    high: float | None = None,
) -> Offer:
    """usd: per unit to buy; per unit and period to rent."""
    scale = 1.0 if kind == "buy" else 1 / LENGTH_S
    unit = "USD" if kind == "buy" else RATE
    price = Estimate(
        value=float(usd) * scale, unit=unit, low=(low or usd) * scale, high=(high or usd) * scale, grade="user"
    )
    return Offer(
        system=system,
        kind=kind,
        site=where,
        price=price,
        price_label="test",
        term=term,
        supply=np.full(periods, supply),
        delay=delay,
    )


def choice(
    system: str, periods: int, *offers: Offer, stack: str = "", power_W: float = 1000.0, have: float = 0.0, at: str = ""
) -> Choice:
    """A system whose unit is one chip, so that units and chips are the same."""
    found = resolve(facts.load_facts(), system, chips=None)
    there = {at: np.full(periods, have)} if have else {}
    return Choice(
        name=system,
        system=found,
        stack=stack or system,
        unit_chips=1,
        power_W=exact(power_W, "W"),
        have=there,
        committed=np.zeros(periods),
        committed_price=exact(0.0, RATE),
        offers=offers,
    )


def serve(name: str, rate: Sequence[float], **more: object) -> Workload:
    """tokens per second in each period."""
    task = FleetTask(
        name=name, workload=name, kind="serve", tokens=0.0, tokens_per_s=np.asarray(rate, dtype=float), ask={}
    )
    return workload(name, "serve", (task,), 0, len(rate) - 1, **more)


def train(name: str, tokens: float, periods: int, first: int, last: int, **more: object) -> Workload:
    task = FleetTask(name=name, workload=name, kind="train", tokens=tokens, tokens_per_s=np.zeros(periods), ask={})
    return workload(name, "train", (task,), first, last, **more)


def reinforce(name: str, rollouts: float, updates: float, periods: int) -> Workload:
    zero = np.zeros(periods)
    tasks = tuple(
        FleetTask(name=f"{name}.{k}", workload=name, kind=k, tokens=n, tokens_per_s=zero, ask={})
        for k, n in (("rollouts", rollouts), ("updates", updates))
    )
    return workload(name, "rl", tasks, 0, periods - 1)


def workload(
    name: str,
    kind: str,
    tasks: tuple[FleetTask, ...],
    first: int,
    last: int,
    *,
    one_system: bool = False,
    porting: Mapping[str, float] | None = None,
    max_chips: float = 0.0,
    systems: tuple[str, ...] = (),
    most: float = 1.0,
    worth_usd: float = 0.0,
    tenant: str = "",
) -> Workload:
    return Workload(
        name=name,
        kind=kind,
        tasks=tasks,
        first=first,
        last=last,
        one_system=one_system,
        systems=systems,
        porting_usd=porting or {},
        max_chips=max_chips,
        most=most,
        worth_usd=worth_usd,
        tenant=tenant,
    )


def problem(
    workloads: Sequence[Workload],
    choices: Sequence[Choice],
    periods: int,
    *,
    sites: Sequence[FleetSite] = (),
    budget: float = np.inf,
    stack_usd: float = 0.0,
) -> FleetProblem:
    return FleetProblem(
        name="test",
        labels=tuple(f"p{i}" for i in range(periods)),
        length_s=LENGTH_S,
        periods_per_year=4,
        workloads=tuple(workloads),
        choices=tuple(choices),
        sites=(*sites, site(CLOUD, periods)),
        budget_usd=budget,
        budget_per_period=np.full(periods, np.inf),
        stack_usd=stack_usd,
        discount=0.0,
        goals=GOALS,
    )


def speeds(table: Mapping[tuple[str, str], float | None], spread: float = 1.0) -> TaskRates:
    """(task, system) -> tokens per second and chip; None where it does not run."""
    return {
        key: Rate(
            task=key[0],
            system=key[1],
            tokens_per_s_per_chip=unknown_estimate("1/s", "does not fit")
            if v is None
            else Estimate(value=float(v), unit="1/s", low=v / spread, high=v * spread),
        )
        for key, v in table.items()
    }


def random_problem(
    rng: np.random.Generator, *, tasks: int = 2, systems: int = 2, periods: int = 2, capped: bool = False
) -> tuple[FleetProblem, TaskRates]:
    """A small problem with integer data: serving and training, buying and renting, one stack for each system."""
    names = ("trn2", "h100", "ironwood", "gb300", "h200", "b200", "trn3-gen2", "tpu-v6e")[:systems]
    home = site("home", periods, cap_W=float(rng.integers(3, 9)) * 1000 if capped else np.inf, usd_per_J=1e-9)
    choices = [
        choice(
            n,
            periods,
            offer(
                n,
                "buy",
                float(rng.integers(5, 30)),
                periods,
                term=2 * periods,
                where="home",
                supply=float(rng.integers(1, 4)),
            ),
            offer(
                n,
                "rent",
                float(rng.integers(2, 20)),
                periods,
                term=int(rng.integers(1, 3)),
                supply=float(rng.integers(1, 4)),
            ),
        )
        for n in names
    ]
    works, table = [], {}
    for i in range(tasks):
        porting = {n: float(rng.integers(0, 5)) for n in names}
        if i % 2:
            last = int(rng.integers(0, periods))
            works.append(
                train(
                    f"w{i}",
                    float(rng.integers(1, 4)) * 100 * LENGTH_S,
                    periods,
                    0,
                    last,
                    porting=porting,
                    one_system=bool(rng.integers(0, 2)),
                )
            )
        else:
            works.append(serve(f"w{i}", rng.integers(0, 3, periods) * 100.0 + 50, porting=porting))
        for n in names:
            table[f"w{i}", n] = float(rng.integers(5, 30)) * 10 if rng.random() > 0.15 or n == names[0] else None
    return problem(works, choices, periods, sites=[home], stack_usd=float(rng.integers(0, 3))), speeds(table)


def random_work_problem(
    rng: np.random.Generator, goal: str, *, tasks: int = 2, systems: int = 2, periods: int = 2
) -> tuple[FleetProblem, TaskRates]:
    """A `random_problem` whose work is made most: some units are there, a budget buys few more, and of each workload up
    to four times what it asks is welcome, for a dollar or a few a token."""
    drawn, table = random_problem(rng, tasks=tasks, systems=systems, periods=periods)
    there = {c.name: {CLOUD: rng.integers(1, 5, periods).astype(float)} for c in drawn.choices}
    workloads = (
        replace(w, most=float(rng.integers(1, 5)), worth_usd=float(rng.integers(1, 4)) / LENGTH_S)
        for w in drawn.workloads
    )
    return (
        replace(
            drawn,
            goals=(goal, *GOALS),
            budget_usd=float(rng.integers(20, 80)),
            choices=tuple(replace(c, have=there[c.name]) for c in drawn.choices),
            workloads=tuple(workloads),
        ),
        table,
    )
