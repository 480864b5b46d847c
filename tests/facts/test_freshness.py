"""When somebody last looked at each fact, and what to search for now."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

import mowich
from mowich.cli import run
from mowich.errors import UserError
from mowich.facts import Facts
from mowich.facts.freshness import confirmed_on, last_looks

DAY = datetime.date(2027, 3, 1)
SOURCES = {
    "sheet": {"title": "A sheet", "address": "https://acme.example/sheet", "looked": "2026-11-25"},
    "mowich-estimates": {"title": "Own", "address": "docs/theory/facts.md", "looked": "2026-11-27"},
}


@pytest.mark.parametrize(
    ("leaf", "day"),
    [
        ({"value": "1 W", "source": "sheet", "date": "2024-01-01"}, "2026-11-25"),  # when it was read, not printed
        ({"value": "1 W", "source": "sheet", "confirmed": "2027-01-02"}, "2027-01-02"),
        ({"value": "1 W", "source": "sheet", "confirmed": "2025-01-02"}, "2026-11-25"),  # the later of the two
        ({"value": "1 W", "source": "mowich-estimates", "date": "2026-11-24"}, "2026-11-24"),
        ({"value": "1 W", "grade": "user"}, None),
        ({"value": "1 W", "grade": "user", "date": "2026-12-24"}, "2026-12-24"),
        ({"value": None, "reason": "not found"}, "2026-11-27"),
        ({"value": None, "reason": "not found", "confirmed": "2027-02-01"}, "2027-02-01"),
    ],
)
def test_a_fact_was_confirmed_when_its_source_was_read(leaf: dict[str, object], day: str | None) -> None:
    found = confirmed_on(leaf, SOURCES)
    assert (found and found.isoformat()) == day


def test_every_shipped_fact_has_a_day_and_words_to_search_for(facts: Facts) -> None:
    found = last_looks(facts, DAY)
    assert len(found) > 2500
    assert [one.path for one in found if one.confirmed is None] == []
    ages = [one.age_days or 0 for one in found]
    assert ages == sorted(ages, reverse=True)
    memory = next(one for one in found if one.path == "chips.trainium3.memory.hbm_bandwidth")
    assert memory.search == "Trainium3 Trn3 memory hbm bandwidth"
    assert memory.host.endswith("readthedocs-hosted.com")
    assert memory.title
    assert not any(one.path.startswith("prices.user.") for one in found)


def test_old_facts_end_with_the_code_of_a_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["facts", "check", "--stale", "90d", "--as-of", "2026-12-01"]) == 0
    assert "No fact is stale" in capsys.readouterr().out
    assert run(["facts", "check", "--stale", "90d", "--as-of", "2027-03-01", "--json"]) == 5
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == "mowich/facts-stale@1"
    assert len(answer["rows"]) <= answer["facts"]
    first = answer["rows"][0]
    assert (
        first["age_days"] == (DAY - datetime.date.fromisoformat(first["confirmed"])).days == answer["oldest_days"] > 90
    )
    assert run(["facts", "check", "--stale", "90d", "--as-of", "2027-03-01", "--csv"]) == 5
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "path,value,confirmed,age_days,source,title,host,search"
    assert len(lines) == 1 + len(answer["rows"])
    assert run(["facts", "check", "--stale", "90d", "--as-of", "2027-03-01", "--plain"]) == 5
    page = " ".join(capsys.readouterr().out.split())
    assert f"{len(answer['rows'])} of {answer['facts']} facts are stale." in page
    assert "last looked at more than 90 days" in page
    assert "awsdocs-neuron.readthedocs-hosted.com" in page


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--stale 90", "unit"),
        ("--stale 90d --as-of 2027-02-30", "not a day of the calendar"),
        ("--stale 90d --as-of March", "YYYY-MM-DD"),
        ("--as-of 2027-03-01", "add --stale 90d"),
        ("--json", "add --stale 90d"),
    ],
)
def test_wrong_questions_are_one_line(given: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["facts", "check", *given.split()]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert said in error


def test_the_users_own_facts_have_ages_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "chips").mkdir()
    text = 'power:\n  all_in: {value: "900 W", grade: user}\n'
    (tmp_path / "chips" / "trainium3.yaml").write_text(text, encoding="utf-8")
    ask = ["--stale", "90d", "--as-of", "2026-12-01", "--json", "--facts", str(tmp_path)]
    assert run(["facts", "check", *ask]) == 5
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["path"], row["age_days"]) for row in rows] == [("chips.trainium3.power.all_in", None)]


def test_the_same_from_python(facts: Facts) -> None:
    old = mowich.stale_facts("1d", as_of="2026-11-29", facts=facts)
    assert 0 < len(old.stale) < old.facts
    assert min(one.age_days or 0 for one in old.stale) > 1
    with pytest.raises(UserError, match="not a day"):
        mowich.stale_facts("90d", as_of="soon", facts=facts)


def test_facts_show_says_the_day_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["facts", "show", "chips.trainium3.memory.hbm_bandwidth", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["facts"][0]["confirmed"] == "2026-11-25"
