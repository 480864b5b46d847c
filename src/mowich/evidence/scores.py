"""How far predictions are from measurements: the score of one row, statistics of many, and the errors of rows left out
of the fit.

Training and serving are scored in the same form; `validate` and `serving_validate` make the predictions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict, TypeVar

import numpy as np

from mowich.estimate import Estimate
from mowich.evidence.measured_tables import SHIPPED, TRAINIUM, TRAINIUM_COLLECTIVES, is_time
from mowich.evidence.row_checks import PublishedRow
from mowich.shown import Keyed, Rows, Shown, plain_json

if TYPE_CHECKING:
    from mowich.evidence.rows import Case


FITTED_TO: Mapping[str, str] = {
    SHIPPED: "training",
    TRAINIUM: "serving on Trainium",
    TRAINIUM_COLLECTIVES: "collectives on Trainium",
}
"""Shipped rows -> `LeftOut.work` of their errors when they are left out of the fit."""

PASS_METRIC = "pass_ms"
"""Metric of measured passes of whole models: milliseconds of one pass."""

KERNEL_ERRORS = "kernels"
"""`LeftOut.work` of measured kernels on the kernel clock. The kernels do not ship; their errors do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryScore(Keyed):
    """Bytes of a device that a program's allocator held: stated by the row, and predicted with the 90% range."""

    KEYS = "measured predicted low high ratio abs_error"

    measured: float
    predicted: float
    low: float
    high: float

    @property
    def ratio(self) -> float:
        return self.predicted / self.measured

    @property
    def abs_error(self) -> float:
        """max(ratio, 1/ratio) - 1."""
        return max(self.ratio, 1.0 / self.ratio) - 1.0

    @property
    def is_covered(self) -> bool:
        """Whether the measured figure lies in the 90% interval."""
        return self.low <= self.measured <= self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class RowResult(Keyed):
    """One row. ratio: predicted time over measured time (above 1: predicted slower), whatever the metric. measured,
    predicted, low, high are in the metric's unit. seconds, measured and predicted, are per step. grade: D on chips to
    whose family no constant was fitted, else C. stack: who served, with which kernels ("": not stated). hand_tuned: on
    Trainium, the figure of the plan with hand-tuned kernels; hand_tuned_coverage: share of that time for which such
    kernels were timed. fits_memory: whether the plan fits its device by our memory model; others ran offload or a
    policy that is not modelled, and are scored apart. memory: where the row states it. Unsupported rows have a reason
    and no figures."""

    KEYS = (
        "id status reason metric measured predicted low high ratio abs_error chip source kind fully_specified "
        "grade hand_tuned hand_tuned_coverage fits_memory model=case.model.name inferred memory? stack:none?"
    )

    id: str
    metric: str
    chip: str
    source: str
    kind: str
    reason: str | None = None
    inferred: tuple[str, ...] = ()
    measured: float | None = None
    predicted: float | None = None
    low: float | None = None
    high: float | None = None
    ratio: float | None = None
    fully_specified: bool = True
    case: Case | None = None
    parts: Mapping[str, float] | None = None
    hand_tuned: float | None = None
    hand_tuned_coverage: float | None = None
    grade: str | None = None
    fits_memory: bool | None = None
    memory: MemoryScore | None = None
    stack: str = ""

    @classmethod
    def refused(cls, row: PublishedRow, reason: str, *metrics: str, source: str = "source") -> list[RowResult]:
        """Results of a refused row, without figures: one for each metric that it states, and one where it states none.
        source: the column of its source."""
        return [
            cls(
                id=row["id"],
                reason=reason,
                metric=metric,
                chip=row["chip"],
                source=row.get(source, ""),
                kind="unsupported",
                fully_specified=False,
                stack=row.get("stack") or "",
            )
            for metric in [metric for metric in metrics if metric] or ["none"]
        ]

    @classmethod
    def scored(
        cls,
        row: PublishedRow,
        predicted: Estimate,
        *,
        metric: str,
        measured: float,
        kind: str,
        source: str = "source",
        scale: float = 1.0,
        inferred: tuple[str, ...] = (),
        fully_specified: bool = True,
        stack: str = "",
    ) -> RowResult:
        """A row of times or watts with its prediction; refused where that is unknown. scale: from both to the metric's
        unit; source: the column of its source."""
        if predicted.value is None:
            return cls.refused(row, predicted.reason or "unknown", metric, source=source)[0]
        return cls(
            id=row["id"],
            inferred=inferred,
            metric=metric,
            measured=scale * measured,
            predicted=scale * predicted.value,
            low=None if predicted.low is None else scale * predicted.low,
            high=None if predicted.high is None else scale * predicted.high,
            grade=predicted.grade,
            ratio=predicted.value / measured,
            chip=row["chip"],
            source=row.get(source, ""),
            kind=kind,
            fully_specified=fully_specified,
            stack=stack,
        )

    @property
    def status(self) -> str:
        """ "ok", or "unsupported" for a row with a reason and no figures."""
        return "unsupported" if self.reason else "ok"

    @property
    def abs_error(self) -> float | None:
        """max(ratio, 1/ratio) - 1."""
        return max(self.ratio, 1.0 / self.ratio) - 1.0 if self.ratio else None

    @property
    def framework_factor(self) -> float | None:
        """Measured time over hand-tuned time: what the framework cost."""
        if self.hand_tuned is None or self.measured is None:
            return None
        return self.measured / self.hand_tuned if is_time(self.metric) else self.hand_tuned / self.measured

    @property
    def is_covered(self) -> bool | None:
        """Whether the measured figure lies in the 90% interval."""
        if self.low is None or self.high is None or self.measured is None:
            return None
        return self.low <= self.measured <= self.high


C = TypeVar("C")


def scored_rows(
    rows: Sequence[PublishedRow],
    cases: Sequence[C | str],
    predict: Callable[[list[C]], Iterable[Sequence[RowResult] | str]],
    refuse: Callable[[PublishedRow, str], Sequence[RowResult]],
) -> list[RowResult]:
    """The results of every row in order. cases: the case of each row, or why it is refused; predict: the results of
    each case, or why there are none."""
    found = iter(predict([case for case in cases if not isinstance(case, str)]))
    out: list[RowResult] = []
    for row, case in zip(rows, cases, strict=True):
        of_row = case if isinstance(case, str) else next(found)
        out += refuse(row, of_row) if isinstance(of_row, str) else of_row
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderedPair(Keyed):
    """Two measured runs that share all but the order of their work. synchronous, asynchronous: ids; measured,
    predicted: step of the first over that of the second; doubts: of either row, in its words ("": none)."""

    KEYS = "synchronous asynchronous measured predicted doubts is_right"

    synchronous: str
    asynchronous: str
    measured: float
    predicted: float
    doubts: str

    @property
    def is_right(self) -> bool:
        """Whether the faster of the two is predicted to be the faster."""
        return (self.measured > 1.0) == (self.predicted > 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary(Keyed):
    """Errors of a set of rows; figures are None when no row was answered. bias: geometric mean of ratio, less 1."""

    n: int
    unsupported: int
    median_abs_error: float | None
    mean_abs_error: float | None
    p90_abs_error: float | None
    bias: float | None
    interval_coverage: float | None


class Summaries(TypedDict):
    """Summaries of all rows, of parts of them, and of groups sorted by name."""

    all: Summary
    fully_specified: Summary
    fits_memory: Summary
    does_not_fit_memory: Summary
    by_chip: dict[str, Summary]
    by_source: dict[str, Summary]
    by_metric: dict[str, Summary]
    memory: NotRequired[Summary]
    by_stack: NotRequired[dict[str, Summary]]
    by_stack_and_chip: NotRequired[dict[str, Summary]]
    by_family: NotRequired[dict[str, Summary]]
    by_model: NotRequired[dict[str, Summary]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation(Shown):
    """All rows in file order, and their summaries. pairs: of tables of reinforcement learning, None of others.

    Units: of each row's own metric; errors are ratios.

    Example:
        >>> import mowich
        >>> mowich.validate().path  # doctest: +SKIP
        'published/training.csv'
    """

    SCHEMA = "mowich/validate@1"
    KEYS = "file=path facts_hash rows summary=told_summary pairs?"

    path: str
    facts_hash: str
    rows: Rows[RowResult]
    pairs: tuple[OrderedPair, ...] | None = None

    def summary(self) -> Summaries:
        """all, fully_specified, fits_memory, does_not_fit_memory, by_chip, by_source and by_metric, the last three
        sorted by name; memory, for rows that state bytes; by_stack and by_stack_and_chip where rows state a stack;
        by_family for reinforcement learning; by_model for passes of whole models. Only answered rows are known to fit
        or not."""
        found: Summaries = {
            "all": summarise(self.rows),
            "fully_specified": summarise([r for r in self.rows if r.fully_specified]),
            "fits_memory": summarise([r for r in self.rows if r.fits_memory is True]),
            "does_not_fit_memory": summarise([r for r in self.rows if r.fits_memory is False]),
            "by_chip": self.by(lambda r: r.chip),
            "by_source": self.by(lambda r: r.source),
            "by_metric": self.by(lambda r: r.metric),
        }
        stated = [r.memory for r in self.rows if r.memory]
        if stated:
            found["memory"] = summarise(stated)
        if any(r.stack for r in self.rows):
            found["by_stack"] = self.by(lambda r: r.stack)
            found["by_stack_and_chip"] = self.by(lambda r: f"{r.stack} on {r.chip}, {r.metric}")
        if self.pairs is not None:
            found["by_family"] = self.by(lambda r: f"{r.kind}, {r.metric}")
        if any(r.metric == PASS_METRIC for r in self.rows):
            found["by_model"] = self.by(lambda r: r.kind)
        return found

    def by(self, key: Callable[[RowResult], str]) -> dict[str, Summary]:
        """A summary for each value of `key`, sorted."""
        groups: dict[str, list[RowResult]] = {}
        for row in self.rows:
            groups.setdefault(key(row), []).append(row)
        return {name: summarise(groups[name]) for name in sorted(groups)}

    @property
    def told_summary(self) -> object:
        """The summaries as the JSON states them."""
        return plain_json(self.summary())


def summarise(rows: Iterable[RowResult | MemoryScore]) -> Summary:
    """Error statistics of the answered rows, counts of all.

    Medians and percentiles are of abs_error (linear interpolation); bias averages ln(ratio), so that being 2x fast and
    2x slow cancel.
    """
    rows = list(rows)
    answered = [r for r in rows if r.abs_error is not None and r.ratio is not None]
    unsupported = len(rows) - len(answered)
    if not answered:
        return Summary(
            n=0,
            unsupported=unsupported,
            median_abs_error=None,
            mean_abs_error=None,
            p90_abs_error=None,
            bias=None,
            interval_coverage=None,
        )
    errors = np.array([r.abs_error for r in answered])
    covered = [r.is_covered for r in answered if r.is_covered is not None]
    return Summary(
        n=len(answered),
        unsupported=unsupported,
        median_abs_error=float(np.median(errors)),
        mean_abs_error=float(errors.mean()),
        p90_abs_error=float(np.quantile(errors, 0.9)),
        bias=math.exp(float(np.mean([math.log(r.ratio) for r in answered if r.ratio]))) - 1.0,
        interval_coverage=sum(covered) / len(covered) if covered else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Errors of rows that were left out of the fit. work: a word of `FITTED_TO`, "serving" or "kernels"; what: the
    number predicted; unit: what was left out whole, "groups", "sources", "series" or "families"; of: what the rows of a
    group have in common; chip: only its rows ("": of all chips); family: only these kernels; median, p90: of max(ratio,
    1/ratio) - 1; in_range: share inside the 90% intervals, whose widths were fitted without the rows too (None: not
    kept; kernels and collectives have the widths of all rows); command, date: what made the entry and when, for rows
    that do not ship."""

    work: str
    what: str
    unit: str
    of: str = ""
    chip: str = ""
    family: str = ""
    rows: int
    median: float
    p90: float
    in_range: float | None = None
    command: str = ""
    date: str = ""

    @property
    def without(self) -> str:
        """ "whole groups of chip and model", "whole sources"."""
        return f"whole {self.unit} of {self.of}" if self.of else f"whole {self.unit}"


def left_out() -> tuple[LeftOut, ...]:
    """The errors of published rows left out of the fit, which show how far a new prediction may be off. `make accuracy`
    writes those of training, `tools/fit_serving.py --page` those of serving, `tools/fit_neuron.py --write` those of
    serving on Trainium, `make kernel-accuracy` those of kernels."""
    return tuple(e for e in _kept_errors() if not e.chip)


def left_out_by_chip() -> tuple[LeftOut, ...]:
    """The same errors of the rows of one chip, or of one chip and family of kernels."""
    return tuple(e for e in _kept_errors() if e.chip)


def _kept_errors() -> Iterable[LeftOut]:
    return (LeftOut(**entry) for entry in json.loads(left_out_file().read_text(encoding="utf-8")))


def left_out_file() -> Path:
    """The file of errors of rows left out of the fit."""
    return Path(str(resources.files("mowich.facts") / "published" / "left_out.json"))


def worst(validation: Validation, count: int) -> Sequence[RowResult]:
    """The rows with the largest errors, largest first."""
    return sorted((r for r in validation.rows if r.abs_error is not None), key=lambda r: -(r.abs_error or 0.0))[:count]
