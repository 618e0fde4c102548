"""Recurrent layers: the whole operator against torch, cells and their gradients, CPU and shape-only totals alike."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from flopscan import rules
from flopscan.analysis import price, price_call
from flopscan.capture import shape_only
from flopscan.capture.operators import Operator, call_of
from flopscan.core.cost import Cost
from flopscan.core.trace import Call, TensorSpec
from proving import prove

KINDS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn_tanh": nn.RNN, "rnn_relu": nn.RNN}


def _layer(kind: str, **settings: Any) -> nn.RNNBase:
    if kind == "rnn_relu":
        settings["nonlinearity"] = "relu"
    return KINDS[kind](3, 4, dtype=torch.float64, **settings)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "settings",
    [{}, {"bias": False}, {"num_layers": 2, "bidirectional": True}, {"proj_size": 2, "bidirectional": True}],
    ids=str,
)
def test_whole_operator(kind: str, settings: dict[str, Any]) -> None:
    if "proj_size" in settings and kind != "lstm":
        settings = {"bidirectional": True}
    torch.manual_seed(0)
    layer = _layer(kind, **settings)
    n = layer.num_layers * (1 + layer.bidirectional)
    hx = torch.rand(n, 2, layer.proj_size or 4, dtype=torch.float64)
    state = (hx, torch.rand(n, 2, 4, dtype=torch.float64)) if kind == "lstm" else hx
    x = torch.rand(3, 2, 3, dtype=torch.float64)
    operands = {
        "input": x, "hx": state, "params": [p.detach() for p in layer._flat_weights], "has_biases": layer.bias,
        "num_layers": layer.num_layers, "dropout": 0.0, "train": False, "bidirectional": layer.bidirectional,
        "batch_first": False,
    }  # fmt: skip
    prove(f"aten::{kind}", operands, layer(x, state)[0].detach())


def _dispatched(model: nn.Module, *inputs: torch.Tensor) -> Cost:
    """The cost of everything that a real run dispatches."""
    found = Cost()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal found
            output = func(*args, **(kwargs or {}))
            priced = price_call(call_of(Operator(func), args, kwargs or {}, output, bare=False))
            assert priced.ideal is not None, (func, priced.note)
            found += priced.ideal
            return output

    with torch.no_grad(), Watch():
        model(*inputs)
    return found


@pytest.mark.parametrize("settings", [{}, {"num_layers": 2, "bidirectional": True}], ids=str)
def test_an_lstm_costs_the_same_on_cpu_and_on_shapes(settings: dict[str, Any]) -> None:
    layer, x = nn.LSTM(3, 4, **settings), torch.rand(5, 2, 3)
    operands = {
        "input": TensorSpec((5, 2, 3)), "params": tuple(TensorSpec(tuple(p.shape)) for p in layer._flat_weights),
        "has_biases": True, "num_layers": layer.num_layers, "bidirectional": layer.bidirectional,
    }  # fmt: skip
    whole = price_call(Call("aten::lstm", operands)).ideal
    ledger = price(shape_only.trace(layer, (x,), {}))
    assert not ledger.uncounted()
    assert whole.arithmetic() == ledger.cost().arithmetic() == _dispatched(layer, x).arithmetic()


@pytest.mark.parametrize("kind", ["gru", "rnn_tanh", "rnn_relu"])
def test_other_layers_cost_the_same_in_pieces(kind: str) -> None:
    layer, x = _layer(kind), torch.rand(5, 2, 3, dtype=torch.float64)
    ledger = price(shape_only.trace(layer, (x,), {}))
    rule = rules.find(f"aten::{kind}")
    sizes = {
        "kind": kind,
        "rows": 10,
        "i": 3,
        "h": 4,
        "r": 4,
        "biased": True,
        "layers": 1,
        "directions": 1,
        "dropped": False,
    }
    assert rule.cost(sizes).arithmetic() == ledger.cost().arithmetic() == _dispatched(layer, x).arithmetic()


def test_one_lstm_step_by_hand() -> None:
    # 1 row, 3 in, 4 hidden: 4 * 4 * (3 + 4) = 112 fma. Adds: second bias 16, sigmoids 12, f*c + i*g 4. 3 * 4 muls.
    layer = nn.LSTM(3, 4)
    cost = price(shape_only.trace(layer, (torch.rand(1, 1, 3),), {})).cost()
    assert cost.arithmetic() == {"fma": 112, "add": 32, "mul": 12, "div": 12, "exp": 12, "trig": 8}


def test_lstm_cell_and_its_gradient() -> None:
    torch.manual_seed(0)
    gates, hidden = (torch.rand(2, 12, dtype=torch.float64, requires_grad=True) for _ in range(2))
    biases = [torch.rand(12, dtype=torch.float64) for _ in range(2)]
    cx = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    i, f, g, o = (gates + hidden + biases[0] + biases[1]).chunk(4, 1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    cy = f * cx + i * g
    hy = o * cy.tanh()
    operands = {
        "input_gates": gates,
        "hidden_gates": hidden,
        "cx": cx,
        "input_bias": biases[0],
        "hidden_bias": biases[1],
    }
    prove("aten::_thnn_fused_lstm_cell", operands, (hy, cy))
    grads = {"grad_hy": torch.rand_like(hy), "grad_cy": torch.rand_like(cy)}
    expected = torch.autograd.grad((hy, cy), (gates, cx), tuple(grads.values()))
    kept = {"cx": cx, "cy": cy, "workspace": torch.cat((i, f, g, o), 1)}
    prove("aten::_thnn_fused_lstm_cell_backward", {**grads, **kept, "has_bias": False}, expected)


def test_gru_cell_gradient() -> None:
    torch.manual_seed(0)
    gates, hidden = (torch.rand(2, 9, dtype=torch.float64, requires_grad=True) for _ in range(2))
    hx = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    (i_r, i_z, i_n), (h_r, h_z, h_n) = gates.chunk(3, 1), hidden.chunk(3, 1)
    r, z = (i_r + h_r).sigmoid(), (i_z + h_z).sigmoid()
    n = (i_n + r * h_n).tanh()
    hy = n + z * (hx - n)
    grad = torch.rand_like(hy)
    expected = torch.autograd.grad(hy, (gates, hidden, hx), grad)
    operands = {"grad_hy": grad, "workspace": torch.cat((r, z, n, hx, h_n), 1), "has_bias": False}
    prove("aten::_thnn_fused_gru_cell_backward", operands, expected)


def test_library_kernels() -> None:
    # cuDNN, 2 layers both ways, 5 x 2 rows: layer 1 4*4*(3+4), layer 2 4*4*(8+4), twice each, times 10 rows.
    operands = {
        "input": TensorSpec((5, 2, 3)), "weight_stride0": 4, "mode": 2, "hidden_size": 4, "proj_size": 0,
        "num_layers": 2, "bidirectional": True, "dropout": 0.0, "train": True,
    }  # fmt: skip
    spec = TensorSpec((5, 2, 8))
    forward = rules.find("aten::_cudnn_rnn").price(Call("aten::_cudnn_rnn", operands, (spec,))).ideal
    assert forward.fma == 10 * 2 * (16 * 7 + 16 * 12)
    backward = {**operands, "output_mask": (True, False, False, True)}
    found = rules.find("aten::_cudnn_rnn_backward").price(Call("aten::_cudnn_rnn_backward", backward, (spec,))).ideal
    assert found.fma == 2 * forward.fma
