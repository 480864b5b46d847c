"""One training step of a pipeline, event by event: when each device runs each piece of each micro-batch.

An operation starts when its device is free and what it needs has arrived; a transfer between devices takes `hop_s` and
runs beside compute. Every stage may have its own times, so uneven stages, the embedding and the head are exact here.
The search uses the closed forms of `plans.schedules` instead: for stages of unequal times those lie between `busiest`
and what they give with every stage as slow as the slowest (an order's makespan grows with each of its durations), and
tests hold both to that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mowich.plans import schedules
from mowich.plans.schedules import Op
from mowich.sums import float_sum


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """Seconds of one stage (one chunk of a device) and one micro-batch: forward, backward to the input, backward to the
    weights."""

    f: float
    b: float
    w: float

    @property
    def total(self) -> float:
        return self.f + self.b + self.w

    def of(self, kind: str) -> float:
        """Seconds of one kind of operation."""
        return {"F": self.f, "B": self.b, "W": self.w, "BW": self.b + self.w}[kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One operation on its device, in seconds from the start of the step."""

    device: int
    op: Op
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """A step of a pipeline. spans: in order of device and start; held: activations of one chunk and micro-batch held at
    most, per device; peak: the same in micro-batches, units of a device's chunks."""

    schedule: str
    num_devices: int
    num_chunks: int
    spans: tuple[Span, ...]
    held: tuple[int, ...]

    @property
    def peak(self) -> tuple[float, ...]:
        per_device = 1 if self.schedule == "dualpipe" else self.num_chunks
        return tuple(held / per_device for held in self.held)

    @property
    def num_stages(self) -> int:
        """Stages in the order that data takes; a device of DualPipe holds two, one for each direction."""
        return self.num_devices * (1 if self.schedule == "dualpipe" else self.num_chunks)

    @property
    def makespan_s(self) -> float:
        return max(span.end_s for span in self.spans)

    def busy_s(self, device: int) -> float:
        """Seconds in which a device computes."""
        return float_sum(span.end_s - span.start_s for span in self.spans if span.device == device)

    @property
    def busiest_s(self) -> float:
        return max(self.busy_s(d) for d in range(self.num_devices))


def play_schedule(
    schedule: str, pp: int, vpp: int, g: int, stages: Sequence[StageTimes], hop_s: float = 0.0
) -> Timeline:
    """Play `schedules.order` with the times of each of the pp x chunks stages, in the order that data takes.

    Raises ValueError where the schedule does not exist, or the number of stages is not devices x chunks.
    """
    chunks = schedules.num_chunks(schedule, vpp) if pp > 1 else 1
    if len(stages) != pp * chunks:
        raise ValueError(f"{schedule} with pp {pp} and {chunks} chunks has {pp * chunks} stages, not {len(stages)}")
    lists = schedules.order(schedule if pp > 1 else "1f1b", pp, vpp if pp > 1 else 1, g)
    last = len(stages) - 1
    done: dict[tuple[str, int, int, int], float] = {}
    free, at = [0.0] * pp, [0] * pp
    spans: list[Span] = []

    def arrives(kind: str, op: Op, stage: int, device: int) -> float | None:
        end = done.get((kind, op.micro, stage, op.direction))
        if end is None:
            return None
        return end + (hop_s if schedules.device_of(schedule, pp, stage, op.direction) != device else 0.0)

    def ready(op: Op, device: int) -> float | None:
        """When what the operation needs is there; None: not yet known."""
        wants: list[float | None] = []
        if op.kind == "F":
            wants += [arrives("F", op, op.stage - 1, device)] if op.stage else []
        elif op.kind == "W":
            wants.append(arrives("B", op, op.stage, device))
        else:
            wants.append(arrives("F", op, op.stage, device))
            wants += [arrives("B", op, op.stage + 1, device)] if op.stage < last else []
        known = [t for t in wants if t is not None]
        return None if len(known) < len(wants) else max(known, default=0.0)

    moved = True
    while moved:
        moved = False
        for device, ops in enumerate(lists):
            while at[device] < len(ops):
                block = ops[at[device] : at[device] + (2 if ops[at[device]].joint else 1)]
                when = [ready(op, device) for op in block]
                known = [t for t in when if t is not None]
                if len(known) < len(block):
                    break
                start = max(free[device], *known)
                end = start + float_sum(stages[op.stage].of(op.kind) for op in block)
                for op in block:  # a joint block is drawn one after the other, and hands on both results at its end
                    seconds = stages[op.stage].of(op.kind)
                    spans.append(Span(device=device, op=op, start_s=start, end_s=start + seconds))
                    start += seconds
                    done[
                        ("F" if op.kind == "F" else "W" if op.kind == "W" else "B", op.micro, op.stage, op.direction)
                    ] = end
                free[device], at[device], moved = end, at[device] + len(block), True
    if any(at[d] < len(lists[d]) for d in range(pp)):
        raise ValueError(f"{schedule} with pp {pp}, vpp {vpp} and {g} micro-batches deadlocks")
    return Timeline(
        schedule=schedule,
        num_devices=pp,
        num_chunks=chunks,
        spans=tuple(sorted(spans, key=lambda s: (s.device, s.start_s))),
        held=tuple(_peak(ops) for ops in lists),
    )


def _peak(ops: Sequence[Op]) -> int:
    """Most activations that a device holds at once: from a forward to its weight gradient."""
    held = most = 0
    for op in ops:
        held += {"F": 1, "B": 0, "W": -1, "BW": -1}[op.kind]
        most = max(most, held)
    return most
