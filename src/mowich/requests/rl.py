"""rl: one run of reinforcement learning, or the search for its split over vendors.

A scenario (`rl_files`) gives its values to the same reader as options and keywords do, which says file and line in the
place of an option. What is given beside a file wins over it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from mowich.errors import UserError
from mowich.plans.search import divisors
from mowich.readback import record_of
from mowich.requests.common import (
    AS,
    FORM,
    LEGEND,
    SEED,
    Asked,
    asked_model,
    asked_software,
    asked_timeline,
    form_of,
    loaded_model,
    words_of_model,
)
from mowich.requests.fields import Field
from mowich.requests.rl_fields import (
    ACCEPTANCE,
    ALGORITHM,
    BOTH_ON,
    CALL,
    COLUMN,
    CRITIC,
    DAPO,
    DRAFTS,
    ENGINE_RELEASE,
    ENVIRONMENT,
    EPOCHS,
    FRAMEWORK,
    GLOBAL_BATCH,
    GOAL,
    GRPO,
    HAS_REFERENCE,
    JUDGE_MODEL,
    JUDGE_ON,
    JUDGE_TOKENS,
    KEPT_TOKENS,
    LENGTH_CAP,
    LENGTHS_FILE,
    MAX_SEQUENCE,
    MEAN,
    MEMORY_SHARE,
    MOST_SAMPLES,
    MOST_USD,
    ORDER,
    PARTIAL,
    PLACEMENT,
    PPO,
    PROMPT_MEAN,
    PROMPT_SAMPLES,
    QUANTILES,
    QUESTION,
    REWARD,
    ROLLOUT_ENGINE,
    ROLLOUT_PLAN,
    ROLLOUTS_ON,
    SIGMA,
    SITES_LINK,
    SPLIT_CHIPS,
    STALENESS,
    STEP_PROMPTS,
    STEP_SAMPLES,
    STEPS_TIMELINE,
    SYNC_METHOD,
    TEACHER,
    TEXT,
    TRAINER_ON,
    TRAINER_PLAN,
    TRAINER_STACK,
    TURNS,
)
from mowich.requests.rl_files import lay_run_scenario, read_run_lengths
from mowich.requests.schema import QuestionReader, Schema
from mowich.requests.settings import OF_FACTS, PRICE_KIND, TERM, asked_kind, given_of, read_settings
from mowich.requests.stated import kept_in
from mowich.shown import Keyed

if TYPE_CHECKING:
    from mowich.facts import Fact, Facts
    from mowich.models.model import Model
    from mowich.rl.frameworks import Framework
    from mowich.rl.job import BatchOrder, LearningAlgorithm, Pass, RlJob, SidePlacement
    from mowich.rl.lengths import Lengths

T = TypeVar("T")
_Choices = dict[str, tuple[int | str, ...]]
"""Choices of a plan, by its field."""


# ---- the request
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedLengths(Keyed):
    """Lengths of answers as they were stated. quantiles: share -> tokens; tokens: of the answers of a run, in file
    order; mean, sigma: of a lognormal length, where neither is stated."""

    KEYS = "mean? cap sigma? quantiles=marks? answers?"

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

    @property
    def marks(self) -> dict[str, float] | None:
        """The quantiles by name, as results state them."""
        return {f"p{share * 100:g}": tokens for share, tokens in (self.quantiles or {}).items()} or None

    @property
    def answers(self) -> int | None:
        """How many answers of a run there are."""
        return None if self.tokens is None else len(self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedJudge(Keyed):
    """A model that rewards. on: its chips; tokens: that it writes for a sample."""

    KEYS = "model=model.name on tokens"

    model: Model
    on: str
    tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RlRequest(Asked, Keyed):
    """One run, or the search for its split. systems: where both sides are (colocated), or what may be split over with
    `chips` in all (None: no search), by the goal and within the budget, USD per million tokens; rollouts, trainer:
    where each side is (None: it is in `systems`); rollout_plan, trainer_plan: choices as `parse_serving` and
    `parse_fixed` give them; framework: "" none is stated, framework_release: "" the newest; accept: tokens kept per
    speculative step; call_s, reward_s: seconds; assumed: what nobody stated and was taken, in words; places: how each
    field is spelled where the question was put; again: what was given, by field, as JSON has it.

    Its JSON has the keys of a scenario, what was taken filled in."""

    KEYS = (
        "model=model.name algorithm teacher=teacher.name? critic=critic.name? prompts samples global_batch epochs "
        "lengths prompt max_sequence reference acceptance placement staleness order partial chips? on=systems:none? "
        "goal=search_goal? budget? rollouts.on=rollouts? trainer.on=trainer? rollouts.engine=engine? "
        "rollouts.release=release? rollouts.plan=rollout_choices? rollouts.memory_share=memory_share? "
        "rollouts.accept=accept? rollouts.drafts=drafts:none? trainer.stack=stack? trainer.plan=trainer_choices? "
        "framework=stated_framework:none? sync.method=sync:none? sync.link_Bps=link_Bps? environment.turns=turns "
        "environment.call_s=call_s environment.reward_s=reward_s environment.judge=judge? price_term=term seed"
    )

    model: Model
    model_given: str
    algorithm: LearningAlgorithm
    prompts: int
    samples: int
    global_batch: int
    epochs: int
    lengths: AskedLengths
    prompt: float
    max_sequence: float
    reference: bool
    passes: tuple[Pass, ...]
    critic: Model | None
    teacher: Model | None
    acceptance: float
    placement: SidePlacement
    staleness: int
    order: BatchOrder
    partial: bool
    systems: tuple[str, ...]
    chips: int | None
    goal: Literal["cost", "time"]
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

    @property
    def search_goal(self) -> str | None:
        """What the search goes by; None where there is none."""
        return None if self.chips is None else self.goal

    @property
    def rollout_choices(self) -> dict[str, object] | None:
        """Choices of a worker's plan, as a scenario writes them."""
        return _written(self.rollout_plan)

    @property
    def trainer_choices(self) -> dict[str, object] | None:
        """Choices of the trainer's plan, as a scenario writes them."""
        return _written(self.trainer_plan)

    @property
    def stated_framework(self) -> str:
        """ "verl@0.9": the framework, with its release where one is stated."""
        return "@".join(filter(None, (self.framework, self.framework_release)))

    def job(self) -> RlJob:
        """The run without machines; a judge's rate and chips are not in it."""
        from mowich.rl.job import Environment, RlJob

        return record_of(
            RlJob,
            self,
            lengths=self.lengths.lengths(),
            most=self.max_sequence,
            trained=2 if self.algorithm == "ppo" else 1,
            environment=Environment(turns=self.turns, call_s=self.call_s, reward_s=self.reward_s),
        )

    def said(self, field: Field[object]) -> str:
        """A field as the question spells it."""
        return self.places.get(field.name, field.name)


def _written(choices: Mapping[str, Sequence[int | str]]) -> dict[str, object] | None:
    return {name: values[0] if len(values) == 1 else list(values) for name, values in choices.items()} or None


# ---- reading the question
# ----------------------------------------------------------------------------------------------------------------------


def _line_of(error: UserError) -> float:
    """The line of a file that a problem stands in; behind all lines where it stands in none."""
    found = re.search(r":(\d+)( |$)", error.where or "")
    return float(found[1]) if found else math.inf


class _Assumed:
    """What nobody stated and is taken, in words."""

    def __init__(self, reader: QuestionReader) -> None:
        self.reader, self.words = reader, list[str]()

    def take(self, field: Field[T], value: T, words: str) -> T:
        """What was given, else `value`, which is told."""
        given = self.reader.get(field)
        if not self.reader.has(field):
            self.words.append(words)
        return value if given is None else given


def _number_of(facts: Facts, name: str, what: str, unit: str = "") -> tuple[float, str]:
    """An assumed number of the facts, and how it is told."""
    fact = facts.fact(f"rl.assumed.{name}")
    value = facts.number(f"rl.assumed.{name}")
    ends = "" if fact.low in (None, fact.value) else f" ({fact.low:g} to {fact.high:g})"
    return value, f"{what} {value:g}{unit}{ends}"


def _algorithm(reader: QuestionReader, taken: _Assumed) -> LearningAlgorithm:
    """The algorithm: a word, or one of the flags of the command line. What goes with another one is noted."""
    from mowich.rl.job import ALGORITHMS

    flags = [f for f in (GRPO, PPO, DAPO) if reader.given(f)]
    word = reader.get(ALGORITHM) if not flags else None  # an option wins over a file
    if len(flags) > 1:
        reader.add("a run has one algorithm", flags[1], given=" and ".join(reader.said(f) for f in flags))
    if flags and reader.has(TEACHER):
        reader.add("goes with distill", TEACHER, fix=f"leave {reader.said(flags[0])} out")
    if word not in (None, "distill") and reader.has(TEACHER):
        reader.add("goes with distill", TEACHER, given=word, fix="algorithm: distill")
    if word == "distill":
        reader.need(TEACHER, why=" with distill")
    found = flags[0].name if flags else word or ("distill" if reader.has(TEACHER) else None)
    if found is None and not reader.has(ALGORITHM):
        taken.words.append("algorithm grpo")
    return next((a for a in ALGORITHMS if a == found), "grpo")


def _check_algorithm(reader: QuestionReader, algorithm: str, taken: _Assumed) -> None:
    """A problem where dynamic sampling or a critic lacks what it needs, or there is none."""
    if algorithm == "dapo":
        reader.need(ACCEPTANCE, why=" with dapo: how many batches dynamic sampling takes is not known without it")
    if algorithm != "ppo":
        reader.refuse("goes with ppo", CRITIC, fix="leave it out")
    elif not reader.has(CRITIC):
        taken.words.append("a critic as large as the model")


def _sizes(reader: QuestionReader, algorithm: str, taken: _Assumed) -> dict[str, int]:
    """Two or three of prompts, samples of each and samples of a step, by field; 0: wrong. None where one is missing."""
    sizes = {f.name: reader.get(f) or 0 for f in (STEP_PROMPTS, PROMPT_SAMPLES, STEP_SAMPLES) if reader.has(f)}
    if len(sizes) == 1 and PROMPT_SAMPLES.name not in sizes and algorithm in ("ppo", "distill"):
        sizes[PROMPT_SAMPLES.name] = 1
        taken.words.append("one answer to each prompt")
    if len(sizes) < 2:
        reader.need(*(() if STEP_SAMPLES.name in sizes else (STEP_PROMPTS,)), PROMPT_SAMPLES)
        return {}
    return sizes


def _groups(reader: QuestionReader, algorithm: str, taken: _Assumed) -> tuple[int, int]:
    """(prompts of a step, samples of each), of which the samples of a step may say one; 0 where one is not known."""
    sizes = _sizes(reader, algorithm, taken)
    prompts, samples, batch = (sizes.get(name, 0) for name in ("prompts", "samples", "batch"))
    if prompts and samples and batch and batch != prompts * samples:
        reader.add("is not prompts x samples", STEP_SAMPLES, given=batch, allowed=str(prompts * samples))
    known = prompts or samples
    if len(sizes) == 3 or not (batch and known):
        return prompts, samples
    if batch % known:
        of = f"is not a multiple of {'prompts' if prompts else 'samples'}"
        reader.add(of, STEP_SAMPLES, given=batch, allowed=f"a multiple of {known}")
    other = max(1, batch // known)
    return prompts or other, samples or other


def _batch(reader: QuestionReader, algorithm: str, taken: _Assumed) -> tuple[int, int, int]:
    """(prompts, samples of each, samples of an optimizer step)."""
    prompts, samples = _groups(reader, algorithm, taken)
    step = prompts * samples
    if not step:
        return 1, 1, 1
    if step > MOST_SAMPLES:
        many = f"{prompts} x {samples} samples are too many"
        reader.add(many, STEP_PROMPTS, given=step, allowed=f"up to {MOST_SAMPLES}")
    elif step / (reader.get(ACCEPTANCE) or 1.0) > MOST_SAMPLES:
        many, least = f"a step makes more than {MOST_SAMPLES} samples to keep {step}", step / MOST_SAMPLES
        reader.add(many, ACCEPTANCE, given=reader.get(ACCEPTANCE), allowed=f"{least:.3g} or more")
    each = taken.take(GLOBAL_BATCH, step, f"one optimizer step of all {step} samples")
    if step % each and step <= MOST_SAMPLES:
        near = sorted(divisors(step, step), key=lambda d: abs(math.log(d / each)))[:2]
        reader.add(
            f"does not fill {prompts} x {samples} = {step} samples of a step",
            GLOBAL_BATCH,
            given=each,
            allowed=f"a divisor of {step}",
            fix=f"for example {' or '.join(map(str, sorted(near)))}",
        )
    return prompts, samples, each


def _lengths(reader: QuestionReader, facts: Facts, taken: _Assumed) -> AskedLengths | None:
    """The lengths of answers; None where something is wrong, which is noted."""
    before = len(reader.problems.found)
    way = _way_of_lengths(reader)
    mean, quantiles, file, tokens = reader.get(MEAN), reader.get(QUANTILES), reader.get(LENGTHS_FILE), None
    if file is not None:
        with reader.watch(LENGTHS_FILE):
            tokens = read_run_lengths(file, reader.get(COLUMN) or "tokens")
    cap = reader.get(LENGTH_CAP)
    if not reader.has(LENGTH_CAP) and tokens is not None:
        cap = taken.take(LENGTH_CAP, max(tokens), f"cap {max(tokens):g} tokens, the longest answer of {file}")
    elif not reader.has(LENGTH_CAP):
        cap = (quantiles or {}).get(1.0)
        if cap is None:
            reader.missing(LENGTH_CAP, ": the longest answer ends a batch")
    least = mean
    if quantiles is not None and cap is not None and min(quantiles.values()) >= cap:
        least = min(quantiles.values())
    if least is not None and cap is not None and least >= cap:
        why = "cuts every answer" if mean is None else "is not above the mean length"
        reader.add(why, LENGTH_CAP, given=reader.given(LENGTH_CAP), allowed=f"above {least:g} tokens")
    sigma = None
    if way is MEAN:
        sigma = taken.take(SIGMA, *_number_of(facts, "sigma", "lognormal lengths with sigma"))
    if len(reader.problems.found) > before or cap is None:
        return None
    return AskedLengths(cap=cap, mean=mean, sigma=sigma, quantiles=quantiles, tokens=tokens)


def _way_of_lengths(reader: QuestionReader) -> Field[object] | None:
    """The field that says how long answers are. None and several of them are noted, and what belongs to another."""
    ways = [f for f in (MEAN, QUANTILES, LENGTHS_FILE) if reader.has(f)]
    if not ways:
        others = f"{reader.key(QUANTILES)}, or {reader.key(LENGTHS_FILE)} of a run"
        fix = f"for example {reader.example(MEAN)}; or {others}"
        reader.add("is required: nobody can guess how long answers are", MEAN, fix=fix)
        return None
    for other in ways[1:]:
        reader.add(f"{reader.key(ways[0])} already says how long answers are", other, fix="leave one out")
    for part, of in ((SIGMA, MEAN), (COLUMN, LENGTHS_FILE)):
        if ways[0] is not of:
            reader.refuse(f"goes with {reader.key(of)}", part, fix="leave it out")
    return ways[0]


def _sequences(
    reader: QuestionReader, facts: Facts, lengths: AskedLengths | None, taken: _Assumed
) -> tuple[float, float]:
    """(mean tokens of a prompt, of the longest sequence that is trained on)."""
    prompt = taken.take(PROMPT_MEAN, *_number_of(facts, "prompt", "prompts of", " tokens"))
    longest = prompt + (0.0 if lengths is None else lengths.cap)
    most = taken.take(MAX_SEQUENCE, longest, f"sequences of up to {longest:g} tokens in training")
    if reader.has(MAX_SEQUENCE) and most < (shortest := prompt + (reader.get(MEAN) or 0.0)):
        allowed = f"at least {shortest:g} tokens"
        reader.add("is less than a prompt and a mean answer", MAX_SEQUENCE, given=most, allowed=allowed)
    return prompt, most


def _placed(reader: QuestionReader, framework: Framework, taken: _Assumed) -> tuple[SidePlacement, int]:
    """(placement, bound of staleness): what the systems say, checked against what is said of them."""
    sides = [f for f in (ROLLOUTS_ON, TRAINER_ON) if reader.has(f)]
    placement: SidePlacement = "split" if sides or reader.has(SPLIT_CHIPS) else "colocated"
    _check_sides(reader, sides)
    if not reader.has(SPLIT_CHIPS):
        reader.refuse("goes with a search", GOAL, MOST_USD, fix=f"add {reader.example(SPLIT_CHIPS)}")
    if reader.get(GOAL) != "time":
        reader.refuse("goes with the goal time", MOST_USD, fix=f"{reader.key(GOAL)} time")
    word = reader.get(PLACEMENT)
    if reader.has(SPLIT_CHIPS) and word is not None:
        reader.add("follows from the search", PLACEMENT, given=word, fix="leave it out")
    elif word is not None and word != placement:
        need = _both_sides(reader) if word == "split" else f"{reader.key(BOTH_ON)}: one set of chips"
        reader.add(f"needs {need}", PLACEMENT, given=word)
    return placement, _staleness(reader, placement, framework, taken)


def _both_sides(reader: QuestionReader) -> str:
    return f"{reader.key(ROLLOUTS_ON)} and {reader.key(TRAINER_ON)}"


def _check_sides(reader: QuestionReader, sides: Sequence[Field[str]]) -> None:
    """A problem where the systems of a run are not said, or said in two ways. sides: those that name their own."""
    is_search = reader.has(SPLIT_CHIPS)
    if sides and reader.has(BOTH_ON):
        fix = f"leave it out, or {reader.key(sides[0])}"
        reader.refuse("names one machine for both sides, and a side has its own", BOTH_ON, fix=fix)
    elif not sides and not reader.has(BOTH_ON):
        fix = f"for example {reader.example(BOTH_ON)}, or {_both_sides(reader)}"
        reader.add("is required: where does it run?", BOTH_ON, fix=fix)
    elif len(sides) == 1:
        reader.need(ROLLOUTS_ON, TRAINER_ON, why=f" with {reader.key(sides[0])}")
    elif sides:
        reader.refuse("goes with a search", SPLIT_CHIPS, fix=f"name systems: {reader.example(BOTH_ON)}")
    elif not is_search and len(reader.get(BOTH_ON) or ()) != 1:
        why = "names several systems: say how many chips are split over them"
        reader.refuse(why, BOTH_ON, fix=f"add {reader.example(SPLIT_CHIPS)}")


def _staleness(reader: QuestionReader, placement: SidePlacement, framework: Framework, taken: _Assumed) -> int:
    """The most steps that the weights of rollouts may be behind: 0 where both sides take turns on the same chips."""
    bound = reader.get(STALENESS)
    if placement == "colocated":
        if bound:
            fix = f"or name {_both_sides(reader)}"
            reader.add("both sides take turns on the same chips", STALENESS, given=bound, allowed="0", fix=fix)
        return 0
    if bound == 0 and (reader.has(FRAMEWORK) or reader.get(PLACEMENT) != "split"):
        turns = "" if reader.has(FRAMEWORK) else f"; {reader.key(PLACEMENT)} split if that is meant"
        one = f"one set of chips ({reader.key(BOTH_ON)})"
        fix = f"{reader.key(STALENESS)} {framework.staleness}, or {one}{turns}"
        reader.add("leaves one side of a split idle at any time", STALENESS, given=0, fix=fix)
    return taken.take(STALENESS, framework.staleness, f"weights at most {framework.staleness} step(s) behind")


def _choices(
    reader: QuestionReader, of: Field[dict[str, str]], parse: Callable[[Mapping[str, str]], _Choices]
) -> _Choices:
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


def _software(reader: QuestionReader, facts: Facts) -> Framework:
    """The framework, or the one of a run that names none; engine and stack are checked too."""
    from mowich.rl.frameworks import read_framework
    from mowich.software.engine import engine_names
    from mowich.software.stack import stack_names

    asked_software(reader, ROLLOUT_ENGINE, "engine", lambda: engine_names(facts))
    asked_software(reader, TRAINER_STACK, "software stack", lambda: stack_names(facts))
    name, at, release = (reader.get(FRAMEWORK) or "").partition("@")
    if at and not release:
        reader.refuse("names no release", FRAMEWORK, allowed=f"{name}@0.5, or {name}")
    with reader.watch(FRAMEWORK):
        return read_framework(facts, name, release)
    return read_framework(facts, "")


def _times(reader: QuestionReader, algorithm: str, facts: Facts, taken: _Assumed) -> tuple[float, float]:
    """(seconds of a call between two turns, seconds until a reward): as stated, else those of the kind of environment;
    what it lacks is noted."""
    from mowich.rl.environments import environment_times

    kind = reader.get(ENVIRONMENT)
    usual: tuple[Fact | None, Fact | None] = None, None
    if kind is not None:
        with reader.watch(ENVIRONMENT):
            usual = environment_times(facts, kind)
    if not _has_turns(reader):
        usual = None, usual[1]
    elif usual[0] is None:
        why = f" with {reader.key(TURNS)} above 1: how long a call takes depends on the environment"
        reader.need(CALL, why=f"{why} ({reader.key(ENVIRONMENT)} has the usual times of some)")
    seconds = []
    for wait, fact in zip((CALL, REWARD), usual, strict=True):
        if fact is None:
            seconds.append(reader.get(wait) or 0.0)
        else:
            ends = f"{fact.low or fact.value:g} to {fact.high or fact.value:g} s"
            words = f"{wait.name} of {fact.value:g} s ({ends})"
            seconds.append(taken.take(wait, facts.number(fact.path), words))
    if algorithm != "distill" and usual[1] is None and not reader.has(REWARD) and not reader.has(JUDGE_MODEL):
        taken.words.append("rewards that take no time")
    return seconds[0], seconds[1]


def _has_turns(reader: QuestionReader) -> bool:
    """Whether tools are called between the turns of a sample."""
    return (reader.get(TURNS) or 1.0) > 1.0


def _judge(reader: QuestionReader, algorithm: str, facts: Facts) -> AskedJudge | None:
    """The judge, where there is one; what it lacks is noted."""
    if not _has_turns(reader):
        reader.refuse("is the time between two turns, and there is one turn", CALL, fix=f"add {reader.example(TURNS)}")
    parts = (JUDGE_MODEL, JUDGE_ON, JUDGE_TOKENS)
    if algorithm == "distill":
        why = "a teacher gives no rewards"
        reader.refuse(why, REWARD, ENVIRONMENT, *parts, ACCEPTANCE, fix="leave it out")
    given = next((f for f in parts if reader.has(f)), None)
    if given is None:
        return None
    reader.need(*parts, why=f" with {reader.key(given)}")
    model = _other_model(reader, JUDGE_MODEL)
    on, tokens = reader.get(JUDGE_ON), reader.get(JUDGE_TOKENS)
    _check_system(reader, JUDGE_ON, facts)
    return None if model is None or on is None or tokens is None else AskedJudge(model=model, on=on, tokens=tokens)


def _model(reader: QuestionReader, *, has_file: bool) -> Model | None:
    """The model that is trained: of a scenario, or as every verb takes one."""
    if not reader.has(QUESTION):
        scenario = "a model, or a scenario such as rl-nemo-8b"
        reader.add("is required", QUESTION, allowed=f"{scenario} (mowich example lists them)")
        return None
    return _other_model(reader, QUESTION) if has_file else asked_model(reader)


def _other_model(reader: QuestionReader, of: Field[object]) -> Model | None:
    with reader.watch(of):
        return loaded_model(reader, reader.given(of)) if reader.has(of) else None
    return None


def _check_system(reader: QuestionReader, of: Field[str], facts: Facts) -> None:
    """A problem where a system that is named is not known."""
    from mowich.machines.system import resolve

    name = reader.get(of)
    with reader.watch(of):
        if name is not None:
            resolve(facts, name)


def _given(reader: QuestionReader) -> dict[str, object]:
    """What was given, by field, as JSON has it; not how the answer is shown, nor what changed facts."""
    left = {f.name for f in (*FORM, LEGEND, AS, STEPS_TIMELINE, *OF_FACTS)}
    asked = ((f, reader.given(f)) for f in RL.fields if f.name not in left)
    values = {f.name: value for f, value in asked if value is not None and value != f.default}
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
    from mowich.rl.sync import METHODS

    again = _given(reader)
    has_file = lay_run_scenario(reader)
    reader.read_all()
    form, settings = form_of(reader), read_settings(reader)
    facts, taken = settings.facts, _Assumed(reader)
    if settings.plan or settings.lnc is not None:
        of = f"{reader.key(ROLLOUT_PLAN)} and {reader.key(TRAINER_PLAN)}"
        reader.problems.add("each side has its own plan", where="plan", fix=f"give {of}")
    model = _model(reader, has_file=has_file)
    algorithm = _algorithm(reader, taken)
    prompts, samples, global_batch = _batch(reader, algorithm, taken)
    lengths = _lengths(reader, facts, taken)
    prompt, most = _sequences(reader, facts, lengths, taken)
    _check_algorithm(reader, algorithm, taken)
    framework = _software(reader, facts)
    placement, staleness = _placed(reader, framework, taken)
    systems = _systems(reader, facts)
    for side in (ROLLOUTS_ON, TRAINER_ON):
        _check_system(reader, side, facts)
    (call_s, reward_s), judge = _times(reader, algorithm, facts, taken), _judge(reader, algorithm, facts)
    if reader.has(DRAFTS):
        reader.need(KEPT_TOKENS, why=f" with {reader.key(DRAFTS)}")
    asked_timeline(reader, STEPS_TIMELINE)
    rollout_plan, trainer_plan = _plans(reader, taken)
    sync = asked_software(reader, SYNC_METHOD, "method of weight synchronisation", lambda: METHODS) or ""
    term = asked_kind(reader, settings)
    reader.problems.found.sort(key=_line_of)
    reader.stop()
    assert model is not None
    assert lengths is not None
    reference, passes = _passes(reader, algorithm, framework, taken)
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
        epochs=reader.get(EPOCHS) or 1,
        goal=reader.get(GOAL) or "cost",
        lengths=lengths,
        prompt=prompt,
        max_sequence=most,
        reference=reference,
        passes=passes,
        critic=_other_model(reader, CRITIC),
        teacher=_other_model(reader, TEACHER),
        acceptance=reader.get(ACCEPTANCE) or 1.0,
        placement=placement,
        staleness=staleness,
        order=reader.get(ORDER) or framework.order,
        partial=framework.partial if reader.get(PARTIAL) is None else reader.get(PARTIAL),
        systems=systems,
        rollout_plan=rollout_plan,
        drafts=reader.get(DRAFTS) or 0,
        trainer_plan=trainer_plan,
        framework=framework.name if reader.has(FRAMEWORK) else "",
        framework_release=(reader.get(FRAMEWORK) or "").partition("@")[2],
        sync=sync,
        link_Bps=reader.get(SITES_LINK),
        turns=reader.get(TURNS) or 1.0,
        call_s=call_s,
        reward_s=reward_s,
        judge=judge,
        term=term,
        assumed=tuple(taken.words),
        places={f.name: reader.said(f) for f in RL.fields},
        again=again,
    )


def _systems(reader: QuestionReader, facts: Facts) -> tuple[str, ...]:
    """The systems of both sides, or those to split over; names of these have no size."""
    from mowich.machines.system import resolve

    names = reader.get(BOTH_ON) or ()
    for name in names:
        with reader.watch(BOTH_ON):
            resolve(facts, name)
            if reader.has(SPLIT_CHIPS) and any(mark in name for mark in ":*"):
                raise UserError(
                    "the search finds the number of chips", given=name, allowed=name.partition(":")[0].partition("*")[0]
                )
    for twice in dict.fromkeys(n for n in names if names.count(n) > 1):
        reader.add(f"'{twice}' is named twice", BOTH_ON)
    return names


def _passes(
    reader: QuestionReader, algorithm: str, framework: Framework, taken: _Assumed
) -> tuple[bool, tuple[Pass, ...]]:
    """(whether a reference model reads each batch, all passes over a batch before it is trained on)."""
    usual = algorithm in ("grpo", "ppo") and "reference" in framework.forward
    said = "a reference model reads each batch" if usual else "no reference model"
    reference = taken.take(HAS_REFERENCE, usual, said)
    if algorithm == "distill":
        taken.words.append(
            "on-policy distillation: the teacher reads the model's own answers, and nothing rewards them"
        )
        return reference, ("teacher", "reference") if reference else ("teacher",)
    if "policy" not in framework.forward:
        taken.words.append(f"no pass of the policy before an update, as {framework.display} has it")
    wanted: dict[Pass, bool] = {
        "policy": "policy" in framework.forward,
        "reference": reference,
        "critic": algorithm == "ppo",
    }
    return reference, tuple(name for name, is_there in wanted.items() if is_there)


def _plans(reader: QuestionReader, taken: _Assumed) -> tuple[_Choices, _Choices]:
    """(choices of a worker's plan, of the trainer's)."""
    from mowich.plans.plan import parse_fixed
    from mowich.plans.serving_choices import parse_serving

    rollout = _choices(reader, ROLLOUT_PLAN, parse_serving)
    for name in ("mode", "prefill", "decode", "sequences"):
        if name in rollout:
            allowed = "tp, pp, dp, ep, weights, kv"
            reader.add("is not a choice of rollouts", ROLLOUT_PLAN, given=name, allowed=allowed)
    trainer = _choices(reader, TRAINER_PLAN, parse_fixed)
    if "precision" not in trainer:
        taken.words.append("updates in bf16")
    return rollout, {"precision": ("bf16",), **trainer}


_ASKED = (
    *(TEACHER, CRITIC, STEP_PROMPTS, PROMPT_SAMPLES, STEP_SAMPLES, GLOBAL_BATCH, EPOCHS, MEAN, LENGTH_CAP, SIGMA),
    *(QUANTILES, LENGTHS_FILE, COLUMN, PROMPT_MEAN, MAX_SEQUENCE, HAS_REFERENCE, ACCEPTANCE, PLACEMENT, STALENESS),
    *(ORDER, PARTIAL, BOTH_ON, SPLIT_CHIPS, GOAL, MOST_USD, ROLLOUTS_ON, TRAINER_ON, ROLLOUT_ENGINE, ENGINE_RELEASE),
    *(ROLLOUT_PLAN, MEMORY_SHARE, KEPT_TOKENS, DRAFTS, TRAINER_STACK, TRAINER_PLAN, FRAMEWORK, SYNC_METHOD, SITES_LINK),
    *(ENVIRONMENT, TURNS, CALL, REWARD, JUDGE_MODEL, JUDGE_ON, JUDGE_TOKENS),
)
"""What a run is asked with beside its model: a result keeps it as it was given."""
RL = Schema(
    name="rl",
    fields=(
        *(QUESTION, TEXT, AS, ALGORITHM, GRPO, PPO, DAPO),
        *kept_in("asked", *_ASKED),
        *(STEPS_TIMELINE, *kept_in("asked", PRICE_KIND), *OF_FACTS, TERM, LEGEND, *FORM, *kept_in("asked", SEED)),
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
