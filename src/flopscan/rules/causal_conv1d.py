"""The causal convolution of Mamba: each channel with a filter of its own, over the steps up to now, and SiLU.

y[b, d, i] = act(bias[d] + sum_k weight[d, k] * x[b, d, i - (w-1) + k]), where x before its start is the initial state,
or zero; positions before the start are counted like all others. Source: causal_conv1d `causal_conv1d_ref`.
"""

from __future__ import annotations

import inspect
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.seam import Operands, Outputs, Seam
from flopscan.core.tally import Array, exp, fma, total
from flopscan.core.trace import TensorSpec
from flopscan.rules import rule, seam

CONTRACT = "x: b d l, weight: d w, bias?: d, initial_states?: b d s"
_FORWARD = "flopscan::causal_conv1d"
_BACKWARD = "flopscan::causal_conv1d_backward"
_SILU = ("silu", "swish")


def _before(x: Array, initial: Array | None, b: int, d: int, i: int) -> Any:
    """x at step i, which may lie before the start."""
    if i >= 0:
        return x[b, d, i]
    return 0.0 if initial is None else initial[b, d, initial.shape[2] + i]


def _sum(x: Array, weight: Array, bias: Array | None, initial: Array | None, b: int, d: int, i: int) -> Any:
    """The output before the activation."""
    width = weight.shape[1]
    y = 0.0 if bias is None else bias[d]
    for k in range(width):
        y = fma(weight[d, k], _before(x, initial, b, d, i - width + 1 + k), y)
    return y


def convolution(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    initial_states: Array | None = None,
    activation: str | None = None,
) -> Array:
    """The definition."""

    def at(b: int, d: int, i: int) -> Any:
        y = _sum(x, weight, bias, initial_states, b, d, i)
        return y / (1.0 + exp(-y)) if activation in _SILU else y

    return Array.make(x.shape, at)


def _example(
    b: int,
    d: int,
    l: int,
    w: Any = (2, 3, 4),
    given: Any = ((), ("bias",), ("initial_states",), ("bias", "initial_states")),
    activation: Any = (None, "silu", "swish"),
) -> dict[str, Any]:
    optional = {"bias": (d,), "initial_states": (b, d, w - 1)}
    return {
        "x": TensorSpec((b, d, l), "float64"), "weight": TensorSpec((d, w), "float64"),
        **{name: TensorSpec(shape, "float64") if name in given else None for name, shape in optional.items()},
        "activation": activation,
    }  # fmt: skip


@rule(_FORWARD, contract=CONTRACT, reference=convolution, example=_example)
def causal_conv1d(b: Any, d: Any, l: Any, w: Any, activation: str | None = None) -> Cost:
    """b*d*l*w multiply-adds onto the bias; SiLU, y / (1 + exp(-y)), an exp, an add and a division each output."""
    each = Cost(exp=1, add=1, div=1) if activation in _SILU else Cost()
    return Cost(fma=b * d * l * w) + each * (b * d * l)


def convolution_backward(
    grad: Array,
    x: Array,
    weight: Array,
    bias: Array | None = None,
    initial_states: Array | None = None,
    activation: str | None = None,
) -> tuple[Any, ...]:
    """The gradients of x, weight, bias and initial_states; before SiLU the output is computed again."""
    batch, _, length = x.shape
    width = weight.shape[1]

    def slope(b: int, d: int, i: int) -> Any:
        if activation not in _SILU:
            return grad[b, d, i]
        y = _sum(x, weight, bias, initial_states, b, d, i)
        s = 1.0 / (1.0 + exp(-y))
        return grad[b, d, i] * s * (1.0 + y * (1.0 - s))

    dy = Array.make(x.shape, slope)

    def to_input(b: int, d: int, i: int) -> Any:
        result = 0.0
        for k in range(width):
            j = i + width - 1 - k
            result = fma(weight[d, k], dy[b, d, j] if 0 <= j < length else 0.0, result)
        return result

    def to_weight(d: int, k: int) -> Any:
        result = 0.0
        for b in range(batch):
            for i in range(length):
                result = fma(dy[b, d, i], _before(x, initial_states, b, d, i - width + 1 + k), result)
        return result

    dx = Array.make(x.shape, to_input)
    dweight = Array.make(weight.shape, to_weight)
    dbias = None
    if bias is not None:
        dbias = Array.make(bias.shape, lambda d: total(y for b in range(batch) for y in dy[b, d].data))
    dstates = None
    if initial_states is not None:
        dstates = Array.make(initial_states.shape, lambda b, d, i: to_input(b, d, i - initial_states.shape[2]))
    return dx, dweight, dbias, dstates


def _example_backward(**sizes: Any) -> dict[str, Any]:
    operands = _example(**sizes)
    return {"grad": operands["x"], **operands}


_example_backward.__signature__ = inspect.signature(_example)  # type: ignore[attr-defined]


@rule(
    _BACKWARD, contract=f"grad: b d l, {CONTRACT}",
    reference=convolution_backward, example=_example_backward,
)  # fmt: skip
def causal_conv1d_backward(
    b: Any, d: Any, l: Any, w: Any, given: frozenset[str], s: Any = 0, activation: str | None = None
) -> Cost:
    """As many multiply-adds as the forward for x, as many for the weight, and with SiLU as many to compute it again.

    SiLU: g * s * (1 + y * (1 - s)), s = 1 / (1 + exp(-y)), an exp, a division, 3 add and 3 mul. The bias is a sum:
    b*l - 1 additions a channel. A state before the start gets its gradient as an x does.
    """
    cost = Cost(fma=2 * b * d * l * w)
    if activation in _SILU:
        cost += Cost(fma=w, exp=1, div=1, add=3, mul=3) * (b * d * l)
    if "bias" in given:
        cost += Cost(add=d * (b * l - 1))
    if "initial_states" in given:
        cost += Cost(fma=b * d * s * w)
    return cost


# The functions of the package, and of its compiled module, whose signatures changed between versions.


def _own(bound: Operands) -> Operands:
    """The operands of the definition."""
    names = ("grad", "x", "weight", "bias", "initial_states", "activation")
    return {name: bound[name] for name in names if bound.get(name) is not None}


def _compiled(bound: Operands) -> Operands:
    """The same where a flag says whether SiLU follows."""
    return {**_own(bound), **({"activation": "silu"} if bound["silu"] else {})}


def _step(bound: Operands) -> Operands:
    """A decoding step: x (b d) or (b d l), and the state before it."""
    x = bound["x"]
    steps = x.shape if len(x.shape) == 3 else (*x.shape, 1)
    own = _compiled(bound) if "silu" in bound else _own(bound)
    return {**own, "x": TensorSpec(steps, x.dtype), "initial_states": bound["conv_state"]}


def _output(bound: Operands) -> Outputs:
    """The output; with ``return_final_states`` also the last w - 1 steps."""
    x, weight = bound["x"], bound["weight"]
    out = TensorSpec(x.shape, x.dtype)
    if not bound.get("return_final_states"):
        return out
    return out, TensorSpec((*x.shape[:2], weight.shape[1] - 1), x.dtype)


def _gradients(bound: Operands) -> Outputs:
    """The gradients of x, weight, bias and, where asked for, the initial states."""
    wanted = ["x", "weight", "bias", *(["initial_states"] if "dinitial_states" in bound else [])]
    return tuple(None if bound[n] is None else TensorSpec(bound[n].shape, bound[n].dtype) for n in wanted)


for _module in ("causal_conv1d", "causal_conv1d.causal_conv1d_interface"):
    seam(
        Seam(
            f"{_module}:causal_conv1d_fn",
            _FORWARD,
            "x, weight, bias=None, seq_idx=None, initial_states=None, return_final_states=False,"
            " final_states_out=None, activation=None",
            _output,
            backward=_BACKWARD,
            operands=_own,
        )
    )
    seam(
        Seam(
            f"{_module}:causal_conv1d_update",
            _FORWARD,
            "x, conv_state, weight, bias=None, activation=None, cache_seqlens=None, conv_state_indices=None",
            _output,
            operands=_step,
        )
    )
for _version, _forward, _backward in (
    ("1.0", "x, weight, bias, silu", "x, weight, bias, grad, dx, silu"),
    (
        "1.1 to 1.4",
        "x, weight, bias, seq_idx, initial_states, final_states_out, silu",
        "x, weight, bias, grad, seq_idx, initial_states, dfinal_states, dx, dinitial_states, silu",
    ),
):
    _compiled_module = "causal_conv1d_cuda:causal_conv1d"
    seam(Seam(f"{_compiled_module}_fwd", _FORWARD, _forward, _output, operands=_compiled, version=_version))
    seam(Seam(f"{_compiled_module}_bwd", _BACKWARD, _backward, _gradients, operands=_compiled, version=_version))
