"""A kernel with other constants: each variant is timed by the clock in a closed process, as the judge times candidates.

What takes time is values, not the clock: the clock is a twentieth of a variant. So all variants are timed, and values
are computed beside a reference for those alone that could be the answer: the front, and what is not surely slower than
the fastest. One that is wrong makes room for the next. What a variant gives does not depend on the order in which they
run.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from mowich.errors import UserError
from mowich.examples import example_name
from mowich.neuroncore.order import order_between
from mowich.nki.check import kernels_text
from mowich.progress import tell
from mowich.readback import record_of
from mowich.requests.debugging import ReferenceFile
from mowich.requests.tuning import TuneRequest
from mowich.shown import Keyed, Rows, Shown
from mowich.studies.judge.candidate import (
    Arguments,
    JudgeRun,
    KernelCandidate,
    OwnArguments,
    expected_by,
    run_candidate,
    runs_of,
)
from mowich.studies.judge.closed import readable_folders
from mowich.studies.judge.guests import GuestEnd, GuestLimits, in_guests
from mowich.studies.judge.judge import JUDGE_STATUSES, JudgeAsk, Judged, judge_kernels, ranked_by_time
from mowich.studies.judge.measured import KnownTimes
from mowich.studies.judge.referee import Question, Referee
from mowich.studies.judge.warm import warm_for
from mowich.studies.tune.space import ConstantValue, Variant, VariantSpace, read_space
from mowich.sums import float_sum

ROUND = 32
"""Variants that are chosen together, before what they gave is looked at."""
_SAMPLED = 0.5
"""Share of a limit that is spread over the whole space, before the neighbours of the fastest are tried."""
_MOST_TO_MEASURE = 4
AS_IS = -1
"""The number of the file as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneAsk:
    """What is tuned. file: as an answer calls it; text: of it; vary: "TILE=128,256"; targets: "trn2", "trn3"; limit:
    most variants that are tried; prunes: whether values are computed only for those that could be the answer; judge:
    the reference, shapes, limits and processes, as of `kernel judge`; has_reference: whether values are asked for."""

    file: str
    text: str
    vary: tuple[str, ...]
    targets: tuple[str, ...]
    judge: JudgeAsk
    has_reference: bool
    limit: int = 1000
    prunes: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedRow(Keyed):
    """A variant on one target. judged: its status, time, rank and order to the fastest; is_front: whether no other
    one is as fast with as few bytes of SBUF and of HBM."""

    KEYS = (
        "on settings=variant.settings status=judged.status reason=judged.reason:none time_s=judged.time_s "
        "p_best=judged.p_best rank=judged.rank tied_with=judged.tied_with order=judged.order:none "
        "expected_gain=judged.gain instructions=judged.run.figures.instructions hbm_B=judged.run.figures.hbm_B "
        "spill_B=judged.run.figures.spill_B flop=judged.run.figures.flop bound=judged.run.figures.bound "
        "binds=judged.run.figures.binds sbuf_B=judged.run.figures.sbuf_B front=is_front"
    )

    on: str
    variant: Variant
    judged: Judged
    is_front: bool = False

    @property
    def time_s(self) -> float | None:
        """Seconds by the clock."""
        return None if self.judged.run is None else self.judged.run.side.time_s

    @property
    def is_good(self) -> bool:
        """Whether it is right, as far as it was asked, and has a time."""
        return self.judged.status in ("ok", "timed") and self.time_s is not None

    def costs(self) -> tuple[float, int, int]:
        """(Seconds, bytes of a partition of SBUF, bytes of HBM) of one that is good."""
        assert self.judged.run is not None
        assert self.time_s is not None
        figures = self.judged.run.figures
        return self.time_s, figures["sbuf_B"], figures["hbm_B"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetBest(Keyed):
    """The fastest variant of one target. p_best: probability that it is, at least; measure_next: settings that
    are worth a device (`KnownTimes.measure_next`); as_is: the file as it is, None: it is not good;
    speedup: of the fastest over it."""

    KEYS = "on settings=row.variant.settings time_s p_best measure_next as_is speedup"

    on: str
    row: TunedRow | None
    p_best: float | None
    measure_next: tuple[Mapping[str, ConstantValue], ...]
    as_is: TunedRow | None

    @property
    def speedup(self) -> float | None:
        """Time of the file as it is over the time of the fastest; None where either has none."""
        if self.row is None or self.as_is is None or not self.row.time_s or self.as_is.time_s is None:
            return None
        return self.as_is.time_s / self.row.time_s

    @property
    def time_s(self) -> object:
        """The time of the best variant as the JSON states it."""
        return None if self.row is None else self.row.to_dict()["time_s"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OneForAll(Keyed):
    """The setting that loses least on the target where it loses most. loss: target -> time over the fastest one's, less
    1."""

    settings: Mapping[str, ConstantValue]
    loss: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTune(Shown):
    """Variants of a kernel. rows: of each target the good ones by time, then those that are wrong, then those that were
    refused; space: variants that there are; tried: those that ran; one_for_all: None with one target; no_effect: what
    changes no time and no byte.

    Units: seconds, bytes.

    Example:
        >>> import mowich
        >>> found = mowich.tune("@rmsnorm", vary={"BUFFERS": [1, 2]}, on=["trn2", "trn3"])  # doctest: +SKIP
        >>> found.best[0].row.variant.settings  # doctest: +SKIP
        {'BUFFERS': 2}
    """

    SCHEMA = "mowich/kernel-tune@1"
    KEYS = "file kernel reference shapes axes targets space tried not_tried limit count best no_effect one_for_all rows"

    file: str
    kernel: str | None
    reference: str | None
    shapes: tuple[str, ...]
    axes: Mapping[str, tuple[ConstantValue, ...]]
    targets: tuple[str, ...]
    space: int
    tried: int
    limit: int
    rows: Rows[TunedRow]
    best: tuple[TargetBest, ...]
    one_for_all: OneForAll | None
    no_effect: tuple[str, ...]

    @property
    def not_tried(self) -> int:
        """Variants that did not run."""
        return self.space - self.tried

    @property
    def count(self) -> dict[str, int]:
        """Variants of each status."""
        statuses = [row.judged.status for row in self.rows]
        return {status: statuses.count(status) for status in JUDGE_STATUSES}


@dataclass(slots=True)
class _Search:
    """What is known of variants so far: target -> number -> row."""

    space: VariantSpace
    ask: TuneAsk
    found: dict[str, dict[int, TunedRow]] = field(default_factory=dict)

    def variant(self, number: int) -> Variant:
        """A variant, or the file as it is."""
        return Variant(number=AS_IS, settings={}, text=self.ask.text) if number == AS_IS else self.space.variant(number)

    def good(self, target: str) -> list[TunedRow]:
        """Those of the space that are good, the fastest first."""
        rows = [row for number, row in self.found[target].items() if row.is_good and number != AS_IS]
        return sorted(rows, key=lambda row: (row.costs(), row.variant.number))


def kernel_tuned(asked: TuneRequest) -> KernelTune:
    """A kernel with other constants, each variant timed by the clock."""
    judge = record_of(
        JudgeAsk,
        asked,
        reference=asked.reference or ReferenceFile(asked.file, ""),
        how=JudgeRun(target=asked.on[0], lnc=asked.lnc, version=asked.nki),
        at_once=asked.processes,
        time_s=asked.timeout_s,
        memory_B=int(asked.memory_GiB * 2**30),
    )
    return tune_kernel(
        TuneAsk(
            file=example_name(asked.file, "kernels") or str(asked.file),
            text=kernels_text(asked.file),
            vary=asked.vary,
            targets=asked.on,
            judge=judge,
            has_reference=asked.reference is not None,
            limit=asked.limit,
            prunes=not asked.all_values,
        )
    )


def tune_kernel(ask: TuneAsk) -> KernelTune:
    """Time the variants of a file. Raises UserErrors for values that cannot be varied so, UserError for a reference
    that cannot be used."""
    space = read_space(ask.text, ask.file, ask.judge.kernel, ask.vary)
    search = _Search(space, ask, {target: {} for target in ask.targets})
    for target in ask.targets:
        warm_for(replace(ask.judge.how, target=target, values=False))
    arguments = _arguments(ask)
    most = min(len(space), ask.limit)
    _time(search, [AS_IS], arguments, most)
    while (left := most - len(_numbers(search))) > 0:
        _time(search, _next(search, most)[:left], arguments, most)
    if ask.has_reference:
        _compute_values(search)
    ranked = {target: _ranked(search, target) for target in ask.targets}
    return KernelTune(
        file=ask.file,
        kernel=ask.judge.kernel,
        reference=str(ask.judge.reference.file) if ask.has_reference else None,
        shapes=ask.judge.shapes,
        axes={axis.name: axis.values for axis in space.axes},
        targets=ask.targets,
        space=len(space),
        tried=len(_numbers(search)),
        limit=ask.limit,
        rows=Rows(row for target in ask.targets for row in ranked[target]),
        best=tuple(_best(search, target, ranked[target]) for target in ask.targets),
        no_effect=_no_effect(search),
        one_for_all=_one_for_all(search) if len(ask.targets) > 1 else None,
    )


def _numbers(search: _Search) -> list[int]:
    """Variants that were tried."""
    return [number for number in search.found[search.ask.targets[0]] if number != AS_IS]


# ---- which variants are tried
# ----------------------------------------------------------------------------------------------------------------------


def _next(search: _Search, most: int) -> list[int]:
    """The next variants to try: all, where there is room for all; else some that are spread over the space, then the
    neighbours of the fastest ones."""
    space, tried = search.space, set(_numbers(search))
    if len(space) <= most:
        return [*range(len(space))]
    spread = random.Random(0).sample(range(len(space)), most)
    first = [number for number in spread[: math.ceil(most * _SAMPLED)] if number not in tried]
    if first:
        return first
    near = dict[int, None]()
    for target in search.ask.targets:
        for row in search.good(target)[:2]:
            near.update(dict.fromkeys(n for n in space.neighbours(row.variant.number) if n not in tried))
    return ([*near] or [number for number in spread if number not in tried])[:ROUND]


# ---- times
# ----------------------------------------------------------------------------------------------------------------------


def _arguments(ask: TuneAsk) -> Arguments | OwnArguments:
    """The arguments that variants are timed on: those of the reference, else those that the file has itself. The file
    makes them in its own closed process."""
    words = tuple(ask.judge.shapes[-1].split()) if ask.judge.shapes else ()
    if not ask.has_reference:
        return partial(_own_arguments, words, ask.judge.seed)
    with Referee(ask.judge.reference, ask.judge.kernel or "", ask.targets[0]) as referee:
        return [referee.arguments(Question(words=words, seed=ask.judge.seed))]


def _own_arguments(words: Sequence[str], seed: int, kernel: object, names: Mapping[str, object]) -> Arguments:
    """Arguments of a kernel by shape, or what `inputs()` of its file gives."""
    from mowich.nki import Kernel
    from mowich.studies.kernel_files import described_arguments, one_line

    assert isinstance(kernel, Kernel)
    inputs = names.get("inputs")
    if words or not callable(inputs):
        return [described_arguments(kernel, kernel.func.__name__, words, seed, values=False)]
    with one_line(str(names["__file__"])):
        return [dict(inputs())]


def _time(search: _Search, numbers: Sequence[int], arguments: Arguments | OwnArguments, most: int) -> None:
    """Time these variants on all targets, values left out."""
    ask = search.ask
    ends = dict[tuple[str, int], GuestEnd]()
    limits = GuestLimits(
        time_s=ask.judge.time_s, memory_B=ask.judge.memory_B, reads=readable_folders(), guards=ask.judge.guards
    )
    done = len(_numbers(search)) * len(ask.targets)
    for target in ask.targets:
        how = replace(ask.judge.how, target=target, values=False, fits=True)
        works = (partial(run_candidate, _candidate(search, number), arguments, how) for number in numbers)
        with expected_by(how):
            for end in in_guests(works, limits, at_once=ask.judge.at_once):
                ends[target, numbers[end.place]] = end
                tell("timing variants", done + len(ends), most * len(ask.targets))
    for (target, number), end in sorted(ends.items(), key=lambda item: item[0]):
        variant = search.variant(number)
        judged = _timed(_candidate(search, number), end)
        search.found[target][number] = TunedRow(on=target, variant=variant, judged=judged)


def _candidate(search: _Search, number: int) -> KernelCandidate:
    return KernelCandidate(name=search.ask.file, text=search.variant(number).text, kernel=search.ask.judge.kernel)


def _timed(candidate: KernelCandidate, end: GuestEnd) -> Judged:
    """What the process of a variant told."""
    try:
        runs, why = ([], end.why) if end.value is None else runs_of(end.value)
    except UserError as error:
        runs, why = [], error.line()
    if not runs:
        return Judged(candidate=candidate, status="refused", reason=why or "it ran on nothing", seconds=end.seconds)
    return Judged(candidate=candidate, status="timed", run=runs[-1], seconds=end.seconds)


# ---- values
# ----------------------------------------------------------------------------------------------------------------------


def _compute_values(search: _Search) -> None:
    """Replace "timed" by the verdict of the judge: for variants that could be the answer, until no such variant is
    left; for all, where nothing is pruned."""
    while True:
        is_done = True
        for target in search.ask.targets:
            could_be = _could_be_the_answer(search, target) if search.ask.prunes else [*search.found[target].values()]
            open_ = [row for row in could_be if row.judged.status == "timed"]
            if open_:
                _judge(search, target, open_)
                is_done = False
        if is_done:
            return


def _could_be_the_answer(search: _Search, target: str) -> list[TunedRow]:
    """The front, those that are not surely slower than the fastest, the file as it is, and the one for all targets."""
    good = search.good(target)
    ranked, _ = ranked_by_time([row.judged for row in good])
    near = {judged.candidate.text for judged in ranked if judged.order != "slower"}
    front = _front(good)
    number = _for_all(search)[0] if len(search.ask.targets) > 1 else None
    asked = [row for row in good if row.variant.number in front or row.variant.text in near]
    return asked + [row for n, row in search.found[target].items() if n in (AS_IS, number) and row not in asked]


def _judge(search: _Search, target: str, rows: Sequence[TunedRow]) -> None:
    """Compute the values of some variants, beside the reference."""
    ask = search.ask
    how = replace(ask.judge.how, target=target, values=True)
    answer = judge_kernels([row.judged.candidate for row in rows], replace(ask.judge, how=how))
    by_text = {judged.candidate.text: judged for judged in answer.rows}
    for row in rows:
        found = by_text[row.variant.text]
        # one time for all rows: that of a run without values
        judged = replace(row.judged, status=found.status, reason=found.reason, fit=found.fit)
        search.found[target][row.variant.number] = replace(row, judged=judged)


# ---- the answer
# ----------------------------------------------------------------------------------------------------------------------


def _front(good: Sequence[TunedRow]) -> set[int]:
    """Numbers of those that no other one equals or beats in time, SBUF and HBM at once. good: sorted by them."""
    front = list[tuple[float, int, int]]()
    out = set[int]()
    for row in good:
        costs = row.costs()
        if not any(all(a <= b for a, b in zip(other, costs, strict=True)) for other in front):
            front.append(costs)
            out.add(row.variant.number)
    return out


def _ranked(search: _Search, target: str) -> list[TunedRow]:
    """All rows of a target but that of the file as it is, with rank, order and front."""
    rows = {row.variant.text: row for number, row in search.found[target].items() if number != AS_IS}
    ordered = sorted(rows.values(), key=lambda row: row.variant.number)
    good = search.good(target)
    front = _front(good)
    ranked, _ = ranked_by_time([row.judged for row in [*good, *(row for row in ordered if not row.is_good)]])
    return [
        replace(row, judged=judged, is_front=row.variant.number in front)
        for judged in ranked
        if (row := rows[judged.candidate.text])
    ]


def _best(search: _Search, target: str, ranked: Sequence[TunedRow]) -> TargetBest:
    """The fastest one of a target, and how sure that is."""
    good = _distinct([row for row in ranked if row.judged.rank is not None])
    as_is = search.found[target][AS_IS]
    known = KnownTimes(tuple(row.judged.run.side for row in good if row.judged.run is not None), {})
    return TargetBest(
        on=target,
        row=good[0] if good else None,
        p_best=_chance_of_best(good) if good else None,
        measure_next=tuple(good[at].variant.settings for at in known.measure_next(_MOST_TO_MEASURE)),
        as_is=as_is if as_is.is_good else None,
    )


def _chance_of_best(good: Sequence[TunedRow]) -> float:
    """Probability that the first one is the fastest, at least: the product of that of each pair, as if what is not
    known of one variant were not known of another one apart. Those of the same time and path are one."""
    first, *others = [row.judged.run.side for row in good if row.judged.run is not None]
    chances = (order_between(side, first).p_a_slower for side in others)
    return math.prod(1.0 if p is None else p for p in chances)


def _distinct(good: Sequence[TunedRow]) -> list[TunedRow]:
    """Those that differ in time or in what it is made of, the first of each."""
    out = dict[str, TunedRow]()
    for row in good:
        assert row.judged.run is not None
        side = row.judged.run.side
        out.setdefault(repr((side.time_s, sorted(side.path.items()))), row)
    return [*out.values()]


def _no_effect(search: _Search) -> tuple[str, ...]:
    """Axes that change no time and no byte of any variant: names, in order."""
    out = []
    for place, axis in enumerate(search.space.axes):
        groups = dict[tuple[object, ...], set[object]]()
        for target in search.ask.targets:
            for row in search.found[target].values():
                if row.variant.number != AS_IS:
                    at = search.space.places(row.variant.number)
                    what = row.costs() if row.is_good else row.judged.reason
                    groups.setdefault((target, *at[:place], *at[place + 1 :]), set()).add(what)
        is_seen = len(_numbers(search)) * len(search.ask.targets) > len(groups)
        if is_seen and all(len(seen) == 1 for seen in groups.values()):
            out.append(axis.name)
    return tuple(out)


def _for_all(search: _Search) -> tuple[int | None, dict[str, float]]:
    """(The variant whose largest loss is the smallest, None: no variant is good on all targets; its losses)."""
    good = {
        target: {row.variant.number: row.costs()[0] for row in search.good(target)} for target in search.ask.targets
    }
    least = {target: min(times.values(), default=math.inf) for target, times in good.items()}
    shared = [n for n in good[search.ask.targets[0]] if all(n in times for times in good.values())]
    losses = {n: {target: times[n] / least[target] - 1.0 for target, times in good.items()} for n in shared}
    best = min(shared, key=lambda n: (max(losses[n].values()), float_sum(losses[n].values()), n), default=None)
    return best, {} if best is None else losses[best]


def _one_for_all(search: _Search) -> OneForAll | None:
    number, loss = _for_all(search)
    return None if number is None else OneForAll(settings=search.variant(number).settings, loss=loss)
