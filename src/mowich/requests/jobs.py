"""compare, plan and fit: a job of training or serving, put on machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mowich.errors import UserError
from mowich.requests.common import (
    AS,
    CHART,
    FORM,
    JSON,
    KEPT_SEED,
    LEGEND,
    MODEL,
    OUT,
    PLAIN,
    QUIET,
    TRAINING_STACK,
    Asked,
    asked_model,
    asked_software,
    asked_timeline,
    form_of,
    only_of,
    words_of_model,
)
from mowich.requests.configs import (
    EMIT,
    PLAN_FILE,
    check_emit,
    file_choices,
    joined_choices,
    only_degrees,
    settings_of_engines,
    use_cores,
)
from mowich.requests.fields import (
    TYPED,
    Edge,
    Field,
)
from mowich.requests.footing import (
    EQUALS,
    HAVE,
    ON_CHIPS,
    PAID_RUN,
    Footing,
    YearAsk,
    asks_paid,
    only_rent,
    read_have,
    read_paid,
    read_per,
    read_power,
)
from mowich.requests.job_fields import (
    CACHED,
    CHIPS,
    FIT_ENGINE,
    FIT_SERVE,
    FIT_TOKENS,
    FIXED,
    IMAGES,
    ISL,
    JOBS,
    KV_TOKENS,
    NEIGHBOURS,
    OSL,
    PARETO,
    PICK,
    RUN_FIELDS,
    SEQ,
    SERVED,
    SERVES,
    SERVING_ENGINE,
    SINGLE_SYSTEM,
    SYSTEMS,
    TIMELINE,
    TOKENS,
    TOKENS_OR_ITEM,
    TOP,
    TPOT,
    TRAINED,
    TRAINED_ALONE,
    TRAINS,
    TTFT,
    WITH_IMAGES,
)
from mowich.requests.job_reading import read_serve, read_train, with_images
from mowich.requests.loads import LOADED, ServeLoad, read_serve_load
from mowich.requests.passes import (
    FORWARD_JOB,
    FORWARD_TASK,
    ITEM_LATENCY,
    ITEMS,
    KIND_WORDS,
    asks_forward,
    check_decodes,
    forward_words,
    no_other_job,
    only_forward,
    read_forward_job,
)
from mowich.requests.remarks import context_note, note_formats, note_shapes, note_stacks, note_tuned
from mowich.requests.schema import QuestionReader, Schema
from mowich.requests.settings import (
    CORES_OF_PLAN,
    OF_FACTS,
    PRICE_KIND,
    RECIPE,
    TERM,
    Settings,
    asked_kind,
    given_of,
    has_cores,
    lnc_facts,
    read_lnc,
    read_settings,
)

if TYPE_CHECKING:
    from mowich.facts import Facts
    from mowich.models.model import Model
    from mowich.plans.forward import ForwardJob
    from mowich.plans.plan import TrainJob
    from mowich.serving.search import ServeJob

JobWork = Literal["train", "serve", "forward"]
"""What a question asks of a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest(Asked):
    """A job on systems. model_given: the model in the words of the question; train, serve, forward: the job (none where
    only a cache is asked for); fixed: choices of the plan."""

    model: Model
    model_given: str = ""
    systems: tuple[str, ...]
    chips: int | None = None
    train: TrainJob | None = None
    serve: ServeJob | None = None
    engine: str | None = None
    stack: str | None = None
    fixed: Mapping[str, Sequence[int | str]] = field(default_factory=dict)
    term: str = "default"
    seed: int = 0
    forward: ForwardJob | None = None

    @property
    def train_job(self) -> TrainJob:
        """The job of a question of training."""
        assert self.train is not None
        return self.train

    @property
    def serve_job(self) -> ServeJob:
        """The job of a question of serving."""
        assert self.serve is not None
        return self.serve

    def again(self) -> dict[str, object]:
        """What else is needed to run a result again: the words as they were given, and the size of the model that they
        named."""
        return {"model_given": self.model_given, "model_params": self.model.params, **self.given, "seed": self.seed}


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareRequest(JobRequest):
    """One job on several systems. The first of them are those that are there already."""

    footing: Footing = ON_CHIPS
    year: YearAsk | None = None
    """The time that rows are told for; None: not asked."""
    hand_tuned: bool = False
    """Training on kernels written by hand, where there are some."""
    software: str | None = None
    """What was named in the place of what makers ship, for all rows."""
    emits: str | None = None
    """The program that the best system is written for."""

    @classmethod
    def of(cls, asked: JobRequest, **other: object) -> CompareRequest:
        """The comparison of another question's systems; other: what it asks in another way."""
        named = {f.name: getattr(asked, f.name) for f in fields(JobRequest)}
        return cls(**{**named, **other})

    def again(self) -> dict[str, object]:
        """The same, with the software that was named."""
        return {**JobRequest.again(self), **({"software": self.software} if self.software else {})}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest(JobRequest):
    """The best plans of one system. load: to find the smallest and the cheapest deployment for, by simulation, on one
    system or several (None: no load, the best plans by their means)."""

    top: int = 5
    neighbours: bool = False
    pareto: bool = False
    timeline: Path | None = None
    pick: int = 1
    emit: str | None = None
    load: ServeLoad | None = None

    @property
    def serve_load(self) -> ServeLoad:
        """The load of a question that has one."""
        assert self.load is not None
        return self.load

    @property
    def peak(self) -> ServeLoad:
        """The load with the headroom in it that is kept free."""
        return self.serve_load.at_peak()

    def traffic_options(self) -> Mapping[str, object]:
        """The options of facts, for a command of `mowich traffic`: its plan is in its scenario."""
        settings = self.given.get("set")
        kept = [str(s) for s in settings if not str(s).startswith("plan.")] if isinstance(settings, list) else []
        return {"set": kept, "facts": self.given.get("facts_dirs")}


@dataclass(frozen=True, slots=True, kw_only=True)
class FitRequest(JobRequest):
    """Does it fit. kv: tokens of a request's cache, for serving; None for training."""

    kv: float | None = None


# ---- reading
# ----------------------------------------------------------------------------------------------------------------------


def read_systems(
    reader: QuestionReader,
    on: Sequence[Field[object]],
    chips: int | None,
    facts: Facts,
    *,
    equal: str = "chips",
    several: bool = False,
    stack: str | None = None,
    have: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Names of systems, each checked: known, named once, and its number of chips in range. on: one field for all of
    them, or one for each; several: more than one may be named, whatever the field says; stack: of all of them; have:
    those that are there already, which come first."""
    from mowich.software.stack import equip

    field, named = on[0], [reader.get(one) for one in on]
    words = named[0] if len(on) == 1 and not isinstance(named[0], str) else tuple(named)
    if not isinstance(words, tuple) or None in words:
        return ()
    words = (*have, *words)
    if not words and reader.has(field):
        reader.add("names no system", field, fix=f"for example {field.example}")
    if field is SINGLE_SYSTEM and len(words) > 1 and not several:
        reader.add("takes one system", field, given=reader.given(field), fix="mowich compare takes several")
    for name in dict.fromkeys(w for w in words if words.count(w) > 1):
        reader.add(f"'{name}' is named twice", field)
    taken: dict[tuple[str, int], str] = {}
    places = dict(zip(words, on, strict=True)) if len(on) > 1 else dict.fromkeys(have, HAVE)
    for name in dict.fromkeys(words):
        with reader.watch(places.get(name, field)):
            system = equip(facts, name, chips=chips if equal == "chips" else None, stack=stack)
            other = taken.setdefault((system.id, system.chips), name)
            if other != name:
                raise UserError(f"'{other}' and '{name}' are the same {system.chips} chips of {system.id}")
    return words


def serves_job(reader: QuestionReader, other: Field[object]) -> bool:
    """Whether the job is one of serving, which `other` says; a question has one job."""
    trains = reader.flag(TRAINS)
    serves = reader.given(other) not in (None, False)
    if trains == serves:
        third = f", or {forward_words(reader)}" if FORWARD_TASK in reader.schema.fields else ""
        reader.add(
            f"give either {reader.said(TRAINS)} or {reader.said(other)}{third}",
            TRAINS,
            given="both" if trains else "neither",
        )
        of_serving = (*SERVED, *WITH_IMAGES, *LOADED, KV_TOKENS)  # by its options; some have a default
        trains = trains or not any(reader.given(field) not in (None, field.default) for field in of_serving)
    return not trains


def _work_of(reader: QuestionReader, other: Field[object]) -> JobWork:
    """Which job a question has; what belongs to another one is noted. other: says that it is serving."""
    if not asks_forward(reader):
        only_forward(reader)
        return "serve" if serves_job(reader, other) else "train"
    no_other_job(reader, (TRAINS, other))
    reader.stop()  # what the other job says would be read as this one's
    only_of(reader, (*TRAINED_ALONE, RECIPE), "training", TRAINS)
    only_of(reader, (*SERVED, *WITH_IMAGES, *LOADED), "serving", other)
    return "forward"


def _choices(
    reader: QuestionReader, plan: Mapping[str, str], chosen: Mapping[str, str], *, work: JobWork
) -> Mapping[str, Sequence[int | str]]:
    """Choices that restrict the search. plan: of the settings; chosen: of a file."""
    from mowich.plans.forward import parse_forward
    from mowich.plans.plan import parse_fixed
    from mowich.plans.serving_choices import parse_serving

    parsers = {"train": parse_fixed, "serve": parse_serving, "forward": parse_forward}

    given: Mapping[str, str] = (reader.get(FIXED) or {}) if reader.edge is Edge.KEYWORD else plan
    given = {key: value for key, value in given.items() if key not in CORES_OF_PLAN}
    given = joined_choices(reader, given, chosen)
    with reader.watch():
        return parsers[work](given, also=CORES_OF_PLAN)
    return {}


def read_work(
    reader: QuestionReader,
    *on: Field[object],
    work: JobWork,
    fits: bool = False,
    several: bool = False,
    model: Model | None = None,
    by_hand: bool = False,
    needs_tokens: bool = True,
    have: tuple[str, ...] = (),
) -> dict[str, object]:
    """What questions of a job on systems share, by the names of `JobRequest`; stops when something is wrong. on: the
    field that names the systems, or one for each; model: where it was read already; by_hand: kernels written by hand
    may be named in the place of a stack; needs_tokens: training says how many; have: systems that are there already."""
    from mowich.software.engine import engine_names
    from mowich.software.vendors import HAND_TUNED

    form, serving = form_of(reader), work == "serve"
    settings = read_settings(reader)
    equal = reader.get(EQUALS) or "chips"
    chips = reader.get(CHIPS)
    if equal != "chips" and work == "train":
        _check_sized(reader, chips)
    _read_fixed_lnc(reader, settings)
    model = model or asked_model(reader)
    train, serve, forward = _read_job(reader, work, model, settings.facts, fits=fits, needs_tokens=needs_tokens)
    facts, stack = settings.facts, _read_stack(reader, settings.facts, work, by_hand=by_hand)
    footing = equal if work == "train" else "chips"
    own = None if stack == HAND_TUNED else stack
    systems = read_systems(reader, on, chips, facts, equal=footing, several=several, stack=own, have=have)
    if settings.lnc is not None:
        has_cores(reader, systems, settings.facts)
    field = FIT_ENGINE if fits else SERVING_ENGINE
    engine = asked_software(reader, field, "engine", lambda: [*engine_names(facts), HAND_TUNED]) if serving else None
    chosen = file_choices(reader, train, serve, serving=serving, layers=model.num_layers) if model else {}
    engines = _engines_of(facts, systems, engine) if serving else ()
    chosen = settings_of_engines(reader, chosen, engines)
    use_cores(reader, settings, chosen.pop("lnc", None), systems)
    fixed = _choices(reader, settings.plan, chosen, work=work)
    if forward is not None and forward.batch and "batch" in fixed:
        reader.add("is given twice", ITEMS, given=f"{forward.batch} and plan.batch", fix="give one of the two")
    term = asked_kind(reader, settings)
    _check_settings(reader, model, fixed, engines)
    reader.stop()
    assert model is not None
    _note_limits(reader, model, systems, chips)
    if train is not None and model.kind in ("diffusion", "speech"):
        reader.note(f"{model.name} is {KIND_WORDS[model.kind]}: its tokens are those of its layers, as of patches")
    note_shapes(reader, systems)
    note_tuned(reader, facts, systems, stack, engine)
    note_formats(reader, facts, systems, fixed)
    if train is not None:
        note_stacks(reader, facts, model, systems, own, fixed)
    return {
        "form": form,
        "facts": settings.facts,
        "given": given_of(reader),
        "notes": tuple(reader.notes),
        "model": model,
        "model_given": words_of_model(reader),
        "systems": systems,
        "train": train,
        "serve": serve,
        "forward": forward,
        "engine": engine,
        "fixed": fixed,
        "term": term,
    }


def _check_sized(reader: QuestionReader, chips: int | None) -> None:
    """A problem where systems are put on an equal footing, and nothing says how many chips the first one has."""
    if chips is None and not reader.has(CHIPS) and not asks_paid(reader):
        reader.add(
            f"needs {reader.said(CHIPS)}",
            EQUALS,
            fix=f"{reader.said(CHIPS)} counts the first system's chips (units with {reader.said(EQUALS)} units)",
        )


def _read_fixed_lnc(reader: QuestionReader, settings: Settings) -> None:
    """Put the cores of a device that `fixed` of Python says into the settings and their facts."""
    if reader.edge is Edge.KEYWORD and "lnc" in (reader.get(FIXED) or {}):
        with reader.watch():
            settings.lnc = read_lnc((reader.get(FIXED) or {})["lnc"], where="fixed.lnc")
            settings.facts = settings.facts.with_values(lnc_facts(settings.facts, settings.lnc))


def _read_job(
    reader: QuestionReader, work: JobWork, model: Model | None, facts: Facts, *, fits: bool, needs_tokens: bool
) -> tuple[TrainJob | None, ServeJob | None, ForwardJob | None]:
    """The job of training, of serving, or of forward passes; the other two are None. A fit reads no job of serving."""
    if work == "train":
        return read_train(reader, needs_tokens=needs_tokens and not fits), None, None
    if work == "forward":
        return None, None, read_forward_job(reader, model)
    if model is not None:
        with reader.watch():
            check_decodes(model, edge=reader.edge)
    if fits:
        return None, None, None
    serve = read_serve(reader)
    return None, with_images(reader, serve, model, facts) if IMAGES in reader.schema.fields else serve, None


def _read_stack(reader: QuestionReader, facts: Facts, work: JobWork, *, by_hand: bool) -> str | None:
    """The software stack that is asked for; kernels written by hand are a problem where they are no choice."""
    from mowich.software.stack import stack_names
    from mowich.software.vendors import HAND_TUNED

    stack = asked_software(reader, TRAINING_STACK, "software stack", lambda: [*stack_names(facts), HAND_TUNED])
    if stack == HAND_TUNED and work == "forward":
        reader.add("goes with training and serving", TRAINING_STACK, given=stack, fix="leave it out")
    elif stack == HAND_TUNED and not by_hand and work == "train":
        reader.add(
            "is a choice that only compare has",
            TRAINING_STACK,
            given=stack,
            fix="mowich compare ... --stack hand-tuned",
        )
    return stack


def _engines_of(facts: Facts, systems: Sequence[str], engine: str | None) -> tuple[str, ...]:
    """The engines of the systems of a question."""
    from mowich.machines.system import resolve
    from mowich.software.engine import engine_for

    return tuple(dict.fromkeys(engine_for(facts, resolve(facts, system), engine) for system in systems))


def _check_settings(
    reader: QuestionReader, model: Model | None, fixed: Mapping[str, Sequence[int | str]], engines: Sequence[str]
) -> None:
    """A problem for each setting that an engine, or a model, does not have."""
    from mowich.plans.launch_settings import SETTING_NAMES, check_settings

    if "redundant_experts" in fixed and model and not model.has_experts:
        with reader.watch():
            raise UserError(
                f"{model.name} has no experts to place",
                field="plan.redundant_experts",
                given=fixed["redundant_experts"][0],
                fix="leave it out",
            )

    for setting in (name for name in SETTING_NAMES if name in fixed):
        for engine in engines:
            with reader.watch():
                check_settings((setting,), engine)


def _note_limits(reader: QuestionReader, model: Model, systems: Sequence[str], chips: int | None) -> None:
    """Say so when a sequence is longer than the model was made for, and when the number of chips is not what a system
    gets."""
    context = context_note(reader, model)
    if reader.has(ISL):
        isl, osl = reader.get(ISL) or 0.0, reader.get(OSL) or 0.0
        context(isl + osl, f"{reader.said(ISL)} + {reader.said(OSL)} =")
        if osl == 1:
            reader.note(
                f"{reader.said(OSL)} 1: an answer ends with its first token; TPOT is the time that one more would take"
            )
    elif reader.has(KV_TOKENS):
        context(reader.get(KV_TOKENS), reader.said(KV_TOKENS))
    else:
        context(reader.get(SEQ), reader.said(SEQ))
    have = (reader.get(HAVE) or ()) if HAVE in reader.schema.fields else ()
    if chips is not None and any(":" in s or "*" in s for s in systems if s not in have):
        reader.note(f"a size in a system's name wins over {reader.said(CHIPS)}")


def _compare(reader: QuestionReader) -> CompareRequest:
    asks = _work_of(reader, SERVES)
    if asks == "forward":
        only_of(reader, PAID_RUN, "training and serving", TRAINS)
    if asks != "train" and (reader.get(EQUALS) or "chips") != "chips":
        said = "serving compares" if asks == "serve" else "forward passes compare"
        reader.add(f"{said} on equal chips", EQUALS, given=reader.given(EQUALS))
    if asks == "serve":
        only_of(reader, (*TRAINED, TRAINING_STACK, RECIPE), "training", TRAINS)
    elif asks == "train":
        only_of(reader, (*SERVED, *WITH_IMAGES), "serving", SERVES)
    if asks not in ("train", "serve"):
        only_of(reader, (EMIT,), "training and serving", TRAINS)
    check_emit(reader, has_timeline=False)
    from mowich.software.vendors import HAND_TUNED

    stack = reader.get(TRAINING_STACK)
    tuned = stack == HAND_TUNED
    is_paid = asks != "forward" and read_paid(reader, EQUALS)
    have, on = read_have(reader), reader.get(SYSTEMS)
    if not reader.has(SYSTEMS) and not reader.has(HAVE):
        reader.missing(SYSTEMS)
    read_power(reader, (CHIPS, EQUALS), on or ())
    year = read_per(reader)
    work = read_work(reader, SYSTEMS, work=asks, by_hand=True, needs_tokens=not is_paid, have=have)
    only_rent(reader, PRICE_KIND, str(work["term"]) if is_paid else "")
    footing = reader.fill(Footing, have=have, has_tokens=reader.has(TOKENS))
    named: dict[str, object] = {"emits": reader.get(EMIT), "footing": footing, "year": year, "hand_tuned": tuned}
    named |= {"stack": None if tuned else stack, "software": stack or reader.get(SERVING_ENGINE)}
    return reader.fill(CompareRequest, **named, **work)


def _plan(reader: QuestionReader) -> PlanRequest:
    asks = _work_of(reader, SERVES)
    serving = asks == "serve"
    if asks != "train":
        only_of(reader, (NEIGHBOURS, PARETO, TIMELINE), "training", TRAINS)
    if serving:
        only_of(reader, (*TRAINED, TRAINING_STACK, RECIPE), "training", TRAINS)
    elif asks == "train":
        only_of(reader, (*SERVED, *WITH_IMAGES, *LOADED), "serving", SERVES)
    else:
        only_of(reader, (EMIT, PLAN_FILE), "training and serving", TRAINS)
    load = read_serve_load(reader, (TTFT, TPOT), CACHED) if serving else None
    if load is not None:
        reader.refuse("is not for a load", IMAGES, fix="mowich traffic has traffic.images")
    file, top, pick = asked_timeline(reader, TIMELINE), reader.get(TOP), reader.get(PICK)
    if top is not None and pick is not None and pick > top:
        reader.add("is not among the plans", PICK, given=pick, allowed=f"1 to {top} ({reader.said(TOP)})")
    elif reader.edge is Edge.OPTION and reader.given(PICK) and file is None and not reader.has(EMIT):
        reader.add("says which plan --timeline or --emit takes", PICK, fix="give one of them, or leave it out")
    check_emit(reader, file is not None)
    work = read_work(reader, SINGLE_SYSTEM, work=asks, several=load is not None)
    if load is not None:
        only_degrees(reader, work["fixed"], "a load")
    return reader.fill(PlanRequest, load=load, **work)


def _fit(reader: QuestionReader) -> FitRequest:
    serves = FIT_SERVE if reader.edge is Edge.OPTION else KV_TOKENS
    asks = _work_of(reader, serves)
    serving = asks == "serve"
    if serving:
        only_of(reader, (*TRAINED, TRAINING_STACK, RECIPE), "training", TRAINS)
        reader.need(KV_TOKENS, why=f" with {reader.said(FIT_SERVE)}")
    elif asks == "train":
        only_of(reader, (KV_TOKENS, FIT_ENGINE), "serving", serves)
    else:
        if reader.edge is Edge.OPTION:
            only_of(reader, (KV_TOKENS,), "serving", serves)
        if reader.has(ITEM_LATENCY):
            reader.add("is a limit of time, but fit asks for memory", ITEM_LATENCY, fix="ask mowich plan")
    work = read_work(reader, SINGLE_SYSTEM, work=asks, fits=True)
    only_degrees(reader, work["fixed"], "a fit")
    return reader.fill(FitRequest, kv=reader.get(KV_TOKENS) if serving else None, **work)


# ---- the schemas
# ----------------------------------------------------------------------------------------------------------------------

EXAMPLE = (
    "mowich compare deepseek-v3 --train --tokens 15T --seq 4096 --batch 16384seqs --on trn2,trn3,ironwood,gb300 --chips"
    " 16384"
)

_EMIT_BEST = replace(EMIT, help="The plan for vllm, nxdi...; with --out DIR a bundle.", edges=TYPED)

COMPARE = Schema(
    name="compare",
    fields=(
        *(
            MODEL,
            AS,
            SYSTEMS,
            TRAINS,
            SERVES,
            *SERVED,
            *WITH_IMAGES,
            TOKENS_OR_ITEM,
            *RUN_FIELDS,
            CHIPS,
            EQUALS,
            *PAID_RUN,
        ),
        *(PRICE_KIND, TRAINING_STACK, RECIPE, *OF_FACTS),
        *(PLAN_FILE, _EMIT_BEST, FIXED, TERM, CHART, LEGEND, *FORM, KEPT_SEED),
    ),
    make=_compare,
    help="The same job (training, or serving) on several systems, each at its best plan: the main job.",
    short="One training job on several systems: the main job.",
    example=EXAMPLE,
    groups={**JOBS, "forward": FORWARD_JOB},
)
_LOAD_SEED = replace(KEPT_SEED, help="Of the draws of a load (else kept only).")
PLAN = Schema(
    name="plan",
    fields=(
        *(MODEL, AS, SINGLE_SYSTEM, TRAINS, SERVES, *SERVED, *WITH_IMAGES, *LOADED, TOKENS_OR_ITEM, *RUN_FIELDS),
        *(CHIPS, TOP, NEIGHBOURS, PARETO, TIMELINE, PICK, EMIT, PLAN_FILE, PRICE_KIND, TRAINING_STACK, RECIPE),
        *(*OF_FACTS, FIXED, TERM, CHART, LEGEND, *FORM, _LOAD_SEED),
    ),
    make=_plan,
    help="The best plans of one system, and what they trade.",
    short="The best plans of one system, and what they trade.",
    example="mowich plan llama-3.1-70b --serve --isl 8k --osl 1k --on trn3:4",
    groups={**JOBS, "forward": FORWARD_JOB},
)
FIT = Schema(
    name="fit",
    fields=(
        *(
            MODEL,
            AS,
            SINGLE_SYSTEM,
            TRAINS,
            FIT_SERVE,
            KV_TOKENS,
            FIT_ENGINE,
            FIT_TOKENS,
            *RUN_FIELDS,
            CHIPS,
            TRAINING_STACK,
        ),
        *(RECIPE, *OF_FACTS, FIXED, LEGEND, JSON, PLAIN, QUIET, OUT),
    ),
    make=_fit,
    help=(
        "Does a training job, or a served model with its caches, fit; what takes the memory; and how few chips would"
        " do."
    ),
    short="Does it fit, what binds, how few chips would do.",
    example=(
        "mowich fit deepseek-v3 --train --seq 4096 --batch 16384seqs --on trn3   or   mowich fit"
        " llama-3.1-405b --serve --kv 128k --on trn3"
    ),
    groups={"train": JOBS["train"], "forward": FORWARD_JOB},
)
