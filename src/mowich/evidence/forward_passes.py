"""Measured forward passes of an engine: the steps of a profile as cases, and their predictions by the step's law.

A row states what one step worked on (new tokens of prompts and those before them, sequences that decode and what their
caches hold; with data-parallel attention of one rank) and how long it took. Nothing here looks at a predicted time,
except for the device's floor: a row below it was booked on another step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mowich.arrays import Floats
from mowich.estimate import Estimate
from mowich.evidence.row_checks import PublishedRow, RefusedError, cell_number, read_or_why
from mowich.evidence.scores import RowResult, scored_rows
from mowich.evidence.serving_notes import engine_of, find_machine, find_model
from mowich.evidence.serving_rows import kv_of, weights_of
from mowich.facts import Facts
from mowich.plans.plan import KV, WEIGHTS, ServePlan, one_of
from mowich.plans.shapes import Shapes, shapes_of
from mowich.serving.anchors import Class, anchors_of, class_of_worker
from mowich.serving.engines import (
    USUAL_ANSWER,
    ConstantTable,
    Served,
    architecture,
    constant_columns,
    has_own,
    stated_facts,
)
from mowich.serving.own_rows import known_anchors, own_rows
from mowich.serving.step import step, total
from mowich.software.engine import EngineCosts

UNSTEADY = 1.5
"""Longest over shortest time of steps of the same work, above which the steps measure something else."""
LEAST_OF_FLOOR = 0.45
"""Share of a step's time at the chip's published rates, below which its work was booked on another step."""
BOOKED_ELSEWHERE = f"less than {LEAST_OF_FLOOR:g} of the time that the chip needs: this work was booked on another step"
FORWARD_METRIC = "forward_ms"
_EVEN = "sweep"
"""Word of `segment` where all sequences have one length; other words mean arriving requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardCase:
    """A step, read. prompts: of `tokens` new tokens together, after `past` earlier ones; decoding: sequences, with
    `context` tokens in their caches together; measured_s: seconds."""

    served: Served
    chips: int
    prompts: float
    tokens: float
    past: float
    decoding: float
    context: float
    measured_s: float

    @property
    def what(self) -> str:
        """The work, in words."""
        parts = [f"{self.tokens:g} prompt tokens after {self.past:g}"] if self.tokens else []
        parts += [f"{self.decoding:g} sequences with {self.context:g} cached tokens"] if self.decoding else []
        return " and ".join(parts)

    @property
    def kind(self) -> str:
        """ "decode", or "prompt" where the step has any."""
        return "prompt" if self.tokens else "decode"


def read_forward(cells: PublishedRow, facts: Facts) -> ForwardCase | str:
    """A row as a case, or why it cannot be one."""
    return read_or_why(lambda row: _case(row, facts), cells)


def _case(cells: PublishedRow, facts: Facts) -> ForwardCase:
    def of(name: str) -> float:
        return cell_number(cells, name) or 0.0

    tp, dp = max(1, int(of("tp"))), max(1, int(of("dp")))
    chips = int(of("n_chips")) or tp * dp
    system = find_machine(facts, cells["chip"], chips)
    model, engine = find_model(cells["model"]), engine_of(cells["framework"])
    weights = one_of(weights_of(cells, model, system, facts)[0], WEIGHTS, "format of the weights")
    kv = one_of(kv_of(cells, weights, "")[0], KV, "format of the cache")
    plan = ServePlan(tp=tp, dp=dp, ep=max(1, int(of("ep"))), weights=weights, kv=kv)
    low, high, samples = of("min_ms"), of("max_ms"), of("n_samples")
    measured, tokens, decoding = of("measured_ms"), of("prefill_new_tokens_total"), of("decode_requests")
    if measured <= 0.0 or not tokens + decoding:
        raise RefusedError("no time, or no work")
    if low > 0.0 and samples != 1 and high / low > UNSTEADY:
        raise RefusedError(f"steps of this work took {low:g} to {high:g} ms: more than {UNSTEADY:g} times apart")
    arch = architecture(model)
    served = Served(
        model=model,
        arch=arch,
        system=system,
        engine=engine,
        plan=plan,
        is_sweep=cells.get("segment", "").strip().casefold() == _EVEN,
        has_own=has_own(facts, system),
        stated=stated_facts(facts, engine, system),
    )
    return ForwardCase(
        served=served,
        chips=chips,
        prompts=max(of("prefill_requests"), 1.0 if tokens else 0.0),
        tokens=tokens,
        past=of("prefill_past_kv_total"),
        decoding=decoding,
        context=of("decode_kv_tokens_total"),
        measured_s=measured / 1e3,
    )


@dataclass(frozen=True, slots=True)
class Forwards:
    """Cases as columns."""

    shapes: Shapes
    columns: ConstantTable
    prompts: Floats
    tokens: Floats
    past: Floats
    decoding: Floats
    context: Floats

    @classmethod
    def of(cls, cases: Sequence[ForwardCase]) -> Forwards:
        """The columns of cases, in their order."""
        names = ("prompts", "tokens", "past", "decoding", "context")
        return cls(
            shapes_of([(case.served.model, case.served.plan) for case in cases]),
            constant_columns([case.served for case in cases]),
            *(np.array([getattr(case, name) for case in cases]) for name in names),
        )

    def seconds(self, constants: Floats) -> Floats:
        """Of every step, with `constants` in the order of `columns.names`."""
        return self._seconds(self.columns.assemble(constants)[0])

    def floor_s(self, constants: Floats) -> Floats:
        """At the published rates of the chip."""
        return self._seconds(self.columns.assemble(constants)[0].at_published())

    def _seconds(self, c: EngineCosts) -> Floats:
        many = np.maximum(self.prompts, 1.0)
        parts = step(
            self.shapes,
            c,
            n=self.decoding,
            context=self.context / np.maximum(self.decoding, 1.0),
            prompt=self.tokens,
            prompt_context=np.where(self.tokens > 0, (self.past + 0.5 * self.tokens) / many, 0.0),
            finishing=self.prompts,
        )
        return total(parts)


def class_of_step(case: ForwardCase) -> Class:
    """The class of a step among measured rows: a sweep and a served load differ like two releases."""
    served = case.served
    return class_of_worker(
        served.model,
        served.arch,
        served.system,
        served.engine,
        served.plan,
        users=case.decoding,
        prompt=case.context / max(case.decoding, 1.0),
        output=USUAL_ANSWER,
        version=_EVEN if served.is_sweep else "",
    )


def validate_forward(rows: Sequence[PublishedRow], facts: Facts) -> list[RowResult]:
    """Every row with its prediction by the step's law; a user's own steps shift steps that only decode."""
    read = [read_forward(row, facts) for row in rows]
    stated = [row for row, case in zip(rows, read, strict=True) if not isinstance(case, str)]
    return scored_rows(
        rows,
        read,
        lambda cases: _predicted(stated, cases, facts),
        lambda row, why: RowResult.refused(row, why, FORWARD_METRIC),
    )


def _predicted(
    rows: Sequence[PublishedRow], cases: Sequence[ForwardCase], facts: Facts
) -> Iterator[list[RowResult] | str]:
    """The result of each case, or why there is none."""
    if not cases:
        return
    columns = Forwards.of(cases)
    values = columns.columns.values(facts.number)
    seconds, floor = columns.seconds(values), columns.floor_s(values)
    rows_of_user, decodes = own_rows(facts), np.array([case.kind == "decode" for case in cases])
    classes = [class_of_step(case) for case in cases]
    if rows_of_user and decodes.any():
        own = anchors_of(()).with_rows(rows_of_user)
        seconds[decodes] *= np.exp(own.apply("tpot", [one for one, d in zip(classes, decodes, strict=True) if d])[0])
    half = np.array([known_anchors(facts, one.engine).apply("tpot", [one])[1][0] for one in classes])
    for row, case, predicted, least, width in zip(rows, cases, seconds, floor, half, strict=True):
        if case.measured_s < LEAST_OF_FLOOR * least:
            yield BOOKED_ELSEWHERE
            continue
        low, high = (float(predicted * np.exp(end)) for end in (-width, width))
        found = Estimate(value=float(predicted), unit="s", low=low, high=high, grade="C")
        yield [
            RowResult.scored(
                row,
                found,
                metric=FORWARD_METRIC,
                measured=case.measured_s,
                scale=1e3,
                kind=case.kind,
                stack=case.served.engine,
            )
        ]
