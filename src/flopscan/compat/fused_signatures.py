"""Calls that hold a scan inside, or stand beside one: Mamba's fused block, its convolution, VMamba's crossings.

Each is taken apart into plain operators, so that every convention counts it by what it counts of these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flopscan.capture.jit import GraphCall
from flopscan.compat import scan_signatures
from flopscan.core.trace import Call, TensorSpec
from flopscan.errors import ContractError

Parts = tuple[tuple[Call, ...], str]

# the tensor operands that the formulas below know of
_INNER = (
    "xz", "conv1d_weight", "conv1d_bias", "x_proj_weight", "delta_proj_weight", "out_proj_weight", "out_proj_bias",
    "A", "B", "C", "D", "delta_bias", "B_proj_bias", "C_proj_bias", *scan_signatures.INDICES,
)  # fmt: skip
_CONVOLUTION = ("x", "weight", "bias", "initial_states", "final_states_out", *scan_signatures.INDICES)


def inner(call: GraphCall) -> Parts:
    """Mamba's block after its first projection: convolution, SiLU, x_proj, dt_proj, scan with z, out_proj if any.

    xz: b 2d l, conv1d_weight: d 1 k, x_proj_weight: r+2n d, delta_proj_weight: d r, out_proj_weight: m d.
    """
    named = _named(call, _INNER)
    xz, conv, x_proj, delta_proj = (
        _tensor(call, named, name, rank)
        for name, rank in (("xz", 3), ("conv1d_weight", 3), ("x_proj_weight", 2), ("delta_proj_weight", 2))
    )
    A = _tensor(call, named, "A", 2)
    (batch, double, length), (channels, rank) = xz.shape, delta_proj.shape
    if double != 2 * channels or x_proj.shape[1] != channels or conv.shape[0] != channels:
        raise ContractError(
            f"{call.name}: xz {xz.shape}, conv1d_weight {conv.shape}, x_proj_weight {x_proj.shape} and "
            f"delta_proj_weight {delta_proj.shape} do not have the same number of channels (xz: b 2d l)"
        )
    each_step = TensorSpec((batch, channels, length), xz.dtype)
    state = TensorSpec((batch, 1, A.shape[1], length * (1 + A.is_complex)), xz.dtype)
    rows = batch * length
    scan = {
        "u": each_step, "delta": each_step, "A": A, "z": each_step,
        **{name: named.get(name) or state for name in ("B", "C")},
        **{name: named.get(name) for name in ("D", "delta_bias", "delta_softplus")},
    }  # fmt: skip
    parts = [
        *_convolution(each_step, conv, named.get("conv1d_bias"), activation=True),
        _product(rows, channels, x_proj.shape[0], xz.dtype),
        _product(rows, rank, channels, xz.dtype),
    ]
    for name in ("B_proj_bias", "C_proj_bias"):
        if isinstance(named.get(name), TensorSpec):
            parts.append(_addition(state))
    names = tuple((name, None) for name in scan)
    bound, _ = scan_signatures.bind(GraphCall(call.name, "", tuple(scan.values()), names, (each_step,)))
    parts.append(bound)
    if isinstance(named.get("out_proj_weight"), TensorSpec):
        weight = _tensor(call, named, "out_proj_weight", 2)
        parts.append(_product(rows, weight.shape[1], weight.shape[0], xz.dtype))
        if isinstance(named.get("out_proj_bias"), TensorSpec):
            parts.append(_addition(TensorSpec((rows, weight.shape[0]), xz.dtype)))
    return tuple(parts), ""


def convolution(call: GraphCall) -> Parts:
    """The causal convolution of a sequence: x: b d l, weight: d k, bias: d, with a SiLU after it if it is asked for."""
    named = _named(call, _CONVOLUTION)
    x, weight = _tensor(call, named, "x", 3), _tensor(call, named, "weight", 2)
    if x.shape[1] != weight.shape[0]:
        raise ContractError(f"{call.name}: x {x.shape} has not the channels of weight {weight.shape}")
    depthwise = TensorSpec((weight.shape[0], 1, weight.shape[1]), weight.dtype)
    return tuple(_convolution(x, depthwise, named.get("bias"), activation=bool(named.get("activation")))), ""


def crossing(call: GraphCall) -> Parts:
    """Copies in several orders (no arithmetic), or their merging: an addition for each element that is merged away."""
    operands = [value for value in call.operands if isinstance(value, TensorSpec)]
    if not operands or not call.outputs:
        raise ContractError(f"{call.name}: its operands or results have no shapes in the graph")
    fewer = operands[0].numel - call.outputs[0].numel
    return ((_addition(TensorSpec((fewer,), operands[0].dtype)),) if fewer > 0 else ()), ""


def _named(call: GraphCall, known: tuple[str, ...]) -> dict[str, Any]:
    """The operands by name. Raises ContractError where a tensor among them is one that the formula does not know."""
    named = call.named()
    strangers = [name for name, value in named.items() if isinstance(value, TensorSpec) and name not in known]
    if strangers:
        who = call.qualified or call.name
        raise ContractError(f"{who}: no formula for a call with the operand '{', '.join(strangers)}'")
    return named


def _tensor(call: GraphCall, named: Mapping[str, Any], name: str, rank: int) -> TensorSpec:
    spec = named.get(name)
    if not isinstance(spec, TensorSpec) or len(spec.shape) != rank:
        came = f"is {spec.shape if isinstance(spec, TensorSpec) else spec!r}"
        raise ContractError(f"{call.qualified or call.name}: operand '{name}' {came}, expected a tensor of {rank} axes")
    return spec


def _product(rows: int, inner: int, columns: int, dtype: str) -> Call:
    left, right, out = (TensorSpec(s, dtype) for s in ((rows, inner), (inner, columns), (rows, columns)))
    return Call("aten::mm", {"self": left, "mat2": right}, (out,))


def _addition(spec: TensorSpec) -> Call:
    return Call("aten::add", {"self": spec, "other": spec, "alpha": 1}, (spec,))


def _convolution(x: TensorSpec, weight: TensorSpec, bias: Any, *, activation: bool) -> list[Call]:
    """A depthwise convolution whose result is as long as ``x``, and a SiLU."""
    args = {"input": x, "weight": weight, "bias": bias, "stride": [1], "padding": [0], "dilation": [1],
            "transposed": False, "output_padding": [0], "groups": weight.shape[0]}  # fmt: skip
    calls = [Call("aten::convolution", args, (x,))]
    return [*calls, Call("aten::silu", {"self": x}, (x,))] if activation else calls


_DIRECTIONS = ("_Ab_1direction", "_Ab_2direction", "", "F", "Triton", "TritonF", "Triton1b1", "Triton1b1F")

BINDERS: Mapping[str, Callable[[GraphCall], Parts]] = {
    "MambaInnerFn": inner,
    "MambaInnerFnNoOutProj": inner,
    "CausalConv1dFn": convolution,
    **{f"Cross{kind}{form}": crossing for kind in ("Scan", "Merge") for form in _DIRECTIONS},
}
