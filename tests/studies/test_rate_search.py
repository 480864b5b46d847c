"""The search for a load: each system for itself, one price, no silent ceiling, and a reason where nothing serves it."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

import mowich
from mowich import cli
from mowich.errors import UserError
from mowich.estimate import Estimate, chance_within
from mowich.facts import Facts
from mowich.show.page import Run
from mowich.show.rates import rates_page
from mowich.studies import rate_search, rates
from mowich.studies.rates import RateResult
from mowich.studies.traffic import RANGED_TIMES, TrafficResult, read_traffic, simulate_traffic
from mowich.studies.traffic_scenario import TrafficScenario
from shared_facts import fresh_facts

FACTS = fresh_facts()


def without_ranges(result: TrafficResult, scenario: TrafficScenario, facts: Facts, draws: int) -> TrafficResult:
    return replace(result, ranges={name: {} for name in RANGED_TIMES})


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of a few hundred requests, and no ranges: what is asked here is of the search."""
    for name in ("SCREENED", "LEAST_ANSWERED", "ANSWERED"):
        monkeypatch.setattr(rate_search, name, 200)
    monkeypatch.setattr(rate_search, "BUDGET", 20_000)
    monkeypatch.setattr(rates, "with_ranges", without_ranges)


def ask(on: str, model: str = "llama-3.1-8b", fixed: dict[str, str] | None = None, **more: Any) -> RateResult:
    serve = {"isl": "1k", "osl": 100, "rate": "20rps", "p99_ttft": "1s"} | more
    serve = {key: value for key, value in serve.items() if value is not None}
    chips, price = serve.pop("chips", None), serve.pop("price", "tco")
    fixed = {"mode": "aggregated"} if fixed is None else fixed
    found = mowich.plan(model, on, serve=serve, chips=chips, price=price, fixed=fixed)
    assert isinstance(found, RateResult)
    return found


SYSTEMS = ("h100", "h200", "b200", "gb300", "trn2", "trn3", "ironwood", "h100:4", "gb300:2")


def drawn(seed: int) -> tuple[list[str], dict[str, Any]]:
    """Systems and a load."""
    at = random.Random(seed)
    model = at.choice(["llama-3.1-8b", "qwen3-32b", "gpt-oss-20b"])
    on = at.sample(SYSTEMS, at.choice([2, 3]))
    on = [name for name in on if ":" in name or all(not other.startswith(f"{name}:") for other in on)]
    limits = at.choice([{"p99_ttft": "2s"}, {"p99_ttft": "1s", "p99_tpot": "40ms"}, {"p99_tpot": "15ms"}])
    load = {"rate": f"{at.choice([3, 12, 40])}rps", "isl": at.choice([300, 2000]), "osl": at.choice([20, 150])}
    return on, {"model": model, **load, "p99_ttft": "60s", **limits}


def words(result: RateResult, system: str) -> Mapping[str, object]:
    """What an answer says of the deployment of one system."""
    row = next(r for r in result.rows if list(r.chips_of) == [r.system_id] and r.system == system)
    same = ("replicas", "decode", "chips_used", "usd_per_h", "command", "price", "p99_ttft_s", "p99_tpot_s")
    return {name: row.to_dict()[name] for name in same}


def holds(seed: int, fixed: dict[str, str]) -> None:
    """The answer of several systems is the best of the single answers, and says what they say."""
    on, load = drawn(seed)
    singles = {spec: ask(spec, fixed=fixed, **load) for spec in on}
    both = ask(",".join(on), fixed=fixed, **load)
    told = {u.system: u for u in both.unserved}
    for goal in ("chips_used", "usd_per_h"):
        best = min((getattr(r.rows[0], goal) for r in singles.values() if r.rows and r.rows[0].feasible), default=None)
        least = min((getattr(r, goal) for r in both.rows if r.feasible), default=None)
        assert (best is None) == (least is None) or fixed == {}
        assert best is None or (least is not None and least <= best)
        assert best is None or fixed == {} or least == best
    for spec, single in singles.items():
        served = bool(single.rows) and single.rows[0].feasible
        if spec in told:
            assert told[spec].why == "costlier" or (not served and told[spec] == single.unserved[0])
        elif any(r.system == spec and r.decode_system is None for r in both.rows):
            assert words(both, spec) == words(single, spec)
    consistent(both)


def consistent(result: RateResult) -> None:
    """The rows that are called cheapest and smallest are, in their own table; headline and footer have its price."""
    feasible = [r for r in result.rows if r.feasible]
    for name, goal in (("is_cheapest", "usd_per_h"), ("is_smallest", "chips_used")):
        for row in feasible:
            if getattr(row, name):
                assert getattr(row, goal) == min(known for r in feasible if (known := getattr(r, goal)) is not None)
    said = " ".join(rates_page(result.to_dict(), Run()).sentences)
    for row in feasible:
        if row.usd_per_h is None:  # of a kind that nobody quotes
            assert "$" not in row.price_label
            assert not row.is_cheapest
            continue
        if row.is_cheapest:
            assert f"${mowich.units.sig(row.usd_per_h)}/h" in said
        each = [float(label.split("$")[1].split("/")[0]) for label in row.price_label.split("; ")]
        if len(each) == 1:
            assert row.usd_per_h == pytest.approx(each[0] * row.chips_used, rel=6e-3)


@pytest.mark.parametrize("seed", [1])
def test_several_systems_are_the_best_of_their_single_answers(seed: int, brief: None) -> None:
    holds(seed, {"mode": "aggregated"})


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, *range(2, 21)])
def test_several_systems_are_the_best_of_more_single_answers(seed: int, brief: None) -> None:
    holds(seed, {} if seed % 4 == 0 else {"mode": "aggregated"})


@pytest.mark.parametrize("price", ["tco", "spot", "on-demand"])
def test_the_asked_price_ranks_and_is_shown(price: str, brief: None) -> None:
    consistent(ask("h100:4,h200:4,b200:4", price=price))


def test_a_price_of_your_own_is_not_ranked_against_quotes(brief: None) -> None:
    found = mowich.plan(
        "llama-3.1-8b",
        "h100:4,h200:4",
        serve={"isl": "1k", "osl": 100, "rate": "8rps", "p99_ttft": "1s"},
        fixed={"mode": "aggregated"},
        facts=FACTS.with_values({"prices.user.h100": 0.5 / 3600}),
    )
    assert isinstance(found, RateResult)
    assert {row.system for row in found.rows} == {"h100:4", "h200:4"}
    assert not any(row.is_cheapest for row in found.rows)
    assert "prices are on different terms (h100:4 your own, h200:4" in found.warnings[0]


def test_chips_beside_a_name_are_chips_in_the_name(brief: None) -> None:
    beside, inside = ask("h100", chips=32), ask("h100:32")
    assert {**beside.to_dict(), "digest": ""} == {
        **inside.to_dict(),
        "digest": "",
    }  # the question is put in other words
    scenario = json.loads(beside.rows[0].scenario)
    assert scenario["on"] == "h100:32"


def test_without_a_number_of_chips_it_grows_until_the_load_is_served(brief: None) -> None:
    """A server of eight H100 is no ceiling; its command runs, on as many chips as it says."""
    one, many = ask("h100:8", rate="250rps"), ask("h100", rate="250rps")
    assert not one.rows
    assert one.unserved[0].why == "chips"
    assert 8 < one.unserved[0].chips <= many.rows[0].chips_used
    assert many.rows[0].feasible
    assert json.loads(many.rows[0].scenario)["on"] == f"h100:{many.rows[0].chips_used}"
    again = simulate_traffic(read_traffic(many.rows[0].scenario, FACTS), FACTS)
    assert again.ttft_s["p99"] == many.rows[0].p99_ttft_s.value


@pytest.mark.parametrize(
    ("on", "more", "why", "said"),
    [
        ("h200:1", {"p99_ttft": "10ms"}, "limit", ["TTFT of one request alone", "its limit of 10.0 ms", "above"]),
        ("h200:1", {"p99_tpot": "2ms"}, "limit", ["TPOT of one request alone", "its limit of 2.00 ms"]),
        ("h200:2", {"rate": "400rps"}, "chips", ["at least", "it has 2: --on h200"]),
        ("h100:2", {"model": "llama-3.1-405b"}, "memory", ["does not fit", "short per device", "chips could do"]),
        (
            "h200:1",
            {"rate": "24rps", "headroom": 0, "p99_ttft": "100ms"},
            "played",
            ["1 chip, breaks a limit: TTFT p99 is", "--p99-ttft"],
        ),
    ],
)
def test_what_is_not_served_says_which_limit_by_how_much_and_what_would(
    on: str, more: dict[str, Any], why: str, said: Sequence[str], brief: None
) -> None:
    result = ask(on, **more)
    [one] = result.unserved
    assert one.why == why, one
    for part in said:
        assert part in one.reason
    page = " ".join(rates_page(result.to_dict(), Run()).sentences)
    assert page.startswith("No deployment was found that keeps the limits")
    assert one.reason in page


def test_what_was_not_searched_is_not_told_as_none(brief: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_search, "BUDGET", 4000)
    result = ask("h200:8", model="qwen3-32b", rate="20rps", osl=300, p99_ttft="300ms")
    assert not result.is_complete
    served = [r for r in result.rows if r.feasible]
    said = " ".join(rates_page(result.to_dict(), Run()).sentences)
    assert "among those played" in said if served else result.unserved[0].why == "cut"


def test_more_headroom_never_needs_fewer_chips(brief: None) -> None:
    found = [ask("h100", rate="60rps", headroom=share).rows[0] for share in ("0%", None, "60%")]
    chips = [row.chips_used for row in found]
    assert chips[0] <= chips[1] < chips[2]
    assert ask("h200:1", p99_ttft="10ms").inputs["headroom"] == 0.2
    for wrong in ("95%", "-1"):
        with pytest.raises(UserError):
            ask("h100", headroom=wrong)


def test_the_chance_of_a_limit_is_of_the_range() -> None:
    """Half at the value, 95% at the high end, 5% at the low end, and it grows with the limit."""
    e = Estimate(value=0.6, unit="s", low=0.3, high=2.4)
    assert [round(chance_within(e, x) or 0.0, 6) for x in (0.3, 0.6, 2.4)] == [0.05, 0.5, 0.95]
    chances = [chance_within(e, 0.1 * k) or 0.0 for k in range(1, 60)]
    assert chances == sorted(chances)


@pytest.mark.slow
def test_a_limit_inside_the_range_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    base = "plan llama-3.1-8b --serve --isl 2k --osl 200 --on h200:1 --rate 13rps --headroom 0 --p99-ttft 400ms"
    assert cli.run(base.split()) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "lies inside the 90% range" in out


def test_a_system_that_takes_too_long_to_play_is_not_told_as_one_that_cannot(
    brief: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve = {"model": "llama-3.1-8b", "rate": "30rps", "osl": 400, "p99_tpot": "100ms", "p99_ttft": "30s"}
    arrivals = []

    def counted(candidates: Sequence[Any], load: Any) -> list[Any]:
        arrivals.extend(candidates)
        return [c for c in candidates if c.systems != frozenset({"trn2"})]

    monkeypatch.setattr(rates, "playable", counted)
    result = ask("h200,trn2", **serve)
    assert {c.front.spec for c in arrivals} == {"h200", "trn2"}
    told = {u.system: u for u in result.unserved}
    assert told["trn2"].why == "cut"
    assert "too many requests" in told["trn2"].reason
    assert not result.is_complete
