"""What is there already, the power of a site, money for serving, and a year of it: each equals the same question by
hand."""

from __future__ import annotations

import functools
import json
import math
import random
import shlex
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mowich
from mowich import cli
from mowich.economics import money
from mowich.economics.ownership import YEAR_S, owned
from mowich.estimate import Estimate
from mowich.facts import load_facts
from mowich.machines.system import resolve
from mowich.requests.command import command_of
from mowich.requests.footing import TokenPrice, read_token_price
from mowich.show.render.csv import csv_of
from mowich.show.verbs import page_of
from mowich.studies.explain import Explainer, metrics, tree
from mowich.studies.footing import DAY_S, paid_chips
from mowich.studies.yearly import YearAsk, with_year
from server_here import asked_here

FACTS = load_facts()
MODEL = "llama-3.2-1b"
SERVE: Any = {"isl": "2k", "osl": 200}
FIXED: Any = {"serve": SERVE, "fixed": {"tp": "1", "mode": "aggregated", "kv": "bf16"}}
TRAIN: Any = {"tokens": "1T", "seq": 4096, "batch": "64seqs"}
NEAR: Any = {**TRAIN, "batch": "64seqs~5%"}
CHOSEN: Any = {"tp": "1,2", "pp": "1", "precision": "bf16"}
WORKS: Mapping[str, Any] = {"serve": FIXED, "train": {"train": TRAIN, "fixed": CHOSEN}}
NUMBERS = ("tokens_per_s_per_chip", "usd_per_mtok", "J_per_token")
TYPED = ("compare", MODEL, "--serve", "--isl", "2k", "--osl", "200")


@functools.cache
def plain(*systems: str, **more: Any) -> tuple[Any, ...]:
    """Rows of a question that several tests ask, without a year."""
    return tuple(mowich.compare(MODEL, list(systems), **FIXED, **more).rows)


def speed(row: Any) -> Estimate:
    found = row.tokens_per_s_per_chip.scaled(row.chips_requested, "1/s")
    assert isinstance(found, Estimate)
    return found


def own(row: Any) -> dict[str, Any]:
    """A row without its name."""
    return {key: value for key, value in row.to_dict().items() if key != "system"}


def saving(row: Any, name: str = "saving_usd") -> Estimate:
    assert row.yearly is not None
    assert row.yearly.beside is not None
    found = getattr(row.yearly.beside, name)
    assert isinstance(found, Estimate)
    return found


# ---- the same question by hand
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("work", WORKS)
def test_what_is_there_is_the_same_machine_at_the_price_of_its_electricity(work: str) -> None:
    dice = random.Random(work)
    for _ in range(2):
        name = f"{dice.choice(['trn2', 'h200', 'trn3'])}:{dice.choice([8, 16, 48])}"
        [there] = mowich.compare(MODEL, have=[name], **WORKS[work]).rows
        [by_hand] = mowich.compare(MODEL, [name], price="electricity", **WORKS[work]).rows
        assert own(there) == own(by_hand)
        both = mowich.compare(MODEL, ["h100:8"], have=[name], **WORKS[work]).rows
        [alone] = mowich.compare(MODEL, ["h100:8"], **WORKS[work]).rows
        for what in NUMBERS:
            assert getattr(both[0], what) == getattr(there, what)
            assert getattr(both[1], what) == getattr(alone, what)


@pytest.mark.parametrize("work", WORKS)
def test_a_site_feeds_as_many_chips_as_its_power_says(work: str) -> None:
    dice = random.Random(work)
    for _ in range(2):
        watts = round(10 ** dice.uniform(4.2, 5.2))
        name = dice.choice(["trn2", "h200", "trn3"])
        [cap] = mowich.power([name], cap_W=float(watts))
        assert cap.chips_under_cap is not None
        chips = int(float(cap.chips_under_cap))
        [fed] = mowich.compare(MODEL, [name], power=f"{watts} W", **WORKS[work]).rows
        job = {"train": NEAR, "fixed": CHOSEN} if work == "train" else FIXED
        [by_hand] = mowich.compare(MODEL, [name], chips=chips, **job).rows
        assert fed.chips_requested == chips
        assert own(fed) == own(by_hand)


@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize(("per", "seconds"), [("year", YEAR_S), ("month", YEAR_S / 12), ("day", DAY_S)])
def test_a_year_is_the_rows_times_its_seconds(work: str, per: str, seconds: float) -> None:
    asked: Any = {"per": per, "sells": "$0.2..$0.8/Mtok", **WORKS[work]}
    found = mowich.compare(MODEL, ["h200:20", "trn3:16"], **asked)
    plain = mowich.compare(MODEL, ["h200:20", "trn3:16"], **WORKS[work])
    for row, bare in zip(found.rows, plain.rows, strict=True):
        year = row.yearly
        assert year is not None
        assert {k: v for k, v in own(row).items() if k != "yearly"} == own(bare)
        chips = bare.chips_used if work == "train" else bare.chips_requested
        kept = float(getattr(bare, "goodput", 1.0))
        tokens = float(bare.tokens_per_s_per_chip) * chips * kept * seconds
        assert float(year.tokens) == pytest.approx(tokens, rel=1e-12)
        assert float(year.cost_usd) == pytest.approx(float(bare.usd_per_mtok) * tokens / 1e6, rel=1e-12)
        assert float(year.energy_J) == pytest.approx(float(bare.J_per_token) * tokens, rel=1e-12)
        assert year.revenue_usd is not None
        assert float(year.revenue_usd) == pytest.approx(0.4 * tokens / 1e6, rel=1e-12)
        assert year.margin_usd is not None
        assert float(year.margin_usd) == pytest.approx(float(year.revenue_usd) - float(year.cost_usd))
        watts = float(mowich.power([row.system])[0].machine_W)
        assert float(year.provisioned_W) == pytest.approx(watts, rel=1e-12)
        price = money.price(FACTS, row.system_id).rate  # a speed that is not known makes a bill no wider
        assert (year.cost_usd.low, year.cost_usd.high) == pytest.approx(
            (price.low * row.chips_requested * seconds, price.high * row.chips_requested * seconds)
        )


def test_money_rents_chips_to_serve_and_what_they_serve_is_told() -> None:
    dice = random.Random(5)
    for _ in range(2):
        usd, days = round(10 ** dice.uniform(4.3, 5.3)), dice.choice([7, 30])
        found = mowich.compare(MODEL, ["h200", "trn2:16"], serve=SERVE, budget=f"${usd}", days=days)
        rented, there = found.rows
        chips = paid_chips(usd, float(money.price(FACTS, "h200", term="rent").rate), days)
        [by_hand] = mowich.compare(MODEL, ["h200"], serve=SERVE, chips=chips, price="rent").rows
        for what in ("chips_requested", *NUMBERS):
            assert getattr(rented, what) == getattr(by_hand, what)
        assert float(rented.tokens_served) == pytest.approx(float(rented.tokens_per_s_per_chip) * chips * days * DAY_S)
        assert (rented.owned, there.price_label.split(", ")[1]) == (None, "electricity")
        assert there.owned.missing_chips is None
        assert float(there.tokens_served) == pytest.approx(
            float(there.tokens_per_s_per_chip) * 16 * there.owned.days * DAY_S
        )
        assert f"For ${usd} in {days} days, most first: " in " ".join(str(found).split())
        assert "trillion output tokens on 16 chips that are there" in " ".join(str(found).split())


def test_a_budget_and_a_site_too_small_for_a_chip_are_told_in_the_row() -> None:
    found = mowich.compare(MODEL, ["h200", "trn2"], serve=SERVE, power="1.5 kW")
    assert [(r.chips_requested, r.feasible) for r in found.rows] == [(0, False), (1, True)]
    assert "The power feeds no chip: h200." in str(found)
    found = mowich.compare(MODEL, ["h200"], serve=SERVE, budget="$100", days=30)
    assert "the budget rents no chip" in str(found.rows[0].reason)
    found = mowich.compare(MODEL, ["h200"], train=TRAIN, power="1 kW")
    assert found.rows[0].reason == "the power feeds no chip"


def test_a_site_larger_than_a_machine_says_so() -> None:
    found = mowich.compare(MODEL, ["trn2-3xlarge"], serve=SERVE, power="5 MW")
    most = resolve(FACTS, "trn2-3xlarge").max_chips
    assert found.rows[0].chips_requested == most
    assert any("the largest machine has" in line for line in found.warnings)


# ---- savings
# ----------------------------------------------------------------------------------------------------------------------


def compared(first: str, second: str, **more: Any) -> Any:
    return mowich.compare(MODEL, [first, second], per="year", **(WORKS["serve"] | more)).rows[1]


@pytest.mark.slow
@pytest.mark.parametrize("price", ["tco", "electricity", "rent"])
def test_a_saving_is_the_same_in_both_directions_with_the_other_sign(price: str) -> None:
    for first, second in (("trn2:16", "trn3:16"), ("h200:8", "h100:16")):
        there, back = (saving(compared(*pair, price=price)) for pair in ((first, second), (second, first)))
        if there.value is None:
            assert (there.reason or "")[:30] == (back.reason or "")[:30]
            continue
        assert there.value == -float(back)
        assert (there.low, there.high) == pytest.approx((-float(back.high or 0.0), -float(back.low or 0.0)))
        per_GW = [
            saving(compared(*pair, price=price), "saving_usd_per_GW") for pair in ((first, second), (second, first))
        ]
        assert float(per_GW[0]) == -float(per_GW[1])


def test_a_saving_is_of_the_tokens_that_both_make() -> None:
    found = mowich.compare(MODEL, ["trn2:16", "h200:8"], per="year", **WORKS["serve"]).rows
    tokens = [float(row.yearly.tokens) for row in found]
    gap = (float(found[0].usd_per_mtok) - float(found[1].usd_per_mtok)) / 1e6
    assert float(saving(found[1])) == pytest.approx(gap * min(tokens))
    of_GW = [1e9 * t / float(row.yearly.provisioned_W) for t, row in zip(tokens, found, strict=True)]
    assert float(saving(found[1], "saving_usd_per_GW")) == pytest.approx(gap * min(of_GW))
    assert float(saving(found[1], "saving_usd_per_chip_year")) == pytest.approx(gap * tokens[1] / 8)


def test_what_both_prices_rest_on_is_counted_once() -> None:
    """Each fact of both costs of ownership is moved by hand, on both sides; the speeds are one system's own."""
    first, second = mowich.compare(MODEL, ["trn2:16", "trn3:16"], per="year", **WORKS["serve"]).rows
    found = saving(second)
    changes = []
    tokens = min(float(row.yearly.tokens) for row in (first, second))
    costs = [float(row.usd_per_mtok) / 1e6 * tokens for row in (first, second)]
    moves = [{path: ends for path, *ends in owned(FACTS, row.system_id).moves} for row in (first, second)]
    for path in {*moves[0], *moves[1]}:
        ends = [
            [cost * math.expm1(m.get(path, (0, 0))[i]) for cost, m in zip(costs, moves, strict=True)] for i in (0, 1)
        ]
        changes.append([a - b for a, b in ends])
    by_price = math.sqrt(sum(max(0.0, *change) ** 2 for change in changes))
    apart = math.hypot(*(float(row.yearly.cost_usd.high) - float(row.yearly.cost_usd) for row in (first, second)))
    assert by_price < 0.95 * apart
    assert by_price < float(found.high or 0.0) - float(found)  # and the speeds beside it


def test_unlike_kinds_of_price_give_no_saving_and_no_number_of_chips() -> None:
    found = mowich.compare(MODEL, ["h200:8"], have=["trn2:16"], per="year", **WORKS["serve"])
    row = found.rows[1]
    for name in ("saving_usd", "saving_usd_per_GW", "saving_usd_per_chip_year", "pays_from_chips"):
        e = saving(row, name)
        assert (e.value, e.reason) == (None, "prices are on different terms (electricity, cost of ownership)")
    said = " ".join(str(found).split())
    assert "Saving of h200:8 beside trn2:16: not told" in said
    assert "trn2:16 is there: the price is the electricity" in said
    assert "would bring is not counted" in said


def test_a_port_pays_only_where_something_is_saved_and_not_within_one_makers_software() -> None:
    own_price = compared("trn2:16", "h200:8", facts=FACTS.with_values({"prices.user.h200": 0.1 / 3600}))
    assert "different terms" in str(saving(own_price).reason)  # prices of one's own are a kind of their own
    both = FACTS.with_values({"prices.user.h200": 0.1 / 3600, "prices.user.trn2": 4 / 3600})
    row = compared("trn2:16", "h200:8", facts=both, within="2y")
    pays, each, cost = (saving(row, n) for n in ("pays_from_chips", "saving_usd_per_chip_year", "porting_usd"))
    assert float(each.low or 0.0) > 0
    assert float(pays) == pytest.approx(float(cost) / float(each) / 2)
    assert pays.low < float(pays) < pays.high
    slower = compared("trn2:16", "h200:8", facts=both, within="1y")
    assert float(saving(slower, "pays_from_chips")) == pytest.approx(2 * float(pays))
    back = compared("h200:8", "trn2:16", facts=both)
    assert saving(back, "pays_from_chips").reason == "nothing is saved, so it never pays"
    same = compared("trn2:16", "trn3:16")
    assert same.yearly.beside.porting_usd is None
    assert same.yearly.beside.pays_from_chips is None


@settings(max_examples=100, deadline=None)
@given(low=st.floats(0.01, 10), more=st.floats(1.0, 5.0))
def test_more_revenue_for_a_token_never_lowers_the_margin(low: float, more: float) -> None:
    margins = [
        with_year(plain("h200:8"), FACTS, YearAsk(per="year", sells=TokenPrice(usd, usd, usd), within_s=None), speed)[
            0
        ].yearly.margin_usd
        for usd in (low, low * more)
    ]
    assert float(margins[0]) <= float(margins[1]) + 1e-6
    assert margins[0].low <= float(margins[0]) <= margins[0].high


@pytest.mark.parametrize("usd", ["0.5", "0.3..$0.6", "0.3 .. $0.6"])
def test_a_price_of_tokens_may_be_a_range(usd: str) -> None:
    low, value, high = read_token_price(f"${usd}/Mtok")
    assert (low, high) == ((0.5, 0.5) if usd == "0.5" else (0.3, 0.6))
    assert value == pytest.approx(math.sqrt(low * high))


def test_machines_that_are_bought_are_worth_less_the_later_and_what_is_rented_has_no_worth() -> None:
    soon, late = (
        mowich.compare(MODEL, ["h200:8"], per="year", within=f"{y}y", **FIXED).rows[0].yearly.residual_usd
        for y in (1, 3)
    )
    paid = float(owned(FACTS, "h200").capital_total) * 8
    assert paid > float(soon) > float(late) > 0
    [rented] = mowich.compare(MODEL, ["h200:8"], per="year", price="rent", **FIXED).rows
    assert rented.yearly.residual_usd is None


# ---- edges and pages
# ----------------------------------------------------------------------------------------------------------------------


def test_every_edge_answers_alike_and_the_command_makes_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    more = ("--have", "trn2:16", "--on", "h200,trn3", "--power", "30kW", "--per", "month", "--sells", "$0.2..$0.8/Mtok")
    assert cli.run([*TYPED, *more, "--within", "3y", "--json", "-q"]) == 0
    typed = json.loads(capsys.readouterr().out)
    asked = {"have": ["trn2:16"], "power": "30kW", "per": "month", "sells": "$0.2..$0.8/Mtok", "within": "3y"}
    called = mowich.compare(MODEL, ["h200", "trn3"], serve=SERVE, **asked).to_dict()  # type: ignore[arg-type]
    assert typed["rows"] == json.loads(json.dumps(called["rows"]))
    sent = asked_here("compare", json.dumps({"model": MODEL, "on": ["h200", "trn3"], "serve": SERVE, **asked}).encode())
    assert isinstance(sent, dict)
    assert sent["rows"] == typed["rows"]
    again = shlex.split(command_of(typed))[1:]
    assert cli.run([*again, "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == typed["rows"]


def test_a_served_comparison_on_so_many_chips_is_asked_again_on_as_many() -> None:
    found = json.loads(json.dumps(mowich.compare(MODEL, ["h200", "trn3"], serve=SERVE, chips=12).to_dict()))
    assert "--chips 12" in command_of(found)


@pytest.mark.parametrize(
    ("more", "wrong"),
    [
        ((), "--on: is required"),
        (("--have", "trn2"), "--have: 'trn2' does not say how many are there; trn2:512"),
        (("--have", ","), "--have: names no system"),
        (("--have", "trn9:4"), "unknown system 'trn9'"),
        (("--have", "trn2:16", "--on", "trn2:16"), "'trn2:16' is named twice"),
        (("--on", "trn2:16", "--power", "5MW"), "--power: says how many chips, and every system has a size"),
        (("--have", "trn2:16", "--power", "5MW"), "--power: needs a system without a size to give its power to"),
        (("--on", "trn2", "--power", "5MW", "--chips", "8"), "--chips: --power says how many chips"),
        (("--on", "trn2", "--power", "5MW", "--budget", "$2M", "--days", "3"), "--budget: --power says how many chips"),
        (("--on", "trn2", "--power", "5"), "--power: 5 has no unit"),
        (("--on", "trn2", "--power", "0 W"), "--power: must be above 0"),
        (("--on", "trn2", "--per", "week"), "--per: unknown time 'week'"),
        (("--on", "trn2", "--sells", "$0.5/Mtok"), "--sells: needs a time, which --per states; add --per year"),
        (("--on", "trn2", "--within", "2y"), "--within: needs a time, which --per states; add --per year"),
        (("--on", "trn2", "--per", "year", "--sells", "0.5"), "--sells: not a price of tokens"),
        (("--on", "trn2", "--per", "year", "--sells", "$2..$1/Mtok"), "--sells: the low end is above the high one"),
        (("--on", "trn2", "--per", "year", "--sells", "$0/Mtok"), "--sells: a price of tokens is above 0"),
        (("--on", "trn2", "--per", "year", "--within", "2"), "--within: 2 has no unit"),
        (("--on", "trn2", "--budget", "$2M"), "--days: is required with --budget"),
    ],
)
def test_bad_input_is_one_line(more: tuple[str, ...], wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*TYPED, *more]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert [wrong in line for line in errors] == [True]


def test_forward_passes_have_none_of_it_and_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    for option, value in (("--have", "h100:8"), ("--power", "5MW"), ("--per", "year"), ("--budget", "$1M")):
        ask = ("compare", MODEL, "--task", "encode", "--tokens", "512", "--on", "h100", option, value)
        assert cli.run([*ask]) == 2
        assert f"{option}: is an option of training and serving" in capsys.readouterr().err


@pytest.mark.parametrize("work", WORKS)
def test_every_number_of_a_year_is_explained_and_stands_in_the_page(work: str) -> None:
    asked: Any = {"per": "year", "sells": "$0.2..$0.8/Mtok", **WORKS[work]}
    found = mowich.compare(MODEL, ["trn3:16", "h200:20"], **asked)
    result = json.loads(json.dumps(found.to_dict()))
    explainer = Explainer(result, FACTS)
    names = [name for name in metrics(result) if ".yearly." in name]
    page = page_of(result)
    shown = {cell.metric for table in page.tables for row in table.rows for cell in row if not isinstance(cell, str)}
    assert len(names) > 20
    for name in names:
        told, path = explainer.explain(name, sensitivity=False), tree.find_path(result, name)
        assert told.says
        made = explainer.evaluate(path)
        assert made is None or made == pytest.approx(tree.at(result, path)["value"], rel=1e-9)
    of_lines = {"porting_usd", "within_years"}
    assert {name for name in names if name.rsplit(".", 1)[1] not in of_lines} <= shown
    said = " ".join(str(found).split())
    assert "A port to another maker's software costs $0.768 (0.14-3.9)M once" in said
    assert "within 2.00 (1.0-4.0) years" in said
    assert "Saving beside the first row, a year" in [chart.title for chart in page.charts]
    assert "yearly.saving_usd_low" in csv_of(page).splitlines()[0]
