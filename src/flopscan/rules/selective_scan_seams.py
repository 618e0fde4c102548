"""Where packages call the selective scan.

The functions of a compiled module are below autograd: they give a kernel's scratch besides, and their authors' own
autograd functions call them.
"""

from __future__ import annotations

from collections.abc import Callable

from flopscan.core.seam import Operands, Outputs, Seam
from flopscan.core.trace import TensorSpec
from flopscan.rules import seam

_OPERANDS = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "delta_softplus")
_CHUNK = 2048  # steps between the states that the kernel keeps


def _own(bound: Operands) -> Operands:
    """The operands of the definition, without the kernel's scratch."""
    return {name: bound[name] for name in ("grad", *_OPERANDS) if bound.get(name) is not None}


def _squeezed(bound: Operands) -> Operands:
    """The same where n = 1 is squeezed out: A (d), B and C (b g l)."""
    own = dict(_own(bound))
    own["A"] = TensorSpec((*own["A"].shape, 1), own["A"].dtype)
    for name in ("B", "C"):
        batch, groups, length = own[name].shape
        own[name] = TensorSpec((batch, groups, 1, length), own[name].dtype)
    return own


def _weights(A: TensorSpec) -> str:
    return "complex64" if A.is_complex else "float32"


def _kernel_forward(bound: Operands) -> Outputs:
    """The output, the states at chunk boundaries, and with z the gated output."""
    u, A = bound["u"], bound["A"]
    states = A.shape[1] if len(A.shape) > 1 else 1
    out = TensorSpec(u.shape, "float32" if bound.get("out_float") else u.dtype)
    kept = TensorSpec((*u.shape[:2], -(-u.shape[2] // _CHUNK), 2 * states), _weights(A))
    return (out, kept) if bound.get("z") is None else (out, kept, TensorSpec(u.shape, u.dtype))


def _kernel_backward(bound: Operands) -> Outputs:
    """The gradients of u, delta, A, B, C, D and delta_bias, with z its own, and where asked for the gated output."""
    plain = [_like(bound[name]) for name in ("u", "delta", "A", "B", "C", "D", "delta_bias")]
    if bound.get("z") is None:
        return tuple(plain)
    gated = [_like(bound["z"])] * (2 if bound.get("recompute_out_z") else 1)
    return (*plain, *gated)


def _like(x: TensorSpec | None) -> TensorSpec | None:
    return None if x is None else TensorSpec(x.shape, x.dtype)


def _scan(bound: Operands) -> Outputs:
    """The output, and the last state where it is asked for."""
    u, A = bound["u"], bound["A"]
    out = TensorSpec(u.shape, u.dtype)
    return (out, TensorSpec((u.shape[0], *A.shape), _weights(A))) if bound["return_last_state"] else out


def _kernels(package: str, forward: str, backward: str, operands: Callable[[Operands], Operands] = _own) -> None:
    """Declare the two functions of a compiled module, by their parameters."""
    op = "flopscan::selective_scan"
    seam(Seam(f"{package}:fwd", op, forward, _kernel_forward, operands=operands, results=1))
    seam(Seam(f"{package}:bwd", f"{op}_backward", backward, _kernel_backward, operands=operands))


_kernels(
    "selective_scan_cuda",
    "u, delta, A, B, C, D, z, delta_bias, delta_softplus",
    "u, delta, A, B, C, D, z, delta_bias, grad, x, out, dz, delta_softplus, recompute_out_z",
)
_WITHOUT_GATE = "u, delta, A, B, C, D, delta_bias"
_kernels(
    "selective_scan_cuda_oflex",
    f"{_WITHOUT_GATE}, delta_softplus, nrows, out_float",
    f"{_WITHOUT_GATE}, grad, x, delta_softplus, nrows",
)
for _package, _form in (
    ("selective_scan_cuda_core", _own), ("selective_scan_cuda_nrow", _own), ("selective_scan_cuda_ndstate", _squeezed),
):  # fmt: skip
    _kernels(
        _package,
        f"{_WITHOUT_GATE}, delta_softplus, nrows",
        f"{_WITHOUT_GATE}, grad, x, delta_softplus, nrows",
        operands=_form,
    )
seam(
    Seam(
        "mamba_ssm.ops.selective_scan_interface:selective_scan_fn",
        "flopscan::selective_scan",
        "u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False",
        _scan,
        backward="flopscan::selective_scan_backward",
        operands=_own,
    )
)


def _renamed(bound: Operands) -> Operands:
    """The operands of transformers' function by their names in mamba_ssm."""
    return {**bound, "u": bound["hidden_states"], "delta": bound["dt"]}


# every modeling file of transformers has this function of its own, with a loop where mamba_ssm is not installed
seam(
    Seam(
        "transformers.models.*:mamba_selective_scan",
        "flopscan::selective_scan",
        "hidden_states, dt, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False,"
        " use_mambapy=False, use_associative_scan=False, **kwargs",
        lambda bound: _scan(_renamed(bound)),
        backward="flopscan::selective_scan_backward",
        operands=lambda bound: _own(_renamed(bound)),
        version="5.23",
    )
)
