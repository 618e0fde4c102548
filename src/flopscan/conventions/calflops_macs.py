"""The multiply-adds that calflops 0.3.2 gives beside its FLOPs: of linear layers, convolutions, matmul and addmm.

Facts from calflops/pytorch_ops.py (MIT): an einsum and a recurrent module have none.
"""

from flopscan.conventions import _patched
from flopscan.conventions._written_out import WRITTEN_OUT
from flopscan.conventions.calflops import SETTLE, SHARED, SOURCE, THEIRS, WRONG
from flopscan.core.convention import Bug, Convention

CONVENTION = Convention(
    name="calflops-macs",
    unit="MAC",
    summary="multiply-adds of linear layers, convolutions, matmul and addmm; none of attention, @, bmm and einsum",
    source=SOURCE,
    version="0.3.2",
    handles=_patched.macs(THEIRS),
    phases=("forward",),
    written_out=WRITTEN_OUT,
    settle=SETTLE,
    bugs=(
        *(Bug(key, name, source, _patched.macs(right)) for key, name, source, right in WRONG),
        SHARED,
        Bug(
            "recurrent",
            "recurrent modules have no multiply-adds",
            f"{SOURCE}, _rnn_forward_hook",
            _patched.macs(_patched.RECURRENT),
        ),
    ),
)
