"""Calls that hold a scan inside, or stand beside one: fused blocks, other scans, convolutions, VMamba's crossings.

A class of a package is bound as the package's seam states it, by the names of its parameters and by the contract of its
rule; a block is taken apart into its parts, so that every convention counts it by what it counts of these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from flopscan import rules
from flopscan.capture.jit import GraphCall
from flopscan.compat.scan_signatures import INDICES, version_of
from flopscan.core.seam import Operands, Seam
from flopscan.core.trace import Call, TensorSpec
from flopscan.errors import ContractError

Parts = tuple[tuple[Call, ...], str]
Binder = Callable[[GraphCall], Parts]


def of(seams: tuple[Seam, ...]) -> Binder:
    """The binder of a class that is known by these seams, one for each module that has a class of this name."""

    def bind(call: GraphCall) -> Parts:
        module = call.qualified.rpartition(".")[0]
        homes = [seam for seam in seams if module == seam.module or module.endswith(f".{seam.module}")]
        own = {name for name, _ in call.parameters or ()}
        alike = [seam for seam in seams if own <= set(seam.parameters().parameters)]
        return _bound(call, (homes or alike or list(seams))[0], at_home=bool(homes))

    return bind


def _bound(call: GraphCall, seam: Seam, *, at_home: bool) -> Parts:
    """The call as the operator of ``seam``, in parts if it has some, and a note of what was taken on trust."""
    known = {p.name: None if p.default is p.empty else p.default for p in seam.parameters().parameters.values()}
    if at_home and not call.parameters and call.parameters is not None:  # a decorator hides the names
        call = replace(call, parameters=tuple(known.items()))
    named, who = call.named(), f"{call.qualified or call.name}{version_of(call) if at_home else ''}"
    own = [name for name, _ in call.parameters or ()]
    notes = []
    if not at_home and call.qualified:
        notes.append(f"{who} is bound as {seam.path}, by the names of its own parameters and by its shapes")
    elif own != list(known)[: len(own)]:
        notes.append(f"{who} has another signature than the one known of {seam.package}; bound by its names")
    strange = [name for name in named if name not in known and name not in INDICES]
    tensors = [name for name in strange if isinstance(named[name], TensorSpec)]
    if tensors:
        raise ContractError(f"{who}: no formula for a call with the operand '{', '.join(tensors)}'")
    if strange:
        notes.append(f"{who}: what {', '.join(strange)} means was not looked at")
    try:
        operands = seam.named({**known, **{name: value for name, value in named.items() if name in known}})
        made = Call(seam.op, {k: v for k, v in operands.items() if v is not None}, call.outputs)
        parts = seam.parts(made) if seam.parts else (_held(made),)
    except (AttributeError, TypeError, LookupError, ValueError) as error:
        raise ContractError(f"{who}: its operands are not those of {seam.path} ({error!r})") from error
    return parts, "; ".join(notes)


def _held(call: Call) -> Call:
    """``call``, held against the contract of its rule. Raises ContractError."""
    rule = rules.find(call.op)
    price = rule.price(call) if rule else None
    if price is None or price.ideal is None:
        raise ContractError(price.note if price else f"{call.op} has no rule")
    return call


def crossing(call: GraphCall) -> Parts:
    """Copies in several orders (no arithmetic), or their merging: an addition for each element that is merged away."""
    operands = _shaped(call)
    fewer = operands[0].numel - call.outputs[0].numel
    return ((_sum(TensorSpec((fewer,), operands[0].dtype)),) if fewer > 0 else ()), ""


def copies(call: GraphCall) -> Parts:
    """Copies of parts of an image, and those parts laid side by side again: no arithmetic."""
    _shaped(call)
    return (), ""


def _shaped(call: GraphCall) -> list[TensorSpec]:
    """The tensors among the operands. Raises ContractError where shapes are not known."""
    operands = [value for value in call.operands if isinstance(value, TensorSpec)]
    if not operands or not call.outputs:
        raise ContractError(f"{call.name}: its operands or results have no shapes in the graph")
    return operands


def _sum(spec: TensorSpec) -> Call:
    return Call("aten::add", {"self": spec, "other": spec, "alpha": 1}, (spec,))


def _hydra(call: Call) -> tuple[Call, ...]:
    """Hydra's block: a convolution of odd width, a scan in both directions, D from x, a gated norm, out_proj.

    Of zxBCdt, b l e, come z and x of d channels each, B and C of 2gn in all for each direction, and dt of 2h. The two
    directions are a batch of 2b. The bias of D is an addition, since x is not contiguous. Source: Hydra,
    `hydra/modules/ops.py`.
    """
    (b, l, _), (c, _, _) = call["zxBCdt"].shape, call["conv1d_weight"].shape
    d, n, p, g = (call[name] for name in ("d_inner", "d_state", "headdim", "ngroups"))
    h, rows, dtype = d // p, b * l, call["zxBCdt"].dtype

    def spec(*shape: int) -> TensorSpec:
        return TensorSpec(shape, dtype)

    expected = (b, l, d + c + 2 * h)
    if c != d + 4 * g * n or call["zxBCdt"].shape != expected:
        raise ContractError(
            f"{call.op}: operands 'zxBCdt' {call['zxBCdt'].shape} and 'conv1d_weight' {call['conv1d_weight'].shape} do"
            f" not fit {h} heads of {p} channels; expected {expected} and {d + 4 * g * n} channels"
        )
    convolved, x, states = spec(b, c, l), spec(2 * b, l, h, p), spec(2 * b, l, g, n)
    convolution = {
        "input": convolved, "weight": call["conv1d_weight"], "bias": call.get("conv1d_bias"), "stride": [1],
        "padding": [call["conv1d_weight"].shape[2] // 2], "dilation": [1], "transposed": False,
        "output_padding": [0], "groups": c,
    }  # fmt: skip
    scan = {
        "x": x, "dt": spec(2 * b, l, h), "A": call["A"], "B": states, "C": states, "dt_bias": call["dt_bias"],
        "dt_softplus": True,
        **{name: call.get(name) for name in ("initial_states", "seq_idx", "dt_limit", "chunk_size")},
    }  # fmt: skip
    y = spec(b, l, d)
    norm = {"x": spec(rows, d), "weight": call["rmsnorm_weight"], "z": spec(rows, d), "is_rms_norm": True}
    return (
        Call("aten::convolution", convolution, (convolved,)),
        Call("aten::silu", {"self": convolved}, (convolved,)),
        _projection(spec(rows, d), call["D_weight"], None),
        *([_sum(spec(b, l, h))] if call.get("D_bias") is not None else []),
        _held(Call("flopscan::ssd", {k: v for k, v in scan.items() if v is not None}, (x,))),
        Call("aten::mul", {"self": y, "other": y}, (y,)),
        _sum(y),
        _sum(y),
        _held(Call("flopscan::gated_rms_norm", norm, (spec(rows, d), TensorSpec((rows,))))),
        _projection(spec(rows, d), call["outproj_weight"], call.get("outproj_bias")),
    )


def _projection(x: TensorSpec, weight: TensorSpec, bias: TensorSpec | None) -> Call:
    """x times the transposed weight, onto the bias. Raises ContractError where they do not fit."""
    rows, inner = x.shape
    columns, own = weight.shape
    if own != inner:
        raise ContractError(f"a projection of {inner} features has the weight {weight.shape}")
    right, out = TensorSpec((inner, columns), x.dtype), TensorSpec((rows, columns), x.dtype)
    if bias is None:
        return Call("aten::mm", {"self": x, "mat2": right}, (out,))
    return Call("aten::addmm", {"self": bias, "mat1": x, "mat2": right}, (out,))


def _given(bound: Operands) -> Operands:
    return {name: value for name, value in bound.items() if name not in ("return_last_state", "lag")}


def _unknown(bound: Operands) -> TensorSpec:
    """In a graph the results are there."""
    raise NotImplementedError


# classes of repositories that are no packages, by the last parts of the module that they are in
_REPOSITORIES = (
    Seam(
        "models.utils:SelectiveScanStateFn", "flopscan::selective_scan_states",
        "u, delta, A, B, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False, lag=0",
        _unknown, operands=_given,
    ),
    Seam(
        "hydra.modules.ops:HydraSplitConv1dScanCombinedFn", "hydra::split_conv1d_scan_combined",
        "zxBCdt, conv1d_weight, conv1d_bias, dt_limit, dt_bias, A, D_weight, D_bias, rmsnorm_weight, rmsnorm_eps,"
        " outproj_weight, outproj_bias, chunk_size, initial_states, seq_idx, d_inner, d_state, headdim, ngroups",
        _unknown, parts=_hydra,
    ),
)  # fmt: skip

# VMamba's, with those of MSVMamba (of two and three sequences) and of MobileMamba (Fk2)
_FORMS = (
    "_Ab_1direction",
    "_Ab_2direction",
    "",
    "F",
    "Triton",
    "TritonF",
    "Triton1b1",
    "Triton1b1F",
    "2",
    "3",
    "TritonFk2",
)
_CROSSINGS = (*(f"Cross{kind}{form}" for kind in ("Scan", "Merge") for form in _FORMS), "ThreeScan", "ThreeMerge")
_COPIES = ("EfficientScan", "EfficientMerge", "LocalScanTriton", "LocalReverseTriton")  # EfficientVMamba, LocalMamba


def binders() -> Mapping[str, Binder]:
    """How to bind a class, by its name."""
    known: dict[str, tuple[Seam, ...]] = {}
    for seam in (*rules.seams(), *_REPOSITORIES):
        if seam.is_class:
            known[seam.attribute] = (*known.get(seam.attribute, ()), seam)
    return {
        **{name: of(seams) for name, seams in known.items()},
        **dict.fromkeys(_CROSSINGS, crossing),
        **dict.fromkeys(_COPIES, copies),
    }
