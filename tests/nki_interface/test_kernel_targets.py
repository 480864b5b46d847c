"""Where nobody names a target there is one default, by whichever way a kernel is run or timed, in both interfaces."""

import asyncio
import json

import numpy as np
import pytest

import mowich
import mowich.nki as nki
import mowich.nki.beta1 as older
import mowich.nki.beta1.language as older_nl
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich import cli
from mowich.neuroncore.targets import DEFAULT_TARGET, generation_of

X = np.ones((4, 4), np.float32)
NEWER = """import nki, nki.isa as nisa, nki.language as nl
@nki.jit
def kernel(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=out, src=x)
    return out
"""
OLDER = """import neuronxcc.nki as nki, neuronxcc.nki.language as nl
@nki.jit
def kernel(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nl.store(out, nl.load(x))
    return out
"""


@pytest.fixture(autouse=True)
def nobody_says(monkeypatch):
    for variable in ("NEURON_PLATFORM_TARGET_OVERRIDE", "NKI_NC_VERSION"):
        monkeypatch.delenv(variable, raising=False)


@nki.jit
def newer(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(dst=out, src=x)
    return out


@older.jit
def earlier(x):
    out = older_nl.ndarray(x.shape, dtype=x.dtype, buffer=older_nl.shared_hbm)
    older_nl.store(out, older_nl.load(x))
    return out


def test_the_default_is_trainium_3():
    assert DEFAULT_TARGET == "trn3"


@pytest.mark.parametrize("kernel", [newer, earlier])
def test_from_python(kernel):
    want = generation_of(DEFAULT_TARGET)
    assert mowich.run_kernel(kernel, X).cores[0].generation == want
    assert mowich.nki.run_kernel(kernel, X).cores[0].generation == want
    assert kernel.launch((X,), {}).cores[0].generation == want


@pytest.mark.parametrize("source", [NEWER, OLDER])
def test_from_the_command_line(tmp_path, capsys, source):
    file = tmp_path / "kernel.py"
    file.write_text(source)
    arguments = [str(file), "-k", "kernel", "x=float32[4,4]"]
    assert cli.run(["kernel", "run", *arguments]) == 0
    assert capsys.readouterr().out.startswith(f"kernel on NeuronCore-v{generation_of(DEFAULT_TARGET)}:")
    assert cli.run(["kernel", "profile", *arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["target"] == DEFAULT_TARGET
    for verb in ("run", "profile"):
        assert cli.run(["kernel", verb, "--help"]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert f"or {DEFAULT_TARGET})" in said


@pytest.mark.share(3)
@pytest.mark.parametrize(("source", "own"), [(NEWER, ""), (OLDER, ""), (NEWER, "trn2")])
def test_from_the_web(source, own):
    pytest.importorskip("fastapi")
    from mowich.web import asks, kernels

    if own:
        source = source.replace("@nki.jit", f"@nki.jit(platform_target='{own}')")
    ask = asks.KernelProfile(source=source, kernel="kernel", arguments=("x=float32[4,4]",))
    answer = json.loads(asyncio.run(kernels.profile(ask, 60)))
    assert answer["result"]["target"] == (own or DEFAULT_TARGET)
    assert "--target" not in answer["command"]
