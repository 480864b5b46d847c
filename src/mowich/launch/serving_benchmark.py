"""The benchmark of a served plan: what sends exactly the load that was predicted, and the numbers that it will show.

A load is sent as it was played: its rate, or its users, its lengths and its seed, which stand in the scenario of the
row. A plan without a load is predicted in a steady state: as many requests stand at it together as the forecast has.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mowich.facts import Facts
from mowich.launch.arguments import LaunchProgram
from mowich.launch.bundle import Benchmark, BundleFile, Prediction, predicted_numbers
from mowich.launch.pinned import IMAGE_ASKED, pinned, pinned_named
from mowich.launch.plans import PlanLaunch
from mowich.launch.routers import FIRST_PORT, ROUTER_PORT, ServedModel, WorkerCounts
from mowich.launch.scripts import HERE, broken, option, shell_script, variable
from mowich.launch.sglang import SGLANG_SERVER
from mowich.launch.trtllm import TRTLLM_SERVE
from mowich.shown import Result

_FOLDER = "benchmark"
PERCENTILE_REQUESTS = 2000
"""Requests behind a 99th percentile: twenty lie beyond it."""
_ROUNDS = 20
"""Times that the requests in flight are replaced: the first ones find empty workers, which are then a few percent."""
LEAST_REQUESTS = 200
"""Requests behind a mean."""
_BEGUN = 1.5
"""Requests that users begin with, per second, over those that they ask later: above 1, so that all of them come to wait
for answers, and so little that the first ones do not come together."""
STEADY_SPREAD = 0.2
"""Share by which the answers of a steady load are shorter or longer: of one length, all that began together end
together, and that is no steady state."""
_FEW = 5
"""Tokens of answers that are too short to vary."""
_UNIFORM = re.compile(r"uniform\((\d+), (\d+)\)")
_MODEL_ASKED = "path of the checkpoint, or its name in the hub"


@dataclass(frozen=True, slots=True, kw_only=True)
class SentLoad:
    """What a benchmark sends. prompt, output: tokens, output on average; spread: share by which answers are shorter or
    longer; shared: tokens that all prompts begin with; rate: requests/s of a Poisson process, None: `users` requests
    stand at the workers together; begun: per second at most of those, so that users do not begin all at once, None: no
    limit; requests: in all; seed: of the draws; ttft_s, tpot_s: limits, inf where none."""

    prompt: int
    output: int
    spread: float
    shared: int
    rate: float | None
    users: int
    begun: float | None
    requests: int
    seed: int
    ttft_s: float = math.inf
    tpot_s: float = math.inf

    @property
    def limits_ms(self) -> dict[str, float]:
        """Limits that there are, in milliseconds."""
        both = {"ttft": self.ttft_s, "tpot": self.tpot_s}
        return {name: _tidy(1e3 * limit) for name, limit in both.items() if math.isfinite(limit)}


def roomy(launch: PlanLaunch, load: SentLoad) -> PlanLaunch:
    """The same workers, with room for the longest request of a load."""
    longest = load.prompt + math.ceil(load.output * (1.0 + load.spread))
    pools = tuple(
        replace(pool, fields={**pool.fields, "context": max(int(pool.fields.get("context", 0)), longest)})
        for pool in launch.pools
    )
    return replace(launch, pools=pools)


def _tidy(x: float) -> float:
    return int(x) if x == int(x) else round(x, 6)


def _value(row: Result, name: str) -> float:
    """The value of an estimate in a row; nan where it has none."""
    data = row.get(name)
    value = data.get("value") if isinstance(data, Mapping) else None
    return math.nan if value is None else float(value)


def sent_load(inputs: Result, row: Result, vendor: str) -> SentLoad:
    """The load behind the numbers of a row. vendor: of the chips; graphs of Trainium are compiled for one length, which
    a steady load keeps to."""
    traffic: Mapping[str, object] = {}
    if row.get("scenario"):
        traffic = json.loads(str(row["scenario"]))["traffic"]
    match = _UNIFORM.fullmatch(str(traffic.get("output", "")))
    output = int(inputs["osl"])
    spread = 0.0 if traffic or vendor == "AWS" or output < _FEW else STEADY_SPREAD
    if match is not None:
        spread = round((int(match[2]) - int(match[1])) / 2 / output, 6)
    request_s = _value(row, "ttft_s") + (output - 1) * _value(row, "tpot_s")
    together = _together(row, output, request_s)
    users, think_s = traffic.get("users"), float(str(inputs.get("think_s") or 0.0))
    rate = traffic.get("rate")
    if users is not None and think_s:  # no program of these waits between an answer and the next request
        rate, users = row["requests_per_s"], None
    least = PERCENTILE_REQUESTS if traffic else LEAST_REQUESTS
    return SentLoad(
        prompt=int(inputs["isl"]),
        output=output,
        spread=spread,
        shared=round(float(inputs.get("cached") or 0.0) * inputs["isl"]) or int(str(traffic.get("shared_prefix", 0))),
        rate=None if rate is None else float(str(rate)),
        users=together if users is None else int(str(users)),
        begun=None if users is None else float(f"{_BEGUN * float(row['requests_per_s']):.3g}"),
        requests=max(least, _ROUNDS * together),
        seed=int(str(traffic.get("seed", 0))),
        ttft_s=_limit(inputs, "p99_ttft_s", "ttft_s"),
        tpot_s=_limit(inputs, "p99_tpot_s", "tpot_s"),
    )


def _together(row: Result, output: int, request_s: float) -> int:
    """Requests that stand at all workers together: those in flight of a load; of a steady state the requests per
    second times what one takes."""
    if row.get("in_flight"):
        return max(1, round(float(row["in_flight"])))
    per_s = _value(row, "tokens_per_s_per_chip") * float(row["chips_used"]) / output
    return max(1, round(per_s * request_s))


def _limit(inputs: Result, *names: str) -> float:
    """The strictest of some limits, in seconds."""
    return min((float(inputs[name]) for name in names if inputs.get(name)), default=math.inf)


def predictions_of(row: Result) -> list[Prediction]:
    """What the benchmark will show: means, and of a load that was played percentiles, else a median and the speed."""
    # the first requests of a steady load come together: they move the mean, and not the median
    named = {
        "ttft_s": f"time to first token, {'mean' if row.get('scenario') else 'median'}",
        "tpot_s": "time per output token, mean",
        "p99_ttft_s": "time to first token, 99th percentile",
        "p99_tpot_s": "time per output token, 99th percentile",
        "tokens_per_s_per_chip": "output tokens per second and chip",
    }
    if row.get("scenario"):
        del named["tokens_per_s_per_chip"]  # the load decides it
    return predicted_numbers(row, named)


def served_benchmark(
    program: LaunchProgram,
    launch: PlanLaunch,
    model: ServedModel,
    workers: WorkerCounts,
    inputs: Result,
    row: Result,
    facts: Facts,
) -> Benchmark:
    """The benchmark that goes with the program that serves."""
    load = sent_load(inputs, row, launch.system.vendor)
    if program is SGLANG_SERVER:
        title, log, words, install = "sglang.benchmark.serving", "result.jsonl", _sglang_words(load), ""
    elif program is TRTLLM_SERVE:
        release = pinned_named("serving.aiperf", "", facts).version
        title, log, words = "aiperf", "aiperf/profile_export_aiperf.json", _aiperf_words(load)
        install = f"pip install --quiet aiperf{f'=={release}' if release else ''}"
    else:
        title, log, words, install = "vllm bench serve", "result.json", _vllm_words(load, inputs), ""
    path = f"{_FOLDER}/{log}"
    notes = _notes(load, inputs, title)
    port = ROUTER_PORT if workers.needs_router else FIRST_PORT
    about = [
        f"{title}: {said_load(load)}",
        f"{load.requests} requests; the result is {path}",
        *([f"needs: {install}"] if install else []),
    ]
    body = [variable("MODEL", model.checkpoint, _MODEL_ASKED), variable("BASE_URL", f"http://127.0.0.1:{port}")]
    run = BundleFile(
        path=f"{_FOLDER}/run.sh",
        text=shell_script(about, HERE, *body, 'cd "$here"', broken(words)),
        is_script=True,
        about=f"sends {said_load(load)}",
    )
    image = pinned(program, launch.system.vendor, facts).image or IMAGE_ASKED
    job = BundleFile(
        path=f"{_FOLDER}/job.yaml",
        text=_job(model, image, log, [*([install] if install else []), broken(words)], about),
        about="the same as a Kubernetes Job; it prints the result",
    )
    return Benchmark(
        program=title,
        log=path,
        files=[run, job],
        predictions=predictions_of(row),
        notes=notes,
    )


def said_load(load: SentLoad) -> str:
    """The load in words."""
    answers = f"answers of {load.output}" + (
        f" on average ({100 * load.spread:.0f}% either way)" if load.spread else ""
    )
    lengths = f"prompts of {load.prompt} tokens, {answers}"
    if load.rate is not None:
        return f"{load.rate:g} requests/s at random times, {lengths}"
    return f"{load.users} requests at a time, {lengths}"


def _notes(load: SentLoad, inputs: Result, title: str) -> list[str]:
    out = []
    if load.rate is None and load.begun is None:
        out.append(
            "The first requests of the benchmark come together and wait for each other. So the forecast of the time to"
            " first token, which is of a load without an end, is held against the median."
        )
    if title.startswith("sglang") and load.spread:
        out.append(
            "sglang.benchmark.serving varies prompts and answers by one share, or neither: the benchmark sends answers"
            f" of one length. Those of the forecast are {100 * load.spread:.0f}% shorter to longer, with the same mean."
        )
    if inputs.get("think_s"):
        out.append(
            f"The forecast is of {inputs['users']} users who think for {inputs['think_s']:g} s. The benchmark sends as"
            " many requests a second, at random times: it cannot wait between an answer and the next request."
        )
    if inputs.get("images"):
        out.append("The forecast has images in its requests: the benchmark sends as many tokens of text instead.")
    return out


# programs
# -----------------------------------------------------------------------------------------------------------------
def _pace(load: SentLoad, together: str) -> str:
    """How requests come. together: the option of requests at a time."""
    if load.rate is not None:
        return f"--request-rate {load.rate:g}"
    begun = "" if load.begun is None else f" --request-rate {load.begun:g}"
    return f"{together} {load.users}{begun}"


def _goodput(load: SentLoad) -> list[str]:
    """The limits that requests are counted against, as vLLM and SGLang take them."""
    limits = " ".join(f"{name}:{limit}" for name, limit in load.limits_ms.items())
    return [f"--goodput {limits}"] if limits else []


def _vllm_words(load: SentLoad, inputs: Result) -> list[str]:
    ratio = json.dumps({"input": 0.0, "output": load.spread})
    words = [
        "vllm bench serve",
        '--backend vllm --base-url "$BASE_URL" --model "$MODEL"',
        f"--dataset-name random --random-input-len {load.prompt - load.shared} --random-output-len {load.output}",
        option("--random-range-ratio", ratio),
        *([f"--random-prefix-len {load.shared}"] if load.shared else []),
        _pace(load, "--max-concurrency"),
        f"--num-prompts {load.requests} --seed {load.seed} --ignore-eos --temperature 0",
        "--percentile-metrics ttft,tpot,itl,e2el --metric-percentiles 50,90,99",
    ]
    return [*words, *_goodput(load), '--save-result --result-dir "$here" --result-filename result.json']


def _sglang_words(load: SentLoad) -> list[str]:
    """Lengths are drawn between a share of the length and the length, prompts and answers alike: the share is 1."""
    words = [
        "python3 -m sglang.benchmark.serving",
        '--backend sglang-oai --base-url "$BASE_URL" --model "$MODEL"',
        f"--dataset-name random-ids --random-input-len {load.prompt} --random-output-len {load.output}",
        "--random-range-ratio 1",
        _pace(load, "--max-concurrency"),
        f"--num-prompts {load.requests} --seed {load.seed}",
    ]
    return [*words, *_goodput(load), '--output-file "$here/result.jsonl"']


def _aiperf_words(load: SentLoad) -> list[str]:
    ratio = json.dumps({"input": 0.0, "output": load.spread})
    words = [
        "aiperf profile",
        '--url "$BASE_URL" --model "$MODEL" --endpoint-type completions --streaming',
        f"--isl {load.prompt - load.shared} --osl {load.output}",
        option("--random-range-ratio", ratio),
        *([f"--prompt-prefix-length {load.shared} --prompt-prefix-pool-size 1"] if load.shared else []),
        _pace(load, "--concurrency") + (" --arrival-pattern poisson" if load.rate or load.begun else ""),
        f"--request-count {load.requests} --random-seed {load.seed}",
        "--extra-inputs ignore_eos:true --extra-inputs temperature:0 --use-server-token-count",
    ]
    if load.limits_ms:
        tags = {"ttft": "time_to_first_token", "tpot": "inter_token_latency"}
        words.append(option("--goodput", " ".join(f"{tags[name]}:{x}" for name, x in load.limits_ms.items())))
    return [*words, '--artifact-dir "$here/aiperf"']


def _job(model: ServedModel, image: str, log: str, commands: list[str], about: list[str]) -> str:
    """A Job that sends the load and prints the result as its last lines."""
    lines = [
        *(f"# {line}" for line in about),
        "# it reads BASE_URL, the address of the router or of the one worker: set it to the Service of yours",
        "apiVersion: batch/v1",
        "kind: Job",
        "metadata:",
        f"  name: {model.label}-benchmark",
        "spec:",
        "  backoffLimit: 0",
        "  template:",
        "    spec:",
        "      restartPolicy: Never",
        "      containers:",
        "      - name: benchmark",
        f"        image: {image}",
        "        env:",
        f"        - {{name: MODEL, value: {json.dumps(model.checkpoint or 'MODEL')}}}",
        f'        - {{name: BASE_URL, value: "http://{model.label}:{FIRST_PORT}"}}',
        '        command: ["bash", "-c"]',
        "        args:",
        "        - |",
    ]
    body = ["set -euo pipefail", "here=/tmp/benchmark", 'mkdir -p "$here"', *commands]
    body += [f'cat "$here"/{shlex.quote(log)}']
    lines += [f"          {line}" for command in body for line in command.split("\n")]
    return "\n".join(lines) + "\n"
