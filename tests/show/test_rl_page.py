"""The page of reinforcement learning, on drawn answers: it fits, hides nothing, its bars sum to the step, and its few
words say no order that ranges do not support. Its timeline holds every span in every form."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from test_escaped import BAD, OBEYED, Ran

from mowich import cli
from mowich.rl.cycle import CYCLE_PARTS
from mowich.show import rl_timeline
from mowich.show.charts_parts import time_part
from mowich.show.page import Words
from mowich.show.render.csv import csv_of
from mowich.show.render.html import render_html
from mowich.show.render.terminal import Style, terminal
from mowich.show.rl import row_names, step_parts
from mowich.show.verbs import page_of
from rl_answers import answer, drawn, estimate, impossible, row, spans

SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"
SEEDS = range(12)
MOST_WORDS = 12


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("seed", SEEDS)
def test_every_answer_has_a_page_that_fits_and_says_all(seed: int) -> None:
    result = drawn(seed)
    page = page_of(result)
    assert len(page.headline.split()) <= MOST_WORDS
    for width in (80, 100, 160):
        lines = terminal(page, Style(width=width)).splitlines()
        assert max(map(len, lines)) <= width
    shown = words(html.unescape(re.sub("<[^>]*>", " ", render_html(json.loads(json.dumps(result))))))
    for text in [page.headline, *page.said("note", "warning", "basis"), *(table.title for table in page.tables)]:
        assert words(text) in shown
    assert len(list(csv.DictReader(io.StringIO(csv_of(page))))) == len(result["rows"])
    for assumed in {text for found in result["rows"] for text in found["assumed"]}:
        assert any(assumed in said for said in page.said("note"))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_bars_of_a_step_sum_to_it(seed: int) -> None:
    result = drawn(seed)
    bars = next((c for c in page_of(result).charts if c.title == "Where a step goes"), None)
    alive = [found for found in result["rows"] if found["feasible"]]
    assert (bars is None) == (not alive)
    if bars is not None:
        first, *_ = bars.views.values()
        series = [s["data"] for s in first["series"] if s["type"] == "bar"]  # type: ignore[index, attr-defined]
        for place, found in enumerate(alive):
            assert sum(values[place] for values in series) == pytest.approx(found["step_s"]["value"], rel=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_few_words_name_the_cheapest_and_count_who_overlaps(seed: int) -> None:
    result = drawn(seed)
    page, rows = page_of(result), result["rows"]
    priced = [i for i, found in enumerate(rows) if found["feasible"] and found["usd_per_mtok"]["value"] is not None]
    if len(rows) < 2 or len(priced) < 2:
        assert not page.headline.startswith(("Cheapest", "No winner"))
        return
    best = min(priced, key=lambda i: rows[i]["usd_per_mtok"]["value"])
    close = [i for i in priced if i != best and rows[i]["usd_per_mtok"]["low"] <= rows[best]["usd_per_mtok"]["high"]]
    begins = "No winner; least" if close else "Cheapest"
    assert page.headline.startswith(f"{begins}: {row_names(rows)[best]}, ")
    assert (f"; {len(close)} close" in page.headline) == bool(close)
    assert any("no order is known" in note for note in page.said("note")) == bool(close)
    assert page.marks["usd_per_mtok"][best] == "best"
    assert all((page.marks["usd_per_mtok"][i] == "close") == (i in close) for i in priced if i != best)


def test_a_split_trainer_waits_for_answers_and_a_colocated_one_makes_them() -> None:
    split, colocated = row(), row("")
    assert "answers_wait" in step_parts(split)
    assert "generation" not in step_parts(split)
    assert "generation" in step_parts(colocated)
    shown = terminal(page_of(answer(split, colocated)), Style())
    assert "wait for answers" in shown
    assert "generation of answers" in shown


def test_runs_on_the_same_chips_have_names_of_their_own() -> None:
    names = row_names([row(), row(), row(""), row()])
    assert names == ["trn3:64 + gb300:72", "trn3:64 + gb300:72 (2)", "gb300:72 colocated", "trn3:64 + gb300:72 (3)"]
    dollars = next(iter(page_of(answer(row(), row())).charts))
    assert len(dollars.rows) == 2


@pytest.mark.parametrize("metric", ["usd_per_mtok", "step_s"])
@pytest.mark.parametrize("close", [(), (0, 2)])
def test_the_decision_of_a_search_is_the_page_s(metric: str, close: tuple[int, ...]) -> None:
    front = [
        {"rollouts": {"system": "trn3", "chips": 8 * i}, "trainer": {"system": "gb300", "chips": 4}}
        | {"step_s": 100.0 / i, "usd_per_mtok": 0.1 * i}
        for i in range(1, 20)
    ]
    split = {"metric": metric, "best": 1, "not_told_apart": list(close), "verdict": "So it is.", "cheaper": "Less."}
    page = page_of(answer(row(), row(usd=0.9, by=1.01), row(""), split={**split, "front": front}))
    word = "fastest" if metric == "step_s" else "least" if close else "cheapest"
    assert word in page.headline.lower()
    assert ("No winner" in page.headline) == bool(close)
    assert len(page.headline.split()) <= MOST_WORDS
    assert page.marks[metric] == ["close" if i in close else "best" if i == 1 else "" for i in range(3)]
    assert {"So it is.", "Less."} <= set(page.said("note"))
    picture = next(c for c in page.charts if c.title.startswith("Dollars"))
    assert len(picture.rows) == 3 + len(front)
    lines = terminal(page, Style()).splitlines()
    assert sum("trn3:" in line and "gb300:4" in line for line in lines) == 8


def test_what_is_not_possible_says_why_and_prices_on_unlike_terms_are_not_ranked() -> None:
    alone = page_of(answer(impossible("trn3:64", "h100:8")))
    assert "not possible" in alone.headline
    assert any("does not fit the trainer" in note for note in alone.said("note"))
    unlike = page_of(answer(row(), row("", price="$9.00/chip/h, on-demand, 2026-05-21, us-east-2")))
    assert "Cheapest" not in unlike.headline
    assert any("cost is not ranked: prices are on different terms" in note for note in unlike.said("note"))


def test_every_part_of_a_step_has_words_of_its_own() -> None:
    said = {part: time_part(part).words for part in (*CYCLE_PARTS, "answers_wait")}
    assert len(set(said.values())) == len(said)
    assert not {part for part, text in said.items() if text == part.replace("_", " ")} - {"generation"}


@pytest.mark.parametrize("workers", [1, 3, 40])
def test_a_timeline_has_every_span_in_every_form(workers: int) -> None:
    told = spans(workers)
    found = rl_timeline.spans_of(told, "colocated")
    events = json.loads(rl_timeline.trace_of_steps(found, "a <run>"))["traceEvents"]
    slices = [event for event in events if event["ph"] == "X"]
    assert [(e["cat"], e["args"]["version"], round(e["ts"]), round(e["dur"])) for e in slices] == [
        (what, version, round(1e6 * start), round(1e6 * (end - start))) for _, what, version, start, end in told
    ]
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert list(names.values()) == ["trainer", *(f"worker {i}" for i in range(workers))]
    drawing = ElementTree.fromstring(rl_timeline.svg_of_steps(found, "a <run>"))  # made here
    boxes = [e for e in drawing.iter() if e.tag.endswith("rect") and any(True for _ in e)]
    assert len(boxes) == len(told)
    for width in (80, 120):
        lines = rl_timeline.draw_steps(found, Style(width=width))
        assert max(map(len, lines)) <= width
        assert len(lines) >= min(workers + 1, rl_timeline.MOST_LANES)
    assert rl_timeline.draw_steps([], Style()) == []


def test_a_split_trainer_waits_on_its_lane_and_workers_make_answers() -> None:
    told = [["trainer", "generation", 1, 0.0, 4.0], ["trainer", "training", 1, 4.0, 8.0], ["0", "generation", 1, 0, 8]]
    split, colocated = (rl_timeline.spans_of(told, placement) for placement in ("split", "colocated"))
    assert [span.what for span in split] == ["answers_wait", "training", "generation"]
    assert [span.what for span in colocated] == ["generation", "training", "generation"]
    lanes = [rl_timeline.draw_steps(spans, Style(width=33))[0].split() for spans in (split, colocated)]
    assert [row for _, row in lanes] == ["." * 10 + "U" * 10, "G" * 10 + "U" * 10]


def test_the_picture_of_a_timeline_has_a_colour_for_each_part_and_no_lane_overlaps() -> None:
    page = page_of(answer(row(), timeline=spans(40)))
    picture = next(c for c in page.charts if c.title.startswith("Who does what"))
    assert len(picture.rows) == rl_timeline.MOST_LANES
    looks = {(s["lineStyle"]["color"], s["lineStyle"]["opacity"]) for s in picture.option["series"]}  # type: ignore[attr-defined]
    assert len(looks) == len(picture.option["series"])  # type: ignore[arg-type]
    lanes: dict[str, list[tuple[float, float]]] = {}
    for lane, _, _, start, end in spans():
        lanes.setdefault(lane, []).append((start, end))
    assert all(a[1] <= b[0] for own in lanes.values() for a, b in pairwise(sorted(own)))


@pytest.mark.parametrize("bad", BAD)
def test_words_of_a_file_are_words_in_every_medium(bad: str) -> None:
    """A stored answer may say anything where it has words."""
    text = BAD[bad]
    spoiled = row(assumed=[text], binds=text, price=text, sync=row()["sync"] | {"method": text}, name=text)
    spoiled["rollouts"] |= {"engine": text, "system": text}
    spoiled["trainer"] |= {"stack": text}
    lanes = [[text, "training", 1, 0.0, 1.0], ["trainer", text, 1, 0.0, 1.0]]
    none = impossible("trn3:64", "h100:8") | {"reason": text}
    result = answer(spoiled, none, row(), timeline=lanes, model=text, framework=text)
    page = page_of(result)
    found = rl_timeline.spans_of(lanes, "split")
    for style in (Style(width=80), Style(width=200), Style(unicode=False)):
        assert not OBEYED.search(terminal(page, style))
        assert not OBEYED.search("\n".join(map(style.text, rl_timeline.draw_steps(found, style))))
    assert not any(cell.strip('"').startswith("=") for line in csv_of(page).splitlines() for cell in line.split(","))
    ran = Ran()
    ran.feed(render_html(result))
    assert ran.found == []
    if not OBEYED.search(text):
        ElementTree.fromstring(rl_timeline.svg_of_steps(found, text))


@pytest.mark.slow
@pytest.mark.parametrize("scenario", sorted(SCENARIOS.glob("rl-*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_run_has_a_page_and_a_report(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved, drawing = tmp_path / "r.json", tmp_path / "steps.svg"
    assert cli.run(["rl", str(scenario), "--out", str(saved), "--timeline", str(drawing), "-q"]) == 0
    result = json.loads(saved.read_text(encoding="utf-8"))
    page = page_of(result)
    assert page.headline in words(capsys.readouterr().out)
    assert len(page.headline.split()) <= MOST_WORDS
    assert max(map(len, terminal(page, Style(width=80)).splitlines())) <= 80
    assert cli.run(["report", str(saved), "-q"]) == 0
    assert page.headline in html.unescape(saved.with_suffix(".html").read_text(encoding="utf-8"))
    assert len(ElementTree.parse(drawing).findall("{*}rect")) > len(result["timeline"])


def test_an_unknown_number_is_a_question_mark() -> None:
    page = page_of(answer(row(usd=None, J_per_token=estimate(None, "J/token"))))
    assert "Mtok" not in page.headline
    assert any(isinstance(part, Words) for part in page.parts)
    assert " ? " in terminal(page, Style())
