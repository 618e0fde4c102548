"""Runs the cases of some kernels on the GPU, each once unseen and once between marks: the program that is profiled.

Before each case a kernel of another kind (`kernels.MARK`) is launched, which tells the cases of a profile apart.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import itertools
import json
import math
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from flopscan.core.trace import TensorSpec
from hardware.kernels import KERNELS, Case, cases, operands
from hardware.tuning import replay, share, tune

DEVICE = "cuda"
Run = Callable[[], Any]


def tensor(name: str, spec: TensorSpec) -> torch.Tensor:
    """Random numbers such as a model has them, laid out as ``spec`` says."""
    steps = spec.strides or (1,) * len(spec.shape)
    stored = [size if step else 1 for size, step in zip(spec.shape, steps, strict=True)]
    x = _scaled(name, torch.randn(stored, device=DEVICE, dtype=getattr(torch, spec.dtype)))
    if spec.strides is None or 0 in spec.strides:
        return x.expand(spec.shape)
    return torch.empty_strided(spec.shape, spec.strides, device=DEVICE, dtype=x.dtype).copy_(x)


def _scaled(name: str, x: torch.Tensor) -> torch.Tensor:
    """Small steps, decaying states."""
    if name == "A":
        real = -torch.exp(0.3 * x.real)
        return torch.complex(real, x.imag) if x.is_complex() else real
    if name in ("delta", "dt"):
        return 0.5 * x - 2.0
    return 0.1 * x if name in ("delta_bias", "dt_bias") else x


def values(case: Case) -> dict[str, Any]:
    """The operands of ``case`` as tensors and plain values."""
    torch.manual_seed(0)
    return {k: tensor(k, v) if isinstance(v, TensorSpec) else v for k, v in operands(case).items()}


def selective_scan(case: Case) -> Run:
    """The functions of mamba_ssm's compiled module."""
    scan = importlib.import_module("selective_scan_cuda")
    x = values(case)
    given = [x.get(name) for name in ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")]
    forward = functools.partial(scan.fwd, *given, x["delta_softplus"])
    if case.direction == "forward":
        return forward
    out, states, *_ = forward()
    kept = out if "z" in x else None
    return functools.partial(scan.bwd, *given, torch.randn_like(out), states, kept, None, x["delta_softplus"], False)


def flopscan_scan(case: Case) -> Run:
    """flopscan's CUDA form, forward with the states that backward needs."""
    from flopscan.ops.selective_scan import cuda

    x = values(case)
    given = [x.get(name) for name in ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state")]
    softplus, dtype = x["delta_softplus"], x["u"].dtype
    forward = functools.partial(cuda.forward, *given, delta_softplus=softplus, keep=True, out_dtype=dtype)
    if case.direction == "forward":
        return forward
    out, _, saved = forward()
    grad = torch.randn_like(out)
    return functools.partial(cuda.backward, grad, None, *given, saved, delta_softplus=softplus, deterministic=False)


def flopscan_cross_scan(case: Case) -> Run:
    """flopscan's fused form for an image, forward with the states that backward needs."""
    from flopscan.ops.cross_selective_scan import fused

    x = values(case)
    given = [x.get(name) for name in ("x", "delta", "A", "B", "C", "D", "delta_bias")]
    softplus, dtype = x["delta_softplus"], x["x"].dtype
    forward = functools.partial(fused.forward, *given, delta_softplus=softplus, keep=True, out_dtype=dtype)
    if case.direction == "forward":
        return forward
    out, saved = forward()
    grad = torch.randn_like(out)
    return functools.partial(fused.backward, grad, *given, saved, delta_softplus=softplus, deterministic=False)


def causal_conv1d(case: Case) -> Run:
    """The functions of causal_conv1d's compiled module."""
    module = importlib.import_module("causal_conv1d_cuda")
    x = values(case)
    named = x["x"], x["weight"], x.get("bias")
    out, silu = torch.empty_like(x["x"]), x["activation"] == "silu"
    if case.direction == "forward":
        return functools.partial(module.causal_conv1d_fwd, *named, None, None, out, None, silu)
    grad = torch.randn_like(out)
    into = [torch.zeros_like(t) if t is not None else None for t in named]
    return functools.partial(module.causal_conv1d_bwd, *named, grad, None, None, None, *into, None, silu)


def ssd(case: Case) -> Run:
    """mamba_chunk_scan_combined, forward and backward, below autograd."""
    module = importlib.import_module("mamba_ssm.ops.triton.ssd_combined")
    x = values(case)
    given = [x[name] for name in ("x", "dt", "A", "B", "C")]
    named = {name: x.get(name) for name in ("D", "z", "dt_bias", "dt_softplus")}
    forward = functools.partial(module._mamba_chunk_scan_combined_fwd, *given, x["chunk_size"], **named)
    if case.direction == "forward":
        return forward
    out, ungated, *_ = forward()
    kept = out if "z" not in x else ungated
    backward = module._mamba_chunk_scan_combined_bwd
    return functools.partial(backward, torch.randn_like(out), *given, kept, x["chunk_size"], **named)


def selective_state_update(case: Case) -> Run:
    """One step."""
    module = importlib.import_module("mamba_ssm.ops.triton.selective_state_update")
    return functools.partial(module.selective_state_update, **values(case))


def gated_norm(case: Case) -> Run:
    """The forward and backward of the gated RMS norm, below autograd."""
    module = importlib.import_module("mamba_ssm.ops.triton.layernorm_gated")
    x = values(case)
    given = x["x"], x["weight"], None, 1e-5
    named = {"z": x.get("z")} | {name: x[name] for name in ("group_size", "norm_before_gate", "is_rms_norm")}
    forward = functools.partial(module._layer_norm_fwd, *given, **named)
    if case.direction == "forward":
        return forward
    out, mean, rstd = forward()
    return functools.partial(module._layer_norm_bwd, torch.randn_like(out), *given, mean, rstd, **named)


PREPARE = {
    f.__name__: f
    for f in (
        selective_scan, flopscan_scan, flopscan_cross_scan, causal_conv1d, ssd, selective_state_update, gated_norm,
    )
}  # fmt: skip


def package(name: str, source: Path) -> None:
    """Let the modules of ``name`` be imported from ``source`` without what its ``__init__`` imports."""
    module = types.ModuleType(name)
    module.__path__ = [str(source / name)]
    sys.modules[name] = module


def profiled(case: Case, launches: list[dict[str, Any]]) -> dict[str, Any]:
    """Run ``case`` unseen, then marked and in sight of the profiler; the case and the choices that were tuned."""
    run = PREPARE[case.kernel](case)
    run()
    torch.cuda.synchronize()
    before = len(launches)
    torch.cuda.profiler.start()
    torch.cuda._sleep(1)
    run()
    torch.cuda.synchronize()
    torch.cuda.profiler.stop()
    return {**case.to_dict(), "tuned": launches[before:]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernels", nargs="+", choices=KERNELS)
    parser.add_argument("--mamba", type=Path, help="the unpacked source distribution of mamba_ssm")
    parser.add_argument("--build", type=Path, help="where hardware.build put the compiled modules")
    parser.add_argument("--manifest", type=Path, default="/dev/stdout", help="where to write what was run, in order")
    parser.add_argument("--compile", metavar="K/N", help="only fill Triton's cache with every N-th choice from K")
    parser.add_argument("--tune", type=Path, help="only tune, and write there what was chosen")
    parser.add_argument("--choices", type=Path, help="what --tune wrote")
    parser.add_argument("--only", type=int, nargs="*", help="only these cases, by number")
    parser.add_argument("--until", type=float, default=math.inf, help="begin no case after this second of the epoch")
    options = parser.parse_args()
    if options.build:
        sys.path.insert(0, str(options.build.resolve()))
        package("mamba_ssm", options.mamba.resolve())
    chosen = [c for kernel in options.kernels for c in cases(kernel)]
    if options.only is not None:
        chosen = [chosen[i] for i in options.only]
    in_time = itertools.takewhile(lambda _: time.time() < options.until, chosen)
    if options.compile or options.tune:
        tuning = share(*map(int, options.compile.split("/"))) if options.compile else tune()
        for done, case in enumerate(in_time, 1):
            PREPARE[case.kernel](case)()
            if options.tune:
                tuning.save(options.tune, done)
        return
    launches: list[dict[str, Any]] = []
    if options.choices:
        tuning, tuned = replay(options.choices)
        launches, in_time = tuning.launches, itertools.islice(in_time, tuned)
    with options.manifest.open("w") as manifest:
        for case in in_time:
            print(json.dumps(profiled(case, launches)), file=manifest, flush=True)


if __name__ == "__main__":
    main()
