"""What is trained of a model: everything (pretrain, sft), or low-rank adapters beside frozen weights (LoRA).

An adapter of rank r on out[m,n] = in[m,k] w[k,n] adds in a b with a [k,r] and b [r,n]: r (k + n) weights. The frozen w
needs no gradient and no optimizer state, so its backward pass is one product (of the input's gradient) where training
it takes two.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from mowich.errors import UserError, unknown
from mowich.models import ops
from mowich.models.model import Layer, Model
from mowich.sums import float_sum
from mowich.units import is_digits

Task = Literal["pretrain", "sft", "lora"]
TASKS: tuple[Task, ...] = ("pretrain", "sft", "lora")

_GROUPS = {
    "qkv": ("qkv", "q", "q_down", "q_up", "kv", "kv_down", "kv_up", "mixer_in"),
    "attn_out": ("attn_out", "out_down", "out_up", "mixer_out"),
    "mlp_up": ("mlp_up", "shared_up"),
    "mlp_down": ("mlp_down", "shared_down"),
}
"""A target -> the matrices of `ops` that it means. Routed experts are not adapted."""

_WORDS = {
    "attention": ("qkv", "attn_out"),
    "mlp": ("mlp_up", "mlp_down"),
    "all": tuple(_GROUPS),
    "q_proj": ("qkv",),
    "k_proj": ("qkv",),
    "v_proj": ("qkv",),
    "o_proj": ("attn_out",),
    "gate_proj": ("mlp_up",),
    "up_proj": ("mlp_up",),
    "down_proj": ("mlp_down",),
    "linear_qkv": ("qkv",),
    "linear_proj": ("attn_out",),
    "linear_fc1": ("mlp_up",),
    "linear_fc2": ("mlp_down",),
    **{name: (name,) for name in _GROUPS},
}
"""Words for targets, those of PEFT and NeMo included. Keys, queries and values share one fused matrix and one
adapter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Adapters of `rank` on the matrices that `targets` names, in every layer."""

    rank: int = 16
    targets: tuple[str, ...] = ("qkv", "attn_out")

    @classmethod
    def of(cls, rank: int, words: Iterable[str], *, where: str = "targets") -> Lora:
        """From words such as "attention", "all", "q_proj"; raises UserError for an unknown one or a rank below 1."""
        if rank < 1:
            raise UserError("the rank of adapters must be at least 1", where=where, given=rank)
        names: dict[str, None] = {}
        for word in words:
            if word not in _WORDS:
                raise unknown("target of adapters", word, _WORDS, where=where)
            names.update(dict.fromkeys(_WORDS[word]))
        return cls(rank=rank, targets=tuple(names))

    def adapts(self, group: str) -> bool:
        """Whether a group of `_GROUPS` has adapters."""
        return group in self.targets

    def gemms(self, layer: Layer, hidden: int) -> tuple[ops.Gemm, ...]:
        """The matrices of the layer that have an adapter."""
        wanted = {name for target in self.targets for name in _GROUPS[target]}
        return tuple(
            gemm
            for gemm in ops.dense_gemms(layer, hidden)
            if (gemm.group in self.targets and gemm.is_held if gemm.group else gemm.name in wanted)
        )

    def layer_params(self, layer: Layer, hidden: int) -> int:
        """Trainable weights of one layer: rank * (k + n) for each adapted matrix."""
        return sum(self.rank * (g.k + g.n + sum(n for n, _ in g.fused)) for g in self.gemms(layer, hidden))

    def params(self, model: Model) -> int:
        """Trainable weights of the model.

        >>> from mowich.models import load_model
        >>> Lora(rank=16).params(load_model("llama2-70b"))
        44564480
        """
        return sum(layer.count * self.layer_params(layer, model.hidden) for layer in model.layers)


def parse_task(text: str, *, where: str = "task", also: Collection[str] = ()) -> tuple[Task, Lora | None]:
    """ "pretrain", "sft", "lora", "lora:32" (rank), "lora:32:attention,mlp" (and targets) -> the task and its adapters.
    also: tasks that the caller has read, which an error names too.

    >>> parse_task("lora:8:q_proj,v_proj")
    ('lora', Lora(rank=8, targets=('qkv',)))
    """
    word, *rest = text.strip().split(":")
    task = next((t for t in TASKS if t == word), None)
    if task is None:
        raise unknown("task", word, (*TASKS, *also), where=where)
    if not rest:
        return task, Lora() if task == "lora" else None
    if task != "lora" or len(rest) > 2 or not is_digits(rest[0]):
        raise UserError(
            "not a task", where=where, given=text, allowed="pretrain, sft, lora, lora:RANK, lora:RANK:TARGETS"
        )
    words = [w.strip() for w in rest[1].split(",")] if len(rest) > 1 else Lora().targets
    return task, Lora.of(int(rest[0]), words, where=where)


def train_flop_per_token(model: Model, seq: float, task: Task, lora: Lora | None) -> float:
    """Model FLOP per token of a training step, no recompute: forward, the gradients of inputs and, where weights train,
    of weights.

    pretrain, sft: 3 x forward. lora: 2 x forward of the frozen model (attention's backward included at 2 x its core) +
    6 per adapter weight.
    """
    forward = model.flop_per_token(seq)
    if task != "lora":
        return 3.0 * forward
    cores = float_sum(
        layer.count * (layer.mixer.core_flop_per_token(seq) + layer.residual_flop) for layer in model.work
    )
    return 2.0 * (forward - cores) + 3.0 * cores + 6.0 * (lora or Lora()).params(model)
