"""Results of the other verbs made again: fit, collective, goodput, power, claims, validate, traffic, fleet, kernel profile.

Most call their study again and read the number at the same path; where that would be slow (a search, a programme, draws), the part that made the
number is called instead, with what the search chose held fixed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path as File
from typing import Any

import numpy as np

from mowich.errors import UserError
from mowich.estimate import Estimate, Notes
from mowich.facts import Facts
from mowich.facts.entries import entries
from mowich.machines import collectives
from mowich.machines.system import resolve
from mowich.machines.topology import on_network, per_chip
from mowich.plans.plan import Plan, TrainJob
from mowich.simulate import faults, longrun
from mowich.studies.explain import tree
from mowich.studies.explain.source import Numbers, Result, Source
from mowich.studies.explain.training import memory
from mowich.studies.explain.tree import Path
from mowich.workloads.model import Model, as_trained


def flat(data: Mapping[str, Any], below: Path = ()) -> Numbers:
    """Path -> value of every number of an object."""
    out: dict[Path, float] = {}
    for path in tree.numbers(data):
        node = tree.at(data, path)
        value = node["value"] if tree.is_estimate(node) else node
        if value is not None:
            out[(*below, *path)] = float(value)
    return out


# fit -------------------------------------------------------------------------------------------------------------------


def train_fit(result: Result, model: Model, facts: Facts) -> Source:
    """Memory of the plan that needs least of it."""
    model, job, plan = as_trained(model), TrainJob.from_inputs(result["inputs"]), Plan.from_dict(result["plan"])
    stack = result["inputs"]["systems"][0]["stack"]
    chips = int(result["chips"])

    def numbers(known: Facts, wanted: Path) -> Numbers:
        system = resolve(known, result["system_id"], chips=chips, stack=stack)
        usable = known.fact(system.paths["hbm_usable_B"])
        out: dict[Path, float] = {("memory_B", k): v for k, v in memory(model, system, job, plan).items()}
        out[("memory_capacity_B",)] = (usable.low or known.number(usable.path)) / system.devices_per_chip
        return out

    def terms(name: Path, notes: Notes) -> None:
        whole = Notes()
        memory(model, resolve(facts, result["system_id"], chips=chips, stack=stack), job, plan, whole)
        if name[0] == "memory_B":
            notes.terms |= {k: t for k, t in whole.terms.items() if len(name) < 2 or k == f"memory.{name[1]}"}

    system = resolve(facts, result["system_id"], chips=chips, stack=stack)
    return Source(at=(), numbers=numbers, terms=terms, symbols={"hbm_usable": result["memory_capacity_B"] * system.devices_per_chip},
                  behind={"hbm_usable": (system.paths["hbm_usable_B"],)}, title=f"{result['system_id']}: {model.name}")  # fmt: skip


# collective ------------------------------------------------------------------------------------------------------------


def collective_row(result: Result, at: Path, row: Mapping[str, Any], facts: Facts) -> Source:
    """One size of a collective."""
    from mowich.studies import collectives as study

    inputs = result["inputs"]
    over = float(inputs.get("oversubscription") or 1.0)

    def numbers(known: Facts, wanted: Path) -> Numbers:
        found = study.collective(known, inputs["kind"], inputs["on"], sizes=[row["bytes"]], group=inputs.get("group"), network=inputs["network"] or "",
                                 oversubscription=over, fail=inputs["faults"], beside=inputs["beside"])  # fmt: skip
        return flat(found.to_dict()["rows"][0])  # type: ignore[index]

    system = resolve(facts, inputs["on"])
    if inputs["group"] > system.chips:
        system = resolve(facts, inputs["on"], chips=inputs["group"])
    machine = per_chip(on_network(facts, system, inputs["network"] or "", oversubscription=over) if inputs["network"] or over != 1.0 else system)  # fmt: skip
    n, B = float(row["ranks"]), float(row["bytes"])

    def terms(name: Path, notes: Notes) -> None:
        if name[0] not in ("time_s", "busbw_Bps"):
            return
        size, stride = np.array([n]), np.ones(1)
        for hop in collectives.hops(machine, size, stride):
            if float(hop.r[0]) > 1:
                links = tuple(system.paths[f"{hop.level.name}.{x}"] for x in ("bandwidth", "latency") if f"{hop.level.name}.{x}" in system.paths)  # fmt: skip
                notes.add(f"level {hop.level.name}", hop.Bps, "B/s", "what one chip drives on it, one way", joins=hop.r, step_s=hop.step_s, facts=links)  # fmt: skip
        f = machine.fabric
        own = tuple(p for k, p in system.paths.items() if k.startswith("fabric."))
        if inputs["kind"] not in ("all-to-all", "permute"):
            for way in collectives.algorithms(machine, size, stride, inputs["kind"]):
                if math.isfinite(float(way.latency_s[0])):
                    T = float(collectives.law_s(machine, way.latency_s, way.bulk_s, way.per_B * B, np.array([B]))[0])
                    mark = "; the least, so it is taken" if way.name == row["algorithm"].split(" + ")[0] else ""
                    notes.add(way.name, T, "s", "L + min(g sqrt(L b S), r L) + b S" + mark, L=way.latency_s, b=way.per_B, S=B, g=f.pipeline, r=f.pipeline_limit, facts=own)  # fmt: skip
        else:
            notes.add(row["algorithm"], row["time_s"]["value"], "s", "latency of the steps + bytes over the links, level by level (docs/collectives.md)", S=B, n=n, facts=own)  # fmt: skip
        slow = float(result["slowdown"])
        if slow > 1.0:
            notes.add("slowdown", slow, "1", "bytes' term over its term on whole links, by max-min fair flows", faults=", ".join(inputs["faults"]) or "-", beside=", ".join(inputs["beside"]) or "-")  # fmt: skip

    return Source(at=at, numbers=numbers, terms=terms, symbols={"bus_factor": study.bus_factor(inputs["kind"], int(n))}, title=f"{inputs['kind']} on {inputs['on']}")  # fmt: skip


# goodput ---------------------------------------------------------------------------------------------------------------


def goodput_row(result: Result, at: Path, row: Mapping[str, Any], facts: Facts) -> Source:
    """One way of surviving failures."""
    from mowich.studies.goodput import TARGET, job_of

    inputs = result["inputs"]
    system = resolve(facts, inputs["on"])
    kind = longrun.kind_of(facts, system.id)

    def numbers(known: Facts, wanted: Path) -> Numbers:
        job = job_of(known, system.id, inputs)
        rates, way = faults.read_rates(known, kind), faults.read_strategy(known, row["strategy"])
        g = faults.closed_form(job, rates, way)
        out: dict[Path, float] = {("goodput",): g.value, ("mtbf_s",): g.mtbf_s, ("checkpoint_s",): g.interval_s, ("failures",): g.failures, ("recovery_s",): way.recovery_s}  # fmt: skip
        out |= {("lost", k): v for k, v in g.parts.items()}
        out[("monte_carlo", "mean")] = g.value
        best = faults.breakeven_recovery_s(job, rates, way, TARGET)
        return out if best is None else {**out, ("breakeven_recovery_s",): best}

    def terms(name: Path, notes: Notes) -> None:
        job = job_of(facts, system.id, inputs)
        rates, way = faults.read_rates(facts, kind), faults.read_strategy(facts, row["strategy"])
        longrun.terms(notes, facts, kind, job, row["strategy"])
        if name[0] == "lost":
            g = faults.closed_form(job, rates, way)
            notes.add("lost", sum(g.parts.values()), "1", "1 - useful x (1 - missing) x (1 - silent) x (1 - slow): hardware first, then silent corruption, then slow chips; the rest is 1 - useful", facts=(), note="", **{f"share_{k}": v for k, v in g.parts.items()})  # fmt: skip

    return Source(at=at, numbers=numbers, terms=terms, title=f"{inputs['on']}, {row['strategy']}")


# power -----------------------------------------------------------------------------------------------------------------


def power_row(result: Result, at: Path, row: Mapping[str, Any], facts: Facts) -> Source:
    """Power of one machine."""
    from mowich.studies.power import study

    inputs = result["inputs"]

    def numbers(known: Facts, wanted: Path) -> Numbers:
        found = study(known, [row["system"]], cap_W=inputs["cap_W"], spares=inputs["spares"], tokens_per_s=inputs["tokens_per_s_per_chip"])[0]  # fmt: skip
        return flat(found.to_dict())

    chip = resolve(facts, row["system"]).chip
    symbols = {"pue": facts.number("sites.default.pue"), "idle_share": facts.number("sites.default.idle_power_share")}
    behind = {"pue": ("sites.default.pue",), "idle_share": ("sites.default.idle_power_share",), "it_W": (f"chips.{chip}.power.all_in",)}  # fmt: skip
    return Source(at=at, numbers=numbers, symbols=symbols, behind=behind, title=row["system"])


# claims ----------------------------------------------------------------------------------------------------------------


def claim(result: Result, at: Path, row: Mapping[str, Any], facts: Facts) -> Source:
    """One public claim: its own formula over the facts that it names."""
    from mowich.studies import claims as study

    check = next((c for start, c in study.checks().items() if row["id"].startswith(start)), None)
    inputs = {k: str(v).split(" = ")[0] for k, v in row["inputs"].items() if " = " in str(v)}

    def numbers(known: Facts, wanted: Path) -> Numbers:
        if row["group"] == "measured-ironwood-training":
            made = study.training_row(known, f"claims.{row['group']}.claims", row["id"].split(".", 1)[1])
            value, low, high = made.derived, made.low, made.high
        elif check is None:
            return {}
        else:
            value, low, high, _, _ = study.derive(known, check)
        return {(k,): v for k, v in (("derived", value), ("low", low), ("high", high)) if v is not None}

    def terms(name: Path, notes: Notes) -> None:
        if name[0] == "published_value":
            paths = [e.published for e in entries(facts) if e.id == row["id"]]
            notes.add("published", row["published_value"], "1", facts=tuple(paths), note=row["published"])  # fmt: skip
            return
        if row["derived"] is None:  # not derived: the reason is told, and there is no term
            return
        values = {k: facts.number(p) for k, p in inputs.items()}
        notes.add(row["id"], row["derived"], "1", row["formula"], facts=tuple(inputs.values()), note=row["reason"], **values)  # fmt: skip

    return Source(at=at, numbers=numbers, terms=terms, title=row["claim"])


def memory_row(result: Result, at: Path, row: Mapping[str, Any], facts: Facts) -> Source:
    """A line of the table of what memory per chip costs."""
    from mowich.studies import claims as study

    same = ("model", "context", "system")

    def numbers(known: Facts, wanted: Path) -> Numbers:
        made = next(r for r in study.memory_table(known) if all(getattr(r, k) == row[k] for k in same))
        return {(f,): float(v) for f in made.__slots__ if isinstance(v := getattr(made, f), int | float)}

    chip = facts.meta("systems", row["system"])["chip"]
    from mowich.workloads import load

    model = load(row["model"])
    symbols = {"weights": model.params * study.WEIGHT_B, "kv": model.kv_bytes(row["context"], study.WEIGHT_B), "bandwidth": facts.number(f"chips.{chip}.memory.hbm_bandwidth")}  # fmt: skip
    behind = {"bandwidth": (f"chips.{chip}.memory.hbm_bandwidth",), "memory_B": (f"chips.{chip}.memory.hbm_usable",)}
    return Source(at=at, numbers=numbers, symbols=symbols, behind=behind, title=f"{row['model']}, {row['context']} tokens, {row['system']}")  # fmt: skip


# validate --------------------------------------------------------------------------------------------------------------


def measured_rows(result: Result, facts: Facts) -> dict[str, Mapping[str, str]]:
    """The rows of the file that a validation read, by id; empty where it is not there any more."""
    from mowich.studies import validate as study

    file = study.published() if result["file"] == "published/training.csv" else File(result["file"])
    try:
        return {r["id"]: r for r in study.read_csv(file, facts)}
    except UserError:
        return {}


def validated(at: Path, row: Mapping[str, Any], cells: Mapping[str, str], facts: Facts) -> Source:
    """One measured row, predicted again. cells: as the file has it."""
    from mowich.simulate.train import predict_step
    from mowich.studies import serving_validate
    from mowich.studies import validate as study
    from mowich.studies.rows import read_cases

    serving = serving_validate.is_serving(list(cells))
    rows: list[Mapping[str, str]] = [cells]

    def numbers(known: Facts, wanted: Path) -> Numbers:
        if serving:
            made = next(r for r in serving_validate.validate_serving(rows, known) if r.metric == row["metric"])
        else:
            case = read_cases(rows, known)[0]
            if isinstance(case, str):
                return {}
            made = study.predict(case, known)
        keys = ("measured", "predicted", "low", "high", "ratio", "abs_error")
        return {(k,): float(v) for k in keys if (v := getattr(made, k)) is not None}

    def terms(name: Path, notes: Notes) -> None:
        if serving or name[0] == "measured":
            return
        case = read_cases(rows, facts)[0]
        if not isinstance(case, str):
            predict_step(case.model, case.system, case.job, case.plan, notes)

    return Source(at=at, numbers=numbers, terms=terms, title=f"{row['id']}: {row['chip']}, {row['source']}")


# traffic ---------------------------------------------------------------------------------------------------------------
EXAMPLE_USERS = 16.0
"""Sequences of the step that stands for all steps of a simulation."""


def traffic(result: Result, facts: Facts) -> Source | None:
    """The simulation once more; None where its scenario is not there."""
    from mowich.studies import traffic as study

    file = File(result["inputs"]["scenario"])
    if not file.is_file():
        return None
    scenario = study.read(file, facts)

    def numbers(known: Facts, wanted: Path) -> Numbers:
        return flat(study.traffic(file, known).to_dict())

    def terms(name: Path, notes: Notes) -> None:
        from mowich.economics import energy, money
        from mowich.simulate.opcost import step
        from mowich.studies.explain.serving import step_terms

        if name[0] in ("requests", "chips", "coverage"):
            return
        d = scenario.serve.deployment
        one = np.zeros(1, dtype=np.intp)
        n, context = EXAMPLE_USERS, 1024.0
        parts = {k: float(v[0]) for k, v in step(d.shapes.take(one), d.costs.take(one), n=n, context=context).items()}
        step_terms(d, 0, parts, notes, users=n, context=context)
        total = sum(parts.values())
        notes.add("step", total, "s", f"sum of its parts, here of {n:g} sequences of {context:g} tokens; the simulation evaluates it for every batch")  # fmt: skip
        if name[0] == "usd_per_mtok":
            money.price(facts, scenario.system.id, notes=notes)
        elif name[0] == "J_per_token":
            energy.power(facts, scenario.system.id, notes=notes)

    site = facts.number("sites.default.pue"), facts.number("sites.default.idle_power_share")
    symbols = {"pue": site[0], "idle_share": site[1]}
    behind = {"pue": ("sites.default.pue",), "idle_share": ("sites.default.idle_power_share",)}
    return Source(at=(), numbers=numbers, terms=terms, symbols=symbols, behind=behind, title=str(result["inputs"]["name"]), is_slow=True)  # fmt: skip


# fleet -----------------------------------------------------------------------------------------------------------------


def fleet(result: Result, facts: Facts) -> Source | None:
    """The programme solved again, relaxed, with the speeds that the result states; None where its scenario is not there."""
    from mowich.economics import money
    from mowich.fleets.answer import solve
    from mowich.fleets.problem import Rate, read_problem
    from mowich.studies.fleet import Fleet

    inputs = result["inputs"]
    file = File(inputs["scenario"])
    if not file.is_file():
        return None
    speeds = {(r["task"], r["system"]): Rate(task=r["task"], system=r["system"], tokens_per_s_per_chip=Estimate.from_dict(r["tokens_per_s_per_chip"]), chips=r["chips"], plan=r["plan"])
              for r in result["rates"]}  # fmt: skip

    def numbers(known: Facts, wanted: Path) -> Numbers:
        problem = read_problem(file, known)
        answer = solve(problem, speeds, relaxed=True)
        return flat(Fleet(problem=problem, rates=speeds, answer=answer).to_dict())

    now = read_problem(file, facts)

    def terms(name: Path, notes: Notes) -> None:
        for choice in now.choices:
            chip = f"chips.{choice.system.chip}.power.all_in"
            if choice.power_W.value is not None and facts.get(chip):
                notes.add(f"power of {choice.name}", choice.power_W.value, "W", facts=(chip,))
            for offer in choice.offers:
                if offer.price.value is not None:
                    price = money.price(facts, choice.system.id)
                    paths = (price.fact_path,) if price.fact_path and price.label == offer.price_label else ()
                    notes.add(f"{offer.kind} {choice.name} at {offer.site}", offer.price.value, offer.price.unit, note=offer.price_label, facts=paths)  # fmt: skip

    return Source(at=(), numbers=numbers, terms=terms, title=str(inputs["name"]), is_slow=True)


# kernel ----------------------------------------------------------------------------------------------------------------


def kernel(result: Result, facts: Facts) -> Source:
    """A profile: its critical path is a sum over facts of the core, so a fact that moves takes its part along (to first order: the path may change)."""
    from mowich.neuroncore.targets import generation_of

    root = f"neuroncore.timing-v{generation_of(result['target'].split()[0])}"
    parts: Mapping[str, float] = result["time_s"]["breakdown"]
    known_parts = [k for k in parts if facts.get(f"{root}.{k}") is not None]
    now = {k: facts.number(f"{root}.{k}") for k in known_parts}

    def numbers(known: Facts, wanted: Path) -> Numbers:
        out: dict[Path, float] = {}
        total = 0.0
        for name, seconds in parts.items():
            factor = known.number(f"{root}.{name}") / now[name] if now.get(name) else 1.0
            is_rate = name.endswith(("clock", "rate", "bandwidth"))
            out[("time_s", "breakdown", name)] = seconds / factor if is_rate else seconds * factor
            total += out[("time_s", "breakdown", name)]
        out[("time_s",)] = total
        ratio = total / result["time_s"]["value"] if result["time_s"]["value"] else 1.0
        return {**out, **{(k,): result[k] / ratio for k in ("mfu", "hfu", "mbu")}}

    def terms(name: Path, notes: Notes) -> None:
        chosen = [str(name[2])] if name[0] == "time_s" and len(name) > 2 else known_parts if name[0] in ("time_s", "mfu", "hfu", "mbu", "engines", "top") else []  # fmt: skip
        for k in chosen:
            paths = (f"{root}.{k}",) if k in now else ()
            notes.add(k, parts[k], "s", "time on the critical path that this fact sets", facts=paths)

    clock, mbu = f"{root}.tensor_engine.clock", f"{root}.memory.mbu_bandwidth"
    rate, engines = f"{root}.dma.rate", f"{root}.dma.engines"
    cores = int(result["cores"])
    symbols = {"peak": 2.0 * 128 * 128 * facts.number(clock) * cores, "hbm_Bps": facts.number(mbu), "dma_Bps": facts.number(rate) * facts.number(engines) * cores}  # fmt: skip
    behind = {"peak": (clock,), "hbm_Bps": (mbu,), "dma_Bps": (rate, engines)}
    return Source(at=(), numbers=numbers, terms=terms, symbols=symbols, behind=behind, title=f"kernel on {result['target']}")  # fmt: skip
