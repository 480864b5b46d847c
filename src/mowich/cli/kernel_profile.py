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
from typing import TYPE_CHECKING, cast

from mowich.cli.kernel import _as_scripts_expect, _finite, _run_kernel, _run_script, kernel_app
from mowich.cli.options import verb
from mowich.errors import UserError
from mowich.requests import kernels
from mowich.units import show

if TYPE_CHECKING:
    from mowich.neuroncore.changes import LineRow, Row
    from mowich.neuroncore.profile import Profile
    from mowich.nki import Result


@verb(kernel_app, kernels.PROFILE, "profile")
def kernel_profile(asked: kernels.Profile) -> None:
    """Time a kernel, and say what binds."""
    from mowich.neuroncore.clock.schedule import Options

    file, kernel, words, quiet = str(asked.file), asked.kernel, asked.arguments, asked.form.quiet
    options = Options(
        window=asked.window,
        active_cores=asked.active_cores,
        throttle=asked.throttle,
        dge=False if asked.disable_dge else None,
    )
    with _as_scripts_expect(file, words if kernel is None else [], asked.target, asked.lnc, quiet):
        if kernel is None:
            result = _last_of_script(file, quiet)
        else:
            result = _run_kernel(file, kernel, words, False, 0, values=asked.values)
    result.timed, result.options = True, options
    _write(result.profile, asked.trace, asked.parquet)
    shown = asked.target or f"trn{result.cores[0].generation - 1}"
    if asked.html is not None:
        _write_page(result.profile, shown, asked.html, asked.html_from_s)
    if asked.form.as_json:
        print(json.dumps(_finite(result.profile.to_dict(shown)), indent=1, allow_nan=False))
        return
    _print(shown, result, asked.path)


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


def _write_page(profile: Profile, target: str, file: Path, from_s: float) -> None:
    """The page of a profile, with a line for what it does not show."""
    from mowich.show import lanes

    try:
        file.write_text(lanes.render(profile, target, from_s), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", where=str(file)) from None


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


@verb(kernel_app, kernels.DIFF, "diff")
def kernel_diff(asked: kernels.Diff) -> None:
    """Two versions of a kernel, or two folders of tables."""
    a, b = asked.a, asked.b
    if asked.kernel is not None:
        names = asked.kernel.split(",")
        sides = [_profiled(asked, file, name) for file, name in ((a, names[0]), (b, names[-1]))]
        found = _compared_profiles(*sides)
    else:
        from mowich.neuroncore import explorer

        found = explorer.compare(a, b)
    if asked.form.as_json:
        made = {"schema": "mowich/kernel-diff@1", "a": str(a), "b": str(b), **found}
        print(json.dumps(_finite(made), indent=1, allow_nan=False))
        return
    _print_diff(found)


def _profiled(asked: kernels.Diff, file: Path, kernel: str) -> Profile:
    """The profile of one kernel of a file."""
    with _as_scripts_expect(str(file), [], asked.target, asked.lnc, asked.form.quiet):
        result = _run_kernel(str(file), kernel, asked.arguments, False, 0, values=False)
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
