"""The causal convolution of Mamba as torch operators: each channel with a filter of its own, over the steps up to now.

    y[b, d, i] = act(bias[d] + sum over k of weight[d, k] x[b, d, i - (w-1) + k])

where x before its start is the initial state, or zero, and act is SiLU or nothing.
Source: causal_conv1d `causal_conv1d_ref`, whose names and layouts these are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from flopscan.ops.causal_conv1d import cuda
from flopscan.ops.checks import Shapes, check_dtype, check_tensors, remembered
from flopscan.ops.functional import Transformable, one_by_one, refuse_second, transformed
from flopscan.ops.gpu import kernels

_OP, _UPDATE = "causal_conv1d", "causal_conv1d_update"
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_OPERANDS = "Tensor x, Tensor weight, Tensor? bias=None, Tensor? initial_states=None, str? activation=None"

_exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", lambda: False)  # of torch 2.7

_library = torch.library.Library("flopscan", "FRAGMENT")
_library.define(f"causal_conv1d({_OPERANDS}) -> Tensor", tags=[torch.Tag.pt2_compliant_tag])
_library.define(
    f"causal_conv1d_backward(Tensor grad, {_OPERANDS}) -> (Tensor, Tensor, Tensor, Tensor)",
    tags=[torch.Tag.pt2_compliant_tag],
)
_library.define(
    "causal_conv1d_update(Tensor x, Tensor(a!) conv_state, Tensor weight, Tensor? bias=None, str? activation=None, "
    "Tensor? conv_state_indices=None) -> Tensor",
    tags=[torch.Tag.pt2_compliant_tag],
)


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    seq_idx: None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    final_states_out: Tensor | None = None,
    activation: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """The output (b d l) of the convolution; with ``return_final_states`` also the last w - 1 steps (b d w-1).

    x: b d l; weight: d w; bias: d; initial_states: b d w-1; activation: None, "silu" or "swish". Differentiable once.
    Raises ValueError and TypeError for operands that do not fit, NotImplementedError for ``seq_idx``.
    """
    if seq_idx is not None:
        raise NotImplementedError("causal_conv1d: sequences packed into one (seq_idx) are not supported")
    out: Tensor = transformable(x, weight, bias, initial_states, activation)
    if not return_final_states:
        return out
    if final_states_out is not None:
        _check_final(x, weight, final_states_out)
    final = _before(x, weight, initial_states)[..., x.shape[-1] :]
    if final_states_out is None:
        return out, final
    return out, final_states_out.copy_(final)


def causal_conv1d_update(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    cache_seqlens: None = None,
    conv_state_indices: Tensor | None = None,
) -> Tensor:
    """The output for new steps x (b d, or b d l) after those in ``conv_state`` (b d s, s >= w - 1), which moves on.

    With conv_state_indices (b), ``conv_state`` holds those of more sequences. Raises NotImplementedError for
    ``cache_seqlens``: a state that is written around in a circle.
    """
    if cache_seqlens is not None:
        raise NotImplementedError("causal_conv1d_update: a circular state (cache_seqlens) is not supported")
    _check_update(x, conv_state, weight, conv_state_indices)
    steps = x.unsqueeze(-1) if x.dim() == 2 else x
    whole = _is_whole(x, conv_state, weight, bias)
    update = torch.ops.flopscan.causal_conv1d_update.default if whole else _update_in_steps
    out: Tensor = update(steps, conv_state, weight, bias, activation, conv_state_indices)
    return out.squeeze(-1) if x.dim() == 2 else out


def _is_whole(*operands: Tensor | None) -> bool:
    """Whether a decoding step is an operator of its own: on a GPU, where nobody asks for gradients.

    Nor a mode of torch's dispatcher or an exporter for what is done: those see the convolution, on every device.
    """
    given = [x for x in operands if x is not None]
    if not all(isinstance(x, Tensor) and x.is_cuda for x in given) or _exporting():
        return False
    if torch.is_grad_enabled() and any(x.requires_grad for x in given):
        return False
    return torch.compiler.is_compiling() or not (transformed() or is_in_torch_dispatch_mode())


def _update_in_steps(
    x: Tensor, conv_state: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None,
    conv_state_indices: Tensor | None,
) -> Tensor:  # fmt: skip
    """The output (b d l): the convolution after the state, and the state moved on."""
    own = conv_state if conv_state_indices is None else conv_state[conv_state_indices]
    width, kept = weight.shape[-1], conv_state.shape[-1]
    before = own[..., kept - width + 1 :].to(x.dtype)
    out: Tensor = transformable(x, weight, bias, before, activation)
    moved = torch.cat((own, x.to(own.dtype)), -1)[..., x.shape[-1] :]
    if conv_state_indices is None:
        conv_state.copy_(moved)
    else:
        conv_state.index_copy_(0, conv_state_indices.long(), moved)
    return out


@remembered
def _check(x: Tensor, weight: Tensor, bias: Any, initial_states: Any, activation: str | None) -> None:
    """Raise ValueError or TypeError, in axis letters, unless the operands are those of one convolution."""
    operands = {"x": x, "weight": weight, "bias": bias, "initial_states": initial_states}
    check_tensors(_OP, operands, optional=("bias", "initial_states"))
    shapes = Shapes(_OP)
    for name, form in {"x": "b d l", "weight": "d w", "bias": "d", "initial_states": "b d s"}.items():
        if operands[name] is not None:
            shapes.take(name, operands[name], form)
            check_dtype(_OP, name, operands[name], _FLOATS)
    if initial_states is not None and shapes.sizes["s"] != shapes.sizes["w"] - 1:
        raise ValueError(
            f"{_OP}: operand 'initial_states' has {shapes.sizes['s']} steps, expected w - 1, {shapes.sizes['w'] - 1}"
        )
    for letter in "lw":
        shapes.within(letter, 1)
    if activation not in (None, "silu", "swish"):
        raise ValueError(f"{_OP}: the activation is {activation!r}, expected None, 'silu' or 'swish'")


def _check_final(x: Tensor, weight: Tensor, final_states_out: Any) -> None:
    """Raise unless the tensor for the last steps is one of their shape."""
    check_tensors(_OP, {"final_states_out": final_states_out})
    shapes = Shapes(_OP)
    shapes.take("x", x, "b d l")
    shapes.take("final_states_out", final_states_out, f"b d {weight.shape[-1] - 1}")


@remembered
def _check_update(x: Any, conv_state: Any, weight: Any, conv_state_indices: Any) -> None:
    """Raise ValueError or TypeError, in axis letters, unless steps and states go together."""
    operands = {"x": x, "weight": weight, "conv_state": conv_state, "conv_state_indices": conv_state_indices}
    check_tensors(_UPDATE, operands, optional=("conv_state_indices",))
    shapes = Shapes(_UPDATE)
    shapes.take("x", x, "b d", "b d l")
    shapes.take("weight", weight, "d w")
    if conv_state_indices is not None:
        shapes.take("conv_state_indices", conv_state_indices, "b")
        check_dtype(_UPDATE, "conv_state_indices", conv_state_indices, (torch.int32, torch.int64))
    shapes.take("conv_state", conv_state, "b d s" if conv_state_indices is None else "c d s")
    for name in ("x", "conv_state"):
        check_dtype(_UPDATE, name, operands[name], _FLOATS)
    if shapes.sizes["s"] < shapes.sizes["w"] - 1:
        raise ValueError(
            f"{_UPDATE}: operand 'conv_state' keeps {shapes.sizes['s']} steps, expected w - 1, {shapes.sizes['w'] - 1}"
        )


def _before(x: Tensor, weight: Tensor, initial_states: Tensor | None) -> Tensor:
    """x (b d w-1+l) with what comes before its start."""
    if initial_states is None:
        return F.pad(x, (weight.shape[-1] - 1, 0))
    return torch.cat((initial_states.to(x.dtype), x), dim=-1)


def _sum(x: Tensor, weight: Tensor, bias: Tensor | None, length: int) -> Tensor:
    """The output before the activation, of x with what comes before its start."""
    out = weight[:, :1] * x[..., :length]
    if bias is not None:
        out += bias[:, None]
    for k in range(1, weight.shape[-1]):
        out.addcmul_(weight[:, k : k + 1], x[..., k : k + length])
    return out


def _real(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _compute(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, initial_states: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:  # fmt: skip
    """The convolution by a kernel, or as w products of all steps at once, in float32 or float64."""
    _check(x, weight, bias, initial_states, activation)
    if cuda.supports(x, weight, bias, initial_states):
        return cuda.forward(x, weight, bias, initial_states, activation)
    real = _real(x)
    whole = _before(x.to(real), weight, initial_states)
    out = _sum(whole, weight.to(real), None if bias is None else bias.to(real), x.shape[-1])
    return (F.silu(out) if activation else out).to(x.dtype).contiguous()


def _shape(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, initial_states: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:  # fmt: skip
    """An output without values."""
    _check(x, weight, bias, initial_states, activation)
    return x.new_empty(x.shape)


def _compute_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None, initial_states: Tensor | None = None,
    activation: str | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    """The gradients of x, weight, bias and the initial states; of shape (0,) where there is no operand."""
    _check(x, weight, bias, initial_states, activation)
    if cuda.supports(x, weight, bias, initial_states, grad):
        grads = cuda.backward(grad, x, weight, bias, initial_states, activation)
        return tuple(x.new_empty(0) if each is None else each for each in grads)
    real, length, width = _real(x), x.shape[-1], weight.shape[-1]
    whole, filters, grad = _before(x.to(real), weight, initial_states), weight.to(real), grad.to(real)
    if activation:
        y = _sum(whole, filters, None if bias is None else bias.to(real), length)
        sigmoid = torch.sigmoid(y)
        grad = grad * sigmoid * (1 + y * (1 - sigmoid))
    of_whole = whole.new_zeros(whole.shape)
    of_weight = torch.empty_like(filters, memory_format=torch.contiguous_format)
    for k in range(width):
        of_whole[..., k : k + length].addcmul_(filters[:, k : k + 1], grad)
        of_weight[:, k] = (grad * whole[..., k : k + length]).sum((0, 2))
    of_bias = None if bias is None else grad.sum((0, 2)).to(bias.dtype)
    of_states = None if initial_states is None else of_whole[..., : width - 1].to(initial_states.dtype)
    found = (of_whole[..., width - 1 :].to(x.dtype), of_weight.to(weight.dtype), of_bias, of_states)
    return tuple(
        x.new_empty(0) if each is None else each.clone(memory_format=torch.contiguous_format) for each in found
    )


def _shape_backward(grad: Tensor, x: Tensor, weight: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    """The gradients without values."""
    optional = (*rest, None, None)[:2]
    return tuple(x.new_empty(0) if each is None else each.new_empty(each.shape) for each in (x, weight, *optional))


def _compute_update(
    x: Tensor, conv_state: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None,
    conv_state_indices: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """A decoding step by one kernel, or by the convolution."""
    operands = (x, conv_state, weight, bias)
    key = kernels.signature((*operands, conv_state_indices), activation)
    plan = cuda.PLANS.find(key)
    if plan is None:
        _check_update(x, conv_state, weight, conv_state_indices)
        _check(x, weight, bias, None, activation)
        if x.shape[-1] > cuda.MAX_STEPS or not cuda.supports(x, weight, bias, conv_state):
            with torch.no_grad():
                return _update_in_steps(*operands, activation, conv_state_indices)
        plan = cuda.planned(*operands, activation, conv_state_indices)
        cuda.PLANS.keep(key, plan)
    out = cuda.update(*operands, activation, conv_state_indices, plan=plan)
    torch.autograd.graph.increment_version(conv_state)
    return out


def _shape_update(
    x: Tensor, conv_state: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None,
    conv_state_indices: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Its output without values."""
    _check_update(x, conv_state, weight, conv_state_indices)
    _check(x, weight, bias, None, activation)
    return x.new_empty(x.shape)


_library.impl("causal_conv1d", _compute, "CompositeExplicitAutograd")
_library.impl("causal_conv1d", _shape, "Meta")
_library.impl("causal_conv1d_backward", _compute_backward, "CompositeExplicitAutograd")
_library.impl("causal_conv1d_backward", _shape_backward, "Meta")
_library.impl("causal_conv1d_update", _compute_update, "CompositeExplicitAutograd")
_library.impl("causal_conv1d_update", _shape_update, "Meta")


def _save(ctx: Any, inputs: Sequence[Any], output: Tensor) -> None:
    *tensors, ctx.activation = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """The gradient of every operand, by one call of the gradient operator."""
    operands = ctx.saved_tensors
    grads = transformable.gradient(grad, *operands, ctx.activation)
    return *(None if operand is None else each for operand, each in zip(operands, grads, strict=True)), None


def _folded(info: Any, in_dims: Sequence[Any], *args: Any) -> tuple[Tensor, int]:
    """The operator under vmap: one call after the other."""
    given = (*args, None, None, None)[:5]
    dims = (*in_dims, None, None, None)[:5]
    (out,), _ = one_by_one(lambda *operands: (transformable(*operands),), info, dims, *given)
    return out, 0


def _folded_backward(info: Any, in_dims: Sequence[Any], *args: Any) -> Any:
    """Its gradient under vmap."""
    return one_by_one(transformable.gradient, info, in_dims, *args)


transformable = Transformable(_OP, _save, _differentiate, _folded, _folded_backward)
torch.library.register_vmap("flopscan::causal_conv1d", _folded, lib=_library)
torch.library.register_autograd("flopscan::causal_conv1d", _differentiate, setup_context=_save, lib=_library)
torch.library.register_autograd("flopscan::causal_conv1d_backward", refuse_second(_OP), lib=_library)
