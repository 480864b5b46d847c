"""Mixers: contexts, caches and FLOP of sparse, compressed and recurrent layers from first principles."""

from __future__ import annotations

import pytest

from mowich.models import ops
from mowich.models.attention import NO_ATTENTION, Attention, Compressor, Indexer, mean_of_min
from mowich.models.ffn import NO_FFN, Mlp, Moe
from mowich.models.model import Layer
from mowich.models.recurrent import Recurrent

SPARSE = Attention(
    kind="mla",
    num_heads=8,
    num_kv_heads=8,
    head_dim=96,
    v_head_dim=64,
    q_lora=128,
    kv_lora=64,
    rope_head_dim=32,
    indexer=Indexer(num_heads=4, head_dim=16, top_k=256, query_in=128, norm_params=32),
)
COMPRESSED = Attention(
    kind="gqa",
    num_heads=8,
    num_kv_heads=1,
    head_dim=64,
    v_head_dim=64,
    window=32,
    q_lora=48,
    o_lora=24,
    o_groups=2,
    k_is_v=True,
    cached_once=True,
    norm_params=64,
    compressor=Compressor(ratio=4, overlap=True),
    indexer=Indexer(num_heads=4, head_dim=16, top_k=100, query_in=48, norm_params=0),
)
MIXERS = {
    "sparse": SPARSE,
    "compressed": COMPRESSED,
    "gated": Attention(
        kind="gqa", num_heads=8, num_kv_heads=2, head_dim=64, v_head_dim=64, out_gate=512, qk_norm="head"
    ),
    "mamba2": Recurrent(kind="mamba2", num_heads=8, head_dim=32, num_groups=2, state_dim=16, conv_bias=True),
    "gdn": Recurrent(kind="gdn", num_heads=8, head_dim=32, num_groups=4, state_dim=16),
    "kda": Recurrent(kind="kda", num_heads=8, head_dim=32, num_groups=8, state_dim=32, gate_rank=32, decay_rank=32),
    "lightning": Recurrent(kind="lightning", num_heads=8, head_dim=32, num_groups=8, state_dim=32, conv=0),
    "none": NO_ATTENTION,
}
FFNS = {
    "gated": Mlp(ffn=512),
    "none": NO_FFN,
    "moe": Moe(num_experts=16, top_k=3, ffn=64, shared_ffn=32, shared_gate=True),
    "latent": Moe(num_experts=16, top_k=3, ffn=64, shared_ffn=96, gated=False, latent=40, latent_norm=True),
}


def layer(mixer: str, ffn: str) -> Layer:
    return Layer(count=1, mixer=MIXERS[mixer], ffn=FFNS[ffn], norm_params=0, hidden=256)


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("ffn", FFNS)
def test_gemms_hold_every_matrix(mixer: str, ffn: str) -> None:
    """What `ops` lists is what `matmul_params` counts: no matrix is priced twice or forgotten."""
    one = layer(mixer, ffn)
    listed = sum(gemm.n * gemm.k + sum(n * gemm.k for n, _ in gemm.fused) for gemm in ops.dense_gemms(one, 256))
    if isinstance(one.ffn, Moe):
        listed += one.ffn.top_k * one.ffn.expert_matmul_params(256)
    assert listed == one.matmul_params


@pytest.mark.parametrize("mixer", [m for m in MIXERS if isinstance(MIXERS[m], Attention) and m != "none"])
@pytest.mark.parametrize("seq", [16, 200, 1000, 4096])
def test_mean_context_is_the_mean_of_contexts(mixer: str, seq: int) -> None:
    """The closed form over a sequence against the sum over its tokens (half a token of the diagonal apart, as
    stated)."""
    a = MIXERS[mixer]
    assert isinstance(a, Attention)
    summed = sum(a.attended(i + 0.5) for i in range(seq)) / seq
    assert a.context(seq) == pytest.approx(summed, rel=0.01)


def test_sparse_attention_reads_a_bounded_part_and_scores_everything() -> None:
    assert SPARSE.attended(100) == 100
    assert SPARSE.attended(10_000) == 256
    assert SPARSE.scored(10_000) == 10_000
    assert SPARSE.decode_flop(10_000) == 2 * 256 * 8 * (2 * 64 + 32) + 2 * 4 * (16 + 1) * 10_000
    assert SPARSE.cached_elements(1000) == 1000 * (64 + 32 + 16)
    assert SPARSE.read_elements(1000) == 256 * (64 + 32) + 1000 * 16


def test_compressed_attention_keeps_its_window_and_a_quarter_of_the_past() -> None:
    assert COMPRESSED.attended(4000) == 32 + 100
    assert COMPRESSED.attended(40) == 32 + 10
    assert COMPRESSED.scored(4000) == 1000
    assert COMPRESSED.cached_elements(4000) == 64 * 32 + 64 * 1000 + 16 * 1000


def test_shared_choice_costs_nothing() -> None:
    shared = Indexer(num_heads=4, head_dim=16, top_k=256, query_in=128, norm_params=32, shared=True)
    assert shared.params(256, None) == 0
    assert shared.flop_per_entry() == 0


@pytest.mark.parametrize("kind", ["mamba2", "gdn", "kda", "lightning"])
def test_state_does_not_grow(kind: str) -> None:
    r = MIXERS[kind]
    assert isinstance(r, Recurrent)
    assert r.state_elements == r.num_heads * r.state_dim * r.head_dim
    assert r.decode_flop(10) == r.decode_flop(10**6) == r.core_flop_per_token(4096)
    assert r.chunked_flop_per_token() > r.core_flop_per_token() / 2


def test_a_layer_may_be_one_block() -> None:
    assert layer("mamba2", "none").blocks == 1
    assert layer("none", "moe").blocks == 1
    assert layer("gdn", "gated").blocks == 2
    assert layer("mamba2", "none").attention is NO_ATTENTION
    assert layer("none", "gated").matmul_params == 3 * 256 * 512


def test_streams_are_mixed_at_every_block() -> None:
    one = Layer(count=1, mixer=SPARSE, ffn=Mlp(ffn=512), norm_params=0, hidden=256, streams=4)
    assert one.residual_flop == 2 * 2 * 16 * 256


def test_mean_of_min() -> None:
    assert mean_of_min(100, 1000) == 50
    assert mean_of_min(1000, 100) == pytest.approx(95)


def test_state_bytes_count_state_and_convolution() -> None:
    one = layer("gdn", "gated")
    assert one.state_bytes() == 4 * 8 * 16 * 32 + 2 * 3 * (8 * 32 + 2 * 4 * 16)
    assert layer("sparse", "gated").state_bytes() == 0
