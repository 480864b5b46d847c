"""What pages of training comparisons and of training plans have in common: cells of a row, and what its numbers rest
on. Rows are those of the JSON contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mowich.models.builtin import builtin, builtin_name
from mowich.models.given import model_of_inputs
from mowich.models.model import Model
from mowich.price_terms import price_words, term_words
from mowich.requests.footing import is_paid
from mowich.show.charts_parts import short_part
from mowich.show.formats import UNKNOWN, gib, spread
from mowich.show.headline import Headline, chips_cell, terms_cell, usd_of_run
from mowich.show.page import NOTHING, Cell, Column, Figure, Run, TextCell, estimate_of, figure
from mowich.shown import Result
from mowich.software.stack import RECIPE_CHOSEN
from mowich.studies.binding import TOLD_CHANCE
from mowich.studies.ranking import runs
from mowich.studies.stated_plan import plan_words
from mowich.sums import float_sum
from mowich.units import show, show_count

SHORT_BINDS: Mapping[str, str] = {
    "hbm capacity": "HBM size",
    "hbm bandwidth": "HBM rate",
    "expert all-to-all": "EP links",
    "tensor-parallel links": "TP links",
    "data-parallel network": "DP network",
    "no legal plan": "no plan",
}


# cells
# ----------------------------------------------------------------------------------------------------------------------


def plan_of(row: Result) -> str:
    """The plan of a row in full; "-" for none."""
    return plan_words(row.get("plan"))


def used_B(row: Result) -> float:
    """Bytes of a device that a row's plan takes."""
    return float_sum((row.get("memory_B") or {}).values())


def fullest_words(rows: Sequence[tuple[str, Result]]) -> str:
    """Which row fills most of what a program may use of its memory, and how far."""
    shares = {name: used_B(row) / row["memory_capacity_B"] for name, row in rows if row.get("memory_capacity_B")}
    if not shares:
        return ""
    name = max(shares, key=lambda n: shares[n])
    return f"{'Plan ' if name.isdigit() else ''}{name} is fullest: {shares[name]:.0%} of its memory"


def memory_cell(row: Result) -> str:
    """ "15.5/24.0": GiB of a device, used and usable; "?" behind them where the range of the memory decides."""
    if not row.get("memory_B") or not row.get("memory_capacity_B"):
        return UNKNOWN
    fits = "?" if row.get("feasible") is None and runs(row) else ""
    return f"{gib(used_B(row))}/{gib(float(row['memory_capacity_B']))}{fits}"


def memory_chance(row: Result) -> str:
    """ "4%", "less than 1%": the chance that a device of a row's plan runs out of memory."""
    chance = float(row["out_of_memory"])
    if chance < 0.01:
        return "less than 1%"
    return "more than 99%" if chance > 0.99 else f"{chance:.0%}"


def memory_chance_lines(rows: Sequence[tuple[str, Result]]) -> list[str]:
    """What is told of plans that may run out of memory, by the name of the row; of all others nothing."""
    told = [(name, row) for name, row in rows if float(row.get("out_of_memory") or 0.0) >= TOLD_CHANCE]
    if not told:
        return []
    words = ", ".join(
        f"{name} {memory_chance(row)} (needs {gib(row['memory_range_B']['low'])} to"
        f" {gib(row['memory_range_B']['high'])} of {gib(float(row['memory_capacity_B']))} GiB)"
        for name, row in told
    )
    return [f"Chance of running out of memory: {words}. A plan is taken when the middle of its range fits."]


def fits_cell(row: Result) -> TextCell:
    """Whether a row fits, meets its limits; why not is behind it."""
    return TextCell({True: "yes", False: "no", None: "depends"}[row.get("feasible")], str(row.get("reason") or ""))


def chips_text(row: Result) -> TextCell:
    """Chips in use, and paid for where these are more."""
    words = chips_cell(int(row.get("chips_used") or 0), int(row.get("chips_requested") or 0))
    return TextCell(words, "used / paid for" if "/" in words else "")


def terms_text(row: Result) -> TextCell:
    """The terms of a row's price; the price is behind them."""
    price = str(row.get("price") or "")
    return TextCell(terms_cell(price, short=True), price_words(price))


def binds_text(row: Result) -> TextCell:
    """What binds a row, in few words where room is short."""
    words = str(row.get("binds") or "")
    if runs(row):
        return TextCell(words, short=SHORT_BINDS.get(words, words))
    return TextCell(words, short=why_not(row))


def why_not(row: Result) -> str:
    """Why a row has no plan, in two words."""
    words = str(row.get("binds") or "")
    return "does not fit" if words == "hbm capacity" else SHORT_BINDS.get(words, words or "no plan")


def ranked_figure(found: Headline, row: Result, metric: str, place: int, name: str, short: str | None = None) -> Figure:
    """A number of a row with the mark that it has among its rivals."""
    known = metric in found.rankings and found.rankings[metric].best is not None
    return figure(row.get(metric), f"{name}.{metric}", found.mark(metric, place) if known else None, short)


_USUAL: Mapping[str, Callable[[Result], Cell]] = {
    "fits": fits_cell,
    "meets limits": fits_cell,
    "chips": chips_text,
    "plan": plan_of,
    "memory, GiB/device": memory_cell,
    "price": terms_text,
    "binds": binds_text,
    "survives failures by": lambda row: str(row.get("survival") or NOTHING),
}
"""Name of a column -> what its cell shows of a row, in tables of answers of every kind of work."""


def row_cells(
    columns: Sequence[Column], row: Result, number: Callable[[str], Cell], own: Mapping[str, Cell]
) -> list[Cell]:
    """A row of a table of answers. number: of each column that says which number it is of; own: the cells that are not
    the usual ones, by the name of their column."""
    return [
        number(column.of) if column.of else own[column.name] if column.name in own else _USUAL[column.name](row)
        for column in columns
    ]


# the work that was asked
# ----------------------------------------------------------------------------------------------------------------------


def model_of(inputs: Result, run: Run) -> Model | None:
    """The model of an answer: the one that it was made with, else the one that ships under its name."""
    if run.model is not None:
        return run.model
    carried = model_of_inputs(inputs)
    if carried is not None:
        return carried
    found = builtin_name(str(inputs.get("model_given") or inputs.get("model") or ""))
    model = None if found is None else builtin(found)
    is_same = model is not None and inputs.get("model_params", model.params) == model.params
    return model if is_same else None


def short_count(value: float) -> str:
    """A count with three significant digits: 37552282624 -> "37.6B"."""
    return show_count(float(f"{value:.3g}"))


def paid_words(inputs: Result) -> str:
    """What a budget is: "$2M for 30 days"."""
    return f"${short_count(usd_of_run(inputs))} for {float(inputs['days']):g} days"


def size_words(inputs: Result, run: Run) -> str:
    """ " (671B, 37.6B active)": the size of the model, "" where it is not known."""
    model = model_of(inputs, run)
    if model is None:
        return ""
    active = f", {short_count(model.params_active)} active" if model.params_active != model.params else ""
    return f" ({short_count(model.params)}{active})"


def job_line(inputs: Result, run: Run) -> str:
    """The model and the training job in one line."""
    tokens = f"{show_count(float(inputs['tokens']))} tokens, " if inputs.get("tokens") else ""
    what = (
        f"{inputs['model']}{size_words(inputs, run)}: train {tokens}seq {inputs['seq']}, batch"
        f" {show_count(round(float(inputs['batch_seqs'])))}"
    )
    if inputs.get("batch_within"):
        what += f" within {float(inputs['batch_within']):.0%}"
    if inputs.get("lora_rank"):
        what += f", LoRA rank {inputs['lora_rank']} on {' '.join(map(str, inputs['lora_targets']))}"
    elif inputs.get("train_task"):
        what += f", {inputs['train_task']}"
    if inputs.get("document"):
        what += f", documents of {float(inputs['document']):.0f}"
    if inputs.get("fill"):
        what += f", {float(inputs['fill']):.0%} filled"
    named = {str(s["optimizer"]) for s in inputs.get("systems", ()) if isinstance(s, dict) and s.get("optimizer")}
    if named:
        what += f", optimizer {', '.join(sorted(named))}"
    if inputs.get("sites"):
        what += (
            f", {inputs['sites']} sites that exchange every {inputs['outer_every']} steps at"
            f" {show(float(inputs['site_Bps']), 'B/s')}"
        )
    return what + _chips_asked(inputs)


def place_words(inputs: Result) -> str:
    """What says how many chips there are, where that is no number: money, or the power of a site."""
    if is_paid(inputs):
        there = any(isinstance(s, Mapping) and s.get("price_term") for s in inputs.get("systems", ()))
        return f"; {paid_words(inputs)} on each system{', electricity of chips that are there' if there else ''}"
    if inputs.get("power_W"):
        return f"; chips that {show(float(inputs['power_W']), 'W')} at the meter feed (provisioned power)"
    return ""


def _chips_asked(inputs: Result) -> str:
    chips, equal = inputs.get("chips"), inputs.get("equal", "chips")
    placed = place_words(inputs)
    if placed:
        return placed
    if chips is None:
        return ""
    if equal in ("chips", "units"):
        return f"; {chips} {'units' if equal == 'units' else 'chips'} each"
    return f", equal {equal} to {chips} chips of the first"


def training_strip(result: Result) -> list[tuple[str, str]]:
    """The assumptions of a training answer."""
    inputs = result["inputs"]
    return [
        ("model", str(inputs.get("model"))),
        ("tokens", show_count(float(inputs.get("tokens") or 0))),
        ("sequence", str(inputs.get("seq"))),
        ("batch, sequences", f"{float(inputs.get('batch_seqs') or 0):g}"),
        ("kind of price", term_words(inputs.get("price_term"))),
        ("facts", str(result.get("facts_hash") or "")),
    ]


# what the numbers rest on
# ----------------------------------------------------------------------------------------------------------------------


def counts_future(inputs: Result) -> bool:
    """Whether the question was asked with `--recipe future`."""
    return f"{RECIPE_CHOSEN}=future" in (inputs.get("set") or ())


def _by_words(words_of: Mapping[str, str]) -> dict[str, list[str]]:
    """Words -> the names that they hold for."""
    said: dict[str, list[str]] = {}
    for name, words in words_of.items():
        said.setdefault(words, []).append(name)
    return said


def grouped(said: Mapping[str, Sequence[str]]) -> list[str]:
    """Words, each with the names that they hold for; without names where they hold for all."""
    return [words if len(said) == 1 else f"{words} ({', '.join(who)})" for words, who in said.items()]


def grouped_words(words_of: Mapping[str, str]) -> list[str]:
    """The words of each name, names of the same words together.

    >>> grouped_words({"trn2": "fitted", "trn3": "fitted", "gb300": "analytic"})
    ['fitted (trn2, trn3)', 'analytic (gb300)']
    """
    return grouped(_by_words(words_of))


def priced_words(rows: Sequence[Result], inputs: Result) -> str:
    """Which kind of price the costs of rows are at, for the first line; where none was asked for, that too."""
    kinds = list(dict.fromkeys(terms_cell(str(row.get("price") or "")) for row in rows))
    said = "unlike kinds" if len(kinds) > 1 else "none known" if kinds == [UNKNOWN] else kinds[0]
    return f"; prices: {said}{' (no --price)' if _is_open(inputs) else ''}"


def _is_open(inputs: Result) -> bool:
    """Whether no kind of price was asked for, so that cost is the owner's."""
    return bool(inputs.get("price_term") == "default")


def price_line(rows: Sequence[Result], inputs: Result) -> str:
    """Which price stands behind each row; of which kind, where none was asked for."""
    shown: dict[str, list[str]] = {}
    for row in rows:
        shown.setdefault(price_words(str(row.get("price") or UNKNOWN)), []).append(str(row["system"]))
    why = " No kind was asked for, so cost is the owner's where it is known: --price rent asks what renting costs."
    why = why if _is_open(inputs) else ""
    return "Prices: " + "; ".join(f"{', '.join(who)} {text}" for text, who in shown.items()) + "." + why


def survival_lines(rows: Sequence[Result]) -> list[str]:
    """Which way of surviving failures the goodput, the days and the costs are of."""
    ways: dict[str, list[str]] = {}
    for row in rows:
        if runs(row) and row.get("survival"):
            ways.setdefault(row["survival"], []).append(row["system"])
    if not ways:
        return []
    return [
        f"Failures survived by: {', '.join(grouped(ways))}. Ways and formula: mowich goodput; --set survival=async"
        " takes another."
    ]


def kinds(*coverages: Mapping[str, float]) -> str:
    """ "70% fitted, 30% analytic": the largest share first. Of several rows, from the least to the most of each kind.

    >>> kinds({"fitted": 0.8, "analytic": 0.2}, {"fitted": 0.5, "analytic": 0.5})
    '50% to 80% fitted, 20% to 50% analytic'
    """
    spans = {k: shares_span([c.get(k, 0.0) for c in coverages]) for c in coverages for k in c}
    most = {k: max(c.get(k, 0.0) for c in coverages) for k in spans}
    return ", ".join(f"{spans[k]} {k}" for k in sorted(spans, key=lambda k: -most[k]))


def shares_span(shares: Sequence[float]) -> str:
    """From the least to the most of some shares.

    >>> shares_span([0.5, 0.62, 0.57]), shares_span([0.5, 0.501])
    ('50% to 62%', '50%')
    """
    ends = dict.fromkeys(f"{share:.0%}" for share in (min(shares), max(shares)))
    return " to ".join(ends)


def kinds_of_systems(rows: Sequence[Result], time: str) -> list[str]:
    """Which kinds of constants a time of the rows that run rests on, each with the systems that it holds for."""
    found: dict[str, list[Mapping[str, float]]] = {}
    for row in rows:
        if runs(row) and estimate_of(row[time]).coverage:
            found.setdefault(row["system"], []).append(estimate_of(row[time]).coverage)
    return grouped_words({system: kinds(*coverages) for system, coverages in found.items()})


def unmeasured_line(rows: Sequence[Result], inputs: Result) -> list[str]:
    """What the software of a chip is taken from that nobody has measured."""
    ran = {row["system"] for row in rows if runs(row)}
    said: dict[str, list[str]] = {}
    for entry in inputs["systems"]:
        if entry.get("unmeasured") and entry["system"] in ran:
            said.setdefault(entry["unmeasured"], []).append(entry["system"])
    lines = [f"{', '.join(who)}: {words}" for words, who in said.items()]
    return [f"Not measured: {'; '.join(lines)}."] if lines else []


def release_lines(inputs: Result, software: str) -> list[str]:
    """Which releases the software of the systems is, whether they are supported, and what they do not ship. software:
    "stack" or "engine"."""
    released: dict[str, str] = {}
    missing: dict[str, str] = {}
    for entry in inputs["systems"]:
        if entry.get("release"):
            ships = f"; what ships of kernels by hand: {entry['ships']}" if entry.get("ships") else ""
            unsupported = f"; {entry['unsupported']}" if entry.get("unsupported") else ""
            released.setdefault(str(entry[software]), f"{entry['release']}{unsupported}{ships}")
        if entry.get("not_shipped"):
            missing[entry["system"]] = entry["not_shipped"]
    lines = [f"{name}: {words}" for name, words in released.items()]
    out = [f"Releases: {'; '.join(lines)}."] if lines else []
    if missing:
        said = "; ".join(f"{words} ({', '.join(who)})" for words, who in _by_words(missing).items())
        out.append(
            f"No training software ships, and counted here all the same (--recipe future): {said}."
            if counts_future(inputs)
            else f"Not shipped in training, and left out: {said}. --recipe future counts them."
        )
    return out


def coverage_lines(rows: Sequence[Result], inputs: Result) -> list[str]:
    """Which kinds of cost the times are made of, and which training software they assume."""
    said = kinds_of_systems(rows, "step_s")
    if not said:
        return []
    stacks: dict[str, list[str]] = {}
    for entry in inputs["systems"]:
        stacks.setdefault(entry["stack"], []).append(entry["system"])
    return [
        f"Step time from: {'; '.join(said)}. Software: {', '.join(grouped(stacks))}. How far to trust it:"
        " mowich validate.",
        *release_lines(inputs, "stack"),
        *unmeasured_line(rows, inputs),
    ]


def tuned_lines(rows: Sequence[Result], inputs: Result) -> list[str]:
    """Step times of Trainium rows with hand-tuned kernels, beside those with the kernels of the software."""
    found = [
        (str(r["system"]), estimate_of(r["step_s"]), estimate_of(r["hand_tuned_step_s"]))
        for r in rows
        if runs(r) and r.get("hand_tuned_step_s")
    ]
    if not found:
        return []
    kernels = "with its software's kernels" if counts_future(inputs) else "as shipped"
    said = "; ".join(f"{name} {spread(step)} {kernels}, {spread(tuned)} hand-tuned" for name, step, tuned in found)
    shares = [(name, tuned.coverage.get("simulated kernels")) for name, _, tuned in found]
    covered = ", ".join(f"{share:.0%} of {name} time" if share else f"none of {name}" for name, share in shares)
    return [
        f"Software on Trainium, s per step: {said}. Coverage, hand-tuned: from simulated kernels {covered}; the rest by"
        " formulas, named under mowich explain FILE SYSTEM.hand_tuned_step_s."
    ]


def time_shares(row: Result, top: int) -> str:
    """ "matmul 52%, EP 20%, bubble 9%": the largest parts of a step."""
    step = estimate_of(row["step_s"])
    total = step.value or 0.0
    if not step.breakdown or not total:
        return ""
    parts = sorted(((k, float(v)) for k, v in step.breakdown.items()), key=lambda kv: -kv[1])[:top]
    return ", ".join(f"{short_part(k)} {v / total:.0%}" for k, v in parts if v / total >= 0.005)


def chips_line(row: Result) -> str:
    """ "140 of 144 chips (4 idle, paid for) x 4 devices"."""
    used, asked, idle = int(row["chips_used"]), int(row["chips_requested"]), int(row.get("chips_idle") or 0)
    each = f" x {row['devices_per_chip']} devices" if row.get("devices_per_chip", 1) > 1 else ""
    return f"{used} of {asked} chips ({idle} idle, paid for){each}" if idle else f"{used} chips{each}"


BEST_PLANS = "each row has its best plan; mowich plan puts the simplest of those that are as good first"
"""Why a comparison and a plan of the same job may name two plans."""


def preferred_lines(result: Result) -> list[str]:
    """That the first plan is not the fastest but the simplest of those that are not told apart; none where it is."""
    found = result.get("preferred")
    if not found:
        return []
    by = f"{found['slower']:.1%} faster" if found["slower"] >= 5e-4 else "as fast"
    return [
        f"#1 is the simplest plan within {found['within']:.0%} of the fastest, {found['fastest']}, which is {by}:"
        " measured runs so near follow no predicted order."
    ]
