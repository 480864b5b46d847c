"""The grid of a sweep: its points, and how it is read from a scenario, from options, or from both.

The scenario names the values of each axis, as a list, "64,128", or a range: "64..4096:x2" doubles, "4 TB/s..6 TB/s:5"
takes five values evenly spaced, both ends included. An axis that is given by an option takes the place of the
scenario's.

    mowich: 1
    models: [deepseek-v3, llama-3.1-405b]
    on: [trn3, gb300]
    chips: 1024..16384:x2
    seq: [4096, 8192]       # of serving: isl and osl, and ttft, tpot, cached, accept, engine as you need them
    batch: 64M              # tokens, or 16384seqs
    tokens: 15T
    plan: {tp: "4,8"}       # optional: choices that hold at every point
    vary:                   # optional: more axes, of plan fields and of facts
      plan.pp: 1,2,4
      chips.trainium3.memory.hbm_bandwidth: 4 TB/s..6 TB/s:5
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TypeVar, Unpack

from mowich import models, scenario
from mowich.errors import ErrorDetails, UserError, UserErrors, unknown
from mowich.facts import Facts
from mowich.models.model import Model
from mowich.plans.plan import TrainJob, parse_fixed
from mowich.plans.serving_choices import parse_serving
from mowich.requests import job_fields
from mowich.requests.common import model_name
from mowich.requests.fields import Edge, Field
from mowich.requests.job_reading import read_serve, read_train
from mowich.requests.passes import check_decodes
from mowich.requests.scenarios import AXES_OF_SERVING, AXES_OF_TRAINING, SweepRequest
from mowich.requests.schema import QuestionReader, QuestionSource, Schema
from mowich.requests.settings import fact_path, read_value
from mowich.serving.search import ServeJob
from mowich.shown import Keyed
from mowich.software.engine import engine_names
from mowich.software.stack import equip
from mowich.software.vendors import HAND_TUNED

MAX_POINTS = 100_000
"""Points of a sweep whose rows are kept in memory."""

MAX_STORED = 10_000_000
"""Points of a sweep that is written to a directory: above it a scenario is more likely a mistake than a wish."""

MOST_NOTES = 5
"""Notes that a grid tells, such as what "4k" means."""

_MACHINES = ("models", "on", "chips")
_TRAINS = ("seq", "batch", "tokens")
_SERVES = ("isl", "osl")
_TRAINED = ("site_link", "outer_every", "sites", "fill", "document", "task", "tokens", "seq", "batch")
"""Axes of a training job, outermost first."""
_SERVED = ("accept", "cached", "ttft", "tpot", "isl", "osl")
"""Axes of a serving job, outermost first; its engine is an axis of its own."""
_WORDS = ("models", "on", "task", "engine")
"""Axes of words: ".." in one does not make a range."""
_FIELDS = {field.name: field for field in (*AXES_OF_TRAINING, *AXES_OF_SERVING)}
_TRACES = (".jsonl", ".json", ".csv", ".yaml", ".yml")
"""Files that may stand in the place of a share of cached prompts."""

_JOB = Schema(
    name="sweep",
    fields=(job_fields.TRAINS, job_fields.SERVES, *job_fields.TRAINED, *job_fields.SERVED),
    make=lambda reader: None,
    help="",
)
"""The job of one point."""

_Choice = tuple[int | str, ...]
SweepJob = TrainJob | ServeJob

T = TypeVar("T")
W = TypeVar("W")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point(Keyed):
    """One point of the grid; chips None: the size in the system's name, or one unit. engine: of serving, None: the one
    that a customer gets; plan: choices of varied plan fields; facts: (path, SI value)."""

    KEYS = "model **job_words set=settings:none?"

    model: str
    system: str
    chips: int | None
    job: SweepJob
    engine: str | None = None
    plan: tuple[tuple[str, _Choice], ...] = ()
    facts: tuple[tuple[str, float], ...] = ()

    @property
    def job_words(self) -> dict[str, object]:
        """The job as a row states it."""
        return job_words(self.job)

    @property
    def settings(self) -> dict[str, int | str | float]:
        """What varies beside the model, the system and the job, by name."""
        return {
            **dict(self.facts),
            **({"engine": self.engine} if self.engine is not None else {}),
            **{f"plan.{k}": v[0] if len(v) == 1 else ",".join(map(str, v)) for k, v in self.plan},
        }


def job_words(job: SweepJob) -> dict[str, object]:
    """A job as a row states it: lengths and a batch in tokens and sequences, limits in seconds. Of training only what
    the job says beyond pretraining."""
    if isinstance(job, TrainJob):
        said = job.inputs()
        own = {name: said.pop(name) for name in ("seq", "batch_seqs", "tokens")}
        del said["task"]
        return own | said
    return {
        "isl": job.prompt,
        "osl": job.output,
        "ttft_limit_s": job.ttft_s if math.isfinite(job.ttft_s) else None,
        "tpot_limit_s": job.tpot_s if math.isfinite(job.tpot_s) else None,
        "cached": job.cached_by or job.cached,
        "accept": job.accept,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A sweep as read: the product of its axes, facts outermost and plans innermost. fixed: choices of plan fields that
    hold everywhere; models: name -> what it names, so that a worker elsewhere needs no file; notes: to tell beside the
    answer."""

    models: Mapping[str, Model]
    systems: tuple[str, ...]
    chips: tuple[int | None, ...]
    jobs: tuple[SweepJob, ...]
    engines: tuple[str | None, ...] = (None,)
    plans: Mapping[str, tuple[_Choice, ...]]
    facts: Mapping[str, tuple[float, ...]]
    fixed: Mapping[str, Sequence[int | str]]
    inputs: Mapping[str, object]
    notes: tuple[str, ...] = ()

    @property
    def serves(self) -> bool:
        """Whether the work is serving; else it is training."""
        return isinstance(self.jobs[0], ServeJob)

    def _axes(self) -> tuple[Sequence[object], ...]:
        machines = (tuple(self.models), self.systems, self.chips)
        return (*self.facts.values(), *machines, self.engines, self.jobs, *self.plans.values())

    def __len__(self) -> int:
        return math.prod(map(len, self._axes()))

    def point(self, index: int) -> Point:
        """The point at a place of the grid, 0 .. len - 1."""
        places: list[int] = []
        for axis in reversed(self._axes()):
            index, place = divmod(index, len(axis))
            places.append(place)
        places.reverse()
        n = len(self.facts)
        model, system, chips, engine, job = places[n : n + 5]
        return Point(
            model=tuple(self.models)[model],
            system=self.systems[system],
            chips=self.chips[chips],
            engine=self.engines[engine],
            job=self.jobs[job],
            plan=tuple((k, v[i]) for (k, v), i in zip(self.plans.items(), places[n + 5 :], strict=True)),
            facts=tuple((k, v[i]) for (k, v), i in zip(self.facts.items(), places[:n], strict=True)),
        )

    @property
    def points(self) -> tuple[Point, ...]:
        return tuple(map(self.point, range(len(self))))


# reading
# -----------------------------------------------------------------------------------------------------------------
_RANGE = re.compile(r"^(.+?)\s*\.\.\s*(.+?)\s*:\s*(x?)\s*([\d.]+)$")
_END = re.compile(r"^(\$?\s*)([+-]?[\d._]+(?:[eE][+-]?\d+)?)(.*)$")
_FORM = "64..4096:x2 (times 2), 4 TB/s..6 TB/s:5 (5 values), or values with commas"
MAX_RANGE = 100_000
"""Values of one range."""


def values_of(text: str) -> list[str]:
    """Values of a list or a range, as text with their units.

    >>> values_of("1,2, 4"), values_of("64..512:x2"), values_of("4 TB/s..5 TB/s:3")
    (['1', '2', '4'], ['64', '128', '256', '512'], ['4 TB/s', '4.5 TB/s', '5 TB/s'])
    """
    if ".." in text:
        return _range_of(text)
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise UserError("an empty value", given=text, allowed=_FORM)
    return words


def _range_of(text: str) -> list[str]:
    """Values of a range. Raises UserError for a malformed one, and for none or too many values."""
    wrong = partial(UserError, given=text, allowed=_FORM)
    match = _RANGE.match(text.strip())
    ends = [_END.match(match[i].strip()) for i in (1, 2)] if match else []
    if match is None or not all(ends) or (ends[0][1], ends[0][3]) != (ends[1][1], ends[1][3]):  # type: ignore[index]
        raise wrong("not a range", fix="both ends have the same unit" if match else None)
    first, last = ends
    assert first is not None
    assert last is not None
    try:
        low, high, by = float(first[2]), float(last[2]), float(match[4])
    except ValueError:
        raise wrong("not a range") from None
    if not all(map(math.isfinite, (low, high, by))):
        raise wrong("a number is too large")
    count = _count_of(low, high, by, times=bool(match[3]))
    if not 1 <= count <= MAX_RANGE:
        raise wrong("an empty range" if not count else f"more than {MAX_RANGE} values")
    if match[3]:
        numbers = [low * by**i for i in range(count)]
    else:
        numbers = [low + (high - low) * i / max(1, count - 1) for i in range(count)]
    return [f"{first[1]}{number:.12g}{first[3]}" for number in numbers]


def _count_of(low: float, high: float, by: float, *, times: bool) -> int:
    """Values of a range, 0 for an empty one. by: what each is over the one before (`times`), else their number."""
    if times:
        return math.floor(math.log(high / low) / math.log(by) + 1e-9) + 1 if 0 < low <= high and by > 1 else 0
    return int(by) if by == int(by) and (low < high or by == 1) else 0


def _words_of(key: str, value: object, *, split: bool) -> list[object]:
    """The values that one value of an axis stands for: a range, or with `split` a text with commas. Raises UserError
    for a malformed range."""
    if not isinstance(value, str):
        return [value]
    is_file = key == "cached" and value.endswith(_TRACES)
    if key in _WORDS or is_file:
        return [word for part in value.split(",") if (word := part.strip())] if split and not is_file else [value]
    return list(values_of(value)) if split or ".." in value else [value]


class _Axis:
    """The values of one axis, where they are written, and a way to complain there: once of each mistake."""

    def __init__(self, axes: _Axes, key: str) -> None:
        self.key, self._axes, self._told = key, axes, set[str]()
        self._is_varied = key in axes.vary
        self._node = axes.varied if key in axes.varied else axes.root
        raw = axes.vary.get(key, axes.given.get(key, self._node.raw(key)))
        self.is_written = key in self._node and not self._is_varied and key not in axes.given
        self.words: list[object] = []
        split = not self.is_written or self._node is not axes.root
        for value in raw if isinstance(raw, list | tuple) else [] if raw is None else [raw]:
            if isinstance(value, list | tuple) or (isinstance(value, Mapping) and key != "models"):
                self.problem(UserError("not a value", given=value, allowed="words, numbers and ranges in one list"))
            else:
                self.words += self.read(partial(_words_of, key, split=split and raw is value), value) or ()
        if raw in ([], ()) or (raw is None and self.is_written):
            self.problem(UserError("names nothing", allowed="a value or a list of values"))

    def problem(self, error: UserError) -> None:
        """Note a mistake of this axis."""
        known = f"{error.what} {error.given}"
        if known in self._told:
            return
        self._told.add(known)
        details: ErrorDetails = {"given": error.given, "allowed": error.allowed, "fix": error.fix}
        if self.is_written or (self._axes.has_file and self.key not in self._axes.given and not self._is_varied):
            self._node.problem(self.key, error.what, **details)
        else:
            field = f"vary {self.key}" if self._is_varied else "scenario" if self.key == "models" else self.key
            self._axes.root.report(UserError(error.what, field=field, **details))

    def read(self, reader: Callable[[W], T], word: W) -> T | None:
        """reader(word), or None with its problem said."""
        try:
            return reader(word)
        except UserError as error:
            self.problem(error)
            return None

    def all(self, reader: Callable[[object], T]) -> list[T]:
        """Every value that can be read, each once."""
        return list(dict.fromkeys(x for x in (self.read(reader, w) for w in self.words) if x is not None))


class _Axes:
    """The axes of a sweep: each stands at the top of the file or under `vary`, or was given beside or without a file,
    by an option (`given`) or among further axes (`vary`)."""

    def __init__(self, root: scenario.Node, given: Mapping[str, object], vary: Mapping[str, str], *, edge: Edge | None):
        self.root, self.given, self.vary, self._edge = root, given, vary, edge
        self.varied = root.node("vary")
        self.has_file = edge is None
        self._read: dict[str, _Axis] = {}

    def __contains__(self, key: str) -> bool:
        return any(key in group for group in (self.root, self.varied, self.given, self.vary))

    def axis(self, key: str) -> _Axis:
        """The axis of a name, read once."""
        if key not in self._read:
            self._read[key] = _Axis(self, key)
        return self._read[key]

    def said(self, field: Field[object]) -> str:
        """An axis as the question spells it."""
        return field.name if self._edge is None or field.name in self.vary else field.spelled(self._edge)

    def others(self) -> list[str]:
        """Keys that are varied but are not an axis of the question: fields of the plan, and facts."""
        return [key for key in dict.fromkeys((*self.varied, *self.vary)) if key not in _MACHINES and key not in _FIELDS]


class _JobReader(QuestionReader):
    """Reads the job of one point; what is wrong is told where its axis stands."""

    def __init__(self, values: Mapping[str, object], axes: _Axes) -> None:
        super().__init__(_JOB, values, QuestionSource(edge=Edge.OPTION))
        self._axes = axes

    def said(self, field: Field[object]) -> str:
        return self._axes.said(field)

    def add(self, what: str, field: Field[object], **details: Unpack[ErrorDetails]) -> None:
        self._tell(UserError(what, **details), field)

    @contextmanager
    def watch(self, field: Field[object] | None = None) -> Iterator[None]:
        try:
            yield
        except UserError as error:
            for one in error.errors if isinstance(error, UserErrors) else (error,):
                self._tell(one, field)

    def _tell(self, error: UserError, field: Field[object] | None) -> None:
        self.problems.found.append(error)
        if field is not None:
            self._axes.axis(field.name).problem(error)


def read_sweep(
    path: str | Path | None,
    facts: Facts,
    *,
    axes: Mapping[str, object] | None = None,
    fixed: Mapping[str, str] | None = None,
    vary: Mapping[str, str] | None = None,
    most: int = MAX_POINTS,
    stack: str | None = None,
    edge: Edge = Edge.KEYWORD,
) -> Grid:
    """A scenario file, and axes given beside it or in its place (`path` None) -> its grid. axes: by the names of a
    scenario, each a text ("1,2,4", or a range), a number, or a list of these; fixed: choices of the plan, without a
    file; vary: further axes; edge: how axes without a file are spelled. Raises UserError with every mistake and its
    line."""
    root = scenario.parse_text(f"mowich: {scenario.FORMAT}", "the question") if path is None else None
    root = root or scenario.read_scenario(str(path))
    found = _Axes(root, dict(axes or {}), dict(vary or {}), edge=edge if path is None else None)
    serves = _serves(found)
    if path is not None:
        root.need(*(key for key in ("models", "on", *(_SERVES if serves else _TRAINS)) if key not in found))
    named, systems, counts = map(found.axis, _MACHINES)
    loaded = _models_of(named, serves=serves)
    trained_on = None if serves else stack
    names = systems.all(lambda w: (equip(facts, str(w), stack=trained_on), str(w))[1])
    sizes: tuple[int | None, ...] = tuple(counts.all(job_fields.CHIPS.parse)) or (None,)
    notes: dict[str, None] = {}
    jobs = tuple(_jobs(found, notes, serves=serves))
    engines: tuple[str | None, ...] = tuple(found.axis("engine").all(partial(_engine, facts))) if serves else ()
    held = _fixed_fields(root, found, fixed or {}, serves=serves)
    plans, values = _varied(found, facts, held, serves=serves)
    root.done(("models", "on", "chips", "vary", "plan", *_FIELDS))
    asked = ({} if path is None else {"scenario": str(path)}) | _said(axes or {}, fixed or {}, vary or {})
    grid = Grid(
        models=loaded,
        systems=tuple(names),
        chips=sizes,
        jobs=jobs,
        engines=engines or (None,),
        plans=plans,
        facts=values,
        fixed=held,
        inputs=asked,
        notes=tuple(notes)[:MOST_NOTES],
    )
    if len(grid) > most:
        _too_many(root, len(grid), most, is_file=path is not None)
    root.stop()
    return replace(grid, inputs={**asked, **_axes_inputs(grid, _job_inputs(found, jobs, engines, serves=serves))})


def _axes_inputs(grid: Grid, job: Mapping[str, object]) -> dict[str, object]:
    """The axes of a grid as the inputs of a result state them. job: those of its job."""
    own = {word: model.inputs() for word, model in grid.models.items() if model.config is not None}
    return {
        "models": list(grid.models),
        **({"model_inputs": own} if own else {}),
        "systems": list(grid.systems),
        "chips": list(grid.chips),
        **job,
        "fixed": {k: list(v) for k, v in grid.fixed.items()},
        "vary": {
            **{f"plan.{k}": [",".join(map(str, c)) for c in v] for k, v in grid.plans.items()},
            **{k: list(v) for k, v in grid.facts.items()},
        },
    }


def _too_many(root: scenario.Node, points: int, most: int, *, is_file: bool) -> None:
    """A problem with the number of points: at its file, or of the question."""
    fix = "write them to a directory with --out DIR" if most == MAX_POINTS and points <= MAX_STORED else None
    many = UserError(f"{points} points are more than a sweep takes ({most})", fix=fix)
    if is_file:
        root.problem(None, many.what, fix=fix)
    else:
        root.report(many)


def asked_grid(request: SweepRequest) -> Grid:
    """The grid that a request asks for. Raises UserError with every mistake."""
    return read_sweep(
        request.scenario,
        request.facts,
        axes=request.axes,
        fixed=request.fixed,
        vary=request.vary,
        most=MAX_POINTS if request.folder is None else MAX_STORED,
        stack=request.stack,
        edge=request.edge,
    )


def _said(axes: Mapping[str, object], fixed: Mapping[str, str], vary: Mapping[str, str]) -> dict[str, object]:
    """What was given beside a file or in its place, in its words, for the command that asks again."""
    words = {key: value for key, value in axes.items() if key != "models"}
    said = {"axes": words, "fixed": dict(fixed), "vary": dict(vary)}
    return {"asked": {key: value for key, value in said.items() if value}} if any(said.values()) else {}


def _serves(axes: _Axes) -> bool:
    """Whether the job is one of serving; axes of both jobs are a problem."""
    of_serving, of_training = ([f for f in fields if f.name in axes] for fields in (AXES_OF_SERVING, AXES_OF_TRAINING))
    serves = any(f.name in _SERVES for f in of_serving) or (bool(of_serving) and not of_training)
    for field in of_training if serves else of_serving:
        this, other = ("serving", "training") if serves else ("training", "serving")
        has = (of_serving if serves else of_training or of_serving)[0].name
        axes.axis(field.name).problem(
            UserError(f"is an axis of {other}, but {has} is one of {this}: a sweep has one job")
        )
    return serves


def _models_of(named: _Axis, *, serves: bool) -> dict[str, Model]:
    """The models of an axis by what they are called; serving asks for models that make text."""
    loaded = dict(one for w in named.words if (one := named.read(_loaded, w)) is not None)
    if serves:
        for model in loaded.values():
            named.read(check_decodes, model)
    return loaded


def _loaded(word: object) -> tuple[str, Model]:
    """(what a model is called in the rows, the model). Raises UserError."""
    if isinstance(word, Model):
        return word.name, word
    try:
        return str(word), models.load_model(model_name(word))
    except UserError as error:
        if error.where and error.given is None:  # the file, which stands in no place here
            error.given = error.where
        raise


def _engine(facts: Facts, word: object) -> str:
    """An engine that facts describe. Raises UserError for another one."""
    known = [*engine_names(facts), HAND_TUNED]
    if word not in known:
        raise unknown("engine", str(word), known)
    return str(word)


def _jobs(axes: _Axes, notes: dict[str, None], *, serves: bool) -> Iterator[SweepJob]:
    """The jobs of a sweep, each once: every combination of the values of its axes, read as those of `compare`. notes:
    what is to be told of them."""
    keys = [key for key in (_SERVED if serves else _TRAINED) if key in axes]
    seen = set[SweepJob]()
    for words in product(*(dict.fromkeys(axes.axis(key).words) for key in keys)):
        reader = _JobReader(dict(zip(keys, words, strict=True)), axes)
        job: SweepJob | None = read_serve(reader) if serves else read_train(reader)
        notes |= dict.fromkeys(reader.notes)
        if job is not None and not reader.problems.found and job not in seen:
            seen.add(job)
            yield job


def _job_inputs(
    axes: _Axes, jobs: Sequence[SweepJob], engines: Sequence[str | None], *, serves: bool
) -> dict[str, object]:
    """The axes of the job as the inputs of a result state them."""
    if serves:
        said = [job_words(job) for job in jobs]
        names = ("isl", "osl", "ttft_limit_s", "tpot_limit_s", "cached", "accept")
        lists = {name: list(dict.fromkeys(one[name] for one in said)) for name in names}
        return {"task": "serve", **lists, **({"engines": list(engines)} if engines else {})}
    trained = [job for job in jobs if isinstance(job, TrainJob)]
    tokens = list(dict.fromkeys(job.tokens for job in trained))
    more = {key: [str(w) for w in axes.axis(key).words] for key in _TRAINED if key not in _TRAINS and key in axes}
    return {
        "seq": list(dict.fromkeys(job.seq for job in trained)),
        "batch": [str(w) for w in dict.fromkeys(axes.axis("batch").words)],
        "tokens": tokens[0] if len(tokens) == 1 else tokens,
        **({"train": more} if more else {}),
    }


def _fixed_fields(
    root: scenario.Node, axes: _Axes, given: Mapping[str, str], *, serves: bool
) -> dict[str, Sequence[int | str]]:
    """Fields of the plan that are the same at every point. given: without a file."""
    fixed: dict[str, Sequence[int | str]] = {}
    choices, parse = root.node("plan"), parse_serving if serves else parse_fixed
    for key in choices:
        value = choices.raw(key)
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        with choices.watch(key):
            fixed |= parse({key: text})
    for key, text in given.items():
        try:
            fixed |= parse({key: text})
        except UserError as error:
            root.report(error)
    return fixed


def _varied(
    axes: _Axes, facts: Facts, fixed: Mapping[str, Sequence[int | str]], *, serves: bool
) -> tuple[dict[str, tuple[_Choice, ...]], dict[str, tuple[float, ...]]]:
    """(field of the plan -> its choices, path of a fact -> its values) that are varied. fixed: fields that may not
    be."""
    plans: dict[str, tuple[_Choice, ...]] = {}
    values: dict[str, tuple[float, ...]] = {}
    known = facts.silent()  # what is varied is not read thereby
    for key in axes.others():
        one = axes.axis(key)
        if key.startswith("plan."):
            field = key.removeprefix("plan.")
            field = "weights" if serves and field == "precision" else field
            plans[field] = tuple(one.all(partial(_choice, field, serves=serves)))
            if field in fixed:
                one.problem(UserError(f"plan.{field} is both varied and fixed", fix="leave one of them out"))
        elif "." not in key:
            one.problem(unknown("axis", key, (*_MACHINES, *(_SERVED if serves else _TRAINED))))
        else:
            path_of = one.read(lambda w: fact_path(known, w, where=""), key)
            if path_of is not None:
                values[path_of] = tuple(one.all(partial(_fact_value, known, key)))
    return plans, values


def _choice(field: str, word: object, *, serves: bool) -> _Choice:
    (choice,) = (parse_serving if serves else parse_fixed)({field: str(word)}).values()
    return tuple(choice)


def _fact_value(facts: Facts, key: str, word: object) -> float:
    value = read_value(facts, key, str(word), where="")[1]
    if isinstance(value, str):
        raise UserError("this fact is a word: a sweep varies numbers", fix=f"--set {key}={value} holds for all points")
    return value
