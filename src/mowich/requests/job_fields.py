"""The fields of a job of training, of serving or of forward passes on systems, once for all verbs that ask of one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mowich.requests.fields import (
    CALLED,
    TYPED,
    Edge,
    Field,
    count,
    flag,
    names,
    number,
    path,
    quantity,
    read_mapping,
    read_share,
    whole,
    word,
)
from mowich.requests.passes import FORWARD_FIELDS, TASK_HELP
from mowich.requests.settings import OPTIMIZER
from mowich.requests.stated import (
    batch_words,
    chips_asked,
    engine_asked,
    given_at,
    has_key,
    has_sizes,
    image_words,
    images_asked,
    is_served,
    is_trained,
    plans_asked,
    stated_where,
    systems_asked,
    task_words,
)
from mowich.units import parse_pixels

LONGEST = 1e9
"""Most tokens of a sequence of training."""
LONGEST_SERVED = 1e8
"""Most tokens of a prompt, an answer, or a request's cache."""
MOST_PLANS = 1000
_FEW = frozenset({Edge.KEYWORD, Edge.KEY})
"""What the command line has not."""
_OPEN = frozenset({Edge.OPTION, Edge.KEY})
"""What Python has as functions of their own."""

TRAINS = flag("train", "The work is training.", told=is_trained)
SERVES = flag("serve", "The work is serving.", told=is_served)
FIT_SERVE = replace(SERVES, edges=TYPED)
ISL = count("isl", "Serving: prompt tokens, 8k.", high=LONGEST_SERVED, metavar="N", group="serve", example="8k")
OSL = count("osl", "Serving: output tokens, 1k.", high=LONGEST_SERVED, metavar="N", group="serve", example="1k")
TTFT = quantity("ttft", "s", "Serving: most seconds to the first token.", metavar="TIME", group="serve", example="2s")
TPOT = quantity("tpot", "s", "Serving: longest time per token, 30ms.", metavar="TIME", group="serve", example="30ms")


def read_cached(value: object) -> float | str:
    """A share of prompts, or the name of a file that it follows from."""
    if isinstance(value, str | Path) and Path(value).suffix in (".jsonl", ".json", ".csv", ".yaml", ".yml"):
        return str(value)
    return read_share(value)


CACHED: Field[float | str] = Field(
    name="cached",
    parse=read_cached,
    kind="share",
    help="Serving: share of prompts cached, 60%, or a trace.",
    metavar="SHARE",
    group="serve",
    low=0.0,
    high=1.0,
    example="60%",
    told=given_at("cached"),
)
ACCEPT = number(
    "accept",
    "Serving: tokens per speculative step.",
    low=1,
    high=16,
    allowed="tokens kept per step, such as 2.3",
    metavar="N",
    group="serve",
    example="2.3",
)
IMAGES = count(
    "images",
    "Serving: images of a request, 2.",
    high=10_000,
    metavar="N",
    group="serve",
    example="2",
    told=images_asked,
)
IMAGE_SIZE: Field[tuple[float, float]] = Field(
    name="image_size",
    parse=parse_pixels,
    kind="quantity",
    help="Serving: pixels of an image, 1024x768.",
    metavar="WxH",
    group="serve",
    example="1024x768",
    told=image_words,
)
SERVING_ENGINE = word(
    "engine",
    "Serving: vllm, trtllm, sglang, neuron..., hand-tuned.",
    metavar="NAME",
    group="serve",
    example="vllm",
    told=engine_asked,
)
FIT_ENGINE = word(
    "engine", "Serving: vllm, trtllm, sglang, neuron...", metavar="NAME", example="vllm", told=engine_asked
)
KV_TOKENS = count(
    "kv",
    "Serving: tokens of a request, prompt and answer: 128k.",
    high=LONGEST_SERVED,
    metavar="N",
    example="128k, the tokens of one request",
    implies="serve",
    told="kv_tokens",
)
TOKENS = count(
    "tokens",
    "Tokens to train on: 15T.",
    metavar="N",
    group="train",
    example="15T",
    told=stated_where(lambda result: not has_sizes(result), "tokens"),
)
TOKENS_OR_ITEM = replace(TOKENS, help="Tokens to train on: 15T; with --task encode: of an item.")
FIT_TOKENS = replace(TOKENS, help="With --task encode: tokens of an item.")
SEQ = count(
    "seq", "Tokens per sequence: 4096, 4Ki (4k is 4000).", high=LONGEST, metavar="N", group="train", example="4096"
)
BATCH: Field[object] = Field(
    name="batch",
    parse=lambda value: value,
    kind="quantity",
    help="Per step: 16384seqs, 64M (tokens); 16384seqs~5%.",
    metavar="N",
    group="train",
    example="16384seqs",
    told=batch_words,
)
TASK = word(
    "task",
    "pretrain, sft, lora, lora:16, lora:16:attention,mlp.",
    metavar="TASK",
    group="train",
    example="lora:16",
    told=task_words,
)
_TASK = replace(TASK, help=TASK_HELP)
DOCUMENT = count(
    "document", "Mean tokens of documents packed into a sequence.", metavar="N", group="train", example="1200"
)
FILLED_SHARE = number(
    "fill",
    "Share that is not padding, 0.01 to 1.",
    low=0.01,
    high=1.0,
    metavar="SHARE",
    group="train",
    default=1.0,
    shown="1.0",
    example="0.9",
)
SITES = whole("sites", "Sites that train together (DiLoCo).", low=2, high=1000, metavar="N", group="train", example="2")
SITE_LINK = quantity(
    "site_link", "B/s", "Into and out of a site.", metavar="RATE", group="train", example="100Gbit/s", told="site_Bps"
)
OUTER_EVERY = whole("outer_every", "Steps between exchanges of sites.", metavar="N", group="train", example="100")
ON = names(
    "on",
    "trn3, trn3:64 (chips), trn3-gen2*4 (units), ironwood:4x4x8; commas between.",
    metavar="SYSTEMS",
    needs=True,
    example="trn3,gb300",
    completes="systems",
    told=systems_asked,
)
SYSTEMS = replace(ON, keyword="systems", needs=False, default=())
"""Systems to compare; none is needed beside those that are there."""
SINGLE_SYSTEM = replace(ON, kind="word", help="trn3, trn3:64 (chips), trn3-gen2*4 (units).", example="trn3:64")
"""One system, where several are refused."""
CHIPS = whole(
    "chips", "Chips of each system (else: in its name, or a unit).", metavar="N", example="64", told=chips_asked
)
TOP = whole("top", "Plans to show, at most 1000.", high=MOST_PLANS, metavar="K", default=5, shown="5", told=plans_asked)
NEIGHBOURS = flag(
    "neighbours",
    "Why it wins: the best with each choice one step away.",
    edges=_OPEN,
    told=has_key(
        "why",
    ),
)
PARETO = flag("pareto", "Plans that nothing beats in time, memory and cost.", edges=_OPEN, told=has_key("pareto"))
TIMELINE = path(
    "timeline",
    "Play out a plan: .json (ui.perfetto.dev) or .svg.",
    metavar="FILE",
    edges=TYPED,
)
PICK = whole(
    "pick",
    "Which plan --timeline and --emit take.",
    high=MOST_PLANS,
    metavar="K",
    default=1,
    shown="1",
    edges=TYPED,
)
FIXED: Field[dict[str, str]] = Field(
    name="fixed",
    parse=read_mapping,
    kind="mapping",
    help="Choices of a plan, as in settings: {'plan.tp': '4,8'}.",
    edges=CALLED,
)

SERVED = (ISL, OSL, TTFT, TPOT, CACHED, ACCEPT, SERVING_ENGINE)
WITH_IMAGES = (IMAGES, IMAGE_SIZE)
TRAINED_ALONE = (SEQ, DOCUMENT, FILLED_SHARE, OPTIMIZER, SITES, SITE_LINK, OUTER_EVERY)
"""What training alone has."""
TRAINED = (TOKENS, SEQ, BATCH, TASK, DOCUMENT, FILLED_SHARE, OPTIMIZER, SITES, SITE_LINK, OUTER_EVERY)
RUN_FIELDS = (SEQ, BATCH, _TASK, *TRAINED_ALONE[1:], *FORWARD_FIELDS)
"""The jobs of training and of forward passes, which share `--task` and `--batch` on the command line."""
JOBS = {
    "train": '{"tokens": "15T", "seq": 4096, "batch": "16384seqs"}',
    "serve": '{"isl": "8k", "osl": "1k", "ttft": "2s", "tpot": "30ms"}',
}
