"""The page of a model: parameters, work and cache by kind of layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mowich.show import charts
from mowich.show.charts import Chart
from mowich.show.formats import headed
from mowich.show.page import (
    GIB,
    NOTHING,
    Cell,
    Column,
    LateCharts,
    Page,
    Run,
    Table,
    TextCell,
    Words,
    paragraphs,
    rows_in,
    word_columns,
)
from mowich.shown import Result
from mowich.sums import float_sum
from mowich.units import show, show_count, show_gib

FIGURES: Mapping[str, str] = {
    "params": "parameters",
    "params_active": "parameters active for a token",
    "params_embedding": "parameters of the embedding",
    "params_head": "parameters of the head",
    "flop_per_token_forward": "work of a token, forward",
    "flop_per_token_train": "work of a token, training",
    "kv_bytes_per_token": "cache of a token",
    "kv_bytes_at_seq": "cache of a sequence",
    "state_bytes_per_sequence": "recurrent state of a sequence",
}
"""Numbers of the table, by their names in the JSON, in words."""


def model_page(result: Result, run: Run) -> Page:
    """What a model is made of."""
    active = (
        ""
        if result["params"] == result["params_active"]
        else f", {show_count(result['params_active'])} active per token"
    )
    source = [f"Shape from: {result['source']}"] if result.get("source") else []
    return Page(
        title=str(result["name"]),
        sentences=headed(
            f"{result['name']} ({result['architecture']}): {show_count(result['params'])} parameters{active}.",
            f"This model has {show_count(result['params'])} parameters{active}.",
        ),
        assumptions=[
            ("architecture", str(result["architecture"])),
            ("layers", str(result["num_layers"])),
            ("hidden", str(result["hidden"])),
            ("vocabulary", f"{result['vocab']:,}"),
            ("at length", f"{result['seq']:,} tokens"),
            ("bytes of a cached element", f"{result['bytes_per_element']:g}"),
        ],
        parts=(
            *(
                Words(text=f"{name:<20} {text}", kind="caption", hang=21, gap=not i)
                for i, (name, text) in enumerate(_lines(result))
            ),
            _figures(result),
            _layers(result["layers"]),
            *_captured(result.get("captured")),
            *paragraphs(source, "basis", indent=0, gap=True),
        ),
        charts=LateCharts(lambda: _pictures(result)),
        records=result["layers"],
        inputs=result.get("inputs", {"source": result["source"]}),
    )


def _longest(r: Result) -> str:
    """The longest sequence that the config states; "?" where it states none."""
    where = "in its code" if r.get("captured", {}).get("read_from") == "code" else "in the config"
    return f"{r['max_seq']:,}" if r["max_seq"] else f"? (not stated {where})"


def _lines(r: Result) -> list[tuple[str, str]]:
    """The figures in words, a line each, where room is short."""
    total = float_sum(r["weight_bytes"].values())
    largest = ", ".join(
        f"{name} {show(size, 'B')}" for name, size in sorted(r["weight_bytes"].items(), key=lambda kv: -kv[1])[:3]
    )
    tied = "tied with the head" if r["tied_embeddings"] else f"head {r['params_head']:,}"
    out = [
        (
            "parameters",
            f"{r['params']:,} in all; {r['params_active']:,} active; embedding {r['params_embedding']:,} ({tied})",
        ),
        ("checkpoint", f"{show(total, 'B')}, {total / r['params']:.2f} B per weight ({largest})"),
        *([("", r["weight_bytes_assumed"])] if r["weight_bytes_assumed"] else []),
        (
            "layers",
            f"{r['num_layers']}, hidden {r['hidden']}, vocabulary {r['vocab']:,}, longest sequence {_longest(r)}",
        ),
        (
            "FLOP per token",
            f"{show(r['flop_per_token_forward'], 'FLOP')} forward at {r['seq']} tokens"
            f" ({show(r['attention_flop_per_token_forward'], 'FLOP')} attention),"
            f" {show(r['flop_per_token_train'], 'FLOP')} to train",
        ),
        (
            "KV cache",
            f"{show(r['kv_bytes_per_token'], 'B')} per token at {r['bytes_per_element']:g} B per element,"
            f" {show_gib(r['kv_bytes_at_seq'])} for {r['seq']} tokens",
        ),
    ]
    if r["state_bytes_per_sequence"]:
        state = show(r["state_bytes_per_sequence"], "B")
        out.append(
            (
                "recurrent state",
                f"{state} per sequence, whatever its length (state 4 B per element, convolution 2 B)",
            )
        )
    if r["mtp_layers"]:
        out.append(
            ("multi-token head", f"{r['mtp_layers']} layer(s), {r['mtp_params']:,} parameters, not in the count")
        )
    out += [line for kind, one in r.get("encoders", {}).items() for line in _encoder_lines(kind, one)]
    return [*out, *_captured_lines(r["captured"])] if "captured" in r else out


def _captured_lines(c: Result) -> list[tuple[str, str]]:
    """Where a captured model comes from, what its tokens are, and what to know of it."""
    versions = ", ".join(f"{name} {version}" for name, version in c["versions"].items())
    taken = "its config.json says the same and is taken" if c["read_from"] == "config" else "its layers are those below"
    told = {"doubt": c["doubts"], "remark": c["remarks"], "note": c["notes"]}
    return [
        ("captured", f"from {c['source']} ({versions}); {taken}"),
        ("tokens", f"{c['kind']}: {c['tokens']}"),
        *((name, text) for name, lines in told.items() for text in lines),
    ]


def _captured(c: Result | None) -> tuple[Table, ...]:
    """The modules of a captured model."""
    if not c:
        return ()
    names = ["module", "class", "layers", "computed as", "products", "cores", "experts", "scans", "roles"]
    rows: list[list[Cell]] = [
        [
            x["module"] or "the model",
            x["class"],
            str(x["count"]),
            "one of ours" if x["form"] == "ours" else "captured",
            TextCell(str(len(x["products"])), "; ".join(f"{p['module']} {p['k']} -> {p['n']}" for p in x["products"])),
            *(str(len(x[key])) for key in ("cores", "experts", "scans")),
            ", ".join(f"{number} {role}" for role, number in x["roles"].items()) or NOTHING,
        ]
        for x in (*c["layers"], c["outside"])
    ]
    return (
        Table(
            title="Modules in the code", columns=word_columns(names, left=[*names[:2], names[3], names[-1]]), rows=rows
        ),
    )


def _encoder_lines(kind: str, one: Result) -> list[tuple[str, str]]:
    """An encoder in words: what it is made of, and what one picture or piece of sound makes and takes."""
    if "reason" in one:
        return [(f"{kind} encoder", f"not read: {one['reason']}")]
    marks = one["prompt_tokens"] - one["tokens"]
    beside = f" and {marks:,} marks" if marks else ""
    return [
        (
            f"{kind} encoder",
            f"{one['params']:,} parameters, not in the count; {one['num_layers']} layers, hidden {one['hidden']}",
        ),
        (
            "",
            f"{one['of']}: {one['tokens']:,} tokens{beside} of {one['positions']:,} positions,"
            f" {show(one['flop'], 'FLOP')}",
        ),
    ]


def _figure(key: str, value: float) -> str:
    """A figure with the unit that its name implies."""
    if key.startswith("flop"):
        return f"{show_count(value)} FLOP" if value < 1e9 else f"{value / 1e9:,.4g} GFLOP"
    if "bytes" in key:
        return f"{value:,.0f} B" if value < 1e6 else f"{value / 2**20:,.4g} MiB"
    return show_count(value)


def _figures(result: Result) -> Table:
    rows: list[list[Cell]] = [
        [TextCell(words, k), TextCell(_figure(k, float(result[k])), f"{result[k]:,}", k)]
        for k, words in FIGURES.items()
    ]
    return Table(
        title="Figures",
        columns=word_columns(["what", "value"], left=["what"]),
        rows=rows,
        note="Hover for the exact number.",
        wide=True,
    )


def _layers(layers: Sequence[Result]) -> Table:
    columns = [
        Column(name="layers", cell=lambda x: str(x["count"])),
        Column(name="mixer", right=False, cell=lambda x: x["attention"] or NOTHING),
        Column(name="feed-forward", right=False, cell=lambda x: x["ffn"] or NOTHING),
        Column(name="params", cell=lambda x: show_count(x["params"])),
        Column(name="active", keep=3, cell=lambda x: show_count(x["params_active"])),
        Column(name="FLOP/token", keep=2, cell=lambda x: show(x["flop_per_token_forward"], "FLOP")),
        Column(name="KV B/token", keep=1, cell=lambda x: f"{x['kv_bytes_per_token']:,.0f}"),
    ]
    return Table(
        title="Kinds of layers",
        columns=columns,
        rows=rows_in(columns, layers),
    )


def _pictures(result: Result) -> list[Chart]:
    layers = result["layers"]
    kinds = [f"{x['count']} x {x['attention']}; {x['ffn']}" for x in layers]
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
    at = f"At {result['seq']} tokens"
    return [
        charts.stacked_bars(
            "Parameters by kind of layer",
            "Embeddings and head are in the table.",
            kinds,
            parts,
            unit="billion parameters",
        ),
        charts.stacked_bars(
            "Work of a token, forward",
            f"{at}, causal attention halved.",
            kinds,
            {k: [x["count"] * x[f] / 1e9 for x in layers] for k, f in work.items()},
            unit="GFLOP",
        ),
        charts.stacked_bars(
            "Cache of a sequence",
            f"{at}; windows keep less.",
            kinds,
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
