"""The page of each kind of answer: schema -> the function that makes a `Page` of its JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mowich.errors import UserError
from mowich.show.brief import brief_page
from mowich.show.calibrate import calibrate_page
from mowich.show.claims import claims_page
from mowich.show.collective import collective_page
from mowich.show.compare import compare_page
from mowich.show.example import example_page
from mowich.show.fit import fit_page
from mowich.show.gap import gap_page
from mowich.show.goodput import goodput_page
from mowich.show.heard import with_heard_lines
from mowich.show.kernel import kernel_page, run_page
from mowich.show.kernel_check import check_page
from mowich.show.kernel_debug import debug_page
from mowich.show.kernel_diff import kernel_diff_page
from mowich.show.kernel_layer import layer_page
from mowich.show.model import model_page
from mowich.show.page import Page, Run
from mowich.show.plan import plan_page
from mowich.show.power import power_page
from mowich.show.prices import prices_page
from mowich.show.rates import rates_page
from mowich.show.serve import serve_page
from mowich.show.staleness import staleness_page
from mowich.show.sweep import sweep_page
from mowich.show.traffic import traffic_page
from mowich.show.validate import validate_page
from mowich.shown import Result

__all__ = ["PAGES", "page_of"]

Maker = Callable[[Result, Run], Page]


def _task(train: Maker) -> Maker:
    """Training or serving, as the inputs say."""
    return lambda result, run: (serve_page if result["inputs"].get("task") == "serve" else train)(result, run)


def _fleet(result: Result, run: Run) -> Page:
    from mowich.show.fleet import fleet_page  # not above: it brings the solver, which no other page needs

    return fleet_page(result, run)


def _value(result: Result, run: Run) -> Page:
    from mowich.show.value import value_page  # nor this: it brings the model of serving

    return value_page(result, run)


PAGES: Mapping[str, Maker] = {
    "mowich/compare@1": _task(compare_page),
    "mowich/plan@1": _task(plan_page),
    "mowich/sweep@1": sweep_page,
    "mowich/brief@1": brief_page,
    "mowich/fit@1": fit_page,
    "mowich/gap@1": gap_page,
    "mowich/value@1": _value,
    "mowich/model@1": model_page,
    "mowich/example@1": example_page,
    "mowich/fleet@1": _fleet,
    "mowich/rates@1": rates_page,
    "mowich/traffic@1": traffic_page,
    "mowich/collective@1": collective_page,
    "mowich/goodput@1": goodput_page,
    "mowich/power@1": power_page,
    "mowich/facts-stale@1": staleness_page,
    "mowich/prices@1": prices_page,
    "mowich/claims@1": claims_page,
    "mowich/validate@1": validate_page,
    "mowich/calibrate@1": calibrate_page,
    "mowich/kernel@1": kernel_page,
    "mowich/kernel-run@1": run_page,
    "mowich/kernel-check@1": check_page,
    "mowich/kernel-debug@1": debug_page,
    "mowich/kernel-diff@1": kernel_diff_page,
    "mowich/kernel-layer@1": layer_page,
}


def page_of(result: Result, run: Run | None = None) -> Page:
    """The page of an answer, from its JSON. run: what is known of it where it was just made. Raises UserError for a
    kind of answer that has no page."""
    make = PAGES.get(str(result.get("schema")))
    if make is None:
        raise UserError("no report for this kind of result", given=result.get("schema"), allowed=", ".join(PAGES))
    return with_heard_lines(make(result, run or Run()), result)
