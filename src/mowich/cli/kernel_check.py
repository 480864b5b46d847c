"""`mowich kernel check`: what the NKI compiler would refuse, one line each with file, line, what and remedy."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mowich.cli.kernel import as_files_expect, kernel_app
from mowich.cli.options import verb
from mowich.errors import EXIT_CHECK_FAILED, unknown
from mowich.requests import kernels

if TYPE_CHECKING:
    from mowich.nki.check import Ran


@verb(kernel_app, kernels.CHECK, "check")
def kernel_check(asked: kernels.KernelCheckRequest) -> None:
    """Say what the NKI compiler would refuse."""
    from mowich.neuroncore.targets import generation_of
    from mowich.studies.kernel_check import check_kernels

    runs = asked.kernel is not None and asked.arguments
    found = check_kernels(
        asked.file,
        kernel=asked.kernel,
        version=asked.version,
        generation=None if asked.target is None else generation_of(asked.target),
        run=partial(_run, asked) if runs else None,
    )
    if asked.form.as_json:
        print(json.dumps(found.to_dict(), indent=1))
    else:
        print("\n".join(found.lines()))
    if found.findings:
        raise typer.Exit(EXIT_CHECK_FAILED)


def _run(asked: kernels.KernelCheckRequest) -> Ran:
    """The kernel of a file on the arguments that were described."""
    from mowich.nki import Kernel
    from mowich.nki.check import check_run, text_with_kernel
    from mowich.studies.kernel_files import described_arguments, execute_file, kernels_in, one_line

    file, name = str(asked.file), str(asked.kernel)
    with as_files_expect(asked, file):
        names = execute_file(file, Path(file).stem)
        text = text_with_kernel(asked.file.read_text(encoding="utf-8"), file, name) if name not in names else None
        if text is not None:
            with one_line(file):
                exec(compile(text, file, "exec"), names)
        found = kernels_in(names).get(name) or names.get(name)
        if not callable(found) or isinstance(found, type):
            raise unknown("kernel", name, kernels_in(names), where=file)
        kernel = found if isinstance(found, Kernel) else Kernel(found)
        given = described_arguments(kernel, name, asked.arguments, asked.seed)
        with one_line(file):
            return check_run(kernel, (), given)
