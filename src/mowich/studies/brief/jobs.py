"""The first table of a brief: Trainium 3 against each rival in each job, for a chip and for a dollar, with the software
as shipped and with kernels written by hand, and where the other machine becomes the cheaper one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mowich.estimate import Estimate, unknown_estimate
from mowich.machines.system import resolve
from mowich.requests.brief import BRIEF_SIZES
from mowich.software.engine import about_engine, engine_for
from mowich.software.releases import release_words
from mowich.software.stack import equip
from mowich.studies.brief.decisions import NO_DIFFERENCE, NO_VERDICT, Elsewhere, flip_text, job_level, work_verdict
from mowich.studies.brief.known import AT, SERVED_JOBS, SUBJECT, Known
from mowich.studies.brief.verdicts import BriefNumber, BriefPicture, JobRow, Section, times_of
from mowich.studies.ranking import names_listed
from mowich.studies.system_row import SystemRow

TABLED = ("serve", "bulk")
"""Serving jobs with a row of the table; the other jobs are conditions that can change a verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """One machine at one job. speed: tokens per second and chip; usd: dollars for a million tokens."""

    speed: Estimate
    usd: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """Trainium 3 and a rival at one job, with the command that gives both."""

    mine: _Side
    theirs: _Side
    command: str

    @property
    def speed(self) -> Estimate:
        return times_of(self.mine.speed, self.theirs.speed)

    @property
    def dollar(self) -> Estimate:
        return times_of(self.theirs.usd, self.mine.usd)


def job_table(known: Known) -> tuple[JobRow, ...]:
    """Training, and each model served within limits and in bulk, against each rival."""
    asked = [("train", known.models[0].name)] + [(job, m.name) for m in known.models for job in TABLED]
    return tuple(_row(known, job, model, rival) for job, model in asked for rival in known.rivals)


def work_words(job: str, model: str) -> str:
    """A job in plain words."""
    return f"training {model}" if job == "train" else SERVED_JOBS[job][0].format(model)


def _row(known: Known, job: str, model: str, rival: str) -> JobRow:
    shipped, tuned = _pair(known, job, model, rival), _pair(known, job, model, rival, tuned=True)
    dollar, by_hand = shipped.dollar, tuned.dollar
    rests_on = known.decided(job, model, SUBJECT, rival)
    bases = [(s, known.bases.get((job, model, s), "")) for s in (SUBJECT, rival)]
    return JobRow(
        job=job,
        model=model,
        work=work_words(job, model),
        rival=rival,
        rival_name=known.name(rival),
        speed=shipped.speed,
        dollar=dollar,
        tuned_speed=tuned.speed,
        tuned_dollar=by_hand,
        level=job_level(dollar, rests_on=rests_on),
        flips=flip_text(
            price=float(known.price(SUBJECT)),
            dollar=dollar,
            tuned=unknown_estimate("1", NO_VERDICT)
            if known.decided(job, model, SUBJECT, rival, tuned=True)
            else by_hand,
            elsewhere=_elsewhere(known, job, model, rival),
            rests_on=rests_on,
        ),
        basis="; ".join(f"{known.name(s)}: {basis}" for s, basis in bases if basis),
        rests_on=rests_on,
        command=shipped.command,
    )


def _elsewhere(known: Known, job: str, model: str, rival: str) -> list[Elsewhere]:
    """The same comparison under the other conditions that have a plan."""
    asked = [("with hand-tuned software", job, AT, True)]
    found = dict[str, float]()
    if job == "train" and known.future is not None:
        theirs = _side(known.trained(AT, rival)).usd
        if (dollar := times_of(theirs, _side(known.future).usd).value) is not None:
            found["in a format that no software ships"] = dollar
    if job == "train":
        asked += [(f"on {n:,} chips", job, n, False) for n in BRIEF_SIZES if n > AT]
    else:
        later = list(SERVED_JOBS)[list(SERVED_JOBS).index(job) + 1 :]
        asked += [(_CONDITIONS[other], other, AT, False) for other in later]
        asked += [(f"{_CONDITIONS[other]}, hand-tuned", other, AT, True) for other in later]
    for words, other, chips, tuned in asked:
        if not known.decided(other, model, SUBJECT, rival, tuned=tuned):
            dollar = _pair(known, other, model, rival, tuned=tuned, chips=chips).dollar.value
            plain = found.get(words.removesuffix(", hand-tuned"))
            if dollar is not None and (plain is None or (plain > NO_DIFFERENCE) != (dollar > NO_DIFFERENCE)):
                found[words] = dollar
    return [Elsewhere(words=words, dollar=x) for words, x in found.items()]


_CONDITIONS = {"bulk": "where nobody waits", "long": "where answers are long and nobody waits"}
"""How a serving job differs from the jobs before it."""


def _pair(known: Known, job: str, model: str, rival: str, *, tuned: bool = False, chips: int = AT) -> _Pair:
    """The ratios of a pair. tuned: with kernels written by hand, unknown where Trainium 3 has none."""
    rows: list[SystemRow | None]
    if job == "train":
        rows = [known.trained(chips, s) for s in (SUBJECT, rival)]
        if tuned:
            rows = [known.tuned.get(SUBJECT), known.tuned.get(rival, rows[1])]
        command = known.to_train(chips, known.systems, tuned=tuned)
    else:
        rows = [known.serving(model, s, job) for s in (SUBJECT, rival)]
        if tuned:
            hand = [known.served_tuned.get((job, model, s)) for s in (SUBJECT, rival)]
            rows = [hand[0], hand[1] or rows[1]]
        command = known.to_serve(model, known.systems, job, tuned=tuned)
    sides = [_side(row) for row in rows]
    return _Pair(mine=sides[0], theirs=sides[1], command=command)


def _side(row: SystemRow | None) -> _Side:
    """One side of a pair. A training row that may not fit at the low end of the memory counts as planned, as in
    `compare`."""
    if row is None or row.feasible is False:
        reason = "no software with kernels written by hand" if row is None else row.reason or "no plan"
        return _Side(speed=unknown_estimate("1/s", reason), usd=unknown_estimate("USD/Mtok", reason))
    return _Side(speed=row.tokens_per_s_per_chip, usd=row.usd_per_mtok)


def jobs_section(known: Known, table: Sequence[JobRow]) -> Section:
    """The work for which Trainium 3 is the better buy."""
    levels: dict[str, dict[str, str]] = {}
    for row in table:
        levels.setdefault(row.rival_name, {})[row.work] = row.level
    verdict = work_verdict(levels)
    return Section(
        id="jobs",
        question="For which work is it the better buy?",
        level=verdict.level,
        verdict=verdict.text,
        why=_why(known, table),
        numbers=tuple(n for row in table for n in _numbers(known, row)),
        commands=tuple(dict.fromkeys(row.command for row in table)),
        picture=BriefPicture.of_ranges(
            "Tokens of a dollar on Trainium 3 over those on its rivals",
            "times",
            ((f"{row.work}, beside {row.rival_name}", row.dollar) for row in table if row.dollar.value is not None),
        ),
    )


def _why(known: Known, table: Sequence[JobRow]) -> tuple[str, ...]:
    why = [known.priced_words()]
    if any(row.tuned_dollar.value is not None for row in table):
        too = [known.name(s) for s in known.rivals if s in known.tuned]
        others = f"of its rivals {names_listed(too)} too" if too else "its rivals run what their makers ship"
        why.append(f"Hand-tuned is Trainium 3 with kernels written by hand, which a customer does not get; {others}.")
    why += _software(known)
    bases = {
        f"{'training' if job == 'train' else 'serving'} {model} on {known.name(who)} ({basis})": None
        for (job, model, who), basis in known.bases.items()
        if who in known.systems
    }
    if bases:
        why.append(
            "As of November 2026 no row measures these on that chip, so grade D and with a wide range:"
            f" {names_listed(list(bases))}."
        )
    undecided = {
        f"{work_words(job, m.name)} on {known.name(s)}": None
        for job in TABLED
        for m in known.models
        for s in known.systems
        if known.serving(m.name, s, job).undecided
    }
    if undecided:
        why.append(f"No figure in dollars where the fixed time of a step decides: {names_listed(list(undecided))}.")
    rests = sorted({row.rests_on for row in table if row.level == NO_VERDICT})
    if rests:
        why.append(
            f"Where there is no verdict, the rate follows one constant ({', '.join(rests)}), and the rows that it was"
            " fitted to contradict each other."
        )
    return tuple(why)


def _numbers(known: Known, row: JobRow) -> list[BriefNumber]:
    """The ratios of a line, their rates, and the price at which a token costs the same."""
    out = []
    for software, is_tuned in (("shipped", False), ("tuned", True)):
        pair = _pair(known, row.job, row.model, row.rival, tuned=is_tuned)
        words = f"{row.work}, Trainium 3{' hand-tuned' if is_tuned else ''} over {row.rival_name}"
        words += f" ({row.basis})" if row.basis else ""
        name = f"{software}.{row.job}.{row.model}.{row.rival}"
        speeds, costs = (pair.mine.speed, pair.theirs.speed), (pair.mine.usd, pair.theirs.usd)
        for part, what, ratio, formula, sides, key in (
            ("speed", "tokens per second and chip", pair.speed, "trn3 / rival", speeds, "tokens_per_s_per_chip"),
            ("dollar", "tokens of a dollar", pair.dollar, "rival / trn3", costs, "usd_per_mtok"),
        ):
            if ratio.value is not None:
                out.append(
                    BriefNumber(
                        name=f"{name}.{part}",
                        what=f"{what}, {words}",
                        estimate=ratio,
                        formula=formula,
                        symbols=dict(zip(("trn3", "rival"), map(float, sides), strict=True)),
                        of=f"{pair.command}; {key}",
                    )
                )
    return out


def numbers_of_rows(
    known: Known, key: str, training: tuple[str, str], serving: tuple[str, str]
) -> Iterator[BriefNumber]:
    """A figure of every row: of training on each machine that has a plan, and of serving each model within limits. key:
    of the figure in a row; training, serving: name and words of its numbers, with places for the machine, and for the
    model before it."""
    name, what = training
    for s in known.systems:
        row = known.trained(AT, s)
        if row.plan is not None:
            of = f"{known.to_train(AT, known.systems)}; {s}.{key}"
            yield BriefNumber(name=name.format(s), what=what.format(known.name(s)), estimate=getattr(row, key), of=of)
    name, what = serving
    for model, s, served in known.served_rows():
        of, words = f"{known.to_serve(model, known.systems)}; {s}.{key}", what.format(model, known.name(s))
        yield BriefNumber(name=name.format(model, s), what=words, estimate=getattr(served, key), of=of)


def _software(known: Known) -> list[str]:
    """The software that a customer gets, and what formats that it lacks would gain."""
    platform = equip(known.facts, SUBJECT)
    engine = engine_for(known.facts, resolve(known.facts, SUBJECT), None)
    named = {"training": f"training.{platform.stack.name}", "serving": f"serving.{engine}"}
    said = {job: release_words(known.facts, path).get("release", "") for job, path in named.items()}
    told = [f"{job} with {words}" for job, words in said.items() if words]
    why = [f"The software that a customer gets: {'; '.join(told)}."] if told else []
    for model in known.models:
        ships = about_engine(known.facts, engine, model.name, platform.chip).get("ships")
        why += [f"Of kernels written by hand one ships: {ships}."] if ships else []
    if known.future is not None:
        row = known.trained(AT, SUBJECT)
        gain = times_of(known.future.tokens_per_s_per_chip, row.tokens_per_s_per_chip)
        formats = names_listed([name.upper() for name in platform.not_shipped])
        why.append(
            f"No software trains in {formats} on it, so it trains in 16 bit here; with software that did, a chip would"
            f" train {float(gain):.1f} times as fast (--recipe future)."
        )
    return why
