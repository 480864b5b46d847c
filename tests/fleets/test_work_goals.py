"""The most work from what is there: tokens and revenue counted by hand, what is welcome, what one more unit adds, and
what the goal needs; runs without a gap."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fleet_problems import LENGTH_S, choice, offer, problem, reinforce, serve, speeds, train
from mowich.errors import UserError
from mowich.facts import Facts
from mowich.fleets.answer import solve_fleet
from mowich.fleets.check import violations, work_done
from mowich.fleets.flips import scaled
from mowich.fleets.problem import CLOUD, GOALS, FleetProblem, TaskRates, Workload, read_rates
from mowich.fleets.programme import formulate
from mowich.fleets.read import read_problem
from mowich.fleets.robustness import robustness
from mowich.fleets.solve import optimise
from mowich.show.fleet_amounts import amount, mixing
from mowich.show.verbs import page_of
from mowich.studies.fleet import Fleet
from mowich.studies.fleet_design import read_design, with_design

ROOT = Path(__file__).resolve().parents[2]

near = partial(pytest.approx, rel=1e-5)
"""A later goal may cost a millionth of an earlier one."""


def _most(goal: str, works: list[Workload], periods: int, have: dict[str, float]) -> FleetProblem:
    chips = [choice(name, periods, have=number, at=CLOUD) for name, number in have.items()]
    return replace(problem(works, chips, periods), goals=(goal, *GOALS))


def test_what_is_left_trains() -> None:
    """Ten chips of 10 tokens/s: five serve 50 tokens/s, and five train as much as they can."""
    p = _most("tokens", [serve("chat", [50]), train("run", 10 * LENGTH_S, 1, 0, 0, most=np.inf)], 1, {"trn2": 10})
    a = solve_fleet(p, speeds({("chat", "trn2"): 10, ("run", "trn2"): 10}))
    assert a.value == near(100 * LENGTH_S)
    assert a.done == {"chat": near(1), "run": near(5)}
    said = page_of(Fleet(problem=p, rates={}, answer=a, inputs={"name": "test"}).to_dict()).sentences
    assert said[0] == "What is there does 100M tokens."
    assert said[1].startswith("What is there does 100M tokens over 1 periods: 5.00 times what is asked of run.")
    assert not any("idle" in line for line in said[:2])


def test_no_more_is_done_than_is_welcome() -> None:
    """Half as much again as is asked is welcome, so four and a half chips of ten stand idle, and it is said why."""
    p = _most("tokens", [serve("chat", [40]), train("run", 10 * LENGTH_S, 1, 0, 0, most=1.5)], 1, {"trn2": 10})
    table = speeds({("chat", "trn2"): 10, ("run", "trn2"): 10})
    made = Fleet(problem=p, rates=table, answer=solve_fleet(p, table), inputs={"name": "test"})
    assert made.answer.value == near(55 * LENGTH_S)
    assert [(i.reason, i.chips) for i in made.idle] == [("full", near(4.5))]
    assert page_of(made.to_dict()).sentences[2].startswith("If no more is welcome than this scenario says")


def test_of_a_day_only_what_users_send_counts() -> None:
    """Chips stand for the peak of the day: of 10 chips that serve 100 tokens/s then, the mean of the day counts."""
    day = tuple(1.0 if 8 <= hour < 20 else 0.0 for hour in range(24))
    chat = serve("chat", [100])
    for shape in ({"day": day}, {"peak": 2.0}):
        p = _most("tokens", [replace(chat, tasks=(replace(chat.tasks[0], **shape),))], 1, {"trn2": 10})
        assert solve_fleet(p, speeds({("chat", "trn2"): 10})).value == near(50 * LENGTH_S)


def test_rollouts_without_their_updates_are_no_work() -> None:
    """A share of both takes 1 + 2 chip-periods of each per token: 15 chips do five of each, and both count."""
    rl = replace(reinforce("rl", LENGTH_S, LENGTH_S, 1), most=np.inf, worth_usd=3 / LENGTH_S)
    table = speeds({("rl.rollouts", "trn2"): 1, ("rl.updates", "trn2"): 0.5})
    a = solve_fleet(_most("tokens", [rl], 1, {"trn2": 15}), table)
    assert a.value == near(10 * LENGTH_S)
    revenue = solve_fleet(_most("revenue", [rl], 1, {"trn2": 15}), table)
    assert revenue.value == near(5 * 3)  # a rollout brings, an update does not


def test_revenue_takes_the_dearer_token() -> None:
    """A chip does 10 tokens/s of either; one brings three times as much a token, until no more of it is welcome."""
    dear = serve("dear", [10], most=4.0, worth_usd=3 / LENGTH_S)
    cheap = serve("cheap", [10], most=100.0, worth_usd=1 / LENGTH_S)
    p = _most("revenue", [dear, cheap], 1, {"trn2": 10})
    a = solve_fleet(p, speeds({("dear", "trn2"): 10, ("cheap", "trn2"): 10}))
    assert a.value == near(40 * 3 + 60)
    assert {x.task: x.chips for x in a.assign} == {"dear": near(4), "cheap": near(6)}


def test_of_plans_that_do_as_much_the_cheapest_is_taken() -> None:
    """The budget would buy ports and chips that add nothing: both systems train, and nothing needs the third."""
    run = train("run", 10 * LENGTH_S, 1, 0, 0, most=2.0, porting={"trn2": 1.0, "h100": 5.0, "h200": 9.0})
    chips = [
        choice("trn2", 1, offer("trn2", "rent", 2, 1, supply=9)),
        choice("h100", 1, offer("h100", "rent", 4, 1, supply=9)),
        choice("h200", 1, have=3, at=CLOUD),
    ]
    p = replace(problem([run], chips, 1, budget=100, stack_usd=1), goals=("tokens", "cost", "energy"))
    a = solve_fleet(p, speeds({("run", n): 10 for n in ("trn2", "h100", "h200")}), gap=0.0)
    assert a.value == near(20 * LENGTH_S)
    assert (a.usd, a.stacks) == (near(2 * 2 + 1 + 1), ("trn2",))


def test_what_one_more_adds_is_a_finite_difference() -> None:
    """Of units that stand, of a budget, and of demand that takes chips from a better use."""
    works = [serve("chat", [40, 60]), train("run", 50 * LENGTH_S, 2, 0, 1, most=9.0)]
    chips = [choice("trn2", 2, have=9, at=CLOUD), choice("h100", 2, offer("h100", "rent", 3, 2, supply=5))]
    p = replace(problem(works, chips, 2, budget=13), goals=("tokens", *GOALS))
    table = speeds({("chat", "trn2"): 5, ("chat", "h100"): 20, ("run", "trn2"): 12, ("run", "h100"): 21})
    programme = formulate(p, table)
    base = optimise(programme, integer=False)
    seen = set()
    for row, says in enumerate(programme.says):
        if says.kind not in ("capacity", "budget", "demand"):
            continue
        moved = [array.copy() for array in (programme.row_low, programme.row_high)]
        for array in moved:
            array[row] += 1e-4
        again = optimise(replace(programme, row_low=moved[0], row_high=moved[1]), integer=False)
        slope = (again.goals["tokens"] - base.goals["tokens"]) / 1e-4
        assert slope == pytest.approx(base.duals[row], rel=1e-4, abs=1e-9), says
        seen |= {says.kind} if abs(slope) > 1e-6 else set()
    assert seen == {"capacity", "budget", "demand"}
    a = solve_fleet(p, table, relaxed=True)
    one = next(b for b in a.binding if b.constraint == "units of trn2 at cloud in p0")
    more = replace(p, choices=(replace(chips[0], have={CLOUD: np.array([10.0, 9.0])}), chips[1]))
    assert one.shadow_price == pytest.approx(solve_fleet(more, table, relaxed=True).value - a.value, rel=1e-4)


def test_the_check_counts_work_for_itself() -> None:
    p = _most("tokens", [train("run", 10 * LENGTH_S, 1, 0, 0, most=2.0)], 1, {"trn2": 9})
    table, keeps = speeds({("run", "trn2"): 10}), {("run", "trn2"): 1.0}
    work = {("run", "trn2", 0): 3.0}
    assert work_done(p, table, work, "tokens") == near(30 * LENGTH_S)
    said = violations(p, table, orders={}, work=work, keeps=keeps, claimed={"tokens": 20 * LENGTH_S})
    assert len(said) == 2
    assert "at most 2 times" in said[0]
    assert "2e+07 tokens are claimed, 3e+07 are done" in said[1]


def test_the_check_sees_a_gap() -> None:
    p = problem([train("run", 100 * LENGTH_S, 4, 0, 3)], [choice("trn2", 4, have=9, at=CLOUD)], 4)
    table, keeps = speeds({("run", "trn2"): 10}), {("run", "trn2"): 1.0}

    def said(*units: float) -> list[str]:
        work = {("run", "trn2", t): n for t, n in enumerate(units)}
        return violations(p, table, orders={}, work=work, keeps=keeps)

    assert not said(0, 1, 8, 1)
    assert not said(4, 1, 4, 1)
    assert ["midst of a run" in line for line in said(4, 0, 2, 4)] == [True]
    assert ["midst of a run" in line for line in said(4, 0.9, 1.1, 4)] == [True]


def test_a_run_waits_for_chips_that_do_not_leave_it() -> None:
    """Cheap chips are there in the first and the last period alone. A batch takes both; a run pays for dear ones; and
    without these there is no plan, for a reason that is said."""
    cheap = choice("trn2", 3, offer("trn2", "rent", 1, 3))
    cheap = replace(cheap, offers=(replace(cheap.offers[0], supply=np.array([5.0, 0.0, 5.0])),))
    dear = choice("h100", 3, offer("h100", "rent", 10, 3))
    run, table = train("run", 100 * LENGTH_S, 3, 0, 2), speeds({("run", "trn2"): 10, ("run", "h100"): 10})
    batch = replace(run, kind="batch", tasks=(replace(run.tasks[0], kind="batch"),))
    assert solve_fleet(problem([batch], [cheap, dear], 3), table).usd == near(10)
    a = solve_fleet(problem([run], [cheap, dear], 3), table, gap=0.0)
    assert a.usd == near(2 * 10 + 8)  # a quarter of five chips between, rounded up
    none = solve_fleet(problem([run], [cheap], 3), table)
    assert none.status == "infeasible"
    assert "run without a gap" in none.conflict


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("budget: {total: $50M}", ""), "without a budget, the goal 'tokens' would order all that is on offer of trn2"),
        (("goals: [tokens]", "goals: [revenue]"), "no workload says what a token brings"),
        (("most: 3", "most: any"), "any amount, with any number of trn2; give its supply, or a number"),
        (("most: 3", "most: 0.5"), "must lie in 1 to 1e+06"),
        (("most: 3", "worth: 2"), "2 has no unit"),
        (("goals: [tokens]", "goals: [token]"), "did you mean 'tokens'?"),
        (("demand: invented", "demand: mesured"), "did you mean 'measured'?"),
    ],
)
def test_what_the_most_work_needs_is_asked_for(facts: Facts, change: tuple[str, str], said: str) -> None:
    text = (
        "mowich: 1\nname: most\nperiods: {start: 2027-Q1, count: 2}\nworkloads:\n  run:\n    most: 3\n"
        "    train: {model: llama-3.1-8b, tokens: 1T, seq: 4096, batch: 512seqs}\n"
        "systems:\n  trn2: {rent: {price: $1/chip/h}}\nbudget: {total: $50M}\ngoals: [tokens]\ndemand: invented\n"
    )
    read = read_problem("s.yaml", facts, text=text)
    assert (read.goals, read.workloads[0].most, read.demand_from) == (("tokens", "cost", "energy"), 3, "invented")
    with pytest.raises(UserError) as caught:
        read_problem("s.yaml", facts, text=text.replace(*change))
    assert said in caught.value.line()


def test_what_is_welcome_is_told_to_be_unread_without_a_goal_of_work(facts: Facts) -> None:
    text = (ROOT / "scenarios" / "startup.yaml").read_text(encoding="utf-8")
    more = text.replace("    from: 2027-Q3\n", "    from: 2027-Q3\n    most: 2\n    worth: $1/Mtok\n")
    said = read_problem("s.yaml", facts, text=more).warnings
    assert [line.split(" changes nothing")[0] for line in said] == [
        "workloads.nightly-extraction.most",
        "workloads.nightly-extraction.worth",
    ]
    assert not read_problem("s.yaml", facts, text=text).warnings


def _rainier(facts: Facts) -> tuple[FleetProblem, TaskRates]:
    file = ROOT / "scenarios" / "rainier.yaml"
    asked = read_problem(file, facts)
    return asked, read_rates(file.parent / asked.rates_file)[0]


def test_software_matters_to_rainier(facts: Facts) -> None:
    """Faster software on any of its systems does more tokens, slower fewer: no demand leaves it idle."""
    p, table = _rainier(facts)

    def tokens(system: str, times: float) -> float:
        programme = formulate(*scaled(p, table, system, "speed", times))
        return programme.amount("tokens", optimise(programme, integer=False).goals["tokens"])

    today = tokens("trn2", 1.0)
    for c in p.choices:
        assert tokens(c.name, 0.9) < today * 0.999
        assert tokens(c.name, 1.1) > today * 1.001


def test_rainier_keeps_its_chips_at_work_without_a_gap(facts: Facts) -> None:
    p, table = _rainier(facts)
    a = solve_fleet(p, table)
    assert not a.orders
    there, busy = (sum(getattr(u, what) for u in a.uses) for what in ("there", "busy"))
    assert busy > 0.99 * there
    assert a.done["rl"] > 1.05
    for run in ("pretrain", "pretrain-next"):
        at_work = [p.labels.index(x.period) for x in a.assign if x.task == run]
        assert sorted(at_work) == list(range(min(at_work), max(at_work) + 1))


def test_a_chip_of_ones_own_needs_a_supply(facts: Facts, tmp_path: Path) -> None:
    """Without one, the most tokens take any number of it; with one, they take all of it."""
    file, (p, table) = tmp_path / "chip.yaml", _rainier(facts)
    file.write_text("mowich: 1\nlike: tpu-v6e\nprice: $1/chip/h\n")
    with pytest.raises(UserError, match="would take any number of it; give supply"):
        read_design(file, facts, p)
    file.write_text("mowich: 1\nlike: tpu-v6e\nprice: $1/chip/h\nsupply: 7\n")
    more = with_design(p, read_design(file, facts, p), facts)
    fast = {(t.name, "tpu-v6e"): replace(table[t.name, "trn2"], system="tpu-v6e") for t in p.tasks}
    a = solve_fleet(more, table | fast, relaxed=True)
    # a chip beside hundreds of thousands is within what a solver may leave
    assert [o.units for o in a.orders] == [pytest.approx(7, rel=0.01)] * p.num_periods


def test_draws_of_the_most_work_are_of_work() -> None:
    """Speeds move the tokens, prices do not; a system's share is that of tokens, as all chips are at work."""
    works = [train("run", 10 * LENGTH_S, 1, 0, 0, most=99.0)]
    p = _most("tokens", works, 1, {"trn2": 10, "h100": 5})
    table = speeds({("run", "trn2"): 10, ("run", "h100"): 40}, spread=1.5)
    a = solve_fleet(p, table)
    found = robustness(p, table, a, draws=80, seed=2)
    low, middle, high = found.objective
    assert low < a.value < high
    assert middle == pytest.approx(a.value, rel=0.15)
    assert sum(share[1] for share in found.share.values()) == pytest.approx(1, abs=0.1)
    assert found.wins["h100"] > 0.9
    assert found.kept == (near(0), near(0))
    assert found.regret["trn2"] is not None
    assert found.regret["trn2"][0] == pytest.approx(2 / 3, rel=0.2)
    assert {v.stack: v.over for v in a.vendors} == {"trn2": near(2 / 3), "h100": near(1 / 3)}


def test_amounts_of_work_are_in_words() -> None:
    assert amount("tokens", 1.5e12) == "1.50T tokens"
    assert amount("revenue", 2.5e9) == "$2.50B"
    said = mixing(3e12, 0.005, 2, "neuron", 2e12, "tokens")
    assert said == "Mixing adds 1.00T tokens (50%) over neuron alone, and keeps 2 stacks."
    assert "adds nothing that can be told" in mixing(1.001e12, 0.005, 2, "neuron", 1e12, "tokens")
