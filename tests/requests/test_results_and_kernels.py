"""explain, claims and run_kernel read their question through a schema, on the command line and in Python alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import mowich
from mowich import cli
from mowich.errors import UserError
from mowich.facts import load_facts
from mowich.requests import kernels, launches, results
from mowich.requests.fields import Edge
from mowich.requests.schema import QuestionSource


def refused(call: Any, **given: Any) -> list[str]:
    """The lines of what is wrong, all at once."""
    with pytest.raises(UserError) as found:
        call(**given)
    return [one.line() for one in getattr(found.value, "errors", (found.value,))]


def test_python_is_told_all_that_is_wrong_with_a_question_about_a_result() -> None:
    said = refused(mowich.explain, result={"schema": "other/x@1"}, metric=5, model=4)
    assert [line.split(":")[0] for line in said] == ["metric", "result", "model"]
    assert "not a result of mowich, got 'other/x@1'" in said[1]
    assert "what a verb returned" in refused(mowich.explain, result=3, metric="x")[0]


def test_claims_take_a_word_on_both_edges(capsys: pytest.CaptureFixture[str]) -> None:
    named = mowich.claims("trainium3")
    assert 0 < len(named) < len(mowich.claims())
    assert cli.run(["claims", "trainium3", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["claims"]
    assert [c["id"] for c in shown] == [c.id for c in named]
    assert refused(mowich.claims, word="zzz")[0].startswith("word: no claim has all of these words, got 'zzz'")
    assert cli.run(["claims", "zzz"]) == 2
    assert capsys.readouterr().err.startswith("error: WORD: no claim has all of these words, got 'zzz'")


def test_python_is_told_all_that_is_wrong_with_a_launch() -> None:
    said = refused(mowich.run_kernel, kernel=print, target="trn9", lnc=3, ranks=0)
    assert sorted(line.split(":")[0] for line in said) == ["lnc", "ranks", "target"]
    assert "not a kernel, got 3" in refused(mowich.run_kernel, kernel=3)[0]
    assert "inputs of each rank need a system" in refused(mowich.run_kernel, kernel=print, inputs=[1])[0]
    assert "leave target out" in refused(mowich.run_kernel, kernel=print, system="trn3-gen2", target="trn2")[0]


@pytest.mark.parametrize("edge", [Edge.OPTION, Edge.KEYWORD])
def test_both_edges_of_a_launch_have_the_same_bounds(edge: Edge, tmp_path: Path) -> None:
    """Target and cores are one rule for `kernel run` and `run_kernel`."""
    file = tmp_path / "k.py"
    file.write_text("")
    source = QuestionSource(edge=edge, facts=load_facts())
    values = {"file": file} if edge is Edge.OPTION else {"kernel": print}
    schema: Any = kernels.RUN if edge is Edge.OPTION else launches.LAUNCH
    for wrong in ({"lnc": 0}, {"lnc": 3}, {"lnc": 1.5}, {"target": "h100"}):
        with pytest.raises(UserError):
            schema.read({**values, **wrong}, source)
    assert schema.read({**values, "lnc": 2, "target": "trn2"}, source).lnc == 2


def test_explain_gives_python_and_the_command_line_the_same_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["power", "--on", "trn3", "--json"]) == 0
    kept = tmp_path / "p.json"
    kept.write_text(capsys.readouterr().out)
    assert cli.run(["explain", str(kept), "trn3.total_W", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    made = mowich.explain(json.loads(kept.read_text()), "trn3.total_W").to_dict()
    assert {k: v for k, v in told.items() if k != "version"} == json.loads(json.dumps(made))
    asked = results.EXPLAIN.read({"result": kept, "metric": "trn3.total_W"}, QuestionSource(edge=Edge.OPTION))
    assert (asked.metric, asked.where, asked.data["schema"]) == ("trn3.total_W", str(kept), "mowich/power@1")
