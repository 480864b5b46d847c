"""Pipeline schedules: the order in which each stage runs its micro-batches, its idle time, and its activations.

Each schedule exists twice. `order` lists what every device runs, so that `training.pipeline` can play it event by
event. `bubble_s`, `num_hops`, `in_flight` and `copies` are its closed forms, which the search evaluates in columns.
Tests hold the two together: equal for equal stages with w <= f <= b (f, b, w: forward, backward to the input, backward
to the weights), which is what a transformer's layers give.

Sources: GPipe (Huang et al. 2019), 1F1B (Narayanan et al. 2019), interleaved (Narayanan et al. 2021), ZB-H1 (Qi et al.
2024), ZB-V (Qi et al. 2024, "controllable memory"), DualPipe (DeepSeek-V3 2024, section 3.2.1), DualPipeV (its
cut-in-half form). Optimizer steps are synchronous: the idle time of the first and last device counts, also for
schedules called zero-bubble.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.estimate import Notes, told
from mowich.plans.plan import SCHEDULES, Plans, TrainJob

GPIPE, ONE_F_ONE_B, INTERLEAVED, ZB_H1, ZB_V, DUALPIPE, DUALPIPE_V = (
    SCHEDULES.index(name) for name in ("gpipe", "1f1b", "interleaved", "zb-h1", "zb-v", "dualpipe", "dualpipe-v")
)

_PLAIN = max(GPIPE, ONE_F_ONE_B, INTERLEAVED)
"""Codes up to this one run backward whole and share one bubble formula."""


@dataclass(frozen=True, slots=True)
class Op:
    """One entry of a device's list. kind: forward (F), backward to the input (B), to the weights (W), or both at once
    (BW); micro: number of the micro-batch within its direction; stage: 0 .. pp vpp - 1 in the order that data takes;
    direction: 1 for DualPipe's second stream;
    joint: runs as one block with the entry after it, neither ending before the other."""

    kind: Literal["F", "B", "W", "BW"]
    micro: int
    stage: int
    direction: int = 0
    joint: bool = False


DeviceOrder = list[list[Op]]


def num_chunks(schedule: str, vpp: int) -> int:
    """Model chunks on a device: two in a V, else vpp.

    >>> num_chunks("zb-v", 1), num_chunks("interleaved", 4)
    (2, 4)
    """
    return 2 if schedule in ("zb-v", "dualpipe-v") else vpp


def device_of(schedule: str, pp: int, stage: int, direction: int = 0) -> int:
    """The device that holds a stage: round robin when interleaved, there and back in a V, reversed for DualPipe's
    second stream.

    >>> [device_of("zb-v", 2, s) for s in range(4)], [device_of("interleaved", 2, s) for s in range(4)]
    ([0, 1, 1, 0], [0, 1, 0, 1])
    """
    if schedule in ("zb-v", "dualpipe-v"):
        return stage if stage < pp else 2 * pp - 1 - stage
    return pp - 1 - stage if direction else stage % pp


def order(schedule: str, pp: int, vpp: int, g: int) -> DeviceOrder:
    """The operations of each of pp devices, in order, for g micro-batches a step. Raises ValueError where the schedule
    does not exist (see `needs`)."""
    lacking = needs(schedule, pp, vpp, g)
    if lacking:
        raise ValueError(f"{schedule} needs {lacking}")
    make: dict[str, Callable[[], DeviceOrder]] = {
        "gpipe": lambda: [[Op("F", m, r) for m in range(g)] + [Op("BW", m, r) for m in range(g)] for r in range(pp)],
        "1f1b": lambda: [_one_f_one_b(pp, g, r) for r in range(pp)],
        "interleaved": lambda: [_interleaved(pp, vpp, g, r) for r in range(pp)],
        "zb-h1": lambda: [_zb_h1(pp, g, r) for r in range(pp)],
        "zb-v": lambda: [_zb_v(pp, g, r) for r in range(pp)],
        "dualpipe": lambda: [_dual(pp // 2, g // 2, r, *_two_streams(pp, r)) for r in range(pp)],
        "dualpipe-v": lambda: [_dual(pp, g, r, (r, 0), (2 * pp - 1 - r, 0)) for r in range(pp)],
    }
    return make[schedule]()


def needs(schedule: str, pp: int, vpp: int, g: int) -> str:
    """The missing needs of a pipeline for this schedule, in words; empty without any."""
    if pp == 1:
        return ""
    if schedule == "interleaved" and vpp < 2:
        return "vpp above 1"
    if schedule != "interleaved" and vpp not in (1, num_chunks(schedule, 1)):
        return f"vpp {num_chunks(schedule, 1)}"
    columns = (np.array([float(x)]) for x in (SCHEDULES.index(schedule), pp, g))
    return next((name for name, ok in legal(*columns) if not ok[0]), "")


def legal(schedule: Floats, pp: Floats, g: Floats) -> list[tuple[str, NDArray[np.bool_]]]:
    """(rule, which rows keep it) of the micro-batches that each schedule needs, as columns; a lone stage keeps all."""
    lone, is_ = pp == 1, schedule.astype(np.intp)
    plain = [
        ("at least as many micro-batches as stages", lone | (g >= pp)),
        ("micro-batches in whole rounds of the stages", lone | (is_ != INTERLEAVED) | (np.mod(g, pp) == 0)),
    ]
    if not np.any(is_ > _PLAIN):  # the others keep every row
        return plain
    dual = is_ == DUALPIPE
    return [
        *plain,
        ("twice as many micro-batches as stages, less one, for zb-v", lone | (is_ != ZB_V) | (g >= 2 * pp - 1)),
        (
            "an even number of stages and of micro-batches for dualpipe",
            lone | ~dual | ((np.mod(pp, 2) == 0) & (np.mod(g, 2) == 0)),
        ),
        ("twice as many micro-batches as stages for dualpipe", lone | ~(dual | (is_ == DUALPIPE_V)) | (g >= 2 * pp)),
    ]


def fewest(schedule: Floats, pp: Floats) -> Floats:
    """The fewest micro-batches that `legal` keeps: pp, 2 pp - 1 for zb-v, 2 pp for the duals; 1 of a lone stage.

    >>> [int(fewest(np.array([float(SCHEDULES.index(s))]), np.array([8.0]))[0]) for s in SCHEDULES]
    [8, 8, 8, 8, 15, 16, 16]
    """
    dual = (schedule == DUALPIPE) | (schedule == DUALPIPE_V)
    count = np.where(dual, 2.0 * pp, np.where(schedule == ZB_V, 2.0 * pp - 1.0, pp))
    return np.where(pp > 1, count, 1.0)


def rounds(schedule: Floats, pp: Floats) -> Floats:
    """What `micro_batches` is a multiple of: pp when interleaved, 2 for dualpipe, else 1."""
    return np.where(schedule == INTERLEAVED, pp, np.where((schedule == DUALPIPE) & (pp > 1), 2.0, 1.0))


def micro_batches(job: TrainJob, schedule: Floats, pp: Floats, seqs: Floats) -> Floats:
    """g, micro-batches per rank and step of `seqs` sequences each over all data-parallel ranks: the whole number
    nearest to batch / seqs, at least 1; whole rounds of pp when interleaved, even for dualpipe."""
    g, whole = np.maximum(1.0, np.rint(job.batch_seqs / seqs)), rounds(schedule, pp)
    return np.asarray(np.maximum(whole, np.rint(g / whole) * whole))


def _one_f_one_b(pp: int, g: int, r: int) -> list[Op]:
    """Forwards until the first backward arrives, then one forward and one backward in turn."""
    warm = min(g, pp - r - 1)
    out = [Op("F", m, r) for m in range(warm)]
    for m in range(g - warm):
        out += [Op("F", warm + m, r), Op("BW", m, r)]
    return out + [Op("BW", m, r) for m in range(g - warm, g)]


def _interleaved(pp: int, vpp: int, g: int, r: int) -> list[Op]:
    """1F1B over vpp chunks per device, pp micro-batches at a time through each chunk."""
    total = g * vpp
    warm = min(total, 2 * (pp - r - 1) + (vpp - 1) * pp)

    def at(k: int) -> tuple[int, int]:
        turn, place = divmod(k, pp * vpp)
        return turn * pp + place % pp, place // pp

    def forward(k: int) -> Op:
        micro, chunk = at(k)
        return Op("F", micro, chunk * pp + r)

    def backward(k: int) -> Op:
        micro, chunk = at(k)
        return Op("BW", micro, (vpp - 1 - chunk) * pp + r)

    out = [forward(k) for k in range(warm)]
    for k in range(total - warm):
        out += [forward(warm + k), backward(k)]
    return out + [backward(k) for k in range(total - warm, total)]


def _zb_h1(pp: int, g: int, r: int) -> list[Op]:
    """1F1B whose weight gradients lag r micro-batches behind, to fill the drain; every stage holds pp micro-batches at
    most."""
    warm = min(g, pp - r - 1)
    out = [Op("F", m, r) for m in range(warm)]
    done = 0
    for m in range(g):
        if warm + m < g:
            out.append(Op("F", warm + m, r))
        out.append(Op("B", m, r))
        if warm + m >= g or m + 1 - done > r:
            out.append(Op("W", done, r))
            done += 1
    return out + [Op("W", m, r) for m in range(done, g)]


def _zb_v(pp: int, g: int, r: int) -> list[Op]:
    """Two chunks per device, down and up a V: device 0 holds the first and the last, so losses are where backward
    begins."""
    stages = (r, 2 * pp - 1 - r)
    out: list[Op] = []
    count = {kind + str(c): 0 for kind in "FBW" for c in (0, 1)}

    def run(*steps: str) -> None:
        for step in steps:
            limit = g if step[0] != "W" else count["B" + step[1]]
            if count[step] < limit:
                out.append(Op(step[0], count[step], stages[int(step[1])]))  # type: ignore[arg-type]
                count[step] += 1

    for _ in range(2 * (pp - r) - 1):
        run("F0")
    for _ in range(r):
        run("F1", "F0")
    for _ in range(pp - r):
        run("F1", "B1", "W1")
    while count["F0"] < g or count["F1"] < count["F0"]:
        run("F0", "B0", "W0", "F1", "B1", "W1")
    for _ in range(r):
        run("B0", "B1")
    for _ in range(pp - r):
        run("B0", "W0")
    while count["W1"] < g:
        run("W1")
    while count["W0"] < g:
        run("W0")
    return out


def _two_streams(pp: int, r: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(stage, direction) of the two halves of the model on a DualPipe device: first the one whose data enters
    nearer."""
    down, up = (r, 0), (pp - 1 - r, 1)
    return (down, up) if r < pp // 2 else (up, down)


def _dual(half: int, g: int, rank: int, near: tuple[int, int], far: tuple[int, int]) -> list[Op]:
    """DualPipe's eight phases for g micro-batches of each kind; `half` devices from an end of the pipe to where the
    streams meet."""
    r = rank if near[1] == far[1] else min(rank, 2 * half - 1 - rank)
    at = (near, far)
    out: list[Op] = []
    fed, back = [0, 0], [0, 0]
    waiting: list[tuple[int, tuple[int, int]]] = []

    def forward(c: int, *, joint: bool = False) -> None:
        out.append(Op("F", fed[c], at[c][0], at[c][1], joint))
        fed[c] += 1

    def backward(c: int, *, split: bool = False) -> None:
        out.append(Op("B" if split else "BW", back[c], at[c][0], at[c][1]))
        if split:
            waiting.append((back[c], at[c]))
        back[c] += 1

    def weights() -> None:
        micro, (stage, direction) = waiting.pop(0)
        out.append(Op("W", micro, stage, direction))

    for _ in range(2 * (half - r - 1)):
        forward(0)
    for _ in range(r + 1):
        forward(0)
        forward(1)
    for _ in range(half - r - 1):
        backward(1, split=True)
        weights()
        forward(1)
    for _ in range(g - 2 * half + r + 1):
        for c in (0, 1):
            forward(c, joint=True)
            backward(1 - c)
    for _ in range(half - r - 1):
        backward(1)
        forward(1, joint=True)
        backward(0)
    for i in range(r + 1):
        middle = (r + 1) // 2
        backward(1, split=i > middle or (i == middle and r % 2 == 1))
        backward(0, split=i >= middle)
    for _ in range(half - r - 1):
        weights()
        backward(0, split=True)
    while waiting:
        weights()
    return out


# ---- closed forms
# ----------------------------------------------------------------------------------------------------------------------


def filled_bubble_s(pp: Floats, vpp: Floats, f: Floats, b: Floats, w: Floats) -> Floats:
    """Idle seconds of gpipe, 1f1b and interleaved: filling and draining, in chunks of 1 / vpp.

    T = (pp - 1) / vpp * (f + b + w)

    Units: f s, b s, w s.
    """
    return np.asarray((pp - 1.0) / vpp * (f + b + w))


def zb_h1_bubble_s(pp: Floats, f: Floats, b: Floats, w: Floats) -> Floats:
    """Idle seconds of zb-h1: weight gradients fill a part of the drain.

    T = (pp - 1) * (f + b - w)

    Units: f s, b s, w s.
    """
    return np.asarray((pp - 1.0) * (f + b - w))


def zb_v_bubble_s(pp: Floats, f: Floats, b: Floats, w: Floats) -> Floats:
    """Idle seconds of zb-v.

    T = (pp - 1) / 2 * max(f, b, 2 * (b - w))

    Units: f s, b s, w s.
    """
    return np.asarray((pp - 1.0) / 2.0 * np.maximum(np.maximum(f, b), 2.0 * (b - w)))


def dualpipe_bubble_s(pp: Floats, f: Floats, b: Floats, w: Floats) -> Floats:
    """Idle seconds of dualpipe, with a forward and a backward as one block of f + b + w (DeepSeek-V3 prints
    (PP/2-1)(F&B + B - 3W), B whole).

    T = max(0, pp / 2 - 1) * (f + 2 * b - w)

    Units: f s, b s, w s.
    """
    return np.asarray(np.maximum(0.0, pp / 2.0 - 1.0) * (f + 2.0 * b - w))


def dualpipe_v_bubble_s(pp: Floats, f: Floats, b: Floats, w: Floats) -> Floats:
    """Idle seconds of dualpipe-v.

    T = (pp - 1) / 2 * (f + 2 * b - w)

    Units: f s, b s, w s.
    """
    return np.asarray((pp - 1.0) / 2.0 * (f + 2.0 * b - w))


BUBBLE_OF: Mapping[int, Callable[[Floats, Floats, Floats, Floats], Floats]] = {
    ZB_H1: zb_h1_bubble_s,
    ZB_V: zb_v_bubble_s,
    DUALPIPE: dualpipe_bubble_s,
    DUALPIPE_V: dualpipe_v_bubble_s,
}
"""The idle time of a schedule that splits the backward pass or runs both ways; the others are `filled_bubble_s`."""


def bubble_s(
    schedule: Floats, pp: Floats, vpp: Floats, f: Floats, b: Floats, w: Floats, notes: Notes | None = None
) -> Floats:
    """Idle seconds of the busiest device in one step; f, b, w: seconds of one micro-batch on one device (all its
    chunks), forward, back to the input, to the weights. `notes` (one plan only) records it.

    Exact for equal stages, w <= f <= b and enough micro-batches (`legal`); where b < f or w > f a lower bound. For
    unequal stages see `training.pipeline`.

    >>> one = np.array([1.0])
    >>> chunks = [2 * one if s == "interleaved" else one for s in SCHEDULES]
    >>> [float(bubble_s(one * i, 8 * one, v, one, one, one)[0]) for i, v in enumerate(chunks)]
    [21.0, 10.5, 21.0, 7.0, 3.5, 6.0, 7.0]
    """

    def heard(code: int | None) -> Notes | None:
        """The recorder if this is the law of the plan, else None."""
        own = int(schedule[0]) if notes is not None else None
        return notes if notes is not None and (own if own in BUBBLE_OF else None) == code else None

    name = SCHEDULES[int(schedule[0])] if notes is not None else ""
    note = (
        f"schedule {name}; f, b, w: forward, back to the input, to the weights, of one micro-batch through a stage, in"
        " the mean of all but the fullest"
    )
    out = told(heard(None), "pp_bubble", filled_bubble_s, note=note)(pp=pp, vpp=vpp, f=f, b=b, w=w)
    if np.any(schedule > _PLAIN):
        for code, law in BUBBLE_OF.items():
            own = told(heard(code), "pp_bubble", law, note=note, also={"vpp": vpp})(pp, f, b, w)
            out = np.where((schedule == code) & (pp > 1), own, out)
    return np.asarray(out)


def num_hops(schedule: Floats, pp: Floats, vpp: Floats, g: Floats) -> Floats:
    """How many times one transfer between neighbouring stages delays the step, when transfers run beside compute and
    each is shorter than a chunk.

    1f1b waits for an answer in every round: 2 g (pp-1)/pp + 2 (pp-2). gpipe and interleaved only pay to fill and drain:
    2 (pp-1) and 2 (pp vpp - 1). zb-h1: 4 (pp-1). zb-v: 5 pp - 7. dualpipe: half of 1f1b's rounds, g (pp-1)/pp + max(1,
    2 (pp-2)). dualpipe-v: 2 g (pp-1)/pp + 4 pp - 6. Exact for equal stages and g a multiple of pp.
    """
    per_round = np.ceil(g * (pp - 1.0) / pp)
    hops = np.where(schedule == ONE_F_ONE_B, 2.0 * per_round + 2.0 * (pp - 2.0), 2.0 * (pp * vpp - 1.0))
    if np.any(schedule > _PLAIN):
        forms = {
            ZB_H1: 4.0 * (pp - 1.0),
            ZB_V: 5.0 * pp - 7.0,
            DUALPIPE: per_round + np.maximum(1.0, 2.0 * (pp - 2.0)),
            DUALPIPE_V: 2.0 * per_round + 4.0 * pp - 6.0,
        }
        for code, count in forms.items():
            hops = np.where(schedule == code, count, hops)
    return np.asarray(np.where(pp > 1, hops, 0.0))


def in_flight(p: Plans, g: Floats) -> Floats:
    """Micro-batches whose activations the fullest device holds, in units of all its layers.

    gpipe: g. 1f1b: min(g, pp), on the first stage. interleaved: (pp (vpp+1) - 1)/vpp (Narayanan et al. 2021). zb-h1,
    zb-v: pp, on every stage.
    dualpipe: pp + 1. dualpipe-v: pp + 1/2. An activation is held until its weight gradient is done.
    """
    chunked = np.minimum(g, (p.pp * (p.vpp + 1.0) - 1.0) / p.vpp)
    held = np.where(p.vpp > 1, chunked, np.minimum(g, p.pp))
    held = np.where(p.schedule == GPIPE, g, held)
    if np.any(p.schedule > _PLAIN):
        for code, count in ((ZB_H1, p.pp), (ZB_V, p.pp), (DUALPIPE, p.pp + 1.0), (DUALPIPE_V, p.pp + 0.5)):
            held = np.where((p.schedule == code) & (p.pp > 1), np.minimum(g, count), held)
    return np.asarray(held)


def in_flight_at_head(p: Plans, g: Floats) -> Floats:
    """Micro-batches whose activations the device of the last stage holds while it computes a loss, in units of all its
    layers.

    1f1b: one. interleaved: (pp (vpp-1) + 1)/vpp. Elsewhere as many as on the fullest device (`in_flight`).
    """
    own = np.where(p.vpp > 1, np.minimum(g, (p.pp * (p.vpp - 1.0) + 1.0) / p.vpp), 1.0)
    return np.asarray(np.where(p.schedule <= INTERLEAVED, own, in_flight(p, g)))


def pairs(schedule: Floats) -> Floats:
    """1 where forward of one micro-batch runs beside backward of another on the same device (DualPipe), so that each
    may hide the other's transfers."""
    return np.where((schedule == DUALPIPE) | (schedule == DUALPIPE_V), 1.0, 0.0)


def copies(p: Plans) -> Floats:
    """Stages' worth of weights on a device: 2 for dualpipe, which keeps one for each direction, else 1."""
    return np.where((p.schedule == DUALPIPE) & (p.pp > 1), 2.0, 1.0)
