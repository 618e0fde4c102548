"""onnx-tool: instructions, called MACs, of the nodes of an ONNX graph, with weights for what one instruction is not.

Facts of each node from onnx_tool/node.py (MIT), of the graph from torch.onnx's exporter by TorchScript at opset 17 in
eval mode: exp 32, log 43, sine 39, root 24, quotient 4; a hyperbolic tangent twice 38; a transposed convolution by its
output and without its groups; of a window with three axes the first alone. The exporter folds a batch norm into the
convolution before it, which then has a bias. Not reproduced: arithmetic on sizes, a node each, which the exporter does
not always fold; and what it cannot export, on which the tool sees no graph.
"""

from __future__ import annotations

import math

from flopscan.conventions import _einsum, _products
from flopscan.conventions._scan import CAUSAL_CONVOLUTION, OPERATOR
from flopscan.conventions._written_out import where_written_out
from flopscan.core.convention import Bug, Convention, Handle
from flopscan.core.trace import Call, Trace

_CONVOLUTIONS = ("aten::convolution", "aten::_convolution")
_NORMS = (
    "aten::native_batch_norm", "aten::_native_batch_norm_legit", "aten::_native_batch_norm_legit_no_training",
    "aten::cudnn_batch_norm", "aten::miopen_batch_norm", "aten::batch_norm_with_update",
)  # fmt: skip


def _per_output(factor: int) -> Handle:
    return lambda call: factor * call.out.numel


def _per_input(call: Call) -> int:
    return int(call["self"].numel)


def _linear(call: Call) -> int:
    return int(call.out.numel * (call["input"].shape[-1] + (call.get("bias") is not None)))


def _matmul(call: Call) -> int:
    """Each output sums over the right operand's rows; a vector on the right is not looked at."""
    right = call["input" if call.op == "torch::rmatmul" else "other"].shape
    return int(call.out.numel * (right[-2] if len(right) > 1 else 1))


def _added(call: Call) -> int:
    return _products.matrices(call) + call.out.numel


def _added_batch(call: Call) -> int:
    """A product, alpha and beta, and a sum."""
    return _products.matrices(call) + 2 * call.out.numel + int(call["self"].numel)


def _sum(call: Call) -> int:
    return call.out.numel * (1 if call.get("alpha", 1) == 1 else 2)


def _convolution(call: Call) -> int:
    """Each output sums over the weight's axes but the first, whatever it means, and its bias."""
    return int(call.out.numel * (math.prod(call["weight"].shape[1:]) + (call.get("bias") is not None)))


def _convolution_right(call: Call) -> int:
    return _products.convolution(call) + (call.out.numel if call.get("bias") is not None else 0)


def _layer_norm(call: Call) -> int:
    """Three products and four sums an element; a sum, a root and a quotient for each place of the other axes."""
    shape = call["input"].shape
    return int(7 * call["input"].numel + 29 * call["input"].numel // shape[-len(call["normalized_shape"])])


def _window(call: Call) -> int:
    size = call["kernel_size"]
    axes = 3 if "3d" in call.op else 2
    sides = tuple(size) if len(size) > 1 else (size[0],) * axes
    return int(call.out.numel * (sides[0] if axes == 3 else math.prod(sides)))


def _window_right(call: Call) -> int:
    return int(call.out.numel * math.prod(call["kernel_size"] * (3 if len(call["kernel_size"]) == 1 else 1)))


def _adaptive(call: Call) -> int:
    """To one place: a sum an input and a quotient an output; else windows of a whole number of elements."""
    axes = int(call.op[-2])
    sides = [n // m for n, m in zip(call["input"].shape[-axes:], call.out.shape[-axes:], strict=True)]
    if all(n == 1 for n in call.out.shape[-axes:]):
        return int(call["input"].numel + 4 * call.out.numel)
    return int(call.out.numel * (sides[0] if axes == 3 else math.prod(sides)))


def _attention(call: Call) -> int:
    """Both products, a scale of queries and keys, the softmax; a mask is added, and a causal one compared."""
    query, key = call["query"], call["key"]
    pairs = call.out.numel // call["value"].shape[-1] * key.shape[-2]
    causal = bool(call.get("is_causal"))
    masks = pairs * (causal or call.get("attn_mask") is not None) + causal * query.shape[-2] * key.shape[-2]
    return int(_products.attention(call) + query.numel + key.numel + 36 * pairs + masks + 3 * 24 + 4)


def _causal_convolution(call: Call) -> int:
    """transformers' convolution, padded on both sides, and the silu of what is kept."""
    (b, d, l), w = call["x"].shape, call["weight"].shape[-1]
    silu = 33 * call["x"].numel * (call.get("activation") is not None)
    return int(b * d * (l + w - 1) * (w + (call.get("bias") is not None)) + silu)


def _scan(call: Call) -> int:
    """transformers' loop: a state's decay with its exp, dt B u, a step and its read-out; of a step what is given."""
    (b, d, l), n = call["u"].shape, call["A"].shape[-1]
    given = {name: call.get(name) is not None for name in ("delta_bias", "D", "z")}
    per_step = given["delta_bias"] + 76 * bool(call.get("delta_softplus")) + 2 * given["D"] + 34 * given["z"]
    return int(b * d * l * (38 * n + per_step))


def _recurrent(gates: int, a_state: int) -> Handle:
    """Gates over inputs and states with two biases, and steps a state: those of one direction alone."""

    def count(call: Call) -> int:
        data, states = call.outputs[:2]
        h = states.shape[-1]
        directions = data.shape[-1] // h
        layers = states.shape[0] // directions
        rows = data.numel // data.shape[-1]
        inputs = call["input"].shape[-1] + (layers - 1) * h * directions
        return int(rows * (directions * gates * h * (inputs + layers * (h + 2)) + layers * h * a_state))

    return count


_ELEMENTS: dict[int, tuple[str, ...]] = {
    1: (
        "sub",
        "rsub",
        "mul",
        "neg",
        "abs",
        "relu",
        "maximum",
        "minimum",
        "cumsum",
        "sign",
        "eq",
        "gt",
        "lt",
        "ge",
        "le",
    ),
    2: ("ne", "leaky_relu", "_prelu_kernel", "clamp", "hardtanh"),
    4: ("div", "hardsigmoid", "reciprocal"),
    5: ("hardswish",),
    24: ("sqrt",),
    28: ("rsqrt",),
    32: ("exp", "pow", "sigmoid"),
    33: ("silu",),
    35: ("elu",),
    36: ("_softmax",),
    39: ("sin", "cos"),
    43: ("log",),
    76: ("tanh", "softplus"),
    80: ("_log_softmax",),
}
HANDLES: dict[str, Handle] = {
    **{
        f"aten::{name}{end}": _per_output(weight)
        for weight, names in _ELEMENTS.items()
        for name in names
        for end in ("", "_")
    },
    "aten::add": _sum,
    "aten::add_": _sum,
    "aten::gelu": lambda call: call.out.numel * (7 if call.get("approximate", "none") == "none" else 84),
    **dict.fromkeys(("aten::sum", "aten::mean", "aten::amax", "aten::amin"), _per_input),
    "torch::linear": _linear,
    "torch::matmul": _matmul,
    "torch::rmatmul": _matmul,
    "torch::einsum": _einsum.macs,
    "aten::addmm": _added,
    "aten::baddbmm": _added_batch,
    **dict.fromkeys(("aten::mm", "aten::bmm"), _products.matrices),
    **dict.fromkeys(_CONVOLUTIONS, _convolution),
    **dict.fromkeys(_NORMS, _per_output(31)),
    "torch::instance_norm": _per_output(7),
    "aten::native_group_norm": _per_output(9),
    "aten::native_layer_norm": _layer_norm,
    **dict.fromkeys((f"aten::max_pool{n}d_with_indices" for n in (2, 3)), _window),
    **dict.fromkeys((f"aten::avg_pool{n}d" for n in (2, 3)), _window),
    **{f"torch::adaptive_{kind}_pool{n}d": _adaptive for kind in ("avg", "max") for n in (1, 2, 3)},
    **dict.fromkeys(
        ("aten::upsample_linear1d", "aten::upsample_bilinear2d", "aten::upsample_trilinear3d"), _per_output(4)
    ),
    "aten::upsample_bicubic2d": _per_output(8),
    "torch::lstm": _recurrent(4, 180),
    "torch::gru": _recurrent(3, 110),
    _products.ATTENTION: _attention,
    CAUSAL_CONVOLUTION: where_written_out(_causal_convolution),
    OPERATOR: where_written_out(_scan),
}


def _folded(trace: Trace, counts: list[int]) -> list[int]:
    """A batch norm that follows a convolution is its bias, where it has none."""
    before: Call | None = None
    for i, record in enumerate(trace.records):
        call = trace.calls[record.call]
        if record.envelope or record.phase != "forward" or call.op == "aten::empty":
            continue
        if call.op in _NORMS and counts[i] and before is not None and before.op in _CONVOLUTIONS:
            plain = not before["transposed"] and before.out.shape == call["input"].shape
            if plain and not call.get("training", "no_training" not in call.op):
                counts[i] = record.count * call.out.numel * (before.get("bias") is None)
        before = call
    return counts


CONVENTION = Convention(
    name="onnx-tool",
    version="1.0.1",
    unit="onnx-tool MAC",
    summary="instructions of ONNX nodes: products and sums 1, quotients 4, exp 32, log 43, roots 24; forward only",
    source="onnx-tool 1.0.1, onnx_tool/node.py, on torch.onnx's export at opset 17",
    handles=HANDLES,
    settle={"batch norms folded into convolutions": _folded},
    phases=("forward",),
    beyond="it counts arithmetic on sizes that the exporter does not fold, and nothing that the exporter drops",
    bugs=(
        Bug(
            "transposed",
            "transposed convolutions by their output",
            "onnx-tool 1.0.1, onnx_tool/node.py, ConvTransposeNode",
            dict.fromkeys(_CONVOLUTIONS, _convolution_right),
        ),
        Bug(
            "windows",
            "windows of three axes",
            "onnx-tool 1.0.1, onnx_tool/node.py, PoolBase",
            dict.fromkeys(("aten::max_pool3d_with_indices", "aten::avg_pool3d"), _window_right),
        ),
    ),
)
