"""Goodput as plans take it: the best way of surviving, the same as `mowich goodput`, with bounds, monotony and what
large runs report."""

from __future__ import annotations

import inspect
import json
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mowich
from mowich import cli
from mowich.errors import UserError
from mowich.estimate import Notes, exact
from mowich.facts import load_facts
from mowich.requests.rooms.goodput import SCHEMA as GOODPUT
from mowich.software.vendors import failure_class
from mowich.studies.explain import Explainer
from mowich.studies.rooms.goodput import answer as study
from mowich.training import faults, longrun
from mowich.training.faults import STRATEGIES, FaultRates, Job
from mowich.training.longrun import SURVIVAL_CHOSEN, kept, survival

FACTS = load_facts()
SYSTEMS = ("trn1", "trn2", "trn3-gen2", "trn4", "tpu-v5p", "ironwood", "h100", "gb300", "gh200")
SIZES = (64, 200, 799, 1024, 4096, 16_384, 100_000, 1_000_000)
JOBS = [(s, n, 10.0 ** (i % 5 - 2)) for i, (s, n) in enumerate((s, n) for s in SYSTEMS for n in SIZES)]
TRAIN = {"tokens": "30T", "seq": 4096, "batch": "64M"}

seconds = st.floats(1.0, 1e7)


def share(mtbf: float, recovery: float, stall: float, step: float = 0.0) -> float:
    return faults.useful_of(mtbf, recovery, stall, faults.checkpoint_interval_s(stall, mtbf, step))


@given(mtbf=seconds, recovery=st.floats(0.0, 1e5), stall=st.floats(0.01, 1e3), step=st.floats(0.0, 100.0))
def test_the_useful_share_is_a_share(mtbf: float, recovery: float, stall: float, step: float) -> None:
    assert 0.0 <= share(mtbf, recovery, stall, step) < 1.0


@given(
    mtbf=st.floats(10.0, 1e7), factor=st.floats(1.01, 100.0), recovery=st.floats(0.0, 1e4), stall=st.floats(0.01, 1e3)
)
def test_more_failures_never_help(mtbf: float, factor: float, recovery: float, stall: float) -> None:
    assert share(mtbf / factor, recovery, stall) <= share(mtbf, recovery, stall) * (1 + 1e-9)


def test_first_order_when_failures_are_rare() -> None:
    mtbf, recovery, stall = 1e6, 600.0, 5.0
    tau = faults.checkpoint_interval_s(stall, mtbf)
    assert share(mtbf, recovery, stall) == pytest.approx(
        1 - recovery / mtbf - stall / tau - (tau + stall) / 2 / mtbf, abs=2e-5
    )


# one choice
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("system", "chips", "step_s"), JOBS)
def test_plans_and_the_goodput_verb_say_the_same(system: str, chips: int, step_s: float) -> None:
    """For the same system, chips and step, of every way and of the best: the formula of the verb's rows, on as many
    chips as are asked for."""
    kind = failure_class(FACTS, system)
    job = longrun.job_of(FACTS, system, chips=chips, step_s=step_s)
    by = {
        n: faults.closed_form(job, faults.read_fault_rates(FACTS, kind), faults.read_strategy(FACTS, n)).value
        for n in STRATEGIES
    }
    found = survival(FACTS, system, chips=chips, step_s=exact(step_s, "s"))
    assert found.strategy == max(by, key=lambda n: by[n])
    assert float(found.goodput) == pytest.approx(by[found.strategy], rel=1e-9)
    assert kept(FACTS, system, chips=chips, step_s=step_s).value == found.goodput.value
    for name in STRATEGIES:
        alone = survival(FACTS.with_values({SURVIVAL_CHOSEN: name}), system, chips=chips, step_s=exact(step_s, "s"))
        assert alone.strategy == name
        if by[name] >= longrun.LEAST_SHARE:
            assert float(alone.goodput) == pytest.approx(by[name], rel=1e-9)


@pytest.mark.parametrize(
    ("system", "chips"), [("trn2", 64), ("trn3", 1000), ("trn3", 1_000_000), ("ironwood", 4096), ("h100", 16_384)]
)
def test_a_row_of_a_comparison_says_what_the_goodput_verb_says(system: str, chips: int) -> None:
    [row] = mowich.compare("llama-3.1-8b", [system], train=TRAIN, chips=chips).rows
    asked = study(GOODPUT.of(FACTS, on=f"{system}:{row.chips_used}", days=0.1, step_s=float(row.step_s), samples=10))
    verb = {r.strategy: float(r.goodput) for r in asked.rows}
    assert row.survival == asked.survival
    assert float(row.goodput) == pytest.approx(verb[row.survival], rel=1e-9)
    assert row.to_dict()["survival"] == row.survival


@pytest.mark.parametrize("model", ["kimi-k2", "deepseek-v3", "llama-3.1-405b"])
def test_a_million_chips_have_an_answer(model: str) -> None:
    """Days of a long run on a million Trainium3: a range of at most ten, with a way of surviving that is named."""
    [row] = mowich.compare(model, ["trn3"], train=TRAIN, chips=1_000_000).rows
    assert row.survival == "elastic"
    assert row.days.high / row.days.low <= 10.0  # type: ignore[operator]
    assert 0.3 < float(row.goodput) < 0.9
    assert row.goodput.reason is None
    tokens_per_s = float(row.tokens_per_s_per_chip) * row.chips_used
    assert float(row.days) == pytest.approx(30e12 / (tokens_per_s * float(row.goodput)) / 86400.0, rel=1e-9)
    assert row.days.low < float(row.days) < row.days.high  # type: ignore[operator]


# what must always hold
# ----------------------------------------------------------------------------------------------------------------------


def rates_of(rng: random.Random) -> FaultRates:
    """Rates of a site up to ten times better or worse than the facts."""
    base = faults.read_fault_rates(FACTS, rng.choice(("gpu", "tpu", "trainium")))
    by = [10.0 ** rng.uniform(-1, 1) for _ in range(5)]
    return FaultRates(
        failures={k: v * by[0] for k, v in base.failures.items()},
        silent=base.silent * by[1],
        slow=base.slow * by[2],
        repair_s=base.repair_s * by[3],
        replaced=min(1.0, base.replaced * by[4]),
    )


def test_more_chips_with_as_many_spares_never_raise_goodput() -> None:
    rng = random.Random(7)
    for _ in range(2000):
        rates, way = rates_of(rng), faults.read_strategy(FACTS, rng.choice(STRATEGIES))
        few, many = sorted(round(10.0 ** rng.uniform(1.9, 6)) for _ in range(2))
        unit, spares = rng.choice((1, 4, 8, 16)), rng.uniform(1.001, 50.0)

        def job(
            chips: int,
            unit: int = unit,
            spares: float = spares,
            few: int = few,
            step: float = 10.0 ** rng.uniform(-1, 2),
        ) -> Job:
            return Job(
                chips=chips,
                step_s=step,
                days=1.0,
                spare_share=(spares - 1) * unit / chips,
                unit_chips=unit,
                replica_chips=min(few, 1024),
            )

        assert faults.losses(job(many), rates, way).share <= faults.losses(job(few), rates, way).share + 1e-12


def test_more_chips_never_raise_the_goodput_of_a_plan() -> None:
    """With the spares that go with the chips: no size falls just short of a server to spare."""
    rng = random.Random(8)
    for _ in range(600):
        system = rng.choice(SYSTEMS)
        few = round(10.0 ** rng.uniform(1, 6))
        many = min(1_000_000, round(few * 10.0 ** rng.uniform(0, 0.5)))
        step = 10.0 ** rng.uniform(-1, 2)
        values = [kept(FACTS, system, chips=n, step_s=step).value or 0.0 for n in (few, max(few, many))]
        assert values[1] <= values[0] + 1e-12, (system, few, many)


@pytest.mark.parametrize("name", STRATEGIES)
def test_no_size_just_misses_a_spare_server(name: str) -> None:
    """A chip more changes goodput by little: spares are not lost to rounding."""
    way = faults.read_strategy(FACTS, name)
    for system, chips in (("trn2", 799), ("trn2", 1599), ("h100", 399), ("h100", 799), ("trn3-gen2", 199)):
        rates = faults.read_fault_rates(FACTS, failure_class(FACTS, system))
        one, two = (
            faults.losses(longrun.job_of(FACTS, system, chips=n, step_s=1.0), rates, way).share
            for n in (chips, chips + 2)
        )
        assert two == pytest.approx(one, abs=1e-4), (system, chips)


def test_a_shorter_recovery_never_loses_and_one_way_alone_never_wins() -> None:
    rng = random.Random(9)
    for _ in range(150):
        system, chips = rng.choice(SYSTEMS), round(10.0 ** rng.uniform(1.8, 6))
        step = exact(10.0 ** rng.uniform(-1, 2), "s")

        def value(values: dict[str, float | str], system: str = system, chips: int = chips, step=step) -> float:  # type: ignore[no-untyped-def]
            return kept(FACTS.with_values(values), system, chips=chips, step_s=float(step)).value or 0.0

        free = value({})
        name = rng.choice(STRATEGIES)
        assert value({SURVIVAL_CHOSEN: name}) <= free
        field = rng.choice(("detect", "restart", "stall"))
        path = f"reliability.strategies.{name}.{field}"
        factor = rng.uniform(0.05, 1.0)
        assert value({path: FACTS.number(path) * factor}) >= free - 1e-12
        one = {SURVIVAL_CHOSEN: name}
        assert value({**one, path: FACTS.number(path) * factor}) >= value(dict(one)) - 1e-12


def test_the_interval_holds_the_value_and_follows_the_best_way_at_each_end() -> None:
    for system in SYSTEMS:
        for chips in SIZES:
            g = survival(FACTS, system, chips=chips, step_s=exact(1.0, "s")).goodput
            assert 0.0 < g.low < float(g) < g.high < 1.0  # type: ignore[operator]
    # where elastic is slow, memory is taken: how slow no longer counts
    slow = {f"reliability.strategies.elastic.{f}": s for f, s in (("detect", 300.0), ("restart", 300.0))}
    found = survival(FACTS.with_values(slow), "h100", chips=16_384, step_s=exact(1.0, "s"))
    slower = survival(
        FACTS.with_values({k: 10 * v for k, v in slow.items()}), "h100", chips=16_384, step_s=exact(1.0, "s")
    )
    assert found == slower
    assert found.strategy == "memory"


def test_the_interval_is_close_to_that_of_the_drawn_facts() -> None:
    """The ends of the ranges in quadrature against draws over the ranges: log odds within half."""
    for system, chips in (("trn3-gen2", 65_536), ("h100", 262_144), ("ironwood", 1_000_000)):
        job = longrun.job_of(FACTS, system, chips=chips, step_s=1.0)
        found = survival(FACTS, system, chips=chips, step_s=exact(1.0, "s"))
        drawn = sorted(faults.sampled(FACTS, failure_class(FACTS, system), found.strategy, job, samples=400))
        for mine, theirs in ((found.goodput.low, drawn[20]), (found.goodput.high, drawn[379])):
            assert longrun._logit(float(mine)) == pytest.approx(longrun._logit(float(theirs)), abs=0.5)  # type: ignore[arg-type]


def test_published_runs_lie_in_the_interval() -> None:
    """HLAT on 4096 Trainium: 98.8% uptime; Llama 3 on 16384 GPUs, restarted from checkpoints: over 90%."""
    small = survival(FACTS, "trn1", chips=4096, step_s=exact(5.0, "s")).goodput
    assert small.low < 0.988 < small.high  # type: ignore[operator]
    restarted = survival(
        FACTS.with_values({SURVIVAL_CHOSEN: "async"}), "h100", chips=16_384, step_s=exact(5.0, "s")
    ).goodput
    assert restarted.low < 0.9 < restarted.high  # type: ignore[operator]


def test_says_when_the_formula_is_not_valid() -> None:
    alone = FACTS.with_values({SURVIVAL_CHOSEN: "async"})
    e = survival(alone, "trn3-gen2", chips=1_000_000, step_s=exact(5.0, "s")).goodput
    assert "beyond the formula's validity" in (e.reason or "")
    assert e.grade == "D"
    assert survival(alone, "trn3-gen2", chips=1024, step_s=exact(5.0, "s")).goodput.reason is None
    never = survival(FACTS, "trn3-gen2", chips=1_000_000, step_s=exact(1e5, "s")).goodput
    assert never.value is None
    assert "too long to finish between failures" in (never.reason or "")


# asked for, shown, explained
# ----------------------------------------------------------------------------------------------------------------------


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.run(list(words))
    said = capsys.readouterr()
    return code, said.out, said.err


JOB = (
    "llama-3.1-8b",
    "--train",
    "--tokens",
    "1T",
    "--seq",
    "4096",
    "--batch",
    "4M",
    "--on",
    "trn3,h100",
    "--chips",
    "256",
    "-q",
)


def test_a_way_can_be_asked_for_and_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = asked(capsys, "compare", *JOB, "--json", "--set", "survival=async")
    assert code == 0
    result = json.loads(out)
    assert [r["survival"] for r in result["rows"]] == ["async", "async"]
    best = json.loads(asked(capsys, "compare", *JOB, "--json")[1])
    assert all(b["goodput"]["value"] > r["goodput"]["value"] for b, r in zip(best["rows"], result["rows"], strict=True))
    facts = FACTS.with_values({SURVIVAL_CHOSEN: "async"})
    explainer = Explainer(result, facts)
    for i, row in enumerate(result["rows"]):
        for metric in ("goodput", "days"):
            assert explainer.evaluate(("rows", i, metric)) == pytest.approx(row[metric]["value"], rel=1e-9)
    told = explainer.explain("trn3.goodput")
    assert any("async: restart, asynchronous" in t.note for t in told.terms)
    assert not any("strategies.elastic" in m.fact.path for m in told.moves)
    text = asked(capsys, "compare", *JOB, "--set", "survival=async")[1]
    assert "Failures survived by: async." in text
    assert "elastic" in asked(capsys, "compare", *JOB, "--plain")[1]
    first = asked(capsys, "goodput", "--on", "h100:256", "--samples", "10", "-q", "--set", "survival=memory")[1]
    assert "days: memory, 99." in " ".join(first.split())
    assert "days: best: elastic, 99." in asked(capsys, "goodput", "--on", "h100:256", "--samples", "10", "-q")[1]


@pytest.mark.parametrize("verb", ["compare", "goodput"])
def test_a_way_that_does_not_exist_is_refused_in_one_line(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = JOB if verb == "compare" else ("--on", "h100:256")
    code, _, err = asked(capsys, verb, *words, "--set", "survival=asynch")
    assert code == 2
    assert "did you mean 'async'" in err
    assert len(err.strip().splitlines()) == 1


def test_a_page_names_the_way() -> None:
    from mowich.show.verbs import page_of

    found = mowich.compare("llama-3.1-8b", ["trn3"], train=TRAIN, chips=256)
    [table] = [t for t in page_of(found.to_dict()).tables if t.title == "Answers"]
    assert table.rows[0][table.head.index("survives failures by")] == "elastic"


def test_the_job_of_a_plan_is_that_of_the_verbs_defaults() -> None:
    from mowich.requests.rooms.goodput import SPARES

    parameters = inspect.signature(mowich.goodput).parameters
    assert parameters["spare_share"].default == SPARES.default == longrun.SPARE_SHARE
    assert study(GOODPUT.of(FACTS, on="h100:4096", days=1, step_s=5.0, samples=10)).job == longrun.job_of(
        FACTS, "h100", chips=4096, step_s=5.0
    )


def test_a_word_is_no_number_and_a_number_no_word() -> None:
    with pytest.raises(UserError, match="takes words"):
        FACTS.with_values({SURVIVAL_CHOSEN: 1.0})
    with pytest.raises(UserError, match="takes words"):
        FACTS.with_values({"reliability.strategies.sync.stall": "long"})


@pytest.mark.parametrize("name", ["best", *STRATEGIES])
@pytest.mark.parametrize("chips", [256, 100_000, 1_000_000])
def test_terms_give_the_number_by_hand(name: str, chips: int) -> None:
    notes, known = Notes(), FACTS.with_values({SURVIVAL_CHOSEN: name})
    found = survival(known, "trn3-gen2", chips=chips, step_s=exact(1.0, "s"))
    longrun.record_goodput(known, "trn3-gen2", chips=chips, step_s=1.0, notes=notes)
    t = {
        k: {**{n: x for n, x in v.inputs.items() if not isinstance(x, str)}, "": v.value}
        for k, v in notes.terms.items()
    }
    u = t["useful"]
    assert u[""] == pytest.approx(
        u["tau"] / (u["mtbf"] * math.exp(u["recovery"] / u["mtbf"]) * math.expm1((u["tau"] + u["stall"]) / u["mtbf"]))
    )
    s, w, g = t["silent"], t["slow"], t["goodput"]
    assert s[""] == pytest.approx(
        s["check"] / s["period"] - math.expm1(-s["rate"] * s["chips"] * (s["period"] / 2 + s["tau"]))
    )
    assert w[""] == pytest.approx(-math.expm1(-w["rate"] * w["chips"] * w["found"]) * (1 - w["speed"]))
    m = t["missing"]
    if found.strategy == "elastic":
        assert m[""] == pytest.approx(m["beyond"] * m["server"] / m["chips"] + m["rate"] * m["rebuild"] * m["replica"])
    assert g[""] == pytest.approx(g["useful"] * (1 - g["missing"]) * (1 - g["silent"]) * (1 - g["slow"]))
    assert g[""] == found.goodput.value


def test_a_job_smaller_than_a_server_loses_no_more_than_itself() -> None:
    job = longrun.job_of(FACTS, "trn2", chips=4, step_s=1.0)
    assert job.unit_chips == 4
    rates = replace(faults.read_fault_rates(FACTS, "trainium"), repair_s=1e9)
    assert faults.losses(replace(job, spare_share=0.0), rates, faults.read_strategy(FACTS, "elastic")).missing <= 1.0
