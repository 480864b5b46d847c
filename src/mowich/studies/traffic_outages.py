"""The replicas of a traffic scenario that go: read, and resolved on the pool that they are of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mowich.errors import UserError
from mowich.facts import Facts
from mowich.scenario import Node
from mowich.serving.traffic.outages import RECOVERIES, Chance, Failure, Recovery, rolling
from mowich.shown import Keyed
from mowich.software.vendors import failure_class
from mowich.studies.traffic_pools import Pool, make_transfer
from mowich.training.faults import mtbf_s, read_fault_rates

_BY_FACTS = "facts"
"""The word for a rate of failures by `facts/reliability`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedOutages:
    """What a scenario says of replicas that go. update: a rolling update (at, each, drain, down in s; empty: none);
    mtbf_s: of a replica (None: by facts), with `chance_down_s` (None: no failures by chance)."""

    failures: tuple[Failure, ...] = ()
    update: Mapping[str, float] = field(default_factory=dict)
    mtbf_s: float | None = None
    chance_down_s: float | None = None
    seed: int = 0
    recovery: Recovery = field(default_factory=Recovery)

    @property
    def is_asked(self) -> bool:
        return bool(self.failures or self.update) or self.chance_down_s is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedOutages(Keyed):
    """The same on a pool."""

    KEYS = "events=failures chance detect_s=recovery.detect_s retry_s=recovery.retry_s moves=recovery.moves"

    failures: tuple[Failure, ...] = ()
    chance: Chance | None = None
    recovery: Recovery = field(default_factory=Recovery)

    @property
    def is_asked(self) -> bool:
        return bool(self.failures) or self.chance is not None


def read_outages(node: Node) -> AskedOutages:
    """The failures of a scenario: by name, a rolling update, by chance, and what becomes of the requests."""
    recovery = Recovery(
        detect_s=node.quantity("detect", "s", 0.0) or 0.0,
        retry_s=node.quantity("retry", "s", 0.0) or 0.0,
        moves=node.text("moves", "restart", allowed=RECOVERIES),
    )
    if recovery.moves != "restart":
        node.refuse("goes with users who ask again", "retry", fix="moves: restart")
    out = AskedOutages(recovery=recovery)
    if "rolling" in node:
        times = ("at", "each", "drain", "down")
        with node.inside("rolling", *times) as one:
            out = replace(out, update={key: one.quantity(key, "s", 0.0) or 0.0 for key in times})
    if "mtbf" not in node:
        node.refuse("goes with failures by chance", "down", "seed", fix="mtbf: facts")
    else:
        node.need("down")
        by_facts = node.raw("mtbf") == _BY_FACTS
        out = replace(
            out,
            mtbf_s=None if by_facts else node.quantity("mtbf", "s", 1.0, minimum=1e-3),
            chance_down_s=node.quantity("down", "s", 0.0),
            seed=int(node.count("seed", 0, minimum=0)),
        )
    failures = []
    reserved = ("detect", "retry", "moves", "rolling", "mtbf", "down", "seed")
    for name in [key for key in node if key not in reserved]:
        with node.inside(name, "at", "replica", "down") as one:
            failures.append(
                Failure(
                    at_s=one.quantity("at", "s", 0.0) or 0.0,
                    replica=int(one.count("replica", 0.0, minimum=0)),
                    down_s=one.quantity("down", "s", 0.0) or 0.0,
                    drain_s=one.quantity("drain", "s"),
                )
            )
    node.done()
    return replace(out, failures=tuple(failures))


def resolve_outages(asked: AskedOutages, pool: Pool, facts: Facts, where: str) -> ResolvedOutages:
    """On the pool that decodes, or the only one. Raises UserError for a failure of a replica that is not there."""
    for failure in asked.failures:
        if failure.replica >= pool.replicas:
            raise UserError(
                "no such replica", where=f"{where} failures", given=failure.replica, allowed=f"0 to {pool.replicas - 1}"
            )
    update, failures = asked.update, asked.failures
    if update:
        failures += rolling(
            pool.replicas,
            at_s=update["at"],
            each_s=update["each"],
            drain_s=update["drain"],
            down_s=update["down"],
        )
    chance = None
    if asked.chance_down_s is not None:
        mean = asked.mtbf_s
        if mean is None:
            rates = read_fault_rates(facts, failure_class(facts, pool.system.id))
            mean = mtbf_s(rates.total, pool.chips / pool.replicas)
        chance = Chance(mtbf_s=mean, down_s=asked.chance_down_s, seed=asked.seed)
    recovery = asked.recovery
    if recovery.moves == "cache" and asked.is_asked:
        recovery = replace(recovery, way=make_transfer(facts, pool.deployment.model, pool, pool, None))
    return ResolvedOutages(failures=failures, chance=chance, recovery=recovery)
