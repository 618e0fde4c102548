"""The nodes that fvcore would meet in a torch.jit graph of the model, from a trace: functions as written come whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flopscan.core.trace import Call, Trace

# one node each in a graph that is traced; the other functions are written in Python with several
_IN_PYTHON = {"interpolate", "upsample", "lp_pool1d", "lp_pool2d", "lp_pool3d", "local_response_norm", "softmin",
              "softsign", "rrelu"}  # fmt: skip
_RENAMED = {
    **{f"conv{n}d": "_convolution" for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": "_convolution" for n in (1, 2, 3)},
    "rmatmul": "matmul", "logsigmoid": "log_sigmoid", "relu6": "hardtanh", "grid_sample": "grid_sampler",
    **{f"max_pool{n}d_with_indices": f"max_pool{n}d" for n in (1, 2, 3)},
    **{f"adaptive_max_pool{n}d_with_indices": f"adaptive_max_pool{n}d" for n in (1, 2, 3)},
}  # fmt: skip
_DISPATCHED = {
    "_softmax": "softmax", "_log_softmax": "log_softmax", "native_layer_norm": "layer_norm",
    "native_group_norm": "group_norm", "convolution": "_convolution", "grid_sampler_2d": "grid_sampler",
    "grid_sampler_3d": "grid_sampler", "_adaptive_avg_pool2d": "adaptive_avg_pool2d", "native_dropout": "dropout",
    "_adaptive_avg_pool3d": "adaptive_avg_pool3d", "max_pool2d_with_indices": "max_pool2d", "_to_copy": "to",
    "max_pool3d_with_indices": "max_pool3d", "_unsafe_view": "view", "_reshape_alias": "view", "alias": "view",
    "as_strided": "view", "lift_fresh": "view", "_embedding_bag": "embedding_bag", "_cdist_forward": "cdist",
    "clone": "contiguous", "_unsafe_index": "index",
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
                     "cudnn_batch_norm", "miopen_batch_norm", "batch_norm_with_update"), "batch_norm"),
}  # fmt: skip
_LEAVES = {"flopscan::scaled_dot_product_attention": "aten::scaled_dot_product_attention"}


@dataclass(frozen=True)
class Part:
    """Of which node (by its ``kind`` in a graph) a record of the trace is a part, and whether it stands for it all."""

    kind: str
    whole: bool


def parts(trace: Trace) -> Iterator[Part | None]:
    """For each record the node that it belongs to; None for the call of a module."""
    around: list[Call | None] = []  # per frame: the outermost function of one node, inside of the innermost module
    for frame in trace.frames:
        outer = around[frame.parent] if frame.parent >= 0 else None
        call = trace.calls[frame.call]
        around.append(None if call.op.startswith("module::") else outer or (call if _is_node(call) else None))
    for record in trace.records:
        call = trace.calls[record.call]
        outer = around[record.inside] if record.inside >= 0 else None
        if call.op.startswith("module::") or (record.envelope and outer is None and not _is_node(call)):
            yield None
        elif outer is not None:
            yield Part(_kind(outer), False)
        else:
            yield Part(_kind(call), True)


def _is_node(call: Call) -> bool:
    return call.op.startswith("torch::") and call.op.removeprefix("torch::") not in _IN_PYTHON


def _kind(call: Call) -> str:
    """The kind of the node: functions and operators of torch by the names that they have in a graph."""
    home, _, name = call.op.partition("::")
    if home == "torch":
        if name.startswith("conv") and isinstance(call.get("padding"), str):
            return "aten::_convolution_mode"
        return f"aten::{_RENAMED.get(name, name)}"
    if home == "aten":
        return f"aten::{_DISPATCHED.get(name, name)}"
    return _LEAVES.get(call.op, call.op)
