"""Tokens of images and clips by the model's own record of its latents."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captured_dits import captured_dit, flux_json, wan_json
from captured_models import signed
from mowich.errors import UserError
from mowich.models import load_model
from mowich.models.latent import guidance_branches, latent_tokens
from mowich.models.model import Model


def dit(**latent: Any) -> Model:
    """A small model with another record of its latents."""
    data = flux_json(double=1, single=1)
    return captured_dit(signed({**data, "latent": {**data["latent"], **latent}}))


def test_published_sizes() -> None:
    flux, wan = captured_dit(flux_json(double=1, single=1)), captured_dit(wan_json(layers=1))
    assert latent_tokens(flux, height=1024, width=1024) == 4096
    assert latent_tokens(wan, height=480, width=832, frames=9) == 3 * 30 * 52
    assert latent_tokens(wan, height=480, width=832, frames=81) == 21 * 30 * 52
    assert latent_tokens(wan, height=480, width=832) == 30 * 52  # an image is a clip of one frame
    assert (guidance_branches(flux), guidance_branches(wan)) == (1, 2)


@given(
    patch=st.tuples(*[st.sampled_from([1, 2])] * 3),
    spatial=st.sampled_from([8, 16, 32]),
    temporal=st.sampled_from([None, 4, 8]),
    causal=st.booleans(),
    size=st.tuples(*[st.integers(1, 300)] * 3),
)
def test_a_size_has_tokens_or_neighbours_that_have(
    patch: tuple[int, int, int], spatial: int, temporal: int | None, causal: bool, size: tuple[int, int, int]
) -> None:
    """What is accepted fills the volume exactly; each size that is refused stands in a line of its own with the nearest
    sizes, and these are accepted."""
    model = dit(patch=list(patch), vae_spatial=spatial, vae_temporal=temporal, causal_frames=causal)
    asked = dict(zip(("frames", "height", "width"), size, strict=True))
    try:
        tokens = latent_tokens(model, **asked)
    except UserError as error:
        lines = error.line().splitlines()
        wrong = [line.split(":")[0] for line in lines]
        assert wrong == [name for name in ("height", "width", "frames") if name in wrong]
        for line in lines:
            name, near = line.split(":")[0], re.findall(r"\d+", line.partition("nearest")[2])
            for value in near or ["1"]:
                fixed = asked | {other: spatial * 2 for other in wrong if other != name} | {name: int(value)}
                fixed |= {"frames": _frames(patch[0], temporal, causal)} if name != "frames" else {}
                assert latent_tokens(model, **fixed) > 0
    else:
        frames = (asked["frames"] - 1) // (temporal or 1) + 1 if causal else asked["frames"] // (temporal or 1)
        volume = frames * asked["height"] * asked["width"]
        assert tokens * patch[0] * patch[1] * patch[2] * spatial**2 == volume


def _frames(patch: int, temporal: int | None, causal: bool) -> int:
    vae = temporal or 1
    return vae * (patch - 1) + 1 if causal else vae * patch


def test_what_is_not_known_is_asked_for() -> None:
    for model in (load_model("llama-3.1-8b"), dit(patch=None)):
        with pytest.raises(UserError, match="how many pixels a token of"):
            latent_tokens(model, height=64, width=64)
    assert guidance_branches(load_model("llama-3.1-8b")) is None
