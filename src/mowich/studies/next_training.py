"""Training steps and collectives that would tell of a number of a training row: they move the constants that the row
rests on, as `mowich calibrate` would fit them."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

import numpy as np

from mowich.arrays import Floats
from mowich.errors import UserError
from mowich.evidence.fitting.collectives import CollectiveCase, CollectivePredictor
from mowich.evidence.fitting.moved import has_range
from mowich.evidence.fitting.overlay import FittedFact
from mowich.evidence.fitting.points import Predictor
from mowich.evidence.fitting.solve import RANGE_END, SCATTER, SCATTER_ELSE, SHARED_SD, Posterior, Priors, is_narrowed
from mowich.evidence.fitting.training import TrainingPredictor
from mowich.evidence.rows import Case
from mowich.facts import Facts
from mowich.facts.together import correlations
from mowich.machines.system import System, parse_spec
from mowich.models.model import Model, as_trained
from mowich.plans.plan import Plan, TrainJob
from mowich.shown import Result
from mowich.software.stack import equip
from mowich.studies.hand_tuned import stack_of
from mowich.studies.next_offers import AskWords, FittedTogether, MeasuringOffer, MeasuringOffers
from mowich.units import StepBatch

TRAINING_STEP, COLLECTIVE_RUN = "training step", "collective"
SIZES_B = (2.0**20, 2.0**25, 2.0**30)
"""Messages of a collective that is measured."""
_LEAST_SHARE = 0.005
"""Share of a step from which its collectives are offered."""
_PARTS: Mapping[str, tuple[str, ...]] = {"all-reduce": ("tp", "dp"), "all-to-all": ("ep",)}
"""Collective -> the parts of a step that it, or what it is made of, makes."""
_NCCL: Mapping[str, str] = {"all-reduce": "all_reduce_perf", "all-to-all": "alltoall_perf"}
_NCCOM: Mapping[str, str] = {"all-reduce": "allr", "all-to-all": "alltoall"}
_PROGRAMS: Mapping[str, str] = {"Google": "maxtext"}
"""Vendor -> the program that `--emit` writes a step for, where it is not torchtitan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """An offer with what predicts its points. Slopes alone are asked of it, which no result moves."""

    offer: MeasuringOffer
    part: Predictor


def trained_offers(
    result: Result, row: Result, model: Model, facts: Facts, system: System, spec: str, ask: AskWords
) -> MeasuringOffers:
    """What a training step and collectives on a system would tell of a number of a row. ask: answers a command."""
    told = [*_steps(result, row, model, facts, system, spec, ask), *_collectives(row, facts, system, spec)]
    spread = {one["fact"]: (float(one["at_low"]), float(one["at_high"])) for one in row.get("spread") or ()}
    spread = {path: ends for path, ends in spread.items() if has_range(facts.fact(path))}
    remains = (
        "the error that steps of this kind of run have beside all constants (training.residuals): no fit of constants"
        " takes it away",
    )
    fit = FitPart.of(spread, [one.part for one in told], facts)
    return MeasuringOffers(
        offers=tuple(one.offer for one in told),
        parts=(fit,),
        remains=remains,
        fitted=lambda made: fit.fitted(made, facts),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FitPart:
    """The share of a range that constants make, beside points that move them. paths: of constants; covariance: of their
    ln today [n, n]; slope: of the number by the ln of each; points: slopes of each offer's points over their
    scatter."""

    paths: tuple[str, ...]
    covariance: Floats
    slope: Floats
    points: tuple[Floats, ...]

    @classmethod
    def of(cls, spread: Mapping[str, tuple[float, float]], parts: Sequence[Predictor], facts: Facts) -> FitPart:
        """spread: ln of the number at the low and at the high end of each constant, as the range counts it."""
        paths = tuple(dict.fromkeys([*spread, *(path for part in parts for path in part.paths)]))
        sd = Priors.of(paths, facts, widen=True).sd
        known = correlations(facts)
        r = np.array([[1.0 if a == b else known.get((min(a, b), max(a, b)), 0.0) for a in paths] for b in paths])
        half = np.array([0.5 * (high - low) for low, high in (spread.get(path, (0.0, 0.0)) for path in paths)])
        points = []
        for part in parts:
            _, slopes = part.slopes({path: facts.number(path) for path in part.paths})
            scatter = np.array([SCATTER.get(point.metric, SCATTER_ELSE) for point in part.points])
            wide = np.zeros((len(scatter), len(paths)))
            wide[:, [paths.index(path) for path in part.paths]] = slopes
            shared = np.linalg.cholesky(np.diag(scatter**2) + SHARED_SD**2)  # points of a run share an error
            points.append(np.linalg.solve(shared, wide))
        return cls(
            paths=paths,
            covariance=r * np.outer(sd, sd),
            slope=half / (RANGE_END * sd),
            points=tuple(points),
        )

    @property
    def before(self) -> float:
        """Squared half-width today."""
        return self.given(())

    def given(self, made: Sequence[int]) -> float:
        """Squared half-width with the offers made, of the constants together."""
        return float(RANGE_END**2 * self.slope @ self.left(made) @ self.slope)

    def left(self, made: Sequence[int]) -> Floats:
        """Covariance of the ln of the constants with the offers made."""
        if not made:
            return self.covariance
        J = np.vstack([self.points[k] for k in made])
        seen = J @ self.covariance
        return np.asarray(self.covariance - seen.T @ np.linalg.solve(seen @ J.T + np.eye(len(J)), seen))

    def posterior(self, made: Sequence[int]) -> Posterior:
        """What the offers leave of each constant, and of all together."""
        left = self.left(made)
        sd = np.sqrt(np.diag(left))
        return Posterior(self.paths, sd, left / np.outer(sd, sd))

    def fitted(self, made: Sequence[int], facts: Facts) -> FittedTogether:
        """The constants that offers narrow, at today's values."""
        after, before = self.posterior(made), np.sqrt(np.diag(self.covariance))
        told = after.take([self.paths[k] for k in np.flatnonzero(is_narrowed(after.sd, before))])
        return tuple(FittedFact.of(facts, path, float(sd)) for path, sd in zip(told.paths, told.sd, strict=True)), told


def _steps(
    result: Result, row: Result, model: Model, facts: Facts, system: System, spec: str, ask: AskWords
) -> list[_Told]:
    """A step of the same model on the chips that are there, with a batch as large for each; none where it does not
    fit."""
    inputs = result["inputs"]
    batch = max(1, round(float(inputs["batch_seqs"]) * system.chips / float(row["chips_requested"])))
    given = [word for text in inputs.get("set") or () if not text.startswith("plan.") for word in ("--set", text)]
    given += [word for folder in inputs.get("facts_dirs") or () for word in ("--facts", str(folder))]
    job = f"--train --tokens {float(inputs['tokens'] or 1e12):g} --seq {inputs['seq']}"
    name = str(inputs.get("model_given") or inputs["model"])
    words = [name, *job.split(), "--batch", str(StepBatch(sequences=batch)), "--on", spec, *given]
    try:
        found = ask(["plan", *words])
    except UserError:
        return []
    best = found["plans"][0]
    if not best.get("plan") or best["step_s"]["value"] is None:
        return []
    stack = stack_of(found["inputs"], best["system"])
    one = Case(
        id="next",
        chip=system.chip,
        source="expected",
        system=equip(facts, best["system_id"], chips=system.chips, stack=stack),
        model=as_trained(model),
        job=replace(TrainJob.from_inputs(found["inputs"]), batch_seqs=float(best["global_batch_seqs"])),
        plan=Plan.from_dict(best["plan"]),
        metric="step_time_s",
        measured=1.0,
        measured_step_s=1.0,
        inferred=(),
        fully_specified=True,
        is_moe=model.has_experts,
        kind="",
        memory_share=0.0,
        memory_plan=Plan.from_dict(best["plan"]),
        allocated_B=None,
    )
    part = TrainingPredictor([("next", one)], facts)
    program = _PROGRAMS.get(system.vendor, "torchtitan")
    folder = f"next-{PurePath(name).name}-step"
    offer = MeasuringOffer(
        what=f"steps of {model.name}, {best['global_batch_seqs']:g} x {inputs['seq']} tokens, {one.plan}",
        kind=TRAINING_STEP,
        where=spec,
        commands=(f"mowich plan {shlex.join(words)} --emit {program} --out {folder}", f"the start script of {folder}"),
        reads=f"mowich calibrate LOG --on {spec} --model {name} --out next.yaml",
    )
    return [_Told(offer=offer, part=part)]


def _collectives(row: Result, facts: Facts, system: System, spec: str) -> list[_Told]:
    """The collectives that take time in a row's step, among the devices that are there."""
    parts, total = row["step_s"]["breakdown"], float(row["step_s"]["value"] or math.inf)
    if system.devices < 2:
        return []
    out = []
    for kind, names in _PARTS.items():
        if sum(parts.get(name, 0.0) for name in names) < _LEAST_SHARE * total:
            continue
        ranks = system.devices
        one = CollectiveCase(system=system, network="", kind=kind, ranks=ranks, data_B=0.0, time_s=1.0)
        part = CollectivePredictor([(f"next {size:g}", replace(one, data_B=size)) for size in SIZES_B], facts)
        sizes = "-b 1M -e 1G -f 32"
        if system.vendor == "AWS":
            command = f"nccom-test {_NCCOM[kind]} -r {ranks} -b 1MB -e 1GB -f 32 | tee {kind}.log"
        else:
            command = f"{_NCCL[kind]} {sizes} -g {ranks} | tee {kind}.log"
        offer = MeasuringOffer(
            what=f"{kind} among {ranks} ranks, 1 MiB, 32 MiB and 1 GiB",
            kind=COLLECTIVE_RUN,
            where=f"{parse_spec(spec)[0]}:{system.chips}",
            commands=(command,),
            reads=f"mowich calibrate {kind}.log --on {spec} --plan kind={kind},ranks={ranks} --out next.yaml",
        )
        out.append(_Told(offer=offer, part=part))
    return out
