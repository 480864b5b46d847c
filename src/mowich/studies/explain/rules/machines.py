"""Rules of machines: collectives, failures, power."""

from __future__ import annotations

from collections.abc import Mapping

from mowich.studies.explain.rules.rule import R, Rule, of, under
from mowich.training import faults

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

SHARE_OF_FAILED = "terms: what is lost of the time, in turn"

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
    "mowich/goodput@1": (
        R("rows * goodput", "1", "share of the time that trains", "= 1 - sum(lost)"),
        R("rows * mtbf_s", "s", "mean time between failures that stop the job", of(faults.mtbf_s, rate="failure_rate")),
        R("rows * checkpoint_s", "s", "time between checkpoints", "= tau"),
        R("rows * failures", "1", "failures over the run", "= days * 86400 / mtbf_s"),
        R("rows * lost *", "1", "share of the time that is lost", SHARE_OF_FAILED),
        R(
            "rows * monte_carlo mean",
            "1",
            "mean goodput of simulated runs",
            "simulation: failures drawn one by one, over `samples` runs; it checks the formula",
        ),
        R(
            "rows * monte_carlo sd",
            "1",
            "spread of simulated runs: luck",
            "simulation: standard deviation over `samples` runs",
        ),
        R("rows * recovery_s", "s", "from a failure until the job trains again", of(faults.recovery_of)),
        R(
            "rows * breakeven_recovery_s",
            "s",
            "longest recovery with which goodput still reaches the target",
            "search: bisection of the formula over the recovery",
        ),
        R("target", "1", "goodput that the break-even is given for", "lookup: a definition: 90%"),
    ),
}
