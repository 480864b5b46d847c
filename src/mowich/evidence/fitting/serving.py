"""Serving: how the constants of an engine and of a family of chips move the latencies that were measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mowich.arrays import Floats
from mowich.evidence.fitting.moved import SHARED_FACT, has_range
from mowich.evidence.fitting.points import ConstantValues, MeasuredPoint, numerical_slopes
from mowich.evidence.measured_tables import table_form
from mowich.evidence.row_checks import PublishedRow
from mowich.evidence.serving_cases import class_of, gather_cases
from mowich.evidence.serving_rows import ServingCase
from mowich.evidence.serving_validate import shifts_of
from mowich.facts import Facts
from mowich.machines.system import resolve
from mowich.serving.anchors import Anchor, is_stack
from mowich.serving.engines import has_own
from mowich.serving.own_rows import known_anchors
from mowich.software.engine import engine_for

_LATENCIES = ("tpot_ms", "ttft_ms")
_RATE = "output_tok_s_per_chip"
"""Used only where a run states no latency; next to latencies they add nothing."""

_GIVEN = (
    "lockstep",
    "together",
    "queue_share",
    "burst_share",
    "prompt_budget",
    "memory_share",
    "memory_of_free",
    "answer_held",
    "reserve",
    "visible_",
    "speculation_",
)
"""Constants of the load and the memory; a run's own settings decide them."""


MANY_CHIPS = "vllm"
"""The engine that runs on chips of many vendors under one name; its plug-in for another vendor is a separate engine."""


def row_of_serving(cells: Mapping[str, str], where: str, facts: Facts) -> PublishedRow:
    """A record as a row of our serving table. A total throughput becomes one of a chip where chips are counted; the
    engine becomes the one for the chip. Raises UserError for a system that is not known."""
    row = {**table_form("serving").blank(), **cells, "id": cells.get("id") or where}
    if row["output_tok_s"] and row["n_chips"] and not row[_RATE]:
        row[_RATE] = f"{float(row['output_tok_s']) / float(row['n_chips']):.10g}"
    if row["framework"] == MANY_CHIPS:
        row["framework"] = engine_for(facts, resolve(facts, facts.resolve_system(row["chip"]), chips=1), None)
    if is_stack(row["framework"]) and not row["stack"]:
        row["stack"] = row["framework"]
    return row


class ServingPredictor:
    """Cases of serving as columns."""

    def __init__(self, cases: Sequence[tuple[str, ServingCase]], facts: Facts) -> None:
        """cases: (place, case)."""
        self.cases = [case for _, case in cases]
        self.table = gather_cases(self.cases, facts)
        shift, _ = shifts_of(self.cases, facts)
        self.shift = {metric: shift[metric.removesuffix("_ms")] for metric in _LATENCIES}
        self.classes = [class_of(case) for case in self.cases]
        self.still = np.array([case.decode_only or has_own(facts, case.system) for case in self.cases])
        self.facts = facts
        self.points = []
        rows: list[tuple[int, str]] = []
        for i, (where, case) in enumerate(cases):
            stated = [m for m in _LATENCIES if m in case.measured and m not in case.skip]
            if not stated and _RATE in case.measured and _RATE not in case.skip:
                stated = [_RATE]
            for metric in stated:
                rows.append((i, metric))
                self.points.append(_point(where, case, metric))
        self.rows = rows
        self.measured = np.log([self.cases[i].measured[m] for i, m in rows])
        self.paths = tuple(
            path
            for path in self.table.columns.names
            if SHARED_FACT not in path
            and not path.rsplit(".", 1)[1].startswith(_GIVEN)
            and ".lockstep" not in path
            and has_range(facts.fact(path))
        )

    def _constants(self, values: ConstantValues) -> Floats:
        return self.table.columns.values(self.facts.number, values)

    def errors(self, values: ConstantValues) -> Floats:
        return self._errors(self._constants(values))

    def rows_of(self, values: ConstantValues) -> dict[int, Anchor]:
        """Every point's case as a measured row, with the error of the constants alone at that point. Cases that cannot
        carry a row over give none."""
        errors = self._errors(self._constants(values), dict.fromkeys(_LATENCIES, np.zeros(len(self.cases))))
        out = {}
        for k, (i, metric) in enumerate(self.rows):
            if not self.still[i]:
                name = "ttft" if metric == "ttft_ms" else "tpot"  # a rate is mostly the time per token
                out[k] = Anchor(
                    id=self.points[k].where, source="own", one=self.classes[i], residue={name: -float(errors[k])}
                )
        return out

    def kept_rows(self, rows: Sequence[Anchor]) -> list[Anchor]:
        """All rows."""
        return list(rows)

    def errors_beside(self, values: ConstantValues, rows: Sequence[Anchor]) -> Floats:
        """ln(predicted/measured) of every point, with these rows next to the shipped rows."""
        shift = {}
        for metric in _LATENCIES:
            shift[metric] = np.zeros(len(self.cases))
            for engine in dict.fromkeys(one.engine for one in self.classes):
                anchors = known_anchors(self.facts, engine).with_rows(rows)
                at = [i for i, one in enumerate(self.classes) if one.engine == engine and not self.still[i]]
                found, _ = anchors.apply(metric.removesuffix("_ms"), [self.classes[i] for i in at])
                shift[metric][at] = found
        return self._errors(self._constants(values), shift)

    def _errors(self, constants: Floats, shift: Mapping[str, Floats] | None = None) -> Floats:
        steady, shift = self.table.steady(constants), shift or self.shift
        tpot = steady.tpot_s * np.exp(shift["tpot_ms"])
        ttft = steady.ttft_s * np.exp(shift["ttft_ms"])
        out = np.zeros(len(self.rows))
        for k, (i, metric) in enumerate(self.rows):
            if metric == _RATE:
                case = self.cases[i]
                tokens = float(self.table.load.output[i])
                request_s = float(ttft[i]) + (tokens - 1.0) * float(tpot[i])
                out[k] = self.measured[k] - math.log(case.users * case.plan.dp * tokens / request_s / case.chips)
            else:
                time_s = tpot[i] if metric == "tpot_ms" else ttft[i]
                out[k] = math.log(1e3 * float(time_s)) - self.measured[k]
        return out

    def slopes(self, values: ConstantValues) -> tuple[Floats, Floats]:
        return numerical_slopes(self.errors, values, self.paths)


def _point(where: str, case: ServingCase, metric: str) -> MeasuredPoint:
    machine = f"{case.model.name}, {case.system.id}, {case.engine}, {metric}"
    load = f"{case.prompt:g}/{case.output:g} tokens, {case.users * case.plan.dp:g} users"
    return MeasuredPoint(
        where=where,
        kind="serving",
        what=f"{case.model.name} on {case.system.id}:{case.chips}, {case.plan}, {load}",
        metric=metric,
        measured=case.measured[metric],
        is_rate=metric == _RATE,
        machine=machine,
        setting=f"{case.model.name}, {case.system.id}, {case.engine}, {case.plan}, {load}",
    )
