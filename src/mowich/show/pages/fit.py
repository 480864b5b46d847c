"""The page of `fit`: what takes the memory of a device, and how few chips would do."""

from __future__ import annotations

from mowich.show import charts
from mowich.show.page import GIB, Cell, Page, Result, Table, counted, plan_words
from mowich.show.table import number, percent


def fit_page(result: Result) -> Page:
    """Does it fit: memory of a device against what a program may use, and how few chips would do."""
    inputs, memory = result["inputs"], result["memory_B"]
    serving = inputs.get("task") == "serve"
    word = {True: "Fits", False: "Does not fit", None: "May fit"}[result["fits"]]
    least = (
        f"; the smallest that fits is {counted(result['smallest_chips'], 'chip')}"
        if result["smallest_chips"]
        else "; nothing that was tried fits"
    )
    room = (
        f", with room for {counted(result['requests'], 'request')} of {inputs['kv_tokens']:,.0f} tokens"
        if serving and result["fits"] is not False
        else ""
    )
    reason = f" ({result['reason']})" if result.get("reason") else ""
    if reason and not serving:
        reason = f" ({result['reason']} per device)" if result["reason"].endswith("short") else reason
    where = f"{counted(result['chips'], 'chip')} of {result['system_id']}"
    pictures = []
    used = {k: [v / GIB] for k, v in memory.items()}
    if memory:
        pictures.append(
            charts.stacked_bars(
                "Memory of a device against what a program may use",
                "The mark is the usable capacity.",
                [str(result["system_id"])],
                used,
                unit="GiB",
                marks=[result["memory_capacity_B"] / GIB],
                mark="usable",
            )
        )
    formats = {w: h for w, h in (result.get("smallest_by_weights") or {}).items() if h}
    if formats:
        names = [f"{w}: {counted(h['chips'], 'chip')}" for w, h in formats.items()]
        kinds = list(dict.fromkeys(k for h in formats.values() for k in h["memory_B"]))
        pictures.append(
            charts.stacked_bars(
                "Fewest chips by format of the weights",
                "Memory of a device there, with the caches of the requests that fit.",
                names,
                {k: [h["memory_B"].get(k, 0.0) / GIB for h in formats.values()] for k in kinds},
                unit="GiB",
                marks=[result["memory_capacity_B"] / GIB] * len(names),
                mark="usable",
            )
        )
    rows: list[list[Cell]] = [[k, number(v / GIB), percent(v / result["memory_capacity_B"])] for k, v in memory.items()]
    rows.append(
        ["sum", number(sum(memory.values()) / GIB), percent(sum(memory.values()) / result["memory_capacity_B"])]
    )
    tables = [Table(title="Memory of a device", head=["what", "GiB", "of the usable"], rows=rows)]
    if formats:
        tables.append(
            Table(
                title="Fewest chips by format",
                head=["weights", "chips", "workers", "requests", "plan"],
                rows=[
                    [w, str(h["chips"]), str(h["workers"]), f"{h['requests']:,}", plan_words(h["plan"])]
                    for w, h in formats.items()
                ],
            )
        )
    work = (
        f"{inputs['kv_tokens']:,.0f} tokens a request"
        if serving
        else f"sequences of {inputs['seq']}, batch of {inputs['batch_seqs']:g}"
    )
    return Page(
        title=f"{inputs['model']} on {where}",
        headline=f"{word} on {where}{reason}{room}{least}.",
        assumptions=[
            ("model", str(inputs["model"])),
            ("work", work),
            ("plan", plan_words(result["plan"])),
            ("most of it", str(result["binds"])),
        ],
        tables=tables,
        charts=pictures,
        inputs=inputs,
    )
