"""The brief: every verdict follows its numbers, and no number is another one elsewhere."""

from __future__ import annotations

import importlib.util
import json
import math
import random
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from test_brief_decisions import figures, writings

import mowich
from mowich.cli import run
from mowich.cli.app import app
from mowich.cli.options import CommandGroup
from mowich.cli.verbs import load_verbs
from mowich.errors import UserError
from mowich.facts import Facts
from mowich.models import load_model
from mowich.models.model import Model
from mowich.requests.brief import BRIEF, RIVALS, BriefRequest
from mowich.requests.jobs import CompareRequest
from mowich.show.render.html import render_html
from mowich.shown import Result, Rows
from mowich.studies.brief import jobs, now, one_page, outlook
from mowich.studies.brief.decisions import NO_VERDICT, SOME_WORK, price_verdict
from mowich.studies.brief.known import AT, SUBJECT, TO_SERVE, TO_TRAIN, Known
from mowich.studies.brief.one_page import asked_once, page_of_known
from mowich.studies.brief.rates import deciding_constant
from mowich.studies.brief.verdicts import LEVEL_WORDS, Brief, BriefNumber, Section, ends_of, words_for
from mowich.studies.compare import compare
from mowich.studies.explain import explain, metrics
from mowich.studies.serving_plan import ServeResult, compare_serving
from mowich.studies.stack_support import served_basis, widened
from mowich.web import asks
from mowich.web.reading import Knowledge

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", params=[pytest.param("live", marks=pytest.mark.slow)])
def known(facts: Facts) -> Known:
    return asked_once(BRIEF.of(facts))


@pytest.fixture(scope="module")
def page(known: Known) -> Brief:
    return page_of_known(known)


def small(facts: Facts, against: Sequence[str], settings: Sequence[str] = ()) -> Known:
    """A brief of a small model on few sizes, without the gap, other amounts of memory, the fleet and the split."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (one_page, now, jobs):
            patch.setattr(module, "BRIEF_SIZES", SIZES)
        patch.setattr(one_page, "gap", lambda *a, **k: None)
        patch.setattr(one_page, "fleet", lambda *a, **k: None)
        patch.setattr(one_page, "_split", lambda *a, **k: None)
        patch.setattr(one_page, "_memory", lambda *a, **k: [])
        asked = BRIEF.of(facts, against=against, models=["gpt-oss-20b"])
        return asked_once(replace(asked, given={"set": settings}))


SIZES = (64, AT)
UNREAD = "chips.mi300x.memory.hbm_bandwidth"
CHEAP = ("prices.trn3=$0.20/chip/h", f"{UNREAD}=7 TB/s")


def sections(known: Known) -> dict[str, Section]:
    """The questions that `small` can answer."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (now, jobs):
            patch.setattr(module, "BRIEF_SIZES", SIZES)
        rows = [jobs.jobs_section(known, jobs.job_table(known)), now.scale_section(known), now.price_section(known)]
        rows += [outlook.energy_section(known), outlook.next_section(known)]
    return {row.id: row for row in rows}


def leaves(data: object) -> Iterator[float]:
    """Every number of an answer."""
    if isinstance(data, Mapping):
        for value in data.values():
            yield from leaves(value)
    elif isinstance(data, list):
        for value in data:
            yield from leaves(value)
    elif isinstance(data, int | float) and not isinstance(data, bool):
        yield float(data)


ANSWERS = ("compare", "value", "prices", "power", "rl")
"""Verbs whose JSON holds the numbers that cite them."""


def given_by_its_command(numbers: Iterable[BriefNumber], capsys: pytest.CaptureFixture[str]) -> int:
    """Checks that what each number is of, or its symbols, are what the cited command answers; how many were checked."""
    made: dict[str, list[float]] = {}
    checked = 0
    for n in numbers:
        command, _, _ = n.of.partition("; ")
        words = shlex.split(command)
        if words[:1] != ["mowich"] or words[1] not in ANSWERS:
            continue
        if command not in made:
            capsys.readouterr()
            assert run([*words[1:], "--json", "--quiet"]) == 0, command
            made[command] = list(leaves(json.loads(capsys.readouterr().out)))
        for value in n.symbols.values() if n.formula else [float(n.estimate)]:
            assert any(math.isclose(value, found, rel_tol=1e-9) for found in made[command]), (n.name, value, command)
        checked += 1
    return checked


@pytest.fixture(scope="module")
def cheap(facts: Facts) -> Known:
    """Beside Trainium 2 alone, at a price of the reader's own."""
    return small(facts.with_values({"prices.user.trn3-gen2": 0.20 / 3600.0, UNREAD: 7e12}), ["trn2"], CHEAP)


@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_each_number_is_what_its_command_answers(cheap: Known, every: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands name the settings that the page was made of; `every`: of so many commands one is run."""
    told = sections(cheap)
    numbers = [n for row in told.values() for n in row.numbers]
    assert all(shlex.join(("--set", CHEAP[0])) in n.of.partition("; ")[0] for n in told["price"].numbers)
    quick = [n for n in numbers if "bulk" not in n.name and not n.name.startswith("tuned.serve")]
    asked = list(dict.fromkeys(n.of.partition("; ")[0] for n in quick))[::every]
    assert given_by_its_command([n for n in quick if n.of.partition("; ")[0] in asked], capsys) > 20 // every


def test_a_command_has_the_settings_that_its_answer_reads(cheap: Known) -> None:
    """And no other: that of a machine which is not on the page stands only where no answer here is like it."""
    commands = [command for row in sections(cheap).values() for command in row.commands if " compare " in command]
    assert len(set(commands)) > 3
    for command in commands:
        assert ("prices.trn3" in command, UNREAD in command) == (True, False), command
    assert all(word in cheap.command("goodput --on trn3:64") for word in ("prices.trn3", UNREAD))


def test_at_a_price_of_the_readers_own_nothing_is_said_of_what_it_costs_to_build(cheap: Known) -> None:
    price = sections(cheap)["price"]
    assert price.level == LEVEL_WORDS["your price"][-1][1]
    assert "build" not in price.verdict
    assert "No price is published" not in price.verdict
    assert "At your price: Trainium 3" in price.why[0]


def test_no_break_even_is_taken_against_a_machine_that_was_not_asked_for(cheap: Known) -> None:
    """The one after it is in no comparison with its rivals, though the page speaks of it."""
    answers = [*cheap.sizes.values(), *cheap.served.values()]
    assert {row.system for answer in answers for row in answer.rows} == {"trn3", "trn2"}
    rows = {s: cheap.trained(AT, s) for s in ("trn3", "trn2")}
    a, b = (float(rows[s].usd_per_mtok) for s in ("trn3", "trn2"))
    even = float(sections(cheap)["price"].number("even.train.gpt-oss-20b"))
    assert math.isclose(even, 0.20 * b / a, rel_tol=1e-9)  # what makes the tokens cost the same
    assert "NVIDIA" not in " ".join(row.verdict for row in sections(cheap).values())


def served(facts: Facts, model: Model, chips: int, engine: str | None = None) -> ServeResult:
    return compare_serving(
        CompareRequest(
            facts=facts, model=model, systems=("trn3",), serve=TO_SERVE, chips=chips, engine=engine, term="tco"
        )
    )


def test_rates_say_what_they_were_extrapolated_from(facts: Facts) -> None:
    model, other = load_model("gpt-oss-20b"), load_model("deepseek-v3")
    assert served_basis(facts, model, "trn3-gen2") == ""
    assert "on the same chip" in served_basis(facts, other, "trn3-gen2")
    assert served_basis(facts, other, "trn4") == "extrapolated from other chips"
    row = served(facts, model, 8).rows[0]
    told = widened(facts, row, "extrapolated from other chips", is_large=False)
    e, width = told.tokens_per_s_per_chip, facts.number("serving.extrapolated.times")
    assert (e.grade, e.value) == ("D", row.tokens_per_s_per_chip.value)
    assert ends_of(e)[1] >= float(e) * width
    assert ends_of(e)[0] <= float(e) / width
    assert widened(facts, row, "", is_large=False) == row


def test_no_verdict_where_the_range_of_one_constant_decides(facts: Facts) -> None:
    """And a verdict again once the constant is known better, or where its share of a step is small: the default engine
    for a mixture is a port, whose layers with experts take little beside the others."""
    model = load_model("deepseek-v3")
    path = "serving.vllm-neuron.moe_layer"

    def decided(known: Facts, engine: str | None = "vllm-neuron") -> str:
        row = served(known, model, 64, engine).rows[0]
        return deciding_constant(known, model, row, TO_SERVE, chips=64)

    assert decided(facts) == path
    fact = replace(facts.fact(path), value=1.1e-4, low=1.0e-4, high=1.2e-4)
    assert decided(facts.with_values({path: fact})) == ""
    assert decided(facts, None) == ""


@pytest.fixture(scope="module")
def answer(page: Brief) -> Result:
    return json.loads(json.dumps(page.to_dict()))  # type: ignore[no-any-return]


def test_questions_each_with_a_verdict_why_and_a_command(page: Brief) -> None:
    assert [row.id for row in page.rows] == [
        "jobs",
        "claim",
        "memory",
        "scale",
        "price",
        "energy",
        "next",
        "fleet",
        "sure",
    ]
    for row in page.rows:
        assert row.question.endswith("?")
        assert row.verdict.endswith(".")
        most = 6 if row.id == "jobs" else 4  # two more on the software that ships
        assert 1 <= len(row.why) <= most
        assert all(command.startswith("mowich ") for command in row.commands)
        assert row.level.split()[0].casefold() in row.verdict.casefold(), row.id


def test_no_number_is_without_its_range_or_its_source(page: Brief) -> None:
    for row in page.rows:
        assert len({n.name for n in row.numbers}) == len(row.numbers)
        for n in row.numbers:
            assert n.of
            assert n.what
            e = n.estimate
            assert e.value is None or (e.low or e.value) <= e.value <= (e.high or e.value), (row.id, n.name)


NOT_NUMBERS = re.compile(
    r"deepseek-v3|gpt-oss-\d+b|qwen[\w.-]+|GB300|Trainium ?\d|searched 2026-11|searched 27 November 2026|\d+[- ]bit|"
    r"As of November 2026|all \d jobs|of \d jobs|The \d models|"
    r"TorchTitan Neuron [\w.+]+|Neuron \d[\d.]*|of \d+ \w+ 2026|read \d{4}-\d\d-\d\d|Trn3|LNC \d|MXFP\d|"
    r"lnc=\d|\d+ requests"
)
"""Names of models, chips, releases and formats, days, and what a release was tested with."""


def test_sentences_have_no_other_numbers_than_their_question(page: Brief) -> None:
    for row in page.rows:
        if row.id not in ("jobs", "claim", "price", "energy"):
            continue  # the others also count rows and quote facts
        text = NOT_NUMBERS.sub("", " ".join((row.verdict, *row.why)))
        known = [float(x) for n in row.numbers for x in (n.estimate.value, *ends_of(n.estimate), *n.symbols.values())]
        assert figures(text) <= writings(known), (row.id, figures(text) - writings(known))


def test_formulas_give_their_numbers(page: Brief) -> None:
    for row in page.rows:
        for n in row.numbers:
            if n.formula and n.estimate.value is not None:
                value = eval(n.formula, {"__builtins__": {}}, dict(n.symbols))
                assert math.isclose(value, float(n.estimate), rel_tol=1e-9), (row.id, n.name)


def test_every_number_is_explained(answer: Result, facts: Facts) -> None:
    for name in metrics(answer):
        told = explain(answer, name, facts, sensitivity=False)
        assert told.says, name


def test_one_ratio_through_brief_gap_and_compare(page: Brief, known: Known) -> None:
    """The same two machines at the same job, asked in three ways."""
    rows = {r.system: float(r.tokens_per_s_per_chip) for r in known.sizes[AT].rows}
    wanted = rows[RIVALS[0]] / rows[SUBJECT]
    assert math.isclose(float(known.gap.ratio), wanted, rel_tol=1e-9)
    symbols = next(n.symbols for n in page.section("scale").numbers if n.name == f"at_{AT}")
    assert math.isclose(symbols["rival"] / symbols["trn3"], wanted, rel_tol=1e-9)
    (line,) = [r for r in page.table if (r.job, r.rival) == ("train", RIVALS[0])]
    assert math.isclose(float(line.speed), 1.0 / wanted, rel_tol=1e-9)


def test_one_claim_through_brief_and_claims(page: Brief, facts: Facts) -> None:
    claims = [c for c in mowich.claims("4.4", facts=facts) if c.derived is not None]
    assert any(
        math.isclose(c.derived or 0.0, float(page.section("claim").number("unit")), rel_tol=1e-6) for c in claims
    )


def test_one_cost_through_brief_and_prices(page: Brief, facts: Facts) -> None:
    row = mowich.prices([SUBJECT], facts=facts).to_dict()["rows"][0]  # type: ignore[index]
    assert math.isclose(float(page.section("price").number(f"cost.{SUBJECT}")), row["tco_total"]["value"], rel_tol=1e-9)


def test_the_price_of_memory_is_that_of_the_fact_that_it_cites(page: Brief, facts: Facts) -> None:
    (price,) = [n for n in page.section("memory").numbers if n.name == "price"]
    assert math.isclose(float(price.estimate), facts.number(price.of.split()[-1]) * 1e9, rel_tol=1e-9)


def test_more_gain_from_memory_flips_the_verdict(known: Known) -> None:
    def with_gain(gain: float) -> str:
        memory = [replace(m, gain=gain) for m in known.memory]
        return page_of_known(replace(known, memory=memory)).section("memory").verdict

    assert with_gain(1.0).startswith("Hardly.")
    assert with_gain(1.5).startswith("In all work.")
    assert "50% faster" in with_gain(1.5)


def test_a_cheaper_machine_flips_the_verdict_on_price(known: Known) -> None:
    def sold_at(factor: float) -> str:
        """Break-even prices moved by a factor."""

        def moved(row: object) -> object:
            return replace(row, breakeven_usd_per_chip_h=row.breakeven_usd_per_chip_h.scaled(factor, "USD/chip/h"))  # type: ignore[attr-defined, type-var]

        sizes = {n: replace(c, rows=Rows(map(moved, c.rows))) for n, c in known.sizes.items()}
        served = {k: replace(c, rows=Rows(map(moved, c.rows))) for k, c in known.served.items()}
        return page_of_known(replace(known, sizes=sizes, served=served)).section("price").level  # type: ignore[arg-type]

    assert sold_at(0.1) == LEVEL_WORDS["price"][0][1]
    assert sold_at(100.0) == LEVEL_WORDS["price"][-1][1]


@pytest.mark.parametrize("question", LEVEL_WORDS)
def test_each_word_can_be_said(question: str) -> None:
    bounds = [0.0, *(bound for bound, _ in LEVEL_WORDS[question])]
    said = [words_for(question, low) for low in bounds[:-1]]
    assert said == [words for _, words in LEVEL_WORDS[question]]


def test_the_page_of_the_documents_is_current(answer: Result) -> None:
    """`python tools/brief_page.py` writes it."""
    spec = importlib.util.spec_from_file_location("brief_page", ROOT / "tools" / "brief_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tools"))
        spec.loader.exec_module(module)
    assert (ROOT / "docs" / "records" / "brief.md").read_text(encoding="utf-8") == module.brief_text(answer)
    assert module.BRIEF_FILE.read_text(encoding="utf-8") == module.brief_json(answer)


def test_html_has_a_picture_for_each_question(answer: Result) -> None:
    html = render_html(answer)
    assert html.count('class="story"') == len(answer["rows"])
    assert html.count('class="chart"') == len(answer["rows"]) + 1
    assert "does scale and price make up" in html


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--against", "trn3"], "a brief is about Trainium 3, which cannot be its own rival"),
        (["--against", "gb30"], "did you mean 'gb300'?"),
        (["--against", "gb300,gb300"], "is named twice"),
        (["--models", "deepseek-v33"], "did you mean"),
    ],
)
def test_bad_input_is_one_line(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["brief", *words]) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1


def test_a_model_that_fits_nowhere_is_refused(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_page, "BRIEF_SIZES", (AT,))
    small = facts.with_values({"chips.trainium3.memory.hbm_capacity": 2.0**20})
    with pytest.raises(UserError, match="has no plan on 16,384 chips of Trainium 3"):
        asked_once(BRIEF.of(small, models=["deepseek-v3"]))


def test_commands_can_be_typed(page: Brief) -> None:
    """Each command of the page, and the first part of what each number is from, is one that the parser takes."""
    texts = [command for row in page.rows for command in row.commands]
    texts += [n.of.partition(";")[0].partition(": ")[0] for row in page.rows for n in row.numbers]
    for text in dict.fromkeys(t for t in texts if t.startswith("mowich ")):
        words = shlex.split(text)[1:]
        group = typer.main.get_command(load_verbs(app))
        context = group.make_context("mowich", list(words))
        names = [*getattr(context, "_protected_args", ()), *context.args]
        while isinstance(group, CommandGroup):
            name, group, names = group.resolve_command(context, names)
            assert group is not None, text
            context = group.make_context(name, names, parent=context)
            names = [*getattr(context, "_protected_args", ()), *context.args]


DRAWN_SETTINGS = (
    "prices.trn3=$0.30/chip/h",
    "prices.trn3=$2.50/chip/h",
    "prices.gb300=$6/chip/h",
    "prices.ironwood=$0.60/chip/h",
    "chips.trainium3.memory.hbm_capacity=288 GiB",
    "chips.trainium3.memory.hbm_capacity=120 GiB",
    "chips.trainium3.memory.hbm_bandwidth=7 TB/s",
    "serving.nxdi-port.moe_layer=110 us",
    "power.trn3=900 W",
)
DRAWN_MODELS = ("deepseek-v3", "gpt-oss-120b", "llama-3.1-70b", "qwen3-235b-a22b", "llama-3.1-405b", "kimi-k2")
DRAWN_RIVALS = ("gb300", "ironwood", "trn2")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60))
def test_drawn_questions(seed: int, facts: Facts, capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers are those of their commands, rivals those that were asked for, and verdicts turn one way."""
    rng = random.Random(seed)
    ask = {
        "against": tuple(rng.sample(DRAWN_RIVALS, rng.randint(1, 3))),
        "models": tuple(rng.sample(DRAWN_MODELS, rng.randint(1, 2))),
        "set": tuple({s.partition("=")[0]: s for s in rng.sample(DRAWN_SETTINGS, rng.randint(0, 3))}.values()),
    }
    asked = Knowledge(facts).read(asks.BriefBody.model_validate(ask))
    assert isinstance(asked, BriefRequest)
    known = asked_once(asked)
    page = page_of_known(known)
    rivals = {known.name(s) for s in DRAWN_RIVALS if s not in ask["against"]}
    for row in page.rows:
        if row.id in ("jobs", "scale", "price", "energy", "next"):
            assert not [r for r in rivals if r in row.verdict], (row.id, row.verdict)
    numbers = [n for row in page.rows for n in row.numbers]
    assert given_by_its_command(rng.sample(numbers, min(8, len(numbers))), capsys) > 0
    price = page.section("price")
    even = [e.estimate for e in price.numbers if e.name.startswith("even.")]
    assert even
    cost, is_yours = known.price(SUBJECT), known.is_yours(SUBJECT)
    cheaper = price_verdict({str(i): e for i, e in enumerate(even)}, cost.scaled(0.5, cost.unit), is_yours=is_yours)
    order = [words for _, words in LEVEL_WORDS["your price" if is_yours else "price"]]
    place = {SOME_WORK: 1, **{words: i for i, words in enumerate(order)}}
    assert place[cheaper.level] >= place[price.level]
    amounts = {p: 2.0 * asked.facts.number(p) for p in ("chips.trainium3.memory.hbm_capacity",)}
    more = compare(
        CompareRequest(
            facts=asked.facts.with_values(amounts),
            model=known.models[0],
            systems=tuple(known.systems),
            train=TO_TRAIN,
            chips=AT,
            term="tco",
        )
    )
    before = float(known.trained(AT, SUBJECT).tokens_per_s_per_chip)
    assert float(more.rows[0].tokens_per_s_per_chip) >= before * (1.0 - 1e-9)
    for line in page.table:
        if line.level == NO_VERDICT:
            assert line.rests_on
            assert line.dollar.grade == "D"
            assert line.work not in price.verdict
        elif line.dollar.value is not None:
            assert line.level == words_for("job", float(line.dollar))
