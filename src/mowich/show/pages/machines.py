"""Pages of machines: collective, goodput, power."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mowich.show import charts
from mowich.show.page import Cell, Page, Result, Table, cell, counted, estimate
from mowich.show.table import UNKNOWN, interval, number, percent
from mowich.units import show


def size_words(B: float) -> str:
    """ "1 MiB", "64 KiB", "1.5 GB"."""
    for unit, name in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if unit <= B and B % unit == 0:
            return f"{B // unit:g} {name}"
    return show(float(B), "B")


def time_words(data: Mapping[str, Any]) -> str:
    """ "226 ms (131 ms to 406 ms)"."""
    return f"{show(data['value'], 's')} ({show(data['low'], 's')} to {show(data['high'], 's')})"


def collective_page(result: Result) -> Page:
    """Time and bus bandwidth of a collective against size, and what its time is made of."""
    rows, inputs = result["rows"], result["inputs"]
    names = [size_words(r["bytes"]) for r in rows]
    us = 1e6
    largest = rows[-1]
    parts = list(dict.fromkeys(k for r in rows for k in r["time_s"]["breakdown"]))
    share = {k: [100 * r["time_s"]["breakdown"].get(k, 0.0) / r["time_s"]["value"] for r in rows] for k in parts}
    pictures = []
    if len(rows) > 1:
        ends = {
            word: [(r["bytes"] / 2**20, us * float(r["time_s"][key]), size_words(r["bytes"])) for r in rows]
            for word, key in (("time", "value"), ("90% low", "low"), ("90% high", "high"))
        }
        pictures.append(
            charts.points(
                "Time against size",
                "Both axes logarithmic.",
                ends,
                x="MiB",
                y="us",
                log_x=True,
                log_y=True,
                line=True,
            )
        )
        pictures.append(
            charts.points(
                "Bus bandwidth against size",
                "As nccl-tests define it: comparable with the links.",
                {"bus bandwidth": [(r["bytes"] / 2**20, r["busbw_Bps"] / 1e9, r["binds"]) for r in rows]},
                x="MiB",
                y="GB/s",
                log_x=True,
                line=True,
            )
        )
    pictures.append(
        charts.ranges(
            "Time with its 90% range",
            "",
            [
                (n, us * r["time_s"]["low"], us * r["time_s"]["value"], us * r["time_s"]["high"])
                for n, r in zip(names, rows, strict=True)
            ],
            unit="us",
            log=True,
        )
    )
    if parts:
        pictures.append(
            charts.stacked_bars(
                "What the time is made of",
                "Bytes of each level, and the latency of steps and pipeline.",
                names,
                share,
                unit="% of the time",
            )
        )
    table: list[list[Cell]] = [
        [
            n,
            str(r["ranks"]),
            cell(r["time_s"], us, f"{i}.time_s"),
            (number(r["busbw_Bps"] / 1e9), "", f"{i}.busbw_Bps"),
            r["algorithm"],
            r["binds"],
            str(r["time_s"]["grade"]),
        ]
        for i, (n, r) in enumerate(zip(names, rows, strict=True), start=1)
    ]
    broken = ", ".join(inputs["faults"]) or "none"
    bound = largest["binds"] if largest["binds"] == "latency" else f"the {largest['binds'].replace('_', '-')} links"
    slow = (
        f"; bytes take {number(result['slowdown'])} times as long as on whole links" if result["slowdown"] > 1 else ""
    )
    return Page(
        title=f"{inputs['kind']} on {inputs['on']}",
        headline=(
            f"{names[-1]} among {largest['ranks']} chips: {time_words(largest['time_s'])},"
            f" {number(largest['busbw_Bps'] / 1e9)} GB/s of bus bandwidth, bound by {bound}{slow}."
        ),
        assumptions=[
            ("collective", str(inputs["kind"])),
            ("system", str(inputs["on"])),
            ("chips", str(largest["ranks"])),
            ("network", str(inputs["network"] or "the system's own")),
            ("failed", broken),
            ("beside", ", ".join(inputs["beside"]) or "nothing"),
            ("facts", str(result.get("facts_hash", ""))),
        ],
        tables=[
            Table(
                title="Sizes",
                head=["size", "chips", "time, us", "bus bandwidth, GB/s", "algorithm", "binds", "grade"],
                rows=table,
                note="Hover or focus a number for its grade and range.",
            )
        ],
        charts=pictures,
        warnings=result.get("warnings", ()),
        inputs=inputs,
    )


def goodput_page(result: Result) -> Page:
    """Ways of surviving failures: what each keeps, and where the time goes."""
    rows, inputs = result["rows"], result["inputs"]
    names = [r["strategy"] for r in rows]
    lost = list(dict.fromkeys(k for r in rows for k in r["lost"]))
    best = max(rows, key=lambda r: r["goodput"]["value"])
    close = [
        r["strategy"] for r in rows if r is not best and estimate(r["goodput"]).overlaps(estimate(best["goodput"]))
    ]
    parts = {"trains": [100 * r["goodput"]["value"] for r in rows]} | {
        k.replace("_", " "): [100 * r["lost"].get(k, 0.0) for r in rows] for k in lost
    }
    pictures = [
        charts.ranges(
            "Goodput with its 90% range",
            "Over the ranges of the facts and a run's luck.",
            [
                (n, 100 * r["goodput"]["low"], 100 * r["goodput"]["value"], 100 * r["goodput"]["high"])
                for n, r in zip(names, rows, strict=True)
            ],
            unit="% of the time",
        ),
        charts.stacked_bars("Where the time goes", "The parts sum to all of it.", names, parts, unit="% of the time"),
        charts.stacked_bars(
            "Recovery, and the longest that keeps the target",
            f"Target: goodput of {percent(result['target'])}. No bar: not even an instant recovery reaches it.",
            names,
            {"recovery": [r["recovery_s"] for r in rows]},
            unit="s",
            marks=[r["breakeven_recovery_s"] for r in rows],
            mark="longest for the target",
        ),
    ]
    table: list[list[Cell]] = [
        [
            r["strategy"],
            cell(r["goodput"], 100.0, f"{r['strategy']}.goodput"),
            number(100 * r["monte_carlo"]["mean"]),
            (number(r["mtbf_s"] / 3600), "", f"{r['strategy']}.mtbf_s"),
            number(r["failures"]),
            number(r["checkpoint_s"]),
            number(r["recovery_s"]),
            UNKNOWN if r["breakeven_recovery_s"] is None else number(r["breakeven_recovery_s"]),
        ]
        for r in rows
    ]
    head = [
        "strategy",
        "goodput, %",
        "simulated, %",
        "hours between failures",
        "failures",
        "checkpoint every, s",
        "recovery, s",
        "longest recovery for the target, s",
    ]
    word = f" ({', '.join(close)} overlap)" if close else ""
    return Page(
        title=f"{counted(inputs['days'], 'day')} on {counted(inputs['chips'], 'chip')} of {inputs['on'].split(':')[0]}",
        headline=(
            f"Highest: {best['strategy']}, {interval(estimate(best['goodput']), 100.0)}% of the time trains{word}; a"
            f" failure every {number(best['mtbf_s'] / 60)} minutes."
        ),
        assumptions=[
            ("system", str(inputs["on"])),
            ("chips", f"{inputs['chips']:,}"),
            ("step", f"{inputs['step_s']:g} s"),
            ("spare chips", percent(inputs["spare_share"])),
            ("chips of a replica", f"{inputs['replica_chips']:,}"),
            ("facts", str(result.get("facts_hash", ""))),
        ],
        tables=[Table(title="Strategies", head=head, rows=table, note="Hover or focus a number for its range.")],
        charts=pictures,
        warnings=result.get("warnings", ()),
        inputs=inputs,
    )


def power_page(result: Result) -> Page:
    """Power of machines by part, what a cap feeds, tokens per megawatt."""
    rows, inputs = result["rows"], result["inputs"]
    known = [r for r in rows if r["total_W"]["value"] is not None]
    names = [r["system"] for r in known]
    pictures = []
    if known:
        parts = list(known[0]["parts_W"])
        pictures = [
            charts.stacked_bars(
                "Power of a busy chip at the meter",
                "Provisioned: chip, its share of server and network, then cooling and losses.",
                names,
                {k: [r["parts_W"][k]["value"] or 0.0 for r in known] for k in parts},
                unit="W",
            ),
            charts.ranges(
                "The same with its 90% range",
                "",
                [(r["system"], r["total_W"]["low"], r["total_W"]["value"], r["total_W"]["high"]) for r in known],
                unit="W",
            ),
        ]
    for key, title, unit in (
        ("chips_under_cap", "Chips under the cap", "chips"),
        ("tokens_per_s_per_MW", "Tokens per second and megawatt", "tokens/s/MW"),
    ):
        bars = [
            (r["system"], r[key]["low"], r[key]["value"], r[key]["high"])
            for r in known
            if r.get(key) and r[key]["value"] is not None
        ]
        if bars:
            pictures.append(charts.ranges(title, "", bars, unit=unit))
    head = [
        "system",
        "chips",
        "chip, W",
        "server, W",
        "network, W",
        "cooling, W",
        "total, W",
        "idle, W",
        "machine, kW",
        "chips under cap",
        "tokens/s/MW",
        "grade",
    ]
    table: list[list[Cell]] = [
        [
            r["system"],
            str(r["chips"]),
            *(
                cell(r["parts_W"][k], metric=f"{r['system']}.parts_W.{k}")
                for k in ("chip", "server", "network", "cooling")
            ),
            cell(r["total_W"], metric=f"{r['system']}.total_W"),
            cell(r["idle_W"], metric=f"{r['system']}.idle_W"),
            cell(r["machine_W"], 1e-3, f"{r['system']}.machine_W"),
            cell(r["chips_under_cap"], metric=f"{r['system']}.chips_under_cap"),
            cell(r["tokens_per_s_per_MW"], metric=f"{r['system']}.tokens_per_s_per_MW"),
            str(r["total_W"]["grade"]),
        ]
        for r in rows
    ]
    words = (
        "; ".join(f"{r['system']} {interval(estimate(r['total_W']))} W a chip" for r in known) or "No power is known"
    )
    cap = "none" if inputs["cap_W"] is None else show(inputs["cap_W"], "W")
    return Page(
        title="Power of machines",
        headline=f"{words}, at the meter.",
        assumptions=[
            ("cap", cap),
            ("idle chips", percent(inputs["spares"])),
            ("facts", str(result.get("facts_hash", ""))),
        ],
        tables=[
            Table(title="Machines", head=head, rows=table, note="Hover or focus a number for its grade and range.")
        ],
        charts=pictures,
        inputs=inputs,
    )
