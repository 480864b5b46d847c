"""Answers of `mowich rl` as their JSON has them, drawn or made by hand: what pages are tested on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from mowich.plans.plan import Plan, ServePlan
from mowich.rl.cycle import BINDS, CYCLE_PARTS

ROLLOUT_PLAN = ServePlan(tp=4, ep=4).to_dict()
TRAINER_PLAN = Plan(tp=4, sp=True, pp=2, dp=9, ep=8, zero=1).to_dict()


def estimate(value: float | None, unit: str = "s", by: float = 1.2, **more: Any) -> dict[str, Any]:
    """An estimate with a range of a factor either way; unknown for None."""
    known = value is not None
    return {
        "value": value,
        "unit": unit,
        "low": value / by if value is not None else None,
        "high": value * by if value is not None else None,
        "grade": "C" if known else "D",
        "coverage": {"fitted": 0.7, "analytic": 0.3} if known else {},
        "breakdown": {},
        **({} if known else {"reason": "no plan fits"}),
        **more,
    }


def row(
    rollouts: str = "trn3:64", trainer: str = "gb300:72", *, usd: float | None = 0.6, by: float = 1.2, **more: Any
) -> dict[str, Any]:
    """A run on two kinds of chips; on the same chips where `rollouts` is ""."""
    placement = "split" if rollouts else "colocated"
    where = rollouts or trainer
    sides = {name: name.partition(":")[::2] for name in (where, trainer)}
    parts = {"generation": 12.0, "reward": 0.0, "policy": 9.0, "reference": 0.0, "training": 70.0, "sync": 2.0}
    step = sum(parts.values())
    return {
        "placement": placement,
        "rollouts": {
            "system": where,
            "chips": int(sides[where][1]),
            "engine": "vllm-neuron",
            "plan": ROLLOUT_PLAN,
            "workers": 16,
        },
        "trainer": {
            "system": trainer,
            "chips": int(sides[trainer][1]),
            "stack": "megatron",
            "plan": TRAINER_PLAN,
        },
        "feasible": True,
        "reason": "",
        "step_s": estimate(step, by=by, breakdown=parts),
        "parts": {name: estimate(value, by=by) for name, value in parts.items()},
        "binds": "trainer",
        "closed_form_s": 0.98 * step,
        "tokens_per_s_per_chip": estimate(812.0, "1/s"),
        "trainer_wait_frac": estimate(12.0 / step, "1"),
        "rollout_idle_frac": estimate(0.31, "1"),
        "longest_s": estimate(212.0),
        "staleness": {"mean": estimate(1.4, "1"), "max": 2},
        "sync": {"method": "tensor by tensor", "seen_s": estimate(2.0), "hidden_s": estimate(5.0)},
        "usd_per_mtok": estimate(usd, "USD/Mtok", by),
        "J_per_token": estimate(0.8, "J/token"),
        "price": "$2.24/chip/h, tco, 2026Q4, hyperscaler, owner's rule",
        "assumed": ["sigma of lengths 0.7 (0.4 to 1.2)", "software of the framework 1.4 (1.2 to 1.6)"],
        **more,
    }


def impossible(rollouts: str, trainer: str) -> dict[str, Any]:
    """A run that does not fit."""
    found = row(rollouts, trainer)
    nothing = {key: estimate(None, v["unit"]) for key, v in found.items() if isinstance(v, dict) and "unit" in v}
    found["rollouts"]["plan"] = found["trainer"]["plan"] = None
    return {
        **found,
        **nothing,
        "parts": {},
        "staleness": {"mean": estimate(None, "1"), "max": 0},
        "sync": {"method": "", "seen_s": estimate(None), "hidden_s": estimate(None)},
        "feasible": False,
        "binds": None,
        "closed_form_s": None,
        "reason": "the model does not fit the trainer: 31.2 GiB short per device",
    }


def spans(workers: int = 3, steps: int = 3) -> list[list[Any]]:
    """A timeline of a few steps."""
    out: list[list[Any]] = []
    for step in range(steps):
        at = 100.0 * step
        out += [["trainer", "policy", step, at + 12.0, at + 21.0], ["trainer", "training", step, at + 21.0, at + 91.0]]
        out.append(["trainer", "sync", step + 1, at + 91.0, at + 93.0])
        for worker in range(workers):
            out.append([str(worker), "generation", step, at, at + 92.0 - worker])
            out.append([str(worker), "sync", step + 1, at + 93.0, at + 98.0])
    return out


def answer(*rows: dict[str, Any], timeline: Sequence[Any] = (), split: Any = None, **inputs: Any) -> dict[str, Any]:
    """The whole answer."""
    first = rows[0]
    return {
        "schema": "mowich/rl@1",
        "inputs": {
            "model": "qwen3-30b-a3b",
            "algorithm": "grpo",
            "prompts": 64,
            "samples": 32,
            "global_batch": 512,
            "lengths": {"mean": 3200.0, "cap": 4096.0},
            "staleness": 1,
            "framework": "nemo-rl",
            "price_term": "tco",
            "asked": {
                "model": "qwen3-30b-a3b",
                "prompts": 64,
                "samples": 32,
                "mean": 3200,
                "cap": 4096,
                "on": ["h100:32"],
            },
            "set": [],
            **inputs,
        },
        "facts_hash": "0123456789abcdef",
        **{key: first[key] for key in ("step_s", "parts", "trainer_wait_frac", "staleness", "usd_per_mtok")},
        "rows": list(rows),
        "split": split,
        "timeline": list(timeline),
        "warnings": [],
    }


def drawn(seed: int) -> dict[str, Any]:
    """An answer of random runs: one or several, split or colocated, some impossible, some without a price."""
    dice = random.Random(seed)
    names = ["trn3:64", "gb300:72", "h100:1024", "ironwood:256", "trn2-ultraserver:16384"]
    rows = []
    for _ in range(dice.choice((1, 1, 2, 4, 6))):
        where = dice.choice(["", *names]), dice.choice(names)
        if dice.random() < 0.15:
            rows.append(impossible(*where))
            continue
        parts = {part: dice.choice((0.0, dice.lognormvariate(1.0, 2.0))) for part in CYCLE_PARTS} | {"training": 1.0}
        step, by = sum(parts.values()), dice.choice((1.0, 1.1, 1.4, 2.5))
        rows.append(
            row(
                *where,
                usd=dice.choice((None, dice.lognormvariate(0.0, 2.0))),
                by=by,
                step_s=estimate(step, by=by, breakdown=parts),
                parts={name: estimate(value, by=by) for name, value in parts.items()},
                binds=dice.choice(BINDS),
                longest_s=estimate(dice.lognormvariate(3.0, 2.0)),
                staleness={"mean": estimate(dice.uniform(0, 8), "1"), "max": 8},
            )
        )
    return answer(*rows, timeline=spans(dice.randint(1, 40)) if dice.random() < 0.5 else ())


__all__ = ["answer", "drawn", "estimate", "impossible", "row", "spans"]
