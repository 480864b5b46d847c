"""`plan --emit`: the best of the plans that a program can run, and what that costs against the best of all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from mowich.errors import UserError
from mowich.launch.origin import LaunchedRow, Origin
from mowich.plans.plan import Plan, stated_plan
from mowich.shown import Rows

Runs = Callable[[Plan, int], bool] | None
"""Whether a plan with a batch of so many sequences may be taken (None: any)."""

WIDE = (64, 512)
"""Training plans, the best first, among which those are looked for that a program can run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compromise:
    """What a program's plan costs. why: what it cannot run of the best plan; costlier: cost of a token against that of
    the best plan, less one (None: not known)."""

    program: str
    why: str
    costlier: float | None

    def words(self) -> str:
        """One line.

        >>> print(Compromise(program="vllm", why="plan.ep=4", costlier=0.031).words())
        the best plan that vllm can run: a token costs 3.1% more than with the best plan, whose plan.ep=4 it cannot run
        """
        more = "" if self.costlier is None else f" a token costs {100.0 * self.costlier:.1f}% more than with"
        return f"the best plan that {self.program} can run:{more} the best plan, whose {self.why} it cannot run"


R = TypeVar("R", bound=LaunchedRow)


def runnable(
    rows: Rows[R], program: str, worth: Callable[[R], float | None], search: Callable[[], Rows[R]]
) -> tuple[Rows[R], Compromise | None]:
    """The rows that a program can run, best first: those that were found, where it can run the first, else what a
    search among such plans finds. worth: tokens for the same money. Raises UserError where there are none: why it
    cannot run the best."""
    why = _refusal(rows[0], program)
    if why is None:
        return Rows(row for row in rows if _refusal(row, program) is None), None
    if why.field == "emit":
        raise why
    try:
        found = Rows(row for row in search() if _refusal(row, program) is None)
    except UserError:
        raise why from None
    if not found:
        raise why
    best, mine = worth(rows[0]), worth(found[0])
    costlier = None if not best or not mine else max(0.0, best / mine - 1.0)
    return found, Compromise(program=program, why=f"{why.field}={why.given}", costlier=costlier)


def _refusal(row: LaunchedRow, program: str) -> UserError | None:
    """Why a program cannot run the plan of a row."""
    try:
        row.emit(program)
    except UserError as error:
        return error
    return None


def train_filter(program: str, of: Origin, spec: str, chips: int, lnc: int) -> Callable[[Plan, int], bool]:
    """Whether a program can train with a plan at a batch of so many sequences, as a function. of: what was asked; spec,
    chips, lnc: the system."""
    from mowich.launch.emitted import emitted

    def runs(plan: Plan, batch_seqs: int) -> bool:
        row = {
            "system": spec,
            "chips_requested": chips,
            "global_batch_seqs": batch_seqs,
            "plan": stated_plan(plan, lnc),
        }
        try:
            emitted(program, of.inputs, row, of.facts, layers=of.layers)
        except UserError:
            return False
        return True

    return runs
