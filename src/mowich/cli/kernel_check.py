"""`mowich kernel check`: what the NKI compiler would refuse, one line each with file, line, what and remedy."""

from __future__ import annotations

import json

import typer

from mowich.cli.kernel import kernel_app
from mowich.cli.options import verb
from mowich.errors import EXIT_CHECK_FAILED
from mowich.requests import kernels


@verb(kernel_app, kernels.CHECK, "check")
def kernel_check(asked: kernels.Check) -> None:
    """Say what the NKI compiler would refuse."""
    from mowich.studies.kernel_check import study

    found = study(asked.file, kernel=asked.kernel, version=asked.version)
    if asked.form.as_json:
        print(json.dumps(found.to_dict(), indent=1))
    else:
        print("\n".join(found.lines()))
    if found.findings:
        raise typer.Exit(EXIT_CHECK_FAILED)
