"""A roofline of our own: FLOP over the published peak or bytes over the published bandwidth, whichever takes longer, at
an efficiency of 1. No collective, no queue, no overhead of any software: the least that the chips can take.

FLOP and bytes are those of Mowich's models, peak and bandwidth those of its facts.
"""

from __future__ import annotations

from argparse import Namespace

from protocol import Answers, CannotAnswerError, Row, each, main

NAME = "roofline"
NEEDS = "nothing"
STATE_B = 16.0
"""Bytes a parameter of training moves in a step, at least: weight, gradient and two moments, in mixed precision."""


def ask(row: Row) -> dict[str, float]:
    """ttft_ms: one prompt by itself; tpot_ms: one token of every sequence; step_s: one training step."""
    at = row["reading"]
    if row["refused"]:
        raise CannotAnswerError("no plan and model in numbers: Mowich's reader refuses the row")
    if not at:
        raise CannotAnswerError("not asked: the class is Mowich's alone")
    if row["work"] == "training":
        flop_s = at["step_flop"] / (at["devices"] * at["peak_flops"])
        return {"step_s": max(flop_s, STATE_B * at["params"] / (at["devices"] * at["hbm_Bps"]))}
    peak, memory = at["devices"] * at["peak_flops"], at["devices"] * at["hbm_Bps"]
    users = at["users"] * at["dp"]
    visited = 1.0 - (1.0 - at["params_active"] / at["params"]) ** users  # of the weights, by routing at random
    decode_B = at["weight_B"] * at["params"] * visited + users * at["kv_B"]
    tpot_s = max(users * at["token_flop"] / peak, decode_B / memory)
    ttft_s = max(at["prompt_flop"] / peak, at["weight_B"] * at["params_active"] / memory)
    rate = users * at["output"] / (ttft_s + (at["output"] - 1.0) * tpot_s) / at["chips"]
    out = {"ttft_ms": 1e3 * ttft_s, "tpot_ms": 1e3 * tpot_s, "output_tok_s_per_chip": rate}
    return {"tpot_ms": out["tpot_ms"]} if at["decode_only"] else out


def version(options: Namespace) -> str:
    return "efficiency 1"


def answer(rows: list[Row], options: Namespace) -> tuple[Answers, dict[str, str]]:
    return each(rows, ask)


if __name__ == "__main__":
    main(version, answer)
