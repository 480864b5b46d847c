"""SimuMax (a checkout, `--dir`): its own system file of B200, the plan and the model of the row, in bf16.

That file has no rates in 8 bits. Its other system file is of A100 on PCIe, of which no row is published. What its words
have no place for, it does not answer.
"""

from __future__ import annotations

import logging
import math
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from protocol import Answers, CannotAnswerError, Row, checkout_version, each, main

NAME = "SimuMax"
NEEDS = "a checkout of github.com/MooreThreads/SimuMax: --simumax DIR"

SYSTEMS = {"B200": "b200_bf16_ceperm.json"}


def check(row: Row) -> None:
    """Raises CannotAnswerError for what its model or its plan has no words for."""
    if row["work"] != "training":
        raise CannotAnswerError(f"no {row['work']}: it is asked for training")
    if row["refused"]:
        raise CannotAnswerError("no plan and model in numbers: Mowich's reader refuses the row")
    if row["chip"] not in SYSTEMS:
        raise CannotAnswerError("no system file of the chip")
    at = row["reading"]
    plan = at["plan"]
    for bad, why in (
        (at["experts"], "experts of this kind are not asked"),
        (not at["alike"] or at["kind"] != "gqa" or not at["causal"], "layers of this kind are not asked"),
        (at["task"] not in ("pretrain", "sft"), "it trains every weight: no adapters"),
        (plan["zero"] > 1, "its plan shards the optimizer, not gradients or weights"),
        (plan["precision"] != "bf16", "its system file of B200 has no rates in 8 or 4 bits"),
        (plan["recompute"] not in ("none", "full"), "recomputation of parts is not asked"),
        (plan["offload"] != "none", "offload is not asked"),
    ):
        if bad:
            raise CannotAnswerError(why)


def strategy(at: dict[str, Any]) -> dict[str, Any]:
    """The row's plan in the words of SimuMax."""
    plan = at["plan"]
    layers = math.ceil(at["layers"] / plan["pp"])
    return {
        "seq_len": at["seq"],
        "micro_batch_size": plan["micro_batch"],
        "micro_batch_num": max(1, round(at["batch"] / (plan["dp"] * plan["micro_batch"]))),
        "dtype": "bf16",
        "world_size": at["devices"],
        "tp_size": plan["tp"],
        "cp_size": plan["cp"],
        "pp_size": plan["pp"],
        "ep_size": 1,
        "etp_size": 1,
        "enable_sequence_parallel": plan["sp"] and plan["tp"] > 1,
        "interleaving_size": plan["vpp"],
        "zero_state": min(1, plan["zero"]),
        "enable_recompute": plan["recompute"] == "full",
        "recompute_granularity": "full_block" if plan["recompute"] == "full" else None,
        "recompute_layer_num": layers if plan["recompute"] == "full" else 0,
        "attention_sparse_ratio": 0.5,
        "mem_factor": 0.94,
    }


def model(at: dict[str, Any]) -> dict[str, Any]:
    return {
        "model_type": "dense",
        "model_name": "asked",
        "hidden_size": at["hidden"],
        "head_num": at["heads"],
        "kv_head_num": at["kv_heads"],
        "head_size": at["head_dim"],
        "intermediate_size": at["ffn"],
        "layer_num": at["layers"],
        "vocab_size": at["vocab"],
        "use_swiglu": at["gated"],
    }


def answer(rows: list[Row], options: Namespace) -> tuple[Answers, dict[str, str]]:
    root = Path(options.dir)
    sys.path.insert(0, str(root))
    from simumax.core.config import ModelConfig, StrategyConfig, SystemConfig  # type: ignore[import-not-found]
    from simumax.core.perf_llm import PerfLLM  # type: ignore[import-not-found]

    logging.disable(logging.CRITICAL)

    def ask(row: Row) -> dict[str, float]:
        check(row)
        at = row["reading"]
        file = root / "configs" / "system" / SYSTEMS[row["chip"]]
        try:
            found = PerfLLM()
            found.configure(
                strategy_config=StrategyConfig.init_from_dict(strategy(at)),
                model_config=ModelConfig.init_from_dict(model(at)),
                system_config=SystemConfig.init_from_config_file(str(file)),
            )
            found.run_estimate()
            step_ms = float(found.analysis_cost().data["duration_time_per_iter"])
        except Exception as error:
            print(row["id"], f"{type(error).__name__}: {str(error)[:400]}", file=sys.stderr)
            raise CannotAnswerError(f"it refuses the plan: {type(error).__name__}") from error
        plan = at["plan"]
        rounds = max(1, round(at["batch"] / (plan["dp"] * plan["micro_batch"])))
        return {"step_s": step_ms / 1e3 * at["batch"] / (rounds * plan["dp"] * plan["micro_batch"])}

    return each(rows, ask)


if __name__ == "__main__":
    main(checkout_version, answer)
