"""How the VMamba repository counts: fvcore's numbers, and 9 per (b, d, l, n) plus 1 per (b, d, l) for a scan.

Facts from MzeroMiko/VMamba (MIT), `VSSM.flops` and `flops_selective_scan_fn`. The unit is mixed: MACs of products,
FLOPs of norms and scans. Published digits of the v0 models are a little off these exact sums, because numpy prints the
count of an einsum with four digits (VMamba-T v0: 5.62689504 G published, 5,626,902,528 exactly).
"""

from __future__ import annotations

from flopscan.conventions.fvcore import HANDLES, einsum_macs
from flopscan.core.convention import Convention
from flopscan.core.trace import Call


def _scan(call: Call) -> int:
    """9*B*L*D*N, plus B*D*L where D is given, plus B*D*L where z is."""
    batch, channels, length = call["u"].shape
    state = call["A"].shape[-1]
    skips = (call.get("D") is not None) + (call.get("z") is not None)
    return int(batch * channels * length * (9 * state + skips))


CONVENTION = Convention(
    name="vmamba",
    unit="mixed",
    summary="fvcore MACs, layer norm 5 and pooling 1 an element, scan 9*B*L*D*N + B*D*L FLOPs: MACs and FLOPs mixed",
    source="MzeroMiko/VMamba, classification/models/vmamba.py; einsum counted exactly, not with numpy's four digits",
    handles={**HANDLES, "torch::einsum": einsum_macs, "flopscan::selective_scan": _scan},
    phases=("forward",),
)
