"""sweep, traffic and fleet: questions that a scenario file asks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mowich.errors import UserError
from mowich.requests.common import CSV, JSON, LEGEND, OUT, PLAIN, QUIET, SEED, TRAINING_STACK, Asked, form_of, only_of
from mowich.requests.fields import (
    CALLED,
    TYPED,
    Edge,
    Field,
    flag,
    number,
    path,
    read_names,
    read_scenario_file,
    read_share,
    read_word,
    texts,
    whole,
    word,
)
from mowich.requests.fleet_words import FLEET_WORK, THERE, scenario_in_words
from mowich.requests.job_fields import (
    BATCH,
    CHIPS,
    FIXED,
    ISL,
    JOBS,
    ON,
    OSL,
    SEQ,
    SERVED,
    SERVES,
    TOKENS,
    TRAINED,
    TRAINS,
)
from mowich.requests.schema import QuestionReader, Schema
from mowich.requests.settings import (
    CORES_OF_PLAN,
    FACTS,
    OF_FACTS,
    OPTIMIZER,
    PRICE_KIND,
    RECIPE,
    SET,
    TERM,
    asked_kind,
    asked_of,
    given_of,
    read_settings,
)
from mowich.requests.stated import (
    asks_flips,
    at_keys,
    axes_varied,
    has_scenario,
    is_served,
    is_trained,
    scenario_asked,
    swept_settings,
    swept_words,
    tenant_words,
    what_if_words,
)

_OPEN = frozenset({Edge.OPTION, Edge.KEYWORD})
"""What HTTP has not: a file of the server's."""

_FILE = replace(
    path("scenario", metavar="SCENARIO", is_argument=True, needs=True, edges=_OPEN, told=scenario_asked),
    parse=read_scenario_file,
)
"""A file, or the name of a scenario that ships (`mowich example`)."""


def read_played(value: object) -> Path:
    """A scenario of traffic: a file, the name of one that ships, or its text in braces."""
    from mowich.scenario import is_inline  # not above: it brings YAML, which --help does not wait for

    return Path(str(value)) if is_inline(str(value)) else read_scenario_file(value)


PLAYED = replace(
    _FILE,
    parse=read_played,
    metavar="SCENARIO.yaml",
    help="Model, machine, engine, traffic and SLO (mowich help serving); or the text of one in braces.",
)
FLEET_FILE = replace(
    _FILE,
    parse=read_played,
    metavar="[SCENARIO]",
    needs=False,
    help="YAML: periods, workloads, systems, sites, money (mowich help fleet). Or --have and --work.",
)


# ---- sweep
# ----------------------------------------------------------------------------------------------------------------------

SWEPT: Field[object] = Field(
    name="scenario",
    annotation="str | Path | Model | Sequence[str | Path | Model]",
    parse=lambda value: value,
    kind="object",
    help="YAML with the axes; with --train or --serve: the model, or several with commas.",
    metavar="SCENARIO",
    is_argument=True,
    needs=True,
    edges=_OPEN,
    completes="model",
    told=swept_words,
)
_ABOUT_VARY = "An axis: chips=64..4096:x2, plan.tp=1,2,4, or a fact: prices.trn3='$1/chip/h..$3/chip/h:5'. Repeatable."
VARY = texts("vary", _ABOUT_VARY, metavar="PATH=VALUES", edges=TYPED, told=axes_varied)


def read_axes(value: object) -> dict[str, str]:
    """Further axes of Python: a mapping whose values are texts, numbers, or lists of these.

    >>> read_axes({"plan.tp": [1, 2], "chips": "64..256:x2"})
    {'plan.tp': '1,2', 'chips': '64..256:x2'}
    """
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise UserError("not a mapping of names", given=value)
    return {k: ",".join(map(str, v)) if isinstance(v, list | tuple) else str(v) for k, v in value.items()}


_AXES: Field[dict[str, str]] = Field(name="vary", parse=read_axes, kind="mapping", help=_ABOUT_VARY, edges=CALLED)


def _as_axis(field: Field[object], help: str = "", keyword: str = "") -> Field[object]:
    """A field of a question that may have several values: with commas, a range, or a list. They are read where the
    grid is made, each by the field itself."""
    return replace(
        field,
        parse=lambda value: value,
        kind="object",
        help=help or field.help,
        keyword=keyword,
        needs=False,
        default=None,
        shown="",
        example="",
        edges=_OPEN,
        annotation="int | str | Sequence[int | str]" if field is CHIPS else "",
        told=at_keys(f"inputs.asked.axes.{field.name}"),
    )


AXES_OF_TRAINING = tuple(_as_axis(field) for field in TRAINED if field is not OPTIMIZER)
AXES_OF_SERVING = tuple(_as_axis(field) for field in SERVED)
_MACHINES = (_as_axis(ON, keyword="systems"), _as_axis(CHIPS, "Chips of each system: 64, or 8..64:x2."))
_AXES_OF_JOB = "Mapping[str, object]"
_SWEEP_TRAINS = replace(
    TRAINS,
    help="The work is training; a job's options are axes: 4096,8192 or 8..64:x2.",
    annotation=_AXES_OF_JOB,
    told=lambda result: is_trained(result) and not has_scenario(result),
)
_SWEEP_SERVES = replace(
    SERVES,
    help="The work is serving; its options are axes too.",
    annotation=_AXES_OF_JOB,
    told=lambda result: is_served(result) and not has_scenario(result),
)
_SWEEP_SET = replace(SET, told=swept_settings)
_STACK = replace(TRAINING_STACK, told="stack")
_OPTIMIZER = replace(OPTIMIZER, edges=_OPEN)
_JOB_NEEDS = {"train": (SEQ, BATCH, TOKENS), "serve": (ISL, OSL)}
_JOBS = whole("jobs", "Processes (else one per core; 1: none).", high=1024, tells_bounds=True, metavar="N", edges=TYPED)
EXECUTOR = word("executor", "ray (this machine's cluster) or ray://HOST:PORT.", metavar="WHERE", edges=TYPED)
POOL: Field[object] = Field(
    name="executor",
    parse=lambda value: value,
    kind="object",
    help="Any of concurrent.futures.",
    edges=CALLED,
    annotation="Executor",
)
_TASKS = whole("tasks", "Pieces of work for the executor.", default=1, edges=CALLED)
SWEEP_OUT = path(
    "out",
    "Write Parquet files to a directory and go on there after a kill; FILE.json: one JSON file.",
    metavar="DIR",
    edges=_OPEN,
)
VERIFY = flag("verify", "With --out DIR: read what is there against its checksums; compute nothing.", edges=TYPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRequest(Asked):
    """A grid. scenario: a file, None where the question names models; axes: given by options; fixed: choices of the
    plan that hold at every point; verify: compare the folder's parts with their checksums instead; vary: further axes;
    folder: for Parquet, None: rows are kept; executor: a place to run ("ray://...") or an executor; jobs: processes,
    None: one a core."""

    scenario: Path | None
    axes: Mapping[str, object]
    fixed: Mapping[str, str]
    vary: Mapping[str, str]
    edge: Edge
    term: str
    stack: str | None
    folder: Path | None
    executor: Any
    jobs: int | None
    tasks: int
    verify: bool


def _varied(reader: QuestionReader) -> dict[str, str]:
    """Further axes, each once."""
    if reader.edge is Edge.KEYWORD:
        return reader.get(_AXES) or {}
    out: dict[str, str] = {}
    for item in reader.get(VARY) or ():
        key, equals, values = (part.strip() for part in item.partition("="))
        key = {"model": "models", "system": "on", "systems": "on"}.get(key, key)
        if not equals or not key or not values:
            reader.add("not an axis", VARY, given=item, allowed="path=values, as in chips=64..4096:x2")
        elif key in out:
            reader.add(f"{key} is varied twice", VARY, fix=f"write its values with commas: {key}={out[key]},{values}")
        out[key] = values
    return out


def _given_axes(reader: QuestionReader, varied: Mapping[str, str]) -> dict[str, object]:
    """The axes that have an option; none of them may be varied too."""
    out = {}
    for field in (*_MACHINES, *AXES_OF_TRAINING, *AXES_OF_SERVING):
        value = reader.given(field)
        if value is None:
            continue
        if field.name in varied:
            reader.add("is an axis already", field, fix=f"leave {field.name} out of {reader.said(VARY)}")
        out[field.name] = value
    return out


def _models(reader: QuestionReader, axes: Mapping[str, object], varied: Mapping[str, str]) -> object:
    """The models of a question of --train or --serve, None where it names a scenario. What its job needs and has not is
    noted."""
    trains, serves = reader.flag(_SWEEP_TRAINS), reader.flag(_SWEEP_SERVES)
    if trains and serves:
        reader.add(f"give either {reader.said(TRAINS)} or {reader.said(SERVES)}", TRAINS, given="both")
    if trains:
        only_of(reader, AXES_OF_SERVING, "serving", _SWEEP_SERVES)
    elif serves:
        only_of(reader, (*AXES_OF_TRAINING, OPTIMIZER, TRAINING_STACK, RECIPE), "training", _SWEEP_TRAINS)
    else:
        return None
    if "models" in varied:
        reader.add("the models are an axis already", VARY, fix=f"leave models out of {reader.said(VARY)}")
    for field in (ON, *_JOB_NEEDS["train" if trains else "serve"]):
        if field.name not in axes and field.name not in varied:
            why = "" if field is ON else f" with {reader.said(TRAINS if trains else SERVES)}"
            reader.missing(_MACHINES[0] if field is ON else field, why)
    return reader.given(SWEPT)


def _fixed_of(reader: QuestionReader, plan: Mapping[str, str], *, is_scenario: bool) -> Mapping[str, str]:
    """Choices that hold at every point; a scenario has its own."""
    given = (reader.get(FIXED) or {}) if reader.edge is Edge.KEYWORD else plan
    if given and is_scenario:
        field = FIXED if reader.edge is Edge.KEYWORD else SET
        fix = "write plan: {tp: 8} there, or --vary plan.tp=8"
        reader.add("a sweep takes choices of plans from its scenario", field, fix=fix)
    for key in CORES_OF_PLAN:
        if key in given:
            reader.add(f"{key} is one for all points and systems", FIXED, fix=f"--set plan.{key}={given[key]}")
    return given


def _sweep(reader: QuestionReader) -> SweepRequest:
    form = form_of(reader)
    out, executor, jobs = reader.get(SWEEP_OUT), reader.given(EXECUTOR), reader.get(_JOBS)
    typed = reader.edge is Edge.OPTION
    folder = out if out is not None and not (typed and out.suffix == ".json") else None
    if folder is not None and form.as_csv:
        reader.add("rows go to the directory", CSV, fix="leave out --csv or --out")
    if reader.given(VERIFY) and folder is None:
        reader.add("needs the directory of a sweep", VERIFY, fix="--out DIR")
    if typed and executor is not None:
        place = reader.get(EXECUTOR) or ""
        if place != "ray" and not place.startswith("ray://"):
            reader.add("not a place to run", EXECUTOR, given=place, allowed="ray, ray://HOST:PORT")
        if jobs is not None:
            reader.add("counts processes of this machine", _JOBS, fix="leave it out with --executor")
    settings = read_settings(reader)
    varied, file = _varied(reader), None
    axes = _given_axes(reader, varied)
    models = _models(reader, axes, varied)
    if models is None:
        with reader.watch(SWEPT):
            file = _scenario_of(reader.given(SWEPT))
    fixed, term = _fixed_of(reader, settings.plan, is_scenario=models is None), asked_kind(reader, settings)
    reader.stop()
    return reader.fill(
        SweepRequest,
        form=replace(form, out=None if folder is not None else form.out),
        facts=settings.facts,
        given=given_of(reader),
        scenario=file,
        axes={**({} if models is None else {"models": models}), **axes},
        edge=reader.edge,
        fixed=fixed,
        vary=varied,
        term=term,
        folder=folder,
        executor=executor,
    )


def _scenario_of(value: object) -> Path:
    """A scenario's file. Raises UserError; for the name of a model it says what else is needed."""
    from mowich.models import model_names

    if isinstance(value, str) and value.casefold() in model_names():
        raise UserError("is a model", given=value, fix="add --train or --serve with a job, or name a scenario")
    return read_scenario_file(value)


SWEEP = Schema(
    name="sweep",
    fields=(
        *(SWEPT, _MACHINES[0], _SWEEP_TRAINS, _SWEEP_SERVES, *AXES_OF_SERVING, *AXES_OF_TRAINING, _OPTIMIZER),
        *(_MACHINES[1], FIXED),
        *(VARY, _AXES, _JOBS, EXECUTOR, POOL, _TASKS, PRICE_KIND, _STACK, RECIPE, _SWEEP_SET, FACTS, TERM),
        *(LEGEND, JSON, CSV, PLAIN, QUIET, SWEEP_OUT, VERIFY),
    ),
    make=_sweep,
    help=(
        "The best plan at every point of a grid of models, systems, chips, jobs of training or serving, plan fields and"
        " facts."
    ),
    short="Best plans over models, systems, chips and lengths.",
    example="mowich sweep llama-3.1-8b --train --tokens 1T --seq 4096 --batch 256seqs --on trn3,h100 --chips 8..64:x2",
    groups=JOBS,
)


# ---- traffic
# ----------------------------------------------------------------------------------------------------------------------

REQUESTS_OUT = path("requests_out", "One line per request.", metavar="FILE.csv", edges=_OPEN)
REPLAYS = whole(
    "draws",
    "Other draws of the traffic for the ranges of its times; 0: no ranges. (Else 4, up to 20,000 requests.)",
    low=0,
    high=100,
    metavar="N",
    example="4",
)
SESSIONS_OUT = path(
    "sessions_out", "One line per session of agents or of a trace of sessions.", metavar="FILE.csv", edges=_OPEN
)
SCALING_RULES = ("inside", "queue", "sla", "forecast")
"""By what replicas come and go (docs/records/autoscaling.md)."""
AUTOSCALE: Field[tuple[str, ...]] = Field(
    name="autoscale",
    parse=lambda value: tuple(read_word(name, SCALING_RULES, "rule") for name in read_names(value)),
    kind="names",
    help="Rules of autoscaling in place of the scenario's: inside, queue, sla, forecast; the first is played.",
    metavar="RULES",
    default=(),
    words=SCALING_RULES,
    told="rules",
)
REGRET = flag("regret", "What autoscaling paid beyond the best in hindsight: plays the load again, 10 to 20 times.")
TRACE_OUT = path("trace_out", "Timeline of every step, for ui.perfetto.dev.", metavar="FILE.json", edges=_OPEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficRequest(Asked):
    """A traffic to play out. requests_out, trace_out, sessions_out: files to write; draws: for the ranges (None: as its
    length allows; 0: no ranges); autoscale: rules in the place of the scenario's, of which the first is played and the
    others are compared; regret: what each paid beyond the best in hindsight."""

    scenario: str | Path
    requests_out: Path | None = None
    trace_out: Path | None = None
    sessions_out: Path | None = None
    draws: int | None = None
    autoscale: tuple[str, ...] = ()
    regret: bool = False


def _traffic(reader: QuestionReader) -> TrafficRequest:
    asked = asked_of(reader, "the plan of a traffic is in its scenario")
    reader.stop()
    return reader.fill(TrafficRequest, **asked)


TRAFFIC = Schema(
    name="traffic",
    fields=(
        *(PLAYED, REQUESTS_OUT, SESSIONS_OUT, TRACE_OUT, REPLAYS, AUTOSCALE, REGRET, *OF_FACTS),
        *(JSON, PLAIN, QUIET, OUT),
    ),
    make=_traffic,
    help="Simulate a serving traffic event by event: what users see at p50, p90 and p99, and what it costs.",
    short="Serving traffic: queues, tails, goodput, cost.",
    example="mowich traffic chat-llama-70b --requests-out requests.csv",
)


# ---- fleet
# ----------------------------------------------------------------------------------------------------------------------

YAML: Field[str] = word("yaml", "A fleet scenario (mowich help fleet).", needs=True, edges=frozenset({Edge.KEY}))
RATES = path("rates", "Speeds from this file instead of predicting them.", metavar="FILE", edges=_OPEN)
RATES_OUT = path("rates_out", "Save the speeds that were used.", metavar="FILE", edges=TYPED)
DRAWS = whole(
    "draws",
    "Solve again for N draws of prices and speeds, for the range of the cost (0: no range).",
    low=0,
    high=100_000,
    tells_bounds=True,
    metavar="N",
    default=30,
    shown="30",
)
_FLIPS = flag(
    "flips",
    "Find the prices and speeds at which work changes hands.",
    edges=_OPEN,
    told=asks_flips,
)
WHAT_IF = word(
    "what_if",
    "What this system of the scenario changes, and which of its properties matter (or chip=FILE.yaml).",
    metavar="SYSTEM",
    edges=TYPED,
    told=what_if_words,
)


def read_tenant(value: object) -> tuple[str, float]:
    """A tenant and the share that it falls to: "anthropic=30%"; (name, share) as Python has it."""
    pair = value.rpartition("=")[::2] if isinstance(value, str) else value
    if not isinstance(pair, Sequence) or len(pair) != 2 or not str(pair[0]).strip():
        raise UserError("not a tenant and its share", given=value, allowed="NAME=SHARE, as in anthropic=30%")
    try:
        return str(pair[0]).strip(), read_share(pair[1], most=1.0)
    except UserError as wrong:
        raise UserError(wrong.what, given=value, allowed="NAME=SHARE, as in anthropic=30%") from None


TENANT: Field[tuple[str, float]] = Field(
    name="tenant",
    parse=read_tenant,
    kind="word",
    metavar="NAME=SHARE",
    help="What is stranded when this tenant falls to a share of the chip-hours at work (workloads say tenant: NAME).",
    annotation="str | tuple[str, float]",
    told=tenant_words,
)
FLEET_EMIT = word(
    "emit",
    "With --out DIR: a bundle of each task and system for this program, vllm, kubernetes...",
    metavar="PROGRAM",
    edges=TYPED,
)
PERIOD = word(
    "period", "With --emit: the work of this period (else of the first that has it).", metavar="LABEL", edges=TYPED
)
RELAXED = flag("relaxed", "Fractions of units allowed: at once, and a bound.", option="--lp")
_GAP = number(
    "gap",
    "Stop this close to the best possible.",
    low=0.0,
    high=1.0,
    tells_bounds=True,
    metavar="SHARE",
    default=0.005,
    shown="0.005",
)
TIME_LIMIT = number(
    "time_limit",
    "Seconds of an idle core for one integer programme, counted in steps of its search, so that load changes nothing.",
    low=0.1,
    high=math.inf,
    tells_bounds=True,
    metavar="S",
    default=60.0,
    shown="60.0",
    keyword="time_limit_s",
    edges=TYPED,
    told="time_limit_s",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRequest(Asked):
    """What to buy, rent and assign. scenario: a file, None where `yaml` is its text; draws: of prices and speeds (0:
    none); flips: look for flip points; tenant: whose share of the chip-hours falls, and to what share; gap: a share;
    time_limit_s: of one integer programme, counted in nodes."""

    scenario: Path | None
    yaml: str | None = None
    rates: Path | None = None
    rates_out: Path | None = None
    draws: int
    flips: bool = False
    what_if: str | None = None
    tenant: tuple[str, float] | None = None
    emit: str | None = None
    period: str | None = None
    relaxed: bool = False
    gap: float = 0.005
    time_limit_s: float = 60.0
    seed: int = 0

    def again(self) -> dict[str, object]:
        """What else than its inputs is needed to ask a fleet again, where it is not as usual."""
        rates = None if self.rates is None else str(self.rates)
        said = {"rates": rates, "flips": self.flips, "what_if": self.what_if, "time_limit_s": self.time_limit_s}
        usual = {"time_limit_s": TIME_LIMIT.default, "flips": False}
        return {**{key: value for key, value in said.items() if value != usual.get(key)}, **self.given}


def _fleet(reader: QuestionReader) -> FleetRequest:
    asked = asked_of(reader, "a scenario gives its own prices and its speeds are of the best plan")
    check_bundled(reader)
    said = None
    if reader.edge in _OPEN:
        said = scenario_in_words(reader, FLEET_FILE)
        if said is None and not reader.has(FLEET_FILE) and not (reader.given(THERE) or reader.given(FLEET_WORK)):
            reader.missing(FLEET_FILE, ", or --have and --work")
    reader.stop()
    return reader.fill(FleetRequest, **asked, **({} if said is None else {"scenario": Path(said)}))


def check_bundled(reader: QuestionReader) -> None:
    """What bundles of a fleet need, and what does not go with them."""
    name = reader.get(FLEET_EMIT)
    if name is None:
        if reader.has(PERIOD):
            reader.add("says which period --emit writes", PERIOD, fix="give --emit, or leave it out")
        return
    from mowich.requests.configs import check_program_name

    with reader.watch(FLEET_EMIT):
        check_program_name(name)
    if reader.get(OUT) is None:
        reader.add("writes folders", FLEET_EMIT, given=name, fix="say where: --out DIR")
    if reader.flag(JSON):
        reader.add("writes folders and prints their names", FLEET_EMIT, given=name, fix="leave out --json")


FLEET = Schema(
    name="fleet",
    fields=(
        *(FLEET_FILE, YAML, THERE, FLEET_WORK, RATES, RATES_OUT, DRAWS, _FLIPS, WHAT_IF, TENANT, RELAXED, _GAP),
        *(TIME_LIMIT, *OF_FACTS, FLEET_EMIT, PERIOD, JSON, PLAIN, QUIET, OUT, SEED),
    ),
    make=_fleet,
    help=(
        "Which systems for which work in each period: orders, assignment, what binds, one stack alone, and how sure"
        " that is."
    ),
    short="What to buy, rent and assign, per period.",
    example=(
        "mowich fleet startup   or   mowich fleet rainier --draws 200 --flips   or"
        "   mowich fleet --have trn2:512,h100:64 --work 'serve llama-3.1-70b isl=2000 osl=500'"
    ),
)
