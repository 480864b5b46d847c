"""The page of serving: systems compared, or the plans of one, with what users see, throughput, cost, and the front
between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mowich.price_terms import term_words
from mowich.serving.anchors import NearRow
from mowich.show import charts, charts_parts
from mowich.show.charts import Chart
from mowich.show.colours import looks_of
from mowich.show.compare import marks_said
from mowich.show.formats import in_flight_words, interval, number_text, percent, seconds
from mowich.show.headline import Headline, chips_differ, headline, layout, words_beside
from mowich.show.headline import estimate_seconds as ranged_seconds
from mowich.show.page import (
    NOTE,
    NOTE_MARKED,
    NOTHING,
    Cell,
    Column,
    Details,
    Format,
    LateCharts,
    More,
    Page,
    Part,
    Run,
    Table,
    Words,
    estimate_of,
    paragraphs,
)
from mowich.show.page import notes as remarks
from mowich.show.price_lines import breakeven_lines, joules_text, price_line_charts, range_of
from mowich.show.rows import (
    BEST_PLANS,
    chips_line,
    fullest_words,
    grouped,
    grouped_words,
    kinds,
    kinds_of_systems,
    model_of,
    place_words,
    preferred_lines,
    price_line,
    priced_words,
    ranked_figure,
    release_lines,
    row_cells,
    shares_span,
    size_words,
    unmeasured_line,
)
from mowich.show.yearly import there_lines, yearly_charts, yearly_parts
from mowich.shown import Result
from mowich.studies.ranking import rows_of, runs
from mowich.sums import float_sum
from mowich.units import sig

if TYPE_CHECKING:
    from mowich.evidence.serving_points import MeasuredDot

FRONT_TITLE = "Throughput of a chip against speed for a user"
FRONT_AXES = ("tokens/s per user", "tokens/s per chip")
"""The picture of a front and its axes."""

MOST_NEAR = 3
"""Measured rows beside the first plan."""

FRONT_ROWS = 8
"""Points of the front that a terminal shows."""


def serve_page(result: Result, run: Run) -> Page:
    """Serving plans of one system, or the best of several."""
    inputs, is_plan = result["inputs"], "plans" in result
    rows, found = rows_of(result), headline(result)
    named = [(str(i) if is_plan else str(r["system"]), r) for i, r in enumerate(rows, 1)]
    front: Sequence[Result] = result.get("front") or ()
    reasons = [] if is_plan else [f"{r['system']}: {r['reason']}" for r in rows if r.get("reason")]
    reasons += list(dict.fromkeys(f"{r['system']}: {r['undecided']}" for r in rows if r.get("undecided")))
    reasons += there_lines(inputs)
    reasons += [] if is_plan else breakeven_lines(rows, inputs)
    parts: list[Part] = [
        Words(text=requests_line(inputs, run) + priced_words(rows, inputs), kind="job", gap=True),
        _answers(named, found, is_plan=is_plan),
        *yearly_parts(rows, inputs),
        *remarks(reasons, result.get("warnings", ())),
        *paragraphs(preferred_lines(result), "note"),
    ]
    parts += [*_best(rows[0]), *_modes(named)] if is_plan and rows[0].get("feasible") else []
    parts += paragraphs(_kept(named), "note")
    parts += paragraphs(_measured_rows(named[:1] if is_plan else named, is_plan=is_plan), "note")
    parts += paragraphs(_arrivals(result, inputs), "note")
    parts += _front(front) if front else []
    parts += paragraphs([_evaluated(result, run), *_rests(rows, inputs, run)], "basis", indent=0, gap=True)
    parts.append(Words(text=_next(named, inputs, run.saved), kind="next", indent=0))
    return Page(
        title=f"{inputs.get('model')}: {'serving plans' if is_plan else 'serving compared'}",
        sentences=found.sentences,
        assumptions=_strip(result),
        parts=parts,
        charts=LateCharts(
            lambda: [
                *_pictures(result, found, front),
                *yearly_charts(rows, inputs),
                *([] if is_plan else price_line_charts(rows, inputs)),
            ]
        ),
        records=rows,
        inputs=inputs,
        marks=found.marks(len(rows)),
        beside=words_beside(rows),
    )


# words
# ----------------------------------------------------------------------------------------------------------------------


def requests_line(inputs: Result, run: Run) -> str:
    """The model, the requests and their limits in one line."""
    limits = [
        f"{name} {seconds(inputs[key])}" for name, key in (("TTFT", "ttft_s"), ("TPOT", "tpot_s")) if inputs.get(key)
    ]
    text = (
        f"{inputs['model']}{size_words(inputs, run)}: prompts of {inputs['isl']:g} tokens{images_words(inputs)} and"
        f" answers of {inputs['osl']:g}; limits: {', '.join(limits) or 'none'}"
    )
    text += place_words(inputs)
    cached = inputs.get("cached")
    if isinstance(cached, str):
        return f"{text}; prompts cached: what the memory left keeps of {cached}"
    return text + (f"; {percent(cached)} of prompts cached" if cached else "")


def _kept(named: Sequence[tuple[str, Result]]) -> list[str]:
    """The share of prompt tokens that each row finds in its cache, where that follows from a trace."""
    found = {name: percent(row["cached_frac"]) for name, row in named if row.get("cached_frac") is not None}
    said = ", ".join(f"{name} {share}" for name, share in found.items())
    return [f"prompt tokens that the memory left keeps: {said}"] if found else []


def images_words(inputs: Result) -> str:
    """The images beside the text of a prompt."""
    images = inputs.get("images")
    if not images:
        return ""
    return (
        f" with {images['count']:g} images of {images['width']:.0f} x {images['height']:.0f} pixels"
        f" ({images['tokens']:,.0f} tokens)"
    )


def _strip(result: Result) -> list[tuple[str, str]]:
    inputs = result["inputs"]

    def limit(key: str) -> str:
        return "none" if inputs.get(key) is None else f"{number_text(inputs[key], 1e3)} ms"

    return [
        ("model", str(inputs.get("model"))),
        ("prompt, tokens", f"{inputs['isl']:g}"),
        ("output, tokens", f"{inputs['osl']:g}"),
        ("TTFT limit", limit("ttft_s")),
        ("TPOT limit", limit("tpot_s")),
        ("prompts cached", cached if isinstance(cached := inputs.get("cached") or 0.0, str) else percent(cached)),
        ("engines", ", ".join(f"{s['system']}: {s['engine']}" for s in inputs["systems"])),
        ("kind of price", term_words(inputs.get("price_term"))),
        ("facts", str(result.get("facts_hash") or "")),
    ]


def _best(row: Result) -> list[Part]:
    """The ranges of the best plan."""
    tpot = estimate_of(row["tpot_s"])
    text = (
        f"ranges (90%) of the first: TTFT {ranged_seconds(estimate_of(row['ttft_s']))}, TPOT {ranged_seconds(tpot)},"
        f" {interval(estimate_of(row['tokens_per_s_per_chip']))} tokens/s per chip, grade {tpot.grade}"
    )
    return [Words(text=text, kind="note", gap=True)]


_MODES = {
    "aggregated": "workers that do prompts and answers",
    "disaggregated": "prompts and answers on workers of their own",
}


def _modes(named: Sequence[tuple[str, Result]]) -> list[Part]:
    """The best plan with prompts on workers of their own beside the best without, where both are among the plans."""
    best: dict[str, tuple[str, Result]] = {}
    for name, row in named:
        if runs(row) and row.get("feasible"):
            best.setdefault(str(row["mode"]), (name, row))
    if len(best) < len(_MODES):
        return []
    said = [
        f"{_MODES[mode]} {interval(estimate_of(row['tokens_per_s_per_chip']))} tokens/s per chip (plan {name})"
        for mode, (name, row) in best.items()
    ]
    return [Words(text=f"best of each kind: {'; '.join(said)}", kind="note")]


def _rests(rows: Sequence[Result], inputs: Result, run: Run) -> list[str]:
    """Prices, which constants and engines the times rest on, and the format of the weights."""
    said = kinds_of_systems(rows, "tpot_s")
    engines: dict[str, list[str]] = {}
    for entry in inputs["systems"]:
        name = f"{entry['engine']} ({entry['about']})" if "about" in entry else entry["engine"]
        engines.setdefault(name, []).append(entry["system"])
    pages = ["mowich help accuracy-serving"]
    if any("about" in entry for entry in inputs["systems"]):
        pages = ["mowich help accuracy-trainium", *(pages if any("about" not in e for e in inputs["systems"]) else [])]
    prices = price_line(list({(r["system"], r.get("price")): r for r in rows}.values()), inputs)
    if not said:
        return [prices]
    return [
        prices,
        *_by_kernels(rows),
        f"Times rest on constants: {'; '.join(said)}. Engine: {', '.join(grouped(engines))}. How far to trust"
        f" them: {', '.join(pages)}.",
        *release_lines(inputs, "engine"),
        *unmeasured_line(rows, inputs),
        *_weights(rows, inputs, run),
    ]


def _weights(rows: Sequence[Result], inputs: Result, run: Run) -> list[str]:
    """In which format the weights are served where nobody chose one, and what the checkpoint says."""
    found = {str(row["system"]): str(row["decode"]["precision"]) for row in rows if row.get("decode")}
    model = model_of(inputs, run)
    if not found or model is None or {"weights", "decode", "prefill"} & set(inputs.get("fixed") or {}):
        return []
    form, said = model.storage.form, ", ".join(grouped_words(found))
    if form == "bf16" and not model.config_precision:
        said += ", assumed because the model's config does not say how they are stored"
    else:
        said += ", as the checkpoint has them" if set(found.values()) == {form} else f"; the checkpoint has {form}"
    more = "; --set plan.weights=fp8 asks for 8 bits" if form == "bf16" else ""
    return [f"Weights: {said}{more}."]


_KERNEL_WORK = ("linear", "head", "experts", "attention", "prefill_attention")
"""Parts of a token that are products and attention."""


def _by_kernels(rows: Sequence[Result]) -> list[str]:
    """Of the products and the attention of a token, the share of the time that operator tables of kernels hold."""
    found: dict[str, list[float]] = {}
    for row in rows:
        tpot = estimate_of(row["tpot_s"])
        held = tpot.coverage.get("simulated kernels", 0.0)
        work = float_sum(tpot.breakdown.get(name, 0.0) for name in _KERNEL_WORK)
        if runs(row) and held > 0 and tpot.value and work > 0:
            found.setdefault(row["system"], []).append(min(1.0, held * tpot.value / work))
    if not found:
        return []
    said = grouped_words({system: shares_span(shares) for system, shares in found.items()})
    return [f"Products and attention of a token, by operator tables of simulated kernels: {'; '.join(said)}."]


def _arrivals(result: Result, inputs: Result) -> list[str]:
    """What Poisson arrivals do to the times of the first plan, which are those of a steady load."""
    at = result.get("random_arrivals")
    if not at:
        return []
    said = f"times are of a steady load; under a plan, of Poisson arrivals at {at['share']:.0%} of its rate, played out"
    if at["is_overloaded"]:
        return [
            f"{said}: plan 1 is overloaded by them; fewer requests, or --rate, which finds how many chips they need"
        ]
    beyond = [
        f"{name} of {seconds(tail)} at the 99th percentile is above the limit of {seconds(limit)}"
        for name, key in (("TTFT", "ttft_s"), ("TPOT", "tpot_s"))
        if (limit := inputs.get(key)) and (tail := at[f"p99_{key}"]["value"]) and tail > limit
    ]
    rest = f": plan 1 at {sig(at['requests_per_s'])} requests/s: {', '.join(beyond)}" if beyond else ""
    return [f"{said}{rest}; --rate with --p99-ttft or --p99-tpot finds the fewest chips that keep limits at the tail"]


def _at_random(row: Result) -> str:
    """What random arrivals do to a plan: means, and the 99th percentiles in brackets."""
    at = row.get("random_arrivals")
    if not at:
        return NOTHING
    if at["is_overloaded"]:
        return "at random: overloaded"
    return "at random: " + ", ".join(
        f"{name} {seconds(at[key]['value'])} (p99 {seconds(at[f'p99_{key}']['value'])})"
        for name, key in (("TTFT", "ttft_s"), ("TPOT", "tpot_s"))
    )


def measured_line(measured: Result | None, most: int = MOST_NEAR) -> str:
    """How far away measured rows stand from an answer, and up to `most` of the nearest with their correlation; ""
    where nothing is said."""
    if not measured or not measured["distance"]:
        return ""
    rows = "; ".join(NearRow(**near).words() for near in measured["nearest"][:most])
    return f"{measured['distance']}{f'; nearest rows (correlation, 0 to 1): {rows}' if rows else ''}"


def _measured_rows(named: Sequence[tuple[str, Result]], *, is_plan: bool) -> list[str]:
    """How far away measured rows stand from each answer, and the nearest of them with its correlation."""
    said = []
    for name, row in named:
        words = measured_line(row.get("measured"), MOST_NEAR if is_plan else 1)
        said += [f"{'plan 1' if is_plan else name}: {words}"] if words else []
    return said


def _evaluated(result: Result, run: Run) -> str:
    took = "" if run.seconds is None else f", in {sig(run.seconds)} s"
    return (
        f"evaluated {result['evaluated']} points and pairs of workers, {result['feasible']} within the limits{took}."
        " Steady state of a closed loop; mowich traffic adds queues and tails."
    )


def _next(named: Sequence[tuple[str, Result]], inputs: Result, saved: str) -> str:
    """What may be asked next."""
    first = next(((n, r) for n, r in named if runs(r)), None)
    if first is None:
        return f"Next: more --chips, looser limits, or mowich fit {inputs['model']} --serve --kv ..."
    save = "" if saved else "add --out r.json, then "
    more = "--set plan.tp=8 fixes a choice" if first[0] == "1" else f"mowich plan ... --on {first[0]} --top 5"
    return f"Next: {save}mowich explain {saved or 'r.json'} {first[0]}.tpot_s  |  {more}"


# tables
# ----------------------------------------------------------------------------------------------------------------------


def _columns(*, is_plan: bool, sized: bool, at_random: bool = False, paid: bool = False) -> list[Column]:
    shape: Format = "number" if is_plan else "interval"
    first, token = (60, 61) if is_plan else (31, 32)  # both before the kind of the price, which a line below tells
    served = Column(name="served", unit="T tokens", short="Ttok", format="interval", scale=1e-12, of="tokens_served")
    return [
        Column(name="#" if is_plan else "system", right=False),
        Column(name="meets limits", right=False, wide=True),
        Column(name="chips", keep=40, wide=is_plan or not sized),
        Column(name="plan", right=False, keep=0, below=is_plan),
        *([Column(name="random arrivals", right=False, keep=0, below=True)] if at_random else []),
        Column(name="batch", keep=3),
        Column(
            name="TTFT", unit="ms", short="TTFT", format="seconds", scale=1e3, keep=first, marked=False, of="ttft_s"
        ),
        Column(
            name="TPOT",
            unit="ms",
            short="TPOT ms",
            format="number",
            scale=1e3,
            keep=token,
            marked=False,
            of="tpot_s",
        ),
        Column(name="tokens/s/chip", short="tok/s/chip", format=shape, of="tokens_per_s_per_chip"),
        Column(
            name="tokens/s/user", short="tok/s/user", format="number", keep=4, marked=False, of="tokens_per_s_per_user"
        ),
        Column(name="$/Mtok", format=shape, of="usd_per_mtok"),
        Column(name="price", right=False, keep=30, wide=is_plan),
        Column(name="J/token", format="number", keep=2, marked=False, of="J_per_token"),
        *([served] if paid else []),
        Column(name="break-even $/chip/h", format="interval", wide=True, of="breakeven_usd_per_chip_h"),
        Column(name="grade", keep=50),
        Column(name="rests on", right=False, wide=True),
        Column(name="binds", right=False, keep=1),
    ]


def _line(name: str, row: Result, found: Headline, place: int, shown: Sequence[Column], at: str = "") -> list[Cell]:
    tpot = estimate_of(row["tpot_s"])
    own = {
        "#": name,
        "system": name,
        "plan": layout(row),
        "random arrivals": _at_random(row),
        "batch": in_flight_words(row["batch"]),
        "grade": tpot.grade if tpot.value is not None else NOTHING,
        "rests on": kinds(tpot.coverage) or NOTHING,
        "binds": str(row["binds"]),
    }
    return row_cells(shown, row, lambda metric: ranked_figure(found, row, metric, place, f"{at}{name}"), own)


def _answers(named: Sequence[tuple[str, Result]], found: Headline, *, is_plan: bool) -> Table:
    rows = [r for _, r in named]
    metrics = ("usd_per_mtok", "tokens_per_s_per_chip", "tokens_served")
    at_random, paid = (any(r.get(key) for r in rows) for key in ("random_arrivals", "tokens_served"))
    shown = _columns(is_plan=is_plan, sized=chips_differ(rows), at_random=at_random, paid=paid)
    return Table(
        title="Answers",
        columns=shown,
        rows=[_line(name, r, found, i, shown) for i, (name, r) in enumerate(named)],
        note=NOTE if is_plan else NOTE_MARKED,
        legend=[] if is_plan else ["   ".join(marks_said(found, metrics)), BEST_PLANS],
        details=None
        if is_plan
        else Details(
            title="Plans",
            when="plan",
            rows=[_detail(r) for r in rows if r.get("decode")],
            instead_of=("plan", "batch", "binds", "J/token"),
        ),
    )


def _detail(row: Result) -> tuple[str, list[More], list[More]]:
    """The whole plan, chips, batch, the ranges that users see, and what had no room in the table."""
    first = [
        More("", layout(row)),
        More("", chips_line(row)),
        More("", f"batch {in_flight_words(row['batch'])}"),
        More("", f"binds: {row['binds']}"),
    ]
    second = [
        More("", f"TTFT {ranged_seconds(estimate_of(row['ttft_s']))}"),
        More("", f"TPOT {ranged_seconds(estimate_of(row['tpot_s']))}"),
        More("J/token", joules_text(row)),
    ]
    return str(row["system"]), first, second


def _front(front: Sequence[Result]) -> list[Part]:
    """The front between speed and throughput."""
    none, columns = Headline(sentences=()), _columns(is_plan=True, sized=False)
    return [
        Words(text="fastest user to cheapest token:", kind="caption", gap=True),
        Table(
            title="Front, fastest user to cheapest token",
            columns=columns,
            rows=[_line(str(i), r, none, i, columns, "front.") for i, r in enumerate(front, start=1)],
            gap=False,
            most=FRONT_ROWS,
            thinned=True,
        ),
    ]


# pictures
# ----------------------------------------------------------------------------------------------------------------------


def _pictures(result: Result, found: Headline, front: Sequence[Result]) -> list[Chart]:
    is_plan = "plans" in result
    every = [(str(i) if is_plan else str(r["system"]), r) for i, r in enumerate(rows_of(result), 1)]
    rows = [(n, r) for n, r in every if runs(r)]
    names, looks = [n for n, _ in every], looks_of(rows)
    out = _fronts(result, rows, front, found, names)
    if not rows:
        return out
    note = "The line is the 90% range of the whole."
    for key, title in (
        ("tpot_s", "Where the time per output token goes"),
        ("ttft_s", "Where the time to the first token goes"),
    ):
        own = charts_parts.CACHE_READ if key == "tpot_s" else None
        out.append(charts_parts.time_bars(title, note, [(n, r[key]) for n, r in rows], unit="ms", scale=1e3, own=own))
    priced = [(n, r) for n, r in rows if estimate_of(r["usd_per_mtok"]).value is not None]
    for key, title, scale, unit, of in (
        ("usd_per_mtok", "Cost of a million output tokens", 1.0, "$ per million tokens", priced),
        ("tpot_s", "Time per output token with its 90% range", 1e3, "ms", rows),
        ("ttft_s", "Time to the first token with its 90% range", 1e3, "ms", rows),
    ):
        bars = [
            (n, scale * e.low, scale * float(e), scale * e.high)
            for n, r in of
            if (e := estimate_of(r[key])).low and e.high
        ]
        if bars:
            why = (found.why_not(key) if len(bars) > 1 else "") or "Rows whose ranges overlap are not ranked."
            said = found.best_words(names, {key: "Cheapest" if key == "usd_per_mtok" else "Shortest"})
            out.append(charts.ranges(title, why, bars, unit=unit, log=True, looks=looks, finding=said))
    title = "Memory of a decoding device against what a program may use"
    return [*out, charts_parts.memory_bars(rows, title=title, finding=fullest_words(rows))]


def fronts_of(result: Result) -> dict[str, list[tuple[float, float, str]]]:
    """The front between speed and throughput, of one system or of each: (tokens/s per user, per chip, label)."""
    front: Sequence[Result] = result.get("front") or ()
    if front:
        speeds = [
            (estimate_of(r["tokens_per_s_per_user"]), estimate_of(r["tokens_per_s_per_chip"]), layout(r)) for r in front
        ]
        return {"front": [(float(user), float(chip), plan) for user, chip, plan in speeds]}
    rows = [(str(r["system"]), r) for r in rows_of(result) if runs(r) and r.get("front")]
    return {name: [(user, chip, name) for user, chip in r["front"]] for name, r in rows}


def _fronts(
    result: Result,
    rows: Sequence[tuple[str, Result]],
    front: Sequence[Result],
    found: Headline,
    names: Sequence[str],
) -> list[Chart]:
    """Throughput of a chip against the speed that a user sees: the front of each system, the limit, each answer with
    its range, and what was measured of the same model and chip."""
    inputs, lines, looks = result["inputs"], fronts_of(result), looks_of(rows)
    if front and looks:
        looks = {"front": next(iter(looks.values()))}
    if not lines:
        return []
    answers = {}
    for name, r in [("front", r) for _, r in rows[:1]] if front else rows:
        user, chip = estimate_of(r["tokens_per_s_per_user"]), estimate_of(r["tokens_per_s_per_chip"])
        if user.value is not None and chip.value is not None:
            answers[name] = (float(user), float(chip), layout(r)), range_of(user), range_of(chip)
    limit = ("longest time per token", 1.0 / inputs["tpot_s"]) if inputs.get("tpot_s") else None
    measured = _measured(rows, front, str(inputs["model"]))
    note = "Up and right is better: no plan beats a point of a front in both."
    note += " Left of the limit users wait too long." if limit else ""
    note += (
        " Hollow dots were measured with weights of the same format, each with lengths of its own (Numbers)."
        if measured
        else ""
    )
    return [
        charts.points(
            FRONT_TITLE,
            note,
            lines,
            x=FRONT_AXES[0],
            y=FRONT_AXES[1],
            log_y=True,
            line=True,
            looks=looks,
            limit=limit,
            hollow={n: [(d.user, d.chip, d.label) for d in dots] for n, dots in measured.items()},
            hollow_is={n: f"measured ({_sources(dots)})" for n, dots in measured.items()},
            answers=answers,
            finding=found.best_words(names, {"tokens_per_s_per_chip": "Most tokens per chip within the limits"}),
        )
    ]


def _measured(
    rows: Sequence[tuple[str, Result]], front: Sequence[Result], model: str
) -> Mapping[str, Sequence[MeasuredDot]]:
    """Measured points of the model on the chip of each row, with weights as the row's plan has them, of the tables that
    ship; nothing where there are none."""
    from mowich.evidence.serving_points import measured_points  # not above: it brings the model of serving

    out = {}
    for name, row in rows[:1] if front else rows:
        dots = measured_points(model, str(row["system_id"]), str(row["decode"]["precision"]))
        if dots:
            out["front" if front else name] = dots
    return out


def _sources(dots: Sequence[MeasuredDot]) -> str:
    """Who measured: the first source, and how many more."""
    first, *others = dict.fromkeys(dot.source for dot in dots)
    return f"{first} and {len(others)} more" if others else first
