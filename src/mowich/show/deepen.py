"""What a page gains where its result can be made again: the facts behind it, what would change the answer, how it
scales, and the nearest measured points.

`PAGES` need nothing but the JSON; this needs the facts (and for training the model) that made it, and some tenths of a
second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mowich.errors import UserError
from mowich.evidence.nearest import nearest
from mowich.facts import Facts
from mowich.price_terms import price_words
from mowich.requests.rooms.collective import WEIGHTS_KIND
from mowich.show import charts, charts_change, charts_map
from mowich.show.charts import Chart
from mowich.show.colours import SystemLook, looks_of
from mowich.show.explain import change_words
from mowich.show.formats import number_text, percent
from mowich.show.headline import terms_cell
from mowich.show.page import Cell, Page, Table, TextCell, word_columns
from mowich.show.training import moved_most
from mowich.shown import Result
from mowich.studies.explain import Explainer, tree
from mowich.studies.explain.assumed import MAX_ROWS, costs_assumed, facts_behind
from mowich.studies.fact_labels import fact_label
from mowich.studies.flip_points import Turning, turning
from mowich.studies.machine_map import has_map, map_of
from mowich.studies.ranking import ranking
from mowich.studies.scaling import SIZES, Size, scaling
from mowich.units import show, show_count

METRIC_NAMES = {
    "usd_per_mtok": "cost per token",
    "days": "length of the run",
    "step_s": "step time",
    "tpot_s": "time per output token",
    "tokens_per_s_per_chip": "tokens per second and chip",
}


_MOVED = {
    "tpot_s": "time per output token",
    "time_s": "time",
    "goodput": "goodput",
    "total_W": "power of a chip",
    "tco_total": "cost of ownership",
}
"""What `moves_charts` draws, in words."""


def deepen_page(page: Page, explainer: Explainer) -> Page:
    """The page with its facts, and with what only a result that is made again can say."""
    result = explainer.result
    page = replace(page, facts=tuple(facts_behind(explainer)))
    page = replace(page, assumptions=[*page.assumptions, *costs_assumed(explainer, page.facts)])
    training = result["schema"] in ("mowich/compare@1", "mowich/plan@1") and result["inputs"].get("task") != "serve"
    pictures, parts = list(page.charts), list(page.parts)
    if result["schema"] == "mowich/compare@1":
        found = _turning(explainer)
        if found is not None and found.turns:  # in the place of what moves each row's step
            pictures = [c for c in pictures if not c.title.startswith("What moves")]
            pictures.append(turning_chart(found))
        table = flips_table(explainer, found)
        if table is not None:
            parts.append(table)
    if training:
        lines = scaled_rows(explainer)
        asked = explainer.result["inputs"]
        tokens = float(asked["seq"]) * float(asked["batch_seqs"])
        looks = looks_of(list(_rows(explainer).items()))
        pictures += scaling_charts(lines, _ends(explainer, lines), looks, tokens)
        table = nearest_table(explainer)
        if table is not None:
            parts.append(table)
    elif result["schema"] != "mowich/compare@1":
        pictures += moves_charts(explainer)
        if result["schema"] == "mowich/collective@1":
            pictures += link_maps(explainer)
    return replace(page, charts=pictures, parts=parts)


# what would change the answer
# ----------------------------------------------------------------------------------------------------------------------


def _turning(explainer: Explainer) -> Turning | None:
    """By the first measure by which rows are ranked: cost, length of the run, speed of a chip, time of a token."""
    for metric in ("usd_per_mtok", "days", "tokens_per_s_per_chip", "tpot_s"):
        if ranking(explainer.result, metric).best is not None:
            return turning(explainer, metric)
    return None


def turning_chart(found: Turning) -> Chart:
    """The tornado of a comparison."""
    bars = []
    for t in found.turns:
        row = max(t.changes, key=lambda n, t=t: max(map(abs, t.changes[n])))  # type: ignore[misc]
        low, high = t.changes[row]
        flip = "" if t.flip is None else f"{t.flips_to} wins from {show(t.flip, t.fact.unit or '1')}"
        bars.append((fact_label(t.fact.path), row, 100 * low, 100 * high, flip))
    name = METRIC_NAMES.get(found.metric, found.metric)
    return charts_change.turning_bars(
        "What would change the answer",
        f"Change of the {name} of the row that a fact moves most, at the ends of its range, plans fixed."
        f" {found.winner} is best now; outlined bars change that.",
        bars,
        unit=f"% of the {name}",
        finding=_turning_words(found, name),
    )


def _turning_words(found: Turning, name: str) -> str:
    """Who would win instead, and by which fact; or what moves the answer most, where nothing turns it."""
    flips = [t for t in found.turns if t.flip is not None]
    if flips:
        first = flips[0]
        return f"{found.winner} stays best unless {fact_label(first.fact.path)} turns: then {first.flips_to}"
    return f"No fact alone, within its range, takes the lead in {name} from {found.winner}"


def flips_table(explainer: Explainer, found: Turning | None) -> Table | None:
    """Values at which the best row changes: facts within their ranges, and the break-even prices of all rows."""
    rows = explainer.result["rows"]
    lines: list[list[Cell]] = []
    if found is not None:
        for t in found.turns:
            if t.flip is not None:
                lines.append(
                    [
                        TextCell(fact_label(t.fact.path), t.fact.path),
                        t.fact.as_written,
                        f"{show(t.flip, t.fact.unit or '1')}",
                        f"{found.winner} to {t.flips_to}",
                    ]
                )
    found_cost = ranking(explainer.result, "usd_per_mtok")
    priced = [i for i, r in enumerate(rows) if (r.get("usd_per_mtok") or {}).get("value") is not None]
    for i, r in enumerate(rows):
        even = (r.get("breakeven_usd_per_chip_h") or {}).get("value")
        others = [k for k in priced if k != i]
        if even is None or not others:
            continue
        now = price_words(str(r.get("price") or "unknown"))
        other = rows[min(others, key=lambda k: float(rows[k]["usd_per_mtok"]["value"]))]
        same = f"{r['system']} costs a token what {other['system']} ({terms_cell(str(other.get('price') or ''))}) does"
        what = (
            same
            if found_cost.best is None
            else f"{r['system']} {'stays cheapest up to' if i == found_cost.best else 'is cheapest below'} this"
        )
        lines.append([f"price of {r['system']}", str(now), f"${number_text(even)}/chip/h", what])
    if not lines:
        return None
    return Table(
        title="Flip points",
        columns=word_columns(["what", "now", "flips at", "then"]),
        rows=lines,
        note="Within the range of each fact, one at a time; prices at which a row costs what the best other row does.",
    )


def moves_charts(explainer: Explainer) -> list[Chart]:
    """A tornado of the first main number of the first rows."""
    out: list[Chart] = []
    first = {
        "mowich/plan@1": ("plans", "tpot_s"),
        "mowich/collective@1": ("rows", "time_s"),
        "mowich/goodput@1": ("rows", "goodput"),
        "mowich/power@1": ("rows", "total_W"),
        "mowich/prices@1": ("rows", "tco_total"),
    }
    where = first.get(str(explainer.result["schema"]))
    paths: list[tree.ResultPath] = [("time_s",)] if explainer.result["schema"] == "mowich/kernel@1" else []
    if where is not None:
        rows = explainer.result[where[0]]
        best = max(range(len(rows)), key=lambda i: rows[i][where[1]]["value"] or 0.0) if where[1] == "goodput" else 0
        chosen = (
            [len(rows) - 1]
            if where[1] == "time_s"
            else [best]
            if where[1] == "goodput" or where[0] == "plans"
            else range(min(4, len(rows)))
        )
        paths = [(where[0], i, where[1]) for i in chosen]
    for path in paths:
        told = explainer.at(path)
        row: Result = explainer.result[str(path[0])][path[1]] if len(path) > 1 else {}
        name = _MOVED.get(str(path[-1]), str(path[-1]))
        of = {
            "plans": f" of plan {int(path[1]) + 1}" if len(path) > 1 else "",
            "rows": f", {row.get('strategy') or row.get('system') or told.title.partition(': ')[0]}",
        }.get(str(path[0]), "")
        moves = [m for m in told.moves if not m.is_nudge][:8]
        bars = [(fact_label(m.fact.path), 100 * m.at_low, 100 * m.at_high) for m in moves]
        if bars:
            out.append(
                charts_change.tornado(
                    f"What moves it most: {name}{of}",
                    "Change when one fact goes to the ends of its range.",
                    bars,
                    unit=f"% of the {name}",
                    finding=moved_most(bars[0][0], moves[0].at_low, moves[0].at_high),
                )
            )
    return out


def link_maps(explainer: Explainer) -> list[Chart]:
    """The machine of a collective, chip by chip and link by link, with what failed; nothing for a machine that is too
    large to draw or that lies in a network other than its own, and nothing for weights between two machines."""
    inputs, facts = explainer.result["inputs"], explainer.facts
    name = str(inputs["on"])
    if inputs["kind"] == WEIGHTS_KIND or inputs["network"] or not has_map(facts, name):
        return []
    return [charts_map.machine_chart(map_of(facts, name, [str(text) for text in inputs["faults"]]))]


# scale and accuracy
# ----------------------------------------------------------------------------------------------------------------------


def _rows(explainer: Explainer) -> Mapping[str, Result]:
    """Name -> row with a plan: of a comparison all, of plans the best."""
    result = explainer.result
    rows = result["rows"] if "rows" in result else result["plans"][:1]
    return {str(r["system"]): r for r in rows if r.get("plan")}


def scaled_rows(explainer: Explainer) -> dict[str, tuple[Size, ...]]:
    """Each system's job on 64 to 1,000,000 chips."""
    out = {}
    for name, row in list(_rows(explainer).items())[:MAX_ROWS]:
        sizes = scaling(explainer.model(), row, explainer.result["inputs"], explainer.facts)
        if len(sizes) > 1:
            out[name] = sizes
    return out


def _ends(explainer: Explainer, lines: Mapping[str, Sequence[Size]]) -> str:
    """Why lines begin above the fewest chips and end below the most."""
    rows = _rows(explainer)
    late = {n: sizes[0].chips for n, sizes in lines.items() if sizes[0].chips > SIZES[0]}
    early = {n: sizes[-1].chips for n, sizes in lines.items() if sizes[-1].chips < SIZES[-1]}
    most = {n: round(explainer.facts.number(f"systems.{rows[n]['system_id']}.max_chips")) for n in early}
    said = []
    if late:
        said.append(f"No plan fits on fewer chips than shown: {', '.join(f'{n} {c:,}' for n, c in late.items())}.")
    joined = [n for n, c in early.items() if c >= most[n]]
    if joined:
        said.append(f"The most chips that its network joins: {', '.join(f'{n} {most[n]:,}' for n in joined)}.")
    other = [n for n in early if n not in joined]
    if other:
        said.append(f"No plan was found on more: {', '.join(f'{n} {early[n]:,}' for n in other)}.")
    return " ".join(said)


def scaling_charts(
    lines: Mapping[str, Sequence[Size]],
    ends: str = "",
    looks: Mapping[str, SystemLook] | None = None,
    tokens: float = 1.0,
) -> list[Chart]:
    """Step time, goodput, useful work and cost against chips. ends: why lines begin or end where they do; looks: of the
    systems; tokens: of a batch."""
    if not lines:
        return []
    grown = {n: min((s.chips for s in sizes if s.batch_scale > 1), default=0) for n, sizes in lines.items()}
    words = ", ".join(f"{n} from {c:,}" for n, c in grown.items() if c)
    note = "The same job on more chips, each size at its own best plan. " + (
        f"Where the batch would leave chips without work it grows with them ({words}); the time is of the batch asked"
        " for."
        if words
        else ""
    )
    note = f"{note.strip()} {ends}".strip()
    steps = {n: [(float(s.chips), s.step_s / s.batch_scale, s.binds) for s in sizes] for n, sizes in lines.items()}
    kept = {n: [(float(s.chips), s.goodput, s.binds) for s in sizes if s.goodput] for n, sizes in lines.items()}
    useful = {
        n: [(float(s.chips), 1e-6 * tokens * s.batch_scale / s.step_s * s.goodput, s.binds) for s in sizes if s.goodput]
        for n, sizes in lines.items()
    }
    pictures = [
        charts_change.scaling_chart(
            "Scaling: useful work",
            "Tokens per second of the whole machine that failures leave.",
            {n: d for n, d in useful.items() if d},
            x="chips",
            y="million tokens/s",
            looks=looks,
            finding=_most_words(useful),
        ),
        charts_change.scaling_chart(
            "Scaling: time of a step", note, steps, x="chips", y="s per batch asked for", looks=looks
        ),
        charts_change.scaling_chart(
            "Scaling: goodput",
            "Share of the time that trains after failures.",
            {n: d for n, d in kept.items() if d},
            x="chips",
            y="goodput, share of the time",
            share=True,
            looks=looks,
            finding=_kept_words(kept),
        ),
    ]
    front = {
        n: [(s.days, s.usd_per_mtok, f"{s.chips:,} chips, {s.plan}") for s in sizes if s.days and s.usd_per_mtok]
        for n, sizes in lines.items()
    }
    front = {n: d for n, d in front.items() if len(d) > 1}
    if front:
        pictures.append(
            charts.points(
                "Pareto: cost against time, over the number of chips",
                "Down and left is better; each line is one system on 64 to 1,000,000 chips.",
                front,
                x="days",
                y="$ per million tokens",
                log_x=True,
                log_y=True,
                line=True,
                looks=looks,
            )
        )
    return pictures


def _most_words(useful: Mapping[str, Sequence[tuple[float, float, str]]]) -> str:
    """Where more chips stop helping."""
    peaks = {n: max(dots, key=lambda d: d[1]) for n, dots in useful.items() if dots}
    over = {n: p for n, p in peaks.items() if p[0] < useful[n][-1][0]}
    if over:
        return "More chips do less beyond " + ", ".join(f"{p[0]:,.0f} on {n}" for n, p in over.items())
    return "More chips do more work, up to the most that each fabric joins" if peaks else ""


def _kept_words(kept: Mapping[str, Sequence[tuple[float, float, str]]]) -> str:
    """What the largest machines keep."""
    last = {n: dots[-1] for n, dots in kept.items() if dots}
    if not last:
        return ""
    most = max(x for x, _, _ in last.values())
    said = ", ".join(f"{n} {y:.0%}" for n, (x, y, _) in last.items() if x == most)
    return f"At {most:,.0f} chips failures leave of the time: {said}"


def nearest_table(explainer: Explainer) -> Table | None:
    """Measured points like each row, with our error."""
    lines: list[list[str]] = []
    model = explainer.model()
    for name, row in list(_rows(explainer).items())[:MAX_ROWS]:
        found = nearest(model, str(row["system_id"]), int(row["chips_used"]), explainer.facts)
        if not found:
            lines.append([name, "none was published", "-", "-", "-", "-", "-", "-"])
        for n in found:
            r = n.result
            assert r.ratio is not None
            inside = "yes" if r.is_covered else "no"
            lines.append(
                [
                    name,
                    r.chip if n.is_chip else f"{r.chip} (no step of the row's chip is published)",
                    n.model,
                    show_count(n.params),
                    f"{n.chips:,}",
                    f"{change_words(r.ratio - 1)} ({percent(r.abs_error)})",
                    inside,
                    f"{r.source}, {r.id}",
                ]
            )
    if not lines:
        return None
    return Table(
        title="Accuracy of the nearest measured points",
        columns=word_columns(
            [
                "row",
                "measured chip",
                "model",
                "parameters",
                "chips",
                "predicted time over measured",
                "in the 90% range",
                "source",
            ]
        ),
        rows=lines,
        note=(
            "Published training steps on the same chip (or one of its vendor's), nearest in kind and size of the model"
            " and in chips, predicted now. Constants are fitted to such rows: mowich validate has errors of rows left"
            " out."
        ),
    )


def explainer_of(result: Result, facts: Facts) -> Explainer | None:
    """An explainer, or None where the result has nothing to make again."""
    try:
        return Explainer(result, facts)
    except UserError:
        return None
