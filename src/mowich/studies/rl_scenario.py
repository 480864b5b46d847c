"""A question of reinforcement learning as the runs that it asks for: systems, engines and plans looked up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mowich.errors import UserError
from mowich.facts import Facts
from mowich.machines.system import System, resolve
from mowich.models.model import Model
from mowich.plans.plan import ServePlan
from mowich.plans.serving_choices import DEGREES
from mowich.readback import record_of
from mowich.requests.fields import Edge
from mowich.requests.jobs import PlanRequest
from mowich.requests.rl import RL, RlRequest
from mowich.requests.rl_fields import JUDGE_ON, QUESTION, ROLLOUT_PLAN
from mowich.requests.schema import QuestionSource
from mowich.rl.frameworks import read_framework
from mowich.serving.search import ServeJob
from mowich.software.engine import engine_for
from mowich.studies.rl import FRAMEWORKS_RUN_ON
from mowich.studies.rl_row import RlAsk, RolloutAsk, TrainerAsk
from mowich.studies.serving import check_layout
from mowich.studies.serving_plan import native_weights, plan_serving


def read_rl(scenario: str | Path, facts: Facts, **given: object) -> RlRequest:
    """The question of a scenario: a file, the name of one that ships, or its text in braces. given: fields that win
    over it. Raises UserErrors, each with file and line."""
    values = {QUESTION.name: scenario, **given}
    return RL.read(values, QuestionSource(edge=Edge.KEYWORD, facts=facts))


def ask_of(asked: RlRequest) -> RlAsk:
    """The run that a question asks for; of a search for a split the run without sizes, on its first system. Raises
    UserError for a worker's plan that its system or model does not allow."""
    facts = asked.facts
    here = asked.systems[0] if asked.systems else ""
    makes, trains = asked.rollouts or here, asked.trainer or here
    rollouts, trainer = resolve(facts, makes), resolve(facts, trains)
    is_search = asked.chips is not None
    engine = asked.engine or ""
    if asked.framework and not engine and rollouts.vendor == FRAMEWORKS_RUN_ON:
        engine = read_framework(facts, asked.framework, asked.framework_release).engine
    if engine or not is_search:
        engine = engine_for(facts, rollouts, engine or None, asked.model)
    plan = None if is_search else _worker_plan(asked, asked.model, rollouts)
    judge = asked.judge
    job = asked.job()
    if judge is not None:
        rate, chips = judged_per_s(asked)
        job = replace(job, environment=replace(job.environment, judged_per_s=rate, judge_chips=chips))
    return record_of(
        RlAsk,
        asked,
        job=job,
        rollouts=record_of(
            RolloutAsk,
            asked,
            on=makes,
            system_id=rollouts.id,
            chips=rollouts.chips,
            engine=engine,
            release=asked.release or "",
            plan=plan,
            fixed={} if plan is not None else asked.rollout_plan,
        ),
        trainer=TrainerAsk(
            on=trains, system_id=trainer.id, chips=trainer.chips, stack=asked.stack, fixed=asked.trainer_plan
        ),
        judge_id="" if judge is None else resolve(facts, judge.on).id,
    )


def _worker_plan(asked: RlRequest, model: Model, system: System) -> ServePlan | None:
    """The plan of a worker where degrees are stated, those that are not are 1; None where the search finds it."""
    given = asked.rollout_plan
    if not any(name in given for name in DEGREES):
        return None
    where = asked.said(ROLLOUT_PLAN)
    several = next((name for name, values in given.items() if len(values) > 1), None)
    if several is not None:
        raise UserError("one plan of a worker", where=f"{where}.{several}", given=given[several], allowed="one value")
    one: Mapping[str, int | str] = {name: values[0] for name, values in given.items()}
    weights = one.get("weights") or native_weights(model, system, asked.facts)
    plan = ServePlan.from_dict({**dict.fromkeys(DEGREES, 1), "precision": weights, "kv": "bf16", **one})
    check_layout(model, system, plan, where)
    return plan


def judged_per_s(asked: RlRequest) -> tuple[float, int]:
    """(samples that the judge's chips rate in a second, chips): by the serving plan of most tokens per second. Raises
    UserError where the judge does not fit its chips."""
    judge = asked.judge
    assert judge is not None
    lengths = asked.lengths.lengths()
    job = ServeJob(prompt=asked.prompt + lengths.mean, output=judge.tokens)
    chips = resolve(asked.facts, judge.on).chips
    row = plan_serving(PlanRequest(facts=asked.facts, model=judge.model, systems=(judge.on,), serve=job, top=1)).rows[0]
    if row.tokens_per_s_per_chip.value is None:
        raise UserError("the judge does not run there", where=asked.said(JUDGE_ON), given=judge.on, fix=row.reason)
    return row.tokens_per_s_per_chip.value * chips / judge.tokens, chips
