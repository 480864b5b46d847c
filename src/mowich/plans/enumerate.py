"""Every legal plan of a stated space, as columns, and why other plans are not legal.

The space: degrees that divide what they split (heads, experts, scale-up domain), micro-batches and pipeline depths from
short ladders, and for each every data-parallel degree that the chips allow with a legal batch. `legal_plans` lists the
largest of those degrees, `every_dp` all, for searches in which the many smaller ones can win. Memory is not checked
here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from mowich.arrays import constant, pick
from mowich.errors import EXIT_INFEASIBLE, UserError
from mowich.machines.system import PRECISIONS
from mowich.models import ops
from mowich.models.model import Model, Moe
from mowich.plans import schedules
from mowich.plans.plan import ORDERS, SCHEDULES, WORDS, Plans, TrainJob, numbered
from mowich.plans.schedules import micro_batches
from mowich.plans.search import divisors
from mowich.software.stack import Platform

MICRO_BATCHES = (1, 2, 3, 4, 6, 8, 12, 16)
CP_DEGREES = (1, 2, 4, 8, 16, 32)
FEW_CP, _LONG = 4, 16384
"""Context-parallel degrees of sequences shorter than LONG go up to FEW_CP, or to the devices per sequence."""
MAX_PP = 64
MAX_TP = 64
VPP = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class Space:
    """Legal plans, and how many combinations each rule turned away. Plan i is row i // m of `shapes` in the i % m-th of
    the m `modes` (field -> column [m]), so that columns without modes are computed once for m plans. Each run of
    `num_recompute` consecutive plans differs in recompute only, from none to full. is_dp_free: each plan has the
    largest legal dp, and `every_dp` has the rest; else dp was fixed."""

    shapes: Plans
    modes: Mapping[str, np.ndarray]
    refused: Mapping[str, int]
    num_recompute: int
    is_dp_free: bool = True

    @property
    def num_modes(self) -> int:
        return len(next(iter(self.modes.values()), (0,)))

    def __len__(self) -> int:
        return len(self.shapes) * self.num_modes

    def take(self, rows: np.ndarray) -> Plans:
        """The plans at these places."""
        if not self.modes:
            return self.shapes.take(rows)
        shape, mode = np.divmod(rows, self.num_modes)
        return replace(self.shapes.take(shape), **{name: pick(column, mode) for name, column in self.modes.items()})

    def dp(self, rows: np.ndarray) -> np.ndarray:
        """The data-parallel degrees of the plans at these places."""
        return np.asarray(self.shapes.dp[rows // self.num_modes])

    @property
    def plans(self) -> Plans:
        """All plans, written out."""
        return self.take(np.arange(len(self))) if self.modes else self.shapes


def tp_degrees(model: Model, system: Platform) -> list[int]:
    """Tensor-parallel degrees: divide every layer's query heads and its feed-forward, and stay inside one scale-up
    unit."""
    limit = min(MAX_TP, system.domain_devices, system.devices)
    common = math.gcd(*(size for sizes in tp_splits(model).values() for size in sizes)) or 1
    return [d for d in divisors(common, limit) if d & (d - 1) == 0 or d <= 12]


def pp_degrees(model: Model) -> list[int]:
    """Pipeline depths: powers of two and divisors of the layers."""
    L = model.num_layers
    return [d for d in range(1, min(MAX_PP, L) + 1) if d & (d - 1) == 0 or L % d == 0]


def tp_splits(model: Model) -> dict[str, list[int]]:
    """Sizes that tensor parallelism cuts, by name: query heads and the feed-forward of every token (etp cuts
    experts)."""
    out: dict[str, list[int]] = {}
    for layer in model.work:
        for name, sizes in ops.tp_widths(layer).items():
            out[name] = out.get(name, []) + [size for size in sizes if size]
    return out


def check_fixed(model: Model, system: Platform, fixed: Mapping[str, Sequence[int | str]]) -> None:
    """Refuse a fixed degree that no plan of this model can have, in one line with the legal values."""
    _check_tp(model, fixed.get("tp", ()))
    moes = [layer.ffn for layer in model.layers if isinstance(layer.ffn, Moe)]
    _check_experts(model, fixed, moes[0] if moes else None)
    for pp in fixed.get("pp", ()):
        if int(pp) > model.num_layers:
            raise UserError(
                f"pp={pp} exceeds the {model.num_layers} layers of {model.name}",
                where="plan.pp",
                allowed=f"1 to {model.num_layers}",
            )
    if any(word != "none" for word in fixed.get("offload", ())) and not system.host_Bps:
        raise UserError(
            f"the link of {system.display} to its host's memory is not known",
            where="plan.offload",
            fix=f"set chips.{system.chip}.host in a --facts directory",
        )
    for precision in fixed.get("precision", ()):
        if precision not in system.peak_flops:
            raise UserError(
                f"{system.display} has no {precision} matrix rate",
                where="plan.precision",
                allowed=sorted(system.peak_flops),
            )


def _check_tp(model: Model, degrees: Sequence[int | str]) -> None:
    """Refuse a tensor-parallel degree that does not divide the sizes that it cuts."""
    sizes = {what: math.gcd(*of_layers) for what, of_layers in tp_splits(model).items() if of_layers}
    for tp in degrees:
        if int(tp) > 1 and not sizes:
            raise UserError(
                f"tp={tp} cannot split {model.name}: the roles of its products are not known",
                field="plan.tp",
                allowed="1",
            )
        for what, size in sizes.items():
            if size % int(tp):
                raise UserError(
                    f"tp={tp} does not divide the {size} {what} of {model.name}"
                    if what.endswith("s")
                    else f"tp={tp} does not divide the {what} {size} of {model.name}",
                    field="plan.tp",
                    allowed=" ".join(map(str, divisors(math.gcd(*sizes.values()), MAX_TP))),
                )


def _check_experts(model: Model, fixed: Mapping[str, Sequence[int | str]], moe: Moe | None) -> None:
    """Refuse a degree that does not divide the experts, or the width of one. moe: the first layer of experts."""
    experts, width = (moe.num_experts, moe.ffn) if moe else (1, 1)
    for ep in fixed.get("ep", ()):
        if experts % int(ep):
            raise UserError(
                f"ep={ep} does not divide the {experts} experts of {model.name}"
                if moe
                else f"{model.name} is dense: it has no experts to spread",
                field="plan.ep",
                given=None if moe else f"ep={ep}",
                allowed=" ".join(map(str, divisors(experts, 1024))),
            )
    for etp in fixed.get("etp", ()):
        if width % int(etp):
            raise UserError(
                f"etp={etp} does not divide the expert width {width} of {model.name}"
                if moe
                else f"{model.name} is dense: it has no experts to cut",
                where="plan.etp",
                given=None if moe else f"etp={etp}",
                allowed=" ".join(map(str, divisors(width, MAX_TP))),
            )


EXTRAS = ("split", "offload", "tp_overlap", "dp_overlap", "pp_scatter", "regather")
"""Modes with one value in the default space: other values are never faster or need a decision of the user."""


def pipelines(codes: Sequence[float], ladder: Sequence[float]) -> list[tuple[float, float]]:
    """(schedule, chunks per stage) of each pipeline to try. A V has two chunks; only `interleaved` uses the ladder.

    >>> [(SCHEDULES[int(s)], v) for s, v in pipelines([0, 1, 4], [1, 2, 4])]
    [('1f1b', 1.0), ('interleaved', 2), ('interleaved', 4), ('zb-v', 2.0)]
    """
    out: list[tuple[float, float]] = []
    for code in codes:
        chunks = schedules.num_chunks(SCHEDULES[int(code)], 0)
        if code == schedules.INTERLEAVED:
            out += [(code, v) for v in ladder if v > 1]
        elif max(1, chunks) in ladder:
            out.append((code, float(max(1, chunks))))
    return out


def _no_pipeline(codes: Sequence[float], ladder: Sequence[float]) -> UserError:
    """No schedule of these has so many chunks on a stage."""
    names = [SCHEDULES[int(code)] for code in codes]
    chunks = [schedules.num_chunks(name, 0) for name in names]
    of = (
        f"{max(1, n)} of {s}" if s != "interleaved" else f"2 or more of {s}" for s, n in zip(names, chunks, strict=True)
    )
    return UserError(
        "chunks of a stage that the pipeline schedule does not have",
        where="plan.vpp",
        given=", ".join(f"{v:.0f}" for v in ladder),
        allowed="; ".join(of),
        fix="plan.schedule takes another schedule",
    )


OPEN: dict[str, Any] = {"indexing": "ij", "sparse": True}
"""A mesh whose arrays broadcast to its shape and are not written out."""


def _grid(columns: Mapping[str, Sequence[float]]) -> dict[str, np.ndarray]:
    mesh = np.meshgrid(*[np.asarray(v, dtype=np.float64) for v in columns.values()], indexing="ij")
    return {k: m.ravel() for k, m in zip(columns, mesh, strict=True)}


def legal_plans(
    model: Model, system: Platform, job: TrainJob, fixed: Mapping[str, Sequence[int | str]] | None = None
) -> Space:
    """All legal plans of the space for `system.chips` chips, each with the largest legal dp, or with each fixed dp.

    Raises UserError (exit code 3) when nothing is legal, with the rule that refused most combinations.
    """
    fixed = fixed or {}
    check_fixed(model, system, fixed)
    columns, refused = _choices(model, system, job, fixed), dict[str, int]()
    if not pipelines(columns["schedule"], columns["vpp"]):
        raise _no_pipeline(columns["schedule"], columns["vpp"])
    shape = _shapes(model, system, job, columns, refused)
    if not len(shape["tp"]):
        raise _none(model, system, refused)
    # fixed groups decide the data-parallel degrees; groups of the space divide the degrees
    shape = _crossed(shape, {"shards": sorted(columns["shards"])})
    shape = _with_dp(shape, system, job, columns["dp"] if "dp" in fixed else None, refused)
    of_dp = [*dp_rules(job, shape), *([] if "dp" in fixed else server_rules(system, shape))]
    shape = _where(shape, _passing(len(shape["tp"]), of_dp, refused))
    if not len(shape["tp"]):
        raise _none(model, system, refused)
    # apart, with their own rules, so that the cross product with modes stays whole
    shape = _crossed(shape, {"zero": sorted(columns["zero"])})
    if "shards" not in fixed:
        shape = _with_groups(shape, system, job, refused, is_dp_free="dp" not in fixed)
    shape = _where(shape, _passing(len(shape["tp"]), zero_rules(system, shape, columns, fixed), refused))
    shape = _crossed(shape, {"order": sorted(columns["order"])})
    if max(columns["order"]) > 0:
        rules = order_rules(
            shape, is_moe=_moe(model) is not None, unit=system.domain_devices, may_idle="order" in fixed
        )
        shape = _where(shape, _passing(len(shape["tp"]), rules, refused))
    plans, modes = _with_modes(shape, columns, refused)
    if not len(plans):
        raise _none(model, system, refused)
    return Space(plans, modes, refused, len(columns["recompute"]), "dp" not in fixed)


def _moe(model: Model) -> Moe | None:
    """The first of a model's layers of experts."""
    return next((layer.ffn for layer in model.layers if isinstance(layer.ffn, Moe)), None)


def _choices(
    model: Model, system: Platform, job: TrainJob, fixed: Mapping[str, Sequence[int | str]]
) -> dict[str, list[float]]:
    """Field of a plan -> the values to try: the fixed ones, else those of the space. Words are codes."""
    moe = _moe(model)
    most_cp = CP_DEGREES[-1] if job.seq >= _LONG else max(FEW_CP, system.devices / job.batch_seqs)
    space: dict[str, Sequence[float]] = {
        "tp": tp_degrees(model, system),
        "sp": (0, 1),
        "pp": pp_degrees(model),
        "dp": (),  # the largest that is legal
        "cp": [cp for cp in CP_DEGREES if cp <= most_cp],
        "ep": divisors(moe.num_experts, 1024) if moe else [1],
        "etp": (1,),
        "order": (0, 1) if moe is None else (0,),  # expert groups want data ranks beside them
        "zero": sorted({*system.zero, *system.zero_in_pipeline}),
        "shards": (0,),  # and groups within a scale-up unit (`_with_groups`)
        "micro_batch": MICRO_BATCHES,
        "recompute": (0, 1, 2),
        "precision": [PRECISIONS.index(r) for r in system.recipes if r in system.peak_flops],
        "split": (0,),
        "offload": (0,),
        "tp_overlap": (1,),
        "dp_overlap": (1,),
        "pp_scatter": (0,),
        "regather": (1,),
        "schedule": [SCHEDULES.index(word) for word in system.schedules],
        "vpp": VPP,
    }

    def choice(name: str, default: Sequence[float]) -> list[float]:
        if name not in fixed:
            return list(default)
        codes = WORDS.get(name)
        return [float(codes.index(str(v))) if codes else float(v) for v in fixed[name]]

    return {name: choice(name, default) for name, default in space.items()}


def _shapes(
    model: Model, system: Platform, job: TrainJob, columns: Mapping[str, Sequence[float]], refused: dict[str, int]
) -> dict[str, np.ndarray]:
    """Every legal combination of the degrees, without the data-parallel one, as columns.

    Shapes come first, so that the cross product with modes stays small. Each choice has its own axis, so a rule reads
    only its choices, and only rows that pass all rules are written out.
    """
    runs = pipelines(columns["schedule"], columns["vpp"])
    names = ("tp", "sp", "pp", "cp", "ep", "etp", "micro_batch")
    axes = np.meshgrid(np.arange(len(runs)), *(np.array(columns[k], dtype=np.float64) for k in names), **OPEN)
    of_run = np.array(runs, dtype=np.float64).reshape(-1, 2)[axes[0]]
    shape: dict[str, np.ndarray] = dict(zip(names, axes[1:], strict=True))
    shape |= {"schedule": of_run[..., 0], "vpp": of_run[..., 1]}
    every = np.broadcast_shapes(*(axis.shape for axis in axes))
    at = np.nonzero(_passing(every, shape_rules(model, system, job, shape), refused))
    return {
        k: v.ravel()[at[int(np.argmax(v.shape))]] if v.size > 1 else constant(float(v.item()), len(at[0]))
        for k, v in shape.items()
    }


def _passing(
    size: int | tuple[int, ...], rules: Iterable[tuple[str, np.ndarray]], refused: dict[str, int]
) -> np.ndarray:
    """Which combinations keep every rule (a mask). refused: counts by rule, among combinations that earlier rules
    kept."""
    keep = np.ones(size, dtype=bool)
    for name, ok in rules:
        kept = keep & ok
        gone = int(np.count_nonzero(keep)) - int(np.count_nonzero(kept))
        if gone:
            refused[name] = refused.get(name, 0) + gone
        keep = kept
    return keep


def shape_rules(
    model: Model, system: Platform, job: TrainJob, shape: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, np.ndarray]]:
    """(rule, which combinations keep it) of the degrees, without the data-parallel one."""
    kv = min((a.num_kv_heads for layer in model.layers for a in layer.attentions if a.num_kv_heads), default=1)
    L = model.num_layers
    tp, pp, vpp, cp, etp = (shape[k] for k in ("tp", "pp", "vpp", "cp", "etp"))
    yield "sequence parallelism needs tp > 1", (shape["sp"] == 0) | (tp > 1)
    yield "every stage holds a layer", (np.ceil(L / pp) * (pp - 1) < L) | (pp == 1)
    whole = (pp > 1) & (pp * vpp <= L) & (np.ceil(L / (pp * vpp)) * (pp * vpp) <= L * 1.1)
    yield "interleaving needs pp > 1 and whole chunks", (vpp == 1) | whole
    yield "one stage runs no pipeline schedule", (pp > 1) | (shape["schedule"] == shape["schedule"].min())
    cut = np.mod(job.seq, tp * cp) == 0
    yield "sequence divides over tp and cp where sequence parallelism cuts it", (shape["sp"] == 0) | cut
    yield "sequence divides over cp", (job.seq % (2 * cp) == 0) | (cp == 1)
    yield "etp divides tp", np.mod(tp, etp) == 0
    yield "key-value heads split or replicated evenly", (np.mod(kv, tp) == 0) | (np.mod(tp, kv) == 0)
    yield "more devices than there are", tp * pp * cp <= system.devices


def zero_rules(
    system: Platform,
    rows: Mapping[str, np.ndarray],
    columns: Mapping[str, Sequence[float]],
    fixed: Mapping[str, Sequence[int | str]],
) -> Iterator[tuple[str, np.ndarray]]:
    """(rule, which rows keep it) for ZeRO. columns: the choices; fixed: the user's choices, which allow combinations
    outside the default space where they leave no other."""
    if "zero" not in fixed:
        alone, staged = (np.isin(rows["zero"], levels) for levels in (system.zero, system.zero_in_pipeline))
        yield "a level of sharding that the software has", np.where(rows["pp"] == 1, alone, staged)
    asked = min(columns["zero"]) > 2 and min(columns["pp"]) > 1
    fits = (rows["zero"] < 3) | (rows["pp"] == 1) | asked
    yield "full sharding (zero 3) is not combined with a pipeline", fits
    shards = rows["shards"]
    if shards.max(initial=0) > 0:
        yield "sharding groups shard something (zero 1 to 3)", (shards == 0) | (rows["zero"] > 0)
        of_group, experts = rows["tp"] * rows["cp"] * shards, rows["ep"] * rows["etp"]
        yield "a sharding group holds whole groups of experts", (shards == 0) | (np.mod(of_group, experts) == 0)


def _with_groups(
    rows: dict[str, np.ndarray],
    system: Platform,
    job: TrainJob,
    refused: dict[str, int],
    *,
    is_dp_free: bool,
) -> dict[str, np.ndarray]:
    """The rows, then the rows that the software can shard in groups a second time: with groups of the data ranks, a
    power of two, in a scale-up unit, and with the largest dp that such groups fill. The size does not depend on dp, so
    that a search includes every dp that a user can fix."""
    inner, unit = rows["tp"] * rows["cp"], system.domain_devices
    may = np.isin(rows["zero"], system.group_zero) & (inner * rows["dp"] > unit) & (2 * inner <= unit)
    at = np.flatnonzero(may)
    if not len(at):
        return rows
    grouped = {k: pick(v, at) for k, v in rows.items()}
    grouped["shards"] = 2.0 ** np.floor(np.log2(unit / inner[at]))
    if is_dp_free:
        grouped = _with_dp(grouped, system, job, None, refused)
    inside = "sharding groups do not straddle scale-up units", grouped["dp"] <= _most_dp(grouped, system)[1]
    legal = [inside, *dp_rules(job, grouped), *(server_rules(system, grouped) if is_dp_free else ())]
    grouped = _where(grouped, _passing(len(grouped["tp"]), legal, refused))
    n = len(rows["tp"]) + len(grouped["tp"])
    same = {k for k, v in rows.items() if v.strides == (0,) and k not in ("shards", "dp")}
    return {k: constant(v[0], n) if k in same else np.concatenate((v, grouped[k])) for k, v in rows.items()}


def _with_modes(
    shape: dict[str, np.ndarray], columns: Mapping[str, Sequence[float]], refused: dict[str, int]
) -> tuple[Plans, Mapping[str, np.ndarray]]:
    """(plans, modes) as a `Space` has them: each shape with every legal combination of precision, switches and
    recomputation. Combinations without a rule are not written out."""
    modes = {k: sorted(columns[k]) for k in ("precision", *EXTRAS, "recompute")}
    if modes["split"] == modes["offload"] == [0.0] and all(len(modes[k]) == 1 for k in EXTRAS):  # no rule applies
        inner = {k: modes.pop(k) for k in ("precision", "recompute")}
        full = _crossed(shape, {**modes, **dict.fromkeys(inner, (0.0,))})
        return Plans(*(full[f.name] for f in fields(Plans))), _crossed({}, inner)
    full = _crossed(shape, modes)
    keep = _passing(len(full["tp"]), extra_rules(full), refused)
    plans = Plans(*(full[f.name] for f in fields(Plans)))
    return plans if keep.all() else plans.take(keep), {}


def _where(rows: dict[str, np.ndarray], keep: np.ndarray) -> dict[str, np.ndarray]:
    """The rows to keep (a mask)."""
    if keep.all():
        return rows
    at = np.flatnonzero(keep)
    return {k: pick(v, at) for k, v in rows.items()}


def _crossed(shape: Mapping[str, np.ndarray], modes: Mapping[str, Sequence[float]]) -> dict[str, np.ndarray]:
    """Every row of `shape` with every combination of modes, the last mode running fastest; a mode of one value takes no
    memory."""
    grid = _grid(modes)
    n, m = len(next(iter(shape.values()), (0,))), math.prod(len(v) for v in modes.values())
    out = {k: np.repeat(v, m) if m > 1 and v.strides != (0,) else v for k, v in shape.items()}
    out = {k: constant(v[0], n * m) if v.strides == (0,) and n else v for k, v in out.items()}
    return out | {k: np.tile(v, n) if len(modes[k]) > 1 else constant(modes[k][0], n * m) for k, v in grid.items()}


def _same_orders() -> np.ndarray:
    """[which groups have more than one rank, order] -> the first order with the same layout of ranks."""
    table = np.zeros((8, len(ORDERS)))
    for bits in range(8):
        there = {name for i, name in enumerate(("tp", "dp", "pp")) if bits >> i & 1}
        seen = [[word for word in words.split("-") if word in there] for words in ORDERS]
        table[bits] = [seen.index(kept) for kept in seen]
    return table


SAME_ORDER = _same_orders()


def order_rules(
    rows: Mapping[str, np.ndarray], *, is_moe: bool, unit: int, may_idle: bool
) -> Iterator[tuple[str, np.ndarray]]:
    """(rule, which rows keep it) of the order of ranks. Refused: orders without a layout, and (unless may_idle) orders
    that repeat a plan."""
    other = rows["order"] > 0
    whole = (rows["cp"] == 1) & ((rows["ep"] * rows["etp"] == rows["tp"]) | (not is_moe))
    yield "orders of ranks other than tp-dp-pp leave context and expert groups whole", ~other | whole
    if not may_idle:
        groups = (rows["tp"] * rows["cp"] > 1) + 2 * (rows["dp"] > 1) + 4 * (rows["pp"] > 1)
        same = SAME_ORDER[groups.astype(np.intp), rows["order"].astype(np.intp)]
        # tensor ranks that fill a scale-up unit leave the network to the others, in any order
        filled = (rows["order"] == 1) & (rows["tp"] * rows["cp"] >= unit)
        yield "an order of ranks without effect", (same == rows["order"]) & ~filled


def extra_rules(full: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """(rule, which rows keep it) of the switches: a switch without effect keeps one of its values."""
    acts = {
        "tp_overlap": full["tp"] > 1,
        "dp_overlap": full["dp"] * full["cp"] > 1,
        "pp_scatter": (full["tp"] > 1) & (full["sp"] == 0) & (full["pp"] > 1),
        "regather": full["sp"] == 1,
    }
    if full["split"].max() > 0:
        one_chunk = (full["vpp"] == 1) & (full["schedule"] <= schedules.ZB_H1) & (full["pp"] > 1)
        yield "a balanced split has one chunk on each of several stages", (full["split"] == 0) | one_chunk
    for name, has_effect in acts.items():
        column = full[name]
        if column.min() < column.max():
            yield f"{name} without effect", has_effect | (column == column[0])


LAID_OUT = ("tp", "pp", "cp", "ep", "etp", "shards", "micro_batch", "schedule")
"""Fields that decide which data-parallel degrees are legal."""


def dp_rules(job: TrainJob, rows: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """(rule, which rows keep it) of the data-parallel degree."""
    tp, pp, dp, cp, ep, etp = (rows[k] for k in ("tp", "pp", "dp", "cp", "ep", "etp"))
    yield "experts' ranks divide the stage's ranks", np.mod(tp * cp * dp, ep * etp) == 0
    shards = rows.get("shards")
    if shards is not None and shards.max(initial=0) > 0:
        several = (np.mod(dp, np.maximum(shards, 1)) == 0) & (dp > shards)
        yield "several sharding groups fill the data ranks", several | (shards == 0)
    seqs = rows["micro_batch"] * dp
    g = micro_batches(job, rows["schedule"], pp, seqs)
    off = np.abs(g * seqs / job.batch_seqs - 1.0)
    batch = f"a batch of {job.batch_seqs:g} sequences"
    within = f" or within {job.batch_tolerance:.3g} of it" if job.batch_tolerance else ""
    yield batch + within, off <= job.batch_tolerance + _ROUNDING
    yield from schedules.legal(rows["schedule"], pp, g)


def server_rules(system: Platform, rows: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """(rule, which rows keep it) of the devices that a plan uses: whole servers, or a part of one."""
    server = system.server_devices
    devices = rows["tp"] * rows["pp"] * rows["cp"] * rows["dp"]
    yield "whole servers", (np.mod(devices, server) == 0) | (devices < server)


_ROUNDING = 1e-12
"""Share of a batch that counts as rounding of floats."""


def dp_step(
    tp: np.ndarray,
    cp: np.ndarray,
    ep: np.ndarray,
    etp: np.ndarray,
    pp: np.ndarray | float = 1.0,
    server: np.ndarray | float = 1.0,
    shards: np.ndarray | float = 0.0,
) -> np.ndarray:
    """The number that dp must be a multiple of, so that a stage holds whole groups of experts, and the ranks fill whole
    servers (`server` devices) and whole sharding groups.

    >>> [int(dp_step(*(np.array([float(x)]) for x in (4, 1, ep, 1)))[0]) for ep in (2, 8, 3)]
    [1, 2, 3]
    >>> [int(dp_step(*(np.array([float(x)]) for x in (2, 1, ep, 1)), server=8.0)[0]) for ep in (1, 16, 3)]
    [4, 8, 12]
    """
    experts, inner = (ep * etp).astype(np.int64), (tp * cp).astype(np.int64)
    step = experts // np.gcd(experts, inner)
    whole, ranks = np.asarray(server).astype(np.int64), (tp * cp * pp).astype(np.int64)
    step = np.lcm(step, whole // np.gcd(whole, ranks))
    grouped = np.lcm(step, np.maximum(np.asarray(shards), 1.0).astype(np.int64)) if np.any(shards) else step
    return np.asarray(grouped, dtype=np.float64)


def dp_step_of(system: Platform, plans: Plans) -> np.ndarray:
    """The number that a smaller dp of plans must be a multiple of: whole servers for plans of at least one server
    (`server_rules`)."""
    server = np.where(plans.devices >= system.server_devices, system.server_devices, 1)
    return dp_step(plans.tp, plans.cp, plans.ep, plans.etp, plans.pp, server, plans.shards)


def _with_dp(
    shape: dict[str, np.ndarray],
    system: Platform,
    job: TrainJob,
    fixed_dp: Sequence[float] | None,
    refused: dict[str, int],
) -> dict[str, np.ndarray]:
    """Each row with the largest legal data-parallel degree, or with each fixed one. Without a legal degree it gets the
    most that the chips allow, and the rules say why not. The other chips idle."""
    step, most = _most_dp(shape, system)
    if fixed_dp is None:
        # fields that decide the degree; rows that differ elsewhere share it
        first, kind = numbered([shape[k] for k in LAID_OUT])
        few = {k: pick(shape[k], first) for k in LAID_OUT}
        rows, dp = dict(shape), _largest_of_servers(system, job, few, step[first], most[first])[kind]
    else:
        rows = {k: np.tile(v, len(fixed_dp)) for k, v in shape.items()}
        dp = np.repeat(np.array(fixed_dp), len(step))
        dp = np.where(dp <= np.tile(most, len(fixed_dp)), dp, 0.0)
    rows["dp"] = dp
    ok = dp >= 1
    if int(np.sum(~ok)):
        refused["no data-parallel degree left"] = int(np.sum(~ok))
    return _where(rows, ok)


def _most_dp(shape: Mapping[str, np.ndarray], system: Platform) -> tuple[np.ndarray, np.ndarray]:
    """(step of dp, the most that the chips allow) of each row.

    A stage's ranks come in blocks that hold whole tp x cp groups, groups of experts and sharding groups; a block does
    not straddle scale-up units unless it is larger than one. The chips fill one unit after another, or lie evenly in as
    many units, as where a job takes 64 of the 72 GPUs of each rack: whichever leaves fewer idle."""
    step = dp_step(shape["tp"], shape["cp"], shape["ep"], shape["etp"], shards=shape["shards"])
    block = shape["tp"] * shape["cp"] * step
    unit = float(system.domain_devices)
    whole, rest = divmod(float(system.devices), unit)
    # a larger block crosses the network anyway and may start anywhere: it leaves no chip idle
    fits = block <= unit
    per_unit = np.where(fits, np.floor(unit / block) * block, unit)
    usable = whole * per_unit + np.where(fits, np.floor(rest / block) * block, rest)
    units = np.ceil(system.devices / unit)
    usable = np.maximum(usable, units * np.floor(np.floor(system.devices / units) / block) * block)
    return step, np.floor(usable / (shape["tp"] * shape["cp"] * shape["pp"]))


def _largest_of_servers(
    system: Platform, job: TrainJob, shape: Mapping[str, np.ndarray], step: np.ndarray, most: np.ndarray
) -> np.ndarray:
    """The largest legal dp up to `most` of each row, over whole servers; of rows that have none, over a part of a
    server."""
    server = system.server_devices
    ranks = shape["tp"] * shape["cp"] * shape["pp"]
    of_servers = dp_step(shape["tp"], shape["cp"], shape["ep"], shape["etp"], shape["pp"], server, shape["shards"])
    dp = largest_dp(job, shape, of_servers, most)
    legal = np.mod(dp * ranks, server) == 0
    for _, kept in dp_rules(job, {**shape, "dp": np.maximum(dp, 1.0)}):
        legal &= kept
    left = np.flatnonzero(~legal & (ranks < server))
    if len(left):
        few = np.minimum(most[left], np.floor((server - 1.0) / ranks[left]))
        dp[left] = largest_dp(job, {k: pick(v, left) for k, v in shape.items()}, step[left], few)
    return dp


def largest_dp(job: TrainJob, shape: Mapping[str, np.ndarray], step: np.ndarray, most: np.ndarray) -> np.ndarray:
    """The largest legal dp up to `most` of each row, a multiple of `step`; where there is none, the most that the chips
    and the batch allow.

    Walks down: where dp ranks give too large a batch, to the largest that gives the same number of micro-batches a
    legal one; where too small a batch or too few micro-batches, to the largest with the next legal number of
    micro-batches.
    """
    high = 1.0 + job.batch_tolerance + _ROUNDING
    schedule, pp, size = shape["schedule"], shape["pp"], shape["micro_batch"]
    fewest, rounds = schedules.fewest(schedule, pp), schedules.rounds(schedule, pp)
    target = job.batch_seqs / size
    # the nearest number of micro-batches is less than the fewest from `rounds` - 1/2 below it on; whole rounds of
    # stages have the batch's rule alone
    nearest = np.where(schedule == schedules.INTERLEAVED, 0.0, fewest - rounds + 0.5)
    with np.errstate(divide="ignore"):
        most = np.minimum(most, target * np.minimum(high / fewest, np.where(nearest > 0, 1.0 / nearest, np.inf)))
    most = np.floor(most * (1.0 + _ROUNDING))
    if not job.batch_tolerance:
        return _largest_divisor(job, shape, step, most)
    dp = np.floor(most / step) * step
    out = most
    left = np.flatnonzero(dp >= 1)
    while len(left):
        rows = {k: pick(v, left) for k, v in shape.items()} | {"dp": dp[left]}
        ok = np.logical_and.reduce([kept for _, kept in dp_rules(job, rows)])
        out[left[ok]] = dp[left[ok]]
        left = left[~ok]
        g = micro_batches(job, schedule[left], pp[left], size[left] * dp[left])
        over = g * dp[left] > target[left] * high
        g = np.where(over, g, np.maximum(g + rounds[left], fewest[left]))
        lower = np.minimum(dp[left] - step[left], target[left] * high / g)
        dp[left] = np.floor(lower / step[left] * (1.0 + _ROUNDING)) * step[left]
        left = left[dp[left] >= 1]
    return out


def exact_dp(job: TrainJob, most: float) -> np.ndarray:
    """The data-parallel degrees up to `most` that an exact batch divides over, largest first."""
    whole = job.batch_seqs == round(job.batch_seqs)
    return np.array(divisors(round(job.batch_seqs), int(most))[::-1] if whole and most >= 1 else [], dtype=np.float64)


def _largest_divisor(job: TrainJob, shape: Mapping[str, np.ndarray], step: np.ndarray, most: np.ndarray) -> np.ndarray:
    """`largest_dp` of an exact batch."""
    out = most.copy()
    left = np.arange(len(most))
    for dp in exact_dp(job, float(most.max(initial=0.0))):
        may = left[(dp <= most[left]) & (np.mod(dp, step[left]) == 0)]
        if not len(may):
            continue
        rows = {k: pick(v, may) for k, v in shape.items()} | {"dp": np.full(len(may), dp)}
        found = may[np.logical_and.reduce([kept for _, kept in dp_rules(job, rows)])]
        out[found] = dp
        left = np.setdiff1d(left, found, assume_unique=True)
        if not len(left):
            break
    return out


def every_dp(system: Platform, job: TrainJob, plans: Plans, least: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(dp, index) of every legal plan that differs from one of `plans`, at that index, in dp alone, of at least `least`
    and at most its own; of plans on whole servers, those on whole servers."""
    step = dp_step_of(system, plans)
    low = np.maximum(1.0, np.ceil(least / step)) * step
    if not job.batch_tolerance:
        listed = exact_dp(job, float(plans.dp.max(initial=0.0)))[::-1]
        inside = (listed >= low[:, None]) & (listed <= plans.dp[:, None]) & (np.mod(listed, step[:, None]) == 0)
        of, at = np.nonzero(inside)
        return _legal(job, plans, listed[at], of)
    count = np.maximum(0.0, (plans.dp - low) / step + 1.0).astype(np.intp)
    of = np.repeat(np.arange(len(plans)), count)
    turn = np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count)
    return _legal(job, plans, low[of] + turn * step[of], of)


def _legal(job: TrainJob, plans: Plans, dp: np.ndarray, of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The legal ones of some dp of plans, at the indices `of`."""
    rows = {name: getattr(plans, name)[of] for name in LAID_OUT}
    ok = np.logical_and.reduce([kept for _, kept in dp_rules(job, rows | {"dp": dp})])
    return dp[ok], of[ok]


def _none(model: Model, system: Platform, refused: Mapping[str, int]) -> UserError:
    top = sorted(refused.items(), key=lambda item: -item[1])[:3]
    why = "; ".join(f"{count} by '{name}'" for name, count in top)
    return UserError(
        f"no legal plan for {model.name} on {system.chips} chips of {system.display}",
        given=None,
        allowed=None,
        fix=f"turned away: {why}",
        code=EXIT_INFEASIBLE,
    )
