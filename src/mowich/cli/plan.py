"""`mowich compare`, `plan` and `fit`: a job put on machines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mowich.cli.app import EXAMPLE, app
from mowich.cli.options import (
    Accept,
    Batch,
    Cached,
    Chips,
    Csv,
    Document,
    EngineName,
    Equal,
    FactsDir,
    Fill,
    Isl,
    Json,
    Kv,
    ModelName,
    On,
    Osl,
    Out,
    Plain,
    Quiet,
    Seed,
    Seq,
    Serve,
    Set,
    Stack,
    Task,
    Tokens,
    Tpot,
    Train,
    Ttft,
)
from mowich.cli.output import emit, noter, one_form, progress, style
from mowich.errors import EXIT_INFEASIBLE, EXIT_INTERRUPTED, UserError, unknown
from mowich.requests import (
    Problems,
    note_chips,
    note_context,
    read_chips,
    read_facts,
    read_job,
    read_model,
    read_settings,
    read_systems,
    rerun,
)

if TYPE_CHECKING:
    from mowich.studies.compare import PlanList
    from mowich.training.timeline import PlanTimeline


@app.command(short_help="One training job on several systems: the main job.", epilog=f"Example: {EXAMPLE}")
def compare(
    model: ModelName,
    on: On,
    train: Train = False,
    serve: Serve = False,
    isl: Isl = None,
    osl: Osl = None,
    ttft: Ttft = None,
    tpot: Tpot = None,
    cached: Cached = None,
    accept: Accept = None,
    engine: EngineName = None,
    tokens: Tokens = None,
    seq: Seq = None,
    batch: Batch = None,
    task: Task = None,
    document: Document = None,
    fill: Fill = 1.0,
    chips: Chips = None,
    equal: Equal = None,
    stack: Stack = None,
    settings: Set = None,
    facts: FactsDir = None,
    as_json: Json = False,
    as_csv: Csv = False,
    plain: Plain = False,
    quiet: Quiet = False,
    out: Out = None,
    seed: Seed = 0,
) -> None:
    """The same job (training, or serving) on several systems, each at its best plan: the main job."""
    if serve:
        from mowich.cli.serving import serve as serving

        serving(
            "compare",
            model,
            on,
            isl=isl,
            osl=osl,
            ttft=ttft,
            tpot=tpot,
            cached=cached,
            accept=accept,
            engine=engine,
            chips=chips,
            top=1,
            settings=settings,
            facts=facts,
            as_json=as_json,
            as_csv=as_csv,
            plain=plain,
            quiet=quiet,
            out=out,
            seed=seed,
            unused={
                "--train": train,
                "--tokens": tokens,
                "--seq": seq,
                "--batch": batch,
                "--stack": stack,
                "--task": task,
                "--document": document,
                "--fill": fill != 1.0,
                "--equal": equal,
            },
        )
        return

    from mowich.cli.serving import only_serving
    from mowich.plans.plan import parse_fixed
    from mowich.studies.compare import EQUAL
    from mowich.studies.compare import compare as study

    problems, note = Problems(), noter(quiet)
    only_serving(problems, isl=isl, osl=osl, ttft=ttft, tpot=tpot, cached=cached, accept=accept, engine=engine)
    one_form(as_json, as_csv, problems)
    known = read_facts(facts, problems)
    chosen = read_settings(settings, known, problems)
    if equal is not None and equal not in EQUAL:
        problems.found.append(unknown("footing", equal, EQUAL, where="--equal"))
    if equal is not None and chips is None:
        problems.add(
            "needs --chips", where="--equal", fix="--chips counts the first system's chips (units with --equal units)"
        )
    count = read_chips(chips, problems)
    loaded = read_model(model, problems)
    job = read_job(train, tokens, seq, batch, problems, note, task=task, document=document, fill=fill)
    systems = read_systems(on, count, chosen.facts, problems, equal=equal or "chips", stack=stack)
    fixed: Mapping[str, Sequence[int | str]] = {}
    with problems.watch():
        fixed = parse_fixed(chosen.plan)
    problems.stop()
    assert loaded is not None
    assert job is not None
    note_context(loaded, job.seq, "--seq", note)
    note_chips(count, systems, note)
    with progress(quiet) as line:
        result = study(
            loaded,
            systems,
            train=job,
            chips=count,
            equal=equal or "chips",
            facts=chosen.facts,
            fixed=fixed,
            term=chosen.term,
            stack=stack,
            progress=line,
        )

    def text() -> str:
        from mowich.show.text import compare_text

        return compare_text(result, loaded, style(plain), command_hint=str(out or ""))

    emit(
        result.to_dict(),
        text,
        as_json=as_json,
        as_csv=as_csv,
        rows="rows",
        out=out,
        inputs=rerun(model, loaded, settings, facts, seed),
    )
    if not result.complete:
        print("the systems above were done, the others are left out", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED)
    if not any(row.plan is not None for row in result.rows):
        raise typer.Exit(EXIT_INFEASIBLE)


@app.command(
    short_help="The best plans of one system, and what they trade.",
    epilog=(
        "Example: mowich plan llama-3.1-405b --train --tokens 15T --seq 8192 --batch 2048seqs --on trn3:4608 --top 5"
    ),
)
def plan(
    model: ModelName,
    on: On,
    train: Train = False,
    serve: Serve = False,
    isl: Isl = None,
    osl: Osl = None,
    ttft: Ttft = None,
    tpot: Tpot = None,
    cached: Cached = None,
    accept: Accept = None,
    engine: EngineName = None,
    tokens: Tokens = None,
    seq: Seq = None,
    batch: Batch = None,
    task: Task = None,
    document: Document = None,
    fill: Fill = 1.0,
    chips: Chips = None,
    top: Annotated[int, typer.Option("--top", metavar="K", help="Plans to show, at most 1000.")] = 5,
    neighbours: Annotated[
        bool, typer.Option("--neighbours", help="Why it wins: the best with each choice one step away.")
    ] = False,
    pareto: Annotated[
        bool,
        typer.Option(
            "--pareto", help="Plans that nothing beats in time, memory, cost and energy, on ever fewer chips."
        ),
    ] = False,
    timeline: Annotated[
        Path | None,
        typer.Option(
            "--timeline",
            metavar="FILE",
            help="Play the pipeline of a plan: .json for ui.perfetto.dev, or .svg; also drawn below.",
        ),
    ] = None,
    pick: Annotated[
        int,
        typer.Option("--pick", min=1, max=1000, metavar="K", help="The plan of --timeline, by its place in the table."),
    ] = 1,
    stack: Stack = None,
    settings: Set = None,
    facts: FactsDir = None,
    as_json: Json = False,
    as_csv: Csv = False,
    plain: Plain = False,
    quiet: Quiet = False,
    out: Out = None,
    seed: Seed = 0,
) -> None:
    """The best plans of one system, and what they trade."""
    if serve:
        from mowich.cli.serving import serve as serving

        serving(
            "plan",
            model,
            on,
            isl=isl,
            osl=osl,
            ttft=ttft,
            tpot=tpot,
            cached=cached,
            accept=accept,
            engine=engine,
            chips=chips,
            top=top,
            settings=settings,
            facts=facts,
            as_json=as_json,
            as_csv=as_csv,
            plain=plain,
            quiet=quiet,
            out=out,
            seed=seed,
            unused={
                "--train": train,
                "--tokens": tokens,
                "--seq": seq,
                "--batch": batch,
                "--stack": stack,
                "--task": task,
                "--document": document,
                "--fill": fill != 1.0,
                "--neighbours": neighbours,
                "--pareto": pareto,
                "--timeline": timeline,
                "--pick": pick != 1,
            },
        )
        return

    from mowich import asked
    from mowich.cli.serving import only_serving
    from mowich.plans.plan import parse_fixed
    from mowich.studies.compare import plan as study

    problems, note = Problems(), noter(quiet)
    only_serving(problems, isl=isl, osl=osl, ttft=ttft, tpot=tpot, cached=cached, accept=accept, engine=engine)
    one_form(as_json, as_csv, problems)
    if timeline is not None and timeline.suffix not in (".json", ".svg"):
        problems.add("not a kind of timeline", where="--timeline", given=str(timeline), allowed="FILE.json, FILE.svg")
    with problems.watch():
        asked.top(top, "--top")
    if pick > max(top, 1):
        problems.add("is not among the plans", where="--pick", given=pick, allowed=f"1 to {top} (--top)")
    known = read_facts(facts, problems)
    chosen = read_settings(settings, known, problems)
    count = read_chips(chips, problems)
    loaded = read_model(model, problems)
    job = read_job(train, tokens, seq, batch, problems, note, task=task, document=document, fill=fill)
    systems = read_systems(on, count, chosen.facts, problems, single=True, stack=stack)
    fixed: Mapping[str, Sequence[int | str]] = {}
    with problems.watch():
        fixed = parse_fixed(chosen.plan)
    problems.stop()
    assert loaded is not None
    assert job is not None
    note_context(loaded, job.seq, "--seq", note)
    note_chips(count, systems, note)
    with progress(quiet) as line:
        line(f"searching {systems[0]}")
        result = study(
            loaded,
            systems[0],
            train=job,
            chips=count,
            facts=chosen.facts,
            top=top,
            fixed=fixed,
            term=chosen.term,
            stack=stack,
        )
        extras = trades(result, fixed, neighbours=neighbours, pareto=pareto, say=line)
    played = played_plan(result, timeline, pick) if timeline is not None else None

    def text() -> str:
        from mowich.show import timeline as drawing
        from mowich.show.text import plan_text
        from mowich.show.trade import pareto_text, why_text

        parts = [plan_text(result, loaded, style(plain))]
        if "why" in extras:
            parts.append(why_text(extras["why"], style(plain)))
        if "pareto" in extras:
            parts.append(pareto_text(extras["pareto"], style(plain)))
        if played is not None:
            parts.append("\n".join([drawing.summary(played), *drawing.draw(played, style(plain))]) + "\n")
        return "\n".join(parts)

    data = result.to_dict()
    if "why" in extras:
        data["why"] = extras["why"].to_dict()
    if "pareto" in extras:
        data["pareto"] = [row.to_dict() for row in extras["pareto"]]
    emit(
        data,
        text,
        as_json=as_json,
        as_csv=as_csv,
        rows="plans",
        out=out,
        inputs=rerun(model, loaded, settings, facts, seed),
    )
    if not any(row.plan is not None for row in result.rows):
        raise typer.Exit(EXIT_INFEASIBLE)


def trades(
    result: PlanList,
    fixed: Mapping[str, Sequence[int | str]],
    *,
    neighbours: bool,
    pareto: bool,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """What --neighbours and --pareto ask for, by name."""
    from mowich.studies import trade

    out: dict[str, Any] = {}
    if result.ask is None or result.rows[0].plan is None:
        return out
    if neighbours:
        say("weighing neighbours")
        out["why"] = trade.why(result.ask, fixed=fixed)
    if pareto:
        say("walking the front")
        out["pareto"] = trade.pareto(result.ask, fixed=fixed)
    return out


def played_plan(result: PlanList, file: Path, pick: int) -> PlanTimeline | None:
    """Play the pipeline of a plan and write it; None when no plan runs."""
    from mowich.show import timeline as drawing
    from mowich.training.timeline import timeline

    if result.ask is None or result.rows[0].plan is None:
        return None
    if pick > len(result.rows):
        raise UserError("is not among the plans", where="--pick", given=pick, allowed=f"1 to {len(result.rows)}")
    chosen = result.rows[pick - 1].plan
    assert chosen is not None
    ask = result.ask
    try:
        found = timeline(ask.model, ask.system, ask.job, chosen)
        text = drawing.to_svg(found) if file.suffix == ".svg" else drawing.to_trace(found)
    except ValueError as error:
        raise UserError(
            str(error),
            where=f"--timeline {file}",
            fix="choose a plan with fewer micro-batches, with --pick or --set plan.micro_batch",
        ) from error
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot be written ({error.strerror})", where=f"--timeline {file}") from error
    return found


@app.command(
    short_help="Does it fit, what binds, how few chips would do.",
    epilog=(
        "Example: mowich fit deepseek-v3 --train --seq 4096 --batch 16384seqs --on trn3   or   mowich fit"
        " llama-3.1-405b --serve --kv 128k --on trn3"
    ),
)
def fit(
    model: ModelName,
    on: On,
    train: Train = False,
    serve: Serve = False,
    kv: Kv = None,
    engine: EngineName = None,
    seq: Seq = None,
    batch: Batch = None,
    task: Task = None,
    document: Document = None,
    fill: Fill = 1.0,
    chips: Chips = None,
    stack: Stack = None,
    settings: Set = None,
    facts: FactsDir = None,
    as_json: Json = False,
    plain: Plain = False,
    quiet: Quiet = False,
    out: Out = None,
) -> None:
    """Does a training job, or a served model with its caches, fit; what takes the memory; and how few chips would
    do."""
    if serve:
        from mowich.cli.serving import fit as serving

        serving(
            model,
            on,
            kv=kv,
            engine=engine,
            chips=chips,
            settings=settings,
            facts=facts,
            as_json=as_json,
            plain=plain,
            quiet=quiet,
            out=out,
            unused={
                "--train": train,
                "--seq": seq,
                "--batch": batch,
                "--task": task,
                "--document": document,
                "--fill": fill != 1.0,
                "--stack": stack,
            },
        )
        return

    from mowich.cli.serving import only_serving
    from mowich.plans.plan import parse_fixed
    from mowich.studies.fit import fit as study

    problems, note = Problems(), noter(quiet)
    only_serving(problems, kv=kv, engine=engine)
    known = read_facts(facts, problems)
    chosen = read_settings(settings, known, problems)
    count = read_chips(chips, problems)
    loaded = read_model(model, problems)
    job = read_job(train, None, seq, batch, problems, note, needs_tokens=False, task=task, document=document, fill=fill)
    systems = read_systems(on, count, chosen.facts, problems, single=True, stack=stack)
    fixed: Mapping[str, Sequence[int | str]] = {}
    with problems.watch():
        fixed = parse_fixed(chosen.plan)
    problems.stop()
    assert loaded is not None
    assert job is not None
    note_context(loaded, job.seq, "--seq", note)
    note_chips(count, systems, note)
    with progress(quiet) as line:
        line(f"fitting on {systems[0]}")
        result = study(
            loaded,
            systems[0],
            train=job,
            facts=chosen.facts,
            chips=count,
            fixed=fixed,
            stack=stack,
        )

    def text() -> str:
        from mowich.show.text import fit_text

        return fit_text(result, loaded, style(plain), given=model)

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
