"""Operands of the selective scan as a model has them, and its GPU forms held against the definition in float64."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F

from flopscan.ops.selective_scan import cuda, reference

Job = dict[str, Any]
# name: shape b, d, l, n, g, dtype, z, and the public kernels' times forward and backward in microseconds, from an H100
# with CUDA 13.0 and torch 2.11 (mamba_ssm 2.3.2's selective_scan_cuda, do_bench's median)
ROWS = {
    "mamba-130m": ((8, 1536, 2048, 16, 1), "bfloat16", True, 451, 1834),
    "mamba-130m-fp32": ((8, 1536, 2048, 16, 1), "float32", False, 838, 2120),
    "mamba-2.8b": ((2, 5120, 2048, 16, 1), "bfloat16", True, 382, 1577),
    "mamba-long": ((1, 1536, 65536, 16, 1), "bfloat16", True, 2230, 7760),
    "vmamba-t-1": ((64, 384, 3136, 1, 4), "float16", False, 538, 1437),
    "vmamba-t-3": ((64, 1536, 196, 1, 4), "float16", False, 153, 453),
    "vmamba-v0": ((64, 768, 3136, 16, 4), "float16", False, 5330, 20050),
}
NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state")


def operands(
    shape: tuple[int, ...], dtype: str, given: set[str], device: str = "cuda", seed: int = 0
) -> dict[str, Any]:
    """Random operands such as a model has them; of the optional ones those in ``given``."""
    generator = torch.Generator(device).manual_seed(seed)
    b, d, l, n, g = shape

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator, device=device)

    kind = getattr(torch, dtype)
    made = {
        "u": normal(b, d, l).to(kind),
        "delta": (0.5 * normal(b, d, l) - 2).to(kind),
        "A": -torch.exp(0.3 * normal(d, n)),
        "B": normal(b, g, n, l).to(kind),
        "C": normal(b, g, n, l).to(kind),
        "D": normal(d),
        "z": normal(b, d, l).to(kind),
        "delta_bias": 0.1 * normal(d),
        "initial_state": normal(b, d, n),
    }
    return {name: made[name] if name in NAMES[:5] or name in given else None for name in NAMES}


def default_form(shape: tuple[int, ...], backward: bool) -> cuda.States | cuda.Rows:
    """How the CUDA form computes such a shape."""
    return cuda.default_form(shape[3], shape[2], backward)


def form_of(job: Job, backward: bool) -> dict[str, Any]:
    """The keyword that chooses how kernels are compiled; none where the default is meant."""
    if not job.get("form"):
        return {}
    if job.get("module", "cuda") == "cuda":
        return {"form": dataclasses.replace(default_form(job["shape"], backward), **job["form"])}
    form = module_of(job).Form(**job["form"])
    return {} if form.segments and backward else {"form": form}


def definition(x: dict[str, Any], softplus: bool, grad: torch.Tensor, grad_last: torch.Tensor | None) -> list[Any]:
    """Output, last state and gradients in float64: by autograd where short, else by the written gradient."""
    x = {name: None if v is None else v.double() for name, v in x.items()}
    eight = [x[name] for name in NAMES[:8]]
    if x["initial_state"] is None and grad_last is None and x["u"].shape[2] > 300:
        out, last = reference.selective_scan(*eight, softplus, True)
        return [out, last, *reference.selective_scan_backward(grad.double(), *eight, softplus)]
    leaves = {name: None if v is None else v.requires_grad_() for name, v in x.items()}
    out, last = by_autograd(leaves, softplus)
    total = (out * grad.double()).sum() + (0 if grad_last is None else (last * grad_last.double()).sum())
    names = [name for name in NAMES if leaves[name] is not None]
    found = dict(zip(names, torch.autograd.grad(total, [leaves[name] for name in names]), strict=True))
    return [out.detach(), last.detach(), *(found.get(name) for name in NAMES)]


def by_autograd(x: dict[str, Any], softplus: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and last state, as a graph."""
    u, delta, A = x["u"], x["delta"], x["A"]
    delta = delta if x["delta_bias"] is None else delta + x["delta_bias"][:, None]
    delta = F.softplus(delta) if softplus else delta
    per_group = u.shape[1] // x["B"].shape[1]
    B, C = (x[name].repeat_interleave(per_group, 1) for name in "BC")
    h = u.new_zeros(*u.shape[:2], A.shape[1]) if x["initial_state"] is None else x["initial_state"]
    outputs = []
    for i in range(u.shape[2]):
        h = torch.exp(delta[..., i, None] * A) * h + (delta[..., i] * u[..., i])[..., None] * B[..., i]
        outputs.append((h * C[..., i]).sum(-1))
    y = torch.stack(outputs, -1)
    y = y if x["D"] is None else y + x["D"][:, None] * u
    return (y if x["z"] is None else y * F.silu(x["z"])), h


def error(got: torch.Tensor | None, expected: torch.Tensor | None) -> float | None:
    """The relative norm of the difference; infinite where a number is not finite or a gradient is missing."""
    if got is None or expected is None:
        return None if got is expected else float("inf")
    difference = (got.double() - expected).norm() / expected.norm().clamp_min(1e-30)
    return float(difference) if torch.isfinite(got).all() else float("inf")


def module_of(job: Job) -> Any:
    """The form that a job is about."""
    if job.get("module", "cuda") == "cuda":
        return cuda
    from flopscan.ops.selective_scan import triton

    return triton


def check(job: Job, device: str) -> Job:
    """Errors of output, last state and every gradient."""
    module, given = module_of(job), set(job["given"])
    x = operands(tuple(job["shape"]), job["dtype"], given, device)
    if job.get("extreme"):
        x["delta"][..., ::3], x["delta"][..., 1::7], x["delta"][..., 2::11] = 25, -40, 100
        x["A"] *= 20
    if job.get("strided"):
        x["u"] = x["u"].mT.contiguous().mT
        x["delta"] = F.pad(x["delta"], (1, 2))[..., 1:-2]
    torch.manual_seed(1)
    grad = torch.randn(x["u"].shape, device=device).to(x["u"].dtype)
    grad_last = torch.randn(*x["u"].shape[:2], x["A"].shape[1], device=device) if "grad_last" in given else None
    softplus = job.get("softplus", True)
    if not softplus:
        x["delta"] = x["delta"].abs() * 0.2
    out, last, saved = module.forward(
        *x.values(), delta_softplus=softplus, keep=True, out_dtype=x["u"].dtype, **form_of(job, False)
    )
    grads = module.backward(
        grad,
        grad_last,
        *x.values(),
        saved,
        delta_softplus=softplus,
        deterministic=job.get("deterministic", False),
        **form_of(job, True),
    )
    expected = definition(x, softplus, grad, grad_last)
    errors = {
        name: error(a, b) for name, a, b in zip(("out", "last", *NAMES), [out, last, *grads], expected, strict=True)
    }
    found = {name: e for name, e in errors.items() if e is not None}
    limit = 2e-6 if job["dtype"] == "float32" else 5e-3
    return {"errors": found, "worst": max(found.values()), "passed": max(found.values()) < limit}


def check_row(job: Job, x: dict[str, Any], out: torch.Tensor) -> float:
    """The error of a few channels of the output of a row of the table."""
    _, d, _, _, g = job["shape"]
    channels = torch.tensor(sorted({0, d // 3, d // 2 + 1, d - 1}), device=out.device)
    groups = channels // (d // g)
    b = slice(-1, None)
    part = [x["u"][b, channels], x["delta"][b, channels], x["A"][channels], x["B"][b, groups], x["C"][b, groups]]
    part += [x["D"][channels], None if x["z"] is None else x["z"][b, channels], x["delta_bias"][channels]]
    expected = reference.selective_scan(*(None if v is None else v.double() for v in part), True)
    return float(error(out[b, channels], expected))


FULL = ["D", "z", "delta_bias", "initial_state", "grad_last"]
USUAL = ["D", "z", "delta_bias"]


def checks(module: str) -> list[Job]:
    """The cases that are checked."""

    def case(shape: tuple[int, ...], given: list[str] = FULL, dtype: str = "float32", **more: Any) -> Job:
        return {
            "kind": "check",
            "module": module,
            "shape": shape,
            "given": given,
            "dtype": dtype,
            "label": "check",
            **more,
        }

    cases = [case((2, 34, 65, n, 2)) for n in (1, 2, 3, 8, 16, 17, 64, 128, 256)]
    cases += [case((2, 40, l, n, 4)) for n in (1, 16) for l in (1, 2, 63, 64, 196, 257)]
    cases += [
        case((2, 33, 196, n, 1), given, "float32") for n in (1, 16) for given in ([], ["D"], ["z"], ["delta_bias"])
    ]
    cases += [case((2, 40, 196, n, 2), FULL, dtype) for n in (1, 16) for dtype in ("float16", "bfloat16")]
    cases += [case((1, 24, 130, n, 2), extreme=True, given=USUAL) for n in (1, 16)]
    cases += [case((2, 40, 131, n, 2), strided=True) for n in (1, 16)]
    cases += [case((2, 40, 131, n, 2), softplus=False) for n in (1, 16)]
    cases += [case((2, 40, 196, n, 2), deterministic=True) for n in (1, 16)]
    cases += [case((2, 33, 192, 16, 1), ["D", "grad_last"]), case((2, 40, 2048, 16, 2), [])]
    if module == "triton":
        steps = {"block": 8, "segments": 1}
        cases += [case((2, 34, 65, n, 2), form=steps) for n in (2, 17, 64)]
        cases += [case((1, 24, 130, 16, 2), extreme=True, given=USUAL, form=steps)]
        cases += [case((2, 40, l, 16, 2), form={**steps, "segments": 3}) for l in (600, 1000)]
        cases += [case((1, 24, 900, 16, 2), extreme=True, given=USUAL, form={**steps, "segments": 3})]
    return cases + [
        case((2, 48, l, n, 2), USUAL) for l, n in ((1000, 16), (3136, 1), (3136, 16), (1000, 64), (8192, 16))
    ]
