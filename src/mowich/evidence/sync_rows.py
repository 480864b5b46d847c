"""Published times of weight synchronisation: a row of measurements becomes a sync, or is refused with the reason.

A row says its method in the words of its framework (`_METHODS`); what it does not state (GPUs, ranks) follows from its
degrees. Rows of methods that no law here is of are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from mowich.errors import UserError
from mowich.facts import Facts
from mowich.machines.system import resolve
from mowich.models.builtin import load_model
from mowich.models.model import Model
from mowich.plans.plan import WEIGHTS, Plan, ServePlan, one_of
from mowich.rl.sync import WAYS, SyncEnd, SyncMethod, SyncPart, SyncTimes, sync_times, weight_bytes
from mowich.sums import float_sum

_METHODS: Mapping[tuple[str, str], SyncMethod] = {
    ("NeMo RL", "NCCL reshard"): "reshard",
    ("NeMo RL", "NIXL async"): "rdma",
    ("NeMo RL", "NIXL sync, verifier"): "rdma",
    ("NeMo RL", "sharded"): "rdma",
    ("NeMo RL", "NCCL async"): "collective",
    ("NeMo RL", "NCCL sync"): "collective",
    ("NeMo RL", "full-expert sync"): "broadcast",
    ("NeMo RL", "colocated refit, before the change"): "ipc-tensors",
    ("NeMo RL", "colocated refit, after the change"): "ipc-buckets",
    ("checkpoint-engine", "broadcast"): "host",
    ("checkpoint-engine", "p2p"): "rdma",
    ("miles", "NCCL broadcast"): "broadcast",
    ("miles", "RDMA p2p"): "rdma",
    ("miles", "disk delta"): "delta",
    ("verl", "without checkpoint engine"): "tensors",
    ("verl", "with checkpoint engine"): "host",
}
"""(framework, its words for the method) -> method. Every expert sent whole to each rank is a broadcast: a device
receives the whole model over its own link."""

_LINKS_OF = {"h20": "h200"}
"""Hardware without facts of its own -> a machine with the same links: a sync depends on links alone."""

_SHAPES = {"Qwen2.5-Math-7B": "qwen2.5-7b"}
"""Models without facts of their own -> one of the same shapes."""

_GATHERED: Mapping[str, frozenset[SyncPart]] = {"checkpoint-engine": frozenset({"gather"})}
"""Framework -> parts that its figures leave out: the weights are in host memory when its clock starts."""


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
    for a row that no law here can be asked about: its method, model or hardware is not stated or not known."""
    method = _METHODS.get((row["framework"], row["sync_method"]))
    if method is None and row["framework"] == "NeMo RL" and row["colocated"] == "yes" and not row["sync_method"]:
        method = "ipc-buckets"
    if method is None:
        raise UserError("the method of the sync is not stated", given=row["sync_method"] or "nothing")
    if row["hardware"].startswith("not "):
        raise UserError("the hardware is not stated")
    model = load_model(_SHAPES.get(row["model"], row["model"]))
    hardware = row["hardware"].split(" (")[0].lower()
    name = _LINKS_OF.get(hardware, hardware)
    trained = _degrees(row["train_parallel_text"], row, "train")
    served = _degrees(row["gen_parallel_text"], row, "gen")
    form = one_of(row["gen_precision"] or "bf16", WEIGHTS, "format of weights")
    plan = ServePlan(tp=served["tp"], pp=served["pp"], ep=served["ep"], weights=form)
    receivers = _count(row["n_gpus_gen"]) or plan.devices * served["dp"]
    inner = trained["tp"] * trained["cp"]
    senders = _count(row["n_gpus_train"]) or trained["pp"] * max(inner * trained["dp"], trained["ep"])
    if not row["n_gpus_train"] and row["framework"] == "checkpoint-engine":
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
    sent = form if row["framework"] == "checkpoint-engine" else row["train_precision"] or "bf16"
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
        left_out=_GATHERED.get(row["framework"], frozenset()),
    )


def _count(cell: str) -> int:
    return int(float(cell)) if cell else 0


def _degrees(text: str, row: Mapping[str, str], side: str) -> dict[str, int]:
    """Degrees of a side: of its text "EP4 TP2 DP2", else of its columns."""
    said = {name.lower(): int(n) for name, n in re.findall(r"\b(TP|PP|CP|EP|DP)(\d+)", text)}
    return {
        name: said.get(name) or _count(row.get(f"{side}_{name}", "")) or 1 for name in ("tp", "pp", "cp", "ep", "dp")
    }
