"""`nki.compiler`.

Written by `tools/nki_stubs.py` from what `help` shows. Do not edit."""

from mowich.nki.compiler import AddressRotation as AddressRotation
from mowich.nki.compiler import CompileConfig as CompileConfig
from mowich.nki.compiler import SpecializationConfig as SpecializationConfig
from mowich.nki.compiler import enable_stack_allocator as enable_stack_allocator
from mowich.nki.compiler import no_reorder as no_reorder
from mowich.nki.compiler import skip_middle_end_transformations as skip_middle_end_transformations
