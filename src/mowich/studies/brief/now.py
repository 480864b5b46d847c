"""The first four questions of a brief: is the claim true, does memory limit, does scale help, does price.

For readers who do not know the field's words: an abbreviation follows its words, a range reads "between a and b", and
an unknown number is called unknown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from mowich.estimate import Estimate, exact
from mowich.evidence.whole_models import measured_gains
from mowich.facts import Facts
from mowich.machines.system import System, resolve
from mowich.machines.topology import joined_note
from mowich.requests.brief import BRIEF_SIZES
from mowich.studies.brief.decisions import (
    NOT_KNOWN,
    AtScale,
    Verdict,
    claim_verdict,
    memory_verdict,
    price_verdict,
    scale_verdict,
)
from mowich.studies.brief.economy import port_parts
from mowich.studies.brief.jobs import TABLED, numbers_of_rows, work_words
from mowich.studies.brief.known import AT, BEFORE, PRICE_OF_ALL, SUBJECT, Known
from mowich.studies.brief.verdicts import (
    BriefNumber,
    BriefPicture,
    Section,
    between,
    plainly,
    times_of,
)
from mowich.studies.compare import Row as TrainRow
from mowich.studies.ranking import names_listed
from mowich.studies.rooms.value import worth_facts

_GIB = 2.0**30


# ---- 1
# ----------------------------------------------------------------------------------------------------------------------


def claim_section(known: Known) -> Section:
    facts = known.facts
    now, before = resolve(facts, SUBJECT), resolve(facts, BEFORE)
    claim = facts.fact("claims.trainium3-reinvent-2025.claims.Trn3_UltraServer_compute_vs_Trn2_UltraServer.published")
    eight = {s.id: max(_peak(s, name) for name in ("mxfp8", "fp8")) for s in (now, before)}
    per_chip = {
        "peak_8bit": eight[now.id] / eight[before.id],
        "peak_16bit": _peak(now, "bf16") / _peak(before, "bf16"),
        "bandwidth": facts.number(f"chips.{now.chip}.memory.hbm_bandwidth")
        / facts.number(f"chips.{before.chip}.memory.hbm_bandwidth"),
        "memory": facts.number(f"chips.{now.chip}.memory.hbm_capacity")
        / facts.number(f"chips.{before.chip}.memory.hbm_capacity"),
    }
    units = {s.id: facts.number(f"systems.{s.id}.chips_per_unit") for s in (now, before)}
    unit = per_chip["peak_8bit"] * units[now.id] / units[before.id]
    gains = sorted(g.gain for g in measured_gains())
    middle = gains[len(gains) // 2]
    measured = Estimate(value=middle, unit="1", low=gains[0], high=gains[-1], grade="B")
    train = times_of(known.trained(AT, SUBJECT).tokens_per_s_per_chip, known.trained(AT, BEFORE).tokens_per_s_per_chip)
    verdict = claim_verdict(
        claimed=float(claim.value or 0.0),
        chips=(units[now.id], units[before.id]),
        eight=per_chip["peak_8bit"],
        sixteen=per_chip["peak_16bit"],
        measured=measured,
    )
    return Section(
        id="claim",
        question="Is it four times faster?",
        level=verdict.level,
        verdict=verdict.text,
        why=(
            *verdict.why,
            f"The {len(gains)} models that were measured on both chips make pictures and video; none is a language"
            " model.",
            f"For training {known.models[0].name} we forecast {between(train)} times for a chip.",
        ),
        numbers=(
            *_silicon_numbers(known, now, before, per_chip, units, eight),
            BriefNumber(
                name="measured",
                what=f"speed of {len(gains)} whole models, measured: middle, least and most",
                estimate=measured,
                of=f"rows of facts/published/trainium_models.csv; {measured_gains()[0].source.partition(',')[0]}",
            ),
            BriefNumber(
                name="training",
                what=f"tokens per second and chip in training {known.models[0].name}, forecast",
                estimate=train,
                formula="now / before",
                symbols={
                    "now": float(known.trained(AT, SUBJECT).tokens_per_s_per_chip),
                    "before": float(known.trained(AT, BEFORE).tokens_per_s_per_chip),
                },
                of=known.to_train(AT, (SUBJECT, BEFORE)),
            ),
        ),
        commands=(
            known.command("claims trainium3"),
            known.facts_command(f"facts diff {SUBJECT} {BEFORE}"),
        ),
        picture=BriefPicture(
            kind="bars",
            title="Trainium 3 over Trainium 2",
            unit="times",
            labels=(
                "an UltraServer, 8 bit",
                "a chip, 8 bit",
                "a chip, 16 bit",
                "a chip, memory speed",
                "a chip, memory size",
                *(f"measured: {g.model}" for g in measured_gains()),
            ),
            series={
                "times": (
                    unit,
                    per_chip["peak_8bit"],
                    per_chip["peak_16bit"],
                    per_chip["bandwidth"],
                    per_chip["memory"],
                    *(g.gain for g in measured_gains()),
                )
            },
        ),
    )


def _silicon_numbers(
    known: Known,
    now: System,
    before: System,
    per_chip: Mapping[str, float],
    units: Mapping[str, float],
    eight: Mapping[str, float],
) -> tuple[BriefNumber, ...]:
    """per_chip: property -> its gain; units, eight: system -> chips of a unit, FLOP/s of a chip at 8 bit."""
    peaks = {"now": eight[now.id], "before": eight[before.id]}
    chips = {"chips_now": units[now.id], "chips_before": units[before.id]}
    diff = known.facts_command(f"facts diff {SUBJECT} {BEFORE}")
    of_peaks = "peak per chip, chips of a unit"
    unit = per_chip["peak_8bit"] * units[now.id] / units[before.id]
    rows: tuple[tuple[str, str, float, str, Mapping[str, float], str], ...] = (
        (
            "chips",
            "chips of an UltraServer over those of the one before",
            units[now.id] / units[before.id],
            "chips_now / chips_before",
            chips,
            of_peaks,
        ),
        (
            "unit",
            "arithmetic of an UltraServer over that of the one before",
            unit,
            "now * chips_now / (before * chips_before)",
            peaks | chips,
            of_peaks,
        ),
        ("chip_8bit", "the same of one chip, at 8 bit", per_chip["peak_8bit"], "now / before", peaks, of_peaks),
        (
            "chip_16bit",
            "the same of one chip, at 16 bit",
            per_chip["peak_16bit"],
            "now / before",
            {"now": _peak(now, "bf16"), "before": _peak(before, "bf16")},
            of_peaks,
        ),
        *(
            (name, f"{what} of one chip over that of the one before", per_chip[name], "", {}, f"memory.hbm_{fact}")
            for name, what, fact in (
                ("bandwidth", "speed of the memory", "bandwidth"),
                ("memory", "memory", "capacity"),
            )
        ),
    )
    return tuple(
        BriefNumber(
            name=name, what=what, estimate=exact(x, "1"), formula=formula, symbols=symbols, of=f"{diff}; {where}"
        )
        for name, what, x, formula, symbols, where in rows
    )


def _peak(system: System, precision: str) -> float:
    """FLOP/s of a chip; 0 where it has no such format."""
    return float(system.peak_flops.get(precision, 0.0)) * system.devices_per_chip


# ---- 2
# ----------------------------------------------------------------------------------------------------------------------


def memory_section(known: Known) -> Section:
    """What twice the memory would change in each kind of work."""
    facts, today, over = known.facts, known.today, known.memory_over_range
    hbm = over[0][1].memory_price
    gains = {m.work: m.gain for m in known.memory if m.gain is not None}
    verdict = memory_verdict(gains, training=[work for work, study in over if study.rows[0].task == "train"])
    amounts = [p.amount for p in over[0][1].rows]
    path = worth_facts(facts, resolve(facts, SUBJECT).id)[0]
    rose = "" if path is None else _rise(facts, path)
    return Section(
        id="memory",
        question=f"Is {today / _GIB:.0f} GiB a handicap?",
        level=verdict.level,
        verdict=verdict.text,
        why=(
            f"Rivals have {', '.join(f'{_amount(facts, s)} ({known.name(s)})' for s in known.rivals)}.",
            *verdict.why,
            f"A gigabyte of this memory costs its buyer {between(hbm.scaled(1e9, 'USD/GB'))} dollars{rose}.",
        ),
        numbers=(
            *(
                BriefNumber(
                    name=f"gain.{place}",
                    what=f"tokens per second with twice the memory over those of today, {m.work.removesuffix(',')}",
                    estimate=exact(gains[m.work], "1", "D"),
                    of=f"{known.command(m.command)}; gain at {2.0 * today / _GIB:g} GiB",
                )
                for place, m in enumerate(known.memory, start=1)
                if m.work in gains and math.isfinite(gains[m.work])
            ),
            *(
                [
                    BriefNumber(
                        name="price",
                        what="price of the memory to whoever builds the chip",
                        estimate=hbm.scaled(1e9, "USD/GB"),
                        of=known.facts_command(f"facts show {path}"),
                    )
                ]
                if path is not None
                else []
            ),
        ),
        commands=tuple(known.command(m.command) for m in known.memory),
        picture=BriefPicture(
            kind="lines",
            title="Speed of Trainium 3 with another amount of memory",
            unit="of today's speed",
            labels=tuple(f"{x / _GIB:.0f} GiB" for x in amounts),
            x=tuple(x / _GIB for x in amounts),
            x_unit="GiB per chip",
            series={work: tuple(p.gain for p in study.rows) for work, study in over},
        ),
    )


def _rise(facts: Facts, path: str) -> str:
    """How the price of a kind of memory moved since the first quarter in the facts, as the end of a sentence; "" in
    that quarter."""
    kind, _, quarter = path.rpartition(".")
    first = min(facts.children(kind))
    return (
        ""
        if first == quarter
        else f", {plainly(facts.number(path) / facts.number(f'{kind}.{first}'))} times that of {first}"
    )


def _amount(facts: Facts, system: str) -> str:
    """Memory of a chip as its maker writes it: "288 GB"."""
    return facts.fact(f"chips.{resolve(facts, system).chip}.memory.hbm_capacity").as_written.partition(" (")[0]


# ---- 3
# ----------------------------------------------------------------------------------------------------------------------


def scale_section(known: Known) -> Section:
    """How far the first rival is ahead at few chips and at many."""
    first = known.rivals[0]
    fit = [n for n in BRIEF_SIZES if all(known.trained(n, s).plan is not None for s in (SUBJECT, first))]
    ratio = {n: times_of(_whole(known.trained(n, SUBJECT)), _whole(known.trained(n, first))) for n in fit}
    small, large = fit[0], fit[-1]
    if small == large:
        said = f"Not known: both machines have a plan on {small:,} of the numbers of chips that were looked at, only."
        verdict = Verdict(level=NOT_KNOWN, text=said)
    else:
        at = {s: [_at_scale(known.trained(n, s)) for n in (small, large)] for s in (SUBJECT, first)}
        verdict = scale_verdict(known.name(first), (small, large), at[SUBJECT], at[first])
    most = known.trained(large, SUBJECT)
    without = [n for n in BRIEF_SIZES if known.trained(n, SUBJECT).plan is None]
    joined = [s for s in (SUBJECT, first) if joined_note(known.facts, s, resolve(known.facts, s, chips=large))]
    return Section(
        id="scale",
        question="Does scale make up for it?",
        level=verdict.level,
        verdict=verdict.text,
        why=(
            *([_no_room(known, without[0])] if without else []),
            f"Chips fail all the time; the best way to survive it there is {_survival(most.survival)}.",
            *verdict.why,
            *(
                [
                    f"{large:,} chips of {names_listed([known.name(s) for s in joined])} are more than one network of"
                    " their maker has; the network between buildings is our estimate."
                ]
                if joined
                else []
            ),
        )[:4],
        numbers=_scale_numbers(known, ratio),
        commands=(known.to_train(large, known.systems), known.command(f"goodput --on {SUBJECT}:{large}")),
        picture=BriefPicture(
            kind="lines",
            title="Tokens per second of the whole machine, failures included",
            unit="million tokens/s",
            labels=tuple(f"{n:,} chips" for n in BRIEF_SIZES),
            x=tuple(map(float, BRIEF_SIZES)),
            x_unit="chips",
            series={
                known.name(s): tuple(
                    _kept(known.trained(n, s)) * 1e-6 if known.trained(n, s).plan is not None else None
                    for n in BRIEF_SIZES
                )
                for s in known.systems
            },
        ),
    )


def _at_scale(row: TrainRow) -> AtScale:
    return AtScale(speed=float(row.tokens_per_s_per_chip), used=_used(row), useful=float(row.goodput))


def _used(row: TrainRow) -> float:
    """Share of the chips that a job keeps busy."""
    return row.chips_used / (row.chips_used + row.chips_idle)


def _scale_numbers(known: Known, ratio: Mapping[int, Estimate]) -> tuple[BriefNumber, ...]:
    """ratio: chips -> speed over that of the same number of the first rival's chips."""
    first, large = known.rivals[0], max(ratio)
    return (
        *(
            BriefNumber(
                name=f"at_{n}",
                what=f"tokens per second of {n:,} Trainium 3 over those of {n:,} of {known.name(first)}, failures"
                " included",
                estimate=ratio[n],
                formula="trn3 * chips_trn3 * useful_trn3 / (rival * chips_rival * useful_rival)",
                symbols={
                    f"{part}{who}": x
                    for who, s in (("trn3", SUBJECT), ("rival", first))
                    for part, x in (
                        ("", float(known.trained(n, s).tokens_per_s_per_chip)),
                        ("chips_", float(known.trained(n, s).chips_used)),
                        ("useful_", float(known.trained(n, s).goodput)),
                    )
                },
                of=f"{known.to_train(n, (SUBJECT, first))}; tokens_per_s_per_chip, chips_used, goodput",
            )
            for n in ratio
        ),
        *(
            number
            for s in (SUBJECT, first)
            for number in (
                BriefNumber(
                    name=f"useful.{s}",
                    what=f"share of the time that is useful work, {known.name(s)} at {large:,} chips",
                    estimate=known.trained(large, s).goodput,
                    of=f"{known.to_train(large, (SUBJECT, first))}; {s}.goodput",
                ),
                BriefNumber(
                    name=f"busy.{s}",
                    what=f"share of {large:,} chips of {known.name(s)} that the job can use",
                    estimate=exact(_used(known.trained(large, s)), "1", "D"),
                    formula="used / (used + idle)",
                    symbols={
                        "used": float(known.trained(large, s).chips_used),
                        "idle": float(known.trained(large, s).chips_idle),
                    },
                    of=f"{known.to_train(large, (SUBJECT, first))}; {s}.chips_used, chips_idle",
                ),
            )
        ),
        *(
            BriefNumber(
                name=f"days_{n}.{s}",
                what=f"days of the run on {n:,} chips of {known.name(s)}",
                estimate=known.trained(n, s).days,
                of=f"{known.to_train(n, known.systems)}; {s}.days",
            )
            for n in BRIEF_SIZES
            for s in known.systems
            if known.trained(n, s).plan is not None
        ),
    )


def _no_room(known: Known, chips: int) -> str:
    return f"No plan works on {chips:,} chips of Trainium 3: {known.trained(chips, SUBJECT).reason}."


def _total(row: TrainRow) -> float:
    """Tokens per second of all chips of a row without failures."""
    return float(row.tokens_per_s_per_chip) * row.chips_used


def _kept(row: TrainRow) -> float:
    """Tokens per second of all chips of a row, with failures."""
    return _total(row) * float(row.goodput)


def _whole(row: TrainRow) -> Estimate:
    """Tokens per second of all chips with failures; its range is that of one chip's speed."""
    return row.tokens_per_s_per_chip.scaled(row.chips_used * float(row.goodput), "1/s")


def _survival(way: str) -> str:
    return {
        "sync": "saving the state and starting again",
        "async": "saving the state beside the work and starting again",
        "memory": "keeping copies of the state in other machines' memory",
        "elastic": "going on without the part that failed",
    }.get(way, way or "unknown")


# ---- 4
# ----------------------------------------------------------------------------------------------------------------------


def price_section(known: Known) -> Section:
    """At which price a token costs the same as on the cheapest rival."""
    row, cost = known.trained(AT, SUBJECT), {s: known.price(s) for s in known.systems}
    even = {"training " + known.models[0].name: row.breakeven_usd_per_chip_h}
    for job in TABLED:
        for m in known.models:
            served = known.serving(m.name, SUBJECT, job)
            if served.feasible and not known.decided(job, m.name, *known.systems):
                even[work_words(job, m.name)] = served.breakeven_usd_per_chip_h
    even = {work: e for work, e in even.items() if e.value is not None}
    verdict = price_verdict(even, cost[SUBJECT], is_yours=known.is_yours(SUBJECT))
    priced = [s for s in known.rivals if known.trained(AT, s).usd_per_mtok.value is not None]
    best = min(priced, key=lambda s: float(known.trained(AT, s).usd_per_mtok), default=None)
    port, port_numbers = port_parts(known)
    return Section(
        id="price",
        question="Does price?",
        level=verdict.level,
        verdict=verdict.text,
        why=(
            known.priced_words(),
            *(
                [
                    f"The cheapest of them in training is {known.name(best)} at"
                    f" {between(known.trained(AT, best).usd_per_mtok)} dollars for a million tokens; Trainium 3 comes"
                    f" to {between(row.usd_per_mtok)}."
                ]
                if best is not None
                else []
            ),
            "Trainium 3 runs here with the software that a customer gets"
            + ("; the first table has it with kernels written by hand too." if SUBJECT in known.tuned else ".")
            + (
                ""
                if known.is_yours(SUBJECT)
                else " Amazon pays the cost and not the price; who rents pays its margin too."
            ),
            *([] if port is None else [port.text]),
        ),
        numbers=(*_price_numbers(known, even, cost), *port_numbers),
        commands=(known.command(f"prices --on {SUBJECT}"), known.to_train(AT, known.systems)),
        picture=BriefPicture.of_ranges(
            "Dollars for an hour of one chip",
            "USD/chip/h",
            (
                *(
                    (f"{known.name(s)}: {'your price' if known.is_yours(s) else 'cost to its owner'}", e)
                    for s, e in cost.items()
                ),
                *((f"Trainium 3 breaks even: {what}", e) for what, e in even.items()),
            ),
        ),
    )


def _price_numbers(known: Known, even: Mapping[str, Estimate], cost: Mapping[str, Estimate]) -> tuple[BriefNumber, ...]:
    """even: work -> the price of Trainium 3 at which a token costs the same; cost: system -> dollars of a chip-hour."""
    jobs = {work_words(job, m.name): (job, m.name) for m in known.models for job in ("train", *TABLED)}
    return (
        *(
            BriefNumber(
                name=f"even.{'.'.join(jobs[work])}",
                what=f"price of a chip-hour of Trainium 3 at which a token costs the same as on the cheapest rival,"
                f" {work}",
                estimate=e,
                of=(
                    known.to_train(AT, known.systems)
                    if jobs[work][0] == "train"
                    else known.to_serve(jobs[work][1], known.systems, jobs[work][0])
                )
                + f"; {SUBJECT}.breakeven_usd_per_chip_h",
            )
            for work, e in even.items()
        ),
        *(
            BriefNumber(
                name=f"cost.{s}",
                what=f"your price of a chip-hour of {known.name(s)}"
                if known.is_yours(s)
                else f"what a chip-hour of {known.name(s)} costs its owner",
                estimate=e,
                of=f"{known.command(f'prices --on {s} --price {PRICE_OF_ALL}')}; usd_per_chip_h",
            )
            for s, e in cost.items()
        ),
        *numbers_of_rows(
            known,
            "usd_per_mtok",
            ("token.{}", "cost of a million tokens of training on {}"),
            ("token.{}.{}", "cost of a million output tokens of {} on {}, within limits"),
        ),
    )
