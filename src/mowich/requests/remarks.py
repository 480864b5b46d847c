"""What a question of a job is told beside its answer: choices that change nothing, or not what they seem to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from mowich.units import is_digits

if TYPE_CHECKING:
    from mowich.facts import Facts
    from mowich.models.model import Model
    from mowich.requests.schema import QuestionReader

_NEAR_CUBE = 2
"""Longest over shortest axis of a slice up to which nothing is said of its shape."""

LengthNote = Callable[[float | None, str], None]
"""Tells that so many tokens, in the words of the question, are longer than a model's context."""


def context_note(reader: QuestionReader, model: Model) -> LengthNote:
    """Says so when a sequence is longer than the model was made for."""
    limit = model.learned_positions or model.max_seq

    def told(tokens: float | None, words: str) -> None:
        if limit and tokens and tokens > limit:
            reader.note(f"{words} {tokens:.0f} is longer than the context of {model.name}, {limit} tokens")

    return told


def note_shapes(reader: QuestionReader, systems: Sequence[str]) -> None:
    """Say so where a slice is far from a cube: every slice is taken as near a cube as its count allows."""
    from mowich.machines.system import parse_spec

    for name in systems:
        axes = [int(axis) for axis in (parse_spec(name)[2] or "").split("x") if is_digits(axis)]
        if len(axes) > 1 and max(axes) > _NEAR_CUBE * min(axes):
            reader.note(f"{name} is taken as {math.prod(axes)} chips in as near a cube as can be, whatever its shape")


def note_tuned(
    reader: QuestionReader, facts: Facts, systems: Sequence[str], stack: str | None, engine: str | None
) -> None:
    """Name the systems for which no kernels written by hand are known, where a question asks for those: they answer
    with the software that their maker ships. And those on which an engine has a build of its own, where it is named."""
    from mowich.machines.system import resolve
    from mowich.software.engine import engine_for
    from mowich.software.vendors import HAND_TUNED

    shipped = []
    if engine == HAND_TUNED:
        found = {name: resolve(facts, name) for name in systems}
        shipped = [n for n, s in found.items() if engine_for(facts, s, HAND_TUNED) == engine_for(facts, s, None)]
    elif stack == HAND_TUNED:
        from mowich.software.stack import equip
        from mowich.training.tuned import has_kernels

        shipped = [name for name in systems if not has_kernels(equip(facts, name))]
    elif engine is not None:
        builds = {name: engine_for(facts, resolve(facts, name), engine) for name in systems}
        for build in sorted({b for b in builds.values() if b != engine}):
            on = ", ".join(name for name, made in builds.items() if made == build)
            reader.note(f"engine {engine} on {on}: {build}")
    if shipped:
        reader.note(f"no kernels written by hand are known for {', '.join(shipped)}: as shipped there")


def note_stacks(
    reader: QuestionReader,
    facts: Facts,
    model: Model,
    systems: Sequence[str],
    stack: str | None,
    fixed: Mapping[str, Sequence[int | str]],
) -> None:
    """Say where training software does not ship what a question asks of it: the model, or a chosen precision; and where
    its support ended. A precision that the search takes by itself needs no word: the answer's page says which are not
    shipped."""
    from mowich.software.releases import SUPPORT_ENDED, release_words, status_of
    from mowich.software.stack import equip

    for name in systems:
        platform = equip(facts, name, stack=stack)
        if not platform.stack.is_adamw and name == systems[0]:
            s = platform.stack
            less = f", {s.matrix_saves_B:g} less of the matrices of layers" if s.matrix_saves_B else ""
            reader.note(
                f"optimizer {s.optimizer}: {s.optimizer_memory_B:g} B a parameter{less}, beside weights and gradients;"
                " how well it trains is not predicted"
            )
        path = f"training.{platform.stack.name}"
        models = facts.get(f"{path}.models")
        if models is not None and model.architecture not in str(models.value).split(", "):
            reader.note(f"{name}: {platform.stack.name} ships {models.value}; {model.name} is a port of one's own")
        chips = facts.get(f"{path}.chips")
        if stack is not None and chips is not None and platform.chip not in str(chips.value).split(", "):
            reader.note(f"{name}: {stack} runs on {chips.value} alone; it is timed as asked")
        for chosen in map(str, fixed.get("precision", ())):
            if chosen in platform.not_shipped:
                reader.note(f"{name}: {platform.stack.name} ships no recipe in {chosen}; it is timed as asked")
        if status_of(facts, path) == SUPPORT_ENDED:
            reader.note(f"{name}: {platform.stack.name} is {release_words(facts, path)['release']}")


def note_formats(
    reader: QuestionReader, facts: Facts, systems: Sequence[str], fixed: Mapping[str, Sequence[int | str]]
) -> None:
    """Say which chosen formats of weights the software of a chip does not serve, and which are multiplied wider because
    the chip has no matrix unit for them. A format that the search takes by itself needs no word."""
    if not fixed.get("weights"):
        return
    from mowich.machines.system import resolve
    from mowich.plans.plan import WEIGHT_ONLY
    from mowich.serving.engines import is_expanded

    for name in systems:
        system = resolve(facts, name)
        served = facts.get(f"chips.{system.chip}.weight_formats")
        for chosen in map(str, fixed["weights"]):
            if served is not None and chosen not in str(served.value).split(", "):
                reader.note(f"{name}: weights are timed in {chosen} as asked; its software serves {served.value}")
            elif chosen not in WEIGHT_ONLY and is_expanded(chosen, system):
                reader.note(f"{name} has no matrix unit for {chosen}: weights are kept so and multiplied in 16 bit")
