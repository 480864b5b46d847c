"""Advice on a kernel of a file: its runs, as it is and with a changed text."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from itertools import count
from pathlib import Path

from mowich.errors import UserError
from mowich.nki.result import Result
from mowich.readback import record_of
from mowich.requests.advising import AdviseRequest
from mowich.studies.advise.advise import AdviseAsk, KernelAdvice, advise_kernel
from mowich.studies.kernel_files import (
    as_scripts_expect,
    check_outputs,
    execute_file,
    kernels_in,
    one_line,
    prepared_kernel,
)


def file_advised(asked: AdviseRequest) -> KernelAdvice:
    """The edits of a kernel of a file that gain most. Raises UserError for one that does not run."""
    file, form = str(asked.file), asked.form
    with as_scripts_expect(
        file,
        (),
        asked.target,
        asked.lnc,
        asked.nki,
        quiet=form.quiet,
        for_programs=form.as_json or form.as_csv,
    ):
        kernel = asked.kernel or _only_kernel(file)
        text, run = asked.file.read_text(encoding="utf-8"), file_runs(asked.file, kernel, asked.arguments, asked.seed)
        return advise_kernel(record_of(AdviseAsk, asked, file=file, path=file, text=text, kernel=kernel, run=run))


def _only_kernel(file: str) -> str:
    """The kernel of a file that has one."""
    found = [*kernels_in(execute_file(file, Path(file).stem))]
    if len(found) != 1:
        raise UserError(
            "the file has several kernels" if found else "the file has no kernel",
            where=file,
            allowed=found or None,
            fix="-k NAME says which" if found else "mark a function with @nki.jit",
        )
    return found[0]


def file_runs(file: Path, kernel: str, words: Sequence[str], seed: int) -> Callable[[str, bool], Result]:
    """What runs a text of a file with a kernel, with or without values: the text of the file itself where it lies,
    another one under a name of its own. words: its arguments, "x=float32[128,512]"; empty: what `inputs()` of the file
    gives. What it prints and warns of then is not shown. The process is as scripts expect it (`as_scripts_expect`)."""
    original, number = file.read_text(encoding="utf-8"), count(1)

    def run(text: str, values: bool) -> Result:
        if text == original:
            return launched(str(file), values, None)
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            return launched(str(file.with_name(f"{file.stem}-edited-{next(number)}.py")), values, text)

    def launched(path: str, values: bool, text: str | None) -> Result:
        from mowich.nki.runtime import kernel_launched

        asked, run, given, _ = prepared_kernel(path, kernel, words, seed, values=values, text=text)
        with one_line(path):
            result = kernel_launched(
                asked, (), given, strict=values, finite=False, record=True, values=values, check=values
            )
        check_outputs(result, run)
        return result

    return run
