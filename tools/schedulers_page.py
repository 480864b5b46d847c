"""Writes docs/records/schedulers.md and docs/images/schedulers.svg: schedulers of engines by release, one load under four of them, and a
load where the scheduler decides what is bought. Run by `make docs`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pages import write

from mowich.facts import Facts, load_facts
from mowich.files import parse_yaml
from mowich.plans.schedulers import newest_release_numbers, option_table, release_ranges
from mowich.serving.conversations import Conversations
from mowich.serving.traffic.replica import Replica
from mowich.serving.traffic.requests import Slot
from mowich.serving.traffic.routing import ReplicaFleet
from mowich.studies.traffic import TrafficResult, simulate_traffic
from mowich.studies.traffic_load import requests_of
from mowich.studies.traffic_scenario import TrafficScenario, read_traffic

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
DECIDES = ROOT / "scenarios" / "scheduler-decides.yaml"
SYSTEMS, POLICIES = ("h100", "h200"), ("MAX_UTILIZATION", "GUARANTEED_NO_EVICT")
WITHIN = 0.99
"""Share of requests within the limits that a purchase must keep."""
FOUR: tuple[tuple[str, str | None], ...] = (("vllm", None), ("vllm", "0.7"), ("sglang", None), ("trtllm", None))
WINDOW_S = (20.0, 80.0)
"""Seconds that the picture shows."""
NEAR_FULL = (
    '{"mowich": 1, "model": "llama-3.1-8b", "on": "h100:1", "engine": "ENGINE", "front_end": false, "scheduler": {"kv_blocks": 4000, "max_num_batched_tokens": 4096},'
    ' "traffic": {"rate": 4.6, "requests": 1200, "prompt": "lognormal(1k, p95 4k)", "output": "lognormal(400, p95 1200)", "seed": 1},'
    ' "slo": {"ttft": "2 s", "tpot": "40 ms"}}'
)

TEXT = """# Schedulers of engines

The scheduler of an engine decides which requests run in a step, what must fit in the cache before a request is let in, and who gives way when the cache is full. Where the cache
is not the limit, the schedulers here give nearly the same times. Near the limit they do not. A scenario names the engine and, if it matters, the release:
`engine: vllm`, `release: "0.11"`. Without `release` it is the newest that facts know. The release changes the scheduler only; times of steps are those of the engine's
[constants](../theory/theory-serving.md#where-the-times-of-a-chip-come-from).

Written by `tools/schedulers_page.py` (`make docs`). Do not edit.

## What differs

| engine, releases | let in when | a full cache | queue | what it is |
|--|--|--|--|--|
{ranges}

The table is [facts/serving/schedulers.yaml](../theory/facts.md); each cell has its source there (`mowich facts show serving.schedulers`). An engine that is not named (`jax-tpu`, `vllm-2023`) is played by the
loop with its own budget: the next piece of a prompt must fit, and the last that came is preempted.

- **let in when**: "next piece" needs room for the tokens of the next step. "prompt" needs room for the whole prompt. "prompt and answer, others expected" (SGLang) needs room for
  prompt and answer, beside a part of what the decoding requests are still to write. That part is 0.7 x `schedule_conservativeness` when the engine was idle. It falls to 0.14 of that within 600 decode steps.
  With attention data parallelism SGLang multiplies it by 0.3.
  "prompt and answer" (TensorRT-LLM) needs room for prompt and answer beside all that the others may still write. `STATIC_BATCH` also waits until nothing is inside.
- **The answer that is counted** is the limit that the request states. `traffic: {{max_tokens: 4k}}` says that clients state 4,096 whatever they get; without it each request
  states the length of its own answer, as benchmarks do.
- **recompute**: the request that came last (or has the lowest priority) gives its blocks back, goes to the head of the queue, and its prompt and what it has written are read
  again. **retract** (SGLang): the request with the shortest answer so far gives way, keeps what it has written, and goes to the end of the queue. The part that is kept free is then set to
  what the others have written of their limits, and falls again.
- A request that is alone needs room for its next tokens only. A request that the cache cannot hold alone is an error.

## Options in the engine's words

| option | {families} |
|--|{dashes}
{options}

`scheduler:` takes these words and the common ones of [the scenario](../theory/theory-serving.md#traffic). An option of another engine is refused with a line that says whose it is and what this engine
calls it. What a plan says already (`plan: {{interval: 10, wait: 4, budget: 4096, memory: 0.85}}`) is said there. SGLang's orders: `lpm` (longest cached start first, up to 128 requests
that wait), `dfs-weight` (by subtrees of cached starts), `lof` (longest answer first), `random` (drawn once for each request), `fcfs`. `lpm` and `dfs-weight` turn the prefix cache on.

## One load under four schedulers

Llama-3.1-8B on one H100, {blocks:,} blocks of cache ({tokens:,} tokens), {rate:g} requests a second. All four have the step times of vLLM, a budget of 4,096 tokens and 256 sequences, so only the
scheduler differs. Limits are 2 s to the first token and 40 ms per token.

| scheduler | within limits | TTFT mean, p99 | TPOT mean, p99 | put out | requests inside |
|--|--:|--:|--:|--:|--:|
{four}

![One replica under four schedulers](../images/schedulers.svg)

Each panel shows {begin:g} to {end:g} s of the run: the share of the cache that is in use (area), requests that wait (line), and requests that give way (marks). Reservation leaves
a part of the cache empty: it never puts a request out, and pays with requests that wait. vLLM fills the cache, and reads the prompts of those that were put out again. SGLang leaves a little room
and puts out almost nobody. The scheduler of vLLM 0.7 lets a prompt stop all decodes, and admits whole prompts only.

## A scheduler that decides a purchase

Clients of this chat state a limit of 16k tokens and get 300 on average. TensorRT-LLM reserves the limit by default. With `MAX_UTILIZATION` it does not. What is the cheapest
system that keeps {within:.0%} of the requests within 2 s and 60 ms?

```console
mowich traffic scenarios/scheduler-decides.yaml --draws 0
```

| `capacity_scheduler_policy` | system | least chips | within limits | TTFT p99 | TPOT p99 | USD an hour |
|--|--|--:|--:|--:|--:|--:|
{decides}

{verdict} A limit near what answers take (`max_tokens: 1k`) makes the reservation small: the two policies then need the same chips. So state the limit of the clients, and the policy, before the
comparison.

## Compiled graphs

vLLM Neuron before 0.24 and NxD Inference run graphs that were compiled for fixed shapes. A decode step computes its whole batch (`max_num_seqs`, `tkg_batch_size`), each sequence as long as the smallest
bucket of `token_generation_buckets` that holds the longest. A prompt takes the time of its bucket of `context_encoding_buckets`, and prompts run before any decode, `ctx_batch_size` at a time. Each sequence
has a slot of the longest sequence (`max_model_len`), so nothing is put out; `is_block_kv_layout: true` has blocks instead. Buckets that are not given are powers of two from
128. A request above the largest bucket is an error.

| requests a second, Llama-3.1-8B on one Trainium 2 | {neuron_names} |
|--|{neuron_dashes}
{neuron}

Without one of these keys, steps are as they were fitted: the measured rows hold the padding of their own graphs, compiled for as many sequences as asked. So the two differ most where few requests are inside.

## Limits

- Times of steps do not change with `release`: overlap of the scheduler with the device (vLLM's async scheduling, SGLang's overlap scheduler, async mode on Trainium) is in the fitted constants.
- vLLM 0.7 is played with one partial prompt at a time, its default, and without the watermark of 1% of the blocks.
- TensorRT-LLM cuts prompts here unless `enable_chunked_prefill: false` says otherwise; the engine's own default is off, and it then refuses prompts above `max_num_tokens`.
- `lpm` and `dfs-weight` look at the queue when an event lets them: an arrival, a completion, or a request put out. Prefixes that are evicted between two events do not change the order.
- A request is put out for memory only. SGLang's preemption of lower priorities on arrival is not played.
"""

ADMITS = {
    "chunk": "next piece fits",
    "prompt": "prompt fits",
    "expected": "prompt and answer fit, others expected",
    "answer": "prompt and answer fit",
}


def pages() -> dict[Path, str]:
    """The page, its picture, and their texts."""
    facts = load_facts()
    runs = {name: near_full(facts, engine, release) for name, (engine, release) in named(facts).items()}
    found = {(policy, system): least_chips(facts, system, policy) for policy in POLICIES for system in SYSTEMS}
    families = option_table()["families"]
    neuron_names, neuron = compiled_rows(facts)
    first = next(iter(runs.values()))[0]
    page = TEXT.format(
        ranges="\n".join(range_rows(facts)),
        families=" | ".join(entry["name"] for entry in families.values()),
        dashes="--|" * len(families),
        options="\n".join(option_rows()),
        blocks=first.serve.scheduler.blocks,
        tokens=first.serve.scheduler.blocks * first.serve.scheduler.block,
        rate=first.requests["rate"],
        four="\n".join(four_row(name, simulate_traffic(scenario, facts)) for name, (scenario, _) in runs.items()),
        begin=WINDOW_S[0],
        end=WINDOW_S[1],
        within=WITHIN,
        decides="\n".join(decided_row(policy, system, *found[policy, system]) for policy, system in found),
        verdict=verdict({key: result for key, (_, result) in found.items()}),
        neuron_names=" | ".join(neuron_names),
        neuron_dashes="--:|" * len(neuron_names),
        neuron="\n".join(neuron),
    )
    return {
        DOCS / "records" / "schedulers.md": page,
        DOCS / "images" / "schedulers.svg": picture({n: r for n, (_, r) in runs.items()}),
    }


def range_rows(facts: Facts) -> list[str]:
    """Each range of releases as a row."""
    rows = []
    for family, entry in option_table()["families"].items():
        ranges = release_ranges(facts, family)
        ends = [*(begin for _, begin in ranges[1:]), None]
        newest = ".".join(map(str, newest_release_numbers(facts, entry["engines"][0])))
        for (path, begin), end in zip(ranges, ends, strict=True):
            since = ".".join(map(str, begin))
            span = f"{since} to {newest}" if end is None else f"{since} to before {'.'.join(map(str, end))}"
            said = {
                w: facts.text(f"{path}.{w}") if facts.get(f"{path}.{w}") else "" for w in ("admission", "room", "order")
            }
            about = facts.text(f"{path}.about")
            admits = ADMITS.get(said["admission"], "a compiled slot is free, where shapes are stated")
            rows.append(
                f"| {entry['name']} {span} | {admits} | {said['room'] or 'nobody gives way'} | {said['order'] or 'fcfs'} | {about} |"
            )
    return rows


def option_rows() -> list[str]:
    """Each option, with each engine's word."""
    table = option_table()
    rows = []
    for option, entry in table["options"].items():
        words = []
        for family in table["families"]:
            word = entry["by"].get(family)
            span = (
                ""
                if word is None
                else f" (since {word['since']})"
                if "since" in word
                else f" (before {word['before']})"
                if "before" in word
                else ""
            )
            words.append("" if word is None else f"`{word['word']}`{span}")
        rows.append(f"| `{option}`: {entry['about']} | {' | '.join(words)} |")
    return rows


def named(facts: Facts) -> dict[str, tuple[str, str | None]]:
    """The four schedulers by name and release."""
    names = {}
    for engine, release in FOUR:
        shown = release or ".".join(map(str, newest_release_numbers(facts, engine)))
        names[f"{option_table()['families'][engine]['name']} {shown}"] = (engine, release)
    return names


class Recorded(Replica):
    """A replica that notes after each event: the time, blocks in use, requests that wait; and when it puts one out."""

    __slots__ = ("noted", "put_out")
    noted: list[tuple[float, int, int]]
    put_out: list[float]

    def _note(self) -> None:
        self.noted.append((self.t, self._used(self.D), len(self.waiting)))

    def _leap(self, until: float) -> None:
        super()._leap(until)
        self._note()

    def _mixed(self, until: float) -> bool:
        moved = super()._mixed(until)
        self._note()
        return moved

    def _put_out(self, one: Slot) -> None:
        super()._put_out(one)
        self.put_out.append(self.t)


def near_full(facts: Facts, engine: str, release: str | None) -> tuple[TrafficScenario, Recorded]:
    """The load near the limit of the cache under an engine's scheduler, with the step times of vLLM: (the scenario, its
    replica after the run)."""
    base = read_traffic(NEAR_FULL.replace("ENGINE", "vllm"), facts)
    text = NEAR_FULL.replace("ENGINE", engine)
    if release is not None:
        text = text.replace('"front_end"', f'"release": "{release}", "front_end"')
    own = read_traffic(text, facts).serve.scheduler
    scheduler = replace(
        own, interval=1, wait=0
    )  # of the scheduler alone: how often an engine looks is a setting of a plan
    scenario = replace(base, serve=replace(base.serve, scheduler=scheduler))
    replica = Recorded(0, scenario.serve.times, scheduler)
    replica.noted, replica.put_out = [], []
    columns = requests_of(scenario.requests, scheduler.hash_block, 0)
    assert not isinstance(columns, Conversations)
    list(ReplicaFleet(replicas=[replica]).run(one for some in columns for one in some.requests()))
    return scenario, replica


def four_row(name: str, r: TrafficResult) -> str:
    ttft, tpot = r.ttft_s, r.tpot_s
    return (
        f"| {name} | {r.goodput_frac:.1%} | {ttft['mean']:.2f} s, {ttft['p99']:.2f} s | {1e3 * (tpot['mean'] or 0):.1f} ms, {1e3 * (tpot['p99'] or 0):.1f} ms |"
        f" {r.preemptions} | {r.in_flight:.1f} |"
    )


def decided(facts: Facts, system: str, policy: str, replicas: int) -> TrafficResult:
    """The scenario of the purchase on so many replicas of a system under a policy."""
    asked, _ = parse_yaml(DECIDES.read_text(encoding="utf-8"), str(DECIDES))
    asked |= {"on": f"{system}:{2 * replicas}", "scheduler": {"capacity_scheduler_policy": policy}}
    return simulate_traffic(read_traffic(json.dumps(asked), facts), facts)


def least_chips(facts: Facts, system: str, policy: str) -> tuple[int, TrafficResult]:
    """The fewest replicas that keep the limits, and what they answer."""
    replicas = 2
    while True:
        result = decided(facts, system, policy, replicas)
        if (result.goodput_frac or 0.0) >= WITHIN:
            return replicas, result
        replicas += 1


def decided_row(policy: str, system: str, replicas: int, r: TrafficResult) -> str:
    return (
        f"| `{policy}` | {system} | {r.chips} ({replicas} replicas) | {r.goodput_frac:.1%} | {r.ttft_s['p99']:.2f} s | {1e3 * (r.tpot_s['p99'] or 0):.1f} ms |"
        f" {r.usd_per_h:.2f} |"
    )


def verdict(found: Mapping[tuple[str, str], TrafficResult]) -> str:
    """Which system each policy buys."""
    best = {p: min(SYSTEMS, key=lambda system: found[p, system].usd_per_h or 0.0) for p in POLICIES}
    bought = [f"{found[p, best[p]].chips} chips of {best[p]} under `{p}`" for p in POLICIES]
    more = found[POLICIES[1], "h100"].chips - found[POLICIES[0], "h100"].chips
    return f"The cheapest is {bought[0]}, and {bought[1]}. On H100 the reservation costs {more} chips more."


def compiled_rows(facts: Facts) -> tuple[list[str], list[str]]:
    """TPOT at three loads: as fitted, and of graphs compiled for 4 and for 32 sequences."""
    shapes = {
        "as fitted": "{max_num_seqs: 32}",
        "graph of 4 sequences, up to 4k": "{max_num_seqs: 4, max_model_len: 4096}",
        "graph of 32 sequences, up to 4k": "{max_num_seqs: 32, max_model_len: 4096}",
    }
    rows = []
    for rate in (0.2, 0.8):
        cells = []
        for shape in shapes.values():
            text = (
                '{mowich: 1, model: llama-3.1-8b, on: "trn2:1", engine: vllm-neuron, release: "0.5", plan: {tp: 4}, front_end: false, replicas: 1, '
                f"scheduler: {shape}, traffic: {{rate: {rate}, requests: 150, prompt: 800, output: 200}}}}"
            )
            r = simulate_traffic(read_traffic(text, facts), facts)
            cells.append(f"TPOT {1e3 * (r.tpot_s['p50'] or 0):.1f} ms, TTFT p90 {r.ttft_s['p90']:.2f} s")
        rows.append(f"| {rate:g} | {' | '.join(cells)} |")
    return list(shapes), rows


def picture(runs: Mapping[str, Recorded]) -> str:
    """Four panels, one above the other: cache in use, requests that wait, requests put out."""
    width, each, left, right, top = 760, 120, 46, 46, 26
    begin, end = WINDOW_S
    height = top + each * len(runs) + 34
    most = max(w for r in runs.values() for t, _, w in r.noted if begin <= t <= end) or 1

    def x(t: float) -> float:
        return left + (t - begin) / (end - begin) * (width - left - right)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="14" fill="#2060a0">cache in use (left)</text><text x="{left + 130}" y="14" fill="#c05020">requests that wait (right)</text>'
        f'<text x="{left + 300}" y="14" fill="#a00030">| a request is put out</text>',
    ]
    for i, (name, r) in enumerate(runs.items()):
        floor = top + each * (i + 1) - 14
        tall = each - 34
        noted = _thinned([one for one in r.noted if begin <= one[0] <= end], width)
        area = " ".join(f"{x(t):.1f},{floor - tall * used / r._cap:.1f}" for t, used, _ in noted)
        line = " ".join(f"{x(t):.1f},{floor - tall * waits / most:.1f}" for t, _, waits in noted)
        out += [
            f'<text x="{left}" y="{floor - tall - 5}" font-weight="bold">{name}</text>',
            f'<polygon points="{x(noted[0][0]):.1f},{floor} {area} {x(noted[-1][0]):.1f},{floor}" fill="#2060a0" fill-opacity="0.25" stroke="#2060a0" stroke-width="0.6"/>',
            f'<polyline points="{line}" fill="none" stroke="#c05020" stroke-width="1.2"/>',
            f'<line x1="{left}" y1="{floor}" x2="{width - right}" y2="{floor}" stroke="#888"/>',
            f'<text x="{left - 6}" y="{floor - tall + 4}" text-anchor="end">100%</text><text x="{left - 6}" y="{floor + 4}" text-anchor="end">0</text>',
            f'<text x="{width - right + 6}" y="{floor - tall + 4}">{most}</text>',
        ]
        marks = sorted({round(x(t)) for t in r.put_out if begin <= t <= end})
        out.append(
            f'<path d="{" ".join(f"M{at} {floor - tall}v10" for at in marks)}" stroke="#a00030" stroke-width="1.2"/>'
            if marks
            else ""
        )
    for tick in range(int(begin), int(end) + 1, 10):
        out.append(f'<text x="{x(tick):.0f}" y="{height - 18}" text-anchor="middle">{tick} s</text>')
    out.append("</svg>")
    return "\n".join(line for line in out if line) + "\n"


def _thinned(noted: list[tuple[float, int, int]], most: int) -> list[tuple[float, int, int]]:
    """At most one point a pixel: the fullest."""
    kept: dict[int, tuple[float, int, int]] = {}
    begin, end = WINDOW_S
    for one in noted:
        at = int((one[0] - begin) / (end - begin) * most / 2)
        if at not in kept or one[1] >= kept[at][1]:
            kept[at] = one
    return [kept[at] for at in sorted(kept)]


if __name__ == "__main__":
    write(pages())
