"""The work of a forward pass, or of a loop of passes, and its spread over devices: diffusion (an image or a clip in
`steps` passes), encoders and speech. Nothing is decoded token by token, and nothing is cached."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from mowich.errors import UserError, unknown
from mowich.readback import WholeBounds, read_fields
from mowich.shown import Keyed
from mowich.units import is_digits

ForwardTask = Literal["diffuse", "encode"]
FORWARD_TASKS: tuple[ForwardTask, ...] = ("diffuse", "encode")

FORWARD_DEGREES = ("tp", "cp", "cfg", "batch")
"""Choices of a plan of a pass that are whole numbers."""
ForwardPrecision = Literal["bf16", "fp8"]
FORWARD_PRECISIONS: tuple[ForwardPrecision, ...] = get_args(ForwardPrecision)
"""Formats of the products of a pass."""
FORWARD_FIXABLE = (*FORWARD_DEGREES, "precision")
"""Fields of such a plan that a user may fix."""
_MOST = 4096
_Degree = Annotated[int, WholeBounds(1, _MOST)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardJob(Keyed):
    """The work to compute. tokens: of one item (an image, a clip, a text) at the model's width; batch: items at once on
    one replica, 0: searched; steps: passes for one item; branches: forwards of each step (2 with classifier-free
    guidance); height, width, frames: of the output, 0 where tokens are stated; latency_s: most seconds of an item, 0:
    no limit. In the JSON what nobody gave is null."""

    KEYS = "* batch:none height:none width:none frames:none latency_s:none"

    task: ForwardTask
    tokens: int
    batch: int = 0
    steps: int = 1
    branches: int = 1
    height: int = 0
    width: int = 0
    frames: int = 0
    latency_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardPlan(Keyed):
    """How one replica is split: tp: heads and columns; cp: tokens (rings or all-to-all); cfg: 2 where both branches of
    guidance run on devices of their own; batch: items at once; precision: format of products ("bf16", "fp8"); lnc:
    physical cores in one logical core of Trainium, 0 elsewhere."""

    KEYS = "tp cp cfg batch precision lnc:none?"

    tp: _Degree = 1
    cp: _Degree = 1
    cfg: _Degree = 1
    batch: _Degree = 1
    precision: ForwardPrecision = "bf16"
    lnc: Annotated[int, WholeBounds(0, _MOST)] = 0

    @property
    def devices(self) -> int:
        """Devices of one replica."""
        return self.tp * self.cp * self.cfg

    def __str__(self) -> str:
        """ "tp4 cp2 cfg2 b8 bf16"; degrees of one are left out."""
        degrees = [f"{name}{n}" for name, n in (("tp", self.tp), ("cp", self.cp), ("cfg", self.cfg)) if n > 1]
        return " ".join([*(degrees or ["tp1"]), f"b{self.batch}", self.precision])

    @classmethod
    def from_dict(cls, plan: Mapping[str, object]) -> ForwardPlan:
        """A plan as a result states it. Raises UserError for data that is not a plan.

        >>> ForwardPlan.from_dict(ForwardPlan(tp=4, batch=2).to_dict()) == ForwardPlan(tp=4, batch=2)
        True
        """
        return read_fields(cls, plan, "plan")


def parse_forward(settings: Mapping[str, str], also: Collection[str] = ()) -> dict[str, tuple[int | str, ...]]:
    """{"tp": "4,8", "cfg": "2"} -> choices that restrict the search for a plan. also: fields that the caller reads,
    which an error names too. Raises UserError.

    >>> parse_forward({"tp": "4,8", "precision": "bf16"})
    {'tp': (4, 8), 'precision': ('bf16',)}
    """
    out: dict[str, tuple[int | str, ...]] = {}
    for key, text in settings.items():
        where = f"plan.{key}"
        if key not in FORWARD_FIXABLE:
            raise unknown("field of a plan of forward passes", key, (*FORWARD_FIXABLE, *also), field="plan")
        words = [word.strip() for word in str(text).split(",")]
        for word in words:
            if key == "precision":
                if word not in FORWARD_PRECISIONS:
                    raise unknown(key, word, FORWARD_PRECISIONS, field=where)
            elif not is_digits(word) or not 1 <= int(word) <= _MOST:
                raise UserError(
                    "not a legal degree", field=where, given=word, allowed=f"whole numbers from 1 to {_MOST}"
                )
            elif key == "cfg" and int(word) > 2:
                raise UserError("guidance has two branches", field=where, given=word, allowed="1, 2")
        out[key] = tuple(words) if key == "precision" else tuple(dict.fromkeys(int(word) for word in words))
    return out
