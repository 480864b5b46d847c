"""`neuronxcc`: the package above the older front end."""

from __future__ import annotations

from mowich.nki import beta1 as nki

__path__: list[str] = []
__all__ = ["nki"]
