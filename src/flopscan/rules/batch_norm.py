"""Batch normalization and its gradient: n numbers in c channels, each normalized over batch and space.

In training mean and variance are computed (as in layer normalization) and the running ones move towards them by
``(1 - momentum) * running + momentum * new``; in evaluation scale and shift are folded once a channel.
"""

from __future__ import annotations

from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.rule import moved
from flopscan.core.tally import Array, rsqrt, total
from flopscan.core.trace import Call, TensorSpec
from flopscan.rules import rule
from flopscan.rules.normalization import MASKS, Values, centred, options, times


def _trains(call: Call) -> bool:
    if call.op.startswith("aten::_batch_norm_with_update"):
        return True
    return bool(call.get("training", False))


def _sizes(call: Call) -> dict[str, Any]:
    n = call["input"].numel
    return {
        "n": n,
        "c": call["input"].shape[1] if n else 0,
        "trains": _trains(call),
        "running": call.get("running_mean") is not None,
        **options(call),
    }


def _moves(call: Call) -> tuple[int, int]:
    """Running statistics are operands that training also writes, unless the operator returns new ones."""
    read, written = moved(call)
    updated = [call.get(name) for name in ("running_mean", "running_var")]
    in_place = _trains(call) and not call.op.endswith("_functional")
    return read, written + sum(spec.nbytes for spec in updated if in_place and isinstance(spec, TensorSpec))


def _channels(values: Array) -> list[Values]:
    """The numbers of each channel: axis 1."""
    channels, inner = values.shape[1], len(values.data) // (values.shape[0] * values.shape[1])
    found: list[Values] = [[] for _ in range(channels)]
    for i, value in enumerate(values.data):
        found[i // inner % channels].append(value)
    return found


def _together(channels: list[Values], shape: tuple[int, ...]) -> Array:
    """The array of ``shape`` whose channels these are."""
    rest = [iter(values) for values in channels]
    inner = len(channels) * len(channels[0]) // (shape[0] * shape[1])
    return Array(shape, (next(rest[i // inner % shape[1]]) for i in range(len(channels) * len(channels[0]))))


def _batch_norm(
    input: Array, weight: Array | None, bias: Array | None, running_mean: Array | None = None,
    running_var: Array | None = None, training: bool = True, momentum: float = 0.1, eps: float = 1e-5,
) -> tuple[Array, ...]:  # fmt: skip
    if not training:
        assert running_mean is not None and running_var is not None
        return (_evaluated(input, weight, bias, running_mean, running_var, eps),)
    results, means, scales = [], [], []
    for c, values in enumerate(_channels(input)):
        less, mean, rstd = centred(values, eps)
        if running_mean is not None:
            for running in (running_mean, running_var):
                assert running is not None  # the new variance times a constant: its momentum, n / (n - 1) folded in
                running[c] = (1.0 - momentum) * running[c] + momentum * mean
        scale = rstd if weight is None else rstd * weight[c]
        out = [x * scale for x in less]
        results.append(out if bias is None else [x + bias[c] for x in out])
        means.append(mean)
        scales.append(rstd)
    return _together(results, input.shape), Array((len(means),), means), Array((len(scales),), scales)


def _evaluated(
    input: Array, weight: Array | None, bias: Array | None, running_mean: Array, running_var: Array, eps: float
) -> Array:
    results = []
    for c, values in enumerate(_channels(input)):
        scale = rsqrt(running_var[c] + eps)
        scale = scale if weight is None else scale * weight[c]
        shift = -(running_mean[c] * scale)
        shift = shift if bias is None else bias[c] + shift
        results.append([x * scale + shift for x in values])
    return _together(results, input.shape)


_PARAMETERS = ((), ("weight",), ("weight", "bias"), ("bias",))


def _operands(m: int, n: int, parameters: Any = _PARAMETERS) -> dict[str, Any]:
    per_channel = TensorSpec((n,), "float64")
    given = {name: per_channel if name in parameters else None for name in ("weight", "bias")}
    statistics = dict.fromkeys(("running_mean", "running_var"), per_channel)
    return {"input": TensorSpec((m, n, 2), "float64"), **given, **statistics, "momentum": 0.1, "eps": 1e-5}


@rule(
    "aten::native_batch_norm", "aten::_native_batch_norm_legit_functional", "aten::_native_batch_norm_legit",
    sizes=_sizes, moves=_moves, reference=_batch_norm,
    example=lambda m, n, parameters=_PARAMETERS, training=(True, False): {
        **_operands(m, n, parameters), "training": training,
    },
)  # fmt: skip
@rule(
    "aten::_native_batch_norm_legit_no_training", "aten::_batch_norm_no_update",
    sizes=_sizes, moves=_moves,
    reference=lambda input, weight, bias, running_mean, running_var, eps: (
        _evaluated(input, weight, bias, running_mean, running_var, eps),
    ),
    example=lambda m, n, parameters=_PARAMETERS: _operands(m, n, parameters),
)  # fmt: skip
@rule(
    "aten::_batch_norm_with_update", "aten::_batch_norm_with_update_functional",
    sizes=_sizes, moves=_moves, reference=_batch_norm,
    example=lambda m, n, parameters=_PARAMETERS: _operands(m, n, parameters),
)  # fmt: skip
@rule("aten::cudnn_batch_norm", "aten::miopen_batch_norm", sizes=_sizes, moves=_moves, reference=_batch_norm)
def batch_norm(n: Any, c: Any, trains: Any, running: Any, has_weight: Any, has_bias: Any) -> Cost:
    """Training: statistics (2n - 2c add, n mul, 2c div), centring (n add), eps, rsqrt, scaling (n mul).

    The weight is folded into the scale (c mul), the bias is n additions. Running statistics: 4 mul and 2 add a channel.
    Evaluation: c rsqrt, c products and sums to fold mean and variance into scale and shift, then n mul, n add.
    """
    if trains:
        cost = Cost(add=3 * n - c + n * has_bias, mul=2 * n + c * has_weight, div=2 * c, sqrt=c)
        return cost + Cost(add=2 * c, mul=4 * c) if running else cost
    return Cost(add=n + c + c * has_bias, mul=n + c + c * has_weight, sqrt=c)


def _gradient_sizes(call: Call) -> dict[str, Any]:
    n = call["input"].numel
    trains = call.get("update", call.get("train", True))  # the CUDA forms know nothing but training
    return {"n": n, "c": call["input"].shape[1] if n else 0, "trains": trains, **options(call)}


def _batch_norm_backward(
    grad_out: Array, input: Array, weight: Array | None, running_mean: Array | None, running_var: Array | None,
    save_mean: Array | None, save_invstd: Array | None, train: bool, eps: float, output_mask: Any,
) -> tuple[Array | None, ...]:  # fmt: skip
    to_input, to_weight, to_bias = output_mask
    results, to_weights, sums = [], [], []
    for c, (g, values) in enumerate(zip(_channels(grad_out), _channels(input), strict=True)):
        if train:
            assert save_mean is not None and save_invstd is not None
            mean, rstd = save_mean[c], save_invstd[c]
        elif to_input or to_weight:
            assert running_mean is not None and running_var is not None
            mean, rstd = running_mean[c], rsqrt(running_var[c] + eps)
        if (to_input and train) or to_weight:
            values = [x - mean for x in values]
            product = total(times(g, values))
        if (to_input and train) or to_bias:
            sums.append(total(g))
        if to_weight:
            to_weights.append(product * rstd)
        if to_input:
            scale = rstd if weight is None else rstd * weight[c]
            if train:
                slope, average = product / len(g) * rstd * rstd, sums[-1] / len(g)
                g = [a - average - x * slope for a, x in zip(g, values, strict=True)]
            results.append([a * scale for a in g])
    return (
        _together(results, input.shape) if to_input else None,
        Array((len(to_weights),), to_weights) if to_weight else None,
        Array((len(sums),), sums) if to_bias else None,
    )


def _gradient_operands(
    m: int, n: int, weight: Any = (True, False), train: Any = (True, False),
    output_mask: Any = MASKS,
) -> dict[str, Any]:  # fmt: skip
    names = ("running_mean", "running_var", "save_mean", "save_invstd", *(("weight",) if weight else ()))
    channels = {name: TensorSpec((n,), "float64") for name in names}
    both = {name: TensorSpec((m, n, 2), "float64") for name in ("grad_out", "input")}
    return {**both, "weight": None, **channels, "train": train, "eps": 1e-5, "output_mask": output_mask}


def _gradient_moves(call: Call) -> tuple[int, int]:
    """Training reads the statistics that it saved, evaluation the running ones."""
    read, written = moved(call)
    running = call.get("update", call.get("train", True))
    names = ("running_mean", "running_var") if running else ("save_mean", "save_invstd", "save_var")
    return read - sum(spec.nbytes for name in names if isinstance(spec := call.get(name), TensorSpec)), written


@rule(
    "aten::native_batch_norm_backward",
    sizes=_gradient_sizes,
    moves=_gradient_moves,
    reference=_batch_norm_backward,
    example=_gradient_operands,
)
@rule(
    "aten::batch_norm_backward", "aten::cudnn_batch_norm_backward", "aten::miopen_batch_norm_backward",
    sizes=_gradient_sizes, moves=_gradient_moves,
    source="native_batch_norm_backward is the same function",
)  # fmt: skip
def batch_norm_backward(
    n: Any, c: Any, trains: Any, has_weight: Any, to_input: Any, to_weight: Any, to_bias: Any
) -> Cost:
    """``(g - mean(g) - x * slope) * scale``, x centred, the slope from the sum of g * x; in evaluation g * scale.

    For the weight the sum of g * x times rstd, for the bias the sum of g. Both sums are shared with the first.
    """
    cost = Cost()
    whole = trains and to_input
    if whole or to_weight:
        cost += Cost(add=2 * n - c, mul=n)
    if whole or to_bias:
        cost += Cost(add=n - c)
    if not trains and (to_input or to_weight):
        cost += Cost(add=c, sqrt=c)
    if to_weight:
        cost += Cost(mul=c)
    if to_input:
        cost += Cost(mul=n + c * has_weight)
    return cost + Cost(add=2 * n, mul=n + 2 * c, div=2 * c) if whole else cost
