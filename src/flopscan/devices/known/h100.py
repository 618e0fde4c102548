"""NVIDIA Hopper: H100 and H200."""

from __future__ import annotations

from flopscan.devices.device import Device, Figure, Source
from flopscan.devices.known._figures import READ, gigabytes, gigabytes_a_second, special_functions, tera

_WHITEPAPER = Source(
    "https://resources.nvidia.com/en-us-tensor-core/gtc22-whitepaper-hopper", READ,
    "https://glennklockwood.com/garden/processors/h100",
)  # fmt: skip
_DATASHEET = Source(
    "https://www.nvidia.com/en-us/data-center/h100/", READ,
    "https://github.com/stas00/ml-engineering/blob/master/compute/accelerator/README.md",
)  # fmt: skip
_H200 = Source("https://aiwiki.ai/wiki/nvidia_h200", READ)
_PCIE_BRIEF = Source(
    "NVIDIA H100 PCIe GPU, product brief PB-11133-001_v02, which says more than 2,000 GB/s", READ,
    "https://manuals.plus/m/d4b5dc21484df3ba8fbe84918338461cc074a3fcebcc13423eadc2b10ac3bda4",
)  # fmt: skip
_PCIE = Source("https://cputronic.com/de/gpu/nvidia-h100-pcie", READ)
_PRELIMINARY = Source(
    "https://developer.nvidia.com/blog/nvidia-hopper-architecture-in-depth/", READ, "a transcription of it"
)
_MEASURED = Source("measured on one H100 80GB HBM3, CUDA 13.0, torch 2.11.0+cu130, median of Triton's do_bench", READ)

_MATRIX = tera(_WHITEPAPER, fp64=66.9, tf32=494.7, fp16=989.4, bf16=989.4, fp8=1978.9, int8=1978.9)
_VECTOR = tera(_WHITEPAPER, fp64=33.5, fp32=66.9, fp16=133.8, bf16=133.8)
_SPECIAL = special_functions(132, 1.98)

DEVICES = (
    Device(
        "h100-sxm",
        "NVIDIA H100 SXM5 80 GB",
        "gpu",
        gigabytes(80, _WHITEPAPER),
        gigabytes_a_second(3350, _DATASHEET),
        _MATRIX,
        _VECTOR,
        _SPECIAL,
        {"copy": Figure(3.00e12, _MEASURED, "bytes read and written by a copy from device to device")},
    ),
    Device(
        "h100-pcie",
        "NVIDIA H100 PCIe 80 GB",
        "gpu",
        gigabytes(80, _PCIE),
        gigabytes_a_second(2039, _PCIE_BRIEF, "5 stacks x 1024 bits x 2 x 1593 MHz"),
        tera(_DATASHEET, tf32=378, fp16=756, bf16=756, fp8=1513, int8=1513)
        | tera(_PRELIMINARY, "as the vector units' float32", fp64=51),
        tera(_PCIE, "14592 x 1.755 GHz x 2", fp32=51.22)
        | tera(_PCIE, "half of float32", fp64=25.61)
        | tera(_PRELIMINARY, "twice float32", fp16=102, bf16=102),
        special_functions(114, 1.755),
    ),
    Device(
        "h200",
        "NVIDIA H200 SXM 141 GB",
        "gpu",
        gigabytes(141, _H200),
        gigabytes_a_second(4800, _H200),
        _MATRIX,
        _VECTOR,
        _SPECIAL,
        notes=("the chip of the H100 SXM with other memory: the rates are that one's",),
    ),
)
