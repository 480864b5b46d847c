"""What the verbs share: the words for jobs and systems, and a question made of keywords."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypedDict, TypeVar

from mowich import facts as _facts
from mowich.errors import UserError
from mowich.facts import Facts
from mowich.machines.system import System
from mowich.requests.fields import Edge
from mowich.requests.schema import Schema


class Train(TypedDict, total=False):
    """A training job as the verbs take it: a dict.

    Args:
        tokens: to train on, a count or "15T".
        seq: tokens of a sequence.
        batch: sequences of a step, "512seqs", or tokens, "64M"; "512seqs~5%" lets a plan have a batch near it.
        task: "pretrain", "sft", "lora", "lora:16:attention".
        document: mean tokens of documents packed into a sequence.
        fill: share of a sequence that is no padding.
        optimizer: "adamw" (fp32 states), "adamw-bf16", "adamw-8bit", "muon".
        sites: places that train together (DiLoCo), each on these chips with this batch; with it site_link, into
            and out of a site ("100 Gbit/s"), and outer_every, steps between exchanges.

    Units: tokens, sequences, B/s; `fill` is a share.

    Example:
        >>> import mowich
        >>> job: mowich.Train = {"seq": 4096, "batch": "256seqs"}
        >>> mowich.fit("llama-3.1-8b", "trn3:64", train=job)
        True
    """

    tokens: float | str
    seq: float | str
    batch: float | str
    task: str
    document: float | str
    fill: float | str
    optimizer: str
    sites: int
    site_link: float | str
    outer_every: int


class Serve(TypedDict, total=False):
    """A serving job as the verbs take it: a dict.

    Args:
        isl: tokens of a prompt, "8k".
        osl: tokens of an answer, "1k".
        ttft: most seconds to the first token, "2s".
        tpot: most seconds per token, "30ms".
        cached: share of prompts in the prefix cache, 0.6 or "60%", or a trace or scenario that it follows from.
        accept: tokens kept per speculative step.
        engine: "vllm", "sglang", "trtllm", "neuron", ...
        rate: a load, requests per second, "20rps".
        users: a load, users who ask without end.
        think: seconds between an answer and the next question.
        p99_ttft: what 99 of 100 first tokens keep, seconds.
        p99_tpot: the same of a token.

    Units: tokens, seconds, requests per second; `cached` is a share.

    Example:
        >>> import mowich
        >>> job: mowich.Serve = {"isl": "2k", "osl": 200}
        >>> found = mowich.plan("llama-3.1-8b", "h100:8", serve=job, fixed={"tp": "1"}, top=1)
        >>> found.rows[0].tokens_per_s_per_chip.unit
        '1/s'
    """

    isl: float | str
    osl: float | str
    ttft: float | str
    tpot: float | str
    cached: float | str
    accept: float | str
    engine: str
    rate: float | str
    users: float | str
    think: float | str
    p99_ttft: float | str
    p99_tpot: float | str


class Forward(TypedDict, total=False):
    """A job of forward passes as the verbs take it, images and clips or an encoder: a dict.

    Args:
        task: "diffuse" (images, clips) or "encode" (one pass over a batch).
        height: pixels of an image.
        width: pixels of an image.
        frames: images of a clip; without it, one image.
        steps: passes of an image or a clip.
        guidance: forwards of a step, 2 with classifier-free guidance; without it, what the model was made for.
        tokens: of an item, in the place of height, width and frames.
        batch: items at once; without it, searched.
        latency: most seconds of an item, "5s".

    Units: pixels, tokens, seconds.

    Example:
        >>> import mowich
        >>> job: mowich.Forward = {"task": "encode", "tokens": 512, "batch": 8}
        >>> mowich.fit("llama-3.1-8b", "trn3:1", forward=job)
        True
    """

    task: str
    height: int
    width: int
    frames: int
    steps: int
    guidance: int
    tokens: float | str
    batch: int
    latency: float | str


Q = TypeVar("Q")


@contextmanager
def keywords_asked(schema: Schema[Q], facts: Facts | None, **given: object) -> Iterator[Q]:
    """The request that keywords ask for; what the block refuses is told in the names of the keywords."""
    if not isinstance(facts, Facts | None):
        raise UserError("not facts", where="facts", given=facts, fix='mowich.load_facts(["overlay.yaml"])')
    with schema.told(Edge.KEYWORD):
        yield schema.of(facts or _facts.load_facts(), **given)


def names_called(given: Sequence[str | System]) -> list[str]:
    """What the verbs call the systems of a comparison."""
    if isinstance(given, str | System) or not isinstance(given, Iterable):
        name = name_called(given) if isinstance(given, str | System) else None
        fix = None if name is None else f"[{name!r}]"
        raise UserError("compare takes a list of systems", where="systems", given=name or given, fix=fix)
    return [name_called(s) for s in given]


def name_called(system: str | System) -> str:
    """What the verbs call a system."""
    return f"{system.id}:{system.chips}" if isinstance(system, System) else system
