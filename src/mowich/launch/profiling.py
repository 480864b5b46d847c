"""A plan written as a profiling run: commands that serve it, load it, and leave the forward passes of its engine in
files that `mowich calibrate` reads.

Workers of Dynamo tell the work and the time of every step (`--fpm-trace`, `dynamo.fpm.trace.v1`); `vllm bench serve`
loads them with short and long prompts, from one user to as many as the plan holds. The names of commands and of the
environment are those of Dynamo's documentation of forward-pass-metrics traces (1.6, read 2026-12-01).
"""

from __future__ import annotations

import shlex
from dataclasses import replace

from mowich.errors import UserError
from mowich.facts import Facts
from mowich.launch.arguments import LaunchProgram
from mowich.launch.plans import LaunchedPool, PlanLaunch, check_program
from mowich.launch.write import command, head

_WORKERS = {"vLLM": "dynamo.vllm --model", "SGLang": "dynamo.sglang --model-path"}
"""Title of a program -> the worker of Dynamo that runs it."""
_FOLDER = "profile"
_LENGTHS = (("128", "128"), ("1024", "256"), ("8192", "256"))
"""Tokens of prompts and answers of the loads."""
_ROUNDS = 4
"""Requests of each user."""


def profile_text(program: LaunchProgram, launch: PlanLaunch, facts: Facts) -> str:
    """The script. Raises UserError for a program whose forward passes nothing tells."""
    check_program(program, launch)
    if program.title not in _WORKERS:
        raise UserError(
            f"no profile of forward passes of {program.title}",
            field="emit",
            allowed=", ".join(f"profile:{name.casefold()}" for name in _WORKERS),
        )
    pool = launch.pools[-1]
    context = max(int(str(pool.fields.get("context", 0))), *(int(prompt) + int(answer) for prompt, answer in _LENGTHS))
    pool = replace(pool, role="", copies=1, fields={**pool.fields, "context": context})
    lines, remarks = command(program, launch, pool, ["--fpm-trace", "&"])
    serve = "\n".join(lines)
    start = serve.index('"$MODEL"')
    serve = f"python -m {_WORKERS[program.title]} {serve[start:]}"
    loads = [
        f"load {prompt} {answer} {users}"
        for prompt, answer in _LENGTHS
        for users in _ladder(pool.fields.get("sequences"))
    ]
    read = [f"mowich calibrate {_FOLDER}/steps*.jsonl.gz --on {shlex.quote(launch.spec)}"]
    read += [f"--model {shlex.quote(launch.model)} --software {launch.software}"]
    read += [f"--plan {_words(pool)} --out my.yaml"]
    return "\n".join(
        [
            "#!/bin/sh",
            *(f"# {text}" for text in [*head(program, launch), *remarks]),
            "# a profile of forward passes: needs Dynamo (ai-dynamo) with this engine, vLLM for the load, and curl",
            "set -eu",
            f"mkdir -p {_FOLDER}",
            f"export DYN_FPM_MODE=full DYN_FPM_OUTPUT_PATH={_FOLDER}/steps",
            "python -m dynamo.frontend --http-port 8000 &",
            serve,
            "trap 'kill $(jobs -p)' EXIT",
            "until curl -sf localhost:8000/v1/models | grep -q id; do sleep 5; done",
            "",
            "load() {  # tokens of prompts and answers, users",
            '  vllm bench serve --backend openai --endpoint /v1/completions --port 8000 --model "$MODEL" \\',
            "    --ignore-eos --dataset-name random --random-input-len $1 --random-output-len $2 \\",
            f"    --max-concurrency $3 --num-prompts $(({_ROUNDS} * $3))",
            "}",
            *loads,
            "",
            "# then, with the times of its steps:",
            f"# {' '.join(read)}",
            "",
        ]
    )


def _ladder(sequences: object) -> list[int]:
    """Users of the loads: 1, 4, 16 ... up to the sequences that a rank group of the plan holds."""
    most = max(1, int(str(sequences or 64)))
    out = [1]
    while out[-1] * 4 <= most:
        out.append(out[-1] * 4)
    return out if out[-1] == most else [*out, most]


def _words(pool: LaunchedPool) -> str:
    """The plan as `mowich calibrate --plan` takes it."""
    names = {"tp": "tp", "dp": "dp", "ep": "ep", "weights": "precision", "kv": "kv"}
    return ",".join(f"{word}={pool.fields[name]}" for name, word in names.items() if pool.fields.get(name))
