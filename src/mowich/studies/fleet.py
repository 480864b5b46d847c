"""`mowich fleet`: speeds of every workload on every system from `plan`, then what to buy, rent and assign, and how sure
that is.

The speeds are files: `rates` writes what `mowich plan` and `mowich plan --serve` answer for each task on each system,
with their ranges, and the optimiser reads that. So nothing in a fleet's answer was typed in but prices, supply and
power that a scenario gives as its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mowich.errors import UserError, UserErrors, placed
from mowich.estimate import product_of, unknown_estimate
from mowich.facts import Facts
from mowich.fleets.answer import Answer, ChipOrder, solve_fleet
from mowich.fleets.flips import Flip, flips
from mowich.fleets.goals import tokens_asked
from mowich.fleets.idle import IdleSystem, idle_systems
from mowich.fleets.problem import GOAL_UNITS, Choice, FleetProblem, FleetTask, Rate, TaskRates, read_rates
from mowich.fleets.programme import formulate
from mowich.fleets.read import read_problem
from mowich.fleets.robustness import Robustness, robustness, work_unit
from mowich.fleets.solve import Infeasible, optimise
from mowich.fleets.supply import SUPPLY_ENDS, at_supply_end, is_supplied_by_facts
from mowich.fleets.tenants import TenantFall, tenant_fall
from mowich.machines.system import resolve
from mowich.models import load_model
from mowich.models.model import as_trained
from mowich.plans.plan import TrainJob, parse_fixed
from mowich.plans.serving_choices import parse_serving
from mowich.progress import steps, tell
from mowich.requests import job_fields, jobs
from mowich.requests.fields import Field
from mowich.requests.scenarios import FleetRequest
from mowich.scenario import is_inline
from mowich.serving.search import ServeJob
from mowich.shown import Shown
from mowich.studies import serving_plan
from mowich.studies.batches import NEAR_BATCH
from mowich.studies.compare import solve_system as best_plans
from mowich.studies.heard import note_heard
from mowich.studies.outcome import SystemAsk
from mowich.studies.rl_rates import rollout_rate, update_rate
from mowich.studies.rl_row import RlAsk
from mowich.studies.rl_scenario import ask_of, read_rl
from mowich.sums import float_sum
from mowich.units import StepBatch

PER_CHIP = "1/s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet(Shown):
    """What was asked, the speeds it rests on, the answer, and (where asked for) how robust it is, where it flips, and
    what a tenant's fall strands. at_supply: end of the range of what facts say can be ordered (`SUPPLY_ENDS`) -> the
    first goal there, None where there is no plan; empty where no supply is of facts.

    Units: dollars, joules, chips.

    Example:
        >>> import mowich
        >>> mowich.fleet("startup", draws=0).answer.status  # doctest: +SKIP
        'optimal'
    """

    SCHEMA = "mowich/fleet@1"
    KEYS = (
        "inputs facts_hash complete status=answer.status goal=answer.goal objective=answer.value:finite unit "
        "bound=answer.bound:finite gap=answer.gap:finite usd=answer.usd:finite energy_J=answer.energy_J:finite "
        "stacks=answer.stacks periods=problem.labels demand_from=problem.demand_from:none buy=buys rent=rents "
        "resell=answer.sold assign=answer.assign done use=answer.uses idle binding=answer.binding "
        "single_vendor=answer.vendors conflict=answer.conflict rates=speeds warnings=remarks robust=spread? supply? "
        "tenant=fall? flips:none?"
    )

    problem: FleetProblem
    rates: TaskRates
    answer: Answer
    robust: Robustness | None = None
    flips: tuple[Flip, ...] = ()
    fall: TenantFall | None = None
    at_supply: Mapping[str, float | None] = field(default_factory=dict)
    facts_hash: str = ""
    inputs: Mapping[str, object] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def buys(self) -> list[ChipOrder]:
        """What to buy, in each period."""
        return [o for o in self.answer.orders if o.kind == "buy"]

    @property
    def rents(self) -> list[ChipOrder]:
        """What to rent, in each period."""
        return [o for o in self.answer.orders if o.kind == "rent"]

    @property
    def idle(self) -> tuple[IdleSystem, ...]:
        """What stands idle and why, most first."""
        return idle_systems(self.problem, self.rates, self.answer)

    def rows(self) -> list[dict[str, object]]:
        """Every order, bought or rented."""
        return [{"kind": order.kind, **order.to_dict()} for order in (*self.buys, *self.rents)]

    @property
    def complete(self) -> bool:
        """Whether all draws that were asked for were made."""
        return self.robust is None or self.robust.complete

    @property
    def unit(self) -> str:
        """Of the first goal."""
        return GOAL_UNITS[self.answer.goal]

    @property
    def done(self) -> list[dict[str, object]]:
        """What is done of each workload: over what is asked, and in tokens."""
        asked = {w.name: float_sum(tokens_asked(self.problem, t) for t in w.tasks) for w in self.problem.workloads}
        return [{"workload": k, "times": times, "tokens": times * asked[k]} for k, times in self.answer.done.items()]

    @property
    def speeds(self) -> list[dict[str, object]]:
        """The speeds without what predicted them."""
        return [{key: x for key, x in r.to_dict().items() if key != "source"} for r in self.rates.values()]

    @property
    def remarks(self) -> tuple[str, ...]:
        """Of the question and of its answer."""
        return (*self.warnings, *self.answer.warnings)

    @property
    def spread(self) -> dict[str, object] | None:
        """How robust the answer is; None: not asked."""
        goal = self.answer.goal
        robust = self.robust
        return None if robust is None else {"goal": goal, "share_of": work_unit(goal), **robust.to_dict()}

    @property
    def supply(self) -> dict[str, object] | None:
        """What can be ordered at most where facts say so; None: they do not."""
        rows = [
            {
                "system": o.system,
                "kind": o.kind,
                **o.supplied.to_dict(),
                "units": float(o.supply[0]),
                "unit_chips": c.unit_chips,
            }
            for c in self.problem.choices
            for o in c.offers
            if o.supplied is not None
        ]
        ends = {f"objective_at_{end}": self.at_supply[end] for end in SUPPLY_ENDS if end in self.at_supply}
        return {"goal": self.answer.goal, **ends, "rows": rows} if ends else None


# ---- speeds
# ----------------------------------------------------------------------------------------------------------------------


def predicted_rates(problem: FleetProblem, facts: Facts) -> dict[tuple[str, str], Rate]:
    """The speed of every task on every system allowed to it, from the best plan; unknown with the reason where it does
    not run."""
    asked = [(task, c.name) for w in problem.workloads for task in w.tasks for c in problem.allowed(w)]
    found: dict[str, dict[str, Rate]] = {}
    for choice in steps(problem.choices, "predicting speeds"):
        tell(f"on {choice.name}")
        found[choice.name] = speeds_of([task for task, system in asked if system == choice.name], choice, facts)
    return {(task.name, system): found[system][task.name] for task, system in asked}


def rate(task: FleetTask, choice: Choice, facts: Facts) -> Rate:
    """The speed of one task on one system."""
    rates = {"train": _train_rate, "serve": _serve_rate, "rollouts": _rl_rate, "updates": _rl_rate}
    return rates[str(task.ask["do"])](task, choice, facts)


def speeds_of(tasks: Sequence[FleetTask], choice: Choice, facts: Facts) -> dict[str, Rate]:
    """Task -> its speed on one system. Tasks that differ in their tokens alone have the same speed, predicted once: the
    plan is chosen by the time of a step, and goodput is that of a run of any length."""
    found: dict[tuple[tuple[str, str], ...], Rate] = {}
    out = {}
    for task in tasks:
        asked = tuple(sorted((key, str(value)) for key, value in task.ask.items() if key != "tokens"))
        if asked not in found:
            found[asked] = rate(task, choice, facts)
        out[task.name] = replace(found[asked], task=task.name)
    return out


def _asked(task: FleetTask, key: str, field: Field[float]) -> float:
    """A number of a task, as a question of its own would hold it. Raises UserError."""
    with placed(f"{task.name}.{key}"):
        return field.parse(task.ask[key])


def _chips(task: FleetTask, choice: Choice) -> int:
    """Chips that a task is put on: those that it names, else one unit."""
    given = task.ask.get("chips")
    return int(given) if isinstance(given, int | float) and given else choice.unit_chips


def _precisions(task: FleetTask) -> str:
    """The precisions that a task allows, with commas; "" for all."""
    allowed = task.ask.get("precision")
    return ",".join(map(str, allowed)) if isinstance(allowed, list | tuple) else ""


def _failed(task: FleetTask, choice: Choice, reason: str, chips: int) -> Rate:
    return Rate(
        task=task.name,
        system=choice.name,
        tokens_per_s_per_chip=unknown_estimate(PER_CHIP, reason),
        chips=chips,
        engine=_engine(task, choice),
    )


def _engine(task: FleetTask, choice: Choice) -> str:
    """The engine that a scenario names for what serves on a system; "" for what trains."""
    return "" if task.ask["do"] in ("train", "updates") else choice.engine


def _train_rate(task: FleetTask, choice: Choice, facts: Facts) -> Rate:
    ask = task.ask
    model = as_trained(load_model(str(ask["model"])))
    seq = int(_asked(task, "seq", job_fields.SEQ))
    where = f"{task.name}.batch"
    batch = StepBatch.read(ask["batch"], where=where)
    tokens = _asked(task, "tokens", job_fields.TOKENS)
    job = TrainJob(
        tokens=tokens, seq=seq, batch_seqs=batch.of(seq, where=where), batch_tolerance=batch.within or NEAR_BATCH
    )  # of units of any size
    chips = _chips(task, choice)
    fixed = parse_fixed({"precision": words} if (words := _precisions(task)) else {})
    system = resolve(facts, choice.system.id, chips=chips)
    row = best_plans(
        SystemAsk(
            name=choice.name,
            system_id=system.id,
            chips=chips,
            stack=None,
            model=model,
            facts=facts,
            job=job,
            term="default",
        ),
        fixed=fixed,
        brief=True,
    )[0]
    if row.plan is None or row.feasible is False:
        return _failed(task, choice, row.reason or "no plan fits", chips)
    paid = row.chips_used + row.chips_idle
    speed = product_of([(row.tokens_per_s_per_chip, 1.0), (row.goodput, 1.0)], PER_CHIP).scaled(
        row.chips_used / paid, PER_CHIP
    )
    return Rate(
        task=task.name,
        system=choice.name,
        tokens_per_s_per_chip=speed,
        chips=chips,
        plan=row.plan.to_dict(),
        source="mowich plan --train",
    )


def _serve_rate(task: FleetTask, choice: Choice, facts: Facts) -> Rate:
    ask = task.ask

    def limit(key: str) -> float:
        return _asked(task, key, job_fields.TTFT if key == "ttft" else job_fields.TPOT) if key in ask else math.inf

    job = ServeJob(
        prompt=_asked(task, "isl", job_fields.ISL),
        output=_asked(task, "osl", job_fields.OSL),
        ttft_s=limit("ttft"),
        tpot_s=limit("tpot"),
    )
    chips = _chips(task, choice)
    fixed = parse_serving({"weights": words} if (words := _precisions(task)) else {})
    row = serving_plan.compare_serving(
        jobs.CompareRequest(
            facts=facts,
            model=load_model(str(ask["model"])),
            systems=(choice.system.id,),
            serve=job,
            chips=chips,
            engine=choice.engine or None,
            fixed=fixed,
        )
    ).rows[0]
    if row.feasible is not True or row.decode is None:
        return _failed(task, choice, row.reason or "no plan meets the limits", chips)
    speed = row.tokens_per_s_per_chip.scaled(1.0, PER_CHIP)  # of all chips already, idle ones too
    plan = {**row.decode.to_dict(), "mode": row.mode, "batch": row.batch, "engine": row.engine}
    return Rate(
        task=task.name,
        system=choice.name,
        tokens_per_s_per_chip=speed,
        chips=chips,
        plan=plan,
        source="mowich plan --serve",
        engine=_engine(task, choice),
    )


def _rl_rate(task: FleetTask, choice: Choice, facts: Facts) -> Rate:
    """Rollouts or updates of a run that a scenario states, in tokens that are trained on."""
    ask, chips = task.ask, _chips(task, choice)
    run = _run(task, choice, facts)
    if words := _precisions(task):
        formats = tuple(words.split(","))
        made = replace(run.rollouts, fixed={**run.rollouts.fixed, "weights": formats})
        trained = replace(run.trainer, fixed={**run.trainer.fixed, "precision": formats})
        run = replace(run, rollouts=made, trainer=trained)
    makes = ask["do"] == "rollouts"
    system = choice.system.id
    found = rollout_rate(run, system, chips, engine=choice.engine) if makes else update_rate(run, system, chips)
    if found.tokens_per_s_per_chip.value is None:
        return _failed(task, choice, found.tokens_per_s_per_chip.reason or "no plan fits", chips)
    return Rate(
        task=task.name,
        system=choice.name,
        tokens_per_s_per_chip=found.tokens_per_s_per_chip,
        chips=chips,
        plan={**found.plan, **({"engine": found.engine} if found.engine else {})},
        source="mowich rl",
        engine=_engine(task, choice),
    )


def _run(task: FleetTask, choice: Choice, facts: Facts) -> RlAsk:
    """The run of a task. Its text in braces may leave open where it runs, because the fleet says that. Raises UserError
    for a mistake in it, at its key."""
    text = str(task.ask["run"])
    if not is_inline(text):
        return ask_of(read_rl(text, facts))
    stated = json.loads(text)
    if not {"on", "rollouts", "trainer"} & set(stated):
        stated |= {side: {"on": choice.system.id} for side in ("rollouts", "trainer")}
    try:
        return ask_of(read_rl(json.dumps(stated), facts))
    except UserError as wrong:
        for error in wrong.errors if isinstance(wrong, UserErrors) else [wrong]:
            error.where = f"{task.workload}.rl.run.{(error.where or '').rpartition(' ')[2]}".rstrip(".")
        raise


# ---- the study
# ----------------------------------------------------------------------------------------------------------------------


def _rates_file(problem: FleetProblem, scenario: Path, given: Path | None) -> Path | None:
    """The file of speeds that is given, else the one that the scenario names; None where neither is."""
    return given or (scenario.parent / problem.rates_file if problem.rates_file else None)


def known_rates(problem: FleetProblem, facts: Facts, scenario: Path, given: Path | None) -> tuple[TaskRates, list[str]]:
    """The speeds of a problem: from the file given, from the file that the scenario names, else predicted now. A file
    made from other facts is used and said; tasks or systems that a file lacks are predicted."""
    warnings = []
    found: dict[tuple[str, str], Rate] = {}
    file = _rates_file(problem, scenario, given)
    if file is not None:
        found, made_from = read_rates(file)
        if made_from and made_from != facts.hash():
            warnings.append(
                f"{file.name} was made from other facts ({made_from}, now {facts.hash()}): --rates-out FILE renews it"
            )
    asked = {(t.name, c.name): (t, c) for w in problem.workloads for t in w.tasks for c in problem.allowed(w)}
    warnings += [f"{' on '.join(key)} is not asked for: its speed is not used" for key in found if key not in asked]
    other = sorted(key for key, of in asked.items() if key in found and found[key].engine != _engine(*of))
    if other:
        named = ", ".join(" on ".join(key) for key in other)
        warnings.append(f"speeds of another engine than the scenario names are predicted anew: {named}")
    missing = [key for key in sorted(asked) if key not in found or key in other]
    for key in steps(missing, "predicting speeds"):
        tell(" on ".join(key))
        found[key] = rate(*asked[key], facts)
    return {key: found[key] for key in found if key in asked}, warnings


def fleet(
    asked: FleetRequest,
    *,
    problem: FleetProblem | None = None,
    speeds: TaskRates | None = None,
    beside: object = None,
) -> Fleet:
    """The answer to a scenario. problem: what it says, where it was read or changed; speeds: those of `problem`, where
    they are known; beside: what else decides the answer, where the scenario is no file or is changed.

    Raises UserError for bad input, and (exit 3) where a workload runs on no system allowed to it.
    """
    assert asked.scenario is not None
    path, facts, draws, seed, tenant = asked.scenario, asked.facts, asked.draws, asked.seed, asked.tenant
    problem = problem or read_problem(path, facts)
    warnings: list[str] = []
    if speeds is None:
        speeds, warnings = known_rates(problem, facts, path, asked.rates)
    found = solve_fleet(problem, speeds, relaxed=asked.relaxed, gap=asked.gap, time_limit_s=asked.time_limit_s)
    robust = robustness(problem, speeds, found, draws=draws, seed=seed) if draws and found.is_feasible else None
    turning = flips(problem, speeds) if asked.flips and found.is_feasible else ()
    fall = None
    if tenant is not None and found.is_feasible:
        tell(f"what a fall of {tenant[0]} strands")
        fall = tenant_fall(problem, speeds, *tenant)
    inputs = {
        "scenario": str(path),
        "name": problem.name,
        "relaxed": asked.relaxed,
        "gap": asked.gap,
        "draws": draws,
        "seed": seed,
        "goals": list(problem.goals),
        **({"tenant": {"name": tenant[0], "share": tenant[1]}} if tenant is not None else {}),
    }
    answer = Fleet(
        problem=problem,
        rates=speeds,
        answer=found,
        robust=robust,
        flips=turning,
        fall=fall,
        at_supply=at_supply_ends(problem, speeds) if found.is_feasible else {},
        facts_hash=facts.hash(),
        inputs=inputs,
        warnings=tuple(warnings),
    )
    question = [
        str(path) if is_inline(path) else path,
        _rates_file(problem, path, asked.rates),
        beside,
        asked.relaxed,
        asked.gap,
        asked.time_limit_s,
        draws,
        asked.flips,
        seed,
        tenant,
    ]
    return note_heard(answer, facts, question=question)


def at_supply_ends(problem: FleetProblem, speeds: TaskRates) -> dict[str, float | None]:
    """The first goal with the supply that facts have at either end of its range, fractions of units allowed; None where
    there is no plan. Empty where no supply is of facts."""
    if not is_supplied_by_facts(problem):
        return {}
    out: dict[str, float | None] = {}
    for end in SUPPLY_ENDS:
        programme = formulate(at_supply_end(problem, end), speeds)
        try:
            goal = optimise(programme, goals=problem.goals[:1], integer=False).goals[programme.first]
        except Infeasible:
            out[end] = None
        else:
            out[end] = programme.amount(programme.first, goal)
    return out


# ---- a chip as design
# ----------------------------------------------------------------------------------------------------------------------
