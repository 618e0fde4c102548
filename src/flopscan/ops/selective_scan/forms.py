"""Which form of the scan runs: by device, by the operands, and by what can be imported.

A form is a module with

    supports(u, delta, A, B, C) -> bool
    forward(u, delta, A, B, C, D, z, delta_bias, initial_state, *, delta_softplus, keep, out_dtype)
        -> out (b d l), last_state (b d n), saved
    saved_shape(b, d, l, n) -> the shape of saved
    backward(grad, grad_last_state, u, delta, A, B, C, D, z, delta_bias, initial_state, saved, *, delta_softplus,
        deterministic) -> the gradients of u to initial_state, None where there is no operand

Operands are checked. Every form but `chunked` gets a real A and B and C as views (b g n l); `chunked` takes all that
the operator takes, on every device.
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

from torch import Tensor

from flopscan.ops.selective_scan import chunked

FORMS = {"cpu": ("cpu",), "cuda": ("cuda", "triton"), "xpu": ("triton",)}  # by device, the fastest first
NEEDS = {"cpu": "numba", "triton": "triton"}  # packages that need not be installed
_asked: str | None = None


@contextlib.contextmanager
def use(name: str) -> Iterator[None]:
    """Within, every scan takes the form ``name`` ('chunked', 'cpu', 'cuda' or 'triton'): for tests and benchmarks."""
    global _asked
    if find(name) is None:
        raise ValueError(f"the form {name!r} of selective_scan cannot be used here")
    before, _asked = _asked, name
    try:
        yield
    finally:
        _asked = before


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
            text = f"selective_scan does without its form '{name}': {package} is installed and cannot be imported ({error})"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
            return None
    return importlib.import_module(module)


def choose(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> ModuleType:
    """The form for such operands; looks at shapes, dtypes and devices alone."""
    if A.is_complex() or B.dim() == 2 or C.dim() == 2 or _asked == "chunked":
        return chunked
    for name in (_asked,) if _asked else FORMS.get(u.device.type, ()):
        form = find(name)
        if form is not None and form.supports(u, delta, A, *_same_groups(B, C)):
            return form
    return chunked


def saved_shape(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[int, ...]:
    """The shape of what the forward keeps for the gradient."""
    shape: tuple[int, ...] = choose(u, delta, A, B, C).saved_shape(*u.shape, A.shape[1])
    return shape


def forward(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, *rest: Any, **options: Any) -> Any:
    """The output, the last state and what is kept, by the form that is chosen."""
    form = choose(u, delta, A, B, C)
    if form is not chunked:
        B, C = _same_groups(B, C)
    return form.forward(u, delta, A, B, C, *rest, **options)


def backward(
    grad: Tensor,
    grad_last_state: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *rest: Any,
    **options: Any,
) -> tuple[Tensor | None, ...]:
    """The nine gradients, in the shape and dtype of their operands."""
    form = choose(u, delta, A, B, C)
    if form is chunked:
        return tuple(form.backward(grad, grad_last_state, u, delta, A, B, C, *rest, **options))
    grads = list(form.backward(grad, grad_last_state, u, delta, A, *_same_groups(B, C), *rest, **options))
    for i, matrix in ((3, B), (4, C)):
        if matrix.dim() == 3:
            grads[i] = grads[i].sum(1, dtype=matrix.dtype)
    return tuple(grads)


def _same_groups(B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """B and C as views (b g n l), one that has no groups beside one that has as many as the other."""
    B, C = (x.unsqueeze(1) if x.dim() == 3 else x for x in (B, C))
    groups = max(B.shape[1], C.shape[1])
    return B.expand(-1, groups, -1, -1), C.expand(-1, groups, -1, -1)
