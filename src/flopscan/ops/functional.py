"""Operators under torch.func: what torch.library.register_autograd registers knows none of its transforms.

    transformable = Transformable("selective_scan", save, differentiate, folded, folded_backward)
    transformable(*operands, keep=True)

calls the operator, and within torch.func's grad, vjp, vmap and what is built on them an autograd Function around it
that has the rules they ask for. Forward-mode derivatives (jvp, jacfwd) and a gradient of the gradient are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Fold = Callable[..., tuple[Any, Any]]


def refuse_second(name: str) -> Callable[..., Any]:
    """What raises NotImplementedError in the place of the gradient of the gradient of operator ``name``."""

    def refuse(ctx: Any, *grads: Any) -> Any:
        raise NotImplementedError(f"{name} can be differentiated once: its gradient has no gradient")

    return refuse


def _refuse_forward(name: str) -> Callable[..., Any]:
    def refuse(ctx: Any, *tangents: Any) -> Any:
        raise NotImplementedError(
            f"{name} has no forward-mode derivative (torch.func.jvp, jacfwd): use grad, vjp or jacrev"
        )

    return refuse


class Transformable:
    """The operator ``flopscan::name`` and its gradient ``flopscan::name_backward``, in plain code and under torch.func.

    ``save`` and ``differentiate`` are what register_autograd takes. ``fold`` and ``fold_backward`` are their vmap:
    they take torch's info and in_dims and the arguments, and give the results and where the mapped axis is in each.
    """

    def __init__(
        self,
        name: str,
        save: Callable[..., None],
        differentiate: Callable[..., Any],
        fold: Fold,
        fold_backward: Fold,
    ) -> None:
        self.name = name
        self._forward = _function(f"{name}_forward", _operator(name), save, differentiate, fold, name)
        self._gradient = _function(
            f"{name}_gradient", _operator(f"{name}_backward"), _nothing, refuse_second(name), fold_backward, name
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the operator returns."""
        if transformed():
            return self._forward.apply(*args, kwargs)
        return _operator(self.name)(*args, **kwargs)

    def gradient(self, *args: Any) -> Any:
        """What the gradient operator returns."""
        if transformed():
            return self._gradient.apply(*args, {})
        return _operator(f"{self.name}_backward")(*args)


def transformed() -> bool:
    """Whether a transform of torch.func is at work, outside of a compiler, which sees through it by itself."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def _operator(name: str) -> Any:
    return getattr(torch.ops.flopscan, name).default


def _nothing(ctx: Any, **given: Any) -> None:
    """Nothing is kept."""


def _function(
    title: str,
    operator: Any,
    save: Callable[..., None],
    differentiate: Callable[..., Any],
    fold: Fold,
    name: str,
) -> Any:
    """An autograd Function around ``operator``, whose last argument holds the keywords."""

    def forward(*args: Any) -> Any:
        return operator(*args[:-1], **args[-1])

    def setup_context(ctx: Any, inputs: Sequence[Any], output: Any) -> None:
        keywords = {"keyword_only_inputs": inputs[-1]} if inputs[-1] else {}
        save(ctx, inputs=inputs[:-1], output=output, **keywords)

    def backward(ctx: Any, *grads: Any) -> Any:
        return *differentiate(ctx, *grads), None

    def vmap(info: Any, in_dims: Sequence[Any], *args: Any) -> Any:
        return fold(info, in_dims[:-1], *args[:-1], **args[-1])

    methods = {
        "forward": forward, "setup_context": setup_context, "backward": backward, "vmap": vmap,
        "jvp": _refuse_forward(name),
    }  # fmt: skip
    return type(title, (torch.autograd.Function,), {key: staticmethod(method) for key, method in methods.items()})


def one_by_one(
    call: Callable[..., Sequence[Tensor]], info: Any, in_dims: Sequence[Any], *args: Any, **kwargs: Any
) -> Any:
    """What ``call`` returns for each part of what is mapped over, stacked: vmap as a loop."""
    results = []
    for i in range(info.batch_size):
        part = (
            x.select(dim, i) if isinstance(x, Tensor) and dim is not None else x
            for x, dim in zip(args, in_dims, strict=True)
        )
        results.append(call(*part, **kwargs))
    return tuple(map(torch.stack, zip(*results, strict=True))), (0,) * len(results[0])
