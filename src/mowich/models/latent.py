"""From an image or a clip to the tokens of a diffusion transformer: pixels to latent elements to patches.

The record is the model's own (`captured.DiffusionLatent`). A size that the model cannot make is refused with the
nearest ones that it can: programs that round it to these make another image than was asked for.
"""

from __future__ import annotations

from mowich.errors import ProblemList, UserError
from mowich.models.captured import DiffusionLatent
from mowich.models.model import Model


def latent_tokens(model: Model, *, height: int, width: int, frames: int = 0) -> int:
    """Image tokens of one forward pass at a size; text tokens are the model's own. frames: 0 for an image.

    tokens = frames' / patch_t * height / (vae patch_h) * width / (vae patch_w); frames' = (frames - 1) / vae_t + 1
    where the first frame is encoded alone, else frames / vae_t.

    Units: height, width in pixels.

    Raises UserError for a model that nothing is known of, UserErrors with a line for each size that it cannot make.

    Example: FLUX.1-dev makes 4,096 tokens of 1024 x 1024.
    """
    latent = None if model.captured is None else model.captured.latent
    if latent is None or latent.patch is None or latent.vae_spatial is None:
        raise UserError(
            f"how many pixels a token of {model.name} stands for is not known",
            field="height",
            fix="state the tokens of an image instead",
        )
    problems = ProblemList()
    _, patch_h, patch_w = latent.patch
    high, wide = latent.vae_spatial * patch_h, latent.vae_spatial * patch_w
    for name, size, step in (("height", height, high), ("width", width, wide)):
        if size < step or size % step:
            near = _nearest(size, step, 0)
            problems.add("not a size of this model", field=name, given=size, allowed=f"multiples of {step}", fix=near)
    times = _latent_frames(latent, frames, problems)
    problems.stop()
    return times * (height // high) * (width // wide)


def guidance_branches(model: Model) -> int | None:
    """Forwards of each step that the model was made for: 2 with classifier-free guidance; None where it is not
    known."""
    latent = None if model.captured is None else model.captured.latent
    return None if latent is None else latent.branches


def _latent_frames(latent: DiffusionLatent, frames: int, problems: ProblemList) -> int:
    """Patches along the time, with the problem of a number of frames that has none noted."""
    assert latent.patch is not None
    patch, vae = latent.patch[0], latent.vae_temporal or 1
    if vae * patch == 1:
        if frames > 1:
            problems.add("this model makes single images", field="frames", given=frames, allowed="1, or leave it out")
        return 1
    given, first = max(frames, 1), 1 - vae if latent.causal_frames else 0
    step = vae * patch
    if (given - first) % step:
        allowed = f"{step}k+{first + step}" if first else f"multiples of {step}"
        near = _nearest(given, step, first)
        problems.add("not a number of frames of this model", field="frames", given=frames, allowed=allowed, fix=near)
    return (given - first) // step


def _nearest(given: int, step: int, first: int) -> str:
    """The two sizes of a model around a number that is not one of its sizes, in words; the least where none is below.

    >>> _nearest(1000, 16, 0), _nearest(80, 4, -3), _nearest(3, 16, 0)
    ('nearest: 992 or 1008', 'nearest: 77 or 81', 'nearest: 16')
    """
    below = first + (given - first) // step * step
    return f"nearest: {below + step}" if below < first + step else f"nearest: {below} or {below + step}"
