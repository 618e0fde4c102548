"""Fused optimizer steps, per element of the parameters. Numbers that are one per tensor (bias corrections) are free."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.tally import Array, maximum, sqrt
from flopscan.core.trace import Call, TensorSpec
from flopscan.rules import rule


def _moved(*states: str) -> Callable[[Call], tuple[int, int]]:
    """Parameters, gradients and states are read; parameters and states are written back."""

    def moves(call: Call) -> tuple[int, int]:
        def size(name: str) -> int:
            return sum(t.nbytes for t in call.get(name) or () if isinstance(t, TensorSpec))

        kept = sum(map(size, ("self", *states)))
        return kept + size("grads"), kept

    return moves


def _sizes(call: Call) -> dict[str, Any]:
    return {"n": sum(t.numel for t in call["self"]), "scaled": isinstance(call.get("grad_scale"), TensorSpec)}


def _lists(update: Callable[..., tuple[Any, ...]], settings: dict[str, Any], *lists: list[Array]) -> tuple[Array, ...]:
    """``update`` on the elements of parallel lists of arrays: the new parameters and states, list after list."""
    results: list[list[Array]] = []
    for arrays in zip(*lists, strict=True):
        new = [update(*values, **settings) for values in zip(*(a.data for a in arrays), strict=True)]
        results.append([Array(arrays[0].shape, column) for column in zip(*new, strict=True)])
    return tuple(array for column in zip(*results, strict=True) for array in column)


def _adam(
    decoupled: bool, p: Any, g: Any, m: Any, v: Any, largest: Any = None, *, lr: float, beta1: float, beta2: float,
    weight_decay: float, eps: float, maximize: bool, step: int,
) -> tuple[Any, ...]:  # fmt: skip
    g = -g if maximize else g
    if weight_decay:
        p, g = (p * (1 - lr * weight_decay), g) if decoupled else (p, g + weight_decay * p)
    m = m + (1 - beta1) * (g - m)
    v = beta2 * v + (1 - beta2) * g * g
    largest = maximum(largest, v) if largest is not None else None
    size = sqrt(v if largest is None else largest) / math.sqrt(1 - beta2**step) + eps
    p = p - lr / (1 - beta1**step) * m / size
    return (p, m, v) if largest is None else (p, m, v, largest)


def _reference_adam(decoupled: bool) -> Callable[..., Any]:
    def reference(
        self: list[Array], grads: list[Array], exp_avgs: list[Array], exp_avg_sqs: list[Array],
        max_exp_avg_sqs: list[Array], lr: float, beta1: float, beta2: float, weight_decay: float, eps: float,
        amsgrad: bool, maximize: bool, step: int,
    ) -> tuple[Array, ...]:  # fmt: skip
        """New parameters, first and second moments, and their maxima where ``amsgrad``."""
        settings = {
            "lr": lr, "beta1": beta1, "beta2": beta2, "weight_decay": weight_decay, "eps": eps, "maximize": maximize,
            "step": step,
        }  # fmt: skip
        lists = (self, grads, exp_avgs, exp_avg_sqs, *([max_exp_avg_sqs] if amsgrad else []))
        return _lists(lambda *values, **rest: _adam(decoupled, *values, **rest), settings, *lists)

    return reference


def adam_step(n: Any, weight_decay: float, amsgrad: bool, scaled: bool, decay: Cost) -> Cost:
    """The moments (4 mul, 3 add), the root over its correction plus eps (sqrt, div, add), the step (mul, div, add)."""
    each = Cost(mul=5, add=5, div=2, sqrt=1, cmp=1 if amsgrad else 0)
    return (each + (decay if weight_decay else Cost()) + Cost(div=1 if scaled else 0)) * n


_ADAM: dict[str, Any] = {"sizes": _sizes, "moves": _moved("exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs")}


@rule("aten::_fused_adam", reference=_reference_adam(False), **_ADAM)
def adam(n: Any, weight_decay: float, amsgrad: bool, scaled: bool) -> Cost:
    """`adam_step`; weight decay is added to the gradient (mul, add)."""
    return adam_step(n, weight_decay, amsgrad, scaled, Cost(mul=1, add=1))


@rule("aten::_fused_adamw", reference=_reference_adam(True), **_ADAM)
def adamw(n: Any, weight_decay: float, amsgrad: bool, scaled: bool) -> Cost:
    """`adam_step`; weight decay shrinks the parameter (mul)."""
    return adam_step(n, weight_decay, amsgrad, scaled, Cost(mul=1))


def _sgd(
    p: Any, g: Any, buffer: Any = None, *, lr: float, momentum: float, dampening: float, weight_decay: float,
    nesterov: bool, maximize: bool, is_first_step: bool,
) -> tuple[Any, ...]:  # fmt: skip
    g = -g if maximize else g
    g = g + weight_decay * p if weight_decay else g
    if buffer is None:
        return (p - lr * g,)
    dampened = g if dampening == 0 or is_first_step else (1 - dampening) * g
    buffer = g if is_first_step else momentum * buffer + dampened
    g = g + momentum * buffer if nesterov else buffer
    return p - lr * g, buffer


def _reference_sgd(
    self: list[Array], grads: list[Array], momentum_buffer_list: list[Array], weight_decay: float, momentum: float,
    lr: float, dampening: float, nesterov: bool, maximize: bool, is_first_step: bool,
) -> tuple[Array, ...]:  # fmt: skip
    """New parameters and momentum buffers."""
    settings = {
        "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov,
        "maximize": maximize, "is_first_step": is_first_step,
    }  # fmt: skip
    return _lists(_sgd, settings, self, grads, *([momentum_buffer_list] if momentum else []))


@rule("aten::_fused_sgd", sizes=_sizes, moves=_moved("momentum_buffer_list"), reference=_reference_sgd)
def sgd(
    n: Any, scaled: bool, weight_decay: float, momentum: float, dampening: float, nesterov: bool, is_first_step: bool
) -> Cost:
    """The step, weight decay, momentum (not at first) and its look-ahead: a mul and an add each; dampening a mul."""
    pairs = 1 + bool(weight_decay) + bool(momentum and not is_first_step) + bool(momentum and nesterov)
    dampened = 1 if momentum and dampening and not is_first_step else 0
    return Cost(mul=pairs + dampened, add=pairs, div=1 if scaled else 0) * n


def _adagrad(
    p: Any, g: Any, state: Any, *, lr: float, weight_decay: float, eps: float, maximize: bool
) -> tuple[Any, ...]:
    g = -g if maximize else g
    g = g + weight_decay * p if weight_decay else g
    state = state + g * g
    return p - lr * g / (sqrt(state) + eps), state


def _reference_adagrad(
    self: list[Array], grads: list[Array], state_sums: list[Array], lr: float, weight_decay: float, eps: float,
    maximize: bool,
) -> tuple[Array, ...]:  # fmt: skip
    """New parameters and sums of squares, with a learning rate that has decayed already."""
    settings = {"lr": lr, "weight_decay": weight_decay, "eps": eps, "maximize": maximize}
    return _lists(_adagrad, settings, self, grads, state_sums)


@rule("aten::_fused_adagrad", sizes=_sizes, moves=_moved("state_sums"), reference=_reference_adagrad)
def adagrad(n: Any, scaled: bool, weight_decay: float) -> Cost:
    """The sum of squares (mul, add), its root plus eps (sqrt, add), the step (mul, div, add); decay (mul, add)."""
    decay = 1 if weight_decay else 0
    return Cost(mul=2 + decay, add=3 + decay, div=1 + scaled, sqrt=1) * n
