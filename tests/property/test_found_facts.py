"""The facts of a term are those that move it: by the fair probe, nothing is missing and nothing is said in vain. And a
formula that a term shows gives its number, from the symbols that were recorded with it."""

from __future__ import annotations

import ast
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fair_probe import Record, unfair
from mowich.economics import energy, money, rent
from mowich.economics.ownership import Terms, cost_per_s, quarters
from mowich.estimate import Notes, exact, told
from mowich.facts import Facts, moves
from mowich.machines.collectives import COLLECTIVE_KINDS
from mowich.models import load_model
from mowich.models.model import Model, as_trained
from mowich.plans.enumerate import legal_plans
from mowich.plans.plan import TrainJob
from mowich.price_terms import BUYERS, COST_RULES
from mowich.requests.rooms.collective import SCHEMA as COLLECTIVE
from mowich.software.stack import equip
from mowich.studies.explain.fleet import record_offers
from mowich.studies.explain.formula import evaluate as by_formula
from mowich.studies.explain.training import record_memory, record_step
from mowich.studies.rooms.collective import source as collective_row
from mowich.studies.rooms.collective.group import collective
from mowich.training import faults, longrun
from mowich.training.sensitivity import noted_on

ROOT = Path(__file__).resolve().parents[2]

JOBS = [("llama-3.1-8b", 64), ("qwen3-30b-a3b", 64), ("deepseek-v3", 1024), ("gpt-oss-120b", 128), ("mixtral-8x7b", 64)]
SYSTEMS = ["trn3", "trn2", "ironwood", "gb300", "h100", "trn4"]


def drawn(seed: int) -> tuple[str, int, str, int]:
    """(model, chips, system, which plan)."""
    rng = random.Random(seed)
    model, chips = rng.choice(JOBS)
    return model, chips, rng.choice(SYSTEMS), rng.randrange(10**6)


@pytest.mark.parametrize("seed", [1, *(pytest.param(i, marks=pytest.mark.slow) for i in range(40) if i != 1)])
def test_training_terms_rest_on_what_moves_them(seed: int, facts: Facts) -> None:
    name, chips, system_name, at = drawn(seed)
    model, system = as_trained(load_model(name)), equip(facts, system_name, chips=chips)
    job = TrainJob(tokens=1e12, seq=4096, batch_seqs=1024)
    plans = legal_plans(model, system, job).plans
    plan = plans.plan(at % len(plans))
    for record in (record_step, record_memory):
        of_machine = partial(record, model, job, plan)
        told = noted_on(of_machine, system, facts)

        def under(known: Facts, notes: Notes, of_machine=of_machine) -> None:
            of_machine(equip(known, system.id, chips=chips), notes)

        assert len(told.terms) > 5
        for term in told.terms.values():
            if term.formula:
                given = {k: v for k, v in term.inputs.items() if not isinstance(v, str)}
                assert by_formula(term.formula, given.__getitem__) == pytest.approx(term.value, rel=1e-12), term.name
        assert unfair(told, under, facts) == []


def of_prices(rng: random.Random, facts: Facts) -> Record:
    """A price of any kind that is no estimate from other machines."""
    system = equip(facts, rng.choice(SYSTEMS)).id
    kinds = [k for k in money.TERMS if k != "rent" and money.price(facts, system, term=k).rate.value is not None]
    kind = rng.choice(kinds)
    return lambda known, notes: money.price(known, system, term=kind, notes=notes)


def of_costs(rng: random.Random, facts: Facts) -> Record:
    """Every part of what a machine costs its owner."""
    terms = Terms(
        quarter=rng.choice(quarters(facts)),
        rule=rng.choice(COST_RULES),
        buyer=rng.choice(BUYERS),
        life_s=rng.choice([None, 1e8]),
        chips=rng.choice([1024.0, 1e5]),
    )
    system = equip(facts, rng.choice(SYSTEMS)).id
    return lambda known, notes: cost_per_s(known, system, terms, notes)


def of_energy(rng: random.Random, facts: Facts) -> Record:
    """Energy of a token, and the power at which a row equals another."""
    system, used, idle = equip(facts, rng.choice(SYSTEMS)).id, rng.randrange(8, 999), rng.randrange(9)
    step, kept = exact(rng.uniform(0.5, 9.0), "s"), exact(rng.uniform(0.5, 1.0), "1")

    def record(known: Facts, notes: Notes) -> None:
        site, draw = energy.read_site(known), energy.drawn_power(known, system, notes=notes)
        joule = told(notes, "J_per_token", energy.joule_per_token, unit=energy.PER_TOKEN)(
            draw.power,
            used=used,
            idle=idle,
            step_s=step,
            tokens=4e6,
            goodput=kept,
            pue=site.pue,
            idle_share=draw.idle_share,
        )
        told(notes, "even", energy.breakeven_W_per_chip, unit="W")(
            joule,
            tokens_per_s=exact(1e6, "1/s"),
            goodput=kept,
            pue=site.pue,
            powered_chips=energy.powered_chips(used, idle, draw.idle_share),
            drawn_share=draw.share,
        )

    return record


def of_goodput(rng: random.Random, facts: Facts) -> Record:
    """The best way of surviving failures, or one that is asked for."""
    system, chips = equip(facts, rng.choice(SYSTEMS)).id, rng.choice([64, 4096, 100_000])
    way, step = rng.choice([longrun.BEST, *faults.STRATEGIES]), rng.uniform(1.0, 30.0)
    return lambda known, notes: longrun.record_goodput(
        known.with_values({longrun.SURVIVAL_CHOSEN: way}), system, chips=chips, step_s=step, notes=notes
    )


def _no_model() -> Model:
    raise AssertionError("of weights alone")


def of_collectives(rng: random.Random, facts: Facts) -> Record:
    """Levels and algorithms of a collective of one size."""
    kind, on = rng.choice(COLLECTIVE_KINDS), f"{rng.choice(SYSTEMS)}:{rng.choice([16, 64, 256])}"
    asked = collective(COLLECTIVE.of(facts, kind=kind, on=on, sizes=[rng.choice([2**16, 2**24, 2**30])])).to_dict()
    record = collective_row(asked, ("rows", 0), asked["rows"][0], facts, _no_model).record  # type: ignore[index]
    assert record is not None
    return partial(record, ("time_s",))


def of_rent(rng: random.Random, facts: Facts) -> Record:
    """What a kind of seller asks for a machine."""
    system, seller = equip(facts, rng.choice(SYSTEMS)).id, rng.choice(sorted(rent.markups(facts)))
    return lambda known, notes: rent.note_asked(known, system, seller, facts, notes)


def of_fleets(rng: random.Random, facts: Facts) -> Record:
    """Power and offers of a scenario."""
    return partial(record_offers, ROOT / "scenarios" / rng.choice(["startup.yaml", "lab-100mw.yaml"]))


QUICK = (of_prices, of_costs, of_rent, of_energy, of_goodput, of_collectives)
DRAWN = [
    *((draw, 0) for draw in QUICK),
    *(pytest.param(draw, i, marks=pytest.mark.slow) for draw in QUICK for i in range(1, 12)),
    *(pytest.param(of_fleets, i, marks=pytest.mark.slow) for i in range(2)),
]


@pytest.mark.parametrize(("draw", "seed"), DRAWN)
def test_other_terms_rest_on_what_moves_them(
    draw: Callable[[random.Random, Facts], Record], seed: int, facts: Facts
) -> None:
    record = draw(random.Random(seed), facts)
    told_of = moves.noted(record, facts)
    assert any(term.facts for term in told_of.terms.values())
    assert unfair(told_of, record, facts) == []
    for term in told_of.terms.values():
        if term.formula:
            made = by_formula(term.formula, term.inputs.__getitem__)
            assert made == pytest.approx(term.value, rel=1e-9), term


def test_what_is_read_through_a_view_of_the_facts_is_moved_too(facts: Facts) -> None:
    def record(known: Facts, notes: Notes) -> None:
        energy.drawn_power(known.with_values({longrun.SURVIVAL_CHOSEN: "sync"}), "trn3-gen2", notes=notes)

    assert moves.noted(record, facts).terms["provisioned"].facts == ("chips.trainium3.power.all_in",)


def test_a_formula_is_recorded_by_the_call_that_computes_it() -> None:
    """No module of money, machines, long runs or explanations hands a law to `Notes.add`: `told` does, of its call."""
    package = ROOT / "src" / "mowich"
    files = [path for name in ("economics", "machines", "studies/explain") for path in (package / name).rglob("*.py")]
    files += [package / "training" / name for name in ("faults.py", "longrun.py")]
    assert len(files) > 40
    by_hand = [
        f"{path.relative_to(package)}:{call.lineno}"
        for path in files
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "add"
        if len(call.args) > 3 or any(word.arg == "law" for word in call.keywords)
    ]
    assert by_hand == []


@given(
    moves=st.lists(st.sampled_from([0.01, 0.05, 0.05, 0.2]), min_size=2, max_size=6),
    noise=st.lists(st.floats(-1e-14, 1e-14), min_size=6, max_size=6),
)
def test_the_last_bits_decide_no_order_of_facts(moves: list[float], noise: list[float]) -> None:
    paths = [f"devices.common.fact_{i}" for i in range(len(moves))]

    def order(last_bits: list[float]) -> tuple[str, ...]:
        notes = Notes(moved=paths)
        rows = [1.0, *(1.0 + move + bits for move, bits in zip(moves, last_bits, strict=False))]
        notes.add("gemm", np.array(rows), "s")
        return notes.with_facts().terms["gemm"].facts

    assert order(noise) == order([0.0] * len(moves))
