"""`mowich kernel`: NKI kernels and scripts, unmodified, on a simulated NeuronCore.

A script runs as Python would run it, with `nki` and `neuronxcc.nki` resolving to `mowich.nki`. With `-k NAME` one
kernel of the file runs on arrays described on the command line. What a kernel does wrong is one line with its file and
line.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mowich.cli.app import app
from mowich.cli.guest import in_limits
from mowich.cli.options import CONTEXT, CommandGroup, verb
from mowich.cli.output import emit, progress
from mowich.requests import kernels
from mowich.writing import told_unwritable, whole_file

if TYPE_CHECKING:
    from mowich.nki import Result
    from mowich.studies.kernel_reference import ReferenceFit


kernel_app = typer.Typer(
    cls=CommandGroup,
    help="NKI kernels on a simulated NeuronCore.",
    epilog="Example: mowich kernel run @matmul",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=CONTEXT,
)
app.add_typer(kernel_app, name="kernel")


@kernel_app.callback()
def _group() -> None:
    """NKI kernels on a simulated NeuronCore."""


def as_files_expect(
    asked: kernels.RunRequest | kernels.KernelCheckRequest | kernels.ProfileRequest | kernels.DiffRequest,
    file: str,
    arguments: tuple[str, ...] = (),
) -> AbstractContextManager[None]:
    """The process as a file of kernels expects it."""
    from mowich.studies.kernel_files import as_scripts_expect

    form = asked.form
    return as_scripts_expect(
        file,
        arguments,
        asked.target,
        asked.lnc,
        asked.version,
        quiet=form.quiet,
        for_programs=form.as_json or form.as_csv,
    )


@verb(kernel_app, kernels.RUN, "run")
def kernel_run(asked: kernels.RunRequest) -> int:
    """Run a script or a kernel."""
    return in_limits(
        lambda: _run(asked), timeout_s=asked.timeout_s, memory_GiB=asked.memory_GiB, quiet=asked.form.quiet
    )


def _run(asked: kernels.RunRequest) -> None:
    from mowich.nki.runtime import NOT_FINITE
    from mowich.show.json import finite
    from mowich.show.kernel import run_page
    from mowich.show.page import Run
    from mowich.studies.kernel_files import run_kernel_of
    from mowich.studies.kernels import ran

    file, kernel, words = str(asked.file), asked.kernel, asked.arguments
    if kernel is not None and asked.is_debugging:
        _debug(asked, kernel)
        return
    with as_files_expect(asked, file, words if kernel is None else ()):
        if kernel is None:
            _run_script(file, asked.form.quiet)
            return
        with progress(asked.form.quiet) as line:
            line(f"running {kernel}")
            beside: list[ReferenceFit] = []
            result = run_kernel_of(file, kernel, words, asked.strict, asked.seed, beside=(asked.tolerance, beside))
    [reference] = beside
    if not (asked.form.quiet or asked.form.as_json or asked.form.as_csv) and reference.is_close:
        print(f"note: {reference.text()}", file=sys.stderr)
    if asked.saved is not None:
        _save(result, asked.saved)
    answer = ran(kernel, result, reference).to_dict()
    # warnings were told on stderr as they came; an answer that is no number is told with it
    told = [w for w in result.warnings if NOT_FINITE in w]
    emit(finite(answer), asked.form, page=lambda: run_page({**answer, "warnings": told}, Run()))
    reference.check("--tolerance ", where=file, finds=f"--first-difference {file}")


def _debug(asked: kernels.RunRequest, kernel: str) -> None:
    """A kernel that is stopped, shown or compared."""
    from mowich.show.json import finite
    from mowich.show.kernel_debug import watched_points
    from mowich.show.render.scatter import scatter_text
    from mowich.show.render.terminal import Style
    from mowich.studies.debug.answer import debugged
    from mowich.studies.kernel_files import one_line, prepared_kernel, reference_in

    file = str(asked.file)
    with as_files_expect(asked, file), progress(asked.form.quiet) as line:
        line(f"running {kernel}")
        launched, _, given, _ = prepared_kernel(file, kernel, asked.arguments, asked.seed, values=True)
        first = asked.first_difference
        # beside its own file a kernel would be compared with itself
        is_other = first is not None and first.file.resolve() != asked.file.resolve()
        reference = None if first is None else reference_in(first, kernel, tiles_first=is_other)[0]
        with one_line(file):
            found = debugged(
                launched,
                (),
                given,
                how={"strict": asked.strict, "finite": asked.strict},
                stop=asked.stop,
                tiles=asked.tiles,
                watch=asked.watch,
                reference=reference,
                tolerance=asked.tolerance,
                spelled=lambda name: f"--{name.replace('_', '-')}",
            )
    answer = finite(found.to_dict())

    def drawn(how: Style) -> str:
        watch = answer["watch"]
        if not watch or not watch["changes"]:
            return ""
        groups = {name: [(a, b) for a, b, _ in dots] for name, dots in watched_points(watch).items()}
        picture = scatter_text(f"How {watch['tile']} changes", groups, how, x="instruction", y="value")
        return "\n".join(picture) + "\n"

    emit(answer, asked.form, after=drawn)
    found.check()


# ---- a script
# ----------------------------------------------------------------------------------------------------------------------


def _run_script(file: str, quiet: bool) -> None:
    from mowich.nki import runtime
    from mowich.studies.kernel_files import ScriptExit, execute_file, kernels_in

    runtime.last_run = None
    try:
        names = execute_file(file, "__main__")
    except ScriptExit as ended:
        raise typer.Exit(ended.code) from None
    if runtime.last_run is None and not quiet:
        found = kernels_in(names)
        hint = f"; run one with -k: {', '.join(found)}" if found else ""
        print(f"note: {file} launched no kernel{hint}", file=sys.stderr)


def _save(result: Result, file: Path) -> None:
    """The arrays that a kernel returned, as `np.load` reads them."""
    import numpy as np

    named = file if file.suffix == ".npz" else file.with_name(file.name + ".npz")  # as NumPy names it
    with told_unwritable(field=f"out {file}"), whole_file(named) as new:
        np.savez(new, *(np.asarray(value) for value in result.outputs))


__all__ = ["kernel_app"]
