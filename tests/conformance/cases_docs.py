"""Kernels of the SDK's documentation (`nki/examples`, the kernel-optimization tutorial, the MX deep dive)."""

import re
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from registry import (
    BF16,
    IMPORTS,
    SAMPLES,
    SDK,
    Skip,
    case,
    close,
    f32,
    load,
    load_rst,
    mamba,
    mamba_inputs,
    simulate,
    uniform,
)

EXAMPLES = SDK / "nki/examples"
MATMULS: tuple[tuple[str, tuple[int, int, int], dict[str, int]], ...] = (
    ("basic", (128, 64, 512), {}),
    ("tiled", (256, 256, 1024), {}),
    ("hoist_load", (256, 256, 1024), {}),
    ("block_free_dimension", (256, 256, 1024), {}),
    ("fully_optimized", (256, 256, 1024), {"TILES_IN_BLOCK_M": 2, "TILES_IN_BLOCK_N": 2, "TILES_IN_BLOCK_K": 2}),
)


@case("docs/simulate_add")
def _() -> None:
    m = load(EXAMPLES / "simulate/nki_simulate_example.py")
    a, b = uniform(128, 512), uniform(128, 512, seed=1)
    close(simulate(m.add_kernel, a, b), a + b, 1e-5, 1e-6)


@case("docs/getting_started_add")
def _() -> None:
    m = load(EXAMPLES / "getting_started_baremetal.py")
    a, b = uniform(4, 3, dtype=np.float16), uniform(4, 3, dtype=np.float16, seed=1)
    close(simulate(m.nki_tensor_add_kernel, a, b), a + b, 1e-3, 1e-3)


for _name, _dtype, _tol in (("fp32", np.float32, 1e-6), ("bf16", BF16, 1e-2)):

    @case(f"docs/tensor_addition/{_name}", generation="gen2")
    def _(dtype: Any = _dtype, tol: float = _tol) -> None:
        m = load(EXAMPLES / "tensor_addition/tensor_addition_nki_kernels.py")
        a, b = uniform(256, 1024, dtype=dtype), uniform(256, 1024, dtype=dtype, seed=1)
        close(simulate(m.nki_tensor_add, a, b), f32(a) + f32(b), tol, tol)


@case("docs/transpose2d")
def _() -> None:
    m = load(EXAMPLES / "transpose2d/transpose2d_nki_kernels.py")
    x = uniform(2, 5 * 7)
    want = x.reshape(2, 5, 7).transpose(0, 2, 1).reshape(2, 35)
    close(simulate(m.tensor_transpose2D_kernel_, x, (5, 7)), want, 0, 0)


@case("docs/average_pool2d")
def _() -> None:
    m = load(EXAMPLES / "average_pool2d/average_pool2d_nki_kernels.py")
    x = uniform(2, 6, 6)
    close(simulate(m.tensor_avgpool_kernel, x, 2), x.reshape(2, 3, 2, 3, 2).mean((2, 4)), 1e-5, 1e-6)


@case("docs/index_case_3_maxpool")
def _() -> None:
    m = load(EXAMPLES / "index-case-3.py")
    x = uniform(2, 6, 6, dtype=BF16)
    close(simulate(m.tensor_maxpool_kernel_, x, 2), f32(x).reshape(2, 3, 2, 3, 2).max((2, 4)), 0, 0)


@case("docs/index_case_1_split")
def _() -> None:
    m = load(EXAMPLES / "index-case-1.py")
    x = np.arange(20, dtype=np.float32).reshape(4, 5)
    even, odd = simulate(m.tensor_split_kernel_, x)
    close(even, x[:, ::2], 0, 0)
    close(odd, x[:, 1::2], 0, 0)


@case("docs/layout_pass")
def _() -> None:
    m = load(EXAMPLES / "layout-pass.py")
    x = uniform(128, 512)
    close(simulate(m.tensor_exp_kernel_, x), np.exp(x), 1e-5, 1e-6)


@case("docs/layout_violation_must_raise")
def _() -> None:
    m = load(EXAMPLES / "layout-violation.py")
    try:
        simulate(m.tensor_exp_kernel_, uniform(256, 512))
    except Exception as error:
        if not re.search(r"128|partition", str(error)):
            raise
        return
    raise AssertionError("a tile of 256 partitions was accepted")


for _kernel, _shape, _blocks in MATMULS:
    for _name, _dtype, _tol in (("fp32", np.float32, 1e-4), ("bf16", BF16, 2e-2)):

        @case(f"docs/matmul_{_kernel}/{_name}")
        def _(
            kernel: str = _kernel,
            shape: tuple[int, int, int] = _shape,
            blocks: dict[str, int] = _blocks,
            dtype: Any = _dtype,
            tol: float = _tol,
        ) -> None:
            m = load(EXAMPLES / "matrix_multiplication/matrix_multiplication_nki_kernels.py")
            k, rows, cols = shape
            a, b = uniform(k, rows, dtype=dtype), uniform(k, cols, dtype=dtype, seed=1)
            close(simulate(getattr(m, f"nki_matmul_{kernel}_"), a, b, **blocks), f32(a).T @ f32(b), tol, tol * 20)


for _version in ("v1", "v2", "v3"):

    @case(f"docs/mamba_{_version}")
    def _(version: str = _version) -> None:
        m = load(EXAMPLES / "fused_mamba/mamba_nki_kernels.py")
        inputs = mamba_inputs()
        close(simulate(getattr(m, f"mamba_{version}"), *inputs), mamba(*inputs), 1e-2, 1e-2)


for _nth, (_shape, _blocks) in enumerate(
    (
        ((128, 64, 512), {}),
        ((256, 256, 1024), {}),
        ((256, 256, 1024), {}),
        ((256, 512, 1024), {}),
        ((256, 256, 1024), {"TILES_IN_BLOCK_M": 2, "TILES_IN_BLOCK_N": 2, "TILES_IN_BLOCK_K": 2}),
    )
):

    @case(f"docs/kernel_optimization_tutorial/v{_nth + 1}")
    def _(nth: int = _nth, shape: tuple[int, int, int] = _shape, blocks: dict[str, int] = _blocks) -> None:
        m = load_rst(SDK / "nki/guides/tutorials/kernel-optimization.rst", r"def matrix_multiply_kernel", nth)
        k, rows, cols = shape
        a, b = uniform(k, rows), uniform(k, cols, seed=1)
        close(simulate(m.matrix_multiply_kernel, a, b, **blocks), a.T @ b, 1e-4, 2e-3)


GUIDES, STARTED = SDK / "nki/guides", SDK / "nki/get-started"


for _nth, _shape in enumerate(((4, 4096), (128, 128))):

    @case(f"docs/dma_overview_exp/{_shape[0]}x{_shape[1]}")
    def _(nth: int = _nth, shape: tuple[int, int] = _shape) -> None:
        m = load_rst(STARTED / "about/nki-dma-overview.rst", r"def tensor_exp_kernel_isa", nth)
        x = uniform(*shape, dtype=BF16)
        close(simulate(m.tensor_exp_kernel_isa, x), np.exp(f32(x)), 1e-2, 1e-2)


for _name, _path in (
    ("quickstart", "quickstart-implement-run-kernel.rst"),
    ("language_guide", "nki-language-guide.rst"),
):

    @case(f"docs/{_name}_add")
    def _(path: str = _path) -> None:
        m = load_rst(STARTED / path, r"c_output = nl.ndarray\(dtype(.|\n)*return c_output", 0, IMPORTS)
        a, b = uniform(4, 3, dtype=np.float16), uniform(4, 3, dtype=np.float16, seed=1)
        close(simulate(m.nki_tensor_add_kernel, a, b), a + b, 1e-3, 1e-3)


for _name in ("relu", "scale"):

    @case(f"docs/language_guide_{_name}")
    def _(name: str = _name) -> None:
        m = load_rst(STARTED / "nki-language-guide.rst", r"def tiled_process", 0, IMPORTS)
        x, out = uniform(256, 512), np.zeros((256, 512), np.float32)
        simulate(getattr(m, f"{name}_kernel"), x, out)  # written in place
        close(out, np.maximum(x, 0) if name == "relu" else 0.5 * x, 1e-6, 1e-6)


@case("docs/language_guide_object")
def _() -> None:
    m = load_rst(STARTED / "nki-language-guide.rst", r"class C\(NKIObject\)", 0, IMPORTS)
    assert (m.c.x, m.c.y) == (1, True)


@case("docs/scheduling/with_schedule")
def _() -> None:
    m = load_rst(GUIDES / "how-to-scheduling-apis.rst", r"with_schedule\(\[", 0, IMPORTS)
    x = uniform(128, 64, low=1, high=2)
    for kernel in (m.kernel, m.scheduled):
        close(simulate(kernel, x), 1 / x + x + 1, 1e-5, 1e-5)


for _nth, _kernel, _pattern in (
    (0, "scheduled", r"with_schedule\(l\)"),
    (0, "loop", r"no_reorder"),
    (1, "loop", r"no_reorder"),
):

    @case(f"docs/scheduling/exp_{_kernel}_{_nth}")
    def _(nth: int = _nth, kernel: str = _kernel, pattern: str = _pattern) -> None:
        m = load_rst(GUIDES / "how-to-scheduling-apis.rst", pattern, nth, IMPORTS)
        tiles = [uniform(128, 64, seed=s) for s in range(3)]
        for got, x in zip(simulate(getattr(m, kernel), *tiles), tiles, strict=True):
            close(got, np.exp(x), 1e-5, 1e-5)


@case("docs/allocator_manual_addresses")
def _() -> None:
    m = load_rst(SDK / "nki/library/kernel-utils/allocator.rst", r"def kernel_without_sbm", 0, IMPORTS)
    simulate(m.kernel_without_sbm, uniform(128, 8), uniform(128, 8))


def microscaled(folder: Path, which: str, *options: Any) -> None:
    """One MX matmul of the deep dive against the reference functions that stand beside it."""
    cpu, kernels = load(folder / "mx_cpu_utils.py"), load(folder / "mx_kernels.py")
    import nki.language as nl

    x4 = {
        ml_dtypes.float8_e5m2: nl.float8_e5m2_x4,
        ml_dtypes.float8_e4m3fn: nl.float8_e4m3fn_x4,
        ml_dtypes.float4_e2m1fn: nl.float4_e2m1fn_x4,
    }
    np.random.seed(0)
    p, rows, cols = 128, 128, 512
    make, product = cpu.generate_stabilized_mx_data, cpu.nc_matmul_mx_golden
    if which == "offline":
        (kind,) = options
        _, _, a, a_scale = make(kind, (p, rows * 4))
        _, _, b, b_scale = make(kind, (p, cols * 4))
        got = simulate(kernels.kernel_offline_quantized_mx_matmul, a, a_scale, b, b_scale, x4[kind])
        want = product(a, b, a_scale, b_scale, kind, kind)
    elif which == "on_device":
        a_kind, b_kind = options
        _, _, a, a_scale = make(a_kind, (p, rows * 4))
        b, _, _, _ = make(b_kind, (p, cols * 4))
        kernel = kernels.kernel_on_device_quantize_matmul_mx
        got = simulate(kernel, a, a_scale, b.astype(BF16), x4[a_kind], x4[b_kind])
        quantized, b_scale = cpu.quantize_mx_golden(b, b_kind)
        want = product(a, quantized, a_scale, b_scale, a_kind, b_kind)
    else:
        use_tensor_copy, suffix = options
        kernel = getattr(kernels, "kernel_copy_strided_quantize_matmul_mx" + suffix, None)
        if kernel is None:
            raise Skip(f"this checkout has no kernel_copy_strided_quantize_matmul_mx{suffix}")
        kind = ml_dtypes.float8_e5m2
        a, _, _, _ = make(kind, (512, rows))
        b, _, _, _ = make(kind, (512, cols))
        got = simulate(kernel, a.astype(BF16), b.astype(BF16), x4[kind], use_tensor_copy)
        want = a.T @ b
    close(got, want, 5e-2, 5e-2)


E5M2, E4M3, E2M1 = ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fn, ml_dtypes.float4_e2m1fn
for _suite, _folder in (
    ("docs", SDK / "nki/deep-dives/src/mxfp-matmul"),
    ("samples", SAMPLES / "src/nki_samples/tutorials/mxfp-matmul"),
):
    for _name, _options in (
        ("offline/e5m2", ("offline", E5M2)),
        ("offline/e4m3fn", ("offline", E4M3)),
        ("offline/e2m1fn", ("offline", E2M1)),
        ("on_device/e2m1fn_x_e5m2", ("on_device", E2M1, E5M2)),
        ("on_device/e5m2", ("on_device", E5M2, E5M2)),
        ("strided/tensor_copy", ("strided", True, "")),
        ("strided/dma", ("strided", False, "")),
        ("strided_packed_scale/tensor_copy", ("strided", True, "_packed_scale")),
        ("strided_packed_scale/dma", ("strided", False, "_packed_scale")),
    ):

        @case(f"{_suite}/mxfp_{_name}", generation="gen4")
        def _(folder: Path = _folder, options: tuple[Any, ...] = _options) -> None:
            microscaled(folder, *options)
