"""Weights from a trainer to rollout workers, method by method, with ranges: `mowich collective weights`.

The trainer shards the weights over all of its chips, as FSDP does; workers split each weight over their devices. What
a run of reinforcement learning makes of a sync, seen or hidden, is `mowich rl`'s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from mowich.errors import UserError
from mowich.estimate import Estimate, from_spreads, worst_grade
from mowich.facts import Facts
from mowich.machines.system import System, resolve
from mowich.models.model import Model
from mowich.plans.plan import WEIGHTS, Plan, ServePlan, WeightFormat, one_of
from mowich.requests.rooms.collective import WEIGHTS_KIND, CollectiveRequest
from mowich.rl.sync import METHODS, WAYS, SyncEnd, SyncMethod, SyncTimes, check_method, sync_times, weight_bytes
from mowich.shown import Rows
from mowich.studies.rooms.collective.group import CollectiveRow, CollectiveStudy
from mowich.sums import float_sum

_HELD = 0.5
"""Share of the memory of a worker that its weights may take where nobody says how many chips it has."""

_TRAINED: WeightFormat = "bf16"
"""Format of the weights that a trainer sends."""


def sync_ends(
    facts: Facts, model: Model, on: str, to: str, *, worker: int | None, weights: WeightFormat
) -> tuple[SyncEnd, SyncEnd]:
    """(trainer, workers). to: machine of the workers, "": the trainer's own chips; worker: chips of one, None: the
    fewest that hold the weights in half of their memory. Raises UserError for workers that do not hold the weights, and
    for chips that are no whole number of workers."""
    trainer = resolve(facts, on)
    workers = resolve(facts, to) if to else trainer
    chips = _fewest(model, workers, weights) if worker is None else worker
    if chips > workers.chips or workers.chips % chips:
        raise UserError(
            "the machine of the workers is no whole number of workers",
            field="worker",
            given=f"{workers.chips} chips, {chips} a worker",
            fix=f"for example {to or on} with {-(-workers.chips // chips) * chips} chips",
        )
    plan = ServePlan(tp=chips * workers.devices_per_chip, weights=weights)
    return (
        SyncEnd(system=trainer, devices=trainer.devices, plan=Plan(dp=trainer.devices, zero=3), format=_TRAINED),
        SyncEnd(system=workers, devices=workers.devices, plan=plan, format=weights, workers=workers.chips // chips),
    )


def _fewest(model: Model, system: System, weights: WeightFormat) -> int:
    """Chips of a worker: the least power of two whose memory holds the weights twice."""
    needs = float_sum(weight_bytes(model, weights).values()) / (_HELD * system.hbm_usable_B * system.devices_per_chip)
    return int(2 ** max(0, math.ceil(math.log2(needs))))


def methods_between(source: SyncEnd, target: SyncEnd, *, is_colocated: bool) -> list[SyncMethod]:
    """The methods that lead from one side to the other."""
    one_vendor = source.system.vendor == target.system.vendor
    return [
        name for name in METHODS if WAYS[name].is_colocated == is_colocated and (one_vendor or WAYS[name].spans_vendors)
    ]


def weight_sync(asked: CollectiveRequest) -> CollectiveStudy:
    """A sync of a model from its trainer to rollout workers: a row for each method, or for the one that is named.
    Raises UserError for one that does not lead there, and for workers that do not hold the weights."""
    facts, model, to, method, link_Bps = asked.facts, asked.model, asked.to, asked.method, asked.link_Bps
    assert model is not None
    weights = one_of(asked.weights, WEIGHTS, "format of weights")
    source, target = sync_ends(facts, model, asked.on, to, worker=asked.worker, weights=weights)
    names = (
        [check_method(method, source, target)[0]] if method else methods_between(source, target, is_colocated=not to)
    )
    if to and method and WAYS[names[0]].is_colocated:
        raise UserError(f"'{method}' is of colocated runs", field="method", fix="leave out the machine of the workers")
    chips = source.system.chips + (target.system.chips if to else 0)
    rows, notes = [], []
    for name in names:
        times = sync_times(model, source, target, name, facts=facts, link_Bps=link_Bps)
        rows.append(
            CollectiveRow(
                bytes=round(times.sent_B),
                ranks=chips,
                time_s=ranged(facts, model, source, target, times, link_Bps),
                busbw_Bps=round(times.sent_B) / times.whole_s,
                algorithm=name,
                binds=times.binds,
                trainer_s=times.trainer_s,
                workers_s=times.rollouts_s,
                tensors=times.tensors,
            )
        )
    if link_Bps is None and source.system.vendor != target.system.vendor:
        fact = facts.fact("rl.sync.common.link")
        notes.append(f"no link between the two vendors is stated: {fact.as_written} is taken ({fact.path})")
    return CollectiveStudy(
        kind=WEIGHTS_KIND,
        system=asked.on,
        display=source.system.display,
        network="",
        rows=Rows(rows),
        slowdown=1.0,
        faults=(),
        beside=(),
        levels=(),
        warnings=tuple(notes),
        group=chips,
        oversubscription=1.0,
        layer="",
        calls="",
        lnc=None,
        facts_hash=facts.hash(),
        asked=_asked(model, to, method, link_Bps, target, weights),
    )


def _asked(
    model: Model, to: str, method: str, link_Bps: float | None, target: SyncEnd, weights: WeightFormat
) -> Mapping[str, object]:
    return {
        **model.inputs(),
        "to": to or None,
        "method": method or None,
        "link_Bps": link_Bps,
        "worker": target.system.chips // target.workers,
        "workers": target.workers,
        "weights": weights,
    }


_MOVED = ("rl.sync.common.link", "rl.sync.common.host_link")
"""Facts of links that nobody stated: they widen the range of a sync that they move."""

_TELLS = 0.05
"""A fact that moves a sync by more than this share has a say in its grade."""


def ranged(
    facts: Facts, model: Model, source: SyncEnd, target: SyncEnd, times: SyncTimes, link_Bps: float | None
) -> Estimate:
    """The time of a sync with its 90% range: what published syncs leave, and links that nobody stated."""
    at = f"rl.sync.{times.method}"
    residual = facts.fact(f"{at}.residual")
    spread, grades = facts.number(residual.path), [residual.grade, facts.fact(f"{at}.start").grade]
    if source.system.vendor != target.system.vendor:  # no sync between two vendors was published
        spread, grades = residual.high or spread, ["D"]
    downs, ups = [spread], [spread]
    for path in _MOVED:
        fact = facts.fact(path)
        if fact.low is None or fact.high is None:
            continue
        slow, fast = (
            sync_times(
                model, source, target, times.method, facts=facts.with_values({path: end}), link_Bps=link_Bps
            ).whole_s
            for end in (fact.low, fact.high)
        )
        ups.append(max(0.0, math.log(slow / times.whole_s)))
        downs.append(max(0.0, math.log(times.whole_s / fast)))
        if max(ups[-1], downs[-1]) > _TELLS:
            grades.append(fact.grade)
    return from_spreads(
        times.whole_s,
        "s",
        downs,
        ups,
        grade=worst_grade(grades),
        coverage={"analytic": 1.0},
        breakdown={part: seconds for part, seconds in times.parts.items() if seconds},
    )
