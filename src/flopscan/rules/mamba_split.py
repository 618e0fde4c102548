"""Mamba-2's fused block, taken apart: convolution, scan, gated norm, out_proj.

`mamba_split_conv1d_scan_combined`: its operand holds, side by side, 2k channels of a gated unit that may stand beside
the scan, z, what is convolved (x, B and C) and dt. The parts are the products that the function dispatches and the
kernels that it calls, in their order. Copies between layouts are left out.
Source: mamba_ssm 2.3.2, `ops/triton/ssd_combined.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flopscan.core.contract import Contract
from flopscan.core.seam import Operands, Outputs, Seam
from flopscan.core.trace import Call, TensorSpec
from flopscan.errors import ContractError
from flopscan.rules import composite, seam
from flopscan.rules.mamba_split_reference import split, split_backward

SPLIT, BACKWARD = "flopscan::mamba_split", "flopscan::mamba_split_backward"
_CONTRACT = Contract.parse(
    "zxbcdt: b l e, conv1d_weight: c w, conv1d_bias?: c, dt_bias: h, A: h, D: h p | h, initial_states?: b h _ _,"
    " seq_idx?: b l, rmsnorm_weight?: _, outproj_weight?: m _, outproj_bias?: m"
)


@dataclass(frozen=True)
class Block:
    """A call with the sizes of its axes: h heads of p channels, g groups of n states, c convolved, k beside."""

    call: Call
    b: int
    l: int
    c: int
    w: int
    h: int
    p: int
    g: int
    n: int
    k: int
    m: int

    @staticmethod
    def of(call: Call) -> Block:
        """The block of ``call``. Raises ContractError where its operands do not fit together."""
        tensors = {name: v for name, v in call.args.items() if isinstance(v, TensorSpec)}
        sizes = _CONTRACT.bind(call.op, tensors).sizes
        b, l, c, w, h, e, m = (sizes.get(name, 0) for name in "blcwhem")
        g, p = call.get("ngroups", 1), sizes.get("p") or call.get("headdim") or 0
        n = (c - h * p) // (2 * g)
        k = (e - 2 * h * p - 2 * g * n - h) // 2
        if p < 1 or n < 1 or k < 0 or (c - h * p) % (2 * g) or h % g or 2 * (k + h * p + g * n) + h != e:
            raise ContractError(
                f"{call.op}: operands 'zxbcdt' ({b}, {l}, {e}) and 'conv1d_weight' ({c}, {w}) do not fit {h} heads of"
                f" {p} channels in {g} groups: expected 2k + 2hp + 2gn + h and hp + 2gn channels"
            )
        return Block(call, b, l, c, w, h, p, g, n, k, m)

    def spec(self, *shape: int) -> TensorSpec:
        """A tensor of this shape, of the dtype of the input."""
        return TensorSpec(shape, self.call["zxbcdt"].dtype)

    def given(self, name: str) -> bool:
        """Whether the operand is there."""
        return self.call.get(name) is not None

    def convolution(self, *, backward: bool = False) -> Call:
        """The convolution of x, B and C, channels next to each other in memory, or its gradients."""
        x = TensorSpec((self.b, self.c, self.l), self.spec().dtype, (self.l * self.c, 1, self.c))
        operands = {
            "x": x, "weight": self.call["conv1d_weight"], "bias": self.call.get("conv1d_bias"),
            "activation": self.call.get("activation", "silu"),
        }  # fmt: skip
        if not backward:
            return _call("flopscan::causal_conv1d", operands, x)
        return _call(
            "flopscan::causal_conv1d_backward", {"grad": x, **operands}, x, operands["weight"], operands["bias"]
        )

    def scan(self, *, backward: bool = False, again: bool = False) -> Call:
        """The scan, with z where no norm takes it, or its gradients, with the output ``again`` if z is there."""
        call, x = self.call, self.spec(self.b, self.l, self.h, self.p)
        states = self.spec(self.b, self.l, self.g, self.n)
        operands = {
            "x": x, "dt": self.spec(self.b, self.l, self.h), "A": call["A"], "B": states, "C": states, "D": call["D"],
            "z": None if self.given("rmsnorm_weight") else x, "dt_bias": call["dt_bias"],
            **{name: call.get(name) for name in ("initial_states", "seq_idx", "dt_limit", "chunk_size")},
            "dt_softplus": True,
        }  # fmt: skip
        if not backward:
            return _call("flopscan::ssd", operands, x)
        operands["recompute_output"] = (again and operands["z"] is not None) or None
        tensors = [v for v in operands.values() if isinstance(v, TensorSpec) and v.is_float]
        return _call("flopscan::ssd_backward", {"grad": x, **operands}, *tensors)

    def beside(self, *, backward: bool = False, again: bool = False) -> list[Call]:
        """The gated unit beside the scan, if there is one, or its gradient, with the output ``again``."""
        if not self.k:
            return []
        xy, out = self.spec(self.b, self.l, 2 * self.k), self.spec(self.b, self.l, self.k)
        if not backward:
            return [_call("flopscan::swiglu", {"xy": xy}, out)]
        operands = {"grad": out, "xy": xy, "recompute_output": again or None}
        return [_call("flopscan::swiglu_backward", operands, xy, out if again else None)]

    def norm(self, *, backward: bool = False, again: bool = False) -> list[Call]:
        """The norm of each group's channels, gated by z, if there is one, or its gradients, the output ``again``."""
        if not self.given("rmsnorm_weight"):
            return []
        rows = self.b * self.l
        x, weight = self.spec(rows, self.h * self.p), self.call["rmsnorm_weight"]
        operands = {
            "x": x, "weight": weight, "z": x, "group_size": self.h * self.p // self.g,
            "norm_before_gate": self.call.get("norm_before_gate", True), "is_rms_norm": True,
        }  # fmt: skip
        rstd = TensorSpec((rows * self.g,))
        if not backward:
            return [_call("flopscan::gated_rms_norm", operands, x, rstd)]
        operands = {"grad": x, **operands, "rstd": rstd, "recompute_output": again or None}
        return [_call("flopscan::gated_rms_norm_backward", operands, x, weight, x, x if again else None)]


def _call(op: str, operands: dict[str, Any], *results: TensorSpec | None) -> Call:
    given = {name: value for name, value in operands.items() if value is not None}
    return Call(op, given, tuple(r for r in results if r is not None))


@composite(SPLIT, reference=split)
def forward(call: Call) -> tuple[Call, ...]:
    """conv, scan, what stands beside it, norm, (bl K)(K m) onto the bias with K = k + hp."""
    k = Block.of(call)
    parts = [k.convolution(), k.scan(), *k.beside(), *k.norm()]
    if k.given("outproj_weight"):
        rows, inner = k.b * k.l, k.k + k.h * k.p
        left, right, out = k.spec(rows, inner), k.spec(inner, k.m), k.spec(rows, k.m)
        if k.given("outproj_bias"):
            parts.append(_call("aten::addmm", {"self": call["outproj_bias"], "mat1": left, "mat2": right}, out))
        else:
            parts.append(_call("aten::mm", {"self": left, "mat2": right}, out))
    return tuple(parts)


def runs_backward(call: Call) -> tuple[Call, ...]:
    """What the package runs: the convolution again, and with out_proj its operand again.

    Beside a gated unit the package needs a norm and out_proj here: without out_proj it raises, without a norm its
    gradient of out_proj lacks the unit's columns, which autograd refuses. What it should have been is counted.
    """
    k = Block.of(call)
    return (k.convolution(), *_gradients(k, again=k.given("outproj_weight")))


@composite(BACKWARD, runs=runs_backward, reference=split_backward)
def backward(call: Call) -> tuple[Call, ...]:
    """The gradients of what forward does, last to first, of what it kept: nothing is computed again."""
    return tuple(_gradients(Block.of(call), again=False))


def _gradients(k: Block, *, again: bool) -> list[Call]:
    """Those of out_proj's operand, the gated unit, the norm, the scan, out_proj and its bias, and the convolution."""
    rows, inner, parts = k.b * k.l, k.k + k.h * k.p, list[Call]()
    grad = k.spec(rows, k.m)
    if k.given("outproj_weight"):
        parts.append(_call("aten::mm", {"self": grad, "mat2": k.spec(k.m, inner)}, k.spec(rows, inner)))
    parts += [*k.beside(backward=True, again=again), *k.norm(backward=True, again=again)]
    parts.append(k.scan(backward=True, again=again))
    if k.given("outproj_weight"):
        left, right, out = k.spec(1, k.m, rows), k.spec(1, rows, inner), k.spec(1, k.m, inner)
        parts.append(_call("aten::bmm", {"self": left, "mat2": right}, out))
        if k.given("outproj_bias"):
            parts.append(_call("aten::sum", {"self": grad, "dim": [0]}, k.call["outproj_bias"]))
    return [*parts, k.convolution(backward=True)]


def _own(bound: Operands) -> Operands:
    """The operands without what changes no cost."""
    unread = ("rmsnorm_eps", "return_final_states", "state_dtype")
    return {name: value for name, value in bound.items() if value is not None and name not in unread}


def _output(bound: Operands) -> Outputs:
    """The output b l m, without out_proj b l (k + hp); where asked for the last states."""
    k, x = Block.of(Call(SPLIT, _own(bound))), bound["zxbcdt"]
    out = k.spec(k.b, k.l, k.m if k.given("outproj_weight") else k.k + k.h * k.p)
    return (out, TensorSpec((x.shape[0], k.h, k.p, k.n))) if bound["return_final_states"] else out


for _name in ("mamba_split_conv1d_scan_combined", "MambaSplitConv1dScanCombinedFn"):
    seam(
        Seam(
            f"mamba_ssm.ops.triton.ssd_combined:{_name}",
            SPLIT,
            "zxbcdt, conv1d_weight, conv1d_bias, dt_bias, A, D, chunk_size, initial_states=None, seq_idx=None,"
            " dt_limit=None, return_final_states=False, activation='silu', rmsnorm_weight=None, rmsnorm_eps=1e-6,"
            " outproj_weight=None, outproj_bias=None, headdim=None, ngroups=1, norm_before_gate=True, state_dtype=None",
            _output,
            backward=BACKWARD,
            operands=_own,
            version="2.3.2",
            parts=forward,
            backward_parts=runs_backward,
        )
    )
