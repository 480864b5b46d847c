"""NKI kernels on the chips of a whole machine: one rank per chip, exchanges for their values, and how long the fabric
needs for each.

`nki.runtime` runs the ranks; here the collectives that they met in are found again in the trace of rank 0 and timed on
the machine's fabric.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from mowich.errors import UserError
from mowich.facts import Facts
from mowich.machines import collectives
from mowich.machines.system import System, machines, resolve
from mowich.machines.topology import per_chip
from mowich.software.vendors import chip_of, kernel_target
from mowich.sums import float_sum

if TYPE_CHECKING:
    from mowich.nki import Result

KIND_OF = {
    "all_reduce": "all-reduce",
    "all_gather": "all-gather",
    "reduce_scatter": "reduce-scatter",
    "all_to_all": "all-to-all",
    "all_to_all_v": "all-to-all",
    "all_gather_v": "all-gather",
    "reduce_scatter_v": "reduce-scatter",
    "collective_permute": "permute",
    "collective_permute_implicit": "permute",
    "collective_permute_implicit_reduce": "permute",
}
"""Collectives of `nki.collectives` as the fabric knows them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankCollective:
    """One collective of rank 0. group: members; data_B: full buffer (all-to-all: what a rank sends); by_level_s:
    seconds by level; file, line: where it stands."""

    kind: str
    group: int
    data_B: float
    by_level_s: dict[str, float]
    file: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemRun:
    """A kernel on ranks of a machine. results: one per rank, as `run_kernel` gives; exchanges: of rank 0 in order;
    by_level_s: their seconds by level.

    Units: seconds, bytes.

    Example:
        >>> import mowich, numpy as np
        >>> x = np.ones((128, 512), np.float32)
        >>> add = mowich.load_kernel("@add")
        >>> run = mowich.run_kernel(add, x, x, system="trn3-gen2", ranks=2)  # doctest: +SKIP
    """

    system: str
    results: tuple[Result, ...]
    exchanges: tuple[RankCollective, ...]

    @property
    def outputs(self) -> list[list[object]]:
        """Outputs of each rank."""
        return [r.outputs for r in self.results]

    @property
    def by_level_s(self) -> dict[str, float]:
        """Seconds of communication by level of the fabric, and "latency"."""
        out: dict[str, float] = {}
        for e in self.exchanges:
            for name, value in e.by_level_s.items():
                out[name] = out.get(name, 0.0) + value
        return out

    @property
    def communication_s(self) -> float:
        """Seconds of all exchanges of a rank, one after another."""
        return float_sum(self.by_level_s.values())


def run_system(
    facts: Facts,
    kernel: Callable[..., object],
    inputs: Sequence[object],
    *,
    system: str,
    lnc: int = 1,
    values: bool = True,
    strict: bool = True,
    version: tuple[int, int] | None = None,
) -> SystemRun:
    """Run a kernel on len(inputs) ranks, rank r being chip r of `system` (one core per chip). inputs: arguments of each
    rank, a sequence or a dict; version: of NKI, None: by the names that the kernel uses.

    Raises UserError for a system without NeuronCores or with fewer chips than ranks; mismatched and missing collectives
    as `nki` reports them.
    """
    from mowich.neuroncore.targets import generation_of
    from mowich.nki.runtime import Kernel, run_ranks

    machine = resolve(facts, system)
    target = kernel_target(facts, machine.chip)
    if target is None:
        raise UserError(
            "this machine has no NeuronCore that is simulated",
            where="system",
            given=system,
            allowed=[name for name in machines(facts) if kernel_target(facts, chip_of(facts, name))],
        )
    chips = per_chip(machine)
    if not 1 <= len(inputs) <= chips.chips:
        raise UserError("more ranks than chips", where="ranks", given=len(inputs), allowed=f"1 to {chips.chips}")
    k = kernel if isinstance(kernel, Kernel) else Kernel(kernel)
    results = run_ranks(
        k.func,
        list(inputs),
        generation=generation_of(target),
        lnc=lnc,
        values=values,
        strict=strict,
        record=True,
        traced=k.is_traced(version),
        switched=any(level.kind == "switch" for level in chips.levels),
    )
    return SystemRun(system=system, results=tuple(results), exchanges=tuple(_exchanges(results[0], chips)))


def _exchanges(result: Result, system: System) -> list[RankCollective]:
    """The collectives in the trace of a rank, timed on the fabric of a machine of whole chips."""
    core = result.cores[0]
    if core.trace is None:
        return []
    groups: dict[str, list[tuple[int, ...]]] = {}
    for key, calls in core.serial.items():
        if isinstance(key, tuple) and len(key) == 3 and key[0] == "collective":
            groups.setdefault(str(key[2]), []).extend([tuple(key[1])] * int(calls))
    out = []
    for record in core.trace.records:
        name = str((record.flags or {}).get("kind")).removesuffix("_trigger")
        if record.name != "collective" or name not in KIND_OF:
            continue
        kind = KIND_OF[name]
        waiting = groups.get(name, [])
        members = waiting.pop(0) if waiting else (core.rank,)
        of = record.writes if kind == "all-gather" else record.reads
        data = float(sum(_elements(a.shape) * a.itemsize for a in of))
        n = len(members)
        stride = members[1] - members[0] if n > 1 and len({b - a for a, b in pairwise(members)}) == 1 else 1
        times = collectives.by_level(system, kind, data, n, max(1, abs(stride))) if n > 1 else {}
        out.append(
            RankCollective(kind=kind, group=n, data_B=data, by_level_s=times, file=record.file, line=record.line)
        )
    return out


def _elements(shape: Sequence[int]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count
