"""Recurrent modules as thop counts them: each gate's products, sums and biases, and the products of the states.

Facts from thop/rnn_hooks.py 0.1.1 (MIT).
"""

from __future__ import annotations

from flopscan.conventions._modules import setting
from flopscan.core.trace import Call

_GATES = {"RNN": (1, 0), "GRU": (3, 4), "LSTM": (4, 4)}  # gates; products and sums of the states a hidden unit


def kind(call: Call) -> str:
    """RNN, GRU or LSTM, of which the module is one."""
    return next(base.removesuffix("Cell") for base in call["bases"] if base.removesuffix("Cell") in _GATES)


def step(call: Call, columns: int, back: int = 0) -> int:
    """One step of one direction of one layer: ``columns`` in, ``back`` of the last step's result (0 for all hidden)."""
    hidden = setting(call, "hidden_size")
    gates, states = _GATES[kind(call)]
    gate = hidden * (columns + (back or hidden)) + hidden + (2 * hidden if setting(call, "bias") else 0)
    return int(gates * gate + states * hidden)


def all_layers(call: Call, *, projected: bool = False) -> int:
    """One step of every layer and direction; a projection of the result counts only where it is known."""
    directions, hidden = 2 if setting(call, "bidirectional") else 1, setting(call, "hidden_size")
    short = setting(call, "proj_size", 0) if projected else 0
    columns, total = setting(call, "input_size"), 0
    for _ in range(setting(call, "num_layers")):
        total += directions * (step(call, columns, short) + hidden * short)
        columns = directions * (short or hidden)
    return total
