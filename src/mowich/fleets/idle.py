"""The idle chips of an answer, and why they idle: nobody asks for work then, they cannot do the asked work, they wait
for the peak of the day, no more of their work is welcome, other paid chips do it with less energy, the work is not
ported to their software, or all the work is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mowich.fleets.answer import Answer, PeriodUse
from mowich.fleets.problem import WORK_GOALS, Choice, FleetProblem, TaskRates
from mowich.sums import float_sum

LEAST_IDLE = 0.005
"""A smaller idle share comes from whole units and whole periods, and gets no reason."""

REASONS = ("nothing asked", "cannot", "night", "full", "stack", "dearer", "done")
"""Why a system stands idle in a period, in the order in which they are tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleSystem:
    """One system over all periods. chips: idle on average over the periods in which it stands; share: of its
    chip-periods; reason: one of `REASONS`, that of most of its idle chips; reason_share: share of its idle chip-periods
    with that reason; tasks: tasks that the reason is about; others: systems that do these tasks instead; energy: their
    energy for a token over its own, the mean by chips (None where power or the task is unknown, or for another reason);
    cannot: asked tasks without a speed on it, each with the reason."""

    system: str
    chips: float
    share: float
    first: str
    last: str
    reason: str
    reason_share: float
    tasks: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    energy: float | None = None
    cannot: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Why:
    """The reason of one period. energy: (others' energy for a token over its own, their chips) of each task that they
    do."""

    reason: str
    tasks: tuple[str, ...]
    others: tuple[str, ...]
    energy: tuple[tuple[float, float], ...] = ()


def idle_systems(problem: FleetProblem, rates: TaskRates, answer: Answer) -> tuple[IdleSystem, ...]:
    """Every system with more than `LEAST_IDLE` of its chips idle, the one with the most idle chip-periods first."""
    out = []
    for choice in problem.choices:
        mine = [u for u in answer.uses if u.system == choice.name]
        idle = [u for u in mine if u.there - u.busy > LEAST_IDLE * u.there]
        if not idle:
            continue
        whys = [(u, _why(problem, rates, answer, choice, u.period)) for u in idle]
        weight = {r: float_sum(u.there - u.busy for u, w in whys if w.reason == r) for r in REASONS}
        reason = max(REASONS, key=lambda r: weight[r])
        all_idle = float_sum(u.there - u.busy for u in idle)
        out.append(_together(choice, mine, all_idle, reason, weight[reason] / all_idle, whys, problem, rates))
    return tuple(sorted(out, key=lambda i: (-i.chips, i.system)))


def _together(
    choice: Choice,
    uses: Sequence[PeriodUse],
    idle: float,
    reason: str,
    reason_share: float,
    whys: Sequence[tuple[PeriodUse, _Why]],
    problem: FleetProblem,
    rates: TaskRates,
) -> IdleSystem:
    said = [w for _, w in whys if w.reason == reason]
    energy = [pair for w in said for pair in w.energy]
    chips = float_sum(n for _, n in energy)
    periods = [u.period for u, _ in whys]
    active = {t for u, _ in whys for t in _asked(problem, choice, u.period)}
    return IdleSystem(
        system=choice.name,
        chips=idle / len(uses),
        share=idle / float_sum(u.there for u in uses),
        first=periods[0],
        last=periods[-1],
        reason=reason,
        reason_share=reason_share,
        tasks=tuple(dict.fromkeys(t for w in said for t in w.tasks)),
        others=tuple(dict.fromkeys(s for w in said for s in w.others)),
        energy=float_sum(ratio * n for ratio, n in energy) / chips if chips else None,
        cannot={t: why for t in sorted(active) if (why := _no_speed(rates, t, choice.name))},
    )


def _asked(problem: FleetProblem, choice: Choice, period: str) -> tuple[str, ...]:
    """The tasks that may run on a system and are asked for in a period."""
    t = problem.labels.index(period)
    return tuple(
        task.name
        for workload in problem.workloads
        if choice in problem.allowed(workload) and workload.first <= t <= workload.last
        for task in workload.tasks
        if task.kind != "serve" or task.tokens_per_s[t] > 0
    )


def _no_speed(rates: TaskRates, task: str, system: str) -> str:
    """Why a task has no speed on a system; "" where it has one."""
    rate = rates.get((task, system))
    if rate is None:
        return "no speed is given"
    speed = rate.tokens_per_s_per_chip
    return "" if speed.value is not None else speed.reason or "it does not run"


def _why(problem: FleetProblem, rates: TaskRates, answer: Answer, choice: Choice, period: str) -> _Why:
    """Why chips of a system stand idle in a period: the first reason that holds."""
    asked = _asked(problem, choice, period)
    can = tuple(t for t in asked if not _no_speed(rates, t, choice.name))
    if not asked:
        return _Why("nothing asked", (), ())
    if not can:
        return _Why("cannot", asked, ())
    uses = next(u for u in answer.uses if u.system == choice.name and u.period == period)
    if _fullest(problem, answer, choice.name, period) - uses.busy > 0.5 * (uses.there - uses.busy):
        t = problem.labels.index(period)
        bound = tuple(task.name for task in problem.tasks if task.day and task.tokens_per_s[t] > 0 and task.name in can)
        return _Why("night", bound, ())
    if problem.goals[0] in WORK_GOALS:
        return _Why("full", can, ())
    return _why_elsewhere(problem, rates, answer, choice, period, can)


def _why_elsewhere(
    problem: FleetProblem, rates: TaskRates, answer: Answer, choice: Choice, period: str, can: tuple[str, ...]
) -> _Why:
    """Why other systems do the tasks that a system can run (`can`): no port to its stack, more energy per token, or all
    work is done."""
    others = [a for a in answer.assign if a.task in can and a.system != choice.name and a.period == period]
    names = tuple(dict.fromkeys(a.system for a in others))
    tasks = tuple(dict.fromkeys(a.task for a in others))
    by_name = {c.name: c for c in problem.choices}
    of_task = {task.name: task.workload for task in problem.tasks}
    ported = {of_task[a.task] for a in answer.assign if by_name[a.system].stack == choice.stack}
    if others and all(of_task[task] not in ported for task in tasks):
        return _Why("stack", tasks, names)
    energy = [
        (theirs / own, a.chips)
        for a in others
        if (own := _energy(choice, rates, a.task)) and (theirs := _energy(by_name[a.system], rates, a.task))
    ]
    if energy and all(ratio < 1 for ratio, _ in energy):
        return _Why("dearer", tasks, names, tuple(energy))
    return _Why("done", can, names)


def _fullest(problem: FleetProblem, answer: Answer, system: str, period: str) -> float:
    """Chips that a system needs in the fullest hour of the day for the tasks that are bound to hours."""
    tasks = {task.name: task for task in problem.tasks}
    mine = [(tasks[a.task], a.chips) for a in answer.assign if a.system == system and a.period == period]
    return max(
        (float_sum(task.hour(h) * chips / task.day_mean for task, chips in mine) for h in problem.hours), default=0.0
    )


def _energy(choice: Choice, rates: TaskRates, task: str) -> float | None:
    """J that one token of a task takes on a system, before PUE; None where power or speed is not known."""
    rate = rates.get((task, choice.name))
    if choice.power_W.value is None or rate is None or rate.tokens_per_s_per_chip.value is None:
        return None
    return choice.drawn_share * choice.power_W.value / rate.tokens_per_s_per_chip.value
