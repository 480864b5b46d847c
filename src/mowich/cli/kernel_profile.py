"""`mowich kernel profile` and `mowich kernel diff`: how long a kernel takes on the simulated NeuronCore, what binds,
and which lines cost.

A profile needs no values: arrays are described by format and shape, and the kernel runs without arithmetic unless its
control flow reads data. Two simulations, or a simulation and a profile that was measured, are compared field by field
and line by line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from mowich.cli.kernel import _as_scripts_expect, _finite, _run_kernel, _run_script, kernel_app
from mowich.errors import UserError, UserErrors
from mowich.neuroncore.targets import TARGET_HELP, generation_of
from mowich.units import show

if TYPE_CHECKING:
    from mowich.neuroncore.changes import LineRow, Row
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
    problems += _wrong_launch(target, lnc)
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


def _wrong_launch(target: str | None, lnc: int | None) -> list[UserError]:
    """What is wrong with the target and the cores of a launch."""
    problems: list[UserError] = []
    if target is not None:
        try:
            generation_of(target)
        except UserError as error:
            problems.append(error)
    if lnc is not None and lnc not in (1, 2):
        problems.append(UserError("--lnc", given=lnc, allowed="1 or 2"))
    return problems


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
    epilog=(
        "Example: mowich kernel diff before.py after.py -k softmax x=float32[4096,2048]   or   mowich kernel diff"
        " before/ after/   (folders that --parquet wrote, or of a measured profile)"
    ),
)
def kernel_diff(
    a: Annotated[
        Path,
        typer.Argument(metavar="A", help="FILE.py of a kernel, or a folder with Neuron Explorer's Parquet tables."),
    ],
    b: Annotated[Path, typer.Argument(metavar="B", help="The other one, of the same kind.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ARGS]...", help="Of both kernels, as for profile; default: what inputs() of a file gives."
        ),
    ] = None,
    kernel: Annotated[
        str | None,
        typer.Option(
            "--kernel", "-k", metavar="NAME[,NAME]", help="The kernel of the files, or that of A and that of B."
        ),
    ] = None,
    target: Annotated[str | None, typer.Option("--target", metavar="NAME", help=f"Of kernels: {TARGET_HELP}")] = None,
    lnc: Annotated[
        int | None, typer.Option("--lnc", metavar="N", help="Cores of a launch that names no grid: 1 or 2.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout (mowich/kernel-diff@1).")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr but errors.")] = False,
) -> None:
    """Compare two versions of a kernel by figure, engine, cause, opcode and line, matched by what it says and does."""
    problems: list[UserError] = []
    if a.suffix == ".py" and b.suffix == ".py":
        problems += [UserError("no such file", where=str(p)) for p in (a, b) if not p.is_file()]
        if kernel is None:
            problems.append(
                UserError("two files need the name of their kernel", fix="-k NAME, or -k NAME_OF_A,NAME_OF_B")
            )
        problems += _wrong_launch(target, lnc)
    else:
        problems += [
            UserError(
                "no such folder" if not p.is_file() else "a file beside a folder of tables",
                where=str(p),
                fix="`mowich kernel profile ... --parquet DIR` writes one; or compare two FILE.py with -k NAME",
            )
            for p in (a, b)
            if not p.is_dir()
        ]
        given = (("-k", kernel), ("--target", target), ("--lnc", lnc), ("arguments", arguments))
        problems += [UserError(f"{flag}: go with two FILE.py") for flag, value in given if value]
    if problems:
        raise UserErrors(problems)
    if a.suffix == ".py":
        names = (kernel or "").split(",")
        sides = [
            _profiled(file, name, arguments or [], target, lnc, quiet) for file, name in ((a, names[0]), (b, names[-1]))
        ]
        found = _compared_profiles(*sides)
    else:
        from mowich.neuroncore import explorer

        found = explorer.compare(a, b)
    if as_json:
        made = {"schema": "mowich/kernel-diff@1", "a": str(a), "b": str(b), **found}
        print(json.dumps(_finite(made), indent=1, allow_nan=False))
        return
    _print_diff(found)


def _profiled(
    file: Path, kernel: str, arguments: list[str], target: str | None, lnc: int | None, quiet: bool
) -> Profile:
    """The profile of one kernel of a file."""
    with _as_scripts_expect(str(file), [], target, lnc, quiet):
        result = _run_kernel(str(file), kernel, arguments, False, 0, values=False)
    result.timed = True
    return result.profile


def _compared_profiles(a: Profile, b: Profile) -> dict[str, list[Row]]:
    """What two folders of Parquet tables would give, without DuckDB."""
    from mowich.neuroncore.changes import compared, row, version_of

    summary = [
        row("total_time", a.total_s, b.total_s),
        row("instructions", float(len(a)), float(len(b))),
        *(
            row(name, float(x), float(y))
            for name, x, y in zip(("hbm_read_bytes", "hbm_write_bytes"), a.hbm_B, b.hbm_B, strict=True)
        ),
        row("model_flops", float(a.flop), float(b.flop)),
        row("spill_bytes", float(a.spill_B), float(b.spill_B)),
        row("sbuf_peak_bytes", float(a.sbuf_peak_B), float(b.sbuf_peak_B)),
        row("psum_peak_banks", float(a.psum_peak_banks), float(b.psum_peak_banks)),
    ]
    return {"summary": summary, **compared(version_of(a), version_of(b))}


TITLES = {
    "summary": "figures",
    "engines": "engines, ns",
    "causes": "critical path by cause, ns",
    "opcodes": "opcodes",
    "lines": "lines, ns of their instructions",
}
"""Sections of a comparison -> their heads."""


def _print_diff(found: Mapping[str, Sequence[Row]]) -> None:
    for name, rows in found.items():
        shown = [r for r in rows if r["a"] or r["b"]][: 40 if name == "summary" else 20]
        if not shown:
            continue
        if name == "lines":
            _print_lines([cast("LineRow", r) for r in shown], len(rows))
            continue
        print(f"{TITLES[name]:<52} {'A':>14} {'B':>14} {'B/A':>8}")
        for r in shown:
            cells = [f"{v:,.6g}" if v is not None else "-" for v in (r["a"], r["b"])]
            ratio = f"{r['ratio']:.3f}" if r["ratio"] is not None else "-"
            print(f"  {r['what'][:50]:<50} {cells[0]:>14} {cells[1]:>14} {ratio:>8}")


def _print_lines(rows: Sequence[LineRow], count: int) -> None:
    """Lines of both versions, those first whose change weighs most; times of the critical path where both know it."""
    has_path = any(r["a_path"] is not None for r in rows) and any(r["b_path"] is not None for r in rows)
    head = "lines by change on the critical path, ns" if has_path else "lines by change, ns of their instructions"
    print(f"{head:<52} {'A':>14} {'B':>14} {'change':>14}")
    for r in rows:
        pair = (r["a_path"], r["b_path"]) if has_path else (r["a"], r["b"])
        cells = [f"{v:,.6g}" if v is not None else "-" for v in pair]
        change = (pair[1] or 0.0) - (pair[0] or 0.0)
        counts = f"{r['a_count']} -> {r['b_count']}" if r["a_count"] != r["b_count"] else f"{r['b_count']}"
        place = " -> ".join(dict.fromkeys(x for x in (r["a_line"], r["b_line"]) if x))
        print(f"  {r['how']:<8} {place[:41]:<41} {cells[0]:>14} {cells[1]:>14} {change:>+14,.6g}")
        because = f"; {r['cause']}" if r["cause"] and has_path and change else ""
        print(f"      {r['text'][:80]}   [{r['engines']}, {counts}{because}]")
    if count > len(rows):
        print(f"  and {count - len(rows)} more lines (--json has all)")
