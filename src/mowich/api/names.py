"""Classes of results and of what questions are made of, by the module that holds each: `mowich.Comparison` and its
neighbours, imported when they are first named."""

from __future__ import annotations

CLASSES = {
    "AnswerList": "mowich.shown",
    "Brief": "mowich.studies.brief.verdicts",
    "Calibration": "mowich.studies.calibrate",
    "ClaimStudy": "mowich.studies.claims",
    "CollectiveStudy": "mowich.studies.collectives",
    "Comparison": "mowich.studies.compare",
    "Estimate": "mowich.estimate",
    "Explanation": "mowich.studies.explain",
    "Facts": "mowich.facts",
    "Fleet": "mowich.studies.fleet",
    "Gap": "mowich.studies.gap",
    "GoodputStudy": "mowich.studies.goodput",
    "KernelsChecked": "mowich.studies.kernel_check",
    "LayerStudy": "mowich.studies.layer.study",
    "Model": "mowich.models",
    "Parts": "mowich.studies.sweep_store",
    "PlanList": "mowich.studies.plan",
    "PowerStudy": "mowich.studies.power",
    "PriceStudy": "mowich.studies.prices",
    "RateResult": "mowich.studies.rates",
    "Row": "mowich.studies.compare",
    "Rows": "mowich.shown",
    "Serve": "mowich.api.keywords",
    "ServeResult": "mowich.studies.serving_plan",
    "Shown": "mowich.shown",
    "Staleness": "mowich.studies.staleness",
    "Sweep": "mowich.studies.sweep",
    "System": "mowich.machines.system",
    "SystemRun": "mowich.studies.system_run",
    "TrafficResult": "mowich.studies.traffic",
    "Train": "mowich.api.keywords",
    "UserError": "mowich.errors",
    "Validation": "mowich.evidence.scores",
    "ValueStudy": "mowich.studies.value",
    "Why": "mowich.studies.trade",
    "load_facts": "mowich.facts",
}
"""Name -> module."""
