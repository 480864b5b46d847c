"""collective: time of a collective against size; of weights, of a sync from a trainer to rollout workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mowich.errors import UserError
from mowich.requests.common import FORM, MODEL, Asked, asked_model
from mowich.requests.fields import Field, number, quantity, read_size, texts, whole, word
from mowich.requests.machines import ONE_SYSTEM
from mowich.requests.remarks import note_shapes
from mowich.requests.schema import Limit, QuestionReader, Schema, VerbOnWeb
from mowich.requests.settings import OF_FACTS, asked_of
from mowich.requests.stated import is_among_chips, sizes_asked, stated_where

if TYPE_CHECKING:
    from mowich.models.model import Model

MESSAGE_SIZES = tuple(2**k for k in range(10, 35, 3))
"""Sizes where none are given: 1 KiB to 16 GiB."""


def read_sizes(value: object) -> tuple[int, ...]:
    """Bytes of several buffers: "1GiB,4MiB" or a list."""
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, Sequence):
        raise UserError("not a list of sizes", given=value)
    return tuple(read_size(word) for word in words)


_KIND = word(
    "kind",
    "all-reduce, all-gather, reduce-scatter, all-to-all, broadcast or permute; weights: from a trainer to workers.",
    metavar="KIND",
    is_argument=True,
    needs=True,
    example="all-reduce",
)
RING = replace(
    ONE_SYSTEM, help="trn3-gen2, trn3:1000, ironwood:4x4x8; ranks are whole chips. Of weights: the trainer's."
)
_BYTES: Field[tuple[int, ...]] = Field(
    name="sizes",
    parse=read_sizes,
    kind="names",
    help="1GiB, or several with commas: full buffer; of an all-to-all, what each sends.",
    option="--bytes",
    metavar="SIZES",
    unit="B",
    low=1,
    default=MESSAGE_SIZES,
    example="1GiB",
    annotation="str | Sequence[int | str]",
    told=sizes_asked,
)
GROUP = whole(
    "group",
    "Chips that take part, neighbours (default: all).",
    metavar="N",
    example="144",
    told=stated_where(is_among_chips, "group"),
)
NETWORK = word(
    "network", "Scale-out network: efa, infiniband, ethernet, ...", metavar="NAME", default="", example="efa"
)
OVERSUBSCRIPTION = number(
    "oversubscription",
    "Bandwidth below the leaves over that above.",
    low=1.0,
    metavar="X",
    default=1.0,
    shown="1.0",
    example="2",
)
FAIL = texts(
    "fail",
    "link:3, link:rack:7, link:3=0.5 (share left), chip:5. Repeatable.",
    metavar="WHAT",
    example="link:3",
    told="faults",
)
BESIDE = texts(
    "beside",
    "Another collective all the time: all-to-all:72-143. Repeatable.",
    metavar="JOB",
    example="all-to-all:72-143",
)
CALL_LAYER = word(
    "layer",
    "Software that calls it: graph (a compiled graph, on the device), kernel, framework.",
    metavar="NAME",
    default="graph",
    shown="graph",
    example="framework",
)
COLLECTIVE_LNC = whole(
    "lnc",
    "Ranks are Trainium's logical cores of 1 or 2 physical ones (default: whole chips).",
    metavar="N",
    example="2",
)
SENT_MODEL = replace(
    MODEL, is_argument=False, needs=False, option="--model", help="Of weights: the model that is sent.", told="model"
)
TO = word(
    "to",
    "Of weights: machine of the rollout workers (default: the trainer's own chips).",
    metavar="SYSTEM",
    completes="systems",
    default="",
    example="trn3:32",
)
METHOD = word(
    "method",
    "Of weights: reshard, rdma, relay ... (default: every method that leads there).",
    metavar="NAME",
    default="",
    example="relay",
)
LINK = quantity(
    "link",
    "B/s",
    "Of weights: link between the sites of both machines (default: they share a network).",
    keyword="link_Bps",
    metavar="RATE",
    example="100Gbit/s",
)
WORKER = whole(
    "worker",
    "Of weights: chips of one rollout worker (default: the fewest that hold the weights twice).",
    metavar="N",
    example="8",
)
_WEIGHTS = word(
    "weights",
    "Of weights: format that the workers serve in; the trainer has bf16.",
    metavar="FORMAT",
    default="bf16",
    shown="bf16",
    example="fp8",
)
_OF_WEIGHTS = (SENT_MODEL, TO, METHOD, LINK, WORKER, _WEIGHTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveRequest(Asked):
    """A collective among whole chips. sizes: bytes; group: chips that take part, None: all; layer: of software that
    calls it; lnc: physical cores of a rank, None: whole chips.

    Of kind "weights": model: what is sent, None for all other kinds; to: machine of the workers, "": the trainer's own
    chips; method: "": all that lead there; link_Bps: between the sites, None: they share a network; worker: chips of
    one, None: the fewest that hold the weights twice; weights: format of the workers."""

    kind: str
    on: str
    sizes: tuple[int, ...]
    group: int | None
    network: str
    oversubscription: float
    fail: tuple[str, ...]
    beside: tuple[str, ...]
    layer: str
    lnc: int | None
    model: Model | None
    to: str
    method: str
    link_Bps: float | None
    worker: int | None
    weights: str


WEIGHTS_KIND = "weights"
"""The kind of `mowich collective` that is no collective of one group: weights from a trainer to rollout workers."""


def _collective(reader: QuestionReader) -> CollectiveRequest:
    asked = asked_of(reader, "a collective takes no plan and no price")
    is_weights = reader.given(_KIND) == WEIGHTS_KIND
    of_groups = (_BYTES, GROUP, NETWORK, OVERSUBSCRIPTION, FAIL, BESIDE, CALL_LAYER, COLLECTIVE_LNC)
    for field in of_groups if is_weights else _OF_WEIGHTS:
        if reader.given(field) not in (None, "", (), [], field.default):
            what = "goes with a collective of one group" if is_weights else "goes with weights alone"
            reader.add(what, field, fix=f"leave it out, or {'another' if is_weights else WEIGHTS_KIND} as the kind")
    model = None
    if is_weights:
        if not reader.has(SENT_MODEL):
            reader.missing(SENT_MODEL, " for weights")
        else:
            model = asked_model(reader)
    elif reader.get(_BYTES) == ():
        reader.add("names no size", _BYTES, fix=f"for example {reader.example(_BYTES)}")
    if is_weights:
        from mowich.plans.plan import WEIGHTS, one_of

        with reader.watch(_WEIGHTS):
            one_of(reader.get(_WEIGHTS) or "", WEIGHTS, "format of weights")
    reader.stop()
    note_shapes(reader, [str(reader.get(RING)), *([str(reader.get(TO))] if reader.get(TO) else [])])
    return reader.fill(CollectiveRequest, notes=tuple(reader.notes), model=model, **asked)


SCHEMA = Schema(
    name="collective",
    fields=(
        *(_KIND, RING, _BYTES, GROUP, NETWORK, OVERSUBSCRIPTION, FAIL, BESIDE, CALL_LAYER, COLLECTIVE_LNC),
        *(*_OF_WEIGHTS, *OF_FACTS, *FORM),
    ),
    make=_collective,
    help=(
        "Time of a collective among whole chips, for each size: algorithm, what binds, bus bandwidth, with failed"
        " links or a job beside it. Of weights: of a sync from a trainer to rollout workers, by method."
    ),
    short="Time of a collective against size, what binds, with failed links.",
    example="mowich collective all-reduce --on trn3-gen2 --bytes 1GiB --group 144 --fail link:3",
    after="kernel tables",
    keys={"levels": "array", "rows": "array", "warnings": "array"},
    web=VerbOnWeb(
        tag="machines",
        said="Time of a collective against size:",
        about="Time of a collective against size.",
        defaults={"sizes": ("1MiB", "1GiB")},
        limits=(
            Limit("group", "group", 1, 131_072),
            Limit("oversubscription", "oversubscription", 1.0, 64.0),
            Limit("sizes", "sizes", 1, 2.0**50),
        ),
        is_quick=True,
    ),
)
