"""The operands of a cross selective scan: what is checked of them before a launch."""

from __future__ import annotations

import torch
from torch import Tensor

from flopscan.ops.checks import Shapes, check_dtype, check_tensors, remembered
from flopscan.ops.selective_scan.operands import MOST_STATES, REAL

OP = "cross_selective_scan"


@remembered
def check(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Raise ValueError or TypeError, in axis letters, unless these are the operands of one scan in four directions.

    x, delta, B and C have one dtype; A, D and delta_bias, which are computed with in the dtype of the state, may have
    another. Values are not looked at: NaN goes through.
    """
    operands = {"x": x, "delta": delta, "A": A, "B": B, "C": C, "D": D, "delta_bias": delta_bias}
    check_tensors(OP, operands, optional=("D", "delta_bias"))
    shapes = Shapes(OP)
    forms = {
        "x": "b d h w", "delta": "b 4 d l", "A": "4d n", "B": "b 4 n l", "C": "b 4 n l", "D": "4d", "delta_bias": "4d",
    }  # fmt: skip
    for name, form in forms.items():
        value = operands[name]
        if value is not None:
            shapes.take(name, value, form)
        if name == "delta" and shapes.sizes["l"] != shapes.sizes["h"] * shapes.sizes["w"]:
            h, w, l = (shapes.sizes[letter] for letter in "hwl")
            raise ValueError(
                f"{OP}: axis l is {l} in 'delta' {tuple(delta.shape)}, expected h w, {h} times {w} in 'x'"
                f" {tuple(x.shape)}"
            )
    for letter in "dhw":
        shapes.within(letter, 1)
    shapes.within("n", 1, MOST_STATES)
    check_dtype(OP, "x", x, REAL)
    for name in ("delta", "B", "C"):
        check_dtype(OP, name, operands[name], (x.dtype,), ", as 'x'")
    for name in ("A", "D", "delta_bias"):
        if operands[name] is not None:
            check_dtype(OP, name, operands[name], REAL)
    if dtype is not None and dtype not in REAL:
        raise TypeError(f"{OP}: the dtype of the output is {str(dtype)[6:]}, expected that of 'x' or float32")
