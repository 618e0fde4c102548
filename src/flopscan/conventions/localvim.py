"""How LocalMamba counts LocalVim: 5 per (b, d, l, n) and 2 per (b, d, l), added to MACs; projections counted once."""

from flopscan.conventions import _einsum
from flopscan.conventions._scan import CAUSAL_CONVOLUTIONS, per_state, scans
from flopscan.conventions.fvcore import HANDLES
from flopscan.core.convention import Convention

CONVENTION = Convention(
    name="localvim",
    unit="mixed",
    summary="fvcore MACs and norms, scan 5*L*D*N + 2*L*D for each sequence of a batch",
    source="hunto/LocalMamba, its handler of MambaInnerFnNoOutProj; there the batch is dropped, here it is counted",
    handles={
        **HANDLES,
        "torch::einsum": _einsum.macs,
        **CAUSAL_CONVOLUTIONS,
        **scans(per_state(5, always=2)),
    },
    phases=("forward",),
    scan="5bdln + 2bdl",
    used_by="LocalVim of LocalMamba",
)
