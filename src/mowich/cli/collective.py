"""`mowich collective`: time of one collective against its size, what binds, and with failed links."""

from __future__ import annotations

from typing import Annotated

import typer

from mowich.cli.app import app
from mowich.cli.options import Csv, FactsDir, Json, Out, Plain, Quiet, Set, complete_systems
from mowich.cli.output import emit, noter, one_form, style
from mowich.requests import Problems, facts_changes, read_facts, read_settings

SWEEP = tuple(2**k for k in range(10, 35, 3))
"""Sizes without --bytes: 1 KiB to 16 GiB."""


@app.command(
    short_help="Time of a collective against size, what binds, with failed links.",
    epilog="Example: mowich collective all-reduce --on trn3-gen2 --bytes 1GiB --group 144 --fail link:3",
)
def collective(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND", help="all-reduce, all-gather, reduce-scatter, all-to-all, broadcast or permute."
        ),
    ],
    on: Annotated[
        str,
        typer.Option(
            "--on",
            metavar="SYSTEM",
            help="trn3-gen2, trn3:1000, ironwood:4x4x8; ranks are whole chips.",
            autocompletion=complete_systems,
        ),
    ],
    sizes: Annotated[
        str | None,
        typer.Option(
            "--bytes",
            metavar="SIZES",
            help="1GiB, or several with commas: full buffer; of an all-to-all, what each sends.",
        ),
    ] = None,
    group: Annotated[
        str | None, typer.Option("--group", metavar="N", help="Chips that take part, neighbours (default: all).")
    ] = None,
    network: Annotated[
        str | None, typer.Option("--network", metavar="NAME", help="Scale-out network: efa, infiniband, ethernet, ...")
    ] = None,
    oversubscription: Annotated[
        float, typer.Option("--oversubscription", metavar="X", help="Bandwidth below the leaves over that above.")
    ] = 1.0,
    fail: Annotated[
        list[str] | None,
        typer.Option(
            "--fail", metavar="WHAT", help="link:3, link:rack:7, link:3=0.5 (share left), chip:5. Repeatable."
        ),
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option("--beside", metavar="JOB", help="Another collective all the time: all-to-all:72-143. Repeatable."),
    ] = None,
    settings: Set = None,
    facts: FactsDir = None,
    as_json: Json = False,
    as_csv: Csv = False,
    plain: Plain = False,
    quiet: Quiet = False,
    out: Out = None,
) -> None:
    """Time of a collective among whole chips, for each size: algorithm, what binds, bus bandwidth, with failed links or
    a job beside it."""
    from mowich import asked
    from mowich.studies.collectives import collective as study

    problems = Problems()
    one_form(as_json, as_csv, problems)
    known = read_facts(facts, problems)
    chosen = read_settings(settings, known, problems)
    amounts: list[int] = list(SWEEP)
    if sizes is not None:
        amounts = []
        for word in sizes.split(","):
            with problems.watch():
                amounts.append(asked.size(word, "--bytes"))
    ranks = None
    if group is not None:
        with problems.watch():
            ranks = int(asked.count(group, "--group"))
    problems.stop()
    found = study(
        chosen.facts,
        kind,
        on,
        sizes=amounts,
        group=ranks,
        network=network or "",
        oversubscription=oversubscription,
        fail=fail or (),
        beside=beside or (),
    )
    note = noter(quiet)
    for warning in found.warnings:
        note(warning)

    def text() -> str:
        from mowich.show.machines import collective_text

        return collective_text(found, style(plain))

    emit(
        found.to_dict(),
        text,
        as_json=as_json,
        as_csv=as_csv,
        rows="rows",
        out=out,
        inputs=facts_changes(settings, facts),
    )
