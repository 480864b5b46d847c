"""Served loads that would tell of a number of a serving row: the plan itself, at other loads, and another model of the
same architecture where the plan does not fit on the chips that are there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from mowich.errors import UserError
from mowich.evidence.prospects import Prospect, row_prospect
from mowich.facts import Facts
from mowich.machines.system import System, parse_spec
from mowich.models import load_model
from mowich.models.builtin import model_names
from mowich.models.model import Model
from mowich.plans.plan import ServePlan
from mowich.serving.anchors import METRICS, Anchor, Anchors, Class
from mowich.serving.engines import architecture
from mowich.serving.search import ServeJob
from mowich.shown import Result
from mowich.studies.explain.serving import served_row
from mowich.studies.next_offers import MeasuringOffer, MeasuringOffers
from mowich.studies.serving import deploy
from mowich.studies.serving_plan import ServeAsk, solve_serving

SERVED_LOAD = "served load"
_USERS = (1.0, 0.5, 0.125)
"""Users of a group that are offered, over those of the question."""
_PROMPTS = (1.0, 0.25)
"""Lengths of prompts that are offered at the question's users, over that of the question."""
_PROGRAMS: Mapping[str, str] = {"vllm": "vllm", "sglang": "sglang", "trtllm": "trtllm", "nxdi": "nxdi"}
"""Begin of an engine's name -> the program that `--emit` writes it for."""
MODELS_TRIED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    """One served load. groups: that serve at once; users: of a group; prompt: tokens."""

    model: Model
    plan: ServePlan
    users: float
    prompt: float
    one: Class


def served_offers(
    result: Result, row: Result, model: Model, facts: Facts, system: System, spec: str, number: str
) -> MeasuringOffers:
    """What served loads on a system would tell of a number of a row. spec: the system as it was asked for."""
    served = served_row(result, row, model, facts)
    d, job = served.here, served.job
    if d.has_own:
        return MeasuringOffers(
            remains=(f"{row['engine']} here has operator tables of its own: no row moves what they say",)
        )
    if not served.together:
        return MeasuringOffers(
            remains=(
                "the plan has workers of their own for prompts, and measured rows do not carry over to such plans:"
                " add --set plan.mode=aggregated to the question",
            )
        )
    plan = served.plans[0]
    asked = d.class_of(0, users=served.users, prompt=job.prompt, output=job.output)
    loads = [
        _Load(model=one, plan=small, users=users, prompt=prompt, one=found)
        for one, small in _deployments(model, plan, job, facts, system, spec, str(row["engine"]))
        for users, prompt, found in _loads(one, small, system, str(row["engine"]), served.users, job, facts)
    ]
    rows = [
        Anchor(id=f"next-{k}", source="expected", one=load.one, residue=dict.fromkeys(METRICS, 0.0))
        for k, load in enumerate(loads)
    ]
    parts = {metric: row_prospect(d.anchors, metric, asked, rows) for metric in METRICS}
    asked_of = "ttft" if number == "ttft_s" else "tpot"
    offers = [
        _offer(load, job, system, spec, str(row["engine"]), _expected(rows[k], k, parts))
        for k, load in enumerate(loads)
    ]
    return MeasuringOffers(offers=tuple(offers), parts=(parts[asked_of],), remains=_remains(d.anchors, asked_of, asked))


def _remains(anchors: Anchors, metric: str, asked: Class) -> tuple[str, ...]:
    noise = math.expm1(anchors.kernel_of(metric, asked).noise)
    return (f"two runs of one setting differ by about {noise:.0%}, which no third run takes away",)


def _expected(row: Anchor, k: int, parts: Mapping[str, Prospect]) -> Anchor:
    """A row with the result that is expected of it today."""
    return replace(row, residue={metric: float(part.mean[1 + k]) for metric, part in parts.items()})


def _deployments(
    model: Model, plan: ServePlan, job: ServeJob, facts: Facts, system: System, spec: str, engine: str
) -> Iterator[tuple[Model, ServePlan]]:
    """Models and plans that fit on a system: the question's own; a smaller plan of it where its own is too large; and
    the next smaller model of the same architecture."""
    if plan.devices <= system.devices:
        yield model, plan
    elif (small := _best(model, job, facts, system, spec, engine)) is not None:
        yield model, small
    kind = architecture(model)
    others = [load_model(name) for name in model_names()]
    others = [o for o in others if o.params < model.params and o.name != model.name and architecture(o) == kind]
    for other in sorted(others, key=lambda o: -o.params)[:MODELS_TRIED]:
        if (small := _best(other, job, facts, system, spec, engine)) is not None:
            yield other, small
            return


def _best(model: Model, job: ServeJob, facts: Facts, system: System, spec: str, engine: str) -> ServePlan | None:
    """The best plan of a model there; None: none fits or keeps the limits."""
    try:
        ask = ServeAsk(name=spec, model=model, system=system, engine=engine, job=job, facts=facts)
        rows, _, _ = solve_serving(replace(ask, fixed={"mode": ("aggregated",)}))
    except UserError:
        return None
    return rows[0].decode if rows[0].feasible and rows[0].decode else None


def _loads(
    model: Model, plan: ServePlan, system: System, engine: str, users: float, job: ServeJob, facts: Facts
) -> Iterator[tuple[float, float, Class]]:
    """(users of a group, prompt, what it is to measured rows) of the loads that are offered of a plan."""
    d = deploy(model, system, engine, [plan], facts, accept=job.accept, images=job.images)
    seen = set()
    for share, length in [*((share, 1.0) for share in _USERS), *((1.0, length) for length in _PROMPTS)]:
        each, prompt = max(1.0, round(users * share * plan.dp) / plan.dp), float(max(1, round(job.prompt * length)))
        if (each, prompt) not in seen:
            seen.add((each, prompt))
            yield each, prompt, d.class_of(0, users=each, prompt=prompt, output=job.output)


def _offer(load: _Load, job: ServeJob, system: System, spec: str, engine: str, row: Anchor) -> MeasuringOffer:
    plan, groups = load.plan, load.plan.dp
    users = round(load.users * groups)
    degrees = {name: value for name in ("tp", "pp", "dp", "cp", "ep") if (value := getattr(plan, name)) > 1}
    words = {**(degrees or {"tp": 1}), "kv": plan.kv}
    program = next((name for begin, name in _PROGRAMS.items() if engine.startswith(begin)), "")
    pinned = {**words, "weights": plan.weights}
    sets = " ".join(f"--set plan.{name}={value}" for name, value in pinned.items() if name != "cp")
    chips = -(-plan.devices // system.devices_per_chip)
    where = f"{parse_spec(spec)[0]}:{chips}"
    folder = f"next-{load.model.name}-{users}x{load.prompt:g}"
    commands: tuple[str, ...] = ()
    if program:
        commands = (
            f"mowich plan {load.model.name} --serve --isl {load.prompt:g} --osl {job.output:g} --on {where}"
            f" --set plan.mode=aggregated {sets} --set plan.sequences={max(1, round(load.users))}"
            f" --emit {program} --out {folder}",
            f"sh {folder}/benchmark/run.sh",
        )
    said = ",".join(f"{name}={value}" for name, value in {**words, "precision": plan.weights}.items())
    return MeasuringOffer(
        what=(
            f"{load.model.name} served by {engine}, {plan}: {users} users, {load.prompt:g}/{job.output:g} tokens,"
            " TTFT and TPOT"
        ),
        kind=SERVED_LOAD,
        where=where,
        commands=commands,
        reads=f"mowich calibrate {folder}/benchmark/result.json --on {where} --model {load.model.name} --plan {said}"
        " --out next.yaml",
        rows=(row,),
    )
