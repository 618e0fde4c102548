"""NVIDIA Ada for data centers: L4 and L40S, whose matrix units sum in float32 at full rate."""

from __future__ import annotations

from flopscan.devices.device import Device, Source
from flopscan.devices.known._figures import READ, gigabytes, gigabytes_a_second, special_functions, tera

_HALVED = "half of what is given with sparsity"
_L4 = Source(
    "https://cloud.google.com/compute/docs/gpus", READ,
    "https://huggingface.co/spaces/Elfsong/gcp_allocator/blob/main/app.py",
)  # fmt: skip
_L4_BOARD = Source("https://fpsbench.com/compare/gpu/nvidia-l4-vs-nvidia-tesla-m40", READ)
_L4_SHEET = Source(
    "https://resources.nvidia.com/en-us-gpu-resources/l4-tensor-datasheet", READ,
    "torch/_inductor/analysis/device_info.py of torch 2.13",
)  # fmt: skip
_L40S = Source("https://www.mullet.se/product.html?product_id=355414", READ)
_L40S_BOARD = Source("https://www.itcreations.com/nvidia-gpu/nvidia-l40s-gpu-accelerator", READ)

DEVICES = (
    Device(
        "l4",
        "NVIDIA L4 24 GB",
        "gpu",
        gigabytes(24, _L4),
        gigabytes_a_second(300, _L4),
        tera(_L4_SHEET, _HALVED, tf32=60, fp16=121, bf16=121, fp8=242.5, int8=242.5),
        tera(_L4, fp64=0.5, fp32=30.3) | tera(_L4_BOARD, fp16=30.3) | tera(_L4_BOARD, "not given", bf16=None),
        special_functions(58, 2.04),
    ),
    Device(
        "l40s",
        "NVIDIA L40S 48 GB",
        "gpu",
        gigabytes(48, _L40S),
        gigabytes_a_second(864, _L40S),
        tera(_L40S, _HALVED + "; the dense figure beside it, 362.05, is smaller", fp16=366.5, bf16=366.5)
        | tera(_L40S, tf32=183, fp8=733)
        | tera(
            Source("https://github.com/stas00/ml-engineering/blob/master/compute/accelerator/README.md", READ), int8=733
        ),
        tera(_L40S, fp32=91.6) | tera(_L40S_BOARD, fp64=1.431, fp16=91.61) | tera(_L40S_BOARD, "not given", bf16=None),
        special_functions(142, 2.52),
    ),
)
