"""Image models of timm, by name: `timm:vit_base_patch16_224`. Images have the model's own size, so that no size depends
on S."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from mowich.capture.adapters import Built
from mowich.capture.problem import CaptureError


@dataclass(frozen=True, slots=True)
class Timm:
    """The helper of one model. settings: keyword arguments of `timm.create_model`."""

    name: str
    settings: Mapping[str, Any]

    def build(self) -> Built:
        """The model without weights on the meta device.

        Raises:
            CaptureError: timm has no model of this name.
        """
        import timm
        import torch

        if not timm.is_model(self.name):
            near = ", ".join(timm.list_models(f"*{self.name.split('_')[0]}*")[:5])
            raise CaptureError(
                "timm has no such model", where=f"timm:{self.name}", allowed=near or "timm.list_models()"
            )
        module = timm.create_model(self.name, pretrained=False, **self.settings)
        channels, height, width = module.pretrained_cfg["input_size"]
        size = self.settings.get("img_size")
        height, width = (size, size) if isinstance(size, int) else (height, width)

        def inputs(batch: int, tokens: int) -> dict[str, Any]:
            return {"x": torch.empty(batch, channels, height, width, device="meta")}

        note = f"images of {height} x {width} pixels, whatever S is"
        return Built(module=module, inputs=inputs, name=self.name, kind="encoder", notes=(note,))

    def installed(self) -> AbstractContextManager[None]:
        """Fused kernels of attention are on, so that the tracer takes them whole."""
        return nullcontext()


def adapter(what: str, settings: Mapping[str, Any], config: str | None) -> Timm:
    """The helper of `timm:NAME`.

    Raises:
        CaptureError: a config.json is given; timm has none.
    """
    if config is not None:
        raise CaptureError("timm has no config.json", where="--config", fix="give keyword arguments with --set")
    return Timm(what, settings)
