"""`mowich goodput`: which way of surviving failures keeps how much of a long run."""

from __future__ import annotations

from typing import Annotated

import typer

from mowich.cli.app import app
from mowich.cli.options import Csv, DrawSeed, FactsDir, Json, Out, Plain, Quiet, Set, complete_systems
from mowich.cli.output import emit, noter, one_form, progress, style
from mowich.requests import Problems, facts_changes, read_facts, read_settings


@app.command(
    short_help="Which way of surviving failures keeps how much of a long run.",
    epilog="Example: mowich goodput --on trn3:1000000 --days 90",
)
def goodput(
    on: Annotated[
        str,
        typer.Option(
            "--on",
            metavar="SYSTEM",
            help="trn3:1000000 (chips), h100:16384, ironwood*4.",
            autocompletion=complete_systems,
        ),
    ],
    days: Annotated[float, typer.Option("--days", metavar="N", help="Length of the run.")] = 90.0,
    step: Annotated[str, typer.Option("--step", metavar="TIME", help="Time of a training step: '5 s'.")] = "5 s",
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy", metavar="NAMES", help="sync, async, memory, elastic; commas between (default: all)."
        ),
    ] = None,
    spares: Annotated[
        str, typer.Option("--spares", metavar="SHARE", help="Spare chips over chips of the job: 2%.")
    ] = "2%",
    replica: Annotated[
        str | None,
        typer.Option("--replica", metavar="N", help="Chips of a data-parallel replica (elastic), default 1024."),
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", metavar="TIME", help="Time between checkpoints (default: Young/Daly).")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", metavar="N", help="Runs of the Monte Carlo.")] = 1000,
    seed: DrawSeed = 0,
    settings: Set = None,
    facts: FactsDir = None,
    as_json: Json = False,
    as_csv: Csv = False,
    plain: Plain = False,
    quiet: Quiet = False,
    out: Out = None,
) -> None:
    """Goodput of a long run by way of surviving failures: formula, Monte Carlo, range, where the time goes, and the
    recovery that 90% would need."""
    from mowich import asked
    from mowich.studies.goodput import goodput as study
    from mowich.training.faults import STRATEGIES
    from mowich.units import parse

    problems = Problems()
    one_form(as_json, as_csv, problems)
    known = read_facts(facts, problems)
    chosen = read_settings(settings, known, problems)
    step_s, checkpoint_s, share, chips = 5.0, None, 0.02, None
    with problems.watch():
        step_s = parse(step, "s", where="--step").value
    if checkpoint is not None:
        with problems.watch():
            checkpoint_s = parse(checkpoint, "s", where="--checkpoint").value
    with problems.watch():
        share = asked.share(spares, "--spares")
    if replica is not None:
        with problems.watch():
            chips = int(asked.count(replica, "--replica"))
    problems.stop()
    with progress(quiet) as line:
        line("simulating failures")
        found = study(
            chosen.facts,
            on,
            days=days,
            step_s=step_s,
            strategies=tuple(strategy.split(",")) if strategy else STRATEGIES,
            spare_share=share,
            replica=chips,
            checkpoint_s=checkpoint_s,
            samples=samples,
            seed=seed,
        )
    note = noter(quiet)
    for warning in found.warnings:
        note(warning)

    def text() -> str:
        from mowich.show.machines import goodput_text

        return goodput_text(found, style(plain))

    emit(
        found.to_dict(),
        text,
        as_json=as_json,
        as_csv=as_csv,
        rows="rows",
        out=out,
        inputs=facts_changes(settings, facts),
    )
