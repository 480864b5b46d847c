"""The last four questions of a brief: energy, the next generation, who does what in a fleet, and how sure it all is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mowich.economics.energy import PowerBasis, chip_power, drawn_power
from mowich.estimate import Estimate, exact, log_spread, unknown_estimate
from mowich.evidence.measured_architectures import trained_on
from mowich.evidence.scores import left_out
from mowich.machines.system import resolve
from mowich.software.engine import engine_for
from mowich.software.vendors import HAND_TUNED
from mowich.studies.brief.decisions import (
    Verdict,
    energy_verdict,
    next_verdict,
    settle_text,
    split_verdict,
    sure_verdict,
)
from mowich.studies.brief.economy import TENANT_WORDS, tenant_parts, worth_parts
from mowich.studies.brief.jobs import numbers_of_rows
from mowich.studies.brief.known import AT, BEFORE, NEXT, SUBJECT, Known, rl_command
from mowich.studies.brief.verdicts import (
    BriefNumber,
    BriefPicture,
    Section,
    ends_of,
    plainly,
    share_text,
    times_of,
    words_for,
)
from mowich.studies.fact_labels import fact_label
from mowich.studies.next_measure import NextRow
from mowich.studies.ranking import names_listed
from mowich.sums import float_sum

_POWER_KNOWN: Mapping[PowerBasis, str] = {
    "metered": "its machines were metered.",
    "assumed": "nobody has metered that, so we assume the share of provisioned power that metered machines draw.",
}


def energy_section(known: Known) -> Section:
    """Joules of a token against the rivals'."""
    J = {s: known.trained(AT, s).J_per_token for s in known.systems if known.trained(AT, s).plan is not None}
    best = min((s for s in J if s != SUBJECT), key=lambda s: float(J[s]))
    ratio = times_of(J[SUBJECT], J[best])
    draws = {s: drawn_power(known.facts, resolve(known.facts, s).id) for s in (SUBJECT, best)}
    watts = {s: draw.power for s, draw in draws.items()}
    mine = watts[SUBJECT]
    is_given = chip_power(known.facts, resolve(known.facts, SUBJECT).id).grade == "user"
    low, high = ends_of(mine)
    drawn = f"a chip of Trainium 3 with its share of the machine draws about {plainly(float(mine))} watts"
    verdict = energy_verdict(
        known.name(best),
        ratio,
        faster=float(times_of(*(known.trained(AT, s).tokens_per_s_per_chip for s in (SUBJECT, best)))),
        watts=float(times_of(mine, watts[best])),
        given=f"That is if {drawn}"
        + ("; " + _POWER_KNOWN[draws[SUBJECT].basis] if not is_given else ", of what you set."),
    )
    return Section(
        id="energy",
        question="And energy?",
        level=verdict.level,
        verdict=verdict.text,
        why=(
            *verdict.why,
            *([f"What the chip draws is between {plainly(low)} and {plainly(high)} watts."] if low < high else []),
            "Cooling and losses of the building are counted in.",
        ),
        numbers=(
            *(
                BriefNumber(
                    name=f"power.{s}",
                    what=f"power that a chip of {known.name(s)} draws with its share of the machine: {draws[s].basis}",
                    estimate=e,
                    of=f"{known.command(f'power --on {s}')}; drawn_system_W",
                )
                for s, e in watts.items()
            ),
            BriefNumber(
                name="ratio",
                what=f"energy of a token of training over that of {known.name(best)}",
                estimate=ratio,
                formula="trn3 / rival",
                symbols={"trn3": float(J[SUBJECT]), "rival": float(J[best])},
                of=f"{known.to_train(AT, known.systems)}; J_per_token",
            ),
            *numbers_of_rows(
                known,
                "J_per_token",
                ("training.{}", "energy of a token of training on {}"),
                ("serving.{}.{}", "energy of an output token of {} on {}"),
            ),
        ),
        commands=(known.to_train(AT, known.systems), known.command(f"power --on {','.join(known.systems)}")),
        picture=BriefPicture.of_ranges(
            f"Energy of a token in training {known.models[0].name}", "J", ((known.name(s), e) for s, e in J.items())
        ),
    )


def _times(text: object) -> str:
    """An announced factor in words: ">=6 x processing performance" is "at least 6 times"."""
    return str(text).replace(">=", "at least ").partition(" x")[0] + " times the arithmetic"


_ANNOUNCED = "chips.{}.relative_to_trainium3"
_SAID = ("fp4", "fp8", "memory_bandwidth", "memory_capacity")


def next_section(known: Known) -> Section:
    """What the announced chip would change."""
    first = known.rivals[0]
    chip = resolve(known.facts, NEXT).chip
    said = {name: known.facts.fact(f"{_ANNOUNCED.format(chip)}.{name}") for name in _SAID}
    gain, beside, symbols = dict[str, Estimate](), dict[str, Estimate](), dict[str, dict[str, float]]()
    rates = {"training": {s: known.trained(AT, s).tokens_per_s_per_chip for s in (SUBJECT, NEXT, first)}}
    for m in known.models:
        rows = {s: known.serving(m.name, s) for s in (SUBJECT, NEXT, first)}
        if all(r.feasible for r in rows.values()) and not known.decided("serve", m.name, *rows):
            rates[m.name] = {s: r.tokens_per_s_per_chip for s, r in rows.items()}
    for k, rate in rates.items():
        if all(e.value is not None for e in rate.values()):
            gain[k], beside[k] = times_of(rate[NEXT], rate[SUBJECT]), times_of(rate[NEXT], rate[first])
            symbols[k] = {s: float(e) for s, e in rate.items()}
    verdict = next_verdict(
        known.name(first), {k: float(e) for k, e in gain.items()}, {k: float(e) for k, e in beside.items()}
    )
    worth, worth_numbers = worth_parts(known, gain)
    doing = {k: "training" if k == "training" else f"serving {k}" for k in gain}
    return Section(
        id="next",
        question="What would Trainium 4 change?",
        level=verdict.level,
        verdict=verdict.text,
        why=(
            f"Announced beside Trainium 3: {_times(said['fp4'].value)} at 4 bit, {_times(said['fp8'].value)} at 8 bit,"
            f" {said['memory_bandwidth'].value:g} times the memory speed, {said['memory_capacity'].value:g} times the"
            " memory.",
            "The rest of the chip is our estimate, so the ranges are wide.",
            "Faster arithmetic helps only what waits for arithmetic: software and networks stay as they are here.",
            *([worth.text] if worth.text else []),
        ),
        numbers=(
            *(
                BriefNumber(
                    name=f"{name}.{k}",
                    what=f"tokens per second and chip over {over}, {doing[k]}",
                    estimate=e,
                    formula=f"next / {who}",
                    symbols={"next": symbols[k][NEXT], who: symbols[k][systems[0]]},
                    of=_command(known, k, systems),
                )
                for name, ratios, over, who, systems in (
                    ("gain", gain, "Trainium 3", "now", (SUBJECT, NEXT)),
                    ("beside", beside, f"{known.name(first)} of today", "rival", (first, NEXT)),
                )
                for k, e in ratios.items()
            ),
            *worth_numbers,
        ),
        commands=(known.facts_command(f"facts diff {SUBJECT} {NEXT}"), known.to_train(AT, (SUBJECT, NEXT, first))),
        picture=BriefPicture(
            kind="bars",
            title="Tokens per second and chip, Trainium 3 = 1",
            unit="times",
            labels=tuple(f"{words}: {known.name(s)}" for words in doing.values() for s in (SUBJECT, NEXT, first)),
            series={"times": tuple(symbols[k][s] / symbols[k][SUBJECT] for k in doing for s in (SUBJECT, NEXT, first))},
        ),
    )


def _command(known: Known, work: str, systems: Sequence[str]) -> str:
    return (
        f"{known.to_train(AT, systems) if work == 'training' else known.to_serve(work, systems)}; tokens_per_s_per_chip"
    )


def fleet_section(known: Known) -> Section:
    """Who does what in a fleet like the reported ones."""
    answer, problem = known.fleet.answer, known.fleet.problem
    there: dict[str, float] = {}
    idle: dict[str, float] = {}
    for use in answer.uses:
        there[use.system] = there.get(use.system, 0.0) + use.there
        idle[use.system] = idle.get(use.system, 0.0) + max(0.0, use.there - use.busy)
    free = {s: idle[s] / n for s, n in there.items() if n > 0.0}
    own = {s: x for s, x in free.items() if s in ("trn2", "trn3")}
    rest = float_sum(idle[s] for s in own) / float_sum(there[s] for s in own) if own else 1.0
    level = words_for("fleet", rest)
    stranded, stranded_numbers = tenant_parts(known)
    work: dict[str, dict[str, float]] = {}
    for part in answer.assign:
        by = work.setdefault(part.task, {})
        by[part.system] = by.get(part.system, 0.0) + part.share
    tasks = {
        task: max(by, key=lambda s, of=by: of[s])  # type: ignore[misc]
        for task, by in work.items()
    }
    most = {s: [_task_words(t) for t, x in tasks.items() if x == s] for s in sorted(set(tasks.values()))}
    return Section(
        id="fleet",
        question="What do Rainier and Anthropic's split tell?",
        level=level,
        verdict=(
            "In a plan for a fleet like the reported one (a million Trainium 2, up to a million TPUs, GB300 in clouds),"
            f" {'; '.join(f'{known.name(s)} does most of {_listed(t)}' for s, t in most.items())}. Trainium has"
            f" {level} of its chips: {share_text(rest)} of their time stays free."
        ),
        why=(
            "The counts follow public statements; what the fleet has to do is invented"
            + (
                ". The plan does the most work that the chips can: what users and training leave goes to"
                " reinforcement learning."
                if problem.counts_work
                else ", so free time says how much more it could carry, and not that the real one stands still."
            )
            + " Chips that are committed are paid whether they work or not: work goes where "
            + ("all chips together do the most." if problem.counts_work else "a token then costs least."),
            *_fleet_software(known),
            *filter(None, [_over_two_vendors(known).text, stranded]),
        ),
        numbers=(
            *_split_numbers(known),
            *stranded_numbers,
            BriefNumber(
                name="free",
                what="share of the chip-time of Trainium that the plan leaves free",
                estimate=exact(rest, "1", "D"),
                of=f"{known.command('fleet rainier')}; use, over {len(problem.labels)} periods",
            ),
            *(
                BriefNumber(
                    name=f"free.{s}",
                    what=f"share of the chip-time of {known.name(s)} that the plan leaves free",
                    estimate=exact(x, "1", "D"),
                    formula="idle / chips",
                    symbols={"idle": idle[s], "chips": there[s]},
                    of=f"{known.command('fleet rainier')}; use, summed over periods",
                )
                for s, x in free.items()
            ),
        ),
        commands=(known.command("fleet rainier --flips"), known.command(TENANT_WORDS), _split_command(known)),
        picture=BriefPicture(
            kind="bars",
            title="Who does what: share of each kind of work, over all periods",
            unit="%",
            labels=tuple(_task_words(task) for task in work),
            series={
                known.name(s): tuple(100.0 * by.get(s, 0.0) / float_sum(by.values()) for by in work.values())
                for s in sorted({s for by in work.values() for s in by})
            },
        ),
    )


def _split_command(known: Known) -> str:
    return known.command(rl_command(known.models[0].name, (SUBJECT, known.rivals[0])))


def _split_costs(known: Known) -> tuple[Estimate, dict[str, Estimate]]:
    """Dollars of a million tokens of reinforcement learning: (best run over two machines, best run on each alone)."""
    unknown = unknown_estimate("USD/Mtok", "no plan")
    apart = known.split.best_of("two vendors")
    alone = {}
    for system in (SUBJECT, known.rivals[0]):
        rows = [r for r in known.split.rows if r.kind != "two vendors" and r.row.ask.trainer.on == system]
        costs = [r.row.usd_per_mtok for r in rows if r.row.usd_per_mtok.value is not None]
        alone[system] = min(costs, key=float, default=unknown)
    return unknown if apart is None else apart.row.usd_per_mtok, alone


def _over_two_vendors(known: Known) -> Verdict:
    """Whether a run of reinforcement learning that is split over two machines costs less than on one of them."""
    apart, alone = _split_costs(known)
    names = (known.name(SUBJECT), known.name(known.rivals[0]))
    by_name = {known.name(system): cost for system, cost in alone.items()}
    return split_verdict(known.models[0].name, known.split.ask.chips, names, apart, by_name)


def _split_numbers(known: Known) -> list[BriefNumber]:
    apart, alone = _split_costs(known)
    work = f"dollars of a million tokens of reinforcement learning of {known.models[0].name}"
    costs = {"rl.two": (f"{work}, over two machines", apart)}
    costs |= {f"rl.{system}": (f"{work}, on {known.name(system)} alone", cost) for system, cost in alone.items()}
    return [
        BriefNumber(name=name, what=what, estimate=cost, of=f"{_split_command(known)}; usd_per_mtok")
        for name, (what, cost) in costs.items()
        if cost.value is not None
    ]


def _fleet_software(known: Known) -> list[str]:
    """The software with which Trainium serves in the scenario, as a sentence; none without working Trainium."""
    used = {c.name: c.engine for c in known.fleet.problem.choices if c.name in (BEFORE, SUBJECT, NEXT)}
    own = {s: engine_for(known.facts, resolve(known.facts, s), None) for s in used}
    by_hand = {s: engine_for(known.facts, resolve(known.facts, s), HAND_TUNED) for s in used}
    if not used:
        return []
    if all(used[s] in ("", own[s]) for s in used):
        return ["Trainium serves here with the software that a customer gets."]
    if all(used[s] == by_hand[s] for s in used):
        return ["Trainium serves here with kernels written by hand, as a laboratory has that writes its own."]
    said = (f"{known.name(s)} with {used[s] or own[s]}" for s in used)
    return [f"The software that serves: {', '.join(said)}."]


def _task_words(task: str) -> str:
    """A task of a scenario for a reader: "rl.updates" is the updates of rl."""
    workload, _, phase = task.partition(".")
    return f"{workload} {phase}" if phase else workload


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]


def _first_of(settles: Sequence[NextRow], count: int) -> str:
    return names_listed([row.offer.kind for row in settles[:count]])


def sure_section(known: Known) -> Section:
    """How far the numbers may be off, and what would settle most."""
    row = known.trained(AT, SUBJECT)
    speed = row.tokens_per_s_per_chip
    errors = {(e.work, e.what, e.unit): e for e in left_out()}
    training = errors["training", "time of a step", "groups"]
    serving = errors["serving on Trainium", "time per token", "sources"]
    low, high = ends_of(speed)
    down, up = log_spread(float(speed), low, high)
    width = math.exp((down + up) / 2.0)
    steps = sum(map(len, trained_on(known.facts, row.system_id).values()))
    settles = () if known.settles is None else known.settles.rows
    told = "" if known.settles is None else settle_text([(row.offer.kind, row.left) for row in settles])
    verdict = sure_verdict(width, rows=steps, settle=told)
    widths = {
        **{f"training, {known.name(s)}": known.trained(AT, s).tokens_per_s_per_chip for s in known.systems},
        **{f"serving {model}, {known.name(s)}": r.tokens_per_s_per_chip for model, s, r in known.served_rows()},
    }
    widths = {what: e for what, e in widths.items() if e.value is not None}
    largest = max(row.spread, key=lambda m: abs(m[2] - m[1]))[0] if row.spread else ""
    return Section(
        id="sure",
        question="How sure is this?",
        level=verdict.level,
        verdict=verdict.text,
        why=(
            f"On {training.rows:,} published training steps of other chips, left out of the fit, the middle error is"
            f" {share_text(training.median)}, and nine in ten are below {share_text(training.p90)}.",
            f"On {serving.rows} published measurements of serving on Trainium, left out by source, it is"
            f" {share_text(serving.median)} and {share_text(serving.p90)}.",
            f"Of single facts, {fact_label(largest)} moves the answer most."
            if largest
            else "No single fact moves the answer much.",
            *(
                []
                if known.is_yours(SUBJECT)
                else [
                    "The price of Trainium 3 and its power are not published (searched 2026-11: AWS price, product and"
                    " Neuron pages)."
                ]
            ),
        ),
        numbers=(
            BriefNumber(
                name="width",
                what="how many times either way the speed of Trainium 3 in training may be off",
                estimate=exact(width, "1", "D"),
                formula="(high / low) ** 0.5",
                symbols={"high": high, "low": low},
                of=f"{known.to_train(AT, (SUBJECT,))}; {SUBJECT}.tokens_per_s_per_chip",
            ),
            *(
                BriefNumber(
                    name=f"{name}.{part}",
                    what=f"{words} of {e.work}, {e.what}, {e.without} left out of the fit",
                    estimate=exact(value, "1", "B"),
                    of=f"{known.command('validate')}; left_out",
                )
                for name, e in (("training", training), ("serving", serving))
                for part, words, value in (("median", "middle error", e.median), ("p90", "90% of the errors", e.p90))
            ),
            *(
                BriefNumber(
                    name=f"settled.{i}",
                    what=f"range of the cost of a training token with {_first_of(settles, i)}, over today's",
                    estimate=exact(one.left, "1", "D"),
                    of=f"{known.to_settle()}; rows.{i}.left",
                )
                for i, one in enumerate(settles, 1)
            ),
        ),
        commands=(
            known.command("validate"),
            *([known.to_settle()] if settles else []),
            f"mowich explain r.json {SUBJECT}.step_s",
            *([known.facts_command(f"facts show {largest}")] if largest else []),
        ),
        picture=BriefPicture.of_ranges("Tokens per second and chip, with 90% ranges", "tokens/s/chip", widths.items()),
    )
