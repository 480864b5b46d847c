"""Hostile cases from a seed: good input of every kind with one to three things spoiled."""

from __future__ import annotations

import contextlib
import copy
import csv
import functools
import io
import json
import math
import random
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from hostile_judge import Case

import mowich
from measured_files import GOOD
from mowich import cli
from mowich.version import VERSION
from server_here import asked_here

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "tests" / "fixtures" / "configs").glob("*.json"))
TRAIN = ("--train", "--seq", "1Ki", "--batch", "8seqs")
SMALL = ("--set", "plan.tp=1", "--set", "plan.pp=1")

VALUES: tuple[object, ...] = (
    *(0, -1, 1, 2, 3, 7, -4096, 9999, 10**9, 10**12, 10**30, 0.5, 1.5, -0.0, 1e-300, 1e30, 1e300, True, False, None),
    *("", " ", "abc", "false", "no", "1", "-1", "1e400", "nan", "1_0", "½", "２", "\x00", "a" * 400, "x\ny", "\u202e"),
    *([], [1], [[]], {}, {"a": 1}, math.inf, -math.inf, math.nan),
)
"""Values that no field wants, and some that it may."""
WORDS: tuple[str, ...] = (
    *(
        "",
        " ",
        "0",
        "-1",
        "1",
        "2",
        "3",
        "1.5",
        "1e-300",
        "1e300",
        "1e400",
        "nan",
        "inf",
        "-inf",
        "1_",
        "1__0",
        "½",
        "٣",
    ),
    *("0x10", "1k", "1Ki", "1T", "1e18", "9" * 400, "a" * 5000, "x", "x,y", ",", ",,", "1,2", "=", "a=b", "../..", "/"),
    *(
        "$2",
        "$2/h",
        "$-2/chip/h",
        "$0/chip/h",
        "2 W",
        "-3 GB",
        "1 TB/s",
        "1 FLOP/s",
        "10 d",
        "50%",
        "\x00",
        "\u202e",
        "é",
    ),
    *(
        "null",
        "true",
        "[]",
        "{}",
        "!!int abc",
        "&a b",
        "*a",
        "@softmax",
        "-",
        "--json",
        "h100",
        "h100:2",
        "h100:0",
        "trn3",
    ),
)
"""Words for an option, a cell of a table, a value of a YAML file."""


def spoiled(value: Any, rng: random.Random) -> Any:
    """A copy of JSON data with one thing changed: a value, a key that is missing, misspelt or new."""
    made = copy.deepcopy(value)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    walk(made)
    if not places:
        return rng.choice(VALUES)
    node, key = rng.choice(places)
    kind = rng.random()
    if kind < 0.75 or isinstance(node, list):
        node[key] = copy.deepcopy(rng.choice(VALUES))
    elif kind < 0.85:
        del node[key]
    elif kind < 0.95:
        node[_misspelt(key, rng)] = node.pop(key)
    else:
        node[rng.choice(("", "x", "a" * 300, "\x00"))] = rng.choice(VALUES)
    return made


def _misspelt(word: str, rng: random.Random) -> str:
    at = rng.randrange(len(word) + 1)
    return word[:at] + word[at + 1 :] if rng.random() < 0.5 else word[:at] + rng.choice("_sx0") + word[at:]


def torn(data: str, rng: random.Random) -> str | bytes:
    """A text with bytes cut off, doubled or changed."""
    raw = bytearray(data.encode())
    at = rng.randrange(len(raw) + 1)
    kind = rng.randrange(4)
    if kind == 0:
        return bytes(raw[:at])
    if kind == 1:
        return bytes(raw[:at] + raw[max(0, at - 40) :])
    if kind == 2:
        raw[at:at] = rng.choice((b"\xff", b"\x00", b"\xef\xbb\xbf", b"{", b"]", b"\t", b'"', b"\\u0000", b"#", b"-"))
        return bytes(raw)
    raw[at : at + 1] = bytes([rng.randrange(256)])
    return bytes(raw)


def config(rng: random.Random) -> Case:
    """A config.json."""
    file = rng.choice(CONFIGS)
    data = json.loads(file.read_text(encoding="utf-8"))
    for _ in range(rng.randint(1, 3)):
        data = spoiled(data, rng)
        if not isinstance(data, dict):
            break
    text: str | bytes = json.dumps(data)
    if rng.random() < 0.1:
        text = torn(str(text), rng)
    verb = (
        ("model", "m.json", "--json") if rng.random() < 0.8 else ("fit", "m.json", *TRAIN, "--on", "h100:8", "--json")
    )
    return Case(f"config {file.stem}", verb, {"m.json": text})


def lines_spoiled(text: str, rng: random.Random, most: int = 2) -> str | bytes:
    """A YAML text with values of some lines changed, lines missing, doubled or moved to another depth."""
    lines = text.splitlines()
    for _ in range(rng.randint(1, most)):
        at = rng.randrange(len(lines))
        kind = rng.random()
        parts = list(re.finditer(r'(?<=: )("[^"]*"|[^{}\[\],:#]+)', lines[at]))
        if kind < 0.7 and parts:
            part = rng.choice(parts)
            new = rng.choice(WORDS)
            shown = json.dumps(new) if rng.random() < 0.5 else new
            lines[at] = lines[at][: part.start()] + shown + lines[at][part.end() :]
        elif kind < 0.8:
            del lines[at]
            lines = lines or [""]
        elif kind < 0.9:
            lines.insert(at, lines[at])
        else:
            lines[at] = rng.choice(("  ", "\t", "- ", "")) + lines[at].lstrip()
    made = "\n".join(lines) + "\n"
    return torn(made, rng) if rng.random() < 0.1 else made


@functools.cache
def acme() -> str:
    """The chip of docs/read/how-to.md."""
    page = (ROOT / "docs" / "read" / "how-to.md").read_text(encoding="utf-8")
    return page.split("```yaml acme.yaml\n", 1)[1].split("```", 1)[0]


COMPARED = ("compare", "gpt2", *TRAIN, "--tokens", "1B", "--on", "acme", "--chips", "8", *SMALL)


def overlay(rng: random.Random) -> Case:
    """Facts of a user."""
    text = lines_spoiled(acme(), rng)
    words = ("facts", "check") if rng.random() < 0.05 else (*COMPARED, "--json")
    return Case("overlay", (*words, "--facts", "acme.yaml"), {"acme.yaml": text})


SWEEP = """mowich: 1
models: gpt2
on: [h100, trn3]
chips: 8..16:x2
seq: 1024
batch: 64seqs..128seqs:2
tokens: 1B
plan: {pp: 1, cp: 1, tp: 1, micro_batch: 1, precision: bf16, recompute: selective, zero: 3}
vary:
  prices.h100: [$1/chip/h, $2/chip/h]
"""
TRAFFIC = """mowich: 1
name: chat
model: gpt2
on: h100:2
engine: vllm
plan: {tp: 1}
route: least-loaded
scheduler: {max_num_seqs: 16, max_num_batched_tokens: 1024}
traffic: {rate: 2, requests: 40, arrivals: gamma, cv: 1.5, prompt: 100, output: "lognormal(20, p95 60)"}
slo: {ttft: 2 s, tpot: 50 ms}
"""


TRACES = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.97,48,10\n2023-11-16 18:17:04.03,31,8\n",
    "arrived_at,num_prefill_tokens,num_decode_tokens\n0.5,48,10\n1.25,31,8\n",
    '{"timestamp": 3000, "input_length": 67, "output_length": 5, "hash_ids": [0, 1]}\n'
    '{"timestamp": 3500, "input_length": 67, "output_length": 5, "hash_ids": [0, 2]}\n',
)
PAGE = """mowich: 1
workload: {model: gpt2, train: {tokens: 1B, seq: 1024, batch: 64seqs}}
systems: [trn3, h100]
chips: 8
"""
RL = """mowich: 1
name: a run
model: gpt2
algorithm: dapo
prompts: 8
samples: 4
global_batch: 16
acceptance: 60%
lengths: {mean: 200, cap: 400}
prompt: 64
on: h100:2
framework: verl
environment: {kind: math}
"""
FLEET = """mowich: 1
name: a run and a chat
periods: {start: 2027-Q1, count: 3, length: quarter}
workloads:
  dense:
    train: {model: gpt2, tokens: 1T, seq: 1024, batch: 512seqs}
    on_chips: 8
    until: 2027-Q2
    porting: {neuron: $10k, cuda: $1k}
  chat:
    serve: {model: gpt2, isl: 512, osl: 64, ttft: 2s, tpot: 50ms, tokens_per_s: {first: 40k, growth: 35%}, peak: 2}
    on_chips: 1
systems:
  trn2: {rent: {price: default, for: 2 quarters, supply: 4}}
  h100:
    buy: {price: $300k, life: 5y, delay: 1, site: home, supply: {2027-Q2: 10}}
    rent: {price: {low: $1.5/chip/h, high: $3/chip/h}, for: 1y}
sites:
  home: {power: 1 MW, pue: 1.2, electricity: $0.07/kWh}
budget: {total: $50M, discount: 8%}
rates: r.json
"""
DRAWN_LOAD = re.compile(r"traffic: .*")


def traced(rng: random.Random) -> Case:
    """A load that a file states, request by request."""
    text: str | bytes = rng.choice(TRACES)
    for _ in range(rng.randint(1, 2)):
        if not isinstance(text, str) or rng.random() < 0.15:
            text = torn(text if isinstance(text, str) else TRACES[0], rng)
            break
        part = rng.choice(list(re.finditer(r"[\w.-]+( \d\d:[\d:.]+)?", text)))
        text = text[: part.start()] + rng.choice(WORDS) + text[part.end() :]
    load = DRAWN_LOAD.sub("traffic: {trace: t.csv, requests: 40}", TRAFFIC)
    return Case("trace", ("traffic", "s.yaml", "--json"), {"s.yaml": load, "t.csv": text})


def scenario(rng: random.Random) -> Case:
    """A sweep, a load, a run of reinforcement learning or a fleet. The points of an axis may be many: a longer one is a
    legal question, so counts stay short."""
    verb, text, *more = rng.choice(
        (("sweep", SWEEP, "--jobs", "1"), ("traffic", TRAFFIC), ("rl", RL), ("fleet", FLEET, "--draws", "2"))
    )
    files = {"s.yaml": lines_spoiled(text, rng)} | ({"r.json": rates()} if verb == "fleet" else {})
    return Case(f"scenario {verb}", (verb, "s.yaml", *more, "--json"), files)


@functools.cache
def rates() -> str:
    """The speeds of `FLEET`, as `--rates-out` keeps them."""
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / "s.yaml", Path(folder) / "r.json"
        file.write_text(FLEET.replace("rates: r.json\n", ""), encoding="utf-8")
        printed(("fleet", str(file), "--draws", "2", "--rates-out", str(out)))
        return out.read_text(encoding="utf-8")


@functools.cache
def published() -> Sequence[Mapping[str, str]]:
    with (resources.files(mowich) / "facts" / "published" / "training.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if row["task"] == "pretrain"][::7]


def table(rng: random.Random) -> Case:
    """Measurements for validate."""
    row = dict(rng.choice(published()))
    for _ in range(rng.randint(1, 2)):
        row[rng.choice(sorted(row))] = rng.choice(WORDS)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(row))
    writer.writeheader()
    writer.writerow(row)
    text: str | bytes = out.getvalue()
    if rng.random() < 0.15:
        text = torn(str(text), rng)
    return Case("table", ("validate", "one.csv", "--json"), {"one.csv": text})


QUESTIONS: tuple[tuple[str, ...], ...] = (
    ("compare", "gpt2", *TRAIN, "--tokens", "1B", "--on", "h100:2", *SMALL, "--json"),
    ("plan", "gpt2", *TRAIN, "--tokens", "1B", "--on", "h100:2", "--top", "2", *SMALL, "--json"),
    (
        "plan",
        "gpt2",
        "--serve",
        "--isl",
        "512",
        "--osl",
        "64",
        "--on",
        "h100:1",
        "--ttft",
        "2s",
        "--tpot",
        "50ms",
        "--json",
    ),
    ("fit", "gpt2", *TRAIN, "--on", "h100:2", *SMALL, "--json"),
    ("collective", "all-reduce", "--on", "trn3-gen2", "--bytes", "1MiB", "--json"),
    ("goodput", "--on", "h100:1024", "--samples", "10", "--days", "5", "--json"),
    ("power", "--on", "h100", "--json"),
    *(
        (
            "rl",
            "gpt2",
            f"--{way}",
            "--prompts",
            "8",
            *drawn,
            "--mean",
            "200",
            "--cap",
            "400",
            "--on",
            "h100:2",
            "--json",
        )
        for way, drawn in (("grpo", ("--samples", "4")), ("dapo", ("--samples", "4", "--acceptance", "60%")))
    ),
    ("gap", "trn2", "h100", "--model", "gpt2", *TRAIN, "--tokens", "1B", "--chips", "2", *SMALL, "--json"),
    (
        "value",
        "trn3:2",
        "--of",
        "memory",
        "--model",
        "gpt2",
        *TRAIN,
        "--tokens",
        "1B",
        "--points",
        "2",
        *SMALL,
        "--json",
    ),
    ("prices", "--on", "h100", "--json"),
    ("model", "gpt2", "--json"),
    ("compare", "bert-large", "--task", "encode", "--tokens", "512", "--batch", "8", "--on", "h100:1", "--json"),
)


@functools.cache
def results() -> Sequence[Any]:
    """Results of several verbs, as `--json` prints them."""
    return [json.loads(printed(words)) for words in QUESTIONS]


def printed(words: Sequence[str]) -> str:
    """What a command prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        cli.run(words)
    return out.getvalue()


METRICS = ("step_s", "usd_per_mtok", "tokens_per_s_per_chip", "time_s", "goodput", "memory_B", "no-such")


def saved(rng: random.Random) -> Case:
    """A result that was saved."""
    return _saved(spoiled(results()[0] if rng.random() < 0.3 else rng.choice(results()), rng), rng)


def _saved(data: Any, rng: random.Random) -> Case:
    text: str | bytes = json.dumps(data)
    if rng.random() < 0.2:
        text = torn(str(text), rng)
    explain = ("explain", "r.json", rng.choice(METRICS), "--json")
    words = explain if rng.random() < 0.92 else ("report", "r.json", "--html", "r.html", "-q")
    return Case("result", words, {"r.json": text})


def older(rng: random.Random) -> Case:
    """A result of another version: another number of its schema or of the project, keys that are not there yet or no
    longer, of one row or of all."""
    data = copy.deepcopy(rng.choice(results()))
    verb = str(data["schema"]).partition("@")[0]
    if rng.random() < 0.5:
        data["schema"] = rng.choice((f"{verb}@2", f"{verb}@0", f"{verb}@", verb, "mowich/no-such@1", "other/compare@1"))
    if rng.random() < 0.7:
        data["version"] = rng.choice(("0.0.1", "9.9.9", f"{VERSION}.dev0", "", None, 1, []))
    if rng.random() < 0.3:
        data["facts_hash"] = rng.choice(("0" * 12, "", None))
    rows = data.get("rows")
    places = [data, *([rng.choice(rows)] if isinstance(rows, list) and rows else []), data.get("inputs") or {}]
    for _ in range(rng.randint(0, 3)):
        place = rng.choice(places)
        everywhere = rows if isinstance(rows, list) and place in rows and rng.random() < 0.5 else [place]
        if not place:
            continue
        name = rng.choice(sorted(place))
        for row in everywhere:
            if name in row:
                value = row.pop(name)
                if rng.random() < 0.3:
                    row[f"{name}_new"] = value
    return _saved(data, rng)


def option(rng: random.Random) -> Case:
    """A command line."""
    words = list(rng.choice(QUESTIONS))
    for _ in range(rng.randint(1, 2)):
        at = rng.randrange(1, len(words))
        kind = rng.random()
        if kind < 0.6:
            words[at] = rng.choice(WORDS)
        elif kind < 0.8:
            words[at] = words[at].split("=")[0] + "=" + rng.choice(WORDS)
        elif kind < 0.9:
            del words[at]
        else:
            words.insert(at, words[at])
    return Case("option", [w for w in words if "\x00" not in w])


KERNEL = """import nki, nki.isa as nisa, nki.language as nl
import numpy as np

@nki.jit
def kernel(x, n=2):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    for i in nl.affine_range(n):
        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=2.0)
    nisa.dma_copy(dst=out[0:8, 0:4], src=tile[0:8, 0:4])
    return out
"""
PIECES = (
    *(
        "None",
        "3",
        "-1",
        "2.5",
        "True",
        "'a'",
        "[]",
        "{}",
        "()",
        "(1, 2)",
        "10**9",
        "10**18",
        "float('inf')",
        "x",
        "n",
        "nl",
    ),
    *(
        "x.shape",
        "x.dtype",
        "nl.sbuf",
        "nl.psum",
        "nl.float8_e4m3",
        "nl.int32",
        "object()",
        "lambda: 0",
        "1/0",
        "...",
        "slice(3)",
    ),
)
"""Expressions for any place of a kernel."""


def kernel(rng: random.Random) -> Case:
    """A kernel with expressions changed, and its arguments."""
    text = KERNEL
    places = list(
        re.finditer(r"x\.shape|x\.dtype|nl\.\w+(?=[,)])|(?<==)tile|(?<==)x|\b2\.0|0:8|0:4|\(n\)|(?<=return )out", text)
    )
    for part in sorted(rng.sample(places, rng.randint(1, 2)), key=lambda p: -p.start()):
        piece = rng.choice(PIECES)
        if part[0] == "(n)":  # 10^9 turns are legal, and take as long as they take: `--timeout` is tested elsewhere
            piece = f"({'10**4' if piece.startswith('10**') else piece})"
        text = text[: part.start()] + piece + text[part.end() :]
    argument = (
        "x=float32[8,4]"
        if rng.random() < 0.7
        else "x=" + rng.choice((*WORDS, "float32[1]", "int8[9,9]", "float32[200,4]"))
    )
    verb = rng.choice(("run", "profile"))
    words = ("kernel", verb, "k.py", "-k", "kernel", argument, "--json")
    return Case("kernel", [w for w in words if "\x00" not in w], {"k.py": text})


CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "compare",
        {
            "model": "gpt2",
            "systems": ["h100:2"],
            "train": {"tokens": "1B", "seq": 1024, "batch": "8seqs"},
            "fixed": {"tp": "1", "pp": "1"},
        },
    ),
    (
        "plan",
        {
            "model": "gpt2",
            "on": "h100:2",
            "train": {"tokens": "1B", "seq": 1024, "batch": "8seqs"},
            "top": 1,
            "fixed": {"tp": "1"},
        },
    ),
    (
        "plan",
        {"model": "gpt2", "on": "h100:1", "serve": {"isl": 512, "osl": 64, "ttft": "2s", "tpot": "50ms"}, "top": 1},
    ),
    ("fit", {"model": "gpt2", "on": "h100:2", "train": {"seq": 1024, "batch": "8seqs"}}),
    ("collective", {"kind": "all-reduce", "on": "trn3-gen2", "sizes": [1024]}),
    ("goodput", {"on": "h100:1024", "samples": 10, "days": 5}),
    ("power", {"systems": ["h100"]}),
    ("prices", {"systems": ["h100"], "life_s": "5y"}),
    (
        "rl",
        {
            "model": "gpt2",
            "algorithm": "grpo",
            "prompts": 8,
            "samples": 4,
            "global_batch": 16,
            "mean": 200,
            "cap": 400,
            "on": "h100:2",
            "environment": "math",
        },
    ),
    (
        "value",
        {"on": "trn3:2", "of": "memory", "models": "gpt2", "train": {"tokens": "1B", "seq": 1024, "batch": "8seqs"}},
    ),
)


def called(rng: random.Random) -> Case:
    """A call from Python. A keyword that is not there is Python's own TypeError, so names stay."""
    name, good = rng.choice(CALLS)
    given = copy.deepcopy(good)
    key = rng.choice([k for k in given if k != "model"])
    inner = given[key]
    if isinstance(inner, dict) and rng.random() < 0.7:
        inner[rng.choice(sorted(inner))] = copy.deepcopy(rng.choice(VALUES))
    else:
        given[key] = copy.deepcopy(rng.choice(VALUES))
    return Case(f"mowich.{name}({given!r})"[:600], call=lambda: getattr(mowich, name)(**given))


@functools.cache
def launches() -> Mapping[str, tuple[tuple[str, ...], str]]:
    """Name -> the question that a launch file answers, and the file as another program takes it."""
    out = {}
    for file in sorted((ROOT / "tests" / "launch" / "golden").glob("*.json")):
        kept = json.loads(file.read_text(encoding="utf-8"))
        asked, text = kept["inputs"], file.with_suffix(".txt").read_text(encoding="utf-8")
        row = kept["row"]
        batch = f"{row.get('global_batch_seqs', 512)}seqs"
        on = ("--on", row["system"].partition(":")[0] + f":{row['chips_requested']}")
        job = (
            ("--serve", "--isl", "4k", "--osl", "1k", "--ttft", "5s", "--tpot", "60ms")
            if asked.get("task") == "serve"
            else ("--train", "--tokens", "1T", "--seq", "8192", "--batch", batch)
        )
        out[file.stem] = (("plan", str(asked["model"]), *job, *on, "--plan", "launch", "--json"), text)
    return out


def launched(rng: random.Random) -> Case:
    """A launch command or config of another program, as the plan."""
    words, text = launches()[rng.choice(sorted(launches()))]
    made: str | bytes = text
    for _ in range(rng.randint(1, 3)):
        if not isinstance(made, str) or rng.random() < 0.15:
            made = torn(made if isinstance(made, str) else text, rng)
            break
        numbers = list(re.finditer(r"(?<=[ =:])[\w.\"-]+", made))
        part = rng.choice(numbers)
        made = made[: part.start()] + rng.choice(WORDS) + made[part.end() :]
    return Case("launch", words, {"launch": made})


def measured(rng: random.Random) -> Case:
    """A log of measurements for calibrate, of every format that it reads."""
    name = rng.choice(sorted(GOOD))
    text, setup, _ = GOOD[name]
    made: str | bytes = text
    for _ in range(rng.randint(1, 3)):
        numbers = list(re.finditer(r"-?\d+(\.\d+)?|\b\w+\b", made)) if isinstance(made, str) else []
        if not numbers or not isinstance(made, str) or rng.random() < 0.15:
            made = torn(text, rng)
            break
        part = rng.choice(numbers)
        made = made[: part.start()] + rng.choice(WORDS) + made[part.end() :]
    plan = ",".join(f"{key}={value}" for key, value in setup.plan.items())
    said = (("--on", setup.on), ("--model", setup.model), ("--software", setup.software), ("--plan", plan))
    words = [word for option, value in said if value for word in (option, value)]
    if rng.random() < 0.3:
        words = words[2:]
    if rng.random() < 0.3:
        words += ["--format", name]
    if words and rng.random() < 0.2:
        words[rng.randrange(len(words))] = rng.choice([w for w in WORDS if "\x00" not in w])
    return Case(f"log {name}", ("calibrate", "m.log", *words, "--json"), {"m.log": made})


BODIES: tuple[tuple[str, Any], ...] = (
    ("compare", {"model": "gpt2", "on": ["h100:2"], "train": {"tokens": "1B", "seq": 1024, "batch": "8seqs"}}),
    (
        "compare",
        {
            "model": "gpt2",
            "on": ["h100", "trn3"],
            "chips": 4,
            "equal": "usd",
            "set": ["prices.h100=$2/chip/h", "plan.tp=1"],
            "train": {"tokens": "1B", "seq": 1024, "batch": "64seqs", "task": "lora:16", "fill": 0.9},
        },
    ),
    ("serve", {"model": "gpt2", "on": ["h100:1"], "serve": {"isl": "512", "osl": 64, "ttft": "2s", "tpot": "50ms"}}),
    ("plan", {"model": "gpt2", "on": "h100:2", "top": 2, "train": {"tokens": "1B", "seq": 1024, "batch": "8seqs"}}),
    ("fit", {"model": "gpt2", "on": "h100:2", "train": {"seq": 1024, "batch": "8seqs"}}),
    ("fit", {"model": "gpt2", "on": "trn3", "kv": "64k"}),
    ("collective", {"kind": "all-reduce", "on": "trn3-gen2", "sizes": ["1MiB"]}),
    ("goodput", {"on": "h100:1024", "samples": 10, "days": 5}),
    ("prices", {"on": ["h100"]}),
    ("scenario", {"yaml": PAGE}),
    *((verb, {"yaml": text}) for verb, text in (("rl", RL), ("fleet", FLEET.replace("rates: r.json\n", "")))),
    (
        "rl",
        {
            "model": "gpt2",
            "algorithm": "grpo",
            "prompts": 8,
            "samples": 4,
            "mean": 200,
            "cap": 400,
            "on": ["h100:2"],
        },
    ),
    ("model", {"model": json.loads(CONFIGS[0].read_text(encoding="utf-8"))}),
    (
        "explain",
        {
            "metric": "h100.step_s",
            "ask": {"model": "gpt2", "on": ["h100:2"], "train": {"tokens": "1B", "seq": 1024, "batch": "8seqs"}},
        },
    ),
)


def body(rng: random.Random) -> Case:
    """The body of an HTTP request, answered by the application in this process."""
    path, data = rng.choice(BODIES)
    if rng.random() < 0.1:
        path = rng.choice(BODIES)[0]
    for _ in range(rng.randint(1, 3)):
        data = spoiled(data, rng)
        if not isinstance(data, dict):
            break
    text = json.dumps(data)
    raw = torn(text, rng) if rng.random() < 0.15 else text
    sent = raw if isinstance(raw, bytes) else raw.encode("utf-8", "surrogatepass")
    return Case(f"body {path} {text}"[:600], call=lambda: asked_here(path, sent))


KINDS: tuple[Callable[[random.Random], Case], ...] = (
    *(config, overlay, scenario, table, saved, option, kernel, called, body, older, launched, measured, traced),
)


SLOW: tuple[Callable[[random.Random], Case], ...] = (launched, measured)
"""Kinds that are drawn once in four turns: a plan is searched, or constants are fitted."""
TURNS = (*KINDS, *(kind for kind in KINDS * 3 if kind not in SLOW))


def drawn(seed: int) -> Case:
    """The case of a seed: kinds take turns."""
    return TURNS[seed % len(TURNS)](random.Random(f"hostile {seed}"))


def all_from(first: int, count: int) -> Iterator[tuple[int, Case]]:
    for seed in range(first, first + count):
        yield seed, drawn(seed)
