"""`mowich kernel profile` and `mowich kernel diff`: how long a kernel takes on the simulated NeuronCore, what binds,
and which lines cost.

A profile needs no values: arrays are described by format and shape, and the kernel runs without arithmetic unless its
control flow reads data. Two simulations, or a simulation and a profile that was measured, are compared field by field
and line by line.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mowich.cli.guest import in_limits
from mowich.cli.kernel import _run_script, as_files_expect, kernel_app
from mowich.cli.options import verb
from mowich.cli.output import emit, progress
from mowich.errors import UserError
from mowich.requests import kernels
from mowich.writing import write_file

if TYPE_CHECKING:
    from mowich.neuroncore.profile import Profile
    from mowich.nki import Result


@verb(kernel_app, kernels.PROFILE, "profile")
def kernel_profile(asked: kernels.ProfileRequest) -> int:
    """Time a kernel, and say what binds."""
    return in_limits(
        lambda: _profile(asked), timeout_s=asked.timeout_s, memory_GiB=asked.memory_GiB, quiet=asked.form.quiet
    )


def _profile(asked: kernels.ProfileRequest) -> None:
    from mowich.neuroncore.clock.records import ClockOptions
    from mowich.show.json import finite
    from mowich.show.kernel import kernel_page
    from mowich.show.page import Run
    from mowich.studies.heard import note_heard
    from mowich.studies.kernel_files import run_kernel_of

    file, kernel, words, quiet = str(asked.file), asked.kernel, asked.arguments, asked.form.quiet
    options = ClockOptions(
        window=asked.window,
        active_cores=asked.active_cores,
        throttle=asked.throttle,
        dge=False if asked.disable_dge else None,
    )
    with as_files_expect(asked, file, words if kernel is None else ()):
        if kernel is None:
            result = _last_of_script(file, quiet)
        else:
            with progress(quiet) as line:
                line(f"running {kernel}")
                result = run_kernel_of(file, kernel, words, False, 0, values=asked.values)
    result.timed, result.options = True, options
    result.facts = asked.facts
    with progress(quiet) as line:
        line("timing")
        profile = result.profile
    _write(profile, asked.trace, asked.parquet)
    shown = asked.target or f"trn{result.cores[0].generation - 1}"
    if asked.html is not None:
        _write_page(profile, shown, asked.html, asked.html_from_s)
    profile.target = shown
    answer = finite(note_heard(profile, asked.facts, question=asked).to_dict())
    inputs = asked.given if any(asked.given.values()) else None
    emit(answer, asked.form, inputs=inputs, page=lambda: kernel_page(answer, Run(), path=asked.path))


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
            perfetto.write_perfetto(profile, trace)
        if parquet is not None:
            explorer.write_parquet(profile, parquet)
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", where=str(error.filename or trace or parquet)) from None


def _write_page(profile: Profile, target: str, file: Path, from_s: float) -> None:
    """The page of a profile, with a line for what it does not show."""
    from mowich.show import lanes

    write_file(file, lanes.render_lanes(profile, target, from_s), where=str(file))


@verb(kernel_app, kernels.KERNEL_DIFF, "diff")
def kernel_diff(asked: kernels.DiffRequest) -> None:
    """Two versions of a kernel, or two folders of tables."""
    from mowich.show.json import finite
    from mowich.studies.kernels import folders_compared, profiles_compared

    a, b = asked.a, asked.b
    if asked.kernel is not None:
        names = asked.kernel.split(",")
        profiles = _profiled(asked, a, names[0]), _profiled(asked, b, names[-1])
        found = profiles_compared(str(a), str(b), profiles)
    else:
        found = folders_compared(a, b)
    emit(finite(found.to_dict()), asked.form)


def _profiled(asked: kernels.DiffRequest, file: Path, kernel: str) -> Profile:
    """The profile of one kernel of a file."""
    from mowich.studies.kernel_files import run_kernel_of

    with as_files_expect(asked, str(file)), progress(asked.form.quiet) as line:
        line(f"timing {kernel} of {file}")
        result = run_kernel_of(str(file), kernel, asked.arguments, False, 0, values=False)
        result.timed = True
        return result.profile
