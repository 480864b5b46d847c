"""Training software: what its kernels reach of a chip's published rates, and what it adds to a step.

`System` is hardware; `equip` puts a stack on it and gives a `Platform`, on which a training step is timed. Every
number is a fact, `training.<family>.*` (kernels on a chip family) or `training.<stack>.*`; which stack a vendor's
machines have unless one is named is a fact too (`software.vendors`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from mowich.errors import unknown
from mowich.facts import Facts
from mowich.machines.device import Device, device_paths, has_own_device
from mowich.machines.system import System, resolve
from mowich.readback import record_of
from mowich.software.recipes import release_of_plans, stack_of_plans, switches_of
from mowich.software.releases import release_words
from mowich.software.vendors import said_of_vendor, software_of, split_words, unmeasured

BRANCHES = {"branches": True}
"""Of a field that decides which formula is taken: systems that differ in it are not evaluated as columns of one
(`training.sensitivity.stack`)."""


RECIPE_CHOSEN = "training.common.recipe"
"""Which precisions the search takes: one of `RECIPES`."""
RECIPES = ("shipped", "future")
"""shipped: those that a chip's software ships; future: those too that the chip could run and no software ships."""

ADAMW = "adamw"
"""The optimizer of a stack, with states in fp32; others are in the facts `training.optimizers`."""
OPTIMIZER_CHOSEN = "training.common.optimizer"
_OF_OPTIMIZER = {"optimizer_memory_B": "memory_B", "optimizer_B": "moved_B"}
"""Fields of a stack that an optimizer's facts have under another name."""

_LIBRARY_BUFFERS = ("communicator_B", "workspace_B", "graph_pool_B")
"""Fields of a stack that its chip's libraries make: of NVIDIA's and AMD's in the facts. A vendor whose runtime has its
own says so (`vendors.<vendor>.library_buffers`)."""


TUNED = ", hand-tuned"
"""Behind the name of a stack in the inputs of a result: its kernels are taken as written by hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency(Device):
    """What the operators of a chip reach alone (`devices.*`), and what a training step keeps of it, facts
    `training.<family>.*`. sustained: rate of products over many hours, under the limits of power, over that of one
    measured alone; attention_kernels: rate of training's attention kernels over those of prefill; older_attention: rate
    of attention kernels that were written for the generation before, over that; masked_attention: rate of attention
    with a dense mask that is no plain causal one, over that without; the facts define the others."""

    sustained: float
    attention_kernels: float
    older_attention: float
    masked_attention: float
    comm_contention: float
    framework_carry: float
    runtime_reserve: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """What the training software adds; facts `training.<stack>.*` and `training.common.*` define each field."""

    name: str = field(metadata=BRANCHES)
    optimizer: str = field(metadata=BRANCHES)
    """That of the job: "adamw" with fp32 states, unless it names another."""
    residuals: tuple[str, ...] = field(metadata=BRANCHES)
    """Features of `training.residuals` that a step has by its software."""
    speed: float
    host_per_layer: float
    expert_host: float
    """Of what a layer with experts launches, the part that the host launches outside of graphs."""
    tp_overlap: float
    dp_overlap: float
    fsdp_overlap: float
    memory_passes: float
    has_older_attention: float
    """1 where attention runs in kernels that were written for the generation before, else 0."""
    attention_block: float
    """Rate of attention cores in recipes with a scale for each block, over that in 16 bit."""
    attention_experts: float
    """As the field before, for mixtures of experts."""
    unfused_attention: float = field(metadata=BRANCHES)
    unfused_encoder: float = field(metadata=BRANCHES)
    step_fixed: float
    step_per_doubling: float
    chunk_handover: float
    """s of each forward and each backward pass of an interleaved chunk that go to handing it over."""
    backward_attention: float
    backward_host: float
    backward_tp: float
    backward_quantise: float
    selective_recompute: float
    selective_attention: float = field(metadata=BRANCHES)
    """1 where selective recompute repeats the attention core alone, else 0: `selective_recompute` of the rest of
    a layer."""
    full_recompute: float
    recompute_stops: float
    """1 where full recompute ends before the last product of a layer, whose output backward does not need, else 0."""
    unfused_attention_B: float
    """Bytes moved per score whose elements have two bytes."""
    sink_attention_B: float
    expert_bias: float
    """Rate of experts' products with a bias, over that of those without."""
    head_exposed: float
    head_passes: float
    cp_exposed: float
    ep_exposed_inside: float
    ep_exposed_outside: float
    ep_exposed_limited: float
    ep_paired: float
    """The wait of a layer for its experts' rows where they travel while another micro-batch runs too, over its wait
    otherwise."""
    ep_paired_block: float
    """As the field before, in recipes with a scale for each block."""
    ep_overlap: float
    node_dispatch: float = field(metadata=BRANCHES)
    """1 where a row of a model that limits the nodes of a token is sent once to each of them, 0 where it is sent to
    each of its experts."""
    ep_dispatch_B: float
    recurrent_B: float
    moe_passes: float
    moe_passes_fused: float
    moe_routing_B: float
    moe_fixed: float
    expert_launch: float
    expert_launch_8bit: float
    expert_launch_block: float
    router_skew: float
    moe_capacity: float = field(metadata=BRANCHES)
    jitter_per_doubling: float
    dp_window: float
    optimizer_B: float
    autocast_B: float
    """Bytes of an element between products under automatic mixed precision."""
    grad_B: float
    gather_B: float
    gather_low_precision: float
    tp_gather_low_precision: float
    """Bytes that tensor parallelism gathers in a recipe of 8 bits or less, over those in 16 bit; sums are scattered in
    16 bit."""
    weight_B: float
    grad_memory_B: float
    logit_B: float
    optimizer_memory_B: float
    matrix_saves_B: float
    """Bytes that the optimizer keeps less of a parameter of a layer's matrices."""
    newton_schulz: float = field(metadata=BRANCHES)
    """Iterations that it takes on each of these."""
    matrix_gather_B: float
    """Bytes per parameter in which ranks gather them."""
    outer_memory_B: float
    """Bytes per parameter that the outer optimizer of a run on several sites keeps."""
    outer_send_B: float
    """Bytes per parameter that each site sends to be summed."""
    outer_moved_B: float
    """Bytes per parameter that a device moves for it."""
    stored_activation_8bit: float
    unfused_gate: float
    """1 where a gated feed-forward keeps its activated gate beside what it multiplies, else 0."""
    communicator_B: float
    """Buffers that collectives hold for each group of ranks."""
    workspace_B: float
    """Workspaces of libraries."""
    graph_pool_B: float
    """Memory that captured graphs keep for themselves."""
    fragmentation: float
    """What the allocator takes beyond what it hands out, over the bytes that come and go in a step."""
    offloaded_layers: float
    """Layers of the model whose activations wait in the host's memory, beside compute."""
    memory_spread: float
    """Half-width of the 90% range of the logarithm of what comes and goes of memory, measured over predicted."""
    eager: float = field(metadata=BRANCHES)
    """1 where the operations of captured code run one behind another as it is written, 0 where they are compiled."""
    eager_launch: float
    """s of the host to launch each of these."""
    kernel_start: float
    """s of the device to begin each of these."""
    pass_start: float
    """s of the host from one forward pass without gradients to the next."""
    dense_masks: float = field(metadata=BRANCHES)
    """1 where attention takes masks of padding as dense tensors, 0 where it takes lengths."""

    @property
    def is_adamw(self) -> bool:
        """Whether the optimizer is the stack's own; kernels written by hand are made for that one."""
        return self.optimizer == ADAMW


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform(System):
    """A system with the training software that runs on it. precisions: those that training on its chip could run in;
    ships: those that the stack ships a recipe of, on any chip; takes_future: whether the search takes the others too;
    schedules: pipeline schedules that the stack ships; zero, zero_in_pipeline: levels of sharding that it has without a
    pipeline and with one; group_zero: those of them that it also shards in groups of data ranks (HSDP); residuals:
    features of `training.residuals` that its steps have; kernel_language: of the kernels that Mowich times for its
    chips, "" where it times none."""

    efficiency: Efficiency
    stack: Stack
    precisions: tuple[str, ...]
    ships: tuple[str, ...]
    takes_future: bool
    schedules: tuple[str, ...]
    zero: tuple[int, ...]
    zero_in_pipeline: tuple[int, ...]
    group_zero: tuple[int, ...]
    residuals: tuple[str, ...]
    kernel_language: str

    @property
    def recipes(self) -> tuple[str, ...]:
        """Precisions that the search tries."""
        return self.precisions if self.takes_future else tuple(p for p in self.precisions if p in self.ships)

    @property
    def not_shipped(self) -> tuple[str, ...]:
        """Precisions in which the chip multiplies and could train, but for which the stack ships no recipe."""
        return tuple(p for p in self.precisions if p not in self.ships and p in self.peak_flops)


def equip(
    facts: Facts,
    spec: str,
    *,
    chips: int | None = None,
    stack: str | None = None,
    domain_chips: int | None = None,
    has_recipe: bool = True,
) -> Platform:
    """The system that `spec` names (`machines.system.resolve`) with a stack, or the one of its chip; has_recipe: set
    as a release is. Raises UserError for a system or a stack that is not known."""
    return with_stack(facts, resolve(facts, spec, chips=chips, domain_chips=domain_chips), stack, has_recipe=has_recipe)


def stack_words(facts: Facts, platform: Platform, *, hand_tuned: bool = False) -> dict[str, str]:
    """The software of a row as the inputs of an answer say it: its release where facts tell one, an optimizer that the
    job names, precisions that the stack ships no recipe of, and what it was measured on where that is another chip.
    hand_tuned: with kernels written by hand."""
    chosen = {} if platform.stack.is_adamw else {"optimizer": platform.stack.optimizer}
    missing = {"not_shipped": ", ".join(platform.not_shipped)} if platform.not_shipped else {}
    return {
        "stack": f"{platform.stack.name}{TUNED if hand_tuned else ''}",
        **release_words(facts, f"training.{platform.stack.name}"),
        **chosen,
        **missing,
        **unmeasured(facts, platform.id),
    }


def with_stack(facts: Facts, system: System, stack: str | None = None, *, has_recipe: bool = True) -> Platform:
    """A system with a stack, or with the one of its chip; has_recipe: set as a release is (`recipes`)."""
    name = (
        stack
        or stack_of_plans(facts, system.vendor)
        or software_of(facts, system.chip, system.vendor, "training_stack")
    )
    if not facts.once(("is a stack", name), lambda known: name in known.ids("training") and _is_stack(known, name)):
        raise unknown("software stack", name, stack_names(facts), field="stack")
    efficiency, of_family, precisions = facts.once(
        ("efficiency", system.chip, system.family), lambda known: _efficiency(known, system.chip, system.family)
    )
    software, of_stack, words = facts.once(("stack", name), lambda known: _stack(known, name))
    if said_of_vendor(facts, system.vendor, "library_buffers") == "own":
        software = replace(software, communicator_B=0.0, workspace_B=0.0, graph_pool_B=0.0)
        of_stack = {of: path for of, path in of_stack.items() if of.removeprefix("stack.") not in _LIBRARY_BUFFERS}
    hardware = list(system.paths.items())
    memory = list(system.paths).index("hbm_Bps")  # facts are shown in this order: units, software, memory and fabric
    platform = record_of(
        Platform,
        system,
        efficiency=efficiency,
        stack=software,
        precisions=precisions,
        ships=words["precisions"],
        takes_future=_recipe(facts) == "future",
        schedules=words["schedules"],
        zero=tuple(map(int, words["zero"])),
        zero_in_pipeline=tuple(map(int, words["zero_in_pipeline"])),
        group_zero=tuple(map(int, words["group_zero"])),
        residuals=_residuals(facts, system.vendor, software),
        kernel_language=said_of_vendor(facts, system.vendor, "kernel_language") or "",
        paths={**dict(hardware[:memory]), **of_family, **of_stack, **dict(hardware[memory:])},
    )
    if not has_recipe:
        return platform
    chosen = facts.text(OPTIMIZER_CHOSEN)
    if chosen != ADAMW:
        platform = as_set(facts, platform, facts.once(("optimizer", chosen), _optimizer))
        platform = replace(platform, stack=replace(platform.stack, optimizer=chosen))

    def switched(known: Facts) -> Mapping[str, str]:
        release = release_of_plans(known, system.vendor, name)
        return {} if release is None else switches_of(known, release, precisions)

    return as_set(facts, platform, facts.once(("set as", system.vendor, name, precisions), switched))


def as_set(facts: Facts, platform: Platform, paths: Mapping[str, str]) -> Platform:
    """The platform with numbers of its software from other facts (`recipes.switches`)."""
    if not paths:
        return platform
    numbers: dict[str, Any] = {name: facts.number(path) for name, path in paths.items()}
    return replace(
        platform,
        stack=replace(platform.stack, **numbers),
        paths={**platform.paths, **{f"stack.{name}": path for name, path in paths.items()}},
    )


def optimizers(facts: Facts) -> tuple[str, ...]:
    """Optimizers that a training job may name."""
    return (ADAMW, *facts.children("training.optimizers"))


def _optimizer(facts: Facts) -> dict[str, str]:
    """Fields of a stack -> the facts of the chosen optimizer that take their place. Raises UserError for a name that
    none has."""
    name = facts.text(OPTIMIZER_CHOSEN)
    if name not in optimizers(facts):
        raise unknown("optimizer", name, optimizers(facts), where=OPTIMIZER_CHOSEN)
    path = f"training.optimizers.{name}"
    own = {f.name: f"{path}.{_OF_OPTIMIZER.get(f.name, f.name)}" for f in fields(Stack)}
    return {of: fact for of, fact in own.items() if facts.get(fact) is not None}


def _recipe(facts: Facts) -> str:
    """Which precisions the search takes. Raises UserError for a word that is not one of `RECIPES`."""
    word = facts.text(RECIPE_CHOSEN)
    if word not in RECIPES:
        raise unknown("recipe", word, RECIPES, where=RECIPE_CHOSEN)
    return word


def _residuals(facts: Facts, vendor: str, stack: Stack) -> tuple[str, ...]:
    """Features that a stack says of its steps. A vendor whose machines have errors of a kind of their own says so too,
    and that stands in the place of "framework". Raises UserError for a feature that has no fact."""
    of_vendor = split_words(said_of_vendor(facts, vendor, "residuals") or "")
    named = (*of_vendor, *(name for name in stack.residuals if not (of_vendor and name == "framework")))
    for name in named:
        if name != "none" and facts.get(f"training.residuals.{name}") is None:
            known = facts.children("training.residuals")
            raise unknown(
                "feature of training.residuals", name, [*known, "none"], where=f"stack {stack.name} on {vendor}"
            )
    return named


def stack_names(facts: Facts) -> list[str]:
    """The stacks that facts describe."""
    return [name for name in facts.ids("training") if _is_stack(facts, name)]


def training_stacks(facts: Facts) -> list[str]:
    """Those that train: without the stacks that vendors name for passes without gradients."""
    named = {facts.get(f"vendors.{vendor}.forward_stack") for vendor in facts.ids("vendors")}
    passes_only = {str(fact.value) for fact in named if fact is not None}
    return [name for name in stack_names(facts) if name not in passes_only]


def _is_stack(facts: Facts, name: str) -> bool:
    """Whether a file of training constants is one of a stack, and not of a chip's family."""
    return facts.get(f"training.{name}.speed") is not None


def _efficiency(facts: Facts, chip: str, family: str) -> tuple[Efficiency, dict[str, str], tuple[str, ...]]:
    """(numbers of a chip, the paths of their facts by field, precisions that training on it could run in)."""
    device = device_paths(chip if has_own_device(facts, chip) else family)
    paths = {f"efficiency.{f.name}": device.get(f.name, f"training.{family}.{f.name}") for f in fields(Efficiency)}
    numbers = {name.partition(".")[2]: facts.number(path) for name, path in paths.items()}
    return Efficiency(**numbers), paths, split_words(facts.text(f"training.{family}.recipes"))


_LISTS = ("schedules", "precisions", "zero", "zero_in_pipeline", "group_zero")
"""Facts of a stack that list words: pipeline schedules, precisions of its recipes, levels of sharding, those of them in
groups."""


def _stack(facts: Facts, name: str) -> tuple[Stack, dict[str, str], dict[str, tuple[str, ...]]]:
    """(a stack, the paths of its facts by field, what its facts list)."""

    def path(of: str) -> str:
        own = f"training.{name}.{of}"
        return own if facts.get(own) else f"training.common.{of}"

    words = ("name", "optimizer", "residuals")
    paths = {f"stack.{f.name}": path(f.name) for f in fields(Stack) if f.name not in words}
    numbers = {f.partition(".")[2]: facts.number(of) for f, of in paths.items()}
    stack = Stack(
        name=name,
        optimizer=ADAMW,
        residuals=split_words(facts.text(path("residuals"))),
        **numbers,
    )
    return stack, paths, {what: split_words(facts.text(path(what))) for what in _LISTS}
