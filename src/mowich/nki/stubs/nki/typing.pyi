"""`nki.typing`.

Written by `tools/nki_stubs.py` from what `help` shows. Do not edit."""

from mowich.nki.typing import mutable_tensor as mutable_tensor
from mowich.nki.typing import tensor as tensor
