"""Fills in the open parts of a published row's plan and software: a plan that fits and agrees with the row, and numbers
from its recipe."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mowich.errors import UserError
from mowich.evidence.row_rules import STACK_NUMBERS
from mowich.facts import Facts
from mowich.models.model import Model, Moe, as_trained
from mowich.plans.memory import memory_B
from mowich.plans.plan import RECOMPUTE, Plan, Plans, TrainJob
from mowich.software.recipes import FORMAT_OF, Recipe, switches
from mowich.software.stack import Platform, as_set
from mowich.sums import float_sum
from mowich.training.step import micro_batches_of


def memory_of(model: Model, system: Platform, job: TrainJob, plan: Plan) -> dict[str, float]:
    """Bytes by category that the plan needs on its fullest device."""
    columns = Plans.of([plan])
    return {k: float(v[0]) for k, v in memory_B(model, system, job, columns, micro_batches_of(job, columns)).items()}


def memory_share(model: Model, system: Platform, job: TrainJob, plan: Plan) -> float:
    """Bytes that the plan needs on its fullest device over the bytes that a program may use there."""
    return float_sum(memory_of(model, system, job, plan).values()) / system.hbm_usable_B


def frugal_plans(plan: Plan, inferred: Sequence[str], recompute_words: str, stack: str) -> Iterator[Plan]:
    """Other plans that a row's words allow, each with less memory than the one before: more recompute, where it is not
    stated or only a policy's name is; activations in the host's memory, where the words say so or leave out a policy
    that a JAX program must have; whole stages and one sequence at a time, where chunks and micro-batch are not
    stated."""
    filled, words = {item.split("=")[0] for item in inferred}, recompute_words.casefold()
    is_jax = stack.startswith("jax")
    if "recompute" in filled or is_jax or (stack.startswith("pytorch") and plan.recompute == "selective"):
        for mode in RECOMPUTE[: RECOMPUTE.index("full") + 1]:
            if RECOMPUTE.index(mode) > RECOMPUTE.index(plan.recompute):
                yield replace(plan, recompute=mode)
        plan = replace(plan, recompute="full")
        if "offload" in words or "custom" in words or (not words and is_jax):
            plan = replace(plan, offload="activations")
            yield plan
    if "vpp" in filled and plan.vpp > 1:
        plan = replace(plan, vpp=1, schedule="1f1b")
        yield plan
    if "micro_batch" in filled and plan.micro_batch > 1:
        yield replace(plan, micro_batch=1)


@dataclass(frozen=True, slots=True)
class SharedRuns:
    """Objects that rows of one table share, made at first use. equipped: systems whose software has numbers of a
    recipe, by (id of the one in `systems`, the numbers); variants: models as a run has them, by (id of the one in
    `models`, prediction layers, whether they train); shares: of memory, by (id of model, id of system, job, plan), with
    the model and the system, which are kept so that their ids stay unique."""

    systems: dict[tuple[object, ...], Platform] = field(default_factory=dict)
    equipped: dict[tuple[object, ...], Platform] = field(default_factory=dict)
    models: dict[tuple[str, ...], tuple[Model, list[str]] | UserError] = field(default_factory=dict)
    variants: dict[tuple[int, int, bool], Model] = field(default_factory=dict)
    shares: dict[tuple[object, ...], tuple[Model, Platform, float]] = field(default_factory=dict)

    def variant(self, model: Model, mtp_layers: int, *, trained: bool) -> Model:
        """The model of `models` with `mtp_layers` prediction layers; trained: as layers of the step (`as_trained`)."""
        key = (id(model), mtp_layers, trained)
        if key not in self.variants:
            changed = model if mtp_layers == model.mtp_layers else replace(model, mtp_layers=mtp_layers)
            self.variants[key] = as_trained(changed) if trained else changed
        return self.variants[key]

    def as_recipes_say(self, system: Platform, recipe: Mapping[str, float]) -> Platform:
        """The system of `systems` with the software's numbers from a recipe, which then belong to no fact and no
        fit."""
        own = {name: recipe[name] for name in STACK_NUMBERS if name in recipe}
        in_order = bool(recipe.get("device_order"))
        if not own and not in_order:
            return system
        key = (id(system), in_order, *own.items())
        if key not in self.equipped:
            software = replace(system.stack, **own)  # type: ignore[arg-type]
            levels = tuple(replace(level, in_device_order=in_order and level.axes > 0) for level in system.levels)
            paths = {name: path for name, path in system.paths.items() if name.removeprefix("stack.") not in own}
            self.equipped[key] = replace(system, stack=software, levels=levels, paths=paths)
        return self.equipped[key]

    def as_released(self, facts: Facts, system: Platform, precision: str, recipe: Recipe) -> Platform:
        """The system of `systems` set as a release says."""
        key = (id(system), precision, recipe.path)
        if key not in self.equipped:
            set_so = switches(recipe.settings, FORMAT_OF[precision], is_moe=recipe.is_moe)
            self.equipped[key] = as_set(facts, system, set_so)
        return self.equipped[key]

    def share(self, model: Model, system: Platform, job: TrainJob, plan: Plan) -> float:
        """`memory_share`, computed once for rows that repeat a run."""
        key = (id(model), id(system), job, plan)
        if key not in self.shares:
            self.shares[key] = model, system, memory_share(model, system, job, plan)
        return self.shares[key][2]


@dataclass(frozen=True, slots=True, kw_only=True)
class CoarseFit:
    """A coarse memory test for layouts that a row leaves open: 2 B weights, 4 B gradients and 12 B optimizer per
    parameter, sharded as ZeRO says, plus activations of fused kernels (about 34 B per token and hidden unit and layer,
    2 B when recomputed), and what the software reserves."""

    system: Platform
    model: Model
    seq: int
    frozen: bool
    zero: int
    recompute: str

    def bytes_(self, tp: int, pp: int, ep: int, n: int, mb: int = 1, cp: int = 1) -> float:
        experts = 0
        for layer in self.model.layers:
            if isinstance(layer.ffn, Moe):
                experts += layer.count * layer.ffn.num_experts * layer.ffn.expert_matmul_params(self.model.hidden)
        dense = (self.model.params - experts) / (tp * pp)
        expert = experts / (ep * pp)
        dp = max(1, n // (tp * pp))
        e_dp = max(1, n // (ep * pp))

        def stored(each: float, level: int) -> float:
            cut = self.zero >= level
            return each * (dense / (dp if cut else 1) + expert / (e_dp if cut else 1))

        state = stored(2, 3)
        if not self.frozen:
            state += stored(4, 2) + stored(12, 1)
        width = (
            max(layer.attention.num_heads * layer.attention.head_dim for layer in self.model.layers) / self.model.hidden
        )
        each = {"full": 2.0, "selective": 24.0, "experts": 24.0, "none": 34.0}[self.recompute] * (0.5 + 0.5 * width)
        layers = self.model.num_layers / pp * min(pp, 8)
        activations = mb * self.seq / cp * self.model.hidden * each * layers / tp
        moving = activations + 6.0 * mb * self.seq / cp * self.model.vocab / tp / pp
        s, groups = self.system.stack, sum(ranks > 1 for ranks in (tp, pp, cp, dp, ep))
        kept = self.system.efficiency.runtime_reserve + s.workspace_B + s.graph_pool_B + s.communicator_B * groups
        return state + moving * (1.0 + s.fragmentation) + kept

    def fits(self, tp: int, pp: int, ep: int, n: int, mb: int = 1, cp: int = 1) -> bool:
        return self.bytes_(tp, pp, ep, n, mb, cp) <= self.system.hbm_usable_B

    def smallest_tp(self, most: int, pp: int, ep: int, n: int, least: float = 1.0) -> int:
        """The smallest TP that fits and that the heads allow. least: devices that must share a sequence so that the
        batch feeds all."""
        heads = math.gcd(*(layer.attention.num_heads for layer in self.model.layers))
        choices = [t for t in _powers(most) if heads % t == 0 and most % t == 0] or [1]
        choices = [t for t in choices if t >= least] or choices[-1:]
        return next((t for t in choices if self.fits(t, pp, ep, n, cp=max(1, most // (t * pp)))), choices[-1])

    def widest_ep(self, pp: int, n: int, most: int) -> int:
        experts = next(layer.ffn.num_experts for layer in self.model.layers if isinstance(layer.ffn, Moe))
        choices = _powers(min(n // pp, most, experts, 64))
        return max((e for e in choices if experts % e == 0 and (n // pp) % e == 0), default=1)

    def smallest_pp(self, tp: int, ep: int, most: int, cp: int = 1) -> int:
        choices = [
            p for p in range(1, most + 1) if most % p == 0 and p <= self.model.num_layers and (most // p) * tp % ep == 0
        ] or [1]
        return next((p for p in choices if self.fits(tp, p, ep, most * tp * cp, cp=cp)), choices[-1])

    def micro_batch(self, tp: int, pp: int, cp: int, dp: int, ep: int, local: int) -> int:
        choices = [m for m in range(local, 0, -1) if local % m == 0]
        return next((m for m in choices if self.fits(tp, pp, ep, tp * pp * cp * dp, m, cp)), 1)


def _powers(most: int) -> list[int]:
    return [2**i for i in range(max(1, most).bit_length()) if 2**i <= most]
