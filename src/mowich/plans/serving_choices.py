"""Choices that restrict the search for a serving plan, as words: `plan.tp=4,8`, `plan.weights=fp8`."""

from __future__ import annotations

from collections.abc import Mapping

from mowich.errors import UserError, unknown
from mowich.plans.plan import KV, WEIGHTS

DEGREES = ("tp", "pp", "dp", "cp", "ep")
"""Degrees of a serving plan that may be chosen."""


def parse_serving(settings: Mapping[str, str]) -> dict[str, tuple[int | str, ...]]:
    """{"tp": "4,8", "weights": "fp8"} -> choices of a serving plan. Raises UserError."""
    words_of = {"weights": WEIGHTS, "kv": KV, "mode": ("aggregated", "disaggregated", "any")}
    known = (*DEGREES, *words_of)
    out: dict[str, tuple[int | str, ...]] = {}
    for key, text in settings.items():
        where = f"plan.{key}"
        key = "weights" if key == "precision" else key
        if key not in known:
            raise unknown("field of a serving plan", key, known, field="plan")
        words = [w.strip() for w in str(text).split(",")]
        if key in DEGREES:
            for w in words:
                if not w.isdigit() or not 1 <= int(w) <= 4096:
                    raise UserError("not a legal degree", field=where, given=w, allowed="whole numbers from 1 to 4096")
            out[key] = tuple(int(w) for w in words)
        else:
            for w in words:
                if w not in words_of[key]:
                    raise unknown(key, w, words_of[key], field=where)
            out[key] = tuple(words)
    return out
