"""The selective scan of an image in VMamba's four directions as one operator: a cross scan, a scan, a cross merge.

Its price is that of the scan of 4d channels and of the merge's additions; the sequences and their outputs, which the
parts would write and read again, are no bytes of the whole. Here b batch, d channels, h and w the sides of the image,
n state. Source: flopscan.ops.cross_selective_scan; MzeroMiko/VMamba, classification/models/vmamba.py, forward_corev2.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.tally import Array
from flopscan.core.trace import Call, TensorSpec
from flopscan.errors import ContractError
from flopscan.rules import REGISTRY, cross_scan, cross_selective_scan_own, rule
from flopscan.rules.selective_scan import recurrence
from flopscan.rules.selective_scan_backward import recurrence_backward

CONTRACT = "x: b d h w, delta: b 4 d l, A: 4d n, B: b 4 n l, C: b 4 n l, D?: 4d, delta_bias?: 4d"
_SCAN = "flopscan::selective_scan"


def forward(
    x: Array,
    delta: Array,
    A: Array,
    B: Array,
    C: Array,
    D: Array | None = None,
    delta_bias: Array | None = None,
    delta_softplus: bool = False,
) -> Array:
    """The definition: four sequences, one scan of them, their sum as an image."""
    b, d, h, w = x.shape
    u, steps = (each.reshape(b, 4 * d, h * w) for each in (cross_scan.scan(x), delta))
    y = recurrence(u, steps, A, B, C, D, delta_bias=delta_bias, delta_softplus=delta_softplus)
    return cross_scan.merge(y.reshape(b, 4, d, h, w)).reshape(b, d, h, w)


def backward(
    grad: Array,
    x: Array,
    delta: Array,
    A: Array,
    B: Array,
    C: Array,
    D: Array | None = None,
    delta_bias: Array | None = None,
    delta_softplus: bool = False,
) -> tuple[Any, ...]:
    """The gradients of x, delta, A, B, C, D and delta_bias: those of the scan, the image's merged."""
    b, d, h, w = x.shape
    u, steps, dy = (each.reshape(b, 4 * d, h * w) for each in (cross_scan.scan(x), delta, cross_scan.scan(grad)))
    du, ddelta, dA, dB, dC, dD, _, dbias, _ = recurrence_backward(
        dy, u, steps, A, B, C, D, delta_bias=delta_bias, delta_softplus=delta_softplus
    )
    merged = cross_scan.merge(du.reshape(b, 4, d, h, w)).reshape(b, d, h, w)
    return merged, ddelta.reshape(*delta.shape), dA, dB, dC, dD, dbias


def _of_scan(call: Call, kind: str) -> tuple[Cost, Cost]:
    """The ideal and executed cost of the scan, or of its gradient, inside of ``call``, without bytes."""
    x, delta = call["x"], call["delta"]
    b, d, h, w = x.shape
    if h * w != delta.shape[-1]:
        raise ContractError(
            f"{call.op}: axis l is {delta.shape[-1]} in 'delta' {delta.shape}, expected h w, {h} times {w} in 'x'"
        )
    u = TensorSpec((b, 4 * d, h * w), x.dtype)
    grad = {"grad": TensorSpec(u.shape, call["grad"].dtype)} if kind else {}
    rest = {name: value for name, value in call.args.items() if name not in ("grad", "x", "delta", "saved")}
    price = REGISTRY[f"{_SCAN}{kind}"].price(Call(f"{_SCAN}{kind}", {**grad, "u": u, "delta": u, **rest}, (u,)))
    if price.ideal is None:
        raise ContractError(price.note)
    ideal, executed = (replace(cost, read=0, written=0) for cost in (price.ideal, price.executed or price.ideal))
    return ideal, executed


def _moves(call: Call) -> tuple[int, int]:
    """Operands are read and the image, or the gradients, written once; states that are kept are not."""
    kept = call.get("saved")
    read = sum(x.nbytes for x in call.tensors()) - (kept.nbytes if isinstance(kept, TensorSpec) else 0)
    return read, sum(x.nbytes for x in (call.outputs if "grad" in call.args else call.outputs[:1]))


def _executed(b: Any, d: Any, h: Any, w: Any, call: Call) -> Cost:
    if (own := _own(call)) is not None:
        return cross_selective_scan_own.forward(b, d, h * w, *own)
    return _of_scan(call, "")[1] + cross_scan.cross_merge(b, d, h, w)


def _executed_backward(b: Any, d: Any, h: Any, w: Any, call: Call) -> Cost:
    if (own := _own(call)) is not None:
        return cross_selective_scan_own.backward(b, d, h * w, *own)
    return _of_scan(call, "_backward")[1] + cross_scan.cross_merge(b, d, h, w)


def _own(call: Call) -> tuple[str, bool] | None:
    """The dtype and whether there is softplus, where flopscan's own kernel is asked about and takes the call."""
    x, A = call["x"], call["A"]
    if call.args.get("kernel") != "flopscan" or not cross_selective_scan_own.fits(
        x.shape[2] * x.shape[3], A.shape[1], x.dtype
    ):
        return None
    return x.dtype, bool(call.args.get("delta_softplus"))


@rule("flopscan::cross_selective_scan", contract=CONTRACT, reference=forward, executed=_executed, moves=_moves)
def cross_selective_scan(b: Any, d: Any, h: Any, w: Any, call: Call) -> Cost:
    """The scan of 4d channels and l = h w steps, and 3 additions a channel and pixel."""
    return _of_scan(call, "")[0] + cross_scan.cross_merge(b, d, h, w)


@rule(
    "flopscan::cross_selective_scan_backward", contract=f"grad: b d h w, {CONTRACT}", reference=backward,
    executed=_executed_backward, moves=_moves,
)  # fmt: skip
def cross_selective_scan_backward(b: Any, d: Any, h: Any, w: Any, call: Call) -> Cost:
    """The gradient of the scan, and 3 additions a channel and pixel: four directions lead to each pixel of x."""
    return _of_scan(call, "_backward")[0] + cross_scan.cross_merge(b, d, h, w)
