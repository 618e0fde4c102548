"""Mamba's fused block, taken apart: convolution, x_proj, dt_proj, scan with a gate, out_proj.

`mamba_inner_fn` of mamba_ssm; `mamba_inner_fn_no_out_proj` and `bimamba_inner_fn` of Vim's fork and those after it: the
former ends before the last product, the latter scans the same operands in both directions, with A and with A_b. The
parts are the products and additions that these functions dispatch, in their order, and the kernels that they call.
Copies between layouts are left out. Source: mamba_ssm 2.3.2 `ops/selective_scan_interface.py`; Vim, mamba-1p1p1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flopscan.core.contract import Contract
from flopscan.core.seam import Operands, Outputs, Seam
from flopscan.core.trace import Call, TensorSpec
from flopscan.errors import ContractError
from flopscan.rules import composite, seam
from flopscan.rules.mamba_inner_reference import block, block_backward

INNER, BACKWARD = "flopscan::mamba_inner", "flopscan::mamba_inner_backward"
_CONTRACT = Contract.parse(
    "xz: b 2d l, conv1d_weight: d 1 w, conv1d_bias?: d, x_proj_weight: f d, delta_proj_weight: d r,"
    " out_proj_weight?: m d, out_proj_bias?: m, A: d n, A_b?: d n, B?: d n | b n _ | b g n _,"
    " C?: d n | b n _ | b g n _, D?: d, delta_bias?: d, B_proj_bias?: _, C_proj_bias?: _, b_rms_weight?: _,"
    " c_rms_weight?: _, dt_rms_weight?: d"
)


@dataclass(frozen=True)
class Block:
    """A call with the sizes of its axes: f features of x_proj, r of them for dt, s a step for B and for C."""

    call: Call
    b: int
    d: int
    l: int
    w: int
    f: int
    r: int
    m: int
    s: int

    @staticmethod
    def of(call: Call) -> Block:
        """The block of ``call``. Raises ContractError where its operands do not fit together."""
        tensors = {k: v for k, v in call.args.items() if isinstance(v, TensorSpec)}
        sizes = _CONTRACT.bind(call.op, tensors).sizes
        states = sizes["n"] * (2 if call["A"].is_complex else 1)
        features = sizes["r"] + states * sum(call.get(name) is None for name in ("B", "C"))
        if sizes["f"] < features:
            raise ContractError(
                f"{call.op}: operand 'x_proj_weight' has {sizes['f']} rows, expected {features}: {sizes['r']} for dt"
                f" and {states} each for those of B and C that are not given"
            )
        b, d, l, w, f, r, m = (sizes.get(name, 0) for name in "bdlwfrm")
        return Block(call, b, d, l, w, f, r, m, states)

    def spec(self, *shape: int) -> TensorSpec:
        """A tensor of this shape, of the dtype of the input."""
        return TensorSpec(shape, self.call["xz"].dtype)

    def given(self, name: str) -> bool:
        """Whether the operand is there."""
        return self.call.get(name) is not None

    @property
    def channels(self) -> TensorSpec:
        """x, z, dt and the output of the scan: b d l."""
        return self.spec(self.b, self.d, self.l)

    def states(self, name: str) -> TensorSpec:
        """B or C as the scan takes them."""
        given: TensorSpec | None = self.call.get(name)
        return given or self.spec(self.b, 1, self.call["A"].shape[1], self.l * self.s // self.call["A"].shape[1])

    def convolution(self, *, backward: bool = False) -> Call:
        """The convolution of x and its SiLU, or the gradients."""
        operands = {
            "x": self.channels, "weight": self.spec(self.d, self.w), "bias": self.call.get("conv1d_bias"),
            "activation": "silu",
        }  # fmt: skip
        if not backward:
            return _call("flopscan::causal_conv1d", operands, self.channels)
        results = [self.channels, self.spec(self.d, self.w), operands["bias"]]
        return _call("flopscan::causal_conv1d_backward", {"grad": self.channels, **operands}, *results)

    def scans(self, *, backward: bool = False) -> list[Call]:
        """The scan in one direction or in two."""
        names = ("B", "C", "D", "z", "delta_bias")
        found = []
        for A in filter(None, (self.call["A"], self.call.get("A_b"))):
            operands = {
                "u": self.channels, "delta": self.channels, "A": A, "B": self.states("B"), "C": self.states("C"),
                "D": self.call.get("D"), "z": self.channels, "delta_bias": self.call.get("delta_bias"),
                "delta_softplus": self.call.get("delta_softplus"),
            }  # fmt: skip
            if backward:
                results = [self.channels, self.channels, A, *(operands[name] for name in names)]
                found.append(_call("flopscan::selective_scan_backward", {"grad": self.channels, **operands}, *results))
            else:
                found.append(_call("flopscan::selective_scan", operands, self.channels))
        return found

    def steps(self) -> Call:
        """The product that makes dt: d r, r bl."""
        return _product(self.spec(self.d, self.r), self.spec(self.r, self.b * self.l))

    def norms(self, *names: str, backward: bool = False) -> list[Call]:
        """The norms of B, C and dt that there are weights for, or their gradients."""
        rows = self.b * self.l
        found = []
        for name in names:
            weight: TensorSpec | None = self.call.get(name)
            if weight is not None:
                x, rstd = self.spec(rows, *weight.shape), TensorSpec((rows,))
                operands = {"x": x, "weight": weight, "is_rms_norm": True}
                if backward:
                    operands = {"grad": x, **operands, "rstd": rstd}
                    found.append(_call("flopscan::residual_norm_backward", operands, x, weight))
                else:
                    found.append(_call("flopscan::residual_norm", operands, x, rstd))
        return found


def _call(op: str, operands: dict[str, Any], *results: TensorSpec | None) -> Call:
    given = {name: value for name, value in operands.items() if value is not None}
    return Call(op, given, tuple(r for r in results if r is not None))


def _product(left: TensorSpec, right: TensorSpec) -> Call:
    """One product of two matrices, or of two in a batch of one as einsum makes it."""
    out = TensorSpec((*left.shape[:-1], right.shape[-1]), left.dtype)
    return Call("aten::mm" if len(left.shape) == 2 else "aten::bmm", {"self": left, "mat2": right}, (out,))


def _sum(x: TensorSpec) -> Call:
    """The sum of the rows."""
    return Call("aten::sum", {"self": x, "dim": [0]}, (TensorSpec(x.shape[1:], x.dtype),))


def _added(x: TensorSpec, other: TensorSpec) -> Call:
    return Call("aten::add", {"self": x, "other": other, "alpha": 1}, (x,))


@composite(INNER, reference=block)
def forward(call: Call) -> tuple[Call, ...]:
    """conv, (bl d)(d f), (d r)(r bl), the biases and norms of B, C and dt, the scan or two and their sum, (bl d)(d m).

    With a bias the last is a product and an addition, since its operand is not contiguous.
    """
    k = Block.of(call)
    rows = k.b * k.l
    parts = [k.convolution(), _product(k.spec(rows, k.d), k.spec(k.d, k.f)), k.steps()]
    for name in ("B", "C"):
        if k.given(f"{name}_proj_bias") and not k.given(name):
            parts.append(_added(k.spec(rows, k.s), call[f"{name}_proj_bias"]))
    parts += [*k.norms("b_rms_weight", "c_rms_weight", "dt_rms_weight"), *k.scans()]
    if k.given("A_b"):
        parts.append(_added(k.channels, k.channels))
    if k.given("out_proj_weight"):
        parts.append(_product(k.spec(rows, k.d), k.spec(k.d, k.m)))
        if k.given("out_proj_bias"):
            parts.append(_added(k.spec(k.b, k.l, k.m), call["out_proj_bias"]))
    return tuple(parts)


def runs_backward(call: Call) -> tuple[Call, ...]:
    """What the package runs: ``checkpoint_lvl`` 1, the default, first makes the convolution and dt again.

    At that level the norms run again (B's and C's on what is already normalized), and none of them is differentiated.
    The outputs of two scans are added again. The gradient of out_proj_bias is a sum over steps: the package's own is
    one number, which autograd refuses.
    """
    k = Block.of(call)
    again: list[Call] = []
    if call.get("checkpoint_lvl", 1) == 1:
        again += [k.convolution(), k.steps(), *k.norms("dt_rms_weight", "b_rms_weight", "c_rms_weight")]
    if k.given("A_b") and k.given("out_proj_weight"):
        again.append(_added(k.channels, k.channels))
    return (*again, *_gradients(k))


@composite(BACKWARD, runs=runs_backward, reference=block_backward)
def backward(call: Call) -> tuple[Call, ...]:
    """The gradients of what forward does, last to first, of what it kept: nothing is computed again."""
    k = Block.of(call)
    return (*k.norms("dt_rms_weight", "b_rms_weight", "c_rms_weight", backward=True), *_gradients(k))


def _gradients(k: Block) -> list[Call]:
    """The gradients without those of norms: out_proj, the scans and their sum, the biases, dt_proj, x_proj, conv."""
    call, rows, parts = k.call, k.b * k.l, list[Call]()
    if k.given("out_proj_weight"):
        parts.append(_product(k.spec(k.d, k.m), k.spec(k.m, rows)))
    parts += k.scans(backward=True)
    if k.given("A_b"):
        both = [k.channels, k.channels, k.channels, k.states("B"), k.states("C"), call.get("D"), call.get("delta_bias")]
        parts += [_added(x, x) for x in both if x is not None]
    if k.given("out_proj_weight"):
        parts.append(_product(k.spec(1, k.m, rows), k.spec(1, rows, k.d)))
        parts += [_sum(k.spec(rows, k.m))] if k.given("out_proj_bias") else []
    for name in ("B", "C"):
        if k.given(f"{name}_proj_bias") and not k.given(name):
            parts.append(_sum(k.spec(rows, k.s)))
    into = k.spec(k.d, rows)
    return [
        *parts,
        _product(k.spec(1, k.d, rows), k.spec(1, rows, k.r)),
        _product(k.spec(1, rows, k.d), k.spec(1, k.d, k.r)),
        _product(k.spec(1, k.f, rows), k.spec(1, rows, k.d)),
        Call("aten::addmm", {"self": into, "mat1": k.spec(k.d, k.f), "mat2": k.spec(k.f, rows)}, (into,)),
        k.convolution(backward=True),
    ]


def _own(bound: Operands) -> Operands:
    """The operands without the norms' epsilon."""
    return {name: value for name, value in bound.items() if value is not None and name != "b_c_dt_rms_eps"}


def _output(bound: Operands) -> Outputs:
    """The output: b l m, or without the last product b d l."""
    xz, out = bound["xz"], bound.get("out_proj_weight")
    batch, double, length = xz.shape
    if out is None:
        return TensorSpec((batch, double // 2, length), xz.dtype)
    return TensorSpec((batch, length, out.shape[0]), xz.dtype)


_PROJECTIONS = "xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight"
_LAST = "out_proj_weight, out_proj_bias"
_REST = "B=None, C=None, D=None, delta_bias=None, B_proj_bias=None, C_proj_bias=None, delta_softplus=True"
_LEVEL, _FORK = ", checkpoint_lvl=1", "1.1.1 of Vim's fork"  # what the classes take besides
_NORMS = "b_rms_weight=None, c_rms_weight=None, dt_rms_weight=None, b_c_dt_rms_eps=1e-6"
for _function, _class, _signature, _more, _version in (
    ("mamba_inner_fn", "MambaInnerFn", f"{_PROJECTIONS}, {_LAST}, A, {_REST}, checkpoint_lvl=1, {_NORMS}", "", "2.3.2"),
    ("mamba_inner_fn_no_out_proj", "MambaInnerFnNoOutProj", f"{_PROJECTIONS}, A, {_REST}", _LEVEL, _FORK),
    ("bimamba_inner_fn", "BiMambaInnerFn", f"{_PROJECTIONS}, {_LAST}, A, A_b, {_REST}", _LEVEL, _FORK),
):
    for _name, _parameters in ((_function, _signature), (_class, _signature + _more)):
        seam(
            Seam(
                f"mamba_ssm.ops.selective_scan_interface:{_name}",
                INNER,
                _parameters,
                _output,
                backward=BACKWARD,
                operands=_own,
                version=_version,
                parts=forward,
                backward_parts=runs_backward,
            )
        )
