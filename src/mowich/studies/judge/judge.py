"""Candidates of a kernel beside one another: which are right, which is fastest, and how sure that is.

Each candidate runs in a closed process of its own, on arguments that are drawn from its own text, so that no candidate
can hold answers that were known before. The reference runs in another process, and is asked how far an answer is. One
run gives values and time, so that a candidate cannot do one thing where it is looked at and another where it is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

from mowich.errors import UserError, UserErrors, unknown
from mowich.estimate import Estimate
from mowich.examples import TASK_PREFIX, file_or_example
from mowich.neuroncore.order import KernelSide
from mowich.nki.check import kernels_text
from mowich.progress import tell
from mowich.readback import record_of
from mowich.requests.debugging import ReferenceFile
from mowich.requests.judging import JudgeRequest
from mowich.shown import Keyed, Shown
from mowich.shown import Result as Figures
from mowich.studies.judge.candidate import (
    CandidateRun,
    JudgeRun,
    KernelCandidate,
    expected_by,
    run_candidate,
    runs_of,
)
from mowich.studies.judge.closed import GUARDS, readable_folders
from mowich.studies.judge.guests import GuestEnd, GuestLimits, in_guests, missing_guards
from mowich.studies.judge.measured import KnownTimes, measure_budget
from mowich.studies.judge.referee import Question, Referee
from mowich.studies.judge.warm import warm_for
from mowich.studies.kernel_reference import ReferenceFit
from mowich.version import VERSION
from mowich.writing import replace_file, told_unwritable

JUDGE_STATUSES = ("ok", "timed", "wrong", "refused")
"""ok: right, within the tolerance on all arguments; timed: values were not asked for, so nobody knows whether it is
right; wrong: not within the tolerance; refused: it did not run to its end, or may not be run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged(Keyed):
    """A candidate. status: of `JUDGE_STATUSES`; reason: why it is not right, with its line; run: on the last arguments,
    None where it has none; fit: of the arguments on which it is farthest from the reference; rank: from 1, of those
    that are right, or timed; p_best: probability that it is faster than the fastest one (1/2: the fastest itself);
    order: to the fastest; tied_with: a faster candidate that it ties with, and of that one all that name it; gain:
    share of the time of the fastest that it is expected to save; measured_s: what a device gave; known: the time as far
    as it is known, with what was measured; seconds: that its process took."""

    KEYS = (
        "file=candidate.name status reason:none time_s p_best rank tied_with order:none expected_gain=gain "
        "measured_s clock_s=run.figures.time_s.value instructions=run.figures.instructions hbm_B=run.figures.hbm_B "
        "spill_B=run.figures.spill_B flop=run.figures.flop bound=run.figures.bound binds=run.figures.binds "
        "reference=fit warnings=run.warnings:list"
    )

    candidate: KernelCandidate
    status: str
    reason: str = ""
    run: CandidateRun | None = None
    fit: ReferenceFit | None = None
    rank: int | None = None
    p_best: float | None = None
    order: str = ""
    tied_with: tuple[str, ...] = ()
    gain: float | None = None
    measured_s: float | None = None
    known: Estimate | None = None
    seconds: float = 0.0

    @property
    def time_s(self) -> Figures | None:
        """What is known of its time: what the clock says, or what follows from measured times."""
        if self.run is None:
            return None
        figures = self.run.figures
        return {**figures["time_s"], "grade": figures["grade"]} if self.known is None else self.known.to_dict()


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelJudge(Shown):
    """All candidates. rows: those that are right first, fastest first; measure_next: names of those that are worth a
    device (`KnownTimes.measure_next`); budget: how many may be measured, with those that were; missing: what closes a
    candidate's process and this system does not have (`closed.GUARDS`).

    Units: seconds, bytes.

    Example:
        >>> import mowich
        >>> found = mowich.judge(["softmax.py"], reference="softmax.py", on="trn3")  # doctest: +SKIP
    """

    SCHEMA = "mowich/judge@1"
    KEYS = "reference target shapes seeds candidates=rows:count count measure_next measure_budget=budget missing rows"

    reference: str
    target: str
    shapes: tuple[str, ...]
    seeds: int
    rows: tuple[Judged, ...]
    measure_next: tuple[str, ...]
    budget: int
    missing: tuple[str, ...] = ()

    @property
    def best(self) -> Judged | None:
        """The fastest that is right."""
        return self.rows[0] if self.rows and self.rows[0].rank == 1 else None

    @property
    def count(self) -> dict[str, int]:
        """Candidates of each status."""
        return {status: sum(row.status == status for row in self.rows) for status in JUDGE_STATUSES}


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeAsk:
    """What candidates are judged by. shapes: arguments of each run, "x=float32[128,512] scale=2.0"; the last one is
    timed; empty: what `inputs()` of the reference's file gives; seeds: draws of each; tolerance: None: by the formats;
    measured_s: seconds that a device gave, by the name of a candidate; budget: candidates that may be measured, with
    those that were, None: a fifth of those that are right, at least two; at_once: processes; cache: a folder where
    answers are kept, None: nowhere; guards: what closes a candidate's process."""

    reference: ReferenceFile
    kernel: str | None
    how: JudgeRun
    shapes: tuple[str, ...] = ()
    seeds: int = 2
    seed: int = 0
    tolerance: float | None = None
    measured_s: Mapping[str, float] = field(default_factory=dict)
    budget: int | None = None
    at_once: int = 1
    time_s: float = 20.0
    memory_B: int = 4 * 2**30
    cache: Path | None = None
    guards: tuple[str, ...] = GUARDS


def kernels_judged(
    asked: JudgeRequest,
    candidates: Sequence[KernelCandidate] | None = None,
    told: Callable[[Judged], None] = lambda _: None,
) -> KernelJudge:
    """Candidates of a kernel beside one another. candidates: None: those of the files that are named; told: is given
    each as soon as it is known."""
    ask = record_of(
        JudgeAsk,
        asked,
        how=JudgeRun(target=asked.on, lnc=asked.lnc, version=asked.nki, values=not asked.time_alone),
        seeds=1 if asked.time_alone else asked.seeds,
        measured_s=asked.measured,
        budget=asked.measure_budget,
        at_once=asked.processes,
        time_s=asked.timeout_s,
        memory_B=int(asked.memory_GiB * 2**30),
    )
    return judge_kernels(candidate_files(asked.candidates) if candidates is None else candidates, ask, told)


def judge_kernels(
    candidates: Sequence[KernelCandidate], ask: JudgeAsk, told: Callable[[Judged], None] = lambda _: None
) -> KernelJudge:
    """Judge candidates. told: is given each as soon as it is known, without its rank. Raises UserError for a reference
    that cannot be used."""
    _check_measured(candidates, ask)
    missing = missing_guards(_limits(ask))
    keys = [_key(candidate, ask, missing) for candidate in candidates]
    first: dict[str, KernelCandidate] = {}
    for key, candidate in zip(keys, candidates, strict=True):
        first.setdefault(key, candidate)
    warm_for(ask.how)
    found: dict[str, Judged] = {}
    with Referee(ask.reference, ask.kernel or "", ask.how.target) as referee, expected_by(ask.how):
        for key, judged in _each(first, ask, referee):
            found[key] = judged
            told(judged)
            tell("judging", len(found), len(first))
    rows = [replace(found[key], candidate=c) for key, c in zip(keys, candidates, strict=True)]
    ranked, known = ranked_by_time(rows, ask.measured_s)
    budget = measure_budget(len(known.sides)) if ask.budget is None else ask.budget
    return KernelJudge(
        reference=str(ask.reference.file),
        target=ask.how.target,
        shapes=ask.shapes,
        seeds=ask.seeds,
        rows=tuple(ranked),
        measure_next=tuple(ranked[at].candidate.name for at in known.measure_next(budget - len(known.measured_s))),
        budget=budget,
        missing=missing,
    )


def _check_measured(candidates: Sequence[KernelCandidate], ask: JudgeAsk) -> None:
    """Raise UserErrors for measured times of names that no candidate has."""
    names = [candidate.name for candidate in candidates]
    problems = [unknown("candidate", name, names, field="measured") for name in ask.measured_s if name not in names]
    if problems:
        raise UserErrors(problems)


def _key(candidate: KernelCandidate, ask: JudgeAsk, missing: tuple[str, ...]) -> str:
    """What an answer depends on, as one word: the candidate's text, what it is judged by, and what is not closed."""
    asked = (VERSION, candidate.text, candidate.kernel, ask.kernel, ask.shapes, ask.seeds, ask.seed, ask.tolerance)
    more = (ask.how, ask.reference.name, kernels_text(ask.reference.file), ask.time_s, ask.memory_B, missing)
    return sha256(repr((asked, more)).encode()).hexdigest()


def _questions(candidate: KernelCandidate, ask: JudgeAsk) -> list[Question]:
    """The arguments of a candidate, those of each shape and draw. Seeds follow from its text: whoever knows an answer
    to them knew the text before it was written."""
    drawn = sha256(repr((candidate.text, ask.seed)).encode()).digest()
    seeds = [int.from_bytes(drawn[4 * i : 4 * i + 4], "little") for i in range(min(max(ask.seeds, 1), 8))]
    return [Question(words=tuple(words.split()), seed=seed) for words in (ask.shapes or ("",)) for seed in seeds]


def _each(first: Mapping[str, KernelCandidate], ask: JudgeAsk, referee: Referee) -> Iterator[tuple[str, Judged]]:
    """(Key, what is known of it) of candidates that differ, as they are known."""
    left: list[tuple[str, KernelCandidate, list[Question]]] = []
    for key, candidate in first.items():
        kept = _read(ask.cache, key)
        if kept is not None:
            yield key, _judged(candidate, GuestEnd(place=0, value=kept), ask, referee)
        else:
            left.append((key, candidate, _questions(candidate, ask)))

    def works() -> Iterator[Callable[[], bytes]]:
        for _, candidate, questions in left:
            given = [referee.arguments(question) for question in questions]
            yield partial(run_candidate, replace(candidate, kernel=candidate.kernel or ask.kernel), given, ask.how)

    for end in in_guests(works(), _limits(ask), at_once=ask.at_once):
        key, candidate, questions = left[end.place]
        if end.value is not None:
            _write(ask.cache, key, end.value)
        yield key, _judged(candidate, end, ask, referee)
        referee.forget(questions)


def _limits(ask: JudgeAsk) -> GuestLimits:
    return GuestLimits(time_s=ask.time_s, memory_B=ask.memory_B, reads=readable_folders(), guards=ask.guards)


def _judged(candidate: KernelCandidate, end: GuestEnd, ask: JudgeAsk, referee: Referee) -> Judged:
    """What a candidate's process told, beside the reference."""
    judged = partial(Judged, candidate=candidate, seconds=end.seconds)
    if end.value is None:
        return judged(status="refused", reason=end.why)
    try:
        runs, why = runs_of(end.value)
        if why or not runs:
            return judged(status="refused", reason=why or "it ran on nothing")
        if not ask.how.values:
            return judged(status="timed", run=runs[-1])
        fits = [
            referee.fit(question, run.outputs, ask.tolerance)
            for question, run in zip(_questions(candidate, ask), runs, strict=True)
        ]
    except (UserError, UserErrors) as error:
        return judged(status="refused", reason=error.line())
    worst = max(fits, key=lambda fit: fit.share / fit.tolerance if fit.tolerance else fit.share)
    if not worst.is_close:
        at = f"at {list(worst.place)} of output {worst.output} it has {worst.got:.6g}, the reference {worst.wanted:.6g}"
        return judged(status="wrong", reason=at, run=runs[-1], fit=worst)
    return judged(status="ok", run=runs[-1], fit=worst)


def _read(folder: Path | None, key: str) -> bytes | None:
    try:
        return None if folder is None else (folder / f"{key}.run").read_bytes()
    except OSError:
        return None


def _write(folder: Path | None, key: str, value: bytes) -> None:
    if folder is None:
        return
    with told_unwritable(field=f"cache {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / f"{key}.run", value, lasting=False)


def ranked_by_time(rows: Sequence[Judged], measured_s: Mapping[str, float] = {}) -> tuple[list[Judged], KnownTimes]:
    """(Those that are right, or timed, by time with their order to the fastest; then those that are wrong; then those
    that were refused; the times of the first, in this order)."""
    told = [replace(row, measured_s=measured_s.get(row.candidate.name)) for row in rows]
    good = [row for row in told if row.status in ("ok", "timed")]
    timed = [row for row in good if _side(row).time_s is not None]
    known = _known(timed)
    timed = [timed[at] for at in known.by_time]
    known = _known(timed)
    ties, out = _ties(known), []
    for place, row in enumerate(timed):
        order = known.order(place, 0)
        p = 0.5 if place == 0 else None if order.p_a_slower is None else 1.0 - order.p_a_slower
        words = {"a slower": "slower", "b slower": "faster"}.get(order.verdict, order.verdict)
        row = replace(row, rank=place + 1, p_best=p, tied_with=tuple(timed[at].candidate.name for at in ties[place]))
        if place:
            row = replace(row, order=words, gain=known.gains[place])
        out.append(replace(row, known=known.estimate(place)) if known.measured_s else row)
    rest = [row for row in good if _side(row).time_s is None]
    bad = sorted((row for row in told if row not in good), key=lambda row: JUDGE_STATUSES.index(row.status))
    return [*out, *rest, *bad], known


def _known(rows: Sequence[Judged]) -> KnownTimes:
    measured_s = {at: row.measured_s for at, row in enumerate(rows) if row.measured_s is not None}
    return KnownTimes(tuple(map(_side, rows)), measured_s)


def _ties(known: KnownTimes) -> list[list[int]]:
    """Of each candidate, by time: the fastest one, or else the last before it that names none, if it ties with that; of
    these, all that name them. Not every pair, so that a thousand that are alike are a thousand words, and each that is
    named is a tie."""
    ties, firsts = [list[int]() for _ in known.sides], list[int]()
    for place in range(len(known.sides)):
        tried = dict.fromkeys((*firsts[:1], *firsts[-1:]))
        first = next((at for at in tried if known.order(at, place).verdict == "tie"), None)
        if first is None:
            firsts.append(place)
        else:
            ties[place].append(first)
            ties[first].append(place)
    return ties


def _side(row: Judged) -> KernelSide:
    assert row.run is not None
    return row.run.side


def candidate_files(named: Sequence[str]) -> list[KernelCandidate]:
    """Candidates of files, folders and patterns, in order. Raises UserErrors for what names none."""
    import glob

    out, problems = dict[str, KernelCandidate](), list[UserError]()
    for word in named:
        path = file_or_example(word, "kernels")
        found = sorted(path.glob("*.py")) if path.is_dir() else [path] if path.is_file() else []
        found = found or sorted(Path(x) for x in glob.glob(word, recursive=True) if x.endswith(".py"))
        if not found:
            problems.append(UserError("no candidate", where=word, allowed="a FILE.py, a folder of them, or a pattern"))
        for file in found:
            name = word if word.startswith(("@", TASK_PREFIX)) else str(file)
            out.setdefault(name, KernelCandidate(name=name, text=kernels_text(file)))
    if problems:
        raise UserErrors(problems)
    return [*out.values()]
