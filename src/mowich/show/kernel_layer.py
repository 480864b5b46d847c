"""The page of layers made of kernels: the step, each kind of layer by part, engines, what binds."""

from __future__ import annotations

from collections.abc import Sequence

from mowich.show import charts
from mowich.show.formats import percent
from mowich.show.page import NOTHING, Cell, Column, LateCharts, Page, Part, Run, Table, estimate_of, paragraphs
from mowich.shown import Result
from mowich.sums import float_sum
from mowich.units import show

_ENGINES = ("tensor", "vector", "scalar", "gpsimd", "dma", "collective")


def layer_page(result: Result, run: Run) -> Page:
    """How long a step takes, and what of it."""
    inputs, step, kinds = result["inputs"], estimate_of(result["step_s"]), result["kinds"]
    phase = "Prefill" if inputs["phase"] == "prefill" else "Decode"
    library = inputs["library"]
    version = f" at {result['library_version']}" if result["library_version"] else ""
    law = result["law_share"]
    return Page(
        title=f"{phase} step of {inputs['model']} on {inputs['on']}, made of kernels",
        sentences=(
            f"{phase} step: {show(step.value, 's')} on the device, grade {step.grade}.",
            f"{inputs['model']} at TP{inputs['tp']} of {inputs['lnc']}-core ranks on {inputs['on']},"
            f" batch {inputs['batch']}, {inputs['context']:,} tokens:"
            f" {show(step.value, 's')} ({show(step.low, 's')} .. {show(step.high, 's')});"
            f" {percent(law)} of it by the planner's law.",
        ),
        assumptions=[
            ("kernels", f"nki-library{version}, else ours" if library else "ours"),
            ("core", str(result["target"])),
            ("formats", "bf16 weights, activations and cache"),
            ("left out", "embedding, host, scheduler: what the software adds"),
        ],
        parts=(
            *(part for kind in kinds for part in _kind(kind)),
            _table("After the layers", [_row(p) for p in result["after"]]),
            *paragraphs(result["notes"], "note", gap=True),
        ),
        charts=LateCharts(
            lambda: [
                charts.stacked_bars(
                    "Where the step goes",
                    "All layers of a kind together, then what follows them.",
                    [f"{phase} step"],
                    {
                        **{f"{k['count']} x {k['layer']}": [k["all_s"]["value"]] for k in kinds},
                        "after": [float_sum(p["time_s"]["value"] for p in result["after"])],
                    },
                    unit="s",
                )
            ]
        ),
        records=[{"layer": k["layer"], "layers": k["count"], **_record(p)} for k in kinds for p in k["parts"]]
        + [{"layer": "after", "layers": 1, **_record(p)} for p in result["after"]],
        inputs=inputs,
    )


def _record(part: Result) -> Result:
    time = part["time_s"]
    engines = {f"{name}_s": part["engines_s"].get(name, 0.0) for name in _ENGINES}
    return {
        **{k: part[k] for k in ("part", "kernel", "source")},
        "seconds": time["value"],
        "low_s": time["low"],
        "high_s": time["high"],
        **engines,
        **{k: part[k] for k in ("binds", "hbm_B")},
    }


def _kind(kind: Result) -> list[Part]:
    """A kind of layer: its parts as launches of their own, their sum, and the layer as one launch."""
    rows = [_row(p) for p in kind["parts"]]
    rows.append(
        ["sum of the parts", NOTHING, show(kind["parts_s"]["value"], "s"), NOTHING, *(NOTHING,) * len(_ENGINES)]
    )
    one = kind["one_launch"]
    if one is not None:
        rows.append(_row({**one, "part": "the layer as one launch"}))
    said = f"{kind['count']} layers: {show(kind['all_s']['value'], 's')}"
    said += ", as one launch" if one is not None else ", each part a launch of its own"
    return [_table(f"{kind['count']} x {kind['layer']}", rows), *paragraphs([said], "caption")]


def _row(part: Result) -> list[Cell]:
    engines = [part["engines_s"].get(name, 0.0) for name in _ENGINES]
    return [
        str(part["part"]),
        str(part["kernel"] or f"law: {part['why']}") if part["source"] == "law" or part["kernel"] else NOTHING,
        show(part["time_s"]["value"], "s"),
        str(part["binds"] or NOTHING),
        *(show(value, "s") if value else NOTHING for value in engines),
    ]


def _table(title: str, rows: Sequence[list[Cell]]) -> Table:
    return Table(
        title=title,
        columns=[
            Column(name="part", right=False),
            Column(name="kernel", right=False, keep=5),
            Column(name="time"),
            Column(name="busiest", right=False, keep=6),
            *(Column(name=name, wide=True, keep=1) for name in _ENGINES),
        ],
        rows=list(rows),
    )
