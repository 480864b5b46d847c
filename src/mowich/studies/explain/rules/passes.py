"""Rules of forward passes: images and clips, encoders."""

from __future__ import annotations

from collections.abc import Mapping

from mowich.studies.explain.rules.rule import CHOSEN_BY_SEARCH, R, Rule, under

_LAWS = "terms: the laws below"

_ROW = (
    R("pass_s", "s", "one step of a replica: a forward of all its items, of both branches of guidance", "= sum(parts)"),
    R("pass_s breakdown *", "s", "a part of the step", _LAWS),
    R("item_s", "s", "an item from its first to its last step", "= pass_s * result.inputs.steps"),
    R("item_s breakdown *", "s", "a part of the item's time", "inside: the same part of a step x steps"),
    R(
        "items_per_s_per_chip",
        "1/s",
        "items per second of all replicas, over the chips that are asked for",
        "= replicas * plan.batch / (item_s * chips_requested)",
    ),
    R(
        "usd_per_item",
        "USD",
        "cost of an item: all chips are paid for, also idle ones",
        "= price / items_per_s_per_chip",
    ),
    R(
        "J_per_item",
        "J",
        "energy at the meter of an item",
        "inside: pue x (chips used + idle chips x idle share) x power / items per second",
    ),
    R("mfu", "1", "FLOP of the model over time and the published peak of the chips in use", _LAWS),
    R("memory_B", "B", "bytes of a device in use", "= sum(memory_B)"),
    R("memory_B *", "B", "bytes of a device of one kind", _LAWS),
    R("memory_capacity_B", "B", "what a program may use of a device", "= usable"),
    R("plan *", "1", "a choice of the plan", CHOSEN_BY_SEARCH),
    R("replicas", "1", "copies of the model that work side by side", "count: devices / devices of a replica"),
    R("chips_requested", "chips", "chips that are asked for and paid for", "lookup: the question"),
    R("chips_used", "chips", "chips in use", "count: replicas x devices of one / devices of a chip"),
    R("chips_idle", "chips", "chips that are paid for and stand idle", "= chips_requested - chips_used"),
    R("devices_per_chip", "1", "devices of a chip", "lookup: the facts of the system"),
    R("evaluated", "1", "plans that were timed", "count: legal plans that fit"),
)

FORWARD_RULES: Mapping[str, tuple[Rule, ...]] = {
    "mowich/forward@1": (
        *under("rows *", _ROW),
        R("smallest_chips", "chips", "fewest chips that hold a replica of one item", "search: of 1, 2, 4 and so on"),
    ),
}
"""Schema -> its rules."""
