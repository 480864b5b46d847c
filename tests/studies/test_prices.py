"""`mowich prices`: one kind for all rows, margins, terms, explanations, bad input."""

from __future__ import annotations

import json

import pytest

import mowich
from mowich.economics import ownership
from mowich.errors import UserError, UserErrors
from mowich.facts import Facts
from mowich.requests.rooms.prices import SCHEMA as PRICES
from mowich.show.render.terminal import style_for_stdout, terminal
from mowich.show.verbs import page_of
from mowich.studies.explain import Explainer, metrics
from mowich.studies.rooms import prices as study

ON = ["trn3", "ironwood", "gb300"]


def test_rows_hold_the_contract_and_parts_sum() -> None:
    data = json.loads(json.dumps(mowich.prices(ON).to_dict()))
    assert data["schema"] == "mowich/prices@1"
    assert [row["system"] for row in data["rows"]] == ON
    for row in data["rows"]:
        assert tuple(row["tco"]) == ownership.OWNED
        assert sum(part["value"] for part in row["tco"].values()) == pytest.approx(row["tco_total"]["value"])
        assert row["term"] == "tco"
        assert row["usd_per_chip_h"]["value"] == pytest.approx(row["tco_total"]["value"])
        assert row["usd_per_chip_h"]["unit"] == "USD/chip/h"


def test_one_kind_for_all_rows() -> None:
    same = mowich.prices(["h100", "ironwood"], price="on-demand")
    assert [r.term for r in same.rows] == ["on-demand", "on-demand"]
    lacking = mowich.prices(["h100", "ironwood", "trn3"], price="on-demand")
    assert [r.usd_per_chip_h for r in lacking.rows[:2]] == [r.usd_per_chip_h for r in same.rows]
    assert (lacking.rows[2].usd_per_chip_h.value, lacking.rows[2].term) == (None, "on-demand")
    assert "trn3: no on-demand price in the facts (there is tco, rent)" in " ".join(str(lacking).split())


def test_every_system_whose_cost_is_known_where_none_is_named(facts: Facts) -> None:
    found = study.answer(PRICES.of(facts))
    assert {"trn2", "trn3-gen1", "trn3-gen2", "trn4", "ironwood", "gb300", "h100"} <= {r.system for r in found.rows}
    assert all(r.tco_total.value for r in found.rows)


def test_a_seller_keeps_what_is_above_his_cost() -> None:
    [row] = mowich.prices(["h100"], margin=0.3).rows
    cost = float(row.tco_total)
    assert float(row.asked_usd_per_chip_h) == pytest.approx(float(row.sold_usd_per_chip_h) / 0.7)
    assert float(row.sold_usd_per_chip_h) > cost
    for quoted in row.quoted:
        assert float(quoted.margin) == pytest.approx(1 - cost / float(quoted.usd_per_chip_h))
    ranged = mowich.prices(["h100"]).rows[0].asked_usd_per_chip_h
    assert ranged.low is not None
    assert ranged.high is not None
    assert ranged.low < float(ranged) < ranged.high


def test_memory_of_another_quarter_is_another_cost() -> None:
    early, late = (mowich.prices(["trn3"], quarter=q).rows[0] for q in ("2025Q3", "2026Q2"))
    assert float(late.capital["host_memory"]) > 2 * float(early.capital["host_memory"])
    assert float(late.tco_total) > float(early.tco_total)
    four, six = (mowich.prices(["trn3"], rule="semianalysis", life_s=f"{n}years").rows[0] for n in (4, 6))
    assert float(six.tco_total) < float(four.tco_total)
    assert float(mowich.prices(["trn3"], rule="semianalysis").rows[0].tco_total) == pytest.approx(float(four.tco_total))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"price": "tcoo"}, "unknown price term 'tcoo'"),
        ({"quarter": "2026Q9"}, "unknown quarter '2026Q9'"),
        ({"rule": "semi"}, "unknown rule 'semi'"),
        ({"buyer": "me"}, "unknown buyer 'me'"),
        ({"margin": -0.1}, "must lie in 0 to 1"),
        ({"margin": 1.0}, "must lie in 0 to 1"),
        ({"life_s": "-4years"}, "must be above 0"),
        ({"life_s": "4d"}, "must be 1 to 50 years"),
        ({"chips": 0}, "must be at least 1"),
        ({"systems": ["h100", "h100"]}, "named twice"),
        ({"systems": ["h1000"]}, "h1000"),
    ],
)
def test_bad_input_gets_one_line(given: dict[str, object], words: str) -> None:
    with pytest.raises(UserError) as caught:
        mowich.prices(**{"systems": ["h100"], **given})  # type: ignore[arg-type]
    error = caught.value
    lines = [e.line() for e in error.errors] if isinstance(error, UserErrors) else [error.line()]
    assert len(lines) == 1
    assert words in lines[0]
    assert "\n" not in lines[0]


def test_every_number_is_explained_and_made_again(facts: Facts) -> None:
    data = json.loads(json.dumps(mowich.prices(["trn3", "h100"], rule="semianalysis", quarter="2026Q1").to_dict()))
    explainer = Explainer(data, facts)
    names = [n for n in metrics(data) if not n.startswith("inputs")]
    assert len(names) > 60
    for name in names:
        found = explainer.explain(name, sensitivity=False)
        assert found.says
        assert not found.warnings
    part = explainer.explain("h100.tco.silicon")
    assert [t.name for t in part.terms][-2:] == ["silicon", "silicon of an hour"]
    assert any(f.path.startswith("prices.parts.silicon.wafer") for f in part.facts)
    whole = explainer.explain("h100.tco_total")
    assert whole.moves


def test_an_unknown_cost_says_why_on_the_page() -> None:
    shown = terminal(
        page_of(json.loads(json.dumps(mowich.prices(["l40s", "h100"]).to_dict()))), style_for_stdout(plain=True)
    )
    assert "l40s: no price of a server with L40S" in " ".join(shown.split())
    assert "cost of capital" in shown


def test_http_gives_what_the_command_line_does() -> None:
    fastapi = pytest.importorskip("fastapi.testclient")
    from mowich.web.server import ServerOptions, create_app
    from server_here import Here

    with fastapi.TestClient(create_app(ServerOptions(warm=False), Here())) as client:
        asked = {"on": ["trn3", "gb300"], "rule": "semianalysis", "quarter": "2026Q1"}
        reply = client.post("/api/prices", json=asked)
        assert reply.status_code == 200, reply.text
        ours = mowich.prices(["trn3", "gb300"], rule="semianalysis", quarter="2026Q1").to_dict()
        assert reply.json()["result"]["rows"] == json.loads(json.dumps(ours["rows"]))
        for wrong in ({"price": "x"}, {"quarter": "2020Q1"}, {"margin": -1}):
            assert client.post("/api/prices", json={**asked, **wrong}).status_code in (400, 422)
