"""Forward passes: how the factors of a profile move the steps that were measured.

The factors belong to an engine on a chip with one architecture (`serving.profiles`), so they exist only after a
measurement. `with_factors` adds them to the facts, at 1 and with the range of the shipped factors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from mowich.arrays import Floats
from mowich.evidence.fitting.moved import has_range
from mowich.evidence.fitting.points import ConstantValues, MeasuredPoint, numerical_slopes
from mowich.evidence.forward_passes import (
    BOOKED_ELSEWHERE,
    FORWARD_METRIC,
    LEAST_OF_FLOOR,
    ForwardCase,
    Forwards,
    class_of_step,
)
from mowich.evidence.readers.record import RefusedRecord
from mowich.facts import Facts
from mowich.serving.anchors import Anchor, anchors_of, with_robust_noise
from mowich.serving.engines import PROFILE_FACTORS, PROFILES, profile_path, stated_facts

STEP_NOISE = 0.03
"""Spread, ln, of the time of a step that no other step explains."""
_OF_PROMPTS = tuple(f"{PROFILES}.{name}_" for name in PROFILE_FACTORS if name.startswith(("prompt", "launches")))
"""Factors that steps with prompts identify. Steps that only decode identify the others: a scheduler that runs ahead
books the time of a step with a prompt on the next step."""


def with_factors(facts: Facts, cases: Iterable[ForwardCase]) -> Facts:
    """Facts with the factors of every engine, chip and architecture of the cases."""
    made = {}
    for one in sorted({(c.served.engine, c.served.system.chip, c.served.arch) for c in cases}):
        for factor in PROFILE_FACTORS:
            path = profile_path(factor, *one)
            if facts.get(path) is None:
                made[path] = replace(facts.fact(f"{PROFILES}.{factor}"), path=path)
    return facts.with_values(made) if made else facts


class ForwardPredictor:
    """Steps as columns. facts: with the factors of the cases; below: steps that were faster than the device allows."""

    def __init__(self, cases: Sequence[tuple[str, ForwardCase]], facts: Facts) -> None:
        """cases: (place, case)."""
        self.facts = facts = with_factors(facts, [case for _, case in cases])
        self.points: list[MeasuredPoint] = []
        self.below: list[RefusedRecord] = []
        self.paths: tuple[str, ...] = ()
        if not cases:
            return

        def stated(case: ForwardCase) -> ForwardCase:
            served = case.served
            return replace(case, served=replace(served, stated=stated_facts(facts, served.engine, served.system)))

        known = [(where, stated(case)) for where, case in cases]
        columns = Forwards.of([case for _, case in known])
        values = columns.columns.values(facts.number)
        measured = np.array([case.measured_s for _, case in known])
        fits = measured >= LEAST_OF_FLOOR * columns.floor_s(values)
        self.below = [RefusedRecord(where=known[i][0], reason=BOOKED_ELSEWHERE) for i in np.flatnonzero(~fits)]
        known = [one for one, fit in zip(known, fits, strict=True) if fit]
        self.cases = [case for _, case in known]
        self.points = [_point(where, case) for where, case in known]
        if not known:
            return
        self.columns = Forwards.of(self.cases)
        self.measured = np.log(measured[fits])
        self.is_prompt = np.array([case.kind == "prompt" for case in self.cases])
        self.paths = tuple(
            path
            for path in self.columns.columns.names
            if path.startswith(f"{PROFILES}.") and has_range(facts.fact(path))
        )

    def errors(self, values: ConstantValues) -> Floats:
        constants = self.columns.columns.values(self.facts.number, values)
        return np.asarray(np.log(self.columns.seconds(constants)) - self.measured)

    def rows_of(self, values: ConstantValues) -> dict[int, Anchor]:
        """Every step that only decodes as a measured row of the time per token."""
        errors = self.errors(values)
        return {
            k: Anchor(
                id=self.points[k].where,
                source="own profile",
                one=class_of_step(case),
                residue={"tpot": -float(errors[k])},
                noise={"tpot": STEP_NOISE},
            )
            for k, case in enumerate(self.cases)
            if case.kind == "decode"
        }

    def kept_rows(self, rows: Sequence[Anchor]) -> list[Anchor]:
        """Rows for served loads: steps of a sweep count only where no other step was measured."""
        served = [row for row in rows if not row.one.version]
        return served or [replace(row, one=replace(row.one, version="")) for row in rows]

    def errors_beside(self, values: ConstantValues, rows: Sequence[Anchor]) -> Floats:
        """ln(predicted/measured) of every point, with these rows next to the shipped rows; only for steps that only
        decode."""
        errors = self.errors(values)
        at = np.flatnonzero(~self.is_prompt)
        if len(at) and rows:
            anchors = with_robust_noise(anchors_of(rows))
            errors[at] += anchors.apply("tpot", [class_of_step(self.cases[k]) for k in at])[0]
        return errors

    def slopes(self, values: ConstantValues) -> tuple[Floats, Floats]:
        r, J = numerical_slopes(self.errors, values, self.paths)
        of_decodes = np.array([not path.startswith(_OF_PROMPTS) for path in self.paths], dtype=np.bool_)
        J[np.ix_(self.is_prompt, of_decodes)] = 0.0
        return r, J


def _point(where: str, case: ForwardCase) -> MeasuredPoint:
    served = case.served
    machine = f"{served.model.name}, {served.system.id}, {served.engine}, {served.plan}"
    return MeasuredPoint(
        where=where,
        kind="forward",
        what=f"{served.model.name} on {served.system.id}:{case.chips}, {served.plan}, {case.what}",
        metric=FORWARD_METRIC,
        measured=case.measured_s * 1e3,
        machine=machine,
        setting=f"{machine}, {case.what}",
    )
