"""The first four questions of a brief: is the claim true, does memory limit, does scale help, does price.

For a reader without the field's words: an abbreviation stands behind its words, a range is said as "between a and b",
and what nobody knows is said to be unknown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mowich.economics.ownership import owned
from mowich.estimate import Estimate, exact
from mowich.evidence.whole_models import measured_gains
from mowich.facts import Facts
from mowich.machines.system import System, resolve
from mowich.requests.brief import BRIEF_SIZES
from mowich.studies.brief.known import AT, BEFORE, SERVED_ON, SUBJECT, TO_SERVE, TO_TRAIN, Known
from mowich.studies.brief.verdicts import (
    BriefNumber,
    BriefPicture,
    Section,
    between,
    capital,
    ends_of,
    plainly,
    share_text,
    times_of,
    words_for,
)
from mowich.studies.compare import Row as TrainRow
from mowich.studies.value import ValuePoint, ValueStudy

_GIB = 2.0**30
_HOUR_S = 3600.0


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
    level = words_for("claim", unit)
    return Section(
        id="claim",
        question="Is it four times faster?",
        level=level,
        verdict=(
            f"{capital(level)}: {units[now.id]:.0f} chips against {units[before.id]:.0f} have {plainly(unit)} times the"
            f" arithmetic. A chip has {plainly(per_chip['peak_8bit'])} times at 8 bit and"
            f" {plainly(per_chip['peak_16bit'])} times at 16 bit; whole models that were measured gained"
            f" {plainly(gains[0])} to {plainly(gains[-1])} times."
        ),
        why=(
            f"AWS says {claim.value:g} times for an UltraServer, which is a cabinet of chips that work as one machine.",
            f"{_share_of(units[now.id] / units[before.id], unit)} of that is more chips in it, the rest is 8-bit"
            " arithmetic.",
            f"The {len(gains)} models that were measured on both chips make pictures and video; none is a language"
            " model.",
            f"For training {known.models[0].name} we forecast {between(train)} times for a chip.",
        ),
        numbers=(
            *_silicon_numbers(now, before, per_chip, units, eight),
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
        commands=("mowich claims trainium3", f"mowich facts diff {SUBJECT} {BEFORE}"),
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
    now: System,
    before: System,
    per_chip: Mapping[str, float],
    units: Mapping[str, float],
    eight: Mapping[str, float],
) -> tuple[BriefNumber, ...]:
    """per_chip: property -> its gain; units, eight: system -> chips of a unit, FLOP/s of a chip at 8 bit."""
    symbols = {
        "now": eight[now.id],
        "before": eight[before.id],
        "chips_now": units[now.id],
        "chips_before": units[before.id],
    }
    of_peaks = f"mowich facts diff {SUBJECT} {BEFORE}; peak per chip, chips of a unit"
    unit = per_chip["peak_8bit"] * units[now.id] / units[before.id]
    return (
        BriefNumber(
            name="unit",
            what="arithmetic of an UltraServer over that of the one before",
            estimate=exact(unit, "1"),
            formula="now * chips_now / (before * chips_before)",
            symbols=symbols,
            of=of_peaks,
        ),
        BriefNumber(
            name="chip_8bit",
            what="the same of one chip, at 8 bit",
            estimate=exact(per_chip["peak_8bit"], "1"),
            formula="now / before",
            symbols={k: symbols[k] for k in ("now", "before")},
            of=of_peaks,
        ),
        BriefNumber(
            name="chip_16bit",
            what="the same of one chip, at 16 bit",
            estimate=exact(per_chip["peak_16bit"], "1"),
            formula="now / before",
            symbols={"now": _peak(now, "bf16"), "before": _peak(before, "bf16")},
            of=of_peaks,
        ),
        BriefNumber(
            name="bandwidth",
            what="speed of the memory of one chip over that of the one before",
            estimate=exact(per_chip["bandwidth"], "1"),
            of=f"mowich facts diff {SUBJECT} {BEFORE}; memory.hbm_bandwidth",
        ),
        BriefNumber(
            name="memory",
            what="memory of one chip over that of the one before",
            estimate=exact(per_chip["memory"], "1"),
            of=f"mowich facts diff {SUBJECT} {BEFORE}; memory.hbm_capacity",
        ),
    )


def _share_of(part: float, whole: float) -> str:
    """How much of a factor another one is, as a reader says it."""
    return share_text(math.log(part) / math.log(whole))


def _peak(system: System, precision: str) -> float:
    """FLOP/s of a chip; 0 where it has no such format."""
    return float(system.peak_flops.get(precision, 0.0)) * system.devices_per_chip


# ---- 2
# ----------------------------------------------------------------------------------------------------------------------


def memory_section(known: Known) -> Section:
    facts = known.facts
    today = known.memory["train"].today
    rows = {
        (work, model.name): _points(known.memory[work], model.name)
        for work, models in (("train", known.models[:1]), ("serve", known.models), ("bulk", known.models))
        for model in models
    }
    double = {key: _gain_at(points, 2.0 * today) for key, points in rows.items()}
    train = double["train", known.models[0].name]
    served = [g for (work, _), g in double.items() if work == "serve"]
    bulk = [g for (work, _), g in double.items() if work == "bulk"]
    level = words_for("memory", max(train, *served))
    capacity = {s: _amount(facts, s) for s in known.rivals}
    hbm = known.memory["train"].memory_price
    label = {"train": "training", "serve": "serving within limits", "bulk": "serving in bulk"}
    amounts = [p.amount for p in next(iter(rows.values()))]
    return Section(
        id="memory",
        question=f"Is {today / _GIB:.0f} GiB a handicap?",
        level=level,
        verdict=(
            f"{capital(level)}. With twice the memory and nothing else, a chip would train {_more(train)}, serve"
            f" {_more(min(served), max(served))} within limits of waiting, and serve {_more(min(bulk), max(bulk))}"
            " where nobody waits."
        ),
        why=(
            f"Rivals have {', '.join(f'{capacity[s]} ({known.name(s)})' for s in known.rivals)}.",
            "In training, thousands of chips share one copy of the model, so each holds little of it.",
            "In serving, more memory lets a chip answer more users at once, until arithmetic or memory speed is full.",
            f"A gigabyte of this memory costs its buyer {between(hbm.scaled(1e9, 'USD/GB'))} dollars; it"
            " rose two to three times within 2026.",
        ),
        numbers=(
            *(
                BriefNumber(
                    name=f"{work}.{model}",
                    what=f"tokens per second with twice the memory over those of today, {label[work]} {model}",
                    estimate=exact(gain, "1", "D"),
                    of=_value_command(known, work, model),
                )
                for (work, model), gain in double.items()
            ),
            BriefNumber(
                name="price",
                what="price of the memory to whoever builds the chip",
                estimate=hbm.scaled(1e9, "USD/GB"),
                of="mowich facts show prices.unit-cost.hbm",
            ),
        ),
        commands=(_value_command(known, "train", known.models[0].name), _value_command(known, "serve", "")),
        picture=BriefPicture(
            kind="lines",
            title="Speed of Trainium 3 with another amount of memory",
            unit="of today's speed",
            labels=tuple(f"{x / _GIB:.0f} GiB" for x in amounts),
            x=tuple(x / _GIB for x in amounts),
            x_unit="GiB per chip",
            series={
                f"{label[work]} {model}": tuple(_gain_at(points, x) for x in amounts)
                for (work, model), points in rows.items()
                if work != "bulk"
            },
        ),
    )


def _amount(facts: Facts, system: str) -> str:
    """Memory of a chip as its maker writes it: "288 GB"."""
    return facts.fact(f"chips.{resolve(facts, system).chip}.memory.hbm_capacity").as_written.partition(" (")[0]


def _value_command(known: Known, work: str, model: str) -> str:
    if work == "train":
        job = f"--train --tokens 15T --seq {TO_TRAIN.seq} --batch {TO_TRAIN.batch_seqs:.0f}seqs --chips {AT}"
    else:
        limits = "" if work == "bulk" else f" --ttft {TO_SERVE.ttft_s:g}s --tpot {1e3 * TO_SERVE.tpot_s:g}ms"
        job = f"--serve --isl {TO_SERVE.prompt:.0f} --osl {TO_SERVE.output:.0f}{limits} --chips {SERVED_ON}"
    models = model or ",".join(m.name for m in known.models)
    return f"mowich value {SUBJECT} --of memory --model {models} {job} --points 4"


def _points(study: ValueStudy, model: str) -> list[ValuePoint]:
    return [row for row in study.rows if row.model == model]


def _gain_at(points: Sequence[ValuePoint], amount: float) -> float:
    """Tokens over those of today at the amount closest to this one; 0 where nothing fits."""
    near = min(points, key=lambda p: abs(p.amount - amount))
    return float(near.gain) if near.gain is not None else 0.0


def _more(*gains: float) -> str:
    """Gains as a reader says them: "no faster", "5% faster", "5 to 10% faster"."""
    shares = [round(100.0 * (gain - 1.0)) for gain in gains]
    low, high = min(shares), max(shares)
    if low == high == 0:
        return "no faster"
    if high <= 0:
        return f"{-high}% slower" if low == high else f"{-high} to {-low}% slower"
    return f"{low}% faster" if low == high else f"{low} to {high}% faster"


# ---- 3
# ----------------------------------------------------------------------------------------------------------------------


def scale_section(known: Known) -> Section:
    first = known.rivals[0]
    fit = [n for n in BRIEF_SIZES if all(known.trained(n, s).plan is not None for s in (SUBJECT, first))]
    ratio = {n: times_of(_whole(known.trained(n, SUBJECT)), _whole(known.trained(n, first))) for n in fit}
    small, large = fit[0], fit[-1]
    level = words_for("scale", float(ratio[large]) / float(ratio[small]))
    most = known.trained(large, SUBJECT)
    used = most.chips_used / (most.chips_used + most.chips_idle)
    without = [n for n in BRIEF_SIZES if known.trained(n, SUBJECT).plan is None]
    return Section(
        id="scale",
        question="Does scale make up for it?",
        level=level,
        verdict=(
            f"{capital(level)}, because one run cannot feed so many chips: {small:,} chips of Trainium 3 train"
            f" {plainly(float(ratio[small]))} times as fast as {small:,} of {known.name(first)}, and {large:,} train"
            f" {plainly(float(ratio[large]))} times as fast. At {large:,} chips"
            f" {share_text(float(most.goodput))} of the time is useful work, and the job keeps {share_text(used)} of"
            " the chips busy."
        ),
        why=(
            *([_no_room(known, without[0])] if without else []),
            f"Some chip fails all the time; the best way to survive it there is {_survival(most.survival)}.",
            "One batch of this job can feed only so many chips: beyond that, more chips of any maker add little.",
            "A run over more chips than one maker's network has crosses a network between buildings, which is our"
            " estimate.",
        )[:4],
        numbers=_scale_numbers(known, ratio, used),
        commands=(known.to_train(large, known.systems), f"mowich goodput --on {SUBJECT}:{large}"),
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


def _scale_numbers(known: Known, ratio: Mapping[int, Estimate], used: float) -> tuple[BriefNumber, ...]:
    """ratio: chips -> speed over that of as many of the first rival; used: share of the most chips that the job can
    use."""
    first, large = known.rivals[0], max(ratio)
    most = known.trained(large, SUBJECT)
    return (
        *(
            BriefNumber(
                name=f"at_{n}",
                what=f"tokens per second of {n:,} Trainium 3 over those of {n:,} of {known.name(first)}, failures"
                " included",
                estimate=ratio[n],
                formula="trn3 * useful_trn3 / (rival * useful_rival)",
                symbols={
                    "trn3": _total(known.trained(n, SUBJECT)),
                    "useful_trn3": float(known.trained(n, SUBJECT).goodput),
                    "rival": _total(known.trained(n, first)),
                    "useful_rival": float(known.trained(n, first).goodput),
                },
                of=known.to_train(n, (SUBJECT, first)),
            )
            for n in ratio
        ),
        BriefNumber(
            name="useful",
            what=f"share of the time that is useful work, Trainium 3 at {large:,} chips",
            estimate=most.goodput,
            of=f"{known.to_train(large, (SUBJECT,))}; goodput",
        ),
        BriefNumber(
            name="busy",
            what=f"share of {large:,} chips that the job can use",
            estimate=exact(used, "1", "D"),
            formula="used / (used + idle)",
            symbols={"used": float(most.chips_used), "idle": float(most.chips_idle)},
            of=f"{known.to_train(large, (SUBJECT,))}; chips_used, chips_idle",
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
    """The same with failures."""
    return _total(row) * float(row.goodput)


def _whole(row: TrainRow) -> Estimate:
    """Tokens per second of all chips with failures, with the range of the speed of one."""
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
    row = known.trained(AT, SUBJECT)
    even = {f"training {known.models[0].name}": row.breakeven_usd_per_chip_h}
    even |= {
        f"serving {m.name}": known.serving(m.name, SUBJECT).breakeven_usd_per_chip_h
        for m in known.models
        if known.serving(m.name, SUBJECT).feasible
    }
    cost = {s: _cost(known.facts, s) for s in known.systems}
    room = {what: times_of(e, cost[SUBJECT]) for what, e in even.items() if e.value is not None}
    middle = math.exp(sum(math.log(float(e)) for e in room.values()) / len(room))
    level = words_for("price", middle)
    unsure = any(e.overlaps(cost[SUBJECT]) for e in even.values())
    tuned = row.hand_tuned_step_s
    low, high = min(map(float, even.values())), max(map(float, even.values()))
    best = min(known.rivals, key=lambda s: float(known.trained(AT, s).usd_per_mtok))
    return Section(
        id="price",
        question="Does price?",
        level=level,
        verdict=(
            f"{capital(level)}{', though the ranges overlap' if unsure else ''}. No price is published"
            " (searched 2026-11: AWS price pages). A token costs the same as on the cheapest rival where a chip of"
            f" Trainium 3 costs {_cents(low)} to {_cents(high)}"
            f" dollars an hour; building and running one is estimated at {between(cost[SUBJECT])} dollars an hour."
        ),
        why=(
            "All machines are taken at what they cost to build, house and run, without a seller's margin, because"
            " Trainium 3 has no list price.",
            f"The cheapest rival in training is {known.name(best)} at"
            f" {between(known.trained(AT, best).usd_per_mtok)} dollars for a million tokens; Trainium 3 comes to"
            f" {between(row.usd_per_mtok)}.",
            "Trainium 3 runs here with the software that a customer gets"
            + (
                f"; kernels tuned by hand would train {plainly(float(times_of(row.step_s, tuned)))} times as fast."
                if tuned is not None
                else "."
            ),
            "Amazon pays the cost and not the price; who rents pays its margin too.",
        ),
        numbers=_price_numbers(known, even, cost),
        commands=(f"mowich prices --on {SUBJECT}", known.to_train(AT, known.systems)),
        picture=BriefPicture(
            kind="ranges",
            title="Dollars for an hour of one chip",
            unit="USD/chip/h",
            labels=(
                *(f"{known.name(s)}: cost to its owner" for s in known.systems),
                *(f"Trainium 3 breaks even: {what}" for what in even),
            ),
            series={"USD/chip/h": (*map(float, cost.values()), *map(float, even.values()))},
            low=tuple(ends_of(e)[0] for e in (*cost.values(), *even.values())),
            high=tuple(ends_of(e)[1] for e in (*cost.values(), *even.values())),
        ),
    )


def _price_numbers(known: Known, even: Mapping[str, Estimate], cost: Mapping[str, Estimate]) -> tuple[BriefNumber, ...]:
    """even: work -> the price of Trainium 3 at which a token costs the same; cost: system -> of a chip-hour to its
    owner."""
    return (
        *(
            BriefNumber(
                name=f"even.{what.split()[0]}.{what.split()[1]}",
                what=f"price of a chip-hour of Trainium 3 at which a token costs the same as on the cheapest rival,"
                f" {what}",
                estimate=e,
                of=(
                    known.to_train(AT, known.systems)
                    if what.startswith("training")
                    else known.to_serve(what.split()[1], known.systems)
                )
                + f"; {SUBJECT}.breakeven_usd_per_chip_h",
            )
            for what, e in even.items()
        ),
        *(
            BriefNumber(
                name=f"cost.{s}",
                what=f"what a chip-hour of {known.name(s)} costs its owner",
                estimate=e,
                of=f"mowich prices --on {s}; tco_total",
            )
            for s, e in cost.items()
        ),
        *(
            BriefNumber(
                name=f"token.{s}",
                what=f"cost of a million tokens of training on {known.name(s)}",
                estimate=known.trained(AT, s).usd_per_mtok,
                of=f"{known.to_train(AT, known.systems)}; {s}.usd_per_mtok",
            )
            for s in known.systems
        ),
        *(
            BriefNumber(
                name=f"token.{model}.{s}",
                what=f"cost of a million output tokens of {model} on {known.name(s)}",
                estimate=found.usd_per_mtok,
                of=f"{known.to_serve(model, known.systems)}; {s}.usd_per_mtok",
            )
            for model, s, found in known.served_rows()
        ),
    )


def _cost(facts: Facts, system: str) -> Estimate:
    """USD per chip and hour of owning a machine."""
    return owned(facts, resolve(facts, system).id).total.scaled(_HOUR_S, "USD/chip/h")


def _cents(usd: float) -> str:
    return f"{usd:.2f}"
