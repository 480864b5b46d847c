"""The verdicts of a brief: each a function of the numbers that it names, and of nothing else.

No facts and no searches are here. So a test can drive each verdict over numbers that no run gives, and see that it
turns with the numbers, one way only, and that each figure of a sentence is one that the function was given.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mowich.estimate import Estimate
from mowich.studies.brief.verdicts import between, capital, ends_of, plainly, share_text, words_for
from mowich.studies.next_prices import POWER_METER, PRICE_QUOTE
from mowich.studies.next_training import COLLECTIVE_RUN, TRAINING_STEP
from mowich.studies.ranking import names_listed

Ratios = tuple[Estimate, Estimate]
"""A ratio with the software as shipped, and with kernels written by hand."""

COSTS_SOMETHING = 1.05
"""Gain with twice the memory from which a verdict says that memory costs something."""

NO_DIFFERENCE = 1.0 + 1e-9
"""Ratios closer to 1 than this are no difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """level: the words that the numbers chose, of `LEVEL_WORDS` where one number decides; text: the verdict; why:
    reasons, each only where the numbers give it."""

    level: str
    text: str
    why: tuple[str, ...] = ()


# ---- is the claim true
# ----------------------------------------------------------------------------------------------------------------------


def claim_verdict(
    *, claimed: float, chips: tuple[float, float], eight: float, sixteen: float, measured: Estimate
) -> Verdict:
    """chips: of a unit now and before; eight, sixteen: arithmetic of a chip over that of the one before, at 8 and at 16
    bit; measured: speed of whole models, middle, least and most."""
    now, before = chips
    unit = eight * now / before
    level = words_for("claim", unit)
    low, high = ends_of(measured)
    return Verdict(
        level=level,
        text=(
            f"{capital(level)}: {now:.0f} chips against {before:.0f} have {plainly(unit)} times the arithmetic. A chip"
            f" has {plainly(eight)} times at 8 bit and {plainly(sixteen)} times at 16 bit; whole models that were"
            f" measured gained {plainly(low)} to {plainly(high)} times."
        ),
        why=(
            f"AWS says {claimed:g} times for an UltraServer, which is a cabinet of chips that work as one machine.",
            f"That is {plainly(now / before)} times the chips, each with {plainly(eight)} times the 8-bit arithmetic.",
        ),
    )


# ---- which work
# ----------------------------------------------------------------------------------------------------------------------

NO_VERDICT, NOT_KNOWN = "no verdict", "not known"


def job_level(dollar: Estimate, *, rests_on: str = "") -> str:
    """What tokens of a dollar over those of a rival's dollar say. rests_on: the one constant that decides them, ""
    where none does.

    >>> from mowich.estimate import exact
    >>> job_level(exact(0.4, "1")), job_level(exact(1.5, "1")), job_level(exact(0.4, "1"), rests_on="a.constant")
    ('behind', 'ahead', 'no verdict')
    """
    if dollar.value is None:
        return NOT_KNOWN
    return NO_VERDICT if rests_on else words_for("job", dollar.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """The same comparison under one other condition. words: "with hand-tuned software"; dollar: tokens of a dollar over
    a rival's under that condition."""

    words: str
    dollar: float


def flip_text(
    *, price: float, dollar: Estimate, tuned: Estimate, elsewhere: Sequence[Elsewhere], rests_on: str = ""
) -> str:
    """Where another machine is the cheaper one. price: dollars of a chip-hour of Trainium 3 that `dollar` is taken at;
    dollar, tuned: its tokens of a dollar over the rival's, as shipped and hand-tuned; elsewhere: other conditions that
    were tried."""
    if dollar.value is None:
        return ""
    if rests_on:
        return f"No verdict: within its own range one constant ({rests_on}) decides this."
    ahead = dollar.value > NO_DIFFERENCE
    text = f"It flips where a chip-hour costs {'more' if ahead else 'less'} than {_usd(price * dollar.value)} dollars"
    text += f" ({_usd(price)} here"
    if tuned.value is not None and (tuned.value > NO_DIFFERENCE) == ahead:
        text += f"; hand-tuned: {_usd(price * tuned.value)}"
    text += ")"
    turned = [e for e in elsewhere if (e.dollar > NO_DIFFERENCE) != ahead]
    if turned:
        return f"{text}, and {names_listed([f'{e.words} ({plainly(e.dollar)})' for e in turned])}."
    if not elsewhere:
        return f"{text}."
    near = min(elsewhere, key=lambda e: abs(math.log(e.dollar)))
    return f"{text}; nothing else that was looked at flips it, the nearest is {near.words} ({plainly(near.dollar)})."


def _usd(x: float) -> str:
    """A price of a chip-hour."""
    return f"{x:.2f}" if x >= 0.01 or x == 0.0 else plainly(x)


def work_verdict(levels: Mapping[str, Mapping[str, str]]) -> Verdict:
    """levels: rival -> work -> its level (`job_level`). The verdict counts the work in which a dollar buys more tokens
    on Trainium 3."""
    known = {r: {w: x for w, x in of.items() if x not in (NO_VERDICT, NOT_KNOWN)} for r, of in levels.items()}
    count = sum(len(of) for of in known.values())
    ahead = sum(x == "ahead" for of in known.values() for x in of.values())
    if not count:
        return Verdict(level=NOT_KNOWN, text="Not known: no rate of this page allows a verdict.")
    level = words_for("work", ahead / count)
    said = [f"beside {r} it is {_levels(of)}" for r, of in known.items() if of]
    open_ = sorted({w for of in levels.values() for w, x in of.items() if x == NO_VERDICT})
    text = f"{capital(level)}: by tokens of a dollar, {'; '.join(said)}."
    if open_:
        text += f" No verdict on {names_listed(open_)}: the rate rests on one constant."
    return Verdict(level=level, text=text)


def _levels(of: Mapping[str, str]) -> str:
    by: dict[str, list[str]] = {}
    for work, level in of.items():
        by.setdefault(level, []).append(work)
    if len(by) == 1 and len(of) > 1:
        return f"{next(iter(by))} in all {len(of)} jobs"
    return ", ".join(
        f"{level} in {names_listed(by[level])}" for level in ("ahead", "about level", "behind") if level in by
    )


# ---- memory
# ----------------------------------------------------------------------------------------------------------------------


def memory_verdict(gains: Mapping[str, float], *, training: Sequence[str] = ()) -> Verdict:
    """gains: work -> tokens with twice the memory over those of today; infinite where the work only fits with twice;
    training: which kind of work is training.

    >>> memory_verdict({"training": 1.0, "bulk": 1.12}).text
    'In some work. Twice the memory and nothing else would make bulk 12% faster. It would add nothing to training.'
    """
    cost = sorted(((w, g) for w, g in gains.items() if g >= COSTS_SOMETHING), key=lambda x: -x[1])
    rest = {w: g for w, g in gains.items() if g < COSTS_SOMETHING}
    level = words_for("memory", len(cost) / len(gains) if gains else 0.0)
    percent = max((_percent(g) for g in rest.values()), default=0)
    why = _memory_why({w for w, _ in cost}, set(gains), set(training))
    added = "nothing" if percent <= 0 else f"at most {percent}%"
    if not cost:
        return Verdict(
            level=level,
            text=f"{capital(level)}. Twice the memory and nothing else would add {added} to any work here.",
            why=why,
        )
    most = max(_TOLD, sum(math.isinf(g) for _, g in cost))
    told = [f"{w} possible" if math.isinf(g) else f"{w} {_percent(g)}% faster" for w, g in cost[:most]]
    text = f"{capital(level)}. Twice the memory and nothing else would make {'; '.join(told)}"
    if more := [_percent(g) for _, g in cost[most:]]:
        span = f"{more[-1]}%" if more[-1] == more[0] else f"{more[-1]} to {more[0]}%"
        text += f"; {len(more)} more {'kind' if len(more) == 1 else 'kinds'} of work {span} faster"
    if rest:
        of = next(iter(rest)) if len(rest) == 1 else f"the other {len(rest)}"
        text += f". It would add {added} to {of}"
    return Verdict(level=level, text=text + ".", why=why)


def _memory_why(cost: set[str], all_work: set[str], training: set[str]) -> tuple[str, ...]:
    why = []
    if training & all_work and not training & cost:
        why.append("In training, thousands of chips share one copy of the model, so each holds little of it.")
    if cost - training:
        why.append(
            "In serving, more memory lets a chip answer more users at once, until arithmetic or memory speed is full."
        )
    return tuple(why)


_TOLD = 3
"""How many kinds of work a verdict names, besides those that only fit with more memory."""


def _percent(gain: float) -> int:
    return round(100.0 * (gain - 1.0))


# ---- scale
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AtScale:
    """A machine at one number of chips. speed: tokens per second of a chip that works; used: share of the chips that
    the job keeps busy; useful: share of the time that is useful work."""

    speed: float
    used: float
    useful: float

    @property
    def kept(self) -> float:
        """Tokens per second of a chip that is there."""
        return self.speed * self.used * self.useful


def scale_verdict(rival: str, chips: tuple[int, int], mine: Sequence[AtScale], theirs: Sequence[AtScale]) -> Verdict:
    """chips: the smaller and the larger number; mine, theirs: Trainium 3 and the rival at both."""
    small, large = chips
    ratio = [a.kept / b.kept for a, b in zip(mine, theirs, strict=True)]
    level = _scale_level(*ratio)
    because = "" if level == "the gap stays" else f", because {_scale_reason(rival, small, ratio, mine, theirs)}"
    most = mine[1]
    why = []
    if min(most.used, theirs[1].used) < 1.0 - 5e-3:
        why.append("One batch of this job can feed only so many chips: beyond that, more chips add little.")
    return Verdict(
        level=level,
        text=(
            f"{capital(level)}{because}: {small:,} chips of Trainium 3 train {plainly(ratio[0])} times as fast as"
            f" {small:,} of {rival}, and {large:,} train {plainly(ratio[1])} times as fast. At {large:,} chips"
            f" {share_text(most.useful)} of the time is useful work, and the job keeps {share_text(most.used)} of the"
            " chips busy."
        ),
        why=tuple(why),
    )


def _scale_level(small: float, large: float) -> str:
    """Words for how the distance of two machines changes; a ratio that crosses 1 changes the lead."""
    if (small > NO_DIFFERENCE and large < 1.0 / NO_DIFFERENCE) or (
        small < 1.0 / NO_DIFFERENCE and large > NO_DIFFERENCE
    ):
        return "the lead changes"
    return words_for("scale", math.exp(abs(math.log(small)) - abs(math.log(large))))


def _scale_reason(
    rival: str, small: int, ratio: Sequence[float], mine: Sequence[AtScale], theirs: Sequence[AtScale]
) -> str:
    """The largest part of the change, with its numbers."""
    way = math.copysign(1.0, math.log(ratio[1] / ratio[0]))
    (a, b), (c, d) = mine, theirs
    parts = {
        "used": math.log((b.used / a.used) / (d.used / c.used)),
        "useful": math.log((b.useful / a.useful) / (d.useful / c.useful)),
        "speed": math.log((b.speed / a.speed) / (d.speed / c.speed)),
    }
    part = max(parts, key=lambda k: way * parts[k])
    if part == "used":
        return f"one run keeps {share_text(b.used)} of its chips busy there, and {share_text(d.used)} of {rival}'s"
    if part == "useful":
        return f"{share_text(b.useful)} of its time is useful work there, and {share_text(d.useful)} of {rival}'s"
    kept = f"{share_text(b.speed / a.speed)} of its speed at {small:,}"
    return f"a chip of Trainium 3 there has {kept}, and one of {rival} {share_text(d.speed / c.speed)}"


# ---- price
# ----------------------------------------------------------------------------------------------------------------------

SOME_WORK = "in some work"


def price_verdict(even: Mapping[str, Estimate], price: Estimate, *, is_yours: bool) -> Verdict:
    """even: work -> dollars of a chip-hour of Trainium 3 at which a token costs the same as on the cheapest rival;
    price: what the chip-hour costs its owner, or the price that the reader set. A lower price never makes the verdict
    worse."""
    known = {w: float(e) for w, e in even.items() if e.value is not None}
    owner = f"building and running one is estimated at {between(price)} dollars an hour"
    asked = f"your price is {plainly(float(price))}" if is_yours else owner
    if not known or price.value is None:
        return Verdict(level=NOT_KNOWN, text=f"Not known: no rate of this page allows a verdict; {asked}.")
    low, high = min(known.values()), max(known.values())
    table = "your price" if is_yours else "price"
    ends = [words_for(table, x / float(price)) for x in (low, high)]
    level = ends[0] if ends[0] == ends[1] else SOME_WORK
    close = sum(even[w].overlaps(price) for w in known)
    overlap = "" if not close or level == SOME_WORK else f", though the ranges overlap in {close} of {len(known)} jobs"
    costs = _usd(low) if _usd(low) == _usd(high) else f"{_usd(low)} to {_usd(high)}"
    published = "" if is_yours else " No price is published (searched 2026-11: AWS price pages)."
    return Verdict(
        level=level,
        text=(
            f"{capital(level)}{overlap}.{published} A token costs the same as on the cheapest rival where a chip of"
            f" Trainium 3 costs {costs} dollars an hour; {asked}."
        ),
    )


def port_verdict(
    cheaper: str, dearer: str, *, gigawatt: Estimate, cost: Estimate, chips: Estimate, years: float
) -> Verdict:
    """What the cheaper of two machines saves, and from how many chips it pays to bring work to its software. gigawatt:
    billions of dollars a year, for each gigawatt of the dearer one; cost: of one port, millions of dollars; chips: of
    the dearer one, from which it pays within so many years. A dearer port never pays from fewer chips."""
    saves = (
        f"For each gigawatt of {dearer}, the same training on {cheaper} costs {between(gigawatt)} billion dollars"
        " a year less"
    )
    costs = f"Bringing one workload to the other software costs {between(cost)} million dollars by our estimate"
    if chips.value is None or gigawatt.value is None:
        return Verdict(level=NOT_KNOWN, text=f"{costs}; what that saves is not known.")
    level = words_for("port", chips.value)
    never = "; where the ranges meet, it never does" if chips.high is None else ""
    return Verdict(
        level=level,
        text=f"{saves}. {costs}, so it {level}: {between(chips)} chips, within {years:g} years{never}.",
    )


# ---- energy, the next chip, the fleet, how sure
# ----------------------------------------------------------------------------------------------------------------------


def energy_verdict(rival: str, ratio: Estimate, *, faster: float, watts: float, given: str) -> Verdict:
    """ratio: energy of a token over that of the rival; faster: speed of a chip over the rival's; watts: power of a chip
    over the rival's; given: of what power that is, as a sentence."""
    level = words_for("energy", float(ratio))
    why = [f"The range of the ratio is {plainly(ends_of(ratio)[0])} to {plainly(ends_of(ratio)[1])}."]
    if faster < 1.0 / NO_DIFFERENCE and watts < 1.0 / NO_DIFFERENCE:
        why.append(
            f"Energy is power times time: the chip draws {plainly(watts)} times the power and has {plainly(faster)}"
            " times the speed."
        )
    return Verdict(
        level=level,
        text=(
            f"A token of training takes {plainly(float(ratio))} times the energy that it takes on {rival}: {level}."
            f" {given}"
        ),
        why=tuple(why),
    )


def next_verdict(rival: str, gain: Mapping[str, float], beside: Mapping[str, float]) -> Verdict:
    """gain: work -> tokens over those of Trainium 3; beside: over those of the rival."""
    if not gain or not beside:
        return Verdict(level=NOT_KNOWN, text="Not known: no rate of this page allows a verdict.")
    ends = [words_for("next", x) for x in (min(beside.values()), max(beside.values()))]
    level = ends[0] if ends[0] == ends[1] else f"{ends[0]} in some work and {ends[1]} in other"
    return Verdict(
        level=level,
        text=(
            f"With the software of today it would make {_span(gain.values())} times the tokens of Trainium 3. Beside"
            f" {rival} of today it would be {level}, at {_span(beside.values())} times its tokens. By then the others"
            " have newer chips too."
        ),
    )


def _span(values: Iterable[float]) -> str:
    """ "2.1 to 6.3", or one number where the ends are the same to a reader."""
    known = list(values)
    low, high = plainly(min(known)), plainly(max(known))
    return low if low == high else f"{low} to {high}"


def worth_verdict(
    hours: Mapping[str, float], *, today: float, running: float, residual: Estimate, years: float
) -> Verdict:
    """What Trainium 3 is worth once the next chip sells. hours: work -> dollars of its chip-hour at which a token costs
    as much as on the next one; today: what that hour costs its owner now; running: energy, cooling and people of an
    hour; residual: share of its price that such machines have kept after so many years. A next chip that makes cheaper
    tokens never raises it."""
    if not hours:
        return Verdict(level=NOT_KNOWN, text="")
    low, high = min(hours.values()), max(hours.values())
    ends = [words_for("worth", x / today) for x in (low, high)]
    level = ends[0] if ends[0] == ends[1] else f"{ends[0]} in some work, {ends[1]} in other"
    span = _usd(low) if _usd(low) == _usd(high) else f"{_usd(low)} to {_usd(high)}"
    runs = "so it is still worth running" if low > running else "so in some work it is not worth its power"
    kept, least, most = (share_text(x) for x in (float(residual), *ends_of(residual)))
    kept += "" if least == most else f" (between {least} and {most})"
    return Verdict(
        level=level,
        text=(
            f"Beside it an hour of Trainium 3 would be worth {level}: {span} dollars, not {_usd(today)}. To run it"
            f" takes {_usd(running)}, {runs}. As machines have aged so far, it keeps {kept} of its price for the"
            f" {plainly(years)} years to the next generation."
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fall:
    """A tenant whose share of the chip-hours falls. chips: no longer needed; stand: installed chips; usd: billions of
    dollars of hardware that is no longer needed; idle: chips that stay idle after other tenants have taken what they
    may."""

    share: float
    asked: float
    chips: float
    stand: float
    usd: float
    idle: float


def tenant_verdict(fall: Fall) -> Verdict:
    """The verdict on stranded chips. More chips that are no longer needed never lower it."""
    level = words_for("stranded", fall.chips / fall.stand)
    idle = (
        f"{_count(fall.idle)} stand idle although others take what they may"
        if _count(fall.idle) != "0"
        else "none stands idle, as others take them or fewer are bought"
    )
    return Verdict(
        level=level,
        text=(
            f"If the largest tenant of a fleet of Trainium fell from {share_text(fall.share)} of it to"
            f" {share_text(fall.asked)}, {level}: {_count(fall.chips)} chips"
            f" ({share_text(fall.chips / fall.stand)} of those that stand) and {plainly(fall.usd)} billion dollars are"
            f" needed no more; {idle}."
        ),
    )


def _count(chips: float) -> str:
    """Chips in a reader's words; "0" for a negligible number."""
    return plainly(chips) if chips >= 1.0 else "0"


def supply_verdict(low: float | None, now: float, high: float) -> Verdict:
    """Whether the supply of chips limits a fleet. low, now, high: its work at the ends and the middle of the range of
    supply; low: None without a plan. More work at the high end never makes the limit weaker."""
    level = words_for("supply", high / now)
    few, many = ("it has no plan" if x is None else _changed(x / now) for x in (low, high))
    return Verdict(
        level=level,
        text=f"{level}: with as few as may be made {few}; with as many as may be made {many}.",
    )


def _changed(ratio: float) -> str:
    """What happens to the work of a fleet, in words."""
    change = abs(ratio - 1.0)
    if change < 5e-4:
        return "this fleet does as much"
    return f"this fleet does {share_text(change)} {'more' if ratio > 1.0 else 'less'}"


NO_WINNER = "no winner"


def split_verdict(
    model: str, chips: int, names: tuple[str, str], apart: Estimate, alone: Mapping[str, Estimate]
) -> Verdict:
    """Whether rollouts on one vendor and updates on another cost less than both on one. apart: dollars of a million
    trained tokens of the best such split; alone: of the best run on each vendor by itself. Where the ranges overlap
    there is no winner; a cheaper split never makes the verdict on it worse."""
    known = {name: e for name, e in alone.items() if e.value is not None}
    if apart.value is None or not known:
        return Verdict(level=NOT_KNOWN, text="")
    best = min(known, key=lambda name: float(known[name]))
    one = known[best]
    level = NO_WINNER if apart.overlaps(one) else "two vendors" if apart.value < float(one) else "one vendor"
    costs = (
        f"a million tokens of reinforcement learning of {model} on {chips:,} chips cost {between(apart)} dollars where"
        f" one of {names[0]} and {names[1]} makes the answers and the other trains, and {between(one)} on {best} alone"
    )
    said = {NO_WINNER: "No winner: the ranges overlap", "two vendors": "Two vendors cost less"}
    return Verdict(level=level, text=f"{said.get(level, 'One vendor costs less')}. By estimate, {costs}.")


_MEASURED: Mapping[str, str] = {
    TRAINING_STEP: "one training step",
    COLLECTIVE_RUN: "a timed collective",
    PRICE_QUOTE: "a quoted price",
    POWER_METER: "the measured power of a chip",
}
"""Kinds of measurements of training in plain words."""


def settle_text(found: Sequence[tuple[str, float]]) -> str:
    """What would settle most, as a sentence. found: (kind of measurement, range left after it and those before it).

    >>> settle_text([("training step", 0.75), ("quoted price", 0.53)])
    'Of what could be measured, one training step narrows the cost of a training token most: to 75% of its range. \
With a quoted price too it is 53%.'
    >>> settle_text([])
    'Nothing that could be measured alone narrows the cost of a training token much.'
    """
    if not found:
        return "Nothing that could be measured alone narrows the cost of a training token much."
    (kind, left), *more = found
    first = f"Of what could be measured, {_MEASURED[kind]} narrows the cost of a training token most"
    rest = "".join(f" With {_MEASURED[kind]} too it is {share_text(left)}." for kind, left in more)
    return f"{first}: to {share_text(left)} of its range.{rest}"


def sure_verdict(width: float, *, rows: int, settle: str = "") -> Verdict:
    """width: how many times either way the speed in training may be off; rows: published training steps of the
    chip; settle: what would settle most, as a sentence."""
    level = words_for("sure", width)
    published = (
        "No training step of it has been published (searched 27 November 2026)"
        if rows == 0
        else f"{rows} training steps of it have been published"
    )
    return Verdict(
        level=level,
        text=(
            f"The speed of Trainium 3 in training is known {level}: {plainly(width)} times either way. {published}; its"
            f" serving is measured for a few models.{f' {settle}' if settle else ''}"
        ),
    )


# ---- the headline
# ----------------------------------------------------------------------------------------------------------------------


def memory_text(GiB: float, level: str) -> str:
    """The level of a verdict on memory as a sentence.

    >>> memory_text(144.0, "hardly"), memory_text(144.0, "in some work")
    ('144 GiB are hardly a handicap.', '144 GiB are a handicap in some work.')
    """
    return f"{GiB:.0f} GiB are hardly a handicap." if level == "hardly" else f"{GiB:.0f} GiB are a handicap {level}."


def gap_text(rival: str, model: str, ratio: float, factors: Mapping[str, float], capacity: float) -> str:
    """Why one machine is faster in training. ratio: the rival's speed over that of Trainium 3; factors: property -> its
    factor, above 1 where it helps the rival; capacity: the factor of memory size."""
    way = 1.0 if ratio >= 1.0 else -1.0
    causes = sorted(factors.items(), key=lambda x: -way * math.log(x[1]))
    named = [f"{name} ({plainly(x)})" for name, x in causes[:2] if way * math.log(x) > _WORTH_NAMING]
    cause = f"; the largest factors of that: {names_listed(named)}" if named else ""
    return (
        f"In training {model}, a chip of {rival} is {plainly(ratio)} times as fast{cause}. Memory size is a factor of"
        f" {plainly(capacity, 3)}."
    )


_WORTH_NAMING = math.log(1.05)
"""A factor closer to 1 than this is not named as a cause."""


def buys_text(rival: str, training: Sequence[Ratios], serving: Sequence[Ratios]) -> str:
    """What a dollar buys on Trainium 3 against one rival, all work in one sentence. training, serving: (as shipped,
    hand-tuned) tokens of a dollar over those of the rival's dollar, of each job with a verdict."""
    parts = []
    for what, jobs in (("in training", training), ("in serving", serving)):
        shipped = [a.value for a, _ in jobs if a.value is not None]
        tuned = [b.value for _, b in jobs if b.value is not None]
        if shipped:
            more = f" (hand-tuned {_span(tuned)})" if tuned else ""
            parts.append(f"{_span(shipped)} times the tokens {what}{more}")
    return f"Beside {rival}, a dollar on Trainium 3 buys {names_listed(parts)}." if parts else ""
