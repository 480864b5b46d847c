"""`nki`.

Written by `tools/nki_stubs.py` from what `help` shows. Do not edit."""

from mowich.nki import NKIObject as NKIObject
from mowich.nki import NkiValidationError as NkiValidationError
from mowich.nki import cpu_simulate as cpu_simulate
from mowich.nki import jit as jit
from mowich.nki import simulate as simulate
from . import collectives as collectives
from . import compiler as compiler
from . import isa as isa
from . import language as language
from . import typing as typing
