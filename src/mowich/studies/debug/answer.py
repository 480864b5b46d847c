"""What a kernel was found to hold and to do, as an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mowich.errors import EXIT_CHECK_FAILED, UserError
from mowich.neuroncore.core import limits
from mowich.nki.runtime import Kernel
from mowich.requests.debugging import SourceLine, TileName
from mowich.shown import Shown
from mowich.studies.debug.difference import ReferenceComparison, compare_with_arrays, compare_with_kernel
from mowich.studies.debug.queues import EngineQueue, engine_queues
from mowich.studies.debug.running import LaunchDetails, Launcher, silently
from mowich.studies.debug.session import Change, DebugRun, Stop
from mowich.studies.debug.values import TileValues


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelDebug(Shown):
    """What a kernel holds at a stop or at its end, how a tile changes, and where it leaves a reference.

    Units: seconds on the clock, bytes of a partition (of all in HBM).

    Example:
        >>> import mowich, numpy as np
        >>> x = np.ones((128, 512), np.float32)
        >>> found = mowich.debug_kernel(mowich.load_kernel("@add"), x, x, tiles=["result[0, 0]"])
        >>> found.prints[0].values
        2.0
    """

    SCHEMA = "mowich/kernel-debug@1"
    KEYS = "kernel generation stop=stopped prints watch=watched first_difference=comparison"

    kernel: str
    generation: int
    stop: Stop | None = None
    time_s: float | None = None
    engines: tuple[EngineQueue, ...] = ()
    prints: tuple[TileValues, ...] = ()
    watch: str = ""
    changes: tuple[Change, ...] = ()
    comparison: ReferenceComparison | None = None

    def check(self, where: str | None = None) -> None:
        """Raise UserError, with the exit code of a check, where an instruction leaves the reference."""
        found = None if self.comparison is None else self.comparison.difference
        if found is not None:
            got = "nothing" if found.got is None else f"{found.got:.6g}"
            raise UserError(
                f"{found.opcode} leaves the reference: {found.tile}{list(found.index)} is {got},"
                f" the reference {found.wanted:.6g}",
                where=f"{found.file}:{found.line}",
                code=EXIT_CHECK_FAILED,
            )

    @property
    def watched(self) -> dict[str, object] | None:
        """The tile that was watched, and how it changed."""
        return {"tile": self.watch, "changes": self.changes} if self.watch else None

    @property
    def stopped(self) -> dict[str, object] | None:
        """What is held at the stop."""
        if self.stop is None:
            return None
        s, room = self.stop, limits(self.generation)
        return {
            "file": s.issued.file,
            "line": s.issued.line,
            "statement": s.issued.statement.text,
            "turn": s.turn,
            "core": s.issued.core.program,
            "instruction": s.issued.number,
            "opcode": s.issued.name or None,
            "engine": s.issued.engine or None,
            "refused": s.refused or None,
            "begins_s": self.time_s,
            "operands": s.operands,
            "tiles": s.tiles,
            "sbuf_B": s.sbuf_B,
            "sbuf_capacity_B": room.sbuf_B,
            "psum_banks": s.psum_banks,
            "psum_capacity_banks": room.psum_banks,
            "engines": self.engines,
        }


def debugged(
    kernel: Callable[..., object],
    args: Sequence[object],
    named: Mapping[str, object],
    *,
    how: LaunchDetails,
    stop: SourceLine | None = None,
    tiles: Sequence[TileName] = (),
    watch: TileName | None = None,
    reference: Callable[..., object] | None = None,
    tolerance: float | None = None,
    spelled: Callable[[str], str] = str,
) -> KernelDebug:
    """Look at a kernel while it runs. spelled: how the
    edge calls a field, for errors. Raises UserError for a line without an instruction and a name without a tile."""
    launcher = Launcher(kernel=kernel, args=args, named=named, how=how)
    plain = kernel if isinstance(kernel, Kernel) else Kernel(kernel)
    name = str(getattr(plain.func, "__name__", "kernel"))
    generation = int(how.get("generation") or plain.generation())
    made = KernelDebug(kernel=name, generation=generation)
    if reference is not None:
        if isinstance(reference, Kernel):
            beside = Launcher(kernel=reference, args=launcher.args, named=launcher.named, how=how)
            return replace(made, comparison=compare_with_kernel(launcher, beside, tolerance))
        found = compare_with_arrays(launcher, reference, tolerance, spelled("first_difference"))
        return replace(made, comparison=found)
    session = DebugRun(place=stop, tiles=tiles, watch=watch, spelled=spelled)
    _run(launcher, session)
    changes: tuple[Change, ...] = ()
    if watch is not None:
        again = DebugRun(place=stop, watch=watch, watched=session.views, spelled=spelled, is_again=True)
        with silently():
            _run(launcher, again)
        changes = tuple(again.changes)
    made = replace(made, stop=session.stop)
    if session.stop is not None and not session.stop.refused:
        time_s, engines = engine_queues(session.stop, older=plain.older, static_dma=plain.static_dma)
        made = replace(made, time_s=time_s, engines=engines)
    return replace(
        made,
        prints=session.prints,
        watch="" if watch is None else watch.text,
        changes=changes,
    )


def _run(launcher: Launcher, session: DebugRun) -> None:
    """A run up to its stop, its end, or an instruction of the stop that is refused."""
    try:
        launcher.run(session)
    except Exception as error:
        if not session.failed(error):
            raise
