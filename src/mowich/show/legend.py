"""The short names of plans in words: what tp8, z3 or "25P x (tp8) + 7D x" mean, each once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from mowich.show.page import Column, Page, Table, TextCell

PLANS = frozenset({"plan", "worker", "workers", "best such plan"})
"""Columns that hold plans."""

_FORMATS = r"(?:bf16|fp16|fp32|tf32|fp8|mxfp8|int8|nvfp4|mxfp4|int4|fp4)"

PLAN_LEGEND: Final = {
    r"(\d+) x": "{} equal workers; each reads prompts and writes answers",
    r"(\d+)P x": "{} workers that only read prompts (prefill)",
    r"(\d+)D x": "{} workers that only write answers (decode)",
    r"tp(\d+)": "tensor parallel: {} devices share each layer",
    r"pp(\d+)": "pipeline parallel: the layers in {} stages, one after another",
    r"pp(\d+)v(\d+)": "interleaved pipeline: {} stages, each with {} separate pieces of the model",
    r"cp(\d+)": "context parallel: {} devices share each sequence",
    r"cfg2": "guidance parallel: the two forwards of a step run on devices of their own",
    r"b(\d+)": "images, clips or texts at once on one replica, {}",
    r"ep(\d+)": "expert parallel: the experts are spread over {} devices",
    r"ep(\d+)x(\d+)": "expert parallel: the experts are spread over {} groups, each expert cut in {}",
    r"dp(\d+)": "data parallel: {} groups, each with sequences of its own",
    r"z0": "ZeRO stage 0: each group keeps the whole state of the optimizer",
    r"z1": "ZeRO stage 1: the optimizer's state is divided among the groups",
    r"z2": "ZeRO stage 2: the optimizer's state and the gradients are divided",
    r"z3": "ZeRO stage 3: optimizer's state, gradients and weights are divided",
    r"z([123])s(\d+)": "ZeRO stage {} in groups of {} data ranks, which hold copies of one another (HSDP)",
    r"mb(\d+)": "micro-batch: sequences that pass at a time, {}",
    rf"({_FORMATS})/({_FORMATS})": "weights in {}, KV cache in {}",
    rf"({_FORMATS})": "matrix products in {}",
    r"rc-sel": "recompute: attention is computed again in the backward pass, to save memory",
    r"rc-full": "recompute: whole layers are computed again in the backward pass, to save memory",
    r"rc-moe": "recompute: the experts are computed again in the backward pass, to save memory",
    "1f1b|interleaved|gpipe|zb-h1|zb-v|dualpipe|dualpipe-v": "schedule of the pipeline",
    r"(?:tp|dp|pp)(?:-(?:tp|dp|pp)){2}": "order of the ranks, the closest first",
    r"[\w-]+-split": "how the layers are divided among the stages",
    r"off-([\w+]+)": "in the memory of the host: {}",
    r"no-tp-overlap": "tensor-parallel exchanges do not run beside the computation",
    r"no-dp-overlap": "data-parallel exchanges do not run beside the computation",
    r"no-regather": "inputs that were gathered are kept for the backward pass",
    r"pp-scatter": "each device sends its share of an activation to the next stage, which gathers it",
}
"""Pattern of a word of a plan -> what it means; {} stands for the numbers in it."""


def legend_of(page: Page) -> list[tuple[str, str]]:
    """(a word as it stands in the first plan that has it, what it means), for every kind of word in the plans of a
    page."""
    found: dict[str, tuple[str, str]] = {}
    for plan in _plans(page):
        for word, pattern, meaning in _meanings(plan):
            found.setdefault(pattern, (word, meaning))
    return [found[pattern] for pattern in PLAN_LEGEND if pattern in found]


def spelled_plan(plan: str) -> list[tuple[str, str]]:
    """(word, what it means) for each word of a plan.

    >>> spelled_plan("tp8 pp4")[0]
    ('tp8', 'tensor parallel: 8 devices share each layer')
    """
    return [(word, meaning) for word, _, meaning in _meanings(plan)]


def _meanings(plan: str) -> Iterator[tuple[str, str, str]]:
    """(word, pattern, what it means) for each word of a plan that has a meaning."""
    for word in re.findall(r"\d+[PD]? x(?= )|[^\s()]+", plan):
        for pattern, meaning in PLAN_LEGEND.items():
            match = re.fullmatch(pattern, word)
            if match is not None:
                yield word, pattern, meaning.format(*match.groups())
                break


def _plans(page: Page) -> Iterator[str]:
    """The plans that a terminal shows of a page."""
    yield from (plan for _, plan in page.plans)
    for table in page.tables:
        if table.wide:
            continue
        yield from _of_table(table)
        for _, first, _ in table.details.rows if table.details is not None else ():
            yield first[0].text if first else ""


def _of_table(table: Table) -> Iterator[str]:
    columns: list[tuple[int, Column]] = [(i, c) for i, c in enumerate(table.columns) if c.name in PLANS and not c.wide]
    for row in table.rows:
        for i, _ in columns:
            cell = row[i]
            yield cell if isinstance(cell, str) else cell.text if isinstance(cell, TextCell) else ""
