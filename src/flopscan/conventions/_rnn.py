"""Recurrent modules as ptflops, calflops and DeepSpeed count them: products, biases and the sums at the gates.

Facts from ptflops/pytorch_ops.py 0.7.5 (MIT), whose formula the other two took over. The first axis is taken for the
batch and the second for time, whose product is the same either way. At a packed sequence they stop with an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from flopscan.conventions._modules import first, operands, parameters, rows, setting
from flopscan.core.trace import Call

Product = Callable[[int, int], int]
_GATES = (("RNN", 1), ("GRU", 7), ("LSTM", 10))  # sums and products of a step, per hidden unit


def recurrent(call: Call, product: Product, *, sums: bool = True) -> int:
    """All layers, all steps; ``product`` is what a matrix of so many rows and columns costs a step."""
    step = sum(_step(call, f"_l{layer}", product, sums) for layer in range(setting(call, "num_layers")))
    given = operands(call)[0]
    steps = rows(call) if isinstance(given, tuple) else math.prod(given.shape[:2])
    return step * steps * (2 if setting(call, "bidirectional") else 1)


def cells(call: Call, product: Product, *, sums: bool = True) -> int:
    """One step."""
    return _step(call, "", product, sums) * first(call).shape[0]


def _step(call: Call, layer: str, product: Product, sums: bool) -> int:
    own = parameters(call)
    (rows, columns), (again, hidden) = own[f"weight_ih{layer}"].shape, own[f"weight_hh{layer}"].shape
    gates = next(times for name, times in _GATES if name in call.op) * setting(call, "hidden_size")
    biases = sum(math.prod(own[name + layer].shape) for name in ("bias_ih", "bias_hh") if name + layer in own)
    return int(product(rows, columns) + product(again, hidden) + (gates + biases if sums else 0))
