"""`compare --emit` says "cheapest" of a row only where the ranking of the compared rows says so."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mowich.shown import Result
from mowich.studies.best_emitted import why_emitted
from mowich.studies.ranking import ranking

COSTS = st.lists(
    st.tuples(st.floats(0.1, 1.0), st.floats(1.0, 2.0), st.sampled_from(["tco", "on-demand"])), min_size=2, max_size=4
)


def _row(name: str, value: float, width: float, price: str) -> Result:
    cost = {"value": value, "unit": "USD/Mtok", "low": value / width, "high": value * width, "grade": "C"}
    speed = {"value": 100.0, "unit": "tokens/s", "low": 90.0, "high": 110.0, "grade": "C"}
    plan = {"usd_per_mtok": cost, "tokens_per_s_per_chip": speed, "step_s": {**speed, "unit": "s"}}
    return {"system": name, "feasible": True, "chips_requested": 64, "price": price, **plan}


@given(drawn=COSTS)
def test_the_words_agree_with_the_ranking(drawn: list[tuple[float, float, str]]) -> None:
    rows = [_row(f"s{i}", *one) for i, one in enumerate(drawn)]
    result: Result = {"rows": rows, "inputs": {"task": "pretrain", "systems": []}}
    rank = ranking(result, "usd_per_mtok")
    lowest = min(rows, key=lambda row: row["usd_per_mtok"]["value"])
    said = why_emitted(lowest, "usd_per_mtok", result, "vllm")
    alone = rank.best is not None and not rank.close and rows[rank.best] is lowest
    assert ("cheapest" in said) == alone
    assert ("not ranked" in said) == (rank.best is None)
    if rank.close:
        assert all(rows[i]["system"] in said for i in rank.close if rows[i] is not lowest)
