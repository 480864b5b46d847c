"""How a training row scales: the same job on 64 to 1,000,000 chips of its system.

The global batch that was asked for stays as long as it gives the chips work (strong scaling); from there on it grows
with them (`batch_scale`), as a run of that size would have it. Each size is searched among all plans of the row's
precision that keep everything in the device's memory, each with its largest legal data-parallel degree: a million chips
have too many degrees to try them all here, and a smaller one seldom saves more than a tenth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mowich.errors import UserError, or_infeasible
from mowich.estimate import exact
from mowich.facts import Facts
from mowich.models.model import Model, as_trained
from mowich.plans.memory_range import usable_B
from mowich.plans.plan import Plan, TrainJob
from mowich.price_terms import term_of_row
from mowich.shown import Result
from mowich.software.stack import equip
from mowich.studies.binding import binds
from mowich.studies.hand_tuned import AMONG, hand_tuned_plans, is_hand_tuned, stack_of
from mowich.studies.outcome import SystemAsk, step_outcome, used_chips
from mowich.training import longrun
from mowich.training.search import search

SIZES = (64, 256, 1024, 4096, 16384, 65536, 262_144, 1_000_000)
"""Chips that are tried, as far as the system's fabric joins them, and the most that it joins."""

FULL = 0.9
"""A plan that uses fewer of the chips than this has too small a batch for them."""

_MOST = 1024.0
"""Most that the batch grows by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The job on `chips` chips, of which `used` have work. goodput: None where a step does not finish between failures;
    days of the whole run; usd_per_mtok: with all `chips` paid for (None: no price);
    batch_scale: sequences of its step over those asked for."""

    chips: int
    used: int
    plan: Plan
    step_s: float
    goodput: float | None
    binds: str
    days: float | None
    usd_per_mtok: float | None
    batch_scale: float = 1.0


def scaling(
    model: Model, row: Result, inputs: Mapping[str, object], facts: Facts, *, sizes: Sequence[int] = SIZES
) -> tuple[Size, ...]:
    """The sizes at which the job of a result runs on the system of one of its rows, ascending; sizes where nothing fits
    or is legal are left out."""
    model, job = as_trained(model), TrainJob.from_inputs(inputs)
    stack = stack_of(inputs, row["system"])
    whole = equip(facts, row["system_id"], chips=int(row["chips_requested"]), stack=stack)
    low = usable_B(facts, whole)[0]
    term = term_of_row(inputs, row["system"])
    own, tuned = int(row["chips_requested"]), is_hand_tuned(inputs, row["system"])

    among = {"precision": (str(row["plan"]["precision"]),), "offload": ("none",)}

    def at(chips: int, grown: float = 1.0) -> Size | None:
        asked = replace(job, batch_seqs=job.batch_seqs * grown)
        system = replace(whole, chips=chips, hbm_usable_B=low)
        top = AMONG if tuned else 1
        found = or_infeasible(search, model, system, asked, fixed=among, smaller_dp=False, top=top)
        if isinstance(found, UserError) or not found.best:
            return None
        best, by = found.best[0], found
        step_s = best.step_s
        if tuned:
            step_s, best, by = hand_tuned_plans(model, system, asked, fixed=among, found=found, smaller_dp=False)[0]
        used = used_chips(best.plan, system)
        goodput = longrun.kept(facts, system.id, chips=used, step_s=step_s)
        ask = SystemAsk(
            name=str(row["system"]),
            system_id=system.id,
            chips=chips,
            stack=stack,
            model=model,
            facts=facts,
            job=asked,
            term=term,
        )
        made = step_outcome(ask, best.plan, step_s=exact(step_s, "s"), tokens=best.tokens, goodput=goodput)
        return Size(
            batch_scale=grown,
            usd_per_mtok=made["usd_per_mtok"].value,
            chips=chips,
            used=used,
            plan=best.plan,
            step_s=step_s,
            goodput=goodput.value,
            binds=binds(best, by),
            days=made["days"].value,
        )

    tried = sorted({*sizes, whole.max_chips} if max(sizes) > whole.max_chips else {*sizes})
    out: list[Size] = []
    for chips in (s for s in reversed(tried) if s < own):
        size = at(chips)
        if size is None:  # nor on fewer
            break
        out.insert(0, size)
    grown = 1.0
    for chips in (s for s in tried if own <= s <= whole.max_chips):
        size, more = at(chips, grown), grown
        while (size is None or size.used < FULL * chips) and more < _MOST:  # the batch no longer reaches all chips
            more *= 2.0
            size = at(chips, more) or size
        if size is not None:
            out.append(size)
            grown = size.batch_scale
    return tuple(out)
