"""The page of each kind of answer: schema -> the function that makes a `Page` of its JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from mowich.errors import UserError
from mowich.requests.rooms import SCHEMA_OF, room_names, room_of
from mowich.show.heard import with_heard_lines
from mowich.show.page import Page, Run
from mowich.show.rooms import room_page
from mowich.shown import Result

__all__ = ["PAGES", "has_page", "page_of"]

Maker = Callable[[Result, Run], Page]


def _of(module: str, name: str = "") -> Maker:
    """A page that `show.MODULE` makes. The module is loaded for the first page: those of all verbs bring models,
    evidence and solvers, of which one page needs few."""

    def page(result: Result, run: Run) -> Page:
        make: Maker = getattr(import_module(f"mowich.show.{module}"), name or f"{module}_page")
        return make(result, run)

    return page


def _task(train: Maker) -> Maker:
    """Training or serving, as the inputs say."""
    serve = _of("serve")
    return lambda result, run: (serve if result["inputs"].get("task") == "serve" else train)(result, run)


PAGES: Mapping[str, Maker] = {
    "mowich/compare@1": _task(_of("compare")),
    "mowich/plan@1": _task(_of("plan")),
    "mowich/sweep@1": _of("sweep"),
    "mowich/brief@1": _of("brief"),
    "mowich/fit@1": _of("fit"),
    "mowich/model@1": _of("model"),
    "mowich/example@1": _of("example"),
    "mowich/fleet@1": _of("fleet"),
    "mowich/rates@1": _of("rates"),
    "mowich/traffic@1": _of("traffic"),
    "mowich/rl@1": _of("rl"),
    "mowich/forward@1": _of("forward"),
    "mowich/facts-stale@1": _of("staleness"),
    "mowich/validate@1": _of("validate"),
    "mowich/verify@1": _of("verify"),
    "mowich/forecasts@1": _of("forecasts"),
    "mowich/next@1": _of("next_measure", "next_page"),
    "mowich/calibrate@1": _of("calibrate"),
    "mowich/kernel@1": _of("kernel"),
    "mowich/kernel-run@1": _of("kernel", "run_page"),
    "mowich/kernel-advise@1": _of("kernel_advise", "advise_page"),
    "mowich/kernel-check@1": _of("kernel_check", "check_page"),
    "mowich/kernel-debug@1": _of("kernel_debug", "debug_page"),
    "mowich/kernel-tasks@1": _of("kernel_tasks", "tasks_page"),
    "mowich/kernel-diff@1": _of("kernel_diff"),
    "mowich/judge@1": _of("kernel_judge", "judge_page"),
    "mowich/kernel-layer@1": _of("kernel_layer", "layer_page"),
    "mowich/kernel-tune@1": _of("kernel_tune", "tune_page"),
}


def _maker_of(schema: object) -> Maker | None:
    return PAGES.get(str(schema)) or (room_page if room_of(schema) else None)


def has_page(result: Result) -> bool:
    """Whether an answer of this kind has a page."""
    return _maker_of(result.get("schema")) is not None


def page_of(result: Result, run: Run | None = None) -> Page:
    """The page of an answer, from its JSON. run: what is known of it where it was just made. Raises UserError for a
    kind of answer that has no page."""
    make = _maker_of(result.get("schema"))
    if make is None:
        allowed = ", ".join((*PAGES, *map(SCHEMA_OF.format, room_names())))
        raise UserError("no report for this kind of result", given=result.get("schema"), allowed=allowed)
    return with_heard_lines(make(result, run or Run()), result)
