"""NeMo 2's count of a Mamba layer: 2 per token, channel and state, since "the chunk size is not known"."""

from flopscan.conventions._scan import BACKWARD, OPERATOR, per_state
from flopscan.core.convention import Convention

CONVENTION = Convention(
    name="nemo",
    unit="FLOP",
    summary="2 per multiply-add, 2 per (b,d,l,n) of a scan (4 backward)",
    source="NVIDIA/NeMo 2.x, nemo/utils/flops_formulas.py (removed in 3.0)",
    weights={"fma": 2},
    handles={OPERATOR: per_state(2), BACKWARD: per_state(4)},
    scan="2bdln",
)
