"""Plans in words: every word of every plan is told, once."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from mowich import cli
from mowich.plans import plan as p
from mowich.requests import brief
from mowich.requests.common import LEGEND
from mowich.requests.rooms import gap
from mowich.show.legend import legend_of
from mowich.show.page import Column, Page, Table
from mowich.show.render import terminal as t
from mowich.show.render.scatter import scatter_text
from mowich.show.verbs import page_of
from mowich.web.shipped import shipped_brief


def page_of_plans(*plans: str) -> Page:
    columns = [Column(name="#"), Column(name="plan", right=False)]
    rows = [[str(i), plan] for i, plan in enumerate(plans, 1)]
    return Page(title="", sentences=(), parts=[Table(title="", columns=columns, rows=rows)])


def drawn(dice: random.Random) -> str:
    """A plan of training or a layout of serving, of words that are drawn."""

    def degree() -> int:
        return dice.choice([1, 2, 8, 64])

    if dice.random() < 0.5:
        worker = p.ServePlan(
            **{k: degree() for k in ("tp", "pp", "dp", "cp", "ep")},
            weights=dice.choice(p.WEIGHTS),
            kv=dice.choice(p.KV),
        )
        return dice.choice([f"{degree()} x ({worker})", f"25P x ({worker}) + 7D x ({worker})"])
    more: dict[str, Any] = {name: dice.choice([True, False]) for name in p.SWITCHES}
    return str(
        p.Plan(
            **{k: degree() for k in ("tp", "pp", "dp", "cp", "ep", "etp", "vpp")},
            zero=dice.randint(0, 3),
            micro_batch=degree(),
            precision=dice.choice(p.PRECISIONS),
            recompute=dice.choice(["none", "selective", "full", "experts"]),
            schedule=dice.choice(p.SCHEDULES),
            order=dice.choice(p.ORDERS),
            split=dice.choice(p.SPLITS),
            offload=dice.choice(p.OFFLOADS),
            **more,
        )
    )


def test_every_word_of_a_drawn_plan_is_told_once() -> None:
    dice = random.Random(0)
    for _ in range(300):
        plan = drawn(dice)
        told = dict(legend_of(page_of_plans(plan)))
        words = re.findall(r"\d+[PD]? x(?= )|[^\s()]+", plan.replace(" + ", " "))
        kinds = {re.sub(r"\d+", "#", word) for word in told}
        assert {re.sub(r"\d+", "#", word) for word in words} <= kinds | {"z#"}, plan
        assert len(told) == len(legend_of(page_of_plans(plan, plan)))


def test_numbers_stand_in_the_words() -> None:
    told = dict(legend_of(page_of_plans("25P x (tp8 fp8/bf16) + 7D x (tp8 pp2 fp8/bf16)")))
    assert told["25P x"] == "25 workers that only read prompts (prefill)"
    assert told["7D x"] == "7 workers that only write answers (decode)"
    assert told["tp8"] == "tensor parallel: 8 devices share each layer"
    assert told["fp8/bf16"] == "weights in fp8, KV cache in bf16"


def test_a_terminal_tells_them_where_it_is_asked_to() -> None:
    page = page_of_plans("tp8 pp4v2 dp64 z3 mb1 mxfp8 rc-sel")
    assert "Plans in words" not in t.terminal(page, t.Style())
    text = t.terminal(page, t.Style(width=80, legend=True))
    assert "interleaved pipeline: 4 stages, each with 2 separate pieces" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80


def test_plans_that_stand_in_no_table_are_told_and_those_not_shown_are_not() -> None:
    columns = [Column(name="#"), Column(name="plan", right=False, wide=True)]
    hidden = Table(title="", columns=columns, rows=[["1", "pp4"]])
    wide = Table(title="", columns=[Column(name="plan", right=False)], rows=[["cp2"]], wide=True)
    page = Page(title="", sentences=(), parts=[hidden, wide], plans=[("trn3", "tp8 bf16/fp8"), ("", "z3")])
    assert [word for word, _ in legend_of(page)] == ["tp8", "z3", "bf16/fp8"]
    text = t.terminal(page, t.Style(width=80, legend=True))
    assert "Plans\n  trn3  tp8 bf16/fp8\n\nPlans in words\n  tp8 " in text
    assert "Plans" not in t.terminal(page, t.Style(width=80))


def test_a_gap_tells_the_plans_of_both_machines() -> None:
    kept = (Path(__file__).parents[1] / "golden" / "answers" / "gap.jsonl").read_text(encoding="utf-8")
    for line in kept.splitlines()[:2]:
        answer = json.loads(line)["answer"]
        text = t.terminal(page_of(answer), t.Style(width=100, legend=True))
        for system in answer["systems"]:
            assert re.search(rf"\n  {system['system']} +{re.escape(system['plan'])}\n", text)
        assert "Plans in words\n" in text
    assert LEGEND in gap.SCHEMA.fields


@pytest.mark.parametrize("job", ["--serve --kv 8k", "--train --seq 4096 --batch 64seqs"])
def test_fit_tells_its_plan_in_words(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "llama-3.1-8b", *job.split(), "--on", "trn3:4", "--quiet", "--plain"]
    assert cli.run(words) == 0
    bare = capsys.readouterr().out
    assert cli.run([*words, "--legend"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(bare)
    assert re.search(r"\nPlans in words\n(  .*\n)*  tp\d+ .* tensor parallel: \d+ devices share each layer\n", text)


@pytest.mark.parametrize("unicode", [True, False])
def test_a_front_is_drawn_in_80_columns(unicode: bool) -> None:
    front = {"trn3": [(10.0, 192.0), (86.0, 5.0)], "gb300": [(9.0, 828.0), (138.0, 5.1)]}
    lines = scatter_text("Front", front, t.Style(width=80, unicode=unicode), x="user", y="chip")
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 80
    assert text.isascii() is not unicode
    field = [line.split("│" if unicode else "|")[1].ljust(60) for line in lines if ("│" if unicode else "|") in line]
    assert (len(field), {len(line) for line in field}) == (15, {60})
    assert field[0][0] == "x"  # fastest per chip, slowest per user
    assert field[-1].rstrip()[-1] == "x"
    assert "o trn3   x gb300" in text
    assert "logarithmic upwards" in text
    assert scatter_text("Front", {}, t.Style(), x="user", y="chip") == []


def test_one_point_has_a_place() -> None:
    lines = scatter_text("Front", {"front": [(10.0, 5.0)]}, t.Style(), x="user", y="chip")
    assert sum(line.count("o") for line in lines if "│" in line) == 1


def test_a_brief_spells_no_plan_and_so_has_no_legend(capsys: pytest.CaptureFixture[str]) -> None:
    """It is for readers outside the field: its plans stand in the answers of the commands that it names."""
    page = page_of(shipped_brief())
    assert legend_of(page) == []
    assert not re.search(r"\b(tp|pp|dp|ep|cp)\d+\b", t.terminal(page, t.Style(width=100, legend=True)))
    assert LEGEND not in brief.BRIEF.fields
    assert cli.run(["brief", "--help"]) == 0
    assert "--legend" not in capsys.readouterr().out
