"""Settings of an engine in launch commands: what is written is read back, for every engine that has them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich.errors import UserError
from mowich.facts import load_facts
from mowich.launch.arguments import LaunchProgram
from mowich.launch.plans import LaunchedPool, PlanLaunch
from mowich.launch.read import read_plan_file
from mowich.launch.sglang import SGLANG_SERVER
from mowich.launch.trtllm import TRTLLM_SERVE
from mowich.launch.vllm import VLLM_SERVE
from mowich.launch.write import program_text
from mowich.machines.system import resolve
from mowich.plans.launch_settings import (
    SETTING_NAMES,
    LaunchSettings,
    SettingValue,
    check_settings,
    read_setting,
    setting_arguments,
    setting_table,
)

PROGRAMS = {one.name: one for one in (VLLM_SERVE, SGLANG_SERVER, TRTLLM_SERVE)}
SYSTEM = resolve(load_facts(), "h200:8")


def values(name: str) -> st.SearchStrategy[SettingValue]:
    """Values of a setting: its words, and numbers in its bounds."""
    entry = setting_table()[name]
    out: list[st.SearchStrategy[SettingValue]] = [st.sampled_from(words)] if (words := entry.get("words")) else []
    if bounds := entry.get("number"):
        low, high = bounds["low"], bounds["high"]
        whole = st.integers(int(low), int(high))
        out.append(whole if bounds["whole"] else st.integers(5, 100).map(lambda n: n / 100.0))
    return st.one_of(out)


def drawn_settings(engine: str) -> st.SearchStrategy[dict[str, SettingValue]]:
    """Some of the settings that an engine has."""
    return st.fixed_dictionaries({}, optional={name: values(name) for name in setting_arguments(engine)})


def launched(program: LaunchProgram, fields: dict[str, object], role: str = "") -> PlanLaunch:
    pool = LaunchedPool(role=role, copies=1, devices=8, fields=fields)  # type: ignore[arg-type]
    at = {"work": "serve", "model": "deepseek-v3", "system": SYSTEM, "spec": "h200:8", "software": program.name}
    pools = (pool,) if not role else (pool, replace(pool, role="decode"))
    return PlanLaunch(**at, per_server=8, pools=pools)  # type: ignore[arg-type]


@settings(max_examples=150)
@given(data=st.data(), engine=st.sampled_from(sorted(PROGRAMS)), apart=st.booleans())
def test_settings_that_are_written_are_read_back(data: st.DataObject, engine: str, apart: bool, tmp: Path) -> None:
    stated = data.draw(drawn_settings(engine))
    tp, dp, ep = data.draw(st.sampled_from(((8, 1, 1), (1, 8, 8), (8, 1, 8))))
    formats = {"weights": "fp8", "kv": data.draw(st.sampled_from(("bf16", "fp8")))}
    job = {"context": 4096, "sequences": data.draw(st.integers(1, 512))}
    plan = {"tp": tp, "dp": dp, "ep": ep, "pp": 1, "cp": 1, **formats}
    file = tmp / "launch.sh"
    file.write_text(
        program_text(
            PROGRAMS[engine], launched(PROGRAMS[engine], {**plan, **job, **stated}, "prefill" if apart else "")
        )
    )
    found = read_plan_file(file, layers=61)
    absent = {name: own["absent"] for name, own in setting_arguments(engine).items() if "absent" in own}
    for got in found.pools.values() if apart else [found.plan]:
        assert {name: got[name] for name in SETTING_NAMES if name in got} == {**absent, **stated}
        assert {name: got.get(name, 1) for name in plan} == plan
        assert got["sequences"] == job["sequences"]


@pytest.fixture(scope="module")
def tmp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("launch")


BY_HAND = {
    "vllm serve m --enforce-eager": {"graphs": "off"},
    'vllm serve m --compilation-config \'{"cudagraph_mode": "PIECEWISE", "cudagraph_capture_sizes": [1, 512, 8]}\'': {
        "graphs": 512
    },
    'vllm serve m -cc \'{"cudagraph_mode": "NONE"}\' --max-num-batched-tokens 2048': {"graphs": "off", "budget": 2048},
    "vllm serve m -cc.cudagraph_mode=FULL_DECODE_ONLY --gpu-memory-utilization 0.95": {
        "graphs": "decode",
        "memory": 0.95,
    },
    "python -m sglang.launch_server --model-path m --disable-cuda-graph --scheduler-recv-interval 30": {
        "graphs": "off",
        "interval": 30,
    },
    "trtllm-serve m --tp_size 8 --max_num_tokens 8192 --kv_cache_free_gpu_memory_fraction 0.8": {
        "budget": 8192,
        "memory": 0.8,
        "wait": 0,
        "balance": 0,
    },
}


@pytest.mark.parametrize("command", BY_HAND)
def test_settings_of_a_command_written_by_hand(command: str, tmp_path: Path) -> None:
    file = tmp_path / "launch.sh"
    file.write_text(command + "\n", encoding="utf-8")
    found = read_plan_file(file, layers=61).plan
    assert {name: found[name] for name in BY_HAND[command]} == BY_HAND[command]


def test_a_backend_that_no_plan_has_is_named_and_left_out(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("tensor_parallel_size: 8\nmoe_config:\n  backend: CUTEDSL\ncuda_graph_config:\n", encoding="utf-8")
    found = read_plan_file(file, layers=61)
    assert found.unknown == ["moe_config.backend=cutedsl"]
    assert (found.plan["graphs"], "moe" in found.plan) == ("off", False)


@given(name=st.sampled_from(SETTING_NAMES), text=st.text(max_size=8))
def test_a_value_is_read_or_refused_with_what_is_allowed(name: str, text: str) -> None:
    value, said = None, ""
    try:
        value = read_setting(name, text)
    except UserError as error:
        said = str(error.allowed)
    assert said == ("" if value is not None else setting_table()[name]["allowed"])
    if value is not None:
        assert LaunchSettings.of({name: value}).to_dict() == {name: value}


@pytest.mark.parametrize("name", SETTING_NAMES)
def test_every_engine_has_a_setting_or_says_why_not(name: str) -> None:
    """A table that says nothing of an engine would refuse without a reason."""
    for engine in PROGRAMS:
        if name in setting_arguments(engine):
            check_settings((name,), engine)
            assert setting_arguments(engine)[name]["source"]
            continue
        with pytest.raises(UserError, match=f"{engine} has no such setting: .*(every|begin|wait|no measured)"):
            check_settings((name,), engine)
    with pytest.raises(UserError, match="neuron has no such setting") as found:
        check_settings((name,), "neuron")
    assert found.value.allowed == "settings of neuron: none"
