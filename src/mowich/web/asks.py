"""What a request may hold: bodies made from the schemas of the verbs, within limits of size and of work.

No field is a path of the file system: models are built-in names or a pasted config. Values are words as the command
line takes them ("15T", "64M", "2s") or numbers in SI; `mowich.requests` judges what they say, here is what a server
bears. What is refused is answered with 422.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from types import GenericAlias
from typing import Annotated, Any, ClassVar, Literal, TypedDict

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, create_model

from mowich.errors import ProblemList
from mowich.neuroncore.targets import DEFAULT_TARGET
from mowich.readback import TypeForm
from mowich.requests import brief, jobs, rl, scenarios
from mowich.requests.fields import Edge
from mowich.requests.fields import Field as Asked
from mowich.requests.room import schema_of_room
from mowich.requests.rooms import room_names
from mowich.requests.schema import Limit, Schema

MAX_SYSTEMS = 12
MAX_CONFIG_NODES = 5000
MAX_CAPTURED_NODES = 50_000
MAX_CONFIG_DEPTH = 8
MAX_CONFIG_NUMBER = 1e9
MAX_QUANTITY = 1e300
MAX_TEXT = 60_000
"""Characters of a scenario, or of a kernel file."""


class Mistake(TypedDict):
    """One thing that is wrong with a request. line: all of it in one line; where: the field or option."""

    where: str | None
    what: str
    line: str


def _amount(value: object) -> str:
    """A number or its text, as text."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("a number, or text such as 15T")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("not a finite number")
    return f"{value:g}" if isinstance(value, float) and value % 1 == 0 and abs(value) < 1e15 else str(value)


Amount = Annotated[
    str,
    BeforeValidator(_amount, json_schema_input_type=str | float),
    StringConstraints(min_length=1, max_length=32, pattern=r"^[A-Za-z0-9.+ _%-]+$"),
]
"""15T, 4096, 16384seqs, 60%."""


def _quantity(value: object) -> float | str:
    """A number in SI stays one; anything else is text with its unit."""
    text = _amount(value)
    if not isinstance(value, int | float):
        return text
    if abs(value) > MAX_QUANTITY:
        raise ValueError("too large a number")
    return float(value)


_Measure = Annotated[str, StringConstraints(min_length=1, max_length=32, pattern=r"^[A-Za-z0-9$.+ _/-]+$")]
"""2 s, $2M, 100 Gbit/s."""
_Quantity = Annotated[
    Annotated[float, Field(strict=True)] | _Measure,
    BeforeValidator(_quantity, json_schema_input_type=str | float),
]
"""The same, or a number in SI."""
Word = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:,+@-]*$")]
SystemName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:*-]*$")]
ModelName = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$"
    ),
]
Setting = Annotated[
    str, StringConstraints(min_length=3, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]* ?=[^\x00-\x1f=]+$")
]
"""path=value, as --set takes it."""
Fault = Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9:=.,-]+$")]
"""A link, a chip, a job beside it."""
Yaml = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT)]
FactPath = Annotated[str, StringConstraints(min_length=1, max_length=150, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
_SearchWords = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f]+$")]
"""Words to look for."""
SizedSystem = Annotated[
    str, StringConstraints(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(:[0-9]{1,7})?$")
]
"""A system with a number of chips, such as trn3-gen2:144."""
Pairs = (
    Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9.=,| _+-]+$")]
    | Annotated[dict[Word, str | int | float], Field(max_length=16)]
)
"""Choices: tp=4,ep=8, or a mapping of them."""
MetricPath = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][^\x00-\x1f]*$")]


def check_config(config: Mapping[str, object]) -> Mapping[str, object]:
    """A pasted config.json within what is computed here. Raises ValueError. The sizes of a captured file are bounded
    where it is read."""
    nodes, is_captured = 0, "schema" in config
    most = MAX_CAPTURED_NODES if is_captured else MAX_CONFIG_NODES

    def walk(value: object, depth: int) -> None:
        nonlocal nodes
        nodes += 1
        if nodes > most or depth > MAX_CONFIG_DEPTH:
            raise ValueError(f"a model has at most {most} values, nested {MAX_CONFIG_DEPTH} deep")
        if isinstance(value, Mapping):
            for key, inner in value.items():
                if len(str(key)) > 100:
                    raise ValueError("a key is longer than 100 characters")
                walk(inner, depth + 1)
        elif isinstance(value, list):
            for inner in value:
                walk(inner, depth + 1)
        elif isinstance(value, str) and len(value) > 2000:
            raise ValueError("a text is longer than 2000 characters")
        elif is_captured or not isinstance(value, int | float):
            return
        elif not abs(value) <= MAX_CONFIG_NUMBER:  # nor what is not a number
            raise ValueError(f"a number is not within ±{MAX_CONFIG_NUMBER:g}")

    walk(config, 0)
    for key, most in (("num_hidden_layers", 2000), ("n_layer", 2000), ("n_layers", 2000), ("num_layers", 2000)):
        for part in (config, config.get("text_config")):
            found = part.get(key) if isinstance(part, Mapping) else None
            if isinstance(found, int | float) and found > most:
                raise ValueError(f"{key} is at most {most} here")
    return config


def _model(value: object) -> object:
    if isinstance(value, Mapping):
        return check_config(value)
    if isinstance(value, str) and (value.endswith(".json") or ".." in value):
        raise ValueError("a built-in name or a pasted config; files are not read here")
    return value


class Ask(BaseModel):
    """A request body: unknown fields are errors. schema_: what it asks; own: fields that only the server has."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)
    schema_: ClassVar[Schema[object] | None] = None
    own: ClassVar[tuple[str, ...]] = ()

    @property
    def schema_of(self) -> Schema[object]:
        """The schema of the verb."""
        assert self.schema_ is not None
        return self.schema_

    def values(self) -> dict[str, object]:
        """What was given, as the reader takes it."""
        return self.model_dump(exclude_none=True, exclude=set(self.own))

    def given(self, name: str) -> object:
        """One value; None where it was not given, or the verb has no such field."""
        return getattr(self, name, None)

    @property
    def systems(self) -> tuple[str, ...]:
        """The systems that are asked about: those that are there, then those of `on`."""
        given = [self.given(name) for name in ("have", "on")]
        return tuple(str(name) for names in given if isinstance(names, tuple) for name in names)

    @property
    def nearby(self) -> Mapping[str, Mapping[str, str | int]]:
        """System -> choices of a plan to search near; empty where all plans are searched."""
        near = self.given("near")
        return near if isinstance(near, dict) else {}

    def command(self) -> str:
        """The command line that gives the same result. A pasted config stands in the file config.json."""
        return self.schema_of.command(self.values())


Config = Annotated[dict[str, object], Field(description="A Hugging Face config.json, or what mowich.capture wrote.")]
ModelGiven = Annotated[ModelName | Config, BeforeValidator(_model)]

Fields = dict[str, Any]
"""Fields of a body as pydantic takes them, by name: their type, and their default or all that is said of them."""

MOST_OF: Mapping[str, tuple[TypeForm, int]] = {
    "set": (Setting, 32),
    "fail": (Fault, 16),
    "beside": (Fault, 8),
    "on": (SystemName, MAX_SYSTEMS),
    "have": (SystemName, MAX_SYSTEMS),
    "against": (SystemName, 4),
    "models": (ModelName, 3),
}
"""Lists: what they hold, and how many."""


_TEXTS: Mapping[str, TypeForm] = {"yaml": Yaml, "word": _SearchWords, "low": _Measure, "high": _Measure}
"""Fields that hold what their kind does not tell: `low` and `high` have the unit of the property that is valued, which
is said with them."""


def _list(field: Asked[object]) -> tuple[TypeForm, int]:
    """What a list holds, and how many."""
    return MOST_OF.get(field.name) or (Amount if field.unit else Word, 32)


def _json_type(field: Asked[object]) -> TypeForm:
    """The type of a field in JSON."""
    if field.name in _TEXTS:
        return _TEXTS[field.name]
    if field.kind in ("texts", "names"):
        return GenericAlias(tuple, (_list(field)[0], ...))
    if field.completes == "model":
        return ModelGiven
    if field.kind == "mapping":
        return Pairs
    if field.kind == "quantity" and field.unit:
        return _Quantity
    if field.kind == "word":
        return SystemName if field.completes == "systems" else Word
    return bool if field.kind == "flag" else Amount


def _model_field(field: Asked[object], default: object = None) -> tuple[TypeForm, object]:
    """A field of a body: type, default, description, example."""
    kind = _json_type(field)
    return kind if field.needs else kind | None, Field(
        default=... if field.needs else default,
        description=field.help or None,
        max_length=_list(field)[1] if field.kind in ("texts", "names") else None,
        examples=[field.example] if field.example else None,
        json_schema_extra={"enum": list(field.vocabulary)} if field.words else None,
    )


def _group(name: str, schema: Schema[object], title: str) -> type[Ask]:
    """A job as a mapping in a body."""
    fields: Fields = {f.name: _model_field(f) for f in schema.at(Edge.KEY) if f.group == name}
    made = create_model(title, __base__=Ask, __module__=__name__, **fields)
    made.__qualname__ = f"{title}Body"  # its name here, by which a worker finds it again
    return made


def body(
    schema: Schema[object],
    title: str,
    about: str,
    *,
    leave: tuple[str, ...] = (),
    defaults: Mapping[str, object] | None = None,
    **own: tuple[TypeForm, object],
) -> type[Ask]:
    """The body of a verb, from its schema. leave: fields that this address does not take; defaults: those that the
    server has of its own; own: fields that only the server has."""
    fields: Fields = {}
    for field in schema.at(Edge.KEY):
        if field.group or field.name in leave:
            continue
        if field.name in schema.groups:
            job = ServePlanBody if (schema, field.name) == (jobs.PLAN, "serve") else _GROUPS[field.name]
            fields[field.name] = (job | None, Field(default=None))
        else:
            fields[field.name] = _model_field(field, (defaults or {}).get(field.name))
    fields.update(own)
    made = create_model(title, __base__=Ask, __module__=__name__, __doc__=about, **fields)
    made.schema_, made.own = schema, tuple(own)
    made.__qualname__ = f"{title}Body"  # its name here, by which a worker finds it again
    return made


TrainBody = _group("train", jobs.COMPARE, "Train")
ServeBody = _group("serve", jobs.COMPARE, "Serve")
ServePlanBody = _group("serve", jobs.PLAN, "ServePlan")
ForwardBody = _group("forward", jobs.COMPARE, "Forward")
_GROUPS = {
    "train": TrainBody,
    "forward": ForwardBody,
    "serve": ServeBody,
}
"""Job -> its mapping in a body."""
NearChoices = dict[SystemName, dict[Literal["tp", "pp", "ep", "cp", "micro_batch", "precision"], Word | int]]

CompareBody = body(
    jobs.COMPARE,
    "Compare",
    "One job on several systems.",
    near=(
        NearChoices | None,
        Field(
            default=None,
            max_length=MAX_SYSTEMS,
            description="Search only near these plans, for an answer while a slider moves; it says complete: false.",
        ),
    ),
)
ServePlansBody = body(
    jobs.COMPARE,
    "ServePlans",
    "The same serving job on several systems.",
    leave=("train", "forward", "equal", "stack", "recipe"),
)
PlanBody = body(jobs.PLAN, "Plan", "The best plans of one system.")
FitBody = body(jobs.FIT, "Fit", "Does it fit: training with its optimizer, or serving with its caches.")
FleetBody = body(scenarios.FLEET, "Fleet", "A fleet scenario as YAML (mowich help fleet).")
BriefBody = body(brief.BRIEF, "Brief", "Trainium 3 on one page: jobs by rival, then questions, each with a verdict.")
RlBody = body(
    rl.RL,
    "Rl",
    "A run of reinforcement learning, by its fields or as a scenario (mowich help rl).",
    verb=(Literal["rl"], Field(default="rl", description="Tells this question from one of a fleet.")),
)


def _room_body(name: str) -> type[Ask]:
    schema = schema_of_room(name)
    told = Field(default=name, description="Tells this question from others.")
    about, defaults = schema.web.about or schema.short, schema.web.defaults
    return body(schema, name.title().replace("_", ""), about, defaults=defaults, verb=(Literal[name], told))


ROOM_BODIES: Mapping[str, type[Ask]] = {name: _room_body(name) for name in room_names()}
"""Verb -> the body of a room (`requests/rooms`)."""
globals().update({made.__qualname__: made for made in ROOM_BODIES.values()})  # by which a worker finds it again


class ModelAsk(Ask):
    """A model to describe."""

    model: ModelGiven = Field(examples=["deepseek-v3"])


class Scenario(Ask):
    """A scenario of a comparison as YAML."""

    yaml: Yaml


Explainable: TypeForm = CompareBody | PlanBody | FleetBody | BriefBody | RlBody
for _room in ROOM_BODIES.values():
    Explainable = Explainable | _room
ExplainBody = create_model(
    "Explain",
    __base__=Ask,
    __module__=__name__,
    __doc__="Why a number of an answer is what it is.",
    ask=(Explainable, Field(description="The request whose result is explained.")),
    metric=(MetricPath, Field(description="SYSTEM.METRIC or SYSTEM.METRIC.PART.", examples=["trn3.step_s.ep"])),
)
ExplainBody.__qualname__ = "ExplainBody"


WORK: Mapping[str, tuple[Limit, ...]] = {
    "plan": (Limit("top", "top", 1, 50),),
    "fleet": (Limit("gap", "gap", 0.0005, 1.0), Limit("draws", "draws", 0, 50)),
    "rl": (Limit("batch", "step_samples", 1, 65_536), Limit("chips", "chips", 2, 16_384)),
}
"""Limits by verb: larger questions are for the command line."""
JOB = (Limit("seq", "seq", 1, 1e7), Limit("tokens", "tokens", 1, 1e18), Limit("batch", "batch_seqs", 0, 1e8))
"""Limits of a training job."""


def check_work(schema: Schema[object], request: object) -> None:
    """Refuse what is more work than a server does. Raises UserErrors."""
    problems = ProblemList()
    train = getattr(request, "train", None)
    own = schema.web.limits or WORK.get(schema.name, ())
    for of, limits in ((request, own), (train, JOB if train is not None else ())):
        for limit in limits:
            value = getattr(of, limit.attribute)
            for number in value if isinstance(value, tuple) else () if value is None else (value,):
                if not limit.low <= number <= limit.high:
                    problems.add(
                        f"must be at most {limit.high:g} here"
                        if number > limit.high
                        else f"must be at least {limit.low:g} here",
                        where=schema.place(limit.field, Edge.KEY),
                        given=f"{number:g}",
                    )
    problems.stop()


KernelTarget = Literal["trn3", "trn2", "trn1"]
"""Chips that a kernel is timed on, the newest first."""


class KernelProfile(Ask):
    """An NKI kernel to time. Runs code: only where the server was started with --kernels."""

    source: str = Field(min_length=1, max_length=MAX_TEXT, description="The Python file.")
    kernel: Annotated[str, StringConstraints(max_length=100, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    arguments: tuple[
        Annotated[str, StringConstraints(max_length=200, pattern=r"^[A-Za-z_][A-Za-z0-9_]*=[^\x00-\x1f]+$")], ...
    ] = Field(default=(), max_length=32)
    target: KernelTarget | None = Field(
        default=None, description=f"Where left out: the kernel's own, or {DEFAULT_TARGET}."
    )
    lnc: Literal[1, 2] | None = None
    nki: Annotated[str, StringConstraints(max_length=10, pattern=r"^[0-9.]+$")] | None = Field(
        default=None, description="Version of NKI; where left out: 0.7 where the kernel uses a name that came with it."
    )


def canonical(ask: BaseModel | Mapping[str, object]) -> str:
    """The same text for the same request."""
    data = ask.model_dump(mode="json") if isinstance(ask, BaseModel) else ask
    return json.dumps(data, sort_keys=True, separators=(",", ":"))
