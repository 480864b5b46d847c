"""Memory against parameter counts and published measurements."""

from __future__ import annotations

import numpy as np
import pytest

from mowich.facts import Facts
from mowich.models import load_model
from mowich.models.model import Attention, Layer, Mlp, Model
from mowich.plans.memory import dense_params_per_device, expert_params_per_device, in_flight, memory_B
from mowich.plans.plan import Plan, Plans, TrainJob
from mowich.software.stack import equip


@pytest.mark.parametrize("name", ["llama-3.1-8b", "llama-3.1-405b", "deepseek-v3", "qwen3-235b-a22b", "mixtral-8x7b"])
def test_one_device_holds_every_parameter(name: str) -> None:
    model = load_model(name)
    one = Plans.of([Plan()])
    held = dense_params_per_device(model, one)[0] + expert_params_per_device(model, one)[0]
    assert held == pytest.approx(model.params, rel=2e-4)  # biases and q, k norms are not split out


def gpt(hidden: int, layers: int, heads: int) -> Model:
    head = hidden // heads
    attention = Attention(kind="gqa", num_heads=heads, num_kv_heads=heads, head_dim=head, v_head_dim=head)
    layer = Layer(
        count=layers, mixer=attention, ffn=Mlp(ffn=4 * hidden, gated=False), norm_params=4 * hidden, hidden=hidden
    )
    return Model(
        name="gpt",
        architecture="gpt2",
        hidden=hidden,
        vocab=51200,
        layers=(layer,),
        tied_embeddings=False,
        embedding_params=51200 * hidden,
        head_params=0,
        final_norm_params=2 * hidden,
    )


@pytest.mark.parametrize(
    ("hidden", "layers", "heads", "pp", "vpp", "mb", "batch", "measured_gib"),
    [
        (6144, 48, 64, 1, 1, 4, 4, 9.56),
        (12288, 96, 96, 8, 3, 1, 64, 12.35),
        (20480, 105, 128, 35, 3, 1, 280, 23.08),
        (25600, 128, 160, 64, 1, 1, 512, 26.56),
    ],
)
def test_activations_of_the_sequence_parallel_runs(
    facts: Facts, hidden: int, layers: int, heads: int, pp: int, vpp: int, mb: int, batch: int, measured_gib: float
) -> None:
    """Korthikanti et al. 2022, figure 1: GiB of activations with sequence parallelism and selective recompute, 22B to
    1T."""
    system = equip(facts, "a100", chips=8 * pp, stack="megatron-2021")
    job = TrainJob(tokens=1e9, seq=2048, batch_seqs=batch)
    plan = Plan(
        tp=8,
        sp=True,
        pp=pp,
        vpp=vpp,
        micro_batch=mb,
        zero=0,
        recompute="selective",
        schedule="interleaved" if vpp > 1 else "1f1b",
    )
    got = memory_B(gpt(hidden, layers, heads), system, job, Plans.of([plan]), np.array([float(batch // mb)]))
    assert got["activations"][0] / 2**30 == pytest.approx(measured_gib, rel=0.15)


def test_parameters_and_optimizer_of_the_22b_run(facts: Facts) -> None:
    """Same figure: 45.6 GiB of parameters, gradients and optimizer state per GPU for the 22B model at tp 8."""
    system = equip(facts, "a100", chips=8, stack="megatron-2021")
    job = TrainJob(tokens=1e9, seq=2048, batch_seqs=4)
    got = memory_B(gpt(6144, 48, 64), system, job, Plans.of([Plan(tp=8, zero=0, micro_batch=4)]), np.array([1.0]))
    assert sum(got[k][0] for k in ("weights", "gradients", "optimizer")) / 2**30 == pytest.approx(45.56, rel=0.03)


def test_micro_batches_in_flight() -> None:
    p = Plans.of([Plan(pp=8), Plan(pp=8, vpp=2, schedule="interleaved"), Plan(pp=8)])
    assert in_flight(p, np.array([64.0, 64.0, 4.0])).tolist() == [8.0, 11.5, 4.0]
