"""An answer says which of the facts that it read are old, where its question asks: on the day that it names."""

from __future__ import annotations

import json
import random
from datetime import date
from pathlib import Path

import pytest

import mowich
from mowich.cli import run
from mowich.facts.freshness import last_looks

FACTS = mowich.load_facts()
ASK = ["collective", "all-reduce", "--on", "trn3:64", "--bytes", "1GiB"]
DAYS = sorted({look.confirmed for look in last_looks(FACTS, date(2027, 6, 1)) if look.confirmed is not None})


def asked(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = run([*ASK, *args])
    return code, *capsys.readouterr()


@pytest.mark.parametrize("seed", range(3))
def test_the_old_facts_of_an_answer_are_the_old_facts_that_it_read(
    seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `facts check` lists them, for drawn ages and days at which some are old and some are not."""
    rng = random.Random(seed)
    read = set(mowich.collective("all-reduce", "trn3:64", sizes=["1GiB"]).facts_read)
    days, day = rng.choice((30, 60, 90)), date.fromordinal(rng.choice(DAYS).toordinal() + 90)
    code, out, err = asked(capsys, "--stale", f"{days}d", "--as-of", day.isoformat(), "--json")
    stale, known = json.loads(out)["stale"], mowich.stale_facts(f"{days}d", as_of=day.isoformat()).stale
    assert [fact["path"] for fact in stale["facts"]] == [look.path for look in known if look.path in read]
    assert (stale["older_than_s"], stale["as_of"], stale["of"]) == (days * 86400.0, day.isoformat(), len(read))
    count = len(stale["facts"])
    assert f"note: This answer rests on {count or 'no'} fact{'s' * (count > 1)} older than {days} days on {day}" in err
    assert code == 0


def test_text_names_the_oldest_and_a_fact_that_is_set_is_not_old(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--stale", "1d", "--as-of", "2027-06-01"]
    all_old = json.loads(asked(capsys, *given, "--json")[1])["stale"]["facts"]
    text = " ".join(asked(capsys, *given)[1].split())
    assert (
        f"This answer rests on {len(all_old)} facts older than 1 day on 2027-06-01, of {len(all_old)} that it reads"
        in text
    )
    assert f"{all_old[0]['path']} ({all_old[0]['age_days']} days)" in text
    path = "chips.trainium3.scale_up.intra_server_per_direction"
    assert path in [fact["path"] for fact in all_old]
    left = json.loads(asked(capsys, *given, "--set", f"{path}=40 GB/s", "--json")[1])["stale"]["facts"]
    assert [fact["path"] for fact in left] == [fact["path"] for fact in all_old if fact["path"] != path]


def test_an_answer_has_no_clock(capsys: pytest.CaptureFixture[str]) -> None:
    for given, said in (
        (["--stale", "90d"], "--stale: needs a day to count from: an answer does not depend on the clock"),
        (["--as-of", "2026-12-01"], "--as-of: goes with an age of facts; add --stale 90d"),
        (["--stale", "90d", "--as-of", "1 May"], "--as-of: not a day of the calendar, got '1 May'"),
    ):
        code, out, err = asked(capsys, *given)
        assert (code, out) == (2, "")
        assert err.startswith(f"error: {said}")
    assert "stale" not in json.loads(asked(capsys, "--json")[1])


def test_explain_lists_the_old_facts_of_a_number(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    asked(capsys, "--out", str(file))
    given = ["--stale", "1d", "--as-of", "2027-06-01"]
    assert run(["explain", str(file), "1.time_s", *given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    old = [fact["path"] for fact in found["stale"]["facts"]]
    assert set(old) == {fact["path"] for fact in found["facts"]}
    assert run(["explain", str(file), "1.time_s", *given]) == 0
    text = capsys.readouterr().out
    listed = text[text.index("rests on ") :]
    assert all(path in listed for path in old)
    asked(capsys, *given, "--out", str(file))
    assert run(["explain", str(file), "--all"]) == 0
    assert "age_days" not in capsys.readouterr().out, "an age is no number of the answer"
    assert run(["explain", str(file), *given]) == 2
    assert "goes with the facts of one number" in capsys.readouterr().err
