"""Parts of a step of an engine, as readers meet them. Their laws are in `serving.step`."""

from __future__ import annotations

from mowich.operators.parts import TimePart

PARTS_OF_TOKEN = (
    TimePart("linear", "matrix products", "compute"),
    TimePart("head", "output head", "compute"),
    TimePart("experts", "experts", "compute"),
    TimePart("attention", "reading the cache", "memory"),
    TimePart("prefill_attention", "attention of prompts", "compute"),
    TimePart("activations", "activations", "memory"),
    TimePart("layers", "fixed time of layers", "software"),
    TimePart("host", "launches by the host", "software"),
    TimePart("tp", "tensor-parallel exchange", "network", "TP"),
    TimePart("ep", "expert exchange", "network", "EP"),
    TimePart("cp", "context-parallel exchange", "network", "CP"),
    TimePart("pp", "hand-over between stages", "network", "PP"),
    TimePart("launches", "wait for launches by the host", "software"),
)
"""Parts of a step, in the order of their sum."""
