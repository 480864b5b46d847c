"""A small file of every format that `mowich calibrate` reads."""

from __future__ import annotations

import json

from measurements import nccl_log, nccom_log, sglang_json, vllm_json
from mowich.evidence.readers.setup import Setup

SIZES = (2.0**20, 2.0**24, 2.0**28)
TIMES = (4e-5, 1.2e-4, 1.3e-3)

TITAN = "\n".join(
    f"[rank0]:[titan] 2026-01-01 00:00:{s:02d} - root - INFO - step: {s}  loss: {9 - s / 10:.3f}  grad_norm:  1.2"
    f"  memory: 40.10GiB(50.6%)  tps: {100 if s == 1 else 7400 + s:,}  tflops: 430.12  mfu: 43.49%"
    for s in range(1, 10)
)
TITAN_NEURON = "\n".join(
    [
        "[titan] 2026-11-20 10:00:00,101 - root - INFO - Building device mesh with parallelism: pp=1, dp_replicate=1,"
        " dp_shard=16, cp=1, tp=4, ep=1, etp=1",
        "[titan] 2026-11-20 10:00:03,000 - root - INFO - Applied selective activation checkpointing to the model",
        "[titan] 2026-11-20 10:00:04,000 - root - INFO - Trainer is initialized with local batch size 1, global batch"
        " size 64, gradient accumulation steps 4, sequence length 4096, total steps 100 (warmup 10)",
        *(
            f"[titan] 2026-11-20 10:0{s}:00,000 - root - INFO - step:  {s}  loss:  8.10000  grad_norm:  1.2000"
            f"  memory: 18.10GiB(75.40%)  tps: {100 if s == 1 else 1030 + s:,}  tflops: 52.10  mfu: 33.00%"
            for s in range(1, 10)
        ),
    ]
)
"""A run of TorchTitan on a node of Trainium 2: 64 ranks on 16 chips."""
VLLM_TABLE = """\
============ Serving Benchmark Result ============
Successful requests:                     64
Maximum request concurrency:             16
Benchmark duration (s):                  12.60
Total input tokens:                      65536
Total generated tokens:                  16384
Request throughput (req/s):              5.08
Output token throughput (tok/s):         1300.32
---------------Time to First Token----------------
Mean TTFT (ms):                          90.00
-----Time per Output Token (excl. 1st token)------
Mean TPOT (ms):                          12.00
==================================================
"""
_SERVED = (
    "(APIServer pid=1) INFO 11-20 10:01:{}0 [loggers.py:259] Engine 00{}: Avg prompt throughput: 812.0 tokens/s,"
    " Avg generation throughput: {:.1f} tokens/s, Running: {} reqs, Waiting: 0 reqs, GPU KV cache usage: 3.2%,"
    " Prefix cache hit rate: 0.0%"
)
VLLM_SERVER = "\n".join(
    [
        "(APIServer pid=1) INFO 11-20 10:00:00 [utils.py:253] non-default args: {'model_tag': 'openai/gpt-oss-120b',"
        " 'tensor_parallel_size': 4, 'data_parallel_size': 2, 'enable_expert_parallel': True, 'kv_cache_dtype': 'fp8',"
        " 'max_num_seqs': 8, 'additional_config': {'neuron_config': {'quantization': 'mxfp4'}}}",
        *(
            _SERVED.format(at, engine, 400.0 + at if at else 90.0, 8 if at else 3)
            for at in range(5)
            for engine in range(2)
        ),
    ]
)
"""A server of gpt-oss-120b on two chips of Trainium 3, two engines of four ranks."""
MEGATRON = "\n".join(
    [
        "------------------------ arguments ------------------------",
        *(
            f"  {name} {'.' * 20} {value}"
            for name, value in {
                "bf16": "True",
                "context_parallel_size": 1,
                "fp8": "None",
                "global_batch_size": 256,
                "micro_batch_size": 1,
                "pipeline_model_parallel_size": 1,
                "recompute_granularity": "None",
                "seq_length": 8192,
                "sequence_parallel": "True",
                "tensor_model_parallel_size": 2,
                "world_size": 64,
            }.items()
        ),
        *(
            f" [2026-01-01 00:00:{i:02d}] iteration {i:8d}/ 500 | consumed samples: {256 * i:12d} | elapsed time per"
            f" iteration (ms): {30000.0 if i == 10 else 4500.0 + i:.1f} | throughput per GPU (TFLOP/s/GPU): 390.0 |"
            " learning rate: 1E-4 | global batch size:   256 | lm loss: 9.1 |"
            for i in range(10, 60, 10)
        ),
    ]
)
MAXTEXT = "\n".join(
    [
        "Config param max_target_length: 8192",
        "Config param per_device_batch_size: 2.0",
        "Config param ici_tensor_parallelism: 1",
        "Config param dcn_tensor_parallelism: 1",
        "Num_devices: 64, shape (1, 1, 64, 1)",
        *(
            f"completed step: {i}, seconds: {60.0 if i == 0 else 4.4:.3f}, TFLOP/s/device: 190.0,"
            f" Tokens/s/device: {273.0 if i == 0 else 3723.6:.3f}, total_weights: 1048576, loss: 9.0"
            for i in range(6)
        ),
    ]
)
INFERENCEX = {
    "hw": "h200-nb",
    "conc": 32,
    "model": "llama-3.1-70b",
    "framework": "vllm",
    "precision": "fp8",
    "tp": 4,
    "ep": 1,
    "dp_attention": "false",
    "isl": 1024,
    "osl": 1024,
    "tput_per_gpu": 800.0,
    "output_tput_per_gpu": 400.0,
    "mean_ttft": 0.35,
    "mean_tpot": 0.0182,
    "mean_intvty": 55.0,
    "mean_e2el": 18.9,
}
LLMPERF = {
    "model": "llama-3.1-8b",
    "mean_input_tokens": 550,
    "mean_output_tokens": 150,
    "num_concurrent_requests": 4,
    "results_ttft_s_mean": 0.05,
    "results_inter_token_latency_s_mean": 0.0096,
    "results_end_to_end_latency_s_mean": 1.44,
    "results_number_input_tokens_mean": 550.0,
    "results_number_output_tokens_mean": 150.0,
    "results_mean_output_throughput_token_per_s": 410.0,
}


def aiperf_json(users: int, ttft: float, tpot: float) -> dict[str, object]:
    """What aiperf 0.13 exports of 1024 prompt tokens and 256 of an answer, with these latencies, ms. The warm-up has
    another concurrency, and is not what is measured."""
    whole = ttft + 255 * tpot
    return {
        "schema_version": "1.4",
        "aiperf_version": "0.13.0",
        "request_throughput": {"unit": "requests/sec", "avg": 1e3 * users / whole},
        "request_latency": {"unit": "ms", "avg": whole, "p50": whole, "p90": 1.05 * whole, "p99": 1.1 * whole},
        "request_count": {"unit": "requests", "avg": 10.0 * users},
        "time_to_first_token": {"unit": "ms", "avg": ttft, "p50": 0.9 * ttft, "p90": 1.5 * ttft, "p99": 2.0 * ttft},
        "inter_token_latency": {"unit": "ms", "avg": tpot, "p50": tpot, "p90": 1.1 * tpot, "p99": 1.2 * tpot},
        "output_token_throughput": {"unit": "tokens/sec", "avg": 256e3 * users / whole},
        "output_sequence_length": {"unit": "tokens", "avg": 256.0},
        "input_sequence_length": {"unit": "tokens", "avg": 1024.0},
        "benchmark_duration": {"unit": "sec", "avg": 10.0 * whole / 1e3},
        "input_config": {
            "models": {"items": [{"name": "meta-llama/Llama-3.1-70B-Instruct"}]},
            "phases": [
                {"name": "warmup", "kind": "warmup", "type": "concurrency", "concurrency": 2},
                {"name": "profiling", "kind": "profiling", "type": "concurrency", "concurrency": users},
            ],
        },
        "was_cancelled": False,
        "is_complete": True,
    }


GENAI_PERF_CSV = """\
Metric,avg,min,max,p99,p95,p90,p75,p50,p25
Time To First Token (ms),90.00,71.20,"1,204.11",180.00,140.10,135.00,95.00,81.00,75.00
Inter Token Latency (ms),12.00,11.10,15.10,14.40,13.50,13.20,12.40,12.00,11.60
Request Latency (ms),"3,150.00","3,001.00","3,600.00","3,465.00","3,400.00","3,307.50","3,200.00","3,150.00","3,100.00"
Output Sequence Length,256.00,256.00,256.00,256.00,256.00,256.00,256.00,256.00,256.00
Input Sequence Length,"1,024.00","1,024.00","1,024.00","1,024.00","1,024.00","1,024.00","1,024.00","1,024.00","1,024.00"

Metric,Value
Output Token Throughput (per sec),1300.32
Request Throughput (per sec),5.08
"""

GOOD: dict[str, tuple[str, Setup, int]] = {
    "vllm": (
        json.dumps(vllm_json(1024, 256, 16, 90.0, 12.0)),
        Setup(on="h200:8", model="llama-3.1-70b", plan={"tp": "8"}),
        1,
    ),
    "sglang": (
        "\n".join(json.dumps(sglang_json(1024, 256, n, 90.0, 12.0)) for n in (8, 16)),
        Setup(on="h200:8", model="llama-3.1-70b", plan={"tp": "8"}),
        2,
    ),
    "inferencex": (
        json.dumps(
            [
                INFERENCEX,
                INFERENCEX
                | {"conc": 64, "mean_tpot": 0.03, "mean_intvty": 33.0, "mean_e2el": 31.0, "output_tput_per_gpu": 520.0},
            ]
        ),
        Setup(),
        2,
    ),
    "forward-passes": (
        "\n".join(
            json.dumps(
                {
                    "schema": "dynamo.fpm.trace.v1",
                    "fpm": {
                        "wall_time": seconds,
                        "scheduled_requests": {"num_decode_requests": n, "sum_decode_kv_tokens": 2048 * n},
                    },
                }
            )
            for n, seconds in ((8, 0.0065), (64, 0.0085))
        ),
        Setup(on="b300:8", model="qwen3-32b", software="vllm", plan={"tp": "4", "precision": "bf16"}),
        2,
    ),
    "aiperf": (
        json.dumps(aiperf_json(16, 90.0, 12.0), indent=2),
        Setup(on="h200:8", model="llama-3.1-70b", software="vllm", plan={"tp": "8"}),
        1,
    ),
    "aiperf-csv": (
        GENAI_PERF_CSV,
        Setup(on="h200:8", model="llama-3.1-70b", software="vllm", plan={"tp": "8", "concurrency": "16"}),
        1,
    ),
    "llmperf": (json.dumps(LLMPERF), Setup(on="h200:1", software="vllm", plan={"tp": "1"}), 1),
    "nccl-tests": (nccl_log(TIMES, 8, sizes=SIZES), Setup(on="h100"), 3),
    "nccom-test": (nccom_log(TIMES, 16, sizes=SIZES), Setup(on="trn3:4"), 3),
    "torchtitan": (
        TITAN,
        Setup(on="h100:64", model="llama-3.1-8b", plan={"seq": "8192", "batch": "128", "precision": "bf16"}),
        1,
    ),
    "vllm-table": (VLLM_TABLE, Setup(on="trn2:4", model="llama-3.1-8b", plan={"tp": "16"}), 1),
    "vllm-server": (
        VLLM_SERVER,
        Setup(on="trn3:2", model="gpt-oss-120b", plan={"isl": "2048", "osl": "1024"}),
        1,
    ),
    "megatron": (MEGATRON, Setup(on="h100", model="llama-3.1-8b"), 1),
    "maxtext": (MAXTEXT, Setup(on="tpu-v5p", model="llama-3.1-8b", plan={"precision": "bf16"}), 1),
    "csv": ("system,kind,group,bytes,time_us\nh100,all-reduce,8,1073741824,4200\n", Setup(), 1),
}
"""Name of a format -> a small file of it, what it does not say, and its measurements."""
