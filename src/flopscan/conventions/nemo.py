"""NeMo 2's count of a Mamba layer: 2 per token, channel and state, since "the chunk size is not known".

Its formula multiplies tokens * d_in * state with d_in = heads * channels, applied to Mamba-2, and leaves out the
depthwise convolution; backward is twice forward. It is for training: a decoding step is counted as a token.
"""

from flopscan.conventions._scan import every_scan
from flopscan.conventions.megatron import WITHOUT_DEPTHWISE
from flopscan.core.convention import Convention

CONVENTION = Convention(
    name="nemo",
    version="2.x",
    unit="FLOP",
    summary="2 per multiply-add, 2 per (b,d,l,n) of a scan (4 backward), depthwise convolutions left out",
    source="NVIDIA/NeMo 2.x, nemo/utils/flops_formulas.py, _mamba_layer_flops (removed in 3.0)",
    weights={"fma": 2},
    handles={**every_scan(2), **WITHOUT_DEPTHWISE},
    scan="2bdln",
    used_by="NeMo 2 and NeMo RL: throughput of hybrid language models",
    ssd="2bdln",
)
