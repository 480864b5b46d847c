"""The comparison that is computed ahead, and what a fresh worker does before its first request."""

from __future__ import annotations

import contextlib

from mowich.errors import UserError
from mowich.web import asks, library, verbs
from mowich.web.reading import Knowledge

FIRST = asks.CompareBody.model_validate(
    {
        "model": "deepseek-v3",
        "on": ("trn2", "trn3", "trn4", "ironwood", "gb300"),
        "chips": "16384",
        "train": {"tokens": "15T", "seq": "4096", "batch": "16384seqs"},
    }
)


def warm_up(known: Knowledge) -> None:
    """Import what the verbs need, parse facts and models, stack the facts of the systems that are asked for first: a
    small job of each kind. A user's own facts may refuse one, which is no matter here."""
    train, serve = {"tokens": "1T", "seq": "4096", "batch": "256seqs"}, {"isl": "8k", "osl": "1k"}
    for on in FIRST.systems:
        for job in ({"chips": "64", "train": train}, {"chips": "16", "serve": serve}):
            ask = asks.CompareBody.model_validate({"model": "llama-3.1-8b", "on": (on,), **job})
            with contextlib.suppress(UserError):
                verbs.together(ask, [verbs.row(ask, 0, known)], known)


def warm_quick(known: Knowledge) -> None:
    """Warm up a worker that answers quick questions alone: lists of what is known, and the modules that put a
    comparison together."""
    import mowich.show.compare
    import mowich.show.serve
    import mowich.studies.compare
    import mowich.studies.serving_plan  # noqa: F401

    for listed in (library.models, library.systems, library.facts_list):
        listed(known)
    all_reduce = asks.ROOM_BODIES["collective"].model_validate(
        {"kind": "all-reduce", "on": FIRST.systems[0], "sizes": ("1MiB",)}
    )
    held = asks.FitBody.model_validate({"model": "llama-3.1-8b", "on": FIRST.systems[0], "kv": "64k"})
    priced = asks.ROOM_BODIES["prices"].model_validate({"on": FIRST.systems[:1]})
    for verb, ask in (("collective", all_reduce), ("fit", held), ("prices", priced)):
        with contextlib.suppress(UserError):
            verbs.VERBS[verb](ask, known)
