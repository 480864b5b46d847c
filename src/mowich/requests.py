"""The words of a question, read and checked before anything is computed. All its problems are told at once.

The command line and the web page read a question with the same functions, so both accept and refuse the same. Numbers,
jobs and names of systems are read by `asked`, which the Python functions call too. Here a problem names the field by
the option of the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mowich.errors import Problems as Problems
from mowich.errors import UserError, unknown

if TYPE_CHECKING:
    from mowich.facts import Facts
    from mowich.models.model import Model
    from mowich.plans.plan import TrainJob
    from mowich.serving.search import ServeJob


@dataclass(slots=True)
class Settings:
    """What the --set options say, and the facts they lead to."""

    facts: Facts
    plan: dict[str, str] = field(default_factory=dict)
    term: str = "default"


def read_dirs(dirs: Sequence[Path] | None, problems: Problems) -> None:
    """Note every --facts that is not there."""
    from mowich.files import exists

    for folder in dirs or ():
        if not exists(folder):
            problems.add("no such directory or file", where="--facts", given=str(folder))


def read_facts(dirs: Sequence[Path] | None, problems: Problems) -> Facts:
    """The shipped facts with the user's directories over them. Stops at once when one is missing: nothing else can be
    checked."""
    from mowich.facts import load

    read_dirs(dirs, problems)
    problems.stop()
    return load(tuple(dirs or ()))


def read_settings(items: Sequence[str] | None, facts: Facts, problems: Problems) -> Settings:
    """Apply every --set to the facts, or keep it for the search (plan.*) or the prices (prices.term)."""
    from mowich.settings import read_value

    out = Settings(facts=facts)
    changes: dict[str, float | str] = {}
    seen: set[str] = set()
    for item in items or ():
        where = f"--set {item}"
        with problems.watch(where):
            key, equals, value = (part.strip() for part in item.partition("="))
            if not equals or not key or not value:
                raise UserError(
                    "not a setting",
                    where="--set",
                    given=item,
                    allowed="path=value, as in plan.tp=8 or prices.trn3='$1.40/chip/h'",
                )
            value = value.strip("\"'")
            if key in seen:
                raise UserError(
                    f"{key} is set twice", where="--set", fix="several choices of a plan are written plan.tp=4,8"
                )
            seen.add(key)
            if key.startswith("plan."):
                out.plan[key.removeprefix("plan.")] = value
            elif key == "prices.term":
                from mowich.economics.money import TERMS

                if value not in TERMS:
                    raise unknown("price term", value, TERMS, where=where)
                out.term = value
            else:
                path, number = read_value(facts, key, value, where=where)
                changes[path] = number
    if changes and not problems.found:
        out.facts = facts.with_values(changes)
    return out


def read_count(
    text: str | None, flag: str, problems: Problems, *, minimum: float = 1, maximum: float | None = None
) -> float | None:
    from mowich import asked

    if text is None:
        return None
    with problems.watch():
        return asked.count(text, flag, minimum=minimum, maximum=maximum)
    return None


def read_chips(text: str | None, problems: Problems) -> int | None:
    """What --chips says; None where it is not given or wrong."""
    from mowich import asked

    with problems.watch():
        return asked.chips(text, "--chips")
    return None


def read_job(
    train: bool,
    tokens: str | None,
    seq: str | None,
    batch: str | None,
    problems: Problems,
    note: Callable[[str], None],
    *,
    needs_tokens: bool = True,
    task: str | None = None,
    document: str | None = None,
    fill: float = 1.0,
) -> TrainJob | None:
    """The training job, or None when something is wrong or missing."""
    from mowich import asked
    from mowich.units import parse_batch

    if not train:
        problems.add("say what the work is", where="--train", fix="add --train, or --serve for serving")
    required = {"--seq": seq, "--batch": batch, **({"--tokens": tokens} if needs_tokens else {})}
    examples = {
        "--tokens": "--tokens 15T",
        "--seq": "--seq 4096",
        "--batch": "--batch 16384seqs or --batch 64M (tokens)",
    }
    for flag, value in required.items():
        if value is None:
            problems.add("is required with --train", where=flag, fix=f"for example {examples[flag]}")
    job = asked.train(tokens, seq, batch, problems, task=task, document=document, fill=fill)
    if seq and seq.strip()[-1:] in "kK":
        with suppress(UserError):
            per_seq = asked.count(seq, "--seq", maximum=asked.LONGEST)
            note(f"--seq {seq} is {per_seq:.0f} tokens (k is 1000); {seq.strip()[:-1]}Ki is a multiple of 1024")
    if seq and batch and batch.strip().isdigit():
        with suppress(UserError):
            text = batch.strip()
            seqs = parse_batch(text, asked.count(seq, "--seq", maximum=asked.LONGEST))
            note(f"--batch {text} is {text} tokens, {seqs:.6g} sequences; {text} sequences are written {text}seqs")
    return None if problems.found else job


def read_serving(
    isl: str | None,
    osl: str | None,
    ttft: str | None,
    tpot: str | None,
    cached: str | None,
    accept: float | None,
    engine: str | None,
    problems: Problems,
) -> ServeJob | None:
    """The serving job, or None when something is wrong or missing; the engine is checked too."""
    from mowich import asked

    for flag, value in (("--isl", isl), ("--osl", osl)):
        if value is None:
            problems.add(
                "is required with --serve", where=flag, fix=f"for example {flag} {'8k' if flag == '--isl' else '1k'}"
            )
    return asked.serve(isl, osl, problems, ttft=ttft, tpot=tpot, cached=cached, accept=accept, engine=engine)


def read_systems(
    on: str,
    chips: int | None,
    facts: Facts,
    problems: Problems,
    *,
    equal: str = "chips",
    single: bool = False,
    stack: str | None = None,
) -> list[str]:
    """The names of --on, each checked: known, named once, and its number of chips in range."""
    from mowich import asked

    words = on.split(",")
    if single and len([w for w in words if w.strip()]) > 1:
        problems.add("takes one system", where="--on", given=on, fix="mowich compare takes several")
    return asked.systems(words, chips, facts, problems, equal=equal, stack=stack)


def read_model(name: str, problems: Problems) -> Model | None:
    from mowich.models import load

    with problems.watch("MODEL"):
        return load(name)
    return None


def note_chips(chips: int | None, systems: Sequence[str], note: Callable[[str], None]) -> None:
    """Say so when --chips is not what a system gets."""
    if chips is not None and any(":" in s or "*" in s for s in systems):
        note("a size in a system's name wins over --chips")


def note_context(model: Model, tokens: float, flag: str, note: Callable[[str], None]) -> None:
    """Say so when a sequence, asked for by `flag`, is longer than the model was made for."""
    limit = model.learned_positions or model.max_seq
    if limit and tokens > limit:
        note(f"{flag} {tokens:.0f} is longer than the context of {model.name}, {limit} tokens")


def note_answers(model: Model, prompt: float, output: float, note: Callable[[str], None]) -> None:
    """Say so when prompts and answers of serving are longer than the model was made for, and when an answer has no
    second token."""
    note_context(model, prompt + output, "--isl + --osl =", note)
    if output == 1:
        note("--osl 1: an answer ends with its first token; TPOT is the time that one more would take")


def rerun(
    model: str, loaded: Model, settings: Sequence[str] | None, dirs: Sequence[Path] | None, seed: int
) -> dict[str, Any]:
    """What else is needed to run a result again: the words as they were given, and the size of the model that they
    named."""
    return {
        "model_given": model,
        "model_params": loaded.params,
        **facts_changes(settings, dirs),
        "seed": seed,
    }


def facts_changes(settings: Sequence[str] | None, dirs: Sequence[Path] | None) -> dict[str, Any]:
    """What the facts of a result were changed by, as it was given: `explain` reads the same facts again."""
    return {"set": list(settings or ()), "facts_dirs": [str(d) for d in dirs or ()]}
