"""AMD CDNA 3: Instinct MI300X."""

from __future__ import annotations

from flopscan.devices.device import Device, Source
from flopscan.devices.known._figures import READ, gigabytes, gigabytes_a_second, tera

_DATASHEET = Source(
    "https://www.amd.com/content/dam/amd/en/documents/instinct-tech-docs/data-sheets/amd-instinct-mi300x-data-sheet.pdf",
    READ, "torch/_inductor/analysis/device_info.py of torch 2.13",
)  # fmt: skip

DEVICES = (
    Device(
        "mi300x",
        "AMD Instinct MI300X 192 GB",
        "gpu",
        gigabytes(192, _DATASHEET),
        gigabytes_a_second(5300, _DATASHEET),
        tera(_DATASHEET, fp64=163.4, fp32=163.4, tf32=653.7, fp16=1307.4, bf16=1307.4, fp8=2614.9, int8=2614.9),
        tera(
            Source("https://github.com/stas00/ml-engineering/blob/master/compute/accelerator/README.md", READ),
            fp32=163.4,
        )
        | tera(_DATASHEET, "not found", fp64=None, fp16=None, bf16=None),
        notes=("how many exponentials a second it gives was not found: no bound by special functions is made",),
    ),
)
