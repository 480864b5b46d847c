"""A page for each kind of result: schema -> the function that makes a `Page` of its JSON object."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mowich.show.page import Page, Result
from mowich.show.pages.claims import claims_page
from mowich.show.pages.fit import fit_page
from mowich.show.pages.fleet import fleet_page
from mowich.show.pages.kernel import kernel_page
from mowich.show.pages.kernel_diff import diff_page
from mowich.show.pages.machines import collective_page, goodput_page, power_page
from mowich.show.pages.model import model_page
from mowich.show.pages.serving import serve_page, traffic_page
from mowich.show.pages.sweep import sweep_page
from mowich.show.pages.training import compare_page
from mowich.show.pages.validate import validate_page

__all__ = ["PAGES"]


def job_page(result: Result) -> Page:
    """Training or serving, as the inputs say."""
    return (serve_page if result["inputs"].get("task") == "serve" else compare_page)(result)


PAGES: Mapping[str, Callable[[Result], Page]] = {
    "mowich/compare@1": job_page,
    "mowich/plan@1": job_page,
    "mowich/sweep@1": sweep_page,
    "mowich/fit@1": fit_page,
    "mowich/model@1": model_page,
    "mowich/fleet@1": fleet_page,
    "mowich/traffic@1": traffic_page,
    "mowich/collective@1": collective_page,
    "mowich/goodput@1": goodput_page,
    "mowich/power@1": power_page,
    "mowich/claims@1": claims_page,
    "mowich/validate@1": validate_page,
    "mowich/kernel@1": kernel_page,
    "mowich/kernel-diff@1": diff_page,
}
