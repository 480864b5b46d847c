"""The words of a question, read and checked before anything is computed. All its problems are told at once.

The command line and the web page read a question with the same functions, so both accept and refuse the same. A question in Python has a reader of its own in
`api`. A problem names the field by the option of the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mowich.errors import UserError, UserErrors, unknown

if TYPE_CHECKING:
    from mowich.facts import Facts
    from mowich.plans.plan import TrainJob
    from mowich.simulate.serving_search import ServeJob
    from mowich.workloads.model import Model


class Problems:
    """Collects `UserError`s so that one run reports every mistake."""

    def __init__(self) -> None:
        self.found: list[UserError] = []

    @contextmanager
    def watch(self, where: str | None = None) -> Iterator[None]:
        """Keep a UserError of the block instead of raising it; `where` is said of those that do not say it themselves."""
        try:
            yield
        except UserErrors as errors:
            self.found += errors.errors
        except UserError as error:
            error.where = error.where or where
            self.found.append(error)

    def add(self, what: str, **details: Any) -> None:
        self.found.append(UserError(what, **details))

    def stop(self) -> None:
        """Raise what was found."""
        if self.found:
            raise self.found[0] if len(self.found) == 1 else UserErrors(self.found)


@dataclass(slots=True)
class Settings:
    """What the --set options say, and the facts they lead to."""

    facts: Facts
    plan: dict[str, str] = field(default_factory=dict)
    term: str = "default"


def read_dirs(dirs: Sequence[Path] | None, problems: Problems) -> None:
    """Note every --facts that is not there."""
    for folder in dirs or ():
        if not folder.exists():
            problems.add("no such directory or file", where="--facts", given=str(folder))


def read_facts(dirs: Sequence[Path] | None, problems: Problems) -> Facts:
    """The shipped facts with the user's directories over them. Stops at once when one is missing: nothing else can be checked."""
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
    from mowich.units import parse_count

    if text is None:
        return None
    with problems.watch():
        value = parse_count(text.removesuffix("tokens").strip(), where=flag, minimum=minimum)
        if maximum is not None and value > maximum:
            raise UserError(f"must be at most {maximum:g}", where=flag, given=text)
        return value
    return None


def read_job(train: bool, tokens: str | None, seq: str | None, batch: str | None, problems: Problems, note: Callable[[str], None],
             *, needs_tokens: bool = True, task: str | None = None, document: str | None = None, fill: float = 1.0) -> TrainJob | None:  # fmt: skip
    """The training job, or None when something is wrong or missing."""
    from mowich.plans.plan import TrainJob
    from mowich.units import parse_batch
    from mowich.workloads.task import parse_task

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
    all_tokens = read_count(tokens, "--tokens", problems)
    per_seq = read_count(seq, "--seq", problems, maximum=1e9)
    if seq and per_seq and seq.strip()[-1:] in "kK":
        note(f"--seq {seq} is {per_seq:.0f} tokens (k is 1000); {seq.strip()[:-1]}Ki is a multiple of 1024")
    seqs: float | None = None
    if batch is not None:
        with problems.watch():
            seqs = parse_batch(batch, per_seq or 1, where="--batch")
            if per_seq and batch.strip().isdigit():
                text = batch.strip()
                note(f"--batch {text} is {text} tokens, {seqs:.6g} sequences; {text} sequences are written {text}seqs")
    kind, lora = parse_task("pretrain")
    with problems.watch():
        kind, lora = parse_task(task or "pretrain", where="--task")
    packed = read_count(document, "--document", problems)
    if packed and per_seq and packed > per_seq:
        problems.add(f"{document} tokens are more than a sequence of {per_seq:.0f}", where="--document")
    if problems.found or per_seq is None or seqs is None:
        return None
    if all_tokens and all_tokens < seqs * per_seq:
        problems.add(
            f"{tokens} tokens are less than one step of {seqs * per_seq:.6g}",
            where="--tokens",
            fix="train on more, or choose a smaller --batch",
        )
        return None
    return TrainJob(
        tokens=all_tokens or seqs * per_seq * fill,
        seq=int(per_seq),
        batch_seqs=seqs,
        task=kind,
        lora=lora,
        document=packed,
        fill=fill,
    )


def check_engine(engine: str | None, problems: Problems) -> None:
    from mowich.simulate.engines import ENGINES

    if engine is not None and engine not in ENGINES:
        problems.found.append(unknown("engine", engine, ENGINES, where="--engine"))


def read_serving(isl: str | None, osl: str | None, ttft: str | None, tpot: str | None, cached: str | None, accept: float | None, engine: str | None,
                 problems: Problems) -> ServeJob | None:  # fmt: skip
    """The serving job, or None when something is wrong or missing; the engine is checked too."""
    from mowich.simulate.serving_search import ServeJob
    from mowich.units import parse

    for flag, value in (("--isl", isl), ("--osl", osl)):
        if value is None:
            problems.add(
                "is required with --serve", where=flag, fix=f"for example {flag} {'8k' if flag == '--isl' else '1k'}"
            )
    prompt, output = read_count(isl, "--isl", problems, maximum=1e8), read_count(osl, "--osl", problems, maximum=1e8)
    limits = {}
    for name, flag, value in (("ttft_s", "--ttft", ttft), ("tpot_s", "--tpot", tpot)):
        if value is not None:
            with problems.watch():
                limits[name] = parse(value, "s", where=flag).value
                if limits[name] <= 0:
                    problems.add("must be above 0", where=flag, given=value)
    share = 0.0
    if cached is not None:
        with problems.watch():
            share = parse(cached if cached.strip().endswith("%") else f"{cached} x", "1", where="--cached").value
            if not 0 <= share < 1:
                problems.add("must lie in 0 to 1", where="--cached", given=cached, allowed="a share such as 0.6 or 60%")
    if accept is not None and not 1 <= accept <= 16:
        problems.add("must lie in 1 to 16", where="--accept", given=accept, allowed="tokens kept per step, such as 2.3")
    check_engine(engine, problems)
    if prompt is None or output is None:
        return None
    return ServeJob(prompt=prompt, output=output, cached=share, accept=accept, **limits)


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
    from mowich.machines.system import resolve

    words = [w.strip() for w in on.split(",") if w.strip()]
    if not words:
        problems.add("names no system", where="--on", fix="for example --on trn3,gb300")
    if single and len(words) > 1:
        problems.add("takes one system", where="--on", given=on, fix="mowich compare takes several")
    for word in dict.fromkeys(w for w in words if words.count(w) > 1):
        problems.add(f"'{word}' is named twice", where="--on")
    taken: dict[tuple[str, int], str] = {}
    for word in dict.fromkeys(words):
        with problems.watch("--on"):
            system = resolve(facts, word, chips=chips if equal in ("chips", "") else None, stack=stack)
            other = taken.setdefault((system.id, system.chips), word)
            if other != word:
                raise UserError(f"'{other}' and '{word}' are the same {system.chips} chips of {system.id}")
    return words


def read_model(name: str, problems: Problems) -> Model | None:
    from mowich.workloads import load

    with problems.watch("MODEL"):
        return load(name)
    return None


def note_chips(chips: float | None, systems: Sequence[str], note: Callable[[str], None]) -> None:
    """Say so when --chips is not what a system gets."""
    if chips is not None and any(":" in s or "*" in s for s in systems):
        note("a size in a system's name wins over --chips")


def note_context(model: Model, tokens: float, flag: str, note: Callable[[str], None]) -> None:
    """Say so when a sequence, asked for by `flag`, is longer than the model was made for."""
    limit = model.learned_positions or model.max_seq
    if limit and tokens > limit:
        note(f"{flag} {tokens:.0f} is longer than the context of {model.name}, {limit} tokens")


def note_answers(model: Model, prompt: float, output: float, note: Callable[[str], None]) -> None:
    """Say so when prompts and answers of serving are longer than the model was made for, and when an answer has no second token."""
    note_context(model, prompt + output, "--isl + --osl =", note)
    if output == 1:
        note("--osl 1: an answer ends with its first token; TPOT is the time that one more would take")


def rerun(
    model: str, loaded: Model, settings: Sequence[str] | None, dirs: Sequence[Path] | None, seed: int
) -> dict[str, Any]:
    """What else is needed to run a result again: the words as they were given, and the size of the model that they named."""
    return {
        "model_given": model,
        "model_params": loaded.params,
        **facts_changes(settings, dirs),
        "seed": seed,
    }


def facts_changes(settings: Sequence[str] | None, dirs: Sequence[Path] | None) -> dict[str, Any]:
    """What the facts of a result were changed by, as it was given: `explain` reads the same facts again."""
    return {"set": list(settings or ()), "facts_dirs": [str(d) for d in dirs or ()]}
