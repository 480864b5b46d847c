"""A kernel that Python runs: on a NeuronCore, on several ranks, on the chips of a machine, or looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mowich.errors import UserError

if TYPE_CHECKING:
    from mowich.nki import Result
    from mowich.requests import launches
    from mowich.studies.debug.answer import KernelDebug
    from mowich.studies.system_run import SystemRun


def launched(
    asked: launches.Launch, arrays: Sequence[object], named: Mapping[str, Any]
) -> Result | list[Result] | SystemRun:
    """A kernel on a NeuronCore, on several ranks, or on the chips of a machine. arrays, named: the arguments of every
    rank, where the question does not give each its own."""
    if asked.system is not None:
        from mowich.studies import system_run

        given = asked.inputs if asked.inputs is not None else [_copied(arrays, named) for _ in range(asked.ranks)]
        return system_run.run_system(
            asked.facts,
            asked.kernel,
            given,
            system=asked.system,
            lnc=asked.lnc,
            values=asked.values,
            version=asked.nki,
        )
    from mowich.nki import run_kernel
    from mowich.studies.kernel_reference import fit_to_reference, wanted_of

    wanted = None if asked.reference is None else wanted_of(asked.reference, arrays, named)
    result = run_kernel(
        asked.kernel,
        *arrays,
        target=asked.target,
        lnc=asked.lnc,
        version=asked.nki,
        values=asked.values,
        ranks=asked.ranks,
        timed=asked.timed,
        strict=True if asked.strict else None,
        **named,
    )
    if wanted is not None and not isinstance(result, list):
        fit_to_reference(result, wanted, [*arrays, *named.values()], asked.tolerance).check("tolerance=")
    return result


def kernel_debugged(asked: launches.Debugging, arrays: Sequence[object], named: Mapping[str, object]) -> KernelDebug:
    """A kernel that is looked at while it runs, or compared with a reference. arrays, named: its arguments."""
    from mowich.neuroncore.targets import generation_of
    from mowich.studies.debug.answer import debugged
    from mowich.studies.debug.running import LaunchDetails

    how = LaunchDetails(strict=asked.strict, finite=asked.strict, lnc=asked.lnc)
    if asked.target is not None:
        how["generation"] = generation_of(asked.target)
    return debugged(
        asked.kernel,
        arrays,
        named,
        how=how,
        stop=asked.stop,
        tiles=asked.tiles,
        watch=asked.watch,
        reference=asked.first_difference,
        tolerance=asked.tolerance,
        spelled=lambda name: "tiles" if name == "print" else name,
    )


def _copied(arrays: Sequence[object], named: Mapping[str, object]) -> list[object]:
    """The same arguments for one rank, arrays copied so that ranks do not write into each other's."""
    if named:
        raise UserError(
            "with system, arguments go by position", given=sorted(named), fix="inputs=[...] takes a dict for each rank"
        )
    return [a.copy() if hasattr(a, "copy") else a for a in arrays]
