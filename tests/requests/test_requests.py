"""The Python functions refuse what the command line refuses, with the same words: both call the same readers."""

from __future__ import annotations

import dataclasses
import inspect
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mowich
from mowich.cli import run
from mowich.errors import EXIT_BAD_INPUT, UserError
from mowich.requests import jobs, kernels, known, launches, machines, results, rl, scenarios
from mowich.requests.fields import Edge
from mowich.requests.rooms import claims, collective, gap, goodput, power, prices, value
from mowich.requests.schema import Schema

TRAIN = {"tokens": "1T", "seq": 4096, "batch": "512seqs"}
SERVE = {"isl": "2k", "osl": "500"}
TRAINED = ["--train", "--tokens", "1T", "--seq", "4096", "--batch", "512seqs"]
SERVED = ["--serve", "--isl", "2k", "--osl", "500"]


def plan(**more: Any) -> Callable[[], object]:
    """A plan of training; `train` and `serve` replace fields of the job."""
    job = (
        {"serve": {**SERVE, **more.pop("serve")}} if "serve" in more else {"train": {**TRAIN, **more.pop("train", {})}}
    )
    return lambda: mowich.plan("llama-3.1-8b", "h100:8", **job, **more)


def compare(systems: Any, **more: Any) -> Callable[[], object]:
    return lambda: mowich.compare("llama-3.1-8b", systems, train=TRAIN, **more)


def trained(*more: str, on: str = "h100:8", verb: str = "plan") -> list[str]:
    options = dict(zip(TRAINED[1::2], TRAINED[2::2], strict=True))
    options |= dict(zip(more[::2], more[1::2], strict=True))
    return [verb, "llama-3.1-8b", "--train", "--on", on, *(w for pair in options.items() for w in pair)]


def served(*more: str) -> list[str]:
    return ["plan", "llama-3.1-8b", "--on", "h100:8", *SERVED, *more]


BOTH: dict[str, tuple[Callable[[], object], list[str], tuple[str, str]]] = {
    "tokens below a step": (plan(train={"tokens": "1k"}), trained("--tokens", "1k"), ("train.tokens", "--tokens")),
    "fill": (plan(train={"fill": 1e-300}), trained("--fill", "1e-300"), ("train.fill", "--fill")),
    "fill above 1": (plan(train={"fill": 1.5}), trained("--fill", "1.5"), ("train.fill", "--fill")),
    "document": (plan(train={"document": "5000"}), trained("--document", "5000"), ("train.document", "--document")),
    "seq": (plan(train={"seq": "2e9"}), trained("--seq", "2e9"), ("train.seq", "--seq")),
    "task": (plan(train={"task": "fine"}), trained("--task", "fine"), ("train.task", "--task")),
    "no system": (compare([]), trained(on=",", verb="compare"), ("systems", "--on")),
    "twice": (compare(["h100:8", "h100:8"]), trained(on="h100:8,h100:8", verb="compare"), ("systems", "--on")),
    "twice by another name": (
        compare(["trn3:64", "trn3-gen2:64"]),
        trained(on="trn3:64,trn3-gen2:64", verb="compare"),
        ("systems", "--on"),
    ),
    "top 0": (plan(top=0), trained("--top", "0"), ("top", "--top")),
    "top -1": (plan(top=-1), trained("--top", "-1"), ("top", "--top")),
    "top of serving": (plan(serve={}, top=0), served("--top", "0"), ("top", "--top")),
    "top 1001": (plan(top=1001), trained("--top", "1001"), ("top", "--top")),
    "chips 1.5": (plan(chips="1.5"), trained("--chips", "1.5"), ("chips", "--chips")),
    "chips 0": (plan(chips="0"), trained("--chips", "0"), ("chips", "--chips")),
    "ttft": (plan(serve={"ttft": "0s"}), served("--ttft", "0s"), ("serve.ttft", "--ttft")),
    "ttft without a unit": (plan(serve={"ttft": "2"}), served("--ttft", "2"), ("serve.ttft", "--ttft")),
    "cached": (plan(serve={"cached": "150%"}), served("--cached", "150%"), ("serve.cached", "--cached")),
    "accept": (plan(serve={"accept": 0.5}), served("--accept", "0.5"), ("serve.accept", "--accept")),
    "isl": (plan(serve={"isl": "1G"}), served("--isl", "1G"), ("serve.isl", "--isl")),
    "engine": (plan(serve={"engine": "vlm"}), served("--engine", "vlm"), ("serve.engine", "--engine")),
    "kv": (
        lambda: mowich.fit("llama-3.1-8b", "h100:1", kv="1G"),
        ["fit", "llama-3.1-8b", "--serve", "--on", "h100:1", "--kv", "1G"],
        ("kv", "--kv"),
    ),
    "engine of fit": (
        lambda: mowich.fit("llama-3.1-8b", "h100:1", kv="8k", engine="vlm"),
        ["fit", "llama-3.1-8b", "--serve", "--on", "h100:1", "--kv", "8k", "--engine", "vlm"],
        ("engine", "--engine"),
    ),
    "size": (
        lambda: mowich.collective("all-reduce", "trn3-gen2", sizes=["-1B"]),
        ["collective", "all-reduce", "--on", "trn3-gen2", "--bytes=-1B"],
        ("sizes", "--bytes"),
    ),
    "group": (
        lambda: mowich.collective("all-reduce", "trn3-gen2", sizes=["1MiB"], group="0"),  # type: ignore[arg-type]
        ["collective", "all-reduce", "--on", "trn3-gen2", "--bytes", "1MiB", "--group", "0"],
        ("group", "--group"),
    ),
    "replica": (
        lambda: mowich.goodput("h100:1024", samples=20, replica="0"),  # type: ignore[arg-type]
        ["goodput", "--on", "h100:1024", "--samples", "20", "--replica", "0"],
        ("replica", "--replica"),
    ),
    "seed": (
        lambda: mowich.goodput("h100:1024", samples=20, seed=-1),
        ["goodput", "--on", "h100:1024", "--samples", "20", "--seed", "-1"],
        ("seed", "--seed"),
    ),
    "spares": (
        lambda: mowich.power(["h100"], spares=-0.5),
        ["power", "--on", "h100", "--spares", "-0.5"],
        ("spares", "--spares"),
    ),
    "spares above 1": (
        lambda: mowich.power(["h100"], spares=1.5),
        ["power", "--on", "h100", "--spares", "1.5"],
        ("spares", "--spares"),
    ),
}


@pytest.mark.parametrize("name", BOTH)
def test_python_and_the_command_line_refuse_alike(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    call, args, (place, flag) = BOTH[name]
    assert run(args) == EXIT_BAD_INPUT
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert told[0].startswith(f"error: {flag}: ")
    with pytest.raises(UserError) as error:
        call()
    said, wanted = error.value.line(), told[0].removeprefix("error: ")
    assert said.replace("train.batch", "--batch").removeprefix(f"{place}: ").replace("'", "") == wanted.removeprefix(
        f"{flag}: "
    ).replace("'", "")


@pytest.mark.parametrize(
    "call",
    [
        plan(chips=True),
        plan(chips=1.5),
        plan(chips=[1]),
        plan(top=True),
        plan(top=1.5),
        plan(top="x"),
        compare("h100"),
        compare([], chips=8),
        plan(train={"fill": True}),
        plan(train={"fill": float("nan")}),
        plan(train={"tokens": True}),
        plan(train={"seq": [1]}),
        plan(serve={"ttft": True}),
        plan(serve={"ttft": [1]}),
        plan(serve={"ttft": float("nan")}),
        plan(serve={"tpot": float("inf")}),
        plan(serve={"cached": True}),
        plan(serve={"cached": [1]}),
        plan(serve={"accept": True}),
        plan(serve={"accept": "abc"}),
        plan(serve={"isl": None}),
        plan(serve={"engine": 3}),
        lambda: mowich.collective("all-reduce", "trn3-gen2", sizes=[-1]),
        lambda: mowich.collective("all-reduce", "trn3-gen2", sizes=[0]),
        lambda: mowich.collective("all-reduce", "trn3-gen2", sizes=[1.5]),  # type: ignore[list-item]
        lambda: mowich.collective("all-reduce", "trn3-gen2", sizes=[True]),
        lambda: mowich.collective("all-reduce", "trn3-gen2", sizes=[1024], group=0),
        lambda: mowich.collective("all-reduce", "trn3-gen2", sizes=[1024], group=1.5),  # type: ignore[arg-type]
        lambda: mowich.goodput("h100:1024", samples=20, replica=0),
        lambda: mowich.goodput("h100:1024", samples=20, replica=-1),
        lambda: mowich.power(["h100"], spares=float("nan")),
        lambda: mowich.system("h100", chips=True),
    ],
)
def test_python_values_of_another_kind_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(UserError) as error:
        call()
    assert len(error.value.line().splitlines()) == 1


def test_text_is_a_number_of_chips_as_on_the_command_line() -> None:
    as_text = mowich.plan("llama-3.1-8b", "h100", train=TRAIN, chips="8", top=1)  # type: ignore[call-overload]
    assert (
        as_text.rows[0].step_s.value == mowich.plan("llama-3.1-8b", "h100:8", train=TRAIN, top=1).rows[0].step_s.value
    )


SIGNATURES: dict[str, Schema[Any]] = {
    "claims": claims.SCHEMA,
    "collective": collective.SCHEMA,
    "compare": jobs.COMPARE,
    "explain": results.EXPLAIN,
    "fit": jobs.FIT,
    "fleet": scenarios.FLEET,
    "gap": gap.SCHEMA,
    "goodput": goodput.SCHEMA,
    "plan": jobs.PLAN,
    "power": power.SCHEMA,
    "prices": prices.SCHEMA,
    "rl": rl.RL,
    "run_kernel": launches.LAUNCH,
    "sweep": scenarios.SWEEP,
    "system": machines.SYSTEM,
    "traffic": scenarios.TRAFFIC,
    "validate": results.VALIDATE,
    "value": value.SCHEMA,
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_python_function_has_the_keywords_of_its_schema(name: str) -> None:
    parameters = dict(inspect.signature(getattr(mowich, name)).parameters)
    del parameters["facts"]
    parameters = {k: p for k, p in parameters.items() if k not in ("arrays", "kwargs")}  # the kernel's own
    fields = {f.spelled(Edge.KEYWORD): f for f in SIGNATURES[name].at(Edge.KEYWORD) if not f.group}
    assert set(parameters) == set(fields)
    for keyword, parameter in parameters.items():
        field, default = fields[keyword], parameter.default
        if field.needs:
            assert default is inspect.Parameter.empty, keyword
        elif default is not inspect.Parameter.empty and default is not None:
            assert default == field.default, keyword
        elif default is None:
            assert field.default in (None, (), False), keyword


def schemas() -> list[Schema[Any]]:
    families = (jobs, machines, scenarios, results, rl, known, kernels)
    return [s for family in families for s in vars(family).values() if isinstance(s, Schema)]


@pytest.mark.parametrize("schema", schemas(), ids=lambda s: s.name or "settings of a result")
def test_a_field_has_one_name_at_each_edge(schema: Schema[Any]) -> None:
    for edge in Edge:
        names = [f.spelled(edge) for f in schema.at(edge)]
        assert len(set(names)) == len(names)
        own = [("" if edge is Edge.OPTION else f.group, f.name) for f in schema.at(edge)]  # jobs share words
        assert len(set(own)) == len(own)
    for field in schema.fields:
        assert field.help or field.is_argument, field.name
        if field.example and field.kind in ("count", "number", "quantity", "share", "word") and field.name != "kv":
            field.parse(field.example)
        if field.default is not None and field.shown:
            assert field.parse(field.shown) == field.default, field.name


def test_every_problem_of_every_edge_names_the_field() -> None:
    with pytest.raises(UserError) as error:
        mowich.compare(
            "lama",
            ["h100", "h100"],
            train={"tokens": "0", "seq": "x", "batch": "y", "colour": 1},
            chips=0,
            fixed={"tp": "0"},
        )
    lines = error.value.line().splitlines()
    assert sorted(line.split(":")[0] for line in lines) == sorted(
        [
            "unknown key of train 'colour'; allowed",
            "model",
            "systems",
            "train.tokens",
            "train.seq",
            "train.batch",
            "chips",
            "fixed.tp",
        ]
    )
    assert not any("--" in line for line in lines)


@pytest.mark.parametrize(
    ("call", "place"),
    [
        (lambda: mowich.collective("all-reduce", "trn3-gen2", sizes=["1MiB"], fail=["link:99999"]), "fail"),
        (lambda: mowich.collective("all-reduce", "trn3-gen2", sizes=["1MiB"], network="wifi"), "network"),
        (lambda: mowich.collective("all-reduce", "trn3-gen2", sizes=["1MiB"], group=1), "group"),
        (lambda: mowich.goodput("h100:1024", strategies=["none"]), "strategies"),
        (lambda: mowich.goodput("h100:1024", samples=10**12), "samples"),
        (lambda: mowich.goodput("h100:1024", step_s=float("inf")), "step_s"),
        (lambda: mowich.power(["h100"], cap_W=-1.0), "cap_W"),
        (lambda: mowich.plan("gpt2", "h100:8", train=TRAIN, term="4y"), "term"),
        (lambda: mowich.plan("gpt2", "h100:8", train=TRAIN, stack="none"), "on"),
        (lambda: mowich.compare("gpt2", ["h100:8"], train=TRAIN, equal="bananas"), "equal"),
        (lambda: mowich.plan("gpt2", "h100:8", train=TRAIN, chips=10**400), "chips"),
        (lambda: mowich.fleet("scenarios/startup.yaml", draws=-1), "draws"),
        (lambda: mowich.fleet("scenarios/startup.yaml", gap=2.0), "gap"),
    ],
)
def test_python_is_told_of_keywords_and_never_of_options(call: Callable[[], object], place: str) -> None:
    with pytest.raises(UserError) as error:
        call()
    assert error.value.line().startswith(f"{place}: ") or place == "on", error.value.line()
    assert "--" not in error.value.line()


SWEEP = "mowich: 1\nmodels: gpt2\non: h100:8\nseq: 1024\nbatch: 8seqs\ntokens: 1B\n"
TRAFFIC = (
    "mowich: 1\nmodel: gpt2\non: h100:1\ntraffic: {rate: 2, requests: 20, prompt: 500, output: 50}\n"
    "slo: {ttft: 2 s}\nspeculation: {accepted: 2}\n"
)


@pytest.mark.parametrize(
    ("verb", "text", "old", "new", "said"),
    [
        ("sweep", SWEEP, "seq: 1024", "seq: 2e9", "s.yaml:4 seq: must be at most 1e+09"),
        ("sweep", SWEEP, "seq: 1024", "seq: [1024, 1.5]", "s.yaml:4 seq: must be a whole number"),
        ("traffic", TRAFFIC, "ttft: 2 s", "ttft: 0 s", "s.yaml:5 slo.ttft: must be above 0"),
        ("traffic", TRAFFIC, "ttft: 2 s", "tpot: -1 s", "s.yaml:5 slo.tpot: must be above 0"),
        ("traffic", TRAFFIC, "accepted: 2", "accepted: 17", "s.yaml:6 speculation.accepted: must lie in 1 to 16"),
    ],
)
def test_scenarios_have_the_bounds_of_the_fields(
    tmp_path: Path, verb: str, text: str, old: str, new: str, said: str
) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(UserError) as error:
        getattr(mowich, verb)(file)
    assert error.value.line().startswith(f"{tmp_path}/{said}"), error.value.line()


def test_an_axis_has_the_bounds_of_its_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(SWEEP, encoding="utf-8")
    assert run(["sweep", str(file), "--vary", "seq=1024,2e9"]) == EXIT_BAD_INPUT
    assert capsys.readouterr().err.startswith("error: --vary seq: must be at most 1e+09")
    with pytest.raises(UserError, match=r"^vary seq: must be at most"):
        mowich.sweep(file, vary={"seq": "1024,2e9"})


def requests() -> list[tuple[Schema[Any], type]]:
    """Each schema with the class of its requests."""
    out = []
    for schema in schemas():
        if schema is rl.RL:  # what is left open is taken, and told
            continue
        made = schema.make.__annotations__["return"]
        out.append((schema, getattr(sys.modules[schema.make.__module__], made, None)))
    return [(schema, made) for schema, made in out if made is not None and dataclasses.is_dataclass(made)]


MADE = {"facts", "vary", "train", "serve", "forward", "strategies", "client_requests", "client_rate"}
"""What a request has of several fields, or reads in its own way."""


@pytest.mark.parametrize(("schema", "made"), requests(), ids=lambda x: getattr(x, "name", ""))
def test_a_request_has_none_only_where_a_field_may_be_left_out(schema: Schema[Any], made: type) -> None:
    fields = {f.keyword or f.name: f for f in schema.fields}
    assert dataclasses.fields(made)
    for attribute in dataclasses.fields(made):
        field = fields.get(attribute.name)
        if field is None or field.kind in ("object", "mapping") or attribute.name in MADE:
            continue
        always = field.needs or field.default is not None
        sent = field.edges == {Edge.KEY} or (field.needs and Edge.KEY not in field.edges and schema.name == "fleet")
        assert ("None" in str(attribute.type)) == (not always or sent), (schema.name, attribute.name)


def test_a_command_says_every_number_exactly() -> None:
    """What `Schema.command` writes is read back to the last bit: quantities with their unit, counts, shares."""
    rng = np.random.default_rng(7)
    asked = [
        (power.SCHEMA, "cap", "--cap", [*(10 ** rng.uniform(3, 11, 300)).tolist(), 1e8, 123e6, 0.1 + 0.2]),
        (goodput.SCHEMA, "step", "--step", [*rng.uniform(1e-3, 100, 300).tolist(), 5.5, 0.03]),
        (goodput.SCHEMA, "spares", "--spares", rng.uniform(0, 0.9, 300).tolist()),
        (jobs.COMPARE, "tokens", "--tokens", [float(n) for n in rng.integers(1, 10**15, 300)] + [15e12, 1.5e13 + 1]),
    ]
    for schema, name, option, values in asked:
        field = next(f for f in schema.fields if f.name == name)
        for one in values:
            words = shlex.split(schema.command({"train": True, name: one}))
            assert field.parse(words[words.index(option) + 1]) == one, words
    assert "--cap '100 MW'" in power.SCHEMA.command({"cap": 1e8})
    assert "--tokens 15T" in jobs.COMPARE.command({"train": True, "tokens": 15e12})


ASKED = [
    "m --train --tokens 15T --seq 4096 --batch 9seqs --on trn3,gb300 --chips=64 --set plan.tp=8 --set 'a.b=$1/chip/h'",
    "m --serve --isl 2k --osl 500 --tpot 20ms --on h200:1 --facts a.yaml --facts b --json -q",
    "--on trn3 m --train --recipe future --csv",
]


@pytest.mark.parametrize("words", ASKED)
def test_a_command_is_read_as_the_parser_reads_it(words: str) -> None:
    import typer

    from mowich.cli.app import app
    from mowich.cli.verbs import load_verbs

    tree: Any = typer.main.get_command(load_verbs(app))
    parsed = tree.commands["compare"].make_context("compare", shlex.split(words), resilient_parsing=True).params
    said = {name: value for name, value in parsed.items() if value not in (None, False, [], ())}
    typed = jobs.COMPARE.typed(shlex.split(words))

    def plain(value: object) -> object:
        return [str(one) for one in value] if isinstance(value, list | tuple) else value

    assert {name: plain(value) for name, value in typed.items()} == {name: plain(value) for name, value in said.items()}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["m", "n"], "one argument too many"),
        (["m", "--onn", "trn3"], "unknown option"),
        (["m", "--on"], "needs a value"),
    ],
)
def test_a_command_that_cannot_be_read_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        jobs.COMPARE.typed(words)


@given(
    st.fixed_dictionaries(
        {"model": st.sampled_from(["m", "a/b.json"]), "on": st.sampled_from(["trn3:64", "trn3,gb300:72"])},
        optional={
            "train": st.just(True),
            "tokens": st.floats(1.0, 1e15),
            "seq": st.integers(1, 10**6),
            "chips": st.integers(1, 10**6),
            "set": st.lists(st.sampled_from(["plan.tp=8", "power.trn3='9 W'", "x.y=$1/chip/h"]), min_size=1).map(tuple),
        },
    )
)
def test_what_a_command_says_is_read_back(values: dict[str, object]) -> None:
    """`Schema.typed` is the other way of `Schema.command`."""
    command = jobs.COMPARE.command(values)
    read = jobs.COMPARE.typed(shlex.split(command)[2:])
    assert jobs.COMPARE.command(read) == command
    assert read.keys() == {name for name in values if values[name] != ()}


def test_plain_keywords_make_a_request_of_the_given_facts() -> None:
    facts = mowich.load_facts().with_values({"sites.default.pue": 1.3})
    asked = power.SCHEMA.of(facts, systems=["trn3"], cap_W="2 MW")
    assert (asked.systems, asked.cap_W, asked.spares, asked.tokens_per_s) == (("trn3",), 2e6, 0.0, None)
    assert asked.facts.number("sites.default.pue") == 1.3
    with pytest.raises(UserError, match="cap_W: must be above 0"):
        power.SCHEMA.of(facts, systems=["trn3"], cap_W=0.0)
    with pytest.raises(UserError, match="unknown field 'cap'"):
        power.SCHEMA.of(facts, systems=["trn3"], cap=1.0)
