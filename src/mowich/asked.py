"""What may be asked: numbers, jobs and machines as people write them, read and checked once for the command line, the
web page and the Python functions.

Each reader adds what is wrong to `Problems`, so that all mistakes are told at once. `place` makes the place of a field:
"--tokens", or "train.tokens".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mowich.errors import Problems, UserError, unknown
from mowich.models.task import parse_task
from mowich.plans.plan import TrainJob
from mowich.software.stack import equip
from mowich.units import parse, parse_batch, parse_count

if TYPE_CHECKING:
    from mowich.facts import Facts
    from mowich.serving.search import ServeJob

Place = Callable[[str], str]
LONGEST = 1e9
"""Most tokens of a sequence of training."""
LONGEST_SERVED = 1e8
"""Most tokens of a prompt, an answer, or a request's cache."""
MOST_PLANS = 1000
LEAST_FILL = 0.01


def flag(field: str) -> str:
    """The place of a field on the command line."""
    return f"--{field}"


def count(value: object, where: str, *, minimum: float = 1, maximum: float | None = None) -> float:
    """A whole number: 16384, "4k", "1T tokens". Raises UserError."""
    text = value.removesuffix("tokens").strip() if isinstance(value, str) else value
    number = parse_count(text, where=where, minimum=minimum)
    if maximum is not None and number > maximum:
        raise UserError(f"must be at most {maximum:g}", where=where, given=value)
    return number


def chips(value: object, where: str) -> int | None:
    """A number of chips; None where none is given. Raises UserError."""
    return None if value is None else int(count(value, where))


def top(value: object, where: str) -> int:
    """How many plans to show. Raises UserError."""
    return int(count(value, where, maximum=MOST_PLANS))


def seconds(value: object, where: str) -> float:
    """A time above 0: "2 s", or a number of seconds. Raises UserError."""
    number = float(value) if _is_number(value) else parse(value, "s", where=where).value  # type: ignore[arg-type]
    if not 0 < number < math.inf:
        raise UserError("must be above 0", where=where, given=value)
    return number


def share(value: object, where: str) -> float:
    """A share from 0 up to 1, without 1: 0.6, "0.6" or "60%". Raises UserError."""
    if _is_number(value):
        number = float(value)  # type: ignore[arg-type]
    else:
        text = value if isinstance(value, str) and value.strip().endswith("%") else f"{value} x"
        try:
            number = parse(text, "1").value
        except UserError:
            raise UserError("not a share", where=where, given=value, allowed="a share such as 0.6 or 60%") from None
    if not 0 <= number < 1:
        raise UserError("must lie in 0 to 1", where=where, given=value, allowed="a share such as 0.6 or 60%")
    return number


def size(value: object, where: str) -> int:
    """Bytes of a buffer, at least one: 1024 or "1GiB", a text rounded to whole bytes. Raises UserError."""
    if isinstance(value, str):
        number = float(round(parse(value.strip(), "B", where=where).value))
    else:
        number = parse_count(value, where=where, minimum=-math.inf)
    if number < 1:
        raise UserError("must be at least 1 byte", where=where, given=value)
    return int(number)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def train(
    tokens: object,
    seq: object,
    batch: object,
    problems: Problems,
    place: Place = flag,
    *,
    task: str | None = None,
    document: object = None,
    fill: object = 1.0,
) -> TrainJob | None:
    """The training job, or None when something is wrong. tokens: None where only the memory is asked for."""
    found = len(problems.found)
    all_tokens = per_seq = seqs = packed = None
    filled = 1.0
    if tokens is not None:
        with problems.watch():
            all_tokens = count(tokens, place("tokens"))
    if seq is not None:
        with problems.watch():
            per_seq = count(seq, place("seq"), maximum=LONGEST)
    if batch is not None:
        with problems.watch():
            seqs = parse_batch(batch, per_seq or 1, where=place("batch"))
    kind, lora = parse_task("pretrain")
    with problems.watch():
        kind, lora = parse_task(task or "pretrain", where=place("task"))
    if document is not None:
        with problems.watch():
            packed = count(document, place("document"))
    with problems.watch():
        filled = parse_count(fill, where=place("fill"), minimum=-math.inf, whole=False)
        if not LEAST_FILL <= filled <= 1.0:
            raise UserError("out of range", where=place("fill"), given=fill, allowed=f"{LEAST_FILL:g} to 1")
    if packed and per_seq and packed > per_seq:
        problems.add(f"{document} tokens are more than a sequence of {per_seq:.0f}", where=place("document"))
    if len(problems.found) > found or per_seq is None or seqs is None:
        return None
    if all_tokens and all_tokens < seqs * per_seq:
        problems.add(
            f"{tokens} tokens are less than one step of {seqs * per_seq:.6g}",
            where=place("tokens"),
            fix=f"train on more, or choose a smaller {place('batch')}",
        )
        return None
    return TrainJob(
        tokens=all_tokens or seqs * per_seq * filled,
        seq=int(per_seq),
        batch_seqs=seqs,
        task=kind,
        lora=lora,
        document=packed,
        fill=filled,
    )


def serve(
    isl: object,
    osl: object,
    problems: Problems,
    place: Place = flag,
    *,
    ttft: object = None,
    tpot: object = None,
    cached: object = None,
    accept: object = None,
    engine: object = None,
) -> ServeJob | None:
    """The serving job, or None when a length is wrong or missing; the engine is checked too."""
    from mowich.serving.search import ServeJob

    lengths: dict[str, float] = {}
    for name, length in (("isl", isl), ("osl", osl)):
        if length is not None:
            with problems.watch():
                lengths[name] = count(length, place(name), maximum=LONGEST_SERVED)
    limits: dict[str, float] = {}
    for name, limit in (("ttft", ttft), ("tpot", tpot)):
        if limit is not None:
            with problems.watch():
                limits[f"{name}_s"] = seconds(limit, place(name))
    kept, tokens = 0.0, None
    if cached is not None:
        with problems.watch():
            kept = share(cached, place("cached"))
    if accept is not None:
        with problems.watch():
            tokens = parse_count(accept, where=place("accept"), minimum=-math.inf, whole=False)
            if not 1 <= tokens <= 16:
                raise UserError(
                    "must lie in 1 to 16",
                    where=place("accept"),
                    given=accept,
                    allowed="tokens kept per step, such as 2.3",
                )
    check_engine(engine, problems, place("engine"))
    if len(lengths) < 2:
        return None
    return ServeJob(prompt=lengths["isl"], output=lengths["osl"], cached=kept, accept=tokens, **limits)


def check_engine(engine: object, problems: Problems, where: str, facts: Facts | None = None) -> None:
    """Add a problem for serving software that the facts do not know."""
    from mowich.facts import load
    from mowich.software.engine import engine_names

    known = engine_names(facts or load())
    if engine is not None and engine not in known:
        problems.found.append(unknown("engine", str(engine), known, where=where))


def systems(
    names: Sequence[str],
    number: int | None,
    facts: Facts,
    problems: Problems,
    where: str = "--on",
    *,
    equal: str = "chips",
    stack: str | None = None,
) -> list[str]:
    """Names of systems, each checked: known, named once, and its number of chips in range."""
    words = [w.strip() for w in names if w.strip()]
    if not words:
        problems.add("names no system", where=where, fix="for example trn3,gb300")
    for word in dict.fromkeys(w for w in words if words.count(w) > 1):
        problems.add(f"'{word}' is named twice", where=where)
    taken: dict[tuple[str, int], str] = {}
    for word in dict.fromkeys(words):
        with problems.watch(where):
            system = equip(facts, word, chips=number if equal in ("chips", "") else None, stack=stack)
            other = taken.setdefault((system.id, system.chips), word)
            if other != word:
                raise UserError(f"'{other}' and '{word}' are the same {system.chips} chips of {system.id}")
    return words
