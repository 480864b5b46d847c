"""Models captured from code: what is read, refused and folded, and that results carry them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captured_models import Json, captured_json, product, signed
from mowich.cli import run
from mowich.errors import UserError
from mowich.models import load_model, model_names
from mowich.models.builtin import builtin, captured_names, config_of
from mowich.models.captured import MAX_CAPTURED_BYTES
from mowich.models.captured_model import model_from_captured
from mowich.models.given import model_of_inputs
from mowich.models.model import NO_ATTENTION, NO_FFN, Attention, Layer, Mlp, Model, Moe, Recurrent
from mowich.models.traced import Traced
from mowich.web.asks import check_config
from mowich.web.reading import given_model

STATED = [name for name in model_names() if name not in captured_names()]
"""Built-in models that are stated in the words of a config."""


def read(data: Json) -> Model:
    return model_from_captured(data, where="m.json")


# what folds
# ----------------------------------------------------------------------------------------------------------------------


@st.composite
def attentions(draw: st.DrawFn) -> Attention:
    kv_heads, group, head = draw(st.sampled_from([1, 2, 5])), draw(st.sampled_from([1, 4])), draw(st.integers(8, 130))
    window = draw(st.sampled_from([None, 100, 1024]))
    biases = {"qkv_bias": draw(st.booleans()), "out_bias": draw(st.booleans()), "sinks": draw(st.booleans())}
    more: dict[str, Any] = {"window": window, "chunked": window is not None and draw(st.booleans()), **biases}
    heads = kv_heads * group
    if draw(st.booleans()):
        rope = draw(st.sampled_from([0, 4]))
        lora = {"q_lora": draw(st.sampled_from([None, 96])), "kv_lora": draw(st.sampled_from([48, 512]))}
        if lora["q_lora"] is None:
            more["qkv_bias"] = False
        wide = {"num_heads": heads, "num_kv_heads": heads, "head_dim": head, "v_head_dim": draw(st.integers(8, 130))}
        return Attention(kind="mla", **wide, rope_head_dim=rope, **lora, **more)
    sizes = {"num_heads": heads, "num_kv_heads": kv_heads, "head_dim": head, "v_head_dim": head}
    gate = 0 if more["qkv_bias"] else draw(st.sampled_from([0, heads * head]))
    return Attention(kind="gqa", **sizes, out_gate=gate, shares_kv=draw(st.booleans()), **more)


@st.composite
def ffns(draw: st.DrawFn, hidden: int) -> Mlp | Moe:
    width, gated = draw(st.integers(16, 4000)), draw(st.booleans())
    if draw(st.booleans()):
        return Mlp(ffn=width, gated=gated, bias=draw(st.booleans()))
    experts, groups = draw(st.sampled_from([8, 60])), draw(st.sampled_from([1, 4]))
    shared = draw(st.sampled_from([0, 77]))
    return Moe(
        num_experts=experts, top_k=draw(st.integers(1, experts)), ffn=width, gated=gated, bias=draw(st.booleans()),
        shared_ffn=shared, shared_gate=bool(shared) and draw(st.booleans()), router_bias=draw(st.booleans()),
        latent=draw(st.sampled_from([0, hidden // 2])), groups=groups, top_groups=draw(st.integers(1, groups)),
    )  # fmt: skip


@st.composite
def models(draw: st.DrawFn) -> Model:
    """Decoders whose every layer is one of ours, without what no product shows (kinds of norms)."""
    hidden, vocab, tied = draw(st.sampled_from([64, 1000, 4096])), draw(st.integers(2, 300_000)), draw(st.booleans())
    layers = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["attention", "attention", "recurrent", "none"]))
        mixer: Attention | Recurrent = NO_ATTENTION
        if kind == "attention":
            mixer = draw(attentions())
        elif kind == "recurrent":
            of: Any = draw(st.sampled_from(["mamba2", "gdn", "lightning"]))
            sizes = {"num_heads": draw(st.integers(1, 9)), "head_dim": 64, "num_groups": 1, "state_dim": 128}
            conv = draw(st.sampled_from([0, 4]))
            biased = conv > 0 and draw(st.booleans())
            mixer = Recurrent(kind=of, conv=conv, conv_bias=biased, **sizes)
        ffn = draw(ffns(hidden)) if kind == "none" or draw(st.booleans()) else NO_FFN
        norms = draw(st.integers(0, 4)) * hidden
        layers.append(Layer(count=draw(st.integers(1, 90)), mixer=mixer, ffn=ffn, norm_params=norms, hidden=hidden))
    pattern = [i for i, layer in enumerate(layers) for _ in range(layer.count)]
    table = vocab * hidden
    return Model(
        name="drawn", architecture="captured", hidden=hidden, vocab=vocab, layers=tuple(layers), tied_embeddings=tied,
        embedding_params=table, head_params=0 if tied else table, final_norm_params=hidden, max_seq=8192,
        pattern=tuple(draw(st.permutations(pattern)) if len(pattern) < 20 else pattern),
    )  # fmt: skip


@given(models(), st.booleans())
def test_a_model_that_is_captured_is_the_same_model(model: Model, fused: bool) -> None:
    found = read(captured_json(model, fused=fused))
    assert found.params == model.params
    for was, now in zip(model.layers, found.layers, strict=True):
        if fused and isinstance(was.mixer, Attention) and was.mixer.qkv_bias:  # one bias of the fused product
            was = replace(was, mixer=now.mixer) if was.params == now.params else was
        assert now == was
    assert found.flop_per_token(1000.0) == pytest.approx(model.flop_per_token(1000.0), rel=1e-12)
    assert replace(found, layers=model.layers) == model


def test_every_built_in_model_keeps_parameters_and_flop() -> None:
    not_plain = 0
    for number, name in enumerate(STATED):
        model = builtin(name)
        found = read(captured_json(model, fused=number % 2 == 0))
        assert found.params == model.params, name
        not_plain += any(isinstance(layer.mixer, Traced) for layer in found.layers)
        for was, now in zip(model.layers, found.layers, strict=True):
            rounding = 1e-4 if was.recurrent else 1e-9  # rows that pad a convolution
            full = replace(was.attention, indexer=None, compressor=None)
            core = full.core_flop_per_token(5000.0) if was.recurrent is None else was.mixer.core_flop_per_token(5000.0)
            assert now.flop_per_token(5000.0) == pytest.approx(2 * was.matmul_params + core, rel=rounding), name
    assert not_plain < 15  # indexers, compressed pasts, low-rank gates


def test_the_config_behind_a_capture_is_taken_where_both_say_the_same() -> None:
    for name in STATED:
        config = {key: value for key, value in config_of(name).items() if key != "source"}
        model = builtin(name)
        found = read(captured_json(model, config=config))
        assert found.layers == model.layers, name
        assert found.digested() == model.digested(), name
        assert not found.doubts, name


def test_a_config_that_says_another_thing_is_not_taken() -> None:
    config = {key: value for key, value in config_of("llama-3.1-8b").items() if key != "source"}
    model = builtin("llama-3.1-8b")
    other = replace(model.layers[0], ffn=Mlp(ffn=14_000))
    found = read(captured_json(replace(model, layers=(other,)), config=config))
    assert found.layers[0].ffn == other.ffn
    assert "the code is taken" in found.doubts[0]
    assert found.graded("B") == "D"
    window = replace(model.layers[0], mixer=replace(model.layers[0].attention, window=128))
    found = read(captured_json(replace(model, layers=(window,)), config=config))
    assert found.layers[0].attention.window == 128
    assert "the code is taken" in found.doubts[0]


# what stays as it was captured
# ----------------------------------------------------------------------------------------------------------------------


def joint_block(name: str = "llama-3.1-8b") -> Json:
    """A block of a diffusion transformer: text rows beside image tokens, modulation once a sequence."""
    data = captured_json(builtin(name), kind="diffusion")
    layer = data["layers"][0]
    layer["products"].append(product("txt.to_q", 4096, 4096, "column", rows=[0, 512, 0, 0]))
    layer["products"].append(product("mod.linear", 6 * 4096, 4096, "unknown", rows=[0, 1, 0, 0]))
    layer["cores"][0] |= {"queries": [512, 0, 1, 0], "keys": [512, 0, 1, 0], "causal": False, "cached": False}
    more = 7 * 4096 * 4096
    layer["params"] += more
    data["params"] += more * layer["count"]
    data["components"]["layers"] += more * layer["count"]
    return signed(data)


def test_a_block_of_no_kind_of_ours_keeps_each_product_under_its_module() -> None:
    data = joint_block()
    found = read(data)
    layer = found.layers[0]
    assert isinstance(layer.mixer, Traced)
    assert (found.kind, found.params, layer.params) == ("diffusion", data["params"], data["layers"][0]["params"])
    text, modulation = layer.mixer.products[-2:]
    assert (text.module, text.rows, modulation.rows) == ("txt.to_q", (512.0, 0.0), (1.0, 0.0))
    assert modulation.role == "replicated"
    assert "32 of 288 matrices" in found.remarks[0]
    core = layer.mixer.cores[0]
    rows = 4096.0 + 512.0
    assert core.flop_per_token(4096.0) * 4096.0 == pytest.approx(2 * rows * rows * 32 * 256)


def test_experts_stay_experts_beside_what_is_not_ours() -> None:
    data = captured_json(builtin("qwen3-30b-a3b"))
    layer = data["layers"][0]
    layer["products"][0]["times"] = 2
    found = read(signed(data))
    assert isinstance(found.layers[0].mixer, Traced)
    assert isinstance(found.layers[0].ffn, Moe)
    layer["products"] = [p for p in layer["products"] if p["module"] != "mlp.gate"]
    without = read(signed(data))
    assert without.layers[0].ffn == NO_FFN
    assert without.params == found.params == data["params"]
    router = 2.0 * 128 * 2048
    assert found.layers[0].flop_per_token(512.0) - without.layers[0].flop_per_token(512.0) == pytest.approx(router)


def test_a_model_without_a_head_has_no_vocabulary() -> None:
    data = captured_json(builtin("bert-large"), kind="encoder")
    data["outside"]["products"] = []
    found = read(signed(data))
    assert (found.vocab, found.kind, found.layers[0].attention.causal) == (0, "encoder", False)
    assert found.flop_per_token(512.0) == sum(x.count * x.flop_per_token(512.0) for x in found.layers)
    assert found.params == data["params"]


def test_an_encoder_beside_a_decoder_caches_nothing() -> None:
    model = builtin("llama-3.1-8b")
    encoder = replace(model.layers[0], count=2, mixer=replace(model.layers[0].attention, causal=False))
    data = captured_json(replace(model, layers=(encoder, model.layers[0]), pattern=()), kind="encoder-decoder")
    data["layers"][1]["cores"][0]["cached"] = True
    data["layers"][1]["cached_elements"] = 2048
    found = read(signed(data))
    assert [type(layer.mixer) for layer in found.layers] == [Traced, Attention]


def test_a_model_without_a_head_trains_in_the_time_of_its_layers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = captured_json(builtin("llama-3.2-1b"))
    data["outside"]["products"] = []
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(signed(data)), encoding="utf-8")
    ask = ["--train", "--tokens", "1G", "--seq", "4096", "--batch", "64seqs", "--on", "trn3:16", "--set", "plan.pp=1,2"]
    steps = []
    for model in (str(file), "llama-3.2-1b"):
        assert run(["compare", model, *ask, "--json", "-q"]) == 0
        steps.append(json.loads(capsys.readouterr().out)["rows"][0]["step_s"])
    without, whole = steps
    assert without["breakdown"].get("head", 0.0) == 0.0
    assert 0.0 < without["value"] < whole["value"]


def test_a_module_without_repeats_is_one_layer() -> None:
    data = captured_json(
        replace(builtin("llama-3.1-8b"), layers=(replace(builtin("llama-3.1-8b").layers[0], count=1),))
    )
    layer = data["layers"].pop()
    data["outside"] |= {
        key: layer[key] + data["outside"][key] for key in ("products", "cores", "params", "cached_elements")
    }
    data["components"] |= {"layers": 0, "other": layer["params"] + data["components"]["other"]}
    data["pattern"] = []
    found = read(signed(data))
    assert found.layers[0].attention == builtin("llama-3.1-8b").layers[0].attention
    assert (found.num_layers, found.params, found.vocab) == (1, data["params"], 128256)
    assert found.outside is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"reads": [{"module": "mlp", "what": "nonzero", "where": "m.py:4", "count": 2}]}, "nonzero in mlp at m.py:4"),
        ({"not_understood": [{"module": "x", "what": "aten.foo", "why": "no rule"}]}, "aten.foo in x (no rule)"),
    ],
)
def test_what_may_be_wrong_lowers_the_grade(change: Json, said: str) -> None:
    found = read(signed({**captured_json(builtin("gpt2")), **change}))
    assert said in found.doubts[0]
    assert found.graded("A") == "D"


def test_work_that_is_counted_more_often_than_it_runs_is_told() -> None:
    data = joint_block()
    data["layers"][0]["products"][-1]["rows"] = [3, 0, 0, 0]
    data["outside"]["products"][0]["rows"] = [0, 1, 0, 0]
    found = read(signed(data))
    assert "counted for each sequence: model.layers.{}.mod.linear" in found.remarks[1]
    assert found.remarks[2] == "its head runs for some tokens only, and is counted for each"


def test_experts_that_the_code_runs_all_are_told() -> None:
    data = captured_json(builtin("qwen3-30b-a3b"))
    other = copy.deepcopy(data["layers"][0])
    data["layers"], data["pattern"] = [data["layers"][0] | {"count": 47}, other | {"count": 1}], [*[0] * 47, 1]
    for layer in data["layers"]:
        layer["experts"][0]["run"] = "all"
    [doubt] = read(signed(data)).doubts
    assert "runs all 128 experts of mlp.experts for each token, and 8 are counted" in doubt


def test_a_scan_without_flop_is_refused() -> None:
    data = captured_json(builtin("nemotron-h-8b") if "nemotron-h-8b" in model_names() else _mamba())
    at = next(i for i, layer in enumerate(data["layers"]) if layer["scans"])
    data["layers"][at]["scans"][0]["flop"] = [0, 0, 0, 0]
    with pytest.raises(UserError, match="are not known"):
        read(signed(data))


def _mamba() -> Model:
    mixer = Recurrent(kind="mamba2", num_heads=8, head_dim=64, num_groups=1, state_dim=128)
    layer = Layer(count=2, mixer=mixer, ffn=NO_FFN, norm_params=64, hidden=64)
    return replace(builtin("gpt2"), layers=(layer,), hidden=64, pattern=(0, 0))


# files that the exporter wrote
# ----------------------------------------------------------------------------------------------------------------------

KEPT = Path(__file__).parents[1] / "fixtures" / "captured"
FORMS = {
    "deepseek_v3": (501_296, "mla mlp, mla moe"),
    "gpt_oss": (1_150_344, "gqa moe, gqa moe"),
    "llama_like": (2_742_528, "gqa mlp"),
    "gpt2_like": (854_144, "gqa mlp"),
    "experts_loop": (654_976, "gqa moe"),
    "dit": (4_635_968, "traced"),
    "seq2seq": (1_131_008, "traced, traced"),
    "vit": (1_386_250, "traced"),
}
"""File -> parameters as PyTorch counts them, and what its layers are read as from the code alone."""


def _form(layer: Layer) -> str:
    if isinstance(layer.mixer, Traced):
        return "traced"
    return f"{layer.attention.kind} {'moe' if isinstance(layer.ffn, Moe) else 'mlp'}"


@pytest.mark.parametrize("name", sorted(FORMS))
def test_what_the_exporter_wrote_is_read(name: str) -> None:
    data = json.loads((KEPT / f"{name}.json").read_text(encoding="utf-8"))
    found = read(data)
    by_code = read(signed({**data, "config": None}))
    assert (found.params, by_code.params) == (FORMS[name][0], FORMS[name][0])
    assert ", ".join(map(_form, by_code.layers)) == FORMS[name][1]
    assert found.flop_per_token(300.0) == pytest.approx(by_code.flop_per_token(300.0), rel=1e-3)
    assert [doubt.partition(" for ")[0] for doubt in found.doubts] == (
        ["its code runs all 8 experts of mlp.experts"] if name == "experts_loop" else []
    )
    assert any("a fixed number of rows" in remark for remark in found.remarks) is (name == "vit")
    if data["config"] is not None:
        config = load_model(str(KEPT.parent / "configs" / f"{name}.json"))
        assert found.digested() == config.digested()


# what is refused
# ----------------------------------------------------------------------------------------------------------------------

HOSTILE = [None, True, -1, 0, 1, 2.5, 10**30, "x", "", "a\nb", "\x1b[2J", [], {}, [1, 2], {"a": 1}, float("nan")]


def _places(node: object, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON object."""
    if at:
        yield at
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from _places(value, (*at, key))


BASES = [joint_block(), captured_json(builtin("qwen3-30b-a3b")), captured_json(_mamba())]
PLACES = [[p for p in _places(base) if p[0] != "pattern" or len(p) == 1] for base in BASES]


@given(st.data())
def test_an_edited_file_is_refused_in_one_line_or_is_another_question(data: st.DataObject) -> None:
    which = data.draw(st.integers(0, len(BASES) - 1))
    edited = copy.deepcopy(BASES[which])
    *way, last = data.draw(st.sampled_from(PLACES[which]))
    node: Any = edited
    for key in way:
        node = node[key]
    was = node[last]
    how = data.draw(st.sampled_from(["replace", "nudge", "remove", "rename", "twice"]))
    if how == "nudge" and isinstance(was, int) and not isinstance(was, bool):
        node[last] = was + data.draw(st.sampled_from([-1, 1, was or 1]))
    elif how == "remove" or (how == "rename" and not isinstance(node, dict)):
        del node[last]
    elif how == "rename":
        node[f"{last}s"] = node.pop(last)
    elif how == "twice" and isinstance(was, list) and was:
        was.append(was[0])
    else:
        node[last] = data.draw(st.sampled_from(HOSTILE))
    if edited == BASES[which] and repr(edited) == repr(BASES[which]):
        return
    with pytest.raises(UserError) as refused:
        read(edited)
    assert all(line.startswith("m.json") and line.isprintable() for line in refused.value.line().splitlines())
    if last == "digest":
        return
    try:
        found = read(signed(edited)) if "nan" not in repr(edited) else read(edited)
    except UserError as error:
        lines = error.line().splitlines()
    else:
        lines = []
        assert found.captured is not None
        assert found.params == found.captured.params
        assert found.digested() != read(BASES[which]).digested()
    assert all(line.startswith("m.json") and line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("schema", "mowich/captured@2", "update mowich"),
        ("params", 5, "m.json params: is not the sum of its components, got 5; allowed: "),
        ("layers.0.params", 8, "m.json layers.0.params: is below that of its products"),
        ("layers.0.experts.0.top_k", 200, "m.json layers.0.experts.0.top_k: is above the number of experts, got 200"),
        ("layers.0.products.0.n", -3, "m.json layers.0.products.0.n: must be a whole number, got -3; allowed: 1 to"),
        ("layers.0.cores.0.kv_heads", 3, "does not divide the heads, got 3"),
        (
            "layers.0.products.0.role",
            "colum",
            "layers.0.products.0.role: is none of these, got 'colum'; allowed: column",
        ),
        ("pattern", [0], "m.json layers.0.count: is not how often the pattern has it, got 48; allowed: 1"),
        ("notes", ["x" * 99_000], f"allowed: up to {MAX_CAPTURED_BYTES:,}"),
    ],
)
def test_a_forged_number_is_named_with_its_place(path: str, value: object, said: str) -> None:
    data = captured_json(builtin("qwen3-30b-a3b"))
    *way, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    node: Any = data
    for key in way:
        node = node[key]
    node[last] = value
    with pytest.raises(UserError) as refused:
        read(signed(data))
    assert said in refused.value.line()


def test_keys_that_a_core_chooses_bound_its_work() -> None:
    data = captured_json(builtin("llama-3.1-8b"))
    data["layers"][0]["cores"][0]["kept"] = 100
    layer = read(signed(data)).layers[0]
    full = builtin("llama-3.1-8b").layers[0]
    bounded = replace(full.attention, window=100).core_flop_per_token(4096.0)
    assert layer.flop_per_token(4096.0) == pytest.approx(2 * full.matmul_params + bounded)
    assert isinstance(layer.mixer, Traced)


# at the edges
# ----------------------------------------------------------------------------------------------------------------------


def test_a_file_is_a_model_and_no_config(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(captured_json(builtin("gpt2"))), encoding="utf-8")
    model = load_model(str(file))
    assert (model.name, model.params, model.source) == ("gpt2", builtin("gpt2").params, str(file))
    with pytest.raises(UserError, match="is for a config"):
        load_model(f"{file} as llama")


def test_a_result_carries_the_file_and_its_grade(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "mine.json", str(tmp_path / "r.json")
    flagged = {"not_understood": [{"module": "x", "what": "aten.foo", "why": "no rule"}]}
    data = signed({**captured_json(builtin("gpt2")), **flagged})
    file.write_text(json.dumps(data), encoding="utf-8")
    ask = ["--serve", "--isl", "500", "--osl", "100", "--on", "h100:1", "--out", out]
    assert run(["compare", str(file), *ask]) == 0
    note = "note: gpt2: not understood and in no count: aten.foo in x (no rule): all has grade D\n"
    assert note in capsys.readouterr().err
    file.unlink()
    saved = json.loads(Path(out).read_text(encoding="utf-8"))
    assert saved["inputs"]["model_config"] == data
    assert saved["rows"][0]["tpot_s"]["grade"] == "D"
    again = model_of_inputs(saved["inputs"])
    assert again is not None
    assert again.digested() == read(data).digested()
    saved["inputs"]["model_config"]["layers"][0]["products"][0]["n"] += 1
    with pytest.raises(UserError, match="model_config of the result digest: the file was changed"):
        model_of_inputs(saved["inputs"])


def test_the_page_names_modules_and_what_is_not_understood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.json"
    told = {"notes": ["text of 512 tokens"], "reads": [{"module": "a", "what": "item", "where": "m.py:3", "count": 2}]}
    file.write_text(json.dumps(signed({**joint_block(), **told})), encoding="utf-8")
    assert run(["model", str(file), "--json"]) == 0
    captured = json.loads(capsys.readouterr().out)["captured"]
    assert (captured["kind"], captured["read_from"]) == ("diffusion", "code")
    assert captured["layers"][0]["roles"] == {"column": 6, "row": 2, "unknown": 1}
    assert [captured[key][0] for key in ("notes", "doubts")] == [told["notes"][0], load_model(str(file)).doubts[0]]
    assert run(["model", str(file), "--plain"]) == 0
    page = " ".join(capsys.readouterr().out.split())
    for words in (
        "model.layers.{} DecoderLayer 32 captured 9 1",
        "item in a at m.py:3",
        "diffusion: patches",
        told["notes"][0],
    ):
        assert words in page
    assert "captured" not in load_model("gpt2").to_dict()


@pytest.mark.parametrize(
    "ask",
    [
        ["plan", "--train", "--tokens", "1T", "--seq", "4096", "--batch", "256seqs", "--on", "trn3:64", "--top", "2"],
        ["plan", "--serve", "--isl", "1000", "--osl", "100", "--on", "h100:2", "--top", "2"],
        ["fit", "--serve", "--kv", "8Ki", "--on", "trn3"],
    ],
)
def test_answers_through_a_capture_are_those_of_the_config(
    ask: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {key: value for key, value in config_of("qwen3-30b-a3b").items() if key != "source"}
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(captured_json(builtin("qwen3-30b-a3b"), config=config)), encoding="utf-8")
    verb, *rest = ask
    found = []
    for model in ("qwen3-30b-a3b", str(file)):
        assert run([verb, model, *rest, "--json", "-q"]) == 0
        answer = json.loads(capsys.readouterr().out.replace(str(file), "qwen3-30b-a3b"))
        assert ("model_config" in answer["inputs"]) is (model == str(file))
        for key in ("model_config", "model_read_as"):
            answer["inputs"].pop(key, None)
        found.append({key: value for key, value in answer.items() if key != "seconds"})
    assert found[0] == found[1]


def test_a_pasted_file_is_the_model_too() -> None:
    data = captured_json(builtin("gpt2"))
    assert check_config(data) is data
    assert given_model(data).params == builtin("gpt2").params
    with pytest.raises(UserError, match="pasted params: is not the sum"):
        given_model(signed({**data, "params": 1}))
