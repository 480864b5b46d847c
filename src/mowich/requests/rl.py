"""rl: one run of reinforcement learning, or the search for its split over vendors.

The fields are told once. Options, keywords of Python and bodies are views of them as of every verb, and so are the keys
of a scenario (`KEYS`): a file gives values to the same reader, which says file and line in the place of an option.
What is given beside a file wins over it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mowich.errors import UserError, unknown
from mowich.requests.common import AS, FORM, LEGEND, MODEL, SEED, Asked, asked_model, form_of, loaded, words_of_model
from mowich.requests.fields import (
    TYPED,
    Edge,
    Field,
    count,
    flag,
    names,
    number,
    path,
    quantity,
    read_count,
    read_share,
    share,
    whole,
    word,
)
from mowich.requests.scenarios import YAML
from mowich.requests.schema import QuestionReader, Schema
from mowich.requests.settings import OF_FACTS, PRICE_KIND, TERM, asked_kind, given_of, read_settings

if TYPE_CHECKING:
    from mowich.facts import Facts
    from mowich.models.model import Model
    from mowich.rl.job import Algorithm, BatchOrder, Placement, RlJob
    from mowich.rl.lengths import Lengths
    from mowich.scenario import Node

T = TypeVar("T")

LONGEST_ANSWER = 1e7
"""Most tokens of an answer."""
MOST_SAMPLES = 1_000_000
"""Most samples of a step."""
MOST_STALE = 64
_OPEN = frozenset({Edge.OPTION, Edge.KEYWORD})
_NOT_TYPED = frozenset({Edge.KEYWORD, Edge.KEY})


# ---- kinds of values
# ----------------------------------------------------------------------------------------------------------------------


def read_pairs(value: object) -> dict[str, str]:
    """Name -> text: "tp=4,dp=2", or a mapping. A value of several choices is written with "|": "tp=4|8".

    >>> read_pairs("tp=4, ep=8"), read_pairs({"tp": 4})
    ({'tp': '4', 'ep': '8'}, {'tp': '4'})
    """
    if isinstance(value, str):
        words = value.replace("|", " | ").split(",")
        pairs = [tuple(part.strip() for part in word.partition("=")) for word in words if word.strip()]
        for name, equals, text in pairs:
            if not (name and equals and text):
                raise UserError("not a list of choices", given=value, allowed="name=value with commas: tp=4,ep=8")
        value = dict[object, object]([(name, text.replace(" | ", ",")) for name, _, text in pairs])
        if len(value) < len(pairs):
            raise UserError("a choice is given twice", given=", ".join(name for name, _, _ in pairs))
    if not isinstance(value, Mapping) or not value or not all(isinstance(key, str) for key in value):
        raise UserError("not a mapping of choices", given=value, allowed="{tp: 4, ep: 8}")
    texts = {str(key).removeprefix("plan."): one for key, one in value.items()}
    return {key: ",".join(map(str, one)) if isinstance(one, list | tuple) else str(one) for key, one in texts.items()}


def read_quantiles(value: object) -> dict[float, float]:
    """Share -> tokens: "p50=900,p99=3800", or a mapping.

    >>> read_quantiles({"p50": 900, "p99": "4k"})
    {0.5: 900.0, 0.99: 4000.0}
    """
    out: dict[float, float] = {}
    for name, text in read_pairs(value).items():
        try:
            percent = float(name.removeprefix("p"))
        except ValueError:
            percent = math.nan
        if not (name.startswith("p") and 0.0 <= percent <= 100.0):
            raise UserError("not a quantile", given=name, allowed="p0 to p100, as in p50")
        out[percent / 100.0] = read_count(text, 1, LONGEST_ANSWER)
    shares = sorted(out)
    for low, high in pairwise(shares):
        if out[high] < out[low]:
            raise UserError(f"p{high * 100:g} is below p{low * 100:g}", given=f"{out[high]:g} and {out[low]:g} tokens")
    if len(shares) < 2:
        raise UserError("needs two quantiles or more", given=value, allowed="{p50: 900, p90: 2500, p100: 4096}")
    return out


def read_whole_share(value: object) -> float:
    """A share above 0, up to 1."""
    found = read_share(value, most=1.0)
    if found == 0.0:
        raise UserError("must be above 0", given=value, allowed="a share such as 0.6 or 60%")
    return found


def read_switch(value: object) -> bool:
    """Yes or no, of a file or a flag."""
    if not isinstance(value, bool):
        raise UserError("yes or no", given=value, allowed="true, false")
    return value


@cache
def _words(name: str) -> tuple[str, ...]:
    """A vocabulary of `rl.job`, which brings arrays."""
    from mowich.rl import job

    return tuple(getattr(job, name))


def _word(name: str, help: str, vocabulary: str, example: str, **more: object) -> Field[str]:
    """A word of a vocabulary of `rl.job`."""
    from mowich.requests.fields import read_word

    return Field(
        name=name,
        parse=lambda value: read_word(value, _words(vocabulary), name),
        kind="word",
        help=help,
        metavar="WORD",
        example=example,
        **more,  # type: ignore[arg-type]
    )


def _pairs(name: str, help: str, parse: Callable[[object], T], example: str, option: str = "") -> Field[T]:
    return Field(name=name, parse=parse, kind="mapping", help=help, metavar="PAIRS", option=option, example=example)


def _model(name: str, help: str, option: str = "") -> Field[object]:
    """A further model."""
    return Field(
        name=name,
        parse=lambda value: value,
        kind="object",
        help=help,
        metavar="MODEL",
        option=option,
        example="llama-3.1-70b",
        completes="model",
    )


def _switch(name: str, help: str) -> Field[bool]:
    """Yes or no; neither where it is not given."""
    return Field(name=name, parse=read_switch, kind="flag", help=help, negative=f"--no-{name}")


# ---- the fields
# ----------------------------------------------------------------------------------------------------------------------

QUESTION = replace(
    MODEL,
    needs=False,
    metavar="[MODEL]",
    help="Built-in name, config.json; or a scenario: FILE.yaml, the name of one that ships, its text in braces.",
)
TEXT = replace(YAML, needs=False, help="A scenario as YAML (docs/rl.md), in the place of a model.")
ALGORITHM = _word("algorithm", "grpo, ppo, dapo, distill.", "ALGORITHMS", "grpo", edges=_NOT_TYPED)
GRPO = flag("grpo", "Groups of answers to a prompt, rewarded against each other.", edges=TYPED)
PPO = flag("ppo", "With a critic, which is trained too.", edges=TYPED)
DAPO = flag("dapo", "Groups that all fail or all succeed are dropped (--acceptance).", edges=TYPED)
TEACHER = _model("teacher", "Learn from a teacher that rates the model's own answers.", option="--distill")
CRITIC = _model("critic", "The critic of ppo, where it is another model.")
PROMPTS = whole("prompts", "Prompts of a step.", high=MOST_SAMPLES, metavar="N", example="64")
SAMPLES = whole("samples", "Answers to each prompt.", high=MOST_SAMPLES, metavar="N", example="32")
STEP_SAMPLES = whole(
    "batch", "Samples of a step, with one of the two above.", high=MOST_SAMPLES, metavar="N", example="2048"
)
GLOBAL_BATCH = whole(
    "global_batch", "Samples of an optimizer step (else all of a step).", high=MOST_SAMPLES, metavar="N", example="512"
)
EPOCHS = whole("epochs", "How often a batch is trained on.", high=100, metavar="N", default=1, shown="1")
MEAN = count("mean", "Mean tokens of an answer.", high=LONGEST_ANSWER, metavar="N", example="3200")
CAP = count("cap", "Longest answer in tokens.", high=LONGEST_ANSWER, metavar="N", example="4096")
SIGMA = number(
    "sigma", "Spread of a lognormal length (else 0.7).", low=0.0, high=3.0, above=True, metavar="X", example="0.7"
)
QUANTILES = _pairs("quantiles", "Lengths in place of a mean: p50=900,p90=2500.", read_quantiles, "p50=900,p90=2500")
LENGTHS_FILE = path("lengths", "Lengths of a run's answers: a CSV.", metavar="FILE.csv", edges=_OPEN)
COLUMN = word("column", "Its column (else tokens).", metavar="NAME", example="tokens", edges=_OPEN)
PROMPT = count("prompt", "Mean tokens of a prompt.", high=LONGEST_ANSWER, metavar="N", example="150")
MAX_SEQUENCE = count(
    "max_sequence",
    "Longest sequence that is trained on (else prompt + cap).",
    high=2 * LONGEST_ANSWER,
    metavar="N",
    example="4096",
)
REFERENCE = _switch("reference", "Whether a reference model reads each batch (a KL term).")
ACCEPTANCE: Field[float] = replace(
    share("acceptance", "Share of groups that dynamic sampling keeps: 60%.", metavar="SHARE", example="60%"),
    parse=read_whole_share,
)
PLACEMENT = _word("placement", "colocated: both sides take turns on the same chips; split.", "PLACEMENTS", "split")
STALENESS = whole(
    "staleness",
    "Steps by which weights that answer may be behind.",
    low=0,
    high=MOST_STALE,
    metavar="N",
    example="1",
)
ORDER = _word("order", "Groups that an update takes: started or finished first.", "ORDERS", "finished")
PARTIAL = _switch("partial", "Whether new weights reach answers that are being made.")
ON = names(
    "on",
    "h100:32: both sides there; with --chips: systems to split over.",
    metavar="SYSTEMS",
    example="h100:32",
    completes="systems",
)
CHIPS = whole("chips", "Chips in all: find how many roll out and train.", low=2, metavar="N", example="512")
GOAL = word(
    "goal",
    "Of the search: cost, dollars of a token; time, of a step.",
    words=("cost", "time"),
    what="goal",
    metavar="WORD",
    default="cost",
    shown="cost",
    example="time",
)
BUDGET = number(
    "budget",
    "With time: most dollars per million trained tokens.",
    low=0.0,
    above=True,
    metavar="USD",
    example="1.5",
)
ROLLOUTS_ON = word("rollouts", "Rollouts: trn3:64.", metavar="SYSTEM", example="trn3:64", completes="systems")
TRAINER_ON = word("trainer", "Updates: gb300:72.", metavar="SYSTEM", example="gb300:72", completes="systems")
ENGINE = word("engine", "Of rollouts: vllm, sglang, trtllm, neuron...", metavar="NAME", example="vllm")
RELEASE = word("release", "Of the engine: 0.10.", metavar="NAME", example="0.10")
ROLLOUT_PLAN = _pairs("rollout_plan", "Of a worker: tp=4,weights=fp8.", read_pairs, "tp=4")
MEMORY_SHARE: Field[float] = replace(
    share("memory_share", "Of a device that the engine may use.", metavar="SHARE", example="60%"),
    parse=read_whole_share,
)
KEPT_TOKENS = number(
    "accept",
    "Tokens kept per speculative step.",
    low=1.0,
    high=16.0,
    allowed="tokens kept per step, such as 2.3",
    metavar="N",
    example="2.3",
)
DRAFTS = whole("drafts", "Tokens drafted per speculative step.", high=32, metavar="N", example="3")
STACK = word("stack", "Training software.", metavar="NAME", example="megatron")
TRAINER_PLAN = _pairs("trainer_plan", "Choices: tp=2,pp=4,precision=bf16.", read_pairs, "tp=2,pp=4")
FRAMEWORK = word("framework", "nemo-rl, verl, ... or with its release: NAME@0.5.", metavar="NAME", example="nemo-rl")
SYNC = word("sync", "How new weights reach the workers (docs/rl.md).", metavar="METHOD", example="reshard")
LINK = quantity("link", "B/s", "Between the sites of both sides.", metavar="RATE", example="100Gbit/s")
TURNS = number(
    "turns", "Of the model in a sample, tools called between.", low=1.0, high=1000.0, metavar="N", example="8"
)
CALL = quantity("call", "s", "Mean time of a call between two turns.", above=False, metavar="TIME", example="2s")
REWARD = quantity("reward", "s", "Mean time until a sample's reward.", above=False, metavar="TIME", example="1s")
JUDGE = _model("judge", "A model that rewards, on chips of its own.")
JUDGE_ON = word("judge_on", "Its chips: h100:8.", metavar="SYSTEM", example="h100:8", completes="systems")
JUDGE_TOKENS = count(
    "judge_tokens", "Tokens that it writes for a sample.", high=LONGEST_ANSWER, metavar="N", example="500"
)
TIMELINE = path("timeline", "A few steps of the run: .json (ui.perfetto.dev) or .svg.", metavar="FILE", edges=TYPED)

KEYS: Mapping[str, Field[object]] = {
    "model": QUESTION,
    "algorithm": ALGORITHM,
    "teacher": TEACHER,
    "critic": CRITIC,
    "prompts": PROMPTS,
    "samples": SAMPLES,
    "batch": STEP_SAMPLES,
    "global_batch": GLOBAL_BATCH,
    "epochs": EPOCHS,
    "lengths.mean": MEAN,
    "lengths.cap": CAP,
    "lengths.sigma": SIGMA,
    "lengths.quantiles": QUANTILES,
    "lengths.csv": LENGTHS_FILE,
    "lengths.column": COLUMN,
    "prompt": PROMPT,
    "max_sequence": MAX_SEQUENCE,
    "reference": REFERENCE,
    "acceptance": ACCEPTANCE,
    "placement": PLACEMENT,
    "staleness": STALENESS,
    "order": ORDER,
    "partial": PARTIAL,
    "on": ON,
    "chips": CHIPS,
    "goal": GOAL,
    "budget": BUDGET,
    "rollouts.on": ROLLOUTS_ON,
    "rollouts.engine": ENGINE,
    "rollouts.release": RELEASE,
    "rollouts.plan": ROLLOUT_PLAN,
    "rollouts.memory_share": MEMORY_SHARE,
    "rollouts.accept": KEPT_TOKENS,
    "rollouts.drafts": DRAFTS,
    "trainer.on": TRAINER_ON,
    "trainer.stack": STACK,
    "trainer.plan": TRAINER_PLAN,
    "framework": FRAMEWORK,
    "sync.method": SYNC,
    "sync.link": LINK,
    "environment.turns": TURNS,
    "environment.call": CALL,
    "environment.reward": REWARD,
    "environment.judge.model": JUDGE,
    "environment.judge.on": JUDGE_ON,
    "environment.judge.tokens": JUDGE_TOKENS,
    "price": PRICE_KIND,
}
"""Key of a scenario -> the field that it gives, in the order of docs/rl.md."""


# ---- the request
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedLengths:
    """Lengths of answers as they were stated. quantiles: share -> tokens; tokens: of the answers of a run, in file
    order; mean, sigma: of a lognormal length, where neither is stated."""

    cap: float
    mean: float | None = None
    sigma: float | None = None
    quantiles: Mapping[float, float] | None = None
    tokens: tuple[float, ...] | None = None

    def lengths(self) -> Lengths:
        """The whole distribution. Raises UserError for a mean that is not between 0 and the cap."""
        from mowich.rl.lengths import Lengths

        if self.tokens is not None:
            return Lengths.of_answers(self.tokens, cap=self.cap)
        if self.quantiles is not None:
            return Lengths.of_quantiles(self.quantiles, cap=self.cap)
        assert self.mean is not None
        assert self.sigma is not None
        return Lengths.lognormal(mean=self.mean, cap=self.cap, sigma=self.sigma)

    def to_dict(self) -> dict[str, object]:
        """As results state them."""
        spread = {f"p{share * 100:g}": tokens for share, tokens in (self.quantiles or {}).items()} or None
        told = {"mean": self.mean, "cap": self.cap, "sigma": self.sigma, "quantiles": spread}
        rows = {} if self.tokens is None else {"answers": len(self.tokens)}
        return {**{key: value for key, value in told.items() if value is not None}, **rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedJudge:
    """A model that rewards. on: its chips; tokens: that it writes for a sample."""

    model: Model
    on: str
    tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RlRequest(Asked):
    """One run, or the search for its split. systems: where both sides are (colocated), or what may be split over with
    `chips` in all (None: no search), by the goal and within the budget, USD per million tokens; rollouts, trainer: where each side is (None: it is in `systems`); rollout_plan,
    trainer_plan: choices as `parse_serving` and `parse_fixed` give them; framework_release: "" the newest; accept:
    tokens kept per speculative step; call_s, reward_s: seconds; assumed: what nobody stated and was taken, in words;
    places: how each field is spelled where the question was put; again: what was given, by field, as JSON has it."""

    model: Model
    model_given: str
    algorithm: Algorithm
    prompts: int
    samples: int
    global_batch: int
    epochs: int
    lengths: AskedLengths
    prompt: float
    max_sequence: float
    reference: bool
    critic: Model | None
    teacher: Model | None
    acceptance: float
    placement: Placement
    staleness: int
    order: BatchOrder
    partial: bool
    systems: tuple[str, ...]
    chips: int | None
    goal: str
    budget: float | None
    rollouts: str | None
    trainer: str | None
    engine: str | None
    release: str | None
    rollout_plan: Mapping[str, tuple[int | str, ...]]
    memory_share: float | None
    accept: float | None
    drafts: int
    stack: str | None
    trainer_plan: Mapping[str, tuple[int | str, ...]]
    framework: str
    framework_release: str
    sync: str
    link_Bps: float | None
    turns: float
    call_s: float
    reward_s: float
    judge: AskedJudge | None
    term: str
    seed: int
    timeline: Path | None
    assumed: tuple[str, ...]
    places: Mapping[str, str] = field(default_factory=dict)
    again: Mapping[str, object] = field(default_factory=dict)

    @property
    def step_samples(self) -> int:
        """Samples of a step."""
        return self.prompts * self.samples

    def job(self) -> RlJob:
        """The run without machines; a judge's rate and chips are not in it."""
        from mowich.rl.job import Environment, Pass, RlJob

        passes: dict[Algorithm, tuple[Pass, ...]] = {
            "grpo": ("policy",),
            "dapo": ("policy",),
            "ppo": ("policy", "critic"),
            "distill": ("teacher",),
        }
        more: tuple[Pass, ...] = ("reference",) if self.reference else ()
        return RlJob(
            algorithm=self.algorithm,
            prompts=self.prompts,
            samples=self.samples,
            global_batch=self.global_batch,
            lengths=self.lengths.lengths(),
            prompt=self.prompt,
            most=self.max_sequence,
            epochs=self.epochs,
            passes=(*passes[self.algorithm], *more),
            trained=2 if self.algorithm == "ppo" else 1,
            acceptance=self.acceptance,
            placement=self.placement,
            staleness=self.staleness,
            order=self.order,
            partial=self.partial,
            environment=Environment(turns=self.turns, call_s=self.call_s, reward_s=self.reward_s),
        )

    def said(self, field: Field[object]) -> str:
        """A field as the question spells it."""
        return self.places.get(field.name, field.name)


# ---- reading a scenario
# ----------------------------------------------------------------------------------------------------------------------


def values_of(root: Node, folder: Path = Path()) -> tuple[dict[str, object], dict[str, str]]:
    """What a mapping gives by the keys of `KEYS`: (values by field, place of every field). Keys that are none of them
    are noted as problems. folder: that a CSV of lengths is relative to."""
    values: dict[str, object] = {}
    places: dict[str, str] = {}
    nodes: dict[str, Node] = {"": root}
    for key, of in KEYS.items():
        above, _, own = key.rpartition(".")
        if above not in nodes:
            outer, _, name = above.rpartition(".")
            nodes[above] = nodes[outer].node(name)
        node = nodes[above]
        places[of.name] = f"{node.place(own)} {node.name(own)}"
        value = node.raw(own)
        if value is not None:
            values[of.name] = folder / value if of is LENGTHS_FILE and isinstance(value, str) else value
    for node in reversed(nodes.values()):
        node.done()
    return values, places


def _scenario_of(reader: QuestionReader) -> str | Path | None:
    """The scenario that a question names in the place of a model: its text or its file; None: it names a model."""
    from mowich.examples import names_of
    from mowich.scenario import is_inline

    given = reader.given(QUESTION)
    if reader.given(TEXT) is not None:
        return str(reader.given(TEXT))
    if reader.edge is Edge.KEY or not isinstance(given, str | Path):
        return None
    text = str(given)
    if is_inline(text):
        return text
    if Path(text).suffix in (".yaml", ".yml") or text.removeprefix("@") in names_of("scenarios"):
        from mowich.requests.fields import read_scenario_file

        return read_scenario_file(given)
    return None


def _lay_scenario(reader: QuestionReader) -> bool:
    """Take the values of the scenario that the question names; whether it names one. What is given beside wins."""
    from mowich.scenario import is_inline, parse_text, read_scenario

    scenario = None
    with reader.watch(QUESTION):
        scenario = _scenario_of(reader)
    reader.stop()
    if scenario is None:
        return False
    with reader.watch():
        sent = reader.given(TEXT) is not None
        root = parse_text(str(scenario), "the scenario") if sent else read_scenario(scenario)
        root.text("name")
        values, places = values_of(root, Path() if sent or is_inline(scenario) else Path(scenario).parent)
        if reader.edge is Edge.KEY and LENGTHS_FILE.name in values:
            root.node("lengths").problem("csv", "files are not read here", fix="give lengths.quantiles")
        root.stop()
        reader.lay(values, places, instead=QUESTION)
    reader.stop()
    return True


# ---- reading the question
# ----------------------------------------------------------------------------------------------------------------------


class _Assumed:
    """What nobody stated and is taken, in words."""

    def __init__(self, reader: QuestionReader) -> None:
        self.reader, self.words = reader, list[str]()

    def take(self, field: Field[T], value: T, words: str) -> T:
        """What was given, else `value`, which is told."""
        given = self.reader.get(field)
        if self.reader.given(field) is not None:
            return value if given is None else given
        self.words.append(words)
        return value


def _number_of(facts: Facts, name: str, what: str, unit: str = "") -> tuple[float, str]:
    """An assumed number of the facts, and how it is told."""
    fact = facts.fact(f"rl.assumed.{name}")
    value = facts.number(f"rl.assumed.{name}")
    ends = "" if fact.low in (None, fact.value) else f" ({fact.low:g} to {fact.high:g})"
    return value, f"{what} {value:g}{unit}{ends}"


def _algorithm(reader: QuestionReader, taken: _Assumed) -> Algorithm:
    """The algorithm: a word, or one of the flags of the command line."""
    from mowich.rl.job import ALGORITHMS

    flags = [f for f in (GRPO, PPO, DAPO) if reader.given(f)]
    said = [f.name for f in flags] + ["distill"] * (reader.given(TEACHER) is not None and not flags)
    if len(flags) > 1:
        reader.add("one algorithm", flags[1], given=" and ".join(reader.said(f) for f in flags))
    if flags and reader.given(TEACHER) is not None:
        reader.add("is of distill", TEACHER, fix=f"leave {reader.said(flags[0])} out")
    word = reader.get(ALGORITHM) if not flags else None  # an option wins over a file
    if word not in (None, "distill") and reader.given(TEACHER) is not None:
        reader.add("is of distill", TEACHER, given=word, fix="algorithm: distill")
    if word == "distill" and reader.given(TEACHER) is None:
        reader.missing(TEACHER, " with distill")
    found = (said[0] if flags else word) or next(iter(said), None)
    if found is None and reader.given(ALGORITHM) is None:
        taken.words.append("algorithm grpo")
    return next((a for a in ALGORITHMS if a == found), "grpo")


def _batch(reader: QuestionReader, algorithm: str, taken: _Assumed) -> tuple[int, int, int]:
    """(prompts, samples of each, samples of an optimizer step)."""
    prompts, samples, batch = reader.get(PROMPTS), reader.get(SAMPLES), reader.get(STEP_SAMPLES)
    has = [reader.given(f) is not None for f in (PROMPTS, SAMPLES, STEP_SAMPLES)]
    if not has[1] and sum(has) == 1 and algorithm in ("ppo", "distill"):
        samples, has[1] = 1, True
        taken.words.append("one answer to each prompt")
    if sum(has) < 2:
        for need, there in zip((PROMPTS, SAMPLES), has[:2], strict=True):
            if not there and not (need is PROMPTS and has[2]):
                reader.missing(need)
        return 1, 1, 1
    if all(has) and prompts and samples and batch and batch != prompts * samples:
        reader.add("is not prompts x samples", STEP_SAMPLES, given=batch, allowed=str(prompts * samples))
    for other, value, name in ((PROMPTS, prompts, "prompts"), (SAMPLES, samples, "samples")):
        if batch and value and sum(has) == 2 and reader.given(other) is not None and batch % value:
            reader.add(f"is no multiple of {name}", STEP_SAMPLES, given=batch, allowed=f"a multiple of {value}")
    if batch and not has[0] and samples:
        prompts = max(1, batch // samples)
    if batch and not has[1] and prompts:
        samples = max(1, batch // prompts)
    if not prompts or not samples:
        return 1, 1, 1
    step = prompts * samples
    if step > MOST_SAMPLES:
        reader.add(f"{prompts} x {samples} samples are too many", PROMPTS, given=step, allowed=f"up to {MOST_SAMPLES}")
    each = taken.take(GLOBAL_BATCH, step, f"one optimizer step of all {step} samples")
    if step % each:
        near = sorted((d for d in _divisors(step)), key=lambda d: abs(math.log(d / each)))[:2]
        reader.add(
            f"does not fill {prompts} x {samples} = {step} samples of a step",
            GLOBAL_BATCH,
            given=each,
            allowed=f"a divisor of {step}",
            fix=f"for example {' or '.join(map(str, sorted(near)))}",
        )
    return prompts, samples, each


def _divisors(n: int) -> set[int]:
    return {d for i in range(1, math.isqrt(n) + 1) if n % i == 0 for d in (i, n // i)}


def _lengths(reader: QuestionReader, facts: Facts, taken: _Assumed) -> AskedLengths | None:
    """The lengths of answers; None where something is wrong, which is noted."""
    before = len(reader.problems.found)
    ways = [f for f in (MEAN, QUANTILES, LENGTHS_FILE) if reader.given(f) is not None]
    mean, cap, quantiles, file = reader.get(MEAN), reader.get(CAP), reader.get(QUANTILES), reader.get(LENGTHS_FILE)
    if not ways:
        others = f"{_key(reader, QUANTILES)}, or {_key(reader, LENGTHS_FILE)} of a run"
        fix = f"for example {reader.example(MEAN)}; or {others}"
        reader.add("is required: nobody can guess how long answers are", MEAN, fix=fix)
    for other in ways[1:]:
        reader.add(f"{_key(reader, ways[0])} says already how long answers are", other, fix="leave one out")
    for spread in (SIGMA, COLUMN):
        of = MEAN if spread is SIGMA else LENGTHS_FILE
        if reader.given(spread) is not None and ways and ways[0] is not of:
            reader.add(f"is of {_key(reader, of)}", spread, given=reader.given(spread), fix="leave it out")
    tokens = None
    if file is not None:
        with reader.watch(LENGTHS_FILE):
            tokens = read_lengths(file, reader.get(COLUMN) or "tokens")
    if cap is None and reader.given(CAP) is None:
        if tokens is not None:
            cap = max(tokens)
            taken.words.append(f"cap {cap:g} tokens, the longest answer of {file}")
        elif quantiles is not None and 1.0 in quantiles:
            cap = quantiles[1.0]
        else:
            reader.missing(CAP, ": the longest answer ends a batch")
    longest = mean if mean is not None else None
    if quantiles is not None and cap is not None and min(quantiles.values()) >= cap:
        longest = min(quantiles.values())
    if longest is not None and cap is not None and longest >= cap:
        reader.add(
            "is not above the mean length" if mean is not None else "cuts every answer",
            CAP,
            given=reader.given(CAP),
            allowed=f"above {longest:g} tokens",
        )
    sigma = None
    if ways and ways[0] is MEAN:
        known, words = _number_of(facts, "sigma", "lognormal lengths with sigma")
        sigma = taken.take(SIGMA, known, words)
    if len(reader.problems.found) > before or cap is None or not (mean or quantiles or tokens):
        return None
    return AskedLengths(cap=cap, mean=mean, sigma=sigma, quantiles=quantiles, tokens=tokens)


def read_lengths(file: Path, column: str) -> tuple[float, ...]:
    """Tokens of the answers of a run: a column of a CSV. Raises UserError with the line of a cell that is no count."""
    import csv

    from mowich.files import open_lines

    out: list[float] = []
    with open_lines(file) as lines:
        rows = csv.reader(lines)
        head = [name.strip() for name in next(rows, [])]
        if column not in head:
            raise unknown("column", column, head, where=str(file))
        at = head.index(column)
        for row in rows:
            if not row:
                continue
            if len(out) == MOST_SAMPLES:
                raise UserError("too many answers", where=f"{file}:{rows.line_num}", allowed=f"up to {MOST_SAMPLES}")
            try:
                out.append(read_count(row[at] if at < len(row) else "", 1, LONGEST_ANSWER))
            except UserError as error:
                error.where = f"{file}:{rows.line_num} {column}"
                raise
    if len(out) < 2:
        raise UserError("needs two answers or more", where=str(file), given=len(out))
    return tuple(out)


def _key(reader: QuestionReader, field: Field[object]) -> str:
    """A field as it is spelled here, without its line."""
    return reader.said(field).rpartition(" ")[2]


def _placed(reader: QuestionReader, facts: Facts, taken: _Assumed) -> tuple[Placement, int]:
    """(placement, bound of staleness): what the systems say, checked against what is said of them."""
    named, chips, word = reader.given(ON), reader.given(CHIPS), reader.get(PLACEMENT)
    sides = [f for f in (ROLLOUTS_ON, TRAINER_ON) if reader.given(f) is not None]
    placement: Placement = "split" if sides or chips is not None else "colocated"
    if named is not None and sides:
        reader.add("is where both sides are", ON, given=named, fix=f"leave it out, or {_key(reader, sides[0])}")
    elif not sides and named is None:
        both = f"{_key(reader, ROLLOUTS_ON)} and {_key(reader, TRAINER_ON)}"
        fix = f"for example {reader.example(ON)}, or {both}"
        reader.add("is required: where does it run?", ON, fix=fix)
    elif len(sides) == 1:
        reader.missing(TRAINER_ON if sides[0] is ROLLOUTS_ON else ROLLOUTS_ON, f" with {_key(reader, sides[0])}")
    elif chips is not None and sides:
        reader.add("is for a search", CHIPS, given=chips, fix=f"name systems: {reader.example(ON)}")
    elif named is not None and chips is None and len(reader.get(ON) or ()) != 1:
        reader.add("several systems are split over", ON, given=named, fix=f"add {reader.example(CHIPS)}")
    for other in (GOAL, BUDGET):
        if chips is None and reader.given(other) is not None:
            reader.add("is of a search", other, given=reader.given(other), fix=f"add {reader.example(CHIPS)}")
    if reader.given(BUDGET) is not None and reader.get(GOAL) != "time":
        reader.add("is of the goal time", BUDGET, given=reader.given(BUDGET), fix=f"{_key(reader, GOAL)} time")
    if chips is not None and word is not None:
        reader.add("follows from the search", PLACEMENT, given=word, fix="leave it out")
    elif word is not None and word != placement:
        why = f"needs {_key(reader, ROLLOUTS_ON)} and {_key(reader, TRAINER_ON)}"
        reader.add(why if word == "split" else f"needs {_key(reader, ON)}: one set of chips", PLACEMENT, given=word)
    bound = reader.get(STALENESS)
    if placement == "colocated":
        if bound:
            fix = f"or name {_key(reader, ROLLOUTS_ON)} and {_key(reader, TRAINER_ON)}"
            reader.add("both sides take turns on the same chips", STALENESS, given=bound, allowed="0", fix=fix)
        return placement, 0
    if reader.given(STALENESS) is None:
        taken.words.append(f"weights at most {STALE} step behind")
    return placement, STALE if bound is None else bound


STALE = 1
"""Steps that weights may be behind where a split run does not say it."""


def _choices(
    reader: QuestionReader,
    of: Field[dict[str, str]],
    parse: Callable[[Mapping[str, str]], dict[str, tuple[int | str, ...]]],
) -> dict[str, tuple[int | str, ...]]:
    """The choices of a plan; what is wrong is noted with the field."""
    given = reader.get(of)
    if given is None:
        return {}
    with reader.watch(of):
        try:
            return parse(given)
        except UserError as error:
            for one in getattr(error, "errors", (error,)):
                inner = (one.field or "").partition(".")[2]
                one.where, one.field = f"{reader.said(of)}{'.' if inner else ''}{inner}", None
            raise
    return {}


def _software(reader: QuestionReader, facts: Facts) -> tuple[str, str]:
    """(framework, its release); engine, stack, sync method are checked too."""
    from mowich.requests.common import asked_software
    from mowich.software.engine import engine_names
    from mowich.software.stack import stack_names

    asked_software(reader, ENGINE, "engine", lambda: engine_names(facts))
    asked_software(reader, STACK, "software stack", lambda: stack_names(facts))
    name, at, release = (reader.get(FRAMEWORK) or "").partition("@")
    if at and not release:
        reader.add("names no release", FRAMEWORK, given=reader.given(FRAMEWORK), allowed=f"{name}@0.5, or {name}")
    return name, release


def _environment(reader: QuestionReader, algorithm: str, facts: Facts) -> AskedJudge | None:
    """The judge, where there is one; what an environment lacks is noted."""
    if (reader.get(TURNS) or 1.0) > 1.0 and reader.given(CALL) is None:
        reader.missing(CALL, f" with {_key(reader, TURNS)} above 1: what a call takes is of the environment")
    if reader.given(CALL) is not None and (reader.get(TURNS) or 1.0) <= 1.0:
        reader.add("is between two turns", CALL, given=reader.given(CALL), fix=f"add {reader.example(TURNS)}")
    parts = (JUDGE, JUDGE_ON, JUDGE_TOKENS)
    if algorithm == "distill":
        for other in (REWARD, *parts, ACCEPTANCE):
            if reader.given(other) is not None:
                reader.add("a teacher gives no rewards", other, given=reader.given(other), fix="leave it out")
    given = [f for f in parts if reader.given(f) is not None]
    if not given:
        return None
    for need in parts:
        if need not in given:
            reader.missing(need, f" with {_key(reader, given[0])}")
    model = _other_model(reader, JUDGE)
    on, tokens = reader.get(JUDGE_ON), reader.get(JUDGE_TOKENS)
    _system(reader, JUDGE_ON, facts)
    return None if model is None or on is None or tokens is None else AskedJudge(model=model, on=on, tokens=tokens)


def _other_model(reader: QuestionReader, of: Field[object]) -> Model | None:
    value = reader.given(of)
    if value is None:
        return None
    with reader.watch(of):
        return loaded(reader, value)
    return None


def _system(reader: QuestionReader, of: Field[str], facts: Facts) -> str | None:
    """A system that is named, where it is known."""
    from mowich.machines.system import resolve

    name = reader.get(of)
    with reader.watch(of):
        if name is not None:
            resolve(facts, name)
            return name
    return None


def _given(reader: QuestionReader) -> dict[str, object]:
    """What was given, by field, as JSON has it; not how the answer is shown, nor what changed facts."""
    left = {f.name for f in (*FORM, LEGEND, TIMELINE, *OF_FACTS)}
    values = {f.name: reader.given(f) for f in RL.fields if f.name not in left and reader.given(f) not in (None, False)}
    if QUESTION.name in values:
        values[QUESTION.name] = words_of_model(reader)
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: object) -> object:
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(getattr(value, "name", value)) if not isinstance(value, Path) else str(value)


def _rl(reader: QuestionReader) -> RlRequest:
    again = _given(reader)
    has_file = _lay_scenario(reader)
    reader.read_all()
    form, settings = form_of(reader), read_settings(reader)
    facts, taken = settings.facts, _Assumed(reader)
    if settings.plan or settings.lnc is not None:
        of = f"{_key(reader, ROLLOUT_PLAN)} and {_key(reader, TRAINER_PLAN)}"
        reader.problems.add("each side has its own plan", where="plan", fix=f"give {of}")
    model = None
    if reader.given(QUESTION) is None:
        reader.missing(QUESTION)
    elif has_file:
        model = _other_model(reader, QUESTION)
    else:
        model = asked_model(reader)
    algorithm = _algorithm(reader, taken)
    prompts, samples, global_batch = _batch(reader, algorithm, taken)
    lengths = _lengths(reader, facts, taken)
    known, words = _number_of(facts, "prompt", "prompts of", " tokens")
    prompt = taken.take(PROMPT, known, words)
    longest = prompt + (0.0 if lengths is None else lengths.cap)
    most = taken.take(MAX_SEQUENCE, longest, f"sequences of up to {longest:g} tokens in training")
    if lengths is not None and reader.given(MAX_SEQUENCE) is not None and most < prompt + (lengths.mean or 0.0):
        shortest = f"at least {prompt + (lengths.mean or 0.0):g} tokens"
        reader.add("is below prompt and mean answer", MAX_SEQUENCE, given=most, allowed=shortest)
    if algorithm == "dapo" and reader.given(ACCEPTANCE) is None:
        reader.missing(ACCEPTANCE, " with dapo: how many batches dynamic sampling takes is not known without it")
    if reader.given(CRITIC) is not None and algorithm != "ppo":
        reader.add("is of ppo", CRITIC, given=reader.given(CRITIC), fix="leave it out")
    if algorithm == "ppo" and reader.given(CRITIC) is None:
        taken.words.append("a critic as large as the model")
    placement, staleness = _placed(reader, facts, taken)
    systems = _systems(reader, facts)
    for side in (ROLLOUTS_ON, TRAINER_ON):
        _system(reader, side, facts)
    judge = _environment(reader, algorithm, facts)
    framework, release = _software(reader, facts)
    if reader.given(DRAFTS) is not None and reader.given(KEPT_TOKENS) is None:
        reader.missing(KEPT_TOKENS, f" with {_key(reader, DRAFTS)}")
    rollout_plan, trainer_plan = _plans(reader)
    term = asked_kind(reader, settings)
    reader.stop()
    assert model is not None
    assert lengths is not None
    has_reference = algorithm in ("grpo", "ppo")
    kl = "a reference model reads each batch" if has_reference else "no reference model"
    reference = taken.take(REFERENCE, has_reference, kl)
    return reader.fill(
        RlRequest,
        form=form,
        facts=facts,
        given=given_of(reader),
        notes=tuple(reader.notes),
        model=model,
        model_given=str(reader.given(QUESTION)) if has_file else words_of_model(reader),
        algorithm=algorithm,
        prompts=prompts,
        samples=samples,
        global_batch=global_batch,
        lengths=lengths,
        prompt=prompt,
        max_sequence=most,
        reference=reference,
        critic=_other_model(reader, CRITIC),
        teacher=_other_model(reader, TEACHER),
        acceptance=1.0 if reader.get(ACCEPTANCE) is None else reader.get(ACCEPTANCE),
        placement=placement,
        staleness=staleness,
        order=reader.get(ORDER) or "finished",
        partial=True if reader.given(PARTIAL) is None else reader.get(PARTIAL),
        systems=systems,
        rollout_plan=rollout_plan,
        accept=reader.get(KEPT_TOKENS),
        drafts=reader.get(DRAFTS) or 0,
        trainer_plan=trainer_plan,
        framework=framework,
        framework_release=release,
        sync=reader.get(SYNC) or "",
        link_Bps=reader.get(LINK),
        turns=reader.get(TURNS) or 1.0,
        call_s=reader.get(CALL) or 0.0,
        reward_s=reader.get(REWARD) or 0.0,
        judge=judge,
        term=term,
        assumed=tuple(taken.words),
        places={f.name: reader.said(f) for f in RL.fields},
        again=again,
    )


def _systems(reader: QuestionReader, facts: Facts) -> tuple[str, ...]:
    """The systems of both sides, or those to split over; names of these have no size."""
    from mowich.machines.system import resolve

    names = reader.get(ON) or ()
    for name in names:
        with reader.watch(ON):
            resolve(facts, name)
            if reader.given(CHIPS) is not None and any(mark in name for mark in ":*"):
                raise UserError(
                    "the search says how many", given=name, allowed=name.partition(":")[0].partition("*")[0]
                )
    for twice in dict.fromkeys(n for n in names if names.count(n) > 1):
        reader.add(f"'{twice}' is named twice", ON)
    return names


def _plans(reader: QuestionReader) -> tuple[dict[str, tuple[int | str, ...]], dict[str, tuple[int | str, ...]]]:
    """(choices of a worker's plan, of the trainer's)."""
    from mowich.plans.plan import parse_fixed
    from mowich.plans.serving_choices import parse_serving

    rollout = _choices(reader, ROLLOUT_PLAN, parse_serving)
    for name in ("mode", "prefill", "decode", "sequences"):
        if name in rollout:
            allowed = "tp, pp, dp, ep, weights, kv"
            reader.add("is no choice of rollouts", ROLLOUT_PLAN, given=name, allowed=allowed)
    return rollout, _choices(reader, TRAINER_PLAN, parse_fixed)


RL = Schema(
    name="rl",
    fields=(
        *(QUESTION, TEXT, AS, ALGORITHM, GRPO, PPO, DAPO, TEACHER, CRITIC, PROMPTS, SAMPLES, STEP_SAMPLES),
        *(GLOBAL_BATCH, EPOCHS, MEAN, CAP, SIGMA, QUANTILES, LENGTHS_FILE, COLUMN, PROMPT, MAX_SEQUENCE),
        *(
            REFERENCE,
            ACCEPTANCE,
            PLACEMENT,
            STALENESS,
            ORDER,
            PARTIAL,
            ON,
            CHIPS,
            GOAL,
            BUDGET,
            ROLLOUTS_ON,
            TRAINER_ON,
        ),
        *(ENGINE, RELEASE, ROLLOUT_PLAN, MEMORY_SHARE, KEPT_TOKENS, DRAFTS, STACK, TRAINER_PLAN, FRAMEWORK),
        *(SYNC, LINK, TURNS, CALL, REWARD, JUDGE, JUDGE_ON, JUDGE_TOKENS, TIMELINE, PRICE_KIND, *OF_FACTS),
        *(TERM, LEGEND, *FORM, SEED),
    ),
    make=_rl,
    help=(
        "A step of reinforcement learning: rollouts that serve, updates that train, weights sent between them;"
        " colocated, split over systems, or split as costs least."
    ),
    short="Reinforcement learning over one vendor or several.",
    example=(
        "mowich rl rl-nemo-8b   or   mowich rl llama-3.1-8b --grpo --prompts 64 --samples 32 --mean 1060 --cap 4096"
        " --on h100:16"
    ),
)
