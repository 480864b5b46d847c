"""`mowich kernel tables`: operator timing tables from our kernels on the simulated NeuronCore, made and checked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mowich.cli.kernel import kernel_app
from mowich.cli.output import progress
from mowich.errors import EXIT_CHECK_FAILED, UserError


@kernel_app.command(
    "tables",
    epilog=(
        "Example: mowich kernel tables --op matmul --chip trainium2 --out tables   or   mowich kernel tables --check"
    ),
)
def kernel_tables(
    op: Annotated[str | None, typer.Option("--op", metavar="OPS", help="Only these operators, commas between.")] = None,
    chip: Annotated[
        str | None, typer.Option("--chip", metavar="CHIPS", help="Only these: trainium1, trainium2, trainium3.")
    ] = None,
    kernels: Annotated[Path, typer.Option("--kernels", metavar="DIR", help="Where the kernels are.")] = Path("kernels"),
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where tables go, or are with --check; else the ones that ship."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Time a few shapes of each table again and compare; write nothing.")
    ] = False,
    sample: Annotated[
        int, typer.Option("--sample", metavar="N", help="With --check: shapes of each table and chip.", min=1)
    ] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr but errors.")] = False,
) -> None:
    """Time our kernels over many shapes and write tables of operator times; takes some minutes."""
    from mowich.neuroncore.clock.compiled import QUIET
    from mowich.operators.tables import schema
    from mowich.studies import kernel_tables as study

    QUIET.set(quiet)
    ops, chips = ([w.strip() for w in words.split(",") if w.strip()] if words else [] for words in (op, chip))
    folder = out or schema.FOLDER
    if check:
        with progress(quiet) as line:
            found = study.check(kernels, folder, ops, chips, sample, line)
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
    with progress(quiet) as line:
        made = study.make(kernels, folder, ops, chips, line)
    for path, rows in made.files.items():
        print(f"{path}: {rows} rows")
    if made.missing and not quiet:
        print(f"left out, as they do not fit SBUF: {'; '.join(made.missing)}", file=sys.stderr)
