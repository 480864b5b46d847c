"""The page of `fit`: what takes the memory of a device, and how few chips would do."""

from __future__ import annotations

from collections.abc import Mapping

from mowich.show.charts import Chart
from mowich.show.charts_parts import memory_bars
from mowich.show.formats import first_sentence, gib, number_text, percent
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
    Words,
    counted,
    paragraphs,
    word_columns,
)
from mowich.show.rows import job_line, memory_chance, size_words
from mowich.shown import Result
from mowich.studies.stated_plan import plan_words
from mowich.sums import float_sum
from mowich.units import show_gib

FITS = {True: "Fits", False: "Does not fit", None: "May fit"}


def fit_page(result: Result, run: Run) -> Page:
    """Does it fit: memory of a device against what a program may use, and how few chips would do."""
    inputs = result["inputs"]
    serving = inputs.get("task") == "serve"
    return Page(
        title=f"{inputs['model']} on {counted(result['chips'], 'chip')} of {result['system_id']}",
        sentences=(_first(result), (_serving_sentence if serving else _training_sentence)(result)),
        assumptions=[
            ("model", str(inputs["model"])),
            (
                "work",
                f"{inputs['kv_tokens']:,.0f} tokens a request"
                if serving
                else f"sequences of {inputs['seq']}, batch of {inputs['batch_seqs']:g}",
            ),
            ("plan", plan_words(result["plan"])),
            ("most of it", str(result["binds"])),
        ],
        parts=_serving_parts(result, run) if serving else _training_parts(result, run),
        charts=LateCharts(lambda: _pictures(result)),
        inputs=inputs,
        plans=[("", (_layout if serving else _plan)(result))] if result["plan"] else [],
    )


def _plan(result: Result) -> str:
    return plan_words(result["plan"])


def _layout(result: Result) -> str:
    """The workers that hold the most requests: "9 x (tp8 pp8 bf16/bf16)"."""
    return f"{result['workers']} x ({plan_words(result['plan'])})"


def _formats(result: Result) -> Mapping[str, Result | None]:
    """Format of the weights -> the fewest chips with it, None where nothing that was tried fits."""
    found: Mapping[str, Result | None] = result.get("smallest_by_weights") or {}
    return found


# words
# ----------------------------------------------------------------------------------------------------------------------


def _place(result: Result) -> str:
    return f"{counted(result['chips'], 'chip')} of {result.get('display') or result['system_id']}"


def _least(result: Result) -> str:
    """How few chips would do."""
    if result["smallest_chips"]:
        return f"; smallest that fits: {counted(result['smallest_chips'], 'chip')}"
    tried = result.get("largest_tried")
    return "; nothing that was tried fits" if tried is None else f"; nothing up to {counted(tried, 'chip')} fits"


def _first(result: Result) -> str:
    """Whether it fits, in a short sentence."""
    said = "No legal plan" if result["plan"] is None else FITS[result["fits"]]
    return first_sentence(f"{said} on {_place(result)}.", f"{said} on {counted(result['chips'], 'chip')}.")


def _training_sentence(result: Result) -> str:
    if result["plan"] is None:
        return f"No legal plan on {_place(result)}: {result['reason']}{_least(result)}."
    whole = show_gib(float_sum(result["memory_B"].values()))
    room = (
        f"needs at least {whole} per device, most of it {result['binds']}, and"
        f" {show_gib(result['memory_capacity_B'])} are usable"
    )
    why = f" ({result['reason']})" if result["reason"] else ""
    chance = f"; chance of running out {memory_chance(result)}" if "out_of_memory" in result else ""
    return f"{FITS[result['fits']]} on {_place(result)}: {room}{why}{chance}{_least(result)}."


def _serving_sentence(result: Result) -> str:
    if result["plan"] is None:
        return f"No legal worker on {_place(result)}: {result['reason']}{_least(result)}."
    why = f" ({result['reason']})" if result["reason"] else ""
    many = f"{counted(result['requests'], 'request')} of {result['inputs']['kv_tokens']:,.0f} tokens"
    room = "" if result["fits"] is False else f"; room for {many}"
    return f"{FITS[result['fits']]} on {_place(result)}{why}{room}{_least(result)}."


def _memory(result: Result) -> list[Part]:
    """The memory of a device: in one line where room is short, as a table where it is not."""
    memory, usable = result["memory_B"], result["memory_capacity_B"]
    if not memory:
        return []
    used = float_sum(memory.values())
    free = gib(usable - used) if used <= usable else "none"
    said = " | ".join(f"{k} {gib(v)}" for k, v in memory.items() if v)
    rows: list[list[Cell]] = [
        [k, number_text(v / GIB), percent(v / usable)] for k, v in [*memory.items(), ("sum", used)]
    ]
    return [
        Words(text=f"{said} | free {free}  of {gib(usable)} GiB usable per device", kind="caption"),
        Table(
            title="Memory of a device",
            columns=word_columns(["what", "GiB", "of the usable"], left=["what"]),
            rows=rows,
            wide=True,
        ),
    ]


def _training_parts(result: Result, run: Run) -> list[Part]:
    inputs = result["inputs"]
    said = [f"plan with the least memory: {_plan(result)}"] if result["plan"] else []
    model = inputs.get("model_given") or inputs["model"]
    chips = result["smallest_chips"] or result["chips"]
    step = f"Next: mowich plan {model} --on {result['system_id']}:{chips} --train ... --top 5"
    return [
        Words(text=job_line({**inputs, "chips": None, "tokens": None}, run), kind="job", gap=True),
        *_memory(result),
        *paragraphs([*said, *result.get("notes", ())], "note"),
        Words(text=step, kind="next", indent=0, gap=True),
    ]


def _serving_parts(result: Result, run: Run) -> list[Part]:
    inputs = result["inputs"]
    tokens = float(inputs["kv_tokens"])
    held = []
    if result["plan"]:
        held = [f"{_layout(result)}: {result['requests']:,} requests at once, the most by memory alone"]
    model, chips = inputs.get("model_given") or inputs["model"], result["smallest_chips"] or result["chips"]
    step = (
        f"Next: mowich plan {model} --serve --on {result['system_id']}:{chips} --isl {tokens * 0.9:.0f} --osl"
        f" {tokens * 0.1:.0f}"
    )
    job = f"{inputs['model']}{size_words(inputs, run)}: requests of {tokens:,.0f} tokens, engine {result['engine']}"
    narrower = ["What narrower weights do to answers is not modelled."] if len(_formats(result)) > 1 else []
    return [
        Words(text=job, kind="job", gap=True),
        *_memory(result),
        *paragraphs(held, "note"),
        Table(
            title="Fewest chips by format",
            columns=[
                Column(name="weights", right=False),
                Column(name="fewest chips"),
                Column(name="worker", right=False),
                Column(name="workers", wide=True),
                Column(name="requests"),
            ],
            rows=[_fewest(w, h, result) for w, h in _formats(result).items()],
            elsewhere="--json",
        ),
        *paragraphs(narrower, "note"),
        Words(text=step, kind="next", indent=0, gap=True),
    ]


def _fewest(weights: str, held: Result | None, result: Result) -> list[Cell]:
    if held is None:
        tried = result.get("largest_tried")
        return [weights, "none", NOTHING if tried is None else f"up to {counted(tried, 'chip')}", NOTHING, NOTHING]
    return [weights, str(held["chips"]), plan_words(held["plan"]), str(held["workers"]), f"{held['requests']:,}"]


# pictures
# ----------------------------------------------------------------------------------------------------------------------


def _pictures(result: Result) -> list[Chart]:
    out = [memory_bars([(str(result["system_id"]), result)])] if result["memory_B"] else []
    formats = [
        (f"{weights}: {counted(held['chips'], 'chip')}", {**held, "memory_capacity_B": result["memory_capacity_B"]})
        for weights, held in _formats(result).items()
        if held
    ]
    if formats:
        out.append(
            memory_bars(
                formats,
                title="Fewest chips by format of the weights",
                note="Memory of a device there, with the caches of the requests that fit.",
            )
        )
    return out
