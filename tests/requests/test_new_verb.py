"""A verb is added in one file: one request, one study, one page. Nothing else of the package is touched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import ValidationError

from mowich import cli
from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.output import emit
from mowich.errors import UserError
from mowich.facts import Facts, load_facts
from mowich.machines.system import resolve
from mowich.requests.common import CSV, JSON, OUT, PLAIN, QUIET, Asked, form_of
from mowich.requests.fields import Edge, count, share
from mowich.requests.machines import RING
from mowich.requests.schema import QuestionReader, QuestionSource, Schema
from mowich.requests.settings import FACTS, SET, given_of, read_settings
from mowich.show.page import Column, Page, Result, Run, Table
from mowich.show.render import html
from mowich.show.verbs import PAGES
from mowich.units import show_gib
from mowich.web import asks

# ---- the request
# ----------------------------------------------------------------------------------------------------------------------

KEPT = share("kept", "Share of the memory that is kept free: 10%.", metavar="SHARE", default=0.1, shown="10%")
TOKENS = count("tokens", "Tokens of a cache.", high=1e8, metavar="N", keyword="cache_tokens", example="128k")


@dataclass(frozen=True, slots=True, kw_only=True)
class Headroom(Asked):
    """Memory of a system's chips. kept: share that stays free; tokens: of a cache."""

    on: str
    kept: float
    tokens: float | None


def _headroom(reader: QuestionReader) -> Headroom:
    form, settings = form_of(reader), read_settings(reader)
    reader.stop()
    return Headroom(
        form=form,
        facts=settings.facts,
        given=given_of(reader),
        on=reader.sure(RING),
        kept=reader.sure(KEPT),
        tokens=reader.get(TOKENS),
    )


HEADROOM = Schema(
    name="headroom",
    fields=(RING, KEPT, TOKENS, SET, FACTS, JSON, CSV, PLAIN, QUIET, OUT),
    make=_headroom,
    help="Memory that a job may take.",
    example="mowich headroom --on trn3 --kept 10%",
)


# ---- the study
# ----------------------------------------------------------------------------------------------------------------------


def headroom(facts: Facts, asked: Headroom) -> dict[str, Any]:
    """Bytes that a job may take, on all chips."""
    system = resolve(facts, asked.on)
    free_B = system.hbm_usable_B * system.devices * (1 - asked.kept)
    return {
        "schema": "mowich/headroom@1",
        "inputs": {"on": asked.on, "kept": asked.kept, "tokens": asked.tokens},
        "rows": [{"system": asked.on, "free_B": free_B}],
    }


# ---- the page, and the three edges
# ----------------------------------------------------------------------------------------------------------------------


def headroom_page(result: Result, _: Run) -> Page:
    [row] = result["rows"]
    free = show_gib(row["free_B"])
    table = Table(title="Memory", columns=(Column(name="system"), Column(name="free")), rows=[(row["system"], free)])
    return Page(title="Headroom", sentences=(f"{free} are free.",), parts=(table,), records=result["rows"])


def typed(asked: Headroom) -> None:
    emit(headroom(asked.facts, asked), asked.form, inputs=asked.given)


def called(**keywords: object) -> dict[str, Any]:
    asked = HEADROOM.read(keywords, QuestionSource(edge=Edge.KEYWORD, facts=load_facts()))
    return headroom(asked.facts, asked)


Body = asks.body(HEADROOM, "Headroom", "Memory that a job may take.")


def sent(data: Any) -> dict[str, Any]:
    asked = HEADROOM.read(Body.model_validate(data).values(), QuestionSource(edge=Edge.KEY, facts=load_facts()))
    return headroom(asked.facts, asked)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(PAGES, "mowich/headroom@1", headroom_page)  # type: ignore[arg-type]
    verb(app, HEADROOM, "headroom")(typed)
    yield
    app.registered_commands.pop()


def test_the_command_line_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["headroom", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for words in ("Memory that a job may take.", "--kept SHARE", "[default: 10%]", "--set", "Example: mowich headroom"):
        assert words in told
    assert cli.run(["--help"]) == 0
    assert "headroom" in capsys.readouterr().out
    assert cli.run(["headroom", "--on", "trn3:4", "--kept", "50%"]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("are free.")


def test_all_edges_give_one_answer_and_one_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["headroom", "--on", "trn3:4", "--kept", "50%", "--tokens", "128k", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    python, web = (
        called(on="trn3:4", kept=0.5, cache_tokens="128k"),
        sent({"on": "trn3:4", "kept": 0.5, "tokens": 128000}),
    )
    assert python == web
    assert answer["rows"] == python["rows"]
    assert {k: answer["inputs"][k] for k in python["inputs"]} == python["inputs"]
    assert "are free." in html.render_html(python)
    assert HEADROOM.command({"on": "trn3:4", "kept": 0.5}) == "mowich headroom --on trn3:4 --kept 0.5"


def test_each_edge_names_the_field_its_own_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["headroom", "--on", "trn3", "--kept", "150%", "--tokens", "0"]) == 2
    assert [line.split(": ")[1] for line in capsys.readouterr().err.splitlines()] == ["--kept", "--tokens"]
    with pytest.raises(UserError) as error:
        called(on="trn3", kept="150%", cache_tokens="0")
    assert [line.split(":")[0] for line in error.value.line().splitlines()] == ["kept", "cache_tokens"]
    with pytest.raises(UserError) as error:
        sent({"on": "trn3", "kept": "150%", "tokens": 0})
    assert [line.split(":")[0] for line in error.value.line().splitlines()] == ["kept", "tokens"]
    with pytest.raises(ValidationError, match="extra"):
        sent({"on": "trn3", "keeps": 1})
    with pytest.raises(UserError, match=r"unknown field 'keep'.*did you mean 'kept'"):
        called(on="trn3", keep=1)
