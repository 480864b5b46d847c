"""`mowich fleet`: what to buy, rent and assign, per period."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mowich.cli.app import app
from mowich.cli.options import DrawSeed, FactsDir, Json, Out, Plain, Quiet, Set
from mowich.cli.output import emit, progress, style
from mowich.errors import EXIT_INFEASIBLE, EXIT_INTERRUPTED
from mowich.requests import Problems, facts_changes, read_facts, read_settings


@app.command(
    short_help="What to buy, rent and assign, per period.",
    epilog=(
        "Example: mowich fleet scenarios/startup.yaml   or   mowich fleet scenarios/rainier.yaml --draws 200 --flips"
    ),
)
def fleet(
    scenario: Annotated[
        Path,
        typer.Argument(metavar="SCENARIO", help="YAML: periods, workloads, systems, sites, money (docs/fleet.md)."),
    ],
    rates: Annotated[
        Path | None, typer.Option("--rates", metavar="FILE", help="Speeds from this file instead of predicting them.")
    ] = None,
    rates_out: Annotated[
        Path | None, typer.Option("--rates-out", metavar="FILE", help="Save the speeds that were used.")
    ] = None,
    draws: Annotated[
        int,
        typer.Option("--draws", min=0, max=100_000, metavar="N", help="Solve again for N draws of prices and speeds."),
    ] = 0,
    flips: Annotated[
        bool, typer.Option("--flips", help="Find the prices and speeds at which work changes hands.")
    ] = False,
    what_if: Annotated[
        str | None,
        typer.Option(
            "--what-if",
            metavar="SYSTEM",
            help="What this system of the scenario changes, and which of its properties matter (or chip=FILE.yaml).",
        ),
    ] = None,
    relaxed: Annotated[bool, typer.Option("--lp", help="Fractions of units allowed: at once, and a bound.")] = False,
    gap: Annotated[
        float, typer.Option("--gap", min=0.0, max=1.0, metavar="SHARE", help="Stop this close to the best possible.")
    ] = 0.005,
    time_limit: Annotated[
        float, typer.Option("--time-limit", min=0.1, metavar="S", help="Seconds for one integer programme.")
    ] = 60.0,
    settings: Set = None,
    facts: FactsDir = None,
    as_json: Json = False,
    plain: Plain = False,
    quiet: Quiet = False,
    out: Out = None,
    seed: DrawSeed = 0,
) -> None:
    """Which systems for which work in each period: orders, assignment, what binds, one stack alone, and how sure that
    is."""
    from mowich.fleets.problem import write_rates
    from mowich.fleets.read import read_problem
    from mowich.show.fleet import fleet_text, what_if_text
    from mowich.studies import fleet as study
    from mowich.studies import fleet_design

    problems = Problems()
    known = read_facts(facts, problems)
    chosen = read_settings(settings, known, problems)
    if chosen.plan or chosen.term != "default":
        problems.add(
            "a scenario gives its own prices and its speeds are of the best plan",
            where="--set",
            allowed="paths of facts",
        )
    problems.stop()
    use = chosen.facts
    with progress(quiet) as line:
        asked = read_problem(scenario, use)
        system, silicon = what_if, None
        if what_if is not None and what_if.startswith("chip="):
            design = fleet_design.read_design(Path(what_if.removeprefix("chip=")), use, asked)
            use = use.with_values(design.values)
            asked, system, silicon = fleet_design.with_design(asked, design, use), design.system, design.silicon_m2
        result = study.fleet(
            scenario,
            use,
            rates_file=rates,
            relaxed=relaxed,
            gap=gap,
            time_limit_s=time_limit,
            draws=draws,
            with_flips=flips,
            seed=seed,
            problem=asked,
            progress=line,
        )
        shown = None if system is None else fleet_design.what_if(result, system, use, silicon_m2=silicon, progress=line)
    if rates_out is not None:
        write_rates(rates_out, result.rates, facts_hash=use.hash())
    data = result.to_dict()
    if shown is not None:
        data["what_if"] = shown.to_dict()

    def text() -> str:
        report = fleet_text(result, style(plain))
        return report if shown is None else what_if_text(shown, style(plain)) + "\n" + report

    emit(data, text, as_json=as_json, as_csv=False, rows="", out=out, inputs=facts_changes(settings, facts))
    if not result.answer.is_feasible:
        raise typer.Exit(EXIT_INFEASIBLE)
    if result.robust is not None and not result.robust.complete:
        print("interrupted: the draws above were done, the others are left out", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED)
