"""The cross selective scan as three steps: the image in four orders, one scan of 4 d channels, their sum.

For every device and dtype that a form of `flopscan.ops.selective_scan` takes, where neither `cpu` nor `fused` is taken.
On a CUDA GPU the first and the last step are a kernel each (`cuda`), elsewhere plain torch. Outputs and gradients of 16
bits are summed in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from flopscan.ops.cross_selective_scan import cuda, order
from flopscan.ops.selective_scan import forms
from flopscan.ops.selective_scan.operands import real_dtype


def _sequences(image: Tensor, dtype: torch.dtype) -> Tensor:
    """The four sequences of an image (b d h w), as (b 4d l) of ``dtype``."""
    scanned = cuda.cross_scan(image, dtype) if cuda.supports(image) else order.cross_scan(image.to(dtype))
    return scanned.flatten(1, 2)


def _image(sequences: Tensor, like: Tensor, dtype: torch.dtype) -> Tensor:
    """The sum (b d h w) of four sequences (b 4d l), an image like ``like``."""
    h, w = like.shape[2:]
    each = sequences.unflatten(1, (order.DIRECTIONS, -1))
    if cuda.supports(each):
        return cuda.cross_merge(each, h, w, dtype)
    return order.cross_merge(each.to(real_dtype(each)), h, w).to(dtype)


def _operands(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, delta_bias: Tensor | None,
    dtype: torch.dtype,
) -> tuple[Any, ...]:  # fmt: skip
    """The operands of the one scan, whose sequences are of ``dtype``."""
    return _sequences(x, dtype), delta.flatten(1, 2), A, B, C, D, None, delta_bias, None


def saved_shape(x: Tensor, delta: Tensor, *rest: Tensor | None) -> tuple[int, ...]:
    """The shape of what the forward keeps for the gradient."""
    u = delta.flatten(1, 2)  # of the size of the sequences
    A, B, C, D, delta_bias = rest
    return forms.saved_shape((u, u, A, B, C, D, None, delta_bias, None))


def forward(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    *,
    delta_softplus: bool,
    keep: bool,
    out_dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """The image (b d h w) and, where asked to ``keep``, states for the gradient."""
    operands = _operands(x, delta, A, B, C, D, delta_bias, x.dtype)
    out, _, saved = forms.forward(operands, delta_softplus=delta_softplus, keep=keep, out_dtype=real_dtype(x))
    return _image(out, x, out_dtype), saved


def backward(
    grad: Tensor,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    saved: Tensor,
    *,
    delta_softplus: bool,
    deterministic: bool,
) -> tuple[Tensor | None, ...]:
    """The gradients of x, delta, A, B, C, D and delta_bias; those of the four sequences are float32 at least."""
    operands = _operands(x, delta, A, B, C, D, delta_bias, real_dtype(x))
    of_u, of_delta, of_A, of_B, of_C, of_D, _, of_bias, _ = forms.backward(
        _sequences(grad, grad.dtype), None, operands, saved, delta_softplus=delta_softplus, deterministic=deterministic
    )
    return _image(of_u, x, x.dtype), of_delta.view(delta.shape), of_A, of_B, of_C, of_D, of_bias
