"""Questions that are right by construction, each asked with others whose answers are known beside its own.

A draw makes one question and asks it again with one thing changed. Every answer is judged alone (bounds, order of
ranges, parts that sum, the page that shows it) and by a law beside the others (a looser limit never loses).
"""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hostile_judge import out_of_bounds

from mowich.errors import UserError
from mowich.machines.system import resolve
from mowich.requests.result_check import check_result
from mowich.show.render.csv import csv_of
from mowich.show.render.terminal import Style, terminal
from mowich.show.verbs import page_of
from mowich.sums import float_sum
from server_here import asked_here
from shared_facts import SHARED_FACTS

OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What a terminal obeys, line feeds aside."""
SAME = 1e-9
"""Rounding of floats, relative."""
PRINTED = 0.1
"""Share of the answers whose page is printed: some pages take longer than their answers."""
SYSTEMS = ("h100", "h200", "b200", "b300", "gb200", "gb300", "trn2", "trn3", "ironwood", "tpu-v5p", "tpu-v6e", "mi355x")
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "permute")
MODELS = ("gpt2", "llama-3.2-1b", "llama-3.1-8b", "mixtral-8x7b", "qwen3-30b-a3b")
EXPERTS = ("mixtral-8x7b", "qwen3-30b-a3b")
KiB = 2**10


class Refused(Exception):
    """A question that was drawn to be accepted was not."""


class Asker:
    """Asks, counts, and keeps what is wrong. asked, accepted: questions; wrong: lines."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(f"accepted {seed}")
        self.asked = self.accepted = 0
        self.wrong: list[str] = []
        self.refusals: list[str] = []
        self._said = ""

    def __call__(self, verb: str, **body: Any) -> dict[str, Any]:
        """The answer to one question, judged alone. Raises Refused."""
        self._said = f"{verb} {json.dumps(body)}"
        self.asked += 1
        try:
            answer = asked_here(verb, json.dumps(body).encode())
        except UserError as error:
            self.refusals.append(f"{self._said}: {error.line()}")
            raise Refused from error
        self.accepted += 1
        assert isinstance(answer, dict)
        for found in judged(answer, is_printed=self.rng.random() < PRINTED):
            self.holds(False, found)
        return answer

    def holds(self, is_so: bool, what: str) -> None:
        """Keeps the line where a law does not hold."""
        if not is_so:
            self.wrong.append(f"{self._said}: {what}")

    def rises(self, numbers: Sequence[float], what: str) -> None:
        """No number is below the one before it, rounding aside."""
        self.holds(all(a <= b * (1 + SAME) for a, b in itertools.pairwise(numbers)), f"{what}: {numbers}")

    def same(self, one: object, other: object, what: str) -> None:
        self.holds(one == other, f"{what}: {str(one)[:300]} and {str(other)[:300]}")


def judged(answer: Mapping[str, Any], *, is_printed: bool) -> Iterator[str]:
    """What is wrong with an answer, whatever was asked."""
    if json.loads(json.dumps(answer, allow_nan=False)) != answer:
        yield "other numbers when read from JSON"
    try:
        check_result(answer, "answer")
    except UserError as error:
        yield error.line()
    yield from out_of_bounds(answer)
    yield from _sums(answer, "")
    if is_printed:
        page = page_of(answer)
        if found := OBEYED.search(terminal(page, Style(width=100))):
            yield f"the page holds {found[0]!r}"
        if found := OBEYED.search(csv_of(page).replace("\r\n", "\n")):
            yield f"the table holds {found[0]!r}"


SUMS = {"parts_W": "total_W", "tco": "tco_total", "capital": "capital_total"}
"""Key of parts -> key of their sum, beside it."""


def _sums(node: object, at: str) -> Iterator[str]:
    """Parts that stand beside their sum, and are not it."""
    if isinstance(node, list):
        for i, inner in enumerate(node):
            yield from _sums(inner, f"{at}[{i}]")
    if not isinstance(node, dict):
        return
    for parts, whole in SUMS.items():
        if isinstance(node.get(parts), dict) and isinstance(node.get(whole), dict):
            made = float_sum(part["value"] for part in node[parts].values())
            if not near(made, node[whole]["value"]):
                yield f"{at}.{whole} is {node[whole]['value']}, its parts are {made}"
    if isinstance(node.get("lost"), dict) and isinstance(node.get("goodput"), dict):
        made = float_sum(node["lost"].values()) + node["goodput"]["value"]
        if not near(made, 1.0, 1e-6):
            yield f"{at}: goodput and what is lost are {made}, not 1"
    for key, inner in node.items():
        yield from _sums(inner, f"{at}.{key}")


def near(one: float, other: float, share: float = SAME) -> bool:
    return abs(one - other) <= share * max(abs(one), abs(other))


def value(estimate: Mapping[str, Any] | None) -> float:
    assert estimate is not None
    return float(estimate["value"])


def _size(rng: random.Random) -> int:
    return 2 ** rng.randint(0, 33) + rng.randint(0, 7)


def _path(rng: random.Random, on: str, *endings: str) -> tuple[str, float]:
    """A fact of a system whose name has one of the endings, and its number."""
    paths = [path for key, path in resolve(SHARED_FACTS, on).paths.items() if key.endswith(endings)]
    path = rng.choice([path for path in paths if path.startswith(("systems.", "chips."))])
    return path, SHARED_FACTS.number(path)


def _set(path: str, number: float, unit: str) -> list[str]:
    return [f"{path}={number!r} {unit}"]


def collective(ask: Asker, rng: random.Random) -> None:
    on, chips = rng.choice(SYSTEMS), 2 ** rng.randint(1, 6)
    sizes = sorted({_size(rng) for _ in range(rng.randint(2, 6))})
    asked: dict[str, Any] = {"kind": rng.choice(COLLECTIVES), "on": f"{on}:{chips}"}
    if asked["kind"] != "permute" and rng.random() < 0.7:
        asked["group"] = rng.randint(2, chips)
    if rng.random() < 0.3:
        asked["oversubscription"] = rng.choice((1, 1.5, 2, 4))

    def times(words: Sequence[str], **more: Any) -> list[dict[str, Any]]:
        return [row["time_s"] for row in ask("collective", **asked, sizes=list(words), **more)["rows"]]

    now = times([f"{size} B" for size in sizes])
    for end in ("low", "value", "high"):
        ask.rises([time[end] for time in now], f"more bytes take less ({end})")
    ask.same(times([f"{size} B" for size in sizes[::-1]])[::-1], now, "the order of sizes moves them")
    for size, time in zip(sizes, now, strict=True):
        ask.same(times([f"{size / KiB!r} KiB"]), [time], f"{size} B alone, and in KiB")
    path, number = _path(rng, on, ".bandwidth")
    faster = times([f"{size} B" for size in sizes], set=_set(path, number * rng.choice((1.01, 1.5, 8.0)), "B/s"))
    for quick, slow in zip(faster, now, strict=True):
        ask.rises([value(quick), value(slow)], f"more of {path} takes longer")
    path, number = _path(rng, on, ".latency")
    later = times([f"{size} B" for size in sizes], set=_set(path, number * rng.choice((1.01, 1.5, 4.0)), "s"))
    for slow, quick in zip(later, now, strict=True):
        ask.rises([value(quick), value(slow)], f"more of {path} takes less")


def power(ask: Asker, rng: random.Random) -> None:
    names = [f"{on}:{2 ** rng.randint(6, 12)}" for on in rng.sample(SYSTEMS, rng.randint(1, 4))]
    cap, spares = rng.randint(1, 900), rng.choice((0, 0.02, 0.1))
    speed = rng.choice((100, 1500.5))

    def rows(names: Sequence[str], cap: str, spares: float) -> list[dict[str, Any]]:
        found = ask("power", on=list(names), cap=cap, spares=spares, tokens_per_s=speed)["rows"]
        assert isinstance(found, list)
        return found

    now = rows(names, f"{cap} MW", spares)
    ask.same(rows(names, f"{1000 * cap} kW", spares), now, "kW and MW")
    ask.same(rows(names[::-1], f"{cap} MW", spares)[::-1], now, "the order of systems moves a row")
    more, spared = rows(names, f"{2 * cap} MW", spares), rows(names, f"{cap} MW", spares + 0.05)
    for alone, row, much, idle in zip(names, now, more, spared, strict=True):
        ask.same(rows([alone], f"{cap} MW", spares), [row], "alone, and beside others")
        for end in ("low", "value", "high"):
            chips = [r["chips_under_cap"][end] for r in (row, much)]
            ask.rises(chips, f"a larger cap feeds fewer chips ({end})")
        ask.rises([value(r["tokens_per_s_per_MW"]) for r in (idle, row)], "more spares, more tokens")


def prices(ask: Asker, rng: random.Random) -> None:
    names = rng.sample(SYSTEMS, rng.randint(1, 2))
    asked: dict[str, Any] = {
        "price": "tco",
        "rule": rng.choice(("owner", "semianalysis", "epoch")),
        "buyer": rng.choice(("hyperscaler", "neocloud")),
        "life": f"{rng.randint(3, 6)} years",
        "chips": rng.choice((1024, 8192, 100_000)),
        "margin": rng.choice((0.1, 0.25, 0.4)),
    }

    def rows(names: Sequence[str], **other: Any) -> list[dict[str, Any]]:
        found = ask("prices", on=list(names), **{**asked, **other})["rows"]
        assert isinstance(found, list)
        return found

    now = rows(names)
    longer, dearer = rows(names, life="8 years"), rows(names, margin=asked["margin"] + 0.1)
    for name, row, long, dear in zip(names, now, longer, dearer, strict=True):
        ask.same(rows([name]), [row], "alone, and beside others")
        ask.rises([value(r["tco_total"]) for r in (long, row)], "a longer life costs more")
        asks = [r["asked_usd_per_chip_h"] for r in (row, dear)]
        if all(asks):
            ask.rises([value(a) for a in asks], "a larger margin asks for less")


def _training(rng: random.Random) -> dict[str, Any]:
    return {
        "tokens": f"{rng.randint(1, 999)}B",
        "seq": 2 ** rng.randint(7, 10),
        "batch": f"{2 ** rng.randint(6, 9)}seqs",
    }


def fit_training(ask: Asker, rng: random.Random) -> None:
    on, chips, train = rng.choice(SYSTEMS), 2 ** rng.randint(0, 5), _training(rng)
    asked = {"model": rng.choice(MODELS), "set": [f"plan.micro_batch={rng.choice((1, 2))}"]}

    def fits(chips: int = chips, **other: Any) -> dict[str, Any]:
        made = {**train, **{key: word for key, word in other.items() if key in train}}
        sets = asked["set"] + other.get("set", [])
        return ask("fit", model=asked["model"], on=f"{on}:{chips}", train=made, set=sets)

    now = fits()
    if now["fits"]:
        held = float_sum(now["memory_B"].values())
        ask.holds(held <= now["memory_capacity_B"] * (1 + SAME), f"{held} B fit into {now['memory_capacity_B']} B")
        ask.holds(now["smallest_chips"] <= chips, f"{now['smallest_chips']} chips at least, and {chips} do")
        if train["seq"] > 128:
            ask.holds(fits(seq=train["seq"] // 2)["fits"], "half the sequence does not fit")
    path, number = _path(rng, on, "hbm_usable_B")  # a fact with a range: both answers have numbers without one
    roomy, tight = (fits(set=_set(path, share * number, "B")) for share in (0.99, rng.choice((0.5, 0.9, 0.98))))
    ask.rises([tight["fits"], roomy["fits"]], "less memory fits more")
    least = [answer["smallest_chips"] or float("inf") for answer in (roomy, tight)]
    ask.rises(least, "less memory needs fewer chips")
    if now["smallest_chips"] and now["smallest_chips"] <= 2 * chips:
        ask.holds(fits(chips=now["smallest_chips"])["fits"], "it does not fit on the fewest chips that do")


def fit_serving(ask: Asker, rng: random.Random) -> None:
    on, chips, tokens = rng.choice(SYSTEMS), 2 ** rng.randint(0, 4), 2 ** rng.randint(9, 15)
    model = rng.choice(MODELS[1:])

    def fits(tokens: int = tokens, **other: Any) -> dict[str, Any]:
        return ask("fit", model=model, on=f"{on}:{chips}", kv=f"{tokens}", **other)

    now, half = fits(), fits(tokens // 2)
    ask.rises([(now["requests"] or 0), (half["requests"] or 0)], "shorter requests, fewer of them")
    ask.rises([now["fits"], half["fits"]], "half the tokens do not fit")
    path, number = _path(rng, on, "hbm_usable_B")
    more = [fits(set=_set(path, share * number, "B")) for share in (rng.choice((0.5, 0.9, 0.98)), 0.99)]
    ask.rises([answer["requests"] or 0 for answer in more], "less memory holds more requests")


def train(ask: Asker, rng: random.Random) -> None:
    on, chips, job = rng.choice(SYSTEMS), 2 ** rng.randint(2, 6), _training(rng)
    sets = ["plan.precision=bf16", "plan.cp=1", "plan.pp=1", f"plan.micro_batch={rng.choice((1, 2))}"]
    model = rng.choice(MODELS[:3])

    def row(train: Mapping[str, Any] = job, chips: int = chips, more: Sequence[str] = ()) -> dict[str, Any]:
        asked = {"model": model, "on": [on], "chips": chips, "train": train, "price": "tco"}
        (found,) = ask("compare", **asked, set=[*sets, *more])["rows"]
        assert isinstance(found, dict)
        return found

    now = row()
    count = int(job["tokens"][:-1])
    twice = row({**job, "tokens": f"{2 * count}B"})
    ask.same(row({**job, "tokens": f"{1000 * count}M"}), now, "M and B")
    ask.same(now["step_s"], twice["step_s"], "the length of the run moves its step")
    if not now["feasible"]:
        return
    ask.holds(near(2 * value(now["days"]), value(twice["days"])), "twice the tokens are not twice the days")
    ending, unit = rng.choice((("hbm_Bps", "B/s"), ("peak_flops.bf16", "FLOP/s"), (".bandwidth", "B/s")))
    path, number = _path(rng, on, ending)
    better = row(more=_set(path, number * rng.choice((1.01, 1.5, 4.0)), unit))
    ask.rises([value(better["step_s"]), value(now["step_s"])], f"more of {path} is slower")
    pinned = [f"plan.tp={now['plan']['tp']}"]
    ask.rises([value(now["step_s"]), value(row(more=pinned)["step_s"])], "a restriction wins")


def serve(ask: Asker, rng: random.Random) -> None:
    on, chips = rng.choice(SYSTEMS), 2 ** rng.randint(0, 3)
    job = {
        "isl": rng.randint(50, 3000),
        "osl": rng.randint(20, 800),
        "ttft": "2 s",
        "tpot": f"{rng.randint(10, 80)} ms",
    }
    model = rng.choice(MODELS[1:3])

    def row(job: Mapping[str, Any] = job, more: Sequence[str] = ()) -> dict[str, Any]:
        asked = {"model": model, "on": [on], "chips": chips, "serve": job, "price": "tco"}
        (found,) = ask("compare", **asked, set=["plan.mode=aggregated", *more])["rows"]
        assert isinstance(found, dict)
        return found

    now = row()
    looser = row({**job, "tpot": f"{2 * int(job['tpot'].split()[0])} ms"})
    ask.rises([now["feasible"], looser["feasible"]], "a looser limit is not met")
    if not now["feasible"]:
        return
    ask.rises([value(r["tokens_per_s_per_chip"]) for r in (now, looser)], "a looser limit loses")
    path, number = _path(rng, on, "hbm_Bps", "peak_flops.bf16")
    unit = "B/s" if path.endswith("hbm_bandwidth") else "FLOP/s"
    better = row(more=_set(path, number * rng.choice((1.01, 1.5, 4.0)), unit))
    ask.rises([value(r["tokens_per_s_per_chip"]) for r in (now, better)], f"more of {path} is slower")


def encode(ask: Asker, rng: random.Random) -> None:
    on, model, tokens = rng.choice(SYSTEMS), rng.choice(MODELS[1:3]), rng.randint(8, 2000)
    batch = 2 ** rng.randint(0, 6)

    def row(tokens: int = tokens, more: Sequence[str] = ()) -> dict[str, Any]:
        forward = {"task": "encode", "tokens": tokens, "batch": batch}
        (found,) = ask("compare", model=model, on=[on], chips=1, forward=forward, price="tco", set=list(more))["rows"]
        assert isinstance(found, dict)
        return found

    now, longer = row(), row(2 * tokens)
    ask.rises([longer["feasible"], now["feasible"]], "longer items fit, shorter ones do not")
    if not longer["feasible"]:
        return
    ask.rises([value(r["pass_s"]) for r in (now, longer)], "longer items take less")
    path, number = _path(rng, on, "hbm_Bps", "peak_flops.bf16")
    unit = "B/s" if path.endswith("hbm_bandwidth") else "FLOP/s"
    better = row(more=_set(path, number * rng.choice((1.01, 1.5, 4.0)), unit))
    ask.rises([value(r["items_per_s_per_chip"]) for r in (now, better)], f"more of {path} is slower")


def goodput(ask: Asker, rng: random.Random) -> None:
    on, days = f"{rng.choice(SYSTEMS)}:{2 ** rng.randint(6, 13)}", rng.randint(5, 200)
    asked = {"on": on, "samples": 20, "seed": rng.randint(0, 9), "step": f"{rng.randint(1, 20)} s", "spares": 0.02}
    now, twice = (ask("goodput", **asked, days=d)["rows"] for d in (days, 2 * days))
    in_ms = {**asked, "step": f"{1000 * int(str(asked['step']).split()[0])} ms"}
    ask.same(ask("goodput", **in_ms, days=days)["rows"], now, "ms and s")
    for row, long in zip(now, twice, strict=True):
        ask.holds(near(2 * row["failures"], long["failures"]), "twice the days are not twice the failures")
        mean = row["monte_carlo"]
        ask.holds(0 <= mean["mean"] <= 1 and mean["sd"] >= 0, f"{mean}")
    alone = rng.choice(now)
    ask.same(ask("goodput", **asked, days=days, strategy=[alone["strategy"]])["rows"], [alone], "alone")


DRAWN: tuple[tuple[Callable[[Asker, random.Random], None], int], ...] = (
    (collective, 8),
    (power, 8),
    (prices, 2),
    (fit_training, 4),
    (fit_serving, 5),
    (train, 2),
    (serve, 2),
    (encode, 4),
    (goodput, 3),
)
"""(Questions of a kind, how often of all)."""


def drawn(seed: int) -> tuple[str, Asker]:
    """(Kind, what was asked and found) of the questions of one seed."""
    ask = Asker(seed)
    (kind,) = ask.rng.choices([kind for kind, _ in DRAWN], [often for _, often in DRAWN])
    try:
        kind(ask, ask.rng)
    except Refused:
        pass
    except Exception as error:
        ask.holds(False, f"{type(error).__name__}: {error}")
    return kind.__name__, ask
