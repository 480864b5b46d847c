"""Rows of serving measurements, read and checked as a whole: whether a plan fits its device, and whether a row agrees
with itself.

`serving_rows` reads a row alone. Checks of memory are here, because they need the constants of an engine, which are
evaluated for all rows at once. Users of a closed loop either decode or wait: of `users` users the share TTFT / (TTFT +
(output - 1) TPOT) waits, by Little's law. A row whose users wait for longer than the prompts of all of them could take,
with room in the cache, waits for something that it does not state. Such rows are refused with the reason and not
counted as errors, because no model of the stated plan can meet them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mowich.evidence.row_checks import PublishedRow, RefusedError, cell_number
from mowich.evidence.serving_cases import gather_cases
from mowich.evidence.serving_rows import WIDE_CACHE, ServingCase, read_case
from mowich.facts import Facts

LONG_WAIT_S = 5.0
"""A TTFT below this never counts as unexplained: fixed times of start, tokeniser and network reach some seconds."""
DECODING_SHARE = 0.45
"""Share of the users with room in the cache who must decode on average. Published rows that prompts keep busy lie from
0.54 up; rows with a cap on the running batch, or with the warm-up inside the TTFT, at 0.16 to 0.35."""
BUSY_PROMPTS = 1.5
"""A wait is not one for prompts when it is longer than those of all users take one after another, each at 1 /
BUSY_PROMPTS of the 16-bit peak and beside one decode step. Published loops that are busy with prompts lie at 1.0 to 1.3
of the peak alone."""
SLOW_PROMPTS = 3.0
"""A TTFT is unexplained when it is more than the prompts of all users take one after another, each at 1 / SLOW_PROMPTS
of the 16-bit peak and beside one decode step. Published rows that wait for LONG_WAIT_S or more reach 0.7 of that, but
for those that wait for something else, found here at 1.9 to 30, and runs with a cold start that `serving_notes.yaml`
names, at 0.3 to 10."""
STALLED = 0.1
"""Share of an answer's decoding time above which the unexplained part of a TTFT makes the TPOT another one too: a cold
start stops those who decode as it stops those who wait. Published runs below it are met as well as others; of those
above it, the time per token is 9 to 31% longer than predicted, and the more so the larger the share."""
NARROW_CACHE = 1.5
"""Sequences that decode by Little's law, over those that a 16-bit cache holds by our memory model, above which a cache
whose format is not stated has 8 bits: twice as many fit. Caches that are stated reach 1.1."""
FASTEST = 0.8
"""The least time of a step, weights and caches read once at the published rates, over the row's own TPOT: above it the
row contradicts itself. Published closed loops reach 0.74 at most."""


def read_serving_cases(rows: Iterable[PublishedRow], facts: Facts) -> list[ServingCase | str]:
    """Every row as a case, or the reason why it is not one, in order."""
    rows = list(rows)
    shorter = shorter_of_two(rows)

    def read(i: int, *, folds: bool = True) -> ServingCase | str:
        try:
            return read_case(rows[i], facts, folds=folds, is_shorter=shorter[i])
        except RefusedError as error:
            return str(error)

    out = [read(i) for i in range(len(rows))]
    for i, room in _rooms(out, facts):
        case = out[i]
        if room.alone < 1.0 and isinstance(case, ServingCase) and any("(folded:" in item for item in case.inferred):
            out[i] = read(i, folds=False)  # the plan as printed is the one that may fit
    rooms = _with_narrow_caches(out, _rooms(out, facts), facts)
    for i, room in rooms:
        case = out[i]
        if isinstance(case, ServingCase):
            out[i] = _checked(case, room)
    for i, why in _too_fast(out, facts):
        out[i] = why
    return out


TWICE = 1.05
"""Two times per token of one plan and load that differ by more come from two runs."""


def shorter_of_two(rows: Sequence[PublishedRow]) -> list[bool]:
    """Whether each row's time per token is the shorter of two that were measured under one plan and load."""
    same = ("framework", "model", "chip", "precision", "date", "tp", "pp", "dp", "ep", "isl", "osl", "concurrency")
    keys = [tuple(row.get(name) or "" for name in same) for row in rows]
    times = [cell_number(row, "tpot_ms") or 0.0 for row in rows]
    longest: dict[tuple[str, ...], float] = {}
    for key, time in zip(keys, times, strict=True):
        longest[key] = max(longest.get(key, 0.0), time)
    return [longest[key] > TWICE * time > 0.0 for key, time in zip(keys, times, strict=True)]


def _with_narrow_caches(
    cases: list[ServingCase | str], rooms: list[tuple[int, Room]], facts: Facts
) -> list[tuple[int, Room]]:
    """The rooms of all cases, once runs whose format of the cache is not stated, and of which one has more sequences
    decoding than a 16-bit cache holds, are read with a cache of 8 bits: in place. A run is what one framework measured
    of one model in one format on one chip, as one table."""

    def run(case: ServingCase) -> tuple[str, str, str, str, str]:
        return case.source, case.version, case.model.name, case.plan.weights, case.system.chip

    open_ = {
        i: case
        for i, case in enumerate(cases)
        if isinstance(case, ServingCase) and WIDE_CACHE in case.inferred and case.plan.weights != "bf16"
    }
    above: dict[tuple[str, str, str, str, str], float] = {}
    for i, room in rooms:
        share = decoding_share(open_[i]) if i in open_ else None
        if share is not None and room.beside >= 1.0:
            key = run(open_[i])
            above[key] = max(above.get(key, 0.0), share * open_[i].users / room.beside)
    narrow = {i: case for i, case in open_.items() if above.get(run(case), 0.0) > NARROW_CACHE}
    for i, case in narrow.items():
        how = f"kv=fp8 (not stated; in this run {above[run(case)]:.2g} times as many decode as a 16-bit cache holds)"
        cases[i] = replace(
            case,
            plan=replace(case.plan, kv="fp8"),
            inferred=tuple(how if item == WIDE_CACHE else item for item in case.inferred),
        )
    return _rooms(cases, facts) if narrow else rooms


def _too_fast(cases: Sequence[ServingCase | str], facts: Facts) -> list[tuple[int, str]]:
    """(index, reason) of every case whose own rates contradict its users: those that decode by Little's law cannot be
    served in the TPOT that the row states. Cases that may accept several tokens a step are left out."""
    shares = {
        i: share
        for i, case in enumerate(cases)
        if isinstance(case, ServingCase) and not case.speculates and (share := decoding_share(case)) is not None
    }
    if not shares:
        return []
    asked = [case for i in shares if isinstance(case := cases[i], ServingCase)]
    table = gather_cases(asked, facts)
    decoding = np.maximum(table.load.users * np.array(list(shares.values())), np.minimum(table.load.users, 1.0))
    least_s = table.least_step_s(table.columns.values(facts.number), decoding)
    return [
        (i, _why_too_fast(case, n, least))
        for i, case, n, least in zip(shares, asked, decoding.tolist(), least_s.tolist(), strict=True)
        if 1e3 * least > FASTEST * case.measured["tpot_ms"]
    ]


def _why_too_fast(case: ServingCase, decoding: float, least_s: float) -> str:
    """decoding: sequences of a rank group; least_s: seconds of their step at the published rates."""
    tpot_ms = case.measured["tpot_ms"]
    return (
        f"tpot_ms: '{tpot_ms:.4g}' contradicts the concurrency: by Little's law {decoding * case.plan.dp:.3g} users"
        f" decode on a worker, and reading weights ({case.plan.weights}) and their caches ({case.plan.kv}) once at the"
        f" published rates of the chip takes {1e3 * least_s:.3g} ms, {1e3 * least_s / tpot_ms:.2f} of it; no published"
        f" run is above {FASTEST:g}: fewer users or a narrower cache than stated"
    )


@dataclass(frozen=True, slots=True)
class Room:
    """Sequences that the cache of a rank group holds: beside what the engine keeps for itself by its constants, and
    with all of the memory for weights and cache."""

    beside: float
    alone: float


def _rooms(cases: Sequence[ServingCase | str], facts: Facts) -> list[tuple[int, Room]]:
    """(index, room) of every case that was read."""
    index = [i for i, case in enumerate(cases) if isinstance(case, ServingCase)]
    if not index:
        return []
    table = gather_cases([case for case in cases if isinstance(case, ServingCase)], facts)
    beside, alone = table.room(table.columns.values(facts.number))
    return [(i, Room(float(b), float(a))) for i, b, a in zip(index, beside, alone, strict=True)]


def decoding_share(case: ServingCase) -> float | None:
    """Share of the users who decode, on average, by the row's own TTFT and TPOT; None where one is missing or a batch
    starts together, as the compiled batches of Neuron do: there all wait for the prompts, and then all decode."""
    ttft, tpot = case.measured.get("ttft_ms"), case.measured.get("tpot_ms")
    if case.is_static or case.engine == "neuron" or not ttft or not tpot:
        return None
    decoding = (case.output - 1.0) * tpot
    return decoding / (ttft + decoding)


def _checked(case: ServingCase, room: Room) -> ServingCase | str:
    """The case, completed with its memory and its waits, or why it is refused.

    A case is refused for memory where no engine can hold it: weights and one sequence exceed all the memory that
    programs may use. A case that fits only without the reserve of our constants is answered and marked
    (`memory_share`): that room is a small difference of large numbers.
    """
    if room.alone < 1.0:
        return (
            f"the plan (tp {case.plan.tp}, pp {case.plan.pp}, dp {case.plan.dp}, ep {case.plan.ep}, weights"
            f" {case.plan.weights}) has no room for one sequence of {case.prompt + case.output:g} tokens beside its"
            f" weights on {case.chips} x {case.chip}"
        )
    share = decoding_share(case)
    if share is None:
        return _marked(case, min(case.users, 1.0), room)
    ttft_s, tpot_s = case.measured["ttft_ms"] / 1e3, case.measured["tpot_ms"] / 1e3
    one_s = (
        case.prompt
        * case.model.flop_per_token(case.prompt)
        / (case.plan.tp * case.plan.pp * case.system.peak_flops["bf16"])
    )
    busy_s, explained_s = (case.users * (slow * one_s + tpot_s) for slow in (BUSY_PROMPTS, SLOW_PROMPTS))
    decoding = case.users * share
    # a lone user waits for nobody, and a decode worker knows nothing of waits for prompts
    waits = case.users > 1.0 and ttft_s > LONG_WAIT_S and not case.decode_only
    if waits and ttft_s > busy_s and decoding < DECODING_SHARE * min(case.users, room.beside):
        return (
            f"ttft_ms: '{case.measured['ttft_ms']:g}' beside a TPOT of {case.measured['tpot_ms']:g} ms means that"
            f" {decoding:.0f} of {case.users:g} users decode (Little's law), and the cache holds {room.beside:.0f}: a"
            " cap on the running batch or a warm-up that is not stated"
        )
    is_cold = "ttft_ms" in case.skip  # by what is known of its run; an unknown wait may come from a cap alone
    if waits and ttft_s > explained_s and room.beside >= case.users and not is_cold:
        why = (
            f"ttft_ms: '{case.measured['ttft_ms']:g}' is {ttft_s / explained_s:.1f} times what the prompts of all"
            f" {case.users:g} users take one after another, and the cache holds them all: a cold start or a cap that is"
            " not stated"
        )
        case = replace(case, skip={**case.skip, "ttft_ms": why})
    stall = (ttft_s - explained_s) / max((case.output - 1.0) * tpot_s, 1e-9)
    if waits and is_cold and stall > STALLED and "tpot_ms" not in case.skip:
        why = (
            f"tpot_ms: what no prompt explains of this row's TTFT is {100 * stall:.0f}% of the time that an answer"
            " decodes: users who decoded meanwhile stood still as long"
        )
        case = replace(case, skip={**case.skip, "tpot_ms": why})
    return _marked(case, decoding, room)


def _marked(case: ServingCase, decoding: float, room: Room) -> ServingCase:
    """The case, with a mark where more sequences decode than our memory model has room for."""
    if decoding <= room.beside:
        return case
    what = f"memory={decoding:.3g} sequences decode, {max(0.0, room.beside):.3g} fit"
    return replace(
        case,
        memory_share=decoding / max(room.beside, 1e-3),
        inferred=(*case.inferred, f"{what} (the first by the row's own figures, the second by our memory model)"),
    )
