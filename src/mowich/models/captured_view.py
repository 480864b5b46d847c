"""What `mowich model` shows of a captured model beside its figures: its modules, and what was not understood."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

from mowich.models.model import FROM_CODE
from mowich.models.traced import Traced

if TYPE_CHECKING:
    from mowich.models.captured import CapturedLayer, Kind
    from mowich.models.model import Mixer, Model

TOKENS: dict[Kind, str] = {
    "decoder": "of a text that is read and goes on",
    "encoder": "of a text that is read once",
    "encoder-decoder": "of what is written; what is read has as many, or a fixed number of rows",
    "vision-language": "of the text; an image has a fixed number of rows",
    "speech": "of the sound, as positions of the encoder",
    "diffusion": "patches of the latent image or clip; the text has a fixed number of rows",
    "module": "rows of the module's inputs",
}
"""Kind of model -> what its tokens are."""


def captured_view(model: Model) -> dict[str, object]:
    """The `captured` object of `mowich/model@1`; empty for a model that was not captured from code.

    read_from: whether the config behind it or the code gave its shapes. Of each kind of layer: its module, in what form
    it is computed ("ours" or "traced"), its products under their modules' names, roles of weights with their number.
    """
    c = model.captured
    if c is None:
        return {}
    by_code = model.architecture == FROM_CODE
    forms = [layer.mixer for layer in model.layers] if by_code else [None] * len(c.layers)
    return {
        "kind": c.kind,
        "tokens": TOKENS[c.kind],
        "source": c.source,
        "versions": dict(c.versions),
        "read_from": "code" if by_code else "config",
        "layers": [_layer(layer, form) for layer, form in zip(c.layers, forms, strict=True)],
        "outside": _layer(c.outside, model.outside),
        "doubts": list(model.doubts),
        "remarks": list(model.remarks),
        "reads": [asdict(read) for read in c.reads],
        "not_understood": [asdict(one) for one in c.not_understood],
        "notes": list(c.notes),
    }


def _layer(layer: CapturedLayer, form: Mixer | None) -> dict[str, object]:
    return {
        "module": layer.module,
        "class": layer.class_,
        "count": layer.count,
        "form": "traced" if isinstance(form, Traced) else "ours",
        "products": [
            {"module": p.module, "n": p.n, "k": p.k, "rows": list(p.rows), "role": p.role} for p in layer.products
        ],
        "cores": [core.module for core in layer.cores],
        "experts": [experts.module for experts in layer.experts],
        "scans": [scan.module for scan in layer.scans],
        "roles": dict(sorted(Counter(p.role for p in layer.products if p.weight is not None).items())),
    }
