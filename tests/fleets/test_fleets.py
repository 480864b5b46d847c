"""Fleets: optima computed by hand, shadow prices in words, conflicts, flip points, scenario errors."""

from __future__ import annotations

import json
import math
import random
import time
from dataclasses import replace
from pathlib import Path

import highspy
import numpy as np
import pytest

from fleet_problems import LENGTH_S, choice, offer, problem, random_problem, reinforce, serve, site, speeds, train
from mowich import cli, facts
from mowich.economics.money import RATE
from mowich.errors import UserError
from mowich.estimate import Estimate, exact
from mowich.fleets.answer import Answer, solve_fleet, worse_by
from mowich.fleets.check import violations
from mowich.fleets.flips import flips
from mowich.fleets.idle import idle_systems
from mowich.fleets.problem import (
    CLOUD,
    GOALS,
    Choice,
    FleetProblem,
    FleetTask,
    Rate,
    TaskRates,
    Workload,
    read_rates,
    write_rates,
)
from mowich.fleets.programme import formulate
from mowich.fleets.read import period_labels, read_problem
from mowich.fleets.robustness import Robustness, robustness
from mowich.fleets.solve import Session, most_nodes, optimise
from mowich.models import load_model
from mowich.requests.jobs import PlanRequest
from mowich.serving.search import ServeJob
from mowich.show.fleet_amounts import dearer, dollars, mixing
from mowich.show.fleet_design import far_from_mattering
from mowich.show.render.terminal import Style, terminal
from mowich.show.verbs import page_of
from mowich.studies import fleet as studies_fleet
from mowich.studies import serving_plan
from mowich.studies.fleet import Fleet, known_rates, rate, speeds_of
from mowich.studies.fleet_design import what_if
from mowich.studies.rl import assess
from mowich.studies.rl_scenario import ask_of, read_rl


def test_serving_takes_the_cheaper_token() -> None:
    """100 tokens/s: 10 chips at 10 tokens/s for 3 each, or 5 at 20 for 7 each: 30 against 35 per period."""
    p = problem(
        [serve("chat", [100, 100])],
        [choice("trn2", 2, offer("trn2", "rent", 3, 2)), choice("h100", 2, offer("h100", "rent", 7, 2))],
        2,
    )
    a = solve_fleet(p, speeds({("chat", "trn2"): 10, ("chat", "h100"): 20}))
    assert a.usd == pytest.approx(60)
    assert {(o.system, o.period, o.units) for o in a.orders} == {("trn2", "p0", 10), ("trn2", "p1", 10)}
    assert {v.stack: v.value for v in a.vendors} == {"trn2": pytest.approx(60), "h100": pytest.approx(70)}


def test_whole_units_cost_more_than_fractions() -> None:
    p = problem([serve("chat", [25])], [choice("trn2", 1, offer("trn2", "rent", 3, 1))], 1)
    table = speeds({("chat", "trn2"): 10})
    assert solve_fleet(p, table, relaxed=True).usd == pytest.approx(7.5)
    assert solve_fleet(p, table).usd == pytest.approx(9)


def test_buying_pays_when_held_long_enough() -> None:
    """A chip bought for 12 and written off over 8 periods costs 6 for four periods; rented at 2 it costs 8. Bought
    late, renting wins."""
    offers = (offer("trn2", "buy", 12, 4, term=8, where="home"), offer("trn2", "rent", 2, 4))
    home = site("home", 4)
    long = solve_fleet(
        problem([serve("chat", [10, 10, 10, 10])], [choice("trn2", 4, *offers)], 4, sites=[home]),
        speeds({("chat", "trn2"): 10}),
    )
    assert long.usd == pytest.approx(6)
    assert [(o.kind, o.units, o.usd) for o in long.orders] == [("buy", 1, pytest.approx(12))]
    dear = (offer("trn2", "buy", 80, 4, term=8, where="home"), offer("trn2", "rent", 2, 4))
    short = solve_fleet(
        problem([serve("chat", [0, 0, 0, 10])], [choice("trn2", 4, *dear)], 4, sites=[home]),
        speeds({("chat", "trn2"): 10}),
    )
    assert [(o.kind, o.period) for o in short.orders] == [("rent", "p3")]


def test_a_delay_means_ordering_early() -> None:
    p = problem(
        [serve("chat", [0, 0, 10])],
        [choice("trn2", 3, offer("trn2", "buy", 10, 3, term=3, where="home", delay=2))],
        3,
        sites=[site("home", 3)],
    )
    a = solve_fleet(p, speeds({("chat", "trn2"): 10}))
    assert [(o.period, o.units) for o in a.orders] == [("p0", 1)]


@pytest.mark.parametrize(("asked", "said"), [(1e-6, "too small to plan"), (0.0, None), (1.0, None)])
def test_too_little_to_tell_from_nothing_is_said(asked: float, said: str | None) -> None:
    """Within a solver's tolerance no work is enough: the plan broke the rules of its check."""
    p = problem([serve("chat", [10 * asked, 100 * asked])], [choice("h100", 2, offer("h100", "rent", 10, 2))], 2)
    if said is None:
        assert solve_fleet(p, speeds({("chat", "h100"): 10})).is_feasible
    else:
        with pytest.raises(UserError, match=said):
            solve_fleet(p, speeds({("chat", "h100"): 10}))


def test_training_fills_its_window_and_no_other() -> None:
    """600 chip-periods of work in periods 1 and 2, 400 chips supplied to rent in each: 400 + 200."""
    p = problem(
        [train("run", 600 * 5 * LENGTH_S, 4, 1, 2)], [choice("trn2", 4, offer("trn2", "rent", 1, 4, supply=400))], 4
    )
    a = solve_fleet(p, speeds({("run", "trn2"): 5}))
    assert a.usd == pytest.approx(600)
    assert {x.period for x in a.assign} <= {"p1", "p2"}
    assert sum(x.share for x in a.assign) == pytest.approx(1)


def test_one_system_is_kept_to() -> None:
    """Two systems of 60 chips each could share 100 chips of work; a run that must stay on one takes the larger, dearer
    supply."""
    choices = [
        choice("trn2", 1, offer("trn2", "rent", 1, 1, supply=60)),
        choice("h100", 1, offer("h100", "rent", 2, 1, supply=100)),
    ]
    table = speeds({("run", "trn2"): 1, ("run", "h100"): 1})
    assert solve_fleet(problem([train("run", 100 * LENGTH_S, 1, 0, 0)], choices, 1), table).usd == pytest.approx(
        60 + 80
    )
    assert solve_fleet(
        problem([train("run", 100 * LENGTH_S, 1, 0, 0, one_system=True)], choices, 1), table
    ).usd == pytest.approx(200)


def test_porting_and_stacks_are_paid_once() -> None:
    """Half the chips are cheaper on each stack, but a port of 50 eats what the second saves."""
    choices = [
        choice("trn2", 1, offer("trn2", "rent", 1, 1, supply=50)),
        choice("h100", 1, offer("h100", "rent", 1.5, 1)),
    ]
    table = speeds({("chat", "trn2"): 1, ("chat", "h100"): 1})
    free = solve_fleet(problem([serve("chat", [100])], choices, 1), table)
    assert free.usd == pytest.approx(50 + 75)
    ported = solve_fleet(problem([serve("chat", [100], porting={"trn2": 50.0, "h100": 0.0})], choices, 1), table)
    assert ported.usd == pytest.approx(150)
    assert ported.stacks == ("h100",)


def test_rollouts_and_updates_keep_step() -> None:
    """Each period does the same share of both; 10 chip-periods of one and 20 of the other over two periods, 15 chips
    supplied in each."""
    p = problem(
        [reinforce("rl", 10 * LENGTH_S, 20 * LENGTH_S, 2)],
        [choice("trn2", 2, offer("trn2", "rent", 1, 2, supply=15))],
        2,
    )
    a = solve_fleet(p, speeds({("rl.rollouts", "trn2"): 1, ("rl.updates", "trn2"): 1}))
    assert a.usd == pytest.approx(30)
    share = {(x.task, x.period): x.share for x in a.assign}
    for period in ("p0", "p1"):
        assert share["rl.rollouts", period] == pytest.approx(share["rl.updates", period])


def test_the_checker_counts_steps_of_both() -> None:
    """All rollouts in one period and all updates in the other are no run: neither trains on what the other makes."""
    p = problem(
        [reinforce("rl", 10 * LENGTH_S, 10 * LENGTH_S, 2)],
        [choice("trn2", 2, offer("trn2", "rent", 1, 2, supply=20))],
        2,
    )
    table = speeds({("rl.rollouts", "trn2"): 1, ("rl.updates", "trn2"): 1})
    orders = {("trn2", "rent", "cloud", t): 20.0 for t in (0, 1)}
    stack = p.choices[0].stack

    def said(rollouts: tuple[float, float], updates: tuple[float, float]) -> list[str]:
        work = {("rl.rollouts", "trn2", t): n for t, n in enumerate(rollouts)}
        work |= {("rl.updates", "trn2", t): n for t, n in enumerate(updates)}
        return violations(p, table, orders=orders, work=work, keeps={("rl", stack): 1.0})

    assert said((4, 6), (4, 6)) == []
    assert said((10, 0), (0, 10)) == ["rl: its tasks keep step for 0 of it"]
    assert said((7, 3), (3, 7)) == ["rl: its tasks keep step for 0.6 of it"]


def test_power_binds_and_its_price_is_what_a_megawatt_saves() -> None:
    """Owned chips draw 1 kW each under a cap of 5 kW; the rest is rented at 4: one more kW saves 4 less the 1 that
    owning costs."""
    p = problem(
        [serve("chat", [10])],
        [choice("trn2", 1, offer("trn2", "buy", 1, 1, term=1, where="home"), offer("trn2", "rent", 4, 1))],
        1,
        sites=[site("home", 1, cap_W=5000)],
    )
    a = solve_fleet(p, speeds({("chat", "trn2"): 1}))
    assert a.usd == pytest.approx(5 * 1 + 5 * 4)
    power = next(b for b in a.binding if b.constraint == "power at home in p0")
    assert power.unit == "USD/MW"
    assert power.shadow_price == pytest.approx(3 * 1000)


def test_a_conflict_is_named_in_words() -> None:
    """10 chips are needed; 4 fit under the power cap and 3 are supplied to rent. The budget has nothing to do with
    it."""
    choices = [choice("trn2", 1, offer("trn2", "buy", 1, 1, where="home"), offer("trn2", "rent", 1, 1, supply=3))]
    p = problem([serve("chat", [10])], choices, 1, sites=[site("home", 1, cap_W=4000)], budget=1000)
    a = solve_fleet(p, speeds({("chat", "trn2"): 1}))
    assert a.status == "infeasible"
    assert set(a.conflict) == {"demand of chat in p0", "power at home in p0", "supply of trn2 to rent in p0"}


def test_a_conflict_of_whole_units_is_found() -> None:
    """Half a unit fits the budget, a whole one does not."""
    p = problem([serve("chat", [5])], [choice("trn2", 1, offer("trn2", "rent", 10, 1))], 1, budget=6)
    a = solve_fleet(p, speeds({("chat", "trn2"): 10}))
    assert set(a.conflict) == {"demand of chat in p0", "the budget"}


def test_a_workload_that_runs_nowhere() -> None:
    p = problem([serve("chat", [10])], [choice("trn2", 1, offer("trn2", "rent", 1, 1))], 1)
    with pytest.raises(UserError, match=r"'chat' runs on no system allowed to it \(trn2: does not fit\)") as caught:
        solve_fleet(p, speeds({("chat", "trn2"): None}))
    assert caught.value.code == 3


def test_duals_are_finite_differences() -> None:
    """The shadow price of a demand is what one unit less of it saves, here and with more than one thing binding."""
    choices = [choice("trn2", 2, offer("trn2", "rent", 3, 2, supply=5)), choice("h100", 2, offer("h100", "rent", 7, 2))]
    p = problem([serve("chat", [100, 40]), serve("code", [60, 60])], choices, 2)
    table = speeds({("chat", "trn2"): 10, ("chat", "h100"): 20, ("code", "trn2"): 5, ("code", "h100"): 4})
    programme = formulate(p, table)
    base = optimise(programme, integer=False)
    for row, says in enumerate(programme.says):
        if says.kind not in ("demand", "supply to rent"):
            continue
        step = 1e-4
        moved = [array.copy() for array in (programme.row_low, programme.row_high)]
        for array in moved:
            array[row] += step
        again = optimise(replace(programme, row_low=moved[0], row_high=moved[1]), integer=False)
        assert (again.goals["cost"] - base.goals["cost"]) / step == pytest.approx(
            base.duals[row], rel=1e-5, abs=1e-9
        ), says


def test_the_check_sees_what_is_wrong() -> None:
    p = problem([serve("chat", [100])], [choice("trn2", 1, offer("trn2", "rent", 3, 1, supply=4))], 1)
    table = speeds({("chat", "trn2"): 10})
    said = violations(p, table, orders={("trn2", "rent", "cloud", 0): 4.5}, work={("chat", "trn2", 0): 6.0}, keeps={})
    assert len(said) == 5
    for word in ("no whole number", "are supplied", "are there", "without being ported", "60 of 100 tokens/s"):
        assert any(word in line for line in said)


def test_flip_points_are_where_the_leader_changes() -> None:
    """trn2 costs 0.30 a token, h100 0.35: it takes over when its price falls below 6 or trn2's rises above 3.5."""
    p = problem(
        [serve("chat", [100])],
        [choice("trn2", 1, offer("trn2", "rent", 3, 1)), choice("h100", 1, offer("h100", "rent", 7, 1))],
        1,
    )
    found = flips(p, speeds({("chat", "trn2"): 10, ("chat", "h100"): 20}))
    at = {(f.system, f.what): f.at for f in found}
    assert at["h100", "price"] == pytest.approx(6 / 7, rel=0.03)
    assert at["trn2", "price"] == pytest.approx(3.5 / 3, rel=0.03)
    assert at["h100", "speed"] == pytest.approx(7 / 6, rel=0.03)
    assert all(f.before == "trn2" and f.after == "h100" for f in found)


def test_draws_say_how_sure_and_are_the_same_for_a_seed() -> None:
    choices = [
        choice("trn2", 1, offer("trn2", "rent", 3, 1, low=2, high=4.5)),
        choice("h100", 1, offer("h100", "rent", 7, 1, low=5, high=10)),
    ]
    p = problem([serve("chat", [100])], choices, 1)
    table = speeds({("chat", "trn2"): 10, ("chat", "h100"): 20}, spread=1.3)
    a = solve_fleet(p, table)
    one, two = (robustness(p, table, a, draws=60, seed=3) for _ in range(2))
    assert one == two
    assert 0.3 < one.wins["trn2"] < 0.9
    assert sum(one.wins.values()) == pytest.approx(1)
    assert one.kept[0] <= one.kept[1]
    assert one.regret["trn2"] is not None
    assert one.regret["trn2"][1] == pytest.approx(one.kept[1])  # the plan is trn2 alone


def test_draws_give_a_range_of_the_cost_and_of_what_is_committed() -> None:
    """Ten chips are committed at a price known within a factor of two: the total has that range, though nothing is
    ordered."""
    chosen = replace(
        choice("trn2", 1),
        committed=np.full(1, 10.0),
        committed_price=Estimate(value=1 / LENGTH_S, unit=RATE, low=0.5 / LENGTH_S, high=2 / LENGTH_S, grade="user"),
    )
    p = problem([serve("chat", [100])], [chosen], 1)
    table = speeds({("chat", "trn2"): 10})
    a = solve_fleet(p, table)
    low, middle, high = robustness(p, table, a, draws=200, seed=1).objective
    assert a.usd == pytest.approx(10)
    assert low == pytest.approx(5, rel=0.25)
    assert middle == pytest.approx(10, rel=0.15)
    assert high == pytest.approx(20, rel=0.25)


def test_energy_counts_what_is_drawn_and_a_cap_what_is_provisioned() -> None:
    """Half of the power drawn: half of the energy of chips at work, and as many chips under the cap."""

    def solved(share: float) -> Answer:
        own = replace(choice("trn2", 1, offer("trn2", "rent", 1, 1), power_W=2000.0), drawn_share=share)
        return solve_fleet(problem([serve("chat", [100.0])], [own], 1), speeds({("chat", "trn2"): 10}))

    whole, half = solved(1.0), solved(0.5)
    assert half.energy_J == pytest.approx(0.5 * whole.energy_J)
    assert [(u.there, u.busy) for u in half.uses] == [(u.there, u.busy) for u in whole.uses]
    assert [u.mwh for u in half.uses] == pytest.approx([0.5 * (u.mwh or 0.0) for u in whole.uses])
    assert half.usd == pytest.approx(whole.usd)


def _idle(works: list[Workload], have: dict[str, float], table: TaskRates, *, watts: float = 1000.0) -> dict[str, str]:
    """System -> why it stands idle, of chips that are there already; the first system uses `watts` a chip."""
    periods = len(works[0].tasks[0].tokens_per_s)
    chips = [
        choice(n, periods, have=number, at=CLOUD, power_W=1000.0 if place else watts)
        for place, (n, number) in enumerate(have.items())
    ]
    p = problem(works, chips, periods)
    return {i.system: i.reason for i in idle_systems(p, table, solve_fleet(p, table))}


def _day(rate: float, day: tuple[float, ...], train_units: float, *, any_hour: bool) -> tuple[FleetProblem, TaskRates]:
    """Serving with a day, and a run of `train_units` chip-periods beside it, on chips that are rented for 1 each."""
    chat, run = serve("chat", [rate]), train("run", train_units * 10 * LENGTH_S, 1, 0, 0)
    chat = replace(chat, tasks=(replace(chat.tasks[0], day=day),))
    run = replace(run, tasks=(replace(run.tasks[0], any_hour=any_hour),))
    p = problem([chat, run], [choice("trn2", 1, offer("trn2", "rent", 1, 1))], 1)
    return p, speeds({("chat", "trn2"): 10, ("run", "trn2"): 10})


def test_training_at_night_takes_the_chips_that_serve_by_day() -> None:
    """Ten chips serve from 8 to 20 and rest at night: a run of five chips fills the night, and needs five more
    otherwise."""
    day = tuple(1.0 if 8 <= hour < 20 else 0.0 for hour in range(24))
    p, table = _day(100, day, 5, any_hour=True)
    a = solve_fleet(p, table)
    assert a.usd == pytest.approx(10)
    assert [(u.there, u.busy) for u in a.uses] == [(10, pytest.approx(10))]
    assert {x.task: x.chips for x in a.assign} == {"chat": pytest.approx(5), "run": pytest.approx(5)}
    assert not idle_systems(p, table, a)
    p, table = _day(100, day, 5, any_hour=False)
    a = solve_fleet(p, table)
    assert a.usd == pytest.approx(15)
    assert [i.reason for i in idle_systems(p, table, a)] == ["night"]


def test_chips_of_a_day_are_those_of_its_fullest_hour() -> None:
    """Random days: as many chips as the fullest hour needs, and no fewer than the work of all hours together."""
    rng = np.random.default_rng(3)
    for _ in range(30):
        loads = rng.random(24)
        day = tuple(float(x) for x in loads / loads.max())
        units, run = float(rng.integers(1, 30)), float(rng.integers(1, 30))
        fills = bool(rng.integers(0, 2))
        p, table = _day(10 * units, day, run, any_hour=fills)
        needed = max(units, units * float(np.mean(day)) + run) if fills else units + run
        assert solve_fleet(p, table, relaxed=True).usd == pytest.approx(needed, rel=1e-5)


def test_a_day_may_be_written_as_hours_or_as_a_list(tmp_path: Path) -> None:
    served = "serve: {model: llama-3.1-8b, isl: 1000, osl: 200, tokens_per_s: 100k, DAY}"
    text = SCENARIO.replace("train: {model: llama-3.1-8b, tokens: 1T, seq: 4096, batch: 512seqs}", served)
    known = facts.load_facts()

    def read(day: str) -> FleetTask:
        return read_problem(scenario(tmp_path, text.replace("DAY", day)), known).tasks[0]

    hours = read("day: {from: 8, to: 20, night: 50%}")
    assert hours.day == tuple(1.0 if 8 <= hour < 20 else 0.5 for hour in range(24))
    assert hours.tokens_per_s[0] == pytest.approx(100e3 / 0.75)
    assert read(f"day: [{', '.join(['2'] * 12 + ['1'] * 12)}]").day_mean == pytest.approx(0.75)
    for wrong, said in (
        ("day: [1, 2]", "24 numbers"),
        ("peak: 2, day: {from: 8, to: 20, night: 50%}", "give one of the two"),
        ("day: {from: 20, to: 8, night: 50%}", "'from' comes before 'to'"),
    ):
        with pytest.raises(UserError, match=said):
            read(wrong)


def test_what_is_committed_may_be_let_to_others() -> None:
    """Ten chips are committed at 2 a period and five do the work: at half the price five bring 5 back."""

    def answered(resale: float) -> Answer:
        chosen = replace(
            choice("trn2", 1), committed=np.full(1, 10.0), committed_price=exact(2 / LENGTH_S, RATE), resale=resale
        )
        return solve_fleet(problem([serve("chat", [50])], [chosen], 1), speeds({("chat", "trn2"): 10}))

    let = answered(0.5)
    assert let.usd == pytest.approx(15)
    assert [(r.units, r.usd) for r in let.sold] == [(5, pytest.approx(5))]
    assert [(u.there, u.busy) for u in let.uses] == [(5, pytest.approx(5))]
    kept = answered(0.0)
    assert kept.usd == pytest.approx(20)
    assert not kept.sold
    assert kept.uses[0].there == 10


def test_the_check_sees_what_is_let_but_not_committed() -> None:
    chosen = replace(choice("trn2", 1), committed=np.full(1, 3.0), resale=0.5)
    p = problem([serve("chat", [50])], [chosen], 1)
    wrong = violations(
        p, speeds({("chat", "trn2"): 10}), orders={}, work={("chat", "trn2", 0): 5.0}, keeps={}, sold={("trn2", 0): 4.0}
    )
    assert any("4 units let of 3 committed" in line for line in wrong)


def test_a_workload_that_is_not_ported_leaves_chips_idle() -> None:
    """trn2 keeps its stack for code; chat stays on h100 alone, because a port costs more than the energy it saves."""
    chat, code = serve("chat", [50], porting={"trn2": 9.0}), serve("code", [50])
    table = speeds(
        {("chat", "trn2"): 10, ("chat", "h100"): 10, ("code", "trn2"): 10, ("code", "h100"): None},
    )
    p = problem([chat, code], [choice(n, 1, have=10, at=CLOUD) for n in ("trn2", "h100")], 1)
    found = {i.system: (i.reason, i.others) for i in idle_systems(p, table, solve_fleet(p, table))}
    assert found["trn2"] == ("stack", ("h100",))


def test_nothing_of_rainier_stands_idle_for_long_without_a_reason() -> None:
    """For the least cost of what is asked and no more, what stands idle for more than a tenth of its time takes more
    energy a token than who does its work, is not ported, or waits for the peak of a day; all speeds of what serves on
    Trainium name the engine."""
    known = facts.load_facts()
    file = Path(__file__).parents[2] / "scenarios" / "rainier.yaml"
    p = replace(read_problem(file, known), goals=GOALS)
    table, _ = read_rates(file.parent / p.rates_file)
    a = solve_fleet(p, table, time_limit_s=30)
    much = [i for i in idle_systems(p, table, a) if i.share > 0.1]
    assert "trn2" in {i.system for i in much}
    assert {i.reason for i in much} <= {"dearer", "stack", "night"}
    assert all(i.energy is None or i.energy < 1 for i in much)
    serving = {t.name for t in p.tasks if t.ask["do"] == "serve"}
    engines = {c.name: c.engine for c in p.choices}
    assert all(r.engine == engines[s] for (n, s), r in table.items() if n in serving)
    assert {"trn2", "trn3", "trn4", "vera-rubin-nvl72"} <= set(engines)


def test_what_stands_idle_has_a_reason() -> None:
    """Two systems of ten chips each: five do all that is asked, and the rest stand for another reason each time."""
    chat = serve("chat", [50])
    both = speeds({("chat", "trn2"): 10, ("chat", "h100"): 10})
    assert _idle([chat], {"trn2": 10, "h100": 10}, both, watts=3000.0) == {"trn2": "stack", "h100": "done"}
    other = speeds({("chat", "trn2"): None, ("chat", "h100"): 10})
    assert _idle([chat], {"trn2": 10, "h100": 10}, other) == {"trn2": "cannot", "h100": "done"}
    alone = serve("chat", [50], systems=("h100",))
    assert _idle([alone], {"trn2": 10, "h100": 10}, both) == {"trn2": "nothing asked", "h100": "done"}
    first = serve("chat", [50, 150])  # in the second period both are needed, so both stacks are kept
    found = _idle([first], {"trn2": 10, "h100": 10}, both, watts=3000.0)
    assert found["trn2"] == "dearer"


def test_what_stands_idle_is_said_for_the_demand_of_the_scenario() -> None:
    """After what to do; never without where the demand comes from."""
    chat, code = serve("chat", [50, 150]), serve("code", [50, 50])
    table = speeds(
        {("chat", "trn2"): 10, ("chat", "h100"): 10, ("code", "trn2"): None, ("code", "h100"): 20},
    )
    p = problem(
        [chat, code],
        [choice("trn2", 2, have=10, at=CLOUD, power_W=4000.0), choice("h100", 2, have=10, at=CLOUD)],
        2,
    )
    a = solve_fleet(p, table)
    for source, words in (("", "it does not say where its demand comes from"), ("invented", "its demand is invented")):
        asked = replace(p, demand_from=source)
        said = page_of(Fleet(problem=asked, rates=table, answer=a, inputs={"name": "test"}).to_dict()).sentences
        assert said[0].startswith("Order nothing")
        assert said[2].startswith(f"If no more is asked for than this scenario says ({words}), 6.25 chips of trn2")
        assert "stand idle (62% of its time): h100, paid for as well, does its work" in said[2]
        assert "75% less energy a token; it does not run code: does not fit." in said[2]


class _Lost:
    """A solver that loses its way the first time, as HiGHS may from the basis of another programme."""

    def __init__(self, highs: object) -> None:
        self.highs, self.lost = highs, True

    def __getattr__(self, name: str) -> object:
        return getattr(self.highs, name)

    def clearSolver(self) -> None:
        self.lost = False
        self.highs.clearSolver()  # type: ignore[attr-defined]

    def getModelStatus(self) -> object:
        return highspy.HighsModelStatus.kUnknown if self.lost else self.highs.getModelStatus()  # type: ignore[attr-defined]


def test_a_solver_that_loses_its_way_begins_anew() -> None:
    p = problem([serve("chat", [25])], [choice("trn2", 1, offer("trn2", "rent", 3, 1))], 1)
    session = Session(formulate(p, speeds({("chat", "trn2"): 10})), integer=False)
    session.highs = _Lost(session.highs)
    assert session.run().goals["cost"] * session.programme.units["cost"] == pytest.approx(7.5)


def test_a_later_goal_breaks_a_tie() -> None:
    """Both cost the same; the second draws half the power."""
    choices = [
        choice("trn2", 1, offer("trn2", "rent", 3, 1), power_W=2000),
        choice("h100", 1, offer("h100", "rent", 3, 1), power_W=1000),
    ]
    p = problem([serve("chat", [100])], choices, 1)
    programme = formulate(p, speeds({("chat", "trn2"): 10, ("chat", "h100"): 10}))
    found = optimise(programme, goals=("cost", "energy"), integer=False)
    assert found.goals["cost"] * programme.units["cost"] == pytest.approx(30)
    assert found.goals["energy"] == pytest.approx(10 * 1000 * LENGTH_S / 3.6e12, rel=1e-3)


def test_rates_survive_a_file(tmp_path: Path) -> None:
    table = speeds({("chat", "trn2"): 10, ("chat", "h100"): None}, spread=1.5)
    write_rates(tmp_path / "r.json", table, facts_hash="abc")
    again, made_from = read_rates(tmp_path / "r.json")
    assert again == table
    assert made_from == "abc"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ({"chips": "8"}, "chips: must be a whole number"),
        ({"plan": None}, "plan: must be a mapping"),
        ({"chip": 8}, "chip: unknown key"),
        ({"tokens_per_s_per_chip": {"value": 3.0}}, "tokens_per_s_per_chip.unit: missing key"),
    ],
)
def test_a_spoiled_speed_is_told_with_its_place(spoil: dict[str, object], said: str, tmp_path: Path) -> None:
    (rate,) = speeds({("chat", "trn2"): 10}).values()
    rows = [rate.to_dict() | spoil]
    (tmp_path / "bad.json").write_text(json.dumps({"schema": "mowich/rates@1", "rates": rows}))
    with pytest.raises(UserError, match=rf"rates\[0\] {said}"):
        read_rates(tmp_path / "bad.json")


def test_period_names() -> None:
    assert period_labels("2026-M11", 3, "month") == ("2026-M11", "2026-M12", "2027-M01")
    with pytest.raises(UserError):
        period_labels("2027", 2, "quarter")


SCENARIO = """mowich: 1
name: two runs
periods: {start: 2027-Q1, count: 4}
workloads:
  dense:
    train: {model: llama-3.1-8b, tokens: 1T, seq: 4096, batch: 512seqs}
    on_chips: 64
systems:
  trn2: {rent: {price: default, for: 2 quarters, supply: 4}}
  h100:
    buy: {price: $300k, life: 5y, delay: 1, site: home, supply: {2027-Q2: 10}}
    rent: {price: {low: $1.5/chip/h, high: $3/chip/h}, for: 1y}
sites:
  home: {power: 1 MW, pue: 1.2, electricity: $0.07/kWh}
budget: {total: $50M, discount: 8%}
"""


def scenario(tmp_path: Path, text: str = SCENARIO) -> Path:
    file = tmp_path / "s.yaml"
    file.write_text(text)
    return file


def test_what_is_rented_has_a_rental_price_or_an_estimate_of_one(tmp_path: Path) -> None:
    known = facts.load_facts()
    with pytest.raises(UserError, match="unknown price 'tco'"):
        read_problem(scenario(tmp_path, SCENARIO.replace("price: default", "price: tco")), known)
    for system, term in (("trn2", "capacity-block"), ("trn3", "rent")):
        p = read_problem(scenario(tmp_path, SCENARIO.replace("trn2:", f"{system}:")), known)
        [rent] = next(c for c in p.choices if c.name == system).offers
        assert rent.price_label.split(", ")[1] == term
        assert (rent.price.grade == "D") == (term == "rent")


def test_a_scenario_becomes_a_problem(tmp_path: Path) -> None:
    p = read_problem(scenario(tmp_path), facts.load_facts())
    h100 = next(c for c in p.choices if c.name == "h100")
    assert p.labels == ("2027-Q1", "2027-Q2", "2027-Q3", "2027-Q4")
    buy, rent = h100.offers
    assert (buy.term, buy.delay, float(buy.price)) == (20, 1, 300_000)
    assert list(buy.supply) == [0, 10, 10, 10]
    assert float(rent.price) * 3600 == pytest.approx((1.5 * 3) ** 0.5)
    assert p.discounts()[0] == 1


def test_mistakes_of_a_scenario_are_told_at_once(tmp_path: Path) -> None:
    text = (
        SCENARIO.replace("count: 4", "count: 0")
        .replace("on_chips: 64", "on_chip: 64")
        .replace("trn2:", "trn9:")
        .replace("site: home", "site: hme")
        .replace("discount: 8%", "discount: 800%")
        .replace("seq: 4096, ", "")
    )
    with pytest.raises(UserError) as caught:
        read_problem(scenario(tmp_path, text), facts.load_facts())
    said = caught.value.line()
    for word in (
        "periods.count",
        "did you mean 'on_chips'?",
        "did you mean 'trn",
        "did you mean 'home'?",
        "budget.discount",
        "dense.train.seq is missing",
    ):
        assert word in said, word
    assert all(line.split(":")[1].split()[0].isdigit() for line in said.splitlines())


def test_power_that_nobody_publishes_is_asked_for(tmp_path: Path) -> None:
    text = SCENARIO.replace(
        "  trn2: {rent: {price: default, for: 2 quarters, supply: 4}}", "  l40s: {buy: {price: $80k, site: home}}"
    )
    with pytest.raises(UserError, match=r"do not have its power; give power"):
        read_problem(scenario(tmp_path, text), facts.load_facts())


def test_the_verb_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, rates = scenario(tmp_path), tmp_path / "rates.json"
    assert cli.run(["fleet", str(file), "--json", "--rates-out", str(rates), "--draws", "3", "--flips", "--quiet"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["schema"] == "mowich/fleet@1"
    assert result["status"] == "optimal"
    assert result["gap"] <= 0.005
    assert result["bound"] <= result["objective"] * (1 + 1e-9)
    assert {"buy", "rent", "assign", "binding", "single_vendor", "robust", "inputs", "facts_hash"} <= set(result)
    assert cli.run(["fleet", str(file), "--rates", str(rates), "--plain"]) == 0
    text = capsys.readouterr().out
    assert "Buy " in text or "Rent " in text  # what stands idle may come first
    assert max(map(len, text.splitlines())) <= 100
    assert cli.run(["fleet", str(file), "--rates", str(rates), "--what-if", "h100", "--plain", "--quiet"]) == 0
    assert "Which property matters" in capsys.readouterr().out


def test_a_difference_of_money_has_one_sign_and_no_noise() -> None:
    """ "More" or "less" with a positive number; nothing below what the solver tells apart. Over random costs."""
    draw = random.Random(3)
    for _ in range(2000):
        before = 10.0 ** draw.uniform(2, 12)
        after = before * (1 + draw.choice([-1, 1]) * 10.0 ** draw.uniform(-17, 1)) if draw.random() < 0.9 else before
        said = dearer(after, before)
        if abs(after - before) <= 1e-6 * max(abs(before), abs(after)):
            assert said == "costs the same"
        else:
            assert said == f"costs {dollars(abs(after - before))} {'more' if after > before else 'less'}"
        assert "-" not in said
    assert dearer(8.26e10, 7.678e10) == "costs $5.82B more"
    assert dearer(1.59e9, 1.59e9 + 2.38e-7) == "costs the same"


def test_a_saving_within_the_gap_is_none() -> None:
    p = problem([serve("chat", [25])], [choice("trn2", 1, offer("trn2", "rent", 3, 1))], 1)
    found = replace(solve_fleet(p, speeds({("chat", "trn2"): 10})), usd=100.0, gap=0.005)
    near = mixing(found.usd, found.gap, 2, "neuron", 100.4)
    assert near == "Mixing saves nothing that can be told: neuron alone is within 0.5% of it."
    far = mixing(found.usd, found.gap, 2, "neuron", 101.0)
    assert far == "Mixing saves $1.00 (1.0%) over neuron alone, and keeps 2 stacks."


def test_a_knob_says_how_far_it_is_from_mattering(tmp_path: Path) -> None:
    """A lower price gives trn2 more of the work, and the answer says how much lower; memory moves no speed of a small
    model, and never matters."""
    known = facts.load_facts()
    text = SCENARIO.replace("systems:", "stack_cost: $0\nsystems:")
    p = read_problem(scenario(tmp_path, text), known)
    task = p.tasks[0].name
    table = {
        (task, "trn2"): replace(rate(p.tasks[0], p.choices[0], known), tokens_per_s_per_chip=exact(5000.0, "1/s")),
        (task, "h100"): replace(rate(p.tasks[0], p.choices[1], known), tokens_per_s_per_chip=exact(9000.0, "1/s")),
    }
    made = Fleet(problem=p, rates=table, answer=solve_fleet(p, table, relaxed=True))
    found = {k.name: k for k in what_if(made, "trn2", known).knobs}
    price, memory = found["price"], found["memory"]
    assert memory.matters_at is None
    assert price.matters_at is not None
    assert price.matters_at < 1
    assert price.share_there is not None
    today = what_if(made, "trn2", known).share_after["trn2"]
    assert abs(price.share_there - today) >= 0.01
    assert far_from_mattering(price.matters_at).endswith("lower")


RUN = """{mowich: 1, name: a run, periods: {start: 2027-Q1, count: 2}, goals: [cost],
workloads: {reasoning: {on_chips: 16, rl: {tokens: 1T, run: {
  model: llama-3.1-8b, algorithm: grpo, prompts: 64, samples: 8, lengths: {mean: 1000, cap: 4000}, staleness: 2}}}},
systems: {trn2: {rent: {price: $1/chip/h}}, h100: {unit_chips: 8, rent: {price: $2/chip/h}}}}"""


def test_a_run_of_reinforcement_learning_is_rolled_out_and_trained_token_by_token() -> None:
    """Both speeds are of tokens that are trained on: a run takes no less than its slower side and no more than both in
    turn. The plan does as many of one as of the other in each period."""
    known = facts.load_facts()
    p = read_problem(RUN, known)
    assert [(t.name, t.tokens, t.ask["chips"]) for t in p.tasks] == [
        ("reasoning.rollouts", 1e12, 16),
        ("reasoning.updates", 1e12, 16),
    ]
    table, _ = known_rates(p, known, Path(RUN), None)
    h100 = [table[f"reasoning.{part}", "h100"].tokens_per_s_per_chip for part in ("rollouts", "updates")]
    placed = '"rollouts": {"on": "h100:16"}, "trainer": {"on": "h100:16"}, "model"'
    run = ask_of(read_rl(str(p.tasks[0].ask["run"]).replace('"model"', placed), known))
    row = assess(run)
    rolled_s, trained_s = (run.job.tokens / float(speed) / 16 for speed in h100)
    whole_s = float(row.closed_s or 0.0)
    synced_s = float(row.sync_seen_s) + float(row.sync_hidden_s)
    assert max(rolled_s, trained_s) <= whole_s <= rolled_s + trained_s + synced_s
    assert all(r.low < r.value < r.high for r in h100 if r.value and r.low and r.high)
    a = solve_fleet(p, table)
    share = {(x.task, x.period): 0.0 for x in a.assign}
    for x in a.assign:
        share[x.task, x.period] += x.share
    assert sum(v for (task, _), v in share.items() if task == "reasoning.updates") == pytest.approx(1.0, abs=0.02)
    for (task, period), done in share.items():
        assert done == pytest.approx(share[task.replace("rollouts", "updates"), period], abs=1e-3)


def test_a_mistake_in_a_run_is_told_at_its_key() -> None:
    known = facts.load_facts()
    for old, new, told in (
        ("llama-3.1-8b", "llama-3.1-8x", "reasoning.rl.run.model: unknown model"),
        (", cap: 4000", "", "reasoning.rl.run.lengths.cap: is required"),
        ("grpo", "grpq", "reasoning.rl.run.algorithm: "),
    ):
        p = read_problem(RUN.replace(old, new), known)
        with pytest.raises(UserError) as refused:
            rate(p.tasks[0], p.choices[0], known)
        assert refused.value.line().startswith(told)
    with pytest.raises(UserError, match="tokens is missing"):
        read_problem(RUN.replace("tokens: 1T, ", ""), known)


def test_tasks_that_differ_in_tokens_alone_are_predicted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    longer = """  longer:
    train: {model: llama-3.1-8b, tokens: 90T, seq: 4096, batch: 512seqs}
    on_chips: 64
  larger:
    train: {model: llama-3.1-8b, tokens: 1T, seq: 4096, batch: 1024seqs}
    on_chips: 64
systems:
"""
    known = facts.load_facts()
    p = read_problem(scenario(tmp_path, SCENARIO.replace("systems:\n", longer)), known)
    alone = {task.name: rate(task, p.choices[0], known) for task in p.tasks}
    asked = []

    def counted(task: FleetTask, choice: Choice, under: facts.Facts) -> Rate:
        asked.append(task.name)
        return alone[task.name]

    monkeypatch.setattr(studies_fleet, "rate", counted)
    assert speeds_of(p.tasks, p.choices[0], known) == alone
    assert asked == ["dense", "larger"]


def test_a_design_enters_the_scenario(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = scenario(tmp_path)
    design = tmp_path / "chip.yaml"
    design.write_text(
        "mowich: 1\nlike: trn4\nmemory: 192 GiB\nbandwidth: 12 TB/s\ncompute: {bf16: 2 PFLOP/s}\npower: 1.5 kW\nprice:"
        " $2.5/chip/h\nsilicon: 1400 mm2\n"
    )
    assert cli.run(["fleet", str(file), "--what-if", f"chip={design}", "--lp", "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)["what_if"]
    assert found["system"] == "trn4"
    assert {k["name"] for k in found["knobs"]} == {"memory", "bandwidth", "compute", "links", "power", "price", "speed"}
    assert 2000 < found["unit_cost"]["low"] < found["unit_cost"]["high"] < 20000
    design.write_text("mowich: 1\nlike: trn4\nmemory: 192\ncompute: {fp7: 2 PFLOP/s}\n")
    assert cli.run(["fleet", str(file), "--what-if", f"chip={design}"]) == 2
    said = capsys.readouterr().err
    assert "price is missing" in said
    assert "192 has no unit" in said
    assert "no such precision" in said


def test_an_infeasible_scenario_is_exit_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = scenario(tmp_path, SCENARIO.replace("total: $50M", "total: $5k"))
    assert cli.run(["fleet", str(file), "--plain", "--quiet"]) == 3
    out = capsys.readouterr().out
    assert out.startswith("No plan: ")
    assert "the budget" in out


@pytest.mark.parametrize("name", ["startup", "lab-100mw", "rainier", "trainium-tenants"])
def test_the_scenarios_that_ship_have_plans(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = Path(__file__).resolve().parents[2] / "scenarios" / f"{name}.yaml"
    assert cli.run(["fleet", str(file), "--lp", "--json", "--quiet"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["objective"] > 0
    speeds = [r["tokens_per_s_per_chip"] for r in result["rates"]]
    assert all(speed["value"] or "no plan meets the limits" in speed["reason"] for speed in speeds)
    assert sum(bool(speed["value"]) for speed in speeds) > 0.9 * len(speeds)


def test_serving_speeds_count_idle_chips_once() -> None:
    known = facts.load_facts()
    text = SCENARIO.replace(
        "    train: {model: llama-3.1-8b, tokens: 1T, seq: 4096, batch: 512seqs}\n    on_chips: 64\n",
        "    serve: {model: llama-3.1-70b, isl: 1000, osl: 200, tokens_per_s: 100k}\n    on_chips: 7\n",
    )
    p = read_problem("s.yaml", known, text=text)
    task, on_h100 = p.tasks[0], next(c for c in p.choices if c.name == "h100")
    job = ServeJob(prompt=1000, output=200)
    row = serving_plan.plan_serving(
        PlanRequest(facts=known, model=load_model("llama-3.1-70b"), systems=("h100",), serve=job, chips=7, top=1)
    ).rows[0]
    assert row.chips_idle > 0
    assert rate(task, on_h100, known).tokens_per_s_per_chip.value == row.tokens_per_s_per_chip.value


def test_draws_without_any_plan_are_unknown_in_json() -> None:
    p = problem([serve("chat", [25])], [choice("trn2", 1, offer("trn2", "rent", 3, 1))], 1)
    table = speeds({("chat", "trn2"): 10})
    none = Robustness(
        draws=2,
        asked=2,
        infeasible=2,
        share={"trn2": (math.nan,) * 3},
        wins={"trn2": math.nan},
        kept=(math.nan, math.nan),
        regret={"trn2": None},
        objective=(math.nan,) * 3,
    )
    made = Fleet(problem=p, rates=table, answer=solve_fleet(p, table), robust=none)
    said = json.loads(json.dumps(made.to_dict(), allow_nan=False))
    assert said["robust"]["kept_regret"] == [None, None]
    assert "nan" not in terminal(page_of({**said, "inputs": {"name": "small"}}), Style())


def test_what_costs_nothing_has_no_share() -> None:
    assert worse_by(0.0, 0.0) == 0.0
    assert worse_by(1.0, 0.0) == math.inf
    assert worse_by(3.0, 2.0) == 0.5


def test_serving_speeds_are_those_of_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = SCENARIO.replace(
        "    train: {model: llama-3.1-8b, tokens: 1T, seq: 4096, batch: 512seqs}\n    on_chips: 64\n",
        "    serve: {model: llama-3.1-8b, isl: 1000, osl: 200, tokens_per_s: 100k, ttft: 1s, tpot: 20ms}\n   "
        " on_chips: 8\n",
    )
    assert cli.run(["fleet", str(scenario(tmp_path, text)), "--lp", "--json", "--quiet"]) == 0
    rate = {r["system"]: r for r in json.loads(capsys.readouterr().out)["rates"]}["h100"]["tokens_per_s_per_chip"]
    plan = [
        "plan",
        "llama-3.1-8b",
        "--serve",
        "--on",
        "h100:8",
        "--isl",
        "1000",
        "--osl",
        "200",
        "--ttft",
        "1s",
        "--tpot",
        "20ms",
        "--json",
        "--quiet",
    ]
    assert cli.run(plan) == 0
    best = json.loads(capsys.readouterr().out)["plans"][0]
    assert rate["value"] == pytest.approx(best["tokens_per_s_per_chip"]["value"] * best["chips_used"] / 8)


def test_a_system_may_name_its_engine(tmp_path: Path) -> None:
    """The speed is that of `mowich plan --engine`; a file of another engine's speeds is not used for it."""
    served = SCENARIO.replace(
        "train: {model: llama-3.1-8b, tokens: 1T, seq: 4096, batch: 512seqs}",
        "serve: {model: llama-3.1-8b, isl: 1000, osl: 200, tokens_per_s: 100k, ttft: 2s, tpot: 50ms}",
    ).replace("trn2: {rent", "trn2: {engine: nxdi-megakernel, rent")
    known = facts.load_facts()
    p = read_problem(scenario(tmp_path, served), known)
    on_trn2 = next(c for c in p.choices if c.name == "trn2")
    task = next(t for t in p.tasks if t.kind == "serve")
    row = serving_plan.plan_serving(
        PlanRequest(
            facts=known,
            model=load_model("llama-3.1-8b"),
            systems=("trn2",),
            serve=ServeJob(prompt=1000, output=200, ttft_s=2.0, tpot_s=0.05),
            chips=64,
            engine="nxdi-megakernel",
            top=1,
        )
    ).rows[0]
    made = rate(task, on_trn2, known)
    assert made.engine == "nxdi-megakernel"
    assert made.tokens_per_s_per_chip.value == row.tokens_per_s_per_chip.value
    file = tmp_path / "rates.json"
    write_rates(file, {(task.name, "trn2"): replace(made, engine="vllm-neuron")}, facts_hash=known.hash())
    only = replace(p, workloads=tuple(w for w in p.workloads if w.kind == "serve"), choices=(on_trn2,))
    found, warnings = known_rates(only, known, file, file)
    assert found[task.name, "trn2"].engine == "nxdi-megakernel"
    assert "another engine" in " ".join(warnings)


def test_vectors_have_a_value_for_every_period(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has 3 values for 4 periods"):
        read_problem(scenario(tmp_path, SCENARIO.replace("supply: 4", "supply: [1, 2, 3]")), facts.load_facts())
    assert np.isinf(read_problem(scenario(tmp_path), facts.load_facts()).budget_per_period).all()


def test_a_busy_machine_finds_what_an_idle_one_finds() -> None:
    """A search that is held up at each of its steps looks at as many nodes and ends with the same plan: a count stops
    it, and no clock."""
    p, table = random_problem(np.random.default_rng(20), tasks=6, systems=3, periods=3)
    programme = formulate(p, table)
    ends = []
    for waits_s in (0.0, 0.002):
        session = Session(programme, integer=True, gap=0.0, time_limit_s=0.001)
        session.highs.cbMipInterrupt.subscribe(lambda _, waits_s=waits_s: time.sleep(waits_s))
        assert math.isinf(session.highs.getOptions().time_limit)
        found = session.run()
        assert session.highs.getInfo().mip_node_count == most_nodes(programme, 0.001) == 5
        ends.append((found.status, found.bound, found.gap, found.x.tobytes()))
    assert ends[0] == ends[1]
    assert ends[0][0] == "time limit"
