"""AIConfigurator (PyPI `aiconfigurator`): `cli_estimate` of its Python interface, one call a row.

It answers by its measured tables (SILICON, its default), of the release of the engine that it takes by itself. What is
not stated to it, it takes by default: quantisation from the model's name, the budget of prompt tokens. The plan is the
one that Mowich read from the row.
"""

from __future__ import annotations

import importlib.metadata
import logging
import re
from argparse import Namespace
from typing import Any

from protocol import Answers, CannotAnswerError, Row, each, main

NAME = "AIConfigurator"
NEEDS = "the package aiconfigurator in an environment of its own: `make .venv-peers-aiconfigurator/.installed`"

SYSTEMS = {
    "a100": "a100_sxm",
    "h100": "h100_sxm",
    "h200": "h200_sxm",
    "b200": "b200_sxm",
    "b300": "b300_sxm",
    "gb200": "gb200",
    "gb300": "gb300",
    "l40s": "l40s",
    "rtx_pro_6000_server": "rtx_pro_6000_server",
}
MODELS = (
    (
        r"deepseek-?(r1|v3)$|deepseek-v3-0324|deepseek-r1-0528",
        {"fp8": "deepseek-ai/DeepSeek-R1", "fp4": "nvidia/DeepSeek-V3.1-NVFP4"},
    ),
    (r"deepseek-r1-nvfp4", {"fp4": "nvidia/DeepSeek-V3.1-NVFP4"}),
    (r"gpt-oss-120b", {"*": "openai/gpt-oss-120b"}),
    (r"gpt-oss-20b", {"*": "openai/gpt-oss-20b"}),
    (r"llama-3\.[13]-70b", {"bf16": "meta-llama/Meta-Llama-3.1-70B", "fp8": "nvidia/Llama-3.1-70B-Instruct-FP8"}),
    (r"llama-3-70b", {"bf16": "meta-llama/Meta-Llama-3.1-70B"}),
    (r"llama-3(\.1)?-8b", {"bf16": "meta-llama/Meta-Llama-3.1-8B"}),
    (r"llama-3\.1-405b", {"bf16": "meta-llama/Meta-Llama-3.1-405B"}),
    (r"minimax-m2\.5", {"fp8": "MiniMaxAI/MiniMax-M2.5", "fp4": "nvidia/MiniMax-M2.5-NVFP4"}),
    (r"qwen3\.5-397b-a17b", {"bf16": "Qwen/Qwen3.5-397B-A17B", "fp4": "nvidia/Qwen3.5-397B-A17B-NVFP4"}),
    (
        r"qwen3-235b-a22b",
        {"bf16": "Qwen/Qwen3-235B-A22B", "fp8": "Qwen/Qwen3-235B-A22B-FP8", "fp4": "nvidia/Qwen3-235B-A22B-NVFP4"},
    ),
    (r"qwen3-32b", {"bf16": "Qwen/Qwen3-32B", "fp8": "Qwen/Qwen3-32B-FP8"}),
    (r"kimi-k2\.5", {"int4": "moonshotai/Kimi-K2.5", "fp4": "nvidia/Kimi-K2.5-NVFP4"}),
    (r"glm-5$", {"bf16": "zai-org/GLM-5", "fp8": "zai-org/GLM-5-FP8", "fp4": "nvidia/GLM-5-NVFP4"}),
    (r"mixtral-8x7b", {"bf16": "mistralai/Mixtral-8x7B-v0.1"}),
    (r"mixtral-8x22b", {"bf16": "mistralai/Mixtral-8x22B-v0.1"}),
)
"""A row's model -> the configuration in the package, by format of the weights ("*": any)."""
QUANTISED = {
    "fp8": {"gemm_quant_mode": "fp8", "moe_quant_mode": "fp8"},
    "fp4": {"gemm_quant_mode": "nvfp4", "moe_quant_mode": "nvfp4"},
}
"""What it is told where the package has the model in 16 bits alone."""


def format_of(words: str) -> str:
    """fp8, fp4, int4 or bf16 of a row's precision; "" and 16-bit words are what the model ships in."""
    words = words.lower()
    for name in ("fp4", "fp8", "int4"):
        if name in words:
            return name
    return "bf16"


def model_of(name: str, weights: str) -> tuple[str, dict[str, str]]:
    """(path, quantisation) for a row's model. Raises CannotAnswerError where the package has none."""
    for pattern, paths in MODELS:
        if re.search(pattern, name.lower()):
            if "*" in paths or weights in paths:
                return paths.get("*") or paths[weights], {}
            if weights == "bf16" and "bf16" not in paths:
                return next(iter(paths.values())), {}
            if "bf16" in paths and weights in QUANTISED:
                return paths["bf16"], QUANTISED[weights]
            break
    raise CannotAnswerError("the package has no configuration of the model in this format")


def number(row: Row, column: str, default: int | None = None) -> int:
    text = row["cells"].get(column) or ""
    if not text:
        if default is None:
            raise CannotAnswerError(f"the row states no {column}, which it requires")
        return default
    return max(1, int(float(text)))


def pool(row: Row, name: str) -> dict[str, int]:
    """The plan of the prefill or decode workers, from the row's columns and words."""
    words = re.search(rf"\b{name}:([^;]*)", row["cells"].get("parallel_note") or "")
    said = dict(re.findall(r"(\w+)=(\d+)", words[1])) if words else {}
    columns = {
        "num_workers": "workers",
        "tp_size": "tp",
        "pp_size": "pp",
        "attention_dp_size": "dp",
        "moe_tp_size": "moe_tp",
        "moe_ep_size": "ep",
        "batch_size": "batch",
    }
    out = {}
    for key, column in columns.items():
        text = row["cells"].get(f"{name}_{column}") or said.get(key) or ""
        if text:
            out[f"{name}_{key}"] = max(1, int(float(text)))
    for key in ("num_workers", "batch_size"):
        if f"{name}_{key}" not in out:
            raise CannotAnswerError(f"the row states no {key.replace('_', ' ')} of a pool, which it requires")
    return out


def asked(row: Row) -> dict[str, Any]:
    """The arguments of `cli_estimate`. Raises CannotAnswerError."""
    cells = row["cells"]
    if row["work"] != "serving":
        raise CannotAnswerError(f"no {row['work']}: it plans serving")
    if row["chip"] not in SYSTEMS:
        raise CannotAnswerError("no tables of the chip")
    engine = re.search(r"trtllm|tensorrt|sglang|vllm", cells["framework"].lower())
    if not engine or "neuron" in cells["framework"].lower() or "tpu" in cells["framework"].lower():
        raise CannotAnswerError("no tables of the engine")
    if "MLPerf" in cells["mode"] or not cells.get("isl") or not cells.get("osl"):
        raise CannotAnswerError("the row states no lengths or no closed loop")
    path, quantised = model_of(cells["model"].split("/")[-1], format_of(cells["precision"]))
    out: dict[str, Any] = {
        "model_path": path,
        "system_name": SYSTEMS[row["chip"]],
        "backend_name": {"tensorrt": "trtllm"}.get(engine[0], engine[0]),
        "isl": number(row, "isl"),
        "osl": number(row, "osl"),
        **quantised,
    }
    if "disagg" in cells["mode"]:
        return out | {"mode": "disagg", **pool(row, "prefill"), **pool(row, "decode")}
    out["mode"] = "static" if "static" in cells["mode"] else "agg"
    return out | (as_read(row["reading"]) if row["reading"] else as_printed(row))


def as_read(at: dict[str, Any]) -> dict[str, Any]:
    """The plan and the load as Mowich read them: some tables print tp times ep for tp."""
    out = {
        "tp_size": at["tp"],
        "pp_size": at["pp"],
        "attention_dp_size": at["dp"],
        "batch_size": max(1, round(at["users"])),
    }
    if at["params_active"] < at["params"]:
        out |= {"moe_ep_size": at["ep"], "moe_tp_size": max(1, at["tp"] * at["dp"] // at["ep"])}
    return out


def as_printed(row: Row) -> dict[str, Any]:
    """The plan and the load of a row that Mowich refuses."""
    dp = number(row, "dp", 1)
    out = {
        "tp_size": number(row, "tp", 1),
        "pp_size": number(row, "pp", 1),
        "attention_dp_size": dp,
        "batch_size": number(row, "batch", max(1, number(row, "concurrency") // dp)),
    }
    if row["cells"].get("moe_tp"):
        out |= {"moe_tp_size": number(row, "moe_tp"), "moe_ep_size": number(row, "ep", 1)}
    elif row["cells"].get("ep"):
        out["moe_ep_size"] = number(row, "ep")
    return out


def reason_of(error: Exception) -> str:
    """Its error as one of few kinds."""
    text = f"{type(error).__name__}: {error}"
    kinds = (
        (
            "OutOfMemory|does not fit|exceeds.*(memory|KV)|No memory|OOM|KV cache capacity",
            "it finds that the memory does not suffice",
        ),
        (
            "missing|not found|no data|NoPerf|PerfData|not available|interpol|empty",
            "its tables hold no data for the plan",
        ),
        ("quant|nvfp4_wo", "it has no such format"),
        ("divis|must equal|must be|invalid|not support|unsupported|Invalid", "it refuses the plan"),
    )
    return next(
        (said for pattern, said in kinds if re.search(pattern, text, re.IGNORECASE)),
        f"it failed: {type(error).__name__}",
    )


def version(options: Namespace) -> str:
    return importlib.metadata.version("aiconfigurator")


def answer(rows: list[Row], options: Namespace) -> tuple[Answers, dict[str, str]]:
    import sys

    from aiconfigurator.cli.api import cli_estimate  # type: ignore[import-not-found]

    logging.disable(logging.CRITICAL)

    def ask(row: Row) -> dict[str, float]:
        call = asked(row)
        try:
            found = cli_estimate(**call)
        except Exception as error:
            print(row["id"], call, f"{type(error).__name__}: {str(error)[:300]}", file=sys.stderr)
            raise CannotAnswerError(reason_of(error)) from error
        out = {"ttft_ms": float(found.ttft), "tpot_ms": float(found.tpot)}
        rate = found.raw.get("tokens/s/gpu") if hasattr(found, "raw") else None
        if rate:
            out["output_tok_s_per_chip"] = float(rate)
        return out

    return each(rows, ask)


if __name__ == "__main__":
    main(version, answer)
