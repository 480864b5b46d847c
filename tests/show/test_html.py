"""HTML reports: one offline file for each kind of result, with the numbers of the result in it."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

import mowich
from mowich import cli
from mowich.errors import UserError
from mowich.examples import names_of
from mowich.facts import Facts
from mowich.models import load_model
from mowich.requests.command import command_of
from mowich.show.charts_change import tornado
from mowich.show.charts_change import turning_bars as turning_picture
from mowich.show.page import Column, Page, Table
from mowich.show.render.html import _more_tables, render_html
from mowich.show.verbs import PAGES
from mowich.studies.explain import Explainer
from mowich.studies.flip_points import turning
from mowich.studies.scaling import scaling
from pace import within

TRAIN = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}


class Reader(HTMLParser):
    """Collects what a page refers to, its text and its scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.text: list[str] = []
        self.options = ""
        self._in = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in = "options" if ("id", "options") in attrs else tag
        self.loads += [v or "" for k, v in attrs if k in ("src", "data", "srcset") or (k == "href" and tag != "a")]
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "action", "data")]

    def handle_data(self, data: str) -> None:
        if self._in == "options":
            self.options += data
        elif self._in not in ("script", "style"):
            self.text.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


@pytest.fixture(scope="module")
def compared() -> dict[str, object]:
    return mowich.compare("llama-3.1-8b", ["trn3:64", "h100:64"], train=TRAIN).to_dict()


@pytest.fixture(scope="module")
def document(compared: dict[str, object], facts: Facts) -> str:
    """The whole page, with the facts: drawn once."""
    with within(4.0):
        return render_html(json.loads(json.dumps(compared)), facts=facts)


def test_a_comparison_is_one_offline_file(compared: dict[str, object]) -> None:
    page = read(render_html(compared))
    assert page.links == ["#answer"]  # nothing is fetched
    text = " ".join(page.text)
    assert "Fastest: " in text
    assert "trn3:64" in text
    options = json.loads(page.options)
    assert len(options) >= 3
    assert all(option["aria"]["enabled"] for option in options)


def test_numbers_of_the_page_are_those_of_the_result(compared: dict[str, object]) -> None:
    page = read(render_html(compared))
    bars = json.loads(page.options)[0]
    total = sum(series["data"][0] for series in bars["series"] if series["type"] == "bar")
    assert total == pytest.approx(compared["rows"][0]["step_s"]["value"])  # type: ignore[index]


def test_words_of_a_result_cannot_become_code(compared: dict[str, object]) -> None:
    hostile = json.loads(json.dumps(compared))
    hostile["inputs"]["model"] = hostile["warnings"] = ["</script><script>alert(1)</script>"]
    hostile["rows"][0]["system"] = "</script><img src=x onerror=alert(1)>"
    page = render_html(hostile)
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert page.count("</script>") == 4


def test_other_results(tmp_path: Path) -> None:
    plans = mowich.plan("llama-3.1-8b", "trn3:64", train=TRAIN, top=3).to_dict()
    assert "Best on AWS Trn3 UltraServer" in " ".join(read(render_html(plans)).text)
    assert "median error" in render_html(mowich.validate().to_dict())
    with pytest.raises(UserError, match=r"no report for this kind of result.*mowich/prices@1"):
        render_html({"schema": "mowich/facts@1"})
    assert all(re.fullmatch(r"mowich/[a-z-]+@1", schema) for schema in PAGES)


ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (
            ("kernel", "profile", str(ROOT / "kernels" / "matmul.py"), "-k", "matmul", "--target", "trn2"),
            "engines work most",
        ),
        (("traffic", str(ROOT / "scenarios" / "chat-llama-70b.yaml")), "requests served"),
    ],
)
def test_pages_of_kernels_and_traffic(args: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*args, "--json", "--quiet"]) == 0
    page = read(render_html(json.loads(capsys.readouterr().out)))
    assert says in " ".join(page.text)
    assert len(json.loads(page.options)) >= 2


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "r.json"
    saved.write_text(json.dumps(mowich.goodput("trn3:64", samples=10).to_dict()))
    assert cli.run(["report", str(saved)]) == 0
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    saved.write_text('{"schema": "mowich/compare@1"}')
    assert cli.run(["report", str(saved)]) == 2
    assert "not a whole result" in capsys.readouterr().err
    assert cli.run(["report", str(tmp_path / "none.json")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_serving_results_have_their_own_page() -> None:
    serve = {"isl": "2k", "osl": "500", "ttft": "2s", "tpot": "50ms"}
    made = mowich.plan("llama-3.1-8b", "h100:8", serve=serve, top=2).to_dict()
    page = read(render_html(made))
    text = " ".join(page.text)
    assert "Best on NVIDIA H100" in text
    assert "Front, fastest user to cheapest token" in text
    options = json.loads(page.options)
    front = next(o for o in options if o["xAxis"].get("name") == "tokens/s per user")
    assert len(front["series"][0]["data"]) == len(made["front"])  # type: ignore[arg-type]
    both = mowich.compare("llama-3.1-8b", ["h100:8", "trn2:4", "h100:1"], serve={**serve, "tpot": "8ms"}).to_dict()
    text = " ".join(read(render_html(json.loads(json.dumps(both)))).text)
    assert "TPOT limit" in text
    assert "trn2:4" in text
    nothing = mowich.plan("llama-3.1-405b", "h100:1", serve=serve).to_dict()
    assert "1 chip: does not fit: " in " ".join(read(render_html(nothing)).text)


KINDS: dict[str, tuple[tuple[str, ...], str]] = {
    "collective": (("collective", "all-reduce", "--on", "trn3-gen2", "--bytes", "1MiB,1GiB"), "bound by"),
    "goodput": (("goodput", "--on", "trn3:16384", "--days", "10", "--samples", "50"), "of the time trains"),
    "power": (("power", "--on", "trn3,gb300", "--cap", "100MW"), "W a chip"),
    "gap": (
        (
            *("gap", "h100", "b200", "--model", "llama-3.2-1b", "--chips", "8", "--serve", "--isl", "2k", "--osl"),
            *("200", "--set", "plan.pp=1", "--set", "plan.mode=aggregated"),
        ),
        "as many tokens per second",
    ),
    "value": (
        (
            *("value", "h100:8", "--of", "memory", "--model", "llama-3.2-1b", "--train", "--tokens", "1T", "--seq"),
            *("4096", "--batch", "64seqs", "--points", "2", "--set", "plan.pp=1"),
        ),
        "times the tokens",
    ),
    "claims": (("claims", "4x"), "What cannot be checked"),
    "fit": (
        ("fit", "llama-3.1-8b", "--train", "--seq", "4096", "--batch", "256seqs", "--on", "trn3:8"),
        "Fits on 8 chips",
    ),
    "fit-serve": (("fit", "llama-3.1-8b", "--serve", "--kv", "8k", "--on", "h100:8"), "room for"),
    "model": (("model", "llama-3.1-8b"), "parameters"),
}


@pytest.mark.share(2)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_result_has_a_page_with_its_sources(
    kind: str, facts: Facts, capsys: pytest.CaptureFixture[str]
) -> None:
    args, says = KINDS[kind]
    assert cli.run([*args, "--json", "--quiet"]) == 0
    result = json.loads(capsys.readouterr().out)
    document = render_html(result, facts=facts)
    page = read(document)
    assert says in " ".join(page.text)
    assert json.loads(page.options)
    links_lead_somewhere(document, page)
    if kind not in ("model",):
        assert "All facts with their sources" in " ".join(page.text)
    assert not re.findall(r"\{\{\w+\}\}", document)


def links_lead_somewhere(document: str, page: Reader) -> None:
    """Every link inside the page has its target; the others are sources that a reader may follow. Nothing is loaded
    from anywhere."""
    assert page.loads == []
    for link in page.links:
        assert link.startswith(("#", "https://", "http://")), link
        if link.startswith("#"):
            assert f'id="{link[1:]}"' in document, link


def test_a_comparison_says_what_would_change_it_how_it_scales_and_where_its_like_was_measured(
    compared: dict[str, object], document: str
) -> None:
    result = json.loads(json.dumps(compared))
    page = read(document)
    text = " ".join(page.text)
    links_lead_somewhere(document, page)
    for title in (
        "What would change the answer",
        "Scaling: time of a step",
        "Scaling: goodput",
        "Accuracy of the nearest measured points",
        "Sources",
        "Memory of a device",
    ):
        assert title in text
    picture = next(
        o
        for o in json.loads(page.options)
        if o["xAxis"].get("name") == "chips" and o["yAxis"].get("name") == "s per batch asked for"
    )
    lines = {s["name"]: s["data"] for s in picture["series"] if s["type"] == "line"}
    assert set(lines) == {"trn3:64", "h100:64"}
    own = next(d["value"][1] for d in lines["h100:64"] if d["value"][0] == 64)
    assert own == pytest.approx(result["rows"][1]["step_s"]["value"])
    assert max(d["value"][0] for d in lines["trn3:64"]) == 1_000_000
    assert "h100:64" in text[text.index("Accuracy of the nearest") :]
    assert any(link.startswith("#fact-chips-trainium3-power") for link in page.links)


def test_a_row_scales_with_the_software_that_it_states(facts: Facts) -> None:
    made = mowich.compare("llama-3.1-8b", ["h100:64"], train=TRAIN, stack="jax-gpu").to_dict()
    result = json.loads(json.dumps(made))
    row = result["rows"][0]
    own = next(s for s in scaling(load_model("llama-3.1-8b"), row, result["inputs"], facts, sizes=[64]))
    assert own.step_s == pytest.approx(row["step_s"]["value"])


def test_other_sizes_of_a_row_are_near_what_a_search_of_each_finds(facts: Facts) -> None:
    """Its best plan has 10 stages of 80 layers; those of fewer chips have 8, 4 and 2."""
    train = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
    result = json.loads(json.dumps(mowich.compare("llama-3.1-70b", ["h100:4096"], train=train).to_dict()))
    for size in scaling(load_model("llama-3.1-70b"), result["rows"][0], result["inputs"], facts, sizes=[64, 256, 1024]):
        whole = mowich.plan("llama-3.1-70b", f"h100:{size.chips}", train=train, top=1).rows[0]
        assert size.step_s <= 1.05 * (whole.step_s.value or 0.0)


@pytest.mark.parametrize(
    ("model", "chips", "batch"),
    [("deepseek-v3", 4096, 4096), pytest.param("qwen3-235b-a22b", 1024, 2048, marks=pytest.mark.slow)],
)
def test_a_line_of_the_scaling_chart_goes_on_where_the_batch_has_to_grow(
    facts: Facts, model: str, chips: int, batch: int
) -> None:
    """No plan spreads this batch over a million chips: the batch grows."""
    train = {"tokens": "15T", "seq": 4096, "batch": f"{batch}seqs"}
    result = json.loads(json.dumps(mowich.compare(model, ["trn2"], train=train, chips=chips).to_dict()))
    sizes = scaling(load_model(model), result["rows"][0], result["inputs"], facts)
    assert [s.chips for s in sizes][-3:] == [65536, 262_144, 1_000_000]
    assert sizes[-1].batch_scale > 1
    times = [s.step_s / s.batch_scale for s in sizes]
    assert all(b < a for a, b in pairwise(times))


def test_a_line_ends_at_the_most_chips_that_the_fabric_joins_and_says_so(
    compared: dict[str, object], document: str, facts: Facts
) -> None:
    result = json.loads(json.dumps(compared))
    most = round(facts.number("systems.h100.max_chips"))
    assert most < 1_000_000
    sizes = scaling(load_model("llama-3.1-8b"), result["rows"][1], result["inputs"], facts)
    assert sizes[-1].chips == most
    assert f"The most chips that its network joins: h100:64 {most:,}." in " ".join(read(document).text)


def test_both_ends_of_a_tornado_are_drawn_from_zero() -> None:
    """Where both ends move an answer the same way, a stack would draw their sum."""
    bars = [("a", 3.0, 2.0), ("b", -1.0, 4.0)]
    for chart in (
        tornado("t", "n", bars, unit="%"),
        turning_picture("t", "n", [("a", "r", 3.0, 2.0, "x wins"), ("b", "r", -1.0, 4.0, "")], unit="%"),
    ):
        series = chart.option["series"]
        assert all("stack" not in s for s in series)
        drawn = [[d["value"] if isinstance(d, dict) else d for d in s["data"]] for s in series]
        assert drawn == [[3.0, -1.0], [2.0, 4.0]]


def test_the_command_of_a_page_makes_the_result_again(capsys: pytest.CaptureFixture[str]) -> None:
    args = (
        "compare",
        "llama-3.1-8b",
        "--train",
        "--tokens",
        "1T",
        "--seq",
        "4096",
        "--batch",
        "256seqs",
        "--on",
        "trn3:64,h100",
        "--chips",
        "64",
        "--set",
        "prices.trn3=$1.40/chip/h",
    )
    assert cli.run([*args, "--json", "--quiet"]) == 0
    first = capsys.readouterr().out
    command = command_of(json.loads(first))
    assert "--set 'prices.trn3=$1.40/chip/h'" in command
    assert cli.run([*shlex.split(command)[1:], "--json", "--quiet"]) == 0
    assert capsys.readouterr().out == first


@pytest.mark.parametrize("kind", ["collective", "goodput", "power", "model", "fit", "fit-serve", "claims"])
def test_commands_of_other_verbs_make_their_results_again(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*KINDS[kind][0], "--json", "--quiet"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert cli.run([*shlex.split(command_of(first))[1:], "--json", "--quiet"]) == 0
    again = json.loads(capsys.readouterr().out)
    for one in (first, again):  # of a question with its defaults written out it is another
        assert one.pop("digest", "") or kind == "model"
    assert json.dumps(again) == json.dumps(first)


@pytest.mark.slow
def test_a_flip_point_is_where_two_systems_cost_the_same(facts: Facts) -> None:
    made = mowich.compare("llama-3.1-8b", ["h100:64", "b200:64"], train=TRAIN, price="on-demand").to_dict()
    cost = [float(r["usd_per_mtok"]["value"]) for r in made["rows"]]  # type: ignore[attr-defined]
    path = next(
        f.path
        for f in Explainer(json.loads(json.dumps(made)), facts).explain("b200:64.usd_per_mtok", sensitivity=False).facts
        if f.path.startswith("prices.")
    )
    even = facts.number(path) * cost[0] / cost[1]
    near = facts.with_values({path: replace(facts.fact(path), value=0.95 * even, low=0.8 * even, high=1.3 * even)})
    again = json.loads(
        json.dumps(
            mowich.compare("llama-3.1-8b", ["h100:64", "b200:64"], train=TRAIN, facts=near, price="on-demand").to_dict()
        )
    )
    found = turning(Explainer(again, near), "usd_per_mtok")
    assert found is not None
    turn = next(t for t in found.turns if t.fact.path == path)
    assert found.winner == "b200:64"
    assert turn.flips_to == "h100:64"
    assert turn.flip == pytest.approx(even, rel=1e-3)
    document = render_html(again, facts=near)
    assert "h100:64 wins from" in document


def test_the_kernel_page_shows_time_roof_and_memory(capsys: pytest.CaptureFixture[str], facts: Facts) -> None:
    assert (
        cli.run(
            [
                "kernel",
                "profile",
                str(ROOT / "kernels" / "matmul.py"),
                "-k",
                "matmul",
                "--target",
                "trn2",
                "--json",
                "-q",
            ]
        )
        == 0
    )
    result = json.loads(capsys.readouterr().out)
    curves = result["over_time"]
    assert max(v for _, v in curves["sbuf_B"]) == result["sbuf_peak_B"]
    assert max(v for _, v in curves["psum_banks"]) == result["psum_peak_banks"]
    for spans in curves["engines"].values():
        assert all(a < b for a, b in spans)
        assert all(b <= c for (_, b), (c, _) in pairwise(spans))
        assert spans[-1][1] <= result["time_s"]["value"] * (1 + 1e-9)
    page = read(render_html(result, facts=facts))
    text = " ".join(page.text)
    for title in (
        "Who is at work when",
        "Roofline",
        "SBUF in use",
        "PSUM in use",
        "What moves it most: time",
    ):
        assert title in text


def test_narrow_tables_stand_beside_one_another_on_paper() -> None:
    """So that a report of many tables prints on two pages; one with long cells has the whole width."""
    narrow = Table(title="a", columns=[Column(name="x"), Column(name="y")], rows=[["1", "2"]])
    broad = Table(title="b", columns=[Column(name="x")], rows=[["word " * 30]])
    empty = Table(title="c", columns=[Column(name="x")], rows=[])
    made = _more_tables(Page(title="", sentences=(), parts=[narrow, narrow, broad, empty]))
    assert re.findall(r'<section( class="broad")?><h2>(\w)', made) == [("", "a"), (' class="broad"', "b"), ("", "c")]
    assert "<h2>c</h2><p>None.</p>" in made  # no heads without rows


def test_a_report_of_a_scenario_that_ships_names_it_without_a_path() -> None:
    shipped = str(names_of("scenarios")["rainier"])
    asked = {"schema": "mowich/fleet@1", "inputs": {"scenario": shipped}, "flips": []}
    assert command_of(asked).startswith("mowich fleet rainier")
    assert command_of({**asked, "inputs": {"scenario": "mine.yaml"}}).startswith("mowich fleet mine.yaml")
