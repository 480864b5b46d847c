"""Choices of a serving plan beyond its degrees: the most sequences of a worker, and plans of prefill and of decode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from mowich.plans.launch_settings import SETTING_NAMES, LaunchSettings
from mowich.plans.plan import ServePlan
from mowich.plans.serving_choices import POOL_CHOICES, SEQUENCES_CHOICE, read_pool_choice

Choices = Mapping[str, Sequence[int | str]]


class Bounded(TypedDict, total=False):
    """What bounds the batches of `serving.search.search_serving`."""

    most_users: float


class Narrowed(Bounded, total=False):
    """Bounds, and the only pair of plans that the search takes: of prefill and of decode workers."""

    pair: tuple[int, int]


def with_pools(fixed: Choices) -> Choices:
    """Choices with those of the plans of prefill and of decode: a search goes through what either of them may be."""
    pools = [read_pool_choice(str(fixed[role][0])) for role in POOL_CHOICES if role in fixed]
    if not pools:
        return fixed
    both = [name for name in pools[0] if all(name in pool for pool in pools)]
    either = {name: tuple(dict.fromkeys(pool[name] for pool in pools)) for name in both}
    return {**either, **fixed, "mode": ("disaggregated",)}


def stated_settings(fixed: Choices) -> LaunchSettings:
    """What the engines of the workers are started with, where it is chosen."""
    return LaunchSettings.of({name: fixed[name][0] for name in SETTING_NAMES if name in fixed})


def bounded(fixed: Choices) -> Bounded:
    """The most users of a rank group, where they are chosen."""
    return {"most_users": float(max(int(n) for n in fixed[SEQUENCES_CHOICE]))} if SEQUENCES_CHOICE in fixed else {}


def narrowed(plans: Sequence[ServePlan], fixed: Choices) -> Narrowed:
    """The most users of a rank group, and the places of the plans of prefill and of decode, where they are chosen."""
    out: Narrowed = {}
    if bound := bounded(fixed):
        out["most_users"] = bound["most_users"]
    if all(role in fixed for role in POOL_CHOICES):
        first, second = (_place(plans, read_pool_choice(str(fixed[role][0]))) for role in POOL_CHOICES)
        out["pair"] = (first, second)
    return out


def _place(plans: Sequence[ServePlan], pool: Mapping[str, int | str]) -> int:
    """The first plan that a pool describes; -1 where it describes none."""
    return next((i for i, p in enumerate(plans) if all(getattr(p, name) == v for name, v in pool.items())), -1)
