"""The Mamba authors' count: 9 per (b, d, l, n) of a scan, on top of 2 per multiply-add of everything else.

1 for B*x, 2 for C*h, and 2 associative operations of 3 for a work-efficient parallel scan; delta*A, its exponential,
softplus, D and z are left out. "Triple that for forward + backward", so backward is 18.
"""

from flopscan.conventions._scan import per_state, scans
from flopscan.core.convention import Convention

CONVENTION = Convention(
    name="gu",
    unit="FLOP",
    summary="2 per multiply-add, and 9 per (b,d,l,n) of a scan (18 backward), nothing else",
    source="A. Gu in state-spaces/mamba issue 110",
    weights={"fma": 2},
    handles=scans(per_state(9), per_state(18)),
    scan="9bdln",
    used_by=("Mamba's authors, on top of 2 * parameters * tokens; its 9 is the scan in VMamba and those after it"),
)
