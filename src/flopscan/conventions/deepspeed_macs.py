"""The multiply-adds that DeepSpeed 0.19.8's FLOPS profiler gives beside its FLOPs.

Facts from deepspeed/profiling/flops_profiler/profiler.py (Apache-2.0): an einsum and a recurrent module have none.
"""

from flopscan.conventions import _patched
from flopscan.conventions._frames import HELD, without_held
from flopscan.conventions._written_out import WRITTEN_OUT
from flopscan.conventions.deepspeed import SOURCE, THEIRS, WRONG
from flopscan.core.convention import Bug, Convention

CONVENTION = Convention(
    name="deepspeed-macs",
    unit="MAC",
    summary="multiply-adds of products, convolutions and attention as DeepSpeed patches them; none of einsum and LSTM",
    source=SOURCE,
    version="0.19.8",
    handles=_patched.macs(THEIRS),
    phases=("forward",),
    written_out=WRITTEN_OUT,
    settle={HELD: without_held},
    bugs=(
        *(Bug(key, name, f"{SOURCE}, {where}", _patched.macs(right)) for key, name, where, right in WRONG),
        Bug(
            "recurrent",
            "recurrent modules have no multiply-adds",
            f"{SOURCE}, _rnn_forward_hook",
            _patched.macs(_patched.RECURRENT),
        ),
    ),
)
