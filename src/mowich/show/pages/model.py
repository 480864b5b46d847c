"""The page of a model: parameters, work and cache by kind of layer."""

from __future__ import annotations

from mowich.show import charts
from mowich.show.page import GIB, Cell, Page, Result, Table
from mowich.show.table import number
from mowich.units import show_count


def _figure(key: str, value: float) -> str:
    """A figure of a model with the unit that its name implies."""
    if key.startswith("flop"):
        return f"{show_count(value)} FLOP" if value < 1e9 else f"{value / 1e9:,.4g} GFLOP"
    if "bytes" in key:
        return f"{value:,.0f} B" if value < 1e6 else f"{value / 2**20:,.4g} MiB"
    return show_count(value)


def model_page(result: Result) -> Page:
    """What a model is made of: parameters, work and cache by kind of layer."""
    layers = result["layers"]
    names = [f"{x['count']} x {x['attention']}; {x['ffn']}" for x in layers]
    parts = {
        "mixer": [x["count"] * x["params_mixer"] / 1e9 for x in layers],
        "feed-forward": [x["count"] * x["params_ffn"] / 1e9 for x in layers],
        "norms and the rest": [x["count"] * (x["params"] - x["params_mixer"] - x["params_ffn"]) / 1e9 for x in layers],
    }
    work = {
        "mixer": "mixer_flop_per_token_forward",
        "scores and values": "attention_flop_per_token_forward",
        "feed-forward": "ffn_flop_per_token_forward",
    }
    pictures = [
        charts.stacked_bars(
            "Parameters by kind of layer",
            "Embeddings and head are in the table.",
            names,
            parts,
            unit="billion parameters",
        ),
        charts.stacked_bars(
            "Work of a token, forward",
            f"At {result['seq']} tokens, causal attention halved.",
            names,
            {k: [x["count"] * x[f] / 1e9 for x in layers] for k, f in work.items()},
            unit="GFLOP",
        ),
        charts.stacked_bars(
            "Cache of a sequence",
            f"At {result['seq']} tokens; windows keep less.",
            names,
            {"cache": [x["count"] * x["kv_bytes_at_seq"] / 2**20 for x in layers]},
            unit="MiB",
        ),
        charts.stacked_bars(
            "The published checkpoint",
            str(result.get("weight_bytes_assumed") or "Bytes by component, in the formats that it is published in."),
            ["checkpoint"],
            {k: [v / GIB] for k, v in result["weight_bytes"].items()},
            unit="GiB",
        ),
    ]
    keys = (
        "params",
        "params_active",
        "params_embedding",
        "params_head",
        "flop_per_token_forward",
        "flop_per_token_train",
        "kv_bytes_per_token",
        "kv_bytes_at_seq",
        "state_bytes_per_sequence",
    )
    rows: list[list[Cell]] = [[k, (_figure(k, float(result[k])), f"{result[k]:,}", k)] for k in keys]
    total = show_count(float(result["params"]))
    active = (
        ""
        if result["params"] == result["params_active"]
        else f", {show_count(float(result['params_active']))} of them active for a token"
    )
    return Page(
        title=str(result["name"]),
        headline=(
            f"{total} parameters{active}; {number(result['kv_bytes_per_token'] / 1024)} KiB of cache a token;"
            f" {number(result['flop_per_token_forward'] / 1e9)} GFLOP a token forward."
        ),
        assumptions=[
            ("architecture", str(result["architecture"])),
            ("layers", str(result["num_layers"])),
            ("hidden", str(result["hidden"])),
            ("vocabulary", f"{result['vocab']:,}"),
            ("at length", f"{result['seq']:,} tokens"),
            ("bytes of a cached element", f"{result['bytes_per_element']:g}"),
        ],
        charts=pictures,
        tables=[Table(title="Figures", head=["what", "value"], rows=rows, note="Hover for the exact number.")],
        inputs=result.get("inputs", {"source": result["source"]}),
    )
