"""What the conventions of the field add up for one selective scan, of Mamba or of Mamba-2, and for one step of it."""

from __future__ import annotations

from flopscan.core.convention import Handle
from flopscan.core.trace import Call

OPERATOR = "flopscan::selective_scan"
BACKWARD = "flopscan::selective_scan_backward"
CROSS = "flopscan::cross_selective_scan"  # of an image in four directions, whose channels A and delta have
SSD = "flopscan::ssd"
UPDATE = "flopscan::selective_state_update"
CAUSAL_CONVOLUTION = "flopscan::causal_conv1d"
_DISPATCHED = "DaoAILab::_causal_conv1d_"  # the package's own operators, where they are called without its functions


def sizes(call: Call) -> tuple[int, int, int, int]:
    """b, d, l and n of a scan; a complex state counts once, as A has it."""
    (channels, states), steps = call["A"].shape, call["delta"].shape
    return steps[0], channels, steps[-1], states


def _taps(call: Call) -> int:
    """The multiply-adds of a depthwise convolution on the outputs that it has."""
    return int(call["x"].numel * call["weight"].shape[-1])


def _nothing(call: Call) -> int:
    return 0


CAUSAL_CONVOLUTIONS: dict[str, Handle] = dict.fromkeys(
    (CAUSAL_CONVOLUTION, f"{CAUSAL_CONVOLUTION}_update", f"{_DISPATCHED}fwd_cpp", f"{_DISPATCHED}update_cpp"), _taps
)
NO_CAUSAL_CONVOLUTIONS: dict[str, Handle] = dict.fromkeys(
    (*CAUSAL_CONVOLUTIONS, f"{CAUSAL_CONVOLUTION}_backward", f"{_DISPATCHED}bwd_cpp"), _nothing
)


def per_state(halves_or_ones: float, *, skip: int = 0, gate: int = 0, always: int = 0) -> Handle:
    """A handle: so many per (b, d, l, n); per (b, d, l) ``skip`` where D is given, ``gate`` where z is, ``always``."""
    doubled = round(2 * halves_or_ones)

    def count(call: Call) -> int:
        b, d, l, n = sizes(call)
        steps = always + skip * (call.get("D") is not None) + gate * (call.get("z") is not None)
        return (doubled * b * d * l * n) // 2 + steps * b * d * l

    return count


def scans(forward: Handle, backward: Handle | None = None) -> dict[str, Handle]:
    """The handles of a scan and of its gradient, whether it is of sequences or of an image."""
    found = {OPERATOR: forward, CROSS: forward}
    return found if backward is None else {**found, BACKWARD: backward, f"{CROSS}_backward": backward}


def every_scan(factor: int) -> dict[str, Handle]:
    """The handles of a convention with ``factor`` per token, inner channel and state of any scan, twice that backward.

    The channels are those that the scan has: of Mamba-2 its heads times their channels. A decoding step is one token.
    """
    return {
        **scans(per_state(factor), per_state(2 * factor)),
        SSD: lambda call: factor * call["x"].numel * call["B"].shape[-1],
        f"{SSD}_backward": lambda call: 2 * factor * call["x"].numel * call["B"].shape[-1],
        UPDATE: lambda call: factor * call["x"].numel * call["state"].shape[-1],
    }
