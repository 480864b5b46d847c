"""Rules of training rows: compare, plan, sweep and fit."""

from __future__ import annotations

from collections.abc import Mapping

from mowich.economics import energy, money
from mowich.studies.explain.rules.rule import CHOSEN_BY_SEARCH, MEMORY_RANGE, MOVED, OUT_OF_MEMORY, R, Rule, of, under
from mowich.studies.explain.rules.yearly import yearly_rules
from mowich.training import faults

CHIP_RULES = [
    R(
        "chips_requested",
        "chips",
        "chips that were asked for, and are paid for",
        "lookup: as asked: the size in the system's name, --chips, one scale-up unit, what --budget pays for,"
        " floor(budget / (price of a chip x days)), or what --power feeds",
    ),
    R(
        "chips_idle",
        "chips",
        "chips that the plan cannot use; they are powered and paid for",
        "= chips_requested - chips_used",
    ),
    R(
        "devices_per_chip",
        "devices",
        "devices that software sees of one chip: what a rank runs on",
        "lookup: as published",
        "chips.{chip}.devices_per_chip",
    ),
]

MEMORY_OF_PLAN = [
    R("memory_range_B low", "B", "low end of the 90% range of the memory that one device needs", MEMORY_RANGE),
    R("memory_range_B high", "B", "high end of the 90% range of the memory that one device needs", MEMORY_RANGE),
    R("out_of_memory", "1", "chance that a device needs more memory than a program may use", OUT_OF_MEMORY),
]

OWNED_ROW = "inside: what the electricity of chips and the rent of more come to (mowich help for-planners)"

OWNED_RULES = [
    R("owned days", "d", "days in which the budget pays the electricity of chips that are there", OWNED_ROW),
    R("owned electricity_usd", "USD", "electricity of the chips for those days", OWNED_ROW),
    R("owned chip_usd", "USD", "rent of one chip more for the days of the question", OWNED_ROW),
    R("owned rest_chips", "chips", "chips that what is left of the budget rents for those days", OWNED_ROW),
    R("owned missing_chips", "chips", "chips that the tokens of the run lack in those days", OWNED_ROW),
]
SET_OF_POINT = R(
    "set **", "1", "what the point sets: a choice of the plan, or a fact in SI", "lookup: as the sweep says"
)

TRAIN_ROW = [
    *CHIP_RULES,
    SET_OF_POINT,
    R("seq", "tokens", "tokens of a sequence", "lookup: as the scenario says"),
    R("batch_seqs", "sequences", "sequences of a global batch, as asked", "lookup: as the scenario says, in sequences"),
    R("tokens", "tokens", "tokens of the run", "lookup: as the scenario says"),
    R("batch_within", "1", "share by which a plan's batch may differ", "lookup: as the scenario says"),
    R("lora_rank", "1", "rank of the adapters that are trained", "lookup: as the scenario says"),
    R("document", "tokens", "mean tokens of documents in a sequence", "lookup: as the scenario says"),
    R("fill", "1", "share of a sequence that is no padding", "lookup: as the scenario says"),
    R("sites", "sites", "sites that train together", "lookup: as the scenario says"),
    R("site_Bps", "B/s", "into and out of a site", "lookup: as the scenario says"),
    R("outer_every", "steps", "steps between exchanges of sites", "lookup: as the scenario says"),
    R(
        "chips_used",
        "chips",
        "chips that the plan runs on",
        "= ceil(plan.tp * plan.pp * plan.dp * plan.cp / devices_per_chip)",
    ),
    R(
        "global_batch_seqs",
        "sequences",
        "sequences of one step: those that were asked, or within the share that was",
        "search: micro-batch x data-parallel ranks x micro-batches of a step, as near to the batch as is asked",
    ),
    R("plan *", "1", "a choice of the plan", CHOSEN_BY_SEARCH),
    R("step_s", "s", "time of one training step", "= sum(parts)"),
    R("step_s breakdown *", "s", "a part of the step", "terms: the terms below, over all layers and micro-batches"),
    R(
        "hand_tuned_step_s",
        "s",
        "the same step with operators at the times of our kernels and software that adds nothing to them",
        "= sum(parts)",
    ),
    R(
        "hand_tuned_step_s breakdown *",
        "s",
        "a part of that step",
        "terms: the terms below, over all layers and micro-batches",
    ),
    R(
        "tokens_per_s_per_chip",
        "1/s",
        "tokens trained per second and chip used",
        "= tokens_per_step / (chips_used * step_s)",
    ),
    R(
        "mfu",
        "1",
        "share of the published dense peak that the model's FLOP (no recompute, causal attention halved) make",
        "= flop_per_token * tokens_per_step / (chips_used * peak * step_s)",
    ),
    R(
        "usd_per_mtok",
        "USD/Mtok",
        "cost of a million trained tokens; idle chips are paid too",
        of(money.usd_per_mtok, chips="chips_used + chips_idle", tokens="tokens_per_step"),
    ),
    R(
        "J_per_token",
        "J/token",
        "energy at the meter of a trained token",
        of(energy.joule_per_token, used="chips_used", idle="chips_idle", tokens="tokens_per_step"),
    ),
    R(
        "goodput",
        "1",
        "share of the time that trains, after failures, restarts and checkpoints",
        of(faults.share_of),
    ),
    R("days", "d", "length of the run", "= tokens / tokens_per_step * step_s / goodput / 86400"),
    R(
        "tokens_trained",
        "tokens",
        "tokens that are trained in the days that the budget pays for, failures included",
        "= tokens_per_s_per_chip * chips_used * goodput * paid_days * 86400",
    ),
    *OWNED_RULES,
    *yearly_rules("tokens_per_s_per_chip * chips_used * goodput"),
    R(
        "breakeven_usd_per_chip_h",
        "USD/chip/h",
        "price at which this row costs what the best other row does",
        of(money.breakeven_usd_per_chip_h, chips="chips_used + chips_idle"),
    ),
    R(
        "breakeven_W_per_chip",
        "W",
        "power per chip at which this row uses the energy of the best other row",
        of(energy.breakeven_W_per_chip),
    ),
    R("memory_B", "B", "memory that one device needs", "= sum(memory_B)"),
    R("memory_B *", "B", "bytes of one device", "terms: the term below"),
    *MEMORY_OF_PLAN,
    R(
        "memory_capacity_B",
        "B",
        "what a program may use of a device's memory, at the low end of what is known",
        "= hbm_usable / devices_per_chip",
    ),
    R("spread * at_low", "1", "change of ln(time per token) with this fact at the low end of its range", MOVED),
    R("spread * at_high", "1", "change of ln(time per token) with this fact at the high end of its range", MOVED),
]

_NOT_TOLD_APART = "lookup: training.residuals.plan_margin, from the order of measured runs (tools/plan_pairs.py)"

SEARCHED = [
    R(
        "evaluated",
        "plans",
        "plans that were timed or weighed",
        "search: counted: legal plans of the model on the devices (serving: plans at each batch, and pairs of workers)",
    ),
    R("points", "points", "distinct plans at each batch", "search: counted"),
    R(
        "preferred slower",
        "1",
        "what the fastest plan is faster by than the first, which is simpler",
        "search: seconds per token (serving: tokens per second) of the two plans, one over the other, less 1",
    ),
    R("preferred within", "1", "plans this close to the fastest are not told apart", _NOT_TOLD_APART),
    R("feasible", "plans", "plans that fit in memory and meet the limits", "search: counted"),
    R(
        "compromise costlier",
        "1",
        "what a token costs more with the best plan that a program can run than with the best plan, as a share",
        "search: tokens per second of the two plans on the same chips, one over the other, less 1",
    ),
]

WHY = [
    R(
        "plan *",
        "1",
        "a choice of the neighbouring plan",
        "search: the best plan with one choice a step away, the others made anew",
    ),
    R(
        "slower",
        "1",
        "how much slower the neighbour is, per token",
        "inside: time per token of the neighbour / of the best - 1",
    ),
    R("short_B", "B", "memory that the neighbour lacks on a device", "inside: need - usable, not below 0"),
    R(
        "memory_B",
        "B",
        "memory that the neighbour needs on a device",
        "inside: sum of its categories (mowich explain ... memory_B of a plan has them)",
    ),
    R(
        "part_change",
        "1",
        "what the part that changes most adds, over the step",
        "inside: change of that part / step of the best",
    ),
    R(
        "unused",
        "1",
        "share of the devices that the neighbour leaves idle",
        "inside: 1 - devices of the plan / devices",
    ),
]

_FIT = [
    R(
        "largest_tried",
        "chips",
        "the most chips that were tried for the smallest number",
        "lookup: a bound of the search",
    ),
    R(
        "chips",
        "chips",
        "chips that were asked for",
        "lookup: as asked: the size in the system's name, --chips, or one scale-up unit",
    ),
    *CHIP_RULES[2:],
    R(
        "plan *",
        "1",
        "a choice of the plan that is shown",
        "search: training: the legal plan with the least memory per device; serving: the worker plan whose copies hold"
        " most requests",
    ),
    R("memory_B", "B", "memory of one device", "= sum(memory_B)"),
    R("memory_B *", "B", "bytes of one device", "terms: the terms below"),
    *MEMORY_OF_PLAN,
    R("memory_capacity_B", "B", "what a program may use of a device's memory", "= hbm_usable / devices_per_chip"),
    R(
        "smallest_chips",
        "chips",
        "fewest chips that fit, of powers of two inside a scale-up unit, the unit, and its doublings",
        "search: counts tried upward until the plan with the least memory fits",
    ),
    R(
        "workers",
        "workers",
        "copies of the model that the chips hold",
        "= floor(chips * devices_per_chip / (plan.tp * plan.pp * plan.dp * plan.cp))",
    ),
    R(
        "requests",
        "requests",
        "whole requests whose caches fit at once",
        "= floor((usable - memory_B.weights - memory_B.reserve) / one_request) * plan.dp * workers",
    ),
]

TRAINING_RULES: Mapping[str, tuple[Rule, ...]] = {
    "mowich/compare@1": (*under("rows *", TRAIN_ROW),),
    "mowich/plan@1": (
        *under("plans *", TRAIN_ROW),
        *under("pareto *", TRAIN_ROW),
        R("why plan *", "1", "a choice of the plan that the neighbours are of", CHOSEN_BY_SEARCH),
        *under("why neighbours *", WHY),
        *SEARCHED,
        R(
            "why ties within",
            "1",
            "plans this close to the best count as ties",
            _NOT_TOLD_APART,
        ),
        R("why ties count", "plans", "plans that tie with the best", "count: counted"),
    ),
    "mowich/sweep@1": (*under("rows *", TRAIN_ROW), R("points", "points", "points of the grid", "count: counted")),
    "mowich/fit@1": (*under("smallest_by_weights *", _FIT), *_FIT),
}
