"""silu(x) * y of the two halves of a row in one kernel, as Mamba-2's block has it beside its scan, and the gradient.

Source: mamba_ssm `ops.triton.k_activations`.
"""

from __future__ import annotations

from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.seam import Operands, Outputs, Seam
from flopscan.core.tally import Array
from flopscan.core.trace import TensorSpec
from flopscan.rules import rule, seam
from flopscan.rules.ssd import gate_of, gated, through_gate

FORWARD, BACKWARD = "flopscan::swiglu", "flopscan::swiglu_backward"


def _halves(xy: Array) -> list[tuple[Any, Any]]:
    """The pairs of x and y."""
    m = xy.shape[-1] // 2
    return [(xy.data[i + j], xy.data[i + m + j]) for i in range(0, len(xy.data), 2 * m) for j in range(m)]


def swiglu(xy: Array) -> Array:
    """The definition."""
    return Array((*xy.shape[:-1], xy.shape[-1] // 2), [gated(y, x) for x, y in _halves(xy)])


@rule(FORWARD, contract="xy: *r 2m", reference=swiglu)
def forward(r: Any, m: Any) -> Cost:
    """Per output an exp, an addition and a division for silu(x), and 1 mul."""
    return Cost(exp=1, add=1, div=1, mul=1) * (r * m)


def swiglu_backward(grad: Array, xy: Array, recompute_output: bool = False) -> tuple[Array, ...]:
    """The gradient of both halves; if asked for, the output too."""
    m, rows, out = xy.shape[-1] // 2, [], []
    for i, (x, y) in enumerate(_halves(xy)):
        s, gate = gate_of(x)
        to_y, to_x = through_gate(grad.data[i], y, s, gate)
        rows.append((to_x, to_y))
        out += [y * gate] if recompute_output else []
    data = [pair[k] for i in range(0, len(rows), m) for k in range(2) for pair in rows[i : i + m]]
    return (Array(xy.shape, data), *([Array(grad.shape, out)] if recompute_output else []))


@rule(BACKWARD, contract="grad: *r m, xy: *r 2m", reference=swiglu_backward)
def backward(r: Any, m: Any, recompute_output: bool = False) -> Cost:
    """Per output an exp, a division, 3 add and 5 mul; the output, if it is asked for, 1 mul."""
    return Cost(exp=1, div=1, add=3, mul=5 + recompute_output) * (r * m)


def _output(xy: TensorSpec) -> TensorSpec:
    return TensorSpec((*xy.shape[:-1], xy.shape[-1] // 2), xy.dtype)


def _own(bound: Operands) -> Operands:
    """The operands of the definition."""
    if "dout" not in bound:
        return {"xy": bound["xy"]}
    return {"grad": bound["dout"], "xy": bound["xy"], "recompute_output": bound["recompute_output"]}


def _results(bound: Operands) -> Outputs:
    """The gradient of both halves; where asked for the output."""
    both = TensorSpec(bound["xy"].shape, bound["xy"].dtype)
    return (both, _output(bound["xy"])) if bound["recompute_output"] else both


for _name, _op, _signature, _outputs in (
    ("_swiglu_fwd", FORWARD, "xy, out=None", lambda bound: _output(bound["xy"])),
    ("_swiglu_bwd", BACKWARD, "xy, dout, dxy=None, recompute_output=False, out=None", _results),
):
    seam(
        Seam(
            f"mamba_ssm.ops.triton.k_activations:{_name}", _op, _signature, _outputs, operands=_own, version="2.3.2"
        )
    )  # fmt: skip
