"""Every Triton kernel of the selective scan compiles for NVIDIA and AMD, on a machine that has neither.

Triton is among what `make test-packages` installs."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.packages
triton = pytest.importorskip("triton")

TARGETS = {"sm_80": ("cuda", 80, 32), "sm_90": ("cuda", 90, 32), "gfx942": ("hip", "gfx942", 64)}
RUNS = {"BLOCK": 2, "CHUNK": 256}
KERNELS: dict[str, dict[str, Any]] = {
    "forward_scan": {**RUNS, "KEEP": True},
    "backward_scan": {**RUNS, "ATOMIC": True},
    "segment_edges": RUNS,
    "forward_states": {"BLOCK": 8, "CHUNK": 256, "N": 16, "TILE": 16, "KEEP": True},
}
VARYING = ("u", "delta", "B", "C", "z", "grad", "grad_u", "grad_delta", "grad_z", "out")
SIZES = ("channels", "length", "states", "groups", "segment", "part")


def source(kernel: str, dtype: str, optional: bool, one_state: bool, align: int) -> Any:
    """A kernel with its parameters as a launch would specialise them."""
    from triton.compiler import ASTSource

    from flopscan.ops.selective_scan import triton_kernels

    function = getattr(triton_kernels, kernel)
    constants: dict[str, Any] = {"SOFTPLUS": True, "ALIGN": align, **KERNELS[kernel], "groups": 1}
    if one_state:
        constants["states"] = 1
    if not optional:
        constants |= dict.fromkeys(("z", "D", "bias", "initial", "grad_last", "grad_z", "edge", "edge_sum"))
        if kernel == "segment_edges":
            del constants["edge"], constants["edge_sum"]
    types, divisible = {}, {}
    for place, name in enumerate(function.arg_names):
        if name in constants or (name.endswith("_l") and align > 1):
            constants.setdefault(name, 1)
            types[name] = "constexpr"
        elif name in SIZES or name[-2:] in ("_b", "_d", "_l", "_g", "_n"):
            types[name] = "i32"
        else:
            types[name] = f"*{dtype if name in VARYING else 'fp32'}"
            divisible[(place,)] = [["tt.divisibility", 16]]
    return ASTSource(function, types, {k: v for k, v in constants.items() if k in types}, divisible)


USUAL, BARE = ("bf16", True, False, 8), ("fp32", False, True, 1)  # dtype, what is optional, one state, alignment
CASES = [(kernel, *USUAL) for kernel in KERNELS] + [(kernel, *BARE) for kernel in KERNELS if kernel != "forward_states"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("kernel", "dtype", "optional", "one_state", "align"), CASES)
def test_a_kernel_compiles(kernel: str, dtype: str, optional: bool, one_state: bool, align: int, target: str) -> None:
    from triton.backends.compiler import GPUTarget

    made = triton.compile(source(kernel, dtype, optional, one_state, align), target=GPUTarget(*TARGETS[target]))
    assert made.asm["cubin" if target.startswith("sm") else "hsaco"]
