"""The answer of `mowich rl`: a run on given machines, or the runs beside the split that a search found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mowich.machines.system import resolve
from mowich.plans.plan import stated_plan
from mowich.requests.rl import RlRequest
from mowich.rl.frameworks import read_framework
from mowich.shown import Rows, Shown
from mowich.software.engine import engine_for
from mowich.studies.heard import heard
from mowich.studies.rl import assess, trainer_platform
from mowich.studies.rl_row import RlRow
from mowich.studies.rl_scenario import ask_of, scenario_keys

if TYPE_CHECKING:
    from mowich.studies.rl_split import RlSplit


def row_name(row: RlRow) -> str:
    """What a row is called, in one word of a shell: its chips, of rollouts first where they are apart."""
    makes, trains = row.ask.rollouts, row.ask.trainer
    sized = [f"{side.system_id}:{side.chips}" for side in (makes, trains)]
    return sized[0] if row.ask.job.placement == "colocated" else "+".join(sized)


def row_dict(row: RlRow) -> dict[str, object]:
    """A row of mowich/rl@1."""
    ask, makes, trains = row.ask, row.ask.rollouts, row.ask.trainer
    maker = resolve(ask.facts, makes.system_id, chips=makes.chips)
    machine = trainer_platform(ask, read_framework(ask.facts, ask.framework, ask.framework_release))
    parts = {name: part.to_dict() for name, part in row.parts.items()}
    values: dict[str, float] = {name: part.value for name, part in row.parts.items() if part.value is not None}
    is_known = row.step_s.value is not None and len(values) == len(row.parts)
    return {
        "name": row_name(row),
        "placement": ask.job.placement,
        "rollouts": {
            "system": makes.system_id,
            "chips": makes.chips,
            "engine": engine_for(ask.facts, maker, makes.engine or None, ask.model),
            "plan": None if row.rollout_plan is None else stated_plan(row.rollout_plan, maker.lnc),
            "workers": row.workers,
        },
        "trainer": {
            "system": trains.system_id,
            "chips": trains.chips,
            "stack": machine.stack.name,
            "plan": None if row.trainer_plan is None else stated_plan(row.trainer_plan, machine.lnc),
        },
        "chips": _chips_of(row),
        "feasible": not row.reason,
        "reason": row.reason or None,
        "step_s": (replace(row.step_s, breakdown=values) if is_known else row.step_s).to_dict(),
        "parts": parts,
        "binds": row.binds,
        "closed_form_s": row.closed_s,
        "tokens_per_s_per_chip": row.tokens_per_s_per_chip.to_dict(),
        "trainer_wait_frac": row.trainer_wait_frac.to_dict(),
        "rollout_idle_frac": row.rollout_idle_frac.to_dict(),
        "longest_s": row.longest_s.to_dict(),
        "staleness": {"mean": row.staleness_mean.to_dict(), "max": row.staleness_max},
        "sync": {
            "method": row.sync_method or ask.sync or None,
            "seen_s": row.sync_seen_s.to_dict(),
            "hidden_s": row.sync_hidden_s.to_dict(),
        },
        "usd_per_mtok": row.usd_per_mtok.to_dict(),
        "J_per_token": row.J_per_token.to_dict(),
        "price": row.price_label or None,
        "power_basis": row.power_basis,
        "assumed": list(row.assumed),
    }


def _chips_of(row: RlRow) -> int:
    """Chips that are paid for: of both sides, and of a judge."""
    ask = row.ask
    both = ask.rollouts.chips + (0 if ask.job.placement == "colocated" else ask.trainer.chips)
    return both + ask.job.environment.judge_chips


@dataclass(frozen=True, slots=True, kw_only=True)
class RlAnswer(Shown):
    """What a step of a run comes to. rows: one where machines are stated; of a search the split first, then one vendor
    alone and chips that take turns; split: what the search found (None: no search); inputs: the question, by the keys
    of a scenario, what was taken filled in.

    Units: seconds, tokens/s, dollars per million trained tokens, joules per token; shares.

    Example:
        >>> import mowich
        >>> run = mowich.rl("rl-nemo-8b")
        >>> run.rows[0].step_s.unit
        's'
    """

    rows: Rows[RlRow]
    split: RlSplit | None
    inputs: Mapping[str, object]
    facts_hash: str
    warnings: tuple[str, ...] = ()

    @property
    def is_feasible(self) -> bool:
        """Whether any row has an answer."""
        return any(not row.reason for row in self.rows)

    def to_dict(self) -> dict[str, object]:
        """The JSON contract mowich/rl@1; the numbers of the first row stand at the top too."""
        rows = [row_dict(row) for row in self.rows]
        top = {name: rows[0][name] for name in FIRST_ROW} if rows else {}
        cycle = self.rows[0].cycle if self.rows else None
        spans = () if cycle is None else cycle.spans
        return {
            "schema": "mowich/rl@1",
            "inputs": dict(self.inputs),
            "facts_hash": self.facts_hash,
            **top,
            "rows": rows,
            "split": None if self.split is None else self.split.to_dict(),
            "timeline": [[s.lane, s.what, s.version, s.from_s, s.to_s] for s in spans],
            "warnings": list(self.warnings),
        }


FIRST_ROW = ("step_s", "parts", "trainer_wait_frac", "staleness", "usd_per_mtok")
"""Numbers of the first row that stand at the top of the answer too."""


def rl(asked: RlRequest) -> RlAnswer:
    """What a question asks for. Raises UserError for machines and plans that do not go together."""
    ask, split, rows = ask_of(asked), None, list[RlRow]()
    if asked.chips is None:
        rows = [assess(ask)]
    else:
        from mowich.studies.rl_split import SplitAsk, find_split

        found = SplitAsk(base=ask, chips=asked.chips, systems=asked.systems, goal=asked.goal)
        split = find_split(found if asked.budget is None else replace(found, budget=asked.budget))
        rows = [row.row for row in split.rows]
    inputs = {**scenario_keys(asked), "asked": dict(asked.again), **model_inputs(asked)}
    return RlAnswer(rows=Rows(rows), split=split, inputs=inputs, facts_hash=asked.facts.hash())


def rl_found(asked: RlRequest) -> RlAnswer:
    """The same, with what it did with the facts that were given. A search takes seconds: nobody looks for what moves
    nothing in it."""
    return heard(again=asked.chips is None)(rl)(asked)


def model_inputs(asked: RlRequest) -> dict[str, object]:
    """The model as results state it."""
    return {**asked.model.inputs(), "model_given": asked.model_given, "model_params": asked.model.params}
