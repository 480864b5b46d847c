"""Published serving cases as columns, for the fit of the constants, `validate` and the accuracy page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.evidence.engine_releases import release_year
from mowich.evidence.serving_rows import ServingCase
from mowich.facts import Facts
from mowich.plans.shapes import Shapes, shapes_of
from mowich.serving.anchors import METRICS, Anchor, Class, class_of_worker
from mowich.serving.engines import ConstantTable, Served, constant_columns, has_own, stated_facts
from mowich.serving.steady import Load, Steady, closed_loop, decode_pool, decode_step, max_sequences
from mowich.serving.step import total
from mowich.software.engine import Engine, EngineCosts


@dataclass(frozen=True, slots=True)
class Cases:
    """Cases as columns: work, table of constants, load (without the tokens of a step, which constants say), memory of a
    device; decode_only, elsewhere_s as in `ServingCase`."""

    shapes: Shapes
    columns: ConstantTable
    load: Load
    capacity_B: Floats
    decode_only: NDArray[np.bool_]
    elsewhere_s: Floats

    def steady(self, constants: Floats) -> Steady:
        """The closed loop of every case, or the decode worker where other workers compute the prompts, with `constants`
        in the order of `columns.names`."""
        costs, engine, load = self._around(constants)
        loop = closed_loop(self.shapes, costs, engine, load, self.capacity_B)
        if not self.decode_only.any():
            return loop
        pool = decode_pool(self.shapes, costs, engine, load, self.elsewhere_s, self.capacity_B)
        return loop.where(self.decode_only, pool)

    def least_step_s(self, constants: Floats, decoding: Floats) -> Floats:
        """Seconds per token that `decoding` sequences of a rank group take at the published rates of the chip: weights
        and caches read once, no fixed time [n]."""
        costs, _, load = self._around(constants)
        return np.asarray(total(decode_step(self.shapes, costs.at_published(), load, decoding)) / load.accepted)

    def room(self, constants: Floats) -> tuple[Floats, Floats]:
        """Sequences that the cache of a rank group of every case holds: after the engine's own reserve, and with all of
        the memory for weights and cache [n]."""
        _, engine, load = self._around(constants)
        bare = replace(engine, memory_share=np.ones(len(load.users)), reserve_B=np.zeros(len(load.users)))
        beside, alone = (max_sequences(self.shapes, load, e, self.capacity_B) for e in (engine, bare))
        return beside, alone

    def _around(self, constants: Floats) -> tuple[EngineCosts, Engine, Load]:
        costs, engine, verified, accepted = self.columns.assemble(constants)
        return costs, engine, replace(self.load, verify=verified, accepted=accepted)


def _served(case: ServingCase, facts: Facts) -> Served:
    """A case with all that decides its constants."""
    return replace(
        case,
        answer=case.output * case.mean_length,
        released=release_year(case.engine, case.version, case.date),
        has_own=has_own(facts, case.system),
        stated=stated_facts(facts, case.engine, case.system),
        release=case.version,
        compiled=case.graph.batch,
    )


def gather_cases(cases: Sequence[ServingCase], facts: Facts) -> Cases:
    """The columns of cases, in their order; cases of one model are shaped together."""

    def column(pick: Callable[[ServingCase], float]) -> Floats:
        return np.array([pick(c) for c in cases], dtype=np.float64)

    return Cases(
        shapes=shapes_of([(c.model, c.plan) for c in cases]),
        columns=constant_columns([_served(c, facts) for c in cases]),
        load=Load(
            users=column(lambda c: c.users),
            prompt=column(lambda c: c.prompt * c.mean_length),
            output=column(lambda c: c.output * c.mean_length),
            cached=column(lambda c: c.cached),
            verify=np.ones(len(cases)),
            accepted=np.ones(len(cases)),
            rounds=column(lambda c: c.rounds),
            is_static=column(lambda c: c.is_static),
        ),
        capacity_B=column(lambda c: c.system.hbm_usable_B),
        decode_only=np.array([c.decode_only for c in cases], dtype=np.bool_),
        elsewhere_s=column(lambda c: c.elsewhere_s),
    )


def class_of(case: ServingCase) -> Class:
    """The class of a case among measured rows."""
    return class_of_worker(
        case.model,
        case.arch,
        case.system,
        case.engine,
        case.plan,
        users=case.users,
        prompt=case.prompt * case.mean_length,
        output=case.output * case.mean_length,
        version=case.version,
        guesses=case.speculates,
    )


def anchors_of_cases(cases: Sequence[ServingCase], misses: Mapping[str, Floats]) -> list[Anchor]:
    """Cases as measured rows. misses: ln (measured / predicted by the constants) of each by metric, nan where it states
    none."""
    return [
        Anchor(id=case.id, source=case.source, one=class_of(case), residue={m: float(misses[m][i]) for m in METRICS})
        for i, case in enumerate(cases)
    ]
