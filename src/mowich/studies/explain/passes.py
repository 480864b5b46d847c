"""A row of forward passes made again, at the plan that it states."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from mowich.economics import money
from mowich.estimate import Notes, Term
from mowich.facts import Facts
from mowich.models.model import Model
from mowich.plans.forward import ForwardPlan
from mowich.shown import Result
from mowich.studies.explain.source import Numbers, Source, note_costs
from mowich.studies.explain.tree import ResultPath, flat_numbers
from mowich.studies.forward import assess_forward, forward_laws, forward_platform
from mowich.studies.forward_answer import forward_job_of
from mowich.studies.forward_row import ForwardAsk

_OF_TIME = frozenset(("pass_s", "item_s", "items_per_s_per_chip", "mfu", "memory_B"))
"""Numbers that come from the laws of a pass."""


@dataclass(frozen=True)
class _Row:
    """A row that has an answer."""

    inputs: Result
    row: Result
    facts: Facts
    model: Model

    def ask(self, known: Facts) -> ForwardAsk:
        """The question of the row under other facts, at its plan."""
        return ForwardAsk(
            model=self.model,
            job=forward_job_of(self.inputs),
            on=str(self.row["system"]),
            system_id=str(self.row["system_id"]),
            chips=int(self.row["chips_requested"]),
            facts=known,
            stack=str(self.inputs.get("stack") or ""),
            plan=ForwardPlan.from_dict(self.row["plan"]),
            term=str(self.inputs["price_term"]),
        )

    def numbers(self, known: Facts, wanted: ResultPath) -> Numbers:
        """The numbers of the row under other facts."""
        return flat_numbers(assess_forward(self.ask(known), Notes()).to_dict())  # without a range

    @cached_property
    def laws(self) -> dict[str, Term]:
        """The laws of a pass, each with the facts that move it."""
        return forward_laws(self.ask(self.facts)).terms

    def terms(self, name: ResultPath, notes: Notes) -> None:
        """Record the laws behind a number."""
        if name[0] in _OF_TIME:
            notes.terms |= self.laws

    def record(self, name: ResultPath, known: Facts, notes: Notes) -> None:
        """Record the price and the power behind a number."""
        note_costs(name, [str(self.row["system_id"])], str(self.inputs["price_term"]), known, notes)

    def symbols(self, known: Facts) -> dict[str, float]:
        """What formulas read: the price of a chip."""
        system = forward_platform(self.ask(known))
        rate = money.price(known, system.id, term=str(self.inputs["price_term"])).rate.value
        return {"usable": system.hbm_usable_B, **({} if rate is None else {"price": rate})}


def forward_row(result: Result, at: ResultPath, row: Result, facts: Facts, model: Model) -> Source | None:
    """A row of forward passes made again; None where it has no plan."""
    if not row.get("plan"):
        return None
    own = _Row(inputs=result["inputs"], row=row, facts=facts, model=model)
    return Source(
        at=at,
        numbers=own.numbers,
        record=own.record,
        terms=own.terms,
        symbols=own.symbols,
        title=f"{row['system']}: {model.name}",
    )
