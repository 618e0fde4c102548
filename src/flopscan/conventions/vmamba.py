"""How the VMamba repository counts: fvcore's numbers, and 9 per (b, d, l, n) plus 1 per (b, d, l) for a scan.

Facts from MzeroMiko/VMamba (MIT), `VSSM.flops` and `flops_selective_scan_fn`. The unit is mixed: MACs of products,
FLOPs of norms and scans. Published digits of the v0 models are a little off these exact sums, because numpy prints the
count of an einsum with four digits (VMamba-T v0: 5.62689504 G published, 5,626,902,528 exactly).
"""

from __future__ import annotations

from flopscan.conventions import _einsum
from flopscan.conventions._scan import CAUSAL_CONVOLUTIONS, per_state, scans
from flopscan.conventions.fvcore import HANDLES
from flopscan.core.convention import Convention

CONVENTION = Convention(
    name="vmamba",
    unit="mixed",
    summary="fvcore MACs, layer norm 5 and pooling 1 an element, scan 9*B*L*D*N + B*D*L FLOPs: MACs and FLOPs mixed",
    source="MzeroMiko/VMamba, classification/models/vmamba.py; einsum counted exactly, not with numpy's four digits",
    handles={
        **HANDLES,
        "torch::einsum": _einsum.macs,
        **CAUSAL_CONVOLUTIONS,
        **scans(per_state(9, skip=1, gate=1)),
        "flopscan::selective_scan_states": per_state(7),  # Spatial-Mamba's copy of the function, without C
    },
    phases=("forward",),
    scan="9bdln + bdl for D + bdl for z",
    used_by=(
        "VMamba since 2024-02 (5.6, 11.2, 18.0 G; 4.9, 8.7, 15.4 G) and its copies: MSVMamba, "
        "EfficientVMamba, LocalVMamba, PlainMamba, MobileMamba, Sigma, MambaCD, MambaIR, Swin-UMamba, zigma"
    ),
)
