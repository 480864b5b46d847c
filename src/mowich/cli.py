"""The command line: reads words, calls one study, prints one report.

Everything a user types is checked here, all problems at once, before anything is computed. Results go to stdout, the rest to stderr. Nothing
heavy is imported until a verb runs, so that `mowich --help` is instant. `main` is the only place that turns exceptions into exit codes.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

import mowich
from mowich.cli_kernel import kernel_app
from mowich.errors import (
    EXIT_BAD_INPUT,
    EXIT_BUG,
    EXIT_CHECK_FAILED,
    EXIT_INFEASIBLE,
    EXIT_INTERRUPTED,
    EXIT_OK,
    UserError,
    UserErrors,
    did_you_mean,
    unknown,
)

if TYPE_CHECKING:
    from mowich.facts import Facts
    from mowich.plans.plan import TrainJob
    from mowich.report.table import Style
    from mowich.workloads.model import Model

EXAMPLE = "mowich compare deepseek-v3 --train --tokens 15T --seq 4096 --batch 16384seqs --on trn2,trn3,ironwood,gb300 --chips 16384"

VERSION = getattr(mowich, "__version__", "0+unknown")

HELP = "Trainium 3 in software, beside the machines it competes with: what fits, how fast, what it costs, and why."

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

app = typer.Typer(
    name="mowich", help=HELP, epilog=f"Example: {EXAMPLE}", no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
    context_settings=CONTEXT,
)  # fmt: skip
facts_app = typer.Typer(
    help="Chips, systems, prices, models: numbers with sources.", epilog="Example: mowich facts diff trn3 gb300", no_args_is_help=True,
    rich_markup_mode=None, context_settings=CONTEXT,
)  # fmt: skip
app.add_typer(facts_app, name="facts")
app.add_typer(kernel_app, name="kernel")


# ---- completion: names from local data only -------------------------------------------------------------------------------------------


def complete_model(incomplete: str) -> list[str]:
    """Built-in model names that start with what is typed."""
    from mowich.workloads import names

    return [n for n in names() if n.startswith(incomplete.casefold())]


def complete_systems(incomplete: str) -> list[str]:
    """System names, also behind a comma."""
    from mowich.facts import load

    done, _, word = incomplete.rpartition(",")
    return [f"{done},{n}" if done else n for n in load().ids("systems") if n.startswith(word.casefold())]


# ---- options --------------------------------------------------------------------------------------------------------------------------

ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Built-in name, config.json, or a directory with one.", autocompletion=complete_model
    ),
]
On = Annotated[str, typer.Option("--on", metavar="SYSTEMS", help="trn3, trn3:64 (chips), trn3-gen2*4 (units), ironwood:4x4x8; commas between.",
                                 autocompletion=complete_systems)]  # fmt: skip
Train = Annotated[bool, typer.Option("--train", help="The work is training.")]
Tokens = Annotated[str | None, typer.Option("--tokens", metavar="N", help="Tokens to train on: 15T.")]
Seq = Annotated[str | None, typer.Option("--seq", metavar="N", help="Tokens per sequence: 4096, 4Ki (4k is 4000).")]
Batch = Annotated[str | None, typer.Option("--batch", metavar="N", help="Per step: 16384seqs, or 64M (tokens).")]
Chips = Annotated[
    str | None,
    typer.Option("--chips", metavar="N", help="Chips of each system (else the size in its name, else one unit)."),
]
Equal = Annotated[
    str | None, typer.Option("--equal", metavar="WHAT", help="Footing of --chips: chips, units, usd or power.")
]
Stack = Annotated[
    str | None, typer.Option("--stack", metavar="NAME", help="Training software, for its measured overheads.")
]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change one thing: plan.tp=4,8, prices.trn3='$1.40/chip/h', power.trn3='900 W', "
                                               "prices.term=3y, site.pue=1.1, or any fact. Repeatable.")]  # fmt: skip
FactsDir = Annotated[
    list[Path] | None,
    typer.Option("--facts", metavar="DIR", help="Your own chips, systems and prices, laid over the built-in."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Csv = Annotated[bool, typer.Option("--csv", help="A table on stdout.")]
Plain = Annotated[bool, typer.Option("--plain", help="ASCII, no colour.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr but errors.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Also save the result as JSON (for explain).")]
Seed = Annotated[
    int, typer.Option("--seed", metavar="N", help="Kept with the result; this verb draws nothing at random.")
]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="With any verb: show the traceback of an error.")] = False,
) -> None:
    if version:
        print(f"mowich {VERSION}")
        raise typer.Exit


# ---- reading input: all problems at once ----------------------------------------------------------------------------------------------


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


KEYS = ("plan.tp", "plan.pp", "plan.ep", "plan.precision", "plan.recompute", "prices.term", "prices.trn3", "power.trn3", "site.pue", "site.electricity",
        "site.idle_power_share")  # fmt: skip


def read_dirs(dirs: Sequence[Path] | None, problems: Problems) -> None:
    """Note every --facts that is not a directory."""
    for folder in dirs or ():
        if not folder.is_dir():
            problems.add("no such directory", where="--facts", given=str(folder))


def read_facts(dirs: Sequence[Path] | None, problems: Problems) -> Facts:
    """The shipped facts with the user's directories over them. Stops at once when one is missing: nothing else can be checked."""
    from mowich.facts import load

    read_dirs(dirs, problems)
    problems.stop()
    return load(tuple(dirs or ()))


def read_settings(items: Sequence[str] | None, facts: Facts, problems: Problems) -> Settings:
    """Apply every --set to the facts, or keep it for the search (plan.*) or the prices (prices.term)."""
    from mowich.machines.system import machine_id
    from mowich.units import parse, parse_count

    out = Settings(facts=facts)
    changes: dict[str, float] = {}

    def fact_path(key: str, where: str) -> str:
        root, _, name = key.partition(".")
        if root == "prices" and name and "." not in name:
            return f"prices.user.{machine_id(facts, name)}"
        if root == "power" and name and "." not in name:
            return f"chips.{facts.meta('systems', machine_id(facts, name))['chip']}.power.all_in"
        if root == "site":
            key = f"sites.default.{name}"
        if facts.get(key) is None:
            with_close = did_you_mean(key, KEYS) or _closest_fact(facts, key)
            raise UserError(
                f"unknown setting '{key}'",
                where=where,
                allowed="plan.*, prices.*, power.*, site.*, or a path of `mowich facts show`",
                fix=with_close,
            )
        return key

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
                path = fact_path(key, where)
                fact = facts.fact(path)
                if fact.unit == "text":
                    raise UserError("this fact is a text and cannot be set", where=where)
                if fact.unit in ("", "1") and not value.endswith("%"):
                    whole = path.rsplit(".", 1)[-1] in WHOLE
                    number = parse_count(value, where=where, minimum=1 if whole else 0, whole=whole)
                else:
                    number = parse(value, fact.unit or "1", where=where).value
                if number <= 0:
                    raise UserError("must be above 0", where=where, given=value)
                low, high = bounds(path)
                if not low <= number <= high:
                    raise UserError(
                        "out of range",
                        where=where,
                        given=value,
                        allowed=f"{low:g} to {high:g}" if high < float("inf") else f"at least {low:g}",
                    )
                changes[path] = number
    if changes and not problems.found:
        out.facts = facts.with_values(changes)
    return out


WHOLE = ("devices_per_chip", "chips_per_unit", "chips_per_server", "max_chips", "chips", "axes")
"""Names of facts that count things."""

SHARES = ("_efficiency", "_overlap", "_exposed", "_share", "exposed_inside", "exposed_outside")
"""Ends of the names of facts that are shares of a whole."""


def bounds(path: str) -> tuple[float, float]:
    """What a set value may be by its meaning: a share is at most 1, a facility draws at least what its machines do."""
    name = path.rsplit(".", 1)[-1]
    if name == "pue":
        return 1.0, float("inf")
    return 0.0, 1.0 if name.endswith(SHARES) else float("inf")


def _closest_fact(facts: Facts, key: str) -> str | None:
    """The did-you-mean of the facts themselves."""
    try:
        facts.fact(key)
    except UserError as error:
        return error.fix
    return None


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
             *, needs_tokens: bool = True) -> TrainJob | None:  # fmt: skip
    """The training job, or None when something is wrong or missing."""
    from mowich.plans.plan import TrainJob
    from mowich.units import parse_count

    if not train:
        problems.add("say what the work is", where="--train", fix="add --train (serving comes with a later version)")
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
            text = batch.strip()
            for suffix in ("seqs", "seq"):
                if text.endswith(suffix):
                    seqs = parse_count(text.removesuffix(suffix).strip(), where="--batch")
                    break
            else:
                in_tokens = parse_count(text.removesuffix("tokens").strip(), where="--batch")
                if per_seq:
                    seqs = in_tokens / per_seq
                    if seqs < 1:
                        raise UserError(
                            f"{batch} tokens are less than one sequence of {per_seq:.0f}",
                            where="--batch",
                            fix=f"sequences are written {text}seqs",
                        )
                    if text.isdigit():
                        note(
                            f"--batch {text} is {text} tokens, {seqs:.6g} sequences; {text} sequences are written {text}seqs"
                        )
    if problems.found or per_seq is None or seqs is None:
        return None
    if all_tokens and all_tokens < seqs * per_seq:
        problems.add(
            f"{tokens} tokens are less than one step of {seqs * per_seq:.6g}",
            where="--tokens",
            fix="train on more, or choose a smaller --batch",
        )
        return None
    return TrainJob(tokens=all_tokens or seqs * per_seq, seq=int(per_seq), batch_seqs=seqs)


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


def note_context(model: Model | None, job: TrainJob | None, note: Callable[[str], None]) -> None:
    """Say so when sequences are longer than the model was made for."""
    limit = 0 if model is None else model.learned_positions or model.max_seq
    if model is not None and job is not None and limit and job.seq > limit:
        note(f"--seq {job.seq} is longer than the context of {model.name}, {limit} tokens")


# ---- printing -------------------------------------------------------------------------------------------------------------------------


class Progress:
    """One line on stderr, only on a terminal and only after half a second."""

    def __init__(self, quiet: bool) -> None:
        self._on = sys.stderr.isatty() and not quiet
        self._start = time.monotonic()
        self._text = ""
        self._width = 0
        self._timer = threading.Timer(0.5, self._draw) if self._on else None
        if self._timer:
            self._timer.daemon = True
            self._timer.start()

    def __call__(self, text: str) -> None:
        self._text = text
        if self._on and time.monotonic() - self._start > 0.5:
            self._draw()

    def _draw(self) -> None:
        if self._text:
            sys.stderr.write("\r" + self._text.ljust(self._width))
            sys.stderr.flush()
            self._width = max(self._width, len(self._text))

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
        if self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()
            self._width = 0
        self._text = ""


@contextmanager
def progress(quiet: bool) -> Iterator[Progress]:
    line = Progress(quiet)
    try:
        yield line
    finally:
        line.close()


def noter(quiet: bool) -> Callable[[str], None]:
    """A function that says something on stderr, unless quiet."""
    return (lambda text: None) if quiet else (lambda text: print(f"note: {text}", file=sys.stderr))


def style(plain: bool) -> Style:
    from dataclasses import replace

    from mowich.report.table import style_for_stdout

    found = style_for_stdout(plain=plain)
    if sys.stdout.isatty() and not plain:
        import shutil

        found = replace(found, width=max(80, min(160, shutil.get_terminal_size((100, 24)).columns)))
    return found


def emit(result: Mapping[str, Any], text: Callable[[], str], *, as_json: bool, as_csv: bool, rows: str, out: Path | None = None,
         inputs: Mapping[str, Any] | None = None) -> None:  # fmt: skip
    """Print a result in the form asked for, and save it when asked."""
    from mowich.report.json import to_json

    if out is not None:
        try:
            out.write_text(to_json(result, inputs=inputs), encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot be written ({error.strerror})", where=f"--out {out}") from error
    if as_json:
        sys.stdout.write(to_json(result, inputs=inputs))
    elif as_csv:
        from mowich.report.csv import to_csv

        sys.stdout.write(to_csv(result[rows]))
    else:
        sys.stdout.write(text())


def one_form(as_json: bool, as_csv: bool, problems: Problems) -> None:
    if as_json and as_csv:
        problems.add("choose one of --json and --csv")


def rerun(
    model: str, loaded: Model, settings: Sequence[str] | None, dirs: Sequence[Path] | None, seed: int
) -> dict[str, Any]:
    """What else is needed to run a result again: the words as they were given, and the size of the model that they named."""
    return {
        "model_given": model,
        "model_params": loaded.params,
        "set": list(settings or ()),
        "facts_dirs": [str(d) for d in dirs or ()],
        "seed": seed,
    }


# ---- verbs ----------------------------------------------------------------------------------------------------------------------------


@app.command(short_help="One training job on several systems: the main job.", epilog=f"Example: {EXAMPLE}")
def compare(
    model: ModelName,
    on: On,
    train: Train = False,
    tokens: Tokens = None,
    seq: Seq = None,
    batch: Batch = None,
    chips: Chips = None,
    equal: Equal = None,
    stack: Stack = None,
    settings: Set = None,
    facts: FactsDir = None,
    as_json: Json = False,
    as_csv: Csv = False,
    plain: Plain = False,
    quiet: Quiet = False,
    out: Out = None,
    seed: Seed = 0,
) -> None:
    """The same training job on several systems, each at its best plan: the main job."""
    from mowich.plans.plan import parse_fixed
    from mowich.studies.compare import EQUAL
    from mowich.studies.compare import compare as study

    problems, note = Problems(), noter(quiet)
    one_form(as_json, as_csv, problems)
    known = read_facts(facts, problems)
    chosen = read_settings(settings, known, problems)
    if equal is not None and equal not in EQUAL:
        problems.found.append(unknown("footing", equal, EQUAL, where="--equal"))
    if equal is not None and chips is None:
        problems.add(
            "needs --chips", where="--equal", fix="--chips counts the first system's chips (units with --equal units)"
        )
    count = read_count(chips, "--chips", problems)
    loaded = read_model(model, problems)
    job = read_job(train, tokens, seq, batch, problems, note)
    systems = read_systems(
        on, None if count is None else int(count), chosen.facts, problems, equal=equal or "chips", stack=stack
    )
    fixed: Mapping[str, Sequence[int | str]] = {}
    with problems.watch():
        fixed = parse_fixed(chosen.plan)
    problems.stop()
    assert loaded is not None
    assert job is not None
    note_context(loaded, job, note)
    if count is not None and any(":" in s or "*" in s for s in systems):
        note("a size in a system's name wins over --chips")
    with progress(quiet) as line:
        result = study(loaded, systems, train=job, chips=None if count is None else int(count), equal=equal or "chips", facts=chosen.facts, fixed=fixed,
                       term=chosen.term, stack=stack, progress=line)  # fmt: skip

    def text() -> str:
        from mowich.report.text import compare_text

        return compare_text(result, loaded, style(plain), command_hint=str(out or ""))

    emit(
        result.to_dict(),
        text,
        as_json=as_json,
        as_csv=as_csv,
        rows="rows",
        out=out,
        inputs=rerun(model, loaded, settings, facts, seed),
    )
    if not result.complete:
        print("the systems above were done, the others are left out", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED)
    if not any(row.plan is not None for row in result.rows):
        raise typer.Exit(EXIT_INFEASIBLE)


@app.command(
    short_help="The best plans of one system, and what they trade.",
    epilog="Example: mowich plan llama-3.1-405b --train --tokens 15T --seq 8192 --batch 2048seqs --on trn3:4608 --top 5",
)
def plan(
    model: ModelName,
    on: On,
    train: Train = False,
    tokens: Tokens = None,
    seq: Seq = None,
    batch: Batch = None,
    chips: Chips = None,
    top: Annotated[int, typer.Option("--top", min=1, max=1000, metavar="K", help="Plans to show.")] = 5,
    stack: Stack = None,
    settings: Set = None,
    facts: FactsDir = None,
    as_json: Json = False,
    as_csv: Csv = False,
    plain: Plain = False,
    quiet: Quiet = False,
    out: Out = None,
    seed: Seed = 0,
) -> None:
    """The best plans of one system for a training job, and what they trade."""
    from mowich.plans.plan import parse_fixed
    from mowich.studies.compare import plan as study

    problems, note = Problems(), noter(quiet)
    one_form(as_json, as_csv, problems)
    known = read_facts(facts, problems)
    chosen = read_settings(settings, known, problems)
    count = read_count(chips, "--chips", problems)
    loaded = read_model(model, problems)
    job = read_job(train, tokens, seq, batch, problems, note)
    systems = read_systems(on, None if count is None else int(count), chosen.facts, problems, single=True, stack=stack)
    fixed: Mapping[str, Sequence[int | str]] = {}
    with problems.watch():
        fixed = parse_fixed(chosen.plan)
    problems.stop()
    assert loaded is not None
    assert job is not None
    note_context(loaded, job, note)
    with progress(quiet) as line:
        line(f"searching {systems[0]}")
        result = study(loaded, systems[0], train=job, chips=None if count is None else int(count), facts=chosen.facts, top=top, fixed=fixed, term=chosen.term,
                       stack=stack)  # fmt: skip

    def text() -> str:
        from mowich.report.text import plan_text

        return plan_text(result, loaded, style(plain))

    emit(
        result.to_dict(),
        text,
        as_json=as_json,
        as_csv=as_csv,
        rows="plans",
        out=out,
        inputs=rerun(model, loaded, settings, facts, seed),
    )
    if not any(row.plan is not None for row in result.rows):
        raise typer.Exit(EXIT_INFEASIBLE)


@app.command(
    short_help="Does it fit, what binds, how few chips would do.",
    epilog="Example: mowich fit deepseek-v3 --train --seq 4096 --batch 16384seqs --on trn3",
)
def fit(
    model: ModelName,
    on: On,
    train: Train = False,
    seq: Seq = None,
    batch: Batch = None,
    chips: Chips = None,
    settings: Set = None,
    facts: FactsDir = None,
    as_json: Json = False,
    plain: Plain = False,
    quiet: Quiet = False,
    out: Out = None,
) -> None:
    """Does a training job fit, what takes the memory, and how few chips would do."""
    from mowich.plans.plan import parse_fixed
    from mowich.studies.fit import fit as study

    problems, note = Problems(), noter(quiet)
    known = read_facts(facts, problems)
    chosen = read_settings(settings, known, problems)
    count = read_count(chips, "--chips", problems)
    loaded = read_model(model, problems)
    job = read_job(train, None, seq, batch, problems, note, needs_tokens=False)
    systems = read_systems(on, None if count is None else int(count), chosen.facts, problems, single=True)
    fixed: Mapping[str, Sequence[int | str]] = {}
    with problems.watch():
        fixed = parse_fixed(chosen.plan)
    problems.stop()
    assert loaded is not None
    assert job is not None
    note_context(loaded, job, note)
    with progress(quiet) as line:
        line(f"fitting on {systems[0]}")
        result = study(
            loaded, systems[0], train=job, facts=chosen.facts, chips=None if count is None else int(count), fixed=fixed
        )

    def text() -> str:
        from mowich.report.text import fit_text

        return fit_text(result, loaded, style(plain), given=model)

    emit(
        result.to_dict(),
        text,
        as_json=as_json,
        as_csv=False,
        rows="",
        out=out,
        inputs=rerun(model, loaded, settings, facts, 0),
    )
    if result.fits is False:
        raise typer.Exit(EXIT_INFEASIBLE)


@app.command(
    name="model",
    short_help="Parameters, FLOP and bytes per token, by layer.",
    epilog="Example: mowich model deepseek-v3   or   mowich model ./config.json --seq 8192 --json",
)
def model_(
    model: ModelName,
    seq: Seq = None,
    kv_bytes: Annotated[
        float, typer.Option("--kv-bytes", min=0.25, max=8, metavar="B", help="Bytes per element of the KV cache.")
    ] = 2.0,
    as_json: Json = False,
    as_csv: Csv = False,
    plain: Plain = False,
    quiet: Quiet = False,
    out: Out = None,
) -> None:
    """Parameters (total, active), FLOP and bytes per token, by kind of layer."""
    from mowich.workloads.view import DEFAULT_SEQ, model_view

    problems = Problems()
    one_form(as_json, as_csv, problems)
    length = read_count(seq, "--seq", problems, maximum=1e9)
    loaded = read_model(model, problems)
    problems.stop()
    assert loaded is not None
    view = model_view(loaded, seq=int(length or DEFAULT_SEQ), bytes_per_element=kv_bytes)

    def text() -> str:
        from mowich.report.text import model_text

        return model_text(view, style(plain))

    emit(view.to_dict(), text, as_json=as_json, as_csv=as_csv, rows="layers", out=out)


@app.command(
    short_help="Formula, numbers and sources of one number.",
    epilog="Example: mowich explain r.json trn3-gen2.step_s.ep   (r.json from mowich compare ... --out r.json)",
)
def explain(
    result: Annotated[
        Path, typer.Argument(metavar="RESULT", help="JSON of compare or plan (--out or --json); - reads stdin.")
    ],
    metric: Annotated[
        str,
        typer.Argument(
            metavar="SYSTEM.METRIC",
            help="trn3.step_s, trn3.step_s.ep, trn3.memory_B, gb300.usd_per_mtok, 1.mfu (row number).",
        ),
    ],
    plain: Plain = False,
    quiet: Quiet = False,
) -> None:
    """Formula, numbers, facts and sources of one number of a result."""
    import json

    from mowich.studies.explain import check_result
    from mowich.studies.explain import explain as study

    where = str(result)
    try:
        data = json.loads(sys.stdin.read() if where == "-" else result.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"cannot be read ({error.strerror})", where=where, fix="mowich compare ... --out FILE writes one"
        ) from error
    except ValueError as error:
        raise UserError(f"not JSON: {error}", where=where) from error
    if not isinstance(data, dict) or data.get("schema") not in ("mowich/compare@1", "mowich/plan@1"):
        raise UserError("not a result that can be explained", where=where, given=data.get("schema") if isinstance(data, dict) else type(data).__name__,
                        allowed="mowich/compare@1, mowich/plan@1")  # fmt: skip
    check_result(data, where)
    problems = Problems()
    inputs = data["inputs"]
    known = read_facts([Path(d) for d in inputs.get("facts_dirs", ())], problems)
    chosen = read_settings(inputs.get("set", ()), known, problems)
    loaded = read_model(str(inputs.get("model_given", inputs.get("model"))), problems)
    problems.stop()
    assert loaded is not None
    if inputs.get("model_params", loaded.params) != loaded.params:
        raise UserError(f"'{loaded.name}' is not the model of this result", where=where, given=f"{loaded.params} parameters", allowed=f"{inputs['model_params']}",
                        fix="run explain where compare was run")  # fmt: skip
    if data.get("facts_hash") not in (None, chosen.facts.hash()):
        noter(quiet)(
            f"the facts have changed since {where} was made ({data['facts_hash']}, now {chosen.facts.hash()}): terms are of now"
        )
    found = study(data, metric, loaded, chosen.facts)
    from mowich.report.explain import explain_text

    sys.stdout.write(explain_text(found, chosen.facts, style(plain)))


@app.command(
    short_help="Predicted against measured, by chip and source.",
    epilog="Example: mowich validate   or   mowich validate my_runs.csv --json",
)
def validate(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE.csv]",
            help="Measured training runs; without it, the published ones that ship.",
            show_default=False,
        ),
    ] = None,
    settings: Set = None,
    facts: FactsDir = None,
    as_json: Json = False,
    as_csv: Csv = False,
    plain: Plain = False,
    quiet: Quiet = False,
    out: Out = None,
) -> None:
    """Predicted against measured: errors by chip and by source."""
    from mowich.studies.validate import validate as study

    problems = Problems()
    one_form(as_json, as_csv, problems)
    known = read_facts(facts, problems)
    chosen = read_settings(settings, known, problems)
    if chosen.plan or chosen.term != "default":
        problems.add("validate takes each row's own plan and no price", where="--set", allowed="paths of facts")
    problems.stop()
    with progress(quiet) as line:
        line("predicting")
        result = study(file, chosen.facts)

    def text() -> str:
        from mowich.report.text import validate_text

        return validate_text(result, style(plain))

    emit(result.to_dict(), text, as_json=as_json, as_csv=as_csv, rows="rows", out=out)


# ---- facts ----------------------------------------------------------------------------------------------------------------------------


def fact_rows(facts: Facts, paths: Sequence[str]) -> list[dict[str, Any]]:
    from dataclasses import asdict

    from mowich.report.facts import leaves

    return [asdict(fact) for path in paths for fact in leaves(facts, path)]


@facts_app.command("list", epilog="Example: mowich facts list chips")
def facts_list(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="[KIND]", help="chips, systems, prices, models, ...; without it, all.", show_default=False
        ),
    ] = None,
    facts: FactsDir = None,
    as_json: Json = False,
    as_csv: Csv = False,
    plain: Plain = False,
) -> None:
    """What is known: chips, systems, prices, models and the rest."""
    from mowich.report.facts import KINDS, list_text
    from mowich.workloads import names

    problems = Problems()
    one_form(as_json, as_csv, problems)
    if kind is not None and kind not in (*KINDS, "models"):
        problems.found.append(unknown("kind", kind, (*KINDS, "models")))
    problems.stop()
    known = read_facts(facts, problems)
    chosen = [k for k in KINDS if kind in (None, k)]
    entries = [
        {"kind": k, "id": i, **{x: y for x, y in known.meta(k, i).items() if isinstance(y, str) and x != "id"}}
        for k in chosen
        for i in known.ids(k)
    ]
    if kind in (None, "models"):
        entries += [{"kind": "models", "id": n} for n in names()]

    def text() -> str:
        shown = list_text(known, chosen, style(plain)) if chosen else ""
        if kind in (None, "models"):
            from mowich.report.table import wrap

            models = "\n".join(wrap(", ".join(names()), style(plain), hang=0))
            shown = f"  models (mowich model NAME)\n{models}\n" + ("\n" + shown if shown else "")
        return shown

    result = {"schema": "mowich/facts@1", "facts_hash": known.hash(), "entries": entries}
    emit(result, text, as_json=as_json, as_csv=as_csv, rows="entries")


@facts_app.command("show", epilog="Example: mowich facts show trn3   or   mowich facts show chips.trainium3.memory")
def facts_show(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...",
            help="A chip, a system, an id, or the path of a fact or group.",
            autocompletion=complete_systems,
        ),
    ],
    facts: FactsDir = None,
    as_json: Json = False,
    as_csv: Csv = False,
    plain: Plain = False,
) -> None:
    """Every number of one thing: value, range, grade, source, locator, date."""
    from mowich.report.facts import locate, show_text

    problems = Problems()
    one_form(as_json, as_csv, problems)
    known = read_facts(facts, problems)
    paths: list[str] = []
    for name in names:
        with problems.watch():
            paths += locate(known, name)
    problems.stop()
    result = {"schema": "mowich/facts@1", "facts_hash": known.hash(), "facts": fact_rows(known, paths)}
    emit(
        result,
        lambda: "".join(show_text(known, n, style(plain)) for n in names),
        as_json=as_json,
        as_csv=as_csv,
        rows="facts",
    )


@facts_app.command("diff", epilog="Example: mowich facts diff trn3 gb300")
def facts_diff(
    one: Annotated[str, typer.Argument(metavar="A", autocompletion=complete_systems)],
    two: Annotated[str, typer.Argument(metavar="B", autocompletion=complete_systems)],
    facts: FactsDir = None,
    as_json: Json = False,
    as_csv: Csv = False,
    plain: Plain = False,
) -> None:
    """Two chips or systems side by side."""
    from mowich.report.facts import diff_paths, diff_text

    problems = Problems()
    one_form(as_json, as_csv, problems)
    known = read_facts(facts, problems)
    rows = []
    with problems.watch():
        rows = [{"field": name, **{f"{side}_{k}": getattr(fact, k, None) for side, fact in (("a", x), ("b", y)) for k in ("value", "unit", "low", "high", "grade")}}
                for name, x, y in diff_paths(known, one, two)]  # fmt: skip
    problems.stop()
    result = {"schema": "mowich/facts-diff@1", "facts_hash": known.hash(), "a": one, "b": two, "rows": rows}
    emit(result, lambda: diff_text(known, one, two, style(plain)), as_json=as_json, as_csv=as_csv, rows="rows")


@facts_app.command("check", epilog="Example: mowich facts check --facts ./my-facts")
def facts_check(facts: FactsDir = None, quiet: Quiet = False) -> None:
    """Schema, units, sources and ranges of every fact; exit 5 when one is wrong."""
    from mowich.facts.load import check_files, load, shipped

    problems = Problems()
    read_dirs(facts, problems)
    problems.stop()
    known = load()
    errors = check_files(shipped(), known)
    for folder in facts or ():
        errors += check_files(folder, known, is_overlay=True)
    if not errors and facts:
        with problems.watch():
            load(tuple(facts)).sources  # noqa: B018  reading them is the check
        errors += problems.found
    for error in errors:
        complain(error.line())
    if errors:
        raise typer.Exit(EXIT_CHECK_FAILED)
    if not quiet:
        print("facts check: ok")


@facts_app.command("schema", epilog="Example: mowich facts schema > facts.schema.json")
def facts_schema() -> None:
    """JSON Schema of the files in --facts DIR, for editors."""
    import json

    from mowich.report.facts import json_schema

    sys.stdout.write(json.dumps(json_schema(), indent=1) + "\n")


# ---- exit codes -----------------------------------------------------------------------------------------------------------------------


def complain(text: str) -> None:
    """Errors on stderr, one line each."""
    for line in text.splitlines():
        print(f"error: {line}", file=sys.stderr)


def usage_line(error: Any) -> str:
    """A usage error of the parser as one line, with the closest flag or verb."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "mowich"
    text = " ".join(error.format_message().split()).split(" (Possible options")[0].split(" Did you mean")[0].rstrip(".")
    given = getattr(error, "option_name", None)
    if given and context:
        known = [
            flag
            for parameter in context.command.params
            for flag in (*parameter.opts, *parameter.secondary_opts)
            if flag.startswith("-")
        ]
        hint = did_you_mean(given, known)
    elif text.startswith("No such command") and context:
        given = text.split("'")[1] if "'" in text else ""
        hint = did_you_mean(given, context.command.list_commands(context))
    else:
        hint = None
    text = text[:1].lower() + text[1:]
    return f"{text}; {hint or 'see ' + path + ' --help'}"


def run(args: Sequence[str]) -> int:
    """Run one command line; the exit code."""
    words = [w for w in args if w != "--debug"]
    debug = len(words) < len(args)
    usage: Any = typer.BadParameter.__mro__[1]  # UsageError and its base, wherever typer keeps click
    base: Any = usage.__mro__[1]
    try:
        code = typer.main.get_command(app).main(words, prog_name="mowich", standalone_mode=False)
        sys.stdout.flush()
        if code == EXIT_INTERRUPTED:  # typer makes this of Ctrl-C, without a word
            print("interrupted", file=sys.stderr)
        return code if isinstance(code, int) else EXIT_OK
    except UserError as error:
        if debug:
            raise
        complain(error.line())
        return error.code
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except base as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
            return EXIT_BAD_INPUT
        if debug:
            raise
        complain(usage_line(error))
        return EXIT_BAD_INPUT
    except Exception as error:
        if debug:
            raise
        words_of = " ".join(str(error).split())
        complain(f"this is a bug in mowich {VERSION}: {type(error).__name__}: {words_of}; --debug shows the traceback")
        return EXIT_BUG


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Entry point."""
    sys.exit(run(sys.argv[1:] if args is None else args))
