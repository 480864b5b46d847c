"""Questions about machines without a job: collectives, failures, power, prices, claims."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mowich.api.keywords import keywords_asked
from mowich.facts import Facts
from mowich.models import Model
from mowich.requests import machines, results
from mowich.requests import prices as price_questions
from mowich.studies import answers

if TYPE_CHECKING:
    from mowich.studies.claims import ClaimStudy
    from mowich.studies.collectives import CollectiveStudy
    from mowich.studies.goodput import GoodputStudy
    from mowich.studies.power import PowerStudy
    from mowich.studies.prices import PriceStudy


def collective(
    kind: str,
    on: str,
    *,
    sizes: Sequence[int | str] = machines.MESSAGE_SIZES,
    group: int | None = None,
    network: str = "",
    oversubscription: float = 1.0,
    fail: Sequence[str] = (),
    beside: Sequence[str] = (),
    layer: str = "graph",
    lnc: int | None = None,
    model: str | Model | None = None,
    to: str = "",
    method: str = "",
    link_Bps: float | str | None = None,
    worker: int | None = None,
    weights: str = "bf16",
    facts: Facts | None = None,
) -> CollectiveStudy:
    """Time of a collective among whole chips, for each size; of "weights", of a sync from a trainer to rollout workers,
    for each method.

    Args:
        kind: "all-reduce", "all-gather", "reduce-scatter", "all-to-all" ... or "weights".
        on: one system, "trn3:64"; of weights the trainer's.
        sizes: bytes, or "1GiB".
        group: chips of a group; None: all.
        network: another network than the machine's own.
        oversubscription: of the network, at least 1.
        fail: failed links or chips, "link:3".
        beside: other jobs on the same links.
        layer: software that calls it: "graph" (a compiled graph, on the device), "kernel", "framework".
        lnc: ranks are logical cores of so many physical ones; None: whole chips.
        model: of weights: the model that is sent.
        to: of weights: the machine of the rollout workers; "": the trainer's own chips.
        method: of weights: "reshard", "rdma", "relay" ...; "": every method that leads there.
        link_Bps: of weights: link between the sites, bytes/s or "100Gbit/s"; None: they share a network.
        worker: of weights: chips of one rollout worker; None: the fewest that hold the weights twice.
        weights: of weights: format that the workers serve in.
        facts: other facts than the shipped ones.

    Returns: a `CollectiveStudy`: `.rows`, one for each size. Units: seconds, bytes, bytes per second.

    Example:
        >>> import mowich
        >>> found = mowich.collective("all-reduce", "trn3:64", sizes=["1MiB", "1GiB"])
        >>> found.rows[0].time_s.unit
        's'
        >>> sync = mowich.collective("weights", "h100:16", model="qwen3-30b-a3b", to="trn3:32", method="relay")
        >>> sync.rows[0].algorithm
        'relay'
    """
    given: dict[str, object] = {
        "sizes": sizes,
        "group": group,
        "network": network,
        "oversubscription": oversubscription,
    }
    given |= {"fail": fail, "beside": beside, "layer": layer, "lnc": lnc}
    given |= {"model": model, "to": to, "method": method, "link_Bps": link_Bps, "worker": worker, "weights": weights}
    with keywords_asked(machines.COLLECTIVE, facts, kind=kind, on=on, **given) as asked:
        return answers.collective_timed(asked)


def goodput(
    on: str,
    *,
    days: float = 90.0,
    step_s: float = 5.0,
    spare_share: float = 0.02,
    replica: int | None = None,
    checkpoint_s: float | None = None,
    strategies: Sequence[str] | None = None,
    samples: int = 1000,
    seed: int = 0,
    facts: Facts | None = None,
) -> GoodputStudy:
    """Goodput of a long run on machines that fail, by way of surviving failures.

    Args:
        on: one system with its chips, "trn3:16384".
        days: length of the run.
        step_s: time of a step, seconds.
        spare_share: chips that wait as spares, a share.
        replica: chips of a copy of the model; None: the usual number.
        checkpoint_s: time between checkpoints, seconds; None: the best.
        strategies: "sync", "async", "memory", "elastic"; None: all.
        samples: runs that are drawn.
        seed: of the draws.
        facts: other facts than the shipped ones.

    Returns: a `GoodputStudy`: `.rows`, one for each way: formula, Monte Carlo and range. Units: shares; seconds.

    Example:
        >>> import mowich
        >>> len(mowich.goodput("trn3:64", samples=20).rows)
        4
    """
    given = {
        "days": days,
        "step_s": step_s,
        "spare_share": spare_share,
        "replica": replica,
        "samples": samples,
        "checkpoint_s": checkpoint_s,
        "strategies": strategies,
        "seed": seed,
    }
    with keywords_asked(machines.GOODPUT, facts, on=on, **given) as asked:
        return answers.goodput_found(asked)


def claims(word: str | None = None, *, facts: Facts | None = None) -> ClaimStudy:
    """Each public claim, derived again, with a verdict.

    Args:
        word: only those with these words in title, id, figures or verdict ("4x", "energy trainium").
        facts: other facts than the shipped ones.

    Returns: a `ClaimStudy`, a list of claims that prints itself. Units: those of each claim.

    Example:
        >>> import mowich
        >>> len(mowich.claims("4.4x")) > 0  # doctest: +SKIP
        True
    """
    with keywords_asked(results.CLAIMS, facts, word=word) as asked:
        return answers.claims_checked(asked)


def power(
    systems: Sequence[str],
    *,
    cap_W: float | None = None,
    spares: float = 0.0,
    tokens_per_s: float | None = None,
    facts: Facts | None = None,
) -> PowerStudy:
    """Power of machines by part, and what a site's power feeds.

    Args:
        systems: names, at least one.
        cap_W: power of a site, watts: how many chips it feeds.
        spares: share of chips that are idle.
        tokens_per_s: of one chip, for tokens per megawatt.
        facts: other facts than the shipped ones.

    Returns: a `PowerStudy`, a list of rows that prints itself. Units: watts; tokens/s per MW.

    Example:
        >>> import mowich
        >>> mowich.power(["trn3"], cap_W=1e6)[0].chips_under_cap.unit
        'chips'
    """
    given = {"cap_W": cap_W, "spares": spares, "tokens_per_s": tokens_per_s}
    with keywords_asked(machines.POWER, facts, systems=systems, **given) as asked:
        return answers.power_found(asked)


def prices(
    systems: Sequence[str] | None = None,
    *,
    price: str | None = None,
    quarter: str | None = None,
    rule: str | None = None,
    buyer: str | None = None,
    life_s: float | str | None = None,
    chips: float | None = None,
    margin: float | str | None = None,
    facts: Facts | None = None,
) -> PriceStudy:
    """What a chip-hour costs its owner, part by part, and what sellers keep.

    Args:
        systems: names; None: all whose cost is known.
        price: kind of price for all rows: "tco" (default), "list", "on-demand", ...
        quarter: of purchase, "2026Q1".
        rule: whose rule of accounting: "owner", "semianalysis" or "epoch".
        buyer: "hyperscaler" or "neocloud".
        life_s: of the machine, seconds or "5 years".
        chips: that share one network.
        margin: of a seller, a share of his price.
        facts: other facts than the shipped ones.

    Returns: a `PriceStudy`: `.rows`, one for each machine. Units: dollars per chip and second; dollars.

    Example:
        >>> import mowich
        >>> mowich.prices(["trn3"]).rows[0].system
        'trn3'
    """
    given = {"price": price, "quarter": quarter, "rule": rule, "buyer": buyer, "life_s": life_s, "chips": chips}
    with keywords_asked(price_questions.PRICES, facts, systems=systems, margin=margin, **given) as asked:
        return answers.prices_found(asked)
