"""How the VMamba repository counted until 2024-02-01 (and the VM-UNet copies still do): 3.5 per (b, d, l, n).

Its multiplications are halved (an einsum of two factors without a sum is half a MAC), the exponential is not counted.
These are the totals of the paper's first version: 4.5, 9.1 and 15.2 G for the v0 forms.
"""

from flopscan.conventions import _einsum
from flopscan.conventions._scan import CAUSAL_CONVOLUTIONS, per_state, scans
from flopscan.conventions.fvcore import HANDLES
from flopscan.core.convention import Convention

CONVENTION = Convention(
    name="vmamba-v0",
    unit="mixed",
    summary="fvcore MACs and norms, scan 3.5*B*L*D*N + B*D*L with its multiplications halved",
    source="MzeroMiko/VMamba before commit c22bd98, flops_selective_scan_ref; einsum counted exactly",
    handles={
        **HANDLES,
        "torch::einsum": _einsum.macs,
        **CAUSAL_CONVOLUTIONS,
        **scans(per_state(3.5, skip=1)),
    },
    phases=("forward",),
    scan="3.5bdln + bdl for D",
    used_by=(
        "VMamba's first paper (4.5, 9.1, 15.2 G) and its detectors and segmenters of then (262, 357, 482, 939 "
        "G); VM-UNet"
    ),
)
