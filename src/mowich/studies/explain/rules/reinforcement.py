"""Rules of reinforcement learning: a run, and the rows beside the split of chips."""

from __future__ import annotations

from collections.abc import Mapping

from mowich.studies.explain.rules.rule import CHOSEN_BY_SEARCH, R, Rule, under

_PLAYED = "simulation: of the steps that were played, answer by answer"

_TOP = (
    R("step_s", "s", "time of a step", "= sum(parts)"),
    R("step_s breakdown *", "s", "a part of the step", _PLAYED),
    R("parts *", "s", "a part of the step: what the trainer's chips do or wait for", _PLAYED),
    R("trainer_wait_frac", "1", "share of a step in which the trainer's chips have nothing to do", _PLAYED),
    R("staleness mean", "versions", "versions between the weights that made a token and those that train", _PLAYED),
    R("staleness max", "versions", "the same of the oldest token", _PLAYED),
    R(
        "usd_per_mtok",
        "USD/Mtok",
        "cost of a million trained tokens: all chips are paid for all of the step",
        "= usd_per_s * step_s / tokens * 1e6",
    ),
)
"""Numbers of a row that stand at the top of the answer too."""

_ROW = (
    *_TOP,
    R("rollouts plan *", "1", "a choice of the plan of a worker", CHOSEN_BY_SEARCH),
    R("trainer plan *", "1", "a choice of the plan of the trainer", CHOSEN_BY_SEARCH),
    R("rollouts workers", "1", "copies of the engine that make answers", "count: devices of the side / of a worker"),
    R("rollouts chips", "chips", "chips that make answers", "lookup: the question, or the search for a split"),
    R("trainer chips", "chips", "chips that train", "lookup: the question, or the search for a split"),
    R("chips", "chips", "chips that are paid for: of both sides, and of a judge", "count: of both sides and a judge"),
    R("closed_form_s", "s", "the same step in closed form", "terms: the laws below"),
    R("tokens_per_s_per_chip", "1/s", "trained tokens per second and chip", "= tokens / (step_s * chips)"),
    R("rollout_idle_frac", "1", "share of the workers' places that are empty", _PLAYED),
    R("longest_s", "s", "the longest answer of a batch, from its start to its end", _PLAYED),
    R("sync seen_s", "s", "time of a sync that a step waits for", _PLAYED),
    R("sync hidden_s", "s", "time of a sync beside other work", _PLAYED),
    R(
        "J_per_token",
        "J/token",
        "energy at the meter of a trained token",
        "inside: pue x sum over sides of chips x (busy + idle share x idle) x power x step / tokens",
    ),
)

_SPLIT = (
    R("chips", "chips", "chips in all", "lookup: the question"),
    R("budget", "USD/Mtok", "most dollars per million trained tokens", "lookup: the question"),
    R("best", "1", "place of the best row, from 0", "search: the least of the metric among the rows"),
    R("not_told_apart *", "1", "place of a row whose range overlaps that of the best", "count: of overlapping ranges"),
    R("rows * chips", "chips", "chips of the row", "search: whole servers and units within the chips"),
    R("front * rollouts plan *", "1", "a choice of the plan of a worker", CHOSEN_BY_SEARCH),
    R("front * trainer plan *", "1", "a choice of the plan of the trainer", CHOSEN_BY_SEARCH),
    R("front * rollouts workers", "1", "copies of the engine", "count: devices of the side / of a worker"),
    R("front * * chips", "chips", "chips of the side", "search: sizes that nothing beats in time and cost"),
    R("front * step_s", "s", "time of a step there", "search: in closed form, of every candidate"),
    R("front * usd_per_mtok", "USD/Mtok", "cost of a million trained tokens there", "search: as its step"),
    R("evaluated", "1", "candidates that were worked out in closed form", "count: sizes x plans of both sides"),
)
"""What the search for a split says beside its rows."""

RL_RULES: Mapping[str, tuple[Rule, ...]] = {
    "mowich/rl@1": (
        *_TOP,
        *under("rows *", _ROW),
        *under("split", _SPLIT),
        R("timeline * 2", "1", "version of the weights of a stretch of time", _PLAYED),
        R("timeline * *", "s", "when a stretch of time begins or ends", _PLAYED),
    ),
}
