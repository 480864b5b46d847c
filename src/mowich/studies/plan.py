"""The best plans of one system: the question of `mowich plan`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from mowich.economics import money
from mowich.facts import Facts
from mowich.launch.origin import Origin, with_origin
from mowich.models.model import Model, as_trained
from mowich.plans import preference
from mowich.plans.plan import TrainJob
from mowich.plans.preference import Preferred
from mowich.shown import Rows, Shown
from mowich.software.stack import equip, stack_words
from mowich.studies.compare import Row, said_of_batch, solved, with_plan
from mowich.studies.outcome import SystemAsk
from mowich.studies.runnable import Compromise, Runs


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanList(Shown):
    """The best plans of one system: first the one to take, then the fastest of the others. preferred: that the first is
    not the fastest, but simpler. ask: the question, for what else is put to it (neighbours, the Pareto front, a
    timeline); seconds: time taken, for the eye: it is no part of `to_dict`.

    Units: SI (seconds, bytes, joules, watts), dollars; each number an `Estimate` with its 90% range and grade.

    Example:
        >>> import mowich
        >>> job = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
        >>> found = mowich.plan("llama-3.1-8b", "h100:64", train=job, top=2)
        >>> len(found.rows)
        2
    """

    inputs: Mapping[str, object]
    evaluated: int
    feasible: int
    seconds: float
    rows: Rows[Row]
    ask: SystemAsk | None = None
    preferred: Preferred | None = None
    warnings: tuple[str, ...] = ()
    compromise: Compromise | None = None

    def __getitem__(self, place: int) -> Row:
        """A plan, 0 the best; it knows what was asked, so that it can be explained."""
        return replace(self.rows[place], of=self)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return map(self.__getitem__, range(len(self)))

    def to_dict(self) -> dict[str, object]:
        """The `mowich/plan@1` contract."""
        return {
            "schema": "mowich/plan@1",
            "inputs": dict(self.inputs),
            "facts_hash": self.ask.facts.hash() if self.ask else None,
            "evaluated": self.evaluated,
            "feasible": self.feasible,
            "plans": [r.to_dict() for r in self.rows],
            **({"preferred": self.preferred.to_dict()} if self.preferred else {}),
            **({"warnings": list(self.warnings)} if self.warnings else {}),
            **({"compromise": asdict(self.compromise)} if self.compromise else {}),
        }


def plan(
    model: Model,
    spec: str,
    *,
    train: TrainJob,
    chips: int | None,
    facts: Facts,
    top: int = 5,
    fixed: Mapping[str, Sequence[int | str]] | None = None,
    term: str = "default",
    stack: str | None = None,
    runs: Runs = None,
) -> PlanList:
    """The `top` best plans of one system for one training job, the one to take first. runs: among which plans."""

    given, model = model, as_trained(model)

    system = equip(facts, spec, chips=chips, stack=stack)
    ask = SystemAsk(
        name=spec, system_id=system.id, chips=system.chips, stack=stack, model=model, facts=facts, job=train, term=term
    )
    rows, preferred = preferred_of(
        ask, fixed=fixed or {}, top=top, runs=runs
    )  # of one system: no break-even against each other
    counts = rows[0].search_counts
    inputs = {
        **given.inputs(),
        **train.inputs(),
        "systems": [
            {
                "system": spec,
                "id": system.id,
                "chips": system.chips,
                **stack_words(facts, system),
                "price_terms": money.quoted_terms(facts, system.id),
            }
        ],
        "fixed": {k: list(v) for k, v in (fixed or {}).items()},
        "price_term": term,
    }
    return PlanList(
        inputs=inputs,
        evaluated=int(counts.get("evaluated", 0)),
        feasible=int(counts.get("feasible", 0)),
        seconds=float(counts.get("seconds", 0.0)),
        rows=with_origin(Rows(rows), Origin(inputs=inputs, facts=facts, layers=model.num_layers)),
        ask=ask,
        preferred=preferred,
        warnings=tuple(said_of_batch([ask], rows[:1], fixed or {})),
    )


def preferred_of(
    ask: SystemAsk, *, fixed: Mapping[str, Sequence[int | str]], top: int, runs: Runs = None
) -> tuple[tuple[Row, ...], Preferred | None]:
    """The rows of `solve_system` with the plan to take first: of those within the margin of the fastest the simplest
    (`plans.preference`). Beside them what it is slower by, None where it is the fastest."""
    margin = preference.margin(ask.facts)
    rows, found = solved(ask, fixed=fixed, top=top, margin=margin, runs=runs)
    if found is None or not found.best or found.preferred is None or found.preferred == found.best[0]:
        return rows, None
    first, fastest = found.preferred, found.best[0]
    row = with_plan(ask, found, first, rows[0].feasible, rows[0].reason)
    kept = [other for other in rows if other.plan != first.plan]
    slower = first.seconds_per_token / fastest.seconds_per_token - 1.0
    return (row, *kept)[:top], Preferred(fastest=str(fastest.plan), slower=slower, within=margin)
