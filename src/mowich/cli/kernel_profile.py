"""`mowich kernel profile` and `mowich kernel diff`: how long a kernel takes on the simulated NeuronCore, what binds,
and which lines cost.

A profile needs no values: arrays are described by format and shape, and the kernel runs without arithmetic unless its
control flow reads data. Two simulations, or a simulation and a profile that was measured, are compared field by field
and line by line.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mowich.cli.kernel import _as_scripts_expect, _finite, _run_kernel, _run_script, kernel_app
from mowich.errors import UserError, UserErrors
from mowich.neuroncore.targets import TARGET_HELP, generation_of
from mowich.units import show

if TYPE_CHECKING:
    from mowich.neuroncore.profile import Profile
    from mowich.nki import Result


@kernel_app.command(
    "profile",
    epilog='Example: mowich kernel profile kernels/softmax.py -k softmax "x=float32[4096,2048]" --target trn2',
)
def kernel_profile(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.py", help="A file with kernels, or a script that launches one.")
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ARGS]...",
            help=(
                "With -k: NAME=float32[128,512], NAME=FILE.npy, NAME=literal; default: what inputs() of the file gives."
                " Of the script after --."
            ),
        ),
    ] = None,
    kernel: Annotated[
        str | None,
        typer.Option("--kernel", "-k", metavar="NAME", help="The kernel; else the last one that the script launches."),
    ] = None,
    target: Annotated[str | None, typer.Option("--target", metavar="NAME", help=TARGET_HELP)] = None,
    lnc: Annotated[
        int | None, typer.Option("--lnc", metavar="N", help="Cores of a launch that names no grid: 1 or 2.")
    ] = None,
    values: Annotated[
        bool, typer.Option("--values", help="Compute as well: for kernels whose control flow reads data.")
    ] = False,
    active_cores: Annotated[
        int | None,
        typer.Option(
            "--active-cores", metavar="N", help="Cores of the chip that share HBM (default: those of the launch)."
        ),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option("--window", metavar="N", help="Instructions that an engine may look ahead; 1: strictly in order."),
    ] = None,
    throttle: Annotated[
        bool, typer.Option("--throttle/--no-throttle", help="The Tensor Engine starts at half rate (trn2, trn3).")
    ] = True,
    disable_dge: Annotated[
        bool,
        typer.Option(
            "--disable-dge",
            help="DMA descriptors are made before the launch, as with the compiler's option of this name.",
        ),
    ] = False,
    trace: Annotated[
        Path | None, typer.Option("--trace", metavar="FILE.json", help="Write a trace for Perfetto.")
    ] = None,
    parquet: Annotated[
        Path | None, typer.Option("--parquet", metavar="DIR", help="Write the tables of Neuron Explorer.")
    ] = None,
    path: Annotated[bool, typer.Option("--path", help="Print the critical path by cost.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout (mowich/kernel@1).")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr but errors.")] = False,
) -> None:
    """Time a kernel, and say what binds."""
    from mowich.neuroncore.clock.schedule import Options

    problems: list[UserError] = []
    if not file.is_file():
        problems.append(UserError("no such file", where=str(file)))
    if target is not None:
        try:
            generation_of(target)
        except UserError as error:
            problems.append(error)
    if lnc is not None and lnc not in (1, 2):
        problems.append(UserError("--lnc", given=lnc, allowed="1 or 2"))
    problems += [
        UserError(flag, given=given, allowed="1 or more")
        for flag, given in (("--window", window), ("--active-cores", active_cores))
        if given is not None and given < 1
    ]
    if problems:
        raise UserErrors(problems)
    options = Options(window=window, active_cores=active_cores, throttle=throttle, dge=False if disable_dge else None)
    with _as_scripts_expect(str(file), arguments or [] if kernel is None else [], target, lnc, quiet):
        if kernel is None:
            result = _last_of_script(str(file), quiet)
        else:
            result = _run_kernel(str(file), kernel, arguments or [], False, 0, values=values)
    result.timed, result.options = True, options
    _write(result.profile, trace, parquet)
    shown = target or f"trn{result.cores[0].generation - 1}"
    if as_json:
        print(json.dumps(_finite(result.profile.to_dict(shown)), indent=1, allow_nan=False))
        return
    _print(shown, result, path)


def _last_of_script(file: str, quiet: bool) -> Result:
    from mowich.nki import runtime

    _run_script(file, quiet)
    if runtime.last_run is None:
        raise UserError(
            "the script launched no kernel: nothing to profile", where=file, fix="-k NAME profiles a kernel of the file"
        )
    return runtime.last_run


def _write(profile: Profile, trace: Path | None, parquet: Path | None) -> None:
    from mowich.neuroncore import explorer, perfetto

    try:
        if trace is not None:
            perfetto.write(profile, trace)
        if parquet is not None:
            explorer.write(profile, parquet)
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", where=str(error.filename)) from None


def _print(target: str, result: Result, path: bool) -> None:
    p = result.profile
    cores = f", {p.cores} cores" if p.cores > 1 else ""
    print(f"{result.kernel} on {target}{cores}: {p.time_s}, {len(p):,} instructions")
    grade_d = p.time_s.coverage.get("grade D", 0.0)
    roof = f"; {p.intensity:,.0f} FLOP/B against {p.ridge:,.0f} at the ridge: {p.bound} side" if p.flop else ""
    print(f"MFU {p.mfu:.1%}, MBU {p.mbu:.1%}{roof}; {grade_d:.1%} of the time rests on estimated constants (grade D)")
    if p.spill_B:
        print(f"spills: {p.spill_B:,} bytes stored and reloaded, as live tiles exceed SBUF ({result.schedule.policy})")
    print(f"peak: SBUF {p.sbuf_peak_B:,} B of a partition, PSUM {p.psum_peak_banks} banks")
    print(f"{'engine':<10} {'busy':>10} {'waiting':>10} {'idle':>10}  waits for")
    for engine, use in p.engines.items():
        if use.instructions:
            waits = ", ".join(f"{who} {show(seconds, 's')}" for who, seconds in list(use.waits.items())[:3])
            print(
                f"{engine:<10} {show(use.busy_s, 's'):>10} {show(use.wait_s, 's'):>10} {show(use.idle_s, 's'):>10} "
                f" {waits}"
            )
    for d in p.descriptors:
        high = f"{d.high_B:,}" if d.high_B < 1 << 62 else "more"
        print(
            f"DMA descriptors of {d.low_B:,} .. {high} B: {d.bytes:,} bytes at {d.efficiency:.0%} of the DMA engines'"
            " rate"
        )
    if path:
        print("critical path:")
        for fact, seconds in p.time_s.breakdown.items():
            print(f"  {seconds / p.total_s:6.1%}  {fact}")
    print("costliest lines:")
    for line in p.top:
        print(f"  {line.file}:{line.line}  {show(line.seconds, 's')} ({line.seconds / p.total_s:.0%}): {line.cause}")
        print(f"      {line.remedy}")


@kernel_app.command(
    "diff",
    epilog="Example: mowich kernel diff before/ after/   (folders that --parquet wrote, or of a measured profile)",
)
def kernel_diff(
    a: Annotated[
        Path, typer.Argument(metavar="A", help="Folder with Neuron Explorer's Parquet tables, simulated or measured.")
    ],
    b: Annotated[Path, typer.Argument(metavar="B", help="The other folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout (mowich/kernel-diff@1).")] = False,
) -> None:
    """Compare two profiles by figure, opcode and source line: two simulations, or a simulation and a measurement."""
    from mowich.neuroncore import explorer

    missing = [
        UserError("no such folder", where=str(p), fix="`mowich kernel profile ... --parquet DIR` writes one")
        for p in (a, b)
        if not p.is_dir()
    ]
    if missing:
        raise UserErrors(missing)
    found = explorer.compare(a, b)
    if as_json:
        print(
            json.dumps(
                _finite({"schema": "mowich/kernel-diff@1", "a": str(a), "b": str(b), **found}),
                indent=1,
                allow_nan=False,
            )
        )
        return
    for title, rows in found.items():
        shown: list[dict[str, Any]] = [r for r in rows if r["a"] or r["b"]][: 40 if title == "summary" else 20]
        if shown:
            print(f"{title:<52} {'A':>14} {'B':>14} {'B/A':>8}")
            for r in shown:
                cells = [f"{v:,.6g}" if v is not None else "-" for v in (r["a"], r["b"])]
                ratio = f"{r['ratio']:.3f}" if r["ratio"] is not None else "-"
                print(f"  {str(r['what'])[:50]:<50} {cells[0]:>14} {cells[1]:>14} {ratio:>8}")
