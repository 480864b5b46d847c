"""`mowich kernel tables`: operator timing tables from our kernels on the simulated NeuronCore, made and checked."""

from __future__ import annotations

import sys

from mowich.cli.kernel import kernel_app
from mowich.cli.options import verb
from mowich.cli.output import progress
from mowich.errors import EXIT_CHECK_FAILED, UserError
from mowich.requests import kernels


@verb(kernel_app, kernels.KERNEL_TABLES, "tables")
def kernel_tables(asked: kernels.TablesRequest) -> None:
    """Make the tables, or check them."""
    from mowich.examples import folder_of
    from mowich.operators.tables import schema
    from mowich.studies import kernel_tables as study

    ops, chips, quiet, folder = asked.ops, asked.chips, asked.form.quiet, asked.folder or schema.FOLDER
    sources = asked.kernels or folder_of("kernels")
    if asked.check:
        with progress(quiet):
            found = study.check_tables(sources, folder, ops, chips, asked.sample)
        for text in found.wrong:
            print(text, file=sys.stderr)
        if found.wrong:
            raise UserError(
                f"{len(found.wrong)} differences in {found.rows} rows timed again",
                where=str(folder),
                fix="mowich kernel tables",
                code=EXIT_CHECK_FAILED,
            )
        print(f"{found.rows} rows timed again: the same")
        return
    with progress(quiet):
        made = study.make(sources, folder, ops, chips)
    for path, rows in made.files.items():
        print(f"{path}: {rows} rows")
    if made.missing and not quiet:
        print(f"left out, as they do not fit SBUF: {'; '.join(made.missing)}", file=sys.stderr)
