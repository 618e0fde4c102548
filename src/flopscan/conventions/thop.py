"""thop 0.1.1: multiply-adds of convolutions and linear layers, a few of norms, means and softmax, by exact class.

Facts of each hook from thop/profile.py, thop/vision/basic_hooks.py, calc_func.py and thop/rnn_hooks.py 0.1.1.
post2209072238 (MIT). Only modules are seen, and no function; it counts in evaluation mode.
"""

from __future__ import annotations

import math

from flopscan.conventions._frames import visits
from flopscan.conventions._functions import PRODUCTS
from flopscan.conventions._gates import all_layers, step
from flopscan.conventions._modules import each, first, module, operands, per_input, setting, softmax_axis
from flopscan.core.convention import Bug, Convention, Handle
from flopscan.core.trace import Call, Trace

_SOURCE = "thop 0.1.1, thop/vision/basic_hooks.py"
_NORMS = "BatchNorm1d BatchNorm2d BatchNorm3d SyncBatchNorm LayerNorm InstanceNorm1d InstanceNorm2d InstanceNorm3d"
_TRANSPOSED = "ConvTranspose1d ConvTranspose2d ConvTranspose3d"
_UPSAMPLED = {"nearest": 1, "linear": 5, "bilinear": 11, "bicubic": 259}


def _convolution(call: Call) -> int:
    """The output's elements * (c // groups) * k, also where it is transposed."""
    kernel = math.prod(setting(call, "kernel_size"))
    return int(call.out.numel * (first(call).shape[1] // setting(call, "groups")) * kernel)


def _transposed(call: Call) -> int:
    """What would be right: the input's positions * the weight."""
    given = first(call)
    each_position = given.shape[1] * (setting(call, "out_channels") // setting(call, "groups"))
    return int(given.shape[0] * math.prod(given.shape[2:]) * each_position * math.prod(setting(call, "kernel_size")))


def _norm(call: Call) -> int:
    """2 an element, 4 where it is affine."""
    affine = setting(call, "affine", False) or setting(call, "elementwise_affine", False)
    return first(call).numel * (4 if affine else 2)


def _softmax(call: Call) -> int:
    """f exponentials, f - 1 sums and f divisions a row."""
    given = first(call)
    features = given.shape[softmax_axis(call)]
    return given.numel // features * (3 * features - 1)


def _adaptive(call: Call) -> int:
    """The mean window, by the ratio of the sizes, and 1 for each element of the output; cut to a whole number."""
    window = 1.0
    for given, made in zip(first(call).shape[2:], call.out.shape[2:], strict=True):
        window *= given / made
    return int((window + 1) * call.out.numel)


def _upsampled(call: Call) -> int:
    """So many an element of the output, 0 for a mode that it does not know: trilinear is one."""
    return call.out.numel * _UPSAMPLED.get(setting(call, "mode"), 0)


def _recurrent(call: Call) -> int:
    """All layers; of a packed sequence every step of the longest for all of the batch. A projection is not known."""
    given = operands(call)[0]
    if isinstance(given, tuple):  # packed: data, then how many sequences there are at each step
        return all_layers(call) * given[1].shape[0] * call.outputs[-1].shape[-2]
    return all_layers(call) * math.prod(given.shape[:2])


def _cell(call: Call) -> int:
    return step(call, setting(call, "input_size")) * first(call).shape[0]


HOOKS: dict[str, Handle] = {
    **each(f"Conv1d Conv2d Conv3d {_TRANSPOSED}", _convolution),
    module("Linear"): lambda call: setting(call, "in_features") * call.out.numel,
    **each(_NORMS, _norm),
    module("PReLU"): per_input(1),
    module("Softmax"): _softmax,
    **each("AvgPool1d AvgPool2d AvgPool3d", lambda call: call.out.numel),
    **each("AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d", _adaptive),
    **each("Upsample UpsamplingBilinear2d UpsamplingNearest2d", _upsampled),
    **each("RNN GRU LSTM", _recurrent),
    **each("RNNCell GRUCell LSTMCell", _cell),
}


def _squared(trace: Trace, counts: list[int]) -> list[int]:
    """A module under n parents is hooked n times, by `Module.apply`, and read n times."""
    met = visits(trace)
    return [count * met[record.module] ** 2 for record, count in zip(trace.records, counts, strict=True)]


SHARED = Bug(
    "shared", "a module under two parents counts four times", "thop 0.1.1, thop/profile.py, add_hooks and dfs_count"
)
CONVENTION = Convention(
    name="thop",
    unit="MAC",
    summary="MACs of convolutions and linear layers, 2 or 4 an element of norms, some of means, softmax and LSTMs",
    source="thop 0.1.1.post2209072238, thop/vision/basic_hooks.py and thop/rnn_hooks.py",
    version="0.1.1",
    handles=HOOKS,
    phases=("forward",),
    settle={SHARED.name: _squared},
    bugs=(
        Bug(
            "transposed",
            "a transposed convolution counts on the output's size",
            f"{_SOURCE}, count_convNd",
            each(_TRANSPOSED, _transposed),
        ),
        Bug(
            "unseen",
            "attention and products outside of modules are not seen",
            "Lyken17/pytorch-OpCounter issues 174, 197 and 213",
            PRODUCTS,
        ),
        SHARED,
    ),
)
