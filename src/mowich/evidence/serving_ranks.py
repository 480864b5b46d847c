"""Over how many ranks a row of serving measurements spread its model, and how many users each rank has.

Of a disaggregated row, prefill workers compute the prompts and decode workers the answers. It states how many workers
each pool has (`prefill_workers`, `decode_workers`) and the plan of a worker, in the columns `decode_tp` ... or in the
words of `parallel_note` ("decode: num_workers=4 tp_size=8 attention_dp_size=1 ..."). Users are spread evenly: each
decode worker has its share of the concurrency. The result is a row of one decode worker, which is read like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from mowich.evidence.row_checks import PublishedRow, RefusedError, cell_count, cell_number, cell_text
from mowich.evidence.serving_notes import NotedRun, first_note, notes_of, spread_ranks
from mowich.machines.system import System


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRanks:
    """How a row was spread. users: requests in flight per rank of attention data parallelism; in_flight: in all of
    them, None where the row states only a batch; is_static: a batch that starts together and is not refilled; chips:
    that the ranks need; inferred: repairs and filled-in fields."""

    tp: int
    pp: int
    dp: int
    ep: int
    users: float
    in_flight: float | None
    is_static: bool
    chips: int
    inferred: tuple[str, ...]


def read_ranks(
    row: PublishedRow,
    one: System,
    *,
    lengths: tuple[float, float],
    starts_together: bool,
    folds: bool,
) -> RowRanks:
    """The ranks of a row and their users. one: the machine with one chip; lengths: tokens of a prompt and of an
    answer; starts_together: its stack does not refill a batch; folds: whether a plan that reads as folded is
    unfolded. Raises RefusedError with the reason."""
    mode = row.get("mode") or ""
    tp, dp, ep, how = _unfolded(row, one, folds=folds)
    pp = cell_count(row, "pp")
    concurrency, batch = cell_number(row, "concurrency"), cell_number(row, "batch")
    run = NotedRun(lengths=lengths, users=concurrency or 0.0, tp=tp, dp=dp)
    tp, dp, ep, said = spread_ranks(first_note(notes_of("ranks"), row, run), tp, dp, ep)
    is_static = mode.startswith("static") or starts_together
    if not concurrency and (not batch or mode.startswith("online")):
        raise RefusedError(
            "concurrency is not stated"
            + (": a batch alone does not say how many users wait" if batch else ", nor a batch")
        )
    if concurrency and batch and not is_static:
        _check_replicas(row, concurrency, batch, (cell_count(row, "dp"), dp))
    return RowRanks(
        tp=tp,
        pp=pp,
        dp=dp,
        ep=ep,
        users=max(1.0, concurrency / dp) if concurrency else float(batch or 0.0),  # fewer than ranks: some ranks idle
        in_flight=concurrency,
        is_static=is_static,
        chips=_chips_of(tp, dp, pp, None if how else cell_number(row, "n_chips"), one),
        inferred=(*([how] if how else []), *said),
    )


def unfold_plan(tp: int, dp: int, ep: int, moe_tp: int, domain: int = 8) -> tuple[int, int, int, str]:
    """(tp, dp, ep, what was repaired): undoes plans whose tp or dp was already multiplied by ep or dp. domain: devices
    of a scale-up domain.

    (16, 1, 4, 4) is TP4 with EP4 on 4 chips; (1, 64, 8, 8) attention DP 8 with EP8; (4, 4, 16, 1) TP4 with EP4, as runs
    that are printed both ways and the scripts of the others show. But (4, 1, 2, 2) stays TP4, whose experts are cut by
    EP2 and TP2: inside a domain tp = ep moe_tp is how engines state such a plan; beyond it no engine cuts a layer so.
    The id of a row says more (`plan_of_id`).
    """
    if ep > 1 and moe_tp == ep:
        if dp == 1 and tp == ep * moe_tp and tp > domain:
            return ep, 1, ep, f"tp={ep} (folded: tp {tp} counts ep {ep} twice)"
        if tp == 1 and dp == ep * moe_tp:
            return 1, ep, ep, f"dp={ep} (folded: dp {dp} counts ep {ep} twice)"
    if tp == dp > 1 and ep == tp * dp:
        return tp, 1, tp, f"dp=1, ep={tp} (folded: dp {dp} counts ep {tp} again, and ep {ep} twice)"
    return tp, dp, ep, ""


_PLAN_OF_ID = re.compile(r"_tp(\d+)_ep(\d+)(?=_|\b)")
"""A plan as ids of tables state it: "..._c64_tp2_ep2_7"."""


def plan_of_id(text: str, tp: int, dp: int, ep: int) -> tuple[int, int, int, str] | None:
    """(tp, dp, ep, what was repaired) by the id of a row, where its cells equal tp x ep of the id and are therefore
    folded. None where the id states no plan, or another.

    >>> plan_of_id("dsr1_c64_tp2_ep2_7", 4, 1, 2), plan_of_id("dsr1_c64_tp4_ep2_7", 4, 1, 2)
    ((2, 1, 2, 'tp=2 (folded: the id of the row says tp2_ep2)'), None)
    """
    found = _PLAN_OF_ID.search(text)
    if found is None:
        return None
    ranks, groups = int(found[1]), int(found[2])
    if groups < 2 or ep != groups or tp * dp != ranks * groups or 1 not in (tp, dp):
        return None
    said = f"folded: the id of the row says tp{ranks}_ep{groups}"
    return (ranks, 1, groups, f"tp={ranks} ({said})") if dp == 1 else (1, ranks, groups, f"dp={ranks} ({said})")


def _unfolded(row: PublishedRow, one: System, *, folds: bool) -> tuple[int, int, int, str]:
    """(tp, dp, ep, how they were unfolded) of a row. A plan whose own count of chips agrees is taken as printed."""
    tp, dp, ep = cell_count(row, "tp"), cell_count(row, "dp"), cell_count(row, "ep")
    devices = tp * dp * cell_count(row, "pp")
    is_stated = "n_chips" not in (row.get("derived_fields") or "")
    if not folds or (is_stated and cell_number(row, "n_chips") == -(-devices // one.devices_per_chip)):
        return tp, dp, ep, ""
    by_id = plan_of_id(f"{row['id']} {row.get('source_path_or_url') or ''}", tp, dp, ep)
    return by_id or unfold_plan(tp, dp, ep, cell_count(row, "moe_tp"), one.domain_devices)


def _chips_of(tp: int, dp: int, pp: int, stated: float | None, one: System) -> int:
    """Chips that a plan needs. stated: those of the row, None where it does not say; one: the machine with one chip.
    Raises RefusedError where they are not as many as stated, or more than the fabric joins."""
    chips = -(-tp * dp * pp // one.devices_per_chip)
    if stated and chips != stated:
        more = ": replicas, whose share of the concurrency is not stated" if chips < stated else ""
        raise RefusedError(
            f"n_chips: tp {tp} x dp {dp} x pp {pp} needs {chips} chips and the row states {stated:g}{more}"
        )
    if chips > one.max_chips:
        raise RefusedError(f"needs {chips} chips; the fabric joins {one.max_chips}")
    return chips


def _check_replicas(row: PublishedRow, concurrency: float, batch: float, data_ranks: Iterable[int]) -> None:
    """Raises RefusedError where the concurrency is more than the batch of a rank times the ranks of attention data
    parallelism: the rest belongs to replicas that the row does not count, or waits for a cap on the batch. data_ranks:
    dp as printed and as unfolded; a batch may be rounded."""
    if all(concurrency - batch * dp >= max(dp, 0.01 * concurrency) for dp in data_ranks):
        raise RefusedError(
            f"concurrency: '{row['concurrency']}' is not batch '{row['batch']}' x dp '{row.get('dp') or 1}': it counts"
            " several replicas, whose number is not stated, or a cap on the batch"
        )


# pools of a disaggregated row
# ----------------------------------------------------------------------------------------------------------------------

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
        found = [text for text in (cell_text(row, column), said.get(word, "")) if text]
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
    concurrency = cell_text(row, "concurrency")
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
    stated = cell_text(row, "n_chips")
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
