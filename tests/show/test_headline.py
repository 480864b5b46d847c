"""One answer on every surface: the same words as text, HTML, notebook and web page, and no winner where rows cannot be
ranked."""

from __future__ import annotations

import html
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from test_report import comparison
from test_report import row as made_row
from typer.testing import CliRunner

import mowich
from mowich import cli
from mowich.cli.app import app
from mowich.cli.verbs import load_verbs
from mowich.economics import money
from mowich.evidence.scores import KERNEL_ERRORS, left_out, left_out_by_chip
from mowich.facts import Facts, load_facts
from mowich.price_terms import Quote, quote
from mowich.show.formats import percent
from mowich.show.render.html import render_html
from mowich.show.verbs import page_of
from mowich.studies.rooms.collective.published import compare_measured, measured, median
from mowich.web.server import ServerOptions, create_app
from server_here import Here

ROOT = Path(__file__).resolve().parents[2]
TRAIN = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
SERVE = {"isl": "2k", "osl": "500", "ttft": "2s", "tpot": "50ms"}
TRAIN_WORDS = ["--train", "--tokens", "1T", "--seq", "4096", "--batch", "256seqs"]
SERVE_WORDS = ["--serve", "--isl", "2k", "--osl", "500", "--ttft", "2s", "--tpot", "50ms"]


@pytest.fixture(scope="module")
def client() -> Any:
    with TestClient(create_app(ServerOptions(warm=False), Here())) as client:
        yield client


def say(*words: str) -> str:
    """What a command prints, in one line."""
    done = CliRunner().invoke(load_verbs(app), [*words, "--quiet"])
    assert done.exit_code in (0, 3, 4), done.output
    return " ".join(done.stdout.split())


_said: dict[tuple[Any, ...], dict[str, str]] = {}


def surfaces(
    verb: str, on: list[str], work: str, client: TestClient, *, chips: int | None = None, term: str = "default"
) -> dict[str, str]:
    """The whole of each surface as plain text, and the headline of the web page; asked once for each question."""
    key = (verb, *on, work, chips, term)
    if key not in _said:
        _said[key] = _surfaces(verb, on, work, client, chips, term)
    return _said[key]


def whole_answer(view: dict[str, Any]) -> str:
    """The sentences of a view: its headline and what stands under it."""
    return f"{view['headline']} {view['under']}"


def _surfaces(verb: str, on: list[str], work: str, client: TestClient, chips: int | None, term: str) -> dict[str, str]:
    job: dict[str, Any] = {"train": TRAIN} if work == "train" else {"serve": SERVE}
    words = TRAIN_WORDS if work == "train" else SERVE_WORDS
    sized = [] if chips is None else ["--chips", str(chips)]
    text = say(verb, "llama-3.1-8b", *words, "--on", ",".join(on), *sized, "--set", f"prices.term={term}")
    ask = {
        "model": "llama-3.1-8b",
        "on": on if verb == "compare" else on[0],
        "chips": chips,
        "set": [f"prices.term={term}"],
        **job,
    }
    answer = client.post(f"/api/{verb}", json={k: v for k, v in ask.items() if v is not None}).json()
    if verb == "compare":
        result = mowich.compare("llama-3.1-8b", on, chips=chips, term=term, **job)
    else:
        result = mowich.plan("llama-3.1-8b", on[0], chips=chips, term=term, **job)
    plain = " ".join(
        html.unescape(
            re.sub(r"<[^>]*>", " ", render_html(json.loads(json.dumps(result.to_dict()))).split("</header>")[0])
        ).split()
    )
    book = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", result._repr_html_())).split())
    return {"text": text, "html": plain, "notebook": book, "web": whole_answer(answer["view"])}


CASES = [
    ("compare", ["trn3", "h200", "gb300", "ironwood"], 64, "default"),
    ("compare", ["trn3", "h200", "gb300", "ironwood"], 64, "on-demand"),
    ("compare", ["trn3", "h200", "ironwood"], None, "default"),
    ("compare", ["h200"], 8, "default"),
    ("plan", ["h200"], 8, "default"),
    ("plan", ["trn3"], 16, "default"),
]


@pytest.mark.share(2)
@pytest.mark.share(3)
@pytest.mark.parametrize("work", ["train", "serve"])
@pytest.mark.parametrize(("verb", "on", "chips", "term"), CASES)
def test_every_surface_says_the_same(
    client: TestClient, work: str, verb: str, on: list[str], chips: int | None, term: str
) -> None:
    said = surfaces(verb, on, work, client, chips=chips, term=term)
    head = said["web"]
    assert len(head) > 20
    assert said["text"].startswith(head)
    assert head in said["html"]
    assert head in said["notebook"]


@pytest.mark.parametrize("work", ["train", "serve"])
def test_rows_without_a_common_price_are_at_cost_of_ownership_on_every_surface(client: TestClient, work: str) -> None:
    said = surfaces("compare", ["trn3", "h200", "gb300", "ironwood"], work, client, chips=64)
    for name, text in said.items():
        assert "different terms" not in text, name
        assert "Cheapest: " in text, name
        assert "(cost of ownership)" in text, name
    assert "prices: cost of ownership (no --price)" in said["text"]
    asked = surfaces("compare", ["trn3", "h200", "gb300", "ironwood"], work, client, chips=64, term="on-demand")
    assert "No on-demand price known: trn3." in asked["text"]
    assert "no on-demand price in the facts (there is tco, rent)" in asked["text"]


@pytest.mark.parametrize("work", [TRAIN_WORDS, SERVE_WORDS])
def test_list_prices_on_different_terms_are_not_ranked(work: list[str]) -> None:
    words = ["compare", "llama-3.1-8b", *work, "--on", "trn2,h200", "--chips", "64"]
    said = say(*words, "--price", "list")
    assert "Cheapest" not in said
    assert "prices are on different terms (trn2 capacity block, h200 on demand)" in said
    advised = re.search(r"ask for one with --price ([\w-]+)", said)
    assert advised
    assert "Cheapest: " in say(*words, "--price", advised[1])


@pytest.mark.share(2)
@pytest.mark.parametrize("work", [TRAIN_WORDS, SERVE_WORDS])
@pytest.mark.parametrize("on", ["trn2,ironwood,gb300", "trn3,gb300", "trn3,trn4", "trn2,trn3", "gb300,mi355x"])
def test_there_is_a_cheapest_where_no_term_is_common(work: list[str], on: str) -> None:
    assert "Cheapest: " in say("compare", "llama-3.1-8b", *work, "--on", on, "--chips", "64")


@pytest.mark.parametrize("work", ["train", "serve"])
def test_unequal_numbers_of_chips_have_no_fastest_and_a_column(client: TestClient, work: str) -> None:
    said = surfaces("compare", ["trn3", "h200", "ironwood"], work, client)
    for name, text in said.items():
        assert "fastest" not in text.casefold(), name
        assert "Default sizes: trn3 144, h200 8, ironwood 9,216 chips; set --chips N for equal numbers." in text, name
        assert "Most per chip: " in text, name
    assert said["web"].startswith("Cheapest: ")
    assert "system chips" in said["text"]
    assert re.search(r"h200 8 ", said["text"])
    equal = surfaces("compare", ["trn3", "h200", "ironwood"], work, client, chips=64)
    assert all("sizes:" not in text for text in equal.values())
    assert "system chips" not in equal["text"]
    assert ("Fastest: " in equal["web"]) == (work == "train")


def answer(rows: list[Any], **inputs: Any) -> dict[str, Any]:
    """A comparison's JSON of rows made by hand."""

    data = comparison(*rows).to_dict()
    systems = [
        {"system": r.system, "id": r.system_id, "chips": r.chips_requested, "stack": "x", "price_terms": {}}
        for r in rows
    ]
    return json.loads(json.dumps({**data, "inputs": {**data["inputs"], "systems": systems, **inputs}}))  # type: ignore[dict-item]


def a_label(term: str, estimate: bool) -> str:
    return f"$2.00/chip/h, {term}{', estimate' if estimate else ''}, 2026-01-01, somewhere"


def test_crowns_follow_the_rule_in_random_comparisons() -> None:
    """Cheapest: two rows or more with a price, one term (the user's own is one), no estimate. Fastest: equal numbers
    of chips, to within 5%."""
    dice = random.Random(5)
    seen: set[tuple[bool, bool]] = set()
    for _ in range(300):
        terms = dice.sample(["on-demand", "3y", "capacity-block", "market"], k=dice.choice([1, 1, 2]))
        counts = dice.choice([[64], [64], [100, 104], [64, 72], [8, 9216]])
        rows, priced, guessed = [], set(), False
        for i in range(dice.randint(2, 5)):
            term = dice.choice([*terms, "none"])
            guess = term != "none" and dice.random() < 0.1
            own = term != "none" and not guess and dice.random() < 0.15
            cost = None if term == "none" else dice.uniform(0.1, 2.0)
            label = "no price in the facts" if cost is None else "$2.00/chip/h, yours" if own else a_label(term, guess)
            guessed |= guess
            if cost is not None:
                priced.add((i, "yours" if own else term))
            chips = dice.choice(counts)
            rows.append(
                made_row(
                    f"s{i}",
                    step=dice.uniform(1, 9),
                    cost=cost,
                    price_label=label,
                    chips_requested=chips,
                    chips_used=chips,
                    chips_idle=0,
                    by=dice.uniform(1.01, 1.4),
                )
            )
        asked = [r.chips_requested for r in rows]
        equal = max(asked) <= 1.05 * min(asked)
        one_term = len({t for _, t in priced}) <= 1
        ranked = len(priced) > 1 and one_term and not guessed
        data = answer(rows)
        page = page_of(data)
        said = " ".join(page.sentences)
        assert ("Cheapest: " in said) == ranked, said
        assert ("Fastest: " in said) == equal, said
        assert ("Cost is not ranked" in said) == (bool(priced) and not ranked), said
        assert page.headline.startswith("Cheapest: " if ranked else "Fastest: " if equal else ("Most", "No system")), (
            said
        )
        assert ("best" in page.marks["usd_per_mtok"]) == ranked
        assert ("best" in page.marks["days"]) == equal == ("best" in page.marks["step_s"])
        column = page.tables[0].head.index("$/Mtok")
        cells = [line[column][0] for line in page.tables[0].cells()]
        assert any(c.endswith(("←", "~")) for c in cells) == ranked
        seen.add((ranked, equal))
    assert len(seen) == 4


def test_a_label_says_on_which_terms_its_price_stands(facts: Facts) -> None:
    found = 0
    for system in facts.ids("systems"):
        for term in money.TERMS:
            price = money.price(facts, system, term=term)
            terms = quote(price.label)
            if price.rate.value is None:
                assert terms is None
                continue
            built = price.term in ("tco", "electricity")
            assert terms == Quote(price.term, price.rate.grade == "D" and not built)
            found += 1
        assert money.quoted_terms(facts, system).keys() <= set(money.TERMS) - {"default"}
    assert found > 30


def test_terms_stand_beside_the_dollars_of_every_surface(client: TestClient) -> None:
    for work, words in (("train", TRAIN_WORDS), ("serve", SERVE_WORDS)):
        text = say("compare", "llama-3.1-8b", *words, "--on", "h200,trn2,ironwood", "--chips", "64", "--price", "list")
        for term in ("cap. block", "on-demand"):
            assert term in text
        job = {"train": TRAIN} if work == "train" else {"serve": SERVE}
        view = client.post(
            "/api/compare", json={"model": "llama-3.1-8b", "on": ["h200", "gb300", "ironwood"], "chips": 64, **job}
        ).json()["view"]
        assert view["beside"] == {"price_terms": ["TCO", "TCO", "TCO"]}
        assert "best" in view["marks"]["usd_per_mtok"]
        page = page_of(
            json.loads(json.dumps(mowich.compare("llama-3.1-8b", ["h200", "gb300"], chips=64, **job).to_dict()))
        )  # type: ignore[arg-type]
        at = page.tables[0].head.index("price")
        assert [line[at][0] for line in page.tables[0].cells()] == ["TCO", "TCO"]


@pytest.mark.slow
def test_flip_points_and_explanations_name_no_winner_on_cost_that_is_not_ranked(facts: Facts) -> None:
    result = json.loads(
        json.dumps(
            mowich.compare("llama-3.1-8b", ["h200", "trn2", "ironwood"], train=TRAIN, chips=64, price="list").to_dict()
        )
    )
    text = " ".join(re.sub(r"<[^>]*>", " ", render_html(result, facts=facts)).split())
    assert not re.search("cheapest", text.split("Make it again")[0], re.IGNORECASE)
    assert "trn2 costs a token what ironwood (on demand) does" in text
    told = mowich.compare("llama-3.1-8b", ["h200", "trn2", "ironwood"], train=TRAIN, chips=64, price="list").explain(
        "trn2.usd_per_mtok"
    )
    assert "wins" not in told


def test_the_page_in_a_browser_takes_its_marks_from_the_server() -> None:
    script = (ROOT / "src/mowich/web/static/table.js").read_text(encoding="utf-8")
    assert "overlap(" not in script
    assert "view.marks" in script


# accuracy
# ----------------------------------------------------------------------------------------------------------------------


def test_left_out_errors_come_first_and_shipped_rows_are_in_sample(client: TestClient) -> None:
    view = client.get("/api/validate").json()["view"]
    shown = say("validate")
    groups, sources = (e for e in left_out() if e.work == "training")
    for text in (whole_answer(view), shown):
        first = f"Left out of the fit: median error {groups.median:.1%}, 90% under {groups.p90:.1%}"
        assert text.startswith(f"{view['headline']} {first}")
        assert text.index(f"{sources.median:.1%}") < text.index("In sample: ")
    ends = sorted((groups.median, sources.median))
    assert view["headline"] == f"Median error {ends[0]:.1%} to {ends[1]:.1%} of rows left out of the fit."
    assert view["tables"][0]["title"] == "Left out of the fit"
    by_chip = [t["title"] for t in view["tables"][1:4]]
    assert by_chip == [
        "Left out of the fit, by chip: training, time of a step",
        "Left out of the fit, by chip: serving, time per token",
        "Left out of the fit, by chip: kernels, time",
    ]
    assert view["tables"][4]["title"] == "Collectives, in sample"
    found = compare_measured(load_facts(), measured())
    worst = max(c.error for c in found)
    assert view["tables"][4]["rows"][0] == ["all", str(len(found)), percent(median(found)), percent(worst)]
    assert [line[0] for line in view["tables"][0]["rows"]] == [
        "training, time of a step",
        "training, time of a step",
        "serving on Trainium, time per token",
        "serving on Trainium, time to first token",
        "serving, time per token",
        "serving, time to first token",
        "serving, tokens per second and chip",
        "reinforcement learning, time of a step",
        "kernels, time, newer interface",
        "kernels, time, older interface",
        "forward passes, time of a pass",
        "collectives on Trainium, 64 MiB and more",
        "collectives on Trainium, less than 64 MiB",
    ]
    titles = [chart["title"] for chart in view["charts"]]
    assert ["left out of the fit" in title for title in titles] == [True] * 4 + [False] * (len(titles) - 4)
    assert len(titles) > 4
    assert all("in sample" in title for title in titles[4:])


def test_errors_left_out_are_told_by_chip_and_for_families_of_kernels() -> None:
    """The rows of the chips are among those of the whole; kernels say what made their figures, as they do not ship."""
    whole = {(e.work, e.what): e.rows for e in left_out()}
    parts = left_out_by_chip()
    for work, what in {(e.work, e.what) for e in parts}:
        assert sum(e.rows for e in parts if (e.work, e.what) == (work, what)) <= whole[work, what]
    kernels = [e for e in parts if e.work == KERNEL_ERRORS]
    assert {e.chip for e in kernels} == {"trn2", "trn3"}
    assert sum(e.rows for e in kernels) == sum(e.rows for e in left_out() if e.work == KERNEL_ERRORS) == 99
    assert all(e.command == "make kernel-accuracy" and re.fullmatch(r"20\d\d-\d\d-\d\d", e.date) for e in kernels)
    page = (ROOT / "docs/records/kernel-accuracy.md").read_text(encoding="utf-8")
    for e in left_out():
        if e.work == KERNEL_ERRORS:
            assert re.search(rf"\*\*each family by the others\*\* \|[ |]+\| {e.rows} \| {e.median:.1%} \|", page)


def test_rows_of_ones_own_are_not_called_in_sample(tmp_path: Path) -> None:
    text = (ROOT / "src/mowich/facts/published/training.csv").read_text(encoding="utf-8").splitlines()
    own = tmp_path / "own.csv"
    own.write_text("\n".join(text[:12]) + "\n", encoding="utf-8")
    assert not re.search("in sample|left out", say("validate", str(own)), re.IGNORECASE)


def test_left_out_errors_are_those_of_the_documents() -> None:
    """One file; the pages are written from the same numbers, and README tells them."""
    found = {(e.work, e.what, e.unit): e for e in left_out()}
    step, tokens = "time of a step", "tokens per second and chip"
    training = (ROOT / "docs/records/accuracy.md").read_text(encoding="utf-8")
    line = next(x for x in training.splitlines() if x.startswith("| all | "))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for unit in ("groups", "sources"):
        e = found["training", step, unit]
        assert f"{100 * e.median:.1f} / {100 * e.p90:.1f}" in line
        assert f"{e.in_range:.0%}" in line
        assert f"{100 * e.median:.1f}%" in readme
        assert f"{100 * e.p90:.1f}%" in readme
    serving = (ROOT / "docs/records/accuracy-serving.md").read_text(encoding="utf-8")
    line = next(x for x in serving.splitlines() if x.startswith("| all | "))
    for what in ("time per token", "time to first token", tokens):
        e = found["serving", what, "groups"]
        high = f"{100 * e.p90:.1f}%" if e.p90 < 1 else f"{100 * e.p90:.0f}%"
        assert f"{100 * e.median:.1f}% / {high}" in line
        assert e.rows <= int(line.split("|")[2])  # rows that state the metric


def test_a_comparison_says_why_mowich_plan_may_name_another_plan(capsys: pytest.CaptureFixture[str]) -> None:
    """The two verbs answered one question with 3.40 and 3.41 s, and only one of them said why."""
    for job in (
        ["--train", "--tokens", "1T", "--seq", "4096", "--batch", "64seqs"],
        ["--serve", "--isl", "1k", "--osl", "1k"],
    ):
        assert cli.run(["compare", "llama-3.2-1b", *job, "--on", "trn3:1,gb300:1"]) == 0
        assert "mowich plan puts the simplest of those" in " ".join(capsys.readouterr().out.split())


def test_one_point_that_overlaps_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(
        "mowich: 1\nmodels: llama-3.2-1b\non: [h200, gb300]\nchips: 4\nseq: 4096\nbatch: 64seqs\ntokens: 1T\n"
    )
    assert cli.run(["sweep", str(file), "--jobs", "1"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "1 point overlaps with it and is not ranked" in said
