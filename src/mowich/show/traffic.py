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
        where += f", from {scale['least']} to {scale['most']} as the load asks for"
    return Page(
        title=str(inputs.get("name", "Traffic")),
        sentences=(_sentence(result),),
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
            *paragraphs(_remarks(result, run), "basis", gap=True),
            *paragraphs(result.get("warnings", ()), "warning"),
        ),
        charts=LateCharts(
            lambda: [
                charts.stacked_bars(
                    f"{name[0].upper()}{name[1:]}: percentiles",
                    "",
                    list(_MARKS),
                    {name: [result[key][m] * 1e3 for m in _MARKS]},
                    unit="ms",
                )
                for name, key in _TIMES.items()
                if result[key]["mean"] is not None  # nothing was answered
            ]
        ),
        inputs=inputs,
    )


def _apart(inputs: Result) -> str:
    """The pools that decode and that encode, where they are others."""
    encoders = (inputs.get("encoder") or {"workers": 0})["workers"]
    behind = f", {counted(encoders, 'worker')} for images and sound" if encoders else ""
    if not inputs["decode_plan"]:
        return behind
    there = inputs.get("decode_system")
    where = f" on {there}, engine {inputs['decode_engine']}" if there != inputs["system"] else ""
    return f" for prefill and {inputs['decode_replicas']} for decode{where}{behind}"


def _sentence(result: Result) -> str:
    good = "" if result["goodput_frac"] is None else f", {percent(result['goodput_frac'])} within the SLO"
    ttft, tpot = result["ttft_s"], result["tpot_s"]
    return (
        f"{result['completed']:,} of {result['requests']:,} requests served{good}: TTFT p50 {seconds(ttft['p50'])}, p99"
        f" {seconds(ttft['p99'])}; TPOT p50 {seconds(tpot['p50'])}, p99 {seconds(tpot['p99'])}."
    )


def _seen(result: Result) -> Table:
    ranges: Result = result.get("ranges") or {}
    rows: list[list[Cell]] = [
        [
            name,
            *(TextCell(number_text(result[key][m], 1e3), short=seconds(result[key][m])) for m in _MARKS),
            *([_range(ranges.get(key, {}).get("p99"))] if ranges else []),
        ]
        for name, key in _TIMES.items()
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
        *_transfer(result["inputs"].get("transfer")),
        *_media(result),
        f"{sig(result['tokens_per_s_per_chip'])} output tokens/s per chip over {sig(result['makespan_s'])} s; replicas"
        f" busy {percent(result['utilisation'])} of the time",
        *_left_over(result),
        f"{percent(result['cached_frac'])} of prompt tokens from the prefix cache; {result['preemptions']} preemptions;"
        f" {result['failures']} requests lost and sent again",
        f"energy {number_text(result['J_per_token'])} J per output token, price {price} per million of them",
        f"step times rest on {rests} constants",
        *([line] if (line := measured_line(result.get("measured"))) else []),
        f"{result['events']} events ({result['steps']} engine steps){took}",
    ]


def _left_over(result: Result) -> list[str]:
    """The chips that a scenario names and no replica has: `mowich plan` counts such chips as paid for."""
    named = result["inputs"]["chips"]
    left = named - result["chips"]
    if left <= 0 or result["is_mixed"] or result["inputs"].get("autoscale"):
        return []
    return [
        f"{left} of the {named} chips that the scenario names are in no replica: rates, energy and price leave them out"
    ]


_KINDS = {"image": "an image", "audio": "a piece of sound"}
_PARTS = {
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
    parts = ", ".join(f"{words} {seconds(media['ttft_parts_s'][name])}" for name, words in _PARTS.items())
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
