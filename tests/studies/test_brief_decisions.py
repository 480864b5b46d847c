"""Verdicts of a brief over drawn numbers: they turn one way only, and each figure of a sentence was given."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mowich.estimate import Estimate, exact, unknown_estimate
from mowich.studies.brief.decisions import (
    COSTS_SOMETHING,
    NO_DIFFERENCE,
    NO_VERDICT,
    NO_WINNER,
    SOME_WORK,
    AtScale,
    Elsewhere,
    Fall,
    Verdict,
    buys_text,
    claim_verdict,
    energy_verdict,
    flip_text,
    gap_text,
    job_level,
    memory_verdict,
    next_verdict,
    port_verdict,
    price_verdict,
    scale_verdict,
    settle_text,
    split_verdict,
    supply_verdict,
    sure_verdict,
    tenant_verdict,
    work_verdict,
    worth_verdict,
)
from mowich.studies.brief.verdicts import LEVEL_WORDS, plainly, share_text
from mowich.studies.next_prices import POWER_METER, PRICE_QUOTE
from mowich.studies.next_training import COLLECTIVE_RUN, TRAINING_STEP

RATIO = st.floats(0.02, 50.0)
SHARE = st.floats(0.02, 1.0)
USD = st.floats(0.05, 40.0)
RIVAL = "Brand R"
MANY = settings(max_examples=150, deadline=None)


def rank(question: str, level: str) -> int:
    return [words for _, words in LEVEL_WORDS[question]].index(level)


def ranged(value: float, spread: float = 1.3) -> Estimate:
    return Estimate(value=value, unit="1", low=value / spread, high=value * spread, grade="D")


def figures(text: str) -> set[str]:
    """The numbers of a text, as they are written, without those of names, dates and formats."""
    known = ("Trainium 3", "searched 2026-11", "searched 27 November 2026", "8-bit", "8 bit", "16 bit")
    for words in known:
        text = text.replace(words, "")
    return {found.rstrip(".,") for found in re.findall(r"\d[\d,.]*", text)}


def writings(values: Iterable[float]) -> set[str]:
    """Ways to write numbers in a sentence."""
    found: set[str] = set()
    for x in values:
        found |= {plainly(x), plainly(x, 3), f"{x:.2f}", f"{x:,.0f}", f"{x:g}", share_text(x).rstrip("%")}
        found.add(str(round(100.0 * (x - 1.0))))
    return found


def names_only(verdict: Verdict | str, *values: float) -> None:
    text = verdict if isinstance(verdict, str) else " ".join((verdict.text, *verdict.why))
    assert figures(text) <= writings(values), (figures(text) - writings(values), text)


@MANY
@given(RATIO, RATIO, st.integers(1, 400), st.integers(1, 400))
def test_the_claim_names_its_numbers_and_more_chips_never_speak_against_it(
    eight: float, sixteen: float, now: int, more: int
) -> None:
    measured = ranged(1.2)

    def said(chips: int) -> Verdict:
        return claim_verdict(claimed=4.4, chips=(chips, 64), eight=eight, sixteen=sixteen, measured=measured)

    verdict = said(now)
    names_only(
        verdict, 4.4, now, 64, now / 64, eight, eight * now / 64, sixteen, measured.low or 0.0, measured.high or 0.0
    )
    assert rank("claim", said(now + more).level) >= rank("claim", verdict.level)


@MANY
@given(RATIO, st.floats(1.0, 5.0))
def test_more_tokens_of_a_dollar_never_make_a_job_worse(dollar: float, more: float) -> None:
    assert rank("job", job_level(exact(dollar * more, "1"))) >= rank("job", job_level(exact(dollar, "1")))
    assert job_level(exact(dollar, "1"), rests_on="a.constant") == NO_VERDICT


@MANY
@given(
    USD, RATIO, RATIO, st.lists(st.tuples(st.sampled_from(["on many chips", "where nobody waits"]), RATIO), max_size=3)
)
def test_a_flip_is_where_both_cost_the_same_and_on_the_other_side(
    price: float, dollar: float, tuned: float, others: list[tuple[str, float]]
) -> None:
    elsewhere = [Elsewhere(words=w, dollar=x) for w, x in dict(others).items()]
    text = flip_text(price=price, dollar=exact(dollar, "1"), tuned=exact(tuned, "1"), elsewhere=elsewhere)
    parity = price * dollar
    names_only(text, price, parity, price * tuned, *(e.dollar for e in elsewhere))
    assert ("costs more than" if dollar > 1.0 else "costs less than") in text
    assert math.isclose(dollar * price / parity, 1.0)  # at that price a dollar buys the same on both
    for e in elsewhere:
        turns = (e.dollar > 1.0) != (dollar > 1.0)
        assert (f"{e.words} ({plainly(e.dollar)})" in text.partition("nothing else")[0]) == turns
    assert flip_text(price=price, dollar=exact(dollar, "1"), tuned=exact(tuned, "1"), elsewhere=(), rests_on="x.y") == (
        "No verdict: within its own range one constant (x.y) decides this."
    )


@MANY
@given(st.lists(RATIO, min_size=1, max_size=5), st.floats(1.0, 6.0), st.booleans())
def test_the_verdict_on_work_counts_what_is_ahead(ratios: list[float], more: float, doubted: bool) -> None:
    def levels(factor: float) -> dict[str, dict[str, str]]:
        of = {f"job {chr(97 + i)}": job_level(exact(x * factor, "1")) for i, x in enumerate(ratios)}
        return {RIVAL: {**of, **({"another": NO_VERDICT} if doubted else {})}}

    verdict, better = work_verdict(levels(1.0)), work_verdict(levels(more))
    assert rank("work", better.level) >= rank("work", verdict.level)
    assert ("No verdict on another" in verdict.text) == doubted
    names_only(verdict, len(ratios))
    assert work_verdict({RIVAL: {"a": NO_VERDICT}}).level == "not known"


@MANY
@given(st.lists(st.one_of(st.floats(0.9, 3.0), st.just(math.inf)), min_size=1, max_size=8), st.floats(0.3, 1.0))
def test_memory_costs_where_it_gains_and_less_gain_never_makes_it_worse(gains: list[float], less: float) -> None:
    works = {f"work {chr(97 + i)}": g for i, g in enumerate(gains)}
    verdict = memory_verdict(works, training=["work a"])
    calm = {w: g if math.isinf(g) else 1.0 + (g - 1.0) * less for w, g in works.items()}
    assert rank("memory", memory_verdict(calm).level) <= rank("memory", verdict.level)
    assert (verdict.level == "hardly") == all(g < COSTS_SOMETHING for g in gains)
    counts = range(1, len(gains) + 1)
    names_only(verdict, *(g for g in gains if math.isfinite(g)), *counts)
    for w, g in sorted(works.items(), key=lambda x: -x[1])[:1]:
        assert (w in verdict.text) or g < COSTS_SOMETHING
    assert not (any("In training" in s for s in verdict.why) and gains[0] >= COSTS_SOMETHING)


SCALES = st.builds(AtScale, speed=st.floats(1.0, 1e5), used=SHARE, useful=SHARE)


@MANY
@given(SCALES, SCALES, SCALES, SCALES)
def test_scale_names_the_part_that_changed_most(a: AtScale, b: AtScale, c: AtScale, d: AtScale) -> None:
    verdict = scale_verdict(RIVAL, (64, 1_000_000), (a, b), (c, d))
    small, large = a.kept / c.kept, b.kept / d.kept
    names_only(verdict, 64, 1e6, small, large, b.useful, b.used, d.used, d.useful, b.speed / a.speed, d.speed / c.speed)
    gap = [max(x, 1.0 / x) for x in (small, large)]
    if verdict.level == "the gap shrinks":
        assert gap[1] < gap[0]
    if verdict.level == "the gap grows":
        assert gap[1] > gap[0]
    if verdict.level == "the lead changes":
        assert (small > 1.0) != (large > 1.0)
    assert (", because" in verdict.text) == (verdict.level != "the gap stays")


@MANY
@given(SHARE, st.floats(1.0, 1e4), st.floats(1.0, 1e4), st.floats(0.1, 10.0))
def test_a_machine_that_keeps_all_busy_is_never_said_to_starve(
    useful: float, mine: float, theirs: float, change: float
) -> None:
    full = [AtScale(speed=s, used=1.0, useful=useful) for s in (mine, mine * change, theirs, theirs)]
    verdict = scale_verdict(RIVAL, (64, 16_384), full[:2], full[2:])
    assert "one run keeps" not in verdict.text
    assert "can feed only" not in " ".join(verdict.why)


@MANY
@given(st.lists(USD, min_size=1, max_size=5), USD, st.floats(0.1, 1.0), st.booleans())
def test_a_cheaper_chip_never_turns_the_price_against_it(
    even: list[float], price: float, cheaper: float, is_yours: bool
) -> None:
    evens = {f"job {chr(97 + i)}": ranged(x) for i, x in enumerate(even)}
    table = "your price" if is_yours else "price"

    def place(level: str) -> int:
        return 1 if level == SOME_WORK else rank(table, level)

    found = [price_verdict(evens, ranged(price * f), is_yours=is_yours) for f in (1.0, cheaper)]
    assert place(found[1].level) >= place(found[0].level)
    assert (found[0].level == LEVEL_WORDS[table][0][1]) == (max(even) / price < 0.8)
    if is_yours:
        assert "build" not in found[0].text
        assert "No price is published" not in found[0].text
    names_only(found[0], *even, price, price / 1.3, price * 1.3, *range(1, len(even) + 1))


@MANY
@given(RATIO, RATIO, RATIO, st.floats(0.1, 1.0))
@example(1.0, 1.0 - 1e-12, 0.5, 1.0)
@example(1.0, 0.5, 1.0 - 1e-12, 1.0)
def test_less_power_never_makes_the_energy_worse(ratio: float, faster: float, watts: float, less: float) -> None:
    def said(factor: float) -> Verdict:
        return energy_verdict(RIVAL, ranged(ratio * factor), faster=faster, watts=watts * factor, given="As given.")

    assert rank("energy", said(less).level) <= rank("energy", said(1.0).level)
    verdict = said(1.0)
    names_only(verdict, ratio, ratio / 1.3, ratio * 1.3, faster, watts)
    is_below = max(faster, watts) < 1.0 / NO_DIFFERENCE  # a ratio closer to 1 is no difference
    assert any("power times time" in s for s in verdict.why) == is_below


@MANY
@given(st.lists(st.tuples(RATIO, RATIO), min_size=1, max_size=4), st.floats(1.0, 5.0))
def test_a_faster_next_chip_is_never_further_behind(pairs: list[tuple[float, float]], more: float) -> None:
    gain = {str(i): a for i, (a, _) in enumerate(pairs)}
    beside = {str(i): b for i, (_, b) in enumerate(pairs)}
    verdict = next_verdict(RIVAL, gain, beside)
    better = next_verdict(RIVAL, gain, {k: b * more for k, b in beside.items()})
    names_only(verdict, *gain.values(), *beside.values())
    worst = [min(rank("next", w) for _, w in LEVEL_WORDS["next"] if w in v.level) for v in (verdict, better)]
    assert worst[1] >= worst[0]
    assert next_verdict(RIVAL, {}, {}).level == "not known"


@MANY
@given(USD, USD, st.floats(1.0, 1e6), st.floats(1.0, 9.0), st.booleans())
def test_a_dearer_port_pays_from_no_fewer_chips(
    saved: float, cost: float, chips: float, more: float, may_lose: bool
) -> None:
    def said(factor: float) -> Verdict:
        found = ranged(chips * factor)
        found = replace(found, high=None) if may_lose else found
        return port_verdict(
            RIVAL, "Brand S", gigawatt=ranged(saved), cost=ranged(cost * factor), chips=found, years=2.0
        )

    verdict = said(1.0)
    assert rank("port", said(more).level) >= rank("port", verdict.level)
    of = [ranged(saved), ranged(cost), ranged(chips)]
    names_only(verdict, 2.0, *(x for e in of for x in (e.value, e.low, e.high) if x is not None))
    assert ("it never does" in verdict.text) == may_lose
    unknown = unknown_estimate("chips", "nothing is saved")
    assert port_verdict(RIVAL, "S", gigawatt=ranged(1), cost=ranged(1), chips=unknown, years=2.0).level == "not known"


@MANY
@given(st.lists(USD, min_size=1, max_size=4), USD, USD, SHARE, st.floats(0.1, 1.0))
def test_a_next_chip_with_cheaper_tokens_never_raises_the_worth(
    hours: list[float], today: float, running: float, kept: float, less: float
) -> None:
    def said(factor: float) -> Verdict:
        of = {str(i): x * factor for i, x in enumerate(hours)}
        return worth_verdict(of, today=today, running=running, residual=ranged(kept), years=1.7)

    verdict = said(1.0)
    ranks = [
        min(i for i, (_, words) in enumerate(LEVEL_WORDS["worth"]) if words in v.level) for v in (said(less), verdict)
    ]
    assert ranks[0] <= ranks[1]
    names_only(verdict, *hours, today, running, kept, kept / 1.3, kept * 1.3, 1.7)
    assert ("not worth its power" in verdict.text) == (min(hours) <= running)


@MANY
@given(SHARE, SHARE, st.floats(10.0, 1e6), SHARE, USD, st.floats(0.0, 1e6))
def test_what_is_stranded_follows_the_chips(
    share: float, asked: float, stand: float, part: float, usd: float, idle: float
) -> None:
    def said(chips: float) -> Verdict:
        return tenant_verdict(Fall(share=share, asked=asked, chips=chips, stand=stand, usd=usd, idle=idle))

    verdict = said(stand * part)
    assert rank("stranded", said(stand).level) >= rank("stranded", verdict.level)
    names_only(verdict, share, asked, stand * part, stand * part / stand, usd, idle)
    assert ("none stands idle" in verdict.text) == (idle < 1.0)


@MANY
@given(st.one_of(st.none(), SHARE), st.floats(1.0, 3.0), st.floats(1.0, 2.0))
def test_chips_bind_where_more_of_them_do_more(low: float | None, high: float, more: float) -> None:
    verdict = supply_verdict(low, 1.0, high)
    better = supply_verdict(low, 1.0, high * more)
    assert rank("supply", better.level) >= rank("supply", verdict.level)
    names_only(verdict, *(abs(x - 1.0) for x in (low, high) if x is not None))


@given(st.floats(1.0, 30.0), st.integers(0, 9))
def test_how_sure_it_is_follows_the_width_and_the_rows(width: float, rows: int) -> None:
    verdict = sure_verdict(width, rows=rows)
    names_only(verdict, width, rows)
    assert ("No training step" in verdict.text) == (rows == 0)
    assert rank("sure", sure_verdict(width * 2.0, rows=rows).level) >= rank("sure", verdict.level)


KINDS = (TRAINING_STEP, COLLECTIVE_RUN, PRICE_QUOTE, POWER_METER)


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.floats(0.05, 0.99)), max_size=2))
def test_what_would_settle_most_is_what_was_chosen(found: list[tuple[str, float]]) -> None:
    text = settle_text(found)
    names_only(text, *(left for _, left in found))
    assert text in sure_verdict(1.6, rows=0, settle=text).text
    assert ("Nothing" in text) == (not found)
    assert [word in text for word in ("one training step", "a quoted price")] == [
        any(kind == of for kind, _ in found) for of in ("training step", "quoted price")
    ]


@MANY
@given(st.dictionaries(st.sampled_from(["software", "the network", "arithmetic"]), st.floats(0.2, 5.0)), RATIO)
def test_no_factor_of_one_is_called_the_largest(factors: dict[str, float], ratio: float) -> None:
    text = gap_text(RIVAL, "a model", ratio, factors, 1.02)
    names_only(text, ratio, 1.02, *factors.values())
    for name, x in factors.items():
        if name in text:
            assert x > 1.05 if ratio >= 1.0 else x < 1.0 / 1.05


@MANY
@given(st.lists(RATIO, min_size=1, max_size=3), st.lists(RATIO, max_size=3), RATIO)
def test_the_headline_tells_training_and_serving_beside_one_rival(
    training: list[float], serving: list[float], tuned: float
) -> None:
    pairs = [[(exact(x, "1"), exact(tuned, "1")) for x in xs] for xs in (training, serving)]
    text = buys_text(RIVAL, *pairs)
    names_only(text, *training, *serving, tuned)
    assert text.count(RIVAL) == 1
    assert ("in serving" in text) == bool(serving)


@pytest.mark.parametrize("question", LEVEL_WORDS)
def test_bounds_of_words_rise(question: str) -> None:
    bounds = [bound for bound, _ in LEVEL_WORDS[question]]
    assert bounds == sorted(bounds)
    assert bounds[-1] == math.inf


@MANY
@given(USD, st.floats(1.01, 3.0), st.lists(USD, min_size=1, max_size=2), st.floats(0.2, 1.0))
def test_a_split_wins_where_ranges_are_apart_and_cheaper_is_never_worse(
    usd: float, spread: float, ones: list[float], less: float
) -> None:
    order = ["one vendor", NO_WINNER, "two vendors"]
    alone = {f"Brand {chr(65 + i)}": ranged(x, spread) for i, x in enumerate(ones)}
    best = min(alone.values(), key=float)

    def said(x: float) -> Verdict:
        return split_verdict("a-model", 512, ("Brand A", "Brand B"), ranged(x, spread), alone)

    verdict = said(usd)
    assert order.index(said(usd * less).level) >= order.index(verdict.level)
    assert (verdict.level == NO_WINNER) == ranged(usd, spread).overlaps(best)
    of = [ranged(usd, spread), best]
    names_only(verdict, 512, *(x for e in of for x in (e.value, e.low, e.high) if x is not None))
    dearer = split_verdict(
        "a-model", 512, ("Brand A", "Brand B"), ranged(usd, spread), {**alone, "Brand C": ranged(1e9)}
    )
    assert dearer == verdict
