"""The answer of `mowich rl`: a run on given machines, or the runs beside the split that a search found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mowich.requests.rl import RlRequest
from mowich.shown import Rows, Shown
from mowich.studies.heard import heard
from mowich.studies.rl import assess
from mowich.studies.rl_row import RlRow
from mowich.studies.rl_scenario import ask_of

if TYPE_CHECKING:
    from mowich.studies.rl_split import RlSplit


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

    SCHEMA = "mowich/rl@1"
    KEYS = "inputs facts_hash **top rows split timeline warnings"

    rows: Rows[RlRow]
    split: RlSplit | None
    inputs: Mapping[str, object]
    facts_hash: str
    warnings: tuple[str, ...] = ()

    @property
    def is_feasible(self) -> bool:
        """Whether any row has an answer."""
        return any(row.feasible for row in self.rows)

    @property
    def top(self) -> dict[str, object] | None:
        """Numbers of the first row, which stand at the top too."""
        return {key: value for key, value in self.rows[0].to_dict().items() if key in FIRST_ROW} if self.rows else None

    @property
    def timeline(self) -> list[list[object]]:
        """Who works when in the first row: lane, what, version of the weights, from and to, seconds."""
        cycle = self.rows[0].cycle if self.rows else None
        return [] if cycle is None else [[s.lane, s.what, s.version, s.from_s, s.to_s] for s in cycle.spans]


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
    inputs = {**asked.to_dict(), "asked": dict(asked.again), **model_inputs(asked)}
    return RlAnswer(rows=Rows(rows), split=split, inputs=inputs, facts_hash=asked.facts.hash())


def rl_found(asked: RlRequest) -> RlAnswer:
    """`rl`, with what the answer did with the facts that were given. A search takes seconds, so it is not asked again
    to find facts that move nothing."""
    return heard(again=asked.chips is None)(rl)(asked)


def model_inputs(asked: RlRequest) -> dict[str, object]:
    """The model as results state it."""
    return {**asked.model.inputs(), "model_given": asked.model_given, "model_params": asked.model.params}
