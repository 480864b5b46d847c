"""What each engine has to do at a stop: the instructions that came before, on the clock."""

from __future__ import annotations

from dataclasses import dataclass

from mowich.errors import UserError
from mowich.neuroncore.clock.costs import costs
from mowich.neuroncore.clock.records import ClockOptions
from mowich.neuroncore.clock.schedule import schedule
from mowich.neuroncore.instructions.rates import ENGINES, PS, unit_of_queue
from mowich.neuroncore.profile import Profile
from mowich.shown import Keyed
from mowich.studies.debug.session import Stop


@dataclass(frozen=True, slots=True)
class NextInstruction:
    """What an engine has to do next, and the line that asks for it."""

    opcode: str
    file: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineQueue(Keyed):
    """An engine when the next instruction could begin. issued: instructions before it; done: of these; running: at
    work; waiting: not begun; next: the first that is not done, None where all are; free_s: when the engine has done
    all."""

    KEYS = "engine issued done running waiting next free_s"

    engine: str
    issued: int
    done: int
    running: int
    waiting: int
    next: NextInstruction | None
    free_s: float


def engine_queues(stop: Stop, *, older: bool, static_dma: bool) -> tuple[float | None, tuple[EngineQueue, ...]]:
    """(When the next instruction begins on the clock, seconds; every engine that had an instruction before it). The
    clock sees one core, without waiting for others. None and nothing where it has no time for these instructions."""
    trace = stop.issued.core.trace
    assert trace is not None
    trace.meetings.clear()  # the others did not come so far
    options = ClockOptions(optimise=False, older=older, dge=False if static_dma else None)
    try:
        s = schedule([trace], costs(stop.issued.core.generation), options)
    except UserError:
        return None, ()
    last = len(trace) - 1
    at = next((i for i, origin in enumerate(s.programs[0].origin) if origin == last), None)
    if at is None:
        return None, ()
    now, profile = s.begin[at], Profile(s)
    out = []
    for engine in ENGINES:
        mine = [i for i, k in enumerate(profile.cost) if i != at and unit_of_queue(k.queue) == engine]
        if not mine:
            continue
        left = sorted((i for i in mine if s.end[i] > now), key=lambda i: (s.begin[i], i))
        running = sum(s.begin[i] <= now for i in left)
        out.append(
            EngineQueue(
                engine=engine,
                issued=len(mine),
                done=len(mine) - len(left),
                running=running,
                waiting=len(left) - running,
                next=NextInstruction(profile.cost[left[0]].opcode, *profile.site(left[0])) if left else None,
                free_s=max(s.end[i] for i in mine) / PS,
            )
        )
    return now / PS, tuple(out)
