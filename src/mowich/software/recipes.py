"""Recipes: what a release of training software is set to, for a model on a chip in a precision.

A stack says what its kernels reach; a recipe says which of them a run uses: how much of a step lies in a graph, who
sends rows to experts and whether that runs beside another micro-batch, whether products of experts are one kernel, the
format of attention. Each is a fact, a file a release (`recipes.<release>.*`). Here each word names the facts of
training that it puts in the place of others; formulas read the same numbers as ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mowich.errors import UserError, did_you_mean, unknown
from mowich.facts import Facts
from mowich.facts.load import once_for
from mowich.software.vendors import said_of_vendor

RELEASE = "training_recipe"
"""Fact of a vendor: the release that plans on its machines are set as."""

FORMAT_OF = {"bf16": "16", "fp8": "8", "int8": "8", "mxfp8": "block", "nvfp4": "block", "mxfp4": "block"}
"""Precision -> its kind, for which a setting may hold by itself: 16 bit, 8 bit with a scale for a whole tensor, formats
with a scale for each block."""

_LAUNCH = {"16": "expert_launch", "8": "expert_launch_8bit", "block": "expert_launch_block"}
_PAIRED = {"16": "ep_paired", "8": "ep_paired", "block": "ep_paired_block"}
_COMMON = "training.common."

OF_RECIPES = ("attention_8bit", "ep_paired_overlap")
"""Constants of training that only a recipe puts in the place of others, and that have a range."""

SETTINGS: Mapping[str, Mapping[str, str]] = {
    "graphs": {
        "none": "every kernel is launched by the host",
        "partial": "attention, router and what lies between are in graphs; experts are launched by the host",
        "full": "a whole step is one graph",
    },
    "dispatcher": {
        "alltoall": "a collective of the network library, which waits for every rank",
        "deepep": "kernels of DeepEP, which send a row once to each node",
        "hybridep": "kernels of HybridEP, which send a row once to each domain",
    },
    "overlap": {"yes": "rows travel beside the compute of another micro-batch", "no": "a layer waits for its rows"},
    "experts": {"grouped": "a product for each expert", "fused": "both products and the activation in one kernel"},
    "rows": {
        "dropless": "experts take what they are sent",
        "capacity": "experts take the mean, padded to it; what is beyond is dropped",
    },
    "attention": {"16-bit": "whatever the format of products", "fp8": "in 8 bit"},
    "recompute": {
        "none": "every activation is kept",
        "selective": "a part of each layer is computed again",
        "full": "whole layers are computed again",
    },
    "sequence": {"split": "tensor-parallel ranks share the tokens between products", "whole": "each has all of them"},
    "zero": {"0": "nothing is sharded over the data ranks", "1": "states of the optimizer", "3": "weights too"},
    "kernels": {"own": "attention is written for the chip's generation", "older": "for the generation before"},
}
"""Setting -> its words -> what each means. `recompute`, `sequence` and `zero` belong to a plan: published rows that do
not state them have them from here."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a release is set to for one run. release: file of facts; settings: setting -> word; path: of the fact;
    is_default: of no run, but of its kind of model;
    is_moe: of a mixture of experts."""

    release: str
    settings: Mapping[str, str]
    path: str
    is_default: bool
    is_moe: bool = True

    @property
    def words(self) -> str:
        return ", ".join(f"{name} {word}" for name, word in self.settings.items())


def releases(facts: Facts, stack: str | None = None) -> list[str]:
    """Releases that facts describe, oldest first; of a stack alone where one is named."""
    known = [name for name in facts.ids("recipes") if stack is None or facts.text(f"recipes.{name}.stack") == stack]
    return sorted(known, key=lambda name: (facts.text(f"recipes.{name}.released"), name))


def stack_of_release(facts: Facts, release: str) -> str:
    """The stack whose numbers a release has. Raises UserError for a release that is not known."""
    if release not in facts.ids("recipes"):
        raise unknown("recipe", release, releases(facts), field="recipe")
    return facts.text(f"recipes.{release}.stack")


def recipe_for(facts: Facts, release: str, model: str, chip: str, precision: str, *, is_moe: bool) -> Recipe | None:
    """What a release is set to for a model on a chip in a precision: its own word, else that of the release before it,
    else what it says of the kind of model; None where nothing is said.

    Example:
        >>> from mowich.facts import load_facts
        >>> recipe_for(load_facts(), "bridge-26-06", "deepseek-v3", "gb200", "mxfp8", is_moe=True).settings["graphs"]
        'full'
    """
    name = model.casefold().replace("_", "-").replace(".", "_")
    kind = "experts" if is_moe else "dense"
    for path, is_default in ((f"{name}.{chip}.{precision}", False), (f"{kind}.{precision}", True)):
        for each in _back(facts, release):
            fact = facts.get(f"recipes.{each}.{path}")
            if fact is not None:
                return Recipe(release, recipe_settings(str(fact.value), fact.path), fact.path, is_default, is_moe)
    return None


def _back(facts: Facts, release: str) -> Iterator[str]:
    """A release, and those before it, newest first."""
    at: str | None = release
    while at is not None:
        yield at
        at = before(facts, at)


def recipe_settings(text: str, where: str) -> dict[str, str]:
    """ "graphs full, overlap yes" -> settings. Raises UserError for a setting or a word that is not known."""
    out = {}
    for part in text.split(","):
        name, _, word = part.strip().partition(" ")
        if name not in SETTINGS:
            raise UserError(
                f"unknown setting '{name}'", where=where, allowed=[*SETTINGS], fix=did_you_mean(name, SETTINGS)
            )
        if word not in SETTINGS[name]:
            raise UserError(f"unknown word of {name}", where=where, given=word, allowed=[*SETTINGS[name]])
        out[name] = word
    return out


def switches(settings: Mapping[str, str], kind: str, *, is_moe: bool) -> dict[str, str]:
    """Number of the stack -> the fact that it has by the settings, where that is another than without a recipe. kind:
    of precision; is_moe: of a mixture of experts."""
    out: dict[str, str] = {}
    if is_moe and settings.get("graphs") in ("full", "partial"):
        out["expert_host"] = f"{_COMMON}expert_host_{settings['graphs']}"
    if settings.get("graphs") == "full" and is_moe:
        out[_LAUNCH[kind]] = f"{_COMMON}graphed_launch"
    if settings.get("dispatcher") == "alltoall":
        out["ep_exposed_inside"] = out["ep_exposed_outside"] = f"{_COMMON}ep_exposed_alltoall"
        out["node_dispatch"] = f"{_COMMON}node_dispatch_alltoall"
    if settings.get("overlap") == "yes":
        out[_PAIRED[kind]] = f"{_COMMON}ep_paired_overlap"
    if settings.get("rows") == "capacity":
        out["moe_capacity"] = f"{_COMMON}moe_capacity_mean"
    if "kernels" in settings:
        of = "pytorch-fsdp" if settings["kernels"] == "older" else "common"
        out["has_older_attention"] = f"training.{of}.has_older_attention"
    if kind == "block" and "experts" in settings:
        is_fused = settings["experts"] == "fused"
        out["moe_passes_fused"] = "training.megatron.moe_passes_fused" if is_fused else f"{_COMMON}moe_passes"
    if kind == "block" and settings.get("attention") == "fp8":
        out["attention_experts" if is_moe else "attention_block"] = f"{_COMMON}attention_8bit"
    return out


@once_for(128)
def switches_of(facts: Facts, release: str, precisions: tuple[str, ...]) -> Mapping[str, str]:
    """Number of the stack -> its fact, of a release by what most of its runs are set to: of mixtures of experts, and
    of dense models the format of attention alone."""
    out: dict[str, str] = {}
    for precision in precisions:
        kind = FORMAT_OF[precision]
        experts, dense = (recipe_for(facts, release, "", "", precision, is_moe=is_moe) for is_moe in (True, False))
        if experts is not None:
            out |= switches(experts.settings, kind, is_moe=True)
        if dense is not None:
            out |= switches(dense.settings, kind, is_moe=False)
    return out


def newest(facts: Facts, stack: str | None = None, by: str = "", of: str = "") -> str | None:
    """The newest release of a stack; by: that was out in this month ("2026-04"), "": of all; of: start of its name."""
    known = [one for one in releases(facts, stack) if one.startswith(of)]
    known = [one for one in known if not by or facts.text(f"recipes.{one}.released") <= by]
    return known[-1] if known else None


def stack_of_plans(facts: Facts, vendor: str) -> str | None:
    """The stack of the release that plans on a vendor's machines are set as; None for a vendor without one."""
    release = said_of_vendor(facts, vendor, RELEASE)
    return None if release is None else stack_of_release(facts, release)


def release_of_plans(facts: Facts, vendor: str, stack: str) -> str | None:
    """The release that plans on a vendor's machines are set as: the one that is theirs, or that a question names, else
    the newest of another stack; None for a vendor without one."""
    release = said_of_vendor(facts, vendor, RELEASE)
    return release if release is None or stack_of_release(facts, release) == stack else newest(facts, stack)


def before(facts: Facts, release: str) -> str | None:
    """The release before one; None for the first."""
    fact = facts.get(f"recipes.{release}.before")
    return None if fact is None else str(fact.value)
