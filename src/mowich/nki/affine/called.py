"""What a call in a loop is one of: instructions, views, functions of the language of either interface, of Python."""

from __future__ import annotations

import builtins


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


TILE_VIEWS = _words(
    "reshape permute broadcast broadcast_to expand_dim expand_dims squeeze_dim reshape_dim flatten_dims rearrange view"
    " reinterpret_cast"
)
NEW_TILES = _words("ndarray zeros ones full zeros_like empty_like")
OF_TILES = _words(
    "load store broadcast_to expand_dims load_transpose2d transpose matmul sum prod max min all mean var softmax"
    " rms_norm where static_cast"
)
ASKED = _words("program_id num_programs program_ndim is_hbm is_sbuf is_psum is_on_chip par_dim")
NEWER_LANGUAGE = "mowich.nki.language"
OLDER_LANGUAGE, OLDER_ISA, OLDER_TENSOR = (f"mowich.nki.beta1.{part}" for part in ("language", "isa", "tensor"))
OLDER_NEW = _words("load store load_transpose2d transpose matmul sum prod max min all any mean var softmax where")
"""Functions of the older language whose result is a new tensor."""
RANGES = _words("affine_range sequential_range static_range")
NOT_ISSUED = _words(
    "register_alloc register_move register_load register_store core_barrier sendrecv rng set_rng_seed rand_set_state"
    " rand_get_state get_nc_version get_nc_sub_version"
)
NUMBERS = _words("offset operand0 operand1")
"""Arguments of instructions that take a number which neither time nor trace depends on."""
PURE = _words(
    "min max abs int float bool len sum divmod round isinstance list tuple slice range enumerate zip reversed str type"
    " all any"
)
"""Functions of Python that change nothing."""


def module_of(f: object) -> str:
    """The module of a function; that of the language for its operators."""
    return str(getattr(f, "__module__", "") or "") if not is_operator(f) else NEWER_LANGUAGE


def is_older_tensor(x: object) -> bool:
    """Whether something is a tensor of the older interface."""
    return type(x).__module__ == OLDER_TENSOR


def is_pure(f: object) -> bool:
    """Whether something is one of the functions of Python that change nothing."""
    return function_name(f) in PURE and f is getattr(builtins, function_name(f))


def is_operator(f: object) -> bool:
    """Whether something is an operator of the language, as `nl.add`."""
    return type(f).__module__ == NEWER_LANGUAGE and hasattr(f, "op_name")


def function_name(f: object) -> str:
    """The name of a function or an operator, "" for None."""
    return str(getattr(f, "op_name", "") or getattr(f, "__name__", "")) if f is not None else ""
