"""torch_flops: FLOPs, 2 k - 1 a sum of k products, by the nodes of an fx graph: layers of torch.nn, functions, signs.

Facts of each formula from torch_flops/flops_ops.py (MIT). fx does not look into a module of torch.nn (but a
Sequential) or a function: one that has no formula counts zero with all that it runs. A formula goes with how a thing
is written: `x.softmax()` counts and `F.softmax(x)` does not, `a @ b` counts and `a.matmul(b)` does not.

Not reproduced, as a trace does not have it: one FLOP for each sum or product of sizes in Python, which fx traces as
nodes; `bias=` and `groups=` of a functional convolution by keyword (by position they are not seen, as here); `x.exp()`,
`x.sum()` and signs are told from `torch.exp`, `torch.sum` and in-place methods by fx, and taken as the former here; a
layer of torch.nn as the whole model, which fx looks into; models that fx cannot trace, on which the tool raises.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from flopscan.conventions import _products
from flopscan.core.convention import Bug, Convention, Handle
from flopscan.core.trace import Call, TensorSpec


def _zero(call: Call) -> int:
    return 0


def _per_output(call: Call) -> int:
    return call.out.numel


def _four(call: Call) -> int:
    return 4 * call.out.numel


def _only(spelled: tuple[str, ...], handle: Handle) -> Handle:
    """``handle`` for these ways to write a function; the others have no formula."""
    return lambda call: handle(call) if call["spelled"] in spelled else 0


def _matmul(call: Call) -> int:
    left: TensorSpec = call["other" if call.op == "torch::rmatmul" else "input"]
    return (2 * left.shape[-1] - 1) * call.out.numel


def _linear(call: Call) -> int:
    biased = call.get("bias") is not None
    return int((2 * call["input"].shape[-1] - 1 + biased) * call.out.numel)


def _functional_convolution(call: Call) -> int:
    """One product less an output, as the bias and the groups are not seen."""
    return int((2 * math.prod(call["weight"].shape[1:]) - 1) * call.out.numel)


def _attention(call: Call) -> int:
    """Two products, a scale, a mask where there is one, the softmax's exponentials, sums and quotients, dropout."""
    query, key, value = call["query"].shape, call["key"].shape, call["value"].shape
    rows, d, keys = math.prod(query[:-1]), query[-1], key[-2]
    masked = call.get("attn_mask") is not None or bool(call.get("is_causal"))
    a_pair = 2 * d - 1 + 1 + masked + 2 + bool(call.get("dropout_p"))
    return int(rows * (keys * a_pair + keys - 1 + (2 * keys - 1) * value[-1]))


def _softmax(call: Call) -> int:
    """Exponentials, the sums of all but one, quotients."""
    shape = call["input"].shape
    return int(2 * call.out.numel + (call.out.numel // shape[call["dim"]]) * (shape[call["dim"]] - 1))


def _interpolate(call: Call) -> int:
    """The size that is asked for, without channels; or the input times the scale to the power of the batch."""
    if call.get("size") is not None:
        size = call["size"]
        return math.prod(size) if isinstance(size, (tuple, list)) else int(size)
    return int(call["input"].numel * call["scale_factor"] ** call["input"].shape[0])


def _sum(call: Call) -> int:
    """The axes that are summed over times all results but one; of a single result, all elements but one."""
    given = [n for n in call["self"].shape if n != 1]
    left = [n for n in call.out.shape if n != 1]
    if not left:
        return int(call["self"].numel - 1)
    for n in left:
        given.remove(n)
    return math.prod(given) * (math.prod(left) - 1)


def _sum_right(call: Call) -> int:
    return int(call["self"].numel - call.out.numel)


def _settings(call: Call) -> dict[str, object]:
    return dict(call["settings"])


def _has(call: Call, parameter: str) -> bool:
    return any(name == parameter for name, *_ in call["parameters"])


def _layer_linear(call: Call) -> int:
    return int((2 * call["operands"][0].shape[-1] - 1 + _has(call, "bias")) * call.out.numel)


def _layer_convolution(call: Call) -> int:
    weight = next(spec for name, spec, *_ in call["parameters"] if name == "weight")
    return int((2 * math.prod(weight.shape[1:]) - 1 + _has(call, "bias")) * call.out.numel)


def _window(call: Call, axes: Callable[[Call], int]) -> int:
    """The elements of a window; a size given as one number is taken for one axis."""
    size = _settings(call)["kernel_size"]
    return math.prod(size) if isinstance(size, (tuple, list)) else int(str(size)) ** axes(call)


def _adaptive(call: Call) -> int:
    """The elements of a window where sizes divide, and else the rest of the division plus one."""
    spatial = zip(call["operands"][0].shape[2:], call.out.shape[2:], strict=True)
    return math.prod(n // m if n % m == 0 else n % m + 1 for n, m in spatial)


def _one(call: Call) -> int:
    return 1


def _axes(call: Call) -> int:
    return int(call.op[-2])


def _pools(axes: Callable[[Call], int]) -> dict[str, Handle]:
    def average(call: Call) -> int:
        return _window(call, axes) * call.out.numel

    def largest(call: Call) -> int:
        return (_window(call, axes) - 1) * call.out.numel

    return {
        **{f"AvgPool{n}d": average for n in (1, 2, 3)},
        **{f"MaxPool{n}d": largest for n in (1, 2, 3)},
    }


LAYERS: dict[str, Handle] = {
    "Linear": _layer_linear,
    **dict.fromkeys(("Conv1d", "Conv2d", "Conv3d"), _layer_convolution),
    **_pools(_one),
    **{f"AdaptiveAvgPool{n}d": lambda call: _adaptive(call) * call.out.numel for n in (1, 2, 3)},
    **{f"AdaptiveMaxPool{n}d": lambda call: (_adaptive(call) - 1) * call.out.numel for n in (1, 2, 3)},
    **{f"{kind}Norm{n}d": _four for kind in ("Batch", "Instance") for n in (1, 2, 3)},
    **dict.fromkeys(("LayerNorm", "GroupNorm", "LeakyReLU"), _four),
    **dict.fromkeys(("GELU", "ReLU"), _per_output),
}


def _written(call: Call) -> Handle | None:
    """The formula of a layer by its class's name; nothing inside of a layer of torch.nn or a function is looked at."""
    if call.op.startswith("torch::"):
        return _zero
    if not call.op.startswith(("module::torch.nn.", "module::torch.ao.nn.")) or "Sequential" in call["bases"]:
        return None
    return LAYERS.get(call.op.rpartition(".")[2], _zero)


_SIGNS = ("add", "sub", "mul", "div")
HANDLES: dict[str, Handle] = {
    **dict.fromkeys((f"aten::{name}{end}" for name in _SIGNS for end in ("", "_")), _per_output),
    **dict.fromkeys(("aten::rsub", "aten::eq", "aten::exp"), _per_output),
    "aten::sum": _sum,
    **{f"torch::{name}": _only(("torch",), _per_output) for name in ("add", "sub", "mul")},
    "torch::div": _only(("method",), _per_output),
    "torch::matmul": _only(("torch", "operator"), _matmul),
    "torch::rmatmul": _matmul,
    "torch::linear": _linear,
    **dict.fromkeys((f"torch::conv{n}d" for n in (1, 2, 3)), _functional_convolution),
    "torch::leaky_relu": _four,
    "torch::interpolate": _interpolate,
    "torch::softmax": _only(("method",), _softmax),
    _products.ATTENTION: _attention,
}
CONVENTION = Convention(
    name="torch-flops",
    version="0.4.1",
    unit="FLOP",
    summary="2 k - 1 a sum of k products and 1 for its bias, elements, softmax and windows; by fx; forward only",
    source="torch_flops 0.4.1, torch_flops/flops_ops.py",
    handles=HANDLES,
    fallback=_written,
    phases=("forward",),
    beyond="it counts sums, products and comparisons of sizes, which fx traces (torch_flops/flops_ops.py)",
    bugs=(
        Bug("sum", "sums over kept axes", "torch_flops 0.4.1, MethodFLOPs_sum", {"aten::sum": _sum_right}),
        Bug(
            "windows",
            "windows given by one number",
            "torch_flops 0.4.1, ModuleFLOPs_AvgPoolNd and ModuleFLOPs_MaxPoolNd",
            {f"module::torch.nn.modules.pooling.{name}": handle for name, handle in _pools(_axes).items()},
        ),
    ),
)
