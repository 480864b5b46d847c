"""The numbers of a result that say most: what `mowich explain RESULT` lists unless all are asked for."""

from __future__ import annotations

from mowich.shown import Result
from mowich.studies.explain.tree import ResultPath, at, is_estimate, numbers

_MOST = 15

_FIRST = (
    "factor",
    "step_s",
    "ttft_s",
    "tpot_s",
    "item_s",
    "pass_s",
    "time_s",
    "tokens_per_s_per_chip",
    "tokens_per_s_per_user",
    "items_per_s_per_chip",
    "usd_per_mtok",
    "usd_per_item",
    "J_per_token",
    "J_per_item",
    "mfu",
    "goodput",
    "days",
    "objective",
    "gap",
    "busbw_Bps",
    "total_W",
    "chips_under_cap",
    "machine_W",
    "derived",
    "published_value",
    "ratio",
    "predicted",
    "measured",
    "median_abs_error",
    "smallest_chips",
    "requests",
    "memory_capacity_B",
    "mtbf_s",
    "checkpoint_s",
    "failures",
    "params",
    "params_active",
    "flop_per_token_train",
    "kv_bytes_per_token",
    "chips_used",
)
"""Keys of numbers in the order in which readers ask for them."""


def headline_metrics(result: Result) -> list[ResultPath]:
    """The paths of at most fifteen numbers, in the order of the result.

    Kinds of numbers come in the order of `_FIRST`. Each kind comes for every row while there is room, so that rows stay
    comparable. Parts of numbers and unknown numbers are left out. Other kinds fill the rest.
    """
    known = [p for p in numbers(result) if "breakdown" not in p and not _is_unknown(at(result, p))]
    kinds: dict[str, list[ResultPath]] = {}
    for path in known:
        kinds.setdefault(str(path[-1]), []).append(path)
    order = [k for k in _FIRST if k in kinds] + [k for k in kinds if k not in _FIRST]
    chosen: list[ResultPath] = []
    for kind in order:
        chosen += kinds[kind][: _MOST - len(chosen)]
    picked = set(chosen)
    return [p for p in known if p in picked]


def _is_unknown(node: object) -> bool:
    return is_estimate(node) and node["value"] is None
