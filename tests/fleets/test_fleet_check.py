"""The check of fleet plans sees each rule broken, and no rule broken by a plan that uses all it may: one plan, worked
out by hand, that stands at every limit at once, and what is wrong when a limit is a hundredth tighter.

trn2 comes in units of two chips: one is there at home, two are bought, to stand there from p1 on, three are rented in
p0 and p1. h100: two chips are committed, and let to others in p0. Every chip makes 10 tokens/s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fleet_problems import LENGTH_S, choice, offer, problem, reinforce, serve, site, speeds, train
from mowich.economics.money import RATE
from mowich.estimate import exact
from mowich.fleets.check import SLACK, violations, work_done
from mowich.fleets.problem import LEAST_PACE, FleetProblem, Workload

ON_BOTH = {(task, system): 10.0 for task in ("chat", "run") for system in ("trn2", "h100")}
HALF_A_DAY = (1.0,) * 12 + (0.5,) * 12

ORDERS = {("trn2", "buy", "home", 0): 2.0, ("trn2", "rent", "cloud", 0): 3.0}
WORK = {**{("chat", "trn2", t): 2.0 for t in range(3)}, **{("run", "h100", t): 2.0 for t in (1, 2)}}
KEEPS = {("chat", "trn2"): 1.0, ("run", "h100"): 1.0}
SOLD = {("h100", 0): 2.0}


def at_its_limits(**more: Any) -> FleetProblem:
    """more: fields of the problem, in the place of its own."""
    home = replace(
        site("home", 3), cap_W=np.array([1500.0, 4500.0, 7500.0]), pue=exact(1.5, "1"), idle_share=0.5
    )  # a unit draws 3 kW at work and half of that idle: 1 idle, 3 idle, 2 at work and 1 idle
    trn2 = choice(
        "trn2",
        3,
        offer("trn2", "buy", 10, 3, supply=2, delay=1, where="home"),
        offer("trn2", "rent", 4, 3, supply=3, term=2),
        have=1.0,
        at="home",
    )
    h100 = replace(
        choice("h100", 3),
        committed=np.full(3, 2.0),
        committed_price=exact(3 / LENGTH_S, RATE),
        resale=0.5,
    )
    works = [
        serve("chat", [40, 40, 40], systems=("trn2",), one_system=True, max_chips=4.0),
        train("run", 40 * LENGTH_S, 3, 1, 2, one_system=True, max_chips=2.0),
    ]
    made = problem(works, [replace(trn2, unit_chips=2), h100], 3, sites=[home], budget=83.0)
    return replace(made, **{"budget_per_period": np.array([47.0, 30.0, 6.0]), **more})


def said(p: FleetProblem | None = None, *, whole: bool = True, **other: Mapping[Any, float]) -> list[str]:
    """What the check says of the plan, with some of its amounts changed."""
    amounts = {"orders": ORDERS, "work": WORK, "keeps": KEEPS, "sold": SOLD}
    made = {key: {**held, **other.get(key, {})} for key, held in amounts.items()}
    return violations(p or at_its_limits(), speeds(ON_BOTH), **made, whole=whole, claimed=other.get("claimed"))  # type: ignore[arg-type]


def test_a_plan_that_uses_all_it_may_breaks_no_rule() -> None:
    assert said() == []
    assert said(claimed={"tokens": 160 * LENGTH_S}) == []


def _works(p: FleetProblem, place: int, **more: Any) -> FleetProblem:
    works = [replace(w, **more) if i == place else w for i, w in enumerate(p.workloads)]
    return replace(p, workloads=tuple(works))


def _offers(p: FleetProblem, place: int, **more: Any) -> FleetProblem:
    trn2, h100 = p.choices
    offers = [replace(o, **more) if i == place else o for i, o in enumerate(trn2.offers)]
    return replace(p, choices=(replace(trn2, offers=tuple(offers)), h100))


def _capped(p: FleetProblem, *caps: float) -> FleetProblem:
    return replace(p, sites=(replace(p.sites[0], cap_W=np.array(caps)), *p.sites[1:]))


def _asking(p: FleetProblem, *speed: float) -> FleetProblem:
    (task,) = p.workloads[0].tasks
    return _works(p, 0, tasks=(replace(task, tokens_per_s=np.array(speed)),))


TIGHTER: dict[str, tuple[Callable[[FleetProblem], FleetProblem], list[str]]] = {
    "supply to buy": (lambda p: _offers(p, 0, supply=np.full(3, 1.98)), ["trn2: 2 units to buy in p0, 1.98 are"]),
    "supply to rent": (lambda p: _offers(p, 1, supply=np.full(3, 2.97)), ["trn2: 3 units to rent in p0, 2.97 are"]),
    "a cap of power": (
        lambda p: _capped(p, 1485.0, 4455.0, 7425.0),
        [
            f"home in p{t}: draws at least {drawn} MW"
            for t, drawn in enumerate(("0.0015 MW of 0.001485", "0.0045 MW of 0.004455", "0.0075 MW of 0.007425"))
        ],
    ),
    "the budget": (lambda p: replace(p, budget_usd=82.2), ["83 USD for chips alone, budget 82.2"]),
    "the budget of a period": (
        lambda p: replace(p, budget_per_period=np.array([46.5, 29.7, 5.94])),
        ["p0: 47 USD for", "p1: 30 USD for", "p2: 6 USD for"],
    ),
    "chips of serving": (lambda p: _works(p, 0, max_chips=3.96), [f"chat in p{t}: 4 chips, at most" for t in range(3)]),
    "chips of training": (lambda p: _works(p, 1, max_chips=1.98), [f"run in p{t}: 2 chips, at most" for t in (1, 2)]),
    "demand": (lambda p: _asking(p, 40, 40.4, 40), ["chat in p1: 40 of 40.4 tokens/s"]),
    "tokens": (
        lambda p: _works(p, 1, tasks=(replace(p.workloads[1].tasks[0], tokens=40.4 * LENGTH_S),)),
        ["run: 4e+07 of 4.04e+07 tokens by p2"],
    ),
    "a window that ends sooner": (lambda p: _works(p, 1, last=1), ["run works on h100 in p2, outside its window"]),
    "a window that begins later": (lambda p: _works(p, 1, first=2), ["run works on h100 in p1, outside its window"]),
    "systems": (lambda p: _works(p, 0, systems=("h100",)), ["chat works on trn2, which is not allowed to it"] * 3),
    "a rental that ends sooner": (lambda p: _offers(p, 1, term=1), ["home in p1: draws at least 0.0075 MW"]),
    "a delivery that comes later": (lambda p: _offers(p, 0, delay=3), ["trn2 in p2: 2 units work, 1 are there"]),
    "a rental that comes later": (
        lambda p: replace(_offers(p, 1, delay=1), budget_per_period=np.array([23.0, 30.0, 6.0])),
        ["trn2 in p0: 2 units work, 1 are there", "home in p0: draws at least 0.003 MW", "p2: 30 USD for"],
    ),
    "no resale": (
        lambda p: replace(p, choices=(p.choices[0], replace(p.choices[1], resale=0.0))),
        ["h100 in p0: 2 units let of 2 committed", "p0: 50 USD for", "86 USD for"],
    ),
}


@pytest.mark.parametrize("what", TIGHTER)
def test_a_limit_that_is_tighter_is_broken(what: str) -> None:
    change, lines = TIGHTER[what]
    found = said(change(at_its_limits()))
    assert len(found) == len(lines), found
    for line, want in zip(found, lines, strict=True):
        assert line.startswith(want)


OTHER: dict[str, tuple[dict[str, dict[Any, float]], list[str]]] = {
    "a little less than whole": ({"orders": {("trn2", "rent", "cloud", 0): 3.0 - 2 * SLACK}}, []),
    "a little more than nothing": ({"orders": {("h100", "rent", "cloud", 1): -SLACK}}, []),
    "more than nothing": (
        {"orders": {("h100", "rent", "cloud", 1): 1.5e-5}},
        ["('h100', 'rent', 'cloud', 1): 1.5e-05 is no whole number of units"],
    ),
    "less than nothing": (
        {"orders": {("h100", "rent", "cloud", 1): -0.01}},
        ["('h100', 'rent', 'cloud', 1): fewer than no units", "('h100', 'rent', 'cloud', 1): -0.01 is no whole"],
    ),
    "a fraction": (
        {"orders": {("trn2", "rent", "cloud", 0): 2.9}},
        ["('trn2', 'rent', 'cloud', 0): 2.9 is no whole number of units"],
    ),
    "more let than committed": (
        {"sold": {("h100", 0): 2.1}},
        ["h100 in p0: 2.1 units let of 2 committed", "h100 in p0: 0 units work, -0.1 are there"],
    ),
    "as many let as may be where none is committed": ({"sold": {("trn2", 0): SLACK}}, []),
    "more let where none is committed": (
        {"sold": {("trn2", 0): 1.5 * SLACK}},
        ["trn2 in p0: 1.5e-05 units let of 0 committed"],
    ),
    "a little less let than nothing": ({"sold": {("h100", 1): -SLACK}}, []),
    "less let than nothing": (
        {"sold": {("h100", 1): -0.01}},
        ["h100 in p1: -0.01 units let", "p1: 30.015 USD for", "83.015 USD for"],
    ),
    "nothing let": ({"sold": {("h100", 0): 0.0}}, ["p0: 50 USD for", "86 USD for"]),
    "let and at work": ({"sold": {("h100", 1): 1.0}}, ["h100 in p1: 2 units work, 1 are there"]),
    "more at work than there": (
        {"work": {("chat", "trn2", 2): 3.03}},
        ["trn2 in p2: 3.03 units work, 3 are there", "chat in p2: 6.06 chips", "home in p2: draws at least 0.009 MW"],
    ),
    "ported twice": ({"keeps": {("chat", "trn2"): 1.01}}, ["chat: ported more than once"]),
    "ported once": ({"keeps": {("chat", "trn2"): 1.0 + SLACK}}, []),
    "hardly ported": ({"keeps": {("chat", "trn2"): SLACK}}, []),
    "not ported": ({"keeps": {("run", "h100"): 0.0}}, ["run works on h100 without being ported to h100"] * 2),
    "another system": (
        {"work": {("run", "trn2", 1): 0.1}},
        ["run works on trn2 without being ported", "run in p1: 2.2 chips", "run works on h100, trn2, and must stay"],
    ),
    "next to nothing elsewhere": ({"work": {("run", "trn2", 0): SLACK}}, []),
    "too little is claimed": ({"claimed": {"tokens": 158 * LENGTH_S}}, ["1.58e+08 tokens are claimed, 1.6e+08"]),
    "a hair too much is claimed": ({"claimed": {"tokens": 160.0008 * LENGTH_S}}, []),
    "little more is claimed": ({"claimed": {"tokens": 160.0024 * LENGTH_S}}, ["1.60002e+08 tokens are claimed"]),
    "too much is claimed": ({"claimed": {"tokens": 162 * LENGTH_S}}, ["1.62e+08 tokens are claimed, 1.6e+08"]),
}


@pytest.mark.parametrize("what", OTHER)
def test_an_amount_that_breaks_a_rule_is_told(what: str) -> None:
    change, lines = OTHER[what]
    found = said(**change)
    assert len(found) == len(lines), found
    for line, want in zip(found, lines, strict=True):
        assert line.startswith(want)


def test_fractions_are_no_fault_of_a_plan_in_fractions() -> None:
    """Nor is a port that is as small as the work, a run with a gap, or two systems."""
    half = {"orders": {("trn2", "rent", "cloud", 0): 2.9}, "keeps": {("run", "trn2"): 0.5 * SLACK}}
    p = _works(at_its_limits(), 1, max_chips=0.0)
    assert said(p, whole=False, **half, work={("run", "trn2", 1): 2 * SLACK}) == []
    assert said(p, whole=False, keeps={("chat", "trn2"): SLACK}) == []
    assert said(p, whole=False, work={("run", "trn2", 1): 0.1}) == ["run works on trn2 without being ported to trn2"]
    assert said(p, work={("run", "h100", 1): 4.0, ("run", "h100", 2): 0.0})[-1].startswith("h100 in p1: 4 units work")


def test_no_more_than_is_welcome_where_work_is_made_most() -> None:
    p = at_its_limits(goals=("tokens",))
    assert said(p) == []
    more = {("chat", "trn2", 1): 2.02}
    assert "chat in p1: 40.4 of 40 tokens/s, at most 1 times" in said(_works(p, 0, max_chips=0.0), work=more)
    assert said(_works(_works(p, 0, max_chips=0.0), 0, most=1.01), work=more) == []
    assert said(_works(at_its_limits(), 0, max_chips=0.0), work=more) == []
    assert said(_asking(p, 40, 0, 40)) == []  # of nothing asked, nothing is too much
    assert said(_asking(p, 40, 0, 40), work={("chat", "trn2", 1): 0.0}) == []  # and serving may pause
    assert said(_asking(p, 40, 0.5, 40)) == ["chat in p1: 40 of 0.5 tokens/s, at most 1 times"]
    tokens = {**WORK, ("run", "h100", 2): 1.98}
    assert said(p, work=tokens) == ["run: 3.98e+07 of 4e+07 tokens by p2, at most 1 times"]


def test_what_is_not_at_work_needs_no_speed_and_does_nothing() -> None:
    p = problem([serve("chat", [0])], [choice("trn2", 1)], 1)
    idle = {("chat", "trn2", 0): 0.0}
    assert violations(p, {}, orders={}, work=idle, keeps={}, claimed={"tokens": 0.0}) == []


@pytest.mark.parametrize(
    ("paces", "is_run"),
    [
        ((1.0, 1.0, 1.0), True),
        ((0.0, 1.0, 1.0), True),
        ((0.1, 1.0, 0.1), True),  # it begins and ends slowly
        ((1.0, LEAST_PACE - SLACK, 1.0), True),
        ((1.0, LEAST_PACE - 2 * SLACK, 1.0), False),
        ((1.0, 0.0, 1.0), False),
        ((SLACK, 0.0, 1.0), True),  # what is next to nothing is no beginning
        ((2 * SLACK, 0.0, 1.0), False),
        ((1.0, 0.0, SLACK), True),
        ((1.0, 0.0, 2 * SLACK), False),
    ],
)
def test_a_run_does_not_stop_in_its_midst(paces: tuple[float, ...], is_run: bool) -> None:
    """paces: tokens/s of three periods, each of two seconds, of a run of two tokens."""
    p = replace(problem([train("run", 2.0, 3, 0, 2)], [choice("trn2", 3, have=2.0, at="cloud")], 3), length_s=2.0)
    work = {("run", "trn2", t): pace for t, pace in enumerate(paces)}
    found = violations(p, speeds({("run", "trn2"): 1.0}), orders={}, work=work, keeps={("run", "trn2"): 1.0})
    assert any(line.startswith("run in p1:") for line in found) is not is_run


def _daily(day: tuple[float, ...], **more: Any) -> Callable[[Workload], Workload]:
    return lambda w: replace(w, tasks=tuple(replace(task, day=day, **more) for task in w.tasks))


def test_the_fullest_hour_of_the_day_is_what_chips_are_for() -> None:
    """Two that work at other hours share chips; one that takes any hour fills what they leave."""

    def used(*works: Workload, units: float) -> list[str]:
        p = problem(list(works), [choice("trn2", 1, have=6.0, at="cloud")], 1)
        table = speeds({(w.name, "trn2"): 10.0 for w in works})
        ported = {(w.name, "trn2"): 1.0 for w in works}
        return violations(p, table, orders={}, work={(w.name, "trn2", 0): units for w in works}, keeps=ported)

    day = _daily(HALF_A_DAY)(serve("day", [40]))
    night = _daily(HALF_A_DAY[::-1])(serve("night", [40]))
    filler = _daily((), any_hour=True)(serve("filler", [40]))
    assert used(day, night, units=4.0) == []  # 4 and 2 chips in every hour
    assert used(day, night, units=4.04) == ["trn2 in p0: 6.06 units work, 6 are there"]
    assert used(day, filler, units=6.0)[0].startswith("trn2 in p0: 10.5 units work")  # the mean of the day
    assert used(day, units=6.0) == []
    assert used(day, units=6.06) == ["trn2 in p0: 6.06 units work, 6 are there"]


def test_what_is_done_is_counted_by_hand() -> None:
    """Serving: what users send, which is the mean of the day over its peak. Money of later periods is worth less."""
    p = at_its_limits(discount=0.1)
    p = replace(p, workloads=tuple(replace(w, worth_usd=usd) for w, usd in zip(p.workloads, (1e-6, 2e-6), strict=True)))
    table, later = speeds(ON_BOTH), [1.1 ** (-t / 4) for t in range(3)]
    assert work_done(p, table, WORK, "tokens") == pytest.approx(160 * LENGTH_S)
    assert work_done(p, table, WORK, "revenue") == pytest.approx(40 * sum(later) + 40 * sum(later[1:]))
    shaped = replace(p, workloads=(_daily(HALF_A_DAY, peak=1.5)(p.workloads[0]), p.workloads[1]))
    assert work_done(shaped, table, WORK, "tokens") == pytest.approx((120 * 0.75 / 1.5 + 40) * LENGTH_S)


def test_reinforcement_learning_does_what_both_of_its_tasks_do() -> None:
    """Of 100 rollouts 60 are done, of 50 updates 40: six tenths of both are steps."""
    p = problem([replace(reinforce("rl", 100 * LENGTH_S, 50 * LENGTH_S, 1), worth_usd=1e-6)], [choice("trn2", 1)], 1)
    table = speeds({("rl.rollouts", "trn2"): 10.0, ("rl.updates", "trn2"): 10.0})
    work = {("rl.rollouts", "trn2", 0): 6.0, ("rl.updates", "trn2", 0): 4.0}
    assert work_done(p, table, work, "tokens") == pytest.approx(90 * LENGTH_S)
    assert work_done(p, table, work, "revenue") == pytest.approx(60.0)
    found = violations(p, table, orders={}, work=work, keeps={("rl", "trn2"): 1.0})
    assert "rl: its tasks keep step for 0.6 of it" in found
    assert any(line.startswith("rl.updates: 4e+07 of 5e+07 tokens by p0") for line in found)
    both = {("rl.rollouts", "trn2", 0): 10.0, ("rl.updates", "trn2", 0): 5.0}
    found = violations(p, table, orders={}, work=both, keeps={("rl", "trn2"): 1.0})
    assert found == ["trn2 in p0: 15 units work, 0 are there"]
