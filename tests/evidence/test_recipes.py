"""`software.recipes`: facts of releases, what a setting does to a step, and which recipe a row and a plan have."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mowich
from mowich.errors import UserError
from mowich.evidence.measured_tables import published, read_csv
from mowich.evidence.rows import Case, read_cases
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
            recipe = recipe_for(facts, release, model.replace("_", "."), chip, precision, is_moe=is_moe)
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


def test_a_row_that_states_no_layout_has_that_of_its_software(facts: Facts) -> None:
    """Recompute and sharding of Trainium's and of MaxText's rows are those of the newest release that was out by their
    date, say so, and give way to what a row states."""
    rows = read_csv(published(), facts)
    nxd = next(r for r in rows if r["model_ref"] == "llama2-13b" and "neuronx-distributed" in r["notes"])
    nemo = next(r for r in rows if r["model_ref"] == "gpt3-23b-neuron" and "neuronx-nemo" in r["notes"])
    maxtext = next(r for r in rows if r["source_group"] == "MaxText tiering doc" and r["model_ref"] == "llama3-8b")
    drawn = [
        (nxd, "selective", 1, "nxd-2-16"),
        ({**nxd, "date": "2023-11"}, "none", 0, ""),
        ({**nxd, "recompute": "full", "fsdp_zero": "ZeRO-0"}, "full", 0, "nxd-2-16"),
        (nemo, "selective", 0, "nemo-neuron-2-13"),
        (maxtext, "full", 3, "maxtext-2024-09"),
        ({**maxtext, "date": "2026-09"}, "full", 3, "maxtext-2026-08"),
        ({**maxtext, "recompute": "none"}, "none", 3, "maxtext-2024-09"),
    ]
    for (row, recompute, zero, release), got in zip(drawn, read_cases([d[0] for d in drawn], facts), strict=True):
        assert isinstance(got, Case), row["id"]
        assert (got.plan.recompute, got.plan.zero) == (recompute, zero)
        assert any(release in item for item in got.inferred if item.startswith("recipe=")) == bool(release)


def test_selective_recompute_repeats_what_the_software_says(facts: Facts) -> None:
    """Its attention core alone on Neuron, as full recompute of a layer without the rest would; a part of the rest under
    policies that keep tensors."""
    model, job = load_model("llama2-13b"), TrainJob(tokens=2**30, seq=4096, batch_seqs=64)
    for on, stack in (("trn1:64", "neuron"), ("h100:64", "jax-gpu")):
        system = equip(facts, on, stack=stack)
        none, some = (
            predict_step(model, system, job, Plan(tp=8, dp=system.devices // 8, recompute=how))
            for how in ("none", "selective")
        )
        core = none.breakdown["attention"] / (1 + system.stack.backward_attention)
        again = some.breakdown["recompute"]
        assert (again == pytest.approx(core, rel=1e-6)) == (stack == "neuron")


@settings(max_examples=20, deadline=None)
@given(seq=st.sampled_from([1024, 2048, 4096, 8192]), on=st.sampled_from(["h100:8", "b200:8", "gb300:8"]))
def test_experts_with_a_bias_cost_by_the_token_and_sinks_nothing_more(facts: Facts, seq: int, on: str) -> None:
    """cuDNN's kernel takes the sinks of GPT-OSS: a sequence of any length takes for them what it takes without. Its
    experts add a bias: their products take longer than those of the same experts without, by the same share."""
    model = load_model("gpt-oss-20b")
    plain = replace(
        model,
        layers=tuple(
            replace(at, mixer=replace(at.attention, sinks=False), ffn=replace(at.ffn, bias=False))  # type: ignore[arg-type, type-var]
            for at in model.layers
        ),
    )
    system = equip(facts, on)
    ours, other = (
        predict_step(one, system, TrainJob(tokens=2**30, seq=seq, batch_seqs=64), Plan(dp=8, ep=8, micro_batch=2))
        for one in (model, plain)
    )
    assert ours.breakdown["attention"] == pytest.approx(other.breakdown["attention"], rel=1e-9)
    assert ours.breakdown["gemm"] > other.breakdown["gemm"]


def test_every_word_of_a_setting_is_explained() -> None:
    for name, words in SETTINGS.items():
        assert len(words) >= 2, name
        assert all(meaning for meaning in words.values())
