"""Which release of a program a bundle is written for: what pip installs, and the image that holds it."""

from __future__ import annotations

from dataclasses import dataclass

from mowich.facts import Facts
from mowich.launch.arguments import LaunchProgram

IMAGE_ASKED = "IMAGE"
"""Stands for an image that no fact names: it is the user's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """version: as pip takes it, "" where no fact says it; image: with its tag, "" likewise."""

    version: str
    image: str


def pinned(program: LaunchProgram, vendor: str, facts: Facts) -> Pinned:
    """What `facts/launch` says of a program on the chips of a vendor.

    >>> from mowich.facts import load_facts
    >>> from mowich.launch.vllm import VLLM_SERVE
    >>> pinned(VLLM_SERVE, "NVIDIA", load_facts()).image.partition(":")[0]
    'vllm/vllm-openai'
    """
    return pinned_named(fact_name(program), vendor, facts)


def fact_name(program: LaunchProgram) -> str:
    """Where the facts of a program stand: "serving.vllm-neuron", "training.torchtitan"."""
    work = "training" if program.work == "train" else "serving"
    return f"{work}.{program.title.casefold().replace(' ', '-')}"


def pinned_named(name: str, vendor: str, facts: Facts) -> Pinned:
    """`pinned`, by the name of the program's facts. Images of NVIDIA and AWS stand under `image`, those of
    another vendor under `image_<vendor>`."""
    own = "image" if vendor in ("NVIDIA", "AWS", "") else f"image_{vendor.casefold()}"
    return Pinned(version=_text(facts, f"launch.{name}.version"), image=_text(facts, f"launch.{name}.{own}"))


def _text(facts: Facts, path: str) -> str:
    fact = facts.get(path)
    return "" if fact is None or fact.value is None else str(fact.value)
