"""What crosses cores: `sendrecv` between the two of a pair, and the collectives between ranks.

Inside a chip a collective takes a fixed time, hops between cores, and its bytes at a rate that all cores reach at the
same time:

    T = base + hops x hop + passes x (short / short_bandwidth + (B - short) / bandwidth) / cores of a rank

B is the whole buffer (what all ranks give or get together), of which the first `short` bytes are faster. An all-reduce
is two passes, a reduce-scatter and an all-gather. Facts: `links.*` of `facts/neuroncore/timing-v*.yaml`. Beyond a chip
the links between chips count as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from mowich.neuroncore import core as machine
from mowich.neuroncore.access import read_tile, write_tile
from mowich.neuroncore.core import fail
from mowich.neuroncore.instructions.dma import SPACES, copy_cost
from mowich.neuroncore.instructions.issue import Named, issue
from mowich.neuroncore.instructions.rates import COLLECTIVE_QUEUE, PS, Cost, InstructionRates, elementwise
from mowich.neuroncore.instructions.sync import pair
from mowich.neuroncore.instructions.table import instruction
from mowich.neuroncore.trace import Kind
from mowich.neuroncore.views import Tile
from mowich.sums import float_sum

# what they cost
# -------------------------------------------------------------------------------------------------------------------


def _pair_work(r: InstructionRates, kind: Kind, _: int) -> float:
    moved = math.prod(kind.reads[0].shape) * kind.reads[0].itemsize
    fixed = r.number("gpsimd_engine.fixed")
    return fixed + moved / r.number("gpsimd_engine.dma_bandwidth") * r.number("gpsimd_engine.clock")


_pair_cost = elementwise(_pair_work)


def sendrecv_cost(r: InstructionRates, kind: Kind) -> Cost:
    """Bytes between the cores of a pair, by the DMA engines or by GpSimd's own, and the signal to the other core."""
    made = copy_cost(r, kind) if kind.engine == "dma" else _pair_cost(r, kind)
    signal = r.ps("links.pair")
    return replace(made, latency=made.latency + signal, latency_parts={**made.latency_parts, "links.pair": signal})


def collective_cost(r: InstructionRates, kind: Kind) -> Cost:
    """An exchange between the ranks of a group, once all have come to it."""
    ranks, cores = int(kind.flag("ranks", 1)), int(kind.flag("cores", 1))
    sent_B = sum(math.prod(o.shape) * o.itemsize for o in kind.reads)
    name = str(kind.flag("kind", ""))
    half = name.rpartition("_")[2]
    name = name.removesuffix("_trigger")
    parts = _inside_chip(r, name, sent_B, ranks, cores)
    lasts = int(kind.flag("lasts", 0))
    if half == "prepare":  # inferred: the set-up is what an exchange takes beside hops and bytes
        parts = {"links.base": parts["links.base"]}
    elif lasts:
        parts = {"links.hop": lasts}  # steps over the links of a machine, as its own facts have them
    elif ranks * cores > r.number("memory.cores"):
        beyond = _between_chips(r, name, sent_B, ranks)
        parts = max(parts, beyond, key=lambda p: float_sum(p.values()))
    if half == "trigger":
        parts = {fact: time for fact, time in parts.items() if fact != "links.base"}
    done = r.ps("dma.completion")
    return Cost(
        queue=COLLECTIVE_QUEUE,
        occupancy=sum(parts.values()),
        latency=done,
        parts=parts,
        latency_parts={"dma.completion": done},
        opcode=name,
    )


def _inside_chip(r: InstructionRates, name: str, sent_B: int, ranks: int, cores: int) -> dict[str, int]:
    """Time by fact, ps, of ranks of `cores` cores on one chip, each of which gives `sent_B` bytes."""
    passes = 2 if name == "all_reduce" and ranks > 1 else 1
    if name.startswith("collective_permute"):
        hops, bytes_ = min(ranks - 1, 1), {"links.copy_bandwidth": float(sent_B)}
    else:
        hops = passes * min(ranks - 1, 2)
        buffer_B = sent_B * (ranks if name.startswith("all_gather") else 1)
        short_B = min(buffer_B, r.number("links.short_bytes"))
        bytes_ = {"links.short_bandwidth": passes * short_B, "links.bandwidth": passes * (buffer_B - short_B)}
    parts = {"links.base": r.ps("links.base"), "links.hop": hops * r.ps("links.hop")}
    return parts | {fact: round(moved / cores / r.number(fact) * PS) for fact, moved in bytes_.items()}


def _between_chips(r: InstructionRates, name: str, sent_B: int, ranks: int) -> dict[str, int]:
    """Ring, mesh or a single step, whichever is fastest, over the links of a chip's neighbours (alpha-beta forms of the
    Neuron docs)."""
    hop = r.number("links.hop")
    rate = r.number("dma.rate") * r.number("dma.engines")
    twice = 2 if name == "all_reduce" else 1
    chunk = sent_B / ranks if name in ("all_reduce", "reduce_scatter", "all_to_all") else sent_B
    ring = twice * (ranks - 1) * (hop + chunk / rate)
    mesh = twice * 2 * hop + twice * (ranks - 1) * chunk / rate
    time = round((hop + sent_B / rate if name.startswith("collective_permute") else min(ring, mesh)) * PS)
    steps = round(min(time, twice * 2 * hop * PS))
    return {"links.hop": steps, "dma.rate": time - steps}


# what they do
# ---------------------------------------------------------------------------------------------------------------------


@instruction(
    engines=("dma", "gpsimd"),
    cost=sendrecv_cost,
    since=3,
    spaces={"dst": "S", "src": "S"},
    face="src dst send_to_rank recv_from_rank pipe_id dma_engine name | use_gpsimd_dma",
)
def sendrecv(
    src: Tile,
    dst: Tile,
    send_to_rank: int,
    recv_from_rank: int,
    pipe_id: int,
    dma_engine: str = "dma",
    use_gpsimd_dma: bool | None = None,
) -> None:
    """Send src to a core of the pair, and receive dst from one; dma_engine: "dma", or "gpsimd_dma" for GpSimd's own, as
    use_gpsimd_dma."""
    by_gpsimd = bool(use_gpsimd_dma) or dma_engine == "gpsimd_dma"
    core, group = pair("sendrecv")
    issue("sendrecv", "gpsimd" if by_gpsimd else "", (("dst", dst),), (("src", src),))
    if by_gpsimd:
        limits = core.limits
        most = {4: limits.gpsimd_dma_32bit_B, 2: limits.gpsimd_dma_16bit_B}.get(src.itemsize, limits.gpsimd_dma_8bit_B)
        row_B = src.size // src.shape[0] * src.itemsize
        if row_B > most:
            raise fail(
                "sendrecv: more bytes per partition than GpSimd's DMA moves",
                tile=src,
                given=f"{row_B:,} bytes",
                allowed=f"{most:,} bytes for elements of {src.itemsize}",
                fix="use dma_engine.dma, or send parts",
            )
    if src.dtype is not dst.dtype or src.size != dst.size or src.shape[0] != dst.shape[0]:
        raise fail("sendrecv: src and dst have the same dtype and shape", tile=dst)
    send, receive, pipe = int(send_to_rank), int(recv_from_rank), int(pipe_id)
    if {send, receive} - {0, 1}:
        raise fail("sendrecv: ranks are 0 or 1", given=f"to {send}, from {receive}")
    turn = core.serial.get(("pipe", pipe), 0)
    core.serial["pipe", pipe] = turn + 1
    base = core.scratch["base"]
    found = group.exchange(
        base + core.program,
        ("sendrecv", base, pipe, turn),
        [base, base + 1],
        (send, read_tile(src).copy() if core.values else None),
        f"sendrecv on pipe {pipe}",
    )
    to, data = found[base + receive]
    if to != core.program:
        raise fail(f"sendrecv: core {receive} sends to {to}, core {core.program} expects its data")
    if core.values:
        write_tile(dst, data.reshape(dst.shape))


@instruction(engines=("dma",), cost=collective_cost, spaces=SPACES, face="")
def collective(kind: str, dsts: Sequence[Named], srcs: Sequence[Named]) -> None:
    """Check and record an exchange of this kind between ranks; `nki.collectives` computes its result over all of
    them."""
    core = machine.active()
    flags: dict[str, str | int] = {"kind": kind}
    if core.programs > 1:
        flags["cores"] = core.programs
    if core.alike is not None:
        flags["ranks"] = core.alike.ranks
        lasts = core.alike.lasts_ps(
            kind.removesuffix("_trigger"), sum(s.size * s.itemsize for _, s in srcs if s is not None)
        )
        if lasts is not None:
            flags["lasts"] = lasts
    issue("collective", "", dsts, srcs, flags)
