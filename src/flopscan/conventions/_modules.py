"""What a counter that hooks modules reads of a call: its class, its settings, its parameters and its first operand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from flopscan.core.convention import Handle
from flopscan.core.trace import Call, TensorSpec

_CLASSES: Mapping[str, str] = {
    "conv": "Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d",
    "linear": "Linear Bilinear Identity",
    "batchnorm": "BatchNorm1d BatchNorm2d BatchNorm3d SyncBatchNorm",
    "instancenorm": "InstanceNorm1d InstanceNorm2d InstanceNorm3d",
    "normalization": "LayerNorm GroupNorm RMSNorm LocalResponseNorm",
    "pooling": "MaxPool1d MaxPool2d MaxPool3d AvgPool1d AvgPool2d AvgPool3d AdaptiveAvgPool1d AdaptiveAvgPool2d"
    " AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d LPPool1d LPPool2d LPPool3d",
    "activation": "ReLU PReLU ELU LeakyReLU ReLU6 GELU SiLU Softmax MultiheadAttention",
    "upsampling": "Upsample UpsamplingBilinear2d UpsamplingNearest2d",
    "rnn": "RNN GRU LSTM RNNCell GRUCell LSTMCell",
    "sparse": "Embedding EmbeddingBag",
}
_HOMES = {name: home for home, names in _CLASSES.items() for name in names.split()}


def module(name: str) -> str:
    """The name in a trace of a call of torch's module class ``name``."""
    return f"module::torch.nn.modules.{_HOMES[name]}.{name}"


def each(names: str, handle: Handle) -> dict[str, Handle]:
    """``handle`` for each of torch's module classes in ``names``."""
    return {module(name): handle for name in names.split()}


def is_module(call: Call) -> bool:
    """Whether it is a call of a module."""
    return call.op.startswith("module::")


def is_a(call: Call, *names: str) -> bool:
    """Whether the module is of one of torch's classes ``names``, or derived from it."""
    return any(name in call["bases"] for name in names)


def setting(call: Call, name: str, default: Any = None) -> Any:
    """What the module keeps as ``name``, if it is plain data."""
    return dict(call["settings"]).get(name, default)


def parameters(call: Call) -> dict[str, TensorSpec]:
    """The module's own parameters by name."""
    return {name: spec for name, spec, _ in call["parameters"]}


def has(call: Call, parameter: str) -> bool:
    """Whether the module has a parameter of its own of this name."""
    return parameter in parameters(call)


def operands(call: Call) -> tuple[Any, ...]:
    """The operands, by place and then by name; the counters stop with an error where they miss the first by place."""
    return (*call["operands"], *(value for _, value in call["named"]))


def first(call: Call) -> TensorSpec:
    """The first operand; of several in one, such as a packed sequence, the first tensor."""
    found: Any = operands(call)[0]
    while isinstance(found, tuple):
        found = found[0]
    assert isinstance(found, TensorSpec)
    return found


def rows(call: Call) -> int:
    """The steps of all sequences that a recurrent module is given; of packed ones those that there are."""
    given = operands(call)[0]
    return int(given[0].shape[0] if isinstance(given, tuple) else math.prod(given.shape[:-1]))


def softmax_axis(call: Call) -> int:
    """The axis of a softmax; torch's own choice where none is said, at which thop stops with an error."""
    axis = setting(call, "dim")
    return (0 if len(first(call).shape) in (0, 1, 3) else 1) if axis is None else axis


def per_input(factor: int) -> Handle:
    """So many an element of the input."""
    return lambda call: factor * first(call).numel


def nothing(call: Call) -> int:
    """0: the counter knows it and takes it for free."""
    return 0
