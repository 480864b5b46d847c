"""Pictures: what they show, in words, in one colour code, with ranges, for every row."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from test_report import ROWS, comparison, ranged

import mowich
from mowich import cli
from mowich.estimate import Estimate
from mowich.evidence.measured_tables import TRAINIUM
from mowich.evidence.serving_points import measured_points
from mowich.evidence.validate import validate_rows
from mowich.facts import Facts, load_facts
from mowich.machines import links
from mowich.machines.collectives import CORE_DMA
from mowich.machines.system import resolve
from mowich.machines.topology import per_chip
from mowich.show import charts, charts_change, charts_map, charts_parts, charts_spread, colours
from mowich.show import fleet as fleet_show
from mowich.show.charts import Chart
from mowich.show.charts_change import scaling_chart, waterfall
from mowich.show.charts_spread import boxes
from mowich.show.page import Page
from mowich.show.render.html import render_html
from mowich.show.verbs import page_of
from mowich.studies.fact_labels import fact_label
from mowich.studies.machine_map import map_of
from mowich.studies.sweep_read import stored_sweep
from mowich.training.step import STEP_PARTS

RAW = re.compile(r"\b[a-z]+_[a-z_]+\b|\b[a-z]+\.[a-z-]+\.[a-z_.]+\b")
"""A name of a field, a path of a fact."""

SERVE = {"isl": "8k", "osl": "1k", "ttft": "10s", "tpot": "50ms"}


@pytest.fixture(scope="module")
def trained() -> dict[str, Any]:
    return json.loads(json.dumps(comparison(*ROWS).to_dict()))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def served() -> dict[str, Any]:
    made = mowich.compare("gpt-oss-120b", ["trn3", "gb300"], chips=16, serve=SERVE)
    return json.loads(json.dumps(made.to_dict()))  # type: ignore[no-any-return]


def of(page: Page, title: str) -> Chart:
    [found] = [c for c in page.charts if c.title.startswith(title)]
    return found


def series(chart: Chart, **want: Any) -> list[Mapping[str, Any]]:
    found: Any = chart.option["series"]
    return [s for s in found if all(s.get(k) == v for k, v in want.items())]


def strings(data: object) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping):
        for value in data.values():
            yield from strings(value)
    elif isinstance(data, list | tuple):
        for value in data:
            yield from strings(value)


def test_a_time_is_drawn_in_five_groups_and_no_part_is_left_of_zero() -> None:
    parts = {"linear": 4.0, "attention": 3.0, "prefill_interference": 5.0, "host": 1.0, "correction": -3.0}
    rows = [
        ("a", ranged(10.0, "s", breakdown=parts).to_dict()),
        ("b", ranged(2.0, "s", breakdown={"ep": 2.0}).to_dict()),
    ]
    chart = charts_parts.time_bars("Time", "", rows, unit="s", own=charts_parts.CACHE_READ)
    bars = series(chart, type="bar")
    assert [s["name"] for s in bars] == ["compute", "memory", "network", "waiting", "software"]
    assert all(v >= 0 for s in bars for v in s["data"])
    assert [sum(s["data"][i] for s in bars) for i in (0, 1)] == pytest.approx([10.0, 2.0])
    assert list(chart.views) == ["groups", "groups, 100%", "all parts", "all parts, 100%"]
    whole: Any = chart.views["groups, 100%"]
    assert sum(s["data"][0] for s in whole["series"]) == pytest.approx(100.0, abs=0.1)
    many: Any = chart.views["all parts"]
    assert {"matrix products", "reading the cache", "expert exchange"} <= {s["name"] for s in many["series"]}
    assert len(series(chart, name=charts.RANGE)) == 2
    assert {s["itemStyle"]["color"] for s in bars} == {c.light for c in colours.GROUPS.values()}


def test_every_part_of_a_step_has_words_and_a_group() -> None:
    for name in STEP_PARTS:
        part = charts_parts.PARTS_OF_TIME[name]
        assert not RAW.search(part.words)
        assert part.group in colours.GROUPS
    assert charts_parts.short_part("gemm") == "matmul"


def test_a_correction_is_spread_over_the_other_parts() -> None:
    time = Estimate(value=8.0, unit="s", breakdown={"linear": 6.0, "host": 4.0, "correction": -2.0})
    assert charts_parts.whole_parts(time) == pytest.approx({"linear": 4.8, "host": 3.2})


def test_no_row_that_runs_is_missing_from_cost_against_time(trained: dict[str, Any]) -> None:
    """trn3-gen2 has no price: a band as wide as its time is uncertain, and its break-even on it."""
    chart = of(page_of(trained), "Cost against time")
    running = {r["system"] for r in trained["rows"] if r["plan"]}
    assert running <= {s["name"] for s in series(chart)}
    [band] = [s for s in series(chart, name="trn3-gen2") if "markArea" in s]
    row = next(r for r in trained["rows"] if r["system"] == "trn3-gen2")
    assert [x["xAxis"] for x in band["markArea"]["data"][0]] == [row["days"]["low"], row["days"]["high"]]
    [even] = [s["data"] for s in series(chart, name="trn3-gen2, break-even")]
    assert even[0]["name"].startswith("at $1.95 (1.6-2.3) a chip-hour it costs what trn2 does")
    assert even[0]["value"] == [row["days"]["value"], 0.24]
    priced = [r for r in trained["rows"] if r["plan"] and r["usd_per_mtok"]["value"]]
    assert len(series(chart, name=charts.RANGE)) >= 2 * len(priced)
    assert "trn3-gen2 costs what trn2 does at $1.95" in chart.note


def test_systems_have_their_colour_in_every_picture(trained: dict[str, Any]) -> None:
    page = page_of(trained)
    for name in ("trn2", "gb300"):
        own = colours.look_of(name).colour.light
        for title in ("Cost against time", "Step time with its 90% range", "Useful work of a chip"):
            assert own in set(strings(of(page, title).option)), (name, title)
    useful = of(page, "Useful work of a chip")
    assert len(series(useful, name=charts.RANGE)) == sum(1 for r in trained["rows"] if r["plan"])
    announced = series(useful, type="bar")[0]["data"]
    hatched = [d["itemStyle"].get("decal") is not None for d in announced]
    assert hatched == [r["estimated"] for r in trained["rows"] if r["plan"]]


def test_pictures_say_what_one_sees_and_no_name_of_a_field(trained: dict[str, Any], served: dict[str, Any]) -> None:
    for result in (trained, served):
        for chart in page_of(result).charts:
            said = [chart.title, chart.finding, chart.note, *strings(chart.option.get("yAxis")), *chart.head]
            said += [str(s["name"]) for s in series(chart)]
            found = [m for text in said for m in RAW.findall(text) if m not in ("dataMax",)]
            assert found == [], chart.title
    findings = [c.finding for c in page_of(trained).charts]
    assert "Fastest: gb300" in " ".join(findings)
    assert all(findings), [c.title for c in page_of(trained).charts if not c.finding]


def test_every_colour_of_a_picture_has_its_dark_form(trained: dict[str, Any], served: dict[str, Any]) -> None:
    dark = json.loads(re.findall(r"darkColours=(\{.*?\});", colours.script())[0])
    for result in (trained, served):
        for chart in page_of(result).charts:
            used = {x for x in strings([chart.option, *chart.views.values()]) if re.fullmatch("#[0-9a-f]{6}", x)}
            assert used <= dark.keys(), chart.title


def test_serving_begins_with_throughput_against_speed_and_its_limit(served: dict[str, Any]) -> None:
    first = page_of(served).charts[0]
    assert first.title == "Throughput of a chip against speed for a user"
    assert first.finding.startswith("Most tokens per chip within the limits: gb300")
    [limit] = series(first, name="longest time per token")
    assert limit["markLine"]["data"] == [{"xAxis": pytest.approx(20.0)}]
    for row in served["rows"]:
        lines = series(first, name=row["system"], type="line")
        assert [d["value"] for d in lines[0]["data"]] == row["front"]
        [answer] = series(first, name=row["system"], type="scatter")
        assert answer["data"][0]["value"][1] == row["tokens_per_s_per_chip"]["value"]


def measured_series(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [s for s in series(page_of(result).charts[0]) if ", measured (" in str(s["name"])]


def test_measured_points_are_hollow_dots_of_the_same_model_chip_and_format(served: dict[str, Any]) -> None:
    assert measured_series(served) == []  # nothing of this model ships
    like = json.loads(json.dumps(served))
    like["inputs"]["model"] = "qwen3-30b-a3b"
    for row in like["rows"]:
        row["decode"]["precision"] = "bf16"
    [dots] = measured_series(like)  # none of gb300 ships
    assert dots["name"] == "trn3, measured (KevGomes1403 nki-moe-megakernel and 1 more)"
    assert dots["itemStyle"]["color"] == "transparent"
    assert str(dots["id"]).startswith(charts.FOCUSED)
    said = [d["name"] for d in dots["data"]]
    assert all(s.startswith("measured: ") and " bf16 " in s for s in said)
    assert {row[1] for row in page_of(like).charts[0].rows if row[0] == dots["name"]} == set(said)
    for row in like["rows"]:
        row["decode"]["precision"] = "fp8"
    assert measured_series(like) == []


def test_measured_points_are_those_that_validate_compares() -> None:
    compared: dict[str, set[str]] = {}
    for row in validate_rows(TRAINIUM, load_facts()).rows:
        if row.chip == "trainium2" and row.source.startswith("Qwen3-1.7B") and row.measured is not None:
            compared.setdefault(row.metric, set()).add(f"{row.measured:g}")
    dots = measured_points("qwen3-1.7b", "trn2", "bf16")
    assert len(dots) == 15
    assert {f"{d.chip:g}" for d in dots} <= compared["output_tok_s_per_chip"]
    assert {f"{1e3 / d.user:g}" for d in dots} <= compared["tpot_ms"]
    assert not measured_points("deepseek-v3", "trn2", "bf16")  # its row states one of the two metrics
    assert not measured_points("qwen3-1.7b", "my-own", "bf16")


def test_a_first_token_of_prefill_apart_is_queue_prefill_and_transfer(served: dict[str, Any]) -> None:
    apart = [r for r in served["rows"] if r["mode"] != "aggregated"]
    assert apart
    for row in apart:
        parts = row["ttft_s"]["breakdown"]
        assert set(parts) == {"front_end", "prefill", "kv_transfer", "queue"}
        assert all(v >= -1e-12 for v in parts.values())
        assert sum(parts.values()) == pytest.approx(row["ttft_s"]["value"])
    bars = series(of(page_of(served), "Where the time to the first token goes"), type="bar")
    assert {"compute", "network", "waiting"} <= {s["name"] for s in bars}


def test_a_map_shows_every_chip_of_an_ultraserver_and_the_broken_link(facts: Facts) -> None:
    graph = links.build(per_chip(resolve(facts, "trn3-gen2")))
    chart = charts_map.machine_chart(map_of(facts, "trn3-gen2", ["link:3"]))
    [machine] = series(chart, type="graph")
    chips = [n for n in machine["data"] if str(n["name"]).startswith("chip ")]
    assert len(chips) == 144 == len({tuple(n["value"]) for n in chips})
    broken = [e for e in machine["links"] if e["lineStyle"].get("type") == "dashed"]
    assert [(e["source"], e["target"]) for e in broken] == [("chip 0", "switch 0")]
    assert chart.finding == "1 of 1,440 links failed: server link 3 of chip 0"
    pairs = {(int(graph.tail[k.ends[0]]), int(graph.head[k.ends[0]]), k.level) for k in graph.links}
    assert len(machine["links"]) == len(pairs)


def test_a_collective_that_the_cores_bind_says_so() -> None:
    answer = mowich.collective("all-reduce", "trn3", sizes=["1MiB"]).to_dict()
    answer["rows"][-1]["binds"] = CORE_DMA
    assert "bound by what the cores of a chip pass on" in page_of(answer).sentences[1]


def test_errors_are_a_box_for_each_chip_and_those_left_out_come_first() -> None:
    rows = [
        {
            "status": "ok",
            "ratio": r,
            "chip": chip,
            "metric": "step_time_s",
            "measured": 1.0,
            "model": None,
            "reason": None,
        }
        for chip, ratios in (("H100", (0.8, 0.9, 1.0, 1.1, 1.2, 1.3)), ("Trn2", (1.1,)))
        for r in ratios
    ]
    summary = {
        "n": 7,
        "unsupported": 0,
        **dict.fromkeys(("median_abs_error", "mean_abs_error", "p90_abs_error", "bias", "interval_coverage"), 0.1),
    }
    result = {
        "schema": "mowich/validate@1",
        "file": "published/training.csv",
        "rows": rows,
        "summary": {"all": summary, "fully_specified": summary},
    }
    first, *parts, by_chip = page_of(result).charts
    assert first.title == "Errors of rows that were left out of the fit"
    assert any("serving on Trainium" in row[0] for row in first.rows)
    of = {p.title.partition(": ")[2]: [row[0] for row in p.rows] for p in parts}
    assert list(of) == ["training, time of a step", "serving, time per token", "kernels, time"]
    assert any(name.startswith("TPU v7") for name in of["training, time of a step"])
    assert len([n for n in of["serving, time per token"] if n.startswith("Trn2")]) == 1  # by the fit of its stacks
    assert any(name.startswith("fused attention on Trn3") for name in of["kernels, time"])
    for chart in parts:
        first_bar = next(d for s in series(chart, name="median") for d in s["data"])
        assert first_bar["itemStyle"]["color"] == colours.look_called(chart.rows[0][0].split(" on ")[-1]).colour.light
    [boxes] = series(by_chip, type="boxplot")
    assert boxes["data"][0]["value"] == pytest.approx(list(charts_spread.fences((0.8, 0.9, 1.0, 1.1, 1.2, 1.3))))
    assert boxes["data"][0]["itemStyle"]["borderColor"] == colours.look_of("h100").colour.light
    [dots] = series(by_chip, name="each row")
    assert [d["value"] for d in dots["data"]] == [[1.1, 1]]
    assert [row[:2] for row in by_chip.rows] == [["H100", "6"], ["Trn2", "1"]]


def test_a_waterfall_has_the_colours_of_its_ends_and_the_range_of_each_factor() -> None:
    looks = {n: colours.look_of(n) for n in ("trn2", "gb300")}
    chart = waterfall(
        "t",
        "",
        ("trn2", 2.0),
        [("compute", 3.0), ("price", 0.5)],
        "gb300",
        unit="x",
        looks=looks,
        ends=[(2.0, 4.0), None],
    )
    bars = series(chart, type="bar")[1]["data"]
    assert bars[0]["itemStyle"]["color"] == looks["trn2"].colour.light
    assert bars[-1]["itemStyle"]["color"] == looks["gb300"].colour.light
    assert [s["data"] for s in series(chart, name=charts.RANGE)] == [[[4.0, 1], [8.0, 1]]]
    up, down = (series(chart, name=name)[0]["itemStyle"]["color"] for name in ("gains", "loses"))
    assert [b["itemStyle"]["color"] for b in bars[1:-1]] == [up, down]  # the legend says what the colours mean


def test_what_moves_a_step_most_is_said_with_the_numbers_of_its_bars(trained: dict[str, Any]) -> None:
    """Answers hold changes of the logarithm: a reader gets shares."""
    like = json.loads(json.dumps(trained))
    like["rows"][0]["spread"] = [{"fact": "training.common.router_skew", "at_low": -0.5, "at_high": 0.9}]
    [chart] = [c for c in page_of(like).charts if c.title.startswith("What moves the step of")]
    low, high = (float(x) for x in chart.rows[0][1:])
    assert (low, high) == (pytest.approx(-39.35), pytest.approx(145.96, abs=0.1))
    assert chart.finding == f"Uneven routing of experts moves it most: {low:+.0f}% to {high:+.0f}%"


def test_a_chart_of_errors_has_marks_at_halves_and_doubles() -> None:
    look = {"h100": colours.look_of("h100")}
    for worst, most in ((1.1, 2.0), (2.6, 4.0)):
        chart = boxes("t", "", {"h100": [0.9, 1.0, 1.05, 1.0, worst]}, unit="x", looks=look)
        axis = chart.option["xAxis"]
        assert (axis["logBase"], axis["min"], axis["max"]) == (2, 1 / most, most)


def test_the_share_that_failures_leave_is_on_a_linear_axis() -> None:
    lines = {"trn3": [(64.0, 0.99, "compute"), (1e6, 0.63, "host")]}
    chart = scaling_chart("t", "", lines, x="chips", y="share", share=True)
    axis = chart.option["yAxis"]
    assert axis["type"] == "value"
    assert axis["min"] == pytest.approx(0.5)
    assert axis["max"] == 1


def test_facts_that_move_an_answer_are_said_in_words() -> None:
    facts = load_facts()
    for path in ("training.common.router_skew", "devices.tpu-v7.product_8", "chips.trainium3.power.all_in"):
        assert facts.get(path) is not None
        assert "_" not in fact_label(path)
        assert path not in fact_label(path)
    assert fact_label("chips.mine.power.all_in") == "power at the meter (mine)"


def test_a_report_begins_with_the_answer_and_folds_the_rest(trained: dict[str, Any]) -> None:
    page = render_html(trained)
    assert '<details class="assumed">' in page
    assert '<details class="again">' in page
    assert "<details open" not in page
    assert page.index('class="headline"') < page.index("Answers") < page.index("chart0") < page.index('class="assumed"')
    drawn = len(page_of(trained).charts)
    assert page.count("<summary>Numbers") == page.count("<summary>Command") == drawn
    assert page.count('aria-pressed="true">groups<') == 1
    assert 'data-head="$/Mtok"' in page  # a card on a phone has the heads of the table
    assert "@page" in page
    assert "--vendor-aws:" in page


@pytest.mark.slow
def test_a_sweep_in_a_folder_is_a_report_with_a_heat_map_and_the_best_points(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("duckdb")
    scenario = tmp_path / "sweep.yaml"
    scenario.write_text(
        "mowich: 1\nmodels: llama-3.1-8b\non: [trn3, h100]\nchips: [64, 128]\nseq: 4096\nbatch: 4M\ntokens: 1T\n",
        encoding="utf-8",
    )
    folder = tmp_path / "results"
    assert cli.run(["report", str(tmp_path)]) == 2
    assert "a folder without _manifest.json" in capsys.readouterr().err
    assert cli.run(["sweep", str(scenario), "--jobs", "1", "--out", str(folder), "-q"]) == 0
    assert cli.run(["report", str(folder)]) == 0
    page = (folder / "_report.html").read_text("utf-8")
    assert "Best points by system and chips" in page
    stored = stored_sweep(folder)
    capsys.readouterr()
    assert cli.run(["sweep", str(scenario), "--jobs", "1", "-q", "--json"]) == 0
    asked = json.loads(capsys.readouterr().out)
    for mine, own in zip(stored["rows"], asked["rows"], strict=True):
        for name in ("system", "chips_requested", "price", "binds", "memory_B"):
            assert mine[name] == own[name]
        assert mine["plan"].items() <= own["plan"].items()
        assert mine["usd_per_mtok"]["value"] == own["usd_per_mtok"]["value"]
    made = page_of(stored)
    assert len(series(of(made, "Cost against time"), name=charts.RANGE)) == 2 * len(stored["rows"])
    heat = made.charts[0]
    assert max(float(x) for row in heat.rows for x in row[1:]) == 1.0
    best = min(stored["rows"], key=lambda r: r["usd_per_mtok"]["value"])
    assert heat.finding.startswith(f"Least cost: system {best['system']}, chips {best['chips_requested']}")
    [table] = [t for t in made.tables if t.title == "Best point by axis"]
    assert [row[0] for row in table.rows] == ["system", "system", "chips", "chips"]


def test_a_legend_shows_no_colour_that_no_bar_has() -> None:
    """Bars in the colours of their systems have an empty box; a single part, whose name is at the axis, has none."""
    looks = {n: colours.look_of(n) for n in ("trn3-gen2", "gb300")}
    both = charts.stacked_bars("t", "", list(looks), {"useful": [1.0, 2.0], "lost": [0.1, 0.1]}, unit="%", looks=looks)
    boxes = {e["name"]: e["itemStyle"]["color"] for e in both.option["legend"]["data"]}
    assert boxes == {"useful": "transparent", "lost": "transparent"}
    parts = charts.stacked_bars("t", "", ["a"], {"useful": [1.0], "lost": [0.1]}, unit="%")
    assert (parts.option["legend"]["data"], parts.option["legend"]["show"]) == (["useful", "lost"], True)
    assert not charts.stacked_bars("t", "", ["a"], {"useful": [1.0]}, unit="%").option["legend"]["show"]


def test_systems_of_a_fleet_have_their_colours_by_the_names_of_the_scenario() -> None:
    """A scenario calls trn3-gen2 "trn3"."""
    use = [{"system": s, "period": "Q1", "chips": 1.0, "MWh": 1.0} for s in ("trn2", "trn3")]
    found = fleet_show._pictures({"use": use, "periods": ["Q1"], "assign": [], "binding": [], "robust": None})
    bars = {s["name"]: s["itemStyle"]["color"] for s in series(found[0], type="bar")}
    assert bars["trn3"] == colours.look_of("trn3-gen2").colour.light != bars["trn2"]


def test_the_name_of_an_upright_axis_stands_beside_it() -> None:
    """At its upper end it would be cut at the edge of the picture."""
    chart = charts_change.amount_chart("t", "", {"a": [(96.0, 0.8, "tp1"), (144.0, 1.0, "tp1")]}, unit="GiB")
    assert chart.option["yAxis"]["nameLocation"] == "middle"
    assert chart.option["grid"]["left"] >= 44
