"""Mowich: Trainium 3 in software, beside the machines it competes with.

The public functions mirror the verbs of the command line; each is imported when it is first used.

>>> import mowich
>>> mowich.load("llama-3.1-8b").params
8030261248
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

from mowich import shown
from mowich.version import VERSION

__version__ = VERSION

__all__ = [
    "AnswerList",
    "Brief",
    "Calibration",
    "ClaimStudy",
    "CollectiveStudy",
    "Comparison",
    "Estimate",
    "Explanation",
    "Facts",
    "Fleet",
    "Forecasts",
    "Forward",
    "ForwardAnswer",
    "Gap",
    "GoodputStudy",
    "KernelAdvice",
    "KernelDebug",
    "KernelJudge",
    "KernelTune",
    "KernelsChecked",
    "LayerStudy",
    "Model",
    "NextMeasurements",
    "Parts",
    "PlanList",
    "PowerStudy",
    "PriceStudy",
    "RateResult",
    "RlAnswer",
    "Row",
    "Rows",
    "Serve",
    "ServeResult",
    "Shown",
    "Staleness",
    "Sweep",
    "System",
    "SystemRun",
    "TrafficResult",
    "Train",
    "UserError",
    "Validation",
    "ValueStudy",
    "Verification",
    "Why",
    "__version__",
    "advise",
    "brief",
    "calibrate",
    "check_kernel",
    "claims",
    "collective",
    "compare",
    "debug_kernel",
    "emit",
    "explain",
    "fit",
    "fleet",
    "forecasts",
    "gap",
    "goodput",
    "judge",
    "load",
    "load_facts",
    "load_kernel",
    "neighbours",
    "next_measurements",
    "pareto",
    "plan",
    "power",
    "prices",
    "rl",
    "run_kernel",
    "run_layer",
    "stale_facts",
    "sweep",
    "system",
    "traffic",
    "tune",
    "validate",
    "value",
    "verify",
]

if TYPE_CHECKING:
    from mowich.api import (
        advise,
        brief,
        calibrate,
        check_kernel,
        claims,
        collective,
        compare,
        debug_kernel,
        emit,
        explain,
        fit,
        fleet,
        forecasts,
        gap,
        goodput,
        judge,
        load,
        load_kernel,
        neighbours,
        next_measurements,
        pareto,
        plan,
        power,
        prices,
        rl,
        run_kernel,
        run_layer,
        stale_facts,
        sweep,
        system,
        traffic,
        tune,
        validate,
        value,
        verify,
    )
    from mowich.api.keywords import Forward, Serve, Train
    from mowich.errors import UserError
    from mowich.estimate import Estimate
    from mowich.evidence.scores import Validation
    from mowich.facts import Facts, load_facts
    from mowich.machines.system import System
    from mowich.models import Model
    from mowich.shown import AnswerList, Rows, Shown
    from mowich.studies.advise.advise import KernelAdvice
    from mowich.studies.brief.verdicts import Brief
    from mowich.studies.calibrate import Calibration
    from mowich.studies.claims import ClaimStudy
    from mowich.studies.collectives import CollectiveStudy
    from mowich.studies.compare import Comparison, PlanList, Row
    from mowich.studies.debug.answer import KernelDebug
    from mowich.studies.explain import Explanation
    from mowich.studies.fleet import Fleet
    from mowich.studies.forecasts import Forecasts
    from mowich.studies.forward_answer import ForwardAnswer
    from mowich.studies.gap import Gap
    from mowich.studies.goodput import GoodputStudy
    from mowich.studies.judge.judge import KernelJudge
    from mowich.studies.kernel_check import KernelsChecked
    from mowich.studies.layer.study import LayerStudy
    from mowich.studies.next_measure import NextMeasurements
    from mowich.studies.power import PowerStudy
    from mowich.studies.prices import PriceStudy
    from mowich.studies.rates import RateResult
    from mowich.studies.rl_answer import RlAnswer
    from mowich.studies.serving_plan import ServeResult
    from mowich.studies.staleness import Staleness
    from mowich.studies.sweep import Sweep
    from mowich.studies.sweep_store import Parts
    from mowich.studies.system_run import SystemRun
    from mowich.studies.trade import Why
    from mowich.studies.traffic import TrafficResult
    from mowich.studies.tune.tune import KernelTune
    from mowich.studies.value import ValueStudy
    from mowich.studies.verify import Verification


def _notebook() -> shown.Drawer:
    # Results draw themselves in a notebook with the report, which stands above them; it is loaded when one is drawn.
    from mowich.show.render import notebook

    return notebook


shown.draw_with(_notebook)


def __getattr__(name: str) -> object:
    if name in __all__:
        import importlib

        from mowich.api.names import CLASSES

        return getattr(importlib.import_module(CLASSES.get(name, "mowich.api")), name)
    if name in _PACKAGES:
        import importlib

        return importlib.import_module(f"mowich.{name}")
    if not name.startswith("_"):
        from mowich.requests.rooms import room_names

        if name in room_names():
            from mowich.api.rooms import room_verb

            return room_verb(name)
    raise AttributeError(f"module 'mowich' has no attribute '{name}'")


class _Package(ModuleType):
    """This package. A package of the same name as the verb `rl` lies in it, which Python would put in the verb's place
    when it is imported."""

    @property
    def rl(self) -> object:
        return __getattr__("rl")

    @rl.setter
    def rl(self, package: object) -> None:
        return None


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    from mowich.requests.rooms import room_names

    return [*__all__, *_PACKAGES, *room_names()]


_PACKAGES = ("gym", "nki")
"""Packages that need no import of their own."""
