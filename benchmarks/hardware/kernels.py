"""The cases that are profiled: which kernel, on which operands, and the flopscan call that it is. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from flopscan.core.trace import Call, TensorSpec

Operands = dict[str, Any]  # TensorSpec, or a plain value
MARK = "spin_kernel"  # launched before each case, so that the launches of a profile can be told apart


@dataclass(frozen=True)
class Case:
    """One launch of a kernel: its family, direction, sizes by axis letter, dtype, and what else was chosen."""

    kernel: str
    direction: str
    sizes: Mapping[str, int]
    dtype: str = "float32"
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The case in one line."""
        sizes = " ".join(f"{axis}{size}" for axis, size in self.sizes.items())
        chosen = [k if v is True else f"{k}={v}" for k, v in self.options.items() if v not in (False, "", None)]
        return " ".join([self.kernel, self.direction, sizes, self.dtype, *chosen])

    def to_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return {
            "kernel": self.kernel, "direction": self.direction, "sizes": dict(self.sizes), "dtype": self.dtype,
            "options": dict(self.options),
        }  # fmt: skip


def operands(case: Case) -> Operands:
    """The operands of ``case`` by the names of the rule, forward."""
    return _OPERANDS[case.kernel](case.sizes, case.dtype, case.options)


def call(case: Case) -> Call:
    """``case`` as a trace has it."""
    named = operands(case)
    op = _OPS[case.kernel]
    first = named[_RESULT[case.kernel]]
    result = TensorSpec(first.shape, case.dtype)
    if case.direction == "forward":
        return Call(op, named, (result,))
    gradients = tuple(x for x in named.values() if isinstance(x, TensorSpec))
    return Call(f"{op}_backward", {"grad": result, **named}, gradients)


# The selective scan: 2 x 64 channels fill a fifth of an H100, which is enough to count.


def _scan_operands(s: Mapping[str, int], dtype: str, chosen: Mapping[str, Any]) -> Operands:
    """u, delta, A, B, C and those of D, z and delta_bias that are chosen; ``constant`` names B, C or both."""
    state = "complex64" if chosen["complex"] else "float32"
    steps = TensorSpec((s["b"], s["d"], s["l"]), dtype)
    per_state = TensorSpec((s["d"], s["n"]), state)
    pairs = 2 if chosen["complex"] else 1
    varying = TensorSpec((s["b"], s["g"], s["n"], pairs * s["l"]), dtype)
    channel = TensorSpec((s["d"],), "float32")
    named: Operands = {"u": steps, "delta": steps, "A": per_state}
    named.update({name: per_state if name in chosen["constant"] else varying for name in ("B", "C")})
    optional = {"D": channel, "z": steps, "delta_bias": channel}
    named.update({name: spec for name, spec in optional.items() if chosen[name]})
    return {**named, "delta_softplus": chosen["delta_softplus"]}


_FULL = {"D": True, "z": False, "delta_bias": True, "delta_softplus": True, "complex": False, "constant": ""}
_LAUNCHES = (128, 256, 512, 1024, 2048)  # one length for each pair of threads and items that the kernel is compiled for


def _scan_sizes(l: int, n: int, g: int = 1, b: int = 2, d: int = 64) -> dict[str, int]:
    return {"b": b, "d": d, "l": l, "n": n, "g": g}


def _scans() -> Iterator[tuple[dict[str, int], str, dict[str, Any]]]:
    """Sizes, dtype and options of each scan."""
    for l in (49, 64, 128, 196, 256, 512, 784, 1024, 2048, 3136, 4096):
        for n in (1, 16):
            yield _scan_sizes(l, n), "float32", _FULL
    for l in _LAUNCHES:
        for n in (8, 32):
            yield _scan_sizes(l, n), "float32", _FULL
    for l in (*_LAUNCHES, 196, 3136):
        for change in ({"z": True}, {"delta_softplus": False}, {"D": False}, {"delta_bias": False}):
            yield _scan_sizes(l, 16), "float32", {**_FULL, **change}
        yield _scan_sizes(l, 16), "float32", {name: name in ("complex", "constant") and _FULL[name] for name in _FULL}
        yield _scan_sizes(l, 16), "float32", {**_FULL, "complex": True}
    yield _scan_sizes(2048, 8), "float32", {**_FULL, "complex": True}
    yield _scan_sizes(2048, 16), "float32", {**_FULL, "complex": True, "z": True}
    for l, n in ((196, 1), (196, 16), (3136, 1)):
        yield _scan_sizes(l, n, g=4), "float32", _FULL
    yield _scan_sizes(512, 16, b=4, d=128), "float32", _FULL
    for constant in ("B", "C", "BC"):
        yield _scan_sizes(2048, 16), "float32", {**_FULL, "constant": constant}
    for dtype in ("float16", "bfloat16"):
        yield _scan_sizes(196, 1, g=4), dtype, _FULL
        yield _scan_sizes(2048, 16), dtype, {**_FULL, "z": True}


# flopscan's own kernels of the selective scan. Lengths under 1024, or enough channels, leave l in one piece.


def _own_scan_operands(s: Mapping[str, int], dtype: str, chosen: Mapping[str, Any]) -> Operands:
    """The operands of the public kernel, and whose kernel runs."""
    return {**_scan_operands(s, dtype, {**chosen, "complex": False, "constant": ""}), "kernel": "flopscan"}


_OWN = {"D": True, "z": False, "delta_bias": True, "delta_softplus": True}


def _own_scans() -> Iterator[tuple[dict[str, int], str, dict[str, Any]]]:
    """Sizes, dtype and options of each scan."""
    for n in (1, 16):
        for l in (49, 64, 130, 196, 256, 512, 784, 960):
            yield _scan_sizes(l, n), "float32", _OWN
        for change in ({"z": True}, {"delta_softplus": False}, {"D": False}, {"delta_bias": False}):
            for l in (196, 512):
                yield _scan_sizes(l, n), "float32", {**_OWN, **change}
        for dtype in ("float16", "bfloat16"):
            for z in (False, True):
                yield _scan_sizes(196, n, g=4), dtype, {**_OWN, "z": z}
                yield _scan_sizes(512, n), dtype, {**_OWN, "z": z}
        yield _scan_sizes(512, n, g=4, d=72), "float32", _OWN
        yield _scan_sizes(2048, n, b=8, d=1024), "float32", _OWN
        yield _scan_sizes(2048, n, b=8, d=1024), "bfloat16", {**_OWN, "z": True}
        yield _scan_sizes(3136, n, b=8, d=1024, g=4), "float16", _OWN
    for n in (2, 3, 4, 8, 17, 32, 64, 100, 256):
        yield _scan_sizes(512, n), "float32", _OWN


# flopscan's own cross scan: of one state, the images that lie in shared memory


def _own_cross_operands(s: Mapping[str, int], dtype: str, chosen: Mapping[str, Any]) -> Operands:
    """The image, what belongs to its four directions, and whose kernel runs."""
    b, d, h, w, l = s["b"], s["d"], s["h"], s["w"], s["h"] * s["w"]
    named: Operands = {"x": TensorSpec((b, d, h, w), dtype), "delta": TensorSpec((b, 4, d, l), dtype)}
    named |= {"A": TensorSpec((4 * d, 1), "float32")} | {m: TensorSpec((b, 4, 1, l), dtype) for m in "BC"}
    named |= {name: TensorSpec((4 * d,), "float32") for name in ("D", "delta_bias") if chosen[name]}
    return {**named, "delta_softplus": chosen["delta_softplus"], "kernel": "flopscan"}


def _own_cross_scans() -> Iterator[tuple[dict[str, int], str, dict[str, Any]]]:
    """The images of VMamba's stages and others, whole runs or not, in every dtype."""
    given = {"D": True, "delta_bias": True, "delta_softplus": True}
    images = ((7, 7), (14, 14), (8, 8), (16, 16), (9, 14), (20, 13), (28, 28), (32, 32), (40, 30), (56, 56), (33, 70))
    for h, w in images:
        yield {"b": 2, "d": 64, "h": h, "w": w}, "float32", given
    for h, w in ((7, 7), (14, 14), (28, 28), (56, 56)):
        for dtype in ("float16", "bfloat16"):
            yield {"b": 2, "d": 64, "h": h, "w": w}, dtype, given
        for change in ("D", "delta_bias", "delta_softplus"):
            yield {"b": 2, "d": 64, "h": h, "w": w}, "float32", {**given, change: False}
        yield {"b": 2, "d": 69, "h": h, "w": w}, "bfloat16", given
    yield {"b": 8, "d": 96, "h": 56, "w": 56}, "bfloat16", given


# The causal convolution


def _convolution_operands(s: Mapping[str, int], dtype: str, chosen: Mapping[str, Any]) -> Operands:
    """x, weight, and the bias where it is chosen; the weight is in float32 as under autocast."""
    x = TensorSpec((s["b"], s["d"], s["l"]), dtype)
    if chosen["channel_last"]:
        x = TensorSpec(x.shape, dtype, (s["d"] * s["l"], 1, s["d"]))
    named: Operands = {"x": x, "weight": TensorSpec((s["d"], s["w"]), "float32")}
    if chosen["bias"]:
        named["bias"] = TensorSpec((s["d"],), "float32")
    return {**named, "activation": "silu" if chosen["silu"] else None}


_PLAIN = {"bias": True, "silu": True, "channel_last": False}


def _convolution_sizes(l: int, w: int = 4) -> dict[str, int]:
    return {"b": 2, "d": 64, "l": l, "w": w}


def _convolutions() -> Iterator[tuple[dict[str, int], str, dict[str, Any]]]:
    for l in (49, 196, 512, 2048, 4096):
        yield _convolution_sizes(l), "float32", _PLAIN
    for w in (2, 3):
        yield _convolution_sizes(2048, w), "float32", _PLAIN
    for change in ({"silu": False}, {"bias": False}, {"silu": False, "bias": False}, {"channel_last": True}):
        yield _convolution_sizes(2048), "float32", {**_PLAIN, **change}
    for change in ({}, {"channel_last": True}):
        yield _convolution_sizes(2048), "bfloat16", {**_PLAIN, **change}


# State-space duality, in Triton


def _ssd_operands(s: Mapping[str, int], dtype: str, chosen: Mapping[str, Any]) -> Operands:
    """x, dt, A, B, C, the chunk size, and those of D, z and dt_bias that are chosen."""
    x = TensorSpec((s["b"], s["l"], s["h"], s["p"]), dtype)
    state = TensorSpec((s["b"], s["l"], s["g"], s["n"]), dtype)
    head = TensorSpec((s["h"],), "float32")
    named: Operands = {"x": x, "dt": TensorSpec(x.shape[:3], dtype), "A": head, "B": state, "C": state}
    named["chunk_size"] = s["q"]
    optional = {"D": head, "z": x, "dt_bias": head}
    named.update({name: spec for name, spec in optional.items() if chosen[name]})
    return {**named, "dt_softplus": chosen["dt_softplus"]}


def _ssd() -> Iterator[tuple[dict[str, int], str, dict[str, Any]]]:
    usual = {"D": True, "z": False, "dt_bias": True, "dt_softplus": True}
    for q, n, g in ((256, 128, 1), (256, 128, 8), (256, 64, 1), (128, 128, 8), (64, 128, 1), (64, 64, 8)):
        yield {"b": 2, "l": 2048, "h": 32, "p": 64, "n": n, "g": g, "q": q}, "bfloat16", usual
    yield {"b": 2, "l": 2048, "h": 32, "p": 64, "n": 128, "g": 1, "q": 256}, "bfloat16", {**usual, "z": True}
    for l in (2000, 4096):
        yield {"b": 2, "l": l, "h": 32, "p": 64, "n": 128, "g": 1, "q": 256}, "bfloat16", usual


# One step of decoding, in Triton: (b d) of Mamba, and (b h d) of Mamba-2, whose dt, A, D and bias are one number a head


def _update_operands(s: Mapping[str, int], dtype: str, chosen: Mapping[str, Any]) -> Operands:
    """The state, x, dt, A, B, C, D, z and dt_bias; one number a head is expanded to its channels and states."""
    b, h, d, n = (s[axis] for axis in "bhdn")
    if not h:
        x, channel = TensorSpec((b, d), dtype), TensorSpec((d,))
        dt, A, per_state = x, TensorSpec((d, n)), TensorSpec((b, n), dtype)
    else:
        x, channel = TensorSpec((b, h, d), dtype), TensorSpec((h, d), strides=(1, 0))
        dt, A = TensorSpec(x.shape, dtype, (h, 1, 0)), TensorSpec((h, d, n), strides=(1, 0, 0))
        per_state = TensorSpec((b, s["g"], n), dtype)
    named: Operands = {"state": TensorSpec((*x.shape, n), dtype), "x": x, "dt": dt, "A": A}
    named.update(B=per_state, C=per_state, D=channel, dt_bias=channel, **({"z": x} if chosen["z"] else {}))
    return {**named, "dt_softplus": True}


def _updates() -> Iterator[tuple[dict[str, int], str, dict[str, Any]]]:
    flat, heads = {"b": 8, "h": 0, "d": 1536, "n": 16, "g": 1}, {"b": 8, "h": 24, "d": 64, "n": 128, "g": 1}
    for z in (False, True):
        yield flat, "float32", {"z": z}
        yield heads, "float32", {"z": z}
    for n in (1, 2, 8, 32, 64, 256):
        yield {**flat, "n": n}, "float32", {"z": False}
    for n in (16, 64, 256):
        yield {**heads, "n": n, "g": 8}, "float32", {"z": False}
    yield {**flat, "d": 100, "n": 12}, "float32", {"z": False}
    for sizes in (flat, heads):
        yield sizes, "bfloat16", {"z": True}


# The gated norm of Mamba-2, in Triton


def _norm_operands(s: Mapping[str, int], dtype: str, chosen: Mapping[str, Any]) -> Operands:
    """x (rows, width), its weight, and the gate z where it is chosen."""
    x = TensorSpec((s["m"], s["n"]), dtype)
    named: Operands = {"x": x, "weight": TensorSpec((s["n"],), "float32")}
    if chosen["z"]:
        named["z"] = x
    return {**named, "norm_before_gate": False, "group_size": s["n"], "is_rms_norm": True}


def _norms() -> Iterator[tuple[dict[str, int], str, dict[str, Any]]]:
    for n in (1536, 2048):
        for z in (False, True):
            yield {"m": 512, "n": n}, "bfloat16", {"z": z}


_OPS = {
    "selective_scan": "flopscan::selective_scan",
    "flopscan_scan": "flopscan::selective_scan",
    "flopscan_cross_scan": "flopscan::cross_selective_scan",
    "causal_conv1d": "flopscan::causal_conv1d",
    "ssd": "flopscan::ssd",
    "selective_state_update": "flopscan::selective_state_update",
    "gated_norm": "flopscan::gated_rms_norm",
}
_RESULT = {"selective_scan": "u", "flopscan_scan": "u"}
_RESULT.update(
    dict.fromkeys(("flopscan_cross_scan", "causal_conv1d", "ssd", "selective_state_update", "gated_norm"), "x")
)
_OPERANDS = {
    "selective_scan": _scan_operands,
    "flopscan_scan": _own_scan_operands,
    "flopscan_cross_scan": _own_cross_operands,
    "causal_conv1d": _convolution_operands,
    "ssd": _ssd_operands,
    "selective_state_update": _update_operands,
    "gated_norm": _norm_operands,
}
_CASES = {
    "selective_scan": _scans,
    "flopscan_scan": _own_scans,
    "flopscan_cross_scan": _own_cross_scans,
    "causal_conv1d": _convolutions,
    "ssd": _ssd,
    "selective_state_update": _updates,
    "gated_norm": _norms,
}
# CUDA, with the pattern of their names; the others are Triton's
COMPILED = {
    "selective_scan": "selective_scan",
    "causal_conv1d": "causal_conv1d",
    "flopscan_scan": "^(scan|rows)_(forward|backward|edges)$",
    "flopscan_cross_scan": "^fused_(forward|backward)$",
}
KERNELS = tuple(_CASES)


def cases(kernel: str) -> list[Case]:
    """Every case of ``kernel``, the forward ones first."""
    directions = ("forward",) if kernel == "selective_state_update" else ("forward", "backward")
    return [Case(kernel, direction, *chosen) for direction in directions for chosen in _CASES[kernel]()]
