# ruff: noqa: C408 - the first session is tested as it is written
"""Results in a notebook: tables, plain rows, pictures without the network, and the example of a first session as it is
written."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mowich
from mowich.errors import UserError
from mowich.estimate import Estimate
from mowich.show.json import to_json
from mowich.show.render.terminal import Style, terminal
from mowich.show.serve import FRONT_TITLE
from mowich.show.verbs import page_of
from mowich.shown import Rows, Shown

ROOT = Path(__file__).resolve().parents[2]
JOB = {"tokens": "1T", "seq": 4096, "batch": "512seqs"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One of each kind of result that the verbs give."""
    file = tmp_path_factory.mktemp("sweep") / "s.yaml"
    file.write_text(
        "mowich: 1\nmodels: gpt2\non: h100\nchips: [8, 900k]\nseq: 1024\nbatch: 64seqs\ntokens: 1T\nplan: {tp: 1}\n"
    )
    serve = {"isl": "1k", "osl": "256", "tpot": "50ms"}
    fixed = {"tp": "8"}
    return {
        "compare": mowich.compare("llama-3.1-8b", ["trn3", "gb300"], train=JOB, chips=64),
        "plan": mowich.plan("llama-3.1-8b", "trn3:64", train=JOB, top=3),
        "serve": mowich.plan("llama-3.1-8b", "h200:8", serve=serve, fixed=fixed, top=2),
        "serve compare": mowich.compare("llama-3.1-8b", ["h200:8", "trn3:8"], serve=serve, fixed=fixed),
        "sweep": mowich.sweep(file),
        "parts": mowich.sweep(file, out=file.parent / "results"),
        "collective": mowich.collective("all-reduce", "trn3", sizes=["1MiB", "1GiB"]),
        "goodput": mowich.goodput("trn3:4096", samples=20),
        "traffic": mowich.traffic(ROOT / "scenarios" / "chat-llama-70b.yaml"),
        "fleet": mowich.fleet(ROOT / "scenarios" / "lab-100mw.yaml", rates=ROOT / "scenarios" / "lab-100mw.rates.json"),
    }


KINDS = ("compare", "plan", "serve", "serve compare", "sweep", "parts", "collective", "goodput", "traffic", "fleet")


@pytest.mark.parametrize("kind", KINDS)
def test_every_result_shows_itself_as_a_small_table(results: dict[str, Any], kind: str) -> None:
    result = results[kind]
    assert isinstance(result, Shown)
    html = result._repr_html_()
    assert "<table>" in html
    assert "<caption>" in html
    assert '<th scope="col">' in html
    assert len(html) < 40_000
    assert not re.search(r"https?://|<script|src=", html)
    assert html.count("<tr>") <= 22


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_prints_what_the_command_prints(results: dict[str, Any], kind: str) -> None:
    result = results[kind]
    text = str(result)
    if kind == "parts":  # what is in the directory has no page
        assert text == repr(result)
        return
    made = page_of(json.loads(to_json(result.to_dict())))
    assert text == terminal(made, Style(fold=False)).rstrip("\n")
    assert text.startswith(made.headline[:40])


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_plain_numbers(results: dict[str, Any], kind: str) -> None:
    rows = results[kind].rows()
    assert rows
    for row in rows:
        for name, value in row.items():
            assert value is None or isinstance(value, int | float | str | bool), (name, value)
    json.dumps(rows)


def test_rows_have_the_numbers_of_the_contract(results: dict[str, Any]) -> None:
    table = results["compare"]
    for row, made in zip(table.rows(), table.to_dict()["rows"], strict=True):
        for name in ("step_s", "mfu", "usd_per_mtok"):
            assert row[name] == made[name]["value"]
            assert (row[f"{name}_low"], row[f"{name}_high"], row[f"{name}_grade"]) == (
                made[name]["low"],
                made[name]["high"],
                made[name]["grade"],
            )
        assert row["plan_tp"] == made["plan"]["tp"]
        assert row["memory_B_weights"] == made["memory_B"]["weights"]
    assert results["sweep"].rows()[1]["reason"]
    assert results["sweep"].rows()[1]["step_s"] is None
    assert table.rows[0].system == "trn3"  # the tuple itself is still there
    assert pickle.loads(pickle.dumps(table.rows)) == table.rows


@pytest.mark.parametrize("kind", ["compare", "plan", "serve", "traffic", "fleet"])
def test_pictures_carry_everything_that_they_need(results: dict[str, Any], kind: str) -> None:
    result = results[kind]
    titles = result.pictures()
    assert titles
    picture = result.plot(0)
    shown = picture._repr_html_()
    assert shown.startswith("<p><b>")
    assert 'sandbox="allow-scripts"' in shown
    document = picture.html()
    own = document.replace((ROOT / "src/mowich/show/static/echarts.min.js").read_text(encoding="utf-8"), "")
    assert not re.search(r'(?:src|href)="|https?://', own)
    assert "<details><summary>Numbers</summary><table>" in document
    assert "aria-label" in document
    assert "darkColours=" in document
    assert document.count('<button type="button"') == len(picture.chart.views)
    assert result.plot(titles[-1][:12]).chart.title in titles


def test_a_picture_that_is_not_there_is_said(results: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="no such picture"):
        results["compare"].plot("flux capacitor")
    with pytest.raises(UserError, match="no pictures"):
        results["goodput"].plot() if not results["goodput"].pictures() else results["goodput"].plot("no pictures")


def test_explain_is_what_the_command_prints(results: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="not facts, got 3"):
        results["compare"].explain("trn3.step_s", facts=3)
    text = results["compare"].explain("trn3.step_s")
    assert repr(text) == str(text)
    assert "step_s" in text
    assert "Sum of" in text
    assert text._repr_html_().startswith("<pre>")


def test_a_row_of_a_comparison_cannot_be_explained_by_itself(results: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="what was asked"):
        results["compare"].rows[0].explain("step_s")


def test_rows_refuse_what_is_no_row() -> None:
    with pytest.raises(TypeError, match="no row"):
        Rows([1])()


def test_the_example_of_a_first_session_runs_as_written() -> None:
    import mowich as t

    m = t.load("deepseek-v3")
    s = t.system("trn3-gen2", chips=8192)
    best = t.plan(m, s, train=dict(tokens="15T", seq=4096, batch="61M tokens"))[0]
    assert isinstance(best.step_s, Estimate)
    assert float(best.step_s) == best.step_s.value
    assert best.explain("step_s")
    assert sum(best.breakdown.values()) == pytest.approx(float(best.step_s))
    assert best.to_dict()["plan"]
    assert "<table>" in best._repr_html_()
    rows = t.compare(
        m, ["trn2", "trn3", "ironwood", "gb300"], train=dict(tokens="15T", seq=4096, batch="61M tokens"), chips=8192
    ).rows()
    assert [r["system"] for r in rows] == ["trn2", "trn3", "ironwood", "gb300"]
    assert isinstance(
        t.fleet(ROOT / "scenarios" / "lab-100mw.yaml", rates=ROOT / "scenarios" / "lab-100mw.rates.json").buys, list
    )


def test_naming_what_draws_results_loads_no_report() -> None:
    code = (
        "import sys, mowich; before = {m for m in sys.modules if m.startswith('mowich')};from mowich.shown import"
        " Shown;print(sorted(before), 'mowich.show.render.notebook' in sys.modules);found = type('Found', (Shown,),"
        " {'to_dict': lambda self: {'schema': 'none', 'x': 2.0}, 'rows': lambda self: [{'x':"
        " 2.0}]})();print(found._repr_html_().count('<td>'), 'mowich.show.render.notebook' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
    assert found.splitlines() == [
        "['mowich', 'mowich.api', 'mowich.api.names', 'mowich.requests', 'mowich.requests.rooms', "
        "'mowich.shown', 'mowich.version'] False",
        "1 True",
    ]


def test_pictures_go_by_the_name_of_their_kind(results: dict[str, Any]) -> None:
    titles = {
        ("compare", "pareto"): "Cost against time",
        ("compare", "time"): "Where the time of a step goes",
        ("serve", "Pareto"): FRONT_TITLE,
        ("goodput", "ranges"): "Goodput with its 90% range",
        ("sweep", "pareto"): "Cost against time",
    }
    for (kind, name), title in titles.items():
        assert results[kind].plot(name).chart.title == title
    with pytest.raises(UserError, match=r"allowed: pareto, time, .*did you mean 'pareto'\?"):
        results["compare"].plot("paretto")
    with pytest.raises(UserError, match="no such picture"):
        results["compare"].plot("")


def test_rows_become_a_dataframe_of_what_is_installed(results: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pandas", "polars"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"neither pandas nor polars is installed; pip install 'mowich\[notebook\]'"):
        results["compare"].to_df()
    with pytest.raises(UserError, match="polars is not installed"):
        results["compare"].to_df("polars")
    with pytest.raises(UserError, match="not a library of dataframes, got 'numpy'"):
        results["compare"].to_df("numpy")
    monkeypatch.setitem(sys.modules, "polars", type(sys)("polars"))
    sys.modules["polars"].DataFrame = list  # type: ignore[attr-defined]
    assert results["compare"].to_df() == results["compare"].rows()


def test_rows_are_written_as_csv_and_as_parquet(
    results: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import duckdb

    from mowich import cli

    words = "compare llama-3.1-8b --on trn3,gb300 --chips 64 --train --tokens 1T --seq 4096 --batch 512seqs --csv"
    assert cli.run([*words.split(), "--quiet"]) == 0
    found = results["compare"]
    assert found.to_csv(tmp_path / "a.csv") == capsys.readouterr().out
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == found.to_csv()
    found.to_parquet(tmp_path / "a.parquet")
    read = duckdb.sql(f"select system, step_s, feasible from '{tmp_path}/a.parquet'").fetchall()
    assert read == [(r["system"], r["step_s"], r["feasible"]) for r in found.rows()]
    for write in (found.to_csv, found.to_parquet):
        with pytest.raises(UserError, match="cannot be written"):
            write(tmp_path / "no" / "where")


def test_lists_of_rows_print_their_table_and_stay_lists() -> None:
    found = mowich.power(["trn3", "gb300"])
    assert (len(found), found[0].system, [row.system for row in found[1:]]) == (2, "trn3", ["gb300"])
    assert str(found).startswith("Provisioned power of a chip: ")
    assert [row["system"] for row in found.rows()] == ["trn3", "gb300"]
    assert found.plot("power").chart.title == "Power of a busy chip at the meter"
