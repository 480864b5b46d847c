"""Frameworks and environments as facts."""

from __future__ import annotations

import pytest

from mowich.errors import UserError
from mowich.facts import load_facts
from mowich.rl.environments import environment_times
from mowich.rl.frameworks import find_framework, framework_names, read_framework

FACTS = load_facts()

METHODS = {
    "ipc-buckets",
    "ipc-tensors",
    "reshard",
    "collective",
    "broadcast",
    "tensors",
    "rdma",
    "host",
    "delta",
    "disk",
    "relay",
}


@pytest.mark.parametrize("name", framework_names(FACTS))
def test_every_framework_is_whole(name: str) -> None:
    """What a framework does not say is as the unstated one, each number with its fact; software and methods are
    ours."""
    found = read_framework(FACTS, name)
    assert {found.sync_colocated, found.sync_split} <= METHODS
    assert f"serving.{found.engine}.step" in FACTS.paths(f"serving.{found.engine}")
    assert found.stack in FACTS.ids("training")
    assert 0.0 < found.memory_share_colocated <= found.memory_share_split <= 1.0
    for fact, path in found.paths.items():
        known = FACTS.fact(path)
        assert path.endswith(f".{fact}")
        assert known.source
        if known.grade == "D" and isinstance(known.value, float):
            assert (known.low or 0.0) <= known.value <= (known.high or 0.0)
    for spelled in (found.display, name.upper(), name.replace("-", "_")):
        assert find_framework(FACTS, spelled) == name


def test_a_set_fact_reaches_every_framework_without_its_own() -> None:
    faster = FACTS.with_values({"rl.frameworks.unstated.generation": 1.2})
    own = {"unstated", *(name for name in framework_names(FACTS) if FACTS.get(f"rl.frameworks.{name}.generation"))}
    assert all(
        read_framework(faster, name).generation == 1.2 for name in {*framework_names(FACTS)} - own | {"unstated"}
    )
    assert own == {"nemo-rl", "unstated"}
    stated = FACTS.with_values({"rl.frameworks.verl.memory_share_colocated": 0.4})
    assert read_framework(stated, "verl").memory_share_colocated == 0.4
    assert read_framework(stated, "trl").memory_share_colocated == 0.3


def test_what_a_release_did() -> None:
    """What differs up to a release holds for its repairs, and not for the next one."""
    for method, releases in {"ipc-tensors": ("v0.3", "v0.6", "0.6.9"), "ipc-buckets": ("v0.7", "v1", "")}.items():
        assert {read_framework(FACTS, "NeMo RL", release).sync_colocated for release in releases} == {method}


def test_unknown_names() -> None:
    with pytest.raises(UserError, match=r"unknown framework") as caught:
        read_framework(FACTS, "nemorl2")
    assert "nemo-rl" in caught.value.line()
    with pytest.raises(UserError, match="not a release"):
        read_framework(FACTS, "verl", "main")
    with pytest.raises(UserError, match="unknown kind of environment"):
        environment_times(FACTS, "cod")


@pytest.mark.parametrize("kind", FACTS.children("rl.environments"))
def test_environments(kind: str) -> None:
    """Every kind says what a reward takes, and a call where it has tools, each inside its range."""
    call, reward = environment_times(FACTS, kind)
    for time in (reward, *([call] if call else [])):
        assert time.unit == "s"
        assert isinstance(time.value, float)
        assert (time.low or 0.0) < time.value < (time.high or 0.0)
