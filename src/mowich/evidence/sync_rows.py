"""Published times of weight synchronisation: a row of measurements becomes a sync, or is refused with the reason.

A row states its method in the words of its framework (`words.yaml`); its degrees give unstated GPUs and ranks. Rows of
methods without a law here are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from mowich.errors import UserError
from mowich.evidence.row_checks import words_of_rows
from mowich.facts import Facts
from mowich.machines.system import resolve
from mowich.models.builtin import load_model
from mowich.models.model import Model
from mowich.plans.plan import WEIGHTS, Plan, ServePlan, one_of
from mowich.rl.sync import WAYS, SyncEnd, SyncMethod, SyncPart, SyncTimes, sync_times, weight_bytes
from mowich.sums import float_sum


class _Words(TypedDict):
    """The part of `words.yaml` about a sync."""

    methods: Mapping[str, Mapping[str, SyncMethod]]
    colocated: Mapping[str, SyncMethod]
    links: Mapping[str, str]
    shapes: Mapping[str, str]
    left_out: Mapping[str, Sequence[SyncPart]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncCase:
    """A measured sync. measured_s: middle of the printed range, by the logarithm; left_out: parts that the figure does
    not hold."""

    id: str
    model: Model
    source: SyncEnd
    target: SyncEnd
    method: SyncMethod
    measured_s: float
    left_out: frozenset[SyncPart]

    def predicted_s(self, facts: Facts) -> float:
        """Seconds of the parts that the figure holds."""
        return stated_parts_s(sync_times(self.model, self.source, self.target, self.method, facts=facts), self.left_out)


def stated_parts_s(found: SyncTimes, left_out: frozenset[SyncPart]) -> float:
    """Seconds of a sync without some of its parts."""
    return float_sum(seconds for part, seconds in found.parts.items() if part not in left_out)


def read_sync(row: Mapping[str, str], facts: Facts) -> SyncCase:
    """The sync of a row, by the columns of published rows of reinforcement learning. Raises UserError with the reason
    for a row whose method, model or hardware is not stated or not known."""
    words: _Words = words_of_rows("sync")
    framework, said = row["framework"], row["sync_method"]
    method = words["methods"].get(framework, {}).get(said)
    if row["colocated"] == "yes" and not said:
        method = words["colocated"].get(framework)
    if method is None:
        raise UserError("the method of the sync is not stated", given=said or "nothing")
    if row["hardware"].startswith("not "):
        raise UserError("the hardware is not stated")
    model = load_model(words["shapes"].get(row["model"], row["model"]))
    hardware = row["hardware"].split(" (")[0].lower()
    name = words["links"].get(hardware, hardware)
    trained = _degrees(row["train_parallel_text"], row, "train")
    served = _degrees(row["gen_parallel_text"], row, "gen")
    form = one_of(row["gen_precision"] or "bf16", WEIGHTS, "format of weights")
    plan = ServePlan(tp=served["tp"], pp=served["pp"], ep=served["ep"], weights=form)
    receivers = _count(row["n_gpus_gen"]) or plan.devices * served["dp"]
    inner = trained["tp"] * trained["cp"]
    senders = _count(row["n_gpus_train"]) or trained["pp"] * max(inner * trained["dp"], trained["ep"])
    if not row["n_gpus_train"] and framework == "checkpoint-engine":
        senders = receivers
    dp = max(1, senders // (inner * trained["pp"]))
    trainer = Plan(tp=trained["tp"], pp=trained["pp"], cp=trained["cp"], dp=dp, ep=trained["ep"])
    low = float(row["weight_sync_s"])
    machine = resolve(facts, name, chips=receivers)
    least_s = float_sum(weight_bytes(model, form).values()) / max(level.bandwidth_Bps for level in machine.levels)
    if not WAYS[method].is_colocated and not WAYS[method].slices and low < least_s:
        raise UserError(
            "shorter than a device takes to receive the weights over its links: a part of a sync",
            given=f"{low:g} s",
            allowed=f"at least {least_s:.2g} s",
        )
    sent = form if framework == "checkpoint-engine" else row["train_precision"] or "bf16"
    return SyncCase(
        id=row["id"],
        model=model,
        source=SyncEnd(system=resolve(facts, name, chips=senders), devices=senders, plan=trainer, format=sent),
        target=SyncEnd(
            system=machine,
            devices=receivers,
            plan=plan,
            format=form,
            workers=max(1, receivers // plan.devices),
        ),
        method=method,
        measured_s=math.sqrt(low * float(row["weight_sync_s_max"] or low)),
        left_out=frozenset(words["left_out"].get(framework, ())),
    )


def _count(cell: str) -> int:
    return int(float(cell)) if cell else 0


def _degrees(text: str, row: Mapping[str, str], side: str) -> dict[str, int]:
    """Degrees of a side, from its text "EP4 TP2 DP2", else from its columns."""
    said = {name.lower(): int(n) for name, n in re.findall(r"\b(TP|PP|CP|EP|DP)(\d+)", text)}
    return {
        name: said.get(name) or _count(row.get(f"{side}_{name}", "")) or 1 for name in ("tp", "pp", "cp", "ep", "dp")
    }
