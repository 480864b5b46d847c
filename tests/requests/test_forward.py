"""Forward passes as a job: one reading on every edge, one job a question, and the right line for what is of another."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captured_models import captured_json
from mowich import cli
from mowich.errors import UserError
from mowich.facts import Facts
from mowich.models.builtin import builtin
from mowich.models.captured import DiffusionLatent
from mowich.models.captured_model import model_from_captured
from mowich.models.model import Model
from mowich.plans.forward import FORWARD_FIXABLE, ForwardJob, ForwardPlan, parse_forward
from mowich.requests import brief, gaps, jobs
from mowich.requests.fields import Edge
from mowich.requests.passes import FORWARD_FIELDS, check_decodes
from mowich.requests.schema import QuestionSource, Schema

LATENT = {"patch": [1, 2, 2], "vae_spatial": 8, "vae_temporal": 1, "causal_frames": True, "text_tokens": 512}
CLIPS = {**LATENT, "vae_temporal": 4, "branches": 2}


def diffusion(latent: dict[str, Any] | None = None, kind: str = "diffusion") -> Model:
    """A small captured model of a kind."""
    data = captured_json(builtin("llama-3.2-1b"), kind=kind)
    model = model_from_captured(data, where="m.json", source="m.json")
    assert model.captured is not None
    own = {"branches": 1, **LATENT, **(latent or {})}
    found = DiffusionLatent(**{**own, "patch": tuple(own["patch"])})
    return replace(model, captured=replace(model.captured, latent=found if kind == "diffusion" else None))


IMAGES, MOVIES, ENCODER = diffusion(), diffusion(CLIPS), diffusion(kind="encoder")
SIZES = st.integers(1, 128).map(lambda n: 16 * n)
DIFFUSED = st.fixed_dictionaries(
    {"task": st.just("diffuse"), "height": SIZES, "width": SIZES, "steps": st.integers(1, 100)},
    optional={
        "guidance": st.integers(1, 2),
        "batch": st.integers(1, 4096),
        "latency": st.integers(1, 600).map(lambda s: f"{s}s"),
    },
)
ENCODED = st.fixed_dictionaries(
    {"task": st.just("encode"), "tokens": st.integers(1, 10**8)}, optional={"batch": st.integers(1, 4096)}
)


def read(schema: Schema[Any], edge: Edge, job: dict[str, Any], facts: Facts, model: Model = IMAGES) -> Any:
    """The request of a job at an edge."""
    source = QuestionSource(edge=edge, facts=facts, load=lambda _: model)
    on = "systems" if schema is jobs.COMPARE and edge is Edge.KEYWORD else "on"
    systems: object = ["trn3:4"] if schema is jobs.COMPARE and edge is not Edge.OPTION else "trn3:4"
    if edge is Edge.OPTION:
        return schema.read({"model": "m", on: systems, **{k: str(v) for k, v in job.items()}}, source)
    return schema.read({"model": "m", on: systems, "forward": job}, source)


@given(job=st.one_of(DIFFUSED, ENCODED))
def test_every_edge_reads_the_same_job(job: dict[str, Any], facts: Facts) -> None:
    model = IMAGES if job["task"] == "diffuse" else ENCODER
    schemas: list[Schema[Any]] = [jobs.COMPARE, jobs.PLAN, *([] if "latency" in job else [jobs.FIT])]
    found = {read(schema, edge, job, facts, model).forward for schema in schemas for edge in Edge}
    assert len(found) == 1
    one = found.pop()
    assert isinstance(one, ForwardJob)
    assert one.batch == job.get("batch", 0)
    assert one.tokens == job.get("tokens", job.get("height", 0) * job.get("width", 0) // 256)
    assert one.branches == job.get("guidance", 1)


@given(job=st.one_of(DIFFUSED, ENCODED))
def test_the_command_of_a_body_asks_the_same(job: dict[str, Any], facts: Facts) -> None:
    model = IMAGES if job["task"] == "diffuse" else ENCODER
    body = {"model": "llama-3.2-1b", "on": ["trn3:4"], "forward": job}
    words = shlex.split(jobs.COMPARE.command(body))
    given = dict(zip((w.removeprefix("--") for w in words[3::2]), words[4::2], strict=True))
    assert given.pop("on") == "trn3:4"
    assert (
        read(jobs.COMPARE, Edge.OPTION, given, facts, model).forward
        == read(jobs.COMPARE, Edge.KEY, job, facts, model).forward
    )


def test_every_field_of_the_job_is_on_every_edge() -> None:
    names = {field.name for field in FORWARD_FIELDS} - {"forward"}
    for schema in (jobs.COMPARE, jobs.PLAN, jobs.FIT):
        assert names <= {field.name for field in schema.at(Edge.OPTION)}
        for edge in (Edge.KEYWORD, Edge.KEY):
            assert names == {field.name for field in schema.at(edge) if field.group == "forward"}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--train --task diffuse --steps 9", "--train: --task diffuse is a job of its own; leave --train or --task"),
        ("--serve --task encode --tokens 9", "--serve: --task encode is a job of its own; leave --serve or --task"),
        (
            "--task diffuse --steps 9",
            "--task: llama-3.1-8b is a decoder and makes no images, got 'diffuse'",
        ),
        ("--task encode", "--tokens: is required with the task encode; for example --tokens 512"),
        (
            "--task encode --tokens 9 --steps 2",
            "--steps: goes with images and clips; leave it out, or use the task",
        ),
        ("--task encode --tokens 9 --seq 2", "--seq: is an option of training; leave it out, or use --train"),
        ("--task encode --tokens 9 --isl 2", "--isl: is an option of serving; leave it out, or use --serve"),
        (
            "--task encode --tokens 9 --batch 9seqs",
            "--batch: not a count, got '9seqs'; allowed: a whole number",
        ),
        ("--task encode --tokens 9 --equal usd --chips 4", "--equal: forward passes compare on equal chips, got 'usd'"),
        ("--task encode --tokens 9 --stack hand-tuned", "--stack: goes with training and serving, got 'hand-tuned'"),
        ("--task encode --tokens 9 --set plan.pp=2", "--set plan: unknown field of a plan of forward passes 'pp'"),
        ("--task encode --tokens 9 --batch 4 --set plan.batch=2", "--batch: is given twice, got '4 and plan.batch'"),
        ("--task encode --tokens 9 --set plan.cfg=3", "--set plan.cfg: guidance has two branches, got '3'"),
        (
            "--serve --isl 9 --osl 9 --steps 2",
            "--steps: goes with images, clips and encoders; leave it out, or use --task",
        ),
        ("--train --seq 9 --batch 9seqs --tokens 1T --task encod", "--task: unknown task 'encod'"),
        ("--tokens 9", "--train: give either --train or --serve, or --task diffuse or encode, got 'neither'"),
    ],
)
def test_what_is_of_another_job_is_one_line(words: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["compare", "llama-3.1-8b", "--on", "trn3", *words.split()]) == 2
    said = capsys.readouterr().err
    assert f"error: {line}" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("model", "job", "line"),
    [
        (IMAGES, {"task": "encode", "tokens": 9}, "is a diffusion model and makes images"),
        (ENCODER, {"task": "diffuse", "steps": 9}, "is an encoder and makes no images"),
        (
            IMAGES,
            {"task": "diffuse", "steps": 9},
            "forward.height: is required with the task diffuse, or forw",
        ),
        (
            IMAGES,
            {"task": "diffuse", "steps": 9, "height": 1000, "width": 1024},
            "forward.height: not a size of",
        ),
        (
            MOVIES,
            {"task": "diffuse", "steps": 9, "height": 480, "width": 832, "frames": 80},
            "forward.frames: not a num",
        ),
        (
            IMAGES,
            {"task": "diffuse", "steps": 9, "tokens": 9, "width": 16},
            "forward.tokens: follows from height",
        ),
        (IMAGES, {"steps": 9}, "forward.task: is required"),
        (ENCODER, {"task": "encode", "tokens": "x"}, "forward.tokens: not a count, got 'x'"),
        (
            IMAGES,
            {"task": "difuse"},
            "forward.task: is not a task of forward passes, got 'difuse'; allowed: diffuse, encode",
        ),
    ],
)
def test_what_a_model_cannot_do_is_one_line(model: Model, job: dict[str, Any], line: str, facts: Facts) -> None:
    with pytest.raises(UserError) as error:
        read(jobs.COMPARE, Edge.KEY, job, facts, model)
    assert line in str(error.value)


def test_fit_has_no_limit_of_time(facts: Facts) -> None:
    with pytest.raises(UserError, match=r"forward\.latency: is a limit of time, and fit asks for memory"):
        read(jobs.FIT, Edge.KEYWORD, {"task": "encode", "tokens": 9, "latency": "1s"}, facts, ENCODER)


def test_branches_of_guidance_are_those_that_the_model_was_made_for_and_are_told(facts: Facts) -> None:
    job = {"task": "diffuse", "height": 480, "width": 832, "frames": 81, "steps": 50}
    found = read(jobs.PLAN, Edge.KEYWORD, job, facts, MOVIES)
    assert (found.forward.branches, found.forward.tokens) == (2, 21 * 30 * 52)
    assert any("classifier-free guidance" in note for note in found.notes)
    assert read(jobs.PLAN, Edge.KEYWORD, {**job, "guidance": 1}, facts, MOVIES).forward.branches == 1


@pytest.mark.parametrize("model", [IMAGES, ENCODER])
def test_no_verb_decodes_a_model_that_does_not(model: Model, facts: Facts) -> None:
    with pytest.raises(UserError, match=r"decodes no tokens; mowich compare .* --task (diffuse|encode)"):
        check_decodes(model)
    serve = {"isl": 100, "osl": 10}
    for schema, more in ((jobs.COMPARE, {"systems": ["trn3"]}), (jobs.PLAN, {"on": "trn3"})):
        source = QuestionSource(edge=Edge.KEYWORD, facts=facts, load=lambda _: model)
        with pytest.raises(UserError, match="decodes no tokens"):
            schema.read({"model": "m", "serve": serve, **more}, source)
    source = QuestionSource(edge=Edge.KEYWORD, facts=facts, load=lambda _: model)
    with pytest.raises(UserError, match=r"models: .* decodes no tokens"):
        brief.BRIEF.read({"models": "m"}, source)
    with pytest.raises(UserError, match="decodes no tokens"):
        gaps.GAP.read({"first": "trn2", "second": "trn3", "model": "m", "serve": serve}, source)


@given(
    plan=st.builds(
        ForwardPlan,
        tp=st.integers(1, 64),
        cp=st.integers(1, 64),
        cfg=st.integers(1, 2),
        batch=st.integers(1, 4096),
        precision=st.sampled_from(["bf16", "fp8"]),
        lnc=st.integers(0, 2),
    )
)
def test_a_plan_survives_its_json_and_its_words(plan: ForwardPlan) -> None:
    assert ForwardPlan.from_dict(plan.to_dict()) == plan
    words = {name: str(value) for name, value in plan.to_dict().items() if name in FORWARD_FIXABLE}
    assert parse_forward(words) == {name: (plan.to_dict()[name],) for name in words}
    assert plan.devices == plan.tp * plan.cp * plan.cfg
