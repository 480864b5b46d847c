"""Rows that nobody quotes a price of are price lines, in text and pictures."""

from __future__ import annotations

import json
from typing import Any

import pytest

import mowich
from mowich.facts import load_facts
from mowich.show.price_lines import price_line_charts, unquoted
from mowich.show.render.terminal import style_for_stdout, terminal
from mowich.show.verbs import page_of

TRAIN = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
SERVE = {"isl": "2k", "osl": "500"}
TITLE = "Cost against the price of a chip-hour, where nobody quotes a price"


def asked(on: list[str], **more: Any) -> dict[str, Any]:
    job = {} if "serve" in more else {"train": TRAIN}
    return json.loads(json.dumps(mowich.compare("llama-3.1-8b", on, chips=64, **job, **more).to_dict()))  # type: ignore[no-any-return]


@pytest.mark.parametrize("more", [{}, {"serve": SERVE}])
def test_a_row_without_a_quoted_price_is_a_line_with_its_break_even(more: dict[str, Any]) -> None:
    data = asked(["trn3", "ironwood", "trn4"], **more)
    rows = {r["system"]: r for r in data["rows"]}
    assert [r["system"] for r in unquoted(data["rows"], data["inputs"])] == ["trn3", "trn4"]  # a guess is no quote
    page = page_of(data)
    [chart] = [c for c in page.charts if c.title == TITLE]
    option: Any = chart.option
    own = [s for s in option["series"] if s["name"] == "trn3"]
    middle, low, high, mark = own
    even = rows["trn3"]["breakeven_usd_per_chip_h"]
    best = min(r["usd_per_mtok"]["value"] for name, r in rows.items() if name != "trn3")
    assert mark["data"][0]["value"] == pytest.approx([even["value"], best])
    for line, price in ((middle, even["value"]), (low, even["low"]), (high, even["high"])):
        assert all(y / x == pytest.approx(best / price) for x, y in line["data"])  # through the break-even
    assert [line["lineStyle"].get("type") for line in own[:3]] == [None, "dashed", "dashed"]
    assert option["legend"]["data"] == ["trn3", "trn4", "ironwood"]  # a name once
    assert (option["xAxis"]["type"], option["yAxis"]["type"]) == (
        "log",
        "log",
    )  # crossings of dear and cheap rows are seen
    text = " ".join(terminal(page, style_for_stdout(plain=True)).split())
    assert "trn3 has no quoted price (its cost of ownership: $" in text
    assert "per chip-hour" in text


def test_no_price_line_where_every_row_has_a_price_or_the_user_set_one() -> None:
    data = asked(["h200", "ironwood"])
    assert price_line_charts(data["rows"], data["inputs"]) == []
    own = asked(["trn3", "ironwood"], facts=load_facts().with_values({"prices.user.trn3-gen2": 1.4 / 3600}))
    assert [r["price"].split(", ")[1] for r in own["rows"]] == ["yours", "tco"]
    assert price_line_charts(own["rows"], own["inputs"]) == []
