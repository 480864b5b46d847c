"""The page of public claims, each with its verdict, and the question of memory; docs/claims.md says the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mowich.show import charts
from mowich.show.charts import Chart
from mowich.show.formats import UNKNOWN, number_text, percent
from mowich.show.page import GIB, NOTHING, Cell, Column, Page, Part, Run, Table, TextCell, Words, word_columns
from mowich.shown import Result
from mowich.units import show

if TYPE_CHECKING:
    from mowich.studies.claims import Claim
    from mowich.studies.memory_claim import MemoryRow

VERDICTS = {"holds": "hold", "holds only if": "hold only under a condition", "does not follow": "do not follow"}
"""Verdicts of several claims."""


def value_text(value: float | None, unit: str = "") -> str:
    """A derived number in four digits with its unit: "1.08 EFLOP/s", "4.36 x"."""
    if value is None:
        return NOTHING
    return f"{value:.4g} {unit}".rstrip() if unit in ("", "x", "tokens/s") else show(value, unit, 4)


def memory_dict(row: MemoryRow) -> dict[str, object]:
    """A row of the memory table, as in the JSON of `mowich claims`."""
    return {name: getattr(row, name) for name in row.__slots__}


def claims_page(result: Result, run: Run) -> Page:
    """Public claims against what facts give; then what memory per chip costs."""
    found, count = result["claims"], result["verdicts"]
    said = ", ".join(f"{n} {VERDICTS.get(verdict, verdict) if n > 1 else verdict}" for verdict, n in count.items())
    return Page(
        title="Public claims, derived again",
        sentences=(f"Of {sum(count.values())} claims {said}.",),
        assumptions=[("facts", str(result.get("facts_hash", "")))],
        parts=(
            *_by_group(found),
            _claims(found),
            *_memory(result.get("memory") or (), wide=bool(result.get("inputs", {}).get("word"))),
            Words(text="Next: mowich claims --json  |  docs/claims.md", kind="next", indent=0, gap=True),
        ),
        charts=_pictures(found),
        records=found,
        inputs=result.get("inputs", {}),
    )


def _by_group(found: Sequence[Result]) -> list[Words]:
    """Claims by group, with what was published, derived and judged, and why, where a table has no room."""
    out = []
    for group in dict.fromkeys(c["group"] for c in found):
        for i, c in enumerate(c for c in found if c["group"] == group):
            derived = f"; derived {value_text(c['derived'], c['unit'])}" if c["derived"] is not None else ""
            text = f"{c['verdict'].upper()}: {c['claim']}: published {c['published']}{derived}"
            out += [] if i else [Words(text=group, kind="heading", indent=0, gap=True)]
            out.append(Words(text=text, kind="caption"))
            if c["formula"] and c["derived"] is not None:
                out.append(Words(text=f"= {c['formula']}", kind="caption", indent=6))
            if c["reason"]:
                out.append(Words(text=c["reason"], kind="caption", indent=6))
    return out


def _claims(found: Sequence[Result]) -> Table:
    def derived(c: Result) -> Cell:
        if c["derived"] is None:
            return TextCell(UNKNOWN, "nothing is derived")
        return TextCell(value_text(c["derived"], c.get("unit", "")), c["formula"], f"{c['id']}.derived")

    return Table(
        title="Claims",
        columns=word_columns(["claim", "published", "derived", "verdict", "formula", "why", "source"]),
        rows=[
            [
                c["claim"],
                c["published"],
                derived(c),
                c["verdict"],
                c["formula"] or NOTHING,
                c["reason"] or NOTHING,
                c["source"],
            ]
            for c in found
        ],
        wide=True,
    )


def _pictures(found: Sequence[Result]) -> list[Chart]:
    bars = [
        (c["claim"][:60], *(c[k] / c["published_value"] for k in ("low", "derived", "high")))
        for c in found
        if c["derived"] and c["published_value"] and c["low"] and c["high"]
    ]
    note = "1 is what was claimed; the bar spans the ranges of the facts."
    return [charts.ranges("Derived over claimed", note, bars, unit="derived / claimed", log=True)] if bars else []


# what memory per chip costs
# ----------------------------------------------------------------------------------------------------------------------


MEMORY_HEAD = (
    "model",
    "context",
    "system",
    "memory",
    "chips that hold it",
    "chips",
    "tokens/s/chip",
    "reads of weights",
    "left on 8 chips",
    "below 10% from",
    "equal price at",
)

LESS_NEEDED = ("left on 8 chips", "below 10% from", "chips that hold it")
"""Columns that go first where there is no room for all."""


def _memory_row(r: Result) -> list[Cell]:
    """One row of the memory table, in more digits where there is room."""
    fuller = {
        "memory": number_text(r["memory_B"] / GIB),
        "tokens/s/chip": number_text(r["tokens_per_s"]),
        "reads of weights": percent(r["loss"]),
        "equal price at": number_text(r["price_ratio"]),
    }
    return [
        TextCell(fuller.get(name, said), short=said) for name, said in zip(MEMORY_HEAD, memory_cells(r), strict=True)
    ]


def _memory(rows: Sequence[Result], *, wide: bool) -> list[Part]:
    """wide: only where there is room, because another question was asked."""
    if not rows:
        return []
    caption = "What memory per chip costs: decoding with 8-bit weights and cache, memory full"
    table = Table(
        title="What memory per chip costs",
        columns=[
            Column(
                name=n,
                unit="GiB" if n == "memory" else "",
                short=n,
                right=n not in ("model", "system"),
                keep=9 if n in LESS_NEEDED else 99,
            )
            for n in MEMORY_HEAD
        ],
        rows=[_memory_row(r) for r in rows],
        note="Decoding with 8-bit weights and cache, memory full.",
        gap=False,
        wide=wide,
        elsewhere="--json",
    )
    return [table] if wide else [Words(text=caption, kind="caption", indent=0, gap=True), table]


def memory_cells(r: Result) -> list[str]:
    """One row of the memory table."""
    return [
        r["model"],
        f"{r['context']:,}",
        r["system"],
        show(r["memory_B"], "B"),
        f"{r['chips_min']:,}",
        f"{r['chips']:,}",
        "-" if r["tokens_per_s"] is None else f"{r['tokens_per_s']:,.4g}",
        "-" if r["loss"] is None else f"{100 * r['loss']:.1f}%",
        f"{100 * r['left_at_8']:.0f}%",
        f"{r['offset_chips']:,}",
        "-" if r["price_ratio"] is None else f"{r['price_ratio']:.2f}",
    ]


# docs/claims.md
# ----------------------------------------------------------------------------------------------------------------------


def document(found: Sequence[Claim], memory: Sequence[MemoryRow]) -> str:
    """docs/claims.md."""
    verdicts = dict.fromkeys(c.verdict for c in found)
    count = ", ".join(f"{sum(c.verdict == v for c in found)} {v}" for v in sorted(verdicts))
    out = [
        "# Public claims, derived again",
        "",
        (
            "Generated by `make accuracy` from facts/claims and the facts of the machines; the same as `mowich claims`."
            " Do not edit."
        ),
        "",
        (
            f"{len(found)} claims: {count}. *Holds*: the formula, with facts of grade A to C, gives the published"
            " number within 5.5%. *Holds only if*: true under the stated condition."
        ),
        "*Does not follow*: the facts give another number. *Cannot be checked*: something is not published; said what.",
        "",
    ]
    for group in dict.fromkeys(c.group for c in found):
        out += [f"## {group}", "", "| claim | published | derived | formula | verdict | why |", "|--|--|--|--|--|--|"]
        for c in (c for c in found if c.group == group):
            span = (
                f" ({value_text(c.low, c.unit)} .. {value_text(c.high, c.unit)})"
                if c.low is not None and c.high is not None and c.low < c.high
                else ""
            )
            cells = [
                c.text,
                c.published,
                value_text(c.derived, c.unit) + span,
                c.formula or "-",
                f"**{c.verdict}**",
                c.reason or "-",
            ]
            out.append("| " + " | ".join(x.replace("|", "/") for x in cells) + " |")
        out.append("")
    out += [
        "## 144, 192 or 288 GB",
        "",
        (
            "Decoding with memory full: a step reads all of it, so tokens per second and chip are (B / k) (1 - W / (n"
            " m)): B bandwidth, k bytes of one sequence's cache, W weights, n chips of m"
        ),
        (
            "bytes. Memory per chip matters only through W / (n m), the share of the bandwidth that reads weights: a"
            " larger domain buys back what the chip lacks. An upper bound: compute, collectives and batching limits are"
            " left out. Chips: one UltraServer (144), as many Ironwood, one NVL72. *Below 10% from*: chips from which"
            " weights cost less than a tenth of the bandwidth."
        ),
        "*Equal price at*: price per chip over Trainium 3's at which a token costs the same.",
        "",
        "| " + " | ".join(MEMORY_HEAD) + " |",
        "|" + "--|" * len(MEMORY_HEAD),
        *("| " + " | ".join(memory_cells(memory_dict(r))) + " |" for r in memory),
        "",
        follows(memory),
        "",
    ]
    return "\n".join(out)


def follows(rows: Sequence[MemoryRow]) -> str:
    """What the memory table says, with its numbers."""
    mine = [r for r in rows if r.system == rows[0].system]
    big = max(mine, key=lambda r: (r.chips_min, r.loss or 0.0))
    other = next(r for r in rows if r.model == big.model and r.context == big.context and r.system == rows[2].system)
    return (
        f"What follows: 144 GB costs chips, and time on few chips. {big.model} at {big.context:,} tokens needs"
        f" {big.chips_min} chips of 144 GB against {other.chips_min} of 288 GB, and on 8 chips"
        f" {100 * big.left_at_8:.0f}% of the bandwidth is left for sequences against {100 * other.left_at_8:.0f}%. From"
        f" {big.offset_chips} chips on weights take less than a tenth, and on an UltraServer of 144 at most"
        f" {100 * max(r.loss or 0.0 for r in mine):.1f}%: there the difference is bandwidth, not capacity, and a token"
        " costs the same where another chip's price is the ratio in the last column times Trainium 3's."
    )
