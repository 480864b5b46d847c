"""A schedule as a trace that Perfetto and chrome://tracing open: one process per core, one track per engine and DMA
queue, counters.

The JSON form of the Trace Event Format: times in microseconds, `X` slices for instructions (a DMA from its trigger to
its last byte), `C` counters for SBUF, PSUM and bytes moved, and tracks of their own for the critical path and for the
times in which the Tensor Engine is throttled.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mowich.neuroncore.clock.schedule import CAUSES
from mowich.neuroncore.instructions.rates import DMA_QUEUES, QUEUES
from mowich.neuroncore.profile import Profile
from mowich.writing import replace_file

_US = 1_000_000
_PATH = len(QUEUES)
_THROTTLING = _PATH + 1


def _slice(core: int, track: int, name: str, start: int, end: int, args: dict[str, object]) -> dict[str, object]:
    """A slice from one time to another, ps."""
    times = {"ts": start / _US, "dur": (end - start) / _US}
    return {"ph": "X", "pid": core, "tid": track, "name": name, **times, "args": args}


def events(profile: Profile) -> list[dict[str, object]]:
    """All events of a profile."""
    s = profile.schedule
    out: list[dict[str, Any]] = []
    for core in range(profile.cores):
        out.append(
            {"ph": "M", "pid": core, "name": "process_name", "args": {"name": f"NeuronCore-v{s.generation} {core}"}}
        )
        for queue, name in enumerate((*QUEUES, "critical path", "throttling")):
            label = f"DMA {name}" if queue in DMA_QUEUES else name
            out.append({"ph": "M", "pid": core, "tid": queue, "name": "thread_name", "args": {"name": label}})
            out.append(
                {"ph": "M", "pid": core, "tid": queue, "name": "thread_sort_index", "args": {"sort_index": queue}}
            )
        for space, label in (("S", "SBUF bytes per partition"), ("P", "PSUM bytes per partition")):
            for t, level in profile.occupancy(space, core):
                out.append({"ph": "C", "pid": core, "name": label, "ts": t / _US, "args": {"bytes": level}})
    for i, k in enumerate(profile.cost):
        file, line = profile.site(i)
        args: dict[str, object] = {"id": i, "waited for": CAUSES[s.cause[i]]}
        if file:
            args["source"] = f"{file}:{line}"
        if k.transfer:
            args |= {"bytes": k.sbuf_B, "descriptor bytes": k.descriptor_B, "first byte us": s.data[i] / _US}
        if k.flop:
            args["flop"] = k.flop
        out.append(_slice(s.core[i], k.queue, k.opcode, s.begin[i], s.end[i], args))
    for core in range(profile.cores):
        for a, b in profile.throttled(core):
            name = f"Tensor Engine at {profile.throttle_rate:.0%}"
            out.append(_slice(core, _THROTTLING, name, a, b, {"limit": profile.throttle_rate}))
    for step in reversed(profile.path):
        if step.instruction >= 0 and step.end > step.start:
            k = profile.cost[step.instruction]
            worst = max(step.parts, key=lambda p: p[1])[0] if step.parts else ""
            made = {"id": step.instruction, "made of": worst}
            out.append(_slice(s.core[step.instruction], _PATH, k.opcode, step.start, step.end, made))
    return out


def write_perfetto(profile: Profile, path: Path) -> None:
    """Write the trace as JSON. Raises OSError."""
    document = {
        "traceEvents": events(profile),
        "displayTimeUnit": "ns",
        "otherData": {"made by": "mowich", "latency us": profile.total_s * 1e6},
    }
    replace_file(path, json.dumps(document, separators=(",", ":")))
