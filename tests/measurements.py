"""Files of measurements as programs write them, made by the model itself at constants of our choice."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np

from mowich.evidence.fitting.serving import ServingPredictor, row_of_serving
from mowich.evidence.rows import Case, read_cases
from mowich.evidence.serving_checks import read_serving_cases
from mowich.evidence.serving_rows import ServingCase
from mowich.facts import Facts
from mowich.machines.collectives import bus_factor, choose
from mowich.machines.system import resolve
from mowich.training.step import predict_step

SIZES = tuple(2.0**k for k in range(12, 31, 2))


def collective_times(facts: Facts, on: str, kind: str, ranks: int, sizes: Sequence[float] = SIZES) -> list[float]:
    """Seconds of a collective at each size, as a machine with these facts has it."""
    system = resolve(facts, on)
    n = len(sizes)
    return [float(t) for t in choose(system, kind, np.array(sizes), np.full(n, float(ranks)), np.ones(n)).time_s]


def nccl_log(times: Sequence[float], ranks: int, kind: str = "all-reduce", sizes: Sequence[float] = SIZES) -> str:
    """Output of nccl-tests with these times."""
    program = {"all-reduce": "all_reduce_perf", "all-gather": "all_gather_perf"}[kind]
    lines = [f"# Collective test starting: {program}", "# Using devices"]
    lines += [f"#  Rank {i:2d} Group  0 Pid {100 + i} on node-a device {i:2d} [0x1b] NVIDIA H100" for i in range(ranks)]
    lines += [
        "#                                             out-of-place                in-place",
        "#    size    count   type  redop  root   time  algbw  busbw #wrong   time  algbw  busbw #wrong",
        "#     (B) (elements)                     (us) (GB/s) (GB/s)          (us) (GB/s) (GB/s)",
    ]
    for size, time_s in zip(sizes, times, strict=True):
        rate = size / time_s / 1e9
        timed = f"{time_s * 1e6:.3f} {rate:.2f} {rate * bus_factor(kind, ranks):.2f} 0"
        lines.append(f"  {size:.0f} {size / 4:.0f} float sum -1 {timed} {timed}")
    return "\n".join([*lines, "# Out of bounds values : 0 OK", ""])


def nccom_log(times: Sequence[float], ranks: int, sizes: Sequence[float] = SIZES) -> str:
    """Output of nccom-test of an all-reduce with these times."""
    lines = [
        f"$ nccom-test -r {ranks} -b 4kb -e 1gb -f 4 allr",
        "size(B) count(elems) type time:avg(us) algbw(GB/s) busbw(GB/s)",
    ]
    for size, time_s in zip(sizes, times, strict=True):
        rate = size / time_s / 1e9
        bus = rate * bus_factor("all-reduce", ranks)
        lines.append(f"  {size:.0f} {size / 2:.0f} bf16 {time_s * 1e6:.2f} {rate:.2f} {bus:.2f}")
    return "\n".join([*lines, "Avg bus bandwidth: 1.0GB/s", ""])


def training_case(cells: Mapping[str, str], facts: Facts) -> Case:
    """A row of training with any measured time, read under some facts."""
    (case,) = read_cases([{**BLANK, **cells, "primary_metric": "step_time_s", "step_time_s": "1000"}], facts)
    assert isinstance(case, Case), case
    return case


BLANK = dict.fromkeys(
    (
        *("id", "chip", "n_chips", "model_name", "model_ref", "n_layers", "hidden", "seq_len", "precision", "TP", "PP"),
        *("global_batch_seqs", "primary_metric", "micro_batch", "step_time_s", "stack", "notes", "system_note"),
    ),
    "",
)


def training_csv(runs: Sequence[Mapping[str, str]], facts: Facts) -> str:
    """Our table of training, whose step times are those of a machine with these facts."""
    lines = [",".join(BLANK)]
    for i, cells in enumerate(runs):
        case = training_case(cells, facts)
        step = predict_step(case.model, case.system, case.job, case.plan)
        seconds = step.total_s * case.job.tokens_per_step / step.tokens
        row = {**BLANK, **cells, "id": f"r{i}", "primary_metric": "step_time_s", "step_time_s": f"{seconds:.8g}"}
        lines.append(",".join(row[column] for column in BLANK))
    return "\n".join(lines) + "\n"


def served(cells: Mapping[str, str], facts: Facts) -> tuple[float, float]:
    """(TTFT, TPOT) in ms of a run on a machine with these facts."""
    row = row_of_serving({**cells, "tpot_ms": "100", "ttft_ms": "100"}, "x", facts)
    (case,) = read_serving_cases([row], facts)
    assert isinstance(case, ServingCase), case
    predictor = ServingPredictor([("x", case)], facts)
    errors = dict(zip([p.metric for p in predictor.points], predictor.errors({}), strict=True))
    return 100.0 * float(np.exp(errors["ttft_ms"])), 100.0 * float(np.exp(errors["tpot_ms"]))


def vllm_json(isl: int, osl: int, users: int, ttft: float, tpot: float, *, rounds: int = 10) -> dict[str, object]:
    """A result of vllm bench serve with these latencies, ms."""
    done = users * rounds
    seconds = rounds * (ttft + (osl - 1) * tpot) / 1e3
    return {
        "date": "20260101-000000",
        "endpoint_type": "vllm",
        "model_id": "meta-llama/Llama-3.1-70B-Instruct",
        "num_prompts": done,
        "request_rate": "inf",
        "max_concurrency": users,
        "duration": seconds,
        "completed": done,
        "total_input_tokens": done * isl,
        "total_output_tokens": done * osl,
        "request_throughput": done / seconds,
        "output_throughput": done * osl / seconds,
        "total_token_throughput": done * (isl + osl) / seconds,
        "mean_ttft_ms": ttft,
        "mean_tpot_ms": tpot,
    }


def sglang_json(isl: int, osl: int, users: int, ttft: float, tpot: float) -> dict[str, object]:
    """A line of sglang.bench_serving with these latencies, ms."""
    return {
        **vllm_json(isl, osl, users, ttft, tpot),
        "backend": "sglang",
        "endpoint_type": None,
        "mean_e2e_latency_ms": ttft + (osl - 1) * tpot,
        "concurrency": float(users),
    }


def json_lines(objects: Sequence[Mapping[str, object]]) -> str:
    return "\n".join(json.dumps(one) for one in objects) + "\n"
