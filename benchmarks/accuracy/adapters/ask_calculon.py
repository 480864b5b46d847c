"""Calculon (a checkout, `--dir`): its own system files of A100 and H100, the plan of the row, float16 or float8.

Its model is a GPT block with two matrices in the MLP and as many heads of keys as of queries. A gated MLP has the same
weights and work at 1.5 times the width, so it is asked so. What else its model has no words for, it does not answer. On
A100 nothing overlaps, as in its own example of Megatron's runs; on H100 what the plan says.
"""

from __future__ import annotations

import json
import logging
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from protocol import Answers, CannotAnswerError, Row, checkout_version, each, main

NAME = "Calculon"
NEEDS = "a checkout of github.com/calculon-ai/calculon: --calculon DIR"

SYSTEMS = {"A100-80GB": "a100_80g", "H100": "h100_80g_nvl8"}
TYPES = {"bf16": "float16", "fp16": "float16", "fp8": "float8", "mxfp8": "float8"}
RECOMPUTE = {"none": "none", "selective": "attn_only", "full": "full"}


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
        (at["experts"], "its model has no experts"),
        (
            not at["alike"] or at["kind"] != "gqa" or not at["heads"],
            "its model has one kind of layer",
        ),
        (at["heads"] != at["kv_heads"], "its model has no grouped heads of keys"),
        (not at["causal"], "its model is a decoder"),
        (at["task"] not in ("pretrain", "sft"), "it trains every weight: no adapters"),
        (plan["cp"] > 1, "its plan has no context parallelism"),
        (plan["zero"] > 1, "its plan shards the optimizer, not gradients or weights"),
        (plan["precision"] not in TYPES, "its system files have no such precision"),
        (plan["recompute"] not in RECOMPUTE, "its plan has no such recomputation"),
        (plan["offload"] != "none", "offload of this kind is not asked"),
    ):
        if bad:
            raise CannotAnswerError(why)


def tier(inner: int, degree: int, domain: int) -> int:
    """Network of a degree: 0 within a server, 1 between servers."""
    return int(inner * degree > domain)


def execution(at: dict[str, Any], overlaps: bool) -> tuple[Any, ...]:
    """The row's plan as the arguments of Calculon's Execution."""
    plan = at["plan"]
    tp, pp, dp = plan["tp"], plan["pp"], plan["dp"]
    batch = max(1, round(at["batch"] / (dp * plan["micro_batch"]))) * dp * plan["micro_batch"]
    return (
        at["devices"],
        tp,
        pp,
        dp,
        tier(1, tp, 8) if tp > 1 else 0,
        tier(tp * dp, pp, 8) if pp > 1 else 0,
        tier(tp, dp, 8) if dp > 1 else 0,
        batch,
        plan["micro_batch"],
        TYPES[plan["precision"]],
        True,
        "multihead",
        RECOMPUTE[plan["recompute"]],
        plan["vpp"],
        plan["zero"] == 1 and dp > 1,
        "rs_ag" if plan["sp"] and tp > 1 else "p2p_rs_ag" if plan["pp_scatter"] and tp > 1 else "ar",
        "ring" if overlaps and plan["tp_overlap"] and tp > 1 and plan["sp"] else "none",
        bool(plan["regather"] and plan["sp"] and tp > 1 and plan["recompute"] != "full"),
        bool(overlaps and plan["dp_overlap"] and dp > 1),
        False,
        False,
        False,
        True,
    )


def answer(rows: list[Row], options: Namespace) -> tuple[Answers, dict[str, str]]:
    root = Path(options.dir)
    sys.path.insert(0, str(root))
    from calculon.llm import Llm  # type: ignore[import-not-found]
    from calculon.system import System  # type: ignore[import-not-found]

    logging.disable(logging.CRITICAL)
    log = logging.Logger("silent")
    log.disabled = True
    machines = {
        chip: System(json.loads((root / "systems" / f"{name}.json").read_text(encoding="utf-8")))
        for chip, name in SYSTEMS.items()
    }

    def ask(row: Row) -> dict[str, float]:
        check(row)
        at = row["reading"]
        model = {
            "hidden": at["hidden"],
            "feedforward": round(at["ffn"] * (1.5 if at["gated"] else 1.0)),
            "seq_size": at["seq"],
            "attn_heads": at["heads"],
            "attn_size": at["head_dim"],
            "num_blocks": at["layers"],
        }
        call = execution(at, row["chip"] == "H100")
        try:
            found = Llm(Llm.Application(model), log)
            found.compile(machines[row["chip"]], Llm.Execution(*call))
            found.run(machines[row["chip"]])
        except Llm.Error as error:
            print(row["id"], call, error, file=sys.stderr)
            full = "mem" in str(error).lower() or "capacity" in str(error).lower()
            raise CannotAnswerError(
                "it finds that the memory does not suffice" if full else "it refuses the plan"
            ) from error
        except AssertionError as error:
            print(row["id"], call, error, file=sys.stderr)
            raise CannotAnswerError("it refuses the plan") from error
        return {"step_s": at["batch"] / float(found.get_sample_rate())}

    return each(rows, ask)


if __name__ == "__main__":
    main(checkout_version, answer)
