"""NVIDIA Blackwell for data centers: B200."""

from __future__ import annotations

from flopscan.devices.device import Device, Source
from flopscan.devices.known._figures import READ, gigabytes, gigabytes_a_second, special_functions, tera

_BRIEF = Source("https://glennklockwood.com/garden/processors/B200", READ)
_TF32 = Source("https://github.com/stas00/ml-engineering/blob/master/compute/accelerator/README.md", READ)
_SOLD = Source("https://www.emergentmind.com/topics/amd-mi300x-gpu", READ)
_EXPONENTIALS = Source("https://arxiv.org/abs/2603.05451", READ)

DEVICES = (
    Device(
        "b200",
        "NVIDIA B200 SXM 180 GB (HGX, 1000 W)",
        "gpu",
        gigabytes(180, _SOLD),
        gigabytes_a_second(8000, _BRIEF),
        tera(_BRIEF, fp64=40, fp16=2250, bf16=2250, fp8=4500, int8=4500)
        | tera(_TF32, "the other source gives 1100", tf32=1125),
        tera(_BRIEF, fp64=40, fp32=80) | tera(_BRIEF, "not published", fp16=None, bf16=None),
        special_functions(148, 2.12, _EXPONENTIALS),
        notes=("the clock of the special functions is the one that 80 TFLOP/s of float32 need: 80e12 / (148 x 256)",),
    ),
)
