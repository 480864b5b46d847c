"""`mowich explain`: where a number of any result comes from, as data.

`explain(result, "trn3.step_s.ep", facts)` takes the JSON object of any verb. `tree` names its numbers, and `rules` says
what each is. One module a verb makes a number again from the inputs that the result holds: `training` and `serving` for
plans, the others by the name of their verb. Most call their study again and read the number at the same path. Where
that would be slow (a search, a programme, draws), they call the part that made the number, with what the search chose
held fixed. `explainer` puts the answer together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mowich.facts import Facts
from mowich.requests.results import ExplainRequest
from mowich.shown import Result
from mowich.studies.explain.explanation import Explanation, Move
from mowich.studies.explain.tree import name_of, numbers

if TYPE_CHECKING:
    from mowich.models.model import Model
    from mowich.studies.explain.explainer import Explainer

__all__ = ["Explainer", "Explanation", "Move", "explain", "metric_explained", "metrics"]


def __getattr__(name: str) -> object:
    # The explainer brings every study. A study that says what its numbers are takes this package too, and no other.
    if name != "Explainer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mowich.studies.explain.explainer import Explainer

    return Explainer


def explain(
    result: Result, metric: str, facts: Facts, *, model: Model | None = None, sensitivity: bool = True
) -> Explanation:
    """The number called `metric` of a result: "trn3.step_s", "trn3.step_s.ep", "1.goodput", "ttft_s.p99",
    "DEEPSEEK.memory_B.weights".

    facts: those that the result was made with; model: as loaded (None: by the name in the result); sensitivity: move
    the facts. Raises UserError for an unknown name with the closest one, and for a row that has no plan.
    """
    from mowich.studies.explain.explainer import Explainer

    return Explainer(result, facts, model).explain(metric, sensitivity=sensitivity)


def metric_explained(asked: ExplainRequest) -> Explanation:
    """The number that a question names. Raises UserError where it names no number."""
    assert asked.metric is not None
    return explain(asked.data, asked.metric, asked.facts, model=asked.model)


def metrics(result: Result) -> list[str]:
    """Names of every number of a result, in its order; each can be explained."""
    return [name_of(result, path) for path in numbers(result)]
