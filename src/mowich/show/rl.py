"""The page of reinforcement learning: what a step takes, what binds it, who waits for whom, and what a token costs, of
one run or of the runs beside a split of chips."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mowich.price_terms import term_words
from mowich.show import charts, charts_parts, rl_timeline
from mowich.show.charts import Chart
from mowich.show.colours import SystemLook, looks_of
from mowich.show.formats import headed, interval, number_text, percent
from mowich.show.headline import terms_cell
from mowich.show.page import (
    NOTE,
    NOTE_MARKED,
    NOTHING,
    Cell,
    Column,
    LateCharts,
    Page,
    Part,
    Run,
    Table,
    TextCell,
    Words,
    estimate_of,
    figure,
    paragraphs,
    table_by_answer,
)
from mowich.show.page import notes as remarks
from mowich.show.price_lines import range_of
from mowich.show.rows import grouped_words, kinds, price_line, row_cells, size_words
from mowich.shown import Result
from mowich.studies.explain.tree import labels
from mowich.studies.ranking import Ranking, names_listed, ranking, runs
from mowich.studies.stated_plan import plan_words
from mowich.sums import float_sum
from mowich.units import sig

_BINDS = {
    "rollouts": "rollouts bind",
    "trainer": "the trainer binds",
    "staleness": "staleness binds",
    "longest answer": "longest answer binds",
    "reward": "rewards bind",
    "turns": "sides take turns",
}
"""What a step waits for most, in a sentence."""

_ALGORITHMS = {"grpo": "GRPO", "ppo": "PPO", "dapo": "DAPO", "distill": "distillation"}

_LEAST_S = 1e-6
"""A part of a step that takes less is none."""

MOST_RANGES = 3
"""Runs up to which the table of parts has room for ranges."""

_MARKED = ("usd_per_mtok", "step_s", "tokens_per_s_per_chip")
"""Measures whose best row the table marks."""


def rl_page(result: Result, run: Run) -> Page:
    """A run on given machines, or a split of chips beside the runs that it is better than."""
    rows, inputs = result["rows"], result["inputs"]
    names, found = row_names(rows), _rankings(result)
    alive = [(name, label, row) for name, label, row in zip(names, labels(rows), rows, strict=True) if runs(row)]
    parts: list[Part] = [
        Words(text=_job(inputs, run), kind="job", gap=True),
        _answers(result, names, found),
        *(part for table in (_plans, _steps, _delays) for part in (table(alive) if alive else ())),
        *_front(result),
        *remarks(
            [*_reasons(rows, names), *_order(result, names, found), *_assumed(rows, names)], result.get("warnings", ())
        ),
        *paragraphs(_rests(rows, names, inputs), "basis", indent=0, gap=True),
        Words(text=_next(result, run.saved), kind="next", indent=0),
    ]
    return Page(
        title=f"{inputs.get('model')}: reinforcement learning",
        sentences=_sentences(result, names, found),
        assumptions=_strip(result),
        parts=parts,
        charts=LateCharts(lambda: _pictures(result, names, found)),
        records=rows,
        inputs=inputs,
        marks={metric: [ranks.mark(i) for i in range(len(rows))] for metric, ranks in found.items()},
    )


# names, ranks
# ----------------------------------------------------------------------------------------------------------------------


def row_names(rows: Sequence[Result]) -> list[str]:
    """ "trn3:64 + gb300:72": rollouts and trainer of each row; "h100:32 colocated". Of runs on the same chips the later
    ones have a number."""
    said = [_row_name(row) for row in rows]
    before = [said[:i].count(name) for i, name in enumerate(said)]
    return [f"{name} ({count + 1})" if count else name for name, count in zip(said, before, strict=True)]


def _row_name(row: Result) -> str:
    trainer = _chips(row["trainer"])
    return f"{trainer} colocated" if row["placement"] == "colocated" else f"{_chips(row['rollouts'])} + {trainer}"


def _chips(side: Result) -> str:
    """ "trn3:64": a system with its number of chips."""
    name = str(side["system"])
    return name if any(sign in name for sign in ":*") else f"{name}:{side['chips']}"


def _paid(row: Result) -> int:
    """Chips of a run."""
    both = 0 if row["placement"] == "colocated" else int(row["rollouts"]["chips"])
    return both + int(row["trainer"]["chips"])


def _rankings(result: Result) -> dict[str, Ranking]:
    """Who is best by a measure, or why nobody is: as the search for a split decided, else by the rule of every
    comparison."""
    rows, names, split = result["rows"], row_names(result["rows"]), result.get("split")
    rivals = [
        {**row, "system": name, "system_id": row["trainer"]["system"], "chips_requested": _paid(row)}
        for row, name in zip(rows, names, strict=True)
    ]
    compared: Result = {"rows": rivals, "inputs": {}}
    found = {metric: ranking(compared, metric) for metric in _MARKED} if len(rows) > 1 else {}
    if split:
        metric = str(split["metric"])
        found[metric] = Ranking(metric=metric, best=split["best"], close=tuple(split["not_told_apart"]))
    return found


def _decided(result: Result, found: Mapping[str, Ranking]) -> Ranking | None:
    """The ranking by what the question asks for: cost, or time."""
    return found.get(str((result.get("split") or {}).get("metric") or "usd_per_mtok"))


# words
# ----------------------------------------------------------------------------------------------------------------------


def _sentences(result: Result, names: Sequence[str], found: Mapping[str, Ranking]) -> tuple[str, ...]:
    """The answer, without names and numbers first where they are many."""
    ranks, said = _decided(result, found), _sentence(result, names, found)
    if ranks is not None and ranks.best is not None:
        word = "fastest" if ranks.metric == "step_s" else "least cost"
        if ranks.close:
            return headed(said, f"No winner: {len(ranks.close)} close to the {word}.")
        best = names[ranks.best]
        return headed(said, f"{word.capitalize()}: {best}.", f"One run has the {word}.")
    row = next((row for row in result["rows"] if runs(row)), None)
    return headed(said, "" if row is None else f"{interval(estimate_of(row['step_s']))} s a step.")


def _sentence(result: Result, names: Sequence[str], found: Mapping[str, Ranking]) -> str:
    rows, ranks = result["rows"], _decided(result, found)
    if ranks is not None and ranks.best is not None:
        row, is_time = rows[ranks.best], ranks.metric == "step_s"
        number = f"{interval(estimate_of(row['step_s']))} s" if is_time else _dollars(row)
        if ranks.close:
            least = "fastest" if is_time else "least"
            return f"No winner; {least}: {names[ranks.best]}, {number}; {len(ranks.close)} close."
        return f"{'Fastest' if is_time else 'Cheapest'}: {names[ranks.best]}, {number}."
    row = next((row for row in rows if runs(row)), None)
    if row is None:
        return "This run is not possible as stated; the row says why." if len(rows) == 1 else "None of these runs."
    binds = f", {_BINDS.get(str(row['binds']), str(row['binds']))}" if row.get("binds") else ""
    price = "" if estimate_of(row["usd_per_mtok"]).value is None else f"; {_dollars(row)}"
    return f"{interval(estimate_of(row['step_s']))} s a step{binds}{price}."


def _dollars(row: Result) -> str:
    value, _, ends = interval(estimate_of(row["usd_per_mtok"])).partition(" ")
    return f"${value}/Mtok {ends}".rstrip()


def _lengths_words(inputs: Result) -> str:
    """ "answers of 3200 tokens on average, at most 4096", as the lengths were stated."""
    given = inputs.get("lengths")
    if not isinstance(given, Mapping):
        return ""
    if "mean" in given:
        said = f"answers of {float(given['mean']):g} tokens on average"
    elif "answers" in given:
        said = f"lengths of {int(given['answers']):,} answers of a run"
    else:
        said = "lengths by quantiles"
    return said + (f", at most {float(given['cap']):g}" if given.get("cap") else "")


def _job(inputs: Result, run: Run) -> str:
    """The model and the batch in one line."""
    algorithm = str(inputs.get("algorithm") or "")
    text = f"{inputs.get('model')}{size_words(inputs, run)}: {_ALGORITHMS.get(algorithm, algorithm)}"
    if inputs.get("prompts") and inputs.get("samples"):
        prompts, samples = int(inputs["prompts"]), int(inputs["samples"])
        text += f", {prompts:,} prompts x {samples:,} answers a step"
    if inputs.get("global_batch"):
        text += f", {float(inputs['global_batch']):,.0f} answers an update"
    text += "".join(f"; {words}" for words in (_lengths_words(inputs),) if words)
    if inputs.get("staleness"):
        text += f"; staleness at most {inputs['staleness']}"
    return text + (f"; {inputs['framework']}" if inputs.get("framework") else "")


def _strip(result: Result) -> list[tuple[str, str]]:
    inputs = result["inputs"]
    return [
        ("model", str(inputs.get("model"))),
        ("algorithm", _ALGORITHMS.get(str(inputs.get("algorithm")), str(inputs.get("algorithm") or ""))),
        ("prompts x answers", f"{inputs.get('prompts', '?')} x {inputs.get('samples', '?')}"),
        ("answers an update", str(inputs.get("global_batch") or "")),
        ("lengths", _lengths_words(inputs)),
        ("framework", str(inputs.get("framework") or "none stated")),
        ("kind of price", term_words(inputs.get("price_term") or inputs.get("price") or "default")),
        ("facts", str(result.get("facts_hash") or "")),
    ]


def _reasons(rows: Sequence[Result], names: Sequence[str]) -> list[str]:
    return [f"{name}: {row['reason']}" for name, row in zip(names, rows, strict=True) if row.get("reason")]


def _order(result: Result, names: Sequence[str], found: Mapping[str, Ranking]) -> list[str]:
    """Of which runs no order is known."""
    ranks, split = _decided(result, found), result.get("split")
    if split:
        return [text for text in (str(split["verdict"]), str(split.get("cheaper") or "")) if text]
    if ranks is None or (ranks.best is not None and not ranks.close):
        return []
    if ranks.best is None:
        return [f"cost is not ranked: {ranks.why_not}"]
    those = ", ".join(names[i] for i in ranks.close)
    return [f"the 90% ranges of {those} overlap with that of {names[ranks.best]}: no order is known"]


def _assumed(rows: Sequence[Result], names: Sequence[str]) -> list[str]:
    """What was taken because nobody stated it, each with the runs that it holds for."""
    who: dict[str, list[str]] = {}
    for name, row in zip(names, rows, strict=True):
        for words in row.get("assumed", ()):
            who.setdefault(str(words), []).append(name)
    by: dict[tuple[str, ...], list[str]] = {}
    for words, whose in who.items():
        by.setdefault(tuple(whose), []).append(words)
    of = {whose: "" if len(whose) == len(rows) else f", of {names_listed(whose)}" for whose in by}
    return [f"assumed, as nobody stated it{of[whose]}: {'; '.join(said)}" for whose, said in by.items()]


def _prices(rows: Sequence[Result]) -> list[Result]:
    """Each system once with the label of its price: those of a row stand in the order of its sides."""
    found: dict[tuple[str, str], Result] = {}
    for row in rows:
        sides = [str(row[side]["system"]).partition(":")[0] for side in ("rollouts", "trainer")]
        labels_of = [label.strip() for label in str(row.get("price") or "").split(";")]
        for system, label in zip(dict.fromkeys([*sides, "the judge"]), labels_of, strict=False):
            if label:
                found.setdefault((system, label), {"system": system, "price": label})
    return list(found.values())


def _rests(rows: Sequence[Result], names: Sequence[str], inputs: Result) -> list[str]:
    """Prices, constants, and how far the closed form is from what was played out."""
    priced = _prices(rows)
    said = [price_line(priced, inputs)] if priced else []
    covered = {
        name: kinds(step.coverage)
        for name, row in zip(names, rows, strict=True)
        if (step := estimate_of(row["step_s"])).coverage
    }
    if covered:
        said.append(f"Times rest on constants: {'; '.join(grouped_words(covered))}.")
    closed = [(row["closed_form_s"], estimate_of(row["step_s"])) for row in rows if row.get("closed_form_s")]
    played = [(form, float(step)) for form, step in closed if step.value]
    if len(played) == 1:
        said.append(f"The step was played out answer by answer; the closed form gives {sig(played[0][0])} s.")
    elif played:
        apart = max(max(form, step) / min(form, step) for form, step in played) - 1.0
        said.append(f"Steps were played out answer by answer; the closed form is within {percent(apart)} of each.")
    return said


def _next(result: Result, saved: str) -> str:
    """What may be asked next."""
    rows = result["rows"]
    at = next((f"{label}." for label, row in zip(labels(rows), rows, strict=True) if runs(row)), None)
    if at is None:
        return "Next: more chips, a smaller --max-sequence, or mowich fit MODEL --on SYSTEM --train ..."
    save, number = "" if saved else "add --out r.json, then ", shlex.quote(f"{at if len(rows) > 1 else ''}step_s")
    more = "--timeline FILE.json draws some steps" if len(rows) == 1 else "--rollouts A:N --trainer B:M plays one out"
    return f"Next: {save}mowich explain {saved or 'r.json'} {number}  |  {more}"


# tables
# ----------------------------------------------------------------------------------------------------------------------


def _share_column(name: str, keep: int, of: str) -> Column:
    """A share of the step or of the workers' time."""
    return Column(name=name, unit="%", short=name, format="percent", scale=100.0, keep=keep, of=of)


def _columns() -> list[Column]:
    return [
        Column(name="run", right=False),
        Column(name="chips", keep=20, wide=True),
        Column(name="step", unit="s", short="step s", format="spread", of="step_s"),
        _share_column("trainer waits", 40, "trainer_wait_frac"),
        _share_column("rollouts idle", 30, "rollout_idle_frac"),
        Column(name="tokens/s/chip", short="tok/s/chip", format="number", keep=5, of="tokens_per_s_per_chip"),
        Column(name="$/Mtok", format="interval", of="usd_per_mtok"),
        Column(name="price", right=False, keep=9),
        Column(name="J/token", format="number", keep=2, of="J_per_token"),
        Column(name="grade", keep=15),
        Column(name="binds", right=False, keep=50),
    ]


def _answers(result: Result, names: Sequence[str], found: Mapping[str, Ranking]) -> Table:
    """The main table: a row a run."""
    rows = result["rows"]
    is_ranked = any(ranks.best is not None for ranks in found.values())
    legend = "← best   ~ range overlaps with the best: not ranked   ? unknown   90% ranges"
    return Table(
        title="Runs" if len(rows) > 1 else "Answer",
        columns=_columns(),
        rows=[
            _line(row, name, label, place, found)
            for place, (row, name, label) in enumerate(zip(rows, names, labels(rows), strict=True))
        ],
        note=NOTE_MARKED if len(rows) > 1 else NOTE,
        legend=[legend] if is_ranked else [],
        gap=False,
    )


def _line(row: Result, name: str, label: str, place: int, found: Mapping[str, Ranking]) -> list[Cell]:
    """One run; of one that is not possible the reason stands behind that."""
    is_run = runs(row)

    def number(metric: str) -> Cell:
        if metric == "step_s" and not is_run:
            return TextCell("not possible", str(row.get("reason") or ""))
        ranks = found.get(metric)
        mark = ranks.mark(place) if ranks is not None and ranks.best is not None else None
        return figure(row[metric], f"{label}.{metric}", mark, None if is_run else NOTHING)

    price = str(row.get("price") or "")
    own: dict[str, Cell] = {
        "run": name,
        "chips": f"{_paid(row):,}",
        "price": TextCell(terms_cell(price, short=True), price),
        "grade": estimate_of(row["step_s"]).grade if is_run else NOTHING,
        "binds": str(row.get("binds") or NOTHING),
    }
    return row_cells(_columns(), row, number, own)


def _plans(alive: Sequence[tuple[str, str, Result]]) -> list[Part]:
    """Plans and software: a line each for rollouts and trainer of a run."""
    rows: list[list[Cell]] = []
    for name, _, row in alive:
        made, trained = row["rollouts"], row["trainer"]
        workers = f"{made['workers']} x {plan_words(made.get('plan'))}"
        rows.append([name, "rollouts", workers, str(made.get("engine") or NOTHING)])
        rows.append([name, "trainer", plan_words(trained.get("plan")), str(trained.get("stack") or NOTHING)])
    return [
        Table(
            title="Plans",
            columns=[
                Column(name="run", right=False),
                Column(name="side", right=False),
                Column(name="plan", right=False),
                Column(name="software", right=False, keep=1),
            ],
            rows=rows,
        )
    ]


def _points(result: Result) -> list[tuple[str, str, float, float | None]]:
    """The front of a search in closed form: (rollouts, trainer, seconds of a step, dollars of a million tokens)."""
    front = (result.get("split") or {}).get("front") or ()
    return [(_chips(p["rollouts"]), _chips(p["trainer"]), p["step_s"], p["usd_per_mtok"]) for p in front]


def _front(result: Result) -> list[Part]:
    """Splits that no other beats in both time and dollars."""
    found = _points(result)
    if not found:
        return []
    return [
        Words(text="splits that no other beats in both time and cost, in closed form:", kind="caption", gap=True),
        Table(
            title="Front: no other split beats both, in closed form",
            columns=[
                Column(name="rollouts on", right=False),
                Column(name="trainer on", right=False),
                Column(name="step", unit="s", short="step s"),
                Column(name="$/Mtok"),
            ],
            rows=[[made, trained, number_text(step), number_text(usd)] for made, trained, step, usd in found],
            gap=False,
            most=8,
            thinned=True,
            elsewhere="--json",
        ),
    ]


def step_parts(row: Result) -> dict[str, Result]:
    """Parts of a step by their names among all times: what a split trainer waits for answers is no generation of its
    own."""
    own = {"generation": "answers_wait"} if row["placement"] == "split" else {}
    return {own.get(name, name): data for name, data in row["parts"].items()}


def _steps(alive: Sequence[tuple[str, str, Result]]) -> list[Part]:
    """The parts of a step, which sum to it: a line each, a column for each run."""
    parts = [step_parts(row) for _, _, row in alive]
    known = [part for part in charts_parts.PARTS_OF_TIME if any(_second(one, part) for one in parts)]

    def cell(data: Result, metric: str) -> Cell:
        found = figure(data, metric)
        if len(alive) <= MOST_RANGES:
            return found
        return TextCell(number_text(found.estimate.value), f"90% range {interval(found.estimate)}", metric)

    lines: list[list[Cell]] = []
    for part in known:
        key = "generation" if part == "answers_wait" else part
        found = [
            cell(one[part], f"{label}.parts.{key}") if _second(one, part) else NOTHING
            for one, (_, label, _) in zip(parts, alive, strict=True)
        ]
        lines.append([charts_parts.time_part(part).words, *found])
    lines.append(["step", *(cell(row["step_s"], f"{label}.step_s") for _, label, row in alive)])
    return table_by_answer(
        "Where a step goes, s",
        "where a step goes, s:",
        "part",
        Column(name="", format="interval"),
        [name for name, _, _ in alive],
        lines,
        "The parts are what the trainer's chips do or wait for; they sum to the step.",
    )


def _delays(alive: Sequence[tuple[str, str, Result]]) -> list[Part]:
    """The longest answer, how old the weights are, what of a sync is seen."""
    return [
        Words(text="longest answer, age of the weights in versions, weight synchronisation:", kind="caption", gap=True),
        Table(
            title="Longest answer, staleness, weight synchronisation",
            columns=[
                Column(name="run", right=False),
                Column(name="longest answer", unit="s", short="longest s", format="number"),
                Column(name="staleness", format="number"),
                Column(name="largest staleness", short="largest"),
                Column(name="sync by", right=False, keep=1),
                Column(name="sync seen", unit="s", short="seen s", format="number", keep=9),
                Column(name="sync hidden", unit="s", short="hidden s", format="number", keep=8),
            ],
            rows=[
                [
                    name,
                    figure(row["longest_s"], f"{label}.longest_s"),
                    figure(_rounded(row["staleness"]["mean"]), f"{label}.staleness.mean"),
                    str(row["staleness"]["max"]),
                    str(row["sync"]["method"] or NOTHING),
                    figure(_rounded(row["sync"]["seen_s"]), f"{label}.sync.seen_s"),
                    figure(_rounded(row["sync"]["hidden_s"]), f"{label}.sync.hidden_s"),
                ]
                for name, label, row in alive
            ],
            gap=False,
        ),
    ]


def _rounded(data: Result) -> Result:
    """A number that is no more than rounding is nothing."""
    is_none = data["value"] is not None and abs(data["value"]) < _LEAST_S
    return {**data, "value": 0.0, "low": 0.0, "high": 0.0} if is_none else data


def _second(parts: Mapping[str, Result], part: str) -> float:
    """Seconds of a part; 0 where a run has none, or no more than rounding."""
    value = (estimate_of(parts[part]).value or 0.0) if part in parts else 0.0
    return value if value > _LEAST_S else 0.0


# pictures
# ----------------------------------------------------------------------------------------------------------------------


def _pictures(result: Result, names: Sequence[str], found: Mapping[str, Ranking]) -> list[Chart]:
    rows = [(name, row) for name, row in zip(names, result["rows"], strict=True) if runs(row)]
    if not rows:
        return []
    looks = _looks(rows)
    out = [
        *_cost_against_time(result, rows, found, names, looks),
        _step_bars(rows),
    ]
    spans = rl_timeline.spans_of(result.get("timeline") or (), str(result["rows"][0]["placement"]))
    return [*out, rl_timeline.timeline_picture(spans, names[0])] if spans else out


def _looks(rows: Sequence[tuple[str, Result]]) -> dict[str, SystemLook]:
    """A run looks like the system that makes its answers."""
    return looks_of([(name, {"system": str(row["rollouts"]["system"]).partition(":")[0]}) for name, row in rows])


def _step_bars(rows: Sequence[tuple[str, Result]]) -> Chart:
    """Bars of the parts of a step; the groups of parts are another way to draw them."""
    times, most = [], []
    for name, row in rows:
        parts = {part: _second(step_parts(row), part) for part in step_parts(row)}
        times.append((name, {**row["step_s"], "breakdown": {part: value for part, value in parts.items() if value}}))
        first = max(parts, key=lambda part: parts[part])
        share = f"{percent(parts[first] / float_sum(parts.values()))}"
        most.append((charts_parts.time_part(first).words, share))
    bars = charts_parts.time_bars(
        "Where a step goes", "What the trainer's chips do or wait for. The line is the 90% range.", times, unit="s"
    )
    views = dict(sorted(bars.views.items(), key=lambda view: not view[0].startswith("all")))
    same = {words for words, _ in most}
    finding = f"Most goes to {most[0][0]}: {most[0][1]}" if len(same) == 1 else ""
    return replace(bars, option=views["all parts"], views=views, finding=finding)


def _cost_against_time(
    result: Result,
    rows: Sequence[tuple[str, Result]],
    found: Mapping[str, Ranking],
    names: Sequence[str],
    looks: Mapping[str, SystemLook],
) -> list[Chart]:
    """Dollars of a token against seconds of a step, a dot a run with its ranges, and the front of a search."""
    priced = [(name, row) for name, row in rows if estimate_of(row["usd_per_mtok"]).value is not None]
    front = [(step, usd, f"{made} + {trained}") for made, trained, step, usd in _points(result) if usd is not None]
    if len(priced) + len(front) < 2:
        return []
    ranks = _decided(result, found)
    said = ""
    if ranks is not None and ranks.best is not None:
        best = names[ranks.best]
        said = f"No winner: {len(ranks.close)} beside {best}" if ranks.close else f"Best: {best}"
    dots = {
        name: [(float(estimate_of(row["step_s"])), float(estimate_of(row["usd_per_mtok"])), name)]
        for name, row in priced
    }
    return [
        charts.points(
            "Dollars of a million trained tokens against the time of a step",
            "Down and left is better. Lines are 90% ranges."
            + (" Hollow: splits that no other beats in both." if front else ""),
            dots,
            x="s per step",
            y="$ per million tokens",
            looks=looks,
            ends={
                name: [(range_of(estimate_of(row["step_s"])), range_of(estimate_of(row["usd_per_mtok"])))]
                for name, row in priced
            },
            hollow={"front": front} if front else None,
            hollow_is="in closed form",
            finding=said,
        )
    ]
