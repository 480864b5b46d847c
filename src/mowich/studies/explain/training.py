"""Training rows (compare, plan, sweep) made again: one plan on one system, through the functions that the search
evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mowich.economics import energy, money
from mowich.estimate import Estimate, Notes, exact, unknown
from mowich.facts import Facts
from mowich.models.model import Model, as_trained
from mowich.models.task import train_flop_per_token
from mowich.plans.memory import memory_B
from mowich.plans.plan import Plan, Plans, TrainJob
from mowich.software.stack import Platform, equip
from mowich.studies.compare import stack_of
from mowich.studies.explain.source import Numbers, Result, Source, best_of
from mowich.studies.explain.tree import Path
from mowich.training import longrun
from mowich.training.step import micro_batches, predict_step
from mowich.training.tuned import predict_hand_tuned

TERMS_OF_PART: Mapping[str, tuple[str, ...]] = {
    "gemm": ("gemm.", "moe.experts"),
    "attention": ("attention.",),
    "memory_bound": ("memory_bound",),
    "quantise": ("quantise",),
    "moe": ("moe.",),
    "head": ("head",),
    "tp": ("tp.",),
    "cp": ("cp.",),
    "ep": ("ep.",),
    "dp": ("dp",),
    "pp_bubble": ("pp_bubble", "stage"),
    "pp_transfer": ("pp_transfer",),
    "optimizer": ("optimizer",),
    "offload": ("offload",),
    "jitter": ("jitter",),
    "software": ("software",),
    "recompute": ("recompute.", "gemm.", "attention."),
    "host": ("host.", "stage"),
    "fixed": ("step",),
}
"""Which recorded terms make each part of the step."""


def memory(model: Model, system: Platform, job: TrainJob, plan: Plan, notes: Notes | None = None) -> dict[str, float]:
    """Bytes of one device by category."""
    columns = Plans.of([plan])
    return {
        k: float(v[0]) for k, v in memory_B(model, system, job, columns, micro_batches(job, columns), notes).items()
    }


def train_row(result: Result, at: Path, row: Mapping[str, Any], model: Model, facts: Facts) -> Source:
    """The source of a row with a plan. model: as loaded, `facts`: those of the result."""
    inputs = result["inputs"]
    model = as_trained(model)
    job = TrainJob.from_inputs({**inputs, **{k: row[k] for k in ("seq", "batch_seqs", "tokens") if k in row}})
    stack = stack_of(inputs, row["system"])
    term = str(inputs.get("price_term", "default"))
    plan, used, idle = Plan.from_dict(row["plan"]), int(row["chips_used"]), int(row["chips_idle"])
    others = [r for r in result.get("rows") or () if r is not row]

    def system_of(known: Facts) -> Platform:
        return equip(known, row["system_id"], chips=int(row["chips_requested"]), stack=stack)

    system = system_of(facts)
    step_now = Estimate.from_dict(row["step_s"])
    tokens = float(row["global_batch_seqs"]) * job.seq * job.fill

    def numbers(known: Facts, wanted: Path) -> Numbers:
        machine = system_of(known)
        first = wanted[0]
        if first == "memory_B":
            return {("memory_B", k): v for k, v in memory(model, machine, job, plan).items()}
        if first == "hand_tuned_step_s":
            fast = predict_hand_tuned(model, machine, job, plan).step
            return {(first,): fast.total_s} | {(first, "breakdown", k): v for k, v in fast.breakdown.items()}
        step = predict_step(model, machine, job, plan)
        n = step.tokens * job.fill
        t = exact(step.total_s, "s")
        share = longrun.kept(known, machine.id, chips=used, step_s=step.total_s)[1]
        goodput = exact(share, "1") if share else unknown("1", "a step does not finish between failures")
        rate = money.price(known, machine.id, term=term).rate
        usd = money.usd_per_mtok(rate, chips=used + idle, step_s=t, tokens=n, goodput=goodput)
        site, watts = energy.site(known), energy.power(known, machine.id)
        joule = energy.joule_per_token(watts, used=used, idle=idle, step_s=t, tokens=n, goodput=goodput, site=site)
        peak = machine.peak_flops[plan.precision] * machine.devices_per_chip
        work = train_flop_per_token(model, job.attended, job.task, job.lora) * n
        usable = known.fact(machine.paths["hbm_usable_B"])
        out: dict[Path, float] = {
            ("step_s",): step.total_s,
            ("tokens_per_s_per_chip",): n / used / step.total_s,
            ("mfu",): work / (used * peak * step.total_s),
            ("memory_capacity_B",): (usable.low or known.number(usable.path)) / machine.devices_per_chip,
        }
        out |= {("step_s", "breakdown", k): v for k, v in step.breakdown.items()}
        for name, e in (("goodput", goodput), ("usd_per_mtok", usd), ("J_per_token", joule)):
            if e.value is not None:
                out[(name,)] = e.value
        if goodput.value:
            out[("days",)] = job.tokens / n * step.total_s / goodput.value / 86400.0
            speed = exact(n / step.total_s, "1/s")
            for name, metric in (("breakeven_usd_per_chip_h", "usd_per_mtok"), ("breakeven_W_per_chip", "J_per_token")):
                other = best_of(others, metric)
                if other is not None:
                    best = other[1]
                    e = (
                        money.breakeven_usd_per_chip_h(best, chips=used + idle, tokens_per_s=speed, goodput=goodput)
                        if metric == "usd_per_mtok"
                        else energy.breakeven_W_per_chip(
                            best, chips=used + idle, idle=idle, tokens_per_s=speed, goodput=goodput, site=site
                        )
                    )
                    if e.value is not None:
                        out[(name,)] = e.value
        return out

    def terms(name: Path, notes: Notes) -> None:
        """Record what one metric is made of; of a part, only its own terms."""
        goodput = Estimate.from_dict(row["goodput"])
        speed = exact(tokens / float(step_now), "1/s")
        first = str(name[0])
        if first in ("step_s", "hand_tuned_step_s"):
            whole = Notes()
            (predict_hand_tuned if first == "hand_tuned_step_s" else predict_step)(model, system, job, plan, whole)
            wanted = TERMS_OF_PART[str(name[2])] if len(name) > 2 else ("",)
            notes.terms |= {k: t for k, t in whole.terms.items() if any(k.startswith(w) for w in wanted)}
        elif first == "memory_B":
            whole = Notes()
            memory(model, system, job, plan, whole)
            notes.terms |= {k: t for k, t in whole.terms.items() if len(name) < 2 or k == f"memory.{name[1]}"}
        elif first == "usd_per_mtok":
            rate = money.price(facts, system.id, term=term, notes=notes).rate
            money.usd_per_mtok(rate, chips=used + idle, step_s=step_now, tokens=tokens, goodput=goodput, notes=notes)
        elif first == "J_per_token":
            watts = energy.power(facts, system.id, notes=notes)
            energy.joule_per_token(
                watts,
                used=used,
                idle=idle,
                step_s=step_now,
                tokens=tokens,
                goodput=goodput,
                site=energy.site(facts),
                notes=notes,
            )
        elif first == "goodput":
            longrun.survival(facts, system.id, chips=used, step_s=step_now, notes=notes)
        elif first in ("breakeven_usd_per_chip_h", "breakeven_W_per_chip"):
            metric = "usd_per_mtok" if first == "breakeven_usd_per_chip_h" else "J_per_token"
            other = best_of(others, metric)
            if other is None:
                return
            name_of_best, best = other
            if metric == "usd_per_mtok":
                money.breakeven_usd_per_chip_h(
                    best, chips=used + idle, tokens_per_s=speed, goodput=goodput, notes=notes
                )
            else:
                energy.breakeven_W_per_chip(
                    best,
                    chips=used + idle,
                    idle=idle,
                    tokens_per_s=speed,
                    goodput=goodput,
                    site=energy.site(facts),
                    notes=notes,
                )
            notes.add(f"best.{metric}", best.value, best.unit, note=f"of {name_of_best}, the best other row")

    usable = facts.fact(system.paths["hbm_usable_B"])
    peak_path = system.paths[f"peak_flops.{plan.precision}"]
    symbols = {
        "tokens_per_step": tokens,
        "tokens": job.tokens,
        "flop_per_token": train_flop_per_token(model, job.attended, job.task, job.lora),
        "peak": system.peak_flops[plan.precision] * system.devices_per_chip,
        "hbm_usable": usable.low or facts.number(usable.path),
    }
    return Source(
        at=at,
        numbers=numbers,
        terms=terms,
        symbols=symbols,
        title=str(row["display"]),
        behind={"peak": (peak_path,), "hbm_usable": (usable.path,)},
    )
