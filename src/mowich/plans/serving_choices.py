"""Choices that restrict the search for a serving plan, as words: `plan.tp=4,8`, `plan.weights=fp8`."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mowich.errors import UserError, unknown
from mowich.plans.launch_settings import SETTING_NAMES, read_setting
from mowich.units import is_digits

POOL_CHOICES = ("prefill", "decode")
"""Choices that state a whole plan for one kind of workers: "tp=2 kv=fp8"."""
SEQUENCES_CHOICE = "sequences"
"""The choice of the most sequences that a rank group holds."""
DEGREES = ("tp", "pp", "dp", "cp", "ep")
"""Degrees of a serving plan that may be chosen."""
SERVE_FIXABLE = (*DEGREES, "weights", "kv", "mode", *POOL_CHOICES, SEQUENCES_CHOICE, *SETTING_NAMES)
"""Fields of a serving plan that a user may fix."""
_MOST = 4096
_MOST_SEQUENCES = 1_000_000


def read_pool_choice(text: str) -> dict[str, int | str]:
    """ "tp=2 ep=4 kv=fp8" -> fields of a worker's plan; degrees that are not said are 1. Raises UserError.

    >>> read_pool_choice("tp=2 kv=fp8")
    {'tp': 2, 'pp': 1, 'dp': 1, 'cp': 1, 'ep': 1, 'kv': 'fp8'}
    """
    from mowich.plans.plan import KV, WEIGHTS  # imported here: --help needs only the names of this module

    words = {"weights": WEIGHTS, "kv": KV}
    out: dict[str, int | str] = dict.fromkeys(DEGREES, 1)
    for part in text.split():
        name, _, value = part.partition("=")
        if name in words:
            if value not in words[name]:
                raise unknown(name, value, words[name])
            out[name] = value
        elif name in DEGREES and is_digits(value) and 1 <= int(value) <= _MOST:
            out[name] = int(value)
        else:
            raise UserError("not a field of a worker's plan", given=part, allowed="tp=2, pp, dp, cp, ep, weights, kv")
    return out


def _serving_choice(key: str, text: str, where: str) -> tuple[int | str, ...]:
    """The value of "prefill", "decode" or "sequences". Raises UserError."""
    if key in POOL_CHOICES:
        read_pool_choice(text)
        return (text,)
    if not is_digits(text) or not 1 <= int(text) <= _MOST_SEQUENCES:
        raise UserError(
            "not a number of sequences", field=where, given=text, allowed=f"a whole number up to {_MOST_SEQUENCES}"
        )
    return (int(text),)


def parse_serving(settings: Mapping[str, str], also: Collection[str] = ()) -> dict[str, tuple[int | str, ...]]:
    """{"tp": "4,8", "weights": "fp8"} -> choices of a serving plan; a setting of its engine has one value. also: fields
    that the caller has read, which an error names too. Raises UserError."""
    from mowich.plans.plan import KV, WEIGHTS

    words_of = {"weights": WEIGHTS, "kv": KV, "mode": ("aggregated", "disaggregated", "any")}
    out: dict[str, tuple[int | str, ...]] = {}
    for key, text in settings.items():
        where = f"plan.{key}"
        key = "weights" if key == "precision" else key
        if key not in SERVE_FIXABLE:
            raise unknown("field of a serving plan", key, (*SERVE_FIXABLE, *also), field="plan")
        if key in SETTING_NAMES:
            value = read_setting(key, text, where=where)
            out[key] = (str(value) if isinstance(value, float) else value,)
            continue
        if key in (*POOL_CHOICES, SEQUENCES_CHOICE):
            out[key] = _serving_choice(key, str(text), where)
            continue
        words = [w.strip() for w in str(text).split(",")]
        if key in DEGREES:
            for w in words:
                if not is_digits(w) or not 1 <= int(w) <= _MOST:
                    raise UserError("not a legal degree", field=where, given=w, allowed="whole numbers from 1 to 4096")
            out[key] = tuple(int(w) for w in words)
        else:
            for w in words:
                if w not in words_of[key]:
                    raise unknown(key, w, words_of[key], field=where)
            out[key] = tuple(words)
    if len(out.keys() & set(POOL_CHOICES)) == 1:
        raise UserError("prefill and decode are chosen together", field="plan", given=", ".join(sorted(settings)))
    return out
