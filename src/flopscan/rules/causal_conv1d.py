"""The causal convolution of Mamba: each channel with a filter of its own, over the steps up to now, and SiLU.

y[b, d, i] = act(bias[d] + sum_k weight[d, k] * x[b, d, i - (w-1) + k]), where x before its start is the initial state,
or zero; positions before the start are counted like all others. Source: causal_conv1d `causal_conv1d_ref`.
"""

from __future__ import annotations

import inspect
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.rule import moved
from flopscan.core.tally import Array, exp, fma, total
from flopscan.core.trace import Call, TensorSpec
from flopscan.errors import ContractError
from flopscan.rules import rule
from flopscan.rules.causal_conv1d_kernel import executed_backward, executed_forward

CONTRACT = "x: b d l, weight: d w, bias?: d, initial_states?: b d s"
_FORWARD = "flopscan::causal_conv1d"
_BACKWARD = "flopscan::causal_conv1d_backward"


def has_silu(activation: str | None) -> bool:
    """Whether SiLU follows. Raises ContractError for another activation."""
    if activation not in (None, "silu", "swish"):
        raise ContractError(f"{_FORWARD}: no formula for the activation {activation!r}, expected 'silu' or none")
    return activation is not None


def _moves(call: Call) -> tuple[int, int]:
    """All is read once and written once; a decoding step writes its state in place."""
    read, written = moved(call)
    state = call.get("initial_states")
    return read, written + (state.nbytes if call.get("update") and isinstance(state, TensorSpec) else 0)


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
        return y / (1.0 + exp(-y)) if has_silu(activation) else y

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


@rule(_FORWARD, contract=CONTRACT, reference=convolution, example=_example, executed=executed_forward, moves=_moves)
def causal_conv1d(b: Any, d: Any, l: Any, w: Any, activation: str | None = None) -> Cost:
    """b*d*l*w multiply-adds onto the bias; SiLU, y / (1 + exp(-y)), an exp, an add and a division each output."""
    each = Cost(exp=1, add=1, div=1) if has_silu(activation) else Cost()
    return Cost(fma=b * d * l * w) + each * (b * d * l)


def _moves_of_step(call: Call) -> tuple[int, int]:
    """All is read once; of a state those sequences that are at hand, which are written back beside the output."""
    x, state = call["x"], call["conv_state"]
    own = state.nbytes // state.shape[0] * x.shape[0]
    read, written = moved(call)
    return read - state.nbytes + own, written + own


@rule(
    f"{_FORWARD}_update", contract="x: b d l, weight: d w, bias?: d, conv_state: _ d _", moves=_moves_of_step,
    source="flopscan.ops.causal_conv1d_update",
)  # fmt: skip
def causal_conv1d_update(b: Any, d: Any, l: Any, w: Any, activation: str | None = None) -> Cost:
    """As causal_conv1d, the steps before x from a state that takes x in."""
    return causal_conv1d(b, d, l, w, activation)


def convolution_backward(
    grad: Array,
    x: Array,
    weight: Array,
    bias: Array | None = None,
    initial_states: Array | None = None,
    dfinal_states: Array | None = None,
    activation: str | None = None,
) -> tuple[Any, ...]:
    """The gradients of x, weight, bias and initial_states; before SiLU the output is computed again."""
    batch, _, length = x.shape
    width = weight.shape[1]

    def slope(b: int, d: int, i: int) -> Any:
        if not has_silu(activation):
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
        last = i - length + width - 1
        return result if dfinal_states is None or last < 0 else result + dfinal_states[b, d, last]

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
    _BACKWARD, contract=f"grad: b d l, {CONTRACT}, dfinal_states?: b d _",
    reference=convolution_backward, example=_example_backward, executed=executed_backward,
)  # fmt: skip
def causal_conv1d_backward(
    b: Any, d: Any, l: Any, w: Any, given: frozenset[str], s: Any = 0, activation: str | None = None
) -> Cost:
    """As many multiply-adds as the forward for x, as many for the weight, and with SiLU as many to compute it again.

    SiLU: g * s * (1 + y * (1 - s)), s = 1 / (1 + exp(-y)), an exp, a division, 3 add and 3 mul. The bias is a sum:
    b*l - 1 additions a channel. A state before the start gets its gradient as an x does; the gradient of the last
    w - 1 steps, where these are handed on, is one addition each.
    """
    cost = Cost(fma=2 * b * d * l * w)
    if has_silu(activation):
        cost += Cost(fma=w, exp=1, div=1, add=3, mul=3) * (b * d * l)
    if "bias" in given:
        cost += Cost(add=d * (b * l - 1))
    if "initial_states" in given:
        cost += Cost(fma=b * d * s * w)
    return cost + Cost(add=b * d * min(w - 1, l + s)) if "dfinal_states" in given else cost
