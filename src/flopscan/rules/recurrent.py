"""Recurrent layers: what one cell does to one row of the batch at one step, times rows, directions and layers.

A gate is one product of the input and the state with its weights, onto the first bias; the second bias is 1 addition.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from flopscan.core.cost import ZERO, Cost
from flopscan.core.tally import Array, dot, exp, maximum, tanh
from flopscan.core.trace import Call, TensorSpec
from flopscan.errors import ContractError
from flopscan.rules import product, rule

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
_MODES = ("rnn_relu", "rnn_tanh", "lstm", "gru")  # as cuDNN and MIOpen number them
_SIGMOID = Cost(exp=1, add=1, div=1)


def gate_cost(kind: str) -> Cost:
    """Per hidden channel, once the gates are summed.

    LSTM: 3 sigmoids, 2 tanh, f*c + i*g, o*tanh(c). GRU: 2 sigmoids, tanh(n + r*h_n), n + z*(h - n).
    """
    return {
        "lstm": _SIGMOID * 3 + Cost(trig=2, mul=3, add=1),
        "gru": _SIGMOID * 2 + Cost(trig=1, mul=2, add=3),
        "rnn_tanh": Cost(trig=1),
        "rnn_relu": Cost(cmp=1),
    }[kind]


def gate_gradient(kind: str) -> Cost:
    """Per hidden channel, from the activated gates that the forward kept, with the sum of both gradients of the state.

    LSTM: tanh(c) again; o: 1 mul; c: 3 mul, 1 add and 1 add of its own gradient; i, f, g and the former c: 4 mul;
    three times s*(1-s) (2 mul, 1 add), once 1-g*g (2 mul, 1 add). GRU: 10 mul, 4 add. RNN: 1-h*h (2 mul, 1 add).
    """
    return {
        "lstm": Cost(trig=1, mul=16, add=6),
        "gru": Cost(mul=10, add=4),
        "rnn_tanh": Cost(mul=2, add=1),
        "rnn_relu": Cost(cmp=1),
    }[kind]


def layer_cost(kind: str, rows: Any, i: Any, h: Any, r: Any, biased: bool) -> Cost:
    """One direction of one layer: ``rows`` cells with i inputs, h hidden channels and a state of r (r < h: projected).

    gates*h*(i + r) fma; the second bias 1 add per gate and channel (a GRU's new gate has an accumulator for each);
    the projection h*r fma.
    """
    gates = GATES[kind]
    second_bias = (2 if kind == "gru" else gates) * h if biased else 0
    projection = h * r if r != h else 0
    return (Cost(fma=gates * h * (i + r) + projection, add=second_bias) + gate_cost(kind) * h) * rows


def layer_gradient(kind: str, rows: Any, i: Any, h: Any, r: Any, biased: bool, to_input: bool = True) -> Cost:
    """One direction of one layer, backward: as many fma for input and state as forward, and as many for the weights.

    Per row r additions where the gradients of result and next step meet; each bias is summed over the rows.
    """
    gates = GATES[kind]
    products = gates * h * (i * (1 + bool(to_input)) + 2 * r) + (2 * h * r if r != h else 0)
    sums = (gates + (kind == "gru")) * h * (rows - 1) if biased else 0  # a GRU's two new-gate biases differ
    return (Cost(fma=products, add=r) + gate_gradient(kind) * h) * rows + Cost(add=sums)


def _stack(one: Callable[..., Cost], sizes: dict[str, Any], **first: Any) -> Cost:
    """All layers and directions: the first takes the input, the others the states of all directions below."""
    kind, rows, i, h, r, biased = (sizes[n] for n in ("kind", "rows", "i", "h", "r", "biased"))
    directions, layers = sizes["directions"], sizes["layers"]
    cost = one(kind, rows, i, h, r, biased, **first) * directions
    return cost + one(kind, rows, directions * r, h, r, biased) * (directions * (layers - 1))


def _sizes_whole(call: Call) -> dict[str, Any]:
    kind = call.op.removeprefix("aten::")
    source = call.get("input") or call["data"]
    to_gates, state = call["params"][0].shape, call["params"][1].shape
    return {
        "kind": kind, "rows": math.prod(source.shape[:-1]), "i": to_gates[1], "h": to_gates[0] // GATES[kind],
        "r": state[1], "biased": call["has_biases"], "layers": call["num_layers"],
        "directions": 2 if call["bidirectional"] else 1, "dropped": bool(call.get("dropout") and call.get("train")),
    }  # fmt: skip


def _sizes_library(call: Call) -> dict[str, Any]:
    """cuDNN and MIOpen: the weights of a layer are w_ih, w_hh, the two biases and the projection, where they exist."""
    h, r = call["hidden_size"], call.get("proj_size") or call["hidden_size"]
    return {
        "kind": _MODES[call["mode"]], "rows": math.prod(call["input"].shape[:-1]), "i": call["input"].shape[-1],
        "h": h, "r": r, "biased": call["weight_stride0"] >= 4, "layers": call["num_layers"],
        "directions": 2 if call["bidirectional"] else 1, "dropped": bool(call.get("dropout") and call.get("train")),
    }  # fmt: skip


def _sizes_mkldnn(call: Call) -> dict[str, Any]:
    """One direction of one layer: oneDNN is called for each, and only for LSTMs."""
    if call["mode"] != 2:
        raise ContractError(f"{call.op}: mode {call['mode']} is not the LSTM that torch runs through it")
    weight = call.get("weight0") or call["weight1"]
    return {
        "kind": "lstm", "rows": math.prod(call["input"].shape[:-1]), "i": weight.shape[1], "h": call["hidden_size"],
        "r": call["hidden_size"], "biased": call["has_biases"], "layers": 1, "directions": 1, "dropped": False,
    }  # fmt: skip


def _bound(sizes: Callable[[Call], dict[str, Any]]) -> Callable[[Call], dict[str, Any]]:
    return lambda call: {"layer": sizes(call)}


def recurrent(layer: dict[str, Any]) -> Cost:
    """`layer_cost` over layers and directions; dropout between layers selects (cmp) and rescales (mul) each state."""
    between = layer["rows"] * layer["r"] * layer["directions"] * (layer["layers"] - 1) if layer["dropped"] else 0
    return _stack(layer_cost, layer) + Cost(mul=between, cmp=between)


def recurrent_backward(layer: dict[str, Any], output_mask: Any = (True,)) -> Cost:
    """`layer_gradient` over layers and directions; dropout's mask is applied again."""
    between = layer["rows"] * layer["r"] * layer["directions"] * (layer["layers"] - 1) if layer["dropped"] else 0
    return _stack(layer_gradient, layer, to_input=output_mask[0]) + Cost(mul=between, cmp=between)


def _sigmoid(x: Any) -> Any:
    return 1.0 / (1.0 + exp(-x))


def _rows(matrix: Array, x: list[Any], starts: list[Any]) -> list[Any]:
    return [dot(row, x, start) for row, start in zip(matrix, starts, strict=True)]


def _cell(kind: str, x: list[Any], h: list[Any], c: list[Any], weights: list[Array], biased: bool) -> Any:
    """The next state: h, and c for an LSTM."""
    width = weights[0].shape[0]
    zeros: list[Any] = [0.0] * width
    first = weights[2].data if biased else zeros
    second = weights[3].data if biased else zeros
    third = width // 3
    gates = _rows(weights[0], x, first)
    if kind == "gru":
        of_state = [weights[1][j] for j in range(width)]
        both = [dot(of_state[j], h, gates[j]) for j in range(2 * third)]
        both = [g + b for g, b in zip(both, second, strict=False)] if biased else both
        new = [dot(of_state[j], h, second[j]) for j in range(2 * third, width)]
        r, z = [_sigmoid(g) for g in both[:third]], [_sigmoid(g) for g in both[third:]]
        n = [tanh(a + b * m) for a, b, m in zip(gates[2 * third :], r, new, strict=True)]
        return [a + b * (old - a) for a, b, old in zip(n, z, h, strict=True)], c
    gates = _rows(weights[1], h, gates)
    if biased:
        gates = [g + b for g, b in zip(gates, second, strict=True)]
    if kind != "lstm":
        return [tanh(g) if kind == "rnn_tanh" else maximum(g, 0.0) for g in gates], c
    i, f, g, o = (gates[n * width // 4 : (n + 1) * width // 4] for n in range(4))
    c = [_sigmoid(b) * old + _sigmoid(a) * tanh(new) for a, b, new, old in zip(i, f, g, c, strict=True)]
    h = [_sigmoid(a) * tanh(b) for a, b in zip(o, c, strict=True)]
    if len(weights) in (3, 5):
        h = [dot(row, h) for row in weights[-1]]
    return h, c


def _reference(kind: str) -> Callable[..., Any]:
    def reference(
        input: Array, hx: Any, params: list[Array], has_biases: bool, num_layers: int, bidirectional: bool,
    ) -> tuple[Array]:  # fmt: skip
        """Time by batch by channels in, the states of the last layer out."""
        time, batch, _ = input.shape
        per = len(params) // (num_layers * (1 + bidirectional))
        h0, c0 = (hx[0], hx[1]) if kind == "lstm" else (hx, hx)
        below = [[list(input[t, b]) for b in range(batch)] for t in range(time)]
        for layer in range(num_layers):
            sides = []
            for side in range(1 + bidirectional):
                n = layer * (1 + bidirectional) + side
                weights = params[n * per : (n + 1) * per]
                states = [[(list(h0[n, b]), list(c0[n, b])) for b in range(batch)]]
                for t in reversed(range(time)) if side else range(time):
                    cells = [_cell(kind, below[t][b], *states[-1][b], weights, has_biases) for b in range(batch)]
                    states.append(cells)
                steps = states[1:][::-1] if side else states[1:]
                sides.append([[h for h, _ in row] for row in steps])
            below = [[[x for side in sides for x in side[t][b]] for b in range(batch)] for t in range(time)]
        flat = [x for step in below for row in step for x in row]
        return (Array((time, batch, len(below[0][0])), flat),)

    return reference


for _kind in GATES:
    product(f"aten::{_kind}", sizes=_bound(_sizes_whole), reference=_reference(_kind))(recurrent)
product("aten::_cudnn_rnn", "aten::miopen_rnn", sizes=_bound(_sizes_library))(recurrent)
product("aten::mkldnn_rnn_layer", sizes=_bound(_sizes_mkldnn))(recurrent)
product("aten::_cudnn_rnn_backward", "aten::miopen_rnn_backward", sizes=_bound(_sizes_library))(recurrent_backward)
product("aten::mkldnn_rnn_layer_backward", sizes=_bound(_sizes_mkldnn))(recurrent_backward)


def _sizes_cell(call: Call) -> dict[str, Any]:
    """Elements of the state, and how many biases each gate has."""
    biases = sum(isinstance(call.get(name), TensorSpec) for name in ("input_bias", "hidden_bias"))
    return {"h": call.out.numel, "biases": biases}


def _lstm_cell(
    input_gates: Array, hidden_gates: Array, cx: Array, input_bias: Array | None = None,
    hidden_bias: Array | None = None,
) -> tuple[Array, Array]:  # fmt: skip
    batch, width = cx.shape

    def gate(b: int, j: int) -> Any:
        total = input_gates[b, j] + hidden_gates[b, j]
        return total if input_bias is None or hidden_bias is None else total + input_bias[j] + hidden_bias[j]

    h, c = [], []
    for b in range(batch):
        for j in range(width):
            i, f, g, o = (gate(b, n * width + j) for n in range(4))
            c.append(_sigmoid(f) * cx[b, j] + _sigmoid(i) * tanh(g))
            h.append(_sigmoid(o) * tanh(c[-1]))
    return Array(cx.shape, h), Array(cx.shape, c)


@rule("aten::_thnn_fused_lstm_cell", sizes=_sizes_cell, reference=_lstm_cell)
def lstm_cell(h: Any, biases: Any) -> Cost:
    """Per element: 4 gates summed (1 add, and 1 per bias), then `gate_cost`."""
    return (Cost(add=4 * (1 + biases)) + gate_cost("lstm")) * h


@rule("aten::_thnn_fused_gru_cell", sizes=_sizes_cell)
def gru_cell(h: Any, biases: Any) -> Cost:
    """Per element: 2 gates summed (1 add, and 1 per bias), the biases of the third, then `gate_cost`."""
    return (Cost(add=2 * (1 + biases) + biases) + gate_cost("gru")) * h


def _lstm_cell_backward(grad_hy: Array, grad_cy: Array, cx: Array, cy: Array, workspace: Array) -> tuple[Array, Array]:
    batch, width = cx.shape
    to_gates: Array = Array.make(workspace.shape, lambda *_: 0.0)
    to_cell: Array = Array.make(cx.shape, lambda *_: 0.0)
    for b in range(batch):
        for j in range(width):
            i, f, g, o = (workspace[b, n * width + j] for n in range(4))
            t = tanh(cy[b, j])
            to_o = grad_hy[b, j] * t
            to_c = grad_hy[b, j] * o * (1 - t * t) + grad_cy[b, j]
            slopes = [(to_c * g, i), (to_c * cx[b, j], f), (to_o, o)]
            to_i, to_f, to_o = (grad * (1 - s) * s for grad, s in slopes)
            to_g = to_c * i * (1 - g * g)
            for n, grad in enumerate((to_i, to_f, to_g, to_o)):
                to_gates[b, n * width + j] = grad
            to_cell[b, j] = to_c * f
    return to_gates, to_cell


@rule("aten::_thnn_fused_lstm_cell_backward", "aten::_thnn_fused_lstm_cell_backward_impl",
      sizes=lambda call: {"h": call["cx"].numel, "b": call["cx"].shape[0]}, reference=_lstm_cell_backward)  # fmt: skip
def lstm_cell_backward(h: Any, b: Any, has_bias: bool = False) -> Cost:
    """`gate_gradient` per element; the biases' gradient sums 4 gates over the batch."""
    return gate_gradient("lstm") * h + (Cost(add=4 * h // b * (b - 1)) if has_bias else ZERO)


def _gru_cell_backward(grad_hy: Array, workspace: Array) -> tuple[Array, Array, Array]:
    batch, width = grad_hy.shape
    to_input: Array = Array.make((batch, 3 * width), lambda *_: 0.0)
    to_hidden: Array = Array.make((batch, 3 * width), lambda *_: 0.0)
    to_state: Array = Array.make((batch, width), lambda *_: 0.0)
    for b in range(batch):
        for j in range(width):
            r, z, n, h, h_n = (workspace[b, m * width + j] for m in range(5))
            grad, closed = grad_hy[b, j], 1 - z
            share = grad * closed
            to_z = share * (h - n) * z
            to_n = share * (1 - n * n)
            to_r = to_n * h_n * (1 - r) * r
            for m, value in enumerate((to_r, to_z, to_n)):
                to_input[b, m * width + j] = value
            for m, value in enumerate((to_r, to_z, to_n * r)):
                to_hidden[b, m * width + j] = value
            to_state[b, j] = grad * z
    return to_input, to_hidden, to_state


@rule("aten::_thnn_fused_gru_cell_backward", reference=_gru_cell_backward,
      sizes=lambda call: {"h": call["grad_hy"].numel, "b": call["grad_hy"].shape[0]})  # fmt: skip
def gru_cell_backward(h: Any, b: Any, has_bias: bool = False) -> Cost:
    """`gate_gradient` per element; the biases' gradients sum 3 and 3 gates, 4 of them different, over the batch."""
    return gate_gradient("gru") * h + (Cost(add=4 * h // b * (b - 1)) if has_bias else ZERO)
