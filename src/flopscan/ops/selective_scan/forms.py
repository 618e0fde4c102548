"""Which form of the scan runs: by device, by the operands, and by what can be imported.

A form is a module with

    supports(u, delta, A, B, C, D, z, delta_bias, initial_state) -> bool
    forward(u, delta, A, B, C, D, z, delta_bias, initial_state, *, delta_softplus, keep, out_dtype)
        -> out (b d l), last_state (b d n), saved
    saved_shape(b, d, l, n, gated) -> the shape of saved; gated: whether there is z
    backward(grad, grad_last_state, u, delta, A, B, C, D, z, delta_bias, initial_state, saved, *, delta_softplus,
        deterministic) -> the gradients of u to initial_state, None where there is no operand

Operands are checked. Every form but `chunked` gets a real A, B and C as views (b g n l), weights and states in float32
and contiguous, and nothing of float64; `chunked` takes all that the operator takes, on every device.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from flopscan.ops import asked
from flopscan.ops.selective_scan import chunked

Operands = tuple[Any, ...]  # u, delta, A, B, C, D, z, delta_bias, initial_state
FORMS = {"cpu": ("cpu",), "cuda": ("cuda", "triton"), "xpu": ("triton",)}  # by device, the fastest first
NEEDS = {"cpu": "numba", "triton": "triton"}  # packages that need not be installed


@contextlib.contextmanager
def use(name: str) -> Iterator[None]:
    """Within, every scan takes the form ``name`` ('chunked', 'cpu', 'cuda' or 'triton'): for tests and benchmarks."""
    if find(name) is None:
        raise ValueError(f"the form {name!r} of selective_scan cannot be used here")
    with asked.asking(name):
        yield


@functools.cache
def find(name: str) -> ModuleType | None:
    """The form ``name``, None where it, or the package that it needs, is not there."""
    module, package = f"{__package__}.{name}", NEEDS.get(name)
    if importlib.util.find_spec(module) is None:
        return None
    if package is not None:
        if importlib.util.find_spec(package) is None:
            return None
        try:
            importlib.import_module(package)
        except Exception as error:
            text = f"the form '{name}' of selective_scan is left out: {package} cannot be imported ({error})"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
            return None
    return importlib.import_module(module)


def choose(operands: Operands) -> tuple[ModuleType, Operands]:
    """The form for such operands, and these as it takes them; looks at shapes, dtypes and devices alone."""
    u, delta, A, B, C, D, z, delta_bias, initial_state = operands
    if A.is_complex() or B.dim() == 2 or C.dim() == 2 or u.dtype == torch.float64 or asked.form() == "chunked":
        return chunked, operands
    own = (
        u, delta, _weight(A), *_same_groups(B, C), _weight(D), z, _weight(delta_bias), _weight(initial_state),
    )  # fmt: skip
    wanted = asked.form()
    for name in (wanted,) if wanted else FORMS.get(u.device.type, ()):
        form = find(name)
        if form is not None and form.supports(*own):
            return form, own
    return chunked, operands


def saved_shape(operands: Operands) -> tuple[int, ...]:
    """The shape of what the forward keeps for the gradient."""
    form, (u, _, A, _, _, _, z, *_) = choose(operands)
    shape: tuple[int, ...] = form.saved_shape(*u.shape, A.shape[1], z is not None)
    return shape


def forward(operands: Operands, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The output, the last state and what is kept, by the form that is chosen."""
    form, own = choose(operands)
    out, last_state, saved = form.forward(*own, **options)
    return out, last_state, saved


def backward(
    grad: Tensor, grad_last_state: Tensor | None, operands: Operands, saved: Tensor, **options: Any
) -> tuple[Tensor | None, ...]:
    """The nine gradients, in the shape and dtype of their operands."""
    form, own = choose(operands)
    grads = list(form.backward(grad, grad_last_state, *own, saved, **options))
    for i in (3, 4):
        if operands[i].dim() == 3 and grads[i].dim() == 4:
            grads[i] = grads[i].sum(1)
    return tuple(None if x is None else x.to(operand.dtype) for x, operand in zip(grads, operands, strict=True))


def _weight(x: Tensor | None) -> Tensor | None:
    """What is computed with in the dtype of the states whatever its own is."""
    return None if x is None else x.float().contiguous()


def _same_groups(B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """B and C as views (b g n l), one that has no groups beside one that has as many as the other."""
    B, C = (x.unsqueeze(1) if x.dim() == 3 else x for x in (B, C))
    groups = max(B.shape[1], C.shape[1])
    return B.expand(-1, groups, -1, -1), C.expand(-1, groups, -1, -1)
