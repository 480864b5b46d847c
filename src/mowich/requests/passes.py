"""A forward pass, or a loop of them, as a job of compare, plan and fit: `--task diffuse` makes images and clips,
`--task encode` runs a model once over a batch. Nothing is decoded token by token, and nothing is cached.

The command line has one `--task` for this and for training; Python and HTTP have a job of its own, `forward`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mowich.errors import UserError, did_you_mean
from mowich.plans.forward import FORWARD_TASKS, ForwardJob, ForwardTask
from mowich.requests.fields import Edge, Field, count, flag, quantity, read_count, whole, word
from mowich.requests.schema import QuestionReader
from mowich.requests.stated import is_drawn, stated_where

if TYPE_CHECKING:
    from mowich.models.model import Model

_FEW = frozenset({Edge.KEYWORD, Edge.KEY})
"""What the command line says in another way."""
_MOST_TOKENS = 1e8
_MOST_PIXELS = 65_536
_MOST_BATCH = 4096
FORWARDS = flag("forward", "The work is forward passes: images, clips, encoders.", edges=_FEW)
FORWARD_TASK = replace(
    word("task", "diffuse or encode.", metavar="TASK", group="forward", edges=_FEW, example="diffuse"),
    words=FORWARD_TASKS,
)
ITEM_TOKENS = count(
    "tokens", "Tokens of an item.", high=_MOST_TOKENS, metavar="N", group="forward", edges=_FEW, example="512"
)
ITEMS: Field[object] = Field(
    name="batch",
    parse=lambda value: value,
    kind="count",
    help="Items at once; without it, searched.",
    metavar="N",
    group="forward",
    edges=_FEW,
    example="32",
)
ITEM_HEIGHT = whole(
    "height", "Pixels of an image.", high=_MOST_PIXELS, metavar="N", group="forward", is_listed=False, example="1024"
)
ITEM_WIDTH = whole(
    "width", "Pixels of an image.", high=_MOST_PIXELS, metavar="N", group="forward", is_listed=False, example="1024"
)
ITEM_FRAMES = whole(
    "frames", "Images of a clip.", high=100_000, metavar="N", group="forward", is_listed=False, example="81"
)
ITEM_STEPS = whole(
    "steps",
    "Passes for an image or a clip.",
    high=10_000,
    metavar="N",
    group="forward",
    is_listed=False,
    example="28",
    told=stated_where(is_drawn, "steps"),
)
GUIDANCE = whole(
    "guidance",
    "Forwards of a step: 2 with classifier-free guidance.",
    high=2,
    allowed="1, or 2 with classifier-free guidance",
    metavar="1|2",
    group="forward",
    is_listed=False,
    example="2",
    told=stated_where(is_drawn, "branches"),
)
ITEM_LATENCY = quantity(
    "latency", "s", "Most seconds of an item.", metavar="TIME", group="forward", is_listed=False, example="5s"
)

_OF_IMAGES = (ITEM_HEIGHT, ITEM_WIDTH, ITEM_FRAMES, ITEM_STEPS, GUIDANCE)
"""What images and clips alone have."""
FORWARD_FIELDS = (FORWARDS, FORWARD_TASK, ITEM_TOKENS, ITEMS, *_OF_IMAGES, ITEM_LATENCY)
"""The job on all edges."""
FORWARD_ALONE = (*_OF_IMAGES, ITEM_LATENCY)
"""What no other job has."""
FORWARD_JOB = '{"task": "diffuse", "height": 1024, "width": 1024, "steps": 28}'
TASK_HELP = (
    "pretrain, sft, lora:16:attention,mlp; diffuse, encode with --height --width --frames --steps --guidance --latency."
)
"""What `--help` says of `--task` where it names the forward passes too, whose options stand in no line of their own."""


def asks_forward(reader: QuestionReader) -> bool:
    """Whether the job is one of forward passes: by the word of `--task`, or by its own mapping."""
    if FORWARDS not in reader.schema.fields:
        return False
    if reader.edge is Edge.OPTION:
        return reader.given(FORWARD_TASK) in FORWARD_TASKS
    return reader.given(FORWARDS) not in (None, False)


def forward_words(reader: QuestionReader) -> str:
    """How the job is asked for here: "--task diffuse or encode", or "forward"."""
    return "--task diffuse or encode" if reader.edge is Edge.OPTION else reader.said(FORWARDS)


def only_forward(reader: QuestionReader) -> None:
    """Note the fields of forward passes that were given to another job."""
    for field in FORWARD_ALONE:
        if reader.has(field):
            reader.add(
                "goes with images, clips and encoders", field, fix=f"leave it out, or use {forward_words(reader)}"
            )


def no_other_job(reader: QuestionReader, others: Sequence[Field[object]]) -> None:
    """Note the flags of other jobs that were given beside forward passes: a question has one job."""
    said = reader.said(FORWARD_TASK) if reader.edge is Edge.OPTION else reader.said(FORWARDS)
    task = reader.given(FORWARD_TASK)
    for field in others:
        if reader.given(field) not in (None, False):
            what = f"{said} {task}" if reader.edge is Edge.OPTION else said
            reader.add(f"{what} is a job of its own", field, fix=f"leave {reader.said(field)} or {what} out")


def read_forward_job(reader: QuestionReader, model: Model | None) -> ForwardJob | None:
    """The job of forward passes, or None when something is wrong or missing."""
    before = len(reader.problems.found)
    task = _task(reader)
    if task is None or (model is not None and not _can_do(reader, model, task)):
        return None
    tokens, latency = reader.get(ITEM_TOKENS), reader.get(ITEM_LATENCY)
    height, width, frames, steps = (
        reader.get(field) or 0 for field in (ITEM_HEIGHT, ITEM_WIDTH, ITEM_FRAMES, ITEM_STEPS)
    )
    batch = _batch(reader)
    if task == "encode":
        for field in _OF_IMAGES:
            if reader.has(field):
                reader.add("goes with images and clips", field, fix="leave it out, or use the task diffuse")
        reader.need(ITEM_TOKENS, why=" with the task encode")
    else:
        reader.need(ITEM_STEPS, why=" with the task diffuse")
        _need_sizes(reader)
    if len(reader.problems.found) > before or model is None or batch is None:
        return None
    branches = 1 if task == "encode" else _branches(reader, model)
    if task == "diffuse" and tokens is None:
        from mowich.models.latent import latent_tokens

        with reader.watch(ITEM_HEIGHT):
            tokens = latent_tokens(model, height=height, width=width, frames=frames)
    if tokens is None:
        return None
    return ForwardJob(
        task=task,
        tokens=int(tokens),
        batch=batch,
        steps=steps or 1,
        branches=branches,
        height=height,
        width=width,
        frames=frames,
        latency_s=latency or 0.0,
    )


def _task(reader: QuestionReader) -> ForwardTask | None:
    """The task; one that is not known is noted."""
    given = reader.given(FORWARD_TASK)
    if given is None:
        reader.missing(FORWARD_TASK)
    elif given not in FORWARD_TASKS:
        close = did_you_mean(str(given), FORWARD_TASKS)
        reader.add("is not a task of forward passes", FORWARD_TASK, given=given, allowed=FORWARD_TASKS, fix=close)
    else:
        return given
    return None


def _batch(reader: QuestionReader) -> int | None:
    """Items at once; 0 where the search finds them, None where what was given is no number of items."""
    given = reader.given(ITEMS)
    if given is None:
        return 0
    with reader.watch(ITEMS):
        return int(read_count(given, 1, _MOST_BATCH, "a whole number of images, clips or texts at once, such as 32"))
    return None


def _need_sizes(reader: QuestionReader) -> None:
    """Height and width go together, and stand in the place of tokens."""
    has_tokens = reader.has(ITEM_TOKENS)
    sizes = [field for field in (ITEM_HEIGHT, ITEM_WIDTH, ITEM_FRAMES) if reader.has(field)]
    if has_tokens and sizes:
        given = ", ".join(reader.said(field) for field in sizes)
        reader.add("follows from height, width and frames", ITEM_TOKENS, given=f"beside {given}", fix="give one")
    if not has_tokens:
        reader.need(ITEM_HEIGHT, ITEM_WIDTH, why=f" with the task diffuse, or {reader.said(ITEM_TOKENS)}")


def _can_do(reader: QuestionReader, model: Model, task: ForwardTask) -> bool:
    """Whether a model can do the task; one that cannot is noted."""
    what = f"{model.name} is {KIND_WORDS[model.kind]}"
    if task == "diffuse" and model.kind not in ("diffusion", "module"):
        use = f"use {_decoding(reader)}" if model.kind == "decoder" else "use the task encode"
        reader.add(f"{what} and makes no images", FORWARD_TASK, given=task, fix=use)
    elif task == "encode" and model.kind == "diffusion":
        reader.add(f"{what} and makes images", FORWARD_TASK, given=task, fix="use the task diffuse")
    else:
        return True
    return False


def _decoding(reader: QuestionReader) -> str:
    return "--train or --serve" if reader.edge is Edge.OPTION else "train or serve"


KIND_WORDS = {
    "decoder": "a decoder",
    "encoder": "an encoder",
    "encoder-decoder": "an encoder with a decoder",
    "vision-language": "a vision-language model",
    "speech": "a speech model",
    "diffusion": "a diffusion model",
    "module": "a module",
}
"""Kinds of models, for a sentence."""


def _branches(reader: QuestionReader, model: Model) -> int:
    """Forwards of a step: as given, else what the model was made for, which is told."""
    given = reader.get(GUIDANCE)
    if given is not None:
        return given
    from mowich.models.latent import guidance_branches

    found = guidance_branches(model)
    words = "one forward" if (found or 1) == 1 else "two forwards (classifier-free guidance)"
    why = f"as {model.name} is made for" if found else f"as nothing is known of {model.name}"
    reader.note(f"a step is {words}, {why}: {reader.said(GUIDANCE)} 1 or 2 says another")
    return found or 1


def check_decodes(model: Model, *, edge: Edge = Edge.OPTION, field: str | None = "model") -> None:
    """Raises UserError for a model that decodes no tokens: its images, clips or vectors are asked for by `--task`.
    field: that names the model, None: the caller says it.

    >>> from mowich.models import load_model
    >>> check_decodes(load_model("llama-3.1-8b"))
    """
    is_causal = all(layer.attention.causal for layer in model.layers)
    if model.kind in _TASK_OF or not is_causal:
        task = _TASK_OF.get(model.kind, "encode")
        asks = f"mowich compare {model.name} --task {task} ..."
        asks = asks if edge is Edge.OPTION else f'ask compare with forward={{"task": "{task}", ...}}'
        what = f"{model.name} is {KIND_WORDS[model.kind]} and decodes no tokens"
        raise UserError(what, field=field, fix=asks)


_TASK_OF: dict[str, ForwardTask] = {"diffusion": "diffuse", "encoder": "encode", "speech": "encode"}
"""Kinds of models that decode nothing, with the task that they do."""
