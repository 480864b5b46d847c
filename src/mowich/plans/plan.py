"""How a model is spread over devices: a `Plan` trains, a `ServePlan` is one worker that serves; and the vocabulary of
both. No times and no hardware in it.

`Plans` holds plans as columns, one row per plan. Memory and time formulas take columns, so that one plan and a million
use the same code. Ranks are laid out tp, cp, dp, pp from the inside out; experts are spread over the tp x cp x dp ranks
of a stage, etp inside ep.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Columns, distinct, ranked
from mowich.errors import UserError, placed, shorten, unknown
from mowich.machines.system import PRECISIONS, Precision
from mowich.models.task import TASKS, Lora, Task
from mowich.operators.tables.schema import FORMAT_B
from mowich.plans.launch_settings import NOTHING_STATED, LaunchSettings
from mowich.shown import Keyed, Result
from mowich.units import is_digits

Recompute = Literal["none", "selective", "full", "experts"]
RECOMPUTE: tuple[Recompute, ...] = get_args(Recompute)
"""Parts that backward computes again: nothing; norms, activation functions and MLA up-projections; whole layers;
mixtures of experts, dispatch included."""
EXPERTS_AGAIN = RECOMPUTE.index("experts")
PipelineSchedule = Literal["1f1b", "interleaved", "gpipe", "zb-h1", "zb-v", "dualpipe", "dualpipe-v"]
SCHEDULES: tuple[PipelineSchedule, ...] = get_args(PipelineSchedule)
RankOrder = Literal["tp-dp-pp", "tp-pp-dp", "dp-tp-pp", "dp-pp-tp", "pp-tp-dp", "pp-dp-tp"]
ORDERS: tuple[RankOrder, ...] = get_args(RankOrder)
"""Order of ranks from the inside out, and so which dimension lands on which level of the fabric; context ranks go with
tensor ranks."""
Split = Literal["even", "balanced"]
SPLITS: tuple[Split, ...] = get_args(Split)
"""How layers are divided among stages: evenly, or with fewer on the last stage, which also computes the head and the
loss (`plans.memory.stage_split`)."""
OFFLOAD_BITS = ("optimizer", "activations", "weights")
OFFLOADS = tuple(
    "+".join(name for bit, name in enumerate(OFFLOAD_BITS) if code >> bit & 1) or "none" for code in range(8)
)
"""Parts in the host's memory; the code is made of bits of OFFLOAD_BITS. Gradients go with the weights."""
WeightFormat = Literal["bf16", "fp8", "mxfp8", "int8", "nvfp4", "mxfp4", "int4"]
WEIGHTS: tuple[WeightFormat, ...] = get_args(WeightFormat)
"""Formats that weights can be served in."""

FOUR_BIT: frozenset[WeightFormat] = frozenset({"nvfp4", "mxfp4", "int4"})
"""Formats with four bits."""

WEIGHT_ONLY: frozenset[WeightFormat] = frozenset({"int8", "int4"})
"""Formats of weights alone, scaled by columns or groups, as in AWQ, GPTQ and Kimi K2.5: activations stay in 16 bit, so
that every chip multiplies them in 16 bit."""

WEIGHT_B = FORMAT_B
"""Bytes per weight with its scales, by format."""

KvFormat = Literal["bf16", "fp8"]
KV: tuple[KvFormat, ...] = get_args(KvFormat)
"""Formats of the cache."""

KV_B = {"bf16": 2.0, "fp8": 1.0}

W = TypeVar("W", bound=str)


def one_of(word: str, allowed: Sequence[W], what: str) -> W:
    """The word of a vocabulary that equals `word`. Raises UserError, naming `what` it is, where none does.

    >>> one_of("fp8", KV, "format of the cache")
    'fp8'
    """
    for known in allowed:
        if known == word:
            return known
    raise unknown(what, word, allowed)


WORDS: Mapping[str, tuple[str, ...]] = {
    "recompute": RECOMPUTE,
    "precision": PRECISIONS,
    "schedule": SCHEDULES,
    "order": ORDERS,
    "split": SPLITS,
    "offload": OFFLOADS,
}
"""Plan fields whose values are words; columns hold the index of the word."""
SWITCHES = ("sp", "tp_overlap", "dp_overlap", "pp_scatter", "regather")
"""Plan fields that are on or off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Keyed):
    """Parallel degrees count devices. zero: 0 replicated optimizer, 1 sharded, 2 also gradients, 3 also weights (FSDP).
    shards: data ranks of a sharding group, in which zero shards; dp / shards such groups hold copies of one another and
    sum their gradients (HSDP: replicas x shards). 0: all data ranks are one group.
    vpp: model chunks per stage (1 unless interleaved or a V). ep: experts' groups, etp: tensor parallel inside an
    expert.
    order, split, offload: see ORDERS, SPLITS, OFFLOADS. tp_overlap, dp_overlap: those collectives run beside compute,
    as far as the stack does it.
    pp_scatter: stages exchange 1/tp of an activation and gather it again. regather: sequence-parallel inputs are
    gathered again for backward, not kept."""

    KEYS = "* shards:none?"

    tp: int = 1
    sp: bool = False
    pp: int = 1
    vpp: int = 1
    dp: int = 1
    cp: int = 1
    ep: int = 1
    etp: int = 1
    zero: int = 1
    shards: int = 0
    micro_batch: int = 1
    recompute: Recompute = "none"
    precision: Precision = "bf16"
    schedule: PipelineSchedule = "1f1b"
    order: RankOrder = "tp-dp-pp"
    split: Split = "even"
    offload: str = "none"
    tp_overlap: bool = True
    dp_overlap: bool = True
    pp_scatter: bool = False
    regather: bool = True

    @property
    def devices(self) -> int:
        return self.tp * self.pp * self.dp * self.cp

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Plan:
        """The plan that `to_dict` wrote. Raises UserError for a value that no plan has."""
        read = {f.name: _read(f.name, data[f.name]) for f in fields(cls) if f.name in data}
        return cls(**read)  # type: ignore[arg-type]

    def __str__(self) -> str:
        """Short form for tables: "tp8 pp4 dp64 ep32 mxfp8 full"."""
        parts = [f"tp{self.tp}"] if self.tp > 1 else []
        if self.pp > 1:
            parts.append(f"pp{self.pp}" + (f"v{self.vpp}" if self.vpp > 1 else ""))
        if self.cp > 1:
            parts.append(f"cp{self.cp}")
        if self.ep > 1:
            parts.append(f"ep{self.ep}" + (f"x{self.etp}" if self.etp > 1 else ""))
        parts.append(f"dp{self.dp}")
        parts += [f"z{self.zero}" + (f"s{self.shards}" if self.shards else ""), f"mb{self.micro_batch}", self.precision]
        if self.recompute != "none":
            parts.append({"selective": "rc-sel", "full": "rc-full", "experts": "rc-moe"}[self.recompute])
        if self.schedule not in ("1f1b", "interleaved"):
            parts.append(self.schedule)
        if self.order != ORDERS[0]:
            parts.append(self.order)
        if self.split != "even":
            parts.append(f"{self.split}-split")
        if self.offload != "none":
            parts.append(f"off-{self.offload}")
        parts += [
            f"no-{name.replace('_', '-')}"
            for name in ("tp_overlap", "dp_overlap", "regather")
            if not getattr(self, name)
        ]
        if self.pp_scatter:
            parts.append("pp-scatter")
        return " ".join(parts)


PlanColumn = NDArray[np.float64]


KEY_BITS = 62
"""Bits of a packed key before it is renumbered: those of an int64 without the sign and one spare bit."""


def pack_columns(columns: Iterable[PlanColumn]) -> NDArray[np.int64]:
    """One integer per row that differs exactly where the rows of these columns of whole numbers differ.

    >>> pack_columns([np.array([1.0, 2.0]), np.array([3.0, 3.0])]).tolist()
    [7, 11]
    """
    key: NDArray[np.int64] | None = None
    bits = 0
    size = 0
    for column in columns:
        size = len(column)
        if column.strides == (0,):
            continue
        whole = column.astype(np.int64)
        width = int(whole.max(initial=0)).bit_length()
        if key is not None and bits + width > KEY_BITS:  # number the combinations so far instead
            key = np.unique(key, return_inverse=True)[1].astype(np.int64)
            bits = len(key).bit_length()
        key, bits = (whole, width) if key is None else ((key << width) | whole, bits + width)
    return np.zeros(size, dtype=np.int64) if key is None else key


FEW = 1024
"""Number of rows from which counting is quicker than sorting."""


def numbered(columns: Sequence[PlanColumn]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of whole numbers that differ: (the first row of each kind, in the order of the columns; the kind of each
    row).

    >>> first, kind = numbered([np.array([2.0, 1.0, 2.0]), np.array([3.0, 3.0, 3.0])])
    >>> first.tolist(), kind.tolist()
    ([1, 0], [1, 0, 1])
    """
    n = len(columns[0])
    if n < FEW:
        _, first, inverse = np.unique(pack_columns(columns), return_index=True, return_inverse=True)
        return first, inverse
    kind, kinds = np.zeros(n, dtype=np.intp), 1
    for column in columns:
        if column.strides == (0,):
            continue
        whole = column.astype(np.intp)
        most = int(whole.max())
        if most > _TABLE * n:
            whole, most = np.unique(whole, return_inverse=True)[1], n
        rank, ranks = ranked(whole, most)
        if ranks == 1:
            continue
        kind, kinds = (rank, ranks) if kinds == 1 else (kind * ranks + rank, kinds * ranks)
        if kinds > _TABLE * n:
            if kinds > _TABLE * _TABLE * n:
                kind, kinds = np.unique(kind, return_inverse=True)[1], n
            else:
                kind, kinds = ranked(kind, kinds - 1)
    kind, kinds = ranked(kind, kinds - 1)
    first = np.empty(kinds, dtype=np.intp)
    first[kind[::-1]] = np.arange(n - 1, -1, -1)  # the last write is the first row
    return first, kind


_TABLE = 4
"""Length of a counting table over the number of rows, below which counting is faster than sorting."""


@dataclass(frozen=True, slots=True)
class Plans(Columns):
    """Columns of plans: every field float64 of shape [n]; words are indices into WORDS, switches 0 or 1."""

    tp: PlanColumn
    sp: PlanColumn
    pp: PlanColumn
    vpp: PlanColumn
    dp: PlanColumn
    cp: PlanColumn
    ep: PlanColumn
    etp: PlanColumn
    zero: PlanColumn
    shards: PlanColumn
    micro_batch: PlanColumn
    recompute: PlanColumn
    precision: PlanColumn
    schedule: PlanColumn
    order: PlanColumn
    split: PlanColumn
    offload: PlanColumn
    tp_overlap: PlanColumn
    dp_overlap: PlanColumn
    pp_scatter: PlanColumn
    regather: PlanColumn

    def __len__(self) -> int:
        return len(self.tp)

    @property
    def devices(self) -> PlanColumn:
        """Devices that each plan runs on."""
        return self.tp * self.pp * self.cp * self.dp

    @property
    def group(self) -> PlanColumn:
        """Data ranks that shard the state of `zero`: those of a sharding group, else all."""
        return np.where(self.shards > 0, np.minimum(self.shards, self.dp), self.dp) if self.has_groups else self.dp

    @property
    def has_groups(self) -> bool:
        """Whether any plan shards in groups of its data ranks."""
        return bool(self.shards.max(initial=0.0) > 0)

    def rows(self, low: int, high: int) -> Plans:
        """Rows low .. high - 1, as views."""
        return Plans(*(getattr(self, f.name)[low:high] for f in fields(self)))

    def stride(self, group: str) -> PlanColumn:
        """Devices from one rank of a group ("tp", "cp", "dp", "pp") to the next, by the order of ranks."""
        if group == "cp":
            return self.tp * self.stride("tp")
        size = {"tp": self.tp * self.cp, "dp": self.dp, "pp": self.pp}
        out = np.ones(len(self))
        for code in distinct(self.order) if self.order.strides != (0,) else self.order[:1]:
            words = ORDERS[int(code)].split("-")
            inside = np.ones(1)
            for word in words[: words.index(group)]:
                inside = inside * size[word]
            out = np.where(self.order == code, inside, out)
        return out

    def unique(self, *names: str, also: Iterable[PlanColumn] = ()) -> tuple[Plans, NDArray[np.intp]]:
        """Rows that differ in `names` (or in the columns `also`), and for each row the index of its representative: a
        formula of those fields alone is evaluated once per distinct combination, then expanded with the index."""
        if len(self) == 1:
            return self, np.zeros(1, dtype=np.intp)
        first, inverse = numbered([*(getattr(self, name) for name in names), *also])
        return self.take(first), inverse

    def plan(self, i: int) -> Plan:
        """Row i as a Plan."""
        raw = {f.name: int(getattr(self, f.name)[i]) for f in fields(self)}
        values: dict[str, Any] = {
            name: WORDS[name][code] if name in WORDS else bool(code) if name in SWITCHES else code
            for name, code in raw.items()
        }
        return Plan(**values)

    def __iter__(self) -> Iterator[Plan]:
        return (self.plan(i) for i in range(len(self)))

    @classmethod
    def of(cls, plans: Iterable[Plan]) -> Plans:
        """Columns from plans."""
        rows = list(plans)
        columns = []
        for f in fields(cls):
            codes = WORDS.get(f.name)
            values = [getattr(p, f.name) for p in rows]
            columns.append(np.array([codes.index(v) if codes else v for v in values], dtype=np.float64))
        return cls(*columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServePlan(Keyed):
    """One worker, a copy of a model that serves: tp x dp x cp ranks in each of pp stages. dp is attention data
    parallelism: each dp rank holds whole attention weights and its own sequences, while experts are spread over all
    tp x dp ranks of the stage, ep groups of them, the rest of the ranks cutting each expert (etp). cp cuts one
    sequence's tokens and cache. weights: format of the matrices; kv: format of the cache; launch: settings of its
    engine. In the JSON, fields that serving does not use have their neutral values."""

    KEYS = "tp sp pp vpp dp cp ep etp zero micro_batch recompute precision=weights schedule kv **launch"
    sp: ClassVar[bool] = False
    vpp: ClassVar[int] = 1
    zero: ClassVar[int] = 0
    micro_batch: ClassVar[int] = 1
    recompute: ClassVar[Recompute] = "none"
    schedule: ClassVar[PipelineSchedule] = "1f1b"

    tp: int = 1
    pp: int = 1
    dp: int = 1
    cp: int = 1
    ep: int = 1
    weights: WeightFormat = "bf16"
    kv: KvFormat = "bf16"
    launch: LaunchSettings = NOTHING_STATED

    @property
    def devices(self) -> int:
        """Devices of one worker: tp x dp x cp x pp."""
        return self.tp * self.pp * self.dp * self.cp

    @property
    def etp(self) -> int:
        """Ranks that cut one expert: tp x dp / ep."""
        return max(1, self.tp * self.dp // self.ep)

    @property
    def redundant(self) -> int:
        """Extra copies of experts of a layer, where experts are spread over ranks."""
        return (self.launch.redundant_experts or 0) if self.ep > 1 else 0

    @classmethod
    def from_dict(cls, data: Result) -> ServePlan:
        """The plan that `to_dict` wrote. Raises KeyError for a field that is not there."""
        degrees = {name: int(data[name]) for name in ("tp", "pp", "dp", "cp", "ep")}
        return cls(
            **degrees,
            weights=one_of(str(data["precision"]), WEIGHTS, "format of weights"),
            kv=one_of(str(data["kv"]), KV, "format of the cache"),
            launch=LaunchSettings.of(data),
        )

    def __str__(self) -> str:
        """ "tp4 dp2 ep8 fp8/bf16 interval=10": degrees above 1, then weights / cache format, then stated settings of
        its engine."""
        parts = [f"{name}{getattr(self, name)}" for name in ("tp", "pp", "dp", "cp", "ep") if getattr(self, name) > 1]
        return " ".join([*(parts or ["tp1"]), f"{self.weights}/{self.kv}", str(self.launch)]).rstrip()


def stated_plan(plan: Plan | ServePlan, lnc: int) -> Result:
    """The JSON of a plan on a machine: `to_dict`, and the cores of a device where they are grouped (lnc above 0)."""
    return {**plan.to_dict(), **({"lnc": lnc} if lnc else {})}


@dataclass(frozen=True, slots=True)
class ServePlans(Columns):
    """Columns of worker plans, float64 of shape [n]; weights and kv are indices into WEIGHTS and KV. Settings of
    engines are left out, except copies of experts (`redundant`), because the work is the same."""

    tp: PlanColumn
    pp: PlanColumn
    dp: PlanColumn
    cp: PlanColumn
    ep: PlanColumn
    weights: PlanColumn
    kv: PlanColumn
    redundant: PlanColumn

    def __len__(self) -> int:
        return len(self.tp)

    @classmethod
    def of(cls, plans: Iterable[ServePlan]) -> ServePlans:
        """Columns from plans."""
        rows = list(plans)
        code = {"weights": WEIGHTS.index, "kv": KV.index}
        return cls(
            *(
                np.array([code.get(f.name, float)(getattr(p, f.name)) for p in rows], dtype=np.float64)
                for f in fields(cls)
            )
        )

    @property
    def devices(self) -> PlanColumn:
        """Devices of one worker."""
        return self.tp * self.pp * self.dp * self.cp


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJob:
    """One training job. tokens: to train on in all; seq: tokens per sequence; batch_seqs: sequences per step (a
    target);
    is_balanced: expert load forced equal, as in benchmarks; batch_tolerance: share by which the batch of a plan may
    differ from that, 0: it is exact; element_B: bytes of an activation between matrix products (4: everything but the
    products in fp32); is_autocast: automatic mixed precision, which keeps weights in fp32 and casts them for products
    (of PyTorch's kind).

    task: pretrain and sft train every weight; lora trains adapters (`lora`: which) beside a frozen base, whose weight
    gradients are not computed. document: mean tokens of the documents packed into a sequence, where each attends to
    itself only (None: the sequence is one document). fill: share of positions that hold tokens; the rest is padding,
    computed like the others and not counted as trained.

    sites: places that train copies of the model, each on chips of its own with a batch of its own, and share the tokens
    (DiLoCo); every `outer_every` steps they sum what changed, over `site_Bps` bytes/s into and out of each.
    """

    tokens: float
    seq: int
    batch_seqs: float
    is_balanced: bool = False
    batch_tolerance: float = 0.0
    element_B: float = 2.0
    is_autocast: bool = False
    task: Task = "pretrain"
    lora: Lora | None = None
    document: float | None = None
    fill: float = 1.0
    sites: int = 1
    site_Bps: float = 0.0
    outer_every: int = 1

    @property
    def tokens_per_step(self) -> float:
        """Positions of a step, padding included."""
        return self.seq * self.batch_seqs

    @property
    def frozen_base(self) -> bool:
        """Whether only adapters train."""
        return self.task == "lora"

    @property
    def adapters(self) -> Lora | None:
        """The adapters that train: those of `lora`, or the default ones of a LoRA job; None otherwise."""
        return (self.lora or Lora()) if self.frozen_base else None

    @property
    def attended(self) -> float:
        """Length of the sequence that attention works on: the document's where sequences are packed."""
        return min(self.document or self.seq, self.seq)

    def inputs(self) -> dict[str, object]:
        """The job as results state it, without unstated fields."""
        out: dict[str, object] = {
            "task": "train",
            "tokens": self.tokens,
            "seq": self.seq,
            "batch_seqs": self.batch_seqs,
        }
        if self.task != "pretrain":
            out["train_task"] = self.task
        if self.adapters:
            out |= {"lora_rank": self.adapters.rank, "lora_targets": list(self.adapters.targets)}
        if self.document:
            out["document"] = self.document
        if self.batch_tolerance:
            out["batch_within"] = self.batch_tolerance
        if self.sites > 1:
            out |= {"sites": self.sites, "site_Bps": self.site_Bps, "outer_every": self.outer_every}
        return out if self.fill == 1.0 else {**out, "fill": self.fill}

    @classmethod
    def from_inputs(cls, inputs: Mapping[str, object]) -> TrainJob:
        """The job that `inputs` of a result states."""
        task = str(inputs.get("train_task", "pretrain"))
        assert task in TASKS
        number = {
            key: float(str(inputs[key]))
            for key in ("tokens", "batch_seqs", "batch_within", "document", "fill", "sites", "site_Bps", "outer_every")
            if inputs.get(key) is not None
        }
        words = inputs.get("lora_targets")
        lora = Lora.of(int(str(inputs["lora_rank"])), words) if isinstance(words, (list, tuple)) else None
        return cls(
            tokens=number.get("tokens", 0.0),  # a budget's run asks for none
            seq=int(str(inputs["seq"])),
            batch_seqs=number["batch_seqs"],
            batch_tolerance=number.get("batch_within", 0.0),
            task=task,
            lora=lora,
            document=number.get("document"),
            fill=number.get("fill", 1.0),
            sites=int(number.get("sites", 1)),
            site_Bps=number.get("site_Bps", 0.0),
            outer_every=int(number.get("outer_every", 1)),
        )


MAX_DEGREE = 10**8
"""Largest degree that a user may fix: above the devices of any system, below the limit of column arithmetic."""

FIXABLE: Mapping[str, tuple[str, ...] | None] = {f.name: WORDS.get(f.name) for f in fields(Plan)}
"""Plan fields that a user may fix, and the words that each allows (None: whole numbers)."""


def parse_fixed(settings: Mapping[str, str], also: Collection[str] = ()) -> dict[str, tuple[int | str, ...]]:
    """{"tp": "4,8"} -> {"tp": (4, 8)}: choices that restrict the search. also: fields that the caller has read, which
    an error names too. Raises UserError, all problems named."""
    out: dict[str, tuple[int | str, ...]] = {}
    for key, text in settings.items():
        where = f"plan.{key}"
        if key == "lnc" and key not in also:
            raise UserError("is one for all points and systems", field=where, fix=f"give --set plan.lnc={text}")
        if key not in FIXABLE:
            raise unknown("plan field", key, (*FIXABLE, *also), field="plan")
        allowed = FIXABLE[key]
        values: list[int | str] = []
        for word in str(text).split(","):
            word = word.strip()
            if allowed is not None:
                if word == "all":
                    values += allowed
                    continue
                if word not in allowed:
                    raise unknown(key, word, allowed, field=where)
                values.append(word)
            elif key in SWITCHES:
                if word.casefold() not in ("true", "false", "on", "off", "0", "1"):
                    raise UserError("on or off", field=where, given=word, allowed="true, false")
                values.append(int(word.casefold() in ("true", "on", "1")))
            else:
                values.append(_degree(key, word, where))
        out[key] = tuple(dict.fromkeys(values))
    return out


def _read(key: str, value: object) -> int | bool | str:
    """A field of a saved plan."""
    words = WORDS.get(key)
    if words is not None:
        return one_of(str(value), words, f"{key} of a plan")
    if key not in SWITCHES:
        with placed(f"{key} of the plan"):
            return _degree(key, str(value), None)
    if not isinstance(value, bool):
        raise UserError("true or false", where=f"{key} of the plan", given=shorten(str(value)))
    return value


def _degree(key: str, word: str, where: str | None) -> int:
    """One whole number of a fixed degree; `zero` is a level from 0 to 3, and 0 `shards` are all data ranks."""
    lowest, highest = (0, 3) if key == "zero" else (0 if key == "shards" else 1, MAX_DEGREE)
    if not is_digits(word) or len(word) > len(str(MAX_DEGREE)) or not lowest <= int(word) <= highest:
        raise UserError(
            "not a legal degree",
            field=where,
            given=word if len(word) < 40 else word[:36] + "...",
            allowed="0 to 3" if key == "zero" else f"whole numbers from {lowest} to {MAX_DEGREE}",
        )
    return int(word)
