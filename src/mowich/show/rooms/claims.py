"""The page of public claims, each with its verdict, and the question of memory; docs/records/claims.md says the
same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mowich.estimate import Estimate
from mowich.show import charts
from mowich.show.charts import Chart
from mowich.show.formats import UNKNOWN, interval, number_text, percent
from mowich.show.page import (
    GIB,
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
    word_columns,
)
from mowich.shown import Result
from mowich.units import show

if TYPE_CHECKING:
    from mowich.studies.memory_claim import MemoryRow
    from mowich.studies.rooms.claims import Claim

VERDICTS = {"holds": "hold", "holds only if": "hold only under a condition", "does not follow": "do not follow"}
"""Verdicts of several claims."""

MISSING_HEAD = "What cannot be checked, and the measurement that would settle it"


def value_text(value: float | None, unit: str = "") -> str:
    """A derived number in four digits with its unit: "1.08 EFLOP/s", "4.36 x"."""
    if value is None:
        return NOTHING
    return f"{value:.4g} {unit}".rstrip() if unit in ("", "x") else show(value, unit, 4)


def page(result: Result, run: Run) -> Page:
    """Public claims against what facts give; what cannot be checked; what memory per chip costs."""
    found, count = result["claims"], result["verdicts"]
    checked = [c for c in found if not c["missing"]]
    said = ", ".join(f"{n} {VERDICTS.get(verdict, verdict) if n != 1 else verdict}" for verdict, n in count.items())
    return Page(
        title="Public claims, derived again",
        sentences=(
            f"{count.get('holds', 0)} of {sum(count.values())} claims hold without a condition.",
            f"Of {sum(count.values())} claims {said}.",
        ),
        assumptions=[("facts", str(result.get("facts_hash", "")))],
        parts=(
            *_checked(checked),
            *_missing([c for c in found if c["missing"]]),
            _claims(checked),
            *_memory(result.get("memory") or (), wide=bool(result.get("inputs", {}).get("word"))),
            Words(text="Next: mowich claims --json  |  mowich help claims", kind="next", indent=0, gap=True),
        ),
        charts=LateCharts(lambda: _pictures(found)),
        records=found,
        inputs=result.get("inputs", {}),
    )


def _checked(found: Sequence[Result]) -> Iterator[Words]:
    """Title, verdict, condition and formula of each claim, where a table has no room."""
    for c in found:
        yield Words(text=c["claim"], kind="heading", indent=0, gap=True)
        yield Words(text=c["plain"], kind="caption")
        if c["reason"]:
            yield Words(
                text=f"{'Condition' if c['verdict'] == 'holds only if' else 'Why'}: {c['reason']}.", kind="caption"
            )
        yield Words(text=f"Formula: {c['formula']}. Claimed by: {c['source']}.", kind="caption")


def _missing(found: Sequence[Result]) -> Iterator[Part]:
    """The claims that cannot be checked: by what is missing where there is little room, as one table elsewhere."""
    if not found:
        return
    yield Words(text=f"{MISSING_HEAD}:", kind="heading", indent=0, gap=True)
    for missing in dict.fromkeys(c["missing"] for c in found):
        named = "; ".join(f"{c['claim']} ({c['published']})" for c in found if c["missing"] == missing)
        yield Words(text=f"{missing}. Of: {named}.", kind="caption")
    yield Table(
        title=MISSING_HEAD,
        columns=word_columns(["claim", "claimed", "measurement that is missing", "source"]),
        rows=[[c["claim"], c["published"], c["missing"], c["source"]] for c in found],
        wide=True,
    )


_READINGS = (("per_unit", "a unit"), ("per_chip", "a chip"))


def _reading(c: Result, per: str, side: str, name: str = "") -> Cell:
    """A claim as claimed or as derived, for a unit or a chip."""
    own = c[per]
    if own is None:
        return NOTHING
    text = value_text(own[side], c["unit"])
    return TextCell(text, c["formula"], f"{c['id']}.{per}.{side}") if name else text


def _claims(found: Sequence[Result]) -> Table:
    def derived(c: Result) -> Cell:
        if c["derived"] is None:
            return TextCell(UNKNOWN, "nothing is derived")
        return TextCell(value_text(c["derived"], c["unit"]), c["formula"], f"{c['id']}.derived")

    sides = [
        (per, side, f"{words}, {heading}")
        for per, words in _READINGS
        for side, heading in (("published", "claimed"), ("derived", "from facts"))
    ]
    return Table(
        title="Claims that can be checked",
        columns=word_columns(
            [
                "claim",
                "verdict",
                "claimed",
                "from facts",
                *(head for _, _, head in sides),
                "formula",
                "condition or reason",
                "source",
            ]
        ),
        rows=[
            [
                c["claim"],
                c["verdict"],
                value_text(c["published_value"], c["unit"]),
                derived(c),
                *(_reading(c, per, side, head) for per, side, head in sides),
                c["formula"] or NOTHING,
                c["reason"] or NOTHING,
                c["source"],
            ]
            for c in found
        ],
        note="A unit is an UltraServer, a rack or a pod. Both readings stand where the chips of a unit are known.",
        wide=True,
    )


def _pictures(found: Sequence[Result]) -> list[Chart]:
    bars = [
        (c["claim"], *(c[k] / c["published_value"] for k in ("low", "derived", "high")))
        for c in found
        if not c["missing"] and c["derived"] and c["published_value"] and c["low"] and c["high"]
    ]
    note = "1 is what was claimed; the bar spans the ranges of the facts."
    return [charts.ranges("Derived over claimed", note, bars, unit="derived / claimed", log=True)] if bars else []


# what memory per chip costs
# ----------------------------------------------------------------------------------------------------------------------


MEMORY_HEAD = (
    "model",
    "system",
    "memory",
    "chips that hold it",
    "planned tokens/s/chip",
    "equal price at",
    "bound tokens/s/chip",
    "bound ratio",
    "reads of weights",
    "left on 8 chips",
    "below 10% from",
)

LESS_NEEDED = ("reads of weights", "left on 8 chips", "below 10% from", "chips that hold it")
"""Columns that go first where there is no room for all."""


def _memory_row(r: Result) -> list[Cell]:
    """One row of the memory table, in more digits where there is room."""
    fuller = {
        "memory": number_text(r["memory_B"] / GIB),
        "bound tokens/s/chip": number_text(r["tokens_per_s"]),
        "reads of weights": percent(r["loss"]),
        "bound ratio": number_text(r["bound_ratio"]),
    }
    return [
        TextCell(fuller.get(name, said), short=said) for name, said in zip(MEMORY_HEAD, memory_cells(r), strict=True)
    ]


def _memory(rows: Sequence[Result], *, wide: bool) -> list[Part]:
    """wide: only where there is room, because another question was asked."""
    if not rows:
        return []
    from mowich.studies.memory_claim import MEMORY_COMMAND, MEMORY_CONTEXT

    caption = f"What memory per chip costs, prompts of {MEMORY_CONTEXT:,} tokens. Planned as by: {MEMORY_COMMAND}"
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
        note=f"Planned: {MEMORY_COMMAND}. Bound: decoding with 8-bit weights and cache, memory full, bandwidth alone.",
        gap=False,
        wide=wide,
        elsewhere="--json",
    )
    if wide:
        return [table]
    said = Words(text=follows(rows), kind="caption", indent=0, gap=True)
    return [Words(text=caption, kind="caption", indent=0, gap=True), table, said]


def memory_cells(r: Result) -> list[str]:
    """One row of the memory table."""
    planned, price = (Estimate.from_dict(r[k]) for k in ("planned_tokens_per_s", "price_ratio"))
    return [
        r["model"],
        r["system"],
        show(r["memory_B"], "B"),
        f"{r['chips_min']:,}",
        UNKNOWN if planned.value is None else interval(planned),
        UNKNOWN if price.value is None else interval(price),
        f"{r['tokens_per_s']:,.4g}",
        f"{r['bound_ratio']:.2f}",
        f"{100 * r['loss']:.1f}%",
        f"{100 * r['left_at_8']:.0f}%",
        f"{r['offset_chips']:,}",
    ]


# docs/records/claims.md
# ----------------------------------------------------------------------------------------------------------------------


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(x.replace("|", "/") for x in cells) + " |"


def document(found: Sequence[Claim], memory: Sequence[MemoryRow]) -> str:
    """docs/records/claims.md."""
    from mowich.studies.memory_claim import MEMORY_COMMAND

    verdicts = dict.fromkeys(c.verdict for c in found)
    count = ", ".join(f"{v}: {sum(c.verdict == v for c in found)}" for v in sorted(verdicts))
    rows: list[Result] = [r.to_dict() for r in memory]
    out = [
        "# Public claims, derived again",
        "",
        (
            "A vendor, an analyst or the press published a figure. Here each figure is worked out again from the facts"
            " of the machines, and gets a verdict. `mowich claims` prints the same, and"
            ' `mowich claims "4x"` searches titles, figures and verdicts. Generated by `make accuracy`; do not edit.'
        ),
        "",
        (
            f"There are {len(found)} claims ({count}). *Holds* means that the formula, with facts of grade A to C,"
            " gives the published number within 5.5%. *Holds only if* means that it is true under the stated condition."
        ),
        (
            "*Does not follow* means that the facts give another number. *Cannot be checked* means that no source"
            " gives a figure that it needs; the page says which. Claims that can be checked come first, Trainium 3"
            " before others. Then they are in the order of their weight for one question: do scale and price make up"
            " for a smaller memory?"
        ),
        "The order is price, memory, scale, energy, serving, training, compute.",
        "",
        "## What can be checked",
        "",
    ]
    for c in (c for c in found if not c.missing):
        why = f" {'Condition' if c.verdict == 'holds only if' else 'Why'}: {c.reason}." if c.reason else ""
        out += [
            f"### {c.text}",
            "",
            f"{c.plain}{why}",
            f"Published: {c.published} ({c.source}). Formula: {c.formula}.",
            "",
        ]
        if c.per_chip is not None and c.per_unit is not None:
            chips = " against ".join(f"{n:,}" for n in c.unit_chips)
            out += [
                _row(["", "claimed", "from facts"]),
                "|--|--:|--:|",
                *(
                    _row([name, value_text(x.published, c.unit), value_text(x.derived, c.unit)])
                    for name, x in ((f"a unit of {chips} chips", c.per_unit), ("a chip", c.per_chip))
                ),
                "",
            ]
    out += [
        f"## {MISSING_HEAD}",
        "",
        _row(["claim", "claimed", "measurement that is missing"]),
        "|--|--|--|",
        *(_row([c.text, c.published, c.missing]) for c in found if c.missing),
        "",
        "## 144, 192 or 288 GB",
        "",
        (
            "*Planned* is the served tokens per second and chip of the best plan, as shipped, with its 90% range. It is"
            " the answer of this command, by the same function:"
        ),
        "",
        "```console",
        *(f"$ {MEMORY_COMMAND.replace('MODEL', name)}" for name in dict.fromkeys(r.model for r in memory)),
        "```",
        "",
        "*Equal price at* is the price of a chip, over that of Trainium 3, at which a planned token costs the same.",
        "",
        (
            "*Bound* is decoding with full memory, limited by bandwidth alone. A step reads all of the memory, so"
            " tokens per second and chip are (B / k) (1 - W / (n m)). B is the bandwidth, k the bytes of one sequence's"
            " cache,"
        ),
        (
            "W the weights, and there are n chips of m bytes. Memory per chip matters there only through W / (n m), the"
            " share of the bandwidth that reads weights. So a larger domain makes up for what the chip lacks. Compute,"
            " links, software and limits of time are left out, so the bound does not say what a token costs."
        ),
        (
            "The chips are one UltraServer (144), as many Ironwood, and one NVL72. *Below 10% from* is the number of"
            " chips from which weights cost less than a tenth of the bandwidth."
        ),
        "",
        "| " + " | ".join(MEMORY_HEAD) + " |",
        "|" + "--|" * len(MEMORY_HEAD),
        *(_row(memory_cells(r)) for r in rows),
        "",
        follows(rows),
        "",
    ]
    return "\n".join(out)


def follows(rows: Sequence[Result]) -> str:
    """What the memory table says, with its numbers."""
    first = rows[0]["system"]
    mine = [r for r in rows if r["system"] == first]
    last = [r for r in rows if r["system"] == rows[2]["system"]]
    big = max(mine, key=lambda r: (r["chips_min"], r["loss"]))
    other = next(r for r in last if r["model"] == big["model"])
    prices = sorted(p.value for r in last if (p := Estimate.from_dict(r["price_ratio"])).value is not None)
    bound = last[0]["bound_ratio"]
    dearer = f"{prices[0]:.2g} to {prices[-1]:.2g}" if prices else UNKNOWN
    return (
        f"What follows: 144 GB costs chips, and time on few chips. {big['model']} needs {big['chips_min']} chips of"
        f" 144 GB against {other['chips_min']} of 288 GB. From {big['offset_chips']} chips on weights take less than a"
        " tenth of the bandwidth, and there capacity is no longer what differs. By bandwidth alone a"
        f" {rows[2]['system']} chip would be worth {bound:.2g} of a {first} one; as planned, with compute, links and"
        f" software, it is worth {dearer}: a token costs the same where its price per chip is that many times as high."
    )
