"""What a dispatcher sees of a kernel that is written out in torch: its products, and nothing else.

This is torch's FlopCounterMode on the slow path: 2 per multiply-add of products, convolutions and attention (causal
masks ignored). Elementwise work counts zero, recurrences among it, and so do triangular solves. The slow paths:

* a selective scan, a loop: its read-out y = C h as a product; none where an einsum over one state multiplies instead;
* transformers' Mamba-2 (`mamba2_chunk_scan`): five einsums, the scores and all else a head and not a group, chunks as
  squares, the last one padded, and each chunk's state from every chunk before and after it: quadratic in chunks;
* its `causal_conv1d_fn`: w - 1 positions more than there are outputs, which are cut off; with states before the start
  (`causal_conv1d_update`) every position of states and steps that the filter fits;
* its decoding steps: the read-out, a product;
* its gated delta rule and KDA: the products of the chunk form; KDA's scores are elementwise, and so is all of it step
  by step. Backward each product gives two, but none for a state of zeros that nothing made or that nothing reads, and
  the triangular solves of the gated delta rule give one each.

A grouped convolution's gradients are counted right here: torch's own formula takes the weight's once for each group.
"""

from __future__ import annotations

from flopscan.conventions import _products
from flopscan.conventions._scan import SSD, UPDATE, scans, sizes
from flopscan.core.convention import Convention, Handle
from flopscan.core.trace import Call


def _scan(call: Call) -> int:
    """2 per (b, d, l, n) for y = C h by a batched product; 0 for a single state."""
    b, d, l, n = sizes(call)
    return 2 * b * d * l * n if n > 1 else 0


def _ssd(call: Call) -> int:
    """2 per multiply-add of five einsums over c chunks of q steps; one over an axis of size 1 is no product.

    C B^T and the read-out of states are sums over n; scores times x and the states of chunks are sums over q; states
    at the c + 1 boundaries are sums over those c + 1.
    """
    b, l, h, p = call["x"].shape
    n, q = call["B"].shape[-1], call["chunk_size"]
    c = -(-l // q)
    over_states = c * q * n * (q + p) if n > 1 else 0
    over_steps = c * q * p * (q + n) if q > 1 else 0
    return 2 * b * h * (over_states + over_steps + (c + 1) ** 2 * p * n)


def _update(call: Call) -> int:
    """2 per state that is read out."""
    return 2 * call["x"].numel * call["state"].shape[-1]


def _causal_convolution(call: Call) -> int:
    """2 per multiply-add of a convolution padded by w - 1 on both sides, or of the states and steps as they are."""
    (b, d, l), w = call["x"].shape, call["weight"].shape[-1]
    before = call.get("initial_states")
    positions = l + w - 1 if before is None else l + before.shape[-1] - w + 1
    return 2 * b * d * positions * w


def _delta_rule(scores: int) -> Handle:
    """The products of the chunk form: in each chunk ``scores`` of c by k by c, the rest of three of c by v by c."""

    def count(call: Call) -> int:
        c = call.get("chunk_size")
        if c is None:
            return 0
        (b, l, h, v), k = call["value"].shape, call["query"].shape[-1]
        within = c * c * (scores * k + (3 - scores) * v)
        return 2 * b * h * -(-l // c) * (within + 3 * c * k * v)

    return count


def _delta_rule_backward(scores: int) -> Handle:
    """Twice the forward, with a product for each of two triangular solves; less what has no gradient.

    The state before the first chunk has one where it is given; what the last chunk hands on has none.
    """

    def count(call: Call) -> int:
        c = call.get("chunk_size")
        if c is None:
            return 0
        (b, l, h, v), k = call["value"].shape, call["query"].shape[-1]
        solves = -(-l // c) * c * c * (k + v) if scores == 2 else 0
        ends = (2 if call.get("initial_state") is not None else 4) * c * k * v
        return 2 * _delta_rule(scores)(call) + 2 * b * h * (solves - ends)

    return count


def _nothing(call: Call) -> int:
    return 0


CONVENTION = Convention(
    name="dispatcher",
    unit="FLOP",
    summary="2 per multiply-add of products, convolutions and dense attention; of kernels what their slow path shows",
    source="torch.utils.flop_counter.FlopCounterMode 2.13 on kernels in plain PyTorch, transformers 5.23",
    weights={"fma": 2},
    handles={
        **scans(_scan, lambda call: 2 * _scan(call)),
        SSD: _ssd,
        f"{SSD}_backward": lambda call: 2 * _ssd(call),
        UPDATE: _update,
        "flopscan::causal_conv1d": _causal_convolution,
        "flopscan::causal_conv1d_backward": lambda call: 2 * _causal_convolution(call),
        "flopscan::gated_delta_rule": _delta_rule(2),
        "flopscan::gated_delta_rule_backward": _delta_rule_backward(2),
        "flopscan::kda": _delta_rule(1),
        "flopscan::kda_backward": _delta_rule_backward(1),
        "flopscan::pscan": _nothing,
        "flopscan::pscan_backward": _nothing,
        **_products.scaled(2, {_products.ATTENTION: _products.attention}),
    },
    scan="2bdln, 0 where n is 1",
    used_by="FlopCounterMode, and what is built on it, on the state-space models of transformers",
    ssd="2bh(cqn(q + p) + cqp(q + n) + (c + 1)^2 pn), c chunks of q",
)
