"""What the verbs share: the words for jobs and systems, and a question made of keywords."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from mowich import facts as _facts
from mowich.errors import UserError
from mowich.facts import Facts
from mowich.machines.system import System
from mowich.requests.fields import Edge
from mowich.requests.schema import QuestionSource, Schema

Train = Mapping[str, object]
"""{"tokens": "15T", "seq": 4096, "batch": "16384seqs" or "64M" (tokens)}; also "task": "sft", "lora:16:attention",
"document": mean tokens of packed documents, "fill": share of a sequence that is no padding."""


Serve = Mapping[str, object]
"""{"isl": "8k", "osl": "1k"}: tokens of a prompt and of an answer; also "ttft": "2s" and "tpot": "30ms" (limits;
numbers are seconds), "cached": share of prompts in the prefix cache, 0.6 or "60%", "accept": tokens kept per
speculative step, "engine": "vllm"."""


Q = TypeVar("Q")


@contextmanager
def keywords_asked(schema: Schema[Q], facts: Facts | None, **given: object) -> Iterator[Q]:
    """The request that keywords ask for; what the block refuses is told in the names of the keywords."""
    source = QuestionSource(edge=Edge.KEYWORD, facts=facts or _facts.load_facts())
    with schema.told(Edge.KEYWORD):
        yield schema.read(given, source)


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
