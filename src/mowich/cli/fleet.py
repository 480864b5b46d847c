"""`mowich fleet`: what to buy, rent and assign, per period."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import typer

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.output import emit, progress
from mowich.errors import EXIT_INFEASIBLE, EXIT_INTERRUPTED
from mowich.requests import scenarios


@verb(app, scenarios.FLEET)
def fleet(asked: scenarios.FleetRequest) -> None:
    """The mix of machines of a scenario."""
    from mowich.fleets.problem import write_rates
    from mowich.fleets.read import read_problem
    from mowich.studies import fleet as study
    from mowich.studies import fleet_design

    form, scenario, what_if = asked.form, asked.scenario, asked.what_if
    assert scenario is not None
    use = asked.facts
    with progress(form.quiet) as line:
        line("reading the scenario")
        problem = read_problem(scenario, use)
        system, silicon, file = what_if, None, None
        if what_if is not None and what_if.startswith("chip="):
            file = Path(what_if.removeprefix("chip="))
            design = fleet_design.read_design(file, use, problem)
            use = use.with_values(design.values)
            problem, system, silicon = fleet_design.with_design(problem, design, use), design.system, design.silicon_m2
        result = study.fleet(replace(asked, facts=use), problem=problem, beside=file)
        shown = None if system is None else fleet_design.what_if(result, system, use, silicon_m2=silicon)
    if asked.rates_out is not None:
        write_rates(asked.rates_out, result.rates, facts_hash=use.hash())
    data = result.to_dict()
    if shown is not None:
        data["what_if"] = shown.to_dict()

    if asked.emit is not None and form.out is not None and result.answer.is_feasible:
        from mowich.studies.fleet_bundles import write_fleet_bundles

        with progress(form.quiet) as line:
            line("writing bundles")
            written = write_fleet_bundles(result, asked.emit, form.out, asked.period, use)
        lines = "".join(one.line() + "\n" for one in written)
        emit(data, replace(form, out=None), inputs=asked.again(), text=lambda: lines, headed=True)
        return
    emit(data, form, inputs=asked.again())
    if not result.answer.is_feasible:
        raise typer.Exit(EXIT_INFEASIBLE)
    if result.robust is not None and not result.robust.complete:
        print("interrupted: the draws above were done, the others are left out", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED)
