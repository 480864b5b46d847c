"""Rules of a fleet's plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mowich.fleets.problem import GOAL_UNITS, WORK_GOALS
from mowich.fleets.supply import SUPPLY_ENDS
from mowich.studies.explain.rules.rule import CHOSEN_BY_SEARCH, R, Rule

_MADE: Mapping[str, str] = {
    "cost": "orders x prices (discounted as the scenario says) + energy where it is not in the price",
    "energy": "(share drawn x busy chips + idle share x idle ones) x power x PUE x time",
    "stacks": "software stacks that are kept",
    "tokens": "chips at work x speed x time, of serving the mean of the day",
    "revenue": "tokens x what they bring (discounted as the scenario says)",
}
"""What a goal is made of."""


def _of_goal(goal: str) -> tuple[Rule, ...]:
    """Rules of the numbers that are in the unit of the first goal."""
    unit, most = GOAL_UNITS[goal], goal in WORK_GOALS
    gains, best = ("adds", "most") if most else ("saves", "least")
    rules = (
        R(
            "objective",
            unit,
            f"{goal} of the plan over the horizon",
            f"search: {_MADE[goal]}; the {best} by the integer programme",
        ),
        R("bound", unit, "no plan is better", "search: best bound of the branch and bound"),
        R(
            "gap",
            "1",
            "how far the plan may be from the best possible",
            "= (bound - objective) / objective" if most else "= (objective - bound) / objective",
        ),
        R(
            "binding * shadow_price",
            unit,
            f"what one more unit of the constraint {gains} (a demand: one per cent less)",
            "search: dual value of the linear relaxation",
        ),
        R(
            "single_vendor * objective",
            unit,
            f"{goal} of the best plan on this stack alone",
            "search: the same programme without the other stacks",
        ),
        R(
            "single_vendor * over",
            "1",
            "how much worse that is than the mixed plan",
            "= 1 - objective / result.objective" if most else "= objective / result.objective - 1",
        ),
        R(
            "robust objective *",
            unit,
            f"{goal} of the best plan: 5%, median, 95% over the draws that have a plan",
            "table: percentiles over the optimum of each draw",
        ),
        *(
            R(
                f"supply objective_at_{end}",
                unit,
                f"{goal} of the plan with the supply of facts at this place of its range, fractions of units allowed",
                "search: the linear relaxation with that supply",
            )
            for end in SUPPLY_ENDS
        ),
        *(
            R(
                f"what_if objective_{when}",
                unit,
                f"{goal} {side} the system",
                f"search: the programme {side} it, relaxed",
            )
            for when, side in (("before", "without"), ("after", "with"))
        ),
    )
    return tuple(replace(rule, when=("goal", goal)) for rule in rules)


FLEET_RULES: Mapping[str, tuple[Rule, ...]] = {
    "mowich/fleet@1": (
        *(rule for goal in GOAL_UNITS for rule in _of_goal(goal)),
        R("usd", "USD", "cost of the plan over the horizon", f"search: {_MADE['cost']}"),
        R(
            "energy_J",
            "J",
            "energy at the meter over the horizon",
            "inside: (share drawn x busy + idle share x idle chips) x power x PUE x time, systems whose power is known",
        ),
        *(
            rule
            for kind in ("buy", "rent")
            for rule in (
                R(f"{kind} * units", "units", f"units to {kind} in the period", "search: a variable of the programme"),
                R(f"{kind} * chips", "chips", "chips of these units", "inside: units x chips of a unit"),
                R(
                    f"{kind} * usd",
                    "USD",
                    "what they cost within the horizon, before discounting",
                    "inside: chips x price x time within the horizon",
                ),
            )
        ),
        R(
            "resell * units",
            "units",
            "committed units let to others in the period",
            "search: a variable of the programme",
        ),
        R("resell * chips", "chips", "chips of these units", "inside: units x chips of a unit"),
        R(
            "resell * usd",
            "USD",
            "what they bring, before discounting",
            "inside: chips x committed price x resale x time of the period",
        ),
        R(
            "assign * chips",
            "chips",
            "chips at work on the task in the period, on average",
            "search: a variable of the programme",
        ),
        R(
            "assign * share",
            "1",
            "share of the task's work of the period (or of the run) that they do",
            "inside: chips x speed x time / work",
        ),
        R("done * tokens", "tokens", "tokens of the workload that are done", "inside: times x tokens that it asks for"),
        R("done * times", "1", "work of the workload over what it asks", "inside: sum of assign.share"),
        R("use * unit_chips", "chips", "chips of a unit of it", "lookup: as the scenario says, or as the system has"),
        R(
            "use * chips",
            "chips",
            "chips that stand in the period",
            "inside: bought, rented, committed and already there",
        ),
        R("use * busy", "chips", "of these at work", "inside: sum of the assignments, mean of the day"),
        R("use * idle", "chips", "of these idle", "= max(0, chips - busy)"),
        R(
            "use * MWh",
            "MWh",
            "energy at the meter in the period",
            "inside: (share drawn x busy + idle share x idle) x power x PUE x time",
        ),
        R(
            "idle * chips",
            "chips",
            "idle chips of the system, mean of the periods in which it stands",
            "inside: sum of use.idle / periods",
        ),
        R("idle * share", "1", "of its chip-periods that stand, idle", "inside: sum of use.idle / sum of use.chips"),
        R(
            "idle * reason_share",
            "1",
            "share of its idle chip-periods that have this reason",
            "inside: sum of use.idle of the periods with the reason / sum of use.idle",
        ),
        R(
            "idle * energy",
            "1",
            "energy of a token on the systems that do its work instead, over its own",
            "inside: mean by chips of (drawn power / speed of the other) / (power / speed of this one)",
        ),
        R("inputs tenant share", "1", "share that the tenant falls to", "lookup: as asked: --tenant"),
        R(
            "supply rows * quarterly",
            "chips",
            "chips made a quarter, for all buyers",
            "lookup: fact supply.chips of the chip",
            "supply.chips.{chip}",
        ),
        R("supply rows * share", "1", "share of them that can be ordered", "lookup: as the scenario says"),
        R(
            "supply rows * units",
            "units",
            "units that can be ordered in a period",
            "inside: floor(share x chips a quarter x quarters of a period / unit_chips)",
        ),
        R(
            "supply rows * unit_chips",
            "chips",
            "chips of a unit of it",
            "lookup: as the scenario says, or the system has",
        ),
        R(
            "tenant share",
            "1",
            "the tenant's share of the chip-hours at work today",
            "search: chips of its tasks over all at work, in the plan with fractions of units",
        ),
        R("tenant asked", "1", "the share that it falls to", "lookup: as asked: --tenant"),
        R("tenant work", "1", "what is left of its work", "= asked / share"),
        R(
            "tenant usd",
            "USD",
            "net present cost that nothing asked needs any more",
            "search: least cost of what is asked, each commitment kept or let go as a whole: today's less that after"
            " the fall",
        ),
        R(
            "tenant chips",
            "chips",
            "chips needed no more, mean of the periods",
            "inside: sum of stranded.chips / periods",
        ),
        R(
            "tenant idle",
            "chips",
            "chips idle all the same, mean of the periods",
            "inside: sum of stranded.idle / periods",
        ),
        R("tenant committed_usd", "USD", "cost of the commitments needed no more", "inside: sum of stranded.usd"),
        R("tenant idle_usd", "USD", "paid for committed chips that stand idle", "inside: sum of stranded.idle_usd"),
        R(
            "tenant stranded * chips",
            "chips",
            "chips that what is asked needs no more in the period",
            "search: chips that stand in the least-cost plan of today's work less those after the fall",
        ),
        R(
            "tenant stranded * usd",
            "USD",
            "what the committed ones of these cost",
            "inside: chips let go x price x time",
        ),
        R(
            "tenant stranded * idle",
            "chips",
            "chips idle beyond today's, once others have taken what they may",
            "search: idle chips of the plan by the scenario's goals after the fall less those of today",
        ),
        R("tenant stranded * idle_usd", "USD", "what the committed ones of these cost", "inside: idle x price x time"),
        R(
            "tenant let_go * units",
            "units",
            "units of the commitment that can be let go",
            "search: kept today less after",
        ),
        R("tenant let_go * chips", "chips", "chips of these units", "inside: units x chips of a unit"),
        R(
            "tenant let_go * usd",
            "USD",
            "what they cost to the end, before discounting",
            "inside: chips x price x time",
        ),
        R(
            "tenant refilled * before",
            "1",
            "work of the workload over what it asks, today",
            "search: the plan of today",
        ),
        R("tenant refilled * after", "1", "the same after the fall", "search: the plan after the fall"),
        R(
            "tenant refilled * chips",
            "chips",
            "chips more at work on it, mean of the periods",
            "search: chips at work after the fall less those of today",
        ),
        R("rates * chips", "chips", "chips that the speed was found for", "lookup: as the scenario says, or one unit"),
        R(
            "rates * tokens_per_s_per_chip",
            "1/s",
            "speed of the task on the system",
            "search: the best plan of mowich plan (its goodput and idle chips counted); mowich explain of that plan has"
            " its terms",
        ),
        R("rates * plan *", "1", "a choice of that plan", CHOSEN_BY_SEARCH),
        R("robust draws", "draws", "draws of prices and speeds that were solved", "count: counted"),
        R("robust asked", "draws", "draws that were asked for", "lookup: as asked: --draws"),
        R("robust infeasible", "draws", "draws without any plan", "count: counted"),
        R(
            "robust share * *",
            "1",
            "share of the chip-hours (of the tokens, where work is made most) of a system: 5%, median, 95% over draws",
            "table: percentiles over the optimum of each draw",
        ),
        R("robust wins *", "1", "share of the draws in which the system does most", "table: counted / draws"),
        R(
            "robust kept_regret *",
            "1",
            "what the plan costs over the best of a draw: median and 95%",
            "table: percentiles over draws",
        ),
        R(
            "robust single_vendor_regret * *",
            "1",
            "what one stack alone costs over the best of a draw: median and 95%",
            "table: percentiles over draws",
        ),
        R(
            "flips * at",
            "1",
            "price or speed at which work changes hands, over today's",
            "search: bisection of the linear relaxation",
        ),
        R("flips * value", "1", "the same in its unit", "inside: today's value x at"),
        R("what_if share_before *", "1", "share of the work, without it", "inside: assignments / all"),
        R("what_if share_after *", "1", "share of the work, with it", "inside: assignments / all"),
        R(
            "what_if win_price *",
            "USD/chip/h",
            "price at which it takes most of the task",
            "search: bisection of the linear relaxation",
        ),
        R(
            "what_if unit_cost",
            "USD",
            "what a package costs to make",
            "inside: (silicon x logic + memory x price + packaging) x (1 + losses) + other",
            "prices.unit-cost.logic",
            "prices.unit-cost.hbm",
            "prices.unit-cost.packaging",
            "prices.unit-cost.other",
            "prices.unit-cost.losses",
            "prices.unit-cost.silicon",
        ),
        R(
            "what_if unit_cost breakdown *",
            "USD",
            "a part of that",
            "lookup: facts prices.unit-cost",
            "prices.unit-cost.*",
        ),
        R(
            "what_if knobs * matters_at",
            "1",
            "nearest multiple of the property that moves the system's share of the work by one point",
            "search: the programme solved again from a quarter to four times; beyond 10%, speeds as a power law through"
            " the 10%",
        ),
        R(
            "what_if knobs * *",
            "1",
            "share of the work with the property at 90% or 110%, or points per per cent",
            "search: the programme solved again with that property moved",
        ),
    ),
}
