"""The comparison that a new visitor finds finished, and what a fresh worker does before its first request."""

from __future__ import annotations

import contextlib

from mowich.errors import UserError
from mowich.facts import Facts
from mowich.web import asks, verbs

FIRST = asks.Compare(
    model="deepseek-v3",
    on=("trn2", "trn3", "trn4", "ironwood", "gb300"),
    chips="16384",
    train=asks.Train(tokens="15T", seq="4096", batch="16384seqs"),
)


def warm_up(facts: Facts) -> None:
    """Import what the verbs need, and parse facts and models: a small job of each kind. A user's own facts may refuse it, which is no matter here."""
    for on in ("trn3:64", "gb300:72"):
        with contextlib.suppress(UserError):
            verbs.plan(
                asks.Plan(
                    model="deepseek-v3", on=on, train=asks.Train(tokens="1T", seq="4096", batch="1024seqs"), top=1
                ),
                facts,
            )
            verbs.plan(asks.Plan(model="deepseek-v3", on=on, serve=asks.Serve(isl="8k", osl="1k"), top=1), facts)
