"""Rules of machines: collectives, failures, power."""

from __future__ import annotations

from collections.abc import Mapping

from mowich.studies.explain.rules.rule import R, Rule, under

LEVEL = [
    R("joins", "chips", "chips that one domain of this level joins", "lookup: as the facts of the system state it"),
    R("of", "domains", "domains of this level in the machine", "inside: chips of the machine / chips of a domain"),
    R(
        "Bps",
        "B/s",
        "bandwidth of a chip at this level, one way",
        "lookup: as the facts of the system and its chip state it",
    ),
    R(
        "hops",
        "links",
        "links between the two chips of a domain that are furthest apart",
        "lookup: of the kind of the level",
    ),
    R(
        "cut_Bps",
        "B/s",
        "bandwidth through the middle of a domain, one way",
        "inside: links across the worst even cut x rate",
    ),
    R("latency_s", "s", "time of one step at this level", "lookup: as the facts of the network state it"),
]

MACHINE_RULES: Mapping[str, tuple[Rule, ...]] = {
    "mowich/collective@1": (
        *under("levels *", LEVEL),
        R(
            "slowdown",
            "1",
            "time of the bytes on failed or shared links over that on whole ones",
            "simulation: max-min fair flows over the links that are left; 1 where all are whole",
        ),
        R("rows * bytes", "B", "size of the buffer (of an all-to-all: what each sends)", "lookup: as asked: --bytes"),
        R("rows * ranks", "chips", "chips that take part", "lookup: as asked: --group, less failed chips"),
        R("rows * time_s", "s", "time of the collective", "= sum(parts)"),
        R(
            "rows * time_s breakdown *",
            "s",
            "what a level's bytes, or the steps, take of the time",
            "terms: the terms below",
        ),
        R(
            "rows * trainer_s",
            "s",
            "what a sync holds the trainer",
            "terms: the parts in which it takes part (rl/sync.py, mowich help rl-sync)",
        ),
        R(
            "rows * workers_s",
            "s",
            "what a sync holds the workers",
            "terms: the parts in which they take part (rl/sync.py, mowich help rl-sync)",
        ),
        R("rows * tensors", "1", "tensors that a device of a worker takes by name", "terms: sync_load below"),
        R("rows * busbw_Bps", "B/s", "bus bandwidth as nccl-tests define it", "= bus_factor * bytes / time_s"),
    ),
}
