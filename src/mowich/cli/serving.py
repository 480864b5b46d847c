"""`mowich traffic`, and what `plan --serve`, `compare --serve` and `fit --serve` do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from mowich.cli.app import app
from mowich.cli.options import FactsDir, Json, Out, Plain, Quiet, Set
from mowich.cli.output import emit, noter, one_form, progress, style
from mowich.errors import EXIT_INFEASIBLE
from mowich.requests import (
    Problems,
    facts_changes,
    note_answers,
    note_chips,
    note_context,
    read_chips,
    read_count,
    read_facts,
    read_model,
    read_serving,
    read_settings,
    read_systems,
    rerun,
)


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
        from mowich.show.serving import traffic_text

        return traffic_text(result, style(plain))

    emit(result.to_dict(), text, as_json=as_json, as_csv=False, rows="", out=out, inputs=facts_changes(settings, facts))


def only_serving(problems: Problems, **given: object) -> None:
    """Add a problem for every option of serving that a training job was given."""
    for name, value in given.items():
        if value is not None:
            problems.add("is an option of serving", where=f"--{name}", fix="leave it out, or use --serve")


def _no_training(problems: Problems, unused: dict[str, object]) -> None:
    """Add a problem for every option of training that serving was given, by flag."""
    for flag, value in unused.items():
        if value not in (None, False):
            problems.add("is an option of training", where=flag, fix="leave it out, or use --train")


def fit(
    model: str,
    on: str,
    *,
    kv: str | None,
    engine: str | None,
    chips: str | None,
    settings: Sequence[str] | None,
    facts: Sequence[Path] | None,
    as_json: bool,
    plain: bool,
    quiet: bool,
    out: Path | None,
    unused: dict[str, object],
) -> None:
    """`fit --serve`. unused: options of training that were given, by flag."""
    from mowich import asked
    from mowich.studies.serving_fit import fit_serving
    from mowich.studies.serving_plan import parse_serving

    problems = Problems()
    known = read_facts(facts, problems)
    chosen = read_settings(settings, known, problems)
    _no_training(problems, unused)
    asked.check_engine(engine, problems, "--engine")
    if kv is None:
        problems.add("is required with --serve", where="--kv", fix="for example --kv 128k, the tokens of one request")
    tokens = read_count(kv, "--kv", problems, maximum=asked.LONGEST_SERVED)
    count = read_chips(chips, problems)
    loaded = read_model(model, problems)
    systems = read_systems(on, count, chosen.facts, problems, single=True)
    fixed: dict[str, tuple[int | str, ...]] = {}
    with problems.watch():
        fixed = parse_serving(chosen.plan)
    problems.stop()
    assert loaded is not None
    assert tokens is not None
    note = noter(quiet)
    note_chips(count, systems, note)
    note_context(loaded, tokens, "--kv", note)
    with progress(quiet) as line:
        line(f"fitting on {systems[0]}")
        result = fit_serving(
            loaded, systems[0], tokens=tokens, facts=chosen.facts, chips=count, engine=engine, fixed=fixed
        )

    def text() -> str:
        from mowich.show.serving import serve_fit_text

        return serve_fit_text(result, loaded, style(plain), given=model)

    emit(
        result.to_dict(),
        text,
        as_json=as_json,
        as_csv=False,
        rows="",
        out=out,
        inputs=rerun(model, loaded, settings, facts, 0),
    )
    if result.fits is False:
        raise typer.Exit(EXIT_INFEASIBLE)


def serve(
    verb: str,
    model: str,
    on: str,
    *,
    isl: str | None,
    osl: str | None,
    ttft: str | None,
    tpot: str | None,
    cached: str | None,
    accept: float | None,
    engine: str | None,
    chips: str | None,
    top: int,
    settings: Sequence[str] | None,
    facts: Sequence[Path] | None,
    as_json: bool,
    as_csv: bool,
    plain: bool,
    quiet: bool,
    out: Path | None,
    seed: int,
    unused: dict[str, object],
) -> None:
    """`plan --serve` (verb "plan") and `compare --serve` (verb "compare"). unused: options of training that were given,
    by flag."""
    from mowich import asked
    from mowich.studies import serving_plan

    problems = Problems()
    with problems.watch():
        asked.top(top, "--top")
    one_form(as_json, as_csv, problems)
    known = read_facts(facts, problems)
    chosen = read_settings(settings, known, problems)
    _no_training(problems, unused)
    job = read_serving(isl, osl, ttft, tpot, cached, accept, engine, problems)
    count = read_chips(chips, problems)
    loaded = read_model(model, problems)
    systems = read_systems(on, count, chosen.facts, problems, single=verb == "plan")
    fixed: dict[str, tuple[int | str, ...]] = {}
    with problems.watch():
        fixed = serving_plan.parse_serving(chosen.plan)
    problems.stop()
    assert loaded is not None
    assert job is not None
    note = noter(quiet)
    note_answers(loaded, job.prompt, job.output, note)
    note_chips(count, systems, note)

    with progress(quiet) as line:
        line(f"searching {', '.join(systems)}")
        if verb == "plan":
            result = serving_plan.plan(
                loaded,
                systems[0],
                job=job,
                facts=chosen.facts,
                chips=count,
                engine=engine,
                top=top,
                fixed=fixed,
                term=chosen.term,
            )
        else:
            result = serving_plan.compare(
                loaded, systems, job=job, facts=chosen.facts, chips=count, engine=engine, fixed=fixed, term=chosen.term
            )

    def text() -> str:
        from mowich.show.serving import serve_text

        return serve_text(result, style(plain))

    rows = "plans" if verb == "plan" else "rows"
    emit(
        result.to_dict(),
        text,
        as_json=as_json,
        as_csv=as_csv,
        rows=rows,
        out=out,
        inputs=rerun(model, loaded, settings, facts, seed),
    )
    code = serving_plan.exit_code(result)
    if code:
        raise typer.Exit(code)
