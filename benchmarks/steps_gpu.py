"""Times the decoding step and the causal convolution on a GPU beside plain torch and the bytes that they must move.

    PYTHONPATH=../src python steps_gpu.py --out steps.jsonl --mamba UNPACKED_MAMBA_SSM --variants

Each case is a line of JSON in --out as it ends, and a row of the table that is printed. A case that fails leaves its
error there; one that takes the process with it too, and the others go on in a new one.

A time is the median of single calls between CUDA events, each after a write of 512 MB that empties the L2 cache; with
it stand the 20 and 80 percentiles. "floor" is the bytes by the speed of a copy of 1 GB. "host" is what the Python of a
call takes. "public" is mamba_ssm's Triton kernel of the decoding step, "conv1d" torch's own convolution with SiLU.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F

from flopscan.ops import causal_conv1d_update, selective_state_update
from flopscan.ops.causal_conv1d import cuda as conv
from flopscan.ops.gpu.kernels import multiprocessors
from flopscan.ops.selective_scan import forms
from flopscan.ops.selective_state_update import cuda as step
from scan_times import copy_bandwidth, timed

Case = dict[str, Any]
HALF = torch.bfloat16
# heads (0: none), channels, states
MODELS = {"mamba-130m": (0, 1536, 16), "mamba-2.8b": (0, 5120, 16), "mamba2-2.7b": (80, 64, 128)}
CASES: list[Case] = [
    *(
        {"kind": "state", "model": model, "b": b, "state": state}
        for model in MODELS
        for state in ("float32", "bfloat16")
        for b in (1, 8, 64, 256)
    ),
    *(
        {"kind": kind, "b": b, "d": 1536, "l": l, "order": order}
        for kind in ("forward", "backward")
        for b, l in ((8, 2048), (1, 65536))
        for order in ("rows", "channels last")
    ),
    {"kind": "forward", "b": 8, "d": 1536, "l": 2045, "order": "rows"},
    {"kind": "backward", "b": 8, "d": 1536, "l": 2045, "order": "rows"},
    *({"kind": "update", "b": b, "d": d} for d in (1536, 5120) for b in (1, 8, 64, 256)),
]


def public_step(folder: Path) -> Callable[..., Any]:
    """mamba_ssm's `selective_state_update`, from its unpacked sources, without importing the package."""
    with contextlib.suppress(ImportError):
        import einops  # noqa: F401
    if "einops" not in sys.modules:  # only its references use it
        sys.modules["einops"] = stub = ModuleType("einops")
        stub.rearrange = stub.repeat = None  # type: ignore[attr-defined]
    at = folder / "mamba_ssm" / "ops" / "triton"
    for name in ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.triton"):
        sys.modules[name] = package = ModuleType(name)
        package.__path__ = []
    for name in ("softplus", "selective_state_update"):
        spec = importlib.util.spec_from_file_location(f"mamba_ssm.ops.triton.{name}", at / f"{name}.py")
        assert spec and spec.loader
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    found: Callable[..., Any] = module.selective_state_update
    return found


def plainly(call: Callable[..., Any]) -> Callable[[], Any]:
    """A call in plain torch."""

    def run() -> Any:
        with forms.use("chunked"):
            return call()

    return run


def state_case(case: Case, mamba: Path | None, variants: bool) -> tuple[int, dict[str, Callable[[], Any]]]:
    """The bytes of a decoding step, and the calls that make it."""
    heads, p, n = MODELS[case["model"]]
    b, dtype = case["b"], getattr(torch, case["state"])
    rows = (heads, p) if heads else (p,)
    state = torch.randn(b, *rows, n, device="cuda").to(dtype)
    x, z = torch.randn(2, b, *rows, device="cuda", dtype=HALF)
    B, C = torch.randn(2, b, *((1,) if heads else ()), n, device="cuda", dtype=HALF)
    if heads:
        A = -torch.rand(heads, device="cuda")[:, None, None].expand(heads, p, n)
        dt = torch.randn(b, heads, device="cuda", dtype=HALF)[..., None].expand(b, heads, p)
        D, bias = (torch.randn(heads, device="cuda")[:, None].expand(heads, p) for _ in range(2))
    else:
        A, dt = -torch.rand(p, n, device="cuda"), torch.randn(b, p, device="cuda", dtype=HALF)
        D, bias = torch.randn(2, p, device="cuda")
    given = (state, x, dt, A, B, C, D, z, bias, True)
    moved = 2 * state.nbytes + sum(t.untyped_storage().nbytes() for t in (A, B, dt, D, bias)) + 3 * x.nbytes
    calls: dict[str, Callable[[], Any]] = {
        "ours": lambda: selective_state_update(*given),
        "plain": plainly(lambda: selective_state_update(*given)),
    }
    if mamba:
        public = public_step(mamba)
        calls["public"] = lambda: public(*given)
    form = step.default_form(n, state.element_size())
    others = [replace(form, threads=t) for t in (64, 256)]
    others += [replace(form, lanes=form.lanes * 2, chunks=max(1, form.chunks // 2))]
    others += [replace(form, lanes=max(1, form.lanes // 2), chunks=form.chunks * 2)]
    for other in others if variants else ():
        calls[str(other)] = lambda form=other: step.update(*given, None, form=form)
    return moved, calls


def conv_case(case: Case, variants: bool) -> tuple[int, dict[str, Callable[[], Any]]]:
    """The bytes of a convolution or its gradient, and the calls that make it."""
    b, d, l = case["b"], case["d"], case["l"]
    x, grad = torch.randn(2, b, d, l, device="cuda", dtype=HALF)
    if case["order"] == "channels last":
        x = torch.randn(b, l, 2 * d, device="cuda", dtype=HALF)[..., :d].transpose(1, 2)
    weight, bias = torch.randn(d, 4, device="cuda", dtype=HALF), torch.randn(d, device="cuda", dtype=HALF)
    given = (x, weight, bias, None, "silu")
    form = conv.default_form(b, d, l, conv._span(4, x), multiprocessors(x.device))
    others = [replace(form, threads=k) for k in (128, 512)]
    if form.span or case["kind"] == "backward":
        others += [replace(form, rounds=k) for k in (1, 2, 4, 8) if k != form.rounds]
    if case["kind"] == "forward":
        op = torch.ops.flopscan.causal_conv1d.default
        calls: dict[str, Callable[[], Any]] = {"ours": lambda: op(*given), "plain": plainly(lambda: op(*given))}
        calls["conv1d"] = lambda: F.silu(F.conv1d(x, weight[:, None], bias, padding=3, groups=d)[..., :l])
        for other in others if variants else ():
            calls[str(other)] = lambda form=other: conv.forward(*given, form=form)
        return 2 * 2 * x.numel(), calls
    op = torch.ops.flopscan.causal_conv1d_backward.default
    calls = {"ours": lambda: op(grad, *given), "plain": plainly(lambda: op(grad, *given))}
    leaves = [t.detach().requires_grad_() for t in (x, weight, bias)]
    out = F.silu(F.conv1d(leaves[0], leaves[1][:, None], leaves[2], padding=3, groups=d)[..., :l])
    calls["conv1d"] = lambda: torch.autograd.grad(out, leaves, grad, retain_graph=True)
    for other in others if variants else ():
        calls[str(other)] = lambda form=other: conv.backward(grad, *given, form=form)
    return 3 * 2 * x.numel(), calls


def update_case(case: Case, variants: bool) -> tuple[int, dict[str, Callable[[], Any]]]:
    """The bytes of a decoding step of the convolution, and the calls that make it."""
    b, d = case["b"], case["d"]
    x, state = (torch.randn(*shape, device="cuda", dtype=HALF) for shape in ((b, d), (b, d, 4)))
    weight, bias = torch.randn(d, 4, device="cuda", dtype=HALF), torch.randn(d, device="cuda", dtype=HALF)
    given = (x, state, weight, bias, "silu")
    calls: dict[str, Callable[[], Any]] = {
        "ours": lambda: causal_conv1d_update(*given), "plain": plainly(lambda: causal_conv1d_update(*given))
    }  # fmt: skip
    for threads in (64, 256) if variants else ():
        calls[f"threads={threads}"] = lambda threads=threads: conv.update(x[..., None], *given[1:], None, threads)
    return 2 * (2 * x.numel() + 2 * state.numel() + 5 * d), calls


def measured(case: Case, mamba: Path | None, variants: bool) -> Case:
    """The bytes and the times of a case."""
    if case["kind"] == "state":
        moved, calls = state_case(case, mamba, variants)
    else:
        moved, calls = (update_case if case["kind"] == "update" else conv_case)(case, variants)
    found: Case = {"bytes": moved, "times": {}}
    for name, call in calls.items():
        try:
            found["times"][name] = timed(call)
        except Exception as error:
            found["times"][name] = {"failed": f"{type(error).__name__}: {error}"[:500]}
            if "illegal" in str(error) or "launch" in str(error):
                found["fatal"] = True
                break
    if "p50" in found["times"].get("ours", {}) and "fatal" not in found:
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(50):
            calls["ours"]()
        found["host"] = (time.perf_counter() - start) / 50 * 1e6
        torch.cuda.synchronize()
    return found


def work(options: argparse.Namespace) -> None:
    """Do the cases from --first on."""
    with options.out.open("a") as log:
        for number, case in list(enumerate(CASES))[options.first :]:
            try:
                found = measured(case, options.mamba, options.variants)
            except Exception as error:
                found = {"failed": f"{type(error).__name__}: {error}"[:1000], "fatal": "CUDA" in str(error)}
            log.write(json.dumps({"number": number, **case, **found}) + "\n")
            log.flush()
            if found.get("fatal"):
                sys.exit(1)  # the context is lost
            torch.cuda.empty_cache()


def spread(times: Case) -> str:
    """Three percentiles."""
    return " / ".join(f"{times[k]:.1f}" for k in ("p20", "p50", "p80"))


def row(found: Case, bandwidth: float) -> str:
    """A line of the table."""
    about = " ".join(f"{v}" if k in ("kind", "model", "order") else f"{k} {v}" for k, v in found.items() if k in _NAMES)
    if "times" not in found:
        return f"| {about} | {found.get('failed', '')[:80]} | | | | | |"

    def shown(name: str) -> str:
        one = found["times"].get(name, {})
        return one["failed"][:60] if "failed" in one else f"{one['p50']:.1f}" if one else ""

    ours, floor = found["times"]["ours"], found["bytes"] / bandwidth / 1e6
    if "p50" not in ours:
        return f"| {about} | {shown('ours')} | | {floor:.1f} | {shown('plain')} | | |"
    times, host = spread(ours), found.get("host", float("nan"))
    other = next((spread(found["times"][k]) for k in ("public", "conv1d") if "p50" in found["times"].get(k, {})), "")
    tried = {k: v for k, v in found["times"].items() if k not in ("plain", "public", "conv1d", "ours") and "p50" in v}
    best = min(tried, key=lambda k: tried[k]["p50"], default=None)
    note = f"{tried[best]['p50']:.1f} {best}" if best else ""
    return (
        f"| {about} | {times} | {host:.0f} | {floor:.1f} ({100 * floor / ours['p50']:.0f} %) | {shown('plain')} |"
        f" {other} | {note} |"
    )


_NAMES = ("kind", "model", "b", "d", "l", "order", "state")


def table(log: Path) -> str:
    """What a run found."""
    copy, *cases = (json.loads(line) for line in log.read_text().splitlines())
    head = [
        f"{copy['device']}, torch {copy['torch']}; a copy moves {copy['TB/s']:.2f} TB/s. Microseconds.",
        "",
        "| case | ours 20/50/80 % | host | floor | plain torch | public, conv1d 20/50/80 % | best variant |",
        "|---|---|---:|---:|---:|---|---|",
    ]
    return "\n".join([*head, *(row(case, copy["TB/s"]) for case in cases)])


PAGE = Path(__file__).with_name("STEPS_GPU.md")
ABOUT = """# The decoding step and the causal convolution on a GPU

`python benchmarks/steps_gpu.py --mamba UNPACKED_MAMBA_SSM --out LOG`, the whole run in
`benchmarks/{log}`; this page by
`python benchmarks/steps_gpu.py --page --out benchmarks/{log}`.

A time is that of single calls between CUDA events, each after a write of 512 MB that empties the L2 cache, which hides
the first 170 us of Python. "host" is what the Python of a call takes; a CUDA graph has none of it. "floor" is the bytes
by the speed of a copy of 1 GB, and how much of the time that is. "public" is mamba_ssm's Triton kernel of the decoding
step: its launches took longer than its work on small cases, on a CPU that was busy beside; the 20th percentile says
more there. "conv1d" is torch's own convolution with SiLU. Where `times.ours` in the log has a `run`, the kernel as it
is compiled now was timed by itself in another run of the day, as one of several variants; the rest ran through the
operator.

State: a decoding step of a model's layer, b sequences; bfloat16 operands. Convolutions: w 4, bfloat16, bias and SiLU.

"""


def page(log: Path) -> str:
    """The page of a run."""
    return ABOUT.format(log=log.resolve().relative_to(PAGE.parent.resolve())) + table(log) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("steps.jsonl"), help="the file of JSON lines")
    parser.add_argument("--mamba", type=Path, help="mamba_ssm's unpacked source distribution, to time its kernel")
    parser.add_argument("--page", action="store_true", help="write STEPS_GPU.md from --out, without a GPU")
    parser.add_argument("--variants", action="store_true", help="other ways to compile the kernels too")
    parser.add_argument("--first", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.first is not None:
        work(options)
        return
    if options.page:
        PAGE.write_text(page(options.out))
        return
    copy = copy_bandwidth({})
    options.out.write_text(json.dumps({"kind": "copy", **copy}) + "\n")
    torch.cuda.empty_cache()
    while (first := sum('"number"' in line for line in options.out.read_text().splitlines())) < len(CASES):
        command = [sys.executable, __file__, *sys.argv[1:], "--first", str(first)]
        if subprocess.run(command).returncode == 0:
            break
        if sum('"number"' in line for line in options.out.read_text().splitlines()) == first:
            with options.out.open("a") as log:
                log.write(json.dumps({"number": first, **CASES[first], "failed": "the process ended"}) + "\n")
    print(table(options.out))


if __name__ == "__main__":
    main()
