"""`mowich next`: which measurements would narrow the range of an answer most.

The range of a number has parts. Each measurement that could be made on a chip is judged by what it would tell of them,
before anybody makes it (`evidence.prospects`). Those that are chosen are then put in as if each had come out as is
predicted today, as `mowich calibrate` or `--set` would put them in, and the same question is asked again: the ranges of
the answer are those that it would have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from mowich.errors import UserError
from mowich.estimate import Estimate
from mowich.evidence.fitting.overlay import overlay_text
from mowich.evidence.prospects import worth_most
from mowich.facts import Facts
from mowich.machines.system import System, resolve
from mowich.requests.next_measure import NextRequest
from mowich.requests.results import facts_of_result
from mowich.shown import Keyed, Result, Rows, Shown
from mowich.studies.asked import question_words
from mowich.studies.explain import Explainer
from mowich.studies.explain.tree import ResultPath, at, find_path, is_estimate, name_of
from mowich.studies.job_answers import ask_here
from mowich.studies.next_offers import AskWords, MeasuringOffer, MeasuringOffers, Rest, offers_beside
from mowich.studies.next_prices import price_offers, squared
from mowich.studies.next_serving import served_offers
from mowich.studies.next_training import trained_offers
from mowich.sums import float_sum
from mowich.writing import write_file

ASKED_NUMBERS = ("usd_per_mtok", "step_s", "tokens_per_s_per_chip", "tpot_s", "ttft_s")
"""Numbers of a row that are asked about where no number is named: the first that has a value and a range."""
_LEAST_TAKEN = 0.01
"""A measurement that takes less than this share off the half-width of the answer is not told."""
ASKED_SCHEMAS = ("mowich/compare@1", "mowich/plan@1")


@dataclass(frozen=True, slots=True, kw_only=True)
class NextRow(Keyed):
    """A measurement that is chosen. alone: half-width of the range with it alone over that of today; left: with it and
    those before it; after: the number then. The question itself answers them."""

    KEYS = (
        "what=offer.what kind=offer.kind where=offer.where alone left after commands=offer.commands reads=offer.reads"
    )

    offer: MeasuringOffer
    alone: float
    left: float
    after: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class NextMeasurements(Shown):
    """Which measurements come next. question: the command; on: where they can be made; number: as `explain` names it;
    estimate: today; offered: measurements that were judged; remains: what none of them takes away.

    Units: of the number; ratios are of half-widths in ln.

    Example:
        >>> import mowich
        >>> asked = "plan llama-3.1-8b --serve --isl 2k --osl 500 --tpot 20ms --on h200:1"
        >>> found = mowich.next_measurements(asked, on="h200:1", budget=1)
        >>> found.rows[0].left < 1.0
        True
    """

    SCHEMA = "mowich/next@1"
    KEYS = "inputs facts_hash question on number now=estimate offered rows remains"

    question: str
    on: str
    number: str
    estimate: Estimate
    rows: Rows[NextRow]
    offered: int
    remains: tuple[str, ...]
    inputs: Mapping[str, object]
    facts_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A question with its answer. path: of the number."""

    words: Sequence[str]
    result: Result
    path: ResultPath
    facts: Facts
    system: System
    spec: str
    ask: AskWords

    @property
    def row(self) -> Result:
        found: Result = at(self.result, self.path[:2])
        return found

    @property
    def number(self) -> str:
        """The last word of the number's name."""
        return str(self.path[-1])

    def again(self, more: Sequence[str]) -> Result | None:
        """The row of the number with more words of the question; None where it has none then."""
        try:
            result = self.ask([*self.words, *more])
        except UserError:
            return None
        rows = result.get(str(self.path[0])) or []
        same = [one for one in rows if one["system"] == self.row["system"]]
        return same[0] if same and same[0][self.number]["value"] is not None else None


def next_measurements(asked: NextRequest) -> NextMeasurements:
    """The measurements of a budget. Raises UserError for another kind of question, without a row of the chip, or
    without a number that has a range."""
    words, ask = question_words(asked.question), partial(ask_here, facts=asked.facts, model=asked.model)
    result = ask(words)
    facts = facts_of_result(result) if asked.facts is None else asked.facts
    if result["schema"] not in ASKED_SCHEMAS or result["inputs"].get("task") not in ("serve", "train"):
        raise UserError(
            "is a question that no measurements are chosen for",
            field="for",
            given=asked.question,
            allowed="compare or plan, with --train or --serve, and no load (--rate, --users)",
        )
    system = resolve(facts, asked.on)
    path = _number(result, facts, system, asked)
    known = _Asked(words=words, result=result, path=path, facts=facts, system=system, spec=asked.on, ask=ask)
    found = _offers(known)
    said = {"for": asked.question, "on": asked.on, "number": asked.number, "budget": asked.budget}
    return NextMeasurements(
        question=asked.question,
        on=asked.on,
        number=name_of(result, path),
        estimate=Estimate.from_dict(at(result, path)),
        rows=Rows(_chosen(known, found, asked.budget)),
        offered=len(found.offers),
        remains=found.remains,
        inputs={**said, "set": [], "facts_dirs": []},
        facts_hash=str(result["facts_hash"]),
    )


def _number(result: Result, facts: Facts, system: System, asked: NextRequest) -> ResultPath:
    """The path of the number that is asked of, in a row of the chip."""
    main = "rows" if "rows" in result else "plans"
    rows = result[main]
    here = [i for i, row in enumerate(rows) if facts.meta("systems", row["system_id"])["chip"] == system.chip]
    if not here:
        raise UserError(
            f"the question has no row of {system.chip}",
            field="on",
            given=asked.on,
            allowed=", ".join(str(row["system"]) for row in rows),
        )
    ranged = [(main, i, key) for i in here for key, node in rows[i].items() if is_estimate(node) and squared(node)]
    if asked.number is not None:
        path = find_path(result, asked.number)
        if path not in ranged:
            allowed = ", ".join(name_of(result, one) for one in ranged)
            raise UserError(
                f"is not a number with a range in a row of {system.chip}",
                field="number",
                given=asked.number,
                allowed=allowed,
            )
        return path
    chosen = next((one for name in ASKED_NUMBERS for one in ranged if one[2] == name), None)
    if chosen is None:
        row = rows[here[0]]
        raise UserError(f"no number of the row has a range: {row['reason']}", field="for", given=str(row["system"]))
    return chosen


def _offers(asked: _Asked) -> MeasuringOffers:
    """Everything that could be measured; the last part of the range is told by no offer."""
    result, facts, system = asked.result, asked.facts, asked.system

    def with_sets(sets: Sequence[str]) -> Result | None:
        return asked.again([word for one in sets for word in ("--set", one)])

    model = Explainer(result, facts).model()
    if result["inputs"]["task"] == "serve":
        own = served_offers(result, asked.row, model, facts, system, asked.spec, asked.number)
    else:
        own = trained_offers(result, asked.row, model, facts, system, asked.spec, asked.ask)
    found = offers_beside(own, price_offers(asked.row, facts, system, asked.number, with_sets))
    rest = squared(asked.row[asked.number]) - float_sum(part.before for part in found.parts)
    return replace(found, parts=(*found.parts, Rest(before=max(0.0, rest))))


def _chosen(asked: _Asked, found: MeasuringOffers, budget: int) -> list[NextRow]:
    """The measurements of a budget, each with the answer that the question has with it and those before it. What the
    question asked again does not narrow by is left out."""
    before = math.sqrt(squared(asked.row[asked.number]))
    made: list[int] = []
    out: list[NextRow] = []

    def after(places: Sequence[int]) -> Estimate | None:
        with TemporaryDirectory() as folder:
            row = asked.again(_measured(asked, found, places, Path(folder) / "next.yaml"))
        return None if row is None else Estimate.from_dict(row[asked.number])

    for one in worth_most(found.parts, len(found.offers), len(found.offers)):
        if len(out) == budget:
            break
        then = after([*made, one.place])
        left = math.sqrt(squared(then)) / before if then is not None else math.inf
        if then is None or left > (out[-1].left if out else 1.0) * (1.0 - _LEAST_TAKEN):
            continue
        alone = after([one.place]) if made else then
        by_itself = math.sqrt(squared(alone)) / before if alone is not None else 1.0
        made.append(one.place)
        out.append(NextRow(offer=found.offers[one.place], alone=by_itself, left=left, after=then))
    return out


def _measured(asked: _Asked, found: MeasuringOffers, made: Sequence[int], file: Path) -> list[str]:
    """Words that put measurements into the question, as if each had come out as is predicted today."""
    chosen = [found.offers[k] for k in made]
    rows = [row for one in chosen for row in one.rows]
    words = [word for one in chosen for text in one.sets for word in ("--set", text)]
    fitted, posterior = found.fitted(made) if found.fitted is not None else ((), None)
    if not rows and not fitted:
        return words
    text = overlay_text(fitted, file, ["expected results"], len(made), asked.facts, rows, posterior)
    write_file(file, text, field="overlay", given=str(file))
    return [*words, "--facts", str(file)]
