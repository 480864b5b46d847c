"""Decoder layers and steps made of kernels: parts, what they add up to, ranks that stand for others, bad questions."""

from __future__ import annotations

import csv
import json
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mowich
from mowich import cli
from mowich.errors import UserError
from mowich.facts import Facts, load_facts
from mowich.machines.system import resolve
from mowich.models import load_model
from mowich.models.model import Model
from mowich.neuroncore.clock.records import ClockOptions
from mowich.neuroncore.core import Alike
from mowich.nki import collectives as nccl
from mowich.nki import hollow
from mowich.nki import isa as nisa
from mowich.nki import language as nl
from mowich.nki.runtime import run_function, run_ranks
from mowich.requests.command import command_of
from mowich.requests.kernels import LAYER
from mowich.studies.layer.calls import our_experts
from mowich.studies.layer.library import Kit, package_of
from mowich.studies.layer.shape import LayerJob, rank_layer
from mowich.studies.layer.study import LayerStudy, summed, time_layers

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = Path(os.environ.get("MOWICH_NKI_LIBRARY", "none"))

SMALL = {
    "model_type": "llama",
    "hidden_size": 512,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "intermediate_size": 1024,
    "vocab_size": 4096,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
}
EXPERTS = {
    **SMALL,
    "model_type": "qwen3_moe",
    "moe_intermediate_size": 256,
    "num_experts": 16,
    "num_experts_per_tok": 2,
}


@pytest.fixture
def model_of(tmp_path: Path) -> Any:
    """A model of a config."""

    def made(config: dict[str, Any]) -> Model:
        file = tmp_path / "config.json"
        file.write_text(json.dumps(config))
        return load_model(str(file))

    return made


def timed(facts: Facts, model: Model, on: str, **asked: object) -> LayerStudy:
    return time_layers(LAYER.of(facts, model=model, on=on, **asked))


def parts(found: LayerStudy) -> list[str]:
    return [p.name for p in found.kinds[0].parts]


def test_a_step_is_its_layers_and_what_follows(model_of: Any) -> None:
    found = timed(load_facts(), model_of(SMALL), "trn3:1", tp=2, context=256)
    block = ["all-reduce", "residual"]
    assert parts(found) == [
        *("norm", "QKV", "positions", "attention", "output projection"),
        *block,
        *("norm", "MLP"),
        *block,
    ]
    (kind,) = found.kinds
    assert kind.count == 3
    assert kind.one is None
    each = [p.time_s for p in kind.parts]
    assert float(kind.layer_s) == pytest.approx(sum(map(float, each)))
    assert float(kind.all_s) == pytest.approx(3 * float(kind.layer_s))
    after = sum(float(p.time_s) for p in found.after)
    assert float(found.step_s) == pytest.approx(float(kind.all_s) + after)
    assert found.by_law_s == 0
    for part in (*kind.parts, *found.after):
        assert part.time_s.low is not None
        assert part.time_s.high is not None
        assert 0 < part.time_s.low <= float(part.time_s) <= part.time_s.high
        assert part.engines
        assert max(part.engines.values()) <= float(part.time_s) * 1.001


@pytest.mark.parametrize("prefill", [False, True])
def test_experts_are_routed(model_of: Any, prefill: bool) -> None:
    found = timed(load_facts(), model_of(EXPERTS), "trn2:1", tp=2, lnc=1, context=256, prefill=prefill)
    assert parts(found)[7:-2] == ["norm", "router", "choice of experts", "experts, gate and up", "experts, down"]
    assert "positions" in parts(found)


def test_more_work_takes_longer(model_of: Any) -> None:
    facts, model = load_facts(), model_of(EXPERTS)
    base = float(timed(facts, model, "trn3:1", tp=2, context=1024).step_s)
    assert float(timed(facts, model, "trn3:1", tp=2, context=8192).step_s) > base
    assert float(timed(facts, model, "trn3:1", tp=2, context=1024, batch=16).step_s) > base
    assert float(timed(facts, model, "trn2:1", tp=2, context=1024).step_s) > base
    assert float(timed(facts, model, "trn3:1", tp=2, context=1024, prefill=True).step_s) > base


def test_experts_that_tokens_choose_are_read_once(model_of: Any) -> None:
    """A batch reads the experts that its tokens choose, each once: never more than there are."""
    layer = model_of(EXPERTS).layers[0]
    for batch, most in ((1, 2), (64, 16)):
        s = rank_layer(layer, LayerJob(tp=1, lnc=1, batch=batch, context=256, prefill=False))
        weights: Any = our_experts(Kit(None), s)[-1].arguments["rhs"]
        assert weights.shape[0] == most


def test_a_part_without_a_kernel_is_named_and_by_law(model_of: Any) -> None:
    model = model_of(SMALL)
    odd = replace(model, layers=(replace(model.layers[0], ffn=replace(model.layers[0].ffn, gated=False)),))
    found = timed(load_facts(), odd, "trn3:1", tp=2, context=256)
    (by_law,) = [p for p in found.kinds[0].parts if p.source == "law"]
    assert by_law.name == "feed-forward"
    assert by_law.why == "a feed-forward network without a gate"
    assert found.by_law_s == pytest.approx(3 * float(by_law.time_s))
    assert 0 < found.by_law_s < float(found.step_s)
    one_core = timed(load_facts(), odd, "trn3:1", tp=2, lnc=1, context=256)
    assert one_core.by_law_s > found.by_law_s  # half the cores


def reduced(x: Any, members: int) -> Any:
    part = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.private_hbm)
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=part, src=x)
    nccl.all_reduce(srcs=[part], dsts=[out], replica_group=[list(range(members))], op=nl.add)
    return out


@pytest.mark.parametrize(("ranks", "shape"), [(2, (128, 64)), (4, (1, 4096)), (8, (64, 2048))])
def test_one_rank_stands_for_all(ranks: int, shape: tuple[int, int]) -> None:
    """Ranks that are traced together, and one of them alone, take the same time, but for the turns in which copies of
    all come to the HBM of the chip at once."""
    x = np.zeros(shape, np.float32)
    together = run_ranks(reduced, [[x.copy(), ranks] for _ in range(ranks)], generation=4, values=False)
    alike = Alike(ranks=ranks, lasts_ps=lambda kind, sent_B: None)
    alone = run_function(reduced, [hollow(shape, "float32"), ranks], {}, generation=4, values=False, alike=alike)
    for result in (*together, alone):
        result.timed = True
    alone.options = ClockOptions(active_cores=ranks)
    assert 0.95 * float(together[0].time_s) < float(alone.time_s) <= float(together[0].time_s)


def test_a_fabric_says_how_long_a_collective_lasts() -> None:
    seen: list[tuple[str, int]] = []

    def lasts(kind: str, sent_B: int) -> int:
        seen.append((kind, sent_B))
        return 50_000_000

    made = run_function(
        reduced,
        [hollow((1, 4096), "float32"), 64],
        {},
        generation=3,
        values=False,
        alike=Alike(ranks=64, lasts_ps=lasts),
    )
    made.timed = True
    assert seen == [("all_reduce", 16384)]
    assert 50e-6 < float(made.time_s) < 60e-6


def test_beyond_a_chip_the_fabric_counts(model_of: Any) -> None:
    model = model_of({**SMALL, "num_attention_heads": 32, "num_key_value_heads": 32, "intermediate_size": 4096})
    times = {}
    for on, tp in (("trn3:1", 4), ("trn3:16", 32)):
        found = timed(load_facts(), model, on, tp=tp, context=256)
        times[tp] = next(float(p.time_s) for p in found.kinds[0].parts if p.name == "all-reduce")
    assert times[32] > 1.2 * times[4]


def test_a_fact_of_the_clock_may_be_moved(model_of: Any) -> None:
    """`--set` reaches the clock that layers are timed with."""
    model, facts = model_of(SMALL), load_facts()
    slow = facts.with_values({"neuroncore.timing-v4.links.hop": 10e-6})
    base, moved = (timed(f, model, "trn3:1", tp=2, context=256).kinds[0].parts for f in (facts, slow))
    change = {p.name for p, q in zip(base, moved, strict=True) if float(p.time_s) != float(q.time_s)}
    assert change == {"all-reduce"}


def test_a_part_takes_at_least_what_its_bytes_take(model_of: Any) -> None:
    """Of many shapes: no part is faster than the HBM of its chip, no engine works longer than the part lasts."""
    rng, facts = np.random.default_rng(3), load_facts()
    for _ in range(8):
        tp, lnc = int(rng.choice([1, 2, 4])), int(rng.choice([1, 2]))
        config = {
            **(EXPERTS if rng.integers(2) else SMALL),
            "hidden_size": 256 * int(rng.integers(1, 5)),
            "num_attention_heads": 4 * int(rng.integers(1, 4)),
            "num_key_value_heads": 4,
            "intermediate_size": 512 * int(rng.integers(1, 4)),
        }
        on = str(rng.choice(["trn2:1", "trn3:1"]))
        found = timed(
            facts,
            model_of(config),
            on,
            tp=tp,
            lnc=lnc,
            batch=int(rng.integers(1, 6)),
            context=int(rng.integers(1, 1500)),
            prefill=bool(rng.integers(2)),
        )
        system = resolve(facts, on)
        chip_Bps = system.hbm_Bps * system.devices_per_chip
        for part in (*found.kinds[0].parts, *found.after):
            assert float(part.time_s) >= part.hbm_B / chip_Bps, part.name
            assert max(part.engines.values(), default=0.0) <= float(part.time_s) * 1.001, part.name
            assert float(part.time_s) > 0 or (tp == 1 and part.kernel == "")


def test_sums_keep_their_order() -> None:
    found = timed(load_facts(), load_model("llama-3.2-1b"), "trn3:1", context=256)
    total = summed([p.time_s for p in found.after])
    assert total.low is not None
    assert total.high is not None
    assert total.low <= float(total) <= total.high


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["qwen3-30b-a3b", "--on", "trn3:1", "--tp", "3"], "--tp 3 does not divide the query heads"),
        (["qwen3-30b-a3b", "--on", "h100:1"], "no NeuronCore that is simulated"),
        (["qwen3-30b-a3b", "--on", "trn3:1", "--tp", "16"], "do not fit on trn3:1"),
        (["llama-3.1-405b", "--on", "trn3:1"], "in bf16 does not fit 4 ranks"),
        (["qwen3-30b-a3b", "--on", "trn3:1", "--library", "{tmp}"], "no nki-library here"),
        (["qwen3-30b-a3b", "--on", "trn3:1", "--prefill", "--decode"], "choose one of --prefill and --decode"),
        (["llama-3.2-1b", "--on", "trn3:1", "--context", "128k", "--prefill"], "at most 16,384 of all prompts"),
        (["qwen3-30b-a3b", "--on", "trn1:1", "--tp", "1"], "not joined in pairs"),
        (["gpt3-175b", "--on", "trn3:16", "--lnc", "3"], "--lnc"),
    ],
)
def test_bad_questions_get_one_line(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.run(["kernel", "layer", *(w.replace("{tmp}", str(tmp_path)) for w in words)])
    out = capsys.readouterr()
    assert code == 2
    assert out.out == ""
    assert said in out.err
    assert len(out.err.strip().splitlines()) == 1


def test_a_model_without_kernels_is_refused(model_of: Any) -> None:
    model = model_of(SMALL)
    layer = model.layers[0]
    odd = replace(layer, mixer=replace(layer.mixer, kind="mla", kv_lora=64), ffn=replace(layer.ffn, gated=False))
    with pytest.raises(UserError, match=r"no layer of .* has kernels: latent attention"):
        timed(load_facts(), replace(model, layers=(odd,)), "trn3:1", tp=2)


def library(folder: Path, block: str) -> Path:
    """A checkout with one kernel."""
    core = folder / "src" / "nkilib_src" / "nkilib" / "core"
    core.mkdir(parents=True)
    for place in (core, core.parent):
        (place / "__init__.py").write_text("")
    (core / "attention_block_tkg.py").write_text(block)
    (core / "common_types.py").write_text("class QuantizationType:\n    NONE = 0\n")
    return folder


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("def attention_block_tkg(X, new_argument):\n    return X\n", "takes no X_hidden_dim_actual"),
        ("import nothing_of_this_name\n", "does not load: ModuleNotFoundError"),
        ("def other(X):\n    return X\n", "has no attention_block_tkg"),
    ],
)
def test_a_library_of_another_version_is_refused(tmp_path: Path, model_of: Any, block: str, said: str) -> None:
    folder = library(tmp_path / "library", block)
    with pytest.raises(UserError, match=said) as error:
        timed(load_facts(), model_of(SMALL), "trn3:1", tp=2, context=256, library=folder)
    assert "13 April 2026" in str(error.value)
    assert "nkilib" not in sys.modules


def test_a_library_is_read_with_its_flaws(tmp_path: Path) -> None:
    """A docstring's tail that stands twice is left out, and references in torch are stood in for."""
    block = (
        "from .things_torch import anything\n\n"
        'def f():\n    """One.\n\n    Two:\n    """\n    Two:\n    """\n    return 7\n'
    )
    kit = Kit(library(tmp_path / "library", block))
    assert package_of(tmp_path / "library").name == "nkilib_src"
    with kit.opened():
        assert kit.find("attention_block_tkg").f() == 7
        with pytest.raises(UserError, match="a torch reference"):
            kit.find("attention_block_tkg").anything()
    assert "nkilib" not in sys.modules


def test_python_and_the_command_line_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    made: Any = mowich.run_layer("llama-3.2-1b", "trn3:1", tp=2, context=256).to_dict()
    assert (
        cli.run(["kernel", "layer", "llama-3.2-1b", "--on", "trn3:1", "--tp", "2", "--context", "256", "--json"]) == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert told["step_s"] == made["step_s"]
    assert told["kinds"][0]["all_s"] == made["kinds"][0]["all_s"]


def test_the_page_names_parts_and_the_law(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["kernel", "layer", "gpt2-xl", "--on", "trn3:1", "--tp", "1", "--context", "256"]
    if cli.run(words) != 0:
        words[2] = "falcon-40b"
        words[6] = "4"
        assert cli.run(words) == 0
    out = capsys.readouterr().out
    assert "law: a feed-forward network without a gate" in out
    assert "by the planner's law" in out


def test_a_result_says_its_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(SMALL))
    words = ["kernel", "layer", str(file), "--on", "trn3:1", "--tp", "2", "--context", "256", "--prefill"]
    assert cli.run([*words, "--json"]) == 0
    assert command_of(json.loads(capsys.readouterr().out)) == shlex.join(["mowich", *words])


@pytest.mark.skipif(not LIBRARY.is_dir(), reason="MOWICH_NKI_LIBRARY names no checkout of nki-library")
def test_with_nki_library_layers_are_one_launch() -> None:
    """Qwen3-30B-A3B on a chip, and Llama-3.1-70B over 16: AWS's kernels, all layers of a kind as one launch."""
    for model, on, kernel, most_s in (
        ("qwen3-30b-a3b", "trn3:1", "attention_block_tkg + moe_block_tkg", 20),
        ("llama-3.1-70b", "trn2:16", "transformer_tkg", 60),
    ):
        found = timed(load_facts(), model, on, context=640, library=LIBRARY)
        (kind,) = found.kinds
        assert kind.one is not None
        assert kind.one.kernel == kernel
        assert kind.one.engines["collective"] > 10e-6  # two all-reduces
        assert float(kind.all_s) == pytest.approx(kind.count * float(kind.layer_s), rel=0.1)
        assert found.notes == ()
        assert found.cpu_s < most_s


@pytest.mark.skipif(not LIBRARY.is_dir(), reason="MOWICH_NKI_LIBRARY names no checkout of nki-library")
def test_layers_that_are_not_traced_take_what_the_last_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    model = replace(load_model("llama-3.1-8b"), pattern=())
    model = replace(model, layers=(replace(model.layers[0], count=12),))
    whole = timed(load_facts(), model, "trn3:1", tp=8, lnc=1, library=LIBRARY)
    monkeypatch.setattr("mowich.studies.layer.study._MOST_INSTRUCTIONS", 1)
    short = timed(load_facts(), model, "trn3:1", tp=8, lnc=1, library=LIBRARY)
    assert short.notes == ("4 of 12 layers were run as one launch; each other one takes what the last of these take",)
    assert float(short.step_s) == pytest.approx(float(whole.step_s), rel=0.05)


RATIOS = ROOT.parent / "shared" / "truth" / "trainium_other.csv"


@pytest.mark.share(2)
@pytest.mark.skipif(not RATIOS.is_file(), reason="no table of published ratios")
@pytest.mark.parametrize("prefill", [False, True])
def test_trainium3_gains_over_trainium2_what_whole_models_do(prefill: bool) -> None:
    """Published forward passes of whole models on one chip of each: 1.1 to 1.4. Layers made of our kernels lie within
    a quarter of that."""
    with RATIOS.open(encoding="utf-8", newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["model"]]
    times: dict[tuple[str, str], dict[str, float]] = {}
    for r in rows:
        times.setdefault((r["model"], r["shape"]), {})[r["chip"]] = float(r["value"])
    known = [t["trn2"] / t["trn3"] for t in times.values() if {"trn2", "trn3"} <= set(t)]
    assert len(known) >= 4
    for name in ("qwen3-30b-a3b", "llama-3.1-8b"):
        two, three = (
            float(timed(load_facts(), load_model(name), on, context=1024, prefill=prefill).step_s)
            for on in ("trn2:1", "trn3:1")
        )
        assert 0.8 * min(known) < two / three < 1.25 * max(known)


def test_trainium1_counts_its_cores_one_by_one(model_of: Any) -> None:
    """A core of Trainium1 is a device of the planner's, and its law is that of one."""
    model = model_of({**SMALL, "num_hidden_layers": 8, "hidden_size": 4096, "intermediate_size": 16384})
    found = timed(load_facts(), model, "trn1:1", tp=2, lnc=1, context=256)
    assert float(found.step_s) > 0
    odd = replace(model, layers=(replace(model.layers[0], ffn=replace(model.layers[0].ffn, gated=False)),))
    by_law = timed(load_facts(), odd, "trn1:1", tp=2, lnc=1, context=256)
    (part,) = [p for p in by_law.kinds[0].parts if p.source == "law"]
    weights_B = 2.0 * 2 * 4096 * 16384 / 2
    assert float(part.time_s) > weights_B / resolve(load_facts(), "trn1:1").hbm_Bps
    assert float(part.time_s) < 2.5 * weights_B / resolve(load_facts(), "trn1:1").hbm_Bps
