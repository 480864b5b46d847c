"""`mowich explain`: where a number of a result comes from.

Takes a result and evaluates its plan once more with a recorder, through the same functions that made it. What comes back is data: terms
with their formulas, inputs and fact paths, and the facts whose ranges move the answer most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mowich.economics import energy, money
from mowich.errors import UserError, UserErrors, unknown
from mowich.estimate import Estimate, Notes, Term
from mowich.facts import Facts
from mowich.machines.system import resolve
from mowich.plans.memory import memory_B
from mowich.plans.plan import Plan, Plans, TrainJob
from mowich.simulate import longrun
from mowich.simulate.train import micro_batches, predict_step
from mowich.workloads.model import Model, as_trained
from mowich.workloads.task import train_flop_per_token

METRICS = ("step_s", "memory_B", "mfu", "tokens_per_s_per_chip", "usd_per_mtok", "J_per_token", "days", "goodput",
           "breakeven_usd_per_chip_h", "breakeven_W_per_chip")  # fmt: skip

TERMS_OF_PART: Mapping[str, tuple[str, ...]] = {
    "gemm": ("gemm.", "moe.experts"), "attention": ("attention.",), "memory_bound": ("memory_bound",), "quantise": ("quantise",),
    "moe": ("moe.",), "head": ("head",), "tp": ("tp.",), "cp": ("cp.",), "ep": ("ep.",), "dp": ("dp",), "pp_bubble": ("pp_bubble", "stage"),
    "pp_transfer": ("pp_transfer",), "optimizer": ("optimizer",), "offload": ("offload",), "jitter": ("jitter",), "software": ("software",), "recompute": ("recompute.", "gemm.", "attention."),
    "host": ("host.", "stage"), "fixed": ("step",),
}  # fmt: skip
"""Which recorded terms make each part of the step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """title: what is explained. estimate: the number. parts: what it is the sum of. terms: the formulas, in order of evaluation.
    spread: (fact path, change of ln time at its low end, at its high end), largest first."""

    title: str
    estimate: Estimate
    parts: Mapping[str, float]
    terms: tuple[Term, ...]
    spread: tuple[tuple[str, float, float], ...]


INPUTS: Mapping[str, Any] = {
    "tokens": (int, float),
    "seq": (int, float),
    "batch_seqs": (int, float),
    "systems": list,
    "price_term": str,
    "model": str,
}
ROW: Mapping[str, Any] = {
    "system": str,
    "system_id": str,
    "display": str,
    "chips_used": int,
    "chips_idle": int,
    "global_batch_seqs": int,
}
"""What `explain` reads of a result, with its types."""


def check_result(result: Mapping[str, Any], where: str) -> None:
    """Raise UserError, one line per problem, when a result lacks what `explain` reads: cut off, edited, or not ours."""
    rows, inputs = result.get("rows", result.get("plans")), result.get("inputs")
    if isinstance(inputs, Mapping) and inputs.get("task") == "serve":
        raise UserError("explains training results, not serving", where=where,
                        fix="the breakdown of ttft_s and tpot_s in the file has its parts; mowich report draws them, docs/serving.md has the formula of each")  # fmt: skip
    problems = []
    if not isinstance(inputs, Mapping):
        problems.append("has no inputs")
    else:
        problems += [
            f"inputs.{k} is missing or of another type"
            for k, kind in INPUTS.items()
            if not isinstance(inputs.get(k), kind)
        ]
    if not isinstance(rows, list) or not rows:
        problems.append("has no rows")
    for i, row in enumerate(rows if isinstance(rows, list) else (), 1):
        if not isinstance(row, Mapping):
            problems.append(f"row {i} is not an object")
            continue
        bad = [k for k, kind in ROW.items() if not isinstance(row.get(k), kind)]
        bad += [
            k
            for k in METRICS
            if k != "memory_B" and not (isinstance(row.get(k), Mapping) and {"value", "unit"} <= row[k].keys())
        ]
        bad += [] if "plan" in row and isinstance(row["plan"], Mapping | None) else ["plan"]
        problems += [f"row {i}: {k} is missing or of another type" for k in bad[:1]]
    if problems:
        raise UserErrors(
            UserError(p, where=where, fix="make it again with mowich compare ... --out FILE") for p in problems
        )


def find_row(result: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The row of a compare or plan result: by system as given, by id, or by number from 1."""
    rows: Sequence[Mapping[str, Any]] = result.get("rows") or result.get("plans") or ()
    for i, row in enumerate(rows, 1):
        if name in (row["system"], row["system_id"], str(i)):
            return row
    raise unknown("row", name, [r["system"] for r in rows])


def explain(result: Mapping[str, Any], metric: str, model: Model, facts: Facts) -> Explanation:
    """Explain "SYSTEM.METRIC" or "SYSTEM.METRIC.PART" of a `mowich/compare@1` or `mowich/plan@1` object.

    `model` and `facts` are those of the result's inputs. Raises UserError for an unknown row, metric or part, and for a row
    that has no plan.
    """
    names = [str(r[k]) for r in (result.get("rows") or result.get("plans") or ()) for k in ("system", "system_id")]
    system_name = next(
        (n for n in sorted(set(names), key=len, reverse=True) if metric == n or metric.startswith(n + ".")), None
    )
    if system_name is None:
        system_name = metric.split(".")[0]
    row = find_row(result, system_name)
    rest = metric[len(system_name) + 1 :].split(".") if len(metric) > len(system_name) else []
    name = rest[0] if rest and rest[0] else "step_s"
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    if len(rest) > (2 if name in ("step_s", "memory_B") else 1):
        raise UserError(
            f"{name} has no part '{'.'.join(rest[1:])}'", allowed="parts of step_s and memory_B, as in step_s.ep"
        )
    if row["plan"] is None:
        raise UserError(f"{system_name} has no plan to explain: {row['reason']}")
    inputs = result["inputs"]
    model = as_trained(model)
    job = TrainJob.from_inputs(inputs)
    spec = next(s for s in inputs["systems"] if s["system"] == row["system"])
    system = resolve(facts, spec["id"], chips=int(spec["chips"]), stack=spec["stack"])
    plan = Plan.from_dict(row["plan"])
    notes = Notes()
    parts: Mapping[str, float]
    if name == "memory_B":
        columns = Plans.of([plan])
        got = memory_B(model, system, job, columns, micro_batches(job, columns), notes)
        parts = {k: float(v[0]) for k, v in got.items()}
        total = sum(parts.values())
        wanted = []
        if len(rest) > 1:
            if rest[1] not in parts:
                raise unknown("memory category", rest[1], parts)
            wanted, total = [f"memory.{rest[1]}"], parts[rest[1]]
            parts = {}
        estimate = Estimate(value=total, unit="B", low=total, high=total, grade="C", breakdown=parts)
    else:
        estimate = Estimate.from_dict(row[name])
        parts = estimate.breakdown
        wanted = []
        step = Estimate.from_dict(row["step_s"])
        goodput = Estimate.from_dict(row["goodput"])
        tokens = float(row["global_batch_seqs"]) * job.seq * job.fill
        used, idle = int(row["chips_used"]), int(row["chips_idle"])
        if name == "usd_per_mtok":
            price = money.price(facts, system.id, term=str(inputs["price_term"]), notes=notes)
            money.usd_per_mtok(price.rate, chips=used + idle, step_s=step, tokens=tokens, goodput=goodput, notes=notes)
        elif name == "J_per_token":
            watts = energy.power(facts, system.id, notes=notes)
            energy.joule_per_token(
                watts,
                used=used,
                idle=idle,
                step_s=step,
                tokens=tokens,
                goodput=goodput,
                site=energy.site(facts),
                notes=notes,
            )
        elif name == "mfu":
            work = train_flop_per_token(model, job.attended, job.task, job.lora) * tokens
            peak_path = system.paths[f"peak_flops.{plan.precision}"]
            notes.add("mfu", estimate.value, "1", "model FLOP per token of a training step x tokens / (chips x dense peak x step)", flop=work, chips=used,
                      peak=system.peak_flops[plan.precision] * system.devices_per_chip, step=step.value, facts=(peak_path,))  # fmt: skip
        elif name in ("breakeven_usd_per_chip_h", "breakeven_W_per_chip"):
            _break_even(result, row, name, facts, notes)
        elif name == "goodput":
            longrun.goodput(facts, system.id, chips=used, step_s=step, notes=notes)
        elif name == "tokens_per_s_per_chip":
            notes.add(
                name,
                estimate.value,
                "1/s",
                "tokens per step / (chips used x step)",
                tokens=tokens,
                chips=used,
                step=step.value,
            )
        elif name == "days":
            notes.add("days", estimate.value, "d", "tokens / tokens per step x step / goodput", tokens=job.tokens, tokens_per_step=tokens,
                      step=step.value, goodput=goodput.value)  # fmt: skip
        if name == "step_s":
            predict_step(model, system, job, plan, notes)
        if len(rest) > 1:
            if rest[1] not in step.breakdown:
                raise unknown("part of the step", rest[1], step.breakdown)
            wanted = list(TERMS_OF_PART[rest[1]])
            share = step.breakdown[rest[1]]
            estimate = Estimate(value=share, unit="s", grade=step.grade)
            parts = {rest[1]: share}
    terms = tuple(t for t in notes.terms.values() if not wanted or any(t.name.startswith(w) for w in wanted))
    # the ranges move time: a memory figure does not depend on them
    moves = () if name == "memory_B" else row.get("spread", ())
    spread = tuple((s["fact"], float(s["at_low"]), float(s["at_high"])) for s in moves)
    return Explanation(
        title=f"{row['display']}: {'.'.join(rest) or 'step_s'}",
        estimate=estimate,
        parts=parts,
        terms=terms,
        spread=spread,
    )


def _break_even(result: Mapping[str, Any], row: Mapping[str, Any], name: str, facts: Facts, notes: Notes) -> None:
    """Record the break-even of a row against the best other row of the result."""
    metric = "usd_per_mtok" if name == "breakeven_usd_per_chip_h" else "J_per_token"
    others = [
        r for r in result.get("rows") or result.get("plans") or () if r is not row and r[metric]["value"] is not None
    ]
    if not others:
        return
    best = min(others, key=lambda r: float(r[metric]["value"]))
    used, idle = int(row["chips_used"]), int(row["chips_idle"])
    speed = Estimate.from_dict(row["tokens_per_s_per_chip"]).scaled(used, "1/s")
    goodput, against = Estimate.from_dict(row["goodput"]), Estimate.from_dict(best[metric])
    if metric == "usd_per_mtok":
        money.breakeven_usd_per_chip_h(against, chips=used + idle, tokens_per_s=speed, goodput=goodput, notes=notes)
    else:
        site = energy.site(facts)
        energy.breakeven_W_per_chip(
            against, chips=used + idle, idle=idle, tokens_per_s=speed, goodput=goodput, site=site, notes=notes
        )
    notes.add(
        f"best.{metric}",
        float(best[metric]["value"]),
        str(best[metric]["unit"]),
        note=f"of {best['system']}, the best other row",
    )
