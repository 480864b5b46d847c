"""A job of training or serving, as the fields of a question say it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from mowich.plans.forward import FORWARD_TASKS
from mowich.requests.fields import Edge
from mowich.requests.footing import only_one_site
from mowich.requests.job_fields import (
    ACCEPT,
    BATCH,
    CACHED,
    DOCUMENT,
    FILLED_SHARE,
    IMAGE_SIZE,
    IMAGES,
    ISL,
    OSL,
    OUTER_EVERY,
    SEQ,
    SERVES,
    SITE_LINK,
    SITES,
    TASK,
    TOKENS,
    TPOT,
    TRAINS,
    TTFT,
    WITH_IMAGES,
)
from mowich.requests.passes import FORWARD_TASK
from mowich.requests.schema import QuestionReader
from mowich.units import StepBatch, is_digits

if TYPE_CHECKING:
    from mowich.facts import Facts
    from mowich.models.model import Model
    from mowich.models.task import Lora, Task
    from mowich.plans.plan import TrainJob
    from mowich.serving.search import ServeJob


def read_train(reader: QuestionReader, *, needs_tokens: bool = True) -> TrainJob | None:
    """The training job, or None when something is wrong or missing."""
    from mowich.plans.plan import TrainJob

    found = len(reader.problems.found)
    reader.need(SEQ, BATCH, *((TOKENS,) if needs_tokens else ()), why=f" with {reader.said(TRAINS)}")
    tokens, seq, document, fill = (reader.get(f) for f in (TOKENS, SEQ, DOCUMENT, FILLED_SHARE))
    said, batch = _step_batch(reader, seq)
    sites, site_Bps, outer_every = _read_sites(reader)
    if _is_of_another_job(reader):
        return None
    task, lora = _training_task(reader)
    if seq is not None:
        _check_document(reader, seq, document)
        _note_words(reader, seq, said, batch)
    _note_sites(reader, sites, outer_every)
    if len(reader.problems.found) > found or seq is None or batch is None or fill is None:
        return None
    if tokens and tokens < batch * seq:
        reader.add(
            f"{reader.given(TOKENS)} tokens are less than one step of {batch * seq:.6g}",
            TOKENS,
            fix=f"train on more, or choose a smaller {reader.said(BATCH)}",
        )
        return None
    return TrainJob(
        tokens=tokens or batch * seq * fill,
        seq=int(seq),
        batch_seqs=batch,
        batch_tolerance=said.within,
        task=task,
        lora=lora,
        document=document,
        fill=fill,
        sites=int(sites or 1),
        site_Bps=site_Bps or 0.0,
        outer_every=int(outer_every or 1),
    )


def _step_batch(reader: QuestionReader, seq: float | None) -> tuple[StepBatch, float | None]:
    """(the batch as it was said, its sequences; None where there is none, or one that is wrong)."""
    if reader.has(BATCH):
        with reader.watch(BATCH):
            said = StepBatch.read(reader.given(BATCH))
            return said, said.of(seq or 1)
    return StepBatch(), None


def _read_sites(reader: QuestionReader) -> tuple[float | None, float | None, float | None]:
    """(sites, the rate between two of them in B/s, steps between two exchanges): each needs the other two."""
    of_sites = (SITES, SITE_LINK, OUTER_EVERY)
    sites, site_Bps, outer_every = (reader.get(f) for f in of_sites)
    given = next((f for f in of_sites if reader.has(f)), None)
    if given is not None:
        reader.need(*of_sites, why=f" with {reader.said(given)}")
    return sites, site_Bps, outer_every


def _is_of_another_job(reader: QuestionReader) -> bool:
    """Whether the task is one of forward passes, or of reinforcement learning, which is noted."""
    from mowich.rl.job import ALGORITHMS

    word = reader.get(TASK)
    if word in FORWARD_TASKS and FORWARD_TASK not in reader.schema.fields:
        words = f"mowich compare MODEL --task {word} ... (mowich help forward)"
        reader.add("is a job of forward passes, not of training", TASK, given=word, fix=words)
        return True
    if word in ALGORITHMS:
        reader.add("is reinforcement learning", TASK, given=word, fix=f"mowich rl MODEL --{word} ... (mowich help rl)")
        return True
    return False


def _training_task(reader: QuestionReader) -> tuple[Task, Lora | None]:
    """The task of training and its adapters; one that is wrong is noted."""
    from mowich.models.task import parse_task

    with reader.watch(TASK):
        also = FORWARD_TASKS if FORWARD_TASK in reader.schema.fields else ()
        return parse_task(reader.get(TASK) or "pretrain", where=reader.said(TASK), also=also)
    return parse_task("pretrain")


def _note_sites(reader: QuestionReader, sites: float | None, outer_every: float | None) -> None:
    """Say what training at several sites counts, and what is not predicted of it."""
    only_one_site(reader, SITES)
    if sites is not None and outer_every is not None:
        reader.note(
            f"{reader.said(SITES)} {sites:.0f}: each site has the chips and the batch of the question, and trains"
            f" 1/{sites:.0f} of the tokens; costs per token are of all. What an exchange every {outer_every:.0f} steps"
            " does to the model's quality is not predicted"
        )


def _check_document(reader: QuestionReader, seq: float, document: float | None) -> None:
    """A problem where a document is longer than the sequence that it is packed into."""
    if document and seq and document > seq:
        reader.add(f"{reader.given(DOCUMENT)} tokens are more than a sequence of {seq:.0f}", DOCUMENT)


def _note_words(reader: QuestionReader, seq: float, said: StepBatch, batch: float | None) -> None:
    """Say what "4k", a batch without a unit and one in tokens mean, as they are easily meant otherwise."""
    if batch is None:
        return
    words, given = reader.given(SEQ), said.typed
    if isinstance(words, str) and words.strip()[-1:] in ("k", "K"):
        reader.note(
            f"{reader.said(SEQ)} {words} is {seq:.0f} tokens (k is 1000); {words.strip()[:-1]}Ki is a multiple of 1024"
        )
    if said.tokens is None:
        return
    if is_digits(given):
        reader.note(
            f"{reader.said(BATCH)} {given} is {given} tokens, {batch:.0f} sequences; {given} sequences are written"
            f" {StepBatch(sequences=said.tokens)}"
        )
    elif batch != said.tokens / seq:
        reader.note(
            f"{reader.said(BATCH)} {given} is taken as {batch:.0f} sequences, {batch * seq:,.0f} tokens: a number that"
            " divides over ranks"
        )


def read_serve(reader: QuestionReader) -> ServeJob | None:
    """The serving job, or None when something is wrong or missing."""
    from mowich.serving.search import ServeJob

    reader.need(ISL, OSL, why=f" with {reader.said(SERVES)}")
    isl, osl, ttft, tpot, accept = (reader.get(f) for f in (ISL, OSL, TTFT, TPOT, ACCEPT))
    cached = reader.get(CACHED)
    if isl is None or osl is None:
        return None
    if isinstance(cached, str) and reader.edge is Edge.KEY:
        reader.add("not a share", CACHED, given=cached, allowed="a share such as 0.6 or 60%")
        cached = None
    by, share_ = (cached, 0.0) if isinstance(cached, str) else (None, cached or 0.0)
    return ServeJob(
        prompt=isl,
        output=osl,
        cached=share_,
        cached_by=by,
        accept=accept,
        ttft_s=ttft or math.inf,
        tpot_s=tpot or math.inf,
    )


def with_images(reader: QuestionReader, job: ServeJob | None, model: Model | None, facts: Facts) -> ServeJob | None:
    """The serving job with the images of its requests, where some are asked for."""
    from mowich.models.encoder import encoder_of
    from mowich.serving.encoding import ServedImages

    has_count, has_size = (reader.has(field) for field in WITH_IMAGES)
    if has_count or has_size:
        reader.need(*WITH_IMAGES, why=f" with {reader.said(IMAGES if has_count else IMAGE_SIZE)}")
    count, size = (reader.get(IMAGES), reader.get(IMAGE_SIZE)) if has_count and has_size else (None, None)
    if job is None or model is None or not count or size is None:
        return job
    if job.cached_by is not None:
        reader.add(
            "says how much text is cached, but prompts have images",
            CACHED,
            given=job.cached_by,
            allowed=f"with {reader.said(IMAGES)}, a share: 60%",
        )
        return job
    with reader.watch(IMAGES):
        item = encoder_of(model, "image").image(size[0], size[1], facts)
        tokens = float(count * item.prompt)
        images = ServedImages(count=count, width=size[0], height=size[1], tokens=tokens)
        reader.note(
            f"{reader.said(IMAGES)} {count:g} of {size[0]:.0f} x {size[1]:.0f} pixels are {tokens:,.0f} tokens of a"
            " prompt beside its text"
        )
        return replace(job, images=images, prompt=job.prompt + tokens)
    return job
