"""`mowich traffic`: serving traffic with tails."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mowich.cli.app import app
from mowich.cli.inputs import Problems, read_facts, read_settings
from mowich.cli.options import FactsDir, Json, Out, Plain, Quiet, Set
from mowich.cli.output import emit, progress, style


@app.command(
    short_help="Serving traffic: queues, tails, goodput, cost.",
    epilog="Example: mowich traffic scenarios/chat-llama-70b.yaml --requests-out requests.csv",
)
def traffic(
    scenario: Annotated[
        Path, typer.Argument(metavar="SCENARIO.yaml", help="Model, machine, engine, traffic and SLO (docs/serving.md).")
    ],
    requests_out: Annotated[
        Path | None, typer.Option("--requests-out", metavar="FILE.csv", help="One line per request.")
    ] = None,
    trace_out: Annotated[
        Path | None,
        typer.Option("--trace-out", metavar="FILE.json", help="Timeline of every step, for ui.perfetto.dev."),
    ] = None,
    settings: Set = None,
    facts: FactsDir = None,
    as_json: Json = False,
    plain: Plain = False,
    quiet: Quiet = False,
    out: Out = None,
) -> None:
    """Simulate a serving traffic event by event: what users see at p50, p90 and p99, and what it costs."""
    from mowich.studies.traffic import traffic as study

    problems = Problems()
    known = read_facts(facts, problems)
    chosen = read_settings(settings, known, problems)
    if chosen.plan or chosen.term != "default":
        problems.add("the plan of a traffic is in its scenario", where="--set", allowed="paths of facts")
    problems.stop()
    with progress(quiet) as line:
        line("simulating")
        result = study(scenario, chosen.facts, requests_out=requests_out, trace_out=trace_out)

    def text() -> str:
        from mowich.report.serving import traffic_text

        return traffic_text(result, style(plain))

    emit(result.to_dict(), text, as_json=as_json, as_csv=False, rows="", out=out)
