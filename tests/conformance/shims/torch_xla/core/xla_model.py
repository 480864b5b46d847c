"""The three calls that NKI packages make."""

from torch_xla import device as xla_device
from torch_xla import sync as mark_step

__all__ = ["mark_step", "xla_device"]
