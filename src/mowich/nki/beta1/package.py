"""`neuronxcc`: the package above the older front end.

Importing AWS's package gives `logging` a level above all others, OFF, and scripts say `logging.disable(logging.OFF)`.
"""

from __future__ import annotations

import logging

from mowich.nki import beta1 as nki

__path__: list[str] = []
if not hasattr(logging, "OFF"):
    logging.OFF = logging.CRITICAL + 10  # type: ignore[attr-defined]
__all__ = ["nki"]
