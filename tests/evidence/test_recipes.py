"""`software.recipes`: facts of releases, what a setting does to a step, and which recipe a row and a plan have."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mowich
from mowich.errors import UserError
from mowich.evidence.rows import Case, read_cases
from mowich.evidence.validate import published, read_csv
from mowich.facts import Facts
from mowich.models import load_model
from mowich.models.model import as_trained
from mowich.plans.plan import Plan, TrainJob
from mowich.software.recipes import FORMAT_OF, SETTINGS, before, newest, recipe_for, releases, switches, switches_of
from mowich.software.stack import as_set, equip, stack_names
from mowich.training.step import predict_step

JOB: mowich.Train = {"tokens": "1T", "seq": 4096, "batch": "2048seqs"}


def test_every_recipe_of_every_release_reads_facts_that_are(facts: Facts) -> None:
    """A release has a known stack and follows an older one; each of its runs has known words, which name numbers."""
    for release in releases(facts):
        assert facts.text(f"recipes.{release}.stack") in stack_names(facts)
        earlier = before(facts, release)
        if earlier is not None:
            assert facts.text(f"recipes.{earlier}.released") <= facts.text(f"recipes.{release}.released")
        runs = [path.split(".")[2:] for path in facts.paths(f"recipes.{release}") if path.count(".") >= 3]
        assert runs, release
        for *where, precision in runs:
            is_moe = where[0] != "dense"
            model, chip = where if len(where) == 2 else ("", "")
            recipe = recipe_for(facts, release, model, chip, precision, is_moe=is_moe)
            assert recipe is not None
            assert recipe.path == ".".join(["recipes", release, *where, precision])
            for path in switches(recipe.settings, FORMAT_OF[precision], is_moe=is_moe).values():
                facts.number(path)


FASTER = {
    "graphs": ("none", "full"),
    "overlap": ("no", "yes"),
    "experts": ("grouped", "fused"),
    "attention": ("16-bit", "fp8"),
    "dispatcher": ("alltoall", "hybridep"),
    "rows": ("dropless", "capacity"),
}
"""Setting -> (slower word, faster word)."""


@settings(max_examples=25, deadline=None)
@given(
    setting=st.sampled_from(sorted(FASTER)),
    precision=st.sampled_from(["bf16", "fp8", "mxfp8"]),
    ep=st.sampled_from([4, 8, 32]),
    micro_batch=st.sampled_from([1, 4]),
    model=st.sampled_from(["qwen3-30b-a3b", "gpt-oss-120b", "deepseek-v3"]),
)
def test_no_setting_that_spares_work_makes_a_step_longer(
    facts: Facts, setting: str, precision: str, ep: int, micro_batch: int, model: str
) -> None:
    """Whatever the other settings are, on a drawn model, precision and plan of B200s over several servers."""
    bare = equip(facts, "b200:64", has_recipe=False)
    plan = Plan(dp=64, ep=ep, zero=1, micro_batch=micro_batch, precision=precision)  # type: ignore[arg-type]
    job = TrainJob(tokens=2**30, seq=4096, batch_seqs=1024, batch_tolerance=0.0, is_balanced=True)
    known = as_trained(load_model(model))
    slower, faster = (
        predict_step(
            known, as_set(facts, bare, switches({setting: word}, FORMAT_OF[precision], is_moe=True)), job, plan
        )
        for word in FASTER[setting]
    )
    assert faster.total_s <= slower.total_s * (1 + 1e-9)


def test_a_row_has_the_recipe_of_its_release_or_that_of_its_date(facts: Facts) -> None:
    rows = [row for row in read_csv(published(), facts) if row["source_group"] == "Megatron-Bridge perf summary"]
    cases = [(row, case) for row, case in zip(rows, read_cases(rows, facts), strict=True) if isinstance(case, Case)]
    assert len(cases) > 150
    for row, case in cases:
        said = [item for item in case.inferred if item.startswith("recipe=")]
        assert len(said) == 1, row["id"]
    by_title = {row["source_title"][-20:]: case for row, case in cases if row["model_name"] == "Qwen3_30B_a3B"}
    assert len(by_title) > 3
    undated = {**next(r for r in rows if r["model_name"] == "GPT OSS 120B"), "source_title": "a run of ours"}
    for date, expected in (("2026-08", "bridge-26-08"), ("2023-01", None)):
        got = read_cases([{**undated, "date": date, "stack": "megatron"}], facts)[0]
        assert isinstance(got, Case)
        found = [item for item in got.inferred if item.startswith("recipe=")]
        assert bool(found) == (expected is not None)
        assert expected is None or (expected in found[0] and "not stated" in found[0])


def test_plans_have_the_newest_release_unless_a_question_names_another(facts: Facts) -> None:
    ours = equip(facts, "gb300:64")
    assert newest(facts, ours.stack.name) == facts.text("vendors.nvidia.training_recipe")
    assert ours.paths["stack.expert_launch_block"] == "training.common.graphed_launch"
    older = equip(facts.with_values({"vendors.nvidia.training_recipe": "bridge-26-04"}), "gb300:64")
    assert older.stack.name == "megatron-2025"
    assert older.stack.attention_experts == 1.0
    assert switches_of(facts, "bridge-26-04", ours.recipes) != switches_of(facts, "bridge-26-08", ours.recipes)
    assert equip(facts, "trn3:64").paths == equip(facts, "trn3:64", has_recipe=False).paths


def test_a_release_is_a_choice_of_plan_compare_and_fit() -> None:
    now, then = (
        mowich.plan("qwen3-30b-a3b", "gb300:64", train=JOB, top=1, recipe=name, fixed={"precision": "mxfp8"}).rows[0]
        for name in (None, "bridge-26.04")
    )
    assert now.step_s.value is not None
    assert then.step_s.value is not None
    assert now.step_s.value < then.step_s.value
    assert mowich.fit("qwen3-30b-a3b", "gb300:64", train=JOB, recipe="bridge-26-04") is True
    with pytest.raises(UserError, match="unknown recipe 'bridge-27-01'"):
        mowich.plan("qwen3-30b-a3b", "gb300:64", train=JOB, recipe="bridge-27-01")
    with pytest.raises(UserError, match="is of the stack megatron"):
        mowich.compare("qwen3-30b-a3b", ["gb300:64"], train=JOB, recipe="bridge-26-08", stack="jax-gpu")


def test_explain_says_what_the_release_is_worth(facts: Facts) -> None:
    result = mowich.plan("qwen3-30b-a3b", "gb300:64", train=JOB, top=1, fixed={"precision": "mxfp8"})
    terms = {term.name: term for term in mowich.explain(result, "gb300:64.step_s").terms}
    assert terms["recipe"].value > 1.05
    assert "bridge-26-08" in terms["recipe"].words


def test_every_word_of_a_setting_is_explained() -> None:
    for name, words in SETTINGS.items():
        assert len(words) >= 2, name
        assert all(meaning for meaning in words.values())
