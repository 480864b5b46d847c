"""The fields of a question of reinforcement learning, and the keys of a scenario that give them.

They are told once: options, keywords of Python, bodies and keys of a scenario (`SCENARIO_KEYS`) are views of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise
from typing import TypeVar

from mowich.errors import UserError
from mowich.requests.common import MODEL
from mowich.requests.fields import (
    EVERYWHERE,
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
    read_flag,
    read_share,
    share,
    whole,
    word,
)
from mowich.requests.scenarios import YAML
from mowich.requests.settings import PRICE_KIND
from mowich.requests.stated import asks_for, trained_words

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


@cache
def _words(name: str) -> tuple[str, ...]:
    """A vocabulary of `rl.job`, which brings arrays."""
    from mowich.rl import job

    return tuple(getattr(job, name))


def _word(name: str, help: str, vocabulary: str, example: str, edges: frozenset[Edge] = EVERYWHERE) -> Field[str]:
    """A word of a vocabulary of `rl.job`."""
    words = partial(_words, vocabulary)
    return word(name, help, words=words, what=name, metavar="WORD", example=example, edges=edges)


def _pairs(name: str, help: str, parse: Callable[[object], T], example: str) -> Field[T]:
    own = "Mapping[str, object] | str"
    return Field(
        name=name,
        parse=parse,
        kind="mapping",
        help=help,
        metavar="PAIRS",
        example=example,
        annotation=own,
    )


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
    return Field(name=name, parse=read_flag, kind="flag", help=help, negative=f"--no-{name}")


# ---- the fields
# ----------------------------------------------------------------------------------------------------------------------

QUESTION = replace(
    MODEL,
    needs=False,
    metavar="[MODEL]",
    help="Built-in name, config.json; or a scenario: FILE.yaml, the name of one that ships, its text in braces.",
    told=trained_words,
)
TEXT = replace(YAML, needs=False, help="A scenario as YAML (mowich help rl), in the place of a model.")
ALGORITHM = _word("algorithm", "grpo, ppo, dapo, distill.", "ALGORITHMS", "grpo", edges=_NOT_TYPED)
GRPO = flag("grpo", "Groups of answers to a prompt, rewarded against each other.", edges=TYPED, told=asks_for("grpo"))
PPO = flag("ppo", "With a critic, which is trained too.", edges=TYPED, told=asks_for("ppo"))
DAPO = flag(
    "dapo", "Groups that all fail or all succeed are dropped (--acceptance).", edges=TYPED, told=asks_for("dapo")
)
TEACHER = _model("teacher", "Learn from a teacher that rates the model's own answers.", option="--distill")
CRITIC = _model("critic", "The critic of ppo, where it is another model.")
STEP_PROMPTS = whole("prompts", "Prompts of a step.", high=MOST_SAMPLES, metavar="N", example="64")
PROMPT_SAMPLES = whole("samples", "Answers to each prompt.", high=MOST_SAMPLES, metavar="N", example="32")
STEP_SAMPLES = whole(
    "batch", "Samples of a step, with one of the two above.", high=MOST_SAMPLES, metavar="N", example="2048"
)
GLOBAL_BATCH = whole(
    "global_batch", "Samples of an optimizer step (else all of a step).", high=MOST_SAMPLES, metavar="N", example="512"
)
EPOCHS = whole("epochs", "How often a batch is trained on.", high=100, metavar="N", shown="1", example="1")
MEAN = count("mean", "Mean tokens of an answer.", high=LONGEST_ANSWER, metavar="N", example="3200")
LENGTH_CAP = count("cap", "Longest answer in tokens.", high=LONGEST_ANSWER, metavar="N", example="4096")
SIGMA = number(
    "sigma", "Spread of a lognormal length (else 0.7).", low=0.0, high=3.0, above=True, metavar="X", example="0.7"
)
QUANTILES = _pairs("quantiles", "Lengths in place of a mean: p50=900,p90=2500.", read_quantiles, "p50=900,p90=2500")
LENGTHS_FILE = path("lengths", "Lengths of a run's answers: a CSV.", metavar="FILE.csv", edges=_OPEN)
COLUMN = word("column", "Its column (else tokens).", metavar="NAME", example="tokens", edges=_OPEN)
PROMPT_MEAN = count("prompt", "Mean tokens of a prompt.", high=LONGEST_ANSWER, metavar="N", example="150")
MAX_SEQUENCE = count(
    "max_sequence",
    "Longest sequence that is trained on (else prompt + cap).",
    high=2 * LONGEST_ANSWER,
    metavar="N",
    example="4096",
)
HAS_REFERENCE = _switch("reference", "Whether a reference model reads each batch (a KL term).")
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
ORDER = _word("order", "Groups that an update takes: started or finished first.", "BATCH_ORDERS", "finished")
PARTIAL = _switch("partial", "Whether new weights reach answers that are being made.")
BOTH_ON = replace(
    names(
        "on",
        "h100:32: both sides there; with --chips: systems to split over.",
        metavar="SYSTEMS",
        example="h100:32",
        completes="systems",
    ),
    annotation="str | Sequence[str | System]",
)
SPLIT_CHIPS = whole("chips", "Chips in all: find how many roll out and train.", low=2, metavar="N", example="512")
GOAL = word(
    "goal",
    "Of the search: cost, dollars of a token; time, of a step.",
    words=("cost", "time"),
    what="goal",
    metavar="WORD",
    shown="cost",
    example="time",
)
MOST_USD = number(
    "budget",
    "With time: most dollars per million trained tokens.",
    low=0.0,
    above=True,
    metavar="USD",
    example="1.5",
)
ROLLOUTS_ON = word("rollouts", "Rollouts: trn3:64.", metavar="SYSTEM", example="trn3:64", completes="systems")
TRAINER_ON = word("trainer", "Updates: gb300:72.", metavar="SYSTEM", example="gb300:72", completes="systems")
ROLLOUT_ENGINE = word("engine", "Of rollouts: vllm, sglang, trtllm, neuron...", metavar="NAME", example="vllm")
ENGINE_RELEASE = word("release", "Of the engine: 0.10.", metavar="NAME", example="0.10")
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
TRAINER_STACK = word("stack", "Training software.", metavar="NAME", example="megatron")
TRAINER_PLAN = _pairs("trainer_plan", "Choices: tp=2,pp=4,precision=bf16.", read_pairs, "tp=2,pp=4")
FRAMEWORK = word("framework", "nemo-rl, verl, ... or with its release: NAME@0.5.", metavar="NAME", example="nemo-rl")
SYNC_METHOD = word("sync", "How new weights reach the workers (mowich help rl).", metavar="METHOD", example="reshard")
SITES_LINK = quantity("link", "B/s", "Between the sites of both sides.", metavar="RATE", example="100Gbit/s")
ENVIRONMENT = word("environment", "math, code, python, shell, swe: its usual times.", metavar="KIND", example="swe")
TURNS = number(
    "turns", "Of the model in a sample, tools called between.", low=1.0, high=1000.0, metavar="N", example="8"
)
CALL = quantity("call", "s", "Mean time of a call between two turns.", above=False, metavar="TIME", example="2s")
REWARD = quantity("reward", "s", "Mean time until a sample's reward.", above=False, metavar="TIME", example="1s")
JUDGE_MODEL = _model("judge", "A model that rewards, on chips of its own.")
JUDGE_ON = word("judge_on", "Its chips: h100:8.", metavar="SYSTEM", example="h100:8", completes="systems")
JUDGE_TOKENS = count(
    "judge_tokens", "Tokens that it writes for a sample.", high=LONGEST_ANSWER, metavar="N", example="500"
)
STEPS_TIMELINE = path(
    "timeline", "A few steps of the run: .json (ui.perfetto.dev) or .svg.", metavar="FILE", edges=TYPED
)

SCENARIO_KEYS: Mapping[str, Field[object]] = {
    "model": QUESTION,
    "algorithm": ALGORITHM,
    "teacher": TEACHER,
    "critic": CRITIC,
    "prompts": STEP_PROMPTS,
    "samples": PROMPT_SAMPLES,
    "batch": STEP_SAMPLES,
    "global_batch": GLOBAL_BATCH,
    "epochs": EPOCHS,
    "lengths.mean": MEAN,
    "lengths.cap": LENGTH_CAP,
    "lengths.sigma": SIGMA,
    "lengths.quantiles": QUANTILES,
    "lengths.csv": LENGTHS_FILE,
    "lengths.column": COLUMN,
    "prompt": PROMPT_MEAN,
    "max_sequence": MAX_SEQUENCE,
    "reference": HAS_REFERENCE,
    "acceptance": ACCEPTANCE,
    "placement": PLACEMENT,
    "staleness": STALENESS,
    "order": ORDER,
    "partial": PARTIAL,
    "on": BOTH_ON,
    "chips": SPLIT_CHIPS,
    "goal": GOAL,
    "budget": MOST_USD,
    "rollouts.on": ROLLOUTS_ON,
    "rollouts.engine": ROLLOUT_ENGINE,
    "rollouts.release": ENGINE_RELEASE,
    "rollouts.plan": ROLLOUT_PLAN,
    "rollouts.memory_share": MEMORY_SHARE,
    "rollouts.accept": KEPT_TOKENS,
    "rollouts.drafts": DRAFTS,
    "trainer.on": TRAINER_ON,
    "trainer.stack": TRAINER_STACK,
    "trainer.plan": TRAINER_PLAN,
    "framework": FRAMEWORK,
    "sync.method": SYNC_METHOD,
    "sync.link": SITES_LINK,
    "environment.kind": ENVIRONMENT,
    "environment.turns": TURNS,
    "environment.call": CALL,
    "environment.reward": REWARD,
    "environment.judge.model": JUDGE_MODEL,
    "environment.judge.on": JUDGE_ON,
    "environment.judge.tokens": JUDGE_TOKENS,
    "price": PRICE_KIND,
}
"""Key of a scenario -> the field that it gives, in the order of docs/records/scenario-keys.md."""
