"""Questions about machines without a job: collectives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mowich.api.keyword_verb import keyword_verb
from mowich.requests import machines
from mowich.studies import answers

if TYPE_CHECKING:
    from mowich.studies.collectives import CollectiveStudy


@keyword_verb(machines.COLLECTIVE, "kind", "on")
def collective(asked: machines.CollectiveRequest) -> CollectiveStudy:
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
    return answers.collective_timed(asked)
