"""The operands of a selective scan: what is checked of them before a launch, and B and C in one shape."""

from __future__ import annotations

import torch
from torch import Tensor

from flopscan.ops.checks import Shapes, check_dtype, check_tensors, remembered

MOST_STATES = 256
REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
COMPLEX = (torch.complex64, torch.complex128)
_OP = "selective_scan"


@remembered
def check(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    initial_state: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Raise ValueError or TypeError, in axis letters, unless these are the operands of one scan.

    u, delta, z, variable B and C have one dtype; A, D, delta_bias, the initial state and constant B and C, which are
    computed with in the dtype of the state, may have another. Values are not looked at: NaN goes through.
    """
    operands = {
        "u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "z": z, "delta_bias": delta_bias,
        "initial_state": initial_state,
    }  # fmt: skip
    check_tensors(_OP, operands, optional=("D", "z", "delta_bias", "initial_state"))
    shapes = Shapes(_OP)
    shapes.take("u", u, "b d l")
    shapes.take("delta", delta, "b d l")
    shapes.take("A", A, "d n")
    steps = "2l" if A.is_complex() else "l"
    forms = ("d n", f"b n {steps}", f"b g n {steps}")
    variable = [name for name, x in (("B", B), ("C", C)) if shapes.take(name, x, *forms) != "d n"]
    for name, axes in (("D", "d"), ("z", "b d l"), ("delta_bias", "d"), ("initial_state", "b d n")):
        value = operands[name]
        if isinstance(value, Tensor):
            shapes.take(name, value, axes)
    shapes.divides("g", "d")
    for letter in "dl":
        shapes.within(letter, 1)
    shapes.within("n", 1, MOST_STATES)
    _check_dtypes(operands, variable, dtype)


def _check_dtypes(operands: dict[str, Tensor | None], variable: list[str], dtype: torch.dtype | None) -> None:
    """Raise TypeError for integers, for streams of different dtypes, for complex numbers out of place."""
    u, A = operands["u"], operands["A"]
    assert u is not None and A is not None
    check_dtype(_OP, "u", u, REAL)
    check_dtype(_OP, "A", A, REAL + COMPLEX)
    for name in ("delta", "z", *variable):
        value = operands[name]
        if value is not None:
            check_dtype(_OP, name, value, (u.dtype,), ", as 'u'")
    for name in ("B", "C", "initial_state"):
        value = operands[name]
        if value is not None and name not in variable:
            check_dtype(_OP, name, value, COMPLEX if A.is_complex() else REAL, f", beside {str(A.dtype)[6:]} in 'A'")
    for name in ("D", "delta_bias"):
        value = operands[name]
        if value is not None:
            check_dtype(_OP, name, value, REAL)
    if dtype is not None and dtype not in REAL:
        raise TypeError(f"{_OP}: the dtype of the output is {str(dtype)[6:]}, expected that of 'u' or float32")


def real_dtype(u: Tensor) -> torch.dtype:
    """The dtype that a scan of ``u`` computes with: float64 for float64, else float32."""
    return torch.float64 if u.dtype == torch.float64 else torch.float32


def state_dtype(u: Tensor, A: Tensor) -> torch.dtype:
    """The dtype of the states: complex where ``A`` is."""
    real = real_dtype(u)
    return torch.promote_types(real, torch.complex64) if A.is_complex() else real


def grouped(matrix: Tensor) -> Tensor:
    """A variable B or C as (b g n l): a view."""
    return matrix.unsqueeze(1) if matrix.dim() == 3 else matrix


def is_complex_pairs(A: Tensor, matrix: Tensor) -> bool:
    """Whether ``matrix`` holds complex numbers as pairs along its last axis."""
    return A.is_complex() and matrix.dim() > 2
