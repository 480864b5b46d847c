"""One answer, one page: what is stored says what was said at once, HTML has every remark of the terminal, and tables
fit from 80 to 200 columns without a cell that is cut."""

from __future__ import annotations

import contextlib
import csv
import html
import io
import json
import random
import re
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from test_report import ROWS, comparison

from mowich import cli
from mowich.show.page import Column, Details, More, Page, Run, Table
from mowich.show.render import notebook
from mowich.show.render import terminal as t
from mowich.show.render.csv import csv_of
from mowich.show.render.html import render_html
from mowich.show.verbs import page_of

ROOT = Path(__file__).resolve().parents[2]
JOB = "--train --tokens 1T --seq 4096 --batch 256seqs"

ASKS = {
    "compare": f"compare llama-3.1-8b {JOB} --on trn3,h200,gb300 --chips 64",
    "plan": f"plan llama-3.1-8b {JOB} --on trn3:64 --top 2 --neighbours --pareto",
    "serve": "compare llama-3.1-8b --serve --isl 2k --osl 200 --on trn3:8,h100:8",
    "fit": f"fit llama-3.1-8b {JOB.replace('--tokens 1T ', '')} --on trn3:8",
    "fit-serve": "fit llama-3.1-8b --serve --kv 8k --on h100:8",
    "sweep": "sweep tests/golden/scenarios/sweep-training.yaml --jobs 1",
    "traffic": "traffic tests/golden/scenarios/bursts.yaml",
    "rl": "rl rl-nemo-8b",
    "rl-split": "rl llama-3.2-1b --prompts 16 --samples 8 --mean 500 --cap 904 --rollouts h100:2 --trainer gb300:4",
    "collective": "collective all-reduce --on trn3 --bytes 1MiB,1GiB --fail link:3",
    "goodput": "goodput --on trn3:16384 --days 10 --samples 50",
    "power": "power --on trn3,gb300 --cap 100MW --tokens-per-s 1000",
    "gap": f"gap trn2 h100 --model llama-3.2-1b {JOB} --chips 8 --set plan.pp=1",
    "value": f"value h100:8 --of memory --model llama-3.1-8b {JOB} --points 3 --set plan.pp=1",
    "value-software": "value trn3:4 --of software --model llama-3.2-1b --serve --isl 2k --osl 200",
    "fleet": "fleet scenarios/startup.yaml --lp --draws 2",
    "claims": "claims trainium3",
    "validate": "validate",
    "model": "model nemotron-h-56b",
    "serve-plan": "plan llama-3.1-8b --serve --isl 2k --osl 200 --on h100:8 --top 2",
}

CLOCK = re.compile(r"(?:; evaluated in|, in| in) [0-9.e+-]+ s(?: of processor time)?\b")
"""How long an answer took is no part of it."""


_answers: dict[str, tuple[str, dict[str, Any]]] = {}


@pytest.fixture(params=ASKS)
def answer(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[str, dict[str, Any]]:
    """(what a command prints, what it stores), asked once."""
    kind = request.param
    if kind not in _answers:
        file = tmp_path / "r.json"
        with contextlib.chdir(ROOT):
            assert cli.run([*ASKS[kind].split(), "--quiet", "--out", str(file)]) in (0, 3, 4)
        _answers[kind] = capsys.readouterr().out.replace(str(file), "r.json"), json.loads(file.read_text("utf-8"))
    return _answers[kind]


def words(text: str) -> str:
    """Text with one space between words."""
    return " ".join(text.split())


@pytest.mark.share(2)
def test_what_is_stored_gives_the_page_of_what_was_just_answered(answer: tuple[str, dict[str, Any]]) -> None:
    live, stored = answer
    again = t.terminal(page_of(stored, Run(saved="r.json")), t.style_for_stdout())
    assert CLOCK.sub("", words(live)) == words(again)


def test_html_has_every_remark_that_a_terminal_prints(answer: tuple[str, dict[str, Any]]) -> None:
    stored = answer[1]
    page = page_of(stored)
    shown = words(html.unescape(re.sub("<[^>]*>", " ", render_html(stored))))
    remarks = page.said("note", "warning", "basis")
    assert remarks or stored["schema"] in ("mowich/claims@1", "mowich/sweep@1")
    for text in [*remarks, *page.sentences, *(table.title for table in page.tables)]:
        assert words(text) in shown


@dataclass(frozen=True)
class Kept:
    """A result as it was stored."""

    stored: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return self.stored


def test_a_notebook_has_the_sentences_the_main_table_and_every_remark(answer: tuple[str, dict[str, Any]]) -> None:
    stored = answer[1]
    page = page_of(stored)
    shown = words(html.unescape(re.sub("<[^>]*>", " ", notebook.html(Kept(stored)))))
    for text in [*page.sentences, page.tables[0].title, *page.said("note", "warning", "basis")]:
        assert words(text) in shown
    assert len(notebook.html(Kept(stored))) < 40_000


def test_csv_has_a_line_for_each_row_of_the_answer(answer: tuple[str, dict[str, Any]]) -> None:
    page = page_of(answer[1])
    lines = list(csv.DictReader(io.StringIO(csv_of(page))))
    assert len(lines) == len(page.records)
    rows = next((answer[1][k] for k in ("rows", "plans", "claims", "layers") if k in answer[1]), ())
    assert len(lines) == len(rows)


def test_uneven_terms_stand_in_the_html_as_on_the_terminal() -> None:
    page = page_of(comparison(*ROWS).to_dict())
    shown = words(
        html.unescape(re.sub("<[^>]*>", " ", render_html(json.loads(json.dumps(comparison(*ROWS).to_dict())))))
    )
    for text in ("(capacity block)", "trn3-gen2 has no price in the facts: equal to trn2", "Prices: trn2, ironwood"):
        assert text in shown
        assert text in words(t.terminal(page, t.Style()))


@pytest.mark.parametrize("width", [80, 100, 120, 160, 200])
def test_a_terminal_of_any_width_shows_whole_cells(width: int) -> None:
    page = page_of(comparison(*ROWS).to_dict())
    text = t.terminal(page, t.Style(width=width))
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for row in ROWS:
        assert row.system in text
    if width == 200:
        assert "Not shown" not in text
    else:
        assert "Not shown" in text or "Plans and where the time goes" in text


def test_tables_of_random_words_keep_every_cell_and_say_what_has_no_room() -> None:
    dice = random.Random(3)

    def word(most: int) -> str:
        return "".join(dice.choice(string.ascii_lowercase) for _ in range(dice.randint(1, most)))

    folded = dropped_some = 0
    for _ in range(200):
        columns = [
            Column(name=f"c{i}{word(12)}", keep=dice.choice([1, 50, 99, 99]), right=dice.random() < 0.5)
            for i in range(dice.randint(1, 9))
        ]
        rows = [
            [" ".join(word(9) for _ in range(dice.choice([1, 1, 4]))) for _ in columns]
            for _ in range(dice.randint(1, 6))
        ]
        page = Page(title="", sentences=("An answer.",), parts=(Table(title="", columns=columns, rows=rows),))
        width = dice.randint(80, 200)
        piped = t.terminal(page, t.Style(width=width, fold=False))
        on_screen = t.terminal(page, t.Style(width=width, fold=True))
        missing = re.search(r"Not shown at this width: (.*) \(see", words(piped))
        gone = set(missing[1].split(", ")) if missing else set()
        dropped_some += bool(gone)
        for i, column in enumerate(columns):
            assert (column.name in words(piped)) or column.name in gone
            for row in rows:
                if column.name not in gone:
                    assert row[i] in piped
                    assert all(part in words(on_screen).replace(" ", "") for part in row[i].split()[:1])
        assert max(map(len, on_screen.splitlines())) <= width
        folded += on_screen != piped
    assert folded > 5
    assert dropped_some > 20


def test_ascii_says_the_same_in_other_signs() -> None:
    page = page_of(comparison(*ROWS).to_dict())
    plain = t.terminal(page, t.Style(unicode=False))
    plain.encode("ascii")
    assert " <" in plain
    assert "+-" in plain


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    page = page_of(comparison(*ROWS).to_dict())
    assert "\x1b[1m" in t.terminal(page, t.Style(colour=True))
    assert "\x1b" not in t.terminal(page, t.Style())
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "500")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert t.style_for_stdout() == t.Style(width=200, unicode=t.style_for_stdout().unicode, colour=True, fold=True)
    monkeypatch.setenv("COLUMNS", "20")
    assert t.style_for_stdout().width == 80
    monkeypatch.setenv("NO_COLOR", "1")
    assert not t.style_for_stdout().colour
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not t.style_for_stdout().colour


HEADLINE = {
    "compare": {"step s", "$/Mtok", "days", "grade"},
    "plan": {"step s", "MFU", "$/Mtok", "days", "grade"},
    "serve": {"tok/s/chip", "TTFT", "TPOT ms", "$/Mtok", "grade"},
    "serve-plan": {"tok/s/chip", "TTFT", "TPOT ms", "$/Mtok", "grade"},
    "sweep": {"step s", "days", "$/Mtok"},
    "value": {"tok/s/chip", "of today's", "days", "$/Mtok", "pays from, $/h"},
    "power": {"at the meter", "90% interval", "grade"},
}
"""What the headline of an answer speaks of: cost, time, speed, confidence."""


def test_no_width_takes_a_column_that_the_headline_speaks_of(answer: tuple[str, dict[str, Any]]) -> None:
    _, stored = answer
    wanted = HEADLINE.get(next(kind for kind in _answers if _answers[kind] is answer), set())
    page = page_of(stored, Run())
    for width in (80, 88, 100, 120, 160, 200):
        for fold in (True, False):
            text = t.terminal(page, t.Style(width=width, fold=fold))
            heads = next((line for line in text.splitlines() if all(word in line for word in wanted)), None)
            assert heads is not None, (width, fold, text)
            assert len(heads) <= width


def test_a_plan_goes_below_its_row_before_a_number_goes() -> None:
    columns = [
        Column(name="#", right=False),
        Column(name="plan", right=False, keep=0, below=True),
        Column(name="days"),
        Column(name="batch", keep=3),
    ]
    page = Page(
        title="", sentences=(), parts=[Table(title="", columns=columns, rows=[["1", "tp8 " * 18, "12.5", "64"]])]
    )
    narrow = t.terminal(page, t.Style(width=80)).splitlines()
    assert narrow == ["  #  days  batch", "  1  12.5     64", "     " + ("tp8 " * 18).strip()]
    assert "plan" in t.terminal(page, t.Style(width=120)).splitlines()[0]


def test_periods_that_have_no_room_follow_below() -> None:
    periods = [f"2027-{i:02}" for i in range(1, 13)]
    table = Table(
        title="",
        columns=[Column(name=" ", right=False), *(Column(name=p, keep=90 - i) for i, p in enumerate(periods))],
        rows=[["buy trn3", *map(str, range(12))]],
        split=True,
    )
    text = t.terminal(Page(title="", sentences=(), parts=[table]), t.Style(width=80))
    assert re.findall(r"2027-\d\d", text) == periods
    assert text.count("buy trn3") == 2
    assert "Not shown" not in text


def test_what_stands_behind_a_long_name_stands_below_it() -> None:
    """A path of 90 characters left ten for the advice beside it: one word a line."""
    long, said = (
        "/home/user/kernels/" + "x" * 70 + ".py:118",
        "fewer and larger copies, since the core issues one at a time",
    )
    columns = [Column(name="line", right=False), Column(name="remedy", right=False, keep=1)]
    for name, lines in ((long, [f"  {long}", f"    {said}"]), ("k.py:1", [f"  k.py:1  {said}"])):
        rest = Details(title="Advice", when="remedy", rows=[(name, [More("", said)], ())])
        table = Table(title="", columns=columns, rows=[[name, said * 3]], details=rest, elsewhere="--json")
        assert t.terminal(Page(title="", sentences=(), parts=(table,)), t.Style()).splitlines()[-len(lines) :] == lines
