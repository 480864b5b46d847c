"""What a request may hold. Every field is bounded, and no field is a path of the file system: models are built-in names
or a pasted config.

Values are words as the command line takes them ("15T", "64M", "2s"), so that one reader judges both; what these types
refuse is answered with 422.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from mowich.neuroncore.targets import DEFAULT_TARGET

MAX_SYSTEMS = 12
MAX_CONFIG_NODES = 5000
MAX_CONFIG_DEPTH = 8
MAX_CONFIG_NUMBER = 1e9
MAX_TEXT = 60_000
"""Characters of a scenario, or of a kernel file."""


def _amount(value: Any) -> Any:
    """A number or its text, as text."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("a number, or text such as 15T")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("not a finite number")
    return f"{value:g}" if isinstance(value, float) and value % 1 == 0 and abs(value) < 1e15 else str(value)


Amount = Annotated[
    str,
    BeforeValidator(_amount, json_schema_input_type=str | float),
    StringConstraints(min_length=1, max_length=32, pattern=r"^[A-Za-z0-9.+ _-]+$"),
]
"""15T, 4096, 16384seqs, 2 s."""
Share = Annotated[
    str,
    BeforeValidator(_amount, json_schema_input_type=str | float),
    StringConstraints(min_length=1, max_length=16, pattern=r"^[0-9.]+ ?%?$"),
]
Word = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:,+-]*$")]
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
FactPath = Annotated[str, StringConstraints(min_length=1, max_length=150, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
MetricPath = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][^\x00-\x1f]*$")]


def check_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A pasted config.json within what is computed here. Raises ValueError."""
    nodes = 0

    def walk(value: Any, depth: int) -> None:
        nonlocal nodes
        nodes += 1
        if nodes > MAX_CONFIG_NODES or depth > MAX_CONFIG_DEPTH:
            raise ValueError(f"a config has at most {MAX_CONFIG_NODES} values, nested {MAX_CONFIG_DEPTH} deep")
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
        elif isinstance(value, int | float) and not abs(value) <= MAX_CONFIG_NUMBER:  # nor what is not a number
            raise ValueError(f"a number is not within ±{MAX_CONFIG_NUMBER:g}")

    walk(config, 0)
    for key, most in (("num_hidden_layers", 2000), ("n_layer", 2000), ("n_layers", 2000), ("num_layers", 2000)):
        for part in (config, config.get("text_config")):
            if isinstance(part, Mapping) and isinstance(part.get(key), int | float) and part[key] > most:
                raise ValueError(f"{key} is at most {most} here")
    return config


def _model(value: Any) -> Any:
    if isinstance(value, Mapping):
        return check_config(value)
    if isinstance(value, str) and (value.endswith(".json") or ".." in value):
        raise ValueError("a built-in name or a pasted config; files are not read here")
    return value


class Ask(BaseModel):
    """A request body: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Train(Ask):
    """A training job, in the words of the command line."""

    tokens: Amount | None = Field(default=None, description="Tokens to train on: 15T.", examples=["15T"])
    seq: Amount = Field(description="Tokens per sequence.", examples=[4096])
    batch: Amount = Field(description="Per step: 16384seqs, or 64M (tokens).", examples=["16384seqs"])
    task: Word | None = Field(default=None, description="pretrain, sft, lora:16, lora:16:attention.")
    document: Amount | None = Field(default=None, description="Mean tokens of packed documents.")
    fill: float = Field(
        default=1.0, ge=0.01, le=1.0, allow_inf_nan=False, description="Share of a sequence that is no padding."
    )


class Serve(Ask):
    """A serving job."""

    isl: Amount = Field(description="Prompt tokens.", examples=["8k"])
    osl: Amount = Field(description="Output tokens.", examples=["1k"])
    ttft: Amount | None = Field(default=None, description="Longest time to the first token: 2s.")
    tpot: Amount | None = Field(default=None, description="Longest time per token: 50ms.")
    cached: Share | None = Field(default=None, description="Share of prompts in the prefix cache: 60%.")
    accept: float | None = Field(
        default=None, ge=1, le=16, allow_inf_nan=False, description="Tokens per speculative step."
    )
    engine: Word | None = Field(default=None, description="vllm, trtllm, sglang, neuron, ...")


Config = Annotated[dict[str, Any], Field(description="A Hugging Face config.json.")]
ModelGiven = Annotated[ModelName | Config, BeforeValidator(_model)]


class _Work(Ask):
    model: ModelGiven = Field(description="A built-in name, or a config.json as an object.", examples=["deepseek-v3"])
    chips: Amount | None = Field(default=None, description="Chips of each system.", examples=[16384])
    set: tuple[Setting, ...] = Field(default=(), max_length=32, description="path=value, as --set takes it.")
    stack: Word | None = Field(default=None, description="Training software.")

    def settings(self) -> list[str]:
        return list(self.set)


class _Either(_Work):
    train: Train | None = None
    serve: Serve | None = None

    @model_validator(mode="after")
    def _one(self) -> _Either:
        if (self.train is None) == (self.serve is None):
            raise ValueError("give either train or serve")
        if self.train is not None and self.train.tokens is None:
            raise ValueError("train needs tokens")
        if self.serve is not None and self.stack is not None:
            raise ValueError("stack is an option of training")
        return self


class Compare(_Either):
    """One job on several systems."""

    on: tuple[SystemName, ...] = Field(min_length=1, max_length=MAX_SYSTEMS, examples=[["trn2", "trn3", "gb300"]])
    equal: Literal["chips", "units", "usd", "power"] | None = Field(default=None, description="Footing of chips.")
    near: dict[SystemName, dict[Literal["tp", "pp", "ep", "cp", "micro_batch", "precision"], Word | int]] | None = (
        Field(
            default=None,
            max_length=MAX_SYSTEMS,
            description="Search only near these plans, for an answer while a slider moves; it says complete: false.",
        )
    )

    @model_validator(mode="after")
    def _footing(self) -> Compare:
        if self.serve is not None and (self.equal not in (None, "chips") or self.near):
            raise ValueError("serving compares on equal chips, and searches all plans")
        return self


class Plan(_Either):
    """The best plans of one system."""

    on: SystemName = Field(examples=["trn3:4608"])
    top: int = Field(default=5, ge=1, le=50)
    neighbours: bool = Field(default=False, description="Training: why the best plan wins.")
    pareto: bool = Field(default=False, description="Training: what nothing beats in time, memory, cost and energy.")


class ServePlans(_Work):
    """The same serving job on several systems."""

    on: tuple[SystemName, ...] = Field(min_length=1, max_length=MAX_SYSTEMS, examples=[["trn3", "gb300"]])
    serve: Serve

    @model_validator(mode="after")
    def _untrained(self) -> ServePlans:
        if self.stack is not None:
            raise ValueError("stack is an option of training")
        return self


class Fit(_Work):
    """Does it fit: training with its optimizer, or serving with its caches."""

    on: SystemName
    train: Train | None = None
    kv: Amount | None = Field(default=None, description="Serving: tokens of one request's cache, 128k.")
    engine: Word | None = None

    @model_validator(mode="after")
    def _one(self) -> Fit:
        if (self.train is None) == (self.kv is None):
            raise ValueError("give either train or kv")
        if self.kv is not None and self.stack is not None:
            raise ValueError("stack is an option of training")
        return self


class ModelAsk(Ask):
    """A model to describe."""

    model: ModelGiven = Field(examples=["deepseek-v3"])


class Scenario(Ask):
    """A scenario of a comparison as YAML."""

    yaml: str = Field(min_length=1, max_length=MAX_TEXT)


class Fleet(Ask):
    """A fleet scenario as YAML (docs/fleet.md)."""

    yaml: str = Field(min_length=1, max_length=MAX_TEXT)
    relaxed: bool = Field(default=False, description="Fractions of units allowed: at once, and a bound.")
    gap: float = Field(default=0.005, ge=0.0005, le=1.0, allow_inf_nan=False)
    draws: int = Field(default=0, ge=0, le=50)


class Explain(Ask):
    """Why a number of a comparison or of plans is what it is."""

    ask: Compare | Plan | Fleet = Field(description="The request whose result is explained.")
    metric: MetricPath = Field(description="SYSTEM.METRIC or SYSTEM.METRIC.PART.", examples=["trn3.step_s.ep"])


class Collective(Ask):
    """Time of a collective against size."""

    kind: Word = Field(examples=["all-reduce"])
    on: SystemName = Field(examples=["trn3-gen2"])
    sizes: tuple[Amount, ...] = Field(default=("1MiB", "1GiB"), min_length=1, max_length=32)
    group: int | None = Field(default=None, ge=1, le=131_072)
    network: Word | None = None
    oversubscription: float = Field(default=1.0, ge=1.0, le=64.0, allow_inf_nan=False)
    fail: tuple[Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9:=.,-]+$")], ...] = Field(
        (), max_length=16
    )
    beside: tuple[Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9:=.,-]+$")], ...] = Field(
        (), max_length=8
    )
    set: tuple[Setting, ...] = Field(default=(), max_length=32)


class Goodput(Ask):
    """Which way of surviving failures keeps how much of a long run."""

    on: SystemName = Field(examples=["trn3:100000"])
    days: float = Field(default=90.0, ge=0.1, le=3650, allow_inf_nan=False)
    step: Amount = Field(default="5 s")
    spares: float = Field(default=0.02, ge=0, le=1, allow_inf_nan=False)
    replica: int | None = Field(default=None, ge=1, le=1_000_000)
    checkpoint: Amount | None = None
    samples: int = Field(default=200, ge=1, le=1000)
    set: tuple[Setting, ...] = Field(default=(), max_length=32)


class KernelProfile(Ask):
    """An NKI kernel to time. Runs code: only where the server was started with --kernels."""

    source: str = Field(min_length=1, max_length=MAX_TEXT, description="The Python file.")
    kernel: Annotated[str, StringConstraints(max_length=100, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    arguments: tuple[
        Annotated[str, StringConstraints(max_length=200, pattern=r"^[A-Za-z_][A-Za-z0-9_]*=[^\x00-\x1f]+$")], ...
    ] = Field(default=(), max_length=32)
    target: Literal["trn1", "trn2", "trn3"] | None = Field(
        default=None, description=f"Where left out: the kernel's own, or {DEFAULT_TARGET}."
    )
    lnc: Literal[1, 2] | None = None


def command(ask: Compare | Plan | ServePlans | Fit) -> str:
    """The command line that gives the same result. A pasted config stands in the file config.json."""
    words = [
        "mowich",
        {Plan: "plan", Fit: "fit"}.get(type(ask), "compare"),
        ask.model if isinstance(ask.model, str) else "config.json",
    ]
    train, serve = getattr(ask, "train", None), getattr(ask, "serve", None)
    options: dict[str, Any] = {}
    if train is not None:
        words.append("--train")
        options |= {k: getattr(train, k) for k in ("tokens", "seq", "batch", "task", "document")}
        options["fill"] = None if train.fill == 1.0 else f"{train.fill:g}"
    else:
        words.append("--serve")
    if serve is not None:
        options |= {k: getattr(serve, k) for k in ("isl", "osl", "ttft", "tpot", "cached", "engine")}
        options["accept"] = None if serve.accept is None else f"{serve.accept:g}"
    if isinstance(ask, Fit):
        options |= {"kv": ask.kv, "engine": ask.engine}
    options["on"] = ask.on if isinstance(ask.on, str) else ",".join(ask.on)
    options |= {"chips": ask.chips, "equal": getattr(ask, "equal", None), "stack": ask.stack}
    for name, value in options.items():
        if value is not None:
            words += [f"--{name}", str(value)]
    if isinstance(ask, Plan):
        words += ["--top", str(ask.top)] if ask.top != 5 else []
        words += [f"--{name}" for name in ("neighbours", "pareto") if getattr(ask, name)]
    for item in ask.set:
        words += ["--set", item]
    return shlex.join(words)


def canonical(ask: BaseModel | Mapping[str, Any]) -> str:
    """The same text for the same request."""
    data = ask.model_dump(mode="json") if isinstance(ask, BaseModel) else ask
    return json.dumps(data, sort_keys=True, separators=(",", ":"))
