"""NVIDIA GeForce: RTX 3090, 4090 and 5090, whose matrix units sum in float32 at half the rate of summing in float16.

What stands here is the rate with float32 sums, which is what torch asks for.
"""

from __future__ import annotations

from flopscan.devices.device import Device, Source
from flopscan.devices.known._figures import READ, gigabytes, gigabytes_a_second, special_functions, tera

_SUMS = "with float32 sums"
_TRANSCRIBED = "transcriptions of its table in public repositories"
_AMPERE = Source(
    "https://images.nvidia.com/aem-dam/en-zz/Solutions/geforce/ampere/pdf/"
    "NVIDIA-ampere-GA102-GPU-Architecture-Whitepaper-V1.pdf", READ, _TRANSCRIBED,
)  # fmt: skip
_ADA = Source("NVIDIA Ada GPU Architecture, whitepaper, version 2.1, appendix A", READ, _TRANSCRIBED)
_ADA_RATES = Source("https://waredb.com/processor/nvidia-geforce-rtx-4090", READ)
_BLACKWELL = Source("NVIDIA RTX Blackwell GPU Architecture, whitepaper", READ, _TRANSCRIBED)
_RATIOS = Source("https://github.com/philipturner/metal-benchmarks", READ)

DEVICES = (
    Device(
        "rtx-3090",
        "NVIDIA GeForce RTX 3090 24 GB",
        "gpu",
        gigabytes(24, _AMPERE),
        gigabytes_a_second(936.2, _AMPERE),
        tera(_AMPERE, _SUMS, fp16=71, bf16=71) | tera(_AMPERE, "not found", tf32=None, int8=None),
        tera(_AMPERE, fp32=35.6)
        | tera(_RATIOS, "as float32: 256 operations a clock each", fp16=35.6)
        | tera(_RATIOS, "1/64 of float32", fp64=0.556)
        | tera(_RATIOS, "not given", bf16=None),
        special_functions(82, 1.695, _RATIOS),
    ),
    Device(
        "rtx-4090",
        "NVIDIA GeForce RTX 4090 24 GB",
        "gpu",
        gigabytes(24, _ADA),
        gigabytes_a_second(1008, _ADA),
        tera(_ADA, _SUMS, fp16=165.2, bf16=165.2, fp8=330.3) | tera(_ADA, int8=660.6) | tera(_ADA_RATES, tf32=82.6),
        tera(_ADA, fp32=82.6) | tera(_ADA_RATES, fp64=1.29, fp16=82.6, bf16=82.6),
        special_functions(128, 2.52, _RATIOS),
    ),
    Device(
        "rtx-5090",
        "NVIDIA GeForce RTX 5090 32 GB",
        "gpu",
        gigabytes(32, _BLACKWELL),
        gigabytes_a_second(1792, _BLACKWELL),
        tera(_BLACKWELL, _SUMS, fp16=209.5, bf16=209.5, fp8=419)
        | tera(_BLACKWELL, int8=838)
        | tera(_BLACKWELL, "not found", tf32=None),
        tera(_BLACKWELL, fp32=104.8) | tera(_BLACKWELL, "not found", fp64=None, fp16=None, bf16=None),
        notes=("how many exponentials a second it gives was not found: no bound by special functions is made",),
    ),
)
