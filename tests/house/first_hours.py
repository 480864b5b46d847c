"""The first hours of five people as they would type them, and why each answer is the right decision.

A step has at most two tries. The first may be wrong: then its message must lead to the second. What is right is worked
out here from rows, from other commands and by arithmetic, not from the headline that is judged. `test_first_hour.py`
plays the hours from a wheel, `test_hours.py` short ones from the source.
"""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
TRIES = 2
HOURS_A_DAY, DAY_S = 24, 86400

CONFIG_70B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
"""What a checkpoint of 70.6 billion parameters has beside its weights."""


class Said(NamedTuple):
    """What a command ends with and prints."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Hour:
    """ask: runs a command line of mowich in the folder; folder: empty at first; quick: a short version is played."""

    ask: Callable[[Sequence[str]], Said]
    folder: Path
    quick: bool = False

    def step(self, *tries: str, leads: Sequence[str] = (), code: int = 0) -> Said:
        """What the last try says. leads: what the message of a wrong first try must hold."""
        assert 1 <= len(tries) <= TRIES
        said = Said(0, "", "")
        for place, words in enumerate(tries, 1):
            said = self.ask(shlex.split(words))
            if place < len(tries):
                assert said.code in (2, 5), (words, said)
                assert all(line.startswith(("error: ", "note: ", "warning: ")) for line in said.err.splitlines()), said
                assert all(lead in said.err for lead in leads), (words, said.err)
        assert said.code == code, (tries[-1], said)
        return said

    def saved(self, name: str) -> dict[str, Any]:
        """A result that a step saved."""
        found: dict[str, Any] = json.loads((self.folder / name).read_text(encoding="utf-8"))
        return found

    def numbers(self, words: str) -> dict[str, Any]:
        """The JSON of another question, asked to judge an answer."""
        said = self.ask([*shlex.split(words), "--json", "--quiet"])
        assert said.code == 0, (words, said)
        found: dict[str, Any] = json.loads(said.out)
        return found


def in_one_line(text: str) -> str:
    """A headline without its line breaks."""
    return " ".join(text.split())


# ---- a planner with 512 Trainium 2, a 70B config.json, $2M and 30 days
# ----------------------------------------------------------------------------------------------------------------------


def planner(hour: Hour) -> None:
    """Which option trains most for the money in the days, beside the 512 chips that are there already?"""
    (hour.folder / "config.json").write_text(json.dumps(CONFIG_70B), encoding="utf-8")
    others = ["h200"] if hour.quick else ["trn3", "h200", "gb300"]
    asks = f"compare config.json --train --have trn2:512 --on {','.join(others)} --days 30"
    job = "--seq 8192 --batch 1024seqs"
    said = hour.step(
        f"{asks} --budget 2M",
        f"{asks} {job} --budget '$2M' --out r.json",
        leads=("--budget: 2M has no unit; write '$2M'", "for example --seq 4096", "for example --batch 16384seqs"),
    )
    rows = {row["system"]: row for row in hour.saved("r.json")["rows"]}
    assert set(rows) == {"trn2:512", *others}
    sizes = {name: int(row["chips_requested"]) for name, row in rows.items()}
    assert sizes["trn2:512"] == 512
    for name in others:  # what the money rents: its price is printed beside it
        usd_h = float(re.match(r"\$([\d.]+)/chip/h", rows[name]["price"])[1])  # type: ignore[index]
        rents = 2e6 / (usd_h * HOURS_A_DAY * 30)
        assert abs(sizes[name] / rents - 1) < 0.01 or sizes[name] == int(rents), (name, rents)
    # the same sizes asked for one trillion tokens, without money: how far do they come in 30 days?
    on = ",".join(f"{name.split(':')[0]}:{size}" for name, size in sizes.items())
    run = hour.numbers(f"compare config.json --train --tokens 1T {job}~5% --on {on}")
    trains = {row["system"].split(":")[0]: 30 / row["days"]["value"] for row in run["rows"]}
    for name, row in rows.items():
        assert abs(row["tokens_trained"]["value"] / 1e12 / trains[name.split(":")[0]] - 1) < 0.02, name
    ranked = sorted(trains, key=lambda name: -trains[name])
    head = in_one_line(said.out.partition("\n\n")[0])
    assert re.findall(r"(\w+)(?::\d+)?, [\d.]+ \([\d.-]+\) trillion", head) == ranked
    assert "chips that are there" in head
    # they are kept: a month of their electricity is a hundredth of the money, and the rest runs beside them
    power = rows["trn2:512"]["owned"]["electricity_usd"]
    assert 0.001 * 2e6 < power["low"] < power["high"] < 0.02 * 2e6
    assert "or other systems to run beside it" in head


# ---- an engineer who serves gpt-oss-120b at 50 requests a second
# ----------------------------------------------------------------------------------------------------------------------


def engineer(hour: Hour) -> None:
    """The cheapest deployment that keeps p99 TTFT under 2 s, and what starts it."""
    model, rate, on = ("gpt-oss-20b", 5, "h200") if hour.quick else ("gpt-oss-120b", 50, "trn3,h100,h200,gb300")
    load = f"{model} --serve --isl 2k --osl 500 --rate {rate}/s --p99-ttft 2s"
    said = hour.step(
        f"plan {model} --rate {rate} --p99-ttft 2s",
        f"plan {load} --on {on} --emit vllm --out bundle",
        leads=("either --train or --serve", "--on trn3", "--isl 8k", "--osl 1k"),
    )
    forecast = hour.saved("bundle/forecast.json")
    [row] = [plan for plan in forecast["plans"] if plan["is_cheapest"]]
    assert row["p99_ttft_s"]["value"] < 2
    assert row["keeps"]["p99_ttft_s"] > 0.5
    # no machine alone is cheaper, and dropping the others changes nothing
    alone = {name: _cheapest(hour.numbers(f"plan {load} --on {name}")) for name in on.split(",") if name != "trn3"}
    assert row["usd_per_h"] <= min(alone.values()) * 1.001, alone
    if len(row["chips_of"]) == 1:
        [(name, chips)] = row["chips_of"].items()
        assert abs(alone[name] / row["usd_per_h"] - 1) < 0.01, (row["usd_per_h"], alone)
        usd_h = float(re.match(r"\$([\d.]+)/chip/h", row["price"])[1])  # type: ignore[index]
        assert abs(chips * usd_h / row["usd_per_h"] - 1) < 0.01
        assert f"{chips} chip{'s' * (chips != 1)} of {name}" in in_one_line(said.out)
    _launches(hour, row, model)
    for number in forecast["bundle"]["predicted"]:  # the page of the bundle says what the answer says
        own = row[number["name"]]
        assert (number["value"], number["low"], number["high"]) == (own["value"], own["low"], own["high"])
        assert f"`{number['name']}`" in (hour.folder / "bundle" / "README.md").read_text(encoding="utf-8")


def _cheapest(answer: dict[str, Any]) -> float:
    """Dollars an hour of the cheapest deployment of one system, infinite without one."""
    return min((plan["usd_per_h"] for plan in answer["plans"] if plan["is_cheapest"]), default=float("inf"))


def _launches(hour: Hour, row: dict[str, Any], model: str) -> None:
    """The scripts of a bundle parse, and start the workers of the answer for the lengths that were asked."""
    scripts = sorted((hour.folder / "bundle").rglob("*.sh"))
    assert {script.parent.name for script in scripts} >= {"launch", "router", "benchmark"} or len(scripts) >= 2
    for script in scripts:
        made = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
    commands = (hour.folder / "bundle" / "launch" / "commands.txt").read_text(encoding="utf-8")
    serves = [found for found in re.findall(r"vllm serve (?:.*\\\n)*.*", commands) if found]
    assert serves
    for words in serves:
        assert int(re.search(r"--max-model-len (\d+)", words)[1]) >= 2500  # type: ignore[index]
    # our own reader takes the command back as the plan
    [(name, _)] = list(row["chips_of"].items())[:1]
    devices = row["chips_used"] // row["replicas"]["decode"] or 1
    back = hour.numbers(
        f"plan {model} --serve --isl 2k --osl 500 --on {name}:{devices} --plan bundle/launch/commands.txt --top 1"
    )
    assert back["plans"][0]["decode"]["tp"] == row["decode"]["tp"]


# ---- a kernel engineer with a mistake in a new kernel
# ----------------------------------------------------------------------------------------------------------------------

_ALLOCATES = "        tile = nl.ndarray((size, C), dtype=x.dtype, buffer=nl.sbuf)\n"
_LOADS = "        nisa.dma_copy(dst=tile, src=x[start : start + size, :])\n"
_SCALES = "        nisa.tensor_scalar(dst=power, data=power, op0=nl.multiply, operand0=inverse)\n"
REFERENCE = '''"""What the tiles of a softmax hold, one after another."""

import numpy as np


def reference(x):
    a = x[:128].astype(np.float32)
    power = np.exp(a - a.max(axis=1, keepdims=True))
    yield "total", power.sum(axis=1, keepdims=True)
    yield "inverse", 1 / power.sum(axis=1, keepdims=True)
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)
'''


class Mistake(NamedTuple):
    """right, wrong: a part of the kernel before and after; at: text of the line to be named; tries: commands, which
    end with `code`; says: words of the last; leads: what the message of the first holds."""

    right: str
    wrong: str
    at: str
    tries: tuple[str, ...]
    says: str
    code: int = 2
    leads: tuple[str, ...] = ()


MISTAKES = {
    "a name that is not there": Mistake(
        "nisa.reciprocal(", "nisa.recip(", "nisa.recip(", ("kernel check mine.py",), "did you mean 'reciprocal'", 5
    ),
    "a sum over partitions": Mistake(
        "axis=1, negate", "axis=0, negate", "axis=0, negate", ("kernel check mine.py",), "transpose first", 5
    ),
    "a tile of too many partitions": Mistake(
        "size = min(P, R - start)", "size = min(2 * P, R - start)", _ALLOCATES, ("kernel run mine.py",), "at most 128"
    ),
    "a tile that was never loaded": Mistake(
        _LOADS, "", "nisa.tensor_reduce(dst=minus_top", ("kernel run mine.py -k softmax --strict",), "uninitialised"
    ),
    "rows that are off by one": Mistake(
        "src=x[start : start + size, :]",
        "src=x[start + 1 : start + size + 1, :]",
        "src=x[start + 1",
        ("kernel run mine.py",),
        "out-of-bounds",
    ),
    "an operand that is another tile": Mistake(
        "operand0=inverse",
        "operand0=total",
        "operand0=total",
        ("kernel run mine.py", "kernel run mine.py -k softmax --first-difference right.py"),
        "tensor_scalar leaves the reference",
        5,
        ("-k NAME with --first-difference",),
    ),
    "an exponential that overflows": Mistake(
        "axis=1, negate=True",
        "axis=1",
        "op=nl.exp",
        ("kernel run mine.py -k softmax",),
        "activation_reduce writes inf",
        5,
    ),
}
"""What is wrong in a new kernel -> how its writer finds it."""


def kernel_engineer(hour: Hour) -> None:
    """Each mistake is named at its line."""
    if not (hour.folder / "softmax.py").exists():
        hour.step("example @softmax --copy .")
    right = (hour.folder / "softmax.py").read_text(encoding="utf-8")
    (hour.folder / "right.py").write_text(right, encoding="utf-8")
    for what, mistake in MISTAKES.items():
        if hour.quick and "check" in mistake.tries[0]:
            continue  # half a second each: the slow version has them
        assert right.count(mistake.right) == 1, what
        wrong = right.replace(mistake.right, mistake.wrong)
        (hour.folder / "mine.py").write_text(wrong, encoding="utf-8")
        line = wrong[: wrong.index(mistake.at.rstrip())].count("\n") + 1
        said = hour.step(*mistake.tries, leads=mistake.leads, code=mistake.code)
        told = in_one_line(said.out + said.err)
        assert f"mine.py:{line}" in told, (what, line, told)
        assert mistake.says in told, (what, told)
    (hour.folder / "mine.py").write_text(right, encoding="utf-8")
    assert "largest difference" in hour.step("kernel run mine.py").out


# ---- a researcher who reproduces a published MFU, sweeps, and reads Parquet in pandas
# ----------------------------------------------------------------------------------------------------------------------

PUBLISHED = "M01507"
"""The row of published/training.csv that is reproduced: Llama 3 of 405 billion parameters on 8,192 H100."""


def published_row(name: str) -> dict[str, str]:
    """A row of the published training runs, as the source states it."""
    file = ROOT / "src" / "mowich" / "facts" / "published" / "training.csv"
    with file.open(encoding="utf-8", newline="") as lines:
        return next(row for row in csv.DictReader(lines) if row["id"] == name)


def researcher(hour: Hour, read_frame: Callable[[str], list[dict[str, Any]]] | None) -> None:
    """The published MFU is within the range; the best point of a sweep is compare's. read_frame: rows of a folder of
    Parquet as pandas reads it; None: no sweep is made."""
    row = published_row(PUBLISHED)
    lengths = f"--seq {row['seq_len']} --batch {row['global_batch_seqs']}seqs"
    job = f"llama-3.1-405b --train {lengths} --on h100:{row['n_chips']}"
    fixed = " ".join(f"--set plan.{name.lower()}={row[name]}" for name in ("TP", "PP", "DP"))
    hour.step(
        f"plan {job} {fixed} --set plan.dtype=bf16",
        f"plan {job} {fixed} --set plan.precision=bf16 --tokens 15.6T --top 1 --out plan.json",
        leads=("unknown plan field 'dtype'", "precision", "--tokens 15T"),
    )
    [plan] = hour.saved("plan.json")["plans"]
    mfu, published = plan["mfu"], float(row["mfu_reported_pct"]) / 100
    assert mfu["low"] < published < mfu["high"]
    assert abs(mfu["value"] / published - 1) < 0.1
    # by hand: 6 FLOP a parameter and token, and half of the products of attention, as the row counts them
    flop = 6 * 405.85e9 + 6 * 126 * 16384 * float(row["seq_len"])
    by_hand = flop * plan["tokens_per_s_per_chip"]["value"] / 989e12
    assert abs(mfu["value"] / by_hand - 1) < 0.03
    [known] = [one for one in hour.numbers("validate")["rows"] if one["id"] == PUBLISHED] if not hour.quick else [None]
    if known is not None:
        assert known["low"] < float(row["tflops_per_chip"]) < known["high"]
    if read_frame is None:
        return
    swept = "llama-3.1-8b --train --tokens 1T --seq 8192 --batch 512seqs"
    hour.step(f"sweep {swept} --on h100,h200,gb300 --vary chips=64..256:x2 --out points")
    frame = read_frame("points")
    assert len(frame) == 9
    for chips in (64, 128, 256):
        points = {one["system"]: one for one in frame if one["chips"] == chips}
        compared = hour.numbers(f"compare {swept} --on h100,h200,gb300 --chips {chips}")["rows"]
        best = min(compared, key=lambda one: one["usd_per_mtok"]["value"])
        assert min(points.values(), key=lambda one: one["usd_per_mtok"])["system"] == best["system"]
        for one in compared:
            assert abs(points[one["system"]]["step_s"] / one["step_s"]["value"] - 1) < 1e-9


# ---- a journalist with the article's question
# ----------------------------------------------------------------------------------------------------------------------


def journalist(hour: Hour) -> None:
    """Do scale and price make up for 144 GiB? The sentences say what the numbers say, and other commands too."""
    said = hour.step("brief --out brief.json")
    brief = hour.saved("brief.json")
    head = in_one_line(said.out.partition("\n\n")[0])
    assert head.endswith(in_one_line(" ".join(brief["headline"])))
    rivals = {line["rival"]: line["rival_name"] for line in brief["table"]}
    for rival, name in rivals.items():
        lines = [line for line in brief["table"] if line["rival"] == rival]
        [training] = [line for line in lines if line["job"] == "train"]
        serving = [line for line in lines if line["job"] != "train"]
        low, high = (end(line["dollar"]["value"] for line in serving) for end in (min, max))
        assert f"Beside {name}, a dollar on Trainium 3 buys {training['dollar']['value']:.2f} times" in head
        assert f"and {low:.2f} to {high:.2f} times the tokens in serving" in head
        for line in lines:  # the word of the table against its range
            if line["level"] == "ahead":
                assert line["dollar"]["value"] > 1
            if line["level"] == "behind":
                assert line["dollar"]["value"] < 1
    speeds = [line for line in brief["table"] if line["job"] == "train"]
    first = next(line for line in speeds if line["rival_name"] == brief["story"]["second"])
    assert f"is {1 / first['speed']['value']:.1f} times as fast" in head
    # where its number comes from, and the same by the command that it names
    shown = in_one_line(hour.step("explain brief.json table.1.dollar").out)
    line = brief["table"][0]
    assert line["command"].removeprefix("mowich ") in shown
    costs = {
        row["system_id"]: row["usd_per_mtok"]["value"]
        for row in hour.numbers(line["command"].removeprefix("mowich "))["rows"]
    }
    assert abs(costs[line["rival"]] / costs["trn3-gen2"] / line["dollar"]["value"] - 1) < 0.01
    # whether the answer turns at the price that the page states
    turns = float(re.search(r"a chip-hour costs less than ([\d.]+) dollars", line["flips"])[1])  # type: ignore[index]
    here = float(re.search(r"\(([\d.]+) here", line["flips"])[1])  # type: ignore[index]
    assert abs(turns / here / line["dollar"]["value"] - 1) < 0.03
