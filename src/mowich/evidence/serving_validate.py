"""Predicted against measured for tables of serving, which `validate` hands to this module.

Every row that states a model, a chip, a plan, lengths and a load is predicted with the shipped constants, shifted by
the measured rows around it; each metric that it states is one result. Rows that cannot be read are refused with a
reason. Nothing is fitted to the file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mowich.arrays import Floats
from mowich.evidence.measured_tables import table_form
from mowich.evidence.row_checks import PublishedRow
from mowich.evidence.scores import RowResult, scored_rows
from mowich.evidence.serving_cases import class_of, gather_cases
from mowich.evidence.serving_checks import read_serving_cases
from mowich.evidence.serving_rows import ServingCase
from mowich.facts import Facts
from mowich.serving.anchors import METRICS
from mowich.serving.engines import has_own
from mowich.serving.own_rows import known_anchors
from mowich.serving.steady import Steady


def validate_serving(rows: Sequence[PublishedRow], facts: Facts) -> list[RowResult]:
    """Results of every row in order: one for each metric that it states (one, without figures, for a row that is
    refused)."""
    metrics = table_form("serving").metrics
    return scored_rows(
        rows,
        read_serving_cases(rows, facts),
        lambda cases: predict_serving(cases, facts) if cases else (),
        lambda row, why: RowResult.refused(row, why, *(metric for metric in metrics if row.get(metric))),
    )


def shifts_of(cases: Sequence[ServingCase], facts: Facts) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """By metric, ln of the factor that measured rows put on the prediction of each case, and ln half-width of its 90%
    range [cases]; no factor where a deployment has none (`studies.serving.Deployment.near`)."""
    classes = [class_of(c) for c in cases]
    still = np.array([c.decode_only or has_own(facts, c.system) for c in cases])
    shift, width = ({m: np.zeros(len(classes)) for m in METRICS} for _ in range(2))
    known = [known_anchors(facts, one.engine) for one in classes]
    for anchors in dict.fromkeys(known):
        at = [i for i, found in enumerate(known) if found is anchors]
        for m in METRICS:
            shift[m][at], width[m][at] = anchors.apply(m, [classes[i] for i in at], still[at])
    return shift, width


def predict_serving(cases: Sequence[ServingCase], facts: Facts) -> list[list[RowResult]]:
    """The results of each case."""
    table = gather_cases(cases, facts)
    steady = table.steady(table.columns.values(facts.number))
    shift, width = shifts_of(cases, facts)
    tpot, ttft = steady.tpot_s * np.exp(shift["tpot"]), steady.ttft_s * np.exp(shift["ttft"])
    others = _other_caches(cases, facts, steady)
    out = []
    for i, case in enumerate(cases):
        output = float(table.load.output[i])
        value = _values(case, float(ttft[i]), float(tpot[i]), output)
        share = float(ttft[i]) / (float(ttft[i]) + (output - 1.0) * float(tpot[i]))
        half = {"tpot_ms": float(width["tpot"][i]), "ttft_ms": float(width["ttft"][i])}
        half["output_tok_s_per_chip"] = math.hypot(share * half["ttft_ms"], (1.0 - share) * half["tpot_ms"])
        first, later = others.get(i, (1.0, 1.0))
        other = _values(case, first * float(ttft[i]), later * float(tpot[i]), output)
        # ln of each figure with the other format of a guessed cache over this one
        moves = {metric: math.log(other[metric] / value[metric]) for metric in value}
        parts = _parts(steady, i, float(shift["tpot"][i]))
        results = []
        for metric in table_form("serving").metrics:
            measured, predicted, move = case.measured.get(metric), value[metric], moves[metric]
            if measured is None:
                continue
            if metric in case.skip:
                results.append(_result(case, metric, f"excluded: {case.skip[metric]}"))
                continue
            found = replace(
                _result(case, metric),
                measured=measured,
                predicted=predicted,
                low=predicted * math.exp(-math.hypot(half[metric], min(move, 0.0))),
                high=predicted * math.exp(math.hypot(half[metric], max(move, 0.0))),
                ratio=predicted / measured if metric.endswith("_ms") else measured / predicted,
                parts=parts,
                fits_memory=case.memory_share <= 1.0,
            )
            results.append(found)
        out.append(results or [_result(case, "none", "the row states no metric that is predicted")])
    return out


def _values(case: ServingCase, ttft: float, tpot: float, output: float) -> dict[str, float]:
    """The metrics of a case from its times. ttft, tpot: seconds; output: tokens of an answer."""
    speed = case.users * case.plan.dp * output / (ttft + (output - 1.0) * tpot) / case.chips
    return {"tpot_ms": 1e3 * tpot, "ttft_ms": 1e3 * ttft, "output_tok_s_per_chip": speed}


def _other_caches(cases: Sequence[ServingCase], facts: Facts, steady: Steady) -> dict[int, tuple[float, float]]:
    """For each case with a guessed format of the cache, (TTFT, TPOT) in the other format over those in this one: users
    wait where memory holds half the sequences."""
    at = [i for i, case in enumerate(cases) if case.other_cache]
    if not at:
        return {}
    other = [replace(cases[i], plan=replace(cases[i].plan, kv=cases[i].other_cache or "bf16")) for i in at]
    table = gather_cases(other, facts)
    found = table.steady(table.columns.values(facts.number))
    first, later = found.ttft_s / steady.ttft_s[at], found.tpot_s / steady.tpot_s[at]
    return dict(zip(at, zip(first.tolist(), later.tolist(), strict=True), strict=True))


def _parts(steady: Steady, i: int, shift: float) -> dict[str, float]:
    """Seconds of TPOT by part; correction: the shift by measured rows around the case."""
    parts = {name: float(value[i]) for name, value in steady.tpot_parts.items()}
    return {**parts, "correction": math.expm1(shift) * float(steady.tpot_s[i])}


def _result(case: ServingCase, metric: str, reason: str | None = None) -> RowResult:
    """What a row is, without figures. reason: why it has none."""
    return RowResult(
        id=case.id,
        reason=reason,
        inferred=case.inferred,
        metric=metric,
        chip=case.chip,
        source=case.source,
        kind=f"{case.arch} {case.engine}",
        fully_specified=case.fully_specified,
        stack=case.stack,
    )
