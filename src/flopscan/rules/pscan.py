"""The first-order recurrence h = A h + X, element by element over a sequence, as a scan that runs in parallel.

Forms: (b l d n), as mambapy has it, and (b d l), as accelerated-scan. The ideal is one step after the other; what a
tree of pairs executes depends on the package, which the operand ``algorithm`` names:

* mambapy (Blelloch on the length padded to a power of two, in torch: products and sums apart) and accelerated-scan's
  ``ref`` (the same, down to one root) are counted operation by operation;
* accelerated-scan's ``scalar`` and ``complex`` pad to blocks of 2048 that Triton scans, its ``warp`` scans in registers
  and then over the warps of a block: how many combinations that takes is up to the compiler, so the recurrence stands
  for them.

Where A is complex so are the states; the gradient of A is g conj(h). Source: mambapy 1.2.0 `pscan.py`; accelerated-scan
0.3.1 `ref.py`, `scalar.py`, `complex.py` and `warp.cuh`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flopscan.core.cost import Cost
from flopscan.core.seam import Operands, Outputs, Seam
from flopscan.core.tally import Array, Pair, complex_fma, fma
from flopscan.core.trace import TensorSpec
from flopscan.rules import rule, seam

CONTRACT = "A: b l d n | b d l, X: b l d n | b d l"
_FORWARD = "flopscan::pscan"
_BACKWARD = "flopscan::pscan_backward"


def _sequences(shape: tuple[int, ...]) -> list[list[int]]:
    """The positions of each sequence in the data of an array of this shape, first to last."""
    if len(shape) == 3:
        return [list(range(i, i + shape[2])) for i in range(0, shape[0] * shape[1] * shape[2], shape[2])]
    b, l, d, n = shape
    step = d * n
    return [list(range(i * l * step + c, (i + 1) * l * step, step)) for i in range(b) for c in range(step)]


def recurrence(A: Array, X: Array) -> Array:
    """The definition, from a state of zero."""
    out = Array(X.shape, X.data)
    for positions in _sequences(X.shape):
        h: Any = _nothing(A)
        for p in positions:
            h = out.data[p] = _step(A.data[p], h, X.data[p])
    return out


def _nothing(A: Array) -> Any:
    return Pair(0.0, 0.0) if isinstance(A.data[0], Pair) else 0.0


def _step(a: Any, h: Any, x: Any) -> Any:
    """a h + x, of complex numbers where a is one."""
    return complex_fma(a, h, Pair.of(x)) if isinstance(a, Pair) else fma(a, h, x)


def _conj(x: Any) -> Any:
    return Pair(x.re, -x.im) if isinstance(x, Pair) else x


def recurrence_backward(grad: Array, A: Array, H: Array) -> tuple[Array, Array]:
    """The gradients of A and X, from the states H that the forward returned."""
    dA, dX = (Array(A.shape, A.data) for _ in range(2))
    for positions in _sequences(A.shape):
        g, factor = _nothing(A), _nothing(A)  # the factor is that of the step after
        before = [_nothing(A), *(H.data[p] for p in positions[:-1])]
        for p, h in zip(reversed(positions), reversed(before), strict=True):
            g = dX.data[p] = _step(factor, g, grad.data[p])
            factor = _conj(A.data[p])
            dA.data[p] = g * _conj(h)
    return dA, dX


def _pairs(b: Any, l: int, d: Any, n: Any, algorithm: str | None, backward: bool) -> Cost | None:
    """What the two trees of pairs execute, per (b,d,n), on the length padded to p = 2^m; None where it is not known.

    A combination is 2 mul and an add. mambapy: p - 4 pairs up, 4 mul and 3 add among the last four nodes, a pair, and
    p - m - 2 pairs down: 4p - 2m - 6 mul and 2p - m - 2 add. Its gradient is that in reverse, and p - 1 mul and add.
    ``ref``: p - 1 pairs up and down, and p mul and add. torch's autograd gives its gradient, in operators of its own.
    """
    m = max(l - 1, 0).bit_length()
    p = 2**m
    if algorithm == "mambapy":
        tree = Cost(mul=4 * p - 2 * m - 6, add=2 * p - m - 2) if m > 1 else Cost(mul=m, add=m)
        return (tree + (Cost(mul=p - 1, add=p - 1) if backward else Cost())) * (b * d * n)
    if algorithm == "ref" and not backward:
        return Cost(mul=5 * p - 4, add=3 * p - 2) * (b * d * n)
    return None


def _executed(b: Any, l: Any, d: Any, n: Any = 1, algorithm: str | None = None) -> Cost:
    return _pairs(b, l, d, n, algorithm, backward=False) or pscan(b, l, d, n)


def _executed_backward(b: Any, l: Any, d: Any, n: Any = 1, algorithm: str | None = None) -> Cost:
    return _pairs(b, l, d, n, algorithm, backward=True) or pscan_backward(b, l, d, n)


def _four_fold(cost: Cost) -> Cost:
    """Of complex numbers: a multiply-add is four, a product 4 mul and 2 add, a sum two."""
    return replace(cost, fma=4 * cost.fma, mul=4 * cost.mul, add=2 * (cost.add + cost.mul))


@rule(_FORWARD, contract=CONTRACT, executed=_executed, reference=recurrence, complex=_four_fold)
def pscan(b: Any, l: Any, d: Any, n: Any = 1) -> Cost:
    """One multiply-add an element; the first step starts from a state of zero as the others from theirs."""
    return Cost(fma=b * l * d * n)


@rule(
    _BACKWARD, contract=f"grad: b l d n | b d l, {CONTRACT}",
    executed=_executed_backward, reference=recurrence_backward, complex=_four_fold,
)  # fmt: skip
def pscan_backward(b: Any, l: Any, d: Any, n: Any = 1) -> Cost:
    """One multiply-add an element, g = A g + grad in reverse, and one mul, the gradient g h of A.

    The states h are the forward's result, kept; X, which has their size, stands for them in the bytes.
    """
    return Cost(fma=b * l * d * n, mul=b * l * d * n)


def _mambapy(bound: Operands) -> Operands:
    return {"A": bound["A_in"], "X": bound["X_in"], "algorithm": "mambapy"}


def _states(bound: Operands) -> Outputs:
    """A tensor like X, or, where the length is not a power of two, a slice of a padded one."""
    X = bound["X_in"]
    b, l, d, n = X.shape
    p = 2 ** max(l - 1, 0).bit_length()
    strides = X.strides if p == l else (p * d * n, d * n, n, 1) if b > 1 else None
    return TensorSpec(X.shape, X.dtype, strides)


def _accelerated(bound: Operands) -> Operands:
    """Gates and tokens are A and X; another ring than real numbers has no formula."""
    if any(bound.get(name) is not None for name in ("mul", "add")):
        raise ValueError("a scan with operations of its own has no formula")
    algorithm = {"algorithm": "ref"} if "mul" in bound else {}
    return {"A": bound.get("gates") or bound["forget"], "X": _tokens(bound), **algorithm}


def _tokens(bound: Operands) -> TensorSpec:
    return bound.get("tokens") or bound["inputs"]


def _like_tokens(bound: Operands) -> Outputs:
    gates = bound.get("gates") or bound["forget"]
    return TensorSpec(_tokens(bound).shape, gates.dtype if gates.is_complex else _tokens(bound).dtype)


for _name in ("pscan", "PScan"):
    seam(Seam(f"mambapy.pscan:{_name}", _FORWARD, "A_in, X_in", _states, backward=_BACKWARD, operands=_mambapy))
_REF = "gates, tokens, mul=None, add=None, zeros_like=None, ones_like=None, reverse=False"
for _path, _signature in (
    ("warp:scan", "gates, tokens"), ("warp:Scan", "gates, tokens"),
    ("scalar:scan", "forget, inputs"), ("scalar:Scan", "forget, inputs"),
    ("complex:scan", "forget, inputs"), ("complex:Scan", "forget, inputs"),
    ("ref:scan", _REF),
):  # fmt: skip
    seam(
        Seam(
            f"accelerated_scan.{_path}",
            _FORWARD,
            _signature,
            _like_tokens,
            backward=_BACKWARD,
            operands=_accelerated,
        )
    )
