"""NVIDIA Ampere for data centers: A100, whose boards differ in memory alone."""

from __future__ import annotations

from flopscan.devices.device import Device, Figure, Source
from flopscan.devices.known._figures import READ, gigabytes, gigabytes_a_second, special_functions, tera

_QUOTED = "https://glennklockwood.com/garden/processors/A100"
_DATASHEET = Source(
    "https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/"
    "nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf", READ, _QUOTED,
)  # fmt: skip
_WHITEPAPER = Source(
    "https://images.nvidia.com/aem-dam/en-zz/Solutions/data-center/nvidia-ampere-architecture-whitepaper.pdf", READ,
    "a transcription of its table of data center GPUs",
)  # fmt: skip
_ANNOUNCED = Source("https://www.svethardware.cz/nvidia-predstavila-akcelerator-a100-s-80-gb-rychle-pameti/55366", READ)


def _a100(name: str, title: str, memory: float, bandwidth: Figure) -> Device:
    return Device(
        name,
        title,
        "gpu",
        gigabytes(memory, _DATASHEET),
        bandwidth,
        tera(_DATASHEET, fp64=19.5, tf32=156, fp16=312, bf16=312, int8=624),
        tera(_WHITEPAPER, fp64=9.7, fp32=19.5, fp16=78, bf16=39),
        special_functions(108, 1.41),
    )


DEVICES = (
    _a100("a100-40gb-sxm", "NVIDIA A100 SXM4 40 GB", 40, gigabytes_a_second(1555, _DATASHEET)),
    _a100("a100-40gb-pcie", "NVIDIA A100 PCIe 40 GB", 40, gigabytes_a_second(1555, _DATASHEET)),
    _a100("a100-80gb-sxm", "NVIDIA A100 SXM4 80 GB", 80, gigabytes_a_second(2039, _DATASHEET)),
    _a100(
        "a100-80gb-pcie",
        "NVIDIA A100 PCIe 80 GB",
        80,
        gigabytes_a_second(2039, _ANNOUNCED, "as announced; boards sold later are said to have 5 % less"),
    ),
)
