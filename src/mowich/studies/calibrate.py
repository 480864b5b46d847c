"""`mowich calibrate`: from files of measurements to an overlay of facts.

Reads each file (`evidence.readers`), refuses what contradicts itself, fits the constants that the rest identifies
(`evidence.fitting`), and says how far predictions were off before, after, and with each point left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from mowich.arrays import Floats
from mowich.errors import UserError, UserErrors, placed
from mowich.evidence.fitting import collectives, forward_passes, kernel_times, serving, training
from mowich.evidence.fitting.choice import UsedPoints, used_of
from mowich.evidence.fitting.overlay import CONFIRMED, FittedFact, fitted_facts, overlay_text, write_fitted
from mowich.evidence.fitting.points import MeasuredPoint, Predictor
from mowich.evidence.forward_passes import read_forward
from mowich.evidence.readers.read import read_files
from mowich.evidence.readers.record import MeasuredRecord, Reading, RefusedRecord
from mowich.evidence.readers.setup import Setup, check_words
from mowich.evidence.rows import read_cases
from mowich.evidence.serving_checks import read_serving_cases
from mowich.facts import Facts
from mowich.requests.calibrate import CalibrateRequest
from mowich.shown import Keyed, Rows, Shown

UNEXPLAINED = 0.3
"""Median error after a fit from which constants are not what is wrong: nine of ten published runs are predicted
better."""

_Teller = Callable[[str], None]

C = TypeVar("C")


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibratedPoint(Keyed):
    """One figure, in the unit of its metric. before, after: as predicted by today's constants and by the fitted ones;
    left_out: by constants fitted without its setting, None where there is no other setting."""

    KEYS = (
        "where=point.where kind=point.kind what=point.what metric=point.metric measured=point.measured before "
        "after left_out error_before error_after error_left_out"
    )

    point: MeasuredPoint
    before: float
    after: float
    left_out: float | None

    @property
    def error_before(self) -> float:
        """Error with today's constants."""
        return _off(self.before, self.point.measured)

    @property
    def error_after(self) -> float:
        """Error with the fitted ones."""
        return _off(self.after, self.point.measured)

    @property
    def error_left_out(self) -> float | None:
        """Error with those that were fitted without its setting."""
        return None if self.left_out is None else _off(self.left_out, self.point.measured)


def _off(predicted: float, measured: float) -> float:
    """max(predicted/measured, measured/predicted) - 1."""
    return max(predicted / measured, measured / predicted) - 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorSummary(Keyed):
    """Of max(predicted/measured, measured/predicted) - 1 over points; bias: geometric mean of predicted time over
    measured time, less 1. None without points."""

    n: int
    median: float | None
    p90: float | None
    bias: float | None

    @classmethod
    def of(cls, logs: Floats) -> ErrorSummary:
        """From ln(predicted/measured); points without one are left out."""
        known = logs[~np.isnan(logs)]
        if not len(known):
            return cls(n=0, median=None, p90=None, bias=None)
        off = np.expm1(np.abs(known))
        return cls(
            n=len(known),
            median=float(np.median(off)),
            p90=float(np.quantile(off, 0.9)),
            bias=math.expm1(float(known.mean())),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedFile(Keyed):
    """A file of measurements. points, refused: how many."""

    file: str
    format: str
    points: int
    refused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration(Shown):
    """What measurements say of the constants. asked: constants that move a point; anchors: measured rows that the
    overlay sets beside those that ship; written: the overlay, "" where none was; scale: how far constants moved, over
    what their ranges allow; scenario: with which a log of requests was replayed.

    Units: of each constant, SI.

    Example:
        >>> import mowich
        >>> mowich.calibrate("steps.csv", on="trn3:64").written  # doctest: +SKIP
    """

    SCHEMA = "mowich/calibrate@1"
    KEYS = (
        "inputs.files=names inputs.on=setup.on:none inputs.model=setup.model:none "
        "inputs.software=setup.software:none inputs.plan=setup.plan inputs.out=written:none "
        "inputs.scenario=scenario:none? facts_hash files constants anchors not_identified summary.before=before "
        "summary.after=after summary.left_out=left_out scale rows refused overlay warnings"
    )

    files: tuple[CountedFile, ...]
    rows: Rows[CalibratedPoint]
    refused: tuple[RefusedRecord, ...]
    constants: tuple[FittedFact, ...]
    anchors: int
    asked: tuple[str, ...]
    before: ErrorSummary
    after: ErrorSummary
    left_out: ErrorSummary
    scale: float
    overlay: str
    written: str
    warnings: tuple[str, ...]
    setup: Setup
    facts_hash: str
    scenario: str = ""

    @property
    def names(self) -> list[str]:
        """Of the files."""
        return [one.file for one in self.files]

    @property
    def not_identified(self) -> list[str]:
        """Constants that move a point and stay where they were."""
        moved = {one.path for one in self.constants if one.verdict != CONFIRMED}
        return [path for path in self.asked if path not in moved]


def calibrate(asked: CalibrateRequest, *, setup: Setup | None = None, tell: _Teller = lambda text: None) -> Calibration:
    """Fit the constants that the files identify. setup: what the files do not state, None: as the question says; tell:
    is told what goes on. Raises UserError or UserErrors, each one line with file and line, for files that cannot be
    read and for measurements of which none is usable."""
    facts = asked.facts
    setup = setup or Setup(
        on=asked.on or "", model=asked.model or "", software=asked.software or "", plan=asked.plan or {}
    )
    check_words(setup.plan)
    tell("reading")
    readings = read_files(asked.files, setup, asked.format)
    parts, refused = predictors(readings, facts, tell)
    facts = next((part.facts for part in parts if isinstance(part, forward_passes.ForwardPredictor)), facts)
    if not parts:
        raise UserErrors([UserError(one.reason, where=one.where) for one in refused])
    found, choices = used_of(parts, facts, widen=asked.widen, tell=tell)
    fitted = fitted_facts(found, facts)
    rows = [row for one in choices for row in one.rows]
    points = [point for one in choices for point in one.part.points]
    names = [reading.file for reading in readings]
    text = overlay_text(fitted, asked.out, names, len(points), facts, rows, found.posterior)
    before, after, held = (np.concatenate([getattr(one, k) for one in choices]) for k in ("before", "after", "held"))
    written = write_fitted(asked.out, text, fitted)
    return Calibration(
        files=tuple(_counted(reading, points, refused) for reading in readings),
        rows=Rows(_shown(points, before, after, held)),
        refused=tuple(refused),
        constants=tuple(fitted),
        asked=found.asked,
        anchors=len(rows),
        before=ErrorSummary.of(before),
        after=ErrorSummary.of(after),
        left_out=ErrorSummary.of(held),
        scale=found.solution.scale,
        overlay=text,
        written=written,
        warnings=tuple(_warnings(choices, fitted)),
        setup=setup,
        facts_hash=facts.hash(),
    )


def _counted(reading: Reading, points: Sequence[MeasuredPoint], refused: Sequence[RefusedRecord]) -> CountedFile:
    def mine(where: str) -> bool:
        return where == reading.file or where.startswith((f"{reading.file}:", f"{reading.file}, "))

    used, left = (sum(mine(one.where) for one in some) for some in (points, refused))
    return CountedFile(file=reading.file, format=reading.format, points=used, refused=left)


def _shown(points: Sequence[MeasuredPoint], before: Floats, after: Floats, held_out: Floats) -> list[CalibratedPoint]:
    out = []
    for i, point in enumerate(points):

        def predicted(log: float, point: MeasuredPoint = point) -> float:
            return point.measured * math.exp(-log if point.is_rate else log)

        held = float(held_out[i])
        out.append(
            CalibratedPoint(
                point=point,
                before=predicted(float(before[i])),
                after=predicted(float(after[i])),
                left_out=None if math.isnan(held) else predicted(held),
            )
        )
    return out


def _warnings(choices: Sequence[UsedPoints], fitted: Sequence[FittedFact]) -> list[str]:
    out = [
        f"{one.path} is at the end of today's range: the measurements ask for more. Check their units and plan; --widen"
        " lets it pass"
        for one in fitted
        if one.stopped
    ]
    out += [
        f"{one.path} is outside today's range {one.today_low:.4g} .. {one.today_high:.4g} (--widen)"
        for one in fitted
        if one.widened
    ]
    after = ErrorSummary.of(np.concatenate([one.after for one in choices]))
    if after.median is not None and after.median > UNEXPLAINED:
        out.append(
            f"half of the points stay off by more than {UNEXPLAINED:.0%}: no constant within its range explains them."
            " Check system, model, plan, load and units"
        )
    for one in choices:
        kind = one.part.points[0].kind
        if not one.is_used:
            out.append(
                f"{kind}: {len(one.before)} points are not used, because no use of them predicts points that are left"
                " out as well as today's facts do: more measurements, or of more settings, are needed"
            )
        elif np.isnan(one.held).all():
            out.append(
                f"{kind}: all points are of one setting: nothing could be left out, so nothing says how a new one would"
                " fare"
            )
        elif one.beside and not one.constants:
            out.append(f"{kind}: points stand beside the measured rows that ship, and no constant is fitted to them")
    return out


def predictors(readings: Sequence[Reading], facts: Facts, tell: _Teller) -> tuple[list[Predictor], list[RefusedRecord]]:
    """What predicts the measurements of some files, and those that are refused, in order of file and line."""
    refused = [one for reading in readings for one in reading.refused]
    parts: list[Predictor] = []
    by_kind: dict[str, list[MeasuredRecord]] = {}
    for reading in readings:
        for record in reading.records:
            by_kind.setdefault(record.kind, []).append(record)
    for kind, read in _READERS.items():
        records = by_kind.get(kind, [])
        if records:
            tell(f"predicting {len(records)} measurements of {kind}")
            part, left = read(records, facts)
            refused += left
            parts += [part] if part is not None and len(part.points) else []
    order = {reading.file: i for i, reading in enumerate(readings)}
    refused.sort(key=lambda one: order.get(one.where.split(":")[0], 0))
    return parts, refused


_Found = tuple[Predictor | None, list[RefusedRecord]]


def _used(
    records: Sequence[MeasuredRecord],
    cases: Iterable[C | str],
    predictor: Callable[[Sequence[tuple[str, C]]], Predictor],
) -> _Found:
    """What predicts the records that are cases, None without any, and the others, each with the reason. cases: of each
    record, or why it is none."""
    good: list[tuple[str, C]] = []
    refused: list[RefusedRecord] = []
    for record, case in zip(records, cases, strict=True):
        if isinstance(case, str):
            refused.append(RefusedRecord(where=record.where, reason=case))
        else:
            good.append((record.where, case))
    return (predictor(good) if good else None), refused


def _training(records: Sequence[MeasuredRecord], facts: Facts) -> _Found:
    rows = [training.row_of_training(_named(record, facts), record.where, facts) for record in records]
    cases = (
        case if isinstance(case, str) else training.contradiction(case, row) or case
        for row, case in zip(rows, read_cases(rows, facts), strict=True)
    )
    return _used(records, cases, lambda good: training.TrainingPredictor(good, facts))


def _serving(records: Sequence[MeasuredRecord], facts: Facts) -> _Found:
    rows = [serving.row_of_serving(_named(record, facts), record.where, facts) for record in records]
    cases = (
        next(iter(case.skip.values()), "no metric that is predicted")
        if not isinstance(case, str) and all(metric in case.skip for metric in case.measured)
        else case
        for case in read_serving_cases(rows, facts)
    )
    return _used(records, cases, lambda good: serving.ServingPredictor(good, facts))


def _collectives(records: Sequence[MeasuredRecord], facts: Facts) -> _Found:
    def read(record: MeasuredRecord) -> collectives.CollectiveCase | str:
        try:
            return collectives.read_collective(record.cells, facts)
        except UserError as error:
            error.where = error.where or (None if error.field else record.where)
            raise

    return _used(records, map(read, records), lambda good: collectives.CollectivePredictor(good, facts))


def _kernels(records: Sequence[MeasuredRecord], facts: Facts) -> _Found:
    cases = (kernel_times.read_kernel(record.cells, record.where) for record in records)
    return _used(records, cases, lambda good: kernel_times.KernelPredictor(good, facts))


def _forward(records: Sequence[MeasuredRecord], facts: Facts) -> _Found:
    cases = (read_forward(_named(record, facts), facts) for record in records)
    part, refused = _used(records, cases, lambda good: forward_passes.ForwardPredictor(good, facts))
    return part, refused + (part.below if isinstance(part, forward_passes.ForwardPredictor) else [])


def _named(record: MeasuredRecord, facts: Facts) -> Mapping[str, str]:
    """The cells of a record, after its chip is known to be one. Raises UserError with the place."""
    with placed(record.where):
        facts.resolve_system(record.cells["chip"])
    return record.cells


_READERS: Mapping[str, Callable[[Sequence[MeasuredRecord], Facts], _Found]] = {
    "training": _training,
    "serving": _serving,
    "collective": _collectives,
    "kernel": _kernels,
    "forward": _forward,
}
