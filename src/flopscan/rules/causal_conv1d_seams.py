"""Where packages call the causal convolution: causal_conv1d in its versions, its operators, transformers' functions.

Signatures were read in causal_conv1d 1.0.0, 1.1.0, 1.1.3, 1.2.0, 1.2.2, 1.3.0, 1.4.0, 1.5.0, 1.5.1, 1.5.2, 1.6.1 and
1.7.0: those of the compiled module up to 1.5.0 by how the package calls it, since its sources are not in the archive.
"""

from __future__ import annotations

from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.seam import Operands, Outputs, Seam
from flopscan.core.trace import Call, TensorSpec
from flopscan.rules import rule, seam
from flopscan.rules.causal_conv1d import causal_conv1d, causal_conv1d_backward
from flopscan.rules.causal_conv1d_kernel import executed_backward, executed_forward

_FORWARD, _BACKWARD = "flopscan::causal_conv1d", "flopscan::causal_conv1d_backward"


def _own(bound: Operands) -> Operands:
    """The operands of the definition; the fourth of version 1.0 is the activation."""
    bound = {**bound, "x": bound.get("x", bound.get("hidden_states")), "grad": bound.get("grad", bound.get("dout"))}
    if isinstance(bound.get("seq_idx"), str):
        bound.update(activation=bound["seq_idx"], seq_idx=None)
    if bound.get("silu"):
        bound["activation"] = "silu"
    names = ("grad", "x", "weight", "bias", "initial_states", "dfinal_states", "activation")
    return {name: bound[name] for name in names if bound.get(name) is not None}


def _step(bound: Operands) -> Operands:
    """A decoding step: x (b d) or (b d l), and the state before it, which may be one of many."""
    own, state = _own(bound), bound["conv_state"]
    x = own["x"]
    own = {**own, "x": TensorSpec(x.shape if len(x.shape) == 3 else (*x.shape, 1), x.dtype), "update": True}
    return {**own, "initial_states": TensorSpec((x.shape[0], *state.shape[1:]), state.dtype)}


def like(x: TensorSpec) -> TensorSpec:
    """A fresh tensor of the shape of ``x``, its axes in the same order in memory."""
    if x.strides is None or any(step == 0 and size > 1 for size, step in zip(x.shape, x.strides, strict=True)):
        return TensorSpec(x.shape, x.dtype)
    order = sorted(range(len(x.shape)), key=lambda axis: x.strides[axis], reverse=True)  # type: ignore[index]
    steps, step = [0] * len(order), 1
    for axis in reversed(order):
        steps[axis], step = step, step * x.shape[axis]
    return TensorSpec(x.shape, x.dtype, None if order == sorted(order) else tuple(steps))


def _states(x: TensorSpec, width: int) -> TensorSpec:
    """The last steps, kept with channels next to each other."""
    b, d, _ = x.shape
    return TensorSpec((b, d, width - 1), x.dtype, ((width - 1) * d, 1, d) if width > 2 else None)


def _output(bound: Operands) -> Outputs:
    """The output; with ``return_final_states`` also the last w - 1 steps."""
    x = bound.get("x", bound.get("hidden_states"))
    if x.strides is not None and 1 not in x.strides[1:]:
        x = TensorSpec(x.shape, x.dtype)  # copied first
    if not bound.get("return_final_states"):
        return like(x)
    given = bound.get("final_states_out")
    return like(x), _states(x, bound["weight"].shape[1]) if given is None else given


def _gradients(bound: Operands) -> Outputs:
    """The gradients of x, weight, bias and, from version 1.2 on, of the initial states."""
    x, found = bound["x"], [None if bound[n] is None else like(bound[n]) for n in ("x", "weight", "bias")]
    if "return_dinitial" in bound:
        found.append(_states(x, bound["weight"].shape[1]) if bound["return_dinitial"] else None)
    return tuple(found)


def _written(bound: Operands) -> Outputs:
    """What the callee writes into an operand that it is given."""
    return like(bound["out"])


def _written_gradients(bound: Operands) -> Outputs:
    """The same of a backward."""
    return tuple(None if bound[n] is None else like(bound[n]) for n in ("dx", "dweight", "dbias", "dinitial_states"))


def _wanted(bound: Operands) -> Operands:
    """The operands of a backward: the initial states among them where their gradient is asked for."""
    own = dict(_own(bound))
    if bound.get("return_dinitial") is False or ("dinitial_states" in bound and bound["dinitial_states"] is None):
        own.pop("initial_states", None)
    return own


_STATES = "seq_idx, initial_states"
_FUNCTION = (
    "x, weight, bias=None, seq_idx=None, initial_states=None, return_final_states=False, final_states_out=None,"
    " activation=None"
)
_UPDATE = "x, conv_state, weight, bias=None, activation=None, cache_seqlens=None, conv_state_indices=None"
for _module in ("causal_conv1d", "causal_conv1d.causal_conv1d_interface"):
    seam(Seam(f"{_module}:causal_conv1d_fn", _FORWARD, _FUNCTION, _output, backward=_BACKWARD, operands=_own))
    seam(Seam(f"{_module}:causal_conv1d_update", _FORWARD, _UPDATE, _output, operands=_step))
seam(Seam(f"{_module}:CausalConv1dFn", _FORWARD, _FUNCTION, _output, backward=_BACKWARD, operands=_own))
_seam = "causal_conv1d_cuda:causal_conv1d"
for _version, _forward, _backward in (
    ("1.0", "x, weight, bias, silu", "x, weight, bias, grad, dx, silu"),
    ("1.1", "x, weight, bias, seq_idx, silu", "x, weight, bias, grad, seq_idx, dx, silu"),
    (
        "1.2 to 1.5.0", f"x, weight, bias, {_STATES}, final_states_out, silu",
        f"x, weight, bias, grad, {_STATES}, dfinal_states, dx, return_dinitial, silu",
    ),
):  # fmt: skip
    seam(Seam(f"{_seam}_fwd", _FORWARD, _forward, _output, operands=_own, version=_version))
    seam(Seam(f"{_seam}_bwd", _BACKWARD, _backward, _gradients, operands=_wanted, version=_version))
for _version, _rest in (
    ("1.0 to 1.3", ""), ("1.4", ", cache_seqlens"), ("1.5.0", ", cache_seqlens, conv_state_indices"),
):  # fmt: skip
    seam(
        Seam(
            f"{_seam}_update", _FORWARD, f"x, conv_state, weight, bias, silu{_rest}", _output, operands=_step,
            version=_version,
        )
    )  # fmt: skip

# From 1.5.1 on the compiled functions write into operands; the operators of DaoAILab call them, and `cpp_functions`
# call those.
_SINCE = "1.5.1 to 1.7"
for _path, _op, _signature, _outputs, _operands in (
    (f"{_seam}_fwd", _FORWARD, f"x, weight, bias, {_STATES}, out, final_states_out, silu", _written, _own),
    (
        f"{_seam}_bwd", _BACKWARD, f"x, weight, bias, grad, {_STATES}, dfinal_states, dx, dweight, dbias,"
        " dinitial_states, silu", _written_gradients, _wanted,
    ),
    (
        f"{_seam}_update", _FORWARD, "x, conv_state, weight, bias, out, silu, cache_seqlens, conv_state_indices",
        _written, _step,
    ),
):  # fmt: skip
    seam(Seam(_path, _op, _signature, _outputs, operands=_operands, version=_SINCE))


def _named(bound: Operands) -> Operands:
    """The bound operands with the names that the compiled functions have."""
    return {**bound, "silu": bound["silu_activation"], "return_dinitial": bound.get("return_dinitial_states", False)}


_functions = "causal_conv1d.cpp_functions:causal_conv1d"
for _path, _op, _signature, _outputs, _operands in (
    (
        "fwd", _FORWARD, f"x, weight, bias, {_STATES}, final_states_out, silu_activation", _output,
        lambda bound: _own(_named(bound)),
    ),
    (
        "bwd", _BACKWARD, f"x, weight, bias, dout, {_STATES}, dfinal_states, dx, return_dinitial_states,"
        " silu_activation", lambda bound: _gradients(_named(bound)), lambda bound: _wanted(_named(bound)),
    ),
    (
        "update", _FORWARD, "x, conv_state, weight, bias, silu_activation, cache_seqlens, conv_state_indices", _output,
        lambda bound: _step(_named(bound)),
    ),
):  # fmt: skip
    seam(Seam(f"{_functions}_{_path}_function", _op, _signature, _outputs, operands=_operands, version=_SINCE))
_MODELS = "transformers.models.*:causal_conv1d"
seam(
    Seam(
        f"{_MODELS}_fn",
        _FORWARD,
        "hidden_states, weight, bias=None, activation=None, **kwargs",
        _output,
        backward=_BACKWARD,
        operands=_own,
        version="5.23",
    )
)
seam(
    Seam(
        f"{_MODELS}_update",
        _FORWARD,
        "hidden_states, conv_state, weight, bias=None, activation=None",
        _output,
        operands=_step,
        version="5.23",
    )
)


# The operators themselves, which the dispatcher shows where the package is installed.

_CONTRACT = "x: b d l, weight: d w, bias?: d"
_CHECKED = "causal_conv1d 1.7.0, cpp_functions.py"


def _bytes(*written: str, both: str = "") -> Any:
    """The bytes moved where the operands ``written`` are results, and ``both`` is read and written."""

    def moves(call: Call) -> tuple[int, int]:
        found = {k: v.nbytes for k, v in call.args.items() if isinstance(v, TensorSpec)}
        results = sum(n for k, n in found.items() if k in written)
        return sum(found.values()) - results, results + found.get(both, 0)

    return moves


def _activation(silu_activation: bool) -> str | None:
    return "silu" if silu_activation else None


@rule(
    "DaoAILab::_causal_conv1d_fwd_cpp", contract=f"{_CONTRACT}, initial_states?: b d _",
    moves=_bytes("out", "final_states_out"), source=_CHECKED,
    executed=lambda b, d, l, w, call, silu_activation: executed_forward(b, d, l, w, call, _activation(silu_activation)),
)  # fmt: skip
def forward_operator(b: Any, d: Any, l: Any, w: Any, silu_activation: bool) -> Cost:
    """As causal_conv1d."""
    return causal_conv1d(b, d, l, w, _activation(silu_activation))


@rule(
    "DaoAILab::_causal_conv1d_update_cpp", contract=f"{_CONTRACT}, conv_state: _ d _",
    moves=_bytes("out", both="conv_state"), source=_CHECKED,
)  # fmt: skip
def update_operator(b: Any, d: Any, l: Any, w: Any, silu_activation: bool) -> Cost:
    """As causal_conv1d, the steps before x from a state that takes x in."""
    return causal_conv1d(b, d, l, w, _activation(silu_activation))


def _gradients_given(call: Call) -> dict[str, Any]:
    """The operands as the formulas of the backward know them; the initial states by whether they get a gradient."""
    states = call.get("dinitial_states")
    has = {"bias": call.get("dbias"), "initial_states": states, "dfinal_states": call.get("dfinal_states")}
    given = frozenset(name for name, value in has.items() if value is not None)
    return {"given": given, "s": 0 if states is None else states.shape[2]}


@rule(
    "DaoAILab::_causal_conv1d_bwd_cpp", contract=f"dout: b d l, {_CONTRACT}", sizes=_gradients_given,
    moves=_bytes("dx", "dweight", "dbias", "dinitial_states"), source=_CHECKED,
    executed=lambda b, d, l, w, given, call, s, silu_activation: executed_backward(
        b, d, l, w, given, call, s, _activation(silu_activation)
    ),
)  # fmt: skip
def backward_operator(b: Any, d: Any, l: Any, w: Any, given: frozenset[str], s: Any, silu_activation: bool) -> Cost:
    """As causal_conv1d_backward."""
    return causal_conv1d_backward(b, d, l, w, given, s, _activation(silu_activation))
