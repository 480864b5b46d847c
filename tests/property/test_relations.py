"""What must hold between answers of the verbs, whatever the question: laws of money, tokens and order, and one answer
by every door.

Questions are drawn from seeds: some in each test run, many by `make test-slow`.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import random
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

import mowich
from mowich import cli
from mowich.errors import UserError
from mowich.facts import Facts, load_facts
from mowich.machines.system import resolve
from mowich.plans.preference import PLAN_MARGIN, margin
from server_here import asked_here

MODELS = ("gpt2", "llama-3.2-1b", "llama-3.1-8b", "llama-3.1-70b", "mixtral-8x7b", "qwen3-30b-a3b", "gpt-oss-120b")
PRICED = ("h100", "h200", "b200", "trn2", "trn3", "ironwood", "tpu-v5p", "mi355x")
"""Systems whose price a question can state."""
DRAWS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 60))]
BOTH = [
    pytest.param(seed, task, marks=() if (seed, task) == (0, "train") else pytest.mark.slow)
    for seed in range(60)
    for task in ("train", "serve")
]
"""Draws of both tasks."""
SAME = 1e-9
"""Rounding of floats, relative."""
MONEY = ("usd_per_mtok",)
OF_OTHERS = "breakeven"
"""What begins so compares a row with those beside it."""


def training(rng: random.Random) -> dict[str, Any]:
    """A small question of training: the recipe and the degrees that make a search long are given."""
    return {
        "model": rng.choice(MODELS),
        "on": rng.sample(PRICED, rng.randint(2, 3)),
        "chips": 2 ** rng.randint(3, 10),
        "train": {
            "tokens": rng.choice(("20B", "1T", "15T")),
            "seq": 2 ** rng.randint(9, 13),
            "batch": f"{2 ** rng.randint(5, 11)}seqs",
        },
        "price": "tco",
        "set": ["plan.precision=bf16", "plan.cp=1", f"plan.micro_batch={rng.choice((1, 2))}"],
    }


def serving(rng: random.Random) -> dict[str, Any]:
    """A small question of serving."""
    return {
        "model": rng.choice(MODELS),
        "on": rng.sample(PRICED, 2),
        "chips": 2 ** rng.randint(0, 4),
        "serve": {
            "isl": rng.choice((200, 1000, 8000)),
            "osl": rng.choice((128, 500, 2000)),
            "ttft": rng.choice(("1s", "10s")),
            "tpot": rng.choice(("20ms", "100ms")),
        },
        "price": "tco",
        "set": ["plan.mode=aggregated"],
    }


QUESTIONS: Mapping[str, Callable[[random.Random], dict[str, Any]]] = {"train": training, "serve": serving}


def answered(asked: Mapping[str, Any], *, facts: Facts | None = None, **more: Any) -> dict[str, dict[str, Any]]:
    """System -> its row of `compare`, as JSON has it."""
    words = {**asked, **more}
    fixed = dict(word.removeprefix("plan.").split("=") for word in words.pop("set"))
    found = mowich.compare(words.pop("model"), words.pop("on"), **words, fixed=fixed, facts=facts)
    return {row["system"]: row for row in json.loads(json.dumps(found.to_dict()))["rows"]}


def scaled(value: Any, times: float) -> Any:
    """An estimate, or a number, times a factor; what is unknown stays unknown."""
    if isinstance(value, dict):
        parts = {name: scaled(value[name], times) for name in ("low", "value", "high") if name in value}
        return {**value, **parts, "breakdown": {k: scaled(v, times) for k, v in value.get("breakdown", {}).items()}}
    return value * times if isinstance(value, int | float) and not isinstance(value, bool) else value


def differ(first: Mapping[str, Any], second: Mapping[str, Any]) -> set[str]:
    """Keys whose values are not alike, rounding of floats aside."""
    return {key for key in first.keys() | second.keys() if not alike(first.get(key), second.get(key))}


def alike(first: Any, second: Any) -> bool:
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(alike(first[key], second[key]) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(alike, first, second))
    if isinstance(first, float) or isinstance(second, float):
        return first == pytest.approx(second, rel=SAME, abs=0.0)
    return bool(first == second)


@pytest.mark.parametrize("seed", DRAWS)
def test_twice_the_tokens_are_twice_the_days_and_nothing_else(seed: int) -> None:
    """A price by the token, a step and its plan do not know how long the run is."""
    asked = training(random.Random(f"tokens {seed}"))
    once = answered(asked)
    number = asked["train"]["tokens"]
    twice = answered(asked, train={**asked["train"], "tokens": f"{2 * int(number[:-1])}{number[-1]}"})
    assert once.keys() == twice.keys()
    for name, row in once.items():
        wanted = {**row, "days": scaled(row["days"], 2.0)}
        assert not differ(wanted, twice[name]), (asked, name, differ(wanted, twice[name]))


@pytest.mark.parametrize(("seed", "task"), BOTH)
def test_a_price_moves_the_cost_of_its_system_in_proportion_and_nothing_else(
    seed: int, task: str, facts: Facts
) -> None:
    """Of serving too: the plan of most tokens a dollar is that of most tokens."""
    rng = random.Random(f"price {seed} {task}")
    asked = QUESTIONS[task](rng)
    asked["price"] = None  # that of the user
    times, own = rng.choice((0.5, 3.0, 10.0)), resolve(facts, asked["on"][0]).id
    one = answered(asked, facts=facts.with_values({f"prices.user.{own}": 2.0 / 3600.0}))
    other = answered(asked, facts=facts.with_values({f"prices.user.{own}": 2.0 * times / 3600.0}))
    for name, row in one.items():
        wanted = dict(row)
        if row["system_id"] == own:
            wanted |= {key: scaled(row[key], times) for key in MONEY if row.get(key)}
        found = {key for key in differ(wanted, other[name]) if not key.startswith(OF_OTHERS) and key != "price"}
        assert not found, (asked, name, times, {key: (row.get(key), other[name].get(key)) for key in found})


@pytest.mark.parametrize(("seed", "task"), BOTH)
def test_the_order_of_systems_does_not_matter(seed: int, task: str) -> None:
    asked = QUESTIONS[task](random.Random(f"order {seed} {task}"))
    one, other = answered(asked), answered(asked, on=asked["on"][::-1])
    assert list(one) == list(other)[::-1]
    for name, row in one.items():
        assert row == other[name], (asked, name, differ(row, other[name]))


def printed(words: Sequence[str]) -> Any:
    """The JSON that a command prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        cli.run([*words, "--json"])
    return json.loads(out.getvalue())


@pytest.mark.parametrize(("seed", "task"), BOTH)
def test_compare_plan_python_and_http_give_one_answer(seed: int, task: str) -> None:
    asked = QUESTIONS[task](random.Random(f"doors {seed} {task}"))
    rows = answered(asked)
    over_http = asked_here("compare", json.dumps(asked).encode())
    assert {row["system"]: row for row in over_http["rows"]} == rows  # type: ignore[index]
    job = [word for key, value in asked[task].items() for word in (f"--{key}", str(value))]
    words = [f"--{task}", *job, *(word for one in asked["set"] for word in ("--set", one))]
    words += ["--price", asked["price"]]
    command = ["compare", asked["model"], *words, "--on", ",".join(asked["on"]), "--chips", str(asked["chips"])]
    assert printed(command) == over_http, shlex.join(command)
    for name, row in rows.items():
        alone = ["plan", asked["model"], *words, "--on", f"{name.partition(':')[0]}:{asked['chips']}", "--top", "1"]
        if not row["feasible"]:
            continue
        (first,) = printed(alone)["plans"]  # the simplest within the margin; `compare` takes the fastest
        at_most = 1.0 + margin(load_facts())
        assert first["step_s" if task == "train" else "tpot_s"]["value"] is not None
        if task == "train":
            each = [r["step_s"]["value"] / r["global_batch_seqs"] for r in (row, first)]
            assert each[0] * (1 - SAME) <= each[1] <= each[0] * at_most * (1 + SAME), shlex.join(alone)
        (best,) = printed([*alone, "--set", f"{PLAN_MARGIN}=1e-12"])["plans"]
        found = {key for key in differ(row, best) if not key.startswith(OF_OTHERS) and key != "system"}
        assert not found, (shlex.join(alone), found)


FABRICS = ("h100:64", "gb300:144", "trn2:64", "trn3:288", "trn3-gen1:128", "ironwood:256", "tpu-v5e:64", "mi355x:32")
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "permute")


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 200))])
def test_collectives_more_bytes_take_no_less_and_faster_links_no_more(seed: int, facts: Facts) -> None:
    rng = random.Random(f"collective {seed}")
    on, kind = rng.choice(FABRICS), rng.choice(KINDS)
    _, chips = on.split(":")
    group = rng.randint(2, int(chips))
    sizes = sorted(rng.sample([2**k + rng.randint(0, 3) for k in range(34)], 6))

    def times(changed: Facts, order: Sequence[int] = sizes) -> dict[float, tuple[float, float, float]]:
        found = mowich.collective(kind, on, sizes=list(order), group=group, facts=changed)
        rows = json.loads(json.dumps(found.to_dict()))["rows"]
        return {row["bytes"]: tuple(row["time_s"][k] for k in ("low", "value", "high")) for row in rows}

    now = times(facts)
    assert times(facts, sizes[::-1]) == now
    for few, many in itertools.pairwise(sizes):
        assert all(a <= b * (1 + SAME) for a, b in zip(now[few], now[many], strict=True)), (kind, on, group, few, many)
    paths = [path for key, path in resolve(facts, on).paths.items() if key.endswith(".bandwidth")]
    path = rng.choice(paths)
    faster = times(facts.with_values({path: facts.number(path) * rng.choice((1.01, 1.5, 8.0))}))
    for size in sizes:
        assert faster[size][1] <= now[size][1] * (1 + SAME), (kind, on, group, size, path)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 40))])
def test_what_prices_and_power_say_of_a_system_does_not_depend_on_the_others(seed: int) -> None:
    rng = random.Random(f"alone {seed}")
    names = rng.sample(PRICED, 3)
    for verb in ("prices", "power"):
        together = rows_alone(verb, names)
        assert rows_alone(verb, names[::-1]) == together
        assert rows_alone(verb, names[:1]) == {name: together[name] for name in rows_alone(verb, names[:1])}


def rows_alone(verb: str, names: Sequence[str]) -> dict[str, Any]:
    """System -> what a verb about machines says of it."""
    return {row["system"]: row for row in printed([verb, "--on", ",".join(names)])["rows"]}


@pytest.mark.parametrize("task", QUESTIONS)
@pytest.mark.parametrize("seed", [pytest.param(seed, marks=pytest.mark.slow) for seed in range(30)])
def test_of_what_does_not_fit_more_of_it_does_not_fit_either(seed: int, task: str) -> None:
    """A larger batch of devices, or a longer prompt, never makes a question answerable that was not."""
    rng = random.Random(f"fits {seed} {task}")
    asked = QUESTIONS[task](rng)
    asked["chips"] = rng.choice((1, 2, 4))
    try:
        one = answered(asked)
        longer = {"seq": 2 * asked["train"]["seq"]} if task == "train" else {"isl": 4 * asked["serve"]["isl"]}
        other = answered(asked, **{task: {**asked[task], **longer}})
    except UserError:
        return  # a sequence that the model does not have
    for name, row in other.items():
        assert one[name]["feasible"] or not row["feasible"], (asked, name)
