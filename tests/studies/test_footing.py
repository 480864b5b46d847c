"""Money and days in the place of a number of chips."""

from __future__ import annotations

import json
import math
import random
import shlex
from dataclasses import replace
from typing import Any

import pytest

import mowich
from mowich import cli
from mowich.economics import money
from mowich.facts import load_facts
from mowich.machines.system import resolve
from mowich.requests.command import command_of
from mowich.studies.footing import DAY_S, PaidRun, affordable_chips, paid_chips
from server_here import asked_here

FACTS = load_facts()
SYSTEMS = ("trn3", "h200", "ironwood")
JOB = {"seq": 4096, "batch": "64seqs"}
ASK = ("compare", "llama-3.2-1b", "--train", "--seq", "4096", "--batch", "64seqs", "--on", "trn3,h200")


def test_whole_chips_are_paid_for_and_one_more_is_not() -> None:
    rng = random.Random(7)
    for _ in range(300):
        usd, rate, days = 10 ** rng.uniform(2, 9), 10 ** rng.uniform(-5, -2), rng.uniform(0.1, 400)
        chips = paid_chips(usd, rate, days)
        assert chips * rate * days * DAY_S <= usd * (1 + 1e-9)
        assert (chips + 1) * rate * days * DAY_S > usd
        assert paid_chips(2 * usd, rate, days) >= 2 * chips
    assert paid_chips(41 * 3.5 * 86400 / 3600, 3.5 / 3600, 1.0) == 41  # money for so many to the cent


def test_all_systems_have_the_same_money_at_one_kind_of_price() -> None:
    budget = PaidRun(usd=250_000, days=30, has_tokens=False)
    counts, none, said = affordable_chips(FACTS, SYSTEMS, budget, "rent")
    assert not said
    assert not none
    for name, chips in counts.items():
        an_hour = float(money.price(FACTS, resolve(FACTS, name).id, term="rent").rate) * 3600
        assert 0 <= budget.usd - chips * an_hour * 30 * 24 < an_hour * 30 * 24
    counts, none, said = affordable_chips(FACTS, ["h200"], replace(budget, usd=1e13), "rent")
    assert counts["h200"] == resolve(FACTS, "h200").max_chips
    assert "the largest machine has" in said[0]


@pytest.mark.parametrize(
    ("budget", "term", "wrong"),
    [(20.0, "rent", "rents no chip"), (5e4, "spot", "unknown number of chips")],
)
def test_money_that_says_no_number_is_told_in_the_row(budget: float, term: str, wrong: str) -> None:
    counts, none, _ = affordable_chips(FACTS, ["trn3"], PaidRun(usd=budget, days=30, has_tokens=False), term)
    assert not counts
    assert wrong in none["trn3"]
    found = mowich.compare("llama-3.2-1b", ["trn3", "trn2"], train=JOB, budget=f"${budget:g}", days=30, price=term)
    assert (found.rows[0].chips_requested, found.rows[0].feasible) == (0, False)
    assert wrong in (found.rows[0].reason or "")
    assert "The budget rents no chip: trn3" in " ".join(str(found).split()) or budget == 20.0


def test_rows_have_the_tokens_of_the_days_and_more_money_never_fewer() -> None:
    found = mowich.compare("llama-3.2-1b", ["trn3", "h200"], train=JOB, budget="$30k", days=7)
    for row in found.rows:
        assert row.tokens_trained is not None
        speed = float(row.tokens_per_s_per_chip) * row.chips_used
        assert float(row.tokens_trained) == pytest.approx(speed * float(row.goodput) * 7 * DAY_S)
        assert row.tokens_trained.low < float(row.tokens_trained) < row.tokens_trained.high
        assert (row.days.value, row.days.reason) == (None, "the tokens of the run are not asked")
    assert "For $30000 in 7 days, most first: h200, " in " ".join(str(found).split())
    assert "(capacity block); trn3, " in " ".join(str(found).split())
    richer = mowich.compare("llama-3.2-1b", ["h200"], train=JOB, budget="$60k", days=7)
    less, more = found.rows[1], richer.rows[0]
    assert more.chips_requested >= 2 * less.chips_requested
    assert float(more.tokens_trained or 0) >= float(less.tokens_trained or 0)


def test_with_tokens_it_is_said_who_ends_in_time() -> None:
    asked = {"train": {**JOB, "tokens": "1T"}, "budget": "$30k", "days": 7}
    found = mowich.compare("llama-3.2-1b", ["trn3", "h200"], **asked)
    in_time = [row.system for row in found.rows if float(row.days) <= 7]
    assert f"1T tokens are trained in time on {' and '.join(in_time) or 'none of them'}." in " ".join(
        str(found).split()
    )
    for row in found.rows:  # both say the same of a run
        assert float(row.tokens_trained or 0) / 1e12 == pytest.approx(7 / float(row.days))


def test_every_edge_answers_alike_and_the_command_makes_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*ASK, "--budget", "$30k", "--days", "7", "--json"]) == 0
    typed = json.loads(capsys.readouterr().out)
    called = mowich.compare("llama-3.2-1b", ["trn3", "h200"], train=JOB, budget="$30k", days=7).to_dict()
    assert typed["rows"] == json.loads(json.dumps(called["rows"]))
    body = {"model": "llama-3.2-1b", "on": ["trn3", "h200"], "train": JOB, "budget": "$30k", "days": 7}
    sent = asked_here("compare", json.dumps(body).encode())
    assert isinstance(sent, dict)
    assert sent["rows"] == typed["rows"]
    again = command_of(typed).split(" ", 1)[1].replace("'", "")
    assert "--budget" in again
    assert "--tokens" not in again
    assert cli.run([*ASK, "--budget", "30 k$", "--days", "7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == typed["rows"]


@pytest.mark.parametrize(
    ("more", "wrong"),
    [
        (("--days", "30"), "--budget: is required with --days"),
        (("--budget", "$2M"), "--days: is required with --budget"),
        (
            ("--budget", "$2M", "--days", "30", "--equal", "usd"),
            "--equal: --budget already says what is equal for all systems",
        ),
        (("--budget", "$2M", "--days", "30", "--price", "tco"), "--price: --budget rents chips"),
        (("--budget", "2000", "--days", "30"), "has no unit"),
        (("--budget", "$2M", "--days", "0"), "must be above 0"),
    ],
)
def test_what_contradicts_a_budget_is_one_line(
    more: tuple[str, ...], wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*ASK, *more]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert [wrong in line for line in errors] == [True]


def test_chips_that_are_there_are_powered_and_more_is_rented() -> None:
    """Of drawn sizes and budgets: tokens are those of the days in which the budget pays the electricity; more money
    never trains fewer, and what is missing would train the rest."""
    dice = random.Random(3)
    for _ in range(4):
        chips, days = dice.choice([16, 64, 128]), dice.choice([7, 30])
        tokens, usd = 10 ** dice.uniform(11, 14), 10 ** dice.uniform(2, 6)
        asked: Any = {"train": {**JOB, "tokens": f"{tokens:.0f}"}, "days": days, "chips": chips}
        [row] = mowich.compare("llama-3.2-1b", ["trn2"], budget=f"${usd:.2f}", **asked).rows
        own, rate = row.owned, float(money.price(FACTS, "trn2", term="electricity").rate)
        assert own is not None
        assert row.price_label.split(", ")[1] == "electricity"
        assert row.chips_requested == chips
        assert own.days == pytest.approx(min(days, usd / (rate * chips * DAY_S)), rel=1e-4)
        assert float(own.electricity_usd) == pytest.approx(rate * chips * own.days * DAY_S)
        assert float(own.electricity_usd) <= usd * (1 + 1e-4)
        speed = float(row.tokens_per_s_per_chip) * row.chips_used * float(row.goodput)
        assert float(row.tokens_trained or 0) == pytest.approx(speed * own.days * DAY_S)
        each = float(money.price(FACTS, "trn2", term="rent").rate) * days * DAY_S
        assert float(own.chip_usd) == pytest.approx(each)
        assert own.rest_chips == max(0, math.floor((round(usd, 2) - float(own.electricity_usd)) / each))
        assert own.missing_chips is not None
        assert (own.missing_chips == 0) == (float(row.days) <= days)
        assert speed * days * DAY_S * (chips + own.missing_chips) / chips >= tokens * (1 - 1e-6)
        [richer] = mowich.compare("llama-3.2-1b", ["trn2"], budget=f"${2 * usd:.2f}", **asked).rows
        assert float(richer.tokens_trained or 0) >= float(row.tokens_trained or 0)


def test_each_system_is_there_or_rented_by_its_own_name_and_the_command_asks_it_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: Any = {"train": {**JOB, "tokens": "1T"}, "budget": "$100k", "days": 30}
    found = mowich.compare("llama-3.2-1b", ["trn2:64", "h200"], **asked)
    there, rented = found.rows
    assert (there.owned is None, rented.owned is None) == (False, True)
    for row, name in ((there, "trn2:64"), (rented, "h200")):
        [alone] = mowich.compare("llama-3.2-1b", [name], **asked).rows
        for what in ("chips_requested", "usd_per_mtok", "tokens_trained", "owned"):
            assert getattr(alone, what) == getattr(row, what)
    said = " ".join(str(found).split())
    assert "on 64 chips that are there (electricity)" in said
    assert "Cost is not ranked: prices are on different terms (trn2:64 electricity, h200 capacity block)." in said
    for name in ("usd_per_mtok", "tokens_trained", "owned.electricity_usd", "owned.rest_chips"):
        assert found.explain(f"trn2:64.{name}")
    result = json.loads(json.dumps(found.to_dict()))
    again = shlex.split(command_of(result))[1:]
    assert cli.run([*again, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == result["rows"]
