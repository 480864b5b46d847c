"""The page of traffic: what users see when an engine is played out request by request."""

from __future__ import annotations

from mowich.show import charts
from mowich.show.formats import UNKNOWN, number_text, percent, seconds
from mowich.show.page import Cell, Column, LateCharts, Page, Run, Table, TextCell, Words, counted, paragraphs
from mowich.show.rows import kinds
from mowich.show.serve import measured_line
from mowich.shown import Result
from mowich.units import sig

_TIMES = {
    "time to first token": "ttft_s",
    "time per output token": "tpot_s",
    "whole request": "e2e_s",
    "wait in the queue": "queue_s",
}
"""What users see, in words."""

_MARKS = ("mean", "p50", "p90", "p99")


def traffic_page(result: Result, run: Run) -> Page:
    """Percentiles of what users see, throughput, cost, and what the times rest on."""
    inputs = result["inputs"]
    where = (
        f"{inputs['model']} on {counted(result['chips'], 'chip')} of {inputs['system']}, engine {inputs['engine']},"
        f" {counted(inputs['replicas'], 'replica')}"
    )
    where += _apart(inputs)
    scale = inputs.get("autoscale")
    if scale:
        where += _from_to(scale)
    return Page(
        title=str(inputs.get("name", "Traffic")),
        sentences=_sentences(result),
        assumptions=[
            ("requests", f"{result['completed']:,} of {result['requests']:,}"),
            ("utilisation", percent(result.get("utilisation"))),
            ("tokens/s/chip", number_text(result.get("tokens_per_s_per_chip"))),
            ("$/Mtok", number_text(result.get("usd_per_mtok"))),
            ("J/token", number_text(result.get("J_per_token"))),
            ("facts", str(result.get("facts_hash", ""))),
        ],
        parts=(
            Words(text=where, kind="job", gap=True),
            _seen(result),
            *_scaled_tables(result),
            *paragraphs(_remarks(result, run), "basis", gap=True),
            *paragraphs(result.get("warnings", ()), "warning"),
        ),
        charts=LateCharts(
            lambda: (
                [
                    charts.stacked_bars(
                        f"{name[0].upper()}{name[1:]}: percentiles",
                        "",
                        list(_MARKS),
                        {name: [found[m] * 1e3 for m in _MARKS]},
                        unit="ms",
                    )
                    for name, (_, found) in _times(result).items()
                    if found["mean"] is not None  # nothing was answered
                ]
                + _scaled_charts(result)
            )
        ),
        inputs=inputs,
    )


def _from_to(scale: Result) -> str:
    """Between which numbers of replicas, and by which rule."""
    by = scale.get("by", "inside")
    rule = {"inside": "as the load asks for", "queue": "by what waits", "sla": "by limits on times"}.get(
        by if isinstance(by, str) else by[0], "by a forecast"
    )
    if isinstance(scale["least"], dict):
        numbers = " and ".join(f"{scale['least'][pool]} to {scale['most'][pool]} for {pool}" for pool in scale["least"])
        return f", from {numbers}, {rule}"
    return f", from {scale['least']} to {scale['most']} {rule}"


def _scaled_tables(result: Result) -> list[Table]:
    """Rules beside each other, and what the rule paid beyond the best in hindsight."""
    scaling = result.get("scaling") or {}
    out = []
    if rows := scaling.get("rules"):
        has_regret = "regret_frac" in rows[0]
        out.append(
            Table(
                title="Rules over the same load",
                columns=[
                    *(Column(name=name, right=False) for name in ("rule",)),
                    *(
                        Column(name=name)
                        for name in ("within SLO", "chip-hours", "$", "TTFT p99", "TPOT p99", "ordered")
                    ),
                    *([Column(name="regret")] if has_regret else []),
                ],
                rows=[
                    [
                        row["by"],
                        percent(row["goodput_frac"]),
                        number_text(row["chip_hours"]),
                        number_text(row["usd"]),
                        seconds(row["ttft_p99_s"]),
                        seconds(row["tpot_p99_s"]),
                        str(row["scale_ups"]),
                        *([percent(row["regret_frac"])] if has_regret else []),
                    ]
                    for row in rows
                ],
                elsewhere="--json",
            )
        )
    if regret := scaling.get("regret"):
        names = {"rule": "this rule", "constant": "best constant number", "hindsight": "best in hindsight"} | {
            "known_rate": "by limits, rate known"
        }
        out.append(
            Table(
                title=f"Regret: the cheapest that keeps {percent(regret['goodput_frac'])} within the SLO",
                columns=[
                    Column(name="replicas", right=False),
                    *(Column(name=name) for name in ("within SLO", "chip-hours", "$")),
                ],
                rows=[
                    [
                        words + (f" ({', '.join(map(str, one['replicas']))})" if "replicas" in one else ""),
                        percent(one["goodput_frac"]),
                        number_text(one["chip_hours"]),
                        number_text(one["usd"]),
                    ]
                    for key, words in names.items()
                    if (one := regret[key]) is not None
                ],
                elsewhere="--json",
            )
        )
    return out


def _scaled_charts(result: Result) -> list[charts.Chart]:
    """Load and replicas over time, of each pool."""
    out = []
    for name, pool in (result.get("scaling") or {}).get("pools", {}).items():
        looks = pool["timeline"]
        if len(looks) < 2:
            continue
        most = max(1, *(look["inside"] for look in looks))
        top = max(look["paid"] for look in looks)
        lines = {
            "wanted": [look["wanted"] for look in looks],
            "serving": [look["up"] for look in looks],
            "paid": [look["paid"] for look in looks],
            f"requests inside ({sig(most)} at most)": [top * look["inside"] / most for look in looks],
        }
        hours = [look["at_s"] / 3600.0 for look in looks]
        out.append(
            charts.points(
                f"Load and replicas over time{'' if name == 'replica' else f', {name}'}",
                "requests inside are drawn to the height of the most replicas",
                {k: [(x, y, k) for x, y in zip(hours, ys, strict=True)] for k, ys in lines.items()},
                x="hours",
                y="replicas",
                line=True,
                from_zero=True,
            )
        )
    return out


def _regretted(result: Result) -> list[str]:
    """What came and went, and what it cost."""
    scaling = result.get("scaling")
    if not scaling:
        return []
    price = "" if scaling["usd_per_day"] is None else f", ${sig(scaling['usd_per_day'])} a day"
    hours = [hour for hour in scaling["hours"] if hour["goodput_frac"] is not None]
    worst = min(hours, key=lambda hour: hour["goodput_frac"], default=None)
    lines = [f"{sig(scaling['chip_hours'])} chip-hours paid for{price}; {scaling['scale_downs']} replicas sent away"]
    if worst is not None and len(hours) > 1:
        at = f"{sig(worst['from_s'] / 3600.0)} h"
        lines.append(f"worst hour begins at {at}: {percent(worst['goodput_frac'])} of its requests within the SLO")
    if start := scaling.get("start_s"):
        parts = ", ".join(f"{name} {seconds(part)}" for name, part in start["breakdown"].items() if part)
        ends = f"{seconds(start['low'])}-{seconds(start['high'])}"
        lines.append(f"a replica starts in {seconds(start['value'])} ({ends}): {parts}")
    if regret := scaling.get("regret"):
        short = regret["short_frac"]
        lines.append(
            f"regret {sig(regret['chip_hours'])} chip-hours: {percent(regret['frac'])} of what the rule paid, over"
            f" {regret['plays']} plays of the load"
            + (f"; the rule lacks {percent(short)} of the asked goodput" if short > 0 else "")
        )
    return lines


def _apart(inputs: Result) -> str:
    """The pools that decode and that encode, where they are others."""
    encoders = (inputs.get("encoder") or {"workers": 0})["workers"]
    behind = f", {counted(encoders, 'worker')} for images and sound" if encoders else ""
    if not inputs["decode_plan"]:
        return behind
    there = inputs.get("decode_system")
    where = f" on {there}, engine {inputs['decode_engine']}" if there != inputs["system"] else ""
    return f" for prefill and {inputs['decode_replicas']} for decode{where}{behind}"


def _sentences(result: Result) -> tuple[str, str]:
    """How many requests were served, and what users saw."""
    good = "" if result["goodput_frac"] is None else f", {percent(result['goodput_frac'])} within the SLO"
    ttft, tpot = result["ttft_s"], result["tpot_s"]
    task = (result.get("sessions") or {}).get("task_s") or {}
    tasks = f"; a task p50 {seconds(task['p50'])}, p99 {seconds(task['p99'])}" if task.get("mean") else ""
    return (
        f"{result['completed']:,} of {result['requests']:,} requests served{good}.",
        f"TTFT p50 {seconds(ttft['p50'])}, p99 {seconds(ttft['p99'])}; TPOT p50 {seconds(tpot['p50'])}, p99"
        f" {seconds(tpot['p99'])}{tasks}.",
    )


def _times(result: Result) -> dict[str, tuple[str, Result]]:
    """What users see, in words: its key, its marks. Of sessions, the time to a task too."""
    found = {name: (key, result[key]) for name, key in _TIMES.items()}
    if result.get("sessions"):
        found["whole task"] = ("task_s", result["sessions"]["task_s"])
    return found


def _seen(result: Result) -> Table:
    ranges: Result = result.get("ranges") or {}
    rows: list[list[Cell]] = [
        [
            name,
            *(TextCell(number_text(found[m], 1e3), short=seconds(found[m])) for m in _MARKS),
            *([_range(ranges.get(key, {}).get("p99"))] if ranges else []),
        ]
        for name, (key, found) in _times(result).items()
    ]
    columns = [Column(name="seen by users", right=False), *(Column(name=n) for n in _MARKS)]
    if ranges:
        columns.append(Column(name="p99 range"))
    return Table(title="What users see, ms", columns=columns, rows=rows, elsewhere="--json")


def _range(ends: list[float] | None) -> TextCell:
    """The 90% interval of a time."""
    if ends is None:
        return TextCell(UNKNOWN)
    low, high = ends
    return TextCell(f"{number_text(low, 1e3)}-{number_text(high, 1e3)}", short=f"{seconds(low)}-{seconds(high)}")


def _remarks(result: Result, run: Run) -> list[str]:
    price = UNKNOWN if result["usd_per_mtok"] is None else f"${sig(result['usd_per_mtok'])}"
    coverage = result["coverage"]
    rests = next(iter(coverage)) if len(coverage) == 1 else kinds(coverage)
    window = "" if result["counted"] == result["completed"] else f"{result['counted']:,} requests stand in the times; "
    chips = f"{sig(result['chips_mean'])} of {result['chips']} chips paid for on average"
    if result["scale_ups"]:
        chips += f", {result['scale_ups']} replicas ordered"
    took = "" if run.seconds is None else f" in {sig(run.seconds)} s of processor time"
    return [
        f"{window}{sig(result['in_flight'])} requests inside on average, {sig(result['requests_per_s'])} answered per"
        " second",
        *([chips] if result["inputs"].get("autoscale") else []),
        *_regretted(result),
        *_transfer(result["inputs"].get("transfer")),
        *_media(result),
        f"{sig(result['tokens_per_s_per_chip'])} output tokens/s per chip over {sig(result['makespan_s'])} s; replicas"
        f" busy {percent(result['utilisation'])} of the time",
        *_left_over(result),
        *_tiers(result),
        *_tasks(result.get("sessions")),
        f"{percent(result['cached_frac'])} of prompt tokens from the prefix cache; {result['preemptions']} preemptions;"
        f" {result['failures']} requests lost and sent again",
        *_disturbed(result.get("disturbed")),
        *_tenants(result.get("tenants")),
        f"energy {number_text(result['J_per_token'])} J per output token, price {price} per million of them",
        f"step times rest on {rests} constants",
        *([line] if (line := measured_line(result.get("measured"))) else []),
        f"{result['events']} events ({result['steps']} engine steps){took}",
    ]


_PARTS = {"model": "in the model", "queue": "in the queue", "loads": "loading cache", "tools": "in tools and thought"}
"""Parts of the time to a task, in words."""


def _tasks(sessions: Result | None) -> list[str]:
    """Sessions: what a task takes, where its time goes, what it costs."""
    if not sessions:
        return []
    total, parts = sessions["task_s"]["mean"], sessions["parts_s"]
    out = [f"{sessions['completed']:,} of {sessions['begun']:,} tasks completed"]
    if sessions["cut"]:
        out[0] += f"; {sessions['cut']:,} stopped where their prompt outgrew the cache, and stand in no time of a task"
    if sessions["goodput_frac"] is not None:
        out[0] += f"; {percent(sessions['goodput_frac'])} of the tasks in time"
    if total:
        where = ", ".join(f"{percent(parts[key] / total)} {words}" for key, words in _PARTS.items() if parts[key])
        out.append(f"a task takes {seconds(total)} on average: {where}")
    price = UNKNOWN if sessions["usd_per_task"] is None else f"${sig(sessions['usd_per_task'])}"
    if sessions["counted"]:
        out.append(
            f"{sig(sessions['calls_mean'])} calls a task, {sig(sessions['prompt_mean'])} tokens of prompts"
            f" ({percent(sessions['cached_frac'])} cached) and {sig(sessions['output_mean'])} of answers"
        )
    out.append(
        f"{sig(sessions['tasks_per_h_per_chip'])} tasks per hour and chip, {price} and"
        f" {number_text(sessions['J_per_task'])} J a task"
    )
    kinds = sessions.get("of") or {}
    out += [
        f"{name}: {one['counted']:,} tasks, {seconds(one['task_s']['mean'])} on average,"
        f" p99 {seconds(one['task_s']['p99'])}"
        for name, one in kinds.items()
        if one["counted"]
    ]
    return out


def _disturbed(felt: Result | None) -> list[str]:
    """What users felt of replicas that went."""
    if not felt:
        return []
    if not felt["requests"]:
        return ["replicas went and no request felt it"]
    return [
        f"{felt['requests']:,} requests ({percent(felt['frac'])}) were inside a replica that went: p99 of them TTFT"
        f" {seconds(felt['ttft_s']['p99'])}, end to end {seconds(felt['e2e_s']['p99'])}; {felt['moves']:,} went on"
        " elsewhere"
    ]


def _tenants(seen: Result | None) -> list[str]:
    """LoRA adapters, and the spread between tenants."""
    if not seen:
        return []
    ttft, e2e = seen["p99_ttft_s"], seen["p99_e2e_s"]
    spread = (
        f"; p99 of the worst of {seen['counted']:,} tenants: TTFT {seconds(ttft['worst'])} (median tenant"
        f" {seconds(ttft['median'])}), end to end {seconds(e2e['worst'])} ({seconds(e2e['median'])})"
        if seen["counted"]
        else ""
    )
    return [f"{seen['adapters']:,} LoRA adapters: {seen['loads']:,} loads, {seen['reads']:,} of them from disk{spread}"]


def _left_over(result: Result) -> list[str]:
    """The chips that a scenario names and no replica has: `mowich plan` counts such chips as paid for."""
    named = result["inputs"]["chips"]
    left = named - result["chips"]
    if left <= 0 or result["is_mixed"] or result["inputs"].get("autoscale"):
        return []
    return [
        f"{left} of the {named} chips that the scenario names are in no replica: rates, energy and price leave them out"
    ]


def _tiers(result: Result) -> list[str]:
    """Where cached tokens were, and what went over the links of the tiers."""
    found = result.get("cached_of") or {}
    if not found:
        return []
    where = ", ".join(f"{percent(x)} in {'the memory' if name == 'memory' else name}" for name, x in found.items())
    moved = ", ".join(
        f"{name} {sig(read / 1e9)} GB read and {sig(result['tier_written_B'][name] / 1e9)} written"
        for name, read in result["tier_read_B"].items()
    )
    wait = result["load_wait_s"]
    waits = (
        "" if wait["mean"] is None else f"; requests wait {seconds(wait['mean'])} for them, p99 {seconds(wait['p99'])}"
    )
    return [f"prompt tokens found: {where}; {moved}{waits}"]


_KINDS = {"image": "an image", "audio": "a piece of sound"}
_MEDIA_PARTS = {
    "queue": "queue",
    "encoder_queue": "queue of the encoder",
    "encoder": "encoder",
    "embedding_transfer": "transfer of embeddings",
    "prompt": "prompt and front end",
}
"""Parts of a mean time to first token, in words."""


def _media(result: Result) -> list[str]:
    """Images and sound, and the parts of the time to first token; nothing for text alone."""
    media, asked = result.get("media"), result["inputs"].get("encoder")
    if not media or not asked:
        return []
    each = "; ".join(
        f"{_KINDS[m['kind']]} is {counted(m['prompt_tokens'], 'token')} of a prompt and"
        f" {seconds(m['one_s'])} of an encoder"
        for m in asked["media"]
    )
    where = (
        f"{counted(asked['workers'], 'worker')} of {counted(asked['devices'], 'device')}"
        if asked["workers"]
        else "the workers that read prompts"
    )
    parts = ", ".join(f"{words} {seconds(media['ttft_parts_s'][name])}" for name, words in _MEDIA_PARTS.items())
    return [
        f"{media['items']:,} images or pieces of sound in {media['requests']:,} requests, {media['tokens']:,} tokens,"
        f" {percent(media['reused_frac'])} of them encoded before; {each}",
        f"encoded by {where}, busy with that {percent(media['encoder_utilisation'])} of the time;"
        f" mean time to first token: {parts}",
    ]


def _transfer(way: Result | None) -> list[str]:
    """The way of a cache from prefill to decode."""
    if not way:
        return []
    converted = ", converted to the other pool's format" if way["convert_s_per_token"] else ""
    share = way.get("windowed_share", 0.0)
    windows = f" ({share:.0%} of it in layers that send no more than their window)" if share else ""
    state = way.get("state_bytes", 0.0)
    beside = f" and {sig(state / 1e6)} MB of recurrent state" if state else ""
    return [
        f"caches go from prefill to decode by {way['by']}: {sig(way['bytes_per_token'] / 1e3)} kB per token{windows}"
        f"{beside} at"
        f" {sig(way['bandwidth_Bps'] / 1e9)} GB/s{converted}"
    ]
