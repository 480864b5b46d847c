"""The pools of a disaggregated row: prefill workers compute the prompts, decode workers the answers.

A row states how many workers each pool has (`prefill_workers`, `decode_workers`) and the plan of a worker, in the
columns `decode_tp` ... or in the words of `parallel_note` ("decode: num_workers=4 tp_size=8 attention_dp_size=1 ...").
Users are spread evenly: each decode worker has its share of the concurrency. What is left is a row of one decode
worker, that is read like any other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mowich.evidence.row_checks import PublishedRow, RefusedError

POOLS = ("prefill", "decode")
_WORDS = {
    "workers": "num_workers",
    "tp": "tp_size",
    "pp": "pp_size",
    "dp": "attention_dp_size",
    "moe_tp": "moe_tp_size",
    "ep": "moe_ep_size",
    "batch": "batch_size",
}
"""Column of a pool, after "prefill_" or "decode_" -> its word in `parallel_note`."""
_DEGREES = ("tp", "pp", "dp", "moe_tp", "ep")
NOT_TIMED = "the queue before the prefill workers and the path of the cache to the decode workers are not stated"
"""Why metrics of a disaggregated row that hold the prompt are not scored."""


@dataclass(frozen=True, slots=True)
class WorkerPool:
    """Workers of one kind. cells: degrees of a worker as stated, by column; batch: sequences of a rank group, None
    where not stated."""

    workers: int
    cells: dict[str, int]
    batch: int | None

    def degree(self, name: str) -> int:
        """A degree of the plan of a worker; sources write 0 where it is not used."""
        return max(1, self.cells.get(name, 1))

    @property
    def devices(self) -> int:
        """Devices of one worker."""
        return self.degree("tp") * self.degree("pp") * self.degree("dp")


def read_pool(row: PublishedRow, name: str) -> WorkerPool | None:
    """The pool `name` of a row; None where its workers or their tp are not stated. Raises RefusedError where a column
    and `parallel_note` disagree, and for a count that is no whole number."""
    words = re.search(rf"\b{name}:([^;]*)", row.get("parallel_note") or "")
    said = dict(re.findall(r"(\w+)=([^\s;]+)", words[1])) if words else {}
    cells: dict[str, int] = {}
    for key, word in _WORDS.items():
        column = f"{name}_{key}"
        found = [text for text in ((row.get(column) or "").strip(), said.get(word, "")) if text]
        if any(not re.fullmatch(r"\d+(?:\.0*)?", text) for text in found):
            raise RefusedError(f"{column}: '{', '.join(found)}'; allowed: a whole number")
        values = {int(float(text)) for text in found}
        if len(values) > 1:
            raise RefusedError(f"{column}: '{found[0]}', and parallel_note says {word}={found[1]}")
        if values:
            cells[key] = values.pop()
    workers, batch = cells.pop("workers", 0), cells.pop("batch", None)
    return WorkerPool(workers, cells, batch) if workers and cells.get("tp") else None


def decode_worker(row: PublishedRow) -> tuple[PublishedRow, str]:
    """(the row of one decode worker, what was read): its plan, and its share of the users.

    Raises RefusedError where the workers or the users are not stated, and where the parts contradict each other: the
    chips of both pools, and a concurrency that the batches of the decode workers do not hold.
    """
    pools = {name: read_pool(row, name) for name in POOLS}
    prefill, decode = pools["prefill"], pools["decode"]
    if decode is None:
        raise RefusedError(
            "disaggregated, and the row does not state the workers of each pool, their batch and transfer path"
        )
    _check_chips(row, prefill, decode)
    concurrency = (row.get("concurrency") or "").strip()
    if not concurrency:
        raise RefusedError(
            "concurrency is not stated: the batch of a decode worker says what it holds, not how many users there are"
        )
    _check_batch(concurrency, decode)
    share = float(concurrency) / decode.workers
    one = {
        **row,
        **{name: str(decode.degree(name)) for name in _DEGREES},
        "concurrency": repr(share),
        **dict.fromkeys(("n_chips", "batch", "output_tok_s", "parallel_note"), ""),
    }
    return one, f"users={share:.4g} of each of {decode.workers} decode workers"


def _check_chips(row: PublishedRow, prefill: WorkerPool | None, decode: WorkerPool) -> None:
    """Both pools have the chips that the row states; a chip may hold several devices."""
    stated = (row.get("n_chips") or "").strip()
    if prefill is None or not stated:
        return
    devices = sum(pool.workers * pool.devices for pool in (prefill, decode))
    if devices < float(stated) or devices % float(stated):
        raise RefusedError(
            f"n_chips: '{stated}', and {prefill.workers} prefill workers of {prefill.devices} and {decode.workers}"
            f" decode workers of {decode.devices} devices are {devices}"
        )


def _check_batch(concurrency: str, decode: WorkerPool) -> None:
    """Users beyond the batches of all decode workers wait, or belong to replicas; a batch may be rounded."""
    if decode.batch is None:
        return
    groups = decode.workers * decode.degree("dp")
    held = decode.batch * groups
    if float(concurrency) - held >= max(groups, 0.01 * float(concurrency)):
        raise RefusedError(
            f"concurrency: '{concurrency}' is more than {decode.workers} decode workers hold (batch {decode.batch} x dp"
            f" {decode.degree('dp')} each): the rest waits for a cap on the batch, or replicas are not counted"
        )
